//! Only what a process that is gone had been given is computed again.

use crate::sim::env::Env;
use crate::world::GenerationRecord;

/// At each new world.
pub fn recomputed(
    env: &mut Env,
    old: [&Option<GenerationRecord>; 2],
    new: &GenerationRecord,
    recomputed: u32,
) {
    let micro_batches = env.course.micro_batches(new.base);
    let lost = |record: &GenerationRecord| -> usize {
        let gone = record.members.iter().filter(|m| !new.has(m.id));
        gone.map(|m| record.share(m.id, new.base, micro_batches).len())
            .sum()
    };
    let most = old.into_iter().flatten().map(lost).max().unwrap_or(0);
    if recomputed as usize > most {
        env.broken(format!(
            "{recomputed} micro-batches again, but only {most} were lost"
        ));
    }
}

/// At the end of a run in which nobody was lost.
pub fn costs_nothing(env: &mut Env) {
    let again: u32 = env.computed.values().map(|times| times - 1).sum();
    if again > 0 {
        env.broken(format!(
            "{again} gradients were computed twice, though nobody was lost"
        ));
    }
}
