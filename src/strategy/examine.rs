//! One micro-batch, or some of its samples, looked at instead of summed.

use std::collections::HashMap;

use candle_core::{DType, Tensor, TensorId};

use super::error::{Place, StrategyError};
use super::gradient::Scalars;
use super::mirrored::Replicas;
use super::plan::Plan;
use super::replica::{Replica, with_values};
use crate::data::{Draw, GatheredField};
use crate::exact::{Inspection, MicroBatch, Totals, Verdict};
use crate::job::Kind;
use crate::model::StepContext;
use crate::model::trace::{Incoming, Recording, recorded};

/// What a micro-batch came to.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What the sums make of it.
    pub verdict: Verdict,
    /// Samples or unmasked tokens in it.
    pub weight: u64,
    /// Its mean loss.
    pub mean_loss: f64,
    /// Its mean metrics, in the model's order.
    pub metrics: Vec<f64>,
    /// Values of its samples that aren't finite: field, how many.
    pub odd_fields: Vec<(usize, usize)>,
    /// Its gradients in layout order; `None` for frozen parameters.
    pub gradients: Vec<Option<Values>>,
    /// Everything between parameters and loss, in the order of the forward pass.
    pub operations: Vec<Operation>,
    /// What the backward pass brought to each named layer, in its order.
    pub backward: Vec<Incoming>,
}

/// Values in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    /// How many.
    pub elements: usize,
    /// Of them NaN or infinite.
    pub non_finite: usize,
    /// Of them zero.
    pub zeros: usize,
    /// The largest magnitude of the finite ones.
    pub largest: f64,
    /// Root of the sum of the squares of the finite ones.
    pub norm: f64,
}

impl Values {
    /// Of these values.
    pub fn of(values: &[f32]) -> Values {
        let finite = || {
            values
                .iter()
                .filter(|v| v.is_finite())
                .map(|v| f64::from(*v))
        };
        Values {
            elements: values.len(),
            non_finite: values.iter().filter(|v| !v.is_finite()).count(),
            zeros: values.iter().filter(|v| **v == 0.0).count(),
            largest: finite().fold(0.0, |largest, v| v.abs().max(largest)),
            norm: finite().map(|v| v * v).sum::<f64>().sqrt(),
        }
    }
}

/// A tensor of the forward pass.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Operation and layer, where the layer has named it.
    pub named: Option<(&'static str, String)>,
    /// The name, if it is a parameter.
    pub parameter: Option<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What is in it.
    pub values: Values,
}

impl Replicas {
    /// Looks at these samples of a training step as if they were micro-batch `m`.
    ///
    /// # Errors
    /// What the model or the data say.
    pub fn examine(
        &mut self,
        plan: &Plan,
        kind: &Kind,
        m: u32,
        samples: &[u64],
    ) -> Result<Examined, StrategyError> {
        self.first_replica().examine(plan, kind, m, samples)
    }
}

impl Replica {
    fn examine(
        &mut self,
        plan: &Plan,
        kind: &Kind,
        m: u32,
        samples: &[u64],
    ) -> Result<Examined, StrategyError> {
        let &Kind::Train { step, epoch } = kind else {
            unreachable!("gradients are for training steps")
        };
        let place = Place::of(plan, kind, m);
        let failed = |source| StrategyError::Compute { place, source };
        let seed = plan.job.seed;
        plan.data
            .gather_train(Draw { seed, epoch }, samples, &mut self.gathered)
            .map_err(|source| StrategyError::Data { place, source })?;
        let odd_fields = odd_fields(&self.gathered.fields);
        let batch = self.batch().map_err(failed)?;
        let context = StepContext::new(seed, step, m);
        let (pass, recording) = recorded(|| -> Result<_, StrategyError> {
            let loss = self.model.loss(&batch, &context).map_err(failed)?;
            let gradients = self.gradients(&loss.mean, plan, place)?;
            Ok((loss, gradients))
        });
        let (loss, gradients) = pass?;
        let scalars = Scalars::read(&loss, plan, place)?;
        let micro_batch = scalars.micro_batch(m, plan.course.nominal_weight(kind));
        let verdict = judge(plan, &micro_batch, &gradients).map_err(failed)?;
        let values = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => with_values(gradient, Values::of).map(Some),
            None => Ok(None),
        };
        let gradients: Result<_, _> = gradients.iter().map(values).collect();
        Ok(Examined {
            verdict,
            weight: scalars.weight,
            mean_loss: scalars.mean_loss,
            metrics: scalars.metrics,
            odd_fields,
            gradients: gradients.map_err(failed)?,
            operations: self
                .operations(plan, &loss.mean, &recording)
                .map_err(failed)?,
            backward: recording.backward,
        })
    }

    /// The graph from its leaves on: whatever an operation needs comes before it.
    fn operations(
        &self,
        plan: &Plan,
        loss: &Tensor,
        recording: &Recording,
    ) -> candle_core::Result<Vec<Operation>> {
        let variables = self.variables.0.iter().zip(plan.layout.iter());
        let parameters: HashMap<TensorId, String> = variables
            .map(|(variable, parameter)| (variable.id(), parameter.name.clone()))
            .collect();
        let mut operations = Vec::new();
        for node in loss.sorted_nodes().into_iter().rev() {
            let named = &recording.forward;
            if named
                .iter()
                .any(|n| n.copy == node.id() && n.copy != n.value)
            {
                continue;
            }
            let by = named.iter().find(|n| n.value == node.id());
            let values = node.to_dtype(DType::F32)?;
            operations.push(Operation {
                named: by.map(|n| (n.op, n.layer.clone())),
                parameter: parameters.get(&node.id()).cloned(),
                shape: node.dims().to_vec(),
                values: with_values(&values, Values::of)?,
            });
        }
        Ok(operations)
    }
}

/// What the sums would make of it.
fn judge(
    plan: &Plan,
    micro_batch: &MicroBatch,
    gradients: &[Option<Tensor>],
) -> candle_core::Result<Verdict> {
    let scale = micro_batch.scale();
    let inspect = |gradient: &Option<Tensor>| match gradient {
        Some(gradient) => with_values(gradient, |g| plan.fixed.inspect(g, scale)),
        None => Ok(Inspection::default()),
    };
    let inspections: Vec<_> = gradients.iter().map(inspect).collect::<Result<_, _>>()?;
    let mut totals = Totals::new(micro_batch.metrics.len(), gradients.len());
    Ok(totals.add_micro_batch(micro_batch, &inspections))
}

fn odd_fields(fields: &[GatheredField]) -> Vec<(usize, usize)> {
    let odd = |field: &GatheredField| match field {
        GatheredField::F32 { data, .. } => data.iter().filter(|v| !v.is_finite()).count(),
        GatheredField::U32 { .. } => 0,
    };
    let fields = fields.iter().enumerate();
    let odd = fields.map(|(index, field)| (index, odd(field)));
    odd.filter(|(_, count)| *count > 0).collect()
}
