//! Planned changes: who joins, who leaves, without a pause.
//!
//! A change is a whole generation record. Newcomers confirm it first, then the
//! members hear of it and vote in the trailers of their next contributions; it
//! takes effect after the first sum in which all have voted. We learn of that
//! by the first Progress that names it.

use super::*;

impl World {
    /// A worker wants to leave.
    pub(super) fn drain(&mut self, now: Duration, worker: WorkerId, reason: String) {
        if let Some(node) = self.pool.get_mut(&worker) {
            node.leaving.get_or_insert(reason);
        }
        match &self.phase {
            Phase::Ended(_) => {}
            Phase::Preparing(_) => {} // planned, or let go, after the Install
            _ if self.is_required(worker) || self.is_writer(worker) => self.plan(now),
            _ => self.release(worker, ReleaseReason::Drained),
        }
    }

    /// A change to the world in force waits until all members are known to be in
    /// it, so that they will hear of it.
    pub(super) fn wait_until_entered(&mut self) {
        let Some(current) = &self.current else { return };
        let inside = |m: &Member| {
            let node = self.pool.get(&m.id);
            node.is_some_and(|n| n.progress.0 == current.generation)
        };
        let entering = current.members.iter().filter(|m| !inside(m));
        self.entering = entering.map(|m| m.id).collect();
    }

    /// A member is in the world in force, or in another one.
    pub(super) fn note_where(&mut self, worker: WorkerId, generation: Generation) {
        match &self.current {
            Some(current) if current.generation == generation => {
                self.entering.remove(&worker);
            }
            Some(current) if current.has(worker) => drop(self.entering.insert(worker)),
            _ => {}
        }
    }

    /// Plans the next change if there is one to make and none on its way.
    pub(super) fn plan(&mut self, now: Duration) {
        if self.settled && !self.is_uneven(now) {
            return;
        }
        let (Phase::Running, None, Some(current)) = (&self.phase, &self.pending, &self.current)
        else {
            return;
        };
        if current.members.is_empty() || !self.entering.is_empty() {
            return;
        }
        let current = current.clone();
        if current.paused {
            return self.change_paused(now, &current);
        }
        let stays = |w: WorkerId| self.pool.get(&w).is_some_and(|n| n.leaving.is_none());
        let ready = |n: &Node| matches!(n.approach, Approach::Ready { .. });
        let joins = |n: &Node| n.can_train() && ready(n) && n.source().is_some();
        let mut members: Vec<Member> = current
            .members
            .iter()
            .filter(|m| stays(m.id))
            .cloned()
            .collect();
        let drained: Vec<WorkerId> = current
            .members
            .iter()
            .map(|m| m.id)
            .filter(|w| !stays(*w))
            .collect();
        let room = self.settings.members_max.saturating_sub(members.len());
        let joiners: Vec<Member> = self
            .pool
            .iter()
            .filter(|(w, n)| !self.stopping && !current.has(**w) && joins(n))
            // If all leave, the one that flaps is better than nobody.
            .filter(|(w, _)| members.is_empty() || !self.is_waiting(**w))
            .map(|(_, n)| n.member.clone())
            .take(room)
            .collect();
        let uneven = self.is_uneven(now);
        let writer = self.wants_another_writer();
        if drained.is_empty() && joiners.is_empty() && !uneven && !writer {
            self.settled = true;
            return;
        }
        if uneven {
            self.uneven = (None, Some(now));
        }
        let unconfirmed: BTreeSet<WorkerId> = joiners.iter().map(|m| m.id).collect();
        members.extend(joiners);
        let weighed = self.directory();
        for member in &mut members {
            member.weight = weighed.get(&member.id).map_or(member.weight, |m| m.weight);
        }
        let still_leaving: Vec<WorkerId> = current
            .leavers
            .iter()
            .copied()
            .filter(|w| self.pool.contains_key(w))
            .collect();
        let record = GenerationRecord {
            generation: self.next_number(),
            base: current.base,
            first: None,
            source: None,
            leavers: drained.iter().copied().chain(still_leaving).collect(),
            paused: members.len() < self.settings.members_min,
            members: members.into(),
            writer: self.next_writer(),
            origin: Origin::Planned {
                from: current.generation,
            },
        };
        let written = writer.then(|| record.writer.is_some());
        let cause = Cause::Planned(change_reason(&unconfirmed, &drained, written));
        self.pending = Some(Pending {
            record: record.clone(),
            unconfirmed,
            cause,
        });
        self.persist();
        let newcomers: Vec<WorkerId> = record
            .members
            .iter()
            .map(|m| m.id)
            .filter(|w| !current.has(*w))
            .collect();
        for worker in newcomers {
            self.send(worker, ToWorker::Propose(record.clone()));
        }
        self.propose_to_members();
    }

