//! The coordinator's side: which world is in force, and what happens next.
//!
//! ```text
//!            enough are ready                all reported
//!  Gathering ───────────────▶ Preparing ───────────────────▶ Running
//!      ▲                          │  ▲                         │ │
//!      └── nobody holds a state ──┘  └──── a loss, a silence ──┘ │ planned changes
//!      ▲                                                         │ need no pause
//!      └───────────── all drained, everything saved ─────────────┘
//!  Recovering: a restarted coordinator waits for the recorded members first.
//!  Ended: nothing is installed any more; everybody is let go.
//! ```
//!
//! One file a concern: `start` (gathering, recovering, the end), `loss`
//! (evidence, prepare, report, install), `planned` (join, drain, pause),
//! `follow` (followers and the checkpoints they need).

mod follow;
mod loss;
mod planned;
mod start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{FromWorker, Holdings, ReleaseReason, ToWorker};
use super::pool::{Approach, Node, Pool, Session};
use super::{Generation, GenerationRecord, Member, Origin, Round, WorkerId};

/// What the operator asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Members needed before the first round; 1 with `--world-size auto`.
    pub start_size: usize,
    /// Fewer members than this pause.
    pub members_min: usize,
    /// No more members than this; never more than micro-batches in a step.
    pub members_max: usize,
    /// How long a process may be silent where it has to answer.
    pub patience: Duration,
}

/// What must be on disk before anybody hears of it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Durable {
    /// The newest number given out.
    pub number: Generation,
    /// The world in force.
    pub current: Option<GenerationRecord>,
    /// The planned change that members may have heard of.
    pub pending: Option<GenerationRecord>,
}

/// Everything that can happen to the coordinator's world.
#[derive(Clone, Debug)]
pub enum Event {
    /// A registered worker opened its session and said what it holds.
    Hello {
        /// Who.
        worker: WorkerId,
        /// How it is reached and how much it can do.
        member: Member,
        /// For people.
        name: String,
        /// What it holds.
        holdings: Holdings,
    },
    /// A worker said something.
    From(WorkerId, FromWorker),
    /// A session ended without a Bye.
    SessionBroken(WorkerId),
    /// The answer to a [`Command::Probe`].
    Probed(WorkerId, Probe),
    /// The answer to [`Command::FindStart`].
    Start {
        /// The newest checkpoint that verifies; `None`: how the job begins.
        manifest: Option<String>,
        /// Its round, 0 without one.
        round: Round,
    },
    /// Save everything, let everybody go.
    Stop,
    /// Time passes.
    Tick,
}

/// What a try to connect to a worker's peer address showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody listens there any more: the process is gone.
    Refused,
    /// Somebody listens: the process lives.
    Accepted,
    /// No answer: the host may be gone, or the way to it.
    Silent,
}

/// What the rim has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write down durably, before anything after it.
    Persist(Durable),
    /// Send on the worker's session, if it has one.
    Send(WorkerId, ToWorker),
    /// Try to connect to its peer address.
    Probe(WorkerId, String),
    /// Find the newest checkpoint that verifies.
    FindStart,
    /// Tell people.
    Note(Note),
    /// The run is over for this coordinator.
    End(Outcome),
}

/// How the run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; the manifest holds the result.
    Finished {
        /// The last checkpoint.
        manifest: String,
    },
    /// The job can't go on.
    Failed(String),
    /// Stopped on request; can be resumed.
    Stopped,
}

/// What people want to know, each decision with its reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A new world is in force.
    Installed {
        /// It.
        record: GenerationRecord,
        /// Why there is a new one.
        reason: String,
        /// Micro-batches that are computed again.
        recomputed: u32,
    },
    /// A worker became a member.
    Joined(WorkerId, String),
    /// A worker is gone.
    Left {
        /// Who.
        worker: WorkerId,
        /// For people.
        name: String,
        /// Why.
        reason: String,
        /// It went on request.
        drained: bool,
    },
    /// These have nothing to do.
    Idle(Vec<WorkerId>),
    /// A checkpoint is whole.
    Committed {
        /// Its manifest.
        manifest: String,
        /// Its round.
        round: Round,
        /// Who wrote it.
        worker: WorkerId,
    },
    /// A checkpoint could not be written.
    SaveFailed {
        /// Who tried.
        worker: WorkerId,
        /// Its round.
        round: Round,
        /// What went wrong.
        error: String,
    },
    /// Nobody holds the state any more; training resumes from a checkpoint.
    WorldLost {
        /// The last round that was known to be applied.
        round: Round,
    },
    /// Something that should not happen, and what was done about it.
    Suspicious(String),
}

