//! The update against its formulas, and the ways in which its bits must not change.

mod formulas;
mod spec_errors;

use super::*;
use crate::numerics::dispatch::Level;
use crate::numerics::philox::{self, Key};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::ops::Range;

const LEN: usize = 3 * 1024 + 77;

fn spec(kind: OptimizerKind) -> OptimizerSpec {
    OptimizerSpec {
        kind,
        ..OptimizerSpec::default()
    }
}

fn momentum(nesterov: bool) -> OptimizerSpec {
    let kind = OptimizerKind::Sgd;
    OptimizerSpec {
        momentum: Some(0.9),
        nesterov: Some(nesterov),
        ..spec(kind)
    }
}

/// One of each kind, with groups that cut the vector into unequal runs.
fn specs() -> Vec<OptimizerSpec> {
    let group = |pattern: &str, lr_multiplier, decay_multiplier, frozen| GroupSpec {
        pattern: pattern.into(),
        lr_multiplier,
        decay_multiplier,
        frozen,
    };
    let groups = vec![
        group("*.bias", 2.0, 0.0, false),
        group("b.*", 1.0, 1.0, true),
        group("c.*", 0.1, 1.0, false),
    ];
    let grouped = |spec| OptimizerSpec {
        groups: groups.clone(),
        ..spec
    };
    let decaying = OptimizerSpec {
        weight_decay: Some(0.1),
        ..momentum(true)
    };
    vec![
        spec(OptimizerKind::Adam),
        grouped(spec(OptimizerKind::AdamW)),
        spec(OptimizerKind::Sgd),
        grouped(momentum(false)),
        grouped(decaying),
    ]
}

fn parameters() -> Vec<(String, Range<usize>)> {
    let sizes = [
        ("a.bias", 5),
        ("a.weight", 1000),
        ("b.weight", 1030),
        ("c.bias", 0),
        ("c.weight", LEN - 2035),
    ];
    let mut end = 0;
    sizes
        .iter()
        .map(|(name, len)| {
            end += len;
            (name.to_string(), end - len..end)
        })
        .collect()
}

fn normals(seed: u64, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; LEN];
    philox::fill_normal(Key::derive(seed, "test", &[]), 0, &mut values);
    values.iter().map(|x| x * scale).collect()
}

/// Three steps of the optimizer, cut at `cuts`; weights and state afterwards.
fn three_steps(optimizer: &mut Optimizer, cuts: &[usize]) -> (Vec<u32>, String) {
    let mut weights = normals(0, 0.05);
    for step in 0..3 {
        step_on(optimizer, &mut weights, step, cuts);
    }
    (
        weights.iter().map(|w| w.to_bits()).collect(),
        digest(optimizer),
    )
}

fn step_on(optimizer: &mut Optimizer, weights: &mut [f32], step: u64, cuts: &[usize]) {
    let gradient = normals(step + 1, 0.01);
    optimizer.begin_step();
    let lr = optimizer.lr(step, 10);
    for pair in cuts.windows(2) {
        let range = pair[0]..pair[1];
        optimizer.update_clipped(
            range.clone(),
            &mut weights[range.clone()],
            &gradient[range],
            lr,
            0.7,
        );
    }
}

fn digest(optimizer: &Optimizer) -> String {
    let mut sha = Sha256::new();
    optimizer.write_digest(&mut sha);
    sha.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_bits_are_the_same_however_the_vector_is_cut_and_at_every_level(
        cuts in prop::collection::vec(0..=LEN, 0..8),
    ) {
        let mut cuts = cuts;
        cuts.extend([0, LEN]);
        cuts.sort_unstable();
        for spec in specs() {
            let new = || Optimizer::new(&spec, &parameters()).unwrap();
            let whole = three_steps(&mut new().at_level(Level::SCALAR), &[0, LEN]);
            for level in Level::all() {
                prop_assert_eq!(&three_steps(&mut new().at_level(level), &cuts), &whole);
            }
        }
    }
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    for spec in specs() {
        let mut original = Optimizer::new(&spec, &parameters()).unwrap();
        let mut weights = normals(0, 0.05);
        for step in 0..3 {
            step_on(&mut original, &mut weights, step, &[0, LEN]);
        }
        let mut restored = Optimizer::new(&spec, &parameters()).unwrap();
        restored
            .restore(&original.buffers(), &original.scalars())
            .unwrap();
        assert_eq!(digest(&restored), digest(&original));
        assert_eq!(restored.steps(), 3);

        let mut copy = weights.clone();
        step_on(&mut original, &mut weights, 3, &[0, LEN]);
        step_on(&mut restored, &mut copy, 3, &[0, LEN]);
        assert_eq!(copy, weights);
        assert_eq!(digest(&restored), digest(&original));
    }
}

