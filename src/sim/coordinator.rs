//! The simulated coordinator: the machine, its durable store, its sessions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Planted;
use super::agenda::What;
use super::env::Env;
use super::errands::Errand;
use super::invariants;
use super::network::{Delivery, End, LinkId, Message, Node};
use super::run::TICK;
use crate::world::lead::ANSWER;
use crate::world::membership::{
    Cause, Command, Departure, Durable, Event, Note, Outcome, Settings, World,
};
use crate::world::message::{FromWorker, Holdings, ReleaseReason, ToWorker};
use crate::world::pool::Session;
use crate::world::{Lead, Member, Origin, WorkerId};

/// Between two questions to a store that doesn't answer.
pub const STORE_PAUSE: Duration = Duration::from_secs(1);
/// So long until a worker knows that it has lost its session.
pub const NOTICED_AFTER: Duration = Duration::from_secs(60);

/// The coordinator's node: what lives there, and what survives a crash.
pub struct Coordinator {
    pub node: Node,
    pub settings: Settings,
    /// `None` while it is down.
    pub world: Option<World>,
    pub incarnation: u32,
    pub durable: Durable,
    /// On its way into the store, and when it is there.
    copies: VecDeque<(Duration, Durable)>,
    pub errands: BTreeMap<u64, Errand>,
    pub(super) last_errand: u64,
    pub stop_asked: bool,
    pub outcome: Option<Outcome>,
    /// It dies after so many more commands.
    pub fuse: Option<usize>,
    /// Then its disk goes as well.
    pub loses_disk: bool,
    waits: invariants::EveryWaitEnds,
    sessions: BTreeMap<WorkerId, LinkId>,
    admitted: u32,
    pub lead: Lead,
    /// What came while it was in doubt whether it leads.
    waiting: Vec<(LinkId, End, Delivery)>,
    /// It has found out that another one leads.
    pub superseded: bool,
    /// It has slept through the moment at which another one took over.
    slept: bool,
    /// When it was awake last.
    awake: Duration,
    /// So long has it run since another one took over.
    fenced_for: Duration,
}

impl Coordinator {
    pub fn new(settings: Settings, node: Node) -> Coordinator {
        Coordinator {
            node,
            settings,
            world: None,
            incarnation: 0,
            durable: Durable::default(),
            copies: VecDeque::new(),
            errands: BTreeMap::new(),
            last_errand: 0,
            stop_asked: false,
            outcome: None,
            fuse: None,
            loses_disk: false,
            waits: Default::default(),
            sessions: BTreeMap::new(),
            admitted: 0,
            lead: Lead::new(0, Duration::ZERO),
            waiting: Vec::new(),
            superseded: false,
            slept: false,
            awake: Duration::ZERO,
            fenced_for: Duration::ZERO,
        }
    }

    /// Another one has taken over.
    pub fn is_replaced(&mut self, now: Duration) {
        self.fuse = None;
        self.slept = now.saturating_sub(self.awake) > ANSWER;
    }

    /// Something happens here; whether it may act on it.
    pub(super) fn leads(&mut self, env: &mut Env) -> bool {
        self.awake = env.now;
        if self.lead.awake(env.now) {
            let time = env.weather.store;
            self.ask(env, Errand::WhoLeads, time);
        }
        let careless = [Planted::FencedGoesOn, Planted::SleeperGoesOn];
        self.lead.is_sure() || env.planted.is_some_and(|p| careless.contains(&p))
    }

    /// What was written down a while ago is in the store by now.
    fn copies_arrive(&mut self, env: &mut Env) {
        let (now, answers) = (env.now, env.now >= env.store.down_until);
        let there = |copy: &mut (Duration, Durable)| answers && copy.0 <= now;
        while let Some((_, copy)) = self.copies.pop_front_if(there) {
            env.store.write_world(self.incarnation, copy);
        }
    }

    pub fn tick(&mut self, env: &mut Env) {
        self.copies_arrive(env);
        if self.node != env.leads && env.now >= env.store.down_until {
            self.fenced_for += TICK;
            invariants::one_leads::has_looked(env, self.fenced_for);
        }
        if self.leads(env) {
            self.event(env, Event::Tick);
        }
    }

    /// The store tells who leads, unless it doesn't answer.
    pub(super) fn who_leads(&mut self, env: &mut Env) {
        let Some(newest) = env.store.newest_incarnation(env.now) else {
            return;
        };
        if env.planted == Some(Planted::FencedGoesOn) {
            return;
        }
        self.superseded = !self.lead.is_newest(newest);
        if !self.superseded {
            for (link, from, what) in std::mem::take(&mut self.waiting) {
                self.deliver(env, link, from, what);
            }
        }
    }

