//! What the coordinator decides, event by event.

mod drift;
mod flapping;
mod follow;
mod loss;
mod planned;
mod quiet;
mod shadow;
mod shadowed;
mod shares;
mod spares;
mod start;

use super::*;
use crate::world::message::WorkerCounters;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of every worker.
const TRAINS_ON: Duration = Duration::from_secs(300);

fn worker(id: u64) -> WorkerId {
    WorkerId(id)
}

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

/// A coordinator, what it has written down, and what it has just done.
struct Coordinator {
    world: World,
    now: Duration,
    durable: Durable,
    done: Vec<Command>,
}

/// The question whether a process lives, as every rule but that of the quiet asks it.
fn probe(id: u64) -> Command {
    Command::Probe {
        worker: worker(id),
        address: format!("node:{id}"),
        within: Duration::from_secs(1),
    }
}

fn settings(start_size: usize, members_min: usize, members_max: usize) -> Settings {
    Settings {
        start_size,
        members_min,
        members_max,
        spares: 0,
        patience: PATIENCE,
        micro_batches: 8,
    }
}

impl Coordinator {
    fn new(settings: Settings) -> Coordinator {
        let world = World::new(settings, 1, Durable::default(), Duration::ZERO);
        let mut coordinator = Coordinator {
            world,
            now: Duration::ZERO,
            durable: Durable::default(),
            done: Vec::new(),
        };
        coordinator.done = coordinator.world.begin();
        coordinator
    }

    /// A world of these workers at round 0, all of whom have said so.
    fn running(settings: Settings, workers: &[u64]) -> Coordinator {
        let mut coordinator = Coordinator::new(settings);
        for id in workers {
            coordinator.hello(*id);
        }
        coordinator.on(Event::Start {
            manifest: None,
            round: Round(0),
        });
        for id in workers {
            coordinator.restored(*id, 0);
        }
        coordinator.everybody_reports(workers, 0);
        coordinator.everybody_progresses(workers, 0);
        coordinator
    }

    /// The next coordinator, after a crash of this one.
    fn restarted(&self) -> Coordinator {
        let durable = self.durable.clone();
        let settings = self.world.settings.clone();
        let mut world = World::new(settings, 2, durable.clone(), self.now);
        let done = world.begin();
        Coordinator {
            world,
            now: self.now,
            durable,
            done,
        }
    }

    fn on(&mut self, event: Event) -> &[Command] {
        self.done = self.world.handle(self.now, event);
        for command in &self.done {
            if let Command::Persist(durable) = command {
                self.durable = durable.clone();
            }
        }
        &self.done
    }

    /// Time passes.
    fn later(&mut self, by: Duration) {
        self.now += by;
        self.on(Event::Tick);
    }

    fn hello(&mut self, id: u64) {
        self.hello_with(id, Holdings::default());
    }

    fn hello_with(&mut self, id: u64, holdings: Holdings) {
        let worker = worker(id);
        let member = Member {
            id: worker,
            address: format!("node:{id}"),
            weight: 1,
        };
        self.on(Event::Hello {
            trains_on: TRAINS_ON,
            shadow: false,
            worker,
            member,
            name: format!("node {id}"),
            holdings,
        });
    }

    fn says(&mut self, id: u64, message: FromWorker) {
        self.on(Event::From(worker(id), message));
    }

    /// Restored as told, before there was a world.
    fn restored(&mut self, id: u64, round: u64) {
        let generation = self.world.pool[&worker(id)].told;
        self.says(
            id,
            FromWorker::Ready {
                generation,
                round: Round(round),
                source: None,
            },
        );
    }

    /// Caught up with its source.
    fn caught_up(&mut self, id: u64, round: u64) {
        let node = &self.world.pool[&worker(id)];
        let (generation, source) = (node.told, node.source());
        self.says(
            id,
            FromWorker::Ready {
                generation,
                round: Round(round),
                source,
            },
        );
    }

    fn reports(&mut self, id: u64, installed: Generation, round: u64, held: &[u32]) {
        let generation = self.world.number;
        let holdings = Holdings {
            installed,
            fence: generation,
            round: Some(Round(round)),
            has_last_sum: round > 0,
            held: held.to_vec(),
            micro_batches: 6,
            leaving: None,
        };
        self.says(
            id,
            FromWorker::Report {
                generation,
                holdings,
            },
        );
    }

