//! One run of a job from a seed, in virtual time, until nobody is left.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Planted;
use super::agenda::What;
use super::coordinator::Coordinator;
use super::draw;
use super::env::Env;
use super::faults::Schedule;
use super::invariants::{self, DecidedAlike, OnlyForward, WorkersWaitsEnd};
use super::network::{Delivered, End, LinkId, Network, Node};
use super::process::Process;
use super::store::Store;
use super::values::{Course, Random};
use crate::world::WorkerId;
use crate::world::membership::Outcome;
use crate::world::message::ReleaseReason;

/// How often time passes for the coordinator.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often a worker tells where it is.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// A standstill is noticed after ten times the longest round, and a freeze can
/// have made one last for a minute.
pub(super) const STALLS_FORGOTTEN: Duration = Duration::from_secs(1_000);
/// So many things happen in one run at most.
const STEPS_MAX: u64 = 2_000_000;

/// A run under way.
pub struct Run {
    pub(super) env: Env,
    /// The one with the newest incarnation.
    pub(super) coordinator: Coordinator,
    /// Others that don't know of it yet.
    pub(super) fenced: Vec<Coordinator>,
    /// The newest node for coordinators.
    pub(super) nodes: Node,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    /// Processes that are about to register.
    coming: usize,
    with_shadow: bool,
    schedule: Schedule,
    healed: bool,
    slowness: Vec<u32>,
    forward: OnlyForward,
    alike: DecidedAlike,
    waits: WorkersWaitsEnd,
}

/// What a run came to.
pub struct Report {
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// So many things happened.
    pub steps: u64,
    /// In virtual time.
    pub took: Duration,
}

impl Run {
    /// The run that this seed draws, with its faults or with these.
    pub(super) fn new(
        seed: u64,
        faults: Option<Schedule>,
        planted: Option<Planted>,
        trace: bool,
    ) -> Run {
        let mut random = Random::new(seed);
        let course = Course::draw(&mut random);
        let settings = draw::settings(&mut random);
        let weather = draw::weather(&mut random);
        let training = weather.micro_batch * course.total_micro_batches();
        let drawn = Schedule::draw(&mut random, training);
        let schedule = faults.unwrap_or(drawn);
        let slowness = (0..7)
            .map(|_| random.pick(&[1, 1, 1, 1, 2, 3, 10]))
            .collect();
        let coming = random.range(1, 5);
        let with_shadow = random.chance(30);
        let mut env = Env {
            now: Duration::ZERO,
            step: 0,
            agenda: Default::default(),
            weather,
            course,
            net: Network::default(),
            store: Store::default(),
            alive: Default::default(),
            coordinators: BTreeMap::new(),
            leads: 0,
            named: (0, Duration::ZERO),
            fenced: 0,
            frozen: BTreeMap::new(),
            ports: BTreeMap::new(),
            planted,
            counts: BTreeMap::new(),
            told: Default::default(),
            shadows: Default::default(),
            computed: BTreeMap::new(),
            first_completed: BTreeMap::new(),
            one_more: BTreeMap::new(),
            forgotten: None,
            loud: true,
            broken: Vec::new(),
            trace,
            random,
        };
        env.log(|| format!("{settings:?}, {:?}", env.weather));
        env.log(|| format!("{coming} workers, {} rounds", env.course.end()));
        env.agenda.at(Duration::ZERO, What::StartCoordinator(0));
        env.agenda.at(TICK, What::Tick(0));
        env.agenda.at(TICK, What::Watch);
        for (number, fault) in schedule.faults.iter().enumerate() {
            env.agenda.at(fault.at, What::Fault(number));
        }
        env.agenda.at(schedule.heal, What::Heal);
        let mut run = Run {
            coordinator: Coordinator::new(settings, 0),
            fenced: Vec::new(),
            nodes: 0,
            processes: BTreeMap::new(),
            coming: 0,
            with_shadow,
            schedule,
            healed: false,
            slowness,
            forward: OnlyForward::default(),
            alike: DecidedAlike::default(),
            waits: WorkersWaitsEnd::default(),
            env,
        };
        for _ in 0..coming {
            run.expect_one_more();
        }
        run
    }