    /// Whether it could tell this worker something.
    pub fn has_session(&self, worker: WorkerId) -> bool {
        self.sessions.contains_key(&worker)
    }

    /// Starts, or starts again, with what is durable.
    pub fn start(&mut self, env: &mut Env) {
        let reuses = self.incarnation > 0 && env.planted == Some(Planted::IncarnationReused);
        let incarnation = match reuses {
            true => Some(self.incarnation),
            false => env.store.take_incarnation(self.node, env.now),
        };
        let Some(incarnation) = incarnation else {
            // A coordinator that doesn't reach its store doesn't start.
            return env.after(STORE_PAUSE, What::StartCoordinator(self.node));
        };
        self.incarnation = incarnation;
        (self.lead, self.awake) = (Lead::new(incarnation, env.now), env.now);
        self.admitted = 0;
        env.log(|| {
            format!(
                "coordinator {} starts as {} with {:?}",
                self.node, self.incarnation, self.durable
            )
        });
        let newest = env.store.newest_world();
        if let Some(world) = newest.filter(|w| w.number > self.durable.number) {
            self.durable = world.clone();
            env.count("world found in the store");
        }
        let durable = self.durable.clone();
        (self.fuse, self.loses_disk) = (None, false);
        env.coordinators.insert(self.node, incarnation);
        let last = env
            .store
            .newest(env.now, None)
            .flatten()
            .filter(|(_, c)| c.last);
        let mut world = World::new(self.settings.clone(), self.incarnation, durable, env.now)
            .finished_by(last.map(|(manifest, _)| manifest));
        let commands = world.begin();
        self.world = Some(world);
        self.execute(env, commands);
        if self.stop_asked {
            self.event(env, Event::Stop);
        }
    }

    /// Its process is gone; what it has persisted stays.
    pub fn crash(&mut self, env: &mut Env) {
        env.log(|| "coordinator crashes".into());
        self.copies_arrive(env);
        self.copies.clear();
        self.world = None;
        self.sessions.clear();
        self.errands.clear();
        self.waiting.clear();
        if std::mem::take(&mut self.loses_disk) {
            let lost = std::mem::take(&mut self.durable);
            if env.store.newest_world() == Some(&lost) {
                env.count("nothing lost with the disk");
                return env.vanish(End::Coordinator(self.node));
            }
            let until = env.now + env.weather.reconnect + NOTICED_AFTER;
            env.forget(self.incarnation, until);
        }
        env.vanish(End::Coordinator(self.node));
    }

    /// Gives a newcomer its name.
    pub fn register(&mut self) -> WorkerId {
        self.admitted += 1;
        WorkerId::new(self.incarnation, self.admitted)
    }

    pub fn deliver(&mut self, env: &mut Env, link: LinkId, from: End, what: Delivery) {
        let End::Worker(worker) = from else { return };
        if !self.leads(env) {
            return self.waiting.push((link, from, what));
        }
        let ours = self.sessions.get(&worker) == Some(&link);
        match what {
            Delivery::Message(Message::Hello(holdings)) => self.hello(env, link, worker, holdings),
            Delivery::Message(Message::FromWorker(message)) if ours => {
                self.said(env, worker, message);
            }
            Delivery::Lost if ours => {
                self.sessions.remove(&worker);
                if env.shadows.contains(&worker) {
                    invariants::shadow_holds::is_gone(env);
                }
                self.event(env, Event::SessionBroken(worker));
            }
            _ => {}
        }
    }

    fn hello(&mut self, env: &mut Env, link: LinkId, worker: WorkerId, holdings: Holdings) {
        let heeds = env.planted != Some(Planted::TwoIncarnations)
            && env.planted != Some(Planted::FencedGoesOn);
        if heeds && self.lead.is_led_by_another(worker, holdings.fence) {
            env.count("led by another");
            return env.close(link, End::Coordinator(self.node));
        }
        if let Some(old) = self.sessions.insert(worker, link) {
            env.close(old, End::Coordinator(self.node));
        }
        env.log(|| format!("{worker:?} says hello with {holdings:?}"));
        if matches!(self.outcome, Some(Outcome::Finished { .. })) {
            return self.send(env, worker, ToWorker::Release(ReleaseReason::Finished));
        }
        let weight = 1 + (worker.0 % 2) as u32;
        let member = Member {
            id: worker,
            address: env.ports[&worker].to_string(),
            weight,
        };
        let name = format!("node {worker}");
        self.event(
            env,
            Event::Hello {
                trains_on: env.weather.reconnect,
                shadow: env.shadows.contains(&worker),
                worker,
                member,
                name,
                holdings,
            },
        );
    }

