//! A micro-batch's way from sample numbers into the exact sums.
//!
//! Everything here is a pure function of (weights, micro-batch content, seed,
//! step, micro-batch index): who computes a micro-batch, when, and after which
//! others changes nothing.

use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use super::error::{Place, StrategyError};
use super::partial::Partial;
use super::plan::Plan;
use super::replica::Replica;
use super::summing::Computed;
use crate::data::Draw;
use crate::exact::MicroBatch;
use crate::job::Kind;
use crate::model::{Loss, StepContext};

/// What a model said about one micro-batch, as numbers.
pub(super) struct Scalars {
    pub weight: u64,
    pub mean_loss: f64,
    pub metrics: Vec<f64>,
}

impl Scalars {
    /// As micro-batch `m`, of so many samples if it were full.
    pub fn micro_batch(&self, m: u32, nominal: u64) -> MicroBatch<'_> {
        MicroBatch {
            index: m,
            weight: self.weight,
            nominal,
            mean_loss: self.mean_loss,
            metrics: &self.metrics,
        }
    }
}

impl Replica {
    /// Computes micro-batch `m` of step `step` and adds it to `into`.
    pub(super) fn train(
        &mut self,
        plan: &Plan,
        kind: &Kind,
        m: u32,
        into: &Mutex<Partial>,
    ) -> Result<(), StrategyError> {
        let &Kind::Train { step, epoch } = kind else {
            unreachable!("gradients are for training steps")
        };
        let place = Place::of(plan, kind, m);
        let samples = plan.order.samples(step, m);
        if samples.is_empty() {
            lock(into).totals.add_empty(m);
            return Ok(());
        }
        let seed = plan.job.seed;
        plan.data
            .gather_train(Draw { seed, epoch }, &samples, &mut self.gathered)
            .map_err(|source| StrategyError::Data { place, source })?;

        let failed = |source| StrategyError::Compute { place, source };
        let batch = self.batch().map_err(failed)?;
        let context = StepContext::new(seed, step, m);
        let loss = self.model.loss(&batch, &context).map_err(failed)?;
        Scalars::check(&loss, plan, place)?;
        let gradients = self.gradients(&loss.mean, plan, place)?;

        let computed = Computed {
            index: m,
            nominal: plan.course.nominal_weight(kind),
            loss: &loss,
            gradients: &gradients,
        };
        self.summing.add(plan, &computed, into).map_err(failed)
    }

    /// One gradient a parameter in layout order; `None` for frozen ones.
    pub(super) fn gradients(
        &self,
        mean_loss: &Tensor,
        plan: &Plan,
        place: Place,
    ) -> Result<Vec<Option<Tensor>>, StrategyError> {
        let mut found = mean_loss
            .backward()
            .map_err(|source| StrategyError::Compute { place, source })?;
        let mut missing = Vec::new();
        let mut gradients = Vec::with_capacity(plan.layout.len());
        for index in 0..plan.layout.len() {
            if !plan.is_trained(index) {
                gradients.push(None);
                continue;
            }
            let gradient = self.gradient(&mut found, plan, index, place)?;
            if gradient.is_none() {
                missing.push(plan.layout.parameters()[index].name.clone());
            }
            gradients.push(gradient);
        }
        match missing.is_empty() {
            true => Ok(gradients),
            false => Err(StrategyError::NoGradient {
                place,
                parameters: missing,
            }),
        }
    }

    fn gradient(
        &self,
        found: &mut GradStore,
        plan: &Plan,
        index: usize,
        place: Place,
    ) -> Result<Option<Tensor>, StrategyError> {
        let Some(gradient) = found.remove(&self.variables.0[index]) else {
            return Ok(None);
        };
        let parameter = &plan.layout.parameters()[index];
        if gradient.dims() != parameter.shape {
            return Err(StrategyError::GradientShape {
                place,
                parameter: parameter.name.clone(),
                found: gradient.dims().to_vec(),
                expected: parameter.shape.clone(),
            });
        }
        Ok(Some(gradient))
    }
}

impl Scalars {
    /// Whether the model gave the metrics that it announces.
    pub fn check(loss: &Loss, plan: &Plan, place: Place) -> Result<(), StrategyError> {
        let expected = plan.factory.metrics();
        if !loss.metrics.iter().map(|(name, _)| name).eq(expected) {
            return Err(StrategyError::Metrics {
                place,
                found: loss.metrics.iter().map(|(name, _)| *name).collect(),
                expected,
            });
        }
        Ok(())
    }

    /// The scalars of a pass: mean loss, then the metrics.
    #[cfg(feature = "cuda")]
    pub fn tensors(loss: &Loss) -> Vec<&Tensor> {
        let metrics = loss.metrics.iter().map(|(_, metric)| metric);
        std::iter::once(&loss.mean).chain(metrics).collect()
    }

    /// Reads them off the device.
    pub fn of(loss: &Loss) -> candle_core::Result<Scalars> {
        let number = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_scalar::<f64>();
        let metrics = loss.metrics.iter().map(|(_, metric)| number(metric));
        Ok(Scalars {
            weight: loss.weight,
            mean_loss: number(&loss.mean)?,
            metrics: metrics.collect::<candle_core::Result<_>>()?,
        })
    }

    /// Both.
    pub fn read(loss: &Loss, plan: &Plan, place: Place) -> Result<Scalars, StrategyError> {
        Scalars::check(loss, plan, place)?;
        Scalars::of(loss).map_err(|source| StrategyError::Compute { place, source })
    }
}

/// A replica that panicked while it held the lock has failed its round: what the
/// sum holds by then isn't used.
pub(super) fn lock(partial: &Mutex<Partial>) -> std::sync::MutexGuard<'_, Partial> {
    partial.lock().unwrap_or_else(PoisonError::into_inner)
}