    fn everybody_reports(&mut self, workers: &[u64], round: u64) {
        let installed = self.current().map_or(Generation::NONE, |r| r.generation);
        for id in workers {
            self.reports(*id, installed, round, &[]);
        }
    }

    fn progresses(&mut self, id: u64, generation: Generation, round: u64) {
        self.progresses_awaiting(id, generation, round, &[]);
    }

    fn progresses_awaiting(&mut self, id: u64, generation: Generation, round: u64, awaits: &[u64]) {
        let (round, counters) = (Round(round), WorkerCounters::default());
        self.says(
            id,
            FromWorker::Progress {
                generation,
                round,
                counters,
                awaits: awaits.iter().copied().map(worker).collect(),
            },
        );
    }

    fn everybody_progresses(&mut self, workers: &[u64], round: u64) {
        let generation = self.current().expect("a world").generation;
        for id in workers {
            self.progresses(*id, generation, round);
        }
    }

    fn drain(&mut self, id: u64) {
        self.says(
            id,
            FromWorker::Drain {
                reason: "notice".into(),
            },
        );
    }

    fn dies(&mut self, id: u64) {
        self.on(Event::SessionBroken(worker(id)));
        assert_eq!(self.done, [probe(id)]);
        self.on(Event::Probed(worker(id), Probe::Refused));
    }

    fn commits(&mut self, id: u64, round: u64, last: bool) {
        let (manifest, round) = (format!("round {round}"), Round(round));
        self.says(
            id,
            FromWorker::Committed {
                manifest,
                round,
                last,
            },
        );
    }

    fn current(&self) -> Option<&GenerationRecord> {
        self.world.current()
    }

    fn members(&self) -> Vec<u64> {
        let members = self
            .current()
            .map(|r| r.members.iter().map(|m| m.id.0).collect());
        members.unwrap_or_default()
    }

    /// What this worker was just told.
    fn told(&self, id: u64) -> Vec<&ToWorker> {
        let told = self.done.iter().filter_map(|command| match command {
            Command::Send(to, message) if *to == worker(id) => Some(message),
            _ => None,
        });
        told.collect()
    }

    fn released(&self, id: u64) -> Option<&ReleaseReason> {
        self.told(id).into_iter().find_map(|message| match message {
            ToWorker::Release(reason) => Some(reason),
            _ => None,
        })
    }

    fn is_told(&self, id: u64, what: &str) -> bool {
        self.told(id)
            .iter()
            .any(|message| format!("{message:?}").starts_with(what))
    }

    fn notes(&self) -> Vec<&Note> {
        let notes = self.done.iter().filter_map(|command| match command {
            Command::Note(note) => Some(note),
            _ => None,
        });
        notes.collect()
    }

    /// The generation with which this worker was just noted as a new member.
    fn joined(&self, id: u64) -> Option<Generation> {
        self.notes().into_iter().find_map(|note| match note {
            Note::Joined {
                worker, generation, ..
            } if worker.0 == id => Some(*generation),
            _ => None,
        })
    }

    /// What was just noted about this worker's departure.
    fn left(&self, id: u64) -> Option<&Departure> {
        self.notes().into_iter().find_map(|note| match note {
            Note::Left {
                worker, departure, ..
            } if worker.0 == id => Some(departure),
            _ => None,
        })
    }

    /// Nobody hears of a number or a world that isn't written down.
    fn assert_durable_first(&self) {
        let persisted = self
            .done
            .iter()
            .position(|c| matches!(c, Command::Persist(_)));
        let sent = self.done.iter().position(|c| {
            let Command::Send(_, message) = c else {
                return false;
            };
            use ToWorker::{Install, Prepare, Propose};
            matches!(message, Prepare { .. } | Install(_) | Propose(_))
        });
        assert!(persisted < sent, "{:?}", self.done);
        assert!(persisted.is_some());
    }
}

fn auto() -> Settings {
    settings(1, 1, 8)
}

/// Worker 3 comes to the world of 1 and 2 and has caught up at round 5.
fn with_a_newcomer() -> Coordinator {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    assert!(c.is_told(3, "Follow"));
    c.caught_up(3, 5);
    c
}