    /// A world that stands still can be changed by an Install right away.
    fn change_paused(&mut self, now: Duration, current: &GenerationRecord) {
        if self.stopping {
            return self.save_before_leaving();
        }
        let leaving = current
            .members
            .iter()
            .any(|m| self.pool.get(&m.id).is_some_and(|n| n.leaving.is_some()));
        let newcomers = self.pool.iter().any(|(w, n)| {
            !current.has(*w) && n.can_train() && matches!(n.approach, Approach::Ready { .. })
        });
        if leaving && current.members.len() == 1 {
            self.save_before_leaving();
        } else if leaving {
            let gone: Vec<WorkerId> = current
                .members
                .iter()
                .map(|m| m.id)
                .filter(|w| self.pool.get(w).is_some_and(|n| n.leaving.is_some()))
                .take(current.members.len() - 1)
                .collect();
            for worker in gone {
                self.release(worker, ReleaseReason::Drained);
            }
            self.prepare(now, Cause::WhilePaused);
        } else if newcomers {
            self.prepare(now, Cause::WhilePaused);
        } else {
            self.settled = true;
        }
    }

    /// Whether everybody leaves, so that a checkpoint is all that remains.
    pub(super) fn closes(&self) -> bool {
        let (Phase::Running, Some(current)) = (&self.phase, &self.current) else {
            return false;
        };
        let leaves = |m: &Member| self.pool.get(&m.id).is_none_or(|n| n.leaving.is_some());
        let stands = current.members.is_empty() || current.paused;
        stands && current.members.iter().all(leaves)
    }

    /// Who of the last ones is furthest, and how far.
    pub(super) fn last_holder(&self) -> Option<(Round, WorkerId)> {
        let current = self.current.as_ref()?;
        let members = current.members.iter().map(|m| m.id);
        let holders = members.chain(current.leavers.iter().copied());
        let here = holders.filter_map(|w| self.pool.get(&w).map(|n| (w, n)));
        let usable = here.filter(|(_, n)| n.is_reached());
        usable.map(|(w, n)| (n.progress.1, w)).max()
    }

    /// The last ones that hold the state write it down before they go.
    pub(super) fn save_before_leaving(&mut self) {
        if let (None, Some((_, writer))) = (self.saving, self.last_holder()) {
            self.saving = Some(writer);
            self.send(writer, ToWorker::Save);
        }
    }