#[derive(Clone, Debug)]
enum Phase {
    /// No world. Waits for the start point, then for enough ready workers.
    Gathering {
        start: Option<(Option<String>, Round)>,
        needed: usize,
    },
    /// A coordinator that started again waits for the members it knows of.
    Recovering {
        since: Duration,
        awaited: BTreeSet<WorkerId>,
    },
    /// Everybody was told to stop and report.
    Preparing(Preparing),
    /// A generation is in force.
    Running,
    /// Over.
    Ended(ReleaseReason),
}

#[derive(Clone, Debug)]
struct Preparing {
    generation: Generation,
    reports: BTreeMap<WorkerId, Holdings>,
    reason: String,
    since: Duration,
}

/// A planned change on its way.
#[derive(Clone, Debug)]
struct Pending {
    record: GenerationRecord,
    /// Newcomers that haven't confirmed it; members are told after the last.
    unconfirmed: BTreeSet<WorkerId>,
    reason: String,
}

/// The membership of one run. See the module's diagram.
#[derive(Clone, Debug)]
pub struct World {
    settings: Settings,
    incarnation: u32,
    number: Generation,
    pool: Pool,
    phase: Phase,
    current: Option<GenerationRecord>,
    pending: Option<Pending>,
    /// The newest checkpoint that this coordinator knows to be whole.
    newest: Option<(String, Round)>,
    /// Who was asked for a fresh checkpoint.
    saving: Option<WorkerId>,
    stopping: bool,
    /// The newest round that anybody is known to have applied.
    reached: Round,
    started: bool,
    /// When a member last lost a peer that lives.
    strikes: BTreeMap<(WorkerId, WorkerId), Duration>,
    idle_told: Vec<WorkerId>,
    out: Vec<Command>,
}

impl World {
    /// A world in its `incarnation`-th coordinator, with what the last one
    /// wrote down. The first commands come with the first event.
    pub fn new(settings: Settings, incarnation: u32, durable: Durable, now: Duration) -> World {
        let awaited: BTreeSet<WorkerId> = [&durable.current, &durable.pending]
            .into_iter()
            .flatten()
            .flat_map(|r| {
                r.members
                    .iter()
                    .map(|m| m.id)
                    .chain(r.leavers.iter().copied())
            })
            .collect();
        let needed = settings.start_size;
        let mut world = World {
            settings,
            incarnation,
            number: durable.number,
            pool: Pool::new(),
            phase: Phase::Gathering {
                start: None,
                needed,
            },
            current: durable.current,
            pending: None,
            newest: None,
            saving: None,
            stopping: false,
            reached: Round(0),
            started: false,
            strikes: BTreeMap::new(),
            idle_told: Vec::new(),
            out: Vec::new(),
        };
        if !awaited.is_empty() {
            world.pending = durable.pending.map(|record| Pending {
                record,
                unconfirmed: BTreeSet::new(),
                reason: "planned before the coordinator started again".into(),
            });
            world.phase = Phase::Recovering {
                since: now,
                awaited,
            };
        }
        world
    }

    /// What to do first: find the checkpoint to start from, or whom of the
    /// recorded members there still is.
    pub fn begin(&mut self) -> Vec<Command> {
        match &self.phase {
            Phase::Recovering { .. } => self.probe_recorded(),
            _ => self.out.push(Command::FindStart),
        }
        std::mem::take(&mut self.out)
    }

