//! What a worker does, event by event.

mod fence;
mod follow;
mod round;

use std::sync::Arc;

use super::super::message::ReleaseReason;
use super::*;
use crate::world::{FirstShares, Member as Node};

const ME: WorkerId = WorkerId(2);
const FIRST: WorkerId = WorkerId(1);

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

fn node(id: u64) -> Node {
    Node {
        id: WorkerId(id),
        address: format!("node:{id}"),
        weight: 1,
    }
}

fn world(counter: u32, members: &[u64]) -> GenerationRecord {
    let members = members.iter().map(|id| node(*id)).collect();
    GenerationRecord::installed(generation(counter), members)
}

fn change(counter: u32, from: u32, members: &[u64]) -> GenerationRecord {
    let origin = Origin::Planned {
        from: generation(from),
    };
    GenerationRecord {
        origin,
        ..world(counter, members)
    }
}

const NEXT: Next = Next::Round {
    micro_batches: 4,
    values: 1,
};

/// A worker and what it was last told to do.
struct Worker {
    member: Member,
    task: Task,
}

impl Worker {
    fn new(id: WorkerId) -> Worker {
        let buckets = Arc::new(|_: u64, owners: usize| vec![1; owners]);
        Worker {
            member: Member::new(id, buckets),
            task: 0,
        }
    }

    /// At round 0, with nothing to do.
    fn restored(id: WorkerId) -> Worker {
        let mut worker = Worker::new(id);
        worker.told(ToWorker::Restore {
            generation: generation(0),
            manifest: None,
        });
        worker.restored_at(0);
        worker
    }

    /// A member of this world, computing its share.
    fn member_of(id: WorkerId, record: GenerationRecord) -> Worker {
        let mut worker = Worker::restored(id);
        worker.told(ToWorker::Prepare {
            generation: record.generation,
        });
        worker.told(ToWorker::Install(record));
        worker
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        let commands = self.member.handle(event).expect("no violation");
        for command in &commands {
            match command {
                Command::Compute { task, .. }
                | Command::Apply { task, .. }
                | Command::Restore { task, .. } => self.task = *task,
                _ => {}
            }
        }
        commands
    }

    fn told(&mut self, message: ToWorker) -> Vec<Command> {
        self.on(Event::Control(message))
    }

    fn restored_at(&mut self, round: u64) -> Vec<Command> {
        self.on(Event::Restored {
            task: self.task,
            round: Round(round),
            next: NEXT,
        })
    }

    fn computed(&mut self, held: &[u32]) -> Vec<Command> {
        self.on(Event::Computed {
            task: self.task,
            held: held.to_vec(),
        })
    }

    /// Somebody's part of the only bucket that this worker owns is added.
    fn contributed(&mut self, from: WorkerId) -> Vec<Command> {
        self.on(Event::Contributed { from, bucket: 0 })
    }

    /// The only bucket of another owner has come.
    fn reduced(&mut self, from: WorkerId) -> Vec<Command> {
        self.on(Event::Reduced { from, bucket: 0 })
    }

    fn applied(&mut self) -> Vec<Command> {
        self.on(Event::Applied {
            task: self.task,
            next: NEXT,
            checkpoint: false,
        })
    }

    /// Worker 2 of the world of workers 1 and 2 gets all pieces of a round.
    fn exchanged(&mut self, votes: &[(u32, u32)]) -> Vec<Command> {
        self.contributed(ME);
        self.contributed(FIRST);
        self.reduced(FIRST);
        let votes = votes
            .iter()
            .map(|(change, n)| (generation(*change), *n))
            .collect();
        self.on(Event::TrailerReduced { votes })
    }
}

fn told_of(commands: &[Command]) -> Vec<&FromWorker> {
    let told = commands.iter().filter_map(|c| match c {
        Command::Tell(message) => Some(message),
        _ => None,
    });
    told.collect()
}

fn share_of(commands: &[Command]) -> Option<(&[u32], bool)> {
    commands.iter().find_map(|c| match c {
        Command::Compute {
            micro_batches,
            fresh,
            ..
        } => Some((&micro_batches[..], *fresh)),
        _ => None,
    })
}
