//! The one thread that owns a worker's part of the protocol: everything that
//! happens comes in as an [`Input`], the machine decides, the rim acts.
//!
//! | what | where |
//! |---|---|
//! | inputs and commands | this file |
//! | what the engine does and did | `work.rs` |
//! | what the coordinator hears | `telling.rs` |
//! | frames in and out: exchange, fetch, stream | `frames/` |
//! | values of a round | `../rounds.rs` |

mod frames;
mod telling;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Ended;
use super::engine::{Answer, Ask, Engine};
use super::fault::{Fault, words_of};
use super::inject::{Faults, Point};
use super::ledger::Ledger;
use super::peers::{Peers, Up};
use super::repeats::Repeats;
use super::rounds::{Rounds, bucket_counts};
use super::saver::Saved;
use super::session::{Said, Session};
use super::steps::StepLog;
use super::sums::PackedSum;
use super::trailer::{Shape, StateDigest, Written};
use super::uploads::Uploads;
use crate::collective::{Frame, Link, PeerEvent, Side};
use crate::exact::MicroBatchSet;
use crate::job::Kind;
use crate::strategy::Stop;
use crate::wire::Record;
use crate::world::member::{Command, Event, Member, Task};
use crate::world::membership::Drift;
use crate::world::message::{FromWorker, ToWorker, WorkerCounters};
use crate::world::{Generation, Round, WorkerId};

/// How often progress is told without another reason.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Records that are told again by the next first member.
const RECORDS_KEPT: usize = 256;
/// Bytes of streamed sums that a follower holds before it starts over.
const STREAMED_BYTES_MAX: usize = 1 << 30;

/// Everything that reaches the driver.
pub(super) enum Input {
    Session(Said),
    Peer(PeerEvent),
    Engine(Answer),
    Saved(Saved),
    /// Shards of ours are in the store, of a checkpoint that another commits.
    Written(Vec<Written>),
    /// Leave at a round boundary; why.
    Drain(String),
}

impl From<Answer> for Input {
    fn from(answer: Answer) -> Input {
        Input::Engine(answer)
    }
}

/// A frame that came too early, and where from.
pub(super) struct HeldFrame {
    pub link: Link,
    pub frame: Frame,
}

/// The driver's state: the machine and what the rim keeps for it.
pub(super) struct Driver {
    pub(super) me: WorkerId,
    pub(super) member: Member,
    pub(super) rounds: Rounds,
    pub(super) peers: Peers,
    pub(super) faults: Faults,
    engine: Engine,
    session: Session,
    /// Of a training step's sum.
    train: Shape,
    /// The last complete sum, for those who lack it.
    pub(super) kept: Option<Arc<PackedSum>>,
    /// The sum that is being applied, to be kept afterwards.
    coming: Option<Arc<PackedSum>>,
    /// Sums from our source, by round.
    pub(super) streamed: BTreeMap<u64, PackedSum>,
    pub(super) arriving: Option<PackedSum>,
    /// The round whose sum our source has to send next.
    pub(super) streamed_next: Option<u64>,
    pub(super) fetched: Option<PackedSum>,
    pub(super) held: VecDeque<HeldFrame>,
    stop: Stop,
    computing: Option<Task>,
    /// What the next contribution says about our state.
    pub(super) digest: Option<StateDigest>,
    /// Which shards we have written, for whoever commits them.
    pub(super) uploads: Uploads,
    /// The newest round after which all members were found to hold the same.
    pub(super) agreed: u64,
    /// What we contributed since.
    pub(super) repeats: Repeats,
    /// Members' states differ, and we haven't been sent back yet.
    drift: Option<Drift>,
    /// Totals of the only member's sum while it is applied.
    alone: Option<crate::exact::Totals>,
    /// What the sum that is being applied is made of, for the ledger.
    applying: MicroBatchSet,
    ledger: Ledger,
    counters: WorkerCounters,
    counted: u32,
    /// What the next round is; as the course says.
    pub(super) kind: Kind,
    records: VecDeque<Record>,
    unsent: usize,
    was_first: bool,
    running: Option<Record>,
    steps: StepLog,
    /// When the round before was applied.
    applied_at: Option<Instant>,
    failed: Option<String>,
    told: Instant,
    /// A shadow times how long it takes to apply a sum.
    shadow: bool,
    applies_since: Instant,
    draining: bool,
    ended: Option<Ended>,
}