    /// The one entry point.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        match event {
            Event::Hello {
                worker,
                member,
                name,
                holdings,
            } => {
                self.hello(now, worker, member, name, holdings);
            }
            Event::From(worker, message) => self.message(now, worker, message),
            Event::SessionBroken(worker) => self.session_broken(now, worker),
            Event::Probed(worker, probe) => self.probed(now, worker, probe),
            Event::Start { manifest, round } => self.start_point(now, manifest, round),
            Event::Stop => self.stop(now),
            Event::Tick => self.tick(now),
        }
        self.name_idle();
        std::mem::take(&mut self.out)
    }

    fn message(&mut self, now: Duration, worker: WorkerId, message: FromWorker) {
        if !self.pool.contains_key(&worker) {
            return; // the last words of a session that has been given up
        }
        match message {
            FromWorker::Hello(_) => {} // the session's first message, taken by the rim
            FromWorker::Report {
                generation,
                holdings,
            } => {
                self.report(now, worker, generation, holdings);
            }
            FromWorker::Progress {
                generation,
                round,
                counters,
            } => {
                self.progress(now, worker, generation, round, counters);
            }
            FromWorker::Ready {
                generation,
                round,
                source,
            } => {
                self.ready(now, worker, generation, Approach::Ready { source, round });
            }
            FromWorker::NeedCheckpoint { round } => self.need_checkpoint(now, worker, round),
            FromWorker::Ack { generation } => self.acknowledged(now, worker, generation),
            FromWorker::Drain { reason } => self.drain(now, worker, reason),
            FromWorker::PeerLost { peer, generation } => self.accuse(worker, peer, generation),
            FromWorker::Committed {
                manifest,
                round,
                last,
            } => {
                self.committed(now, worker, manifest, round, last);
            }
            FromWorker::SaveFailed { round, error } => self.save_failed(worker, round, error),
            FromWorker::SourceLost { .. } => self.source_lost(now, worker),
            FromWorker::JobFailed { error } => self.job_failed(error),
            FromWorker::Bye { reason } => self.bye(now, worker, reason),
        }
    }

    /// The generation in force, if there is one.
    pub fn current(&self) -> Option<&GenerationRecord> {
        self.current.as_ref()
    }

    /// Every worker that is here.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The newest round that anybody is known to have applied.
    pub fn reached(&self) -> Round {
        self.reached
    }

    /// Fewer members than this pause.
    pub fn members_min(&self) -> usize {
        self.settings.members_min
    }

    /// One word for people.
    pub fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Gathering { .. } => "gathering",
            Phase::Recovering { .. } => "recovering",
            Phase::Preparing(_) => "reconciling",
            Phase::Running if self.current.as_ref().is_some_and(|r| r.paused) => "paused",
            Phase::Running => "running",
            Phase::Ended(_) => "ended",
        }
    }

    /// Whom everybody waits for right now, and what happens when they come.
    pub fn waiting(&self) -> Option<(Vec<String>, String)> {
        let name = |w: &WorkerId| {
            self.pool.get(w).map_or(format!("worker {w}"), |n| {
                format!("worker {w} ({})", n.name)
            })
        };
        match &self.phase {
            Phase::Gathering { start: None, .. } => Some((
                vec!["the checkpoint store".into()],
                "training resumes from the newest checkpoint".into(),
            )),
            Phase::Gathering { needed, .. } => {
                let ready = self.pool.values().filter(|n| n.available()).count();
                let missing = needed.saturating_sub(ready);
                (missing > 0).then(|| {
                    (
                        vec![format!("{missing} of {needed} workers")],
                        "training starts when they have come".into(),
                    )
                })
            }
            Phase::Recovering { awaited, .. } => Some((
                awaited.iter().map(name).collect(),
                "those that are gone are given up when they have been silent for long enough"
                    .into(),
            )),
            Phase::Preparing(p) => Some((
                self.unreported(p).iter().map(name).collect(),
                "whoever stays silent is evicted and the others go on".into(),
            )),
            Phase::Running => self.current.as_ref().filter(|r| r.paused).map(|r| {
                let missing = self.settings.members_min.saturating_sub(r.members.len());
                (
                    vec![format!("{missing} more workers")],
                    "training goes on when they have come".into(),
                )
            }),
            Phase::Ended(_) => None,
        }
    }

    /// Whether every process has been let go and has left.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        self.out.push(Command::Send(worker, message));
    }

    fn note(&mut self, note: Note) {
        self.out.push(Command::Note(note));
    }

    fn persist(&mut self) {
        let durable = Durable {
            number: self.number,
            current: self.current.clone(),
            pending: self.pending.as_ref().map(|p| p.record.clone()),
        };
        self.out.push(Command::Persist(durable));
    }

    /// The next number. Whoever takes it persists before anybody hears of it.
    fn next_number(&mut self) -> Generation {
        self.number = if self.number.incarnation == self.incarnation {
            Generation {
                counter: self.number.counter + 1,
                ..self.number
            }
        } else {
            Generation {
                incarnation: self.incarnation,
                counter: 1,
            }
        };
        self.number
    }

    fn name_of(&self, worker: WorkerId) -> String {
        self.pool
            .get(&worker)
            .map_or_else(String::new, |n| n.name.clone())
    }

    /// Says once which workers have nothing to do because the world is full.
    fn name_idle(&mut self) {
        let full = match (&self.phase, &self.current) {
            (Phase::Running, Some(r)) => r.members.len() >= self.settings.members_max,
            _ => false,
        };
        let idle: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(_, n)| full && n.approach == Approach::Idle && n.available())
            .map(|(w, _)| *w)
            .filter(|w| !self.current.as_ref().is_some_and(|r| r.has(*w)))
            .collect();
        if idle != self.idle_told {
            if !idle.is_empty() {
                self.note(Note::Idle(idle.clone()));
            }
            self.idle_told = idle;
        }
    }
}
