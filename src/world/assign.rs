//! Who computes which micro-batches: the same answer on every process.

use std::ops::Range;

/// Cuts `micro_batches` into one contiguous range a member, in proportion to
/// the members' `weights` (largest remainder; ties go to the earlier member).
///
/// A member of weight zero gets nothing. If all weights are zero, they count as
/// equal: somebody has to compute.
pub fn assign(micro_batches: u32, weights: &[u32]) -> Vec<Range<u32>> {
    let equal = weights.iter().all(|w| *w == 0);
    let weight = |i: usize| if equal { 1 } else { u64::from(weights[i]) };
    let total: u64 = (0..weights.len()).map(weight).sum();
    let wanted = |i: usize| u64::from(micro_batches) * weight(i);

    let mut counts: Vec<u64> = (0..weights.len()).map(|i| wanted(i) / total).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| (std::cmp::Reverse(wanted(i) % total), i));
    let short = u64::from(micro_batches) - counts.iter().sum::<u64>();
    for &i in by_remainder.iter().take(short as usize) {
        counts[i] += 1;
    }

    let mut start = 0;
    counts
        .into_iter()
        .map(|count| {
            let range = start..start + count as u32;
            start = range.end;
            range
        })
        .collect()
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
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let fair = (u64::from(m) * u64::from(*weight)).checked_div(total);
                if let Some(fair) = fair {
                    let got = u64::from(share.end - share.start);
                    prop_assert!(got == fair || got == fair + 1);
                }
            }
        }
    }
}
