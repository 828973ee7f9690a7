//! What a GPU replica does besides computing, beside one on the processor.

use std::sync::Mutex;

use super::super::summing::Computed;
use super::mnist::MNIST;
use super::*;
use crate::devices::{Asked, found};
use crate::model::Loss;
use crate::numerics::philox::{Key, fill_normal};

/// The first GPU, if there is one.
fn gpu() -> Option<Devices> {
    let gpus = found();
    match Asked::AllCuda.choose(&gpus) {
        Ok(_) => Devices::cuda(&[gpus.gpus[0].index]),
        Err(why) => {
            eprintln!("not compared on a GPU: {why}");
            None
        }
    }
}

fn bits(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|weight| weight.to_bits()).collect()
}

#[test]
fn a_gpu_replica_begins_with_the_processors_weights_and_takes_new_ones() {
    let Some(devices) = gpu() else { return };
    let plan = plan(MNIST, &[]);
    let mut state = TrainState::initial(&plan).unwrap();
    let mut replicas = Replicas::of(&plan, &devices).unwrap();
    assert_eq!(bits(&replicas.weights(0).unwrap()), bits(state.weights()));
    state.weights_mut().iter_mut().for_each(|w| *w += 1.0);
    state.put(&plan, &mut replicas).unwrap();
    assert_eq!(bits(&replicas.weights(0).unwrap()), bits(state.weights()));
}

/// Whose micro-batches hold what can't be summed, and where the sum of a round is to be: whether
/// it stays on the GPU in its first and in its second share.
struct Round {
    odd: &'static [(u32, f32)],
    stays: [bool; 2],
    skipped: bool,
}

const ROUNDS: [Round; 6] = [
    // Only ours from beginning to end.
    Round {
        odd: &[],
        stays: [true, true],
        skipped: false,
    },
    // Others read it.
    Round {
        odd: &[],
        stays: [false, false],
        skipped: false,
    },
    // Others come in the middle of it.
    Round {
        odd: &[],
        stays: [true, false],
        skipped: false,
    },
    // A step that isn't applied, here and there.
    Round {
        odd: &[(1, f32::NAN)],
        stays: [true, true],
        skipped: true,
    },
    Round {
        odd: &[(0, 1e30), (3, f32::INFINITY)],
        stays: [true, false],
        skipped: true,
    },
    Round {
        odd: &[],
        stays: [true, true],
        skipped: false,
    },
];

#[test]
fn a_gpu_sums_names_and_updates_as_the_processor_does() {
    let Some(devices) = gpu() else { return };
    for optimizer in [
        &["optimizer.kind=\"adamw\"", "optimizer.clip_norm=0.5"][..],
        &["optimizer.kind=\"sgd\"", "optimizer.momentum=0.9"],
        &["optimizer.kind=\"sgd\"", "optimizer.lr=0.5"],
        &["optimizer.groups=[{pattern=\"dense_0.*\", frozen=true}]"],
    ] {
        let plan = plan(MNIST, &[optimizer, &["model.hidden=[8]"]].concat());
        let processor = Devices::cpu(1);
        let [mut here, mut there] = [&processor, &devices].map(|devices| {
            let state = TrainState::initial(&plan).unwrap();
            let mut replicas = Replicas::of(&plan, devices).unwrap();
            state.put(&plan, &mut replicas).unwrap();
            (state, replicas)
        });
        assert!(there.1.keep_sums() && !here.1.keep_sums());
        for (index, round) in ROUNDS.iter().enumerate() {
            let [expected, found] =
                [&mut here, &mut there].map(|side| side_by_side(&plan, index, round, side));
            assert_eq!(expected, found, "round {index} with {optimizer:?}");
            assert_eq!(expected.0.applied.is_none(), round.skipped);
        }
        let (state, replicas) = &mut there;
        state.settle(&plan, Some(replicas)).unwrap();
        assert_eq!(state.digest(&plan), here.0.digest(&plan), "{optimizer:?}");
        assert_eq!(bits(&replicas.weights(0).unwrap()), bits(state.weights()));
        let saved = (state.save(&plan), here.0.save(&plan));
        assert_eq!(saved.0, saved.1);
    }
}

/// A round on one side: what it came to, and its totals.
fn side_by_side(
    plan: &Plan,
    index: usize,
    round: &Round,
    (state, replicas): &mut (TrainState, Replicas),
) -> (Finished, crate::exact::Totals) {
    let kind = plan.course.kind(&state.course);
    let mut partial = Partial::default();
    let keeps = replicas.keep_sums();
    plan.clear(&mut partial, &kind, keeps && round.stays[0]);
    for (share, stays) in round.stays.iter().enumerate() {
        if !stays {
            plan.want_here(&mut partial);
        }
        let replica = replicas.first_replica();
        replica.summing.begin(share == 0).unwrap();
        let into = Mutex::new(std::mem::take(&mut partial));
        // More than may be under way at a time.
        let half = plan.course.micro_batches(&kind) / 2;
        for m in share as u32 * half..(share as u32 + 1) * half {
            let odd = round
                .odd
                .iter()
                .find(|(of, _)| *of == m)
                .map(|(_, odd)| *odd);
            let device = replica.device.clone();
            let scalar = |value: f32| Tensor::new(value, &device).unwrap();
            let computed = Computed {
                index: m,
                nominal: plan.course.nominal_weight(&kind),
                loss: &Loss {
                    mean: scalar(0.5 + m as f32),
                    weight: 16,
                    metrics: vec![("accuracy", scalar(0.25))],
                },
                gradients: &gradients(plan, 100 * index as u32 + m, odd, &device),
            };
            replica.summing.add(plan, &computed, &into).unwrap();
        }
        replica.summing.finish(&into).unwrap();
        partial = into.into_inner().unwrap();
    }
    assert_eq!(partial.resident, keeps && round.stays[1]);
    let totals = partial.totals.clone();
    let finished = state.finish(plan, Some(replicas), partial.complete(), &totals);
    (finished.unwrap(), totals)
}

/// Of a micro-batch, with `odd` as the last value.
fn gradients(
    plan: &Plan,
    m: u32,
    odd: Option<f32>,
    device: &candle_core::Device,
) -> Vec<Option<Tensor>> {
    let of = |(index, parameter): (usize, &crate::model::Parameter)| {
        let mut values = vec![0.0; parameter.range.len()];
        let key = Key::derive(u64::from(m), "gradient", &[parameter.name.as_bytes()]);
        fill_normal(key, 0, &mut values);
        values.iter_mut().for_each(|value| *value *= 1e-2);
        if let (Some(odd), Some(last)) = (odd, values.last_mut()) {
            *last = odd;
        }
        let tensor = Tensor::from_vec(values, &parameter.shape[..], device);
        plan.is_trained(index).then(|| tensor.unwrap())
    };
    plan.layout.iter().enumerate().map(of).collect()
}