    fn said(&mut self, env: &mut Env, worker: WorkerId, message: FromWorker) {
        env.log(|| format!("coordinator hears from {worker:?}: {message:?}"));
        if matches!(message, FromWorker::PeerLost { .. }) {
            env.count("peer lost told");
        }
        self.event(env, Event::From(worker, message));
    }

    pub fn event(&mut self, env: &mut Env, event: Event) {
        let Some(world) = &mut self.world else { return };
        let ticks = matches!(event, Event::Tick);
        let before = (world.current().cloned(), self.durable.pending.clone());
        let commands = world.handle(env.now, event);
        for command in &commands {
            if let Command::Note(Note::Installed {
                record,
                recomputed,
                cause,
            }) = command
            {
                if matches!(cause, Cause::Standstill(_)) {
                    invariants::standstill(env, self.settings.patience);
                }
                if *cause == Cause::Started && !env.counts.contains_key("world written down") {
                    let enough = self.settings.start_size.min(self.settings.members_max);
                    invariants::first_world(env, record, enough);
                }
                if *cause == Cause::Started && self.node == env.leads {
                    invariants::shadow_holds::starts_at(env, record);
                }
                let old = [&before.0, &before.1];
                invariants::recomputed(env, old, record, *recomputed);
            }
        }
        if ticks
            && world.pool().iter().any(|(w, n)| {
                let member = world.current().is_some_and(|r| r.has(*w));
                let patience = self.settings.patience;
                member
                    && matches!(n.session, Session::Broken { since } if env.now >= since + patience)
            })
        {
            env.count("kept while it trains");
        }
        if ticks {
            let number = (self.incarnation, self.durable.number);
            self.waits.check(env, world, number, &self.settings);
        }
        self.execute(env, commands);
    }

    fn execute(&mut self, env: &mut Env, commands: Vec<Command>) {
        for command in commands {
            match &mut self.fuse {
                Some(0) => return,
                Some(left) => *left -= 1,
                None => {}
            }
            match command {
                Command::Persist(durable) => {
                    if self.node != env.leads {
                        invariants::one_leads::writes(env, self.slept);
                    }
                    if durable.current.is_some() {
                        env.count("world written down");
                    }
                    if env.planted != Some(Planted::NothingDurable) {
                        let there = env.now + env.weather.store;
                        self.copies.push_back((there, durable.clone()));
                        self.durable = durable;
                    }
                }
                Command::Send(worker, message) => self.send(env, worker, message),
                Command::Probe {
                    worker,
                    address,
                    within,
                } => {
                    let time = env.weather.latency;
                    self.ask(env, Errand::Probe(worker, address, Some(within)), time);
                }
                Command::GoBack(_) => {} // no memory flips a bit here
                Command::FindStart => {
                    let time = env.weather.store;
                    self.ask(env, Errand::FindStart, time);
                }
                Command::Note(note) => Self::note(env, &note),
                Command::End(outcome) => {
                    env.log(|| format!("the run ends: {outcome:?}"));
                    self.outcome = Some(outcome);
                }
            }
        }
    }

    fn send(&mut self, env: &mut Env, worker: WorkerId, message: ToWorker) {
        match &message {
            ToWorker::Prepare { .. } => env.count("prepare told"),
            ToWorker::Release(reason) => {
                if matches!(reason, ReleaseReason::Evicted(_)) {
                    env.count("evicted");
                }
                if env.shadows.contains(&worker) {
                    invariants::shadow_holds::is_gone(env);
                }
            }
            _ => {}
        }
        if let Some(link) = self.sessions.get(&worker) {
            env.send(
                *link,
                End::Coordinator(self.node),
                Message::ToWorker(message),
            );
        }
    }

    fn note(env: &mut Env, note: &Note) {
        env.log(|| format!("note: {note:?}"));
        match note {
            Note::Installed { record, .. } => {
                env.count(match record.origin {
                    Origin::Installed => "installed",
                    Origin::Planned { .. } => "change entered",
                });
                if record.paused {
                    env.count("paused");
                }
                if record.source.is_some() {
                    env.count("source named");
                }
            }
            Note::Joined { .. } => env.count("joined"),
            Note::Left { departure, .. } => match departure {
                Departure::Drained(_) => env.count("drained"),
                Departure::Gone | Departure::Said(_) => {}
                _ => env.count("given up"), // one that may live
            },
            Note::WorldLost { .. } => env.count("world lost"),
            // Members of two coordinators' worlds, found again by a third, may have done
            // the same micro-batch; one of them is sent away for that.
            Note::Suspicious(_) if env.counts.contains_key("world found in the store") => {
                env.count("two worlds met");
            }
            Note::Suspicious(what) => env.broken(what.clone()),
            _ => {}
        }
    }
}