impl Driver {
    pub(super) fn new(
        me: WorkerId,
        train: Shape,
        engine: Engine,
        session: Session,
        peers: Peers,
        faults: Faults,
    ) -> Driver {
        Driver {
            me,
            member: Member::new(me, Arc::new(bucket_counts)),
            rounds: Rounds::new(train.values),
            peers,
            faults,
            engine,
            session,
            kept: None,
            coming: None,
            streamed: BTreeMap::new(),
            arriving: None,
            streamed_next: None,
            fetched: None,
            held: VecDeque::new(),
            stop: Stop::new(),
            computing: None,
            digest: None,
            uploads: Uploads::default(),
            agreed: 0,
            repeats: Repeats::default(),
            drift: None,
            alone: None,
            applying: MicroBatchSet::new(),
            ledger: Ledger::from_env(),
            counters: WorkerCounters::default(),
            counted: 0,
            kind: Kind::Train { step: 0, epoch: 0 },
            records: VecDeque::new(),
            unsent: 0,
            was_first: false,
            running: None,
            steps: StepLog::default(),
            applied_at: None,
            failed: None,
            told: Instant::now(),
            shadow: false,
            applies_since: Instant::now(),
            draining: false,
            ended: None,
            train,
        }
    }

    /// It is a shadow, or isn't.
    pub(super) fn with_shadow(self, shadow: bool) -> Driver {
        Driver { shadow, ..self }
    }

    /// Runs until the worker is let go, leaves, or can't go on.
    pub(super) fn run(mut self, inbox: &Receiver<Input>) -> Ended {
        loop {
            let wait = TOLD_EVERY.saturating_sub(self.told.elapsed());
            match inbox.recv_timeout(wait.max(Duration::from_millis(1))) {
                Ok(input) => self.input_or_crash(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ended::Broken("all of the worker's threads have ended".into());
                }
            }
            if self.told.elapsed() >= TOLD_EVERY {
                self.tell_progress();
            }
            if let Some(ended) = self.ended.take() {
                return ended;
            }
        }
    }

