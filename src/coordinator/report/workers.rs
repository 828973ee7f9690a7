//! Who comes, who goes, and what the world notes about it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Known, Report};
use crate::coordinator::CoordinatorError;
use crate::coordinator::driver::Registered;
use crate::observe::Event;
use crate::observe::events::{InstallReason, LeaveReason, WorkerInfo};
use crate::wire::control as pb;
use crate::world::membership::{Cause, Departure, Drift, Note, World};
use crate::world::message::FromWorker;
use crate::world::{Round, WorkerId};

impl Report {
    pub(in crate::coordinator) fn refused(&mut self, peer: &str, problem: &str) {
        self.event(Event::ConnectionRefused {
            peer: peer.to_owned(),
            problem: problem.to_owned(),
        });
    }

    pub(in crate::coordinator) fn registered(&mut self, worker: WorkerId, registered: &Registered) {
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
            kind: request.numerics_kind.clone(),
            zone: (!request.zone.is_empty()).then(|| request.zone.clone()),
            price_per_hour: (request.price > 0.0).then_some(request.price),
            build: request.build.clone(),
            artifact: request.artifact.clone(),
        }));
    }

    /// All numerics kinds that have taken part.
    pub(in crate::coordinator) fn kinds<'a>(
        &mut self,
        kinds: impl IntoIterator<Item = &'a String>,
    ) {
        let kinds: Vec<String> = kinds.into_iter().cloned().collect();
        if let Err(error) = self.history.set_run_kinds(&self.run, &kinds) {
            tracing::error!(%error, "the kinds could not be written down");
        }
        let exact = kinds.len() <= 1;
        self.event(Event::KindsChanged { kinds, exact });
    }

    pub(in crate::coordinator) fn trouble(&mut self, worker: WorkerId, trouble: pb::Trouble) {
        let known = self.workers.entry(worker).or_default();
        known.last_error = Some(trouble.error);
        known.log_tail = trouble.log_tail;
    }

    /// A node met the same crash too often; returns the step.
    pub(in crate::coordinator) fn crash_loop(
        &mut self,
        (worker, node): (WorkerId, String),
        round: Round,
        times: u32,
        (last_error, log_tail): (&str, Vec<String>),
    ) -> u64 {
        let step = self.course.steps_after(round.0);
        self.event(Event::CrashLoop {
            worker,
            node,
            step,
            times,
            last_error: last_error.to_owned(),
            log_tail,
        });
        step
    }

    fn mismatch(&mut self, drift: &Drift, culprits: &BTreeSet<WorkerId>) {
        let names = |workers: &mut dyn Iterator<Item = WorkerId>| -> Vec<String> {
            let name = |w: WorkerId| format!("{w} ({})", self.known(w).name);
            workers.map(name).collect()
        };
        let holders = drift.states.iter();
        let holders = holders.map(|s| names(&mut s.by.iter().copied())).collect();
        let culprits = names(&mut culprits.iter().copied());
        self.rounds_finished(drift.round);
        let step = self.course.steps_after(drift.round.0);
        self.doubted_before = step;
        self.event(Event::StateMismatch {
            step,
            round: drift.round.0,
            digests: drift.states.iter().map(|s| s.chain.clone()).collect(),
            holders,
            culprits,
            agreed: self.course.steps_after(drift.agreed.0),
        });
    }

    /// Notes what a worker's own words say about how it will leave.
    pub(in crate::coordinator) fn heard(&mut self, worker: WorkerId, message: &FromWorker) {
        let known = self.workers.entry(worker).or_default();
        match message {
            FromWorker::Drain { reason } => self.wants_to_leave(worker, reason),
            FromWorker::Progress {
                counters, round, ..
            } => {
                let new = counters.sums_fetched.saturating_sub(known.sums_fetched);
                known.sums_fetched = counters.sums_fetched;
                known.micro_batches = counters.micro_batches;
                let damaged = counters.damaged_frames.saturating_sub(known.damaged_frames);
                known.damaged_frames = counters.damaged_frames;
                self.count("sums_fetched", new);
                self.count("damaged_frames", damaged);
                self.rounds_finished(*round);
            }
            FromWorker::Report { holdings, .. } => {
                self.rounds_finished(holdings.round.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// As it says, or said in a session that broke before we heard of it.
    pub(in crate::coordinator) fn wants_to_leave(&mut self, worker: WorkerId, reason: &str) {
        let known = self.workers.entry(worker).or_default();
        if known.drain.is_none() {
            known.drain = Some(reason.to_owned());
            let (name, why) = (known.name.clone(), reason.to_owned());
            let reason = LeaveReason::Drained;
            self.event(Event::DrainRequested {
                worker,
                name,
                reason,
                why,
            });
        }
    }

    /// A note of the world's (what an installation counts is written down
    /// by [`Report::persist`], before anybody hears of it); returns the manifest of a new checkpoint.
    pub(in crate::coordinator) fn note(
        &mut self,
        now: Duration,
        note: Note,
        world: &World,
    ) -> Result<Option<String>, CoordinatorError> {
        match note {
            Note::Installed {
                record,
                cause,
                recomputed,
            } => {
                self.rounds_finished(record.base);
                if std::mem::take(&mut self.away) {
                    self.watch_from(now); // they have trained on without us
                }
                self.event(Event::GenerationInstalled {
                    generation: record.generation,
                    members: record.members.iter().map(|m| m.id).collect(),
                    weights: record.members.iter().map(|m| m.weight).collect(),
                    base: record.base.0,
                    step: self.step_reached(),
                    reason: install_reason(&cause),
                    why: cause.to_string(),
                    recomputed_micro_batches: u64::from(recomputed),
                    source: record.source.as_ref().map(|m| m.id),
                });
                self.written_by(record.writer);
                // Who stops lets everybody go: that is no pause.
                if record.paused && self.stop_asked.is_none() {
                    let members = record.members.len() as u64;
                    let minimum = world.members_min() as u64;
                    self.event(Event::Paused {
                        members,
                        minimum,
                        step: self.step_reached(),
                    });
                }
            }
            Note::Joined {
                worker,
                name,
                generation,
            } => {
                let devices = self.known(worker).devices;
                self.event(Event::WorkerJoined {
                    worker,
                    name,
                    devices,
                    generation,
                    step: self.step_reached(),
                });
            }
            Note::Left {
                worker,
                name,
                departure,
            } => {
                let known = self.known(worker);
                let reason = match known.last_error {
                    Some(_) => LeaveReason::Crashed,
                    None => leave_reason(&departure),
                };
                self.event(Event::WorkerLeft {
                    worker,
                    name,
                    reason,
                    why: departure.to_string(),
                    step: Some(self.step_reached()),
                    recomputed_micro_batches: None,
                    last_error: known.last_error,
                    log_tail: known.log_tail,
                });
            }
            Note::Rescued { manifest, round } => {
                let step = self.course.steps_after(round.0);
                self.starting(Some(&manifest), round.0, step);
            }
            Note::Flapping {
                worker,
                name,
                losses,
                wait,
            } => self.event(Event::Flapping {
                worker,
                name,
                losses,
                seconds: wait.as_secs_f64(),
            }),
            Note::Drifted { drift, culprits } => self.mismatch(&drift, &culprits),
            Note::Spare { worker, name } => self.event(Event::HotSpare { worker, name }),
            Note::Idle(workers) => {
                let names = |w: &WorkerId| format!("{w} ({})", self.known(*w).name);
                let workers = workers.iter().map(names).collect();
                self.event(Event::IdleWorkers {
                    workers,
                    micro_batches: self.micro_batches,
                    members_max: world.members_max() as u64,
                });
            }
            Note::Committed {
                manifest,
                round,
                worker,
            } => {
                self.event(Event::CheckpointCommitted {
                    step: self.course.steps_after(round.0),
                    round: round.0,
                    url: format!("{}/{manifest}", self.checkpoint_url),
                    worker: Some(worker),
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
                    step: self.course.steps_after(round.0),
                    round: round.0,
                    url,
                    problem,
                });
            }
            Note::WorldLost { round, shadow } => {
                self.writer = None; // until the next world has one
                self.rounds_finished(round);
                self.event(Event::WorldLost {
                    step: self.step_reached(),
                    round: round.0,
                    shadow,
                });
            }
            Note::Suspicious(problem) => self.event(Event::Suspicious { problem }),
        }
        Ok(None)
    }
}

fn install_reason(cause: &Cause) -> InstallReason {
    match cause {
        Cause::Started => InstallReason::Started,
        Cause::Left(..) => InstallReason::Loss,
        Cause::Disconnected(..) | Cause::Garbled { .. } => InstallReason::Disconnected,
        Cause::Standstill(_) => InstallReason::Standstill,
        Cause::Returned(_) => InstallReason::Returned,
        Cause::CameNot(..) | Cause::WhilePaused | Cause::Planned(_) => InstallReason::Planned,
        Cause::Restarted => InstallReason::Restarted,
    }
}

fn leave_reason(departure: &Departure) -> LeaveReason {
    match departure {
        Departure::Gone | Departure::Unreachable | Departure::Said(_) => LeaveReason::Lost,
        Departure::Silent | Departure::Vanished | Departure::Unanswered => LeaveReason::Silent,
        Departure::Hung
        | Departure::Conflicting
        | Departure::CutOff { .. }
        | Departure::Drifted
        | Departure::Garbled { .. } => LeaveReason::Evicted,
        Departure::Drained(_) => LeaveReason::Drained,
    }
}
