//! How a vector of values is cut among its owners and into buckets. Pure.
//!
//! ```text
//! values   0 ...................................................... len
//! owners   |------- 0 -------|------- 1 -------|------ 2 ------|
//! buckets  |  0  |  1  |  2  |  0  |  1  |  2  |  0  |  1  |  2 |
//! ```
//!
//! Each owner sums its own range for everyone. Cuts fall on multiples of the
//! packed block, so that every bucket is packed and unpacked on its own. Buckets
//! are counted within their owner's range.

use std::ops::Range;

use crate::exact::BLOCK;

/// A cut of `len` values among `owners` and into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    len: usize,
    owners: usize,
    bucket_values: usize,
}

/// One bucket of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Who sums it.
    pub owner: usize,
    /// Its number among the owner's buckets.
    pub index: u32,
    /// Its values; never empty.
    pub range: Range<usize>,
}

impl Cut {
    /// Cuts `len` values among `owners` (at least one), in buckets of
    /// `bucket_values`, rounded up to whole blocks. Owners' shares differ by at
    /// most one block; where there are more owners than blocks, some own
    /// nothing.
    ///
    /// `None` without an owner, or where an owner could have more than
    /// `u32::MAX` buckets.
    pub fn new(len: usize, owners: usize, bucket_values: usize) -> Option<Cut> {
        let bucket_values = bucket_values
            .clamp(1, len.max(1))
            .checked_next_multiple_of(BLOCK)?;
        let fits = owners > 0 && len / bucket_values < u32::MAX as usize;
        fits.then_some(Cut {
            len,
            owners,
            bucket_values,
        })
    }

    /// A size of buckets that keeps packing, sending and adding overlapped:
    /// about four to an owner, 8 Ki to 256 Ki values (docs/decisions/0002).
    pub fn bucket_values_for(len: usize, owners: usize) -> usize {
        (len / owners.max(1) / 4)
            .clamp(8 << 10, 256 << 10)
            .next_multiple_of(BLOCK)
    }

    /// How many values there are.
    #[allow(clippy::len_without_is_empty, reason = "of a cut, not of a collection")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many owners there are.
    pub fn owners(&self) -> usize {
        self.owners
    }

    /// The values that an owner sums; empty where nothing is left for it.
    ///
    /// # Panics
    /// When there is no such owner.
    pub fn range(&self, owner: usize) -> Range<usize> {
        assert!(owner < self.owners, "owner {owner} of {}", self.owners);
        self.boundary(owner)..self.boundary(owner + 1)
    }

    /// Where an owner's range begins. Shares are as even as blocks allow: the
    /// first `blocks % owners` owners have one more.
    fn boundary(&self, owner: usize) -> usize {
        let (share, more) = self.shares();
        ((share * owner + owner.min(more)) * BLOCK).min(self.len)
    }

    /// Blocks that every owner has, and how many owners have one more.
    fn shares(&self) -> (usize, usize) {
        let blocks = self.len.div_ceil(BLOCK);
        (blocks / self.owners, blocks % self.owners)
    }

    /// How many buckets an owner has.
    ///
    /// # Panics
    /// When there is no such owner.
    pub fn bucket_count(&self, owner: usize) -> u32 {
        // `new` has bounded it.
        self.range(owner).len().div_ceil(self.bucket_values) as u32
    }

    /// How many buckets each owner has.
    pub fn bucket_counts(&self) -> Vec<u32> {
        (0..self.owners)
            .map(|owner| self.bucket_count(owner))
            .collect()
    }

    /// The bucket of that owner and number, if there is one.
    pub fn bucket(&self, owner: usize, index: u32) -> Option<Bucket> {
        if owner >= self.owners || index >= self.bucket_count(owner) {
            return None;
        }
        let share = self.range(owner);
        let start = share.start + index as usize * self.bucket_values;
        let end = (start + self.bucket_values).min(share.end);
        Some(Bucket {
            owner,
            index,
            range: start..end,
        })
    }

    /// The buckets of one owner, in order.
    ///
    /// # Panics
    /// When there is no such owner.
    pub fn buckets(&self, owner: usize) -> impl Iterator<Item = Bucket> + use<> {
        let cut = *self;
        (0..cut.bucket_count(owner)).filter_map(move |index| cut.bucket(owner, index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_job_is_cut_in_even_shares_of_whole_blocks() {
        let cut = Cut::new(101_770, 2, 16_384).unwrap();
        assert_eq!((cut.range(0), cut.range(1)), (0..51_200, 51_200..101_770));
        assert_eq!(cut.bucket_counts(), [4, 4]);
        assert_eq!(cut.bucket(0, 3).unwrap().range, 49_152..51_200);
        assert_eq!(cut.bucket(1, 0).unwrap().range, 51_200..67_584);
        assert_eq!((cut.bucket(0, 4), cut.bucket(2, 0)), (None, None));
    }

    #[test]
    fn more_owners_than_blocks_leaves_the_last_without_a_share() {
        let cut = Cut::new(700, 3, 512).unwrap();
        assert_eq!(
            (cut.range(0), cut.range(1), cut.range(2)),
            (0..512, 512..700, 700..700)
        );
        assert_eq!(cut.bucket_counts(), [1, 1, 0]);
        assert_eq!(Cut::new(0, 2, 512).unwrap().bucket_counts(), [0, 0]);
    }

    #[test]
    fn cuts_that_make_no_sense_are_none() {
        assert_eq!(Cut::new(10, 0, 512), None);
        assert_eq!(Cut::new(usize::MAX, 1, 1), None);
        assert_eq!(Cut::new(usize::MAX, 1, usize::MAX), None);
        assert!(Cut::new(10, 1, usize::MAX).is_some());
    }

    proptest! {
        #[test]
        fn every_value_is_in_exactly_one_bucket(
            len in 0usize..200_000,
            owners in 1usize..40,
            bucket_values in 1usize..20_000,
        ) {
            let cut = Cut::new(len, owners, bucket_values).unwrap();
            let mut next = 0;
            for bucket in (0..owners).flat_map(|owner| cut.buckets(owner)) {
                prop_assert_eq!(bucket.range.start, next);
                prop_assert!(!bucket.range.is_empty());
                prop_assert!(bucket.range.start.is_multiple_of(BLOCK));
                let share = cut.range(bucket.owner);
                prop_assert!(share.start <= bucket.range.start && bucket.range.end <= share.end);
                prop_assert_eq!(cut.bucket(bucket.owner, bucket.index), Some(bucket.clone()));
                next = bucket.range.end;
            }
            prop_assert_eq!(next, len);
            let shares: Vec<usize> = (0..owners).map(|owner| cut.range(owner).len()).collect();
            let (most, least) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
            // One block more, and the last block may be short.
            prop_assert!(most - least < 2 * BLOCK);
        }

        #[test]
        fn suggested_buckets_pack_within_a_frame(len in 0usize..1 << 30, owners in 0usize..2000) {
            let values = Cut::bucket_values_for(len, owners);
            prop_assert!(values.is_multiple_of(BLOCK));
            prop_assert!(crate::exact::max_packed_len(values) <= super::super::PAYLOAD_LEN_MAX);
        }
    }
}
