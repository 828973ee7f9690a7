//! The figures of a step.

use serde::Serialize;

use crate::exact::{Totals, Verdict};
use crate::job::Kind;
use crate::strategy::{Examined, Operation, Partial, Plan, TrainState, Values};

/// A step, computed again.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The run's id.
    pub run: String,
    /// Index of the step, from 0.
    pub step: u64,
    /// Steps that the job has.
    pub steps: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Where it was computed from, in words.
    pub from: String,
    /// Steps finished there.
    pub from_step: u64,
    /// Steps whose sum was the logged one, the step itself included; of how many
    /// none was logged.
    pub same: u64,
    /// See `same`.
    pub unknown: u64,
    /// The first step whose sum was another one.
    pub first_difference: Option<u64>,
    /// The sum of the step, here and as it was logged.
    pub sum: String,
    /// See `sum`.
    pub logged_sum: Option<String>,
    /// Mean loss over the step.
    pub loss: f64,
    /// Mean metrics.
    pub metrics: Vec<(String, f64)>,
    /// Samples or tokens that count.
    pub weight: u64,
    /// Norm of the step's gradient, before clipping.
    pub gradient_norm: Option<f64>,
    /// The learning rate, if the step was applied.
    pub lr: Option<f64>,
    /// One a micro-batch.
    pub micro_batches: Vec<MicroBatchRow>,
    /// Whether `parameters` is about one micro-batch.
    pub of_micro_batch: Option<u32>,
    /// Its samples.
    pub samples: Vec<u64>,
    /// One a parameter.
    pub parameters: Vec<ParameterRow>,
    /// Why micro-batches could not be summed.
    pub causes: Vec<Cause>,
    /// All operations of one micro-batch, if asked for.
    pub operations: Vec<OperationRow>,
}

/// A micro-batch.
#[derive(Clone, Debug, Serialize)]
pub struct MicroBatchRow {
    /// Its index in the step.
    pub micro_batch: u32,
    /// How many samples it has.
    pub samples: usize,
    /// Mean loss.
    pub loss: f64,
    /// Mean metrics.
    pub metrics: Vec<(String, f64)>,
    /// Norm of its gradient.
    pub gradient_norm: f64,
    /// `clean`, `empty`, `non-finite`, `out of range`.
    pub verdict: &'static str,
}

/// A parameter in the step.
#[derive(Clone, Debug, Serialize)]
pub struct ParameterRow {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Root mean square of its weights before the step.
    pub weight_rms: f64,
    /// Weights that aren't finite.
    pub weights_non_finite: usize,
    /// Its gradient; `None` if it is frozen, or nothing could be summed.
    pub gradient: Option<GradientRow>,
    /// Root mean square of the change of its weights, if the step was applied.
    pub update_rms: Option<f64>,
}

/// A gradient.
#[derive(Clone, Debug, Serialize)]
pub struct GradientRow {
    /// Root of the sum of squares.
    pub norm: f64,
    /// Largest magnitude.
    pub largest: f64,
    /// Share of zeros.
    pub zeros: f64,
    /// Elements that aren't finite.
    pub non_finite: usize,
}

/// Why a micro-batch could not be summed.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Which one.
    pub micro_batch: u32,
    /// `non-finite`, `out of range`.
    pub verdict: &'static str,
    /// All its samples.
    pub of_samples: usize,
    /// Indices of samples each of which alone does it; else a smallest group
    /// found that does it together.
    pub samples: Vec<u64>,
    /// Whether each of them alone does it.
    pub alone: bool,
    /// Fields of these samples with values that aren't finite: field, how many.
    pub odd_fields: Vec<(usize, usize)>,
    /// Parameters whose weights weren't finite before the step.
    pub odd_weights: Vec<String>,
    /// Where the first value came up that isn't finite.
    pub first: Option<FirstOdd>,
    /// The largest finite value before it, and in what.
    pub largest_before: Option<(String, f64)>,
    /// The parameters whose gradient it spoilt, with the largest magnitude where
    /// it is finite.
    pub parameters: Vec<(String, f64)>,
    /// What a gradient element has to stay below, where that was the trouble.
    pub limit: Option<f64>,
}

/// The first operation with a value that isn't finite.
#[derive(Clone, Debug, Serialize)]
pub struct FirstOdd {
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// The operation, in words.
    pub operation: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Values that aren't finite, and of how many.
    pub non_finite: usize,
    /// See `non_finite`.
    pub elements: usize,
}

/// An operation of the forward pass.
#[derive(Clone, Debug, Serialize)]
pub struct OperationRow {
    /// Of which micro-batch.
    pub micro_batch: u32,
    /// In words.
    pub operation: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Values that aren't finite.
    pub non_finite: usize,
    /// Root mean square.
    pub rms: f64,
    /// Largest magnitude.
    pub largest: f64,
    /// Share of zeros.
    pub zeros: f64,
}

