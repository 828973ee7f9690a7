//! What a step computes, and that it doesn't matter who computes what.

use sha2::{Digest, Sha256};

use super::super::hash::unhex;
use super::*;
use crate::job::Decision;
use crate::numerics::philox::{Key, uniform_u64};

/// Mean gradient of (w·x + b - y)² over the samples of step `step`, in f64.
fn mean_gradient(plan: &Plan, step: u64, w: f64, b: f64) -> (f64, f64) {
    let mut gradient = (0.0, 0.0);
    let mut count = 0.0;
    for m in 0..plan.order.micro_batches() {
        for index in plan.order.samples(step, m) {
            let x = f64::from(2.0 * index as f32 / 10.0 - 1.0);
            let error = w * x + b - (3.0 * x + 1.0);
            gradient = (gradient.0 + 2.0 * error * x, gradient.1 + 2.0 * error);
            count += 1.0;
        }
    }
    (gradient.0 / count, gradient.1 / count)
}

#[test]
fn a_step_is_plain_gradient_descent_also_where_the_batch_is_short() {
    let plan = line(&[]);
    // 10 samples in batches of 4: the third step has 2.
    let short: Vec<_> = (0..2).map(|m| plan.order.samples(2, m).len()).collect();
    assert_eq!(short, [2, 0]);
    let mut state = TrainState::initial(&plan).unwrap();
    // Byte order: b before w; both start at zero.
    assert_eq!(state.weights, [0.0, 0.0]);
    let (mut w, mut b) = (0.0, 0.0);
    for step in 0..3 {
        let (_, round) = whole_round(&plan, &state);
        let round = round.unwrap();
        let finished = state
            .finish(&plan, None, round.complete(), &round.totals)
            .unwrap();
        assert_eq!(finished.applied.unwrap().lr, 0.5);
        let (gw, gb) = mean_gradient(&plan, step, w, b);
        (w, b) = (w - 0.5 * gw, b - 0.5 * gb);
        assert!(
            (f64::from(state.weights[0]) - b).abs() < 1e-5,
            "b {b} {:?}",
            state.weights
        );
        assert!(
            (f64::from(state.weights[1]) - w).abs() < 1e-5,
            "w {w} {:?}",
            state.weights
        );
    }
}

#[test]
fn new_weights_stand_in_every_replica() {
    let plan = line(&[]);
    let mut state = TrainState::initial(&plan).unwrap();
    let mut replicas = Replicas::of(&plan, &Devices::cpu(3)).unwrap();
    state.weights_mut().copy_from_slice(&[0.25, -4.0]);
    state.put(&plan, &mut replicas).unwrap();
    for replica in 0..3 {
        assert_eq!(replicas.weights(replica).unwrap(), [0.25, -4.0]);
    }
    let mut state = TrainState {
        weights: vec![0.25, -4.0],
        ..state
    };
    let kind = plan.course.kind(&state.course);
    let mut round = Partial::default();
    plan.clear(&mut round, &kind, false);
    replicas
        .compute(&plan, &kind, &[0, 1], &mut round, &Stop::new())
        .unwrap();
    state
        .finish(&plan, Some(&mut replicas), round.complete(), &round.totals)
        .unwrap();
    assert_ne!(state.weights, [0.25, -4.0]);
    for replica in 0..3 {
        assert_eq!(replicas.weights(replica).unwrap(), state.weights);
    }
}

#[test]
fn any_partition_merged_in_any_order_is_the_same_sum() {
    let plan = line(&[
        "train.global_batch=64",
        "train.micro_batch=4",
        "data.options.samples=100",
    ]);
    let state = TrainState::initial(&plan).unwrap();
    let (kind, whole) = whole_round(&plan, &state);
    let whole = whole.unwrap();
    let mut replicas = Replicas::of(&plan, &Devices::cpu(2)).unwrap();
    for seed in 0..20 {
        println!("seed {seed}");
        let draw = |index| uniform_u64(Key::derive(seed, "test", &[]), index);
        let mut shares = vec![vec![]; 4];
        for m in 0..16u32 {
            shares[draw(u64::from(m)) as usize % 4].push(m);
        }
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&share| draw(100 + share as u64));
        let mut merged = Partial::default();
        plan.clear(&mut merged, &kind, false);
        for share in order {
            let mut partial = Partial::default();
            plan.clear(&mut partial, &kind, false);
            let share = &shares[share];
            replicas
                .compute(&plan, &kind, share, &mut partial, &Stop::new())
                .unwrap();
            assert_eq!(partial.totals.contributed.len(), share.len());
            merged.merge(&partial).unwrap();
        }
        assert_eq!(merged, whole);
    }
}

