//! Fixed point against integer arithmetic.

use super::super::fixed::to_f64;
use super::*;

/// mantissa * 2^exponent, rounded half to even in integers alone.
fn reference_round(negative: bool, mantissa: u64, exponent: i32) -> i64 {
    let mantissa = i128::from(mantissa);
    let magnitude = if exponent >= 0 {
        mantissa << exponent
    } else if exponent <= -100 {
        0
    } else {
        let unit = 1_i128 << -exponent;
        let (whole, rest) = (mantissa / unit, mantissa % unit);
        let up = 2 * rest > unit || (2 * rest == unit && whole % 2 == 1);
        whole + i128::from(up)
    };
    i64::try_from(if negative { -magnitude } else { magnitude }).unwrap()
}

/// Sign, mantissa and exponent of a finite double.
fn parts(x: f64) -> (bool, u64, i32) {
    let bits = x.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i32 {
        0 => (x.is_sign_negative(), fraction, -1074),
        biased => (x.is_sign_negative(), fraction | 1 << 52, biased - 1075),
    }
}

#[test]
fn fraction_bits_outside_8_to_48_are_refused() {
    assert!(FixedPoint::new(7).is_none() && FixedPoint::new(49).is_none());
    assert!(FixedPoint::new(8).is_some() && FixedPoint::new(48).is_some());
    assert_eq!(F36.limit(), 32768.0);
    assert_eq!(F36.resolution(), 1.0 / 68_719_476_736.0);
}

#[test]
fn ties_go_to_the_even_integer() {
    let unit = F36.resolution() as f32;
    let halves = [0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 0.75, 0.25, -0.75];
    let gradient = halves.map(|half| half * unit);
    let mut sum = [0; 10];
    let rounding = F36.accumulate(&gradient, 1.0, &mut sum);
    assert_eq!(sum, [0, 2, 2, 4, 0, -2, -2, 1, 0, -1]);
    assert_eq!((rounding.nonzero, rounding.to_zero), (10, 3));
}

#[test]
fn subnormal_counts_as_nonzero_and_zero_of_either_sign_does_not() {
    let gradient = [f32::from_bits(1), -f32::from_bits(1), 0.0, -0.0, 1.0];
    let rounding = F36.accumulate(&gradient, 1.0, &mut [0; 5]);
    assert_eq!((rounding.nonzero, rounding.to_zero), (3, 2));
}

#[test]
fn limit_itself_is_out_of_range_and_the_float_below_it_is_not() {
    let below = 32768.0_f32.next_down();
    for (gradient, scale, out_of_range) in [
        ([below, -below], 1.0, 0),
        ([32768.0, -32768.0], 1.0, 2),
        ([32768.0, f32::MAX], 0.5, 1),
        ([f32::MAX, f32::MIN], 0.0, 0),
        ([f32::MAX, 0.0], 1e290, 1),
    ] {
        let expected = Inspection {
            non_finite: 0,
            out_of_range,
        };
        assert_eq!(F36.inspect(&gradient, scale), expected, "{gradient:?}");
    }
}

#[test]
fn largest_sum_of_a_step_does_not_overflow() {
    // 32768 - 2^-9 as a product of an f32 and a scale: rounds up to 2^51 itself.
    let (gradient, scale) = ([-1.0_f32], 32768.0_f64.next_down());
    assert!(F36.inspect(&gradient, scale).is_clean());
    let mut sum = [0];
    for _ in 0..MAX_MICRO_BATCHES {
        F36.accumulate(&gradient, scale, &mut sum);
    }
    assert_eq!(sum, [-(1 << 62)]);
}

#[test]
fn scalar_is_encoded_by_the_same_rule() {
    assert_eq!(F36.encode(-0.5), Ok(-(1 << 35)));
    assert_eq!(F36.decode(3 << 35), 1.5);
    assert_eq!(F36.encode(F36.resolution() * 2.5), Ok(2));
    let error = F36.encode(f64::NAN).unwrap_err();
    assert!(matches!(error, RangeError::NonFinite { .. }));
    let error = F36.encode(-32768.0).unwrap_err();
    let value = -32768.0;
    let limit = 32768.0;
    assert_eq!(error, RangeError::OutOfRange { value, limit });
    let error = F36.encode(f64::MAX).unwrap_err();
    assert!(matches!(error, RangeError::OutOfRange { .. }));
}

