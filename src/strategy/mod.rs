//! One worker's replicas, and the training step.
//!
//! ```text
//!  Order::samples ─▶ gather ─▶ Model::loss ─▶ backward ─▶ inspect ─▶ accumulate   a micro-batch:
//!   (step, m)        Batch     StepContext     candle       exact     Σ i64       gradient.rs
//!                                                                       │
//!                            the other workers' sums ── exchange ─────▶ Σ complete, with totals
//!                                                                       │
//!  variables of every replica ◀─ optimizer ◀─ f32 ◀─ Σ · nominal/weight ┘         a step:
//!          copied in place        block by block, in one pass                     apply.rs
//! ```
//!
//! A worker is given micro-batches of a round, not samples; it computes them on
//! whichever of its replicas is free, and adds each to one sum of integers. When
//! the sum is complete, wherever its parts were computed, every worker turns it
//! into the same new weights.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | what is fixed while a job runs: [`Plan`] |
//! | `mirrored` | the scope that creates replicas; sharing a round among them |
//! | `gradient`, `evaluate` | one micro-batch of a step, of an evaluation |
//! | `examine` | one micro-batch, looked at instead of summed |
//! | `estimate`, `memory` | what that takes of memory |
//! | `apply` | from a complete sum to new weights |
//! | `state`, `snapshot`, `initial` | weights, optimizer and course: digests, saving, beginning |
//! | `alone` | a whole run without other workers: the undisturbed reference |
//! | `resident` | weights and moments on GPUs, and the update there |
//! | `summing` | where gradients become integers: on the processor or on the replica's GPU |
//! | `room` | errors that are a GPU's, and what to do about a full one |
//! | `replica`, `partial`, `heap` | what these are made of |
//!
//! Nothing in here knows of other workers, of tokio, or of the clock.

mod alone;
mod apply;
mod error;
mod estimate;
mod evaluate;
mod examine;
mod gradient;
mod hash;
mod heap;
mod initial;
mod lineage;
mod memory;
mod mirrored;
mod partial;
mod plan;
mod replica;
mod resident;
mod room;
mod snapshot;
mod state;
mod summing;
#[cfg(test)]
mod tests;
mod trial;

pub use crate::devices::Devices;
pub use alone::train_alone;
pub use apply::Applied;
pub use error::{Place, StrategyError};
pub use estimate::{Estimate, EstimateError};
pub use examine::{Examined, Operation, Values};
pub use initial::InitialError;
pub use lineage::fork;
pub use memory::total_memory;
pub use mirrored::{MirroredStrategy, Replicas, Stop};
pub use partial::Partial;
pub use plan::Plan;
pub use resident::CompleteSum;
pub use snapshot::{Fork, RestoreError, SavedState};
pub use state::{ChainedDigest, Finished, TrainState};
