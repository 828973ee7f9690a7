//! A simulated worker: the machine, and around it what the rim does for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Planted;
use super::agenda::What;
use super::engine::{Answer, Engine, Job, Partial};
use super::env::Env;
use super::invariants;
use super::network::{Delivery, End, Frame, Kind, LinkId, Message, Node};
use super::store::Checkpoint;
use super::values::Sum;
use crate::world::member::{Command, Event, Member, SumSource};
use crate::world::message::{FromWorker, ReleaseReason, ToWorker};
use crate::world::{Generation, GenerationRecord, Round, WorkerId};

/// One worker process.
pub struct Process {
    pub id: WorkerId,
    pub member: Member,
    pub engine: Engine,
    pub session: Option<LinkId>,
    /// The one it had last, while it has none.
    lost_session: LinkId,
    /// So many times slower than the fastest node.
    pub slowness: u32,
    /// Snapshots on their way to the store, and whether their shards are there.
    pub uploads: VecDeque<(Checkpoint, bool)>,
    pub draining: bool,
    /// It follows for ever.
    pub shadow: bool,
    /// The coordinator's node that a shadow belongs to.
    pub home: Node,
    /// Told to go, and why.
    pub exited: Option<ReleaseReason>,
    /// It dies after so many more commands.
    pub fuse: Option<usize>,
    pub(super) exchange: BTreeMap<WorkerId, LinkId>,
    /// Frames for peers that haven't dialled us yet.
    pub(super) waiting: BTreeMap<WorkerId, Vec<Frame>>,
    pub(super) subscribers: BTreeMap<WorkerId, LinkId>,
    pub source: Option<(WorkerId, LinkId)>,
    pub(super) held: VecDeque<(WorkerId, Frame)>,
    pub(super) partial: Partial,
    pub(super) reduced: Vec<Sum>,
    pub(super) stored: BTreeMap<(WorkerId, u32), Sum>,
    pub(super) votes: BTreeMap<Generation, u32>,
    pub(super) kept: Option<(Round, Sum)>,
    /// The sum being applied is our own partial.
    alone: bool,
    pub(super) streamed: BTreeMap<Round, Sum>,
    pub(super) fetched: Option<Sum>,
    /// What each member contributed last, for a planted mistake.
    pub(super) parts: BTreeMap<WorkerId, Sum>,
    /// In which generation a frame was lost on a connection believed to be up,
    /// unless that was told.
    pub lost: BTreeMap<WorkerId, Generation>,
    /// Said while there was no session.
    backlog: Vec<FromWorker>,
}

/// So many buckets does a member own at most.
const BUCKETS: u32 = 2;

/// How many the member at this place owns: a short vector has none for some.
pub(super) fn buckets(rank: usize, members: usize) -> u32 {
    (rank + members) as u32 % (BUCKETS + 1)
}

impl Process {
    pub fn new(id: WorkerId, slowness: u32) -> Process {
        let counts = |_: u64, owners: usize| (0..owners).map(|k| buckets(k, owners)).collect();
        Process {
            id,
            member: Member::new(id, std::sync::Arc::new(counts)),
            engine: Engine::default(),
            session: None,
            lost_session: 0,
            slowness,
            uploads: VecDeque::new(),
            draining: false,
            shadow: false,
            home: 0,
            exited: None,
            fuse: None,
            exchange: BTreeMap::new(),
            waiting: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            source: None,
            held: VecDeque::new(),
            partial: Partial::default(),
            reduced: vec![Sum::default(); BUCKETS as usize],
            stored: BTreeMap::new(),
            votes: BTreeMap::new(),
            kept: None,
            alone: false,
            streamed: BTreeMap::new(),
            fetched: None,
            parts: BTreeMap::new(),
            lost: BTreeMap::new(),
            backlog: Vec::new(),
        }
    }

    /// Neither dead nor told to go.
    pub fn is_there(&self) -> bool {
        self.exited.is_none() && self.fuse != Some(0)
    }

    pub fn end(&self) -> End {
        End::Worker(self.id)
    }

    /// Tries to open a session; then it says what it holds, and what had to
    /// wait.
    pub fn open_session(&mut self, env: &mut Env) {
        if self.session.is_some() || self.exited.is_some() {
            return;
        }
        let coordinator = match self.shadow {
            true => End::Coordinator(self.home),
            false => env.resolve(),
        };
        let reached = env.net.reach_each_other(self.end(), coordinator, env.now);
        if !reached || !env.serves(coordinator) {
            let pause = env.between(Duration::from_millis(50), Duration::from_secs(1));
            return env.after(pause, What::OpenSession(self.id));
        }
        let link = env.dial(Kind::Control, self.end(), coordinator);
        self.session = Some(link);
        env.send(link, self.end(), Message::Hello(self.member.holdings()));
        for message in std::mem::take(&mut self.backlog) {
            self.tell(env, message);
        }
    }