impl Replay {
    pub(super) fn new(plan: &Plan, state: &TrainState, step: u64, from: String) -> Replay {
        Replay {
            run: plan.identity().run,
            step,
            steps: plan.course.total_steps(),
            epoch: plan.order.epoch_of(step) + 1,
            from,
            from_step: state.course.step,
            same: 0,
            unknown: 0,
            first_difference: None,
            sum: String::new(),
            logged_sum: None,
            loss: f64::NAN,
            metrics: Vec::new(),
            weight: 0,
            gradient_norm: None,
            lr: None,
            micro_batches: Vec::new(),
            of_micro_batch: None,
            samples: Vec::new(),
            parameters: Vec::new(),
            causes: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// Loss and metrics of the whole step.
    pub(super) fn total(&mut self, plan: &Plan, kind: &Kind, totals: &Totals) {
        let nominal = plan.course.nominal_weight(kind);
        self.loss = totals.mean_loss(nominal);
        self.weight = totals.weight;
        let names = plan.course.metrics().iter().enumerate();
        self.metrics = names
            .map(|(index, name)| (name.clone(), totals.mean_metric(index, nominal)))
            .collect();
    }
}

impl MicroBatchRow {
    pub(super) fn new(plan: &Plan, m: u32, samples: usize, examined: &Examined) -> MicroBatchRow {
        let squares = examined.gradients.iter().flatten().map(|g| g.norm * g.norm);
        let odd = examined
            .gradients
            .iter()
            .flatten()
            .any(|g| g.non_finite > 0);
        let names = plan.course.metrics().iter().cloned();
        MicroBatchRow {
            micro_batch: m,
            samples,
            loss: examined.mean_loss,
            metrics: names.zip(examined.metrics.iter().copied()).collect(),
            gradient_norm: match odd {
                true => f64::NAN,
                false => squares.sum::<f64>().sqrt(),
            },
            verdict: in_words(examined.verdict),
        }
    }

    pub(super) fn empty(m: u32) -> MicroBatchRow {
        MicroBatchRow {
            micro_batch: m,
            samples: 0,
            loss: f64::NAN,
            metrics: Vec::new(),
            gradient_norm: 0.0,
            verdict: in_words(Verdict::Empty),
        }
    }
}

pub(super) fn in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Empty => "empty",
        Verdict::NonFinite => "non-finite",
        Verdict::OutOfRange => "out of range",
    }
}

impl ParameterRow {
    /// Of all parameters, with the gradient that `of` gives for each.
    pub(super) fn all(
        plan: &Plan,
        before: &[f32],
        after: Option<&[f32]>,
        of: impl Fn(usize) -> Option<Values>,
    ) -> Vec<ParameterRow> {
        let rows = plan.layout.iter().enumerate().map(|(index, parameter)| {
            let range = parameter.range.clone();
            let weights = Values::of(&before[range.clone()]);
            let update = after.map(|after| {
                let pairs = after[range.clone()].iter().zip(&before[range.clone()]);
                let change: Vec<f32> = pairs.map(|(after, before)| after - before).collect();
                rms(&Values::of(&change))
            });
            ParameterRow {
                name: parameter.name.clone(),
                shape: parameter.shape.to_vec(),
                weight_rms: rms(&weights),
                weights_non_finite: weights.non_finite,
                gradient: of(index).map(|values| GradientRow {
                    norm: values.norm,
                    largest: values.largest,
                    zeros: share_of_zeros(&values),
                    non_finite: values.non_finite,
                }),
                update_rms: update,
            }
        });
        rows.collect()
    }
}

impl OperationRow {
    pub(super) fn all(m: u32, examined: &Examined) -> Vec<OperationRow> {
        let all = &examined.operations;
        let row = |(at, operation): (usize, &Operation)| OperationRow {
            micro_batch: m,
            operation: name(all, at),
            shape: operation.shape.clone(),
            non_finite: operation.values.non_finite,
            rms: rms(&operation.values),
            largest: operation.values.largest,
            zeros: share_of_zeros(&operation.values),
        };
        all.iter().enumerate().map(row).collect()
    }
}

/// An operation in words. candle doesn't say what its own are; the layer before
/// them says where they are.
pub(super) fn name(all: &[Operation], at: usize) -> String {
    let operation = &all[at];
    if let Some(parameter) = &operation.parameter {
        return format!("parameter {parameter}");
    }
    if let Some((op, layer)) = &operation.named {
        return format!("{op} of {layer}");
    }
    let before = all[..at].iter().enumerate().rev();
    let before = before.map(|(at, operation)| (at, operation.named.is_some(), operation));
    let last = before
        .clone()
        .find(|(_, named, _)| *named)
        .or_else(|| before.clone().find(|(_, _, o)| o.parameter.is_some()));
    match last {
        Some((place, true, _)) => {
            format!("candle operation {} after {}", at - place, name(all, place))
        }
        Some((place, false, _)) => format!("a candle operation on {}", name(all, place)),
        None => "a candle operation".to_owned(),
    }
}

pub(super) fn rms(values: &Values) -> f64 {
    let finite = values.elements - values.non_finite;
    match finite {
        0 => f64::NAN,
        finite => values.norm / (finite as f64).sqrt(),
    }
}

fn share_of_zeros(values: &Values) -> f64 {
    values.zeros as f64 / values.elements.max(1) as f64
}

/// The step's gradient as the update gets it; `None` if nothing was summed.
pub(super) fn gradient(plan: &Plan, round: &Partial) -> Option<Vec<f32>> {
    let nominal = u64::from(plan.job.train.global_batch);
    let correction = round.totals.correction(nominal)?;
    let mut gradient = vec![0.0; round.sum.len()];
    plan.fixed.to_f32(&round.sum, correction, &mut gradient);
    Some(gradient)
}
