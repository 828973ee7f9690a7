//! The compute thread: owns replicas and state, and does one thing at a time.
//!
//! The driver asks, the engine answers with the number of the question, so an
//! answer that no longer matters is recognised. Whatever needs the state (a
//! gradient, an update, a copy of it for a checkpoint) is done here, in the
//! order in which it was asked for.

mod computing;
mod saving;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::fault::{EngineError, words_of};
use super::inject::{Faults, Point};
use super::records::{self, Reported};
use super::rounding::RoundedToZero;
use super::saver::Saver;
use super::trailer::{StateDigest, Written};
use crate::checkpoint::RunStore;
use crate::exact::{SumDigest, Totals};
use crate::job::Kind;
use crate::job::course::{Decision, StopReason};
use crate::strategy::{CompleteSum, Devices, Partial, Plan, Replicas, Stop, TrainState};
use crate::world::member::{Next, Task};
use crate::world::{Generation, Round, WorkerId};

/// What the driver asks for.
pub(super) enum Ask {
    Restore {
        task: Task,
        manifest: Option<String>,
    },
    Compute {
        task: Task,
        micro_batches: Vec<u32>,
        fresh: bool,
        /// Nobody but us is going to read the sum.
        ours: bool,
        partial: Box<Partial>,
        stop: Stop,
    },
    Apply {
        task: Task,
        /// `None`: it stayed where it was summed.
        sum: Option<Vec<i64>>,
        totals: Box<Totals>,
        /// Nobody but us is going to read the sum.
        ours: bool,
    },
    Save {
        last: bool,
        generation: Generation,
    },
    /// Our part of what these write together, ranked.
    SaveTogether {
        rank: usize,
        members: Vec<WorkerId>,
        generation: Generation,
    },
}

/// What it answers.
pub(super) enum Answer {
    Restored {
        task: Task,
        round: Round,
        next: Next,
        kind: Kind,
    },
    /// The checkpoint isn't there any more: others have saved newer ones while
    /// we read it.
    Gone { task: Task, error: EngineError },
    Computed {
        task: Task,
        partial: Box<Partial>,
        /// For so long the replicas were busy with it.
        took: Duration,
    },
    Applied {
        task: Task,
        sum: Option<Vec<i64>>,
        done: Box<Done>,
    },
    /// The job can't go on.
    Failed(EngineError),
}

/// What an applied round came to.
pub(super) struct Done {
    pub next: Next,
    pub checkpoint: bool,
    pub trained: bool,
    pub records: Vec<Reported>,
    pub digest: Option<StateDigest>,
    /// Index of the step that this was, and the name of its sum.
    pub sum: Option<(u64, SumDigest)>,
    /// What the next round is.
    pub kind: Kind,
    pub running: Reported,
    pub failed: Option<String>,
}

/// Questions that may wait; the protocol asks one thing at a time, and now and
/// then for a checkpoint.
const ASKS: usize = 64;

/// The driver's end.
pub(super) struct Engine {
    asks: SyncSender<Ask>,
    saver: Option<Saver>,
}

