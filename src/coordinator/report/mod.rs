//! What the coordinator writes down and shows: the run's files, the screen,
//! the counters that outlive it.
//!
//! | what | where |
//! |---|---|
//! | the files, events, resuming, waits | this file |
//! | who comes and goes, generations, checkpoints | `workers.rs` |
//! | metrics, the progress line, epochs | `rounds.rs` |
//! | the last words | `ending.rs` |

mod ending;
mod rounds;
mod shadow;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::CoordinatorError;
use super::config::Config;
use super::opening::OpenRun;
use crate::checkpoint::write_pointer;
use crate::job::Course;
use crate::observe::events::Missing;
use crate::observe::history::{Begun, RunRow, RunStatus, StoredGeneration};
use crate::observe::steps::STEPS_FILE;
use crate::observe::telemetry::SharedScreen;
use crate::observe::{Event, EventLog, History, MetricsLog, StallWatch, StepsFile, UnixMillis};
use crate::strategy::Plan;
use crate::world::membership::{Command, Durable, Note, World};
use crate::world::{Generation, Round, WorkerId};

pub(super) use ending::{exported_weights, fill_from_history, has_recorded_members};

/// The history's counter of the newest step that anybody told of: what a new
/// start of the coordinator compares a checkpoint with.
const STEP_REACHED: &str = "step_reached";

/// A worker in words, and what it last complained about.
#[derive(Clone, Debug, Default)]
struct Known {
    name: String,
    devices: String,
    sums_fetched: u64,
    damaged_frames: u64,
    micro_batches: u64,
    last_error: Option<String>,
    log_tail: Vec<String>,
    drain: Option<String>,
}

/// The run's files, its counters and the screen.
pub(super) struct Report {
    job: String,
    run: String,
    folder: PathBuf,
    checkpoint_url: String,
    history: History,
    events: EventLog,
    metrics: MetricsLog,
    steps: StepsFile,
    /// Steps trained again came to other sums, since the last start from a checkpoint.
    sum_differs: bool,
    /// Sums of steps before this one were of states that had drifted.
    doubted_before: u64,
    screen: SharedScreen,
    stalls: StallWatch,
    workers: BTreeMap<WorkerId, Known>,
    /// The shadow, while it writes the checkpoints.
    writer: Option<WorkerId>,
    steps_per_epoch: u64,
    total_steps: u64,
    epochs: Option<u64>,
    micro_batches: u32,
    metric_names: Vec<String>,
    course: Course,
    /// The newest training step that a record told of.
    pub step: u64,
    /// The newest one that anybody is known to have finished.
    reached: u64,
    /// Since when we have watched the epoch, and its step then: the time in
    /// which nobody trains, or nobody tells us, says nothing about its pace.
    epoch_began: Duration,
    epoch_first_step: u64,
    last_epoch: u64,
    resumed_from: Option<u64>,
    announced: BTreeSet<(&'static str, u64, u32)>,
    /// Damages that have been told: a search may come upon them again.
    damages: BTreeSet<String>,
    /// What `STEP_REACHED` says.
    step_recorded: u64,
    stop_asked: Option<String>,
    /// All is computed: the last checkpoint is being written.
    complete: bool,
    /// Nothing of the run was on this disk before.
    new_here: bool,
    /// There was an earlier start, and no world since: what is told was done without us.
    away: bool,
}

impl Report {
    pub(super) fn open(
        config: &Config,
        plan: &Plan,
        opened: &OpenRun,
        screen: SharedScreen,
    ) -> Result<Report, CoordinatorError> {
        let folder = opened.folder.clone();
        let io = |path: PathBuf| move |source| CoordinatorError::Io { path, source };
        std::fs::create_dir_all(&folder).map_err(io(folder.clone()))?;
        let resolved = folder.join("config.resolved.toml");
        std::fs::write(&resolved, plan.job.resolved_toml()).map_err(io(resolved.clone()))?;
        write_pointer(&folder, &opened.run).map_err(internal)?;
        let history = History::open(&folder.join("history.sqlite"))?;
        let run = opened.run.run().to_owned();
        let begun = history.begin_run(&RunRow {
            id: run.clone(),
            parent: opened.record.parent.clone().zip(opened.record.parent_step),
            owner: config.owner.clone(),
            project: None,
            job: config.job.name.clone(),
            artifact: plan.artifact.clone(),
            data_fingerprint: plan.data_fingerprint(),
            kinds: Vec::new(),
            status: RunStatus::Running,
            error: None,
            weights_sha256: None,
            created: unix_now(),
            finished: None,
            config: plan.job.resolved_toml(),
        })?;
        history.set_run_status(&run, unix_now(), RunStatus::Running, None, None)?;
        let events = EventLog::open(&folder.join("events.jsonl"), &run, Some(history.clone()))
            .map_err(internal)?;
        let metrics = MetricsLog::open(&folder.join("metrics.jsonl"), &run, Some(history.clone()))
            .map_err(internal)?;
        let steps = StepsFile::open(&folder.join(STEPS_FILE)).map_err(internal)?;
        let step = history.counter(&run, STEP_REACHED)?;
        let steps_per_epoch = plan.course.steps_per_epoch();
        let total_steps = plan.course.total_steps();
        Ok(Report {
            job: config.job.name.clone(),
            run,
            folder,
            checkpoint_url: config.checkpoint_url(),
            history,
            events,
            metrics,
            steps,
            sum_differs: false,
            doubted_before: 0,
            screen,
            stalls: StallWatch::new(),
            workers: BTreeMap::new(),
            writer: None,
            course: plan.course.clone(),
            reached: step,
            steps_per_epoch,
            total_steps,
            epochs: Some(total_steps.div_ceil(steps_per_epoch)),
            micro_batches: config.job.train.micro_batches(),
            metric_names: plan.course.metrics().to_vec(),
            step,
            epoch_began: Duration::ZERO,
            epoch_first_step: 0,
            new_here: begun == Begun::New,
            away: opened.incarnation > 1,
            last_epoch: 0,
            resumed_from: None,
            announced: BTreeSet::new(),
            damages: BTreeSet::new(),
            step_recorded: step,
            stop_asked: None,
            complete: false,
        })
    }

