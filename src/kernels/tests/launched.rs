//! The kernels as a worker launches them: a GPU replica's sum, its dropout and its
//! initial values.

use std::ops::Range;

use candle_core::{Device, Tensor};
use candle_nn::Init;
use candle_nn::init::DEFAULT_KAIMING_NORMAL;

use super::super::DeviceSum;
use super::super::sum::{Found, UNDER_WAY};
use super::*;
use crate::exact::{FixedPoint, Inspection, Rounding};
use crate::model::init::glorot_uniform;
use crate::model::{StepContext, Variables};

/// The first GPU, if there is one.
fn gpu() -> Option<Device> {
    match gpu::Gpu::new() {
        Ok(gpu) => Some(gpu.device()),
        Err(why) => {
            eprintln!("not compared on a GPU: {why}");
            None
        }
    }
}

/// A parameter of two blocks and a bit, a frozen one, one of a single value.
const RANGES: [Range<usize>; 3] = [0..1100, 1100..1200, 1200..1201];

#[test]
fn a_gpu_sums_micro_batches_as_the_processor_does() {
    let Some(device) = gpu() else { return };
    let fixed = FixedPoint::new(36).unwrap();
    let gpu = device.as_cuda_device().unwrap();
    let mut there = DeviceSum::new(gpu, 1201, 3, 1).unwrap();
    let loss = Tensor::new(0.5f32, &device).unwrap();
    for round in 0..2 {
        let mut sum = vec![5i64; 1201];
        let mut expected = sum.clone();
        let mut rounded = [Rounding::default(); 3];
        for m in 0..2 * UNDER_WAY {
            let scale = 1.0 / (m + 3) as f64;
            let name = format!("{round}.{m}");
            let long = gradients(&name, 1100, 4);
            let short = gradients(&name, 1, 4);
            let tensors = [&long, &short].map(|g| Tensor::new(&g[..], &device).unwrap());
            let places = [
                (Some(&tensors[0]), RANGES[0].clone()),
                (None, RANGES[1].clone()),
                (Some(&tensors[1]), RANGES[2].clone()),
            ];
            if there.is_full() {
                assert!(m >= UNDER_WAY);
                assert!(there.found().unwrap().unwrap().added);
            }
            there
                .add(&places, &[&loss], (scale, fixed.factor(scale)))
                .unwrap();
            for (index, gradient) in [(0, &long), (2, &short)] {
                let of = fixed.accumulate(gradient, scale, &mut expected[RANGES[index].clone()]);
                rounded[index].nonzero += of.nonzero;
                rounded[index].to_zero += of.to_zero;
            }
        }
        for _ in 0..UNDER_WAY {
            let clean = Found {
                inspections: vec![Inspection::default(); 3],
                scalars: vec![0.5],
                added: true,
            };
            assert_eq!(there.found().unwrap(), Some(clean));
        }
        assert_eq!(there.found().unwrap(), None);
        assert_eq!(there.rounded().unwrap(), rounded, "round {round}");
        there
            .take(|part, packed| packed.add_to(&mut sum[part]))
            .unwrap();
        assert_eq!(sum, expected, "round {round}");
        assert!(there.is_empty());
    }
}

#[test]
fn a_gpu_finds_what_cannot_be_summed() {
    let Some(device) = gpu() else { return };
    let fixed = FixedPoint::new(36).unwrap();
    let odd = any_floats("odd", 1100);
    let tensor = Tensor::new(&odd[..], &device).unwrap();
    let gpu = device.as_cuda_device().unwrap();
    let mut there = DeviceSum::new(gpu, 1201, 3, 1).unwrap();
    let places = [
        (Some(&tensor), RANGES[0].clone()),
        (None, RANGES[1].clone()),
        (None, RANGES[2].clone()),
    ];
    let none = Inspection::default();
    for (loss, odd_too) in [(0.5, true), (f32::NAN, false)] {
        let scalar = Tensor::new(loss, &device).unwrap();
        let places = if odd_too { &places[..] } else { &[] };
        there
            .add(places, &[&scalar], (1.0, fixed.factor(1.0)))
            .unwrap();
        let found = there.found().unwrap().unwrap();
        let of = if odd_too {
            fixed.inspect(&odd, 1.0)
        } else {
            none
        };
        assert_eq!(found.inspections, [of, none, none]);
        assert_eq!(found.scalars[0].to_bits(), f64::from(loss).to_bits());
        assert!(!found.added);
    }
    let mut sum = vec![0i64; 1201];
    there
        .take(|part, packed| packed.add_to(&mut sum[part]))
        .unwrap();
    assert_eq!(sum, [0; 1201], "nothing of them is in the sum");
}

#[test]
fn a_gpu_draws_the_processors_initial_values_and_dropout() {
    let Some(device) = gpu() else { return };
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let drawn = |device: &Device, init: Init| {
        let vars = Variables::seeded(5, device);
        bits(&vars.builder().get_with_hints((37, 53), "w", init).unwrap())
    };
    for init in [
        glorot_uniform(37, 53),
        DEFAULT_KAIMING_NORMAL,
        Init::Const(0.5),
    ] {
        assert_eq!(drawn(&device, init), drawn(&Device::Cpu, init), "{init:?}");
    }
    let mask = |device: &Device| {
        let shape = (7, 1001);
        let mask = StepContext::new(1, 2, 3).mask(0.3, "hidden", &shape.into(), device);
        bits(&mask.unwrap())
    };
    assert_eq!(mask(&device), mask(&Device::Cpu));
}