#[test]
fn the_digest_covers_moments_and_counters() {
    let mut optimizer = Optimizer::new(&spec(OptimizerKind::Adam), &parameters()).unwrap();
    let before = digest(&optimizer);
    let mut weights = vec![0.0; LEN];
    optimizer.begin_step();
    let begun = digest(&optimizer);
    assert_ne!(before, begun);
    let mut gradient = vec![0.0; LEN];
    gradient[LEN - 1] = 1e-3;
    optimizer.update(0..LEN, &mut weights, &gradient, 1e-3);
    assert_ne!(digest(&optimizer), begun);
}

#[test]
fn state_of_another_optimizer_is_refused_and_changes_nothing() {
    let adam = Optimizer::new(&spec(OptimizerKind::Adam), &parameters()).unwrap();
    let mut sgd = Optimizer::new(&momentum(false), &parameters()).unwrap();
    let mut other = adam.clone();
    let before = digest(&other);
    let (m, v) = (vec![1.0; LEN], vec![1.0; LEN]);
    let short = vec![0.0; LEN - 1];
    let good = [
        ("steps", 1),
        ("adam.beta1_power", 0.9f64.to_bits()),
        ("adam.beta2_power", 0.9f64.to_bits()),
    ];

    assert_eq!(
        sgd.restore(&adam.buffers(), &adam.scalars()),
        Err(RestoreError::Unknown {
            name: "adam.m".into()
        })
    );
    assert_eq!(
        other.restore(&[("adam.m", &m)], &good),
        Err(RestoreError::Missing { name: "adam.v" })
    );
    assert_eq!(
        other.restore(&[("adam.m", &m), ("adam.v", &short)], &good),
        Err(RestoreError::Length {
            name: "adam.v",
            expected: LEN,
            found: LEN - 1
        })
    );
    assert_eq!(
        other.restore(&[("adam.m", &m), ("adam.v", &v)], &good[..2]),
        Err(RestoreError::Missing {
            name: "adam.beta2_power"
        })
    );
    let mut bad = good;
    bad[2].1 = f64::NAN.to_bits();
    assert_eq!(
        other.restore(&[("adam.m", &m), ("adam.v", &v)], &bad),
        Err(RestoreError::Value {
            name: "adam.beta2_power",
            found: "NaN".into()
        })
    );
    assert_eq!(digest(&other), before);
}

#[test]
fn frozen_parameters_and_their_moments_stay_and_do_not_count_in_the_norm() {
    let spec = &specs()[1];
    let mut optimizer = Optimizer::new(spec, &parameters()).unwrap();
    let frozen = parameters()[2].1.clone();
    let mut weights = normals(0, 0.05);
    let before = weights.clone();
    let mut gradient = normals(1, 0.01);
    gradient[frozen.clone()].fill(1e6);
    optimizer.begin_step();
    optimizer.update(0..LEN, &mut weights, &gradient, 1e-3);
    assert_eq!(weights[frozen.clone()], before[frozen.clone()]);
    for (name, buffer) in optimizer.buffers() {
        assert!(buffer[frozen.clone()].iter().all(|x| *x == 0.0), "{name}");
        assert!(buffer[..frozen.start].iter().all(|x| *x != 0.0), "{name}");
    }

    let mut norm = NormAccumulator::new();
    optimizer.add_to_norm(&mut norm, &gradient[..1500]);
    optimizer.add_to_norm(&mut norm, &gradient[1500..]);
    gradient[frozen].fill(0.0);
    let mut expected = NormAccumulator::new();
    expected.add(&gradient);
    assert_eq!(norm.norm().to_bits(), expected.norm().to_bits());
    assert!(norm.norm() < 1.0);
}

