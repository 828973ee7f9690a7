//! What the simulated coordinator has to ask somebody else for.

use std::time::Duration;

use super::agenda::What;
use super::coordinator::{Coordinator, STORE_PAUSE};
use super::env::Env;
use super::network::End;
use super::store::Checkpoint;
use crate::world::membership::{Event, Probe, World};
use crate::world::{Round, WorkerId};

/// What it has asked somebody else for.
#[derive(Clone, Debug)]
pub enum Errand {
    /// Whether the process at an address lives; how long no answer isn't one,
    /// unless this is the last try.
    Probe(WorkerId, String, Option<Duration>),
    FindStart,
    WhoLeads,
}

impl Coordinator {
    pub(super) fn ask(&mut self, env: &mut Env, errand: Errand, time: Duration) {
        self.last_errand += 1;
        self.errands.insert(self.last_errand, errand);
        env.after(time, What::Errand(self.node, self.last_errand));
    }

    fn newest_checkpoint(&self, env: &Env) -> Option<Option<(String, Checkpoint)>> {
        let known = self.world.as_ref().and_then(World::newest_known);
        env.store.newest(env.now, known)
    }

    /// Somebody answers, or doesn't.
    pub fn errand(&mut self, env: &mut Env, number: u64) {
        let known = self.errands.remove(&number);
        if let Some(Errand::WhoLeads) = known {
            return self.who_leads(env);
        }
        if !self.leads(env) {
            self.errands.extend(known.map(|errand| (number, errand)));
            return env.after(STORE_PAUSE, What::Errand(self.node, number));
        }
        let event = match known {
            Some(Errand::Probe(worker, address, within)) => {
                let us = End::Coordinator(self.node);
                let listener = env.listener(&address);
                let asked = End::Worker(listener.unwrap_or(worker));
                let reached = env.net.reach_each_other(us, asked, env.now)
                    && env.frozen_until(asked).is_none();
                if let (false, Some(within)) = (reached, within) {
                    return self.ask(env, Errand::Probe(worker, address, None), within);
                }
                let probe = match (reached, listener == Some(worker)) {
                    (false, _) => Probe::Silent,
                    (true, true) => Probe::Accepted,
                    (true, false) => Probe::Refused,
                };
                if probe == Probe::Refused && listener.is_some() {
                    env.count("another one answered");
                }
                env.log(|| format!("{worker:?} is probed: {probe:?}"));
                Event::Probed(worker, probe)
            }
            Some(Errand::FindStart) => match self.newest_checkpoint(env) {
                None => return self.ask(env, Errand::FindStart, STORE_PAUSE),
                Some(Some((manifest, found))) => Event::Start {
                    manifest: Some(manifest),
                    round: found.round,
                },
                Some(None) => Event::Start {
                    manifest: None,
                    round: Round(0),
                },
            },
            Some(Errand::WhoLeads) | None => return, // asked by a process that is no more
        };
        self.event(env, event);
    }
}
