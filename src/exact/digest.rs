//! A name for a complete sum in 64 bits, cheap enough to be made in every step.
//!
//! Two runs whose sums have the same names up to step n hold the same weights
//! there; the first name that differs is where they parted. It tells accidents
//! apart, not forgeries: whoever wants two sums of one name can make them.
//!
//! ```text
//! values ── 32 at a time ──▶ lane[i] = 33 · lane[i] + value[i]   (mod 2^64)
//!                                   │ at the end
//! totals ─────────────────────────▶ lanes and totals, mixed one after the other
//! ```
//!
//! A polynomial for each of 32 lanes: where a value stands matters (33 is odd, so
//! its powers repeat only after 2^59 places), a single value that differs always
//! shows, and many that differ as rounding makes them go unseen once in 2^64.
//! A lane costs a shift and two additions, which every vector unit has and which
//! hide behind the memory that the update waits for anyway: see
//! [`FixedPoint::to_f32_hashed`](super::FixedPoint::to_f32_hashed).

use std::fmt;

use super::totals::Totals;
use crate::numerics::dispatch::{Level, dispatched};

/// Values that are taken in at a time.
pub(super) const LANES: usize = 32;

/// The name of a complete sum. Never zero, which stands for none in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SumDigest(u64);

impl SumDigest {
    /// What [`SumDigest::bits`] gave; `None` for zero.
    pub fn from_bits(bits: u64) -> Option<SumDigest> {
        (bits != 0).then_some(SumDigest(bits))
    }

    /// As a number other than zero.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SumDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Takes a sum in, piece by piece. Where a piece ends is part of the name, so it
/// has to follow from the model alone, not from who summed what.
#[derive(Clone, Debug)]
pub struct SumHash {
    pub(super) lanes: [u64; LANES],
}

impl Default for SumHash {
    fn default() -> Self {
        SumHash::new()
    }
}

impl SumHash {
    /// Of nothing yet.
    pub fn new() -> SumHash {
        SumHash { lanes: [1; LANES] }
    }

    /// Of a whole sum whose lanes were made elsewhere.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn of_lanes(lanes: [u64; LANES]) -> SumHash {
        SumHash { lanes }
    }

    /// Takes in the next piece.
    pub fn add(&mut self, values: &[i64]) {
        self.add_at(Level::best(), values);
    }

    pub(super) fn add_at(&mut self, level: Level, values: &[i64]) {
        add(level, &mut self.lanes, values);
    }

    /// The name of the sum with what rides beside it.
    pub fn finish(&self, totals: &Totals) -> SumDigest {
        let mut hash = self.lanes.iter().fold(0, |hash, lane| mix(hash, *lane));
        let bytes = totals.to_bytes();
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = mix(hash, u64::from_le_bytes(*word));
        }
        for byte in rest {
            hash = mix(hash, u64::from(*byte));
        }
        SumDigest(mix(hash, bytes.len() as u64).max(1))
    }
}

/// One step of mixing: each bit of both reaches all bits of the result.
fn mix(hash: u64, word: u64) -> u64 {
    let mut x = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One row of values.
#[inline(always)]
pub(super) fn add_row(lanes: &mut [u64; LANES], row: &[i64; LANES]) {
    for (lane, value) in lanes.iter_mut().zip(row) {
        *lane = (*lane << 5).wrapping_add(*lane).wrapping_add(*value as u64);
    }
}

/// The last values of a piece, as a row that ends in zeros.
#[inline(always)]
pub(super) fn add_rest(lanes: &mut [u64; LANES], rest: &[i64]) {
    if !rest.is_empty() {
        let mut row = [0; LANES];
        row[..rest.len()].copy_from_slice(rest);
        add_row(lanes, &row);
    }
}

dispatched! {
    /// Takes in a piece.
    fn add(lanes: &mut [u64; LANES], values: &[i64]) = add_body;
}

#[inline(always)]
fn add_body(lanes: &mut [u64; LANES], values: &[i64]) {
    let mut own = *lanes;
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        add_row(&mut own, row);
    }
    add_rest(&mut own, rest);
    *lanes = own;
}
