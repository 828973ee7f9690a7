//! The one rounding of a gradient, and the way back to f32.
//!
//! A value g becomes the integer nearest to `x = g * (scale * 2^f)`, ties to
//! the even one: one f64 product, one rounding to an integer. Two tricks make
//! both directions vectorisable on CPUs without 64-bit conversions:
//!
//! - *In:* for |x| <= 2^51 the sum `x + 1.5 * 2^52` lies where doubles are
//!   exactly the integers, so the addition itself rounds half to even and the
//!   integer can be read off the mantissa.
//! - *Out:* the two 32-bit halves of an i64 are put into the mantissas of 2^84
//!   and 2^52; after one exact subtraction, one addition rounds once. That's the
//!   correctly rounded f64 of every i64.

use thiserror::Error;

use super::digest::{LANES, SumHash, add_rest, add_row};
use crate::numerics::dispatch::{Level, dispatched};

/// |g * scale * 2^f| must be below this. The integers of 2,048 micro-batches then
/// add up to 2^62 at most, so no sum of a step can overflow an i64.
const LIMIT: f64 = (1_u64 << 51) as f64;

/// 1.5 * 2^52: the integer x sits in the low bits of the mantissa of `MAGIC + x`.
const MAGIC: f64 = ((1_u64 << 52) + (1_u64 << 51)) as f64;

/// What [`FixedPoint::inspect`] found: elements that can't be in a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Elements that are NaN or an infinity.
    pub non_finite: u64,
    /// Finite elements whose scaled value is beyond the range of the fixed point.
    pub out_of_range: u64,
}

impl Inspection {
    /// Whether all elements can be accumulated.
    pub fn is_clean(&self) -> bool {
        *self == Inspection::default()
    }
}

/// What [`FixedPoint::accumulate`] rounded away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding {
    /// Elements that weren't zero before the rounding.
    pub nonzero: u64,
    /// Those of them that are zero after it.
    pub to_zero: u64,
}

/// Why a scalar has no fixed-point form.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum RangeError {
    /// NaN or an infinity.
    #[error("the value is {value}, which is not a finite number")]
    NonFinite {
        /// The value as given.
        value: f64,
    },
    /// Finite, but too large.
    #[error("the value {value} is out of range: below {limit} in magnitude was expected")]
    OutOfRange {
        /// The value as given.
        value: f64,
        /// The smallest magnitude that is too large.
        limit: f64,
    },
}

/// Fixed point with f fraction bits: an integer n stands for n * 2^-f.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedPoint {
    fraction_bits: u32,
}

impl FixedPoint {
    /// Fixed point with `fraction_bits` from 8 to 48, else `None`. More bits keep
    /// smaller gradients apart, fewer allow larger ones: the limit is 2^(51 - f),
    /// 32,768 for the default of 36.
    pub const fn new(fraction_bits: u32) -> Option<FixedPoint> {
        match fraction_bits {
            8..=48 => Some(FixedPoint { fraction_bits }),
            _ => None,
        }
    }

    /// f.
    pub const fn fraction_bits(&self) -> u32 {
        self.fraction_bits
    }

    /// The magnitude that a scaled value has to stay below: 2^(51 - f).
    pub const fn limit(&self) -> f64 {
        LIMIT * self.resolution()
    }

    /// The value of the integer 1: 2^-f.
    pub const fn resolution(&self) -> f64 {
        f64::from_bits((1023 - self.fraction_bits as u64) << 52)
    }

    /// Counts the elements of `gradient` that can't be accumulated with `scale`
    /// (weight of the micro-batch / nominal weight of the global batch): those that
    /// aren't finite, and those with |g * scale * 2^f| >= 2^51.
    ///
    /// # Panics
    /// When `scale * 2^f` isn't finite, which is a mistake of the caller.
    pub fn inspect(&self, gradient: &[f32], scale: f64) -> Inspection {
        self.inspect_at(Level::best(), gradient, scale)
    }

