//! What the coordinator writes down and shows: the run's files, the screen,
//! the counters that outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::CoordinatorError;
use super::config::Config;
use super::driver::Registered;
use super::opening::OpenRun;
use crate::checkpoint::{RunStore, write_pointer};
use crate::observe::events::{InstallReason, LeaveReason, Missing, SkipKind, WorkerInfo};
use crate::observe::history::{RunRow, RunStatus, StoredGeneration};
use crate::observe::summary;
use crate::observe::telemetry::SharedScreen;
use crate::observe::{
    EpochLine, Event, EventLog, History, MetricsKind, MetricsLog, MetricsRecord, StallWatch,
    Summary, UnixMillis,
};
use crate::strategy::Plan;
use crate::wire::control as pb;
use crate::wire::{Record, Values};
use crate::world::membership::{Durable, Note, Outcome, World};
use crate::world::message::FromWorker;
use crate::world::{Generation, Origin, WorkerId};

/// A worker in words, and what it last complained about.
#[derive(Clone, Debug, Default)]
struct Known {
    name: String,
    devices: String,
    sums_fetched: u64,
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
    screen: SharedScreen,
    stalls: StallWatch,
    workers: BTreeMap<WorkerId, Known>,
    steps_per_epoch: u64,
    total_steps: u64,
    epochs: Option<u64>,
    micro_batches: u32,
    metric_names: Vec<String>,
    /// The newest training step that anybody told of.
    pub step: u64,
    epoch_began: Duration,
    epoch_first_step: u64,
    last_epoch: u64,
    resumed_from: Option<u64>,
    announced: BTreeSet<(&'static str, u64, u32)>,
    stop_asked: bool,
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
        std::fs::write(&resolved, config.job.resolved_toml()).map_err(io(resolved.clone()))?;
        write_pointer(&folder, &opened.run).map_err(internal)?;
        let history = History::open(&folder.join("history.sqlite"))?;
        let run = opened.run.run().to_owned();
        history.begin_run(&RunRow {
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
            config: config.job.resolved_toml(),
        })?;
        history.set_run_status(&run, unix_now(), RunStatus::Running, None, None)?;
        let events = EventLog::open(&folder.join("events.jsonl"), &run, Some(history.clone()))
            .map_err(internal)?;
        let metrics = MetricsLog::open(&folder.join("metrics.jsonl"), &run, Some(history.clone()))
            .map_err(internal)?;
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
            screen,
            stalls: StallWatch::new(),
            workers: BTreeMap::new(),
            steps_per_epoch,
            total_steps,
            epochs: Some(total_steps.div_ceil(steps_per_epoch)),
            micro_batches: config.job.train.micro_batches(),
            metric_names: plan.course.metrics().to_vec(),
            step: 0,
            epoch_began: Duration::ZERO,
            epoch_first_step: 0,
            last_epoch: 0,
            resumed_from: None,
            announced: BTreeSet::new(),
            stop_asked: false,
        })
    }

    /// What an earlier coordinator wrote down.
    pub(super) fn durable(&self) -> Result<Durable, CoordinatorError> {
        let Some(stored) = self.history.latest_generation(&self.run)? else {
            return Ok(Durable::default());
        };
        serde_json::from_slice(&stored.record).map_err(internal)
    }

    pub(super) fn persist(&mut self, durable: &Durable) -> Result<(), CoordinatorError> {
        if durable.number == Generation::NONE {
            return Ok(()); // nothing was given out yet
        }
        let record = serde_json::to_vec(durable).map_err(internal)?;
        let stored = StoredGeneration {
            generation: durable.number,
            record,
        };
        self.history
            .put_generation(&self.run, unix_now(), &stored, &[])?;
        Ok(())
    }

    pub(super) fn begin(&mut self, opened: &OpenRun) {
        for damage in &opened.damages {
            self.damaged(&damage.to_string());
        }
        if opened.start.is_none() {
            self.event(Event::RunStarted {
                job: self.job.clone(),
                steps: Some(self.total_steps),
                epochs: self.epochs,
                parent: opened.record.parent.clone(),
                parent_step: opened.record.parent_step,
            });
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

    pub(super) fn refused(&mut self, peer: &str, problem: &str) {
        self.event(Event::ConnectionRefused {
            peer: peer.to_owned(),
            problem: problem.to_owned(),
        });
    }

    pub(super) fn registered(&mut self, worker: WorkerId, registered: &Registered) {
        let request = &registered.request;
        let devices = request.devices.join(", ");
        let known = Known {
            name: request.node.clone(),
            devices: devices.clone(),
            ..Known::default()
        };
        self.workers.insert(worker, known);
        self.event(Event::WorkerRegistered(WorkerInfo {
            worker,
            name: request.node.clone(),
            devices,
            kind: String::new(),
            zone: (!request.zone.is_empty()).then(|| request.zone.clone()),
            price_per_hour: (request.price > 0.0).then_some(request.price),
            build: request.build.clone(),
            artifact: request.artifact.clone(),
        }));
    }

    pub(super) fn kinds(&mut self, worker: WorkerId, kinds: &BTreeSet<String>) {
        let kinds: Vec<String> = kinds.iter().cloned().collect();
        if let Err(error) = self.history.set_run_kinds(&self.run, &kinds) {
            tracing::error!(%worker, %error, "the kinds could not be written down");
        }
        let exact = kinds.len() <= 1;
        self.event(Event::KindsChanged { kinds, exact });
    }

    pub(super) fn trouble(&mut self, worker: WorkerId, trouble: pb::Trouble) {
        let known = self.workers.entry(worker).or_default();
        known.last_error = Some(trouble.error);
        known.log_tail = trouble.log_tail;
    }

    /// Notes what a worker's own words say about how it will leave.
    pub(super) fn heard(&mut self, worker: WorkerId, message: &FromWorker) {
        let known = self.workers.entry(worker).or_default();
        match message {
            FromWorker::Drain { reason } if known.drain.is_none() => {
                known.drain = Some(reason.clone());
                let (name, why) = (known.name.clone(), reason.clone());
                let reason = LeaveReason::Drained;
                self.event(Event::DrainRequested {
                    worker,
                    name,
                    reason,
                    why,
                });
            }
            FromWorker::Progress { counters, .. } => {
                let new = counters.sums_fetched.saturating_sub(known.sums_fetched);
                known.sums_fetched = counters.sums_fetched;
                known.micro_batches = counters.micro_batches;
                self.count("sums_fetched", new);
            }
            _ => {}
        }
    }

    fn count(&self, name: &str, delta: u64) {
        if delta > 0
            && let Err(error) = self.history.add_counter(&self.run, name, delta)
        {
            tracing::error!(name, %error, "a counter could not be written down");
        }
    }

    pub(super) fn damaged(&mut self, problem: &str) {
        self.event(Event::CheckpointDamaged {
            step: None,
            url: self.checkpoint_url.clone(),
            problem: problem.to_owned(),
            used_instead: Some("the one before it".to_owned()),
        });
    }

    /// Training goes on from a checkpoint: what came after it comes again.
    pub(super) fn resuming(&mut self, manifest: &str, round: u64, step: u64, world: &World) {
        if let Err(error) = self.metrics.discard_after(round) {
            tracing::error!(%error, "old metrics could not be removed");
        }
        self.announced.retain(|(_, at, _)| *at <= round);
        self.step = step;
        self.last_epoch = step / self.steps_per_epoch;
        self.epoch_first_step = step;
        self.resumed_from.get_or_insert(step);
        let lost = world.reached().0.saturating_sub(round);
        self.count(
            "recomputed_after_resume",
            lost * u64::from(self.micro_batches),
        );
        let checkpoint = Some(format!("{}/{manifest}", self.checkpoint_url));
        self.event(Event::RunResumed {
            step,
            round,
            checkpoint,
            steps_lost: lost,
        });
    }

    pub(super) fn stopping(&mut self) {
        self.stop_asked = true;
        self.screen
            .lock()
            .line("stopping: saving, then letting everybody go (again: stop at once)");
    }

    /// A note of the world's; returns the manifest of a new checkpoint.
    pub(super) fn note(
        &mut self,
        now: Duration,
        note: Note,
        world: &World,
    ) -> Result<Option<String>, CoordinatorError> {
        let _ = now;
        match note {
            Note::Installed {
                record,
                reason,
                recomputed,
            } => {
                self.count("generations", 1);
                self.count("recomputed_micro_batches", u64::from(recomputed));
                let loss = reason.contains("left") || reason.contains("lost");
                self.event(Event::GenerationInstalled {
                    generation: record.generation,
                    members: record.members.iter().map(|m| m.id).collect(),
                    base: record.base.0,
                    step: self.step,
                    reason: match record.origin {
                        Origin::Planned { .. } => InstallReason::Planned,
                        Origin::Installed if loss => InstallReason::Loss,
                        Origin::Installed if reason.contains("again") => InstallReason::Restarted,
                        Origin::Installed => InstallReason::Started,
                    },
                    why: reason,
                    recomputed_micro_batches: u64::from(recomputed),
                    source: record.source.as_ref().map(|m| m.id),
                });
                if record.paused {
                    let members = record.members.len() as u64;
                    let minimum = world.members_min() as u64;
                    self.event(Event::Paused {
                        members,
                        minimum,
                        step: self.step,
                    });
                }
            }
            Note::Joined(worker, name) => {
                let generation = world.current().map_or(Generation::NONE, |r| r.generation);
                let devices = self.known(worker).devices;
                self.event(Event::WorkerJoined {
                    worker,
                    name,
                    devices,
                    generation,
                    step: self.step,
                });
            }
            Note::Left {
                worker,
                name,
                reason,
                drained,
            } => {
                let known = self.known(worker);
                let kind = match (&known.last_error, drained) {
                    (Some(_), _) => LeaveReason::Crashed,
                    (None, true) => LeaveReason::Drained,
                    (None, false) if reason.contains("silent") => LeaveReason::Silent,
                    (None, false) if reason.contains("goes") => LeaveReason::Evicted,
                    (None, false) => LeaveReason::Lost,
                };
                self.event(Event::WorkerLeft {
                    worker,
                    name,
                    reason: kind,
                    why: reason,
                    step: Some(self.step),
                    recomputed_micro_batches: None,
                    last_error: known.last_error,
                    log_tail: known.log_tail,
                });
            }
            Note::Idle(workers) => {
                let names = |w: &WorkerId| format!("{w} ({})", self.known(*w).name);
                let workers = workers.iter().map(names).collect();
                self.event(Event::IdleWorkers {
                    workers,
                    micro_batches: self.micro_batches,
                });
            }
            Note::Committed {
                manifest,
                round,
                worker,
            } => {
                self.event(Event::CheckpointCommitted {
                    step: self.step,
                    round: round.0,
                    url: format!("{}/{manifest}", self.checkpoint_url),
                    worker: Some(worker),
                    seconds: None,
                    bytes: None,
                    best: false,
                });
                return Ok(Some(manifest));
            }
            Note::SaveFailed {
                worker,
                round,
                error,
            } => {
                let problem = format!("worker {worker}: {error}");
                let url = self.checkpoint_url.clone();
                self.event(Event::CheckpointFailed {
                    step: self.step,
                    round: round.0,
                    url,
                    problem,
                });
            }
            Note::WorldLost { round } => {
                self.event(Event::WorldLost {
                    step: self.step,
                    round: round.0,
                });
            }
            Note::Suspicious(problem) => self.event(Event::Suspicious { problem }),
        }
        Ok(None)
    }

    /// A record that the members tell.
    pub(super) fn record(
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
        if !record.key().is_some_and(|key| self.announced.insert(key)) {
            return Ok(());
        }
        match record {
            Record::Running { .. } => {}
            Record::Step {
                round,
                step,
                epoch,
                values,
            } => {
                self.step = self.step.max(step);
                self.metric(MetricsKind::Step, (step, epoch, round), &values)?;
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
                self.metric(MetricsKind::Evaluation, (step, epoch, round), &values)?;
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

    fn metric(
        &mut self,
        kind: MetricsKind,
        (step, epoch, round): (u64, u64, u64),
        values: &Values,
    ) -> Result<(), CoordinatorError> {
        let record = values.iter().fold(
            MetricsRecord::new(kind, unix_now(), step, epoch, round),
            |record, (name, value)| record.with(name, value.unwrap_or(f64::NAN)),
        );
        self.metrics.append(&record).map(drop).map_err(internal)
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
        EpochLine {
            epoch,
            epochs: self.epochs,
            step: step.saturating_sub(before),
            steps,
            seconds: now.saturating_sub(self.epoch_began).as_secs_f64(),
            timed_steps: step.saturating_sub(self.epoch_first_step.max(before)),
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
        self.metric(MetricsKind::Epoch, (step, epoch, round), &values)?;
        let line = EpochLine {
            done: true,
            ..self.line(now, step, epoch, &values, world)
        };
        self.screen.lock().epoch_finished(now, &line);
        let seconds = line.seconds;
        self.event(Event::EpochEnded {
            epoch,
            step,
            round,
            values,
            seconds,
        });
        self.last_epoch = if complete {
            epoch
        } else {
            epoch.saturating_sub(1)
        };
        self.epoch_began = now;
        self.epoch_first_step = step;
        Ok(())
    }

    /// No wait over ten seconds is silent.
    pub(super) fn tick(&mut self, now: Duration, world: &World) {
        let (missing, next) = world.waiting().unwrap_or_default();
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
        if self.step == 0 {
            self.epoch_began = now;
        }
    }

    /// The last words, and what the run came to.
    pub(super) async fn finish(
        mut self,
        run: &RunStore,
        plan: &Arc<Plan>,
        outcome: Outcome,
        kinds: BTreeSet<String>,
        elapsed: Duration,
    ) -> Result<Summary, CoordinatorError> {
        let seconds = elapsed.as_secs_f64();
        let mut summary = self.counters(plan, kinds, seconds);
        let newest = run.newest_verified(|_| {}).await.map_err(internal)?;
        if let Some(manifest) = &newest {
            let header = &manifest.header;
            let value = |name: &str| header.metrics.get(name).copied();
            summary.steps = Some(header.step);
            summary.epochs = Some(header.step / self.steps_per_epoch);
            summary.train_loss = value("loss");
            summary.val_loss = value("val_loss");
            summary.val_accuracy = value("val_accuracy");
            summary.weights_sha256 = Some(header.weights_sha256.clone());
            summary.checkpoint = Some(format!(
                "{}/{}",
                self.checkpoint_url, manifest.reference.key
            ));
        }
        let (status, error) = match outcome {
            Outcome::Finished { .. } => {
                self.event(Event::Finished {
                    step: summary.steps.unwrap_or(self.step),
                    epochs: summary.epochs.unwrap_or_default(),
                    seconds,
                    weights_sha256: summary.weights_sha256.clone().unwrap_or_default(),
                    checkpoint: summary.checkpoint.clone(),
                });
                summary.status = summary::Outcome::Finished;
                (RunStatus::Finished, None)
            }
            Outcome::Failed(error) => {
                self.event(Event::Failed {
                    step: Some(self.step),
                    error: error.clone(),
                });
                summary.status = summary::Outcome::Failed;
                summary.error = Some(error.clone());
                (RunStatus::Failed, Some(error))
            }
            Outcome::Stopped => {
                let reason = "stopped by a person".to_owned();
                self.event(Event::Stopped {
                    step: summary.steps.unwrap_or(self.step),
                    reason,
                });
                summary.status = summary::Outcome::Stopped;
                (RunStatus::Stopped, None)
            }
        };
        let digest = summary
            .weights_sha256
            .as_deref()
            .filter(|_| status == RunStatus::Finished);
        self.history
            .set_run_status(&self.run, unix_now(), status, error.as_deref(), digest)?;
        self.metrics.sync().map_err(internal)?;
        self.events.sync().map_err(internal)?;
        self.screen.lock().finish();
        Ok(summary)
    }

    fn counters(&self, plan: &Plan, kinds: BTreeSet<String>, seconds: f64) -> Summary {
        let counter = |name: &str| self.history.counter(&self.run, name).ok();
        let recorded = self
            .history
            .run(&self.run)
            .ok()
            .flatten()
            .map_or(Vec::new(), |r| r.kinds);
        let kinds: BTreeSet<String> = kinds.into_iter().chain(recorded).collect();
        Summary {
            job: plan.job.name.clone(),
            run: Some(self.run.clone()),
            steps: Some(self.step),
            exact: Some(kinds.len() <= 1),
            kinds: kinds.into_iter().collect(),
            seconds,
            generations: counter("generations"),
            workers_seen: self.history.workers_seen(&self.run).ok(),
            recomputed_micro_batches: counter("recomputed_micro_batches"),
            sums_fetched: counter("sums_fetched"),
            recomputed_after_resume: counter("recomputed_after_resume"),
            micro_batches_by_worker: (self.workers.iter())
                .map(|(worker, known)| (worker.to_string(), known.micro_batches))
                .collect(),
            resumed_from_step: self.resumed_from,
            run_dir: Some(self.folder.display().to_string()),
            ..Summary::default()
        }
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    pub(super) fn job(&self) -> &str {
        &self.job
    }
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
