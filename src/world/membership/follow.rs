//! Followers: whom they follow, and the checkpoints that they catch up from.

use super::*;

impl World {
    /// Gives every follower without a usable source one, as long as the world
    /// has room for it.
    pub(super) fn feed_followers(&mut self) {
        let (Phase::Running, Some(current)) = (&self.phase, &self.current) else {
            return;
        };
        if self.stopping || current.members.is_empty() {
            return;
        }
        let current = current.clone();
        let in_change = |w: WorkerId| self.pending.as_ref().is_some_and(|p| p.record.has(w));
        let approaching = self
            .pool
            .iter()
            .filter(|(w, n)| !current.has(**w) && n.source().is_some_and(|s| current.has(s)))
            .count();
        let leaving = current
            .members
            .iter()
            .filter(|m| self.pool.get(&m.id).is_some_and(|n| n.leaving.is_some()))
            .count();
        let mut room = (self.settings.members_max + leaving)
            .saturating_sub(current.members.len() + approaching);
        let without: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(w, n)| {
                n.available()
                    && !current.has(**w)
                    && !in_change(**w)
                    && !n
                        .source()
                        .is_some_and(|s| current.has(s) && self.reaches(s))
            })
            .map(|(w, _)| *w)
            .collect();
        for worker in without {
            if room == 0 {
                return;
            }
            let Some(source) = self.least_followed(&current) else {
                return;
            };
            room -= 1;
            self.follow(worker, source);
        }
    }

    fn reaches(&self, worker: WorkerId) -> bool {
        self.pool
            .get(&worker)
            .is_some_and(|n| n.session == Session::Open)
    }

    /// The member with the fewest followers; the first one has enough to do.
    fn least_followed(&self, current: &GenerationRecord) -> Option<Member> {
        let followers = |w: WorkerId| self.pool.values().filter(|n| n.source() == Some(w)).count();
        let candidates = current
            .members
            .iter()
            .enumerate()
            .filter(|(_, m)| self.reaches(m.id));
        candidates
            .min_by_key(|(rank, m)| (followers(m.id), std::cmp::Reverse(*rank)))
            .map(|(_, m)| m.clone())
    }

    fn follow(&mut self, worker: WorkerId, source: Member) {
        if let Some(node) = self.pool.get_mut(&worker) {
            node.approach = Approach::Following {
                source: source.id,
                needs: None,
            };
        }
        self.send(
            worker,
            ToWorker::Follow {
                source: source.id,
                address: source.address,
            },
        );
    }

    pub(super) fn source_lost(&mut self, worker: WorkerId) {
        if let Some(node) = self.pool.get_mut(&worker)
            && !matches!(node.approach, Approach::Restoring)
        {
            node.approach = Approach::Idle;
            // Fed at the next tick: the source's own end may be on its way.
        }
    }

    /// A follower can't start from the state it has.
    pub(super) fn need_checkpoint(&mut self, worker: WorkerId, round: Round) {
        if let Some(node) = self.pool.get_mut(&worker)
            && let Approach::Following { needs, .. } = &mut node.approach
        {
            *needs = Some(round);
            self.serve_checkpoints();
        }
    }

    /// Hands out the newest checkpoint where it will do, and asks a member for
    /// a fresh one where it won't.
    fn serve_checkpoints(&mut self) {
        let newest = self.newest.clone();
        let mut wanting = Vec::new();
        let mut fresh_from = None;
        for (worker, node) in &mut self.pool {
            let Approach::Following { source, needs } = &mut node.approach else {
                continue;
            };
            let Some(round) = *needs else { continue };
            match &newest {
                Some((manifest, at)) if *at >= round => {
                    *needs = None;
                    wanting.push((*worker, manifest.clone()));
                }
                _ => fresh_from = Some(*source),
            }
        }
        for (worker, manifest) in wanting {
            self.send(worker, ToWorker::RestoreFrom { manifest });
        }
        if let (Some(source), None) = (fresh_from, self.saving) {
            self.saving = Some(source);
            self.send(source, ToWorker::Save);
        }
    }

    pub(super) fn committed(
        &mut self,
        now: Duration,
        worker: WorkerId,
        manifest: String,
        round: Round,
        last: bool,
    ) {
        if self.saving == Some(worker) {
            self.saving = None;
        }
        if self.newest.as_ref().is_none_or(|(_, at)| *at < round) {
            self.newest = Some((manifest.clone(), round));
        }
        self.reached = self.reached.max(round);
        self.note(Note::Committed {
            manifest: manifest.clone(),
            round,
            worker,
        });
        if last {
            if !matches!(self.phase, Phase::Ended(_)) {
                self.finish(manifest);
            }
            return;
        }
        self.serve_checkpoints();
        let _ = now;
        if let (Phase::Running, Some(current)) = (&self.phase, &self.current) {
            let last_ones =
                current.members.is_empty() || (current.paused && self.all_leave(current));
            if last_ones && round >= self.reached {
                self.all_saved();
            }
        }
    }

    fn all_leave(&self, current: &GenerationRecord) -> bool {
        current
            .members
            .iter()
            .all(|m| self.pool.get(&m.id).is_none_or(|n| n.leaving.is_some()))
    }

    pub(super) fn save_failed(&mut self, worker: WorkerId, round: Round, error: String) {
        if self.saving == Some(worker) {
            self.saving = None;
        }
        self.note(Note::SaveFailed {
            worker,
            round,
            error,
        });
        // Asked for again by the next tick's `feed_followers`, or the next
        // follower; a store that is down must not be hammered.
    }

    /// Restored, or caught up.
    pub(super) fn ready(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: Generation,
        round: Round,
    ) {
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        if generation < node.told {
            return; // said before it heard of the newest Prepare or Install
        }
        node.approach = Approach::Ready {
            source: node.source(),
            round,
        };
        match &self.phase {
            Phase::Gathering { .. } => self.try_start(now),
            Phase::Running => self.plan(now),
            _ => {}
        }
    }
}
