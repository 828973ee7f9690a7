//! Gradient sums in integers: convert, accumulate, pack. Pure.
//!
//! Floating-point addition isn't associative, so a sum of floats depends on
//! who added what in which order. Integer addition is: here every micro-batch
//! gradient is rounded *once*, to 64-bit fixed point, and from there on only
//! integers are added. Any number of workers, in any order and any grouping,
//! gets the same bits.
//!
//! ```text
//! gradient of a        x = g · scale · 2^f               Σ i64            · 2^-f · correction
//! micro-batch  ──────▶ inspect: clean? ──▶ accumulate ─────────▶ to_f32 ─────────▶ optimizer
//! (f32)                   │ no             (round half even)  │  ▲
//!                         ▼                              pack │  │ unpack_add
//!                Totals: contributes zeros,                   ▼  │
//!                the counters say why            other workers' partial sums
//! ```
//!
//! `scale` is weight / nominal weight, so that a short or masked micro-batch
//! counts for what it holds; the apply corrects by nominal / summed weight.
//! [`Totals`] is what rides beside the gradients in the same sum: weight, loss,
//! metrics, which micro-batches are in it, and which of them had a non-finite
//! or an out-of-range value. Nothing is applied unless [`Totals::is_clean`].
//!
//! | file | holds |
//! |---|---|
//! | `digest.rs` | [`SumDigest`]: 64 bits by which complete sums are compared |
//! | `fixed.rs` | [`FixedPoint`]: the one rounding, range checks, the way back |
//! | `pack.rs` | lossless blocks in the fewest bits ([`pack()`], [`unpack_into`], [`unpack_add`]) |
//! | `set.rs` | [`MicroBatchSet`] |
//! | `totals.rs`, `totals_bytes.rs` | [`Totals`] and its bytes on the wire |
//!
//! What is absent: any floating-point addition of two gradients.

mod digest;
mod fixed;
mod pack;
mod set;
mod totals;
mod totals_bytes;

#[cfg(test)]
mod tests;

pub use crate::numerics::dispatch::Level;
pub use digest::{SumDigest, SumHash};
pub use fixed::{FixedPoint, Inspection, RangeError, Rounding};
pub use pack::{BLOCK, UnpackError, max_packed_len, pack, unpack_add, unpack_into};
#[cfg(any(test, feature = "cuda"))]
pub(crate) use pack::{bodies_len, unpack_add_parts};
pub use set::{MAX_MICRO_BATCHES, MicroBatchSet, MicroBatchSetError};
pub use totals::{MergeError, MicroBatch, ParameterCounts, Totals, Verdict};
pub use totals_bytes::{MAX_METRICS, MAX_PARAMETERS, TotalsError};
