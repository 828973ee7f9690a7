//! One round's exchange, piece by piece: reduce-scatter, then all-gather.
//!
//! Every member owns a part of the sum, cut into buckets. An owner's bucket is
//! reduced when every member's part of it has been added, its own included; the
//! owner then sends it to everybody. The sum is complete when all buckets of
//! all owners and the trailer, which the first member reduces, are at hand.

use std::collections::BTreeSet;

use super::super::{Generation, Round, WorkerId};

/// A peer sent what the protocol doesn't allow; its connection is not to be
/// trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The sender is no member.
    #[error("{0:?} is not a member of this world")]
    NotAMember(WorkerId),
    /// No such bucket, or one that isn't the sender's or ours.
    #[error("{from:?} sent bucket {bucket}, which does not exist")]
    NoSuchBucket {
        /// Who.
        from: WorkerId,
        /// Which.
        bucket: u32,
    },
    /// The same piece twice.
    #[error("{0:?} sent the same piece twice")]
    Twice(WorkerId),
    /// A round that no member can have reached.
    #[error("{from:?} sent a piece of {round:?}, which it can't have reached")]
    TooFarAhead {
        /// Who.
        from: WorkerId,
        /// Which round.
        round: Round,
    },
}

/// Which pieces of one round's sum are at hand.
#[derive(Clone, Debug)]
pub struct Exchange {
    members: Vec<WorkerId>,
    rank: usize,
    /// Buckets of each owner.
    buckets: Vec<u32>,
    /// Who contributed to each of our buckets.
    contributed: Vec<BTreeSet<usize>>,
    /// Which buckets of each owner are complete here.
    reduced: Vec<BTreeSet<u32>>,
    missing: usize,
    trailers: BTreeSet<usize>,
    trailer: bool,
    /// For assertions: an exchange belongs to one generation and round.
    pub generation: Generation,
    /// Its round.
    pub round: Round,
}

impl Exchange {
    /// An exchange in which nothing has arrived. `buckets[k]` is how many
    /// buckets the `k`-th member owns; `me` must be a member.
    pub fn new(
        generation: Generation,
        round: Round,
        members: Vec<WorkerId>,
        me: WorkerId,
        buckets: Vec<u32>,
    ) -> Exchange {
        assert_eq!(members.len(), buckets.len(), "one bucket count a member");
        let rank = members.iter().position(|w| *w == me);
        let rank = rank.unwrap_or_else(|| panic!("{me:?} exchanges in a world it is not in"));
        Exchange {
            rank,
            contributed: vec![BTreeSet::new(); buckets[rank] as usize],
            reduced: vec![BTreeSet::new(); members.len()],
            missing: buckets.iter().map(|n| *n as usize).sum(),
            trailers: BTreeSet::new(),
            trailer: false,
            members,
            buckets,
            generation,
            round,
        }
    }

    /// Our place among the members.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// All members, ranked.
    pub fn members(&self) -> &[WorkerId] {
        &self.members
    }

    /// All members but us, the next one first.
    pub fn others(&self) -> Vec<WorkerId> {
        let n = self.members.len();
        (1..n).map(|i| self.members[(self.rank + i) % n]).collect()
    }

    /// A member's place.
    pub fn rank_of(&self, worker: WorkerId) -> Result<usize, Violation> {
        self.members
            .iter()
            .position(|w| *w == worker)
            .ok_or(Violation::NotAMember(worker))
    }

    /// Whether this piece may be added; ask before touching the values.
    pub fn may_contribute(&self, from: WorkerId, bucket: u32) -> Result<(), Violation> {
        let rank = self.rank_of(from)?;
        let got = self
            .contributed
            .get(bucket as usize)
            .ok_or(Violation::NoSuchBucket { from, bucket })?;
        if got.contains(&rank) {
            Err(Violation::Twice(from))
        } else {
            Ok(())
        }
    }

    /// Whether this finished bucket may be stored.
    pub fn may_reduce(&self, from: WorkerId, bucket: u32) -> Result<(), Violation> {
        let rank = self.rank_of(from)?;
        if rank == self.rank || bucket >= self.buckets[rank] {
            return Err(Violation::NoSuchBucket { from, bucket });
        }
        if self.reduced[rank].contains(&bucket) {
            Err(Violation::Twice(from))
        } else {
            Ok(())
        }
    }

    /// Whether nothing has been added to this bucket of ours yet.
    pub fn is_untouched(&self, bucket: u32) -> bool {
        self.contributed
            .get(bucket as usize)
            .is_some_and(BTreeSet::is_empty)
    }

    /// Notes that a part was added; true if the bucket is now reduced.
    pub fn contributed(&mut self, from: WorkerId, bucket: u32) -> Result<bool, Violation> {
        self.may_contribute(from, bucket)?;
        let rank = self.rank_of(from)?;
        let got = &mut self.contributed[bucket as usize];
        got.insert(rank);
        if got.len() < self.members.len() {
            return Ok(false);
        }
        self.reduced[self.rank].insert(bucket);
        self.missing -= 1;
        Ok(true)
    }

    /// Notes that an owner's finished bucket was stored.
    pub fn reduced(&mut self, from: WorkerId, bucket: u32) -> Result<(), Violation> {
        self.may_reduce(from, bucket)?;
        let rank = self.rank_of(from)?;
        self.reduced[rank].insert(bucket);
        self.missing -= 1;
        Ok(())
    }

