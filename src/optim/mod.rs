//! The update: the same bits on every device, from weights and a gradient alone.
//!
//! Replicas never exchange weights; each applies the same gradient sum to its
//! own copy. That works only if the update is the same function everywhere, to
//! the last bit. So it is a fixed sequence of individually rounded IEEE `f32`
//! operations, the same at every vector width, and what doesn't depend on the
//! element (schedule, bias correction) is computed once in `f64` with
//! [`numerics::maths`](crate::numerics::maths) and rounded once.
//!
//! Where `g` is the gradient times the clip factor, `rate` is the schedule's
//! learning rate times the group's multiplier, and each `f32` operation is
//! rounded in the order written:
//!
//! ```text
//! all      w ← w·(1 - rate·decay)                 decoupled decay, before the step
//!
//! adam     m ← m + (g - m)·(1 - β₁)
//! adamw    v ← v + (g·g - v)·(1 - β₂)
//!          w ← w - α·(m / (√v + ε'))              α = rate·√(1 - β₂ᵗ) / (1 - β₁ᵗ)
//!          adam:  ε' = ε                          as Keras: ε stands beside the uncorrected √v
//!          adamw: ε' = ε·√(1 - β₂ᵗ)               as torch: ε stands beside the corrected one
//!
//! sgd      w ← w - rate·g                         without momentum
//!          u ← μ·u + g                            the velocity is in units of the gradient, as
//!          w ← w - rate·u                         in torch: a new rate acts at once
//!          w ← w - rate·(g + μ·u)                 with nesterov
//! ```
//!
//! At a constant rate SGD is Keras' as well. βᵗ is a stored running product. A
//! moment or velocity of absolute value below 2^-110 becomes zero: an element that
//! never gets a gradient any more would else decay into subnormal numbers, on
//! which processors are up to a hundred times slower, and stay there.
//!
//! | file | what it holds |
//! |---|---|
//! | [`OptimizerSpec`] | `[optimizer]` of the job file, its defaults and limits |
//! | [`SpecError`] | what is wrong with it, and at which key |
//! | `groups` | which parameter is in which group; runs of equal settings |
//! | `schedule` | the learning rate as a pure function of the step |
//! | `clip` | the global norm, summed in one order however it is cut |
//! | `kernel` | the formulas above |
//! | [`Optimizer`] | moments over the flat parameter vector, and the walk over it |
//! | `state` | the moments by name: saved, restored, hashed |

mod clip;
mod error;
mod groups;
pub(crate) mod kernel;
mod optimizer;
mod schedule;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use clip::{NormAccumulator, clip_factor};
pub use error::{Problem, SpecError};
#[cfg(feature = "cuda")]
pub(crate) use optimizer::Change;
pub use optimizer::Optimizer;
pub use schedule::{ScheduleKind, ScheduleSpec};
pub use spec::{GroupSpec, OptimizerKind, OptimizerSpec, Rule};
pub use state::RestoreError;