    pub(super) fn inspect_at(&self, level: Level, gradient: &[f32], scale: f64) -> Inspection {
        let factor = self.factor(scale);
        // Without the sign, the bits of a float order as its magnitude does, infinity
        // and NaN on top; and a product with a constant keeps the order. So the
        // largest element speaks for all of them.
        let largest = f32::from_bits(largest_magnitude(level, gradient) as u32);
        if in_range(f64::from(largest) * factor) {
            return Inspection::default();
        }
        let mut inspection = Inspection::default();
        for &g in gradient {
            if !g.is_finite() {
                inspection.non_finite += 1;
            } else if !in_range(f64::from(g) * factor) {
                inspection.out_of_range += 1;
            }
        }
        inspection
    }

    /// `sum[i] += round_half_even(gradient[i] * (scale * 2^f))`, for a gradient that
    /// [`FixedPoint::inspect`] found clean with the same scale.
    ///
    /// # Panics
    /// When the lengths differ or `scale * 2^f` isn't finite: mistakes of the caller.
    pub fn accumulate(&self, gradient: &[f32], scale: f64, sum: &mut [i64]) -> Rounding {
        self.accumulate_at(Level::best(), gradient, scale, sum)
    }

    pub(super) fn accumulate_at(
        &self,
        level: Level,
        gradient: &[f32],
        scale: f64,
        sum: &mut [i64],
    ) -> Rounding {
        assert_eq!(gradient.len(), sum.len(), "a gradient and its sum");
        let (zeros_before, zeros_after) = accumulate(level, gradient, self.factor(scale), sum);
        Rounding {
            nonzero: gradient.len() as u64 - zeros_before,
            to_zero: zeros_after - zeros_before,
        }
    }

    /// `out[i] = (sum[i] as f64 * (2^-f * correction)) as f32`, each step rounded to
    /// the nearest; subnormal results are kept.
    ///
    /// # Panics
    /// When the lengths differ or `correction` isn't finite: mistakes of the caller.
    pub fn to_f32(&self, sum: &[i64], correction: f64, out: &mut [f32]) {
        self.to_f32_at(Level::best(), sum, correction, out);
    }

    pub(super) fn to_f32_at(self, level: Level, sum: &[i64], correction: f64, out: &mut [f32]) {
        assert_eq!(sum.len(), out.len(), "a sum and its floats");
        assert!(correction.is_finite(), "a correction of {correction}");
        to_f32(level, sum, self.resolution() * correction, out);
    }

    /// As [`FixedPoint::to_f32`], and takes the sum into `hash` as
    /// [`SumHash::add`] does: in one pass it costs next to nothing.
    ///
    /// # Panics
    /// As [`FixedPoint::to_f32`].
    pub fn to_f32_hashed(&self, sum: &[i64], correction: f64, out: &mut [f32], hash: &mut SumHash) {
        self.to_f32_hashed_at(Level::best(), sum, correction, out, hash);
    }

    pub(super) fn to_f32_hashed_at(
        self,
        level: Level,
        sum: &[i64],
        correction: f64,
        out: &mut [f32],
        hash: &mut SumHash,
    ) {
        assert_eq!(sum.len(), out.len(), "a sum and its floats");
        assert!(correction.is_finite(), "a correction of {correction}");
        let factor = self.resolution() * correction;
        to_f32_hashed(level, sum, factor, out, &mut hash.lanes);
    }

    /// One scalar (a loss, a metric) by the same rule.
    ///
    /// # Errors
    /// When the value isn't finite, or not below [`FixedPoint::limit`].
    pub fn encode(&self, value: f64) -> Result<i64, RangeError> {
        let x = value * self.factor(1.0);
        if in_range(x) {
            Ok(round_half_even(x))
        } else if value.is_finite() {
            Err(RangeError::OutOfRange {
                value,
                limit: self.limit(),
            })
        } else {
            Err(RangeError::NonFinite { value })
        }
    }

    /// The value of an encoded scalar or of a sum of such: `sum * 2^-f`.
    pub fn decode(&self, sum: i64) -> f64 {
        sum as f64 * self.resolution()
    }

