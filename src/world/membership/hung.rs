//! Members that hold the others up with their session open: a stuck device, a
//! stopped process that somebody keeps connected, a node that is far too slow.

use super::*;

/// A round that takes so many times the longest one before it is stuck.
const TIMES_THE_LONGEST: u32 = 10;
/// Before the first round is finished nobody knows how long one takes.
const PATIENCE_AT_FIRST: u32 = 10;
/// From when on people are told whom a round waits for.
const TOLD_AFTER: Duration = Duration::from_secs(1);

impl World {
    /// Somebody has applied so many rounds.
    pub(super) fn advance(&mut self, now: Duration, round: Round) {
        if round > self.reached {
            if matches!(self.phase, Phase::Running) {
                self.longest = self.longest.max(now.saturating_sub(self.advanced));
            }
            (self.reached, self.advanced) = (round, now);
        }
    }

    /// Members whose part the others wait for, and that wait for nobody
    /// themselves.
    fn holding_up(&self) -> BTreeSet<WorkerId> {
        let members = self.current.iter().flat_map(|r| &r.members);
        let nodes: Vec<(&WorkerId, &Node)> = members
            .filter_map(|m| self.pool.get_key_value(&m.id))
            .collect();
        let awaited = nodes.iter().flat_map(|(_, n)| n.awaits.iter().copied());
        let waits: BTreeSet<WorkerId> = nodes
            .iter()
            .filter(|(_, n)| !n.awaits.is_empty())
            .map(|(w, _)| **w)
            .collect();
        awaited.filter(|w| !waits.contains(w)).collect()
    }

    /// Whom the round waits for, if it takes long enough for people to ask.
    pub(super) fn held_up_by(&self, now: Duration) -> BTreeSet<WorkerId> {
        match now.saturating_sub(self.advanced) >= TOLD_AFTER {
            true => self.holding_up(),
            false => BTreeSet::new(),
        }
    }

    /// Whoever holds the others up far beyond what a round has ever taken goes;
    /// its share is computed by them.
    pub(super) fn evict_hung(&mut self, now: Duration) {
        let patience = self.settings.patience;
        let limit = match self.longest {
            Duration::ZERO => patience * PATIENCE_AT_FIRST,
            longest => patience.max(longest.saturating_mul(TIMES_THE_LONGEST)),
        };
        if now.saturating_sub(self.advanced) < limit {
            return;
        }
        for worker in self.holding_up() {
            self.evict(now, worker, Departure::Hung);
        }
    }
}
