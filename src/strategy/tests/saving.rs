//! A state comes back from a snapshot, and nothing else does.

use super::*;
use crate::checkpoint::{Header, Identity, NamedTensor, Snapshot};

fn snapshot(saved: SavedState) -> Snapshot {
    Snapshot {
        header: Header {
            identity: Identity {
                run: "run".into(),
                job_hash: "job".into(),
                job_toml: String::new(),
                artifact: "test".into(),
                data_fingerprint: "data".into(),
                order_version: 1,
                numerics_version: 1,
                kinds: vec![],
            },
            round: saved.round,
            step: saved.step,
            epoch: saved.epoch,
            generation: "1.1".into(),
            writer: "writer".into(),
            state_digest: saved.state_digest,
            weights_sha256: saved.weights_sha256,
            is_final: false,
            best: false,
            metrics: Default::default(),
            state: saved.state,
            counters: serde_json::Value::Null,
        },
        weights: saved.weights,
        optimizer: saved.optimizer,
    }
}

const SETS: [&str; 3] = [
    "optimizer.kind=\"adam\"",
    "train.epochs=3",
    "verify.every=2",
];

/// The snapshot after so many rounds, and the digest at the end.
fn saved_after(plan: &Arc<Plan>, rounds: u64) -> (Snapshot, String) {
    let mut saved = None;
    let state = TrainState::initial(plan).unwrap();
    let end = train_alone(plan, &Devices::cpu(1), state, |state, _| {
        if state.course.round == rounds {
            saved = Some(snapshot(state.save(plan)));
        }
    })
    .unwrap();
    (saved.expect("so many rounds"), end.digest(plan))
}

#[test]
fn a_run_resumed_after_any_round_ends_with_the_same_digest() {
    let plan = line(&SETS);
    for rounds in 1..=11 {
        let (snapshot, expected) = saved_after(&plan, rounds);
        // Through text, as a manifest is.
        let text = serde_json::to_string(&snapshot.header).unwrap();
        let snapshot = Snapshot {
            header: serde_json::from_str(&text).unwrap(),
            ..snapshot
        };
        let state = TrainState::restore(&plan, &snapshot).unwrap();
        let end = train_alone(&plan, &Devices::cpu(2), state, |_, _| ()).unwrap();
        assert_eq!(end.digest(&plan), expected, "resumed after round {rounds}");
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_digest() {
    let plan = line(&SETS);
    let (good, _) = saved_after(&plan, 2);
    let flips: [fn(&mut Snapshot); 3] = [
        |s| s.weights[0].data[0] = -s.weights[0].data[0],
        |s| s.optimizer[0].data[1] += 1.0,
        |s| s.header.state["course"]["round"] = 1.into(),
    ];
    for flip in flips {
        let mut bad = good.clone();
        flip(&mut bad);
        let error = TrainState::restore(&plan, &bad).unwrap_err();
        assert!(matches!(error, RestoreError::Digest { .. }), "{error}");
    }
}

#[test]
fn another_models_snapshot_is_refused_by_name() {
    let plan = line(&SETS);
    let (good, _) = saved_after(&plan, 2);
    type Change = fn(&mut Snapshot);
    let cases: [(Change, &str); 5] = [
        (|s| drop(s.weights.remove(0)), "lacks b"),
        (|s| s.weights[0].shape = vec![1, 1], "b has shape [1, 1]"),
        (
            |s| {
                s.weights.push(NamedTensor {
                    name: "c".into(),
                    shape: vec![1],
                    data: vec![0.0],
                });
            },
            "holds c",
        ),
        (|s| drop(s.optimizer.remove(0)), "adam.m"),
        (|s| s.header.state["chain"] = "00".into(), "chain"),
    ];
    for (change, words) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let error = TrainState::restore(&plan, &bad).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_fork_keeps_weights_and_step_and_says_when_its_moments_start_anew() {
    let plan = line(&SETS);
    let (origin, _) = saved_after(&plan, 4);
    let same = TrainState::fork(
        &line(&["optimizer.kind=\"adam\"", "optimizer.lr=0.1"]),
        &origin,
    );
    let same = same.unwrap();
    assert!(same.optimizer_reset.is_none());
    assert_eq!(
        (same.state.course.step, same.state.optimizer.steps()),
        (3, 3)
    );
    let other = TrainState::fork(&line(&["optimizer.kind=\"sgd\""]), &origin).unwrap();
    assert!(other.optimizer_reset.is_some());
    assert_eq!(other.state.weights, same.state.weights);
    assert_eq!(other.state.optimizer.steps(), 0);
}

fn initial_from(
    tensors: &[(&str, &[usize], f32)],
    name: &str,
    partial: bool,
) -> Result<Vec<f32>, String> {
    let file = format!("ebbtide-initial-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(file);
    let tensors = tensors.iter().map(|&(name, shape, value)| {
        let tensor = Tensor::full(value, shape, &candle_core::Device::Cpu).unwrap();
        (name, tensor)
    });
    candle_core::safetensors::save(&tensors.collect(), &path).unwrap();
    let from = format!("init.from=\"{}\"", path.display());
    let plan = line(&[&from, &format!("init.partial={partial}")]);
    let result = TrainState::initial(&plan).map(|state| state.weights);
    std::fs::remove_file(&path).unwrap();
    result.map_err(|error| error.to_string())
}

#[test]
fn initial_weights_come_from_a_file_that_fits() {
    let both = [("w", &[1][..], 2.0), ("b", &[1], 5.0)];
    assert_eq!(initial_from(&both, "both", false).unwrap(), [5.0, 2.0]);
    let some = [("w", &[1][..], 2.0), ("b", &[3], 5.0), ("c", &[1], 1.0)];
    assert_eq!(initial_from(&some, "some", true).unwrap(), [0.0, 2.0]);
    let error = initial_from(&some, "strict", false).unwrap_err();
    for words in [
        "init.from",
        "b has shape [3], expected [1]",
        "c is no parameter",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = initial_from(&[("x", &[1], 2.0)], "none", true).unwrap_err();
    assert!(error.contains("none in the file that fits"), "{error}");
}

#[test]
fn initial_weights_that_are_not_finite_are_refused_by_name() {
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let broken: [(&str, &[usize], f32); 2] = [("w", &[1], 5.0), ("b", &[1], value)];
        let error = initial_from(&broken, &format!("broken{value}"), true).unwrap_err();
        for word in ["init.from", "finite", "broken", "parameter b"] {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
}
