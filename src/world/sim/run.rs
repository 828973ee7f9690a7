//! One run of a job from a seed: everything that can happen next, one of it
//! chosen at random, again and again until nobody is left.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::WorkerId;
use super::super::membership::{Event, Outcome, Settings};
use super::super::message::ReleaseReason;
use super::Planted;
use super::coordinator::Coordinator;
use super::env::{Env, Store};
use super::faults;
use super::invariants::{self, Seen};
use super::network::{End, LinkId, Network};
use super::process::Process;
use super::values::{Course, Random};

/// Without faults, everything is over after so many steps.
const STEPS_MAX: u64 = 40_000;
/// So many ticks in a row in which nothing else could happen: a deadlock.
const IDLE_TICKS_MAX: u32 = 40;

/// Something that can happen next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Deliver(LinkId, usize),
    Work(WorkerId),
    Upload(WorkerId),
    Progress(WorkerId),
    OpenSession(WorkerId),
    Errand(usize),
    Register,
    StartCoordinator,
    Tick,
}

/// A run under way.
pub struct Run {
    pub(super) env: Env,
    pub(super) coordinator: Coordinator,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    /// Processes that are about to register.
    pub(super) coming: usize,
    faults: faults::Plan,
    healed: bool,
    costs_nothing: bool,
    slowness: Vec<u32>,
    seen: Seen,
    idle_ticks: u32,
}

/// What a run came to.
pub struct Report {
    pub broken: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub steps: u64,
}

