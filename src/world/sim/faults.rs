//! What goes wrong, and when.

use super::super::WorkerId;
use super::super::membership::Event;
use super::super::message::FromWorker;
use super::env::Env;
use super::network::Kind;
use super::run::Run;
use super::values::Random;

/// One kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A worker's process is gone, between any two commands.
    WorkerKilled,
    /// All of them at once.
    EverybodyKilled,
    /// Two members that live lose their connection.
    ExchangeBroken,
    /// A worker and the coordinator, both alive, lose theirs.
    SessionBroken,
    /// The same, and for a long time there is no way back.
    CutOff,
    /// A follower and its source lose theirs.
    StreamBroken,
    /// The coordinator's process is gone, between any two commands.
    CoordinatorKilled,
    /// The next checkpoints can't be written.
    StoreDown,
    /// A worker has notice to leave.
    Drain,
    /// Another process comes.
    Join,
    /// A person stops the coordinator.
    Stop,
}

use Fault::*;

/// All kinds, with how often each is drawn.
const KINDS: [(Fault, usize); 11] = [
    (WorkerKilled, 8),
    (EverybodyKilled, 1),
    (ExchangeBroken, 5),
    (SessionBroken, 5),
    (CutOff, 3),
    (StreamBroken, 3),
    (CoordinatorKilled, 5),
    (StoreDown, 2),
    (Drain, 5),
    (Join, 9),
    (Stop, 1),
];

/// The faults of one run.
pub struct Plan {
    kinds: Vec<Fault>,
    left: usize,
    /// One in so many steps.
    every: usize,
    /// No more of them after this step.
    pub until: u64,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Plan {
        let all: Vec<Fault> = KINDS.iter().flat_map(|(f, n)| vec![*f; *n]).collect();
        // Few kinds at a time: a drain alone, for one, has to cost nothing.
        let some = random.range(1, 6);
        let kinds = if random.chance(70) {
            (0..some).map(|_| random.pick(&all)).collect()
        } else {
            all
        };
        Plan {
            kinds,
            left: random.range(0, 12),
            every: random.pick(&[10, 20, 40, 80]),
            until: random.pick(&[200, 500, 1500]),
        }
    }

    /// Whether everything that can happen costs no gradient.
    pub fn costs_nothing(&self) -> bool {
        let free = [
            ExchangeBroken,
            SessionBroken,
            CutOff,
            StreamBroken,
            StoreDown,
            Drain,
            Join,
        ];
        self.kinds.iter().all(|kind| free.contains(kind))
    }

    pub fn next(&mut self, env: &mut Env) -> Option<Fault> {
        if self.left == 0 || env.step > self.until || env.random.below(self.every) > 0 {
            return None;
        }
        self.left -= 1;
        Some(env.random.pick(&self.kinds))
    }
}

impl Run {
    pub(super) fn strike(&mut self, fault: Fault) {
        let living: Vec<WorkerId> = self.env.alive.iter().copied().collect();
        let struck = match fault {
            Join => {
                self.coming += 1;
                true
            }
            StoreDown => {
                self.env.store.failing = 2;
                true
            }
            CoordinatorKilled => self.kill_coordinator(),
            Stop => self.stop(),
            ExchangeBroken => self.cut(Kind::Exchange),
            SessionBroken => self.cut(Kind::Control),
            CutOff => self.cut_off(),
            StreamBroken => self.cut(Kind::Stream),
            EverybodyKilled => {
                living.iter().for_each(|worker| self.kill(*worker, 0));
                !living.is_empty()
            }
            WorkerKilled | Drain if living.is_empty() => false,
            WorkerKilled => {
                let (worker, after) = (self.env.random.pick(&living), self.env.random.below(8));
                self.kill(worker, after);
                true
            }
            Drain => {
                let worker = self.env.random.pick(&living);
                self.drain(worker)
            }
        };
        if struck {
            self.env.log(|| format!("FAULT {fault:?}"));
            self.env.count(name(fault));
        }
    }

    fn cut(&mut self, kind: Kind) -> bool {
        let up = self.env.net.up(kind);
        if up.is_empty() {
            return false;
        }
        let link = self.env.random.pick(&up);
        self.env.net.cut(link, &mut self.env.random);
        true
    }

    fn cut_off(&mut self) -> bool {
        let steps = self.env.random.range(100, 1000) as u64;
        let with_session = self.processes.values_mut().filter(|p| p.session.is_some());
        let mut with_session: Vec<_> = with_session.collect();
        if with_session.is_empty() {
            return false;
        }
        let chosen = self.env.random.below(with_session.len());
        let process = with_session.swap_remove(chosen);
        process.cut_off_until = self.env.step + steps;
        if let Some(link) = process.session {
            self.env.net.cut(link, &mut self.env.random);
        }
        true
    }

    fn kill(&mut self, worker: WorkerId, after: usize) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.fuse = Some(after);
        }
    }

    fn drain(&mut self, worker: WorkerId) -> bool {
        let by_a_person = self.env.random.chance(30);
        let Some(process) = self.processes.get_mut(&worker).filter(|p| !p.draining) else {
            return false;
        };
        if by_a_person {
            process.draining = true;
            let told = FromWorker::Drain {
                reason: "asked to by a person".into(),
            };
            self.coordinator
                .event(&mut self.env, Event::From(worker, told));
        } else {
            process.drain(&mut self.env);
        }
        true
    }

    fn kill_coordinator(&mut self) -> bool {
        let ended = self.coordinator.outcome.is_some();
        if ended || self.coordinator.world.is_none() {
            return false;
        }
        self.coordinator.fuse = Some(self.env.random.below(6));
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

pub fn name(fault: Fault) -> &'static str {
    match fault {
        WorkerKilled => "worker killed",
        EverybodyKilled => "everybody killed",
        ExchangeBroken => "exchange broken",
        SessionBroken => "session broken",
        CutOff => "cut off",
        StreamBroken => "stream broken",
        CoordinatorKilled => "coordinator killed",
        StoreDown => "store down",
        Drain => "drain",
        Join => "join",
        Stop => "stop",
    }
}