    /// A panic of ours is told like any other crash: it may come again.
    fn input_or_crash(&mut self, input: Input) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.input(input))) {
            let error = format!(
                "the worker panicked, which is a fault of ours: {}",
                words_of(&*panic)
            );
            self.give_up(Fault::Ours, error);
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Session(said) => self.said(said),
            Input::Peer(event) => self.peer(event),
            Input::Engine(answer) => self.answered(answer),
            Input::Saved(saved) => self.saved(saved),
            Input::Written(written) => self.uploads.add(written),
            Input::Drain(reason) => {
                if !std::mem::replace(&mut self.draining, true) {
                    self.event(Event::Drain { reason });
                }
            }
        }
    }

    /// Hands an event to the machine and carries out what it decides.
    pub(super) fn event(&mut self, event: Event) {
        let before = self.position();
        match self.member.handle(event) {
            Ok(commands) => commands
                .into_iter()
                .for_each(|command| self.command(command)),
            Err(violation) => tracing::warn!(%violation, "ignored"),
        }
        let now = self.position();
        if now.0 != before.0 {
            let members = self.member.record().map(|r| r.members.iter());
            let members = members.into_iter().flatten().map(|m| m.id);
            self.engine.members_are(members.collect());
        }
        if now != before {
            self.offer_held();
        }
    }

    fn position(&self) -> (Generation, Option<Round>, bool) {
        (
            self.member.installed(),
            self.member.round(),
            self.member.exchange().is_some(),
        )
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Opened => {
                let holdings = self.member.holdings();
                self.session.hello(&holdings);
                self.unsent = self.records.len();
                self.steps.tell_again();
                self.send_records();
            }
            Said::Message(message) => self.told(message),
            Said::Ended(ended) => self.ended = Some(ended),
        }
    }

    fn told(&mut self, message: ToWorker) {
        if matches!(message, ToWorker::Prepare { .. }) {
            self.faults.reached(Point::Prepare, &self.kind);
            self.tell_drift();
        }
        let proposed = matches!(message, ToWorker::Propose(_));
        self.event(Event::Control(message));
        if proposed {
            self.faults.reached(Point::Proposed, &self.kind);
        }
    }

    fn peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Connected { link, peer, side } => {
                let dialled = side == Side::Dialled;
                match self.peers.connected(link, peer.generation, dialled) {
                    Up::Source => self.subscribe(),
                    // What was sent on the old one may be lost.
                    Up::Replaced => self.event(Event::PeerLost(link.peer)),
                    // It subscribes anew, and is sent nothing before that.
                    Up::Subscriber => self.event(Event::Unsubscribed(link.peer)),
                    Up::Exchange | Up::Unwanted => {}
                }
            }
            PeerEvent::Frame { link, frame } => self.frame(link, frame),
            PeerEvent::Lost { link, reason } => {
                let garbled = reason.is_violation();
                if garbled {
                    tracing::warn!(peer = %link.peer, %reason, "connection closed");
                    self.counters.damaged_frames += 1;
                }
                match self.peers.lost(link) {
                    Up::Exchange if garbled => self.event(Event::PeerGarbled(link.peer)),
                    lost => self.link_lost(link.peer, lost, reason.to_string()),
                }
            }
            PeerEvent::DialFailed { peer, kind, error } => {
                if kind.carries_frames() {
                    let lost = self.peers.dial_failed(peer, kind);
                    self.link_lost(peer, lost, error.to_string());
                }
            }
        }
    }

    fn link_lost(&mut self, peer: WorkerId, lost: Up, why: String) {
        match lost {
            Up::Exchange | Up::Replaced => self.event(Event::PeerLost(peer)),
            Up::Subscriber => self.event(Event::Unsubscribed(peer)),
            Up::Source => {
                self.forget_streamed();
                self.event(Event::SourceLost {
                    from: peer,
                    error: why,
                });
            }
            Up::Unwanted => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Tell(FromWorker::Progress { .. }) => self.tell_progress(),
            Command::Tell(message) => self.session.tell(message),
            Command::Restore { task, manifest } => {
                if self.member.must_restore(task) {
                    // The coordinator may know, and we not, that it had drifted.
                    self.engine.forget_saves();
                }
                self.engine.ask(Ask::Restore { task, manifest });
            }
            Command::Compute {
                task,
                round,
                micro_batches,
                fresh,
            } => {
                self.compute(task, round, micro_batches, fresh);
            }
            Command::StopCompute => {
                self.stop.stop();
                self.faults.interrupt();
            }
            Command::Contribute { round, vote } => self.contribute(round, vote),
            Command::Broadcast { round, bucket } => self.broadcast(round, bucket),
            Command::BroadcastTrailer => self.broadcast_trailer(),
            Command::Apply { task, round, sum } => self.apply(task, round, sum),
            Command::Stream { round, record, to } => self.stream(round, &record, &to),
            Command::AnswerSubscription { to, first, record } => {
                self.answer_subscription(to, first, &record);
            }
            Command::RefuseSubscription(worker) => self.peers.drop_subscriber(worker),
            Command::ServeFetch {
                to,
                generation,
                round,
            } => {
                self.serve_fetch(to, generation, round);
            }
            Command::Fetch { from, round } => self.fetch(from, round),
            Command::Connect(record) => self.peers.connect(&record),
            Command::Follow { source, address } => {
                self.forget_streamed();
                self.peers.follow(source, &address, self.member.installed());
            }
            Command::Unfollow => {
                self.forget_streamed();
                self.peers.unfollow();
            }
            Command::Save { last } => self.save(last),
            Command::SaveTogether { members } => self.save_together(members),
            Command::Exit(reason) => self.exit(reason),
        }
    }
}