impl Run {
    pub fn new(seed: u64, planted: Option<Planted>, trace: bool) -> Run {
        let mut random = Random::new(seed);
        let course = Course::draw(&mut random);
        let settings = draw_settings(&mut random);
        let faults = faults::Plan::draw(&mut random);
        let slowness = (0..7).map(|_| random.pick(&[32, 32, 32, 4, 1])).collect();
        let coming = random.range(1, 5);
        let env = Env {
            now: Duration::ZERO,
            step: 0,
            course,
            net: Network::default(),
            store: Store::default(),
            alive: Default::default(),
            ports: BTreeMap::new(),
            planted,
            counts: BTreeMap::new(),
            computed: BTreeMap::new(),
            broken: Vec::new(),
            trace,
            random,
        };
        env.log(|| {
            format!(
                "{settings:?}, {coming} workers, {} rounds",
                env.course.end()
            )
        });
        Run {
            costs_nothing: faults.costs_nothing(),
            coordinator: Coordinator::new(settings),
            processes: BTreeMap::new(),
            coming,
            faults,
            healed: false,
            slowness,
            seen: Seen::default(),
            idle_ticks: 0,
            env,
        }
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(mut self) -> Report {
        while self.env.broken.is_empty() && !self.is_over() {
            self.env.step += 1;
            if self.env.step > self.faults.until + STEPS_MAX {
                self.env.broken("not finished after all this time".into());
            }
            self.step();
        }
        if let Some(outcome) = self.coordinator.outcome.clone() {
            self.env.count(match outcome {
                Outcome::Finished { .. } => "finished",
                Outcome::Stopped => "stopped",
                Outcome::Failed(_) => "failed",
            });
            let free = self.costs_nothing && !self.env.counts.contains_key("given up");
            invariants::at_the_end(&mut self.env, &outcome, free);
        }
        Report {
            broken: self.env.broken,
            counts: self.env.counts,
            steps: self.env.step,
        }
    }

    fn is_over(&self) -> bool {
        self.coordinator.outcome.is_some()
            && self.coordinator.world.is_some()
            && self.processes.is_empty()
            && self.coming == 0
    }

    fn step(&mut self) {
        self.env.now += Duration::from_micros(self.env.random.next() % 2000);
        if let Some(fault) = self.faults.next(&mut self.env) {
            self.strike(fault);
        }
        if self.env.step > self.faults.until {
            self.heal();
        }
        let actions = self.actions();
        let total: u32 = actions.iter().map(|(_, weight)| weight).sum();
        let mut at = self.env.random.next() as u32 % total;
        let chosen = actions.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.wrapping_sub(*weight);
            hit
        });
        let action = chosen.map_or(Action::Tick, |(action, _)| *action);
        self.idle_ticks = if actions.len() == 1 {
            self.idle_ticks + 1
        } else {
            0
        };
        if self.idle_ticks > 0 {
            self.env.now += self.coordinator.settings.patience / 3;
        }
        if self.idle_ticks > 3 {
            self.faults.until = self.faults.until.min(self.env.step);
        }
        if self.idle_ticks > IDLE_TICKS_MAX {
            return self.stuck();
        }
        self.act(action);
        self.bury();
        invariants::members_stay_together(&mut self.env, &self.processes);
    }

    /// No more faults; as many workers as it takes.
    fn heal(&mut self) {
        if !std::mem::replace(&mut self.healed, true) {
            self.env.log(|| "no more faults".into());
            self.slowness.fill(32);
            self.processes
                .values_mut()
                .for_each(|p| p.cut_off_until = 0);
            self.env.store.failing = 0;
        }
        let settings = &self.coordinator.settings;
        let needed = settings.start_size.max(settings.members_min).max(1);
        let here = self.processes.values().filter(|p| !p.draining).count() + self.coming;
        if here < needed && self.coordinator.outcome.is_none() && !self.coordinator.stop_asked {
            self.coming += 1;
        }
    }

    fn stuck(&mut self) {
        let world = self.coordinator.world.as_ref();
        let mut what = format!(
            "stuck: {} {:?} waits for {:?}",
            world.map_or("no coordinator", |w| w.phase_name()),
            world.and_then(|w| w.current().map(|r| r.generation)),
            world.and_then(|w| w.waiting(Duration::ZERO)),
        );
        for process in self.processes.values() {
            what += &format!("\n   {:?} {:?}", process.id, process.member.holdings());
        }
        self.env.broken(what);
    }

    fn slowness_of(&self, end: End) -> u32 {
        match end {
            End::Coordinator => self.slowness[0],
            End::Worker(worker) => self.slowness[worker.0 as u32 as usize % 6 + 1],
        }
    }

    fn actions(&self) -> Vec<(Action, u32)> {
        let up = self.coordinator.world.is_some();
        let mut actions = vec![(Action::Tick, 1)];
        for (link, side, end) in self.env.net.deliverable() {
            if end != End::Coordinator || up {
                actions.push((Action::Deliver(link, side), self.slowness_of(end)));
            }
        }
        for process in self.processes.values() {
            let (id, weight) = (process.id, self.slowness_of(End::Worker(process.id)));
            if !process.engine.jobs.is_empty() {
                actions.push((Action::Work(id), weight));
            }
            if !process.uploads.is_empty() {
                actions.push((Action::Upload(id), weight.div_ceil(4)));
            }
            let reaches = up && process.cut_off_until <= self.env.step;
            if reaches && process.session.is_none() {
                actions.push((Action::OpenSession(id), weight.div_ceil(4)));
            }
        }
        let mut errands = 0..self.coordinator.errands.len();
        actions.extend(errands.by_ref().map(|e| (Action::Errand(e), 8)));
        if up && self.coming > 0 {
            actions.push((Action::Register, 8));
        }
        if !up {
            actions.push((Action::StartCoordinator, 2));
        }
        if actions.len() > 1 {
            actions.extend(self.processes.keys().map(|id| (Action::Progress(*id), 1)));
        }
        actions
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(link, side) => self.deliver(link, side),
            Action::Register => self.register(),
            Action::StartCoordinator => self.coordinator.start(&mut self.env),
            Action::Tick => self.coordinator.event(&mut self.env, Event::Tick),
            Action::Errand(index) => self.coordinator.errand(&mut self.env, index),
            Action::Work(id) => self.process(id, Process::work),
            Action::Upload(id) => self.process(id, Process::upload),
            Action::Progress(id) => self.process(id, Process::tell_progress),
            Action::OpenSession(id) => self.process(id, Process::open_session),
        }
    }

    fn process(&mut self, id: WorkerId, act: impl FnOnce(&mut Process, &mut Env)) {
        if let Some(process) = self.processes.get_mut(&id) {
            act(process, &mut self.env);
            self.seen.only_grows(&mut self.env, process);
        }
    }

    fn register(&mut self) {
        self.coming -= 1;
        let id = self.coordinator.register();
        self.env.settle(id);
        self.processes.insert(id, Process::new(id));
        self.process(id, Process::open_session);
    }

    fn deliver(&mut self, link: LinkId, side: usize) {
        let to = self
            .env
            .net
            .deliverable()
            .find(|(l, s, _)| (*l, *s) == (link, side));
        let Some((_, _, to)) = to else { return };
        let Some((kind, from, what)) = self.env.net.deliver(link, side) else {
            return;
        };
        match to {
            End::Coordinator => self.coordinator.deliver(&mut self.env, link, from, what),
            End::Worker(id) => {
                self.process(id, |process, env| {
                    process.deliver(env, link, from, (kind, what))
                });
            }
        }
    }

    /// Takes away what has died or left; who was put out comes again.
    fn bury(&mut self) {
        if self.coordinator.fuse == Some(0) {
            self.coordinator.fuse = None;
            self.coordinator.crash(&mut self.env);
        }
        let gone = |p: &&Process| p.fuse == Some(0) || p.exited.is_some();
        let gone: Vec<WorkerId> = self.processes.values().filter(gone).map(|p| p.id).collect();
        for id in gone {
            let Some(process) = self.processes.remove(&id) else {
                continue;
            };
            if process.exited.is_none() {
                self.env.log(|| format!("{id:?} is gone"));
                self.env.vanish(id);
                continue;
            }
            self.env
                .log(|| format!("{id:?} has left: {:?}", process.exited));
            let evicted = matches!(process.exited, Some(ReleaseReason::Evicted(_)));
            if evicted && !process.draining {
                self.coming += 1;
            }
        }
    }
}

fn draw_settings(random: &mut Random) -> Settings {
    let patience = Duration::from_millis(random.pick(&[400, 4_000, 40_000]));
    let members_max = random.pick(&[1, 2, 3, 4, 5, 5, 5]);
    match random.below(4) {
        0 => {
            let size = random.range(1, members_max.min(3));
            Settings {
                start_size: size,
                members_min: 1,
                members_max: size,
                patience,
            }
        }
        1 => {
            let least = random.range(1, members_max.min(3));
            Settings {
                start_size: least,
                members_min: least,
                members_max,
                patience,
            }
        }
        _ => Settings {
            start_size: 1,
            members_min: 1,
            members_max,
            patience,
        },
    }
}
