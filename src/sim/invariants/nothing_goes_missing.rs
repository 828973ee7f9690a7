//! Members wait for each other only while the network keeps something back:
//! nothing that was sent is forgotten by a machine or its rim. (The coordinator
//! has them exchange the round anew; that is for what nobody thought of.)

use std::time::Duration;

use crate::sim::env::Env;

/// When members are found to wait for each other, though nobody was cut off,
/// frozen or gone in silence so far.
pub fn standstill(env: &mut Env, patience: Duration) {
    env.count("standstill");
    if env.loud && env.weather.longest_delay() * 4 < patience {
        env.broken("members wait for each other over connections that are whole".into());
    }
}
