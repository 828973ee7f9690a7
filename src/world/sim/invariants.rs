//! What has to hold at every moment, and at the end.

use std::collections::BTreeMap;

use super::super::membership::Outcome;
use super::super::{Generation, GenerationRecord, Round, WorkerId};
use super::env::Env;
use super::process::Process;

/// What was seen of a worker last.
#[derive(Default)]
pub struct Seen(BTreeMap<WorkerId, (Generation, Generation, Option<Round>)>);

impl Seen {
    /// Generations only grow, and so do rounds unless a state is restored.
    pub fn only_grows(&mut self, env: &mut Env, process: &Process) {
        let holdings = process.member.holdings();
        let now = (holdings.fence, holdings.installed, holdings.round);
        let Some(before) = self.0.insert(process.id, now) else {
            return;
        };
        let fell = now.1 < before.1 && now.1 != Generation::NONE;
        let back = matches!((before.2, now.2), (Some(old), Some(new)) if new < old);
        if now.0 < before.0 || fell || back {
            env.broken(format!(
                "{:?} went back from {before:?} to {now:?}",
                process.id
            ));
        }
    }
}

/// Members of one generation are at most one round apart.
pub fn members_stay_together(env: &mut Env, processes: &BTreeMap<WorkerId, Process>) {
    let mut rounds: BTreeMap<Generation, (Round, Round)> = BTreeMap::new();
    for process in processes.values() {
        let member = &process.member;
        let (Some(record), Some(round)) = (member.record(), member.round()) else {
            continue;
        };
        if process.exited.is_none() && record.has(process.id) {
            let (low, high) = rounds.entry(record.generation).or_insert((round, round));
            *low = (*low).min(round);
            *high = (*high).max(round);
        }
    }
    for (generation, (low, high)) in rounds {
        if high.0 > low.0 + 1 {
            env.broken(format!(
                "members of {generation:?} are at {low:?} and at {high:?}"
            ));
        }
    }
}

/// The first step waits for as many members as it was asked to.
pub fn the_first_world_waits(env: &mut Env, record: &GenerationRecord, enough: usize) {
    if record.members.len() < enough {
        env.broken(format!("the first world has only {:?}", record.members));
    }
}

/// Only what a process that is gone had been given is handed out again.
pub fn recomputed_at_most_what_was_lost(
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

/// What the end of a run has to look like.
pub fn at_the_end(env: &mut Env, outcome: &Outcome, costs_nothing: bool) {
    match outcome {
        Outcome::Finished { .. } => {
            let (end, newest) = (env.course.end(), env.store.newest());
            let right = newest.is_some_and(|(_, found)| {
                found.last && found.round == end && found.state == env.course.state(end)
            });
            if !right {
                env.broken("the last checkpoint doesn't hold the final state".into());
            }
        }
        Outcome::Stopped => {}
        Outcome::Failed(why) => env.broken(format!("failed: {why}")),
    }
    let again: u32 = env.computed.values().map(|times| times - 1).sum();
    if costs_nothing && again > 0 {
        env.broken(format!(
            "{again} gradients were computed twice, though nobody was lost"
        ));
    }
}