#[test]
fn result_that_is_subnormal_as_f32_is_kept() {
    let mut out = [0.0];
    let fixed = FixedPoint::new(48).unwrap();
    let correction = power_of_two(-100);
    fixed.to_f32(&[3], correction, &mut out);
    assert_eq!(out[0].to_bits(), 6); // 3 * 2^-148
}

proptest! {
    #[test]
    fn rounding_agrees_with_integer_arithmetic(
        gradient in prop::collection::vec(element(), 1..100),
        fraction_bits in 8_u32..=36,
        scale in prop_oneof![Just(1.0), Just(0.25), 1e-3_f64..1.0],
        start in -(1_i64 << 61)..1 << 61,
    ) {
        let fixed = FixedPoint::new(fraction_bits).unwrap();
        prop_assert!(fixed.inspect(&gradient, scale).is_clean());
        let mut sum = vec![start; gradient.len()];
        let rounding = fixed.accumulate(&gradient, scale, &mut sum);
        let mut expected = Rounding::default();
        for (&g, &got) in gradient.iter().zip(&sum) {
            let factor = scale * power_of_two(fraction_bits as i32);
            let (negative, mantissa, exponent) = parts(f64::from(g) * factor);
            let integer = reference_round(negative, mantissa, exponent);
            prop_assert_eq!(got, start + integer, "{:e}", g);
            expected.nonzero += u64::from(g != 0.0);
            expected.to_zero += u64::from(g != 0.0 && integer == 0);
        }
        prop_assert_eq!(rounding, expected);
    }

    #[test]
    fn every_bad_element_is_counted_under_its_own_word(
        good in prop::collection::vec(-32767.0_f32..32767.0, 0..600),
        bad in prop::collection::vec((0..5_usize, any::<prop::sample::Index>()), 0..10),
    ) {
        let mut gradient = good;
        let mut expected = Inspection::default();
        for (kind, at) in bad {
            let element = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -32768.0][kind];
            gradient.insert(at.index(gradient.len() + 1), element);
            *(if kind < 4 { &mut expected.non_finite } else { &mut expected.out_of_range }) += 1;
        }
        prop_assert_eq!(F36.inspect(&gradient, 1.0), expected);
    }

    #[test]
    fn integers_become_the_nearest_doubles(n in value()) {
        for n in [n, n.wrapping_add(i64::MAX), i64::MIN, i64::MAX, 0, -1, (1 << 53) + 1] {
            prop_assert_eq!(to_f64(n).to_bits(), (n as f64).to_bits(), "{}", n);
            // Independently of the conversion built in: rounded to 53 bits in integers.
            let drop = (11 - n.unsigned_abs().leading_zeros() as i32).max(0);
            let rounded = reference_round(n < 0, n.unsigned_abs(), -drop);
            prop_assert_eq!(to_f64(n) as i128, i128::from(rounded) << drop);
        }
    }

    #[test]
    fn sums_become_floats_step_by_step(
        sum in prop::collection::vec(value(), 0..100),
        correction in 0.5_f64..100.0,
    ) {
        let mut out = vec![0.0; sum.len()];
        F36.to_f32(&sum, correction, &mut out);
        for (&n, got) in sum.iter().zip(out) {
            let expected = (n as f64 * (power_of_two(-36) * correction)) as f32;
            prop_assert_eq!(got.to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn order_grouping_and_assignment_do_not_matter(
        gradients in prop::collection::vec(
            prop::collection::vec(-1000.0_f32..1000.0, 530), 1..12),
        owners in prop::collection::vec(0..4_usize, 12),
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut alone = vec![0; 530];
        for gradient in &gradients {
            F36.accumulate(gradient, 0.1, &mut alone);
        }
        let mut workers = vec![vec![0; 530]; 4];
        for index in order.into_iter().filter(|&index| index < gradients.len()) {
            F36.accumulate(&gradients[index], 0.1, &mut workers[owners[index]]);
        }
        let mut together = vec![0; 530];
        for partial in workers.iter().rev() {
            unpack_add(&packed(partial), &mut together).unwrap();
        }
        prop_assert_eq!(together, alone);
    }
}
