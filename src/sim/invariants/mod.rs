//! What has to hold, at every moment and at the end; one promise a file.
//!
//! That each micro-batch is in each sum exactly once, and none of a stale
//! state, is told by [`super::values::Course::apply`]: sums that differ from
//! the only right one don't lead to the next state.

mod at_most_what_was_lost;
mod checkpoints_are_whole;
mod decided_alike;
mod every_wait_ends;
mod first_world_waits;
mod nothing_goes_missing;
mod nothing_is_lost;
mod old_frames;
pub mod one_leads;
pub mod one_world;
mod only_forward;
pub mod shadow_holds;
mod stay_together;

pub use at_most_what_was_lost::{costs_nothing, recomputed};
pub use checkpoints_are_whole::last_checkpoint;
pub use decided_alike::DecidedAlike;
pub use every_wait_ends::{EveryWaitEnds, WorkersWaitsEnd};
pub use first_world_waits::first_world;
pub use nothing_goes_missing::{replaced, standstill};
pub use nothing_is_lost::nothing_is_lost;
pub use old_frames::old_frames_change_nothing;
pub use only_forward::OnlyForward;
pub use stay_together::members_stay_together;
