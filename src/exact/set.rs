//! A set of micro-batches of one step: which of them a partial sum holds.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The most micro-batches a step may have; indices are below it.
pub const MAX_MICRO_BATCHES: u32 = 2048;

const WORDS: usize = MAX_MICRO_BATCHES as usize / 64;

/// Why something isn't a set, or two sets don't go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MicroBatchSetError {
    /// Both sets hold this one: it would be counted twice.
    #[error("micro-batch {micro_batch} is in both sums")]
    Overlap {
        /// The lowest one in both.
        micro_batch: u32,
    },
    /// An index that no step has.
    #[error("micro-batch {micro_batch} is out of range: a step has at most 2048")]
    Index {
        /// The index.
        micro_batch: u64,
    },
    /// More bytes than the largest set takes.
    #[error("a set of micro-batches takes at most 256 bytes, not {length}")]
    Length {
        /// How many there are.
        length: usize,
    },
}

/// A set of micro-batch indices below [`MAX_MICRO_BATCHES`]: 256 bytes, one bit
/// each. Serialised, it's a list of indices in ascending order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct MicroBatchSet {
    words: [u64; WORDS],
}

impl MicroBatchSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// All micro-batches of a step that has `count` of them.
    ///
    /// # Panics
    /// When `count` is above [`MAX_MICRO_BATCHES`].
    pub fn first(count: u32) -> Self {
        (0..count).collect()
    }

    /// Adds one; false when it was there already.
    ///
    /// # Panics
    /// When the index isn't below [`MAX_MICRO_BATCHES`]; for indices that come from
    /// elsewhere there is [`MicroBatchSet::try_insert`].
    pub fn insert(&mut self, micro_batch: u32) -> bool {
        assert!(
            micro_batch < MAX_MICRO_BATCHES,
            "micro-batch {micro_batch} of at most {MAX_MICRO_BATCHES}"
        );
        let (word, bit) = (micro_batch as usize / 64, 1_u64 << (micro_batch % 64));
        let added = self.words[word] & bit == 0;
        self.words[word] |= bit;
        added
    }

    /// Adds one; false when it was there already.
    ///
    /// # Errors
    /// When the index isn't below [`MAX_MICRO_BATCHES`].
    pub fn try_insert(&mut self, micro_batch: u64) -> Result<bool, MicroBatchSetError> {
        match u32::try_from(micro_batch) {
            Ok(index) if index < MAX_MICRO_BATCHES => Ok(self.insert(index)),
            _ => Err(MicroBatchSetError::Index { micro_batch }),
        }
    }

    /// Whether it's in the set.
    pub fn contains(&self, micro_batch: u32) -> bool {
        self.words
            .get(micro_batch as usize / 64)
            .is_some_and(|word| word >> (micro_batch % 64) & 1 == 1)
    }

    /// How many are in the set.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(word, &bits)| {
            let lowest_gone = |&left: &u64| Some(left & left.wrapping_sub(1));
            std::iter::successors(Some(bits), lowest_gone)
                .take_while(|&left| left != 0)
                .map(move |left| word * 64 + left.trailing_zeros())
        })
    }

    /// Adds all of `other`, none of which may be here yet.
    ///
    /// # Errors
    /// Names the first one that is in both; this set is then unchanged.
    pub fn union_disjoint(&mut self, other: &MicroBatchSet) -> Result<(), MicroBatchSetError> {
        if let Some(micro_batch) = self.intersection(other).iter().next() {
            return Err(MicroBatchSetError::Overlap { micro_batch });
        }
        for (word, &more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        Ok(())
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &MicroBatchSet) -> MicroBatchSet {
        let mut words = self.words;
        for (word, &theirs) in words.iter_mut().zip(&other.words) {
            *word &= theirs;
        }
        MicroBatchSet { words }
    }

    /// Those that are here and not in `other`: what is still missing.
    pub fn difference(&self, other: &MicroBatchSet) -> MicroBatchSet {
        let mut words = self.words;
        for (word, &theirs) in words.iter_mut().zip(&other.words) {
            *word &= !theirs;
        }
        MicroBatchSet { words }
    }

    /// One bit each, little-endian, without the zero bytes at the end: one byte a
    /// set of up to 8 micro-batches, 256 at most.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let used = bytes.iter().rposition(|&byte| byte != 0);
        bytes.truncate(used.map_or(0, |last| last + 1));
        bytes
    }

    /// Reads what [`MicroBatchSet::to_bytes`] wrote.
    ///
    /// # Errors
    /// When there are more than 256 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MicroBatchSetError> {
        if bytes.len() > WORDS * 8 {
            return Err(MicroBatchSetError::Length {
                length: bytes.len(),
            });
        }
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(whole);
        }
        Ok(MicroBatchSet { words })
    }
}

