//! The one thread that owns a worker's part of the protocol: everything that
//! happens comes in as an [`Input`], the machine decides, the rim acts.
//!
//! | what | where |
//! |---|---|
//! | inputs and commands | this file |
//! | frames in and out | `frames.rs` |
//! | values of a round | `rounds.rs` |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Ended;
use super::engine::{Answer, Ask, Done, Engine};
use super::inject::{Faults, Point};
use super::ledger::Ledger;
use super::peers::{Peers, Up};
use super::rounds::{Rounds, bucket_counts};
use super::saver::Saved;
use super::session::{Said, Session};
use super::sums::PackedSum;
use super::trailer::{Shape, StateDigest};
use crate::collective::{ConnectionKind, Frame, Link, PeerEvent, Side};
use crate::exact::MicroBatchSet;
use crate::job::Kind;
use crate::strategy::Stop;
use crate::wire::Record;
use crate::world::member::{Command, Event, Member, SumSource, Task};
use crate::world::message::{FromWorker, ReleaseReason, ToWorker, WorkerCounters};
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
    /// Leave at a round boundary; why.
    Drain(String),
    /// Leave now.
    Quit,
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
    failed: Option<String>,
    told: Instant,
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
            failed: None,
            told: Instant::now(),
            draining: false,
            ended: None,
            train,
        }
    }

    /// Runs until the worker is let go, leaves, or can't go on.
    pub(super) fn run(mut self, inbox: &Receiver<Input>) -> Ended {
        loop {
            let wait = TOLD_EVERY.saturating_sub(self.told.elapsed());
            match inbox.recv_timeout(wait.max(Duration::from_millis(1))) {
                Ok(input) => self.input(input),
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

    fn input(&mut self, input: Input) {
        match input {
            Input::Session(said) => self.said(said),
            Input::Peer(event) => self.peer(event),
            Input::Engine(answer) => self.answered(answer),
            Input::Saved(saved) => self.saved(saved),
            Input::Drain(reason) => {
                if !std::mem::replace(&mut self.draining, true) {
                    self.event(Event::Drain { reason });
                }
            }
            Input::Quit => self.ended = Some(Ended::Quit),
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
        if self.position() != before {
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
                self.send_records();
            }
            Said::Message(message) => self.told(message),
            Said::Ended(ended) => self.ended = Some(ended),
        }
    }

    fn told(&mut self, message: ToWorker) {
        if matches!(message, ToWorker::Prepare { .. }) {
            self.faults.reached(Point::Prepare, &self.kind);
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
                    Up::Exchange | Up::Subscriber | Up::Unwanted => {}
                }
            }
            PeerEvent::Frame { link, frame } => self.frame(link, frame),
            PeerEvent::Lost { link, reason } => {
                if reason.is_violation() {
                    tracing::warn!(peer = %link.peer, %reason, "connection closed");
                }
                let lost = self.peers.lost(link);
                self.link_lost(link.peer, lost, reason.to_string());
            }
            PeerEvent::DialFailed { peer, kind, error } => {
                if kind != ConnectionKind::Control {
                    let lost = self.peers.dial_failed(peer, kind);
                    self.link_lost(peer, lost, error.to_string());
                }
            }
        }
    }

    fn link_lost(&mut self, peer: WorkerId, lost: Up, why: String) {
        match lost {
            Up::Exchange => self.event(Event::PeerLost(peer)),
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

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Restored {
                task,
                round,
                next,
                kind,
            } => {
                self.kept = None;
                self.kind = kind;
                self.event(Event::Restored { task, round, next });
            }
            Answer::Computed { task, partial } => {
                self.rounds.partial = partial;
                if self.computing.take() == Some(task) {
                    let held: Vec<u32> = self.rounds.partial.totals.contributed.iter().collect();
                    self.counters.micro_batches +=
                        u64::from((held.len() as u32).saturating_sub(self.counted));
                    self.event(Event::Computed { task, held });
                }
            }
            Answer::Applied { task, sum, done } => self.applied(task, sum, *done),
            Answer::Failed(error) => {
                let message = error.to_string();
                if error.is_the_jobs() {
                    self.session.tell(FromWorker::JobFailed {
                        error: message.clone(),
                    });
                } else {
                    self.session.tell(FromWorker::Bye {
                        reason: message.clone(),
                    });
                }
                self.ended = Some(Ended::Failed(message));
            }
        }
    }

    fn applied(&mut self, task: Task, sum: Vec<i64>, done: Done) {
        if let Some(round) = self.member.round() {
            let at = (self.me, self.member.installed(), round);
            let member = self.member.record().is_some_and(|r| r.has(self.me));
            self.ledger.applied(at, member, &self.kind, &self.applying);
            self.kept = match (self.coming.take(), self.alone.take()) {
                (Some(kept), _) => Some(kept),
                (None, Some(totals)) if self.member.has_subscribers() => {
                    Some(Arc::new(Rounds::pack_all(round.0, &sum, totals)))
                }
                _ => None,
            };
        }
        self.rounds.give_back(sum);
        self.counters.steps += u64::from(done.trained);
        self.digest = done.digest.or(self.digest);
        self.kind = done.kind;
        self.running = Some(done.running);
        self.failed = done.failed;
        for record in done.records {
            if self.records.len() == RECORDS_KEPT {
                self.records.pop_front();
            }
            self.records.push_back(record);
            self.unsent = (self.unsent + 1).min(RECORDS_KEPT);
        }
        self.event(Event::Applied {
            task,
            next: done.next,
            checkpoint: done.checkpoint,
        });
        self.send_records();
        if self.faults.take_drain() {
            self.input(Input::Drain("a planned fault".into()));
        }
    }

    fn saved(&mut self, saved: Saved) {
        let Saved {
            round,
            last,
            outcome,
        } = saved;
        match outcome {
            Ok(manifest) => self.session.tell(FromWorker::Committed {
                manifest,
                round,
                last,
            }),
            Err(error) => {
                tracing::warn!(%round, %error, "a checkpoint could not be written");
                self.session.tell(FromWorker::SaveFailed { round, error });
                if last {
                    // Nobody else will try while we live: the end waits for it.
                    self.save(true);
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Tell(FromWorker::Progress { .. }) => self.tell_progress(),
            Command::Tell(message) => self.session.tell(message),
            Command::Restore { task, manifest } => self.engine.ask(Ask::Restore { task, manifest }),
            Command::Compute {
                task,
                round,
                micro_batches,
                fresh,
            } => {
                self.compute(task, round, micro_batches, fresh);
            }
            Command::StopCompute => self.stop.stop(),
            Command::Contribute { round, vote } => self.contribute(round, vote),
            Command::Broadcast { bucket } => self.broadcast(bucket),
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
            Command::Unfollow => self.peers.unfollow(),
            Command::Save { last } => self.save(last),
            Command::Exit(reason) => self.exit(reason),
        }
    }

    fn compute(&mut self, task: Task, round: Round, micro_batches: Vec<u32>, fresh: bool) {
        self.stop = Stop::new();
        self.computing = Some(task);
        let owners = self.member.record().map_or(1, |r| r.members.len());
        self.rounds.begin(round.0, self.shape().values, owners);
        let partial = std::mem::take(&mut self.rounds.partial);
        self.counted = if fresh {
            0
        } else {
            partial.totals.contributed.len() as u32
        };
        let stop = self.stop.clone();
        self.engine.ask(Ask::Compute {
            task,
            micro_batches,
            fresh,
            partial,
            stop,
        });
    }

    fn apply(&mut self, task: Task, round: Round, source: SumSource) {
        let taken = match source {
            SumSource::Partial => {
                let (sum, totals) = self.rounds.take_partial();
                self.alone = Some(totals.clone());
                Ok((sum, totals))
            }
            SumSource::Exchange => {
                let (sum, totals, kept) = self.rounds.take_exchanged();
                self.coming = Some(kept);
                Ok((sum, totals))
            }
            SumSource::Fetched => {
                self.counters.sums_fetched += 1;
                self.unpack(self.fetched.clone())
            }
            SumSource::Streamed => {
                self.streamed = self.streamed.split_off(&round.0);
                let sum = self.streamed.remove(&round.0);
                self.unpack(sum)
            }
        };
        match taken {
            Ok((sum, totals)) => {
                if self.ledger.is_kept() {
                    self.applying = totals.contributed.clone();
                }
                self.engine.ask(Ask::Apply {
                    task,
                    sum,
                    totals: Box::new(totals),
                });
            }
            Err(problem) => {
                self.session.tell(FromWorker::Bye {
                    reason: problem.clone(),
                });
                self.ended = Some(Ended::Broken(problem));
            }
        }
    }

    fn unpack(
        &mut self,
        sum: Option<PackedSum>,
    ) -> Result<(Vec<i64>, crate::exact::Totals), String> {
        let sum = sum.ok_or("a sum that was at hand is gone")?;
        let micro_batches = self.member.micro_batches();
        let unpacked = self.rounds.unpack(&sum, self.shape(), micro_batches);
        let unpacked = unpacked.map_err(|e| e.to_string())?;
        self.coming = Some(Arc::new(sum));
        Ok(unpacked)
    }

    fn save(&mut self, last: bool) {
        if let (true, Some(error)) = (last, self.failed.clone()) {
            return self.session.tell(FromWorker::JobFailed { error });
        }
        let generation = self.member.installed();
        self.engine.ask(Ask::Save {
            last,
            generation,
            counters: serde_json::Value::Null,
        });
    }

    /// Members hold different states: nothing that this run computes can be
    /// trusted any more.
    pub(super) fn drifted(&mut self, round: u64) {
        let error = format!(
            "the members' states differ after round {round}: this must never be; \
             resume from a checkpoint before it and report the fault"
        );
        tracing::error!(%error);
        self.session.tell(FromWorker::JobFailed {
            error: error.clone(),
        });
        self.ended = Some(Ended::Failed(error));
    }

    fn exit(&mut self, reason: ReleaseReason) {
        self.tell_progress(); // our counters, to the end
        let bye = FromWorker::Bye {
            reason: format!("{reason:?}"),
        };
        self.session.tell(bye);
        self.ended = Some(Ended::Released(reason));
    }

    pub(super) fn forget_streamed(&mut self) {
        self.streamed.clear();
        self.arriving = None;
        self.streamed_next = None;
    }

    /// Of the sum of the round at hand.
    pub(super) fn shape(&self) -> Shape {
        match self.kind {
            Kind::Train { .. } => self.train,
            Kind::Evaluate { .. } | Kind::End(_) => self.train.of_evaluation(),
        }
    }

    /// Whether another streamed sum may be kept for later.
    pub(super) fn may_hold_streamed(&self) -> bool {
        self.streamed
            .values()
            .map(PackedSum::byte_len)
            .sum::<usize>()
            < STREAMED_BYTES_MAX
    }

    fn is_first(&self) -> bool {
        self.member
            .record()
            .is_some_and(|r| r.rank(self.me) == Some(0))
    }

    fn tell_progress(&mut self) {
        self.told = Instant::now();
        if let Some(round) = self.member.round() {
            let generation = self.member.installed();
            let counters = self.counters;
            self.session.tell(FromWorker::Progress {
                generation,
                round,
                counters,
            });
        }
        if self.is_first()
            && let Some(running) = self.running.take()
        {
            self.session.records(std::iter::once(&running));
        }
        self.send_records();
    }

    /// The first member tells what was decided; a new one tells again what the
    /// one before it may have taken along.
    fn send_records(&mut self) {
        let first = self.is_first();
        if first && !std::mem::replace(&mut self.was_first, first) {
            self.unsent = self.records.len();
        }
        self.was_first = first;
        if first && self.unsent > 0 {
            let from = self.records.len() - self.unsent;
            self.session.records(self.records.iter().skip(from));
            self.unsent = 0;
        }
    }
}