    /// The faults that it meets.
    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Runs to the end, or to the first broken promise.
    pub(super) fn run(mut self) -> Report {
        while self.env.broken.is_empty() && !self.is_over() {
            let Some((when, what)) = self.env.agenda.next() else {
                self.env.broken("nothing is left to happen".into());
                break;
            };
            self.env.now = when;
            self.env.step += 1;
            self.act(what);
            self.bury();
            invariants::members_stay_together(&mut self.env, &self.processes);
            invariants::nothing_is_lost(&mut self.env, &self.processes);
            if when > self.deadline() || self.env.step > STEPS_MAX {
                invariants::not_over(&mut self.env, &self.coordinator, &self.processes);
            }
        }
        self.look_back();
        Report {
            broken: self.env.broken,
            counts: self.env.counts,
            steps: self.env.step,
            took: self.env.now,
        }
    }

    fn look_back(&mut self) {
        let Some(outcome) = self.coordinator.outcome.clone() else {
            return;
        };
        match outcome {
            Outcome::Finished { .. } => {
                self.env.count("finished");
                if self.env.course.stops_early() {
                    self.env.count("stopped early");
                }
                invariants::last_checkpoint(&mut self.env);
            }
            Outcome::Stopped => self.env.count("stopped"),
            Outcome::Failed(why) => self.env.broken(format!("failed: {why}")),
        }
        let counts = &self.env.counts;
        let given_up = counts.contains_key("given up") || counts.contains_key("switched off");
        if self.schedule.costs_nothing() && !given_up {
            invariants::costs_nothing(&mut self.env);
        }
    }

    fn deadline(&self) -> Duration {
        let slowest = self.slowness.iter().max().copied().unwrap_or(1);
        let patience = self.coordinator.settings.patience;
        invariants::deadline(&self.env, self.schedule.heal, patience, slowest)
    }

    fn is_over(&self) -> bool {
        self.coordinator.outcome.is_some()
            && self.coordinator.world.is_some()
            && self.processes.is_empty()
            && self.coming == 0
    }

    fn act(&mut self, what: What) {
        if let Some(until) = what.who().and_then(|who| self.env.frozen_until(who)) {
            return self.env.agenda.at(until, what);
        }
        match what {
            What::Deliver(link, side) => self.deliver(link, side),
            What::Silence(link, side) => {
                if let Some(lost) = self.env.is_silent(link, side) {
                    self.given(link, lost);
                }
            }
            What::Register => self.register(),
            What::StartCoordinator(node) => {
                if self.coordinator.node == node && self.coordinator.world.is_none() {
                    self.coordinator.start(&mut self.env);
                }
            }
            What::Second(node, so_far) => self.second(node, so_far),
            What::Tick(node) => self.tick(node),
            What::Watch => {
                self.keep_shadow();
                self.waits
                    .check(&mut self.env, &self.processes, &self.coordinator);
                self.env.after(TICK, What::Watch);
            }
            What::Errand(node, number) => {
                if let Some((coordinator, env)) = self.coordinator_at(node) {
                    coordinator.errand(env, number);
                }
            }
            What::Work(id) => self.process(id, Process::work),
            What::Upload(id) => self.process(id, Process::upload),
            What::Progress(id) => {
                self.process(id, Process::tell_progress);
                if self.processes.contains_key(&id) {
                    self.env.after(TOLD_EVERY, What::Progress(id));
                }
            }
            What::OpenSession(id) => self.process(id, Process::open_session),
            What::GiveUp(id, lost) => self.process(id, |p, env| p.give_up(env, lost)),
            What::SwitchOff(id) => self.process(id, |process, env| {
                env.count("switched off");
                process.fuse = Some(0);
            }),
            What::Fault(number) if !self.healed => self.strike(self.schedule.faults[number]),
            What::Fault(_) => {}
            What::Heal => self.heal(),
        }
    }

    /// No more faults (who is frozen thaws in its own time); as many workers as
    /// it takes.
    fn heal(&mut self) {
        self.healed = true;
        self.env.log(|| "no more faults".into());
        self.heal_network();
        self.env.store.heal();
        self.slowness.fill(1);
        self.coordinator.fuse = None;
        self.coordinator.loses_disk = false;
        for process in self.processes.values_mut() {
            process.slowness = 1;
            process.fuse = process.fuse.filter(|left| *left == 0);
        }
    }

    /// Another process is on its way.
    pub(super) fn expect_one_more(&mut self) -> bool {
        self.coming += 1;
        let time = self.env.between(Duration::ZERO, Duration::from_millis(300));
        self.env.after(time, What::Register);
        true
    }

    fn process(&mut self, id: WorkerId, act: impl FnOnce(&mut Process, &mut Env)) {
        if let Some(process) = self.processes.get_mut(&id) {
            act(process, &mut self.env);
            self.forward.check(&mut self.env, process);
            self.alike.check(&mut self.env, process);
        }
    }

