//! What rounds came to: metrics, the progress line, epochs.

use std::time::Duration;

use super::{Report, internal, unix_now};
use crate::coordinator::CoordinatorError;
use crate::observe::events::SkipKind;
use crate::observe::steps::Differs;
use crate::observe::{EpochLine, Event, MetricsKind, MetricsRecord};
use crate::wire::{Record, Steps, Values};
use crate::world::membership::World;

impl Report {
    /// A record that the members tell.
    pub(in crate::coordinator) fn record(
        &mut self,
        now: Duration,
        record: Record,
        world: &World,
    ) -> Result<(), CoordinatorError> {
        if let Record::Running {
            step,
            epoch,
            values,
        } = &record
        {
            self.running(now, *step, *epoch, values, world);
            return Ok(());
        }
        if let Record::Steps(steps) = &record {
            self.steps(steps);
            return Ok(());
        }
        if !record.key().is_some_and(|key| self.announced.insert(key)) {
            return Ok(());
        }
        self.complete |= is_last(&record, self.total_steps);
        match record {
            Record::Running { .. }
            | Record::Steps(_)
            | Record::Drifted(_)
            | Record::Agreed { .. } => {}
            Record::Step {
                round,
                step,
                epoch,
                values,
            } => {
                self.step = self.step.max(step);
                self.metric(MetricsKind::Step, (step, epoch, round), &values)
                    .map(drop)?;
            }
            Record::Epoch {
                round,
                step,
                epoch,
                complete,
                values,
            } => {
                self.epoch(now, (round, step, epoch), complete, values, world)?;
            }
            Record::Evaluated {
                round,
                step,
                values,
            } => {
                let epoch = step.div_ceil(self.steps_per_epoch);
                self.metric(MetricsKind::Evaluation, (step, epoch, round), &values)
                    .map(drop)?;
            }
            Record::Digest {
                round,
                step,
                state_digest,
                chain,
            } => {
                let epoch = step.div_ceil(self.steps_per_epoch);
                let record =
                    MetricsRecord::new(MetricsKind::Digest, unix_now(), step, epoch, round)
                        .with_digest(state_digest, Some(chain));
                self.metrics.append(&record).map_err(internal)?;
            }
            Record::Skipped {
                round,
                step,
                micro_batch,
                kind,
                samples,
                parameters,
            } => {
                let kind = match kind.as_str() {
                    "non-finite" => SkipKind::NonFinite,
                    _ => SkipKind::OutOfRange,
                };
                let sample_indices = samples;
                self.event(Event::StepSkipped {
                    step,
                    round,
                    kind,
                    micro_batch,
                    sample_indices,
                    parameters,
                });
            }
            Record::RoundedToZero {
                round,
                step,
                epoch,
                fraction_bits,
                shares,
            } => self.event(Event::RoundedToZero {
                epoch,
                step,
                round,
                fraction_bits,
                shares,
            }),
            Record::EarlyStopped {
                round,
                step,
                monitor,
                best,
                patience,
            } => {
                let epoch = step.div_ceil(self.steps_per_epoch);
                let (best, patience) = (best.unwrap_or(f64::NAN), u64::from(patience));
                self.event(Event::EarlyStopped {
                    epoch,
                    step,
                    round,
                    monitor,
                    best,
                    patience,
                });
            }
        }
        Ok(())
    }

    /// Finished steps. Without them training goes on: they are for those who look
    /// into the run later.
    fn steps(&mut self, steps: &Steps) {
        let end = steps.first.checked_add(steps.rows.len() as u64);
        if end.is_none_or(|end| end > self.total_steps) {
            return tracing::warn!(first = steps.first, "steps that the job doesn't have");
        }
        match self.steps.put(steps) {
            Err(error) => tracing::error!(%error, "finished steps could not be written down"),
            Ok(Some(Differs { step, .. })) if step <= self.doubted_before => {}
            Ok(Some(Differs { step, before, now })) if !self.sum_differs => {
                self.sum_differs = true; // what follows differs as well
                let exact = self.recorded_kinds().is_ok_and(|kinds| kinds.len() <= 1);
                let (before, now) = (before.to_string(), now.to_string());
                self.event(Event::SumDiffers {
                    step,
                    before,
                    now,
                    exact,
                });
            }
            Ok(_) => {}
        }
    }

