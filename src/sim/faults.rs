//! What goes wrong, and when: a list that is drawn before anything happens, so
//! that a run can be repeated with fewer of them.

use std::time::Duration;

use super::agenda::What;
use super::network::{End, Kind, Partition};
use super::run::Run;
use super::values::Random;
use crate::world::WorkerId;
use crate::world::lead::ANSWER;
use crate::world::membership::Event;
use crate::world::message::FromWorker;

/// One kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A worker's process is gone, between any two commands.
    WorkerKilled,
    /// All of them at once.
    EverybodyKilled,
    /// A worker's host is gone, and nobody is told.
    HostVanishes,
    /// A worker's process stops for a while; its host answers for it.
    WorkerFrozen,
    /// Two members that live lose their connection.
    ExchangeBroken,
    /// Something between them forgets a member's connections: who has dialled
    /// hears of it at once, the others only much later.
    ExchangeForgotten,
    /// A worker and the coordinator, both alive, lose theirs.
    SessionBroken,
    /// A follower and its source lose theirs.
    StreamBroken,
    /// Some hosts don't reach the others, nor the other way round.
    Partitioned,
    /// What some hosts send doesn't arrive; they hear everything.
    OneWayPartition,
    /// Two workers don't reach each other, and everybody else reaches both.
    TwoParted,
    /// What one sends to another doesn't arrive.
    TwoPartedOneWay,
    /// The coordinator's host alone is cut off.
    CoordinatorCutOff,
    /// The coordinator's process is gone, between any two commands.
    CoordinatorKilled,
    /// With its process goes all that it had written down; what is in the store
    /// remains.
    CoordinatorDiskLost,
    /// It stops for a while.
    CoordinatorFrozen,
    /// Somebody starts another coordinator for the same run.
    SecondCoordinator,
    /// Somebody does while the first one is frozen, or cut off from everybody.
    CoordinatorReplaced,
    /// The store answers with errors.
    StoreDown,
    /// Writes take seconds.
    StoreSlow,
    /// A manifest is written, and the answer is lost.
    StoreAmbiguous,
    /// Lists don't show the newest checkpoints.
    StoreStale,
    /// A worker has notice to leave, and some seconds.
    Drain,
    /// Another process comes.
    Join,
    /// A person stops the coordinator.
    Stop,
}

use Trouble::*;

/// All kinds, with how often each is drawn and the name it is counted under.
const KINDS: [(Trouble, usize, &str); 25] = [
    (WorkerKilled, 8, "worker killed"),
    (EverybodyKilled, 1, "everybody killed"),
    (HostVanishes, 3, "host vanishes"),
    (WorkerFrozen, 3, "worker frozen"),
    (ExchangeBroken, 5, "exchange broken"),
    (ExchangeForgotten, 3, "exchange forgotten"),
    (SessionBroken, 5, "session broken"),
    (StreamBroken, 3, "stream broken"),
    (Partitioned, 3, "partition"),
    (OneWayPartition, 2, "one-way partition"),
    (TwoParted, 3, "two parted"),
    (TwoPartedOneWay, 2, "two parted one way"),
    (CoordinatorCutOff, 2, "coordinator cut off"),
    (CoordinatorKilled, 5, "coordinator killed"),
    (CoordinatorDiskLost, 2, "coordinator's disk lost"),
    (CoordinatorFrozen, 1, "coordinator frozen"),
    (SecondCoordinator, 2, "second coordinator"),
    (CoordinatorReplaced, 3, "coordinator replaced"),
    (StoreDown, 2, "store down"),
    (StoreSlow, 1, "store slow"),
    (StoreAmbiguous, 2, "store ambiguous"),
    (StoreStale, 1, "store stale"),
    (Drain, 5, "drain"),
    (Join, 9, "join"),
    (Stop, 1, "stop"),
];

/// The names that all kinds are counted under.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(_, _, name)| *name)
}

/// Troubles after which no gradient has to be computed twice.
const FREE: [Trouble; 10] = [
    ExchangeBroken,
    ExchangeForgotten,
    SecondCoordinator,
    SessionBroken,
    StreamBroken,
    StoreDown,
    StoreSlow,
    StoreAmbiguous,
    Drain,
    Join,
];

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When it strikes.
    pub at: Duration,
    /// What it is.
    pub trouble: Trouble,
    /// Whom it strikes, and how long it lasts.
    dice: u64,
}

