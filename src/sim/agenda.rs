//! What is due, and when: virtual time goes from one entry to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::network::{End, LinkId, Node};
use crate::world::WorkerId;

/// Something that happens at its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    /// The next thing on a connection reaches this side of it.
    Deliver(LinkId, usize),
    /// This side of a connection has heard nothing for as long as it bears.
    Silence(LinkId, usize),
    /// The compute thread has finished its next bit.
    Work(WorkerId),
    /// A snapshot comes one object further on its way to the store.
    Upload(WorkerId),
    /// A worker without a session tries to open one.
    OpenSession(WorkerId),
    /// A worker has been without a session since the given one was lost.
    GiveUp(WorkerId, LinkId),
    /// A worker tells where it is.
    Progress(WorkerId),
    /// What a node's coordinator has asked somebody else for comes back.
    Errand(Node, u64),
    /// A process comes.
    Register,
    /// A node's coordinator is started, or started again.
    StartCoordinator(Node),
    /// A coordinator that was started on another node comes so far.
    Second(Node, Second),
    /// Time passes for a node's coordinator.
    Tick(Node),
    /// Time passes.
    Watch,
    /// The fault of this number strikes.
    Fault(usize),
    /// A drained node is switched off, whatever it still has to do.
    SwitchOff(WorkerId),
    /// No more faults from now on.
    Heal,
}

impl What {
    /// Whose process has to run for it to happen.
    pub fn who(&self) -> Option<End> {
        match *self {
            What::Work(id)
            | What::Upload(id)
            | What::OpenSession(id)
            | What::GiveUp(id, _)
            | What::Progress(id) => Some(End::Worker(id)),
            What::Errand(node, _) | What::Tick(node) => Some(End::Coordinator(node)),
            _ => None,
        }
    }
}

/// How far the start of a second coordinator has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Second {
    /// It asks at the address that the first one left in the store.
    Asks,
    /// It has waited for an answer.
    Waited,
    /// It takes the next incarnation.
    Takes,
    /// The name that both have moves, and sessions break.
    Moves,
}

/// Everything that is due.
#[derive(Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(Duration, u64, What)>>,
    last: u64,
}

impl Agenda {
    /// Entries of one moment happen in the order in which they were made.
    pub fn at(&mut self, when: Duration, what: What) {
        self.last += 1;
        self.heap.push(Reverse((when, self.last, what)));
    }

    pub fn next(&mut self) -> Option<(Duration, What)> {
        let Reverse((when, _, what)) = self.heap.pop()?;
        Some((when, what))
    }
}
