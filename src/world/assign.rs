//! Who computes which micro-batches: the same answer on every process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Cuts `micro_batches` into one contiguous range a member, so that the round is
/// over as soon as it can be when each takes its count divided by its weight.
///
/// One after the other, each micro-batch goes to whoever would be done with it
/// first; ties go to the earlier member. (That is d'Hondt's rule for seats, and
/// no other cut has a shorter longest share.) A member of weight zero gets
/// nothing. If all weights are zero, they count as equal: somebody has to compute.
pub fn assign(micro_batches: u32, weights: &[u32]) -> Vec<Range<u32>> {
    let counts = counts(micro_batches, weights);
    let mut start = 0;
    counts
        .into_iter()
        .map(|count| {
            let range = start..start + count;
            start = range.end;
            range
        })
        .collect()
}

fn counts(micro_batches: u32, weights: &[u32]) -> Vec<u32> {
    let equal = weights.iter().all(|w| *w == 0);
    let weight = |i: usize| if equal { 1 } else { weights[i] };
    let mut counts = vec![0; weights.len()];
    let mut next: BinaryHeap<Reverse<DoneAt>> = (0..weights.len())
        .filter(|&i| weight(i) > 0)
        .map(|member| {
            Reverse(DoneAt {
                count: 1,
                weight: weight(member),
                member,
            })
        })
        .collect();
    for _ in 0..micro_batches {
        let Some(mut first) = next.peek_mut() else {
            break; // no members, no work
        };
        counts[first.0.member] += 1;
        first.0.count += 1;
    }
    counts
}

/// When a member would be done with `count` micro-batches: `count / weight`.
#[derive(PartialEq, Eq)]
struct DoneAt {
    count: u32,
    weight: u32,
    member: usize,
}

impl Ord for DoneAt {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let ours = u64::from(self.count) * u64::from(other.weight);
        let theirs = u64::from(other.count) * u64::from(self.weight);
        ours.cmp(&theirs).then(self.member.cmp(&other.member))
    }
}

impl PartialOrd for DoneAt {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_members_get_equal_shares_and_the_rest_goes_to_the_first() {
        assert_eq!(assign(8, &[1, 1]), vec![0..4, 4..8]);
        assert_eq!(assign(8, &[1, 1, 1]), vec![0..3, 3..6, 6..8]);
    }

    #[test]
    fn a_node_of_two_replicas_gets_twice_the_share() {
        assert_eq!(assign(6, &[2, 1]), vec![0..4, 4..6]);
    }

    #[test]
    fn a_node_that_would_hold_the_others_up_gets_nothing() {
        assert_eq!(assign(4, &[1000, 1000, 90]), vec![0..2, 2..4, 4..4]);
    }

    proptest! {
        #[test]
        fn every_micro_batch_has_exactly_one_owner(
            m in 0u32..2049, weights in prop::collection::vec(0u32..1000, 1..40)
        ) {
            let shares = assign(m, &weights);
            let mut next = 0;
            for share in &shares {
                prop_assert_eq!(share.start, next);
                next = share.end;
            }
            prop_assert_eq!(next, m);
        }

        #[test]
        fn no_micro_batch_is_done_earlier_elsewhere(
            m in 0u32..2049, weights in prop::collection::vec(1u32..1000, 1..40)
        ) {
            let shares = assign(m, &weights);
            let count = |i: usize| u64::from(shares[i].end - shares[i].start);
            for (i, of_i) in weights.iter().enumerate() {
                for (k, of_k) in weights.iter().enumerate() {
                    let one_more = (count(k) + 1) * u64::from(*of_i);
                    prop_assert!(count(i) * u64::from(*of_k) <= one_more);
                }
            }
        }
    }
}
