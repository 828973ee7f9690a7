//! Followers: whom they follow, and the checkpoints that they catch up from.

use std::cmp::Reverse;

use super::*;

/// By then a source that has died is known to be gone by its own session too.
const ITS_END_SHOWS: Duration = Duration::from_secs(1);

/// Whoever wants to stay; and a shadow that wants to leave writes until another one
/// does: at the end of the run, when no change enters any more, the last checkpoint.
fn is_fed(writer: Option<WorkerId>, worker: WorkerId, node: &Node) -> bool {
    node.available() || writer == Some(worker) && node.is_reached()
}

impl World {
    /// Gives every follower without a usable source one, as long as the world
    /// has room for it.
    pub(super) fn feed_followers(&mut self) {
        let (Phase::Running, Some(current)) = (&self.phase, &self.current) else {
            return;
        };
        if current.members.is_empty() {
            return;
        }
        let current = current.clone();
        let in_change = |w: WorkerId| self.pending.as_ref().is_some_and(|p| p.record.has(w));
        let approaching = self
            .pool
            .iter()
            .filter(|(w, n)| n.source().is_some_and(|s| current.has(s)) && !current.has(**w))
            .filter(|(_, n)| !n.shadow)
            .count();
        let leaving = current
            .members
            .iter()
            .filter(|m| self.pool.get(&m.id).is_some_and(|n| n.leaving.is_some()))
            .count();
        // The shadow takes nobody's place.
        let mut room = (self.settings.members_max + self.settings.spares + leaving)
            .saturating_sub(current.members.len() + approaching);
        if room == 0 && !self.pool.values().any(|n| n.shadow) {
            return;
        }
        let without: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(w, n)| {
                is_fed(current.writer, **w, n)
                    && (n.shadow || !self.stopping)
                    && !n
                        .source()
                        .is_some_and(|s| current.has(s) && self.reaches(s))
                    && !current.has(**w)
                    && !in_change(**w)
                    && !self.may_be_needed(n)
            })
            .map(|(w, _)| *w)
            .collect();
        let mut sources = self.sources(&current);
        for worker in without {
            let shadow = self.pool.get(&worker).is_some_and(|n| n.shadow);
            if room == 0 && !shadow {
                continue;
            }
            let Some((followers, rank)) = sources.pop_first() else {
                return;
            };
            sources.insert((followers + 1, rank));
            room -= usize::from(!shadow);
            self.follow(worker, current.members[rank.0].clone());
        }
    }

    /// A hot spare whose source is gone stays as it is until it is known whether
    /// that one was a member's end: a new source would have to catch it up first.
    fn may_be_needed(&self, node: &Node) -> bool {
        let in_step = matches!(node.approach, Approach::Ready { source: None, .. });
        let within = |since: Duration, limit| self.now.saturating_sub(since) < limit;
        let unheard = |m: &Member| match self.pool.get(&m.id).map(|n| n.session) {
            Some(Session::Broken { since }) => within(since, self.settings.patience),
            _ => false,
        };
        let mut members = self.current.iter().flat_map(|r| r.members.iter());
        let just_now = node.source_lost.is_some_and(|at| within(at, ITS_END_SHOWS));
        in_step && (just_now || members.any(unheard))
    }

    fn reaches(&self, worker: WorkerId) -> bool {
        self.pool.get(&worker).is_some_and(Node::is_reached)
    }

    /// Members by how many follow them; the first one has enough to do.
    fn sources(&self, current: &GenerationRecord) -> BTreeSet<(usize, Reverse<usize>)> {
        let mut followers = BTreeMap::new();
        for source in self.pool.values().filter_map(Node::source) {
            *followers.entry(source).or_default() += 1;
        }
        let candidates = current.members.iter().zip(0..);
        let candidates = candidates.filter(|(m, _)| self.reaches(m.id));
        candidates
            .map(|(m, rank)| (followers.remove(&m.id).unwrap_or(0), Reverse(rank)))
            .collect()
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

    pub(super) fn source_lost(&mut self, now: Duration, worker: WorkerId) {
        if let Some(node) = self.pool.get_mut(&worker)
            && node.source().is_some()
        {
            node.approach = match node.approach {
                // What it has caught up with is still there: a hot spare may
                // lose its source and be needed by the same loss.
                Approach::Ready { round, .. } => Approach::Ready {
                    source: None,
                    round,
                },
                _ => Approach::Idle,
            };
            // Fed at a later tick: the source's own end may be on its way.
            node.source_lost = Some(now);
        }
        // Who is in by an Install follows nobody: it spoke before it heard of that.
        let installed = |r: &GenerationRecord| r.origin == Origin::Installed && r.has(worker);
        if !self.current.as_ref().is_some_and(installed) {
            self.prepare_without(now, worker, "lost its source");
        }
    }

    /// The world waits for a newcomer that can't come: it goes on without.
    fn prepare_without(&mut self, now: Duration, worker: WorkerId, why: &'static str) {
        self.drop_unheard_change(worker);
        if matches!(self.phase, Phase::Running) && self.is_required(worker) {
            self.prepare(now, Cause::CameNot(worker, why));
        }
    }

    /// A follower can't start from the state it has.
    pub(super) fn need_checkpoint(&mut self, now: Duration, worker: WorkerId, round: Round) {
        if let Some(node) = self.pool.get_mut(&worker)
            && let Some(source) = node.source()
        {
            let needs = Some(round);
            node.approach = Approach::Following { source, needs };
        }
        self.prepare_without(now, worker, "lacks the state to start from");
        self.serve_checkpoints();
    }

    /// Hands out the newest checkpoint where it will do, and asks a member for
    /// a fresh one where it won't.
    pub(super) fn serve_checkpoints(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        // A world that stands still never comes to a later checkpoint's round.
        let stands_at = self.stands_at();
        let newest = self.newest.clone();
        let newest = newest.filter(|(_, at)| stands_at.is_none_or(|round| *at <= round));
        let mut wanting = Vec::new();
        let mut fresh_from = None;
        let writer = self.current.as_ref().and_then(|r| r.writer);
        for (worker, node) in &mut self.pool {
            if !is_fed(writer, *worker, node) {
                continue;
            }
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
        if fresh_from.is_none() {
            self.saved_last = None;
        }
        // Who is in step on the stable node has time for it; not one that has just
        // saved all it is known to have, and that isn't enough: it may have lost its
        // source.
        let saved = self.newest.as_ref().map(|(_, at)| *at);
        let has_more = |w: &WorkerId| self.pool.get(w).map(|n| n.progress.1) > saved;
        let in_vain = self.saved_last;
        let shadow = self
            .shadow_in_step()
            .filter(|w| fresh_from.is_some() && (in_vain != Some(*w) || has_more(w)));
        let fresh_from = shadow.or(fresh_from).filter(|source| self.reaches(*source));
        if let (Some(source), None) = (fresh_from, self.saving) {
            self.saving = Some(source);
            self.send(source, ToWorker::Save);
        }
    }

    /// The round of a paused world.
    fn stands_at(&self) -> Option<Round> {
        let paused = self.current.as_ref().is_some_and(|r| r.paused);
        self.last_holder()
            .filter(|_| paused)
            .map(|(round, _)| round)
    }

    pub(super) fn committed(
        &mut self,
        now: Duration,
        worker: WorkerId,
        manifest: String,
        round: Round,
        last: bool,
    ) {
        if self.is_of_a_state_that_drifted(worker, round) {
            return; // it is thrown away
        }
        self.has_saved(worker);
        let newer = self.newest.as_ref().is_none_or(|(_, at)| *at < round);
        if newer || self.stands_at() == Some(round) {
            self.newest = Some((manifest.clone(), round));
        }
        self.advance(now, round);
        self.note(Note::Committed {
            manifest: manifest.clone(),
            round,
            worker,
        });
        if last {
            match self.phase {
                Phase::Ended(_) => {}
                Phase::Recovering { .. } => {
                    // The others that are recorded have to hear of it as well.
                    self.finished = Some(manifest);
                    self.try_recover(now);
                }
                _ => self.finish(manifest),
            }
            return;
        }
        self.rescued(now, &manifest, round);
        self.serve_checkpoints();
        if self.closes() {
            let newest = self.last_holder().map(|(newest, _)| newest);
            if newest.is_some_and(|newest| round >= newest) {
                self.all_saved();
            } else {
                self.save_before_leaving();
            }
        }
    }

    fn has_saved(&mut self, worker: WorkerId) {
        if self.saving.take_if(|asked| *asked == worker).is_some() {
            self.saved_last = Some(worker);
        }
    }

    pub(super) fn save_failed(&mut self, worker: WorkerId, round: Round, error: String) {
        self.has_saved(worker);
        self.note(Note::SaveFailed {
            worker,
            round,
            error,
        });
        // Asked for again at the next tick: a store that is down must not be
        // hammered.
    }

    /// Restored, or caught up.
    pub(super) fn ready(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: Generation,
        ready: Approach,
    ) {
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        let expected = match (node.approach, ready) {
            (Approach::Idle, _) => false,
            (_, Approach::Ready { source, .. }) => source == node.source(),
            _ => false,
        };
        if generation < node.told || !expected {
            return; // said before it heard of the newest Prepare, Install or Follow
        }
        node.approach = ready;
        match &mut self.phase {
            Phase::Gathering { lacking, .. } => {
                *lacking = lacking.saturating_sub(1);
                if *lacking == 0 {
                    self.try_start(now);
                }
            }
            Phase::Running => {
                self.plan(now);
                self.note_spare(worker);
            }
            _ => {}
        }
    }

    /// Says once that a worker has caught up and isn't needed yet.
    fn note_spare(&mut self, worker: WorkerId) {
        if self.is_spare(worker) && self.spares_told.insert(worker) {
            let name = self.name_of(worker);
            self.note(Note::Spare { worker, name });
        }
    }

    /// Whether it could be a member if the world weren't full.
    pub fn is_spare(&self, worker: WorkerId) -> bool {
        let ready = |n: &Node| n.can_train() && matches!(n.approach, Approach::Ready { .. });
        let outside =
            |r: &GenerationRecord| !r.has(worker) && r.members.len() >= self.members_max();
        self.pool.get(&worker).is_some_and(ready)
            && self.pending.as_ref().is_none_or(|p| !p.record.has(worker))
            && self.current.as_ref().is_some_and(outside)
    }
}
