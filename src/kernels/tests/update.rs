//! The update, and the norm that clips it.

use super::*;
use crate::exact::FixedPoint;
use crate::numerics::dispatch::Level;
use crate::optim::NormAccumulator;
use crate::optim::kernel::{self, AdamScalars, SgdScalars};

const LEN: usize = 5000;

/// A sum, and the gradient that it stands for.
fn sum_and_gradient(fixed: FixedPoint, correction: f64) -> (Vec<i64>, Vec<f32>) {
    let mut sum: Vec<i64> = (0..LEN)
        .map(|i| draw("sum", i) as i64 >> (draw("shift", i) % 62))
        .collect();
    sum[..5].copy_from_slice(&[0, 1, -1, i64::MAX, i64::MIN]);
    let mut gradient = vec![0f32; LEN];
    fixed.to_f32(&sum, correction, &mut gradient);
    (sum, gradient)
}

/// Weights, moments and velocities, what is odd included.
fn state(name: &str) -> Vec<f32> {
    let mut state = gradients(name, LEN, 20);
    state[..10].copy_from_slice(&any_floats(name, 12)[..10]);
    // Where a velocity or moment becomes too small to keep.
    for (small, value) in (0..).zip(&mut state[10..300]) {
        *value = f32::from_bits(((127 - 112 + small % 5) << 23) + small);
    }
    state
}

#[test]
fn adam_updates_alike() {
    on_each_machine(|machine| {
        let fixed = FixedPoint::new(36).unwrap();
        let (sum, gradient) = sum_and_gradient(fixed, 1.25);
        for (clip, keep) in [(1.0, 1.0), (0.37, 0.9999)] {
            let s = AdamScalars {
                one_minus_beta1: 0.1,
                one_minus_beta2: 0.001,
                eps: 1e-8,
                alpha: 3.1e-4,
                keep,
                clip,
            };
            let scalars = [
                s.one_minus_beta1,
                s.one_minus_beta2,
                s.eps,
                s.alpha,
                s.keep,
                s.clip,
            ];
            let (mut weights, mut m, mut v) = (state("weights"), state("m"), state("v"));
            // A second moment is a mean of squares.
            v.iter_mut().for_each(|v| *v = v.abs());
            let mut arguments = [
                buffer(&sum),
                scalar(LEN as u64),
                scalar(fixed.resolution() * 1.25),
                Argument::Scalar(f32::bytes(&scalars)),
                buffer(&weights),
                buffer(&m),
                buffer(&v),
            ];
            machine.run("adam", 3, 64, &mut arguments);
            kernel::adam(Level::best(), s, &mut weights, &gradient, &mut m, &mut v);
            assert_eq!(values::<i64>(&arguments[0]), [0; LEN], "taken");
            assert_same(machine, "weight", &values(&arguments[4]), &weights);
            assert_same(machine, "first moment", &values(&arguments[5]), &m);
            assert_same(machine, "second moment", &values(&arguments[6]), &v);
        }
    });
}

#[test]
fn gradient_descent_updates_alike_with_and_without_momentum() {
    on_each_machine(|machine| {
        let fixed = FixedPoint::new(20).unwrap();
        let (sum, gradient) = sum_and_gradient(fixed, 1.0);
        let s = SgdScalars {
            rate: 0.05,
            momentum: 0.9,
            keep: 0.9995,
            clip: 0.61,
        };
        let scalars = Argument::Scalar(f32::bytes(&[s.rate, s.momentum, s.keep, s.clip]));
        let n = scalar(LEN as u64);
        let factor = scalar(fixed.resolution());

        let mut weights = state("weights");
        let mut arguments = [
            buffer(&sum),
            n.clone(),
            factor.clone(),
            scalars.clone(),
            buffer(&weights),
        ];
        machine.run("sgd", 3, 64, &mut arguments);
        kernel::sgd(Level::best(), s, &mut weights, &gradient);
        assert_same(machine, "weight", &values(&arguments[4]), &weights);

        for nesterov in [false, true] {
            let (mut weights, mut velocity) = (state("weights"), state("velocity"));
            let mut arguments = [
                buffer(&sum),
                n.clone(),
                factor.clone(),
                scalars.clone(),
                scalar(i32::from(nesterov)),
                buffer(&weights),
                buffer(&velocity),
            ];
            machine.run("momentum", 3, 64, &mut arguments);
            let twin = if nesterov {
                kernel::nesterov
            } else {
                kernel::momentum
            };
            twin(Level::best(), s, &mut weights, &gradient, &mut velocity);
            assert_same(machine, "weight", &values(&arguments[5]), &weights);
            assert_same(machine, "velocity", &values(&arguments[6]), &velocity);
        }
    });
}

#[test]
fn the_norm_is_summed_in_the_same_order() {
    on_each_machine(|machine| {
        let fixed = FixedPoint::new(36).unwrap();
        let (sum, gradient) = sum_and_gradient(fixed, 0.75);
        for len in [1, 17, 1024, 1030, LEN] {
            let blocks = len.div_ceil(1024);
            let mut arguments = [
                buffer(&sum[..len]),
                scalar(len as u64),
                scalar(fixed.resolution() * 0.75),
                buffer(&vec![0f64; blocks]),
            ];
            machine.run("squares", blocks as u32, 16, &mut arguments);
            let found = NormAccumulator::of_blocks(&values::<f64>(&arguments[3]));
            let mut norm = NormAccumulator::new();
            norm.add(&gradient[..len]);
            assert_eq!(
                found.norm().to_bits(),
                norm.norm().to_bits(),
                "{len} elements"
            );
        }
    });
}
