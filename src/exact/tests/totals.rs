//! Totals: verdicts, merging, and that no order shows.

use super::*;

const NOMINAL: u64 = 64;

fn sample(index: u32, mean_loss: f64, metrics: &[f64]) -> MicroBatch<'_> {
    MicroBatch {
        index,
        weight: 16,
        nominal: NOMINAL,
        mean_loss,
        metrics,
    }
}

fn inspection(non_finite: u64, out_of_range: u64) -> Inspection {
    Inspection {
        non_finite,
        out_of_range,
    }
}

#[test]
fn clean_micro_batches_give_the_weighted_mean() {
    let mut totals = Totals::new(1, 2);
    let clean = [Inspection::default(); 2];
    assert_eq!(
        totals.add_micro_batch(&sample(0, 0.5, &[1.0]), &clean),
        Verdict::Clean
    );
    let short = MicroBatch {
        weight: 8,
        ..sample(3, 2.0, &[0.25])
    };
    assert_eq!(totals.add_micro_batch(&short, &clean), Verdict::Clean);
    totals.add_empty(2);
    assert_eq!(totals.weight, 24);
    assert_eq!(totals.mean_loss(NOMINAL), 1.0); // (16 * 0.5 + 8 * 2) / 24
    assert_eq!(totals.mean_metric(0, NOMINAL), 0.75);
    assert_eq!(totals.correction(NOMINAL), Some(64.0 / 24.0));
    assert!(totals.is_clean());
    assert!(totals.contributed.iter().eq([0, 2, 3]));
}

#[test]
fn micro_batch_of_weight_zero_is_empty_whatever_its_means_are() {
    let mut totals = Totals::new(1, 1);
    let nothing = MicroBatch {
        weight: 0,
        ..sample(5, f64::NAN, &[f64::NAN])
    };
    assert_eq!(
        totals.add_micro_batch(&nothing, &[inspection(3, 0)]),
        Verdict::Empty
    );
    assert!(totals.is_clean() && totals.contributed.contains(5));
    assert!(totals.mean_loss(NOMINAL).is_nan());
    assert_eq!(totals.correction(NOMINAL), None);
    assert_eq!(totals.parameters, [ParameterCounts::default()]);
}

#[test]
fn bad_micro_batch_contributes_zeros_and_says_why() {
    let cases = [
        (f64::NAN, 0.5, inspection(0, 0), Verdict::NonFinite),
        (0.5, f64::INFINITY, inspection(0, 0), Verdict::NonFinite),
        (1e300, f64::NAN, inspection(0, 1), Verdict::NonFinite),
        (0.5, 0.5, inspection(2, 7), Verdict::NonFinite),
        (0.5, 0.5, inspection(0, 7), Verdict::OutOfRange),
        (2_097_152.0, 0.5, inspection(0, 0), Verdict::OutOfRange),
        (0.5, -f64::MAX, inspection(0, 0), Verdict::OutOfRange),
    ];
    for (loss, metric, found, expected) in cases {
        let mut totals = Totals::new(1, 2);
        totals.add_micro_batch(&sample(0, 0.5, &[0.5]), &[Inspection::default(); 2]);
        let before = totals.clone();
        let verdict =
            totals.add_micro_batch(&sample(7, loss, &[metric]), &[Inspection::default(), found]);
        assert_eq!(verdict, expected, "loss {loss}, metric {metric}, {found:?}");
        assert!(!totals.is_clean() && totals.contributed.contains(7));
        assert_eq!(
            totals.non_finite.contains(7),
            expected == Verdict::NonFinite
        );
        assert_eq!(
            totals.out_of_range.contains(7),
            expected == Verdict::OutOfRange
        );
        assert_eq!(totals.parameters[1].non_finite, found.non_finite);
        assert_eq!(totals.parameters[1].out_of_range, found.out_of_range);
        assert_eq!(
            (totals.weight, totals.loss, &totals.metrics),
            (before.weight, before.loss, &before.metrics)
        );
    }
}

#[test]
fn loss_just_in_range_is_clean() {
    let mut totals = Totals::new(0, 0);
    let loss = sample(0, 2_097_152.0 - 1e-6, &[]);
    assert_eq!(totals.add_micro_batch(&loss, &[]), Verdict::Clean);
}

#[test]
#[should_panic(expected = "micro-batch 4 contributes once")]
fn same_micro_batch_twice_is_our_mistake() {
    let mut totals = Totals::new(0, 0);
    totals.add_empty(4);
    totals.add_empty(4);
}

#[test]
fn refused_merge_changes_nothing() {
    let mut ours = Totals::new(0, 1);
    ours.add_micro_batch(&sample(1, 1.0, &[]), &[Inspection::default()]);
    let before = ours.clone();

    let mut twice = Totals::new(0, 1);
    twice.add_empty(0);
    twice.add_empty(1);
    let error = ours.merge(&twice).unwrap_err();
    let overlap = MicroBatchSetError::Overlap { micro_batch: 1 };
    assert_eq!(error, MergeError::Overlap(overlap));

    let error = ours.merge(&Totals::new(1, 1)).unwrap_err();
    assert!(matches!(error, MergeError::Shape { .. }));

    let mut hostile = Totals::new(0, 1);
    hostile.loss = i64::MAX;
    assert_eq!(ours.merge(&hostile), Err(MergeError::Overflow));
    let mut hostile = Totals::new(0, 1);
    hostile.parameters[0].nonzero = u64::MAX;
    let rounding = Rounding {
        nonzero: 1,
        to_zero: 1,
    };
    ours.add_rounding(0, rounding);
    assert_eq!(ours.merge(&hostile), Err(MergeError::Overflow));
    ours.parameters = before.parameters.clone();
    assert_eq!(ours, before);
}

fn one(index: u32, loss: f64, counts: (u64, u64, u64)) -> Totals {
    let mut totals = Totals::new(1, 1);
    let found = inspection(counts.0, counts.1);
    let verdict = totals.add_micro_batch(&sample(index, loss, &[loss / 3.0]), &[found]);
    if verdict == Verdict::Clean {
        let rounding = Rounding {
            nonzero: counts.2,
            to_zero: counts.2 / 2,
        };
        totals.add_rounding(0, rounding);
    }
    totals
}

proptest! {
    #[test]
    fn order_grouping_and_assignment_do_not_matter(
        batches in prop::collection::vec(
            (-4e6_f64..4e6, 0_u64..2, 0_u64..2, 0_u64..1000, 0_usize..4), 1..60),
        seed in any::<u64>(),
    ) {
        let parts: Vec<Totals> = (0_u32..).zip(&batches)
            .map(|(index, b)| one(index, b.0, (b.1, b.2, b.3)))
            .collect();
        let mut straight = Totals::new(1, 1);
        for part in &parts {
            straight.merge(part).unwrap();
        }
        // Each worker merges its own in an order of its own, then all are merged.
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(seed | 1));
        let mut workers = vec![Totals::new(1, 1); 4];
        for i in order {
            workers[batches[i].4].merge(&parts[i]).unwrap();
        }
        let mut merged = workers.pop().unwrap();
        for worker in &workers {
            merged.merge(worker).unwrap();
        }
        prop_assert_eq!(merged, straight);
    }
}