    /// `scale * 2^f`: what a gradient is multiplied with before it is rounded.
    pub(crate) fn factor(&self, scale: f64) -> f64 {
        let factor = scale * (1_u64 << self.fraction_bits) as f64;
        assert!(factor.is_finite(), "a gradient scale of {scale}");
        factor
    }
}

/// False for NaN and infinities too.
#[inline(always)]
fn in_range(x: f64) -> bool {
    x.abs() < LIMIT
}

/// Needs |x| <= 2^51.
#[inline(always)]
fn round_half_even(x: f64) -> i64 {
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i64
}

/// The f64 nearest to n, ties to even, as `n as f64` is, in operations that
/// every vector unit has.
#[inline(always)]
pub(super) fn to_f64(n: i64) -> f64 {
    const TWO_52: u64 = 0x4330_0000_0000_0000;
    const TWO_84: u64 = 0x4530_0000_0000_0000;
    // 2^84 + 2^63 + 2^52
    const OFFSET: f64 = f64::from_bits(0x4530_0000_8010_0000);
    let low = f64::from_bits((n as u64 & 0xffff_ffff) | TWO_52); // 2^52 + low half
    let high = f64::from_bits(((n as u64) >> 32) ^ 0x8000_0000 ^ TWO_84); // 2^84 + 2^63 + 2^32 * high half
    (high - OFFSET) + low // the difference is exact, so only the addition rounds
}

dispatched! {
    /// The largest magnitude of the values, as the bits of an f32 without its sign.
    fn largest_magnitude(values: &[f32]) -> i32 = largest_magnitude_body;
}

#[inline(always)]
fn largest_magnitude_body(values: &[f32]) -> i32 {
    let mut largest = 0;
    for value in values {
        largest = largest.max((value.to_bits() & 0x7fff_ffff) as i32);
    }
    largest
}

dispatched! {
    /// Adds the rounded products; how many values were zero before, and after.
    fn accumulate(gradient: &[f32], factor: f64, sum: &mut [i64]) -> (u64, u64) = accumulate_body;
}

#[inline(always)]
fn accumulate_body(gradient: &[f32], factor: f64, sum: &mut [i64]) -> (u64, u64) {
    let (mut zeros_before, mut zeros_after) = (0_u64, 0_u64);
    for (&g, total) in gradient.iter().zip(sum) {
        let wide = f64::from(g);
        let rounded = round_half_even(wide * factor);
        *total = total.wrapping_add(rounded);
        zeros_before = zeros_before.wrapping_add(u64::from(wide == 0.0));
        zeros_after = zeros_after.wrapping_add(u64::from(rounded == 0));
    }
    (zeros_before, zeros_after)
}

dispatched! {
    /// `out[i] = (sum[i] as f64 * factor) as f32`.
    fn to_f32(sum: &[i64], factor: f64, out: &mut [f32]) = to_f32_body;
}

#[inline(always)]
fn to_f32_body(sum: &[i64], factor: f64, out: &mut [f32]) {
    for (&n, value) in sum.iter().zip(out) {
        *value = (to_f64(n) * factor) as f32;
    }
}

dispatched! {
    /// As `to_f32`, and the sum goes into the lanes of a hash.
    fn to_f32_hashed(sum: &[i64], factor: f64, out: &mut [f32], lanes: &mut [u64; LANES]) = to_f32_hashed_body;
}

#[inline(always)]
fn to_f32_hashed_body(sum: &[i64], factor: f64, out: &mut [f32], lanes: &mut [u64; LANES]) {
    let mut own = *lanes;
    let (rows, rest) = sum.as_chunks::<LANES>();
    let (floats, floats_rest) = out.as_chunks_mut::<LANES>();
    for (row, floats) in rows.iter().zip(floats) {
        to_f32_body(row, factor, floats);
        add_row(&mut own, row);
    }
    to_f32_body(rest, factor, floats_rest);
    add_rest(&mut own, rest);
    *lanes = own;
}
