//! A worker's side: what it may accept, compute, send and apply right now.
//!
//! ```text
//!            Restore            Follow, caught up, Propose + votes
//!   (empty) ────────▶ at round n ───────────────────────────▶ member
//!                        ▲                                      │
//!                        └────────── Install without it ────────┘
//!
//!   member, round n:  Computing ─▶ Exchanging ─▶ Applying ─▶ round n + 1
//!   Prepare(g'):      whatever computes or applies comes to rest, Report,
//!                     and nothing moves until Install(g')
//! ```
//!
//! The machine knows which pieces of a sum have arrived, never their values:
//! the rim asks [`Member::admit`] about every frame, adds the values it was
//! told to take, and then reports the fact as an event.
//!
//! One file a concern: `event` (what can happen, what is to be done), `round`
//! (compute, contribute, apply), `exchange` (a round's reduce-scatter and all-gather),
//! `follow` (subscribing and catching up), `reconcile` (Prepare, Install).

mod event;
mod exchange;
mod follow;
mod reconcile;
mod round;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{Command, Event, Next, SumSource, Task};
pub use exchange::{Exchange, Violation};
use follow::Follow;

use super::message::{FromWorker, Holdings, ToWorker};
use super::{Generation, GenerationRecord, Origin, Round, WorkerId};

/// Whether a frame may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Take it now.
    Now,
    /// It is of a generation or round that we haven't reached: keep it.
    Hold,
    /// It is of the past: forget it.
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing, or waiting for frames or messages.
    Idle,
    /// A Restore of that generation, or a follower's own if there is none.
    Restoring(Task, Option<Generation>),
    Computing(Task),
    Applying(Task, SumSource),
}

/// The worker's part of the membership protocol. See the module's diagram.
pub struct Member {
    id: WorkerId,
    /// The generation we are in; not necessarily as a member.
    record: Option<GenerationRecord>,
    /// Nothing below this is accepted. Above our generation: we are fenced.
    fence: Generation,
    /// Rounds applied; `None` without a state.
    round: Option<Round>,
    next: Next,
    work: Work,
    task: Task,
    /// Micro-batches of round `round` in the partial sum.
    held: Vec<u32>,
    has_last_sum: bool,
    /// The Prepare that is not answered yet.
    report_due: Option<Generation>,
    /// Between a Prepare and its Install: nothing is applied or entered.
    fenced: bool,
    proposal: Option<GenerationRecord>,
    exchange: Option<Exchange>,
    votes: BTreeMap<Generation, u32>,
    follow: Option<Follow>,
    subscribers: BTreeSet<WorkerId>,
    leaving: Option<String>,
    buckets: BucketCounts,
    out: Vec<Command>,
}

/// Into how many buckets a vector of so many values is cut for each of so many
/// owners.
pub type BucketCounts = std::sync::Arc<dyn Fn(u64, usize) -> Vec<u32> + Send + Sync>;

impl Member {
    /// A worker without a state. `buckets` tells how a vector is cut among
    /// the members.
    pub fn new(id: WorkerId, buckets: BucketCounts) -> Member {
        Member {
            id,
            record: None,
            fence: Generation::NONE,
            round: None,
            next: Next::End,
            work: Work::Idle,
            task: 0,
            held: Vec::new(),
            has_last_sum: false,
            report_due: None,
            fenced: false,
            proposal: None,
            exchange: None,
            votes: BTreeMap::new(),
            follow: None,
            subscribers: BTreeSet::new(),
            leaving: None,
            buckets,
            out: Vec::new(),
        }
    }

    /// The one entry point. A violation is the fault of whoever sent the frame
    /// that the event stands for; the state is as before.
    pub fn handle(&mut self, event: Event) -> Result<Vec<Command>, Violation> {
        match event {
            Event::Control(message) => self.control(message),
            Event::Restored { task, round, next } => self.restored(task, round, next),
            Event::CheckpointGone { task } => self.checkpoint_gone(task),
            Event::Computed { task, held } => self.computed(task, held),
            Event::Contributed { from, bucket } => self.contributed(from, bucket)?,
            Event::TrailerContributed { from } => self.trailer_contributed(from)?,
            Event::Reduced { from, bucket } => self.reduced(from, bucket)?,
            Event::TrailerReduced { votes } => self.trailer_reduced(votes)?,
            Event::Applied {
                task,
                next,
                checkpoint,
            } => self.applied(task, next, checkpoint),
            Event::Subscribe(worker) => self.subscribe(worker),
            Event::Unsubscribed(worker) => {
                self.subscribers.remove(&worker);
            }
            Event::Subscribed {
                from,
                first,
                record,
            } => self.subscribed(from, first, record),
            Event::Streamed {
                from,
                round,
                record,
            } => self.streamed(from, round, record),
            Event::Fetch {
                from,
                generation,
                round,
            } => {
                self.out.push(Command::ServeFetch {
                    to: from,
                    generation,
                    round,
                });
            }
            Event::Fetched { generation, round } => self.fetched(generation, round),
            Event::PeerLost(peer) => self.peer_lost(peer, false),
            Event::PeerGarbled(peer) => self.peer_lost(peer, true),
            Event::SourceLost { from, error } => self.source_lost(from, error),
            Event::Drain { reason } => self.drain(reason),
        }
        Ok(std::mem::take(&mut self.out))
    }

