//! Fixed point and packing.

use super::*;
use crate::exact::{
    BLOCK, FixedPoint, Inspection, MicroBatch, Rounding, SumHash, Totals, Verdict, bodies_len,
    pack, unpack_add_parts,
};

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
                buffer(&[0u64]),
                buffer(&sum),
                buffer(&[5u64, 7]),
            ];
            machine.run("accumulate", blocks, threads, &mut arguments);
            assert_eq!(values::<i64>(&arguments[4]), sum, "refused");
            assert_eq!(values::<u64>(&arguments[5]), [5, 7], "refused");
            arguments[3] = buffer(&[1u64]);
            machine.run("accumulate", blocks, threads, &mut arguments);
            let expected = fixed.accumulate(&gradient, scale, &mut sum);
            assert_eq!(
                values::<i64>(&arguments[4]),
                sum,
                "{bits} bits on {}",
                machine.name()
            );
            let counts = values::<u64>(&arguments[5]);
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

#[test]
fn a_micro_batch_is_judged_alike() {
    on_each_machine(|machine| {
        let limit = (1u64 << 19) as f64;
        let loss = [
            0.5,
            -3.0,
            f64::NAN,
            f64::INFINITY,
            limit,
            limit * 3.0,
            2.9999 * limit,
        ];
        let inspections = [[0u64; 4], [0, 0, 0, 1], [1, 0, 0, 0]];
        for (loss, counts) in loss.iter().flat_map(|l| inspections.map(|c| (*l, c))) {
            for metric in [0.25, f64::NAN] {
                let micro_batch = MicroBatch {
                    index: 3,
                    weight: 5,
                    nominal: 15,
                    mean_loss: loss,
                    metrics: &[metric],
                };
                let [a, b] = [0, 2].map(|at| Inspection {
                    non_finite: counts[at],
                    out_of_range: counts[at + 1],
                });
                let verdict = Totals::new(1, 2).add_micro_batch(&micro_batch, &[a, b]);
                let scalars = [loss.to_bits(), metric.to_bits(), 7];
                let mut arguments = [
                    buffer(&[&counts[..], &scalars].concat()),
                    scalar(4u64),
                    scalar(2u64),
                    scalar(micro_batch.scale()),
                ];
                machine.run("judge", 1, 32, &mut arguments);
                let found = values::<u64>(&arguments[0])[6];
                assert_eq!(found == 1, verdict == Verdict::Clean, "{micro_batch:?}");
            }
        }
    });
}

#[test]
fn a_sum_has_the_same_name_everywhere() {
    on_each_machine(|machine| {
        for lens in [
            &[1usize][..],
            &[4096, 4096, 17],
            &[31, 32, 33, 1000, 2],
            &[5; 100],
        ] {
            let mut starts = vec![0u64];
            for len in lens {
                starts.push(starts[starts.len() - 1] + *len as u64);
            }
            let all = starts[lens.len()] as usize;
            let sum: Vec<i64> = (0..all).map(|i| draw("named", i) as i64).collect();
            let mut expected = SumHash::new();
            for piece in starts.windows(2) {
                expected.add(&sum[piece[0] as usize..piece[1] as usize]);
            }
            let pieces = scalar(lens.len() as u64);
            let mut arguments = [
                buffer(&sum),
                buffer(&starts),
                pieces.clone(),
                buffer(&vec![0u64; 32 * lens.len()]),
            ];
            machine.run("name_pieces", 3, 64, &mut arguments);
            let [_, starts, _, lanes] = arguments;
            for threads in [32, 96] {
                let mut arguments = [
                    lanes.clone(),
                    starts.clone(),
                    pieces.clone(),
                    buffer(&[0u64; 32]),
                ];
                machine.run("name_whole", 1, threads, &mut arguments);
                let lanes: Vec<u64> = values(&arguments[3]);
                let found = SumHash::of_lanes(lanes.try_into().unwrap());
                let totals = Totals::new(0, 0);
                assert_eq!(found.finish(&totals), expected.finish(&totals), "{lens:?}");
            }
        }
    });
}