impl FromIterator<u32> for MicroBatchSet {
    /// # Panics
    /// When an index isn't below [`MAX_MICRO_BATCHES`].
    fn from_iter<I: IntoIterator<Item = u32>>(indices: I) -> Self {
        let mut set = MicroBatchSet::new();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

/// Runs as ranges: `{0..=3, 7}`.
impl fmt::Debug for MicroBatchSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        let mut indices = self.iter().peekable();
        while let Some(first) = indices.next() {
            let mut last = first;
            while let Some(next) = indices.next_if_eq(&(last + 1)) {
                last = next;
            }
            if last == first {
                set.entry(&first);
            } else {
                set.entry(&(first..=last));
            }
        }
        set.finish()
    }
}

impl Serialize for MicroBatchSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for MicroBatchSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut set = MicroBatchSet::new();
        for index in Vec::<u64>::deserialize(deserializer)? {
            set.try_insert(index).map_err(D::Error::custom)?;
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(indices: &[u32]) -> MicroBatchSet {
        indices.iter().copied().collect()
    }

    #[test]
    fn micro_batch_in_both_sums_is_named_and_nothing_is_united() {
        let mut ours = set(&[0, 5, 70]);
        let error = ours.union_disjoint(&set(&[1, 70, 71])).unwrap_err();
        assert_eq!(error, MicroBatchSetError::Overlap { micro_batch: 70 });
        assert_eq!(ours, set(&[0, 5, 70]));
        ours.union_disjoint(&set(&[1, 2047])).unwrap();
        assert_eq!(ours, set(&[0, 1, 5, 70, 2047]));
    }

    #[test]
    fn index_beyond_the_limit_is_refused_and_never_contained() {
        let mut ours = MicroBatchSet::first(MAX_MICRO_BATCHES);
        assert_eq!(ours.len(), 2048);
        assert!(!ours.contains(2048) && !ours.contains(u32::MAX));
        for beyond in [2048, u64::from(u32::MAX) + 1, u64::MAX] {
            let error = ours.try_insert(beyond).unwrap_err();
            let micro_batch = beyond;
            assert_eq!(error, MicroBatchSetError::Index { micro_batch });
        }
        assert!(serde_json::from_str::<MicroBatchSet>("[3, 2048]").is_err());
    }

    #[test]
    fn more_bytes_than_a_set_takes_are_refused() {
        assert!(MicroBatchSet::from_bytes(&[0xff; 256]).is_ok());
        let error = MicroBatchSet::from_bytes(&[0; 257]).unwrap_err();
        assert_eq!(error, MicroBatchSetError::Length { length: 257 });
    }

    #[test]
    fn debug_form_shows_runs() {
        assert_eq!(
            format!("{:?}", set(&[0, 1, 2, 3, 7, 63, 64])),
            "{0..=3, 7, 63..=64}"
        );
    }

    proptest! {
        #[test]
        fn set_is_what_a_set_is(
            ours in prop::collection::btree_set(0_u32..2048, 0..100),
            theirs in prop::collection::btree_set(0_u32..2048, 0..100),
        ) {
            let a: MicroBatchSet = ours.iter().copied().collect();
            let b: MicroBatchSet = theirs.iter().copied().collect();
            prop_assert!(a.iter().eq(ours.iter().copied()));
            prop_assert_eq!(a.len(), ours.len());
            prop_assert!((0..2048).all(|m| a.contains(m) == ours.contains(&m)));
            let missing: BTreeSet<u32> = a.difference(&b).iter().collect();
            prop_assert_eq!(missing, &ours - &theirs);
            prop_assert_eq!(&MicroBatchSet::from_bytes(&a.to_bytes()).unwrap(), &a);
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(&serde_json::from_str::<MicroBatchSet>(&json).unwrap(), &a);
            let expected: Vec<u32> = ours.into_iter().collect();
            prop_assert_eq!(json, serde_json::to_string(&expected).unwrap());
        }
    }
}