#[test]
fn a_stopped_computation_holds_whole_micro_batches_and_can_go_on() {
    let plan = line(&[]);
    let state = TrainState::initial(&plan).unwrap();
    let (kind, whole) = whole_round(&plan, &state);
    let mut replicas = Replicas::of(&plan, &Devices::cpu(2)).unwrap();
    let mut partial = Partial::default();
    plan.clear(&mut partial, &kind, false);
    let stop = Stop::new();
    stop.stop();
    replicas
        .compute(&plan, &kind, &[0, 1], &mut partial, &stop)
        .unwrap();
    assert!(partial.totals.contributed.is_empty());
    replicas
        .compute(&plan, &kind, &[1], &mut partial, &Stop::new())
        .unwrap();
    replicas
        .compute(&plan, &kind, &[0], &mut partial, &Stop::new())
        .unwrap();
    assert_eq!(partial, whole.unwrap());
}

#[test]
fn one_two_and_three_replicas_come_to_the_same_digest() {
    let plan = line(&[
        "optimizer.kind=\"adam\"",
        "train.epochs=3",
        "optimizer.clip_norm=0.5",
    ]);
    let alone = digest_of_run(&plan, 1);
    assert_eq!(alone, digest_of_run(&plan, 2));
    assert_eq!(alone, digest_of_run(&plan, 3));
    assert_ne!(
        alone,
        digest_of_run(&line(&["optimizer.kind=\"adam\"", "train.epochs=4"]), 1)
    );
}

#[test]
fn the_gradient_norm_is_measured_where_the_job_clips() {
    let plan = line(&["optimizer.clip_norm=0.125"]);
    let mut state = TrainState::initial(&plan).unwrap();
    let (gw, gb) = mean_gradient(&plan, 0, 0.0, 0.0);
    let (_, round) = whole_round(&plan, &state);
    let round = round.unwrap();
    let applied = state
        .finish(&plan, None, round.complete(), &round.totals)
        .unwrap()
        .applied
        .unwrap();
    let norm = gw.hypot(gb);
    assert!((applied.gradient_norm.unwrap() - norm).abs() < 1e-5);
    let moved = f64::from(state.weights[0]).hypot(f64::from(state.weights[1]));
    assert!((moved - 0.5 * 0.125).abs() < 1e-6, "moved by {moved}");
}

#[test]
fn an_evaluation_sees_every_validation_sample_once() {
    let plan = line(&["evaluation.micro_batch=2", "train.epochs=1"]);
    let state = TrainState::initial(&plan).unwrap();
    let mut seen = None;
    train_alone(&plan, &Devices::cpu(2), state, |state, finished| {
        for decision in &finished.decisions {
            if let Decision::Evaluated { validation, .. } = decision {
                let (b, w) = (f64::from(state.weights[0]), f64::from(state.weights[1]));
                let errors = (0..5).map(|i| {
                    let x = f64::from(2.0 * i as f32 / 10.0 - 1.0);
                    w * x + b - (3.0 * x + 1.0)
                });
                let expected = errors.map(|e| e * e).sum::<f64>() / 5.0;
                seen = Some((validation.means.clone().unwrap(), expected));
            }
        }
    })
    .unwrap();
    let (means, expected) = seen.expect("an evaluation after the epoch");
    assert_eq!(means.weight, 5);
    assert!((means.loss - expected).abs() < 1e-5, "{means:?} {expected}");
}

#[test]
fn the_chained_digest_covers_what_was_before() {
    let digests = |sets: &[&str]| {
        let plan = line(&[sets, &["verify.every=2"]].concat());
        let mut digests = vec![];
        let state = TrainState::initial(&plan).unwrap();
        train_alone(&plan, &Devices::cpu(1), state, |_, finished| {
            digests.extend(finished.digest.clone())
        })
        .unwrap();
        digests
    };
    let plain = digests(&[]);
    assert_eq!(plain.len(), 3);
    assert_eq!(plain, digests(&[]));
    let other = digests(&["optimizer.lr=0.25"]);
    assert!(plain.iter().zip(&other).all(|(a, b)| a != b));
    // Anybody can follow the chain with the digests alone.
    let mut chain = [0; 32];
    for digest in &plain {
        let state = unhex(&digest.state).expect("64 digits");
        chain = Sha256::new()
            .chain_update(chain)
            .chain_update(state)
            .finalize()
            .into();
        assert_eq!(digest.chain, chain);
        assert_ne!(digest.chain_hex(), digest.state);
    }
}
