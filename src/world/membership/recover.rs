//! A coordinator that started anew finds the members again that were recorded.

use super::*;

impl World {
    pub(super) fn probe_recorded(&mut self) {
        let recorded: Vec<&GenerationRecord> = self
            .current
            .iter()
            .chain(self.pending.iter().map(|p| &p.record))
            .collect();
        let members: BTreeMap<WorkerId, String> = recorded
            .iter()
            .flat_map(|r| r.members.iter().map(|m| (m.id, m.address.clone())))
            .collect();
        members
            .into_iter()
            .for_each(|(worker, address)| self.probe(worker, address));
    }

    /// A recorded member is known to be gone, or has been silent for too long.
    pub(super) fn give_up_recorded(&mut self, now: Duration, gone: WorkerId, why: Departure) {
        let Phase::Recovering { awaited, .. } = &mut self.phase else {
            return;
        };
        if awaited.remove(&gone) {
            self.note(Note::Left {
                worker: gone,
                name: self.address_of(gone),
                departure: why,
            });
        }
        self.try_recover(now);
    }

    /// All that a record tells of who has not said its name.
    fn address_of(&self, worker: WorkerId) -> String {
        let recorded = self.current.iter();
        let recorded = recorded.chain(self.pending.iter().map(|p| &p.record));
        let mut members = recorded.flat_map(|r| &r.members);
        let member = members.find(|m| m.id == worker);
        member.map_or_else(String::new, |m| m.address.clone())
    }

    /// Whoever did not come back in time is given up. With one member here that
    /// is safe: once it is fenced, the world before this one can't go on. With
    /// none, they may still train, and must not get a second world beside
    /// theirs: those whose processes answer are waited for, the others for as
    /// long as they would train on without us. Who was only leaving trains no
    /// more without the members.
    pub(super) fn recover_without(&mut self, now: Duration) {
        let here = |w: &WorkerId| self.pool.contains_key(w);
        let fenced = self.each_world_has(here) && self.finished.is_none();
        let lease = self.lease();
        let recorded = self.current.iter();
        let recorded = recorded.chain(self.pending.iter().map(|p| &p.record));
        let members: BTreeSet<WorkerId> = recorded
            .flat_map(|r| r.members.iter().map(|m| m.id))
            .collect();
        let Phase::Recovering {
            began,
            asked,
            awaited,
            alive,
        } = &mut self.phase
        else {
            return;
        };
        *asked = now;
        let stopped = now.saturating_sub(*began) >= lease;
        let alive = std::mem::take(alive);
        let gone: Vec<WorkerId> = awaited
            .iter()
            .filter(|w| fenced || !members.contains(w) || (stopped && !alive.contains(w)))
            .copied()
            .collect();
        for worker in gone {
            self.give_up_recorded(now, worker, Departure::Silent);
        }
        if matches!(self.phase, Phase::Recovering { .. }) {
            self.probe_recorded();
        }
    }

    pub(super) fn try_recover(&mut self, now: Duration) {
        let Phase::Recovering { awaited, .. } = &self.phase else {
            return;
        };
        if !awaited.is_empty() {
            return;
        }
        if let Some(manifest) = self.finished.clone() {
            return self.finish(manifest);
        }
        if self.pool.is_empty() || self.required().iter().all(|w| !self.pool.contains_key(w)) {
            return self.lose_world();
        }
        self.phase = Phase::Running;
        self.prepare(now, Cause::Restarted);
    }
}
