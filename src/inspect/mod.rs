//! Looking into a run afterwards: what its folder tells, and one step again.
//!
//! ```text
//!  events.jsonl ──┐
//!  metrics.jsonl ─┼─▶ RunFolder ──▶ report   the night in a page
//!  steps.bin ─────┤             ├─▶ diff     two runs: jobs, sums, results
//!  checkpoints ───┘             └─▶ replay   one step on this machine: its numbers,
//!                                            the first operation that isn't finite
//! ```
//!
//! Nothing here writes, so a run may be looked into while it goes on.
//!
//! | file | what |
//! |---|---|
//! | `folder` | finding a run, reading its files |
//! | `report/` | [`report`](fn@report): from records to figures (pure), then to text |
//! | `diff` | [`compare`]: two runs side by side (pure) |
//! | `replay/` | [`replay`](fn@replay): one step again, its figures, its culprits |
//! | `clock` | times for people |

mod clock;
mod diff;
mod folder;
mod replay;
mod report;
#[cfg(test)]
mod testing;

pub use diff::{Difference, Sums, compare};
pub use folder::{InspectError, RunFolder};
pub use replay::{Kinds, Question, Replay, ReplayError, Watch, replay};
pub use report::{Report, report};

use diff::thousands;
