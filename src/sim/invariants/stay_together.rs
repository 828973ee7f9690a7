//! Members of one generation are at most one round apart.

use std::collections::BTreeMap;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::{Generation, Round, WorkerId};

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