impl Engine {
    /// Starts the thread; answers go to `answers`.
    pub fn start<E: From<Answer> + Send + 'static>(
        plan: Arc<Plan>,
        devices: Option<Devices>,
        run: RunStore,
        saver: Saver,
        runtime: Handle,
        faults: Faults,
        answers: SyncSender<E>,
    ) -> std::io::Result<Engine> {
        let (asks, inbox) = sync_channel(ASKS);
        let writes = saver.clone();
        let say = Arc::new(move |answer: Answer| answers.send(answer.into()).is_ok());
        let worker = Worker {
            say,
            plan,
            devices,
            run,
            saver,
            runtime,
            faults,
            replicas: None,
            state: None,
            best: false,
            gone: None,
            rounded: RoundedToZero::default(),
        };
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker.work(&inbox))?;
        Ok(Engine {
            asks,
            saver: Some(writes),
        })
    }

    /// Somebody else answers: a rehearsal without a model.
    pub fn stand_in(asks: SyncSender<Ask>) -> Engine {
        Engine { asks, saver: None }
    }

    /// No checkpoint is written any more of the states until now.
    pub fn forget_saves(&self) {
        if let Some(saver) = &self.saver {
            saver.forget();
        }
    }

    /// A complete trailer told of these shards.
    pub fn shards_told(&self, written: &[Written]) {
        if let Some(saver) = &self.saver {
            saver.told(written);
        }
    }

    /// These exchange sums from now on.
    pub fn members_are(&self, members: Vec<WorkerId>) {
        if let Some(saver) = &self.saver {
            saver.members_are(members);
        }
    }

    /// Asks; the answers come in the same order. Nothing comes of it after the
    /// engine has failed.
    pub fn ask(&self, ask: Ask) {
        let _ = self.asks.send(ask);
    }
}

struct Worker {
    /// Gives an answer; false when nobody listens any more.
    say: Arc<dyn Fn(Answer) -> bool + Send + Sync>,
    plan: Arc<Plan>,
    /// None in a shadow: it computes no gradients.
    devices: Option<Devices>,
    run: RunStore,
    saver: Saver,
    runtime: Handle,
    faults: Faults,
    replicas: Option<Replicas>,
    state: Option<TrainState>,
    /// The state is the best so far by the watched metric.
    best: bool,
    /// The manifest that was last found to be gone.
    gone: Option<String>,
    rounded: RoundedToZero,
}

impl Worker {
    fn work(mut self, inbox: &Receiver<Ask>) {
        while let Ok(ask) = inbox.recv() {
            // A thread that is gone would leave everybody waiting for it.
            let done = catch_unwind(AssertUnwindSafe(|| self.answer(ask)));
            let answered =
                match done.unwrap_or_else(|panic| Err(EngineError::Panicked(words_of(&*panic)))) {
                    Ok(Some(found)) => (self.say)(found),
                    Ok(None) => true,
                    Err(error) => {
                        (self.say)(Answer::Failed(error));
                        return;
                    }
                };
            if !answered {
                return;
            }
        }
    }

    fn answer(&mut self, ask: Ask) -> Result<Option<Answer>, EngineError> {
        match ask {
            Ask::Restore { task, manifest } => self.restore(task, manifest).map(Some),
            Ask::Compute {
                task,
                micro_batches,
                fresh,
                ours,
                mut partial,
                stop,
            } => {
                self.prepare(&mut partial, fresh, ours)?;
                self.compute(task, &micro_batches, partial, &stop)?;
                Ok(None)
            }
            Ask::Apply {
                task,
                sum,
                totals,
                ours,
            } => {
                let sum = match sum {
                    None if !ours => Some(self.fetch(&totals)?),
                    sum => sum,
                };
                self.apply(task, sum, &totals).map(Some)
            }
            Ask::Save { last, generation } => {
                self.save(last, generation, None)?;
                Ok(None)
            }
            Ask::SaveTogether {
                rank,
                members,
                generation,
            } => {
                self.save_together(rank, &members, generation)?;
                Ok(None)
            }
        }
    }

    fn restore(&mut self, task: Task, manifest: Option<String>) -> Result<Answer, EngineError> {
        self.saver.forget();
        self.faults.reached_anywhere(Point::Restore);
        let state = match self.read(manifest.as_deref()) {
            // Named once more it is not superseded, but lost.
            Err(error) if error.is_gone() && self.gone != manifest => {
                self.gone = manifest;
                return Ok(Answer::Gone { task, error });
            }
            state => state?,
        };
        if let (None, Some(devices)) = (&self.replicas, &self.devices) {
            self.replicas = Some(Replicas::of(&self.plan, devices)?);
        }
        if let Some(replicas) = &mut self.replicas {
            state.put(&self.plan, replicas)?;
        }
        let round = Round(state.course.round);
        let next = self.next(&state);
        let kind = self.plan.course.kind(&state.course);
        self.state = Some(state);
        self.best = false;
        self.rounded.forget();
        Ok(Answer::Restored {
            task,
            round,
            next,
            kind,
        })
    }

