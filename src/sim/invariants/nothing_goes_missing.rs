//! Members wait for each other only while the network keeps something back:
//! nothing that was sent is forgotten by a machine or its rim. (The coordinator
//! has them exchange the round anew; that is for what nobody thought of.)

use std::time::Duration;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::WorkerId;

/// So old may be what a member has last said of whom it waits for.
const OUTDATED_AFTER: Duration = Duration::from_secs(3);

/// When members are found to wait for each other, though nobody was cut off,
/// frozen or gone in silence so far.
pub fn standstill(env: &mut Env, patience: Duration) {
    env.count("standstill");
    let delay = env.weather.longest_delay();
    if env.loud && delay * 4 < patience && delay * 2 < OUTDATED_AFTER {
        env.broken("members wait for each other over connections that are whole".into());
    }
}

/// A connection has taken the place of one that was believed to be up: what was
/// sent on that and never arrived has to have been told.
pub fn replaced(env: &mut Env, process: &Process, peer: WorkerId) {
    let lost = process.lost.get(&peer) == Some(&process.member.installed());
    if lost && process.is_there() {
        let id = process.id;
        env.broken(format!(
            "what {id:?} sent to {peer:?} is lost, and nobody is told"
        ));
    }
}
