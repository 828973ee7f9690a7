//! `ln`, `exp`, `sin_cos` and `cos` that give the same bits everywhere.
//!
//! The system's library may use other polynomials, fused operations or tables
//! on the next machine. These are fixed sequences of individually rounded IEEE
//! additions, subtractions, multiplications and divisions on `f64`: reduce the
//! argument to a small interval by a constant split in exactly representable
//! parts, then sum the Taylor series until the next term is below the last bit.
//! They are a little slower than a library's and far fast enough for initial
//! values and schedules.
//!
//! | function | domain | error |
//! |---|---|---|
//! | [`ln`] | all | below 1e-15 of the result |
//! | [`exp`] | all | below 1e-15 of the result; a last place where that is subnormal |
//! | [`sin_cos`], [`cos`] | absolute value up to 2^20, else NaN | below 1e-15 |

// The constants are split by rounding towards zero to 33 significant bits, so
// that an integer of up to 20 bits times the first parts is exact.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fef0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dd4_73de_6af2_78ed);
const HALF_PI_1: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
const HALF_PI_2: f64 = f64::from_bits(0x3dd0_b461_1a60_0000);
const HALF_PI_3: f64 = f64::from_bits(0x3ba3_198a_2e03_7073);

/// Adding and subtracting it rounds to the nearest integer, ties to even, for
/// absolute values below 2^51.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// The largest absolute argument of [`sin_cos`]: beyond it the reduction would
/// no longer be exact.
pub const ANGLE_MAX: f64 = 1_048_576.0;

/// The natural logarithm. `ln(0)` is minus infinity, of a negative number NaN.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // x = 2^exponent * mantissa, mantissa within [sqrt(1/2), sqrt(2)).
    let (x, shift) = if x < f64::MIN_POSITIVE {
        (x * 18_014_398_509_481_984.0, -54)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023 + shift;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa >= std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln(mantissa) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let mut series = 0.0;
    for odd in [23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        series = series * z + 1.0 / odd;
    }
    let logarithm = 2.0 * s + 2.0 * s * (z * series);
    let exponent = f64::from(exponent);
    exponent * LN_2_HIGH + (logarithm + exponent * LN_2_LOW)
}

/// The exponential function. Infinity above 709.79, zero below -745.14.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x > 709.79 {
        return f64::INFINITY;
    }
    if x < -745.14 {
        return 0.0;
    }
    // x = power * ln 2 + r, |r| <= 0.347: exp(x) = 2^power * exp(r).
    let power = (x * std::f64::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    let mut series = 0.0;
    for factorial in [
        87_178_291_200.0, // 14!
        6_227_020_800.0,
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
    ] {
        series = series * r + 1.0 / factorial;
    }
    let value = 1.0 + (r + r * r * series);
    // 2^power in two factors, each of which is a normal number; only the last
    // product can round (to a subnormal) or overflow.
    let power = power as i64;
    let half = power / 2;
    value * power_of_two(half) * power_of_two(power - half)
}

/// 2^power for -1022 <= power <= 1023.
fn power_of_two(power: i64) -> f64 {
    f64::from_bits(((1023 + power) as u64) << 52)
}