    fn read(&self, manifest: Option<&str>) -> Result<TrainState, EngineError> {
        let Some(key) = manifest else {
            let initial = TrainState::initial(&self.plan);
            return initial.map_err(|e| EngineError::Begin(Box::new(e)));
        };
        let failed = |source| EngineError::Load {
            manifest: key.to_owned(),
            source,
        };
        let snapshot = self.runtime.block_on(async {
            let manifest = self.run.manifest(key).await.map_err(failed)?;
            self.run.load(&manifest).await.map_err(failed)
        })?;
        let failed = |source| EngineError::Restore {
            manifest: key.to_owned(),
            source,
        };
        TrainState::restore(&self.plan, &snapshot).map_err(failed)
    }

    fn next(&self, state: &TrainState) -> Next {
        let kind = self.plan.course.kind(&state.course);
        let micro_batches = self.plan.course.micro_batches(&kind);
        match kind {
            Kind::Train { .. } => Next::Round {
                micro_batches,
                values: self.plan.layout.elements() as u64,
            },
            Kind::Evaluate { .. } => Next::Round {
                micro_batches,
                values: 0,
            },
            Kind::End(_) => Next::End,
        }
    }

    fn apply(
        &mut self,
        task: Task,
        sum: Option<Vec<i64>>,
        totals: &Totals,
    ) -> Result<Answer, EngineError> {
        let Some(state) = &mut self.state else {
            return Err(EngineError::NoState);
        };
        let kind = self.plan.course.kind(&state.course);
        let began = Instant::now();
        self.faults.reached(Point::Apply, &kind);
        let complete = match &sum {
            Some(sum) => CompleteSum::Here(sum),
            None => CompleteSum::OnReplica,
        };
        let finished = state.finish(&self.plan, self.replicas.as_mut(), complete, totals)?;
        if self.faults.flips(&kind) {
            state.settle(&self.plan, self.replicas.as_mut())?;
            let weight = &mut state.weights_mut()[0];
            *weight = f32::from_bits(weight.to_bits() ^ 1 << 20);
        }
        self.rounded.add(totals);
        let checkpoint = finished.decisions.iter().find_map(|d| match d {
            Decision::Checkpoint {
                best, last: false, ..
            } => Some(*best),
            _ => None,
        });
        self.best = finished
            .decisions
            .iter()
            .any(|d| matches!(d, Decision::Checkpoint { best: true, .. }));
        let failed = match self.plan.course.kind(&state.course) {
            Kind::End(reason @ StopReason::Failed { .. }) => {
                Some(records::failure(&self.plan, &reason))
            }
            _ => None,
        };
        let digest = finished.digest.as_ref().map(|digest| digest.chain);
        let done = Done {
            checkpoint: checkpoint.is_some(),
            trained: finished.applied.is_some(),
            records: records::of(&self.plan, state, &finished, (totals, &mut self.rounded)),
            digest: digest.map(|sha256| StateDigest {
                round: state.course.round,
                sha256,
            }),
            sum: match finished.kind {
                Kind::Train { step, .. } => finished.sum.map(|sum| (step, sum)),
                _ => None,
            },
            running: records::running(&self.plan, state),
            failed,
            next: Next::End,
            kind: self.plan.course.kind(&state.course),
        };
        let kind = finished.kind;
        let state = self.state.as_ref().ok_or(EngineError::NoState)?;
        let done = Box::new(Done {
            next: self.next(state),
            ..done
        });
        if let (None, Some(pace)) = (&self.devices, self.faults.pace()) {
            pace.wait(began, &Stop::default());
        }
        self.faults.reached(Point::Applied, &kind);
        Ok(Answer::Applied { task, sum, done })
    }
}