#[test]
fn a_multiplier_of_the_rate_is_a_rate_and_decay_follows_it() {
    let group = GroupSpec {
        pattern: "*".into(),
        lr_multiplier: 0.5,
        decay_multiplier: 2.0,
        frozen: false,
    };
    let grouped = OptimizerSpec {
        groups: vec![group],
        ..spec(OptimizerKind::AdamW)
    };
    let plain = OptimizerSpec {
        lr: Some(5e-4),
        weight_decay: Some(0.02),
        ..spec(OptimizerKind::AdamW)
    };
    let run = |spec| three_steps(&mut Optimizer::new(spec, &parameters()).unwrap(), &[0, LEN]);
    assert_eq!(run(&grouped), run(&plain));
}

#[test]
fn a_gradient_that_stops_leaves_no_subnormal_moments() {
    let parameters = [("w".to_owned(), 0..1)];
    for (spec, steps) in [(spec(OptimizerKind::Adam), 80_000), (momentum(true), 2_000)] {
        let mut optimizer = Optimizer::new(&spec, &parameters).unwrap();
        let mut weights = [0.5];
        for step in 0..steps {
            optimizer.begin_step();
            let gradient = [if step == 0 { 1e-3 } else { 0.0 }];
            optimizer.update(0..1, &mut weights, &gradient, 1e-3);
            let normal = |x: f32| x == 0.0 || x.is_normal();
            assert!(
                optimizer
                    .buffers()
                    .iter()
                    .all(|(_, buffer)| normal(buffer[0])),
                "step {step}"
            );
        }
        assert!(
            optimizer
                .buffers()
                .iter()
                .all(|(_, buffer)| buffer[0] == 0.0)
        );
    }
}

#[test]
#[should_panic(expected = "the last step updated 10 of 3149 elements")]
fn a_step_that_leaves_elements_out_is_our_mistake() {
    let mut optimizer = Optimizer::new(&spec(OptimizerKind::Sgd), &parameters()).unwrap();
    optimizer.begin_step();
    optimizer.update(0..10, &mut [0.0; 10], &[0.0; 10], 0.1);
    optimizer.begin_step();
}

#[test]
fn clipping_scales_a_long_gradient_to_the_norm() {
    let spec = OptimizerSpec {
        clip_norm: Some(0.5),
        ..spec(OptimizerKind::Sgd)
    };
    let optimizer = Optimizer::new(&spec, &parameters()).unwrap();
    let mut gradient = vec![0.0; LEN];
    gradient[7] = 2.0;
    let mut norm = NormAccumulator::new();
    optimizer.add_to_norm(&mut norm, &gradient);
    assert_eq!(optimizer.clip_factor(&norm), 0.25);
    let unclipped = Optimizer::new(&momentum(false), &parameters()).unwrap();
    assert_eq!(
        (unclipped.clip_norm(), unclipped.clip_factor(&norm)),
        (None, 1.0)
    );
}

/// The bits that `NUMERICS_VERSION` 1 stands for: all five kinds of update.
#[test]
fn the_bits_are_the_recorded_ones() {
    let found: Vec<String> = specs()
        .iter()
        .map(|spec| {
            let mut optimizer = Optimizer::new(spec, &parameters()).unwrap();
            let (weights, state) = three_steps(&mut optimizer, &[0, LEN]);
            let sum = weights.iter().fold(0u64, |sum, w| {
                sum.wrapping_mul(31).wrapping_add(u64::from(*w))
            });
            format!("{sum:016x} {}", &state[..16])
        })
        .collect();
    let recorded = [
        "1cf2ce3ca0e588a3 9dbc36ffc713803c",
        "d53896928618bbd2 8f11df3b4a64743f",
        "48498f749ae6ca1e 569b6a15f5f1711b",
        "1ac0c88117a0545f 44a610b8bc9e5025",
        "91030c34ee18587e 44a610b8bc9e5025",
    ];
    assert_eq!(found, recorded);
}
