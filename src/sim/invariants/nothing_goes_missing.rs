//! Members wait for each other only while the network keeps something back:
//! nothing that was sent is forgotten by a machine or its rim. (The coordinator
//! has them exchange the round anew; that is for what nobody thought of.)

use std::time::Duration;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::WorkerId;

/// When members are found to wait for each other, though nobody was cut off,
/// frozen or gone in silence so far.
pub fn standstill(env: &mut Env, patience: Duration) {
    env.count("standstill");
    if env.loud && env.weather.longest_delay() * 4 < patience {
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
