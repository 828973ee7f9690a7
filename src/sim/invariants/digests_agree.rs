//! At equal rounds all hold the same state, and it is the undisturbed run's.

use crate::sim::env::Env;
use crate::world::{Round, WorkerId};

/// A process has come to this state, by a sum or by a checkpoint.
pub fn digests_agree(env: &mut Env, who: WorkerId, round: Round, state: u64) {
    if state != env.course.state(round) {
        env.broken(format!("{who:?} comes to another state at {round:?}"));
    }
}
