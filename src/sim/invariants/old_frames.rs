//! A frame of an older generation changes nothing: it never gets as far as the
//! buffers.

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::Generation;

/// A frame of this generation is about to be taken.
pub fn old_frames_change_nothing(env: &mut Env, process: &Process, generation: Generation) {
    let holdings = process.member.holdings();
    if generation < holdings.installed.max(holdings.fence) {
        env.broken(format!(
            "{:?} takes a frame of generation {generation} at {holdings:?}",
            process.id
        ));
    }
}