    /// A newcomer gets its name, if there is somebody to give it one.
    fn register(&mut self) {
        let to = self.env.resolve();
        let serves = self.env.serves(to);
        let there = match to {
            End::Coordinator(node) if serves => self.coordinator_at(node),
            _ => None,
        };
        let admitted = there.and_then(|(c, _)| c.lead.is_sure().then(|| c.register()));
        let Some(id) = admitted else {
            let pause = self.env.between(TICK / 4, TICK * 4);
            return self.env.after(pause, What::Register);
        };
        self.coming -= 1;
        self.env.settle(id);
        let slowness = self.slowness[id.0 as u32 as usize % self.slowness.len()];
        self.processes.insert(id, Process::new(id, slowness));
        self.env.after(Duration::ZERO, What::OpenSession(id));
        self.env.after(TOLD_EVERY, What::Progress(id));
    }

    /// The coordinator's node starts a shadow when there is none.
    fn keep_shadow(&mut self) {
        let over = self.coordinator.outcome.is_some() || self.coordinator.stop_asked;
        let node = self.coordinator.node;
        let there = |p: &Process| p.shadow && p.home == node;
        let there = self.processes.values().any(there);
        let up = self.env.coordinators.contains_key(&node);
        if !self.with_shadow || over || there || !up {
            return;
        }
        let id = self.coordinator.register();
        self.env.settle(id);
        self.env.shadows.insert(id);
        let mut process = Process::new(id, 1);
        (process.shadow, process.home) = (true, node);
        self.processes.insert(id, process);
        self.env.after(Duration::ZERO, What::OpenSession(id));
        self.env.after(TOLD_EVERY, What::Progress(id));
    }

    fn deliver(&mut self, link: LinkId, side: usize) {
        let Some((_, to, _)) = self.env.net.ends(link, side) else {
            return;
        };
        if let Some(until) = self.env.frozen_until(to) {
            return self.env.agenda.at(until, What::Deliver(link, side));
        }
        if let Some(delivered) = self.env.deliver(link, side) {
            self.given(link, delivered);
        }
    }

    fn given(&mut self, link: LinkId, (kind, to, from, what): Delivered) {
        match to {
            End::Coordinator(node) => {
                if let Some((coordinator, env)) = self.coordinator_at(node) {
                    coordinator.deliver(env, link, from, what);
                }
            }
            End::Worker(id) => {
                self.process(id, |process, env| {
                    process.deliver(env, link, from, (kind, what))
                });
            }
        }
    }

    /// Takes away what has died or left; who was put out comes again, and once
    /// all is well as many come as are needed.
    fn bury(&mut self) {
        if self.coordinator.fuse == Some(0) {
            self.coordinator.fuse = None;
            self.coordinator.crash(&mut self.env);
            let node = self.coordinator.node;
            self.shadows_end_with(node);
            let down = self.env.between(TICK, TICK * 40);
            self.env.after(down, What::StartCoordinator(node));
        }
        self.bury_fenced();
        let gone = |p: &&Process| p.fuse == Some(0) || p.exited.is_some();
        let gone: Vec<WorkerId> = self.processes.values().filter(gone).map(|p| p.id).collect();
        for id in gone {
            let Some(process) = self.processes.remove(&id) else {
                continue;
            };
            if process.shadow {
                invariants::shadow_holds::is_gone(&mut self.env);
            }
            if process.exited.is_none() {
                self.env.log(|| format!("{id:?} is gone"));
                if let Some((_, true)) = process.uploads.front() {
                    self.env.count("upload torn");
                }
                self.env.vanish(End::Worker(id));
                continue;
            }
            self.env
                .log(|| format!("{id:?} has left: {:?}", process.exited));
            let evicted = matches!(process.exited, Some(ReleaseReason::Evicted(_)));
            if evicted && self.env.frozen.contains_key(&End::Worker(id)) {
                self.env.count("thawed after it was given up");
            }
            if evicted && !process.draining && !process.shadow {
                self.expect_one_more();
            }
        }
        let settings = &self.coordinator.settings;
        let needed = settings.start_size.max(settings.members_min).max(1);
        let here = self
            .processes
            .values()
            .filter(|p| !p.draining && !p.shadow)
            .count()
            + self.coming;
        let over = self.coordinator.outcome.is_some() || self.coordinator.stop_asked;
        if self.healed && here < needed && !over {
            self.expect_one_more();
        }
    }
}