/// Sine and cosine of an angle in radians; NaN beyond [`ANGLE_MAX`].
pub fn sin_cos(angle: f64) -> (f64, f64) {
    if angle.is_nan() || angle.abs() > ANGLE_MAX {
        return (f64::NAN, f64::NAN);
    }
    // angle = quarter * pi/2 + r, |r| <= pi/4.
    let quarter = (angle * std::f64::consts::FRAC_2_PI + ROUND) - ROUND;
    let r = ((angle - quarter * HALF_PI_1) - quarter * HALF_PI_2) - quarter * HALF_PI_3;
    let z = r * r;
    let mut series = 0.0;
    for factorial in [
        355_687_428_096_000.0, // 17!
        -1_307_674_368_000.0,
        6_227_020_800.0,
        -39_916_800.0,
        362_880.0,
        -5_040.0,
        120.0,
        -6.0,
    ] {
        series = series * z + 1.0 / factorial;
    }
    let sin = r + r * (z * series);
    let mut series = 0.0;
    for factorial in [
        -6_402_373_705_728_000.0, // 18!
        20_922_789_888_000.0,
        -87_178_291_200.0,
        479_001_600.0,
        -3_628_800.0,
        40_320.0,
        -720.0,
        24.0,
        -2.0,
    ] {
        series = series * z + 1.0 / factorial;
    }
    let cos = 1.0 + z * series;
    match (quarter as i64) & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// The cosine of an angle in radians; NaN beyond [`ANGLE_MAX`].
pub fn cos(angle: f64) -> f64 {
    sin_cos(angle).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relative(ours: f64, theirs: f64) -> f64 {
        if ours == theirs {
            0.0
        } else {
            ((ours - theirs) / theirs).abs()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn ln_of_any_positive_number_is_within_its_bound(bits in 1u64..f64::INFINITY.to_bits()) {
            let x = f64::from_bits(bits);
            prop_assert!(relative(ln(x), x.ln()) < 1e-15, "ln({x:e}): {:e}, {:e}", ln(x), x.ln());
        }

        #[test]
        fn ln_near_one_keeps_its_relative_precision(x in 0.5f64..2.0) {
            prop_assert!(relative(ln(x), x.ln()) < 1e-15, "ln({x:e})");
        }

        #[test]
        fn exp_is_within_its_bound(x in -708.0f64..709.78) {
            prop_assert!(relative(exp(x), x.exp()) < 1e-15, "exp({x})");
        }

        #[test]
        fn exp_of_what_becomes_subnormal_is_within_a_last_place(x in -746.0f64..-708.0) {
            let places = exp(x).to_bits().abs_diff(x.exp().to_bits());
            prop_assert!(places <= 1 || relative(exp(x), x.exp()) < 1e-15, "exp({x}): {places}");
        }

        #[test]
        fn sin_and_cos_are_within_their_bound(x in -ANGLE_MAX..ANGLE_MAX, small in -7.0f64..7.0) {
            for x in [x, small] {
                let (sin, cos) = sin_cos(x);
                prop_assert!((sin - x.sin()).abs() < 1e-15, "sin({x})");
                prop_assert!((cos - x.cos()).abs() < 1e-15, "cos({x})");
            }
        }
    }

    #[test]
    fn the_edges_of_the_domains_are_what_the_standard_says() {
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(
            (exp(f64::INFINITY), exp(f64::NEG_INFINITY)),
            (f64::INFINITY, 0.0)
        );
        assert_eq!((exp(709.9), exp(-745.2)), (f64::INFINITY, 0.0));
        assert!(exp(f64::NAN).is_nan());
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        assert!(
            cos(f64::NAN).is_nan() && cos(f64::INFINITY).is_nan() && cos(1.1 * ANGLE_MAX).is_nan()
        );
        assert_eq!(cos(std::f64::consts::PI), -1.0);
    }

    /// The bits that `NUMERICS_VERSION` 1 stands for. They hold on every
    /// machine; whoever changes them raises the version.
    #[test]
    fn the_bits_are_the_recorded_ones() {
        let values = [
            ln(0.3),
            ln(1e-300),
            exp(1.0),
            exp(-20.3),
            cos(0.7),
            cos(3.0),
            sin_cos(1e5).0,
        ];
        let recorded = [
            0xbff3_4378_fcbd_a721_u64,
            0xc085_9634_47f8_7fb5,
            0x4005_bf0a_8b14_576a,
            0x3e1a_3b8d_c86d_1c8e,
            0x3fe8_7996_529f_9d93,
            0xbfef_ae04_be85_e5d2,
            0x3fa2_4daa_9c52_7e96,
        ];
        let hex = |bits: [u64; 7]| bits.map(|bits| format!("{bits:016x}"));
        assert_eq!(hex(values.map(f64::to_bits)), hex(recorded));
    }
}