    pub fn lose_session(&mut self, env: &mut Env) {
        if let Some(lost) = self.session.take() {
            if self.shadow {
                invariants::shadow_holds::is_gone(env);
            }
            self.lost_session = lost;
            env.after(env.weather.reconnect, What::GiveUp(self.id, lost));
            env.after(Duration::from_millis(50), What::OpenSession(self.id));
        }
    }

    /// No session for as long as the operator allows: it ends.
    pub fn give_up(&mut self, env: &mut Env, lost: LinkId) {
        if self.session.is_none() && self.lost_session == lost && self.exited.is_none() {
            env.count("gave up the coordinator");
            self.fuse = Some(0);
        }
    }

    pub fn tell(&mut self, env: &mut Env, message: FromWorker) {
        self.check_holdings(env);
        if let FromWorker::PeerLost { peer, .. } = &message {
            self.lost.remove(peer);
        }
        let lasting = matches!(
            message,
            FromWorker::Committed { .. } | FromWorker::SaveFailed { .. } | FromWorker::Drain { .. }
        );
        match self.session {
            Some(link) => {
                env.send(link, self.end(), Message::FromWorker(message));
            }
            None if lasting => self.backlog.push(message),
            None => {}
        }
    }

    pub fn tell_progress(&mut self, env: &mut Env) {
        if let Some(round) = self.member.round() {
            let generation = self.member.installed();
            let counters = self.engine.counters;
            let exchange = self.member.exchange();
            let done = !self.engine.is_computing();
            let awaits = exchange.filter(|_| done).map(|x| x.awaits());
            self.tell(
                env,
                FromWorker::Progress {
                    generation,
                    round,
                    counters,
                    awaits: awaits.unwrap_or_default(),
                },
            );
        }
    }

    /// What the machine says about its sums is true of the rim's.
    fn check_holdings(&self, env: &mut Env) {
        let holdings = self.member.holdings();
        if holdings.has_last_sum && self.kept.map(|(round, _)| round.next()) != holdings.round {
            env.broken(format!("{:?} says it holds a sum that it lacks", self.id));
        }
    }

    /// Something comes over a connection, or the connection is gone.
    pub fn deliver(&mut self, env: &mut Env, link: LinkId, from: End, what: (Kind, Delivery)) {
        match (what, from) {
            ((Kind::Control, Delivery::Lost), _) if self.session == Some(link) => {
                self.lose_session(env);
            }
            ((Kind::Control, Delivery::Lost), _) => {}
            ((Kind::Control, Delivery::Message(Message::ToWorker(message))), from) => {
                let before = invariants::one_leads::before(env, self, from);
                self.control(env, message);
                invariants::one_leads::follows(env, self, before);
            }
            ((_, Delivery::Lost), End::Worker(peer)) => self.link_lost(env, link, peer),
            ((_, Delivery::Message(message)), End::Worker(peer)) => {
                self.peer_message(env, link, peer, message);
            }
            _ => env.broken("a message from nowhere".into()),
        }
    }

    fn control(&mut self, env: &mut Env, message: ToWorker) {
        env.log(|| format!("{:?} is told {message:?}", self.id));
        if let Some(message) = self.mishear(env, message) {
            self.event(env, Event::Control(message));
        }
    }

    pub(super) fn link_lost(&mut self, env: &mut Env, link: LinkId, peer: WorkerId) {
        env.log(|| format!("{:?} loses a connection with {peer:?}", self.id));
        if self.exchange.get(&peer) == Some(&link) {
            self.exchange.remove(&peer);
            self.event(env, Event::PeerLost(peer));
        } else if self.subscribers.get(&peer) == Some(&link) {
            self.subscribers.remove(&peer);
            self.event(env, Event::Unsubscribed(peer));
        } else if self.source == Some((peer, link)) {
            self.source = None;
            self.streamed.clear();
            self.event(
                env,
                Event::SourceLost {
                    from: peer,
                    error: "it broke".into(),
                },
            );
        }
    }

    /// Puts the compute thread's next bit on the agenda.
    fn kick(&mut self, env: &mut Env) {
        if !self.engine.busy
            && let Some(time) = self.engine.takes(self.slowness, env)
        {
            self.engine.busy = true;
            if self.engine.is_at_work() {
                self.engine.counters.computing += time;
            }
            env.after(time, What::Work(self.id));
        }
    }

    /// The compute thread has done its next bit.
    pub fn work(&mut self, env: &mut Env) {
        self.engine.busy = false;
        let answer = self.engine.work(self.id, env);
        self.kick(env);
        let Some(answer) = answer else { return };
        match answer {
            Answer::Restored(event) => {
                self.kept = None;
                self.event(env, event);
            }
            Answer::Computed(event, partial) => {
                self.partial = partial;
                self.event(env, event);
            }
            Answer::Applied(event, round, sum) => {
                let keeps = !self.alone || self.member.keeps_sums_of_its_own();
                self.kept = keeps.then_some((round, sum));
                env.count("applied");
                env.log(|| format!("{:?} applied {round:?}", self.id));
                self.event(env, event);
                invariants::shadow_holds::tells(env, self);
            }
            Answer::Saved(checkpoint) => self.begin_upload(env, checkpoint),
        }
    }

