//! Moments over the flat parameter vector, and the update that walks it.

use super::clip::{NormAccumulator, clip_factor};
use super::error::SpecError;
use super::groups::{self, Run};
use super::kernel::{self, AdamScalars, SgdScalars};
use super::schedule::ScheduleSpec;
use super::spec::{OptimizerSpec, Rule};
use crate::numerics::dispatch::Level;
use std::ops::Range;

/// An optimizer and all of its state, over the flat vector of all parameters.
///
/// A step is [`begin_step`](Optimizer::begin_step), then
/// [`update`](Optimizer::update) on every element once. The caller walks the
/// vector in blocks that fit the cache, so that it can turn the integer sum into
/// a gradient, clip and update in one pass; how it cuts doesn't change a bit.
#[derive(Clone, Debug)]
pub struct Optimizer {
    lr: f64,
    weight_decay: f64,
    clip_norm: Option<f64>,
    schedule: ScheduleSpec,
    /// The flat vector in runs of equal settings, in order and without gaps.
    runs: Vec<Run>,
    pub(super) len: usize,
    pub(super) method: Method,
    /// Updates that were begun.
    pub(super) steps: u64,
    /// Elements updated since the last `begin_step`: a step that leaves some out
    /// is our mistake, and replicas would all make it alike.
    pub(super) updated: usize,
    level: Level,
}

/// A rule with its state.
#[derive(Clone, Debug)]
pub(super) enum Method {
    Adam(Adam),
    Sgd,
    Momentum {
        momentum: f64,
        nesterov: bool,
        velocity: Vec<f32>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    eps_corrected: bool,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// β₁ᵗ and β₂ᵗ as running products: no power function, the same bits everywhere.
    pub beta1_power: f64,
    pub beta2_power: f64,
}

impl Optimizer {
    /// An optimizer with zero moments for parameters that follow each other without
    /// gaps in the flat vector, each with its name.
    ///
    /// # Errors
    /// Those of [`OptimizerSpec::validate`]; a group that matches no parameter or
    /// only ones that earlier groups have taken; groups that freeze everything.
    ///
    /// # Panics
    /// Where the parameters' ranges leave a gap or overlap.
    pub fn new(
        spec: &OptimizerSpec,
        parameters: &[(String, Range<usize>)],
    ) -> Result<Optimizer, SpecError> {
        let rule = spec.rule()?;
        let spec = spec.resolved();
        let len = parameters.last().map_or(0, |(_, range)| range.end);
        let method = match rule {
            Rule::Adam {
                beta1,
                beta2,
                eps,
                eps_corrected,
            } => Method::Adam(Adam {
                beta1,
                beta2,
                eps,
                eps_corrected,
                m: vec![0.0; len],
                v: vec![0.0; len],
                beta1_power: 1.0,
                beta2_power: 1.0,
            }),
            Rule::Sgd { momentum: 0.0, .. } => Method::Sgd,
            Rule::Sgd { momentum, nesterov } => Method::Momentum {
                momentum,
                nesterov,
                velocity: vec![0.0; len],
            },
        };
        Ok(Optimizer {
            lr: spec.base_lr(),
            weight_decay: spec.weight_decay.unwrap_or(0.0),
            clip_norm: spec.clip_norm,
            schedule: spec.schedule,
            runs: groups::resolve(&spec.groups, parameters)?,
            len,
            method,
            steps: 0,
            updated: len,
            level: Level::best(),
        })
    }

    /// Which of these parameters are frozen, in their order: found without the memory that an
    /// optimizer takes.
    ///
    /// # Errors
    /// Those of [`Optimizer::new`].
    pub fn frozen(
        spec: &OptimizerSpec,
        parameters: &[(String, Range<usize>)],
    ) -> Result<Vec<bool>, SpecError> {
        spec.rule()?;
        let runs = groups::resolve(&spec.resolved().groups, parameters)?;
        let frozen = |range: &Range<usize>| {
            let mut runs = runs.iter();
            runs.any(|run| run.frozen && run.range.contains(&range.start))
        };
        Ok(parameters.iter().map(|(_, range)| frozen(range)).collect())
    }

    /// Elements of the flat parameter vector.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a model without parameters isn't trained"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Updates that were begun: skipped steps don't count.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The learning rate of `step`, counted from 0, in a run of `total_steps`.
    pub fn lr(&self, step: u64, total_steps: u64) -> f64 {
        self.lr * self.schedule.factor(step, total_steps)
    }

    /// The largest allowed norm of the gradient; `None`: there is nothing to measure.
    pub fn clip_norm(&self) -> Option<f64> {
        self.clip_norm
    }

    /// Adds the next elements of the gradient to its norm, which begins at
    /// [`NormAccumulator::new`]. Frozen parameters don't count.
    ///
    /// # Panics
    /// Beyond the end of the parameter vector.
    pub fn add_to_norm(&self, norm: &mut NormAccumulator, gradient: &[f32]) {
        let start = norm.position();
        for (run, part) in self.runs_of(start..start + gradient.len()) {
            if run.frozen {
                norm.skip(part.len());
            } else {
                norm.add(&gradient[part.start - start..part.end - start]);
            }
        }
    }

    /// What [`update`](Optimizer::update) has to multiply a gradient of this norm with.
    pub fn clip_factor(&self, norm: &NormAccumulator) -> f32 {
        self.clip_norm
            .map_or(1.0, |clip_norm| clip_factor(norm.norm(), clip_norm))
    }