    /// Whether an exchange frame of this generation and round may be taken.
    pub fn admit(
        &self,
        from: WorkerId,
        generation: Generation,
        round: Round,
    ) -> Result<Admit, Violation> {
        let installed = self.installed();
        if generation < self.fence || generation < installed {
            return Ok(Admit::Drop);
        }
        if generation > installed {
            return Ok(Admit::Hold);
        }
        let Some(n) = self.round else {
            return Ok(Admit::Hold);
        };
        if round < n {
            Ok(Admit::Drop)
        } else if round == n && self.exchange.is_some() {
            Ok(Admit::Now)
        } else if round == n || round == n.next() {
            Ok(Admit::Hold)
        } else {
            Err(Violation::TooFarAhead { from, round })
        }
    }

    /// Whether a request for the last sum may be answered.
    pub fn admit_fetch(&self, generation: Generation) -> Admit {
        if generation < self.fence || generation < self.installed() {
            Admit::Drop
        } else if generation > self.installed() {
            Admit::Hold
        } else {
            Admit::Now
        }
    }

    /// The exchange of the round at hand.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_ref()
    }

    /// The generation we are in.
    pub fn record(&self) -> Option<&GenerationRecord> {
        self.record.as_ref()
    }

    /// Rounds applied.
    pub fn round(&self) -> Option<Round> {
        self.round
    }

    /// The micro-batches that a member contributes to the round at hand.
    pub fn share_of(&self, worker: WorkerId) -> Vec<u32> {
        match (&self.record, self.round) {
            (Some(record), Some(round)) => record.share(worker, round, self.micro_batches()),
            _ => Vec::new(),
        }
    }

    /// How many the round at hand has.
    pub fn micro_batches(&self) -> u32 {
        self.next.micro_batches()
    }

    /// Whether the coordinator waits for this state: only a follower may do with
    /// another one.
    pub fn must_restore(&self, task: Task) -> bool {
        matches!(self.work, Work::Restoring(t, Some(_)) if t == task) && self.follow.is_none()
    }

    /// Whether anybody is to be streamed to.
    pub fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Whether the sum of a round that we train alone is kept: somebody follows,
    /// or comes with the next world and may lack it.
    pub fn keeps_sums_of_its_own(&self) -> bool {
        self.has_subscribers() || self.proposal.is_some()
    }

    /// Whether we write the checkpoints and tell what was decided, as far as we
    /// know.
    pub fn writes(&self) -> bool {
        let by_record = || {
            self.record
                .as_ref()
                .is_some_and(|r| r.is_written_by(self.id))
        };
        self.follow.as_ref().map_or_else(by_record, Follow::writes)
    }

    /// What a Hello or Report says.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            installed: self.installed(),
            fence: self.fence,
            round: self.round,
            has_last_sum: self.has_last_sum,
            held: self.held.clone(),
            micro_batches: self.next.micro_batches(),
            leaving: self.leaving.clone(),
        }
    }

    /// The number of the generation we are in.
    pub fn installed(&self) -> Generation {
        self.record
            .as_ref()
            .map_or(Generation::NONE, |r| r.generation)
    }

    fn is_member(&self) -> bool {
        self.record.as_ref().is_some_and(|r| r.has(self.id))
    }

    fn tell(&mut self, message: FromWorker) {
        self.out.push(Command::Tell(message));
    }

    fn new_task(&mut self) -> Task {
        self.task += 1;
        self.task
    }

    fn control(&mut self, message: ToWorker) {
        match message {
            ToWorker::Restore {
                generation,
                manifest,
            } => self.restore(generation, manifest),
            ToWorker::Follow { source, address } => self.start_following(source, address),
            ToWorker::RestoreFrom { manifest } => self.restore_from(manifest),
            ToWorker::Prepare { generation } => self.prepare(generation),
            ToWorker::Install(record) => self.install(record),
            ToWorker::Propose(record) => self.propose(record),
            ToWorker::Save => {
                if self.round.is_some() && !matches!(self.work, Work::Restoring(..)) {
                    self.out.push(Command::Save { last: false });
                }
            }
            ToWorker::Release(reason) => self.out.push(Command::Exit(reason)),
        }
    }

    fn propose(&mut self, record: GenerationRecord) {
        let from = Origin::Planned {
            from: self.installed(),
        };
        let newcomer = record.has(self.id) && !self.is_member();
        if record.generation <= self.fence || !(newcomer || record.origin == from) {
            return;
        }
        if newcomer {
            self.out.push(Command::Connect(record.clone()));
            self.tell(FromWorker::Ack {
                generation: record.generation,
            });
        }
        self.proposal = Some(record);
    }

    fn tell_progress(&mut self) {
        if let Some(round) = self.round {
            let generation = self.installed();
            self.tell(FromWorker::Progress {
                generation,
                round,
                counters: Default::default(),
                awaits: Vec::new(),
            });
        }
    }

    fn drain(&mut self, reason: String) {
        self.leaving = Some(reason.clone());
        self.tell(FromWorker::Drain { reason });
    }

    fn peer_lost(&mut self, peer: WorkerId, garbled: bool) {
        let generation = self.installed();
        let needed = |r: &GenerationRecord, worker: WorkerId| {
            r.has(worker) || r.source.as_ref().is_some_and(|source| source.id == worker)
        };
        if self
            .record
            .as_ref()
            .is_some_and(|r| needed(r, self.id) && needed(r, peer))
        {
            self.tell(FromWorker::PeerLost {
                peer,
                generation,
                garbled,
            });
        }
    }
}
