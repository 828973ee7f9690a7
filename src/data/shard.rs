//! Where the samples of a data set lie.

use std::ops::Range;

/// One stretch of consecutive samples that lies in one place, such as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// What a person calls the place: a file name, an object key.
    pub name: String,
    /// The indices of its samples.
    pub samples: Range<u64>,
}

/// The places of all samples, in the order of their indices and without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardTable {
    shards: Vec<Shard>,
}

impl ShardTable {
    /// A table of one place.
    pub fn single(name: impl Into<String>, samples: u64) -> ShardTable {
        ShardTable {
            shards: vec![Shard {
                name: name.into(),
                samples: 0..samples,
            }],
        }
    }

    /// A table from names and numbers of samples, in the order of the samples.
    pub fn from_counts(places: impl IntoIterator<Item = (String, u64)>) -> ShardTable {
        let mut start = 0;
        let shards = places.into_iter().map(|(name, count)| {
            let samples = start..start + count;
            start = samples.end;
            Shard { name, samples }
        });
        ShardTable {
            shards: shards.collect(),
        }
    }

    /// All places in order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// How many samples all places hold.
    pub fn samples(&self) -> u64 {
        self.shards.last().map_or(0, |shard| shard.samples.end)
    }

    /// The place of a sample, if there is such a sample.
    pub fn locate(&self, index: u64) -> Option<&Shard> {
        let after = self
            .shards
            .partition_point(|shard| shard.samples.end <= index);
        self.shards.get(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_in_the_shard_that_holds_it() {
        let counts = [("a", 2), ("empty", 0), ("b", 3)];
        let table = ShardTable::from_counts(counts.map(|(name, n)| (name.to_owned(), n)));
        let name = |index| table.locate(index).map(|shard| shard.name.as_str());
        assert_eq!(
            (0..6).map(name).collect::<Vec<_>>(),
            [Some("a"), Some("a"), Some("b"), Some("b"), Some("b"), None]
        );
        assert_eq!(table.samples(), 5);
        assert_eq!(ShardTable::default().locate(0), None);
        assert_eq!(ShardTable::single("all", 7).samples(), 7);
    }
}
