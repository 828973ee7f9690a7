//! What rides with a sum: exact totals, votes for a planned change, the members'
//! state digests, and which shards of a checkpoint they have written.
//!
//! The totals are part of the sum; the rest is attached when a contribution is
//! sent and doesn't survive a change of generation. Whoever has written a shard
//! says so again until a complete trailer has carried it.

use std::collections::BTreeMap;

use crate::checkpoint::{self, Part};
use crate::exact::{MergeError, Totals, TotalsError};
use crate::world::membership::{Drift, HeldState};
use crate::world::{Generation, Round, WorkerId};

/// A member's state after a round, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StateDigest {
    pub round: u64,
    pub sha256: [u8; 32],
}

/// A state, and the members that said they hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub digest: StateDigest,
    pub by: Vec<WorkerId>,
}

/// A shard of a checkpoint that a member has put into the store. Its key follows
/// from this and the plan of shards, which all members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub by: WorkerId,
    /// The last round in the state.
    pub round: u64,
    pub part: Part,
    pub index: u32,
    /// Of the shard's bytes.
    pub sha256: [u8; 32],
}

/// One member's trailer, or the sum of several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trailer {
    pub totals: Totals,
    /// How many members hold which change.
    pub votes: BTreeMap<Generation, u32>,
    /// Different states that members reported; more than one of a round is a
    /// drift.
    pub digests: Vec<Held>,
    /// The newest round after which all members have held the same, as far as
    /// any of them knows.
    pub agreed: u64,
    /// Shards that members have written.
    pub written: Vec<Written>,
}

/// Trailers that can't be.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrailerError {
    #[error("its trailer is cut short")]
    Short,
    #[error("its trailer names {0} changes, digests or shards")]
    TooMany(u32),
    #[error("its trailer names a shard of an unknown part")]
    Part,
    #[error("its totals make no sense: {0}")]
    Totals(#[from] TotalsError),
    #[error("its trailer is of another model: {metrics} metrics, {parameters} parameters")]
    Shape { metrics: usize, parameters: usize },
    #[error("its trailer covers other micro-batches than it should")]
    Share,
    #[error("its trailer counts more than its micro-batches can hold")]
    Excess,
    #[error("its trailer votes or speaks for several")]
    Votes,
}

/// How large the sum of a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Length of the vector.
    pub values: usize,
    /// Metrics in the totals.
    pub metrics: usize,
    /// Parameters in the totals.
    pub parameters: usize,
}

impl Shape {
    /// Of an evaluation of the same model: it has no gradients.
    pub fn of_evaluation(self) -> Shape {
        Shape {
            values: 0,
            parameters: 0,
            ..self
        }
    }
}

/// One change is pending at a time; a few may be in flight.
const ENTRIES_MAX: u32 = 64;
/// Shards that one member tells of at a time.
pub(super) const WRITTEN_OF_ONE_MAX: usize = 32;
/// Of all members in one round, 27 KB; who finds no room comes again.
const WRITTEN_MAX: usize = 512;
/// No world has more members.
const HOLDERS_MAX: u32 = 1 << 16;

impl Trailer {
    pub fn new(totals: Totals) -> Trailer {
        Trailer {
            totals,
            votes: BTreeMap::new(),
            digests: Vec::new(),
            agreed: 0,
            written: Vec::new(),
        }
    }

    /// Adds another member's.
    pub fn merge(&mut self, other: &Trailer) -> Result<(), MergeError> {
        self.totals.merge(&other.totals)?;
        for (change, votes) in &other.votes {
            let sum = self.votes.entry(*change).or_default();
            *sum = sum.saturating_add(*votes);
        }
        for held in &other.digests {
            let known = self.digests.len();
            match self.digests.iter_mut().find(|h| h.digest == held.digest) {
                Some(same) => same.by.extend(&held.by),
                None if known < ENTRIES_MAX as usize => {
                    self.digests.push(held.clone());
                }
                None => {}
            }
        }
        self.agreed = self.agreed.max(other.agreed);
        let room = WRITTEN_MAX.saturating_sub(self.written.len());
        self.written.extend(other.written.iter().take(room));
        Ok(())
    }

    /// Whether members' states differ after a round, and which.
    pub fn drift(&self) -> Option<Drift> {
        let round_of = |held: &Held| held.digest.round;
        let drifted = |a: &&Held| {
            self.digests
                .iter()
                .filter(|b| round_of(b) == round_of(a))
                .count()
                > 1
        };
        let round = self.digests.iter().find(drifted).map(round_of)?;
        let of_round = self.digests.iter().filter(|held| round_of(held) == round);
        let states = of_round.map(|held| HeldState {
            chain: checkpoint::hex(&held.digest.sha256),
            by: held.by.clone(),
        });
        Some(Drift {
            round: Round(round),
            agreed: Round(self.agreed),
            states: states.collect(),
        })
    }

