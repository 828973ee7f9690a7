//! From what a round decided to what people read.

use std::collections::BTreeMap;

use super::rounding::{self, RoundedToZero};
use crate::exact::Totals;
use crate::job::course::{Decision, Means, SkippedStep, StopReason};
use crate::strategy::{Finished, Plan, TrainState};
use crate::wire::{Record, Values};

/// The name of the share of a step's nonzero gradients that are zero in its sum.
const ROUNDED_TO_ZERO: &str = "rounded_to_zero";

/// One record, as it goes to the coordinator.
pub(super) type Reported = Record;

/// The records of a finished round, with the sums that it was made of.
pub(super) fn of(
    plan: &Plan,
    state: &TrainState,
    finished: &Finished,
    (totals, rounded): (&Totals, &mut RoundedToZero),
) -> Vec<Record> {
    let round = state.course.round;
    let mut records = Vec::new();
    for decision in &finished.decisions {
        match decision {
            Decision::StepSkipped(skipped) => {
                let parameters = at_fault(plan, skipped);
                let kinds = [
                    ("non-finite", &skipped.non_finite),
                    ("out-of-range", &skipped.out_of_range),
                ];
                for (kind, micro_batches) in kinds {
                    records.extend(micro_batches.iter().map(|m| Record::Skipped {
                        round,
                        step: skipped.step,
                        micro_batch: *m,
                        kind: kind.to_owned(),
                        samples: plan.order.samples(skipped.step, *m),
                        parameters: parameters.clone(),
                    }));
                }
            }
            Decision::Log { step, epoch, train } => {
                let mut values = values(plan, train.as_ref(), "");
                let share = rounding::share_of(totals);
                values.entry(ROUNDED_TO_ZERO.into()).or_insert(Some(share));
                records.push(Record::Step {
                    round,
                    step: *step,
                    epoch: *epoch,
                    values,
                });
            }
            Decision::VerifyDigest { step } => {
                if let Some(digest) = &finished.digest {
                    records.push(Record::Digest {
                        round,
                        step: *step,
                        state_digest: digest.state.clone(),
                        chain: digest.chain_hex(),
                    });
                }
            }
            Decision::Evaluated { step, validation } => records.push(Record::Evaluated {
                round,
                step: *step,
                values: values(plan, validation.means.as_ref(), "val_"),
            }),
            Decision::EpochEnded {
                epoch,
                step,
                complete,
                train,
                validation,
            } => {
                let mut all = values(plan, train.as_ref(), "");
                if let Some(validation) = validation {
                    all.extend(values(plan, validation.means.as_ref(), "val_"));
                }
                records.push(Record::Epoch {
                    round,
                    step: *step,
                    epoch: *epoch,
                    complete: *complete,
                    values: all,
                });
                let worst = rounded.take_worst();
                if !worst.is_empty() {
                    records.push(Record::RoundedToZero {
                        round,
                        step: *step,
                        epoch: *epoch,
                        fraction_bits: plan.job.exact.fraction_bits,
                        shares: named(plan, &worst),
                    });
                }
            }
            Decision::Stopped {
                step,
                reason:
                    StopReason::EarlyStopping {
                        monitor,
                        best,
                        patience,
                        ..
                    },
            } => {
                records.push(Record::EarlyStopped {
                    round,
                    step: *step,
                    monitor: monitor.clone(),
                    best: *best,
                    patience: *patience,
                });
            }
            Decision::Stopped { .. } | Decision::Checkpoint { .. } => {}
        }
    }
    records
}

/// Where the running epoch is.
pub(super) fn running(plan: &Plan, state: &TrainState) -> Record {
    let step = state.course.step;
    let means = plan.course.running_means(&state.course);
    Record::Running {
        step,
        epoch: step.saturating_sub(1) / plan.course.steps_per_epoch() + 1,
        values: values(plan, means.as_ref(), ""),
    }
}

/// What a checkpoint says about how good it is.
pub(super) fn metrics(plan: &Plan, state: &TrainState) -> BTreeMap<String, f64> {
    let train = plan.course.last_train_means(&state.course);
    let mut all = values(plan, train.as_ref(), "");
    if let Some(validation) = plan.course.last_validation(&state.course) {
        all.extend(values(plan, validation.means.as_ref(), "val_"));
    }
    all.into_iter()
        .filter_map(|(name, value)| value.map(|v| (name, v)))
        .collect()
}

/// Why the job can't go on, for people.
pub(super) fn failure(plan: &Plan, reason: &StopReason) -> String {
    let StopReason::Failed {
        skipped,
        skipped_steps_max,
    } = reason
    else {
        return "training ended".to_owned();
    };
    let bad = |what: &str, micro_batches: &[u32]| -> Option<String> {
        let m = *micro_batches.first()?;
        let samples = plan.order.samples(skipped.step, m);
        Some(format!("micro-batch {m} is {what} (samples {samples:?})"))
    };
    let wrong: Vec<String> = bad("non-finite", &skipped.non_finite)
        .into_iter()
        .chain(bad("out of range", &skipped.out_of_range))
        .collect();
    let parameters = at_fault(plan, skipped);
    let parameters = if parameters.is_empty() {
        "the loss or a metric".into()
    } else {
        parameters.join(", ")
    };
    format!(
        "more than {skipped_steps_max} steps had to be skipped (train.max_skipped_steps); \
         in step {}, {}, in {parameters}",
        skipped.step,
        wrong.join(" and "),
    )
}

fn named(plan: &Plan, shares: &[(usize, f64)]) -> BTreeMap<String, f64> {
    let named = shares.iter().filter_map(|(index, share)| {
        let parameter = plan.layout.iter().nth(*index)?;
        Some((parameter.name.clone(), *share))
    });
    named.collect()
}

/// The names of the parameters whose gradients were not sound.
fn at_fault(plan: &Plan, skipped: &SkippedStep) -> Vec<String> {
    let faults = skipped.parameters.iter();
    faults
        .filter_map(|fault| plan.layout.iter().nth(fault.index as usize))
        .map(|parameter| parameter.name.clone())
        .collect()
}

fn values(plan: &Plan, means: Option<&Means>, prefix: &str) -> Values {
    let Some(means) = means else {
        return Values::new();
    };
    let finite = |value: f64| value.is_finite().then_some(value);
    let mut values = Values::new();
    values.insert(format!("{prefix}loss"), finite(means.loss));
    for (name, value) in plan.course.metrics().iter().zip(&means.metrics) {
        values.insert(format!("{prefix}{name}"), finite(*value));
    }
    values
}
