//! Who has a world's record has the same one as everybody else, and what it
//! decides alone (which pass was the best, whether a checkpoint is due, whether
//! the run is over) it decides like all others at the same round.

use std::collections::BTreeMap;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::{Generation, GenerationRecord};

/// The record of each generation, as first seen.
#[derive(Default)]
pub struct DecidedAlike(BTreeMap<Generation, GenerationRecord>);

impl DecidedAlike {
    pub fn check(&mut self, env: &mut Env, process: &Process) {
        let Some(record) = process.member.record() else {
            return;
        };
        let first = self
            .0
            .entry(record.generation)
            .or_insert_with(|| record.clone());
        if first != record {
            env.broken(format!(
                "{:?} is in another world {} than others",
                process.id, record.generation
            ));
        }
        if let Some((round, _)) = process.engine.state
            && env.course.standing(round) != Some(process.engine.standing)
        {
            env.broken(format!(
                "{:?} has decided {:?} before {round:?}",
                process.id, process.engine.standing
            ));
        }
        if let (Some(round), true) = (process.member.round(), record.has(process.id)) {
            let expected = env.course.micro_batches(round);
            if process.member.micro_batches() != expected {
                env.broken(format!("{:?} decides otherwise at {round:?}", process.id));
            }
        }
    }
}
