//! Once nothing breaks any more, the run is over within a bounded time: what was broken has to be
//! noticed, whoever is silent given up, and the rest trained.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::coordinator::Coordinator;
use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::sim::run::STALLS_FORGOTTEN;
use crate::world::WorkerId;

/// When it has to be over that was healed at `heal`, its slowest node so many times slower than
/// the fastest.
pub fn deadline(env: &Env, heal: Duration, patience: Duration, slowest: u32) -> Duration {
    let gradients = env.course.total_micro_batches();
    let training = env.weather.micro_batch * slowest * 2 * gradients * 4;
    heal + patience * 40 + env.weather.reconnect * 4 + training + STALLS_FORGOTTEN
}

/// It isn't.
pub fn not_over(env: &mut Env, coordinator: &Coordinator, processes: &BTreeMap<WorkerId, Process>) {
    let world = coordinator.world.as_ref();
    let mut what = format!(
        "not over after {:?}: {} {:?} waits for {:?}",
        env.now,
        world.map_or("no coordinator", |w| w.phase_name()),
        world.and_then(|w| w.current().map(|r| r.generation)),
        world.and_then(|w| w.waiting(env.now)),
    );
    for process in processes.values() {
        what += &format!("\n   {:?} {:?}", process.id, process.member.holdings());
    }
    env.broken(what);
}
