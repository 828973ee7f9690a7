//! What rides with a sum: exact totals, votes for a planned change, and the
//! members' state digests.
//!
//! The totals are part of the sum; votes and digests are attached when a
//! contribution is sent and don't survive a change of generation.

use std::collections::BTreeMap;

use crate::checkpoint;
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
}

/// Trailers that can't be.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrailerError {
    #[error("its trailer is cut short")]
    Short,
    #[error("its trailer names {0} changes or digests")]
    TooMany(u32),
    #[error("its totals make no sense: {0}")]
    Totals(#[from] TotalsError),
    #[error("its trailer is of another model: {metrics} metrics, {parameters} parameters")]
    Shape { metrics: usize, parameters: usize },
    #[error("its trailer covers other micro-batches than it should")]
    Share,
    #[error("its trailer counts more than its micro-batches can hold")]
    Excess,
    #[error("its trailer votes for several")]
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
/// No world has more members.
const HOLDERS_MAX: u32 = 1 << 16;

impl Trailer {
    pub fn new(totals: Totals) -> Trailer {
        Trailer {
            totals,
            votes: BTreeMap::new(),
            digests: Vec::new(),
            agreed: 0,
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
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Result<Trailer, TrailerError> {
        let length = u32::from_le_bytes(take(&mut bytes)?) as usize;
        let (totals, rest) = bytes.split_at_checked(length).ok_or(TrailerError::Short)?;
        bytes = rest;
        let mut trailer = Trailer::new(Totals::from_bytes(totals)?);
        for _ in 0..count(&mut bytes)? {
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
        for _ in 0..count(&mut bytes)? {
            let round = u64::from_le_bytes(take(&mut bytes)?);
            let sha256 = take(&mut bytes)?;
            let holders = u32::from_le_bytes(take(&mut bytes)?);
            if holders > HOLDERS_MAX {
                return Err(TrailerError::TooMany(holders));
            }
            let mut by = Vec::new();
            for _ in 0..holders {
                by.push(WorkerId(u64::from_le_bytes(take(&mut bytes)?)));
            }
            let digest = StateDigest { round, sha256 };
            trailer.digests.push(Held { digest, by });
        }
        trailer.agreed = u64::from_le_bytes(take(&mut bytes)?);
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
        let its_own = self.digests.iter().all(|held| held.by == [member]);
        if one_vote && its_own && self.digests.len() <= 1 {
            Ok(())
        } else {
            Err(TrailerError::Votes)
        }
    }
}

fn count(bytes: &mut &[u8]) -> Result<u32, TrailerError> {
    let count = u32::from_le_bytes(take(bytes)?);
    if count > ENTRIES_MAX {
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trailer(micro_batch: u32, change: u32, sha: u8) -> Trailer {
        let mut totals = Totals::new(1, 2);
        totals.add_empty(micro_batch);
        let mut trailer = Trailer::new(totals);
        trailer.votes.insert(
            Generation {
                incarnation: 1,
                counter: change,
            },
            1,
        );
        let digest = StateDigest {
            round: 100,
            sha256: [sha; 32],
        };
        let by = vec![WorkerId(u64::from(micro_batch))];
        trailer.digests.push(Held { digest, by });
        trailer
    }

    #[test]
    fn votes_are_counted_and_equal_digests_kept_once() {
        let mut sum = trailer(0, 7, 1);
        sum.merge(&trailer(1, 7, 1)).unwrap();
        assert_eq!(sum.votes.values().collect::<Vec<_>>(), [&2]);
        assert_eq!(sum.digests.len(), 1);
        assert_eq!(sum.drift(), None);
        assert_eq!(sum.agreed_by(2).map(|state| state.round), Some(100));
        assert_eq!(sum.agreed_by(3), None);
        assert_eq!(Trailer::from_bytes(&sum.to_bytes()).unwrap(), sum);
    }

    #[test]
    fn members_with_different_states_after_a_round_are_noticed() {
        let mut sum = trailer(0, 7, 1);
        let mut other = trailer(1, 7, 2);
        other.agreed = 90;
        sum.merge(&other).unwrap();
        sum.merge(&trailer(2, 7, 1)).unwrap();
        assert_eq!(Trailer::from_bytes(&sum.to_bytes()).unwrap(), sum);
        let drift = sum.drift().unwrap();
        assert_eq!((drift.round, drift.agreed), (Round(100), Round(90)));
        let by: Vec<&[WorkerId]> = drift.states.iter().map(|s| &s.by[..]).collect();
        assert_eq!(by, [&[WorkerId(0), WorkerId(2)][..], &[WorkerId(1)]]);
        assert_eq!(sum.agreed_by(3), None);
    }

    #[test]
    fn a_contribution_is_of_the_share_and_the_model_that_it_should_be_of() {
        let shape = Shape {
            values: 9,
            metrics: 1,
            parameters: 2,
        };
        let mut ours = trailer(3, 7, 1);
        ours.totals.add_empty(5);
        assert!(ours.covers(shape, [3, 5]).is_ok() && ours.is_ones(WorkerId(3)).is_ok());
        assert!(ours.is_ones(WorkerId(4)).is_err(), "it speaks for another");
        for other in [vec![3], vec![3, 5, 6], vec![3, 4]] {
            assert!(matches!(
                ours.covers(shape, other),
                Err(TrailerError::Share)
            ));
        }
        assert!(matches!(
            ours.covers(shape.of_evaluation(), [3, 5]),
            Err(TrailerError::Shape { .. })
        ));
        ours.merge(&trailer(4, 7, 1)).unwrap();
        assert!(
            matches!(ours.is_ones(WorkerId(3)), Err(TrailerError::Votes)),
            "two votes of one"
        );
    }

    #[test]
    fn totals_that_no_gradients_add_up_to_are_refused_before_they_are_merged() {
        let shape = Shape {
            values: 9,
            metrics: 1,
            parameters: 2,
        };
        let absurd: [fn(&mut Totals); 4] = [
            |totals| totals.weight = u64::MAX,
            |totals| totals.loss = i64::MIN,
            |totals| totals.metrics[0] = i64::MAX,
            |totals| totals.parameters[1].rounded_to_zero = u64::MAX,
        ];
        for make_absurd in absurd {
            let mut theirs = trailer(3, 7, 1);
            make_absurd(&mut theirs.totals);
            let theirs = Trailer::from_bytes(&theirs.to_bytes()).unwrap();
            let refused = theirs.covers(shape, [3]);
            assert!(matches!(refused, Err(TrailerError::Excess)), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Trailer::from_bytes(&bytes);
        }
    }
}
