//! A generation's record: all that its members have to agree on.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Generation, Ranked, Round, Shared, WorkerId, assign};

/// A member of a world, as every other member needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub id: WorkerId,
    /// `HOST:PORT` at which its peers reach it.
    pub address: String,
    /// Its share of the work, relative to the other members'.
    pub weight: u32,
}

/// How a generation comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// By an Install, after a loss or at the start.
    Installed,
    /// By the votes of all members of the generation before.
    Planned {
        /// The generation whose members vote.
        from: Generation,
    },
}

/// Shares of the first round after an Install: what each member's partial sum
/// already holds, and the micro-batches that are handed out again.
pub type FirstShares = BTreeMap<WorkerId, Vec<u32>>;

/// One world: who is in it, from which round on, and who computes what.
///
/// The coordinator writes it down durably before anybody hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Its number.
    pub generation: Generation,
    /// Ranked: the first member sums the trailers and commits checkpoints.
    pub members: Ranked,
    /// The round that an Install's members complete first. Unused in a planned
    /// change, which takes effect when the votes say so.
    pub base: Round,
    /// Micro-batches of round `base`, if they differ from the usual shares.
    pub first: Option<Shared<FirstShares>>,
    /// Holds sum `base - 1`, for members that lack it.
    pub source: Option<Member>,
    /// Processes that leave with this generation and wait until they may.
    pub leavers: Vec<WorkerId>,
    /// Too few members: they keep their state and wait for more.
    pub paused: bool,
    /// Who writes the checkpoints and tells what was decided: the shadow, or the
    /// first member if there is none.
    #[serde(default)]
    pub writer: Option<WorkerId>,
    /// How it comes into force.
    pub origin: Origin,
}

impl GenerationRecord {
    /// A world of these from the first round on, all in their usual shares.
    pub fn installed(generation: Generation, members: Vec<Member>) -> GenerationRecord {
        GenerationRecord {
            generation,
            members: members.into(),
            base: Round(0),
            first: None,
            source: None,
            leavers: Vec::new(),
            paused: false,
            writer: None,
            origin: Origin::Installed,
        }
    }

    /// The place of a member in the exchange, if it is one.
    pub fn rank(&self, worker: WorkerId) -> Option<usize> {
        self.members.rank(worker)
    }

    /// Whether the worker is a member.
    pub fn has(&self, worker: WorkerId) -> bool {
        self.rank(worker).is_some()
    }

    /// Whether this one writes the checkpoints and tells what was decided.
    pub fn is_written_by(&self, worker: WorkerId) -> bool {
        match self.writer {
            Some(writer) => writer == worker,
            None => self.rank(worker) == Some(0),
        }
    }

    /// The member of that id.
    pub fn member(&self, worker: WorkerId) -> Option<&Member> {
        self.rank(worker).map(|rank| &self.members[rank])
    }

    /// The micro-batches of `round`, of which there are `micro_batches` in
    /// all, that `worker` has to contribute.
    pub fn share(&self, worker: WorkerId, round: Round, micro_batches: u32) -> Vec<u32> {
        if let (Some(first), true) = (&self.first, round == self.base) {
            return first.get(&worker).cloned().unwrap_or_default();
        }
        let Some(rank) = self.rank(worker) else {
            return Vec::new();
        };
        self.usual_shares(micro_batches)[rank].clone().collect()
    }

    /// Everybody's micro-batches, by rank, of a round that no Install divides
    /// otherwise.
    pub fn usual_shares(&self, micro_batches: u32) -> Vec<Range<u32>> {
        let weights: Vec<u32> = self.members.iter().map(|m| m.weight).collect();
        assign(micro_batches, &weights)
    }
}
