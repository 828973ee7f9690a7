//! What to train: the TOML job file, validated once into plain values.
//!
//! ```text
//!  mnist.toml ──┐                        ┌─► resolved_toml   what workers are sent and what is filed
//!               ├─► Value + places ─► Job├─► identity ─► run_id   what decides the numbers
//!  --set K=V ───┘    (source)  (spec)    └─► Course   which round comes next, what it decides
//! ```
//!
//! A mistake in the file is found before anything has started, and its message
//! says where it stands, which key it is, what was expected and which valid
//! key is nearest. So the text is read in two passes: `source` turns it
//! into values and remembers the line of each, then serde turns the values
//! into a [`Job`] and every complaint is led back to its line.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec` | the job's tables as structs, with their defaults |
//! | `keys` | every key and what it takes, in the words that errors use |
//! | `source` | TOML text and `--set` to values with places |
//! | `de` | serde over these values, with the path in each error |
//! | `load` | file to [`Job`] and back, locations, files that must exist |
//! | `validate` | what serde can't see: divisors, limits, contradictions |
//! | `identity` | the part of a job that decides its numbers; run ids |
//! | `course` | rounds and decisions as pure functions of sums |

pub mod course;
mod de;
mod errors;
mod identity;
mod keys;
mod load;
mod source;
mod spec;
#[cfg(test)]
mod tests;
mod validate;

pub use course::{Course, CourseState, Decision, Kind, StopReason};
pub use errors::{JobError, Place};
pub use identity::{Change, diff, run_id};
pub use keys::nearest;
pub use load::local_path;
pub use spec::*;
