//! Fixed point and packing.

use super::*;
use crate::exact::{BLOCK, FixedPoint, Inspection, Rounding, bodies_len, pack, unpack_add_parts};

/// As many threads as there are elements, fewer, and more.
const GRIDS: [(u32, u32); 3] = [(1, 32), (3, 64), (101, 32)];

#[test]
fn what_cannot_be_summed_is_counted_alike() {
    on_each_machine(|machine| {
        let gradient = any_floats("inspect", 3000);
        for ((bits, scale), (blocks, threads)) in [(36, 1.0), (8, 1.0 / 3.0), (48, 0.125)]
            .into_iter()
            .zip(GRIDS)
        {
            let fixed = FixedPoint::new(bits).unwrap();
            let mut arguments = [
                buffer(&gradient),
                scalar(gradient.len() as u64),
                scalar(fixed.factor(scale)),
                buffer(&[5u64, 7]),
            ];
            machine.run("inspect", blocks, threads, &mut arguments);
            let found = values::<u64>(&arguments[3]);
            let expected = fixed.inspect(&gradient, scale);
            assert!(expected.non_finite > 3 && expected.out_of_range > 3);
            let found = Inspection {
                non_finite: found[0] - 5,
                out_of_range: found[1] - 7,
            };
            assert_eq!(found, expected, "{bits} bits on {}", machine.name());
        }
    });
}

#[test]
fn gradients_are_rounded_and_summed_alike() {
    on_each_machine(|machine| {
        for ((bits, scale), (blocks, threads)) in [(36, 1.0), (8, 1.0 / 3.0), (48, 0.125)]
            .into_iter()
            .zip(GRIDS)
        {
            let fixed = FixedPoint::new(bits).unwrap();
            let mut gradient = gradients("accumulate", 3000, 1);
            // Ties, zeros, and what is below any resolution.
            let half = (fixed.resolution() / 2.0) as f32;
            gradient[..8].copy_from_slice(&[
                half,
                -half,
                3.0 * half,
                5.0 * half,
                0.0,
                -0.0,
                f32::from_bits(1),
                -f32::MIN_POSITIVE,
            ]);
            assert!(fixed.inspect(&gradient, scale).is_clean());
            let mut sum: Vec<i64> = (0..3000).map(|i| draw("sum", i) as i64 >> 1).collect();
            sum[9] = i64::MAX;
            let mut arguments = [
                buffer(&gradient),
                scalar(gradient.len() as u64),
                scalar(fixed.factor(scale)),
                buffer(&sum),
                buffer(&[5u64, 7]),
            ];
            machine.run("accumulate", blocks, threads, &mut arguments);
            let expected = fixed.accumulate(&gradient, scale, &mut sum);
            assert_eq!(
                values::<i64>(&arguments[3]),
                sum,
                "{bits} bits on {}",
                machine.name()
            );
            let counts = values::<u64>(&arguments[4]);
            let found = Rounding {
                nonzero: counts[0] - 5,
                to_zero: counts[1] - 7,
            };
            assert!(expected.to_zero > 3);
            assert_eq!(found, expected, "{bits} bits on {}", machine.name());
        }
    });
}

#[test]
fn sums_become_the_same_gradients() {
    on_each_machine(|machine| {
        let mut sum: Vec<i64> = (0..3000)
            .map(|i| draw("sum", i) as i64 >> (draw("shift", i) % 64))
            .collect();
        sum[..6].copy_from_slice(&[0, 1, -1, i64::MAX, i64::MIN, (1 << 53) + 1]);
        for (bits, correction) in [(36, 1.0), (8, 64.0 / 63.0), (48, 1e-30)] {
            let fixed = FixedPoint::new(bits).unwrap();
            let mut arguments = [
                buffer(&sum),
                scalar(sum.len() as u64),
                scalar(fixed.resolution() * correction),
                buffer(&vec![0f32; sum.len()]),
            ];
            machine.run("from_sum", 3, 64, &mut arguments);
            let mut expected = vec![0f32; sum.len()];
            fixed.to_f32(&sum, correction, &mut expected);
            assert_same(machine, "gradient", &values(&arguments[3]), &expected);
        }
    });
}

#[test]
fn sums_are_packed_to_the_same_bytes() {
    on_each_machine(|machine| {
        for len in [1, 7, 511, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK + 300] {
            // Every block has a width of its own, from 0 to 64.
            let sum: Vec<i64> = (0..len)
                .map(|i| match draw("width", i / BLOCK) % 65 {
                    0 => 0,
                    width => draw("packed", i) as i64 >> (64 - width),
                })
                .collect();
            assert_eq!(
                packed(machine, &sum),
                by_the_processor(&sum),
                "{len} values"
            );
        }
        // All widths in one.
        let sum: Vec<i64> = (0..65 * BLOCK + 37)
            .map(|i| {
                let width = (i / BLOCK).min(64) as u32;
                (draw("packed", i) as i64)
                    .checked_shr(64 - width)
                    .unwrap_or(0)
            })
            .collect();
        assert_eq!(packed(machine, &sum), by_the_processor(&sum));
    });
}

fn by_the_processor(sum: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(sum, &mut bytes);
    bytes
}

/// The three kernels after each other.
fn packed(machine: &dyn Machine, sum: &[i64]) -> Vec<u8> {
    let blocks = sum.len().div_ceil(BLOCK);
    let (n, sum) = (scalar(sum.len() as u64), buffer(sum));
    let mut widths = [sum.clone(), n.clone(), buffer(&vec![0u8; blocks])];
    machine.run("pack_widths", blocks as u32, 32, &mut widths);
    let [sum, n, widths] = widths;
    let offsets = buffer(&vec![0u64; blocks + 1]);
    let mut offsets = [widths, scalar(blocks as u64), n, offsets];
    machine.run("pack_offsets", 1, 4, &mut offsets);
    let [widths, _, n, offsets] = offsets;
    let words = *values::<u64>(&offsets).last().unwrap() as usize;
    let bodies = buffer(&vec![0u64; words.max(1)]);
    let mut bodies = [sum, n, widths, offsets, bodies];
    machine.run("pack_bodies", blocks as u32, 32, &mut bodies);
    let [sum, _, widths, _, bodies] = bodies;

    let mut bytes = values::<u8>(&widths);
    let len = bodies_len(&bytes, values::<i64>(&sum).len());
    let bodies = values::<u8>(&bodies);
    let mut unpacked = vec![1; values::<i64>(&sum).len()];
    unpack_add_parts(&bytes, &bodies[..len], &mut unpacked).unwrap();
    assert!(
        unpacked
            .iter()
            .zip(values::<i64>(&sum))
            .all(|(a, b)| *a == b.wrapping_add(1))
    );
    bytes.extend(&bodies[..len]);
    bytes
}
