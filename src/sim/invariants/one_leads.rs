//! One coordinator leads a run. A second one is refused while the first
//! answers. Where it has taken over, the first one finds that out within a
//! bounded time and ends; if it was asleep then, it writes nothing down before
//! it has looked; and a worker that was told anything by the second isn't moved
//! by it any more.

use std::time::Duration;

use crate::sim::env::Env;
use crate::sim::network::End;
use crate::sim::process::Process;
use crate::world::lead::EVERY;
use crate::world::message::Holdings;

/// What the store's answer may take, and a look that came to nothing.
const ANSWERED_AFTER: Duration = Duration::from_secs(10);

/// A second coordinator has asked whether a first one is there.
pub fn goes_on(env: &mut Env, answered: bool) {
    if answered {
        env.broken("a second coordinator takes over from one that answers".into());
    }
}

/// A coordinator writes down what it decides, though another one leads; it may
/// have been asleep when that one took over.
pub fn writes(env: &mut Env, slept: bool) {
    match slept {
        true => env.broken("a coordinator that was fenced in its sleep goes on writing".into()),
        false => env.count("fenced, and has not looked"),
    }
}

/// A coordinator has run for so long, over a store that answers, since another
/// one took over.
pub fn has_looked(env: &mut Env, since: Duration) {
    if since > EVERY + ANSWERED_AFTER {
        env.broken("a fenced coordinator doesn't end".into());
    }
}

/// What a worker holds that is told something by an older coordinator than it
/// has listened to before.
pub fn before(env: &Env, process: &Process, from: End) -> Option<Holdings> {
    let End::Coordinator(node) = from else {
        return None;
    };
    let theirs = env.coordinators.get(&node)?;
    let holdings = process.member.holdings();
    (*theirs < holdings.fence.incarnation).then_some(holdings)
}

/// It has been told.
pub fn follows(env: &mut Env, process: &Process, before: Option<Holdings>) {
    let Some(before) = before else { return };
    if process.exited.is_some() || process.member.holdings() != before {
        env.broken(format!("{:?} follows a fenced coordinator", process.id));
    }
}
