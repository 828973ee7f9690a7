//! Random numbers of the counter-based generator.

use super::*;
use crate::numerics::philox::{fill_normal, fill_uniform};

/// What a kernel makes of a key's stream, and what its twin gives.
#[track_caller]
fn compare<T: Number>(
    kernel: &str,
    (a, b): (T, T),
    fill: fn(Key, u64, &mut [f32]),
    then: impl Fn(f32) -> f32,
) {
    on_each_machine(|machine| {
        for (i, len) in [1, 4, 1023, 40_000].into_iter().enumerate() {
            let key = Key::derive(i as u64, "compared", &[kernel.as_bytes()]);
            let [k0, k1] = key.0;
            let mut arguments = [
                scalar(k0),
                scalar(k1),
                scalar(a),
                scalar(b),
                buffer(&vec![0f32; len]),
                scalar(len as u64),
            ];
            machine.run(kernel, 5, 64, &mut arguments);
            let mut expected = vec![0f32; len];
            fill(key, 0, &mut expected);
            expected.iter_mut().for_each(|value| *value = then(*value));
            assert_same(machine, kernel, &values(&arguments[4]), &expected);
        }
    });
}

#[test]
fn dropout_masks_are_the_same() {
    let (p, kept) = (0.3f32, 1.0 / 0.7f32);
    let drop = |value| if value >= p { kept } else { 0.0 };
    compare("dropout_mask", (p, kept), fill_uniform, drop);
}

#[test]
fn uniform_values_are_the_same() {
    let (low, span) = (-0.0123f64, 0.0246f64);
    let place = |value| (low + span * f64::from(value)) as f32;
    compare("fill_uniform", (low, span), fill_uniform, place);
}

#[test]
fn normal_values_are_the_same() {
    let (mean, deviation) = (0.25f64, 0.02f64);
    let place = |value| (mean + deviation * f64::from(value)) as f32;
    compare("fill_normal", (mean, deviation), fill_normal, place);
}