    /// What an earlier coordinator wrote down.
    pub(super) fn durable(&self) -> Result<Durable, CoordinatorError> {
        let Some(stored) = self.history.latest_generation(&self.run)? else {
            return Ok(Durable::default());
        };
        serde_json::from_slice(&stored.record).map_err(internal)
    }

    /// The numerics kinds that earlier starts have seen.
    pub(super) fn recorded_kinds(&self) -> Result<Vec<String>, CoordinatorError> {
        let run = self.history.run(&self.run)?;
        Ok(run.map_or(Vec::new(), |run| run.kinds))
    }

    /// Writes down what must be remembered before anybody hears of it, and
    /// counts the installation that it is for (its note is among the commands
    /// `after`) in the same transaction: a coordinator that is killed neither
    /// counts it twice nor forgets it.
    pub(super) fn persist(
        &mut self,
        durable: &Durable,
        after: &[Command],
    ) -> Result<(), CoordinatorError> {
        if durable.number == Generation::NONE {
            return Ok(()); // nothing was given out yet
        }
        let record = serde_json::to_vec(durable).map_err(internal)?;
        let stored = StoredGeneration {
            generation: durable.number,
            record,
        };
        let (generations, recomputed) = installed(after);
        let counters = [
            ("generations", generations),
            ("recomputed_micro_batches", recomputed),
        ];
        self.history
            .put_generation(&self.run, unix_now(), &stored, &counters)?;
        Ok(())
    }

    pub(super) fn begin(&mut self, opened: &OpenRun) {
        let sound = opened.start.is_some();
        for damage in &opened.damages {
            self.damaged(&damage.to_string(), sound);
        }
        // A fork begins with a checkpoint.
        if self.new_here || opened.incarnation == 1 || (!sound && self.step == 0) {
            self.event(Event::RunStarted {
                job: self.job.clone(),
                steps: Some(self.total_steps),
                epochs: self.epochs,
                parent: opened.record.parent.clone(),
                parent_step: opened.record.parent_step,
            });
        }
        // A new disk, or a fork, knows of them from the checkpoint.
        if let Some(start) = &opened.start
            && self.recorded_kinds().is_ok_and(|kinds| kinds.is_empty())
        {
            self.kinds(&start.header.identity.kinds);
        }
    }

    fn event(&mut self, event: Event) {
        let headline = event.headline();
        if let Err(error) = self.events.record(unix_now(), event) {
            tracing::error!(%error, "an event could not be written down");
        }
        if let Some(headline) = headline {
            self.screen.lock().headline(&headline);
        }
    }

    fn known(&self, worker: WorkerId) -> Known {
        self.workers.get(&worker).cloned().unwrap_or_default()
    }

    fn count(&self, name: &str, delta: u64) {
        if delta > 0
            && let Err(error) = self.history.add_counter(&self.run, name, delta)
        {
            tracing::error!(name, %error, "a counter could not be written down");
        }
    }

    /// A checkpoint that can't be used; whether there is a sound one before it.
    pub(super) fn damaged(&mut self, problem: &str, sound: bool) {
        if !self.damages.insert(problem.to_owned()) {
            return;
        }
        self.event(Event::CheckpointDamaged {
            url: self.checkpoint_url.clone(),
            problem: problem.to_owned(),
            used_instead: sound.then(|| "the one before it".to_owned()),
        });
    }

