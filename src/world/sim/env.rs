//! What all processes of a simulated run share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Round, WorkerId};
use super::Planted;
use super::network::{End, Network};
use super::values::{Course, Random};

/// A checkpoint; it exists whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    pub round: Round,
    pub state: u64,
    pub last: bool,
}

/// The checkpoint store.
#[derive(Default)]
pub struct Store {
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// So many of the next writes fail.
    pub failing: u32,
}

impl Store {
    /// Commits by create-if-absent.
    pub fn commit(&mut self, checkpoint: Checkpoint) -> Option<String> {
        if self.failing > 0 {
            self.failing -= 1;
            return None;
        }
        let last = if checkpoint.last { "last" } else { "round" };
        let manifest = format!("{last}-{}", checkpoint.round);
        self.checkpoints
            .entry(manifest.clone())
            .or_insert(checkpoint);
        Some(manifest)
    }

    pub fn newest(&self) -> Option<(String, Checkpoint)> {
        let newest = self
            .checkpoints
            .iter()
            .max_by_key(|(_, c)| (c.round, c.last));
        newest.map(|(manifest, c)| (manifest.clone(), *c))
    }
}

/// Everything that isn't a process.
pub struct Env {
    pub now: Duration,
    pub step: u64,
    pub random: Random,
    pub course: Course,
    pub net: Network,
    pub store: Store,
    /// Processes that listen at their address.
    pub alive: BTreeSet<WorkerId>,
    /// The port of everybody that ever came; one that is free is given again.
    pub ports: BTreeMap<WorkerId, u32>,
    pub planted: Option<Planted>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Gradients computed, by round and micro-batch.
    pub computed: BTreeMap<(Round, u32), u32>,
    /// Promises that were broken.
    pub broken: Vec<String>,
    pub trace: bool,
}

impl Env {
    pub fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!(
                "{:5} {:8.3} s  {}",
                self.step,
                self.now.as_secs_f64(),
                what()
            );
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn broken(&mut self, what: String) {
        self.log(|| format!("BROKEN {what}"));
        self.broken.push(what);
    }

    /// A process comes and listens.
    pub fn settle(&mut self, worker: WorkerId) {
        let free = |port: &u32| self.listener(&port.to_string()).is_none();
        let port = (1..).find(free).unwrap_or_default();
        self.alive.insert(worker);
        self.ports.insert(worker, port);
    }

    /// Who answers at an address.
    pub fn listener(&self, address: &str) -> Option<WorkerId> {
        let at = |w: &&WorkerId| self.ports.get(w).is_some_and(|p| p.to_string() == address);
        self.alive.iter().find(at).copied()
    }

    /// A process is gone.
    pub fn vanish(&mut self, worker: WorkerId) {
        self.alive.remove(&worker);
        self.net.vanish(End::Worker(worker), &mut self.random);
    }
}
