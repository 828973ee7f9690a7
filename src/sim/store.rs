//! The checkpoint store: shards first, then a manifest by create-if-absent;
//! and all that object stores do besides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::network::Node;
use super::values::Standing;
use crate::world::Round;
use crate::world::membership::Durable;

/// A checkpoint; it exists whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub round: Round,
    pub state: u64,
    pub standing: Standing,
    pub last: bool,
}

impl Checkpoint {
    pub fn manifest(&self) -> String {
        let last = if self.last { "last" } else { "round" };
        format!("{last}-{}", self.round)
    }
}

/// What the store says to a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    Done,
    /// It failed, or it was done and the answer was lost.
    Unknown,
}

/// Objects by name.
#[derive(Default)]
pub struct Store {
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// By round and whether it is the last.
    shards: BTreeSet<(Round, bool)>,
    /// Writes and lists fail until then.
    pub down_until: Duration,
    /// A write takes this much longer until then.
    pub slow_until: Duration,
    /// Lists don't show what was written since.
    pub stale_until: Duration,
    /// The answer to the next manifest is lost.
    pub ambiguous: bool,
    before_stale: BTreeMap<String, Checkpoint>,
    /// Whose each incarnation is, from the first.
    incarnations: Vec<Node>,
    /// What each coordinator has last written down here too.
    worlds: BTreeMap<u32, Durable>,
}

impl Store {
    pub fn write_shards(&mut self, checkpoint: &Checkpoint, now: Duration) -> Written {
        if now < self.down_until {
            return Written::Unknown;
        }
        self.shards.insert((checkpoint.round, checkpoint.last));
        Written::Done
    }

    /// Commits by create-if-absent: who finds its own content there has
    /// written it.
    pub fn commit(&mut self, checkpoint: Checkpoint, now: Duration) -> Written {
        if now < self.down_until {
            return Written::Unknown;
        }
        let manifest = checkpoint.manifest();
        self.checkpoints.entry(manifest).or_insert(checkpoint);
        match std::mem::take(&mut self.ambiguous) {
            true => Written::Unknown,
            false => Written::Done,
        }
    }

    /// The next incarnation, by create-if-absent; `None` if the store doesn't
    /// answer.
    pub fn take_incarnation(&mut self, node: Node, now: Duration) -> Option<u32> {
        (now >= self.down_until).then(|| {
            self.incarnations.push(node);
            self.incarnations.len() as u32
        })
    }

    /// The newest, which is looked for beyond what lists show.
    pub fn newest_incarnation(&self, now: Duration) -> Option<u32> {
        (now >= self.down_until).then_some(self.incarnations.len() as u32)
    }

    /// A coordinator's own object: an older one's changes nothing of it.
    pub fn write_world(&mut self, incarnation: u32, world: Durable) {
        self.worlds.insert(incarnation, world);
    }

    /// What the newest coordinator that wrote any has written.
    pub fn newest_world(&self) -> Option<&Durable> {
        self.worlds.values().next_back()
    }

    /// From now on lists are old, until then.
    pub fn go_stale(&mut self, until: Duration) -> bool {
        self.before_stale = self.checkpoints.clone();
        self.stale_until = until;
        true
    }

    pub fn down_for(&mut self, until: Duration) -> bool {
        self.down_until = until;
        true
    }

    pub fn slow_for(&mut self, until: Duration) -> bool {
        self.slow_until = until;
        true
    }

    /// All is well again.
    pub fn heal(&mut self) {
        (self.down_until, self.slow_until) = (Duration::ZERO, Duration::ZERO);
        (self.stale_until, self.ambiguous) = (Duration::ZERO, false);
    }

    /// The newest that a list shows, or that is known anyway; `None` if the store
    /// doesn't answer.
    pub fn newest(
        &self,
        now: Duration,
        known: Option<&str>,
    ) -> Option<Option<(String, Checkpoint)>> {
        if now < self.down_until {
            return None;
        }
        let shown = match now < self.stale_until {
            true => &self.before_stale,
            false => &self.checkpoints,
        };
        let known = known.and_then(|manifest| self.checkpoints.get_key_value(manifest));
        let newest = shown
            .iter()
            .chain(known)
            .max_by_key(|(_, c)| (c.round, c.last));
        Some(newest.map(|(manifest, c)| (manifest.clone(), *c)))
    }

    /// The content of a checkpoint, if it is whole.
    pub fn read(&self, manifest: &str) -> Option<Checkpoint> {
        let found = self.checkpoints.get(manifest)?;
        self.shards
            .contains(&(found.round, found.last))
            .then_some(*found)
    }
}
