//! Which round comes next, and what a finished round decides.
//!
//! ```text
//!  Train ── Train ── … ── Train ─┬─────────────────────────────┬── Train ── … ── End
//!    a step each                 └─ Evaluate 0 ── Evaluate 1 ──┘
//!                                   where an evaluation is due
//! ```
//!
//! Nobody conducts a run. Every member has the same [`Course`] from the job and
//! the same [`CourseState`] from the sums so far, so every member comes to the
//! same [`Decision`]s by itself: early stopping, the best value, the checkpoints,
//! the end. A follower that applies the sums later comes to them too.
//!
//! What belongs to step *n* is decided in this order:
//!
//! 1. in the training round: skipped or not, a log record, a state digest;
//! 2. in the last round of the evaluation, where one is due, else still in the
//!    training round: the validation, the epoch's record, early stopping and the
//!    best value, the checkpoint, the end. So a checkpoint at an epoch's end knows
//!    what its evaluation has shown.
//!
//! All sums are integers; a mean is made of them by a few IEEE operations where
//! it is needed. Everything here is replicated: no libm, no clock, no randomness.

mod decision;
mod finish;
mod monitor;
mod state;
#[cfg(test)]
mod tests;

pub use decision::{Decision, ParameterFault, SkippedStep, StopReason};
pub use state::{CourseState, Means, StateError, Validation};

use self::monitor::{Patience, Quantity, Tracker, no_mode};
use self::state::PendingEvaluation;
use super::errors::JobError;
use super::spec::{Every, Job, MICRO_BATCHES_MAX, Mode};
use crate::exact::Totals;

/// What the members do together next.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One optimizer step.
    Train {
        /// The step's index, counted from 0: also how many are finished.
        step: u64,
        /// The epoch's index, counted from 0.
        epoch: u64,
    },
    /// One part of an evaluation pass. Its micro-batch *m* is the pass's
    /// micro-batch [`Course::evaluation_micro_batch`]`(index, m)`.
    Evaluate {
        /// Which part of the pass, counted from 0.
        index: u32,
        /// How many parts the pass has: one for each 2,048 micro-batches.
        parts: u32,
        /// How many steps are finished.
        after_step: u64,
    },
    /// Nothing more.
    End(StopReason),
}

/// The plan of a run: what the job, the data and the model say about its rounds.
#[derive(Debug, Clone)]
pub struct Course {
    steps_per_epoch: u64,
    total_steps: u64,
    micro_batches: u32,
    global_batch: u64,
    max_skipped_steps: u64,
    evaluation_every: Every,
    evaluation_micro_batch: u32,
    evaluation_samples: u64,
    checkpoint_every: Every,
    verify_every: u64,
    log_every: u64,
    metrics: Vec<String>,
    early_stopping: Option<Patience>,
    keep_best: Option<Tracker>,
}

impl Course {
    /// The course of `job` on a model with these metrics (`Model::METRICS`), where an
    /// epoch has so many steps and an evaluation pass so many samples (0: no validation data).
    ///
    /// # Errors
    /// A monitored metric that the model or the data doesn't have or whose better
    /// direction nobody has said, or more
    /// evaluation micro-batches than can be numbered; with the key's place.
    pub fn new(
        job: &Job,
        metrics: &[&str],
        steps_per_epoch: u64,
        evaluation_samples: u64,
    ) -> Result<Course, JobError> {
        assert!(steps_per_epoch > 0, "an epoch has at least one step");
        let watch = |(key, name): (&str, &str), (mode_key, mode): (&str, Option<Mode>)| {
            let quantity =
                Quantity::parse(name, metrics).map_err(|problem| job.error(key, problem))?;
            if quantity.of_validation && evaluation_samples == 0 {
                let problem = format!("\"{name}\" is never measured: there is no validation data");
                return Err(job.error(key, problem));
            }
            let mode = mode.ok_or_else(|| job.error(mode_key, no_mode(name)))?;
            Ok(Tracker::new(name, quantity, mode))
        };
        let early_stopping = match &job.early_stopping {
            Some(spec) => {
                let monitor = ("early_stopping.monitor", spec.monitor.as_str());
                let tracker = watch(monitor, ("early_stopping.mode", spec.mode))?;
                Some(Patience::new(spec, tracker))
            }
            None => None,
        };
        let spec = &job.checkpoint;
        let keep_best = match &spec.keep_best {
            Some(name) => {
                let mode = ("checkpoint.keep_best_mode", spec.keep_best_mode);
                Some(watch(("checkpoint.keep_best", name), mode)?)
            }
            None => None,
        };
        let micro_batches =
            evaluation_samples.div_ceil(u64::from(job.evaluation.micro_batch.max(1)));
        if u32::try_from(micro_batches).is_err() {
            let problem = format!(
                "cuts {evaluation_samples} samples into {micro_batches} micro-batches; expected \
                 fewer than 2^32"
            );
            return Err(job.error("evaluation.micro_batch", problem));
        }
        let total_steps = job.train.total_steps(steps_per_epoch);
        job.optimizer
            .schedule
            .validate_length(total_steps)
            .map_err(|error| job.error(&error.key, error.problem.to_string()))?;
        Ok(Course {
            steps_per_epoch,
            total_steps,
            micro_batches: job.train.micro_batches(),
            global_batch: u64::from(job.train.global_batch),
            max_skipped_steps: job.train.max_skipped_steps,
            evaluation_every: job.evaluation.every,
            evaluation_micro_batch: job.evaluation.micro_batch,
            evaluation_samples,
            checkpoint_every: job.checkpoint.every,
            verify_every: job.verify.every,
            log_every: job.log.every,
            metrics: metrics.iter().map(|&name| name.to_owned()).collect(),
            early_stopping,
            keep_best,
        })
    }

