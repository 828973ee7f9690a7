//! Numbers that are the same on every machine, and a name for those that aren't.
//!
//! An elementary function from the system's mathematics library, a random
//! generator of a language's run time, a reduction that a compiler reorders:
//! each gives other bits elsewhere, and one such bit makes replicas drift.
//! What is replicated therefore draws on this room alone:
//!
//! | file | what it gives |
//! |---|---|
//! | [`maths`] | `ln`, `exp`, `sin_cos`, `cos` as fixed sequences of IEEE operations |
//! | [`philox`] | random numbers as a pure function of (key, element index) |
//! | [`dispatch`] | one body compiled for several instruction sets, with equal bits |
//! | [`fingerprint()`] | what does differ: the hash of what this machine's kernels compute |
//!
//! [`NUMERICS_VERSION`] names all of it in manifests and handshakes. Whoever
//! changes a bit of any result here, or in `exact` and `optim`, raises it.

pub mod dispatch;
mod fingerprint;
pub mod maths;
pub mod philox;

pub use fingerprint::{Kind, fingerprint};

/// The version of every number this code computes the same everywhere: random
/// streams, initial values, schedules, the update. Processes with different
/// versions can't train together, and a checkpoint doesn't resume across one.
pub const NUMERICS_VERSION: u32 = 1;
