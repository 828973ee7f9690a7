//! Initial values: the usual distributions, drawn by counter.
//!
//! Element *i* of a parameter is a function of (seed, parameter name, *i*) and
//! nothing else: not of the order in which a model creates its variables, nor of
//! the device, nor of other parameters. The helpers give candle's own hints, so
//! `vb.get_with_hints(shape, name, glorot_uniform(784, 128))` reads as it would
//! anywhere, and layers of `candle_nn` with their built-in hints work as well.

use candle_core::{Device, Result, Shape, Var};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;

#[cfg(feature = "cuda")]
use crate::kernels::Random;
use crate::numerics::philox::{self, Key};

/// Uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010): Keras'
/// default for dense kernels.
pub fn glorot_uniform(fan_in: usize, fan_out: usize) -> Init {
    let limit = (6.0 / (fan_in + fan_out).max(1) as f64).sqrt();
    Init::Uniform {
        lo: -limit,
        up: limit,
    }
}

/// Normal with standard deviation sqrt(2 / (fan_in + fan_out)), not truncated
/// (Glorot and Bengio, 2010).
pub fn glorot_normal(fan_in: usize, fan_out: usize) -> Init {
    normal((2.0 / (fan_in + fan_out).max(1) as f64).sqrt())
}

/// Uniform on ±sqrt(6 / fan_in) (He et al., 2015), for layers before a ReLU.
pub fn he_uniform(fan_in: usize) -> Init {
    let limit = (6.0 / fan_in.max(1) as f64).sqrt();
    Init::Uniform {
        lo: -limit,
        up: limit,
    }
}

/// Normal with standard deviation sqrt(2 / fan_in), not truncated (He et al., 2015).
pub fn he_normal(fan_in: usize) -> Init {
    normal((2.0 / fan_in.max(1) as f64).sqrt())
}

/// Normal around zero.
pub fn normal(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}

/// All zeros: the usual bias.
pub fn zeros() -> Init {
    candle_nn::init::ZERO
}

/// The initial values of parameter `name`, as a variable of this device.
pub(super) fn variable(
    init: Init,
    seed: u64,
    name: &str,
    shape: &Shape,
    device: &Device,
) -> Result<Var> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let key = Key::derive(seed, "init", &[name.as_bytes()]);
        let random = match distribution(init, shape) {
            Distribution::Const(_) => None,
            Distribution::Uniform { low, span } => Some(Random::Uniform { low, span }),
            Distribution::Normal { mean, deviation } => Some(Random::Normal { mean, deviation }),
        };
        if let Some(random) = random {
            return Var::from_tensor(&random.tensor(key, shape, device)?);
        }
    }
    Var::from_vec(values(init, seed, name, shape), shape, device)
}

/// The initial values of parameter `name`, row-major.
fn values(init: Init, seed: u64, name: &str, shape: &Shape) -> Vec<f32> {
    let mut values = vec![0.0f32; shape.elem_count()];
    let key = Key::derive(seed, "init", &[name.as_bytes()]);
    match distribution(init, shape) {
        Distribution::Const(value) => values.fill(value as f32),
        Distribution::Uniform { low, span } => {
            philox::fill_uniform(key, 0, &mut values);
            for value in &mut values {
                *value = (low + span * f64::from(*value)) as f32;
            }
        }
        Distribution::Normal { mean, deviation } => {
            philox::fill_normal(key, 0, &mut values);
            for value in &mut values {
                *value = (mean + deviation * f64::from(*value)) as f32;
            }
        }
    }
    values
}

/// What candle's hint comes to for a shape.
enum Distribution {
    Const(f64),
    Uniform { low: f64, span: f64 },
    Normal { mean: f64, deviation: f64 },
}

fn distribution(init: Init, shape: &Shape) -> Distribution {
    let uniform = |low: f64, up: f64| Distribution::Uniform {
        low,
        span: up - low,
    };
    let normal = |mean, deviation| Distribution::Normal { mean, deviation };
    match init {
        Init::Const(value) => Distribution::Const(value),
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => normal(mean, stdev),
        Init::Kaiming {
            dist,
            fan,
            non_linearity,
        } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => normal(0.0, stdev),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    uniform(-bound, bound)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values
            .iter()
            .map(|&v| (f64::from(v) - mean) * (f64::from(v) - mean))
            .sum::<f64>()
            / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn each_distribution_has_its_mean_and_spread() {
        let shape = Shape::from((200, 300));
        let kaiming = candle_nn::init::DEFAULT_KAIMING_NORMAL; // fan in: the 300 columns
        for (init, mean, stdev) in [
            (glorot_uniform(300, 200), 0.0, (2.0f64 / 500.0).sqrt()),
            (glorot_normal(300, 200), 0.0, (2.0f64 / 500.0).sqrt()),
            (he_uniform(300), 0.0, (2.0f64 / 300.0).sqrt()),
            (he_normal(300), 0.0, (2.0f64 / 300.0).sqrt()),
            (kaiming, 0.0, (2.0f64 / 300.0).sqrt()),
            (normal(0.02), 0.0, 0.02),
            (
                Init::Uniform { lo: 1.0, up: 3.0 },
                2.0,
                (4.0f64 / 12.0).sqrt(),
            ),
        ] {
            let values = values(init, 7, "w", &shape);
            let (m, s) = moments(&values);
            assert!((m - mean).abs() < 0.02 * stdev, "{init:?}: mean {m}");
            assert!(
                (s / stdev - 1.0).abs() < 0.02,
                "{init:?}: stdev {s}, not {stdev}"
            );
        }
        assert!(values(zeros(), 7, "b", &shape).iter().all(|&v| v == 0.0));
        assert!(
            values(Init::Const(1.5), 7, "b", &shape)
                .iter()
                .all(|&v| v == 1.5)
        );
    }

    #[test]
    fn uniform_values_stay_within_their_bounds() {
        let limit = (6.0f64 / 40.0).sqrt() as f32;
        let values = values(glorot_uniform(20, 20), 3, "w", &Shape::from(10_000));
        assert!(values.iter().all(|v| (-limit..=limit).contains(v)));
    }

    #[test]
    fn values_depend_on_seed_and_name_and_not_on_the_shape_around_them() {
        let init = normal(1.0);
        let some = values(init, 1, "a", &Shape::from(100));
        assert_eq!(some, values(init, 1, "a", &Shape::from(100)));
        assert_eq!(some[..], values(init, 1, "a", &Shape::from((3, 50)))[..100]);
        assert_ne!(some, values(init, 2, "a", &Shape::from(100)));
        assert_ne!(some, values(init, 1, "b", &Shape::from(100)));
    }
}
