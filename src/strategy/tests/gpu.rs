//! What a GPU replica does besides computing, beside one on the processor.

use std::sync::Mutex;

use super::super::summing::summing;
use super::mnist::MNIST;
use super::*;
use crate::devices::{Asked, found};
use crate::exact::{MicroBatch, Verdict};
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
    let state = TrainState::initial(&plan).unwrap();
    let replicas = Replicas::of(&plan, &devices).unwrap();
    assert_eq!(bits(&replicas.weights(0).unwrap()), bits(&state.weights));
    let new: Vec<f32> = state.weights.iter().map(|weight| weight + 1.0).collect();
    replicas.set_weights(&plan, &new).unwrap();
    assert_eq!(bits(&replicas.weights(0).unwrap()), bits(&new));
}

#[test]
fn a_gpu_sums_a_share_as_the_processor_does() {
    let Some(devices) = gpu() else { return };
    let plan = plan(MNIST, &[]);
    let there = devices.as_slice()[0].open().unwrap();
    let on = |device: &candle_core::Device| -> Partial {
        let mut summing = summing(device);
        let mut partial = Partial::default();
        let kind = plan.course.kind(&plan.course.start());
        plan.clear(&mut partial, &kind);
        let partial = Mutex::new(partial);
        for share in 0..2 {
            summing.begin().unwrap();
            for m in 0..3 {
                let index = 3 * share + m;
                let odd = (m == 1).then_some([f32::NAN, 1e30][share as usize]);
                let gradients = gradients(&plan, index, odd, device);
                let micro_batch = MicroBatch {
                    index,
                    weight: 16,
                    nominal: 96,
                    mean_loss: 0.5,
                    metrics: &[0.25],
                };
                let added = summing.add(&plan, &micro_batch, &gradients, &partial);
                added.unwrap();
            }
            summing.finish(&partial).unwrap();
        }
        partial.into_inner().unwrap()
    };
    let (here, there) = (on(&candle_core::Device::Cpu), on(&there));
    assert_eq!(
        here.totals.weight,
        64,
        "{:?} contributed zeros",
        Verdict::NonFinite
    );
    assert!(
        here.totals
            .parameters
            .iter()
            .any(|counts| counts.out_of_range == 1)
    );
    assert_eq!(here, there);
}

/// Of a micro-batch, with `odd` as the last value.
fn gradients(
    plan: &Plan,
    m: u32,
    odd: Option<f32>,
    device: &candle_core::Device,
) -> Vec<Option<Tensor>> {
    let of = |parameter: &crate::model::Parameter| {
        let mut values = vec![0.0; parameter.range.len()];
        let key = Key::derive(u64::from(m), "gradient", &[parameter.name.as_bytes()]);
        fill_normal(key, 0, &mut values);
        if let (Some(odd), Some(last)) = (odd, values.last_mut()) {
            *last = odd;
        }
        Some(Tensor::from_vec(values, &parameter.shape[..], device).unwrap())
    };
    plan.layout.iter().map(of).collect()
}