    /// What so many members, all there are, have held alike.
    pub fn agreed_by(&self, members: usize) -> Option<&StateDigest> {
        match &self.digests[..] {
            [held] if held.by.len() == members => Some(&held.digest),
            _ => None,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let totals = self.totals.to_bytes();
        let mut bytes = Vec::with_capacity(totals.len() + 64);
        bytes.extend((totals.len() as u32).to_le_bytes());
        bytes.extend(&totals);
        bytes.extend((self.votes.len() as u32).to_le_bytes());
        for (change, votes) in &self.votes {
            bytes.extend(change.incarnation.to_le_bytes());
            bytes.extend(change.counter.to_le_bytes());
            bytes.extend(votes.to_le_bytes());
        }
        bytes.extend((self.digests.len() as u32).to_le_bytes());
        for held in &self.digests {
            bytes.extend(held.digest.round.to_le_bytes());
            bytes.extend(held.digest.sha256);
            bytes.extend((held.by.len() as u32).to_le_bytes());
            held.by.iter().for_each(|w| bytes.extend(w.0.to_le_bytes()));
        }
        bytes.extend(self.agreed.to_le_bytes());
        bytes.extend((self.written.len() as u32).to_le_bytes());
        for written in &self.written {
            bytes.extend(written.by.0.to_le_bytes());
            bytes.extend(written.round.to_le_bytes());
            bytes.push(written.part as u8);
            bytes.extend(written.index.to_le_bytes());
            bytes.extend(written.sha256);
        }
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Result<Trailer, TrailerError> {
        let length = u32::from_le_bytes(take(&mut bytes)?) as usize;
        let (totals, rest) = bytes.split_at_checked(length).ok_or(TrailerError::Short)?;
        bytes = rest;
        let mut trailer = Trailer::new(Totals::from_bytes(totals)?);
        for _ in 0..count(&mut bytes, ENTRIES_MAX)? {
            let incarnation = u32::from_le_bytes(take(&mut bytes)?);
            let counter = u32::from_le_bytes(take(&mut bytes)?);
            let votes = u32::from_le_bytes(take(&mut bytes)?);
            trailer.votes.insert(
                Generation {
                    incarnation,
                    counter,
                },
                votes,
            );
        }
        for _ in 0..count(&mut bytes, ENTRIES_MAX)? {
            let round = u64::from_le_bytes(take(&mut bytes)?);
            let sha256 = take(&mut bytes)?;
            let mut by = Vec::new();
            for _ in 0..count(&mut bytes, HOLDERS_MAX)? {
                by.push(WorkerId(u64::from_le_bytes(take(&mut bytes)?)));
            }
            let digest = StateDigest { round, sha256 };
            trailer.digests.push(Held { digest, by });
        }
        trailer.agreed = u64::from_le_bytes(take(&mut bytes)?);
        for _ in 0..count(&mut bytes, WRITTEN_MAX as u32)? {
            trailer.written.push(written(&mut bytes)?);
        }
        Ok(trailer)
    }
}

impl Trailer {
    /// Whether it can be the sum over exactly these micro-batches (ascending)
    /// of a round of this shape.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn covers(
        &self,
        shape: Shape,
        micro_batches: impl IntoIterator<Item = u32>,
    ) -> Result<(), TrailerError> {
        let (metrics, parameters) = (self.totals.metrics.len(), self.totals.parameters.len());
        if (metrics, parameters) != (shape.metrics, shape.parameters) {
            return Err(TrailerError::Shape {
                metrics,
                parameters,
            });
        }
        if !self.totals.contributed.iter().eq(micro_batches) {
            return Err(TrailerError::Share);
        }
        // Whatever the shares, their sum overflows nothing then.
        if !self.totals.is_possible() {
            return Err(TrailerError::Excess);
        }
        Ok(())
    }

    /// Whether it can be the contribution of this member, which has one vote and
    /// speaks for itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn is_ones(&self, member: WorkerId) -> Result<(), TrailerError> {
        let one_vote = self.votes.len() <= 1 && self.votes.values().all(|n| *n == 1);
        let its_own = self.digests.iter().all(|held| held.by == [member])
            && self.written.iter().all(|written| written.by == member);
        let few = self.digests.len() <= 1 && self.written.len() <= WRITTEN_OF_ONE_MAX;
        if one_vote && its_own && few {
            Ok(())
        } else {
            Err(TrailerError::Votes)
        }
    }
}

fn written(bytes: &mut &[u8]) -> Result<Written, TrailerError> {
    let by = WorkerId(u64::from_le_bytes(take(bytes)?));
    let round = u64::from_le_bytes(take(bytes)?);
    let [part] = take(bytes)?;
    let parts = [Part::Weights, Part::Optimizer];
    let part = parts.into_iter().find(|known| *known as u8 == part);
    Ok(Written {
        by,
        round,
        part: part.ok_or(TrailerError::Part)?,
        index: u32::from_le_bytes(take(bytes)?),
        sha256: take(bytes)?,
    })
}

fn count(bytes: &mut &[u8], most: u32) -> Result<u32, TrailerError> {
    let count = u32::from_le_bytes(take(bytes)?);
    if count > most {
        Err(TrailerError::TooMany(count))
    } else {
        Ok(count)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], TrailerError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(TrailerError::Short)?;
    *bytes = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests;