    pub(super) fn acknowledged(&mut self, worker: WorkerId, generation: Generation) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        if pending.record.generation == generation
            && pending.unconfirmed.remove(&worker)
            && matches!(self.phase, Phase::Running)
        {
            self.propose_to_members();
        }
    }

    fn propose_to_members(&mut self) {
        let (Some(pending), Some(current)) = (&self.pending, &self.current) else {
            return;
        };
        if !pending.unconfirmed.is_empty() {
            return;
        }
        let record = pending.record.clone();
        let members: Vec<WorkerId> = current.members.iter().map(|m| m.id).collect();
        for worker in members {
            self.send(worker, ToWorker::Propose(record.clone()));
        }
    }

    /// A newcomer of a change that no member has heard of went away: nobody
    /// else has to notice.
    pub(super) fn drop_unheard_change(&mut self, gone: WorkerId) {
        let unheard = self
            .pending
            .as_ref()
            .is_some_and(|p| !p.unconfirmed.is_empty() && p.record.has(gone));
        if unheard {
            self.pending = None;
            self.persist();
            self.feed_followers();
        }
    }

    /// The first word from inside a planned generation makes it the one in
    /// force.
    pub(super) fn change_took_effect(&mut self, now: Duration) {
        self.enter_change();
        let writer = self.current.as_ref().and_then(|r| r.writer);
        let here = |w: &WorkerId| self.pool.get(w).is_some_and(|n| !n.released);
        if let Some(gone) = writer.filter(|w| !here(w)) {
            // There may be no round left in which to vote for another one.
            return self.prepare(now, Cause::Left(gone, Departure::Gone));
        }
        self.after_change(now);
    }

    /// The planned record is the one in force.
    pub(super) fn enter_change(&mut self) {
        let Some(Pending { record, cause, .. }) = self.pending.take() else {
            return;
        };
        let before = self.current.replace(record.clone());
        self.wait_until_entered();
        self.persist();
        self.take_over_writing(before.as_ref().and_then(|r| r.writer));
        let newcomers: Vec<WorkerId> = record
            .members
            .iter()
            .map(|m| m.id)
            .filter(|w| !before.as_ref().is_some_and(|r| r.has(*w)))
            .collect();
        for worker in newcomers {
            if let Some(node) = self.pool.get_mut(&worker) {
                node.approach = Approach::Idle;
            }
            self.note_joined(worker, record.generation);
        }
        self.note(Note::Installed {
            record,
            cause,
            recomputed: 0,
        });
    }

    /// What a new generation makes possible or necessary.
    pub(super) fn after_change(&mut self, now: Duration) {
        if !self.stopping {
            self.let_go_bystanders();
        }
        if self.closes() {
            self.save_before_leaving();
        }
        self.feed_followers();
        self.serve_checkpoints();
        self.release_leavers();
        self.plan(now);
    }

    /// Lets those go that want to and that the world doesn't need.
    pub(super) fn let_go_bystanders(&mut self) {
        let leaving = self
            .pool
            .iter()
            .filter(|(_, n)| n.leaving.is_some() && !n.released);
        let free: Vec<WorkerId> = leaving
            .map(|(w, _)| *w)
            .filter(|w| !self.is_required(*w) && !self.is_writer(*w))
            .collect();
        for worker in free {
            self.release(worker, ReleaseReason::Drained);
        }
    }

    /// Lets leavers go once every member has applied all that they helped with.
    pub(super) fn release_leavers(&mut self) {
        let (Phase::Running, Some(current)) = (&self.phase, &self.current) else {
            return;
        };
        if current.members.is_empty() {
            return; // they go when the state is saved
        }
        if current.leavers.is_empty() || !self.entering.is_empty() {
            return;
        }
        let behind = |round: Round| {
            let behind = |m: &Member| self.pool.get(&m.id).is_none_or(|n| n.progress.1 < round);
            current.members.iter().any(behind)
        };
        let free: Vec<WorkerId> = current
            .leavers
            .iter()
            .filter(|w| {
                self.pool
                    .get(w)
                    .is_some_and(|n| !n.released && !behind(n.progress.1))
            })
            .copied()
            .collect();
        for worker in free {
            self.release(worker, ReleaseReason::Drained);
        }
    }

    /// Tells a worker that nothing waits for it any more.
    pub(super) fn release(&mut self, worker: WorkerId, reason: ReleaseReason) {
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        if std::mem::replace(&mut node.released, true) {
            return;
        }
        let name = node.name.clone();
        let why = node.leaving.clone().unwrap_or_else(|| "let go".into());
        if self.saving == Some(worker) {
            self.saving = None;
        }
        self.drop_unheard_change(worker);
        self.send(worker, ToWorker::Release(reason));
        self.note(Note::Left {
            worker,
            name,
            departure: Departure::Drained(why),
        });
    }

    /// Everybody left, and what they held is saved.
    pub(super) fn all_saved(&mut self) {
        let Some(current) = &self.current else { return };
        let leavers: Vec<WorkerId> = current
            .members
            .iter()
            .map(|m| m.id)
            .chain(current.leavers.iter().copied())
            .collect();
        if self.stopping {
            return self.end(ReleaseReason::Stopped, Outcome::Stopped);
        }
        for worker in leavers {
            self.release(worker, ReleaseReason::Drained);
        }
        self.clear_world();
        self.look_for_start();
    }
}

fn change_reason(
    joiners: &BTreeSet<WorkerId>,
    drained: &[WorkerId],
    shadow_writes: Option<bool>,
) -> String {
    let list = |ids: Vec<String>| ids.join(", ");
    let joined = list(joiners.iter().map(|w| w.to_string()).collect());
    let left = list(drained.iter().map(|w| w.to_string()).collect());
    match (joiners.is_empty(), drained.is_empty()) {
        (false, false) => format!("worker {joined} joins, worker {left} drains"),
        (false, true) => format!("worker {joined} joins"),
        (true, false) => format!("worker {left} drains"),
        (true, true) if shadow_writes == Some(true) => "the shadow writes the checkpoints".into(),
        (true, true) if shadow_writes.is_some() => "the workers write the checkpoints".into(),
        (true, true) => "the shares follow the workers' speeds".into(),
    }
}