    /// The state before the first round.
    pub fn start(&self) -> CourseState {
        CourseState::new(self.metrics.len())
    }

    /// Takes a state out of a checkpoint of a run on this course. What the job
    /// now watches differently (`checkpoint.keep_best`) starts anew.
    ///
    /// # Errors
    /// The state doesn't belong to this course.
    pub fn restore(&self, mut state: CourseState) -> Result<CourseState, StateError> {
        state.check(
            self.metrics.len(),
            self.total_steps,
            self.evaluation_parts(),
        )?;
        let watched = |tracker: &Tracker| tracker.monitor().to_owned();
        if state.best.monitor() != self.keep_best.as_ref().map(watched) {
            state.best = Default::default();
        }
        if state.stopping.monitor() != self.early_stopping.as_ref().map(|p| watched(&p.tracker)) {
            state.stopping = Default::default();
        }
        Ok(state)
    }

    /// The state from which a fork goes on: after the same round and step, but with
    /// nothing watched, summed or skipped yet, because the changed job may count otherwise.
    ///
    /// # Errors
    /// The job ends before that step.
    pub fn fork(&self, origin: &CourseState) -> Result<CourseState, StateError> {
        let mut state = self.start();
        (state.round, state.step) = (origin.round, origin.step);
        self.restore(state)
    }

    /// The model's metrics, in the order of [`Means::metrics`].
    pub fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Steps of an epoch; the last one may be short.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Steps of the whole run, if nothing ends it before.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// What the next round is.
    pub fn kind(&self, state: &CourseState) -> Kind {
        if let Some(reason) = &state.stopped {
            return Kind::End(reason.clone());
        }
        match &state.evaluation {
            Some(pending) => Kind::Evaluate {
                index: pending.index,
                parts: self.evaluation_parts(),
                after_step: state.step,
            },
            None => Kind::Train {
                step: state.step,
                epoch: state.step / self.steps_per_epoch,
            },
        }
    }

    /// How many steps are finished when `round` rounds are, as long as nothing
    /// has ended the run early.
    pub fn steps_after(&self, round: u64) -> u64 {
        let between = self.evaluation_every.steps(self.steps_per_epoch);
        let steps = match between.filter(|_| self.evaluation_samples > 0) {
            None => round,
            Some(between) => {
                let period = between + u64::from(self.evaluation_parts());
                round / period * between + (round % period).min(between)
            }
        };
        steps.min(self.total_steps)
    }

    /// How many micro-batches a round has: M for a step, at most 2,048 for an
    /// evaluation, none at the end.
    pub fn micro_batches(&self, kind: &Kind) -> u32 {
        match kind {
            Kind::Train { .. } => self.micro_batches,
            Kind::Evaluate { index, .. } => self
                .evaluation_micro_batches()
                .saturating_sub(self.evaluation_micro_batch(*index, 0))
                .min(MICRO_BATCHES_MAX),
            Kind::End(_) => 0,
        }
    }

    /// The number within the whole pass of micro-batch `m` of its part `index`.
    pub fn evaluation_micro_batch(&self, index: u32, m: u32) -> u32 {
        index.saturating_mul(MICRO_BATCHES_MAX).saturating_add(m)
    }

    /// The nominal weight of a round: what each micro-batch's weight is divided
    /// by when it goes into the sums. Samples of a global batch, or of an
    /// evaluation pass.
    pub fn nominal_weight(&self, kind: &Kind) -> u64 {
        match kind {
            Kind::Train { .. } => self.global_batch,
            Kind::Evaluate { .. } | Kind::End(_) => self.evaluation_samples.max(1),
        }
    }

    /// Whether a step's complete sum changes the weights: every micro-batch was
    /// clean, and there was something in them. All replicas ask this alike.
    pub fn applies(&self, totals: &Totals) -> bool {
        totals.is_clean() && totals.weight > 0
    }

    /// The means of the running epoch so far, as a progress bar shows them;
    /// `None` before its first step.
    pub fn running_means(&self, state: &CourseState) -> Option<Means> {
        state.epoch.means(self.global_batch)
    }

    /// The means of the last epoch that has ended.
    pub fn last_train_means(&self, state: &CourseState) -> Option<Means> {
        state.last_epoch.means(self.global_batch)
    }

    /// The result of the last evaluation that has ended; `None` before it.
    pub fn last_validation(&self, state: &CourseState) -> Option<Validation> {
        state
            .last_evaluation
            .as_ref()
            .map(|pass| self.validation(pass))
    }

    fn evaluation_is_due(&self, step: u64) -> bool {
        self.evaluation_samples > 0
            && self.evaluation_every != Every::Never
            && (step >= self.total_steps
                || self.evaluation_every.is_due(step, self.steps_per_epoch))
    }

    fn evaluation_micro_batches(&self) -> u32 {
        let count = self
            .evaluation_samples
            .div_ceil(u64::from(self.evaluation_micro_batch));
        u32::try_from(count).expect("checked when the course was made")
    }

    fn evaluation_parts(&self) -> u32 {
        self.evaluation_micro_batches().div_ceil(MICRO_BATCHES_MAX)
    }

    fn validation(&self, pass: &PendingEvaluation) -> Validation {
        pass.validation(self.evaluation_samples.max(1))
    }
}
