//! What a finished round changes, and what follows from it.

use super::decision::{Decision, SkippedStep, StopReason};
use super::monitor::Quantity;
use super::state::{CourseState, PendingEvaluation, Sums, Validation};
use super::{Course, Kind};
use crate::exact::Totals;

impl Course {
    /// Goes on by one round, whose complete sums are `totals`, and says what
    /// follows, in the order in which it is to be done.
    ///
    /// # Panics
    /// If the sums aren't those of the round (other micro-batches, other metrics),
    /// or there is no round left: mistakes of ours that must not go on silently.
    pub fn finish(&self, state: &mut CourseState, totals: &Totals) -> Vec<Decision> {
        let kind = self.kind(state);
        assert_eq!(
            totals.contributed.len() as u64,
            u64::from(self.micro_batches(&kind)),
            "round {} ({kind:?}) is complete with each of its micro-batches",
            state.round
        );
        assert_eq!(
            totals.metrics.len(),
            self.metrics.len(),
            "one sum for each metric"
        );
        let mut decisions = Vec::new();
        state.round += 1;
        match kind {
            Kind::Train { step, epoch } => {
                self.finish_step(state, step, epoch, totals, &mut decisions)
            }
            Kind::Evaluate { index, parts, .. } => {
                self.finish_evaluation(state, index + 1 == parts, totals, &mut decisions)
            }
            Kind::End(reason) => panic!("a round was finished after the end ({reason:?})"),
        }
        decisions
    }

    fn finish_step(
        &self,
        state: &mut CourseState,
        step: u64,
        epoch: u64,
        totals: &Totals,
        decisions: &mut Vec<Decision>,
    ) {
        state.step = step + 1;
        if self.applies(totals) {
            state.epoch.add(totals);
            state.log.add(totals);
        } else {
            let skipped = SkippedStep::new(step, epoch, totals);
            state.skipped += 1;
            decisions.push(Decision::StepSkipped(skipped.clone()));
            if state.skipped > self.max_skipped_steps {
                // No checkpoint: the one before is where a changed job goes on from.
                let reason = StopReason::Failed {
                    skipped,
                    skipped_steps_max: self.max_skipped_steps,
                };
                self.stop(state, reason, decisions);
                return;
            }
        }
        let last = state.step >= self.total_steps;
        if last || state.step.is_multiple_of(self.log_every) {
            let log = std::mem::replace(&mut state.log, Sums::new(self.metrics.len()));
            decisions.push(Decision::Log {
                step: state.step,
                epoch: epoch + 1,
                train: log.means(self.global_batch),
            });
        }
        if last || state.step.is_multiple_of(self.verify_every) {
            decisions.push(Decision::VerifyDigest { step: state.step });
        }
        if self.evaluation_is_due(state.step) {
            state.evaluation = Some(PendingEvaluation::new(self.metrics.len()));
        } else {
            self.finish_boundary(state, None, decisions);
        }
    }

    fn finish_evaluation(
        &self,
        state: &mut CourseState,
        is_last_part: bool,
        totals: &Totals,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(mut pass) = state.evaluation.take() else {
            return;
        };
        pass.add(totals);
        if !is_last_part {
            state.evaluation = Some(pass);
            return;
        }
        let validation = self.validation(&pass);
        state.last_evaluation = Some(pass);
        decisions.push(Decision::Evaluated {
            step: state.step,
            validation: validation.clone(),
        });
        self.finish_boundary(state, Some(validation), decisions);
    }

    /// All that is decided once everything of a step is known.
    fn finish_boundary(
        &self,
        state: &mut CourseState,
        validation: Option<Validation>,
        decisions: &mut Vec<Decision>,
    ) {
        let last = state.step >= self.total_steps;
        let complete = state.step.is_multiple_of(self.steps_per_epoch);
        let mut train = None;
        if complete || last {
            let epoch = std::mem::replace(&mut state.epoch, Sums::new(self.metrics.len()));
            train = Some(epoch.means(self.global_batch));
            state.last_epoch = epoch;
            decisions.push(Decision::EpochEnded {
                epoch: state.step.div_ceil(self.steps_per_epoch),
                step: state.step,
                complete,
                train: train.clone().flatten(),
                validation: validation.clone(),
            });
        }
        // Each is a look at the metric only where it was measured.
        let train = train.as_ref().map(Option::as_ref);
        let validation = validation.as_ref().map(|found| found.means.as_ref());
        let look = |quantity: &Quantity| {
            if quantity.of_validation {
                validation
            } else {
                train
            }
        };
        let improved = self.keep_best.as_ref().is_some_and(|tracker| {
            look(&tracker.quantity)
                .is_some_and(|means| tracker.look(&mut state.best, means, state.step))
        });
        let mut stop = last.then_some(StopReason::Completed);
        if let Some(patience) = &self.early_stopping
            && let Some(means) = look(&patience.tracker.quantity)
        {
            let reason = patience.look(&mut state.stopping, means, state.step);
            stop = stop.or(reason);
        }
        let due = self
            .checkpoint_every
            .is_due(state.step, self.steps_per_epoch);
        if due || improved || stop.is_some() {
            decisions.push(Decision::Checkpoint {
                step: state.step,
                best: improved,
                last: stop.is_some(),
            });
        }
        if let Some(reason) = stop {
            self.stop(state, reason, decisions);
        }
    }

    fn stop(&self, state: &mut CourseState, reason: StopReason, decisions: &mut Vec<Decision>) {
        state.stopped = Some(reason.clone());
        decisions.push(Decision::Stopped {
            step: state.step,
            reason,
        });
    }
}
