//! Whose word is needed before a new world is decided.

use super::*;

impl World {
    /// Processes whose word is needed before a new world is decided: members,
    /// leavers, those of a planned change that members have heard of, and the
    /// named source. Only those that are still there.
    pub(super) fn required(&self) -> BTreeSet<WorkerId> {
        let told = self
            .pending
            .as_ref()
            .filter(|p| p.unconfirmed.is_empty())
            .map(|p| &p.record);
        self.current
            .iter()
            .chain(told)
            .flat_map(|r| {
                let members = r.members.iter().map(|m| m.id);
                members
                    .chain(r.leavers.iter().copied())
                    .chain(r.source.as_ref().map(|m| m.id))
            })
            .filter(|w| self.pool.get(w).is_some_and(|n| !n.released))
            .collect()
    }

    /// Whether the word of this one is needed.
    pub(super) fn is_required(&self, worker: WorkerId) -> bool {
        let told = self
            .pending
            .as_ref()
            .filter(|p| p.unconfirmed.is_empty())
            .map(|p| &p.record);
        let here = self.pool.get(&worker).is_some_and(|n| !n.released);
        let named = |r: &GenerationRecord| {
            r.has(worker)
                || r.leavers.contains(&worker)
                || r.source.as_ref().is_some_and(|m| m.id == worker)
        };
        here && self.current.iter().chain(told).any(named)
    }

    /// Those whose report is still needed. At the start that is everybody who
    /// holds the starting state.
    pub(super) fn unreported(&self, p: &Preparing) -> Vec<WorkerId> {
        let starting = self.current.is_none();
        let mut needed = self.required();
        let left = |r: &GenerationRecord| r.members.iter().any(|m| self.pool.contains_key(&m.id));
        if self.current.as_ref().is_some_and(|r| !left(r)) {
            // No member is left: a follower may hold what they held.
            let followers = self
                .pool
                .iter()
                .filter(|(_, n)| !n.released && n.told == p.generation)
                .filter(|(_, n)| n.source().is_some() || n.shadow);
            needed.extend(followers.map(|(w, _)| *w));
        }
        if starting || self.current.as_ref().is_some_and(|r| r.paused) || self.has_lost_one() {
            needed.extend(self.caught_up());
        }
        needed.extend(self.prompt_shadow());
        needed
            .into_iter()
            .filter(|w| !p.reports.contains_key(w))
            .collect()
    }

    /// Whether a member's place is free, for a hot spare to take.
    fn has_lost_one(&self) -> bool {
        let here = |m: &Member| self.pool.get(&m.id).is_some_and(|n| !n.released);
        let current = self.current.as_ref();
        current.is_some_and(|r| !r.members.iter().all(here))
    }

    /// Those that have caught up and want to stay.
    pub(super) fn caught_up(&self) -> impl Iterator<Item = WorkerId> {
        let ready = |n: &Node| n.can_train() && matches!(n.approach, Approach::Ready { .. });
        let ready = self.pool.iter().filter(move |(_, n)| ready(n));
        ready.map(|(w, _)| *w)
    }
}