    /// The complete sum of this round waits to be applied.
    pub fn has_sum_at_hand(&self, of: Round) -> bool {
        let applies = |job: &Job| matches!(job, Job::Apply { round, .. } if *round == of);
        self.engine.jobs.iter().any(applies)
    }

    pub fn drain(&mut self, env: &mut Env) {
        env.log(|| format!("{:?} is drained", self.id));
        self.draining = true;
        self.event(
            env,
            Event::Drain {
                reason: "notice".into(),
            },
        );
    }

    /// Hands an event to the machine, does what it decides, and looks again at
    /// the frames that came too early.
    pub fn event(&mut self, env: &mut Env, event: Event) {
        self.handle(env, event);
        self.offer_held(env);
        let leaves = |r: &GenerationRecord| r.leavers.contains(&self.id) && !r.has(self.id);
        if env.planted == Some(Planted::LeaverGoesAtOnce)
            && self.exited.is_none()
            && self.member.record().is_some_and(leaves)
        {
            self.exit(env, ReleaseReason::Drained);
        }
    }

    pub(super) fn handle(&mut self, env: &mut Env, event: Event) {
        if !self.is_there() {
            return;
        }
        let commands = self.member.handle(event);
        match commands {
            Ok(commands) => {
                for command in commands {
                    match &mut self.fuse {
                        Some(0) => return,
                        Some(left) => *left -= 1,
                        None => {}
                    }
                    self.command(env, command);
                }
                self.kick(env);
            }
            Err(violation) => env.broken(format!("{:?}: {violation}", self.id)),
        }
    }

    fn command(&mut self, env: &mut Env, command: Command) {
        if env.trace && !matches!(command, Command::Tell(FromWorker::Progress { .. })) {
            env.log(|| format!("{:?} {command:?}", self.id));
        }
        match command {
            Command::Tell(message) => self.tell(env, message),
            Command::Restore { task, manifest } => {
                self.engine.jobs.push_back(Job::Restore { task, manifest });
            }
            Command::Compute {
                task,
                round,
                micro_batches,
                fresh,
            } => {
                self.begin_round(env, fresh);
                let (left, partial) = (micro_batches.into(), self.partial.clone());
                self.engine.jobs.push_back(Job::Compute {
                    task,
                    round,
                    left,
                    partial,
                    stop: false,
                });
            }
            Command::StopCompute => self.engine.stop(),
            Command::Apply { task, round, sum } => {
                self.alone = sum == SumSource::Partial;
                if matches!(sum, SumSource::Partial | SumSource::Exchange) {
                    invariants::one_world::completes(env, self.id, self.member.installed(), round);
                }
                let sum = self.sum_from(env, round, sum);
                self.engine.jobs.push_back(Job::Apply { task, round, sum });
            }
            Command::Save { last } => self.engine.jobs.push_back(Job::Save { last }),
            // A state of a few numbers is the first one's to write.
            Command::SaveTogether { members } if members[0] != self.id => {}
            Command::SaveTogether { .. } => self.engine.jobs.push_back(Job::Save { last: false }),
            Command::Exit(reason) => self.exit(env, reason),
            exchange => self.peer_command(env, exchange),
        }
    }

    fn begin_round(&mut self, env: &Env, fresh: bool) {
        self.reduced.fill(Sum::default());
        self.stored.clear();
        self.votes.clear();
        if fresh {
            self.partial = Partial::default();
        } else if env.planted == Some(Planted::PartialNotKept) {
            self.partial.sum = Sum::default();
        }
    }

    fn sum_from(&mut self, env: &mut Env, round: Round, source: SumSource) -> Sum {
        let sum = match source {
            SumSource::Partial => Some(self.partial.sum),
            SumSource::Exchange => self.assembled(env),
            SumSource::Fetched => {
                env.count("fetched");
                self.fetched.take()
            }
            SumSource::Streamed => {
                env.count("streamed");
                self.streamed = self.streamed.split_off(&round);
                self.streamed.remove(&round)
            }
        };
        sum.unwrap_or_else(|| {
            env.broken(format!(
                "{:?} has no sum of {round:?} from {source:?}",
                self.id
            ));
            Sum::default()
        })
    }

    pub(super) fn exit(&mut self, env: &mut Env, reason: ReleaseReason) {
        self.tell(
            env,
            FromWorker::Bye {
                reason: format!("{reason:?}"),
            },
        );
        self.exited = Some(reason);
        let links = self.exchange.values().chain(self.subscribers.values());
        let links = links
            .chain(self.source.iter().map(|(_, link)| link))
            .chain(&self.session);
        for link in links {
            env.close(*link, End::Worker(self.id));
        }
        env.alive.remove(&self.id);
    }
}
