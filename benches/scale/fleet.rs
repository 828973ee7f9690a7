//! Simulated workers around a real `World`: they answer at once and compute
//! nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ebbtide::wire::ToMany;
use ebbtide::wire::control::{WorkerMessage, worker_message::Body};
use ebbtide::world::membership::{Command, Durable, Event, Probe, Settings, World};
use ebbtide::world::message::{FromWorker, Holdings, ToWorker, WorkerCounters};
use ebbtide::world::{Generation, GenerationRecord, Member, Round, WorkerId};
use prost::Message;

const TICK: Duration = Duration::from_millis(100);

/// How large a fleet is.
#[derive(Clone, Copy)]
pub struct Size {
    pub workers: usize,
    pub micro_batches: u32,
}

impl Size {
    pub fn of(workers: usize, micro_batches: u32) -> Size {
        Size {
            workers,
            micro_batches,
        }
    }
}

/// What something has cost.
#[derive(Clone, Copy, Default)]
pub struct Costs {
    /// Within the world, on one core.
    pub deciding: Duration,
    /// Of the longest single event.
    pub worst: Duration,
    pub messages_out: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
}

/// What a worker knows.
#[derive(Clone, Default)]
struct Worker {
    fence: Generation,
    installed: Generation,
    round: Option<Round>,
    /// Its partial sum.
    held: Vec<u32>,
    micro_batches: u64,
}

pub struct Fleet {
    world: World,
    durable: Durable,
    now: Duration,
    size: Size,
    workers: BTreeMap<WorkerId, Worker>,
    last: u32,
    /// In force, with the share of each.
    record: Option<GenerationRecord>,
    /// Proposed to the members.
    proposed: Option<GenerationRecord>,
    many: ToMany,
    costs: Costs,
    coming: VecDeque<Event>,
}

