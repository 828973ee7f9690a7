//! No two worlds complete rounds of one run. Once a newer generation has
//! completed a round, an older one completes one more at most, or none after the
//! round that the newer began with: that it may, from contributions that were made
//! before it was given up. And a process that was stopped may finish what it had in
//! hand, until it hears what has happened. So may members that a coordinator without
//! its disk doesn't know: each ends when it reaches that one, or when it may train
//! alone no longer; and those of one that doesn't know yet that another has taken
//! over from it, see [`super::one_leads`].

use std::time::Duration;

use crate::sim::env::Env;
use crate::sim::network::End;
use crate::world::{Generation, Round, WorkerId};

/// So long until it has heard.
const THAWED: Duration = Duration::from_secs(30);

/// A member has the complete sum of a round of its generation.
pub fn completes(env: &mut Env, who: WorkerId, generation: Generation, round: Round) {
    let thawed = env.frozen.get(&End::Worker(who));
    if thawed.is_some_and(|until| *until + THAWED > env.now) {
        return;
    }
    if generation.incarnation <= env.fenced {
        return env.count("led by a fenced coordinator");
    }
    let forgotten = env.forgotten.as_ref();
    if forgotten.is_some_and(|(last, until)| generation.incarnation <= *last && env.now < *until) {
        return env.count("unknown to their coordinator");
    }
    let newer = env
        .first_completed
        .range(generation..)
        .find(|(g, first)| **g > generation && round > **first)
        .map(|(g, _)| *g);
    let Some(newer) = newer else {
        env.first_completed.entry(generation).or_insert(round);
        return;
    };
    let one_more = *env.one_more.entry(generation).or_insert(round);
    if round != one_more {
        env.broken(format!(
            "generation {generation} completes {round} beside generation {newer}"
        ));
    }
}
