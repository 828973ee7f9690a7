//! For the lowest round that not all members have applied, somebody holds its
//! complete sum, or everybody who works on it still holds its own partial, or what
//! it leads to was restored by a member from a checkpoint: a world that keeps a
//! member never has to go back.

use std::collections::BTreeMap;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::{Generation, Round, WorkerId};

/// Members of one generation and where they are.
pub fn nothing_is_lost(env: &mut Env, processes: &BTreeMap<WorkerId, Process>) {
    let mut worlds: BTreeMap<Generation, Vec<(&Process, Round)>> = BTreeMap::new();
    for process in processes.values() {
        if let (Some(record), Some(round)) = (process.member.record(), process.member.round())
            && record.has(process.id)
            && process.exited.is_none()
        {
            let world = worlds.entry(record.generation).or_default();
            world.push((process, round));
        }
    }
    for (generation, members) in worlds {
        let Some(low) = members.iter().map(|(_, round)| *round).min() else {
            continue;
        };
        if members.iter().all(|(_, round)| *round == low) {
            continue;
        }
        // It may be on its way into this generation, or out of it.
        let holds = |p: &Process| {
            let holdings = p.member.holdings();
            holdings.round == Some(low.next()) && holdings.has_last_sum
        };
        let held = processes.values().any(holds);
        let at_hand = |p: &Process| p.has_sum_at_hand(low);
        let restored = |(p, _): &(&Process, Round)| p.engine.restored == Some(low.next());
        let held = held || members.iter().any(restored);
        let behind = members.iter().filter(|(_, round)| *round == low);
        if !held && !behind.clone().all(|(p, _)| at_hand(p)) {
            env.broken(format!(
                "members of {generation} are past {low}, and nobody holds its sum"
            ));
        }
    }
}
