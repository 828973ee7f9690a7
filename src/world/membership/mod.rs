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
//! One file a concern: `event` (what can happen, what is to be done), `start` (gathering, the end), `recover` (after a restart), `loss`
//! (evidence, prepare, report, install), `needed` (whose word that takes), `planned` (join, drain, pause),
//! `follow` (followers and the checkpoints they need), `shares` (who computes how much), `quiet`, `hung`,
//! `garbled`, `flapping`, `drift` (nodes that make trouble), `shadow`, `lease`, `status` (what people are told).

mod drift;
mod event;
mod flapping;
mod follow;
mod garbled;
mod hung;
mod lease;
mod loss;
mod needed;
mod planned;
mod quiet;
mod reason;
mod recover;
mod shadow;
mod shadowed;
mod shares;
mod start;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use drift::{Agreed, Drift, HeldState, Repeated};
pub use event::{Command, Durable, Event, Note, Outcome, Probe, Settings};
pub use reason::{Cause, Departure};

use super::message::{FromWorker, Holdings, ReleaseReason, ToWorker};
use super::pool::{Approach, Node, Pool, Session};
use super::{Generation, GenerationRecord, Heard, Member, Origin, Round, WorkerId};

#[derive(Clone, Debug)]
enum Phase {
    /// No world. Waits for the start point, then for enough ready workers.
    Gathering {
        start: Option<(Option<String>, Round)>,
        needed: usize,
        /// So many more have to get ready at least: until then nobody need count.
        lacking: usize,
    },
    /// A coordinator that started again waits for the members it knows of.
    Recovering {
        /// Those that answered when they were last asked whether they live.
        alive: BTreeSet<WorkerId>,
        /// When the coordinator started.
        began: Duration,
        /// When they were last asked.
        asked: Duration,
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
    /// Some whose report is missing for sure. Only when nobody is left in it
    /// somebody else has to be looked for.
    missing: BTreeSet<WorkerId>,
    cause: Cause,
    since: Duration,
}

/// A planned change on its way.
#[derive(Clone, Debug)]
struct Pending {
    record: GenerationRecord,
    /// Newcomers that haven't confirmed it; members are told after the last.
    unconfirmed: BTreeSet<WorkerId>,
    cause: Cause,
}

/// The membership of one run. See the module's diagram.
#[derive(Clone, Debug)]
pub struct World {
    settings: Settings,
    incarnation: u32,
    number: Generation,
    pool: Pool,
    phase: Phase,
    /// Members that aren't known to be in the world in force.
    entering: BTreeSet<WorkerId>,
    /// There was nothing to plan, and nothing has happened since. Whatever a
    /// plan depends on that changes with time alone has to take this back.
    settled: bool,
    current: Option<GenerationRecord>,
    pending: Option<Pending>,
    /// The newest checkpoint that this coordinator knows to be whole.
    newest: Option<(String, Round)>,
    /// Who was asked for a fresh checkpoint.
    saving: Option<WorkerId>,
    /// Who last wrote one that was asked for, while somebody still wants another.
    saved_last: Option<WorkerId>,
    /// The last manifest of a run that was complete before this coordinator
    /// started; some of its members may not know.
    finished: Option<String>,
    stopping: bool,
    /// The newest round that anybody is known to have applied.
    reached: Round,
    /// When that was last news.
    advanced: Duration,
    /// How long the last rounds have taken.
    recent: VecDeque<Duration>,
    /// The last tick.
    ticked: Duration,
    /// Since when other shares would be better, and when they were last changed.
    uneven: (Option<Duration>, Option<Duration>),
    /// The longest that any worker trains on without a coordinator.
    trains_on: Duration,
    /// Whom the round in hand waits for, and since when.
    held_up: (hung::HeldUpBy, Duration),
    /// When members that nobody hears were last asked whether they live.
    asked: Duration,
    /// When there was nobody to be heard last.
    unheard: Duration,
    started: bool,
    /// When a member last lost a peer that lives.
    strikes: BTreeMap<(WorkerId, WorkerId), Duration>,
    /// Who got damaged frames from whom, and when last.
    garbled: BTreeMap<(WorkerId, WorkerId), Duration>,
    /// All members are lost, and the shadow saves what it holds.
    rescuing: bool,
    /// Of the event at hand.
    now: Duration,
    /// Nodes that were lost, and newcomers that wait because of that.
    flapping: flapping::Flapping,
    /// States that differed.
    drifts: drift::Drifts,
    /// Checkpoints after this round are not to be used any more.
    go_back: Option<Round>,
    idle_told: Vec<WorkerId>,
    spares_told: BTreeSet<WorkerId>,
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
                lacking: 0,
            },
            reached: durable.current.as_ref().map_or(Round(0), |r| r.base),
            current: durable.current,
            pending: None,
            entering: BTreeSet::new(),
            settled: false,
            newest: None,
            saving: None,
            saved_last: None,
            finished: None,
            stopping: false,
            advanced: now,
            recent: VecDeque::new(),
            ticked: now,
            uneven: (None, None),
            trains_on: durable.trains_on,
            held_up: (hung::HeldUpBy::Nobody, now),
            asked: now,
            unheard: now,
            // A world that was recorded had begun: what --world-size asks for is over.
            started: !awaited.is_empty(),
            strikes: BTreeMap::new(),
            garbled: BTreeMap::new(),
            rescuing: false,
            now,
            flapping: flapping::Flapping::default(),
            drifts: drift::Drifts::default(),
            go_back: durable.go_back,
            idle_told: Vec::new(),
            spares_told: BTreeSet::new(),
            out: Vec::new(),
        };
        if !awaited.is_empty() {
            world.pending = durable.pending.map(|record| Pending {
                record,
                unconfirmed: BTreeSet::new(),
                cause: Cause::Planned("planned before the coordinator started again".into()),
            });
            world.phase = Phase::Recovering {
                alive: BTreeSet::new(),
                began: now,
                asked: now,
                awaited,
            };
        }
        world
    }

    /// The run was complete, by this manifest, before this coordinator started:
    /// the recorded members that are left hear of it, and nothing else happens.
    #[must_use]
    pub fn finished_by(self, manifest: Option<String>) -> World {
        World {
            finished: manifest,
            ..self
        }
    }

    /// What to do first: find the checkpoint to start from, or whom of the
    /// recorded members there still is.
    pub fn begin(&mut self) -> Vec<Command> {
        match &self.phase {
            Phase::Recovering { .. } => self.probe_recorded(),
            _ => self.find_start(),
        }
        std::mem::take(&mut self.out)
    }

    /// The one entry point.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        self.now = now;
        let routine = event.is_routine();
        if !routine {
            self.unsettle();
        }
        match event {
            Event::Hello {
                worker,
                member,
                name,
                holdings,
                trains_on,
                shadow,
            } => {
                self.trains_on = self.trains_on.max(trains_on);
                self.hello(now, (worker, shadow), member, name, holdings);
            }
            Event::From(worker, message) => self.message(now, worker, message),
            Event::SessionBroken(worker) => self.session_broken(now, worker),
            Event::Probed(worker, probe) => self.probed(now, worker, probe),
            Event::Start { manifest, round } => self.start_point(now, manifest, round),
            Event::Drifted(worker, drift) => self.drifted(now, worker, drift),
            Event::Agreed(worker, agreed) => self.agreed(now, worker, &agreed),
            Event::Holds(worker, round, chain) => self.holds(now, worker, round, chain),
            Event::Stop => self.stop(now),
            Event::Tick => self.tick(now),
        }
        if !routine || !self.out.is_empty() {
            self.settled = false;
            self.name_idle();
        }
        std::mem::take(&mut self.out)
    }

    /// What was found out before may hold no longer.
    fn unsettle(&mut self) {
        self.settled = false;
        if let Phase::Preparing(p) = &mut self.phase {
            p.missing.clear();
        }
    }

    fn message(&mut self, now: Duration, worker: WorkerId, message: FromWorker) {
        if !self.pool.contains_key(&worker) {
            return; // the last words of a session that has been given up
        }
        self.heard(now, worker);
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
                awaits,
            } => {
                if let Some(node) = self.pool.get_mut(&worker) {
                    if counters.micro_batches > node.counters.micro_batches {
                        node.worked = now;
                    }
                    node.speed.learn(&counters);
                    node.counters = counters;
                    node.awaits = awaits;
                }
                self.progress(now, worker, generation, round);
            }
            FromWorker::Ready {
                generation,
                round,
                source,
            } => {
                self.ready(now, worker, generation, Approach::Ready { source, round });
            }
            FromWorker::NeedCheckpoint { round } => self.need_checkpoint(now, worker, round),
            FromWorker::Ack { generation } => self.acknowledged(worker, generation),
            FromWorker::Drain { reason } => self.drain(now, worker, reason),
            FromWorker::PeerLost {
                peer,
                generation,
                garbled,
            } => {
                if garbled {
                    self.note_garbled(now, worker, peer);
                }
                self.accuse(now, worker, peer, generation);
            }
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

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        self.out.push(Command::Send(worker, message));
    }

    fn note(&mut self, note: Note) {
        self.out.push(Command::Note(note));
    }

    fn note_joined(&mut self, worker: WorkerId, generation: Generation) {
        let name = self.name_of(worker);
        self.note(Note::Joined {
            worker,
            name,
            generation,
        });
    }

    fn persist(&mut self) {
        let durable = Durable {
            number: self.number,
            current: self.current.clone(),
            pending: self.pending.as_ref().map(|p| p.record.clone()),
            trains_on: self.trains_on,
            go_back: self.go_back,
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
}