    /// Whether this member's trailer may be merged here.
    pub fn may_contribute_trailer(&self, from: WorkerId) -> Result<(), Violation> {
        let rank = self.rank_of(from)?;
        if self.rank != 0 {
            return Err(Violation::NoSuchBucket {
                from,
                bucket: u32::MAX,
            });
        }
        if self.trailers.contains(&rank) {
            Err(Violation::Twice(from))
        } else {
            Ok(())
        }
    }

    /// Whether this finished trailer may be taken.
    pub fn may_reduce_trailer(&self, from: WorkerId) -> Result<(), Violation> {
        if self.rank_of(from)? != 0 || self.rank == 0 {
            return Err(Violation::NoSuchBucket {
                from,
                bucket: u32::MAX,
            });
        }
        if self.trailer {
            Err(Violation::Twice(from))
        } else {
            Ok(())
        }
    }

    /// Notes a merged trailer; true if all are merged. The first member only,
    /// which then has to note that it is finished.
    pub fn trailer_contributed(&mut self, from: WorkerId) -> Result<bool, Violation> {
        let rank = self.rank_of(from)?;
        if self.rank != 0 {
            return Err(Violation::NoSuchBucket {
                from,
                bucket: u32::MAX,
            });
        }
        if !self.trailers.insert(rank) {
            return Err(Violation::Twice(from));
        }
        Ok(self.trailers.len() == self.members.len())
    }

    /// Notes the finished trailer; `from` is the first member.
    pub fn trailer_reduced(&mut self, from: WorkerId) -> Result<(), Violation> {
        let unfinished = self.rank == 0 && self.trailers.len() < self.members.len();
        if self.rank_of(from)? != 0 || unfinished {
            return Err(Violation::NoSuchBucket {
                from,
                bucket: u32::MAX,
            });
        }
        if std::mem::replace(&mut self.trailer, true) {
            return Err(Violation::Twice(from));
        }
        Ok(())
    }

    /// Whose part is missing here: contributions to our buckets, finished
    /// buckets of the others, trailers.
    pub fn awaits(&self) -> Vec<WorkerId> {
        let lacks = |rank: &usize| {
            let rank = *rank;
            let contributed = self.contributed.iter().all(|got| got.contains(&rank));
            let reduced = self.reduced[rank].len() == self.buckets[rank] as usize;
            let trailer = match (self.rank, rank) {
                _ if self.trailer => true,
                (0, _) => self.trailers.contains(&rank),
                (_, first) => first != 0,
            };
            !(contributed && reduced && trailer)
        };
        let others = (0..self.members.len()).filter(|rank| *rank != self.rank);
        others
            .filter(lacks)
            .map(|rank| self.members[rank])
            .collect()
    }

    /// Whether the whole sum and its trailer are at hand.
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.trailer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u64) -> Vec<WorkerId> {
        (1..=n).map(WorkerId).collect()
    }

    fn exchange(me: u64, members: u64, buckets: u32) -> Exchange {
        let generation = Generation {
            incarnation: 1,
            counter: 1,
        };
        let counts = vec![buckets; members as usize];
        Exchange::new(generation, Round(0), ids(members), WorkerId(me), counts)
    }

    #[test]
    fn a_bucket_is_reduced_by_the_last_part_and_only_then() {
        let mut x = exchange(1, 3, 1);
        assert_eq!(x.contributed(WorkerId(2), 0), Ok(false));
        assert_eq!(x.contributed(WorkerId(1), 0), Ok(false));
        assert_eq!(x.contributed(WorkerId(3), 0), Ok(true));
    }

    #[test]
    fn the_sum_is_complete_with_all_buckets_and_the_trailer() {
        let mut x = exchange(2, 2, 1);
        assert_eq!(x.awaits(), [WorkerId(1)]);
        assert_eq!(x.contributed(WorkerId(1), 0), Ok(false));
        assert_eq!(x.contributed(WorkerId(2), 0), Ok(true));
        assert_eq!(x.reduced(WorkerId(1), 0), Ok(()));
        assert_eq!(x.awaits(), [WorkerId(1)], "its trailer");
        assert!(!x.is_complete(), "nothing is applied before the trailer");
        assert_eq!(x.trailer_reduced(WorkerId(1)), Ok(()));
        assert_eq!(x.awaits(), []);
        assert!(x.is_complete());
    }

    #[test]
    fn what_a_peer_must_not_send_is_named() {
        let mut x = exchange(1, 2, 1);
        assert_eq!(
            x.contributed(WorkerId(9), 0),
            Err(Violation::NotAMember(WorkerId(9)))
        );
        assert!(matches!(
            x.contributed(WorkerId(2), 7),
            Err(Violation::NoSuchBucket { .. })
        ));
        assert_eq!(x.contributed(WorkerId(2), 0), Ok(false));
        assert_eq!(
            x.contributed(WorkerId(2), 0),
            Err(Violation::Twice(WorkerId(2)))
        );
        assert!(matches!(
            x.trailer_reduced(WorkerId(2)),
            Err(Violation::NoSuchBucket { .. })
        ));
    }
}
