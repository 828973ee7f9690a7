use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn blocks(samples: u64) -> Shuffle {
    format!("blocks:{samples}").parse().unwrap()
}

fn order(len: u64, shuffle: Shuffle, seed: u64) -> Order {
    Order::new(len, &shuffle, seed, 1, 1).unwrap()
}

fn whole_epoch(order: &Order, epoch: u64) -> Vec<u64> {
    let first = epoch * order.steps_per_epoch();
    (first..first + order.steps_per_epoch())
        .flat_map(|step| (0..order.micro_batches()).map(move |m| (step, m)))
        .flat_map(|(step, m)| order.samples(step, m))
        .collect()
}

fn any_shuffle() -> impl Strategy<Value = Shuffle> {
    prop_oneof![
        Just(Shuffle::Full),
        Just(Shuffle::None),
        (1u64..200).prop_map(blocks),
        (1u64..5000).prop_map(blocks),
    ]
}

proptest! {
    #[test]
    fn every_sample_comes_exactly_once_an_epoch(
        len in 1u64..3000, shuffle in any_shuffle(), seed: u64, epoch in 0u64..1_000_000,
        micro_batch in 1u32..70, micro_batches in 1u32..9,
    ) {
        let order = Order::new(len, &shuffle, seed, micro_batch * micro_batches, micro_batch)?;
        let mut samples = whole_epoch(&order, epoch);
        samples.sort_unstable();
        prop_assert!(samples.into_iter().eq(0..len));
    }

    #[test]
    fn micro_batches_are_whole_but_in_the_last_step(
        len in 1u64..3000, seed: u64, micro_batch in 1u32..70, micro_batches in 1u32..9,
    ) {
        let order =
            Order::new(len, &Shuffle::Full, seed, micro_batch * micro_batches, micro_batch)?;
        for step in 0..order.steps_per_epoch() {
            let sizes: Vec<_> =
                (0..micro_batches).map(|m| order.samples(step, m).len() as u64).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), order.samples_in_step(step));
            if step + 1 < order.steps_per_epoch() {
                prop_assert!(sizes.iter().all(|&size| size == u64::from(micro_batch)));
            } else {
                // Full ones, at most one short one, empty ones: in this order.
                let whole = u64::from(micro_batch);
                prop_assert!(sizes.windows(2).all(|pair| pair[0] == whole || pair[1] == 0));
                prop_assert!(sizes[0] > 0);
            }
        }
    }

    #[test]
    fn a_micro_batch_is_what_its_positions_say(
        len in 1u64..100_000, shuffle in any_shuffle(), seed: u64, step: u32, m in 0u32..4,
    ) {
        let order = Order::new(len, &shuffle, seed, 64, 16)?;
        let step = u64::from(step);
        let (epoch, first) = (order.epoch_of(step), step % order.steps_per_epoch() * 64);
        let positions = first + u64::from(m) * 16..first + u64::from(m) * 16 + 16;
        let expected: Vec<_> =
            positions.filter(|&p| p < len).map(|p| order.sample_at(epoch, p)).collect();
        prop_assert_eq!(order.samples(step, m), expected.clone());
        prop_assert_eq!(order.clone().samples(step, m), expected);
    }

    #[test]
    fn large_data_is_ordered_without_touching_all_of_it(
        len in 1u64 << 33..=SAMPLES_MAX, shuffle in any_shuffle(), seed: u64, start: u64,
    ) {
        let order = order(len, shuffle, seed);
        let positions = (0..50).map(|i| start.wrapping_add(i * 0x1234_5678_9ABC) % len);
        let mut places: Vec<_> = positions.map(|p| (order.sample_at(0, p), p)).collect();
        prop_assert!(places.iter().all(|&(sample, _)| sample < len));
        places.sort_unstable();
        places.dedup();
        prop_assert!(places.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    #[test]
    fn the_inverse_finds_every_position(len in 1u64..100_000, key: u64, position: u64) {
        let permutation = Permutation::new(len, key);
        let position = position % len;
        prop_assert_eq!(permutation.position_of(permutation.at(position)), position);
    }

    #[test]
    fn an_epoch_of_blocks_visits_one_block_after_the_other(
        len in 1u64..5000, block in 1u64..600, seed: u64,
    ) {
        let order = order(len, blocks(block), seed);
        let mut visited: Vec<_> =
            whole_epoch(&order, 0).into_iter().map(|sample| sample / block).collect();
        visited.dedup();
        prop_assert_eq!(visited.len() as u64, len.div_ceil(block));
    }

    #[test]
    fn an_evaluation_covers_every_sample_once_in_order(len in 0u64..5000, micro_batch in 1u32..99) {
        let count = Order::evaluation_micro_batches(len, micro_batch) as u32;
        let seen: Vec<_> =
            (0..count).flat_map(|m| Order::evaluation(len, micro_batch, m)).collect();
        prop_assert!(seen.into_iter().eq(0..len));
        prop_assert!(Order::evaluation(len, micro_batch, count).is_empty());
    }
}

#[test]
fn epochs_and_seeds_differ() {
    for shuffle in [Shuffle::Full, blocks(64)] {
        let mut seen = std::collections::HashSet::new();
        for seed in [0, 1, 2, u64::MAX] {
            for epoch in 0..8 {
                let samples = whole_epoch(&order(1000, shuffle, seed), epoch);
                assert!(
                    seen.insert(samples),
                    "{shuffle} seed {seed} epoch {epoch} came before"
                );
            }
        }
    }
    let in_order = order(1000, Shuffle::None, 1);
    assert!(whole_epoch(&in_order, 3).into_iter().eq(0..1000));
}

/// Chi-square over all 120 orders of five samples; 119 degrees of freedom have mean 119 and
/// standard deviation 15.4, so 190 is 4.6 deviations away.
#[test]
fn all_orders_of_five_samples_are_equally_likely() {
    for (seeds, epochs) in [(24_000u64, 1u64), (1, 24_000)] {
        let mut counts: HashMap<Vec<u64>, u32> = HashMap::new();
        for (seed, epoch) in (0..seeds).flat_map(|s| (0..epochs).map(move |e| (s, e))) {
            let order = order(5, Shuffle::Full, seed);
            let samples = (0..5).map(|p| order.sample_at(epoch, p)).collect();
            *counts.entry(samples).or_default() += 1;
        }
        assert_eq!(counts.len(), 120);
        let chi_square: f64 = counts
            .values()
            .map(|&count| (f64::from(count) - 200.0).powi(2) / 200.0)
            .sum();
        assert!(
            chi_square < 190.0,
            "chi-square {chi_square} over {seeds} seeds, {epochs} epochs"
        );
    }
}

/// The first and the last position, and two neighbours, see every pair of samples equally often.
#[test]
fn pairs_of_positions_are_independent() {
    let len = 64u64;
    for (a, b) in [(0, 1), (0, 32), (0, 63)] {
        let mut counts = vec![0u32; (len * len) as usize];
        for epoch in 0..200_000 {
            let order = order(len, Shuffle::Full, 7);
            let pair = order.sample_at(epoch, a) * len + order.sample_at(epoch, b);
            counts[pair as usize] += 1;
        }
        let cells = (len * (len - 1)) as f64;
        let expected = 200_000.0 / cells;
        let chi_square: f64 = counts
            .iter()
            .enumerate()
            .filter(|(pair, _)| *pair as u64 / len != *pair as u64 % len)
            .map(|(_, &count)| (f64::from(count) - expected).powi(2) / expected)
            .sum();
        let deviations = (chi_square - (cells - 1.0)) / (2.0 * (cells - 1.0)).sqrt();
        assert!(
            deviations.abs() < 4.5,
            "positions {a}, {b}: {deviations} deviations"
        );
    }
}

/// Over many epochs the mean sample at a position is the middle of the data, and within one
/// epoch a step's samples come from everywhere.
#[test]
fn positions_have_no_favourite_samples() {
    let len = 60_000u64;
    let order = order(len, Shuffle::Full, 42);
    let middle = (len - 1) as f64 / 2.0;
    let deviation = len as f64 / 12f64.sqrt();
    for position in [0, 1, 63, 64, 30_000, 59_999] {
        let mean = (0..4000)
            .map(|epoch| order.sample_at(epoch, position) as f64)
            .sum::<f64>()
            / 4000.0;
        let deviations = (mean - middle) / (deviation / 4000f64.sqrt());
        assert!(
            deviations.abs() < 4.5,
            "position {position}: {deviations} deviations"
        );
    }
    for epoch in 0..10 {
        for first in (0..len - 1000).step_by(9973) {
            let sum: f64 = (first..first + 1000)
                .map(|p| order.sample_at(epoch, p) as f64)
                .sum();
            let deviations = (sum / 1000.0 - middle) / (deviation / 1000f64.sqrt());
            assert!(
                deviations.abs() < 4.5,
                "epoch {epoch} from {first}: {deviations} deviations"
            );
        }
    }
}

/// Computed by a separate program from the description in `permutation.rs`. Whoever makes this
/// fail has changed the order of every existing run, and raises `ORDER_VERSION`.
#[test]
fn the_order_is_the_one_of_its_version() {
    assert_eq!(ORDER_VERSION, 1);
    let full = Order::new(60_000, &Shuffle::Full, 42, 64, 16).unwrap();
    assert_eq!(full.samples(0, 0)[..4], [12193, 36545, 7954, 46804]);
    assert_eq!(
        full.samples(938 * 3 + 17, 2)[..4],
        [21819, 11228, 43522, 2650]
    );
    // The short block of 2,656 samples comes at position 49,152 of this epoch.
    let blocks = Order::new(60_000, &blocks(4096), 42, 64, 16).unwrap();
    assert_eq!(blocks.samples(938, 0)[..4], [49947, 50453, 51267, 52436]);
    assert_eq!(
        blocks.samples(938 + 937, 0)[..4],
        [37292, 37278, 40322, 38210]
    );
    assert_eq!(
        blocks.samples(938 + 937, 1)[12..],
        [38874, 37735, 38543, 40388]
    );
    assert_eq!(whole_epoch(&order(5, Shuffle::Full, 0), 0), [3, 4, 1, 0, 2]);
}

#[test]
fn mnist_ends_an_epoch_with_a_short_step_as_keras_does() {
    let order = Order::new(60_000, &Shuffle::Full, 42, 64, 16).unwrap();
    assert_eq!(order.steps_per_epoch(), 938);
    assert_eq!(order.samples_in_step(936), 64);
    assert_eq!(order.samples_in_step(937), 32);
    let sizes: Vec<_> = (0..4).map(|m| order.samples(937, m).len()).collect();
    assert_eq!(sizes, [16, 16, 0, 0]);
    assert_eq!(order.epoch_of(937), 0);
    assert_eq!(order.epoch_of(938), 1);
}

#[test]
fn batches_that_cannot_be_cut_are_refused() {
    let new = |len, global, micro| Order::new(len, &Shuffle::Full, 0, global, micro);
    assert_eq!(new(0, 64, 16), Err(OrderError::Empty));
    assert!(matches!(
        new(SAMPLES_MAX + 1, 64, 16),
        Err(OrderError::TooManySamples { .. })
    ));
    for (global, micro) in [(64, 0), (0, 16), (0, 0), (64, 48), (16, 64)] {
        assert!(matches!(
            new(10, global, micro),
            Err(OrderError::Indivisible { .. })
        ));
    }
    let error = new(10, 64, 48).unwrap_err().to_string();
    assert!(
        error.contains("train.micro_batch = 48") && error.contains("64"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "micro-batch 4 of step 0")]
fn a_micro_batch_beyond_the_step_is_a_mistake() {
    Order::new(10, &Shuffle::Full, 0, 64, 16)
        .unwrap()
        .samples(0, 4);
}

#[test]
fn shuffles_are_read_and_written_as_the_job_file_has_them() {
    for text in ["full", "none", "blocks:1", "blocks:4096"] {
        let shuffle: Shuffle = text.parse().unwrap();
        assert_eq!(shuffle.to_string(), text);
        assert_eq!(
            serde_json::to_string(&shuffle).unwrap(),
            format!("\"{text}\"")
        );
        assert_eq!(
            serde_json::from_str::<Shuffle>(&format!("\"{text}\"")).unwrap(),
            shuffle
        );
    }
    for text in [
        "",
        "Full",
        "blocks",
        "blocks:",
        "blocks:0",
        "blocks:-1",
        "blocks:x",
        "full:3",
    ] {
        let error = text.parse::<Shuffle>().unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{text}`")) && error.contains("blocks:N"),
            "{error}"
        );
    }
}