    /// Begins an update: moves what depends on the number of updates. Not called for
    /// a step that is skipped.
    ///
    /// # Panics
    /// Where the last step didn't update every element exactly once.
    pub fn begin_step(&mut self) {
        let (updated, len) = (self.updated, self.len);
        assert!(
            updated == len,
            "the last step updated {updated} of {len} elements"
        );
        self.updated = 0;
        self.steps += 1;
        if let Method::Adam(adam) = &mut self.method {
            adam.beta1_power *= adam.beta1;
            adam.beta2_power *= adam.beta2;
        }
    }

    /// Updates the weights of `range` with their gradient; `lr` is [`Optimizer::lr`]
    /// of the step.
    ///
    /// # Panics
    /// Where the slices aren't as long as the range, or it lies outside the vector.
    pub fn update(&mut self, range: Range<usize>, weights: &mut [f32], gradient: &[f32], lr: f64) {
        self.update_clipped(range, weights, gradient, lr, 1.0);
    }

    /// As [`update`](Optimizer::update), with the gradient times `clip`.
    ///
    /// # Panics
    /// Where the slices aren't as long as the range, or it lies outside the vector.
    pub fn update_clipped(
        &mut self,
        range: Range<usize>,
        weights: &mut [f32],
        gradient: &[f32],
        lr: f64,
        clip: f32,
    ) {
        assert_eq!(
            range.len(),
            weights.len(),
            "weights for the range {range:?}"
        );
        assert_eq!(
            range.len(),
            gradient.len(),
            "a gradient for the range {range:?}"
        );
        self.updated += range.len();
        let (method, level) = (&mut self.method, self.level);
        for (run, part) in runs_of(&self.runs, self.len, range.clone()) {
            if run.frozen {
                continue;
            }
            let here = part.start - range.start..part.end - range.start;
            let (weights, gradient) = (&mut weights[here.clone()], &gradient[here]);
            match (
                method.change(run, self.weight_decay, lr, clip),
                &mut *method,
            ) {
                (Change::Adam(scalars), Method::Adam(adam)) => {
                    let (m, v) = (&mut adam.m[part.clone()], &mut adam.v[part]);
                    kernel::adam(level, scalars, weights, gradient, m, v);
                }
                (Change::Sgd(scalars), _) => kernel::sgd(level, scalars, weights, gradient),
                (Change::Momentum { scalars, nesterov }, Method::Momentum { velocity, .. }) => {
                    let kernel = if nesterov {
                        kernel::nesterov
                    } else {
                        kernel::momentum
                    };
                    kernel(level, scalars, weights, gradient, &mut velocity[part]);
                }
                (change, _) => unreachable!("{change:?} of another method"),
            }
        }
    }

    /// What an update does to the elements of `range`, which counts as updated: whoever asks
    /// has it done, here or on another device. Frozen elements are left out.
    ///
    /// # Panics
    /// Where the range lies outside the vector.
    #[cfg(feature = "cuda")]
    pub(crate) fn changes(
        &mut self,
        range: Range<usize>,
        lr: f64,
        clip: f32,
    ) -> Vec<(Range<usize>, Change)> {
        self.updated += range.len();
        let runs = self.runs_of(range).filter(|(run, _)| !run.frozen);
        let change = |run| self.method.change(run, self.weight_decay, lr, clip);
        runs.map(|(run, part)| (part, change(run))).collect()
    }

    fn runs_of(&self, range: Range<usize>) -> impl Iterator<Item = (&Run, Range<usize>)> {
        runs_of(&self.runs, self.len, range)
    }

    /// Runs the kernels at another level than the widest, to compare the bits.
    #[cfg(test)]
    pub(super) fn at_level(mut self, level: Level) -> Optimizer {
        self.level = level;
        self
    }
}

/// What an update does to each element of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Adam(AdamScalars),
    Sgd(SgdScalars),
    Momentum { scalars: SgdScalars, nesterov: bool },
}

impl Method {
    fn change(&self, run: &Run, weight_decay: f64, lr: f64, clip: f32) -> Change {
        let rate = lr * run.lr_multiplier;
        let keep = (1.0 - rate * (weight_decay * run.decay_multiplier)) as f32;
        let scalars = |momentum: f64| SgdScalars {
            rate: rate as f32,
            momentum: momentum as f32,
            keep,
            clip,
        };
        match self {
            Method::Adam(adam) => Change::Adam(adam.scalars(rate, keep, clip)),
            Method::Sgd => Change::Sgd(scalars(0.0)),
            Method::Momentum {
                momentum, nesterov, ..
            } => Change::Momentum {
                scalars: scalars(*momentum),
                nesterov: *nesterov,
            },
        }
    }
}

impl Adam {
    fn scalars(&self, rate: f64, keep: f32, clip: f32) -> AdamScalars {
        let correction = (1.0 - self.beta2_power).sqrt();
        let eps = if self.eps_corrected {
            self.eps * correction
        } else {
            self.eps
        };
        AdamScalars {
            one_minus_beta1: (1.0 - self.beta1) as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            eps: eps as f32,
            alpha: (rate * correction / (1.0 - self.beta1_power)) as f32,
            keep,
            clip,
        }
    }
}

/// The runs that `range` touches, each with the part of it that lies within.
fn runs_of(
    runs: &[Run],
    len: usize,
    range: Range<usize>,
) -> impl Iterator<Item = (&Run, Range<usize>)> {
    assert!(range.end <= len, "elements {range:?} of a vector of {len}");
    let first = runs.partition_point(|run| run.range.end <= range.start);
    runs[first..]
        .iter()
        .take_while(move |run| run.range.start < range.end)
        .map(move |run| {
            (
                run,
                run.range.start.max(range.start)..run.range.end.min(range.end),
            )
        })
}
