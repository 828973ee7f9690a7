//! What has to hold, at every moment and at the end; one promise a file.

mod at_most_what_was_lost;
mod checkpoints_are_whole;
mod decided_alike;
mod digests_agree;
mod every_wait_ends;
mod exactly_once;
mod finishes;
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
pub use digests_agree::digests_agree;
pub use every_wait_ends::{EveryWaitEnds, WorkersWaitsEnd};
pub use exactly_once::exactly_once;
pub use finishes::{deadline, not_over};
pub use first_world_waits::first_world;
pub use nothing_goes_missing::{replaced, standstill};
pub use nothing_is_lost::nothing_is_lost;
pub use old_frames::old_frames_change_nothing;
pub use only_forward::OnlyForward;
pub use stay_together::members_stay_together;