    /// Whom everybody waits for once there is nothing left to compute.
    pub(super) fn last_save(&self, world: &World) -> Option<(Vec<String>, String)> {
        let writer = world.current()?.members.first()?.id;
        let name = self.known(writer).name;
        self.complete.then(|| {
            let missing = format!("the last checkpoint, by worker {writer} ({name})");
            (
                vec![missing],
                "the run is complete when it is written".into(),
            )
        })
    }

    /// Writes a record down; whether it was new.
    fn metric(
        &mut self,
        kind: MetricsKind,
        (step, epoch, round): (u64, u64, u64),
        values: &Values,
    ) -> Result<bool, CoordinatorError> {
        let record = values.iter().fold(
            MetricsRecord::new(kind, unix_now(), step, epoch, round),
            |record, (name, value)| record.with(name, value.unwrap_or(f64::NAN)),
        );
        self.metrics.append(&record).map_err(internal)
    }

    fn line(
        &self,
        now: Duration,
        step: u64,
        epoch: u64,
        values: &Values,
        world: &World,
    ) -> EpochLine {
        let record = world.current();
        let before = (epoch.saturating_sub(1)) * self.steps_per_epoch;
        let steps = self
            .steps_per_epoch
            .min(self.total_steps.saturating_sub(before));
        let timed = step.saturating_sub(self.epoch_first_step.max(before));
        EpochLine {
            epoch,
            epochs: self.epochs,
            step: step.saturating_sub(before),
            steps,
            seconds: now.saturating_sub(self.epoch_began).as_secs_f64(),
            timed_steps: if self.away { 0 } else { timed },
            done: false,
            values: self.ordered(values),
            workers: record.map_or(0, |r| r.members.len() as u64),
            generation: record.map(|r| r.generation),
        }
    }

    /// As Keras shows them: loss, metrics, then the same of the validation.
    fn ordered(&self, values: &Values) -> Vec<(String, f64)> {
        let names = || std::iter::once("loss").chain(self.metric_names.iter().map(String::as_str));
        let validation = names().map(|name| format!("val_{name}"));
        names()
            .map(str::to_owned)
            .chain(validation)
            .filter_map(|name| {
                values
                    .get(&name)
                    .copied()
                    .flatten()
                    .map(|value| (name, value))
            })
            .collect()
    }

    fn running(&mut self, now: Duration, step: u64, epoch: u64, values: &Values, world: &World) {
        if step <= self.step && self.last_epoch >= epoch {
            return;
        }
        self.step = self.step.max(step);
        let line = self.line(now, step, epoch, values, world);
        self.screen.lock().progress(now, &line);
    }

    fn epoch(
        &mut self,
        now: Duration,
        (round, step, epoch): (u64, u64, u64),
        complete: bool,
        values: Values,
        world: &World,
    ) -> Result<(), CoordinatorError> {
        self.step = self.step.max(step);
        self.last_epoch = if complete {
            epoch
        } else {
            epoch.saturating_sub(1)
        };
        let line = EpochLine {
            done: true,
            ..self.line(now, step, epoch, &values, world)
        };
        if !self.metric(MetricsKind::Epoch, (step, epoch, round), &values)? {
            return Ok(()); // before our time: an earlier coordinator has shown it
        }
        self.screen.lock().epoch_finished(now, &line);
        let seconds = line.seconds;
        self.event(Event::EpochEnded {
            epoch,
            step,
            round,
            values,
            seconds,
        });
        self.epoch_began = now;
        self.epoch_first_step = step;
        Ok(())
    }
}

/// Whether nothing is computed after it.
fn is_last(record: &Record, total_steps: u64) -> bool {
    match record {
        Record::Epoch { step, .. } => *step >= total_steps,
        Record::EarlyStopped { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_epoch_and_an_early_stop_leave_only_the_last_checkpoint_to_wait_for() {
        let epoch = |step| Record::Epoch {
            round: step,
            step,
            epoch: 1,
            complete: true,
            values: Values::new(),
        };
        let evaluated = Record::Evaluated {
            round: 21,
            step: 20,
            values: Values::new(),
        };
        let stopped = Record::EarlyStopped {
            round: 11,
            step: 10,
            monitor: "val_loss".into(),
            best: None,
            patience: 1,
        };
        assert!(is_last(&epoch(20), 20) && is_last(&stopped, 20));
        assert!(!is_last(&epoch(10), 20) && !is_last(&evaluated, 20));
    }
}
