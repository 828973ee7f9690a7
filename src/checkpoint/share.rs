//! A checkpoint that several members write together: what a state consists of,
//! who writes which of its shards, and what they say to each other about it.

use std::cmp::Reverse;

use super::identity::Identity;
use super::shard::{self, Part, PlannedShard};
use super::snapshot::NamedTensor;

/// Shards are at most this large, unless one tensor is.
pub const SHARD_BYTES_MAX: usize = 256 << 20;

/// Smaller ones cost more requests than they save time.
const SHARD_BYTES_MIN: usize = 4 << 20;

/// So many for each member make all of them about equally busy.
const SHARDS_EACH: usize = 4;

/// No more than this many in all, however many members: somebody has to hear of
/// each.
const SHARDS_MAX: usize = 512;

/// A tensor without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its name.
    pub name: String,
    /// Bytes of the values.
    pub bytes: usize,
}

impl Extent {
    pub(super) fn of(tensor: &NamedTensor) -> Extent {
        Extent {
            name: tensor.name.clone(),
            bytes: tensor.byte_len(),
        }
    }
}

/// A state without its values. All that hold the state come to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// The model's parameters.
    pub weights: Vec<Extent>,
    /// The optimizer's buffers.
    pub optimizer: Vec<Extent>,
}

impl Extents {
    /// Bytes of all values.
    pub fn byte_len(&self) -> usize {
        let tensors = self.weights.iter().chain(&self.optimizer);
        tensors.map(|tensor| tensor.bytes).sum()
    }

    /// Cuts the tensors into shards of at most `shard_bytes_max` bytes of values;
    /// a larger tensor gets a shard of its own. Pure: every process that holds
    /// the state cuts alike, so they can share the upload.
    pub fn plan_shards(&self, shard_bytes_max: usize) -> Vec<PlannedShard> {
        let mut shards = shard::plan(Part::Weights, &self.weights, shard_bytes_max);
        shards.extend(shard::plan(
            Part::Optimizer,
            &self.optimizer,
            shard_bytes_max,
        ));
        shards
    }

    /// The shards of so many members that write a state together, by rank: the
    /// largest first, each to whoever has least. Of equals the last is dealt to
    /// first, for the first one has the others' shards to check.
    pub fn deal(&self, members: usize) -> Vec<Vec<PlannedShard>> {
        let parts = SHARDS_MAX.min(SHARDS_EACH * members).max(1);
        let bytes = self.byte_len().div_ceil(parts);
        let mut shards = self.plan_shards(bytes.clamp(SHARD_BYTES_MIN, SHARD_BYTES_MAX));
        shards.sort_by_key(|shard| Reverse(shard.bytes));
        let mut dealt = vec![(0, Vec::new()); members];
        for shard in shards {
            let least = dealt.iter_mut().rev().min_by_key(|(bytes, _)| *bytes);
            if let Some((bytes, share)) = least {
                *bytes += shard.bytes;
                share.push(shard);
            }
        }
        dealt.into_iter().map(|(_, share)| share).collect()
    }
}

/// Whose and which state a shard is of.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// What is being trained.
    pub identity: &'a Identity,
    /// Who writes.
    pub writer: &'a str,
    /// The last round in the state.
    pub round: u64,
    /// Optimizer updates in it.
    pub step: u64,
}

/// Whatever shards can be made from.
pub trait Tensors: Send + Sync + 'static {
    /// Whose and which.
    fn origin(&self) -> Origin<'_>;
    /// The tensors of a part that are at hand.
    fn part(&self, part: Part) -> &[NamedTensor];
}

/// Some of a state's tensors: those of one member's shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Portion {
    /// What is being trained.
    pub identity: Identity,
    /// Who writes; unique per process and life.
    pub writer: String,
    /// The last round in the state.
    pub round: u64,
    /// Optimizer updates in it.
    pub step: u64,
    /// Some of the model's parameters.
    pub weights: Vec<NamedTensor>,
    /// Some of the optimizer's buffers.
    pub optimizer: Vec<NamedTensor>,
}

impl Portion {
    /// Bytes of all values.
    pub fn byte_len(&self) -> usize {
        let tensors = self.weights.iter().chain(&self.optimizer);
        tensors.map(NamedTensor::byte_len).sum()
    }
}

impl Tensors for Portion {
    fn origin(&self) -> Origin<'_> {
        Origin {
            identity: &self.identity,
            writer: &self.writer,
            round: self.round,
            step: self.step,
        }
    }

    fn part(&self, part: Part) -> &[NamedTensor] {
        match part {
            Part::Weights => &self.weights,
            Part::Optimizer => &self.optimizer,
        }
    }
}

/// A shard that another member says it has put into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who.
    pub writer: String,
    /// SHA-256 of the object, in hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn extents(weights: &[usize], optimizer: &[usize]) -> Extents {
        let list = |sizes: &[usize]| {
            let named = sizes.iter().enumerate();
            let named = named.map(|(i, bytes)| (format!("t{}", i * 7 % 10 * 1000 + i), *bytes));
            named.map(|(name, bytes)| Extent { name, bytes }).collect()
        };
        Extents {
            weights: list(weights),
            optimizer: list(optimizer),
        }
    }

    fn bytes(share: &[PlannedShard]) -> usize {
        share.iter().map(|shard| shard.bytes).sum()
    }

    proptest! {
        #[test]
        fn each_tensor_is_in_one_members_shard_and_nobody_has_much_more_than_a_part(
            weights in prop::collection::vec(0usize..(9 << 20), 0..60),
            optimizer in prop::collection::vec(0usize..(9 << 20), 0..60),
            members in 1usize..12,
        ) {
            let state = extents(&weights, &optimizer);
            let dealt = state.deal(members);
            prop_assert_eq!(dealt.len(), members);
            prop_assert_eq!(&dealt, &state.clone().deal(members));
            let shards = || dealt.iter().flatten();
            for (part, tensors) in [(Part::Weights, &state.weights), (Part::Optimizer, &state.optimizer)] {
                for tensor in tensors {
                    let holders = shards().filter(|shard| shard.holds(part, &tensor.name));
                    prop_assert_eq!(holders.count(), 1, "{}", &tensor.name);
                }
            }
            let places: BTreeSet<_> = shards().map(PlannedShard::place).collect();
            prop_assert_eq!(places.len(), shards().count());
            let total = state.byte_len();
            prop_assert_eq!(dealt.iter().map(|share| bytes(share)).sum::<usize>(), total);
            // Dealt to whoever has least, nobody has more than a part and one shard.
            let largest = shards().map(|shard| shard.bytes).max().unwrap_or(0);
            for share in &dealt {
                prop_assert!(bytes(share) <= total / members + largest);
            }
        }
    }

    #[test]
    fn members_of_a_large_state_are_about_equally_busy() {
        // A billion parameters: the weights' layers, both moments in pieces.
        let layers = vec![40 << 20; 100];
        let pieces = vec![4 << 20; 2000];
        let state = extents(&layers, &pieces);
        for members in [2, 3, 8, 32] {
            let dealt = state.deal(members);
            let most = dealt.iter().map(|share| bytes(share)).max().unwrap();
            let part = state.byte_len() / members;
            assert!(most <= part + part / 4, "{members}: {most} of {part}");
            let mut shards = dealt.iter().flatten();
            assert!(shards.all(|shard| shard.bytes <= SHARD_BYTES_MAX));
        }
    }
}
