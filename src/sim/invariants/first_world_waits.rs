//! The first step waits for as many members as it was asked to.

use crate::sim::env::Env;
use crate::world::GenerationRecord;

/// At the first world of a run. Once it is written down, nobody can tell any more
/// whether its members have heard of it, and a later one needs fewer.
pub fn first_world(env: &mut Env, record: &GenerationRecord, enough: usize) {
    if record.members.len() < enough {
        env.broken(format!("the first world has only {:?}", record.members));
    }
}
