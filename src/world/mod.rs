//! Who trains together: the membership protocol of both sides as pure state
//! machines.
//!
//! Nothing in this room waits, sends, reads a clock or draws a random number.
//! Each machine is a value with one entry point, `handle(now, event)`, which
//! returns the commands that the rim ([`crate::coordinator`],
//! [`crate::worker`]) then carries out in order.
//!
//! ```text
//!   coordinator's node                          a training node
//!   ┌────────────────────┐   ToWorker            ┌────────────────────┐
//!   │ World              │ ────────────────────▶ │ Member             │
//!   │  pool: who is here │   FromWorker          │  fence, record,    │
//!   │  phase, record,    │ ◀──────────────────── │  round, partial    │
//!   │  planned change    │                       │  Exchange ⇄ peers  │
//!   └────────────────────┘                       │  Follower ◀ source │
//!                                                └────────────────────┘
//!   loss:    Prepare(g') ─▶ Report ─▶ Install(g')      fenced in between
//!   planned: Propose(g') ─▶ a vote in the next sum's trailer ─▶ entered by
//!            all members after the first sum in which all have voted
//! ```
//!
//! Rounds are counted by what has been *applied*: a process at round `n` has
//! applied the sums of rounds `0..n` and works on round `n`; "sum n" leads
//! from `n` to `n + 1`. A round is a training step or an evaluation pass.

mod assign;
mod heard;
mod ids;
pub mod lead;
pub mod member;
pub mod message;
pub mod pool;
pub mod reconcile;
mod record;
mod shared;
mod speed;

pub mod membership;

pub use assign::assign;
pub use heard::Heard;
pub use ids::{Generation, Round, WorkerId};
pub use lead::Lead;
pub use record::{FirstShares, GenerationRecord, Member, Origin};
pub use shared::{Ranked, Shared};
pub use speed::Speed;