/// The faults of one run, and when they end.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// In the order of time.
    pub faults: Vec<Fault>,
    /// No more of them after this.
    pub heal: Duration,
}

impl Schedule {
    /// For a run that takes one worker about so long.
    pub(super) fn draw(random: &mut Random, training: Duration) -> Schedule {
        let all: Vec<Trouble> = KINDS.iter().flat_map(|(t, n, _)| vec![*t; *n]).collect();
        // Few kinds at a time: a drain alone, for one, has to cost nothing.
        let some = random.range(1, 6);
        let kinds: Vec<Trouble> = match random.chance(70) {
            true => (0..some).map(|_| random.pick(&all)).collect(),
            false => all,
        };
        let span = (Duration::from_millis(500) + training) * random.pick(&[1, 2, 6]) / 2;
        let span = span.as_millis() as u64;
        let mut faults: Vec<Fault> = (0..random.range(0, 12))
            .map(|_| Fault {
                at: Duration::from_millis(random.next() % span),
                trouble: random.pick(&kinds),
                dice: random.next(),
            })
            .collect();
        faults.sort_by_key(|fault| fault.at);
        let heal = Duration::from_millis(span * 2);
        Schedule { faults, heal }
    }

    /// Whether everything that happens costs no gradient.
    pub fn costs_nothing(&self) -> bool {
        self.faults
            .iter()
            .all(|fault| FREE.contains(&fault.trouble))
    }
}

/// Troubles of which the other end of a connection hears nothing at first.
const SILENT: [Trouble; 9] = [
    HostVanishes,
    WorkerFrozen,
    Partitioned,
    OneWayPartition,
    TwoParted,
    TwoPartedOneWay,
    CoordinatorCutOff,
    CoordinatorFrozen,
    CoordinatorReplaced,
];

/// Longer than any run.
pub(super) const FOR_GOOD: Duration = Duration::from_secs(1_000_000_000);

impl Run {
    pub(super) fn strike(&mut self, fault: Fault) {
        let mut dice = Random::new(fault.dice);
        let living: Vec<WorkerId> = self.env.alive.iter().copied().collect();
        let chosen = (!living.is_empty()).then(|| dice.pick(&living));
        let lasting = Duration::from_millis(dice.pick(&[100, 1_000, 5_000, 20_000, 60_000]));
        let lasting = self.env.between(lasting / 2, lasting);
        let until = self.env.now + lasting;
        let coordinator = End::Coordinator(self.env.leads);
        let struck = match (fault.trouble, chosen) {
            (Join, _) => self.expect_one_more(),
            (StoreDown, _) => self.env.store.down_for(until),
            (StoreSlow, _) => self.env.store.slow_for(until),
            (StoreStale, _) => self.env.store.go_stale(until),
            (StoreAmbiguous, _) => !std::mem::replace(&mut self.env.store.ambiguous, true),
            (CoordinatorKilled, _) => self.kill_coordinator(&mut dice),
            (CoordinatorDiskLost, _) => {
                let killed = self.kill_coordinator(&mut dice);
                self.coordinator.loses_disk |= killed;
                killed
            }
            (CoordinatorFrozen, _) => self.freeze(coordinator, until),
            (SecondCoordinator, _) => self.start_second(),
            (CoordinatorReplaced, _) => {
                let until = until + ANSWER;
                let away = match dice.chance(50) {
                    true => self.freeze(coordinator, until),
                    false => self.part([coordinator], None, (dice.chance(30), until)),
                };
                away && self.start_second()
            }
            (CoordinatorCutOff, _) => self.part([coordinator], None, (dice.chance(30), until)),
            (Stop, _) => self.stop(),
            (ExchangeBroken, _) => self.cut(Kind::Exchange, &mut dice),
            (ExchangeForgotten, Some(worker)) => self.env.forget_exchange(worker),
            (SessionBroken, _) => self.cut(Kind::Control, &mut dice),
            (StreamBroken, _) => self.cut(Kind::Stream, &mut dice),
            (EverybodyKilled, Some(_)) => {
                living.iter().for_each(|worker| self.kill(*worker, 0));
                true
            }
            (Partitioned | OneWayPartition, Some(_)) => {
                let hosts = living.iter().filter(|_| dice.chance(50));
                let hosts = hosts.map(|w| End::Worker(*w));
                self.part(hosts, None, (fault.trouble == OneWayPartition, until))
            }
            (TwoParted | TwoPartedOneWay, Some(worker)) => {
                let until = if dice.chance(50) { FOR_GOOD } else { until };
                let other = End::Worker(dice.pick(&living));
                let one_way = fault.trouble == TwoPartedOneWay;
                other != End::Worker(worker)
                    && self.part([End::Worker(worker)], Some(other), (one_way, until))
            }
            (WorkerKilled, Some(worker)) => {
                self.kill(worker, dice.below(8));
                true
            }
            (HostVanishes, Some(worker)) => {
                self.env.net.dark.insert(End::Worker(worker));
                self.kill(worker, 0);
                true
            }
            (WorkerFrozen, Some(worker)) => self.freeze(End::Worker(worker), until),
            (Drain, Some(worker)) => self.drain(worker, &mut dice),
            (_, None) => false,
        };
        if struck {
            self.env.loud &= !SILENT.contains(&fault.trouble);
            let named = KINDS.iter().find(|(trouble, ..)| *trouble == fault.trouble);
            self.env
                .log(|| format!("FAULT {:?} ({lasting:?})", fault.trouble));
            self.env.count(named.map_or("", |(_, _, name)| name));
        }
    }

