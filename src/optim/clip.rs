//! The gradient's global norm, in one order however the vector is cut.
//!
//! A floating-point sum depends on its order, and replicas may walk the vector
//! in pieces of different lengths. So the order is fixed by the elements' places:
//! within each block of 1024 elements, lane `i` of 16 sums the squares of
//! elements `i`, `i + 16`, ...; the lanes are added in order to the block's sum,
//! the blocks in order to the total. A square of two `f32` is exact in `f64`.

use crate::numerics::dispatch::{Level, dispatched};

/// Elements that are summed together.
const BLOCK: usize = 1024;
/// Sums that run side by side within a block.
const LANES: usize = 16;

/// Sums the squares of a vector that arrives in pieces, in order.
#[derive(Clone, Debug)]
pub struct NormAccumulator {
    total: f64,
    lanes: [f64; LANES],
    position: usize,
}

impl Default for NormAccumulator {
    fn default() -> Self {
        NormAccumulator::new()
    }
}

impl NormAccumulator {
    /// At the start of the vector.
    pub fn new() -> NormAccumulator {
        NormAccumulator {
            total: 0.0,
            lanes: [0.0; LANES],
            position: 0,
        }
    }

    /// How many elements have been added: where the next ones stand in the vector.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Adds the next elements. Pieces of any length give the same bits; multiples of
    /// 1024 are fastest.
    pub fn add(&mut self, gradient: &[f32]) {
        self.add_at(Level::best(), gradient);
    }

    fn add_at(&mut self, level: Level, mut gradient: &[f32]) {
        while !gradient.is_empty() {
            let room = BLOCK - self.position % BLOCK;
            let (now, later) = gradient.split_at(room.min(gradient.len()));
            self.add_within_block(level, now);
            gradient = later;
        }
    }

    /// Leaves the next elements out, as if they were zero.
    pub fn skip(&mut self, elements: usize) {
        let left = BLOCK - self.position % BLOCK;
        if elements >= left {
            self.end_block();
        }
        self.position += elements;
    }

    /// Adds elements that all lie in the current block.
    fn add_within_block(&mut self, level: Level, gradient: &[f32]) {
        let to_lane_0 = (LANES - self.position % LANES) % LANES;
        let (head, aligned) = gradient.split_at(to_lane_0.min(gradient.len()));
        let (rows, tail) = aligned.as_chunks::<LANES>();
        let first_lane = self.position % LANES;
        add_squares(&mut self.lanes[first_lane..], head);
        add_rows(level, &mut self.lanes, rows);
        add_squares(&mut self.lanes, tail);
        self.position += gradient.len();
        if self.position.is_multiple_of(BLOCK) {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        self.total += sum(self.lanes);
        self.lanes = [0.0; LANES];
    }

    /// Of a whole gradient whose blocks were summed elsewhere, each in the order above.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn of_blocks(sums: &[f64]) -> NormAccumulator {
        NormAccumulator {
            total: sums.iter().fold(0.0, |total, sum| total + sum),
            ..NormAccumulator::new()
        }
    }

    /// The norm of all that was added: the square root of the sum of squares.
    pub fn norm(&self) -> f64 {
        (self.total + sum(self.lanes)).sqrt()
    }
}

fn sum(lanes: [f64; LANES]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

fn add_squares(lanes: &mut [f64], gradient: &[f32]) {
    for (lane, g) in lanes.iter_mut().zip(gradient) {
        *lane += f64::from(*g) * f64::from(*g);
    }
}

#[inline(always)]
fn add_rows_body(lanes: &mut [f64; LANES], rows: &[[f32; LANES]]) {
    let mut sums = *lanes;
    for row in rows {
        for lane in 0..LANES {
            sums[lane] += f64::from(row[lane]) * f64::from(row[lane]);
        }
    }
    *lanes = sums;
}

dispatched! { fn add_rows(lanes: &mut [f64; LANES], rows: &[[f32; LANES]]) = add_rows_body; }

/// What the gradient is multiplied with, so that its norm is at most `clip_norm`:
/// `min(1, clip_norm / norm)`.
pub fn clip_factor(norm: f64, clip_norm: f64) -> f32 {
    if norm > clip_norm {
        (clip_norm / norm) as f32
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::philox::{self, Key};
    use proptest::prelude::*;

    fn normals(len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        philox::fill_normal(Key([1, 2]), 0, &mut values);
        values
    }

    proptest! {
        #[test]
        fn the_norm_is_the_same_however_the_vector_is_cut(
            len in 0usize..5000, cuts in prop::collection::vec(0usize..5000, 0..6),
        ) {
            let values = normals(len);
            let mut whole = NormAccumulator::new();
            whole.add(&values);
            for level in Level::all() {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (len + 1)).collect();
                cuts.extend([0, len]);
                cuts.sort_unstable();
                let mut parts = NormAccumulator::new();
                for pair in cuts.windows(2) {
                    parts.add_at(level, &values[pair[0]..pair[1]]);
                }
                prop_assert_eq!(parts.position(), len);
                prop_assert_eq!(parts.norm().to_bits(), whole.norm().to_bits());
            }
        }

        #[test]
        fn skipping_is_adding_zeros(before in 0usize..3000, skipped in 0usize..3000, after in 0usize..3000) {
            let mut values = normals(before + skipped + after);
            values[before..before + skipped].fill(0.0);
            let mut whole = NormAccumulator::new();
            whole.add(&values);
            let mut parts = NormAccumulator::new();
            parts.add(&values[..before]);
            parts.skip(skipped);
            parts.add(&values[before + skipped..]);
            prop_assert_eq!(parts.norm().to_bits(), whole.norm().to_bits());
        }
    }

    #[test]
    fn the_norm_is_the_euclidean_one() {
        let mut norm = NormAccumulator::new();
        assert_eq!(norm.norm(), 0.0);
        norm.add(&[3.0, 4.0]);
        assert_eq!(norm.norm(), 5.0);
    }

    #[test]
    fn only_a_longer_gradient_is_clipped() {
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        assert_eq!(clip_factor(1.0, 1.0), 1.0);
        assert_eq!(clip_factor(4.0, 1.0), 0.25);
    }
}
