//! Generations only grow, and so do rounds unless a state is restored.

use std::collections::BTreeMap;

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::{Generation, Round, WorkerId};

/// What was seen of a worker last.
#[derive(Default)]
pub struct OnlyForward(BTreeMap<WorkerId, (Generation, Generation, Option<Round>)>);

impl OnlyForward {
    pub fn check(&mut self, env: &mut Env, process: &Process) {
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