    fn cut(&mut self, kind: Kind, dice: &mut Random) -> bool {
        let up = self.env.net.up(kind);
        if !up.is_empty() {
            self.env.cut(dice.pick(&up));
        }
        !up.is_empty()
    }

    fn part(
        &mut self,
        hosts: impl IntoIterator<Item = End>,
        other: Option<End>,
        (one_way, until): (bool, Duration),
    ) -> bool {
        let partition = Partition {
            hosts: hosts.into_iter().collect(),
            other,
            one_way,
            until,
        };
        if partition.hosts.is_empty() {
            return false;
        }
        self.env.grow_silent(|_, a, b| partition.parts(a, b));
        self.env.net.partitions.push(partition);
        true
    }

    /// Everybody reaches everybody again, but for two members that are parted for
    /// good: of those one has to go.
    pub(super) fn heal_network(&mut self) {
        let world = self.coordinator.world.as_ref();
        let record = world.and_then(|world| world.current()).cloned();
        let member = |end: &End| match end {
            End::Worker(w) => record.as_ref().is_some_and(|r| r.has(*w)),
            End::Coordinator(_) => false,
        };
        let stays =
            |p: &Partition| p.until == FOR_GOOD && p.hosts.iter().chain(&p.other).all(member);
        self.env.net.partitions.retain(stays);
        if !self.env.net.partitions.is_empty() {
            self.env.count("parted for good");
        }
        self.env.deliver_what_was_held();
    }

    fn freeze(&mut self, who: End, until: Duration) -> bool {
        if let End::Coordinator(node) = who
            && !self.env.coordinators.contains_key(&node)
        {
            return false;
        }
        let thaws = self.env.frozen.entry(who).or_default();
        *thaws = until.max(*thaws);
        self.env
            .grow_silent(|kind, a, b| kind == Kind::Control && (a == who || b == who));
        true
    }

    fn kill(&mut self, worker: WorkerId, after: usize) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.fuse = Some(after);
        }
    }

    fn drain(&mut self, worker: WorkerId, dice: &mut Random) -> bool {
        let by_a_person = dice.chance(30);
        let notice = dice.pick(&[None, Some(0), Some(30), Some(120)]);
        let Some(process) = self.processes.get_mut(&worker).filter(|p| !p.draining) else {
            return false;
        };
        if by_a_person && !self.coordinator.has_session(worker) {
            return false;
        }
        if by_a_person {
            process.draining = true;
            let told = FromWorker::Drain {
                reason: "asked to by a person".into(),
            };
            self.coordinator
                .event(&mut self.env, Event::From(worker, told));
            return true;
        }
        process.drain(&mut self.env);
        if let Some(seconds) = notice {
            let notice = Duration::from_secs(seconds);
            self.env.after(notice, What::SwitchOff(worker));
        }
        true
    }

    fn kill_coordinator(&mut self, dice: &mut Random) -> bool {
        let ended = self.coordinator.outcome.is_some();
        if ended || self.coordinator.world.is_none() {
            return false;
        }
        self.coordinator.fuse = Some(dice.below(6));
        true
    }

    fn stop(&mut self) -> bool {
        if self.coordinator.stop_asked || self.coordinator.world.is_none() {
            return false;
        }
        self.coordinator.stop_asked = true;
        self.coordinator.event(&mut self.env, Event::Stop);
        true
    }
}
