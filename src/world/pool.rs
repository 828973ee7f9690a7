//! Who is here: every worker with a session, or whose session has just broken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::WorkerCounters;
use super::{Generation, Heard, Member, Round, Speed, WorkerId};

/// The control session of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Messages reach it.
    Open,
    /// It broke; a suspicion, not a death.
    Broken {
        /// When.
        since: Duration,
    },
}

/// How far a worker that computes nothing yet has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approach {
    /// It was told nothing yet, or nothing that it could do.
    Idle,
    /// It restores the state from which the world starts.
    Restoring,
    /// It catches up with a member.
    Following {
        /// Which one.
        source: WorkerId,
        /// The first round whose sum it is sent, if it needs a checkpoint.
        needs: Option<Round>,
    },
    /// It holds the state that the world starts from, or has caught up.
    Ready {
        /// The member it follows, if there is a world.
        source: Option<WorkerId>,
        /// Its round.
        round: Round,
    },
}

/// One worker as the coordinator knows it.
#[derive(Clone, Debug)]
pub struct Node {
    /// How peers reach it and how much it can do.
    pub member: Member,
    /// It follows for ever: it has no gradients to give.
    pub shadow: bool,
    /// For people: `name (devices)`.
    pub name: String,
    /// Its control session.
    pub session: Session,
    /// How far it has come, if it is no member.
    pub approach: Approach,
    /// The newest number it was told by a Prepare, Install or Restore: what it
    /// says of an older one is out of date.
    pub told: Generation,
    /// The generation and round of its last word.
    pub progress: (Generation, Round),
    /// What it has done so far.
    pub counters: WorkerCounters,
    /// How fast it computes.
    pub speed: Speed,
    /// When it spoke.
    pub heard: Heard,
    /// When its first session opened.
    pub came: Duration,
    /// When its count of micro-batches last grew.
    pub worked: Duration,
    /// Members whose part of the round is missing there.
    pub awaits: Vec<WorkerId>,
    /// When it last said that its source is gone.
    pub source_lost: Option<Duration>,
    /// It asked to leave.
    pub leaving: Option<String>,
    /// A peer said it can't be reached, in this generation.
    pub accused: Option<(WorkerId, Generation)>,
    /// Told to go; its end of session is no news.
    pub released: bool,
}

impl Node {
    /// The member it follows.
    pub fn source(&self) -> Option<WorkerId> {
        match self.approach {
            Approach::Following { source, .. } => Some(source),
            Approach::Ready { source, .. } => source,
            Approach::Idle | Approach::Restoring => None,
        }
    }

    /// Whether messages reach it, and it has not been let go.
    pub fn is_reached(&self) -> bool {
        self.session == Session::Open && !self.released
    }

    /// Whether messages reach it and it wants to stay.
    pub fn available(&self) -> bool {
        self.is_reached() && self.leaving.is_none()
    }

    /// Whether it could be a member.
    pub fn can_train(&self) -> bool {
        self.available() && !self.shadow
    }
}

/// All workers of a run, by id.
pub type Pool = BTreeMap<WorkerId, Node>;