impl Fleet {
    /// One whose first world waits for so many.
    pub fn new(size: Size, start_size: usize) -> Fleet {
        let settings = Settings {
            start_size,
            members_min: 1,
            micro_batches: size.micro_batches,
            members_max: size.micro_batches as usize,
            spares: 0,
            patience: Duration::from_secs(30),
        };
        let mut fleet = Fleet {
            world: World::new(settings, 1, Durable::default(), Duration::ZERO),
            durable: Durable::default(),
            now: Duration::ZERO,
            size,
            workers: BTreeMap::new(),
            last: 0,
            record: None,
            proposed: None,
            many: ToMany::default(),
            costs: Costs::default(),
            coming: VecDeque::new(),
        };
        for command in fleet.world.begin() {
            fleet.command(command);
        }
        fleet.settle();
        fleet
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    pub fn members(&self) -> Vec<WorkerId> {
        let members = self.world.current().map(|r| r.members.iter());
        members.into_iter().flatten().map(|m| m.id).collect()
    }

    /// What this costs.
    pub fn costs(&mut self, act: impl FnOnce(&mut Fleet)) -> Costs {
        let before = std::mem::take(&mut self.costs);
        act(self);
        let these = self.costs;
        self.costs = Costs {
            deciding: before.deciding + these.deciding,
            worst: before.worst.max(these.worst),
            messages_out: before.messages_out + these.messages_out,
            bytes_out: before.bytes_out + these.bytes_out,
            bytes_in: before.bytes_in + these.bytes_in,
        };
        these
    }

    /// So many come, and become members as far as there is room.
    pub fn hire(&mut self, count: usize) {
        self.newest(count);
    }

    /// So many come; who they are.
    pub fn newest(&mut self, count: usize) -> Vec<WorkerId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            self.last += 1;
            let worker = WorkerId::new(1, self.last);
            self.workers.insert(worker, Worker::default());
            let host = self.last;
            let member = Member {
                id: worker,
                address: format!("10.{}.{}.{}:29500", host >> 16, host >> 8 & 255, host & 255),
                weight: 1,
            };
            self.coming.push_back(Event::Hello {
                worker,
                member,
                name: format!("node-{host} (1 device)"),
                holdings: Holdings::default(),
                shadow: false,
                trains_on: Duration::from_secs(300),
            });
            ids.push(worker);
        }
        self.settle();
        ids
    }

    /// These are gone: their peers complain, their sessions break, and nobody
    /// listens any more.
    pub fn lose(&mut self, gone: &[WorkerId]) {
        let gone: BTreeSet<WorkerId> = gone.iter().copied().collect();
        self.workers.retain(|worker, _| !gone.contains(worker));
        let members: BTreeSet<WorkerId> = self.members().into_iter().collect();
        let complainers: Vec<WorkerId> = members.difference(&gone).copied().collect();
        let generation = self
            .record
            .as_ref()
            .map_or(Generation::NONE, |r| r.generation);
        for peer in gone.intersection(&members) {
            for worker in complainers
                .iter()
                .take(if gone.len() == 1 { usize::MAX } else { 8 })
            {
                self.say(
                    *worker,
                    FromWorker::PeerLost {
                        peer: *peer,
                        generation,
                        garbled: false,
                    },
                );
            }
        }
        let broken = gone.iter().map(|worker| Event::SessionBroken(*worker));
        self.coming.extend(broken);
        self.settle();
    }

    /// A step is over, and everybody says so.
    pub fn everybody_speaks(&mut self) {
        let record = self.record.clone();
        for (worker, state) in &mut self.workers {
            if record.as_ref().is_some_and(|r| r.has(*worker)) {
                state.round = state.round.map(Round::next);
                state.micro_batches += state.held.len() as u64;
            }
        }
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        all.into_iter().for_each(|worker| self.tell(worker));
        self.settle();
    }

    pub fn tick(&mut self) {
        self.now += TICK;
        self.coming.push_back(Event::Tick);
        self.settle();
    }

    fn say(&mut self, worker: WorkerId, message: FromWorker) {
        let body = Some(Body::from(message.clone()));
        self.costs.bytes_in += WorkerMessage { body }.encoded_len() as u64;
        self.coming.push_back(Event::From(worker, message));
    }

    fn tell(&mut self, worker: WorkerId) {
        let Some(state) = self.workers.get(&worker) else {
            return;
        };
        let Some(round) = state.round else { return };
        let counters = WorkerCounters {
            micro_batches: state.micro_batches,
            sums_fetched: 0,
            steps: round.0,
            timed: state.micro_batches,
            computing: Duration::from_millis(10) * state.micro_batches as u32,
            damaged_frames: 0,
        };
        let told = FromWorker::Progress {
            generation: state.installed,
            round,
            counters,
            awaits: Vec::new(),
        };
        self.say(worker, told);
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.coming.pop_front() {
                let begun = Instant::now();
                let commands = self.world.handle(self.now, event);
                let took = begun.elapsed();
                self.costs.deciding += took;
                self.costs.worst = self.costs.worst.max(took);
                commands.into_iter().for_each(|c| self.command(c));
            }
            let Some(record) = self.proposed.take() else {
                return;
            };
            self.enter(record);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Persist(durable) => self.durable = durable,
            Command::Send(worker, message) => self.told(worker, message),
            Command::Probe { worker, .. } => {
                let probe = match self.workers.contains_key(&worker) {
                    true => Probe::Accepted,
                    false => Probe::Refused,
                };
                self.coming.push_back(Event::Probed(worker, probe));
            }
            Command::FindStart => self.coming.push_back(Event::Start {
                manifest: None,
                round: Round(0),
            }),
            Command::Note(_) | Command::End(_) | Command::GoBack(_) => {}
        }
    }

    fn told(&mut self, worker: WorkerId, message: ToWorker) {
        let written = self.many.message(message.clone());
        self.costs.messages_out += 1;
        self.costs.bytes_out += written.encoded_len() as u64;
        let Some(state) = self.workers.get_mut(&worker) else {
            return;
        };
        match message {
            ToWorker::Restore { generation, .. } => {
                state.fence = generation;
                state.round = Some(Round(0));
                let (round, source) = (Round(0), None);
                self.say(
                    worker,
                    FromWorker::Ready {
                        generation,
                        round,
                        source,
                    },
                );
            }
            ToWorker::Prepare { generation } => {
                state.fence = generation;
                let holdings = Holdings {
                    installed: state.installed,
                    fence: generation,
                    round: state.round,
                    has_last_sum: state.round.is_some_and(|r| r > Round(0)),
                    held: state.held.clone(),
                    micro_batches: self.size.micro_batches,
                    leaving: None,
                };
                self.say(
                    worker,
                    FromWorker::Report {
                        generation,
                        holdings,
                    },
                );
            }
            ToWorker::Install(record) => {
                state.fence = record.generation;
                if record.has(worker) {
                    state.installed = record.generation;
                    state.round = Some(record.base);
                    self.learn(&record);
                    self.tell(worker);
                }
            }
            ToWorker::Propose(record) => {
                let generation = record.generation;
                if state.installed == Generation::NONE {
                    self.say(worker, FromWorker::Ack { generation });
                } else {
                    self.proposed = Some(record);
                }
            }
            ToWorker::Follow { source, .. } => {
                let generation = state.fence;
                let round = self.workers.get(&source).and_then(|s| s.round);
                let round = round.unwrap_or_default();
                let source = Some(source);
                self.say(
                    worker,
                    FromWorker::Ready {
                        generation,
                        round,
                        source,
                    },
                );
            }
            ToWorker::RestoreFrom { .. } | ToWorker::Save | ToWorker::Release(_) => {}
        }
    }

    /// All have voted: the planned world is in force after the next sum.
    fn enter(&mut self, record: GenerationRecord) {
        let round = self
            .members()
            .iter()
            .filter_map(|w| self.workers.get(w)?.round)
            .max();
        let next = round.unwrap_or_default().next();
        for member in &record.members {
            if let Some(state) = self.workers.get_mut(&member.id) {
                state.installed = record.generation;
                state.fence = record.generation;
                state.round = Some(next);
            }
        }
        self.learn(&record);
        let members: Vec<WorkerId> = record.members.iter().map(|m| m.id).collect();
        members.into_iter().for_each(|worker| self.tell(worker));
    }

    /// Everybody's partial is complete, as it is after the contributions.
    fn learn(&mut self, record: &GenerationRecord) {
        if self
            .record
            .as_ref()
            .is_some_and(|r| r.generation == record.generation)
        {
            return;
        }
        let shares = record.usual_shares(self.size.micro_batches);
        for (rank, member) in record.members.iter().enumerate() {
            if let Some(state) = self.workers.get_mut(&member.id) {
                let first = record
                    .first
                    .as_ref()
                    .and_then(|first| first.get(&member.id));
                state.held = match first {
                    Some(share) => share.clone(),
                    None => shares[rank].clone().collect(),
                };
            }
        }
        self.record = Some(record.clone());
    }
}