    /// Training goes on from a checkpoint, or from the beginning if there is
    /// none: what came after it comes again.
    pub(super) fn starting(&mut self, manifest: Option<&str>, round: u64, step: u64) {
        if let Err(error) = self.metrics.discard_after(round) {
            tracing::error!(%error, "old metrics could not be removed");
        }
        self.announced.retain(|(_, at, _)| *at <= round);
        let lost = self.step_reached().saturating_sub(step);
        (self.step, self.reached) = (step, step);
        self.record_step();
        self.last_epoch = step / self.steps_per_epoch;
        (self.complete, self.sum_differs, self.away) = (false, false, false);
        self.epoch_first_step = step;
        self.count(
            "recomputed_after_resume",
            lost * u64::from(self.micro_batches),
        );
        if manifest.is_none() && lost == 0 {
            return; // a run's first start
        }
        self.resumed_from.get_or_insert(step);
        let checkpoint = manifest.map(|key| format!("{}/{key}", self.checkpoint_url));
        self.event(Event::RunResumed {
            step,
            round,
            checkpoint,
            steps_lost: lost,
        });
    }

    /// The epoch's pace is measured from here.
    fn watch_from(&mut self, now: Duration) {
        self.epoch_began = now;
        self.epoch_first_step = self.step_reached();
    }

    /// Somebody has applied so many rounds.
    fn rounds_finished(&mut self, round: Round) {
        self.reached = self.reached.max(self.course.steps_after(round.0));
    }

    /// The newest training step that anybody is known to have finished.
    pub(super) fn step_reached(&self) -> u64 {
        self.step.max(self.reached)
    }

    /// What a later start will know of how far this one came.
    fn record_step(&mut self) {
        let step = self.step_reached();
        if step == self.step_recorded {
            return;
        }
        match self.history.set_counter(&self.run, STEP_REACHED, step) {
            Ok(()) => self.step_recorded = step,
            Err(error) => tracing::error!(%error, "the step could not be written down"),
        }
    }

    pub(super) fn stopping(&mut self, reason: &str) {
        self.stop_asked = Some(reason.to_owned());
        let line = format!(
            "stopping ({reason}): saving, then letting everybody go (Ctrl-C: stop at once)"
        );
        self.screen.lock().line(&line);
    }

    /// No wait over ten seconds is silent.
    pub(super) fn tick(&mut self, now: Duration, world: &World) {
        let waiting = world.waiting(now).or_else(|| self.last_save(world));
        let (missing, next) = waiting.unwrap_or_default();
        let missing: BTreeSet<String> = missing.into_iter().collect();
        if let Some(stall) = self.stalls.watch(now, &missing, &next) {
            let since_seconds = stall.since().as_secs_f64();
            let missing = stall
                .missing
                .iter()
                .map(|(name, since)| Missing {
                    name: name.clone(),
                    since_seconds: since.as_secs_f64(),
                })
                .collect();
            self.event(Event::Stalled {
                missing,
                since_seconds,
                next,
            });
        }
        if world.waits_for_workers() {
            self.watch_from(now);
        }
        self.record_step();
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    pub(super) fn job(&self) -> &str {
        &self.job
    }
}

/// Generations that come into force with the record that was just written, and
/// the micro-batches computed again for them. What follows the next record is
/// that one's.
fn installed(after: &[Command]) -> (u64, u64) {
    let its = after
        .iter()
        .take_while(|c| !matches!(c, Command::Persist(_)));
    its.fold((0, 0), |(generations, again), command| match command {
        Command::Note(Note::Installed { recomputed, .. }) => {
            (generations + 1, again + u64::from(*recomputed))
        }
        _ => (generations, again),
    })
}

fn internal(error: impl std::fmt::Display) -> CoordinatorError {
    CoordinatorError::Internal(error.to_string())
}

fn unix_now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::GenerationRecord;
    use crate::world::membership::Cause;

    #[test]
    fn each_installation_is_counted_with_the_record_it_follows() {
        let note = |recomputed| {
            Command::Note(Note::Installed {
                record: GenerationRecord::installed(Generation::NONE, Vec::new()),
                cause: Cause::Started,
                recomputed,
            })
        };
        let persist = || Command::Persist(Durable::default());
        let batch = [
            persist(),
            persist(),
            Command::FindStart,
            note(3),
            persist(),
            note(5),
        ];
        assert_eq!(installed(&batch[1..]), (0, 0));
        assert_eq!(installed(&batch[2..]), (1, 3));
        assert_eq!(installed(&batch[5..]), (1, 5));
    }
}
