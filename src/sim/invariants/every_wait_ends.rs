//! Nobody waits without a deadline: from a Prepare to its Install it never takes
//! longer than workers may go on alone, and the patience that follows.

use std::time::Duration;

use crate::sim::env::Env;
use crate::sim::run::TICK;
use crate::world::Generation;

/// From the break of a connection until it is noticed, and what is under way.
const NOTICED_AFTER: Duration = Duration::from_secs(40);

/// For how many ticks the coordinator has been in the same wait. (Time in which
/// it is stopped itself doesn't count.)
#[derive(Default)]
pub struct EveryWaitEnds {
    number: Generation,
    ticks: u32,
}

impl EveryWaitEnds {
    /// At each tick: its phase, and the newest number given out.
    pub fn check(
        &mut self,
        env: &mut Env,
        (phase, number): (&str, Generation),
        patience: Duration,
    ) {
        if phase != "reconciling" || number != self.number {
            (self.number, self.ticks) = (number, 0);
            return;
        }
        self.ticks += 1;
        let limit = env.weather.reconnect + patience * 2 + NOTICED_AFTER;
        if TICK * self.ticks > limit {
            env.broken(format!("generation {number} is prepared for ever"));
        }
    }
}
