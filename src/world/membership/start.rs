//! Beginnings and ends: gathering the first members, and letting everybody go.

use super::*;

/// Why everybody leaves after a Stop.
const STOPS: &str = "the coordinator stops";

impl World {
    /// A worker's session is open: a newcomer, or one that lost its session.
    pub(super) fn hello(
        &mut self,
        now: Duration,
        (worker, shadow): (WorkerId, bool),
        member: Member,
        name: String,
        holdings: Holdings,
    ) {
        if let Phase::Ended(reason) = &self.phase {
            let reason = reason.clone();
            return self.send(worker, ToWorker::Release(reason));
        }
        let asked = match (self.stopping, self.is_leaver(worker)) {
            (true, _) => Some(STOPS.to_owned()),
            (false, true) => (holdings.leaving.clone())
                .or_else(|| Some("it was asked to, in an earlier session".to_owned())),
            (false, false) => holdings.leaving.clone(),
        };
        if let Some(node) = self.pool.get_mut(&worker) {
            if node.released {
                // Its session broke before it heard of that.
                return self.send(worker, ToWorker::Release(ReleaseReason::Drained));
            }
            node.session = Session::Open;
            node.heard = Heard::first(now);
            node.accused = None;
            node.told = holdings.fence;
            node.leaving = node.leaving.take().or(asked);
            return self.returned(now, worker);
        }
        let recorded = match &self.phase {
            Phase::Recovering { awaited, .. } => awaited.contains(&worker),
            _ => false,
        };
        if holdings.installed != Generation::NONE && !recorded {
            let reason = "the world went on without it".to_owned();
            return self.send(worker, ToWorker::Release(ReleaseReason::Evicted(reason)));
        }
        let node = Node {
            member,
            shadow,
            name,
            session: Session::Open,
            approach: Approach::Idle,
            told: Generation::NONE,
            progress: (holdings.installed, holdings.round.unwrap_or_default()),
            counters: Default::default(),
            speed: Default::default(),
            heard: Heard::first(now),
            came: now,
            worked: now,
            awaits: Vec::new(),
            source_lost: None,
            leaving: asked,
            accused: None,
            released: false,
        };
        self.advance(now, node.progress.1);
        self.pool.insert(worker, node);
        if shadow {
            let newest = self.newest.as_ref().map_or(Round(0), |(_, round)| *round);
            self.drifts.shadowed.comes(newest);
        }
        if self.stopping && !recorded {
            return self.send(worker, ToWorker::Release(ReleaseReason::Stopped));
        }
        if holdings.leaving.is_some() && !recorded {
            return self.release(worker, ReleaseReason::Drained);
        }
        self.make_wait(now, worker);
        match &mut self.phase {
            Phase::Recovering { awaited, asked, .. } if recorded => {
                awaited.remove(&worker);
                *asked = now; // the others have their time from now on
                self.try_recover(now);
            }
            Phase::Gathering {
                start: Some((manifest, _)),
                ..
            } => {
                let manifest = manifest.clone();
                self.restore(worker, manifest);
            }
            _ => self.feed_followers(),
        }
    }

    /// Whether it is on its way out by what is durable; who asked for that may
    /// have been a person, so that it doesn't know.
    fn is_leaver(&self, worker: WorkerId) -> bool {
        let pending = self.pending.iter().map(|p| &p.record);
        let mut records = self.current.iter().chain(pending);
        records.any(|r| r.leavers.contains(&worker))
    }

    /// A session that broke is back. Whatever was missed is made good by the
    /// one mechanism that needs no memory of what was said: a new Prepare.
    fn returned(&mut self, now: Duration, worker: WorkerId) {
        if self.saving == Some(worker) {
            self.saving = None;
        }
        self.drop_unheard_change(worker);
        if let Some(node) = self.pool.get_mut(&worker) {
            node.approach = Approach::Idle;
        }
        match &self.phase {
            Phase::Preparing(p) => {
                let generation = p.generation;
                self.send(worker, ToWorker::Prepare { generation });
            }
            Phase::Running if self.is_required(worker) => {
                self.prepare(now, Cause::Returned(worker));
            }
            Phase::Running => {
                self.let_go_bystanders();
                self.feed_followers();
            }
            Phase::Gathering {
                start: Some((manifest, _)),
                ..
            } => {
                let manifest = manifest.clone();
                self.restore(worker, manifest);
            }
            Phase::Gathering { start: None, .. } | Phase::Recovering { .. } | Phase::Ended(_) => {}
        }
    }

    /// Nobody holds a state that a world could go on from.
    pub(super) fn lose_world(&mut self) {
        if self.stopping {
            return self.end(ReleaseReason::Stopped, Outcome::Stopped);
        }
        let rescuer = self.rescuer();
        if self.current.as_ref().is_some_and(|r| !r.members.is_empty()) {
            self.note(Note::WorldLost {
                round: self.reached,
                shadow: rescuer.is_some(),
            });
        }
        self.clear_world();
        match rescuer {
            Some(shadow) => self.rescue(shadow),
            None => self.find_start(),
        }
    }

    /// Looks for the checkpoint to start from, unless the run is complete.
    pub(super) fn find_start(&mut self) {
        match self.finished.clone() {
            Some(manifest) => self.finish(manifest),
            None => self.look_for_start(),
        }
    }

    pub(super) fn look_for_start(&mut self) {
        if let Some(round) = self.go_back {
            self.out.push(Command::GoBack(round));
        }
        self.out.push(Command::FindStart);
    }

    /// So many workers have to hold the starting state before a world begins.
    pub(super) fn needed(&self) -> usize {
        let wanted = match self.started {
            true => self.settings.members_min,
            false => self.settings.start_size,
        };
        wanted.min(self.settings.members_max).max(1)
    }

    pub(super) fn clear_world(&mut self) {
        self.phase = Phase::Gathering {
            start: None,
            needed: self.needed(),
            lacking: 0,
        };
        self.current = None;
        self.pending = None;
        self.saving = None;
        self.end_all_waits();
        self.persist();
        for node in self.pool.values_mut() {
            node.approach = Approach::Idle;
        }
        self.let_go_bystanders();
    }

    /// The newest checkpoint that it knows of, whatever a list of them shows.
    pub fn newest_known(&self) -> Option<&str> {
        self.newest.as_ref().map(|(manifest, _)| manifest.as_str())
    }

    /// This checkpoint may be damaged, and another one is looked for.
    pub fn doubt(&mut self, manifest: &str) {
        self.newest.take_if(|(newest, _)| newest == manifest);
    }

    pub(super) fn start_point(&mut self, now: Duration, manifest: Option<String>, round: Round) {
        let gathering = matches!(self.phase, Phase::Gathering { .. });
        match self.go_back {
            Some(limit) if round > limit => return, // found before it was thrown away
            Some(_) => {
                self.go_back = None;
                self.persist();
            }
            None => {}
        }
        // One that was committed while we looked for this one is newer.
        let newer = self.newest.as_ref().is_none_or(|(_, at)| *at <= round);
        if let Some(manifest) = manifest.clone().filter(|_| gathering || newer) {
            self.newest = Some((manifest, round));
        }
        self.rescuing = false;
        if let Phase::Gathering { start, .. } = &mut self.phase {
            *start = Some((manifest.clone(), round));
            let here: Vec<WorkerId> = self.pool.keys().copied().collect();
            for worker in here {
                self.restore(worker, manifest.clone());
            }
            self.try_start(now);
        }
    }

    fn restore(&mut self, worker: WorkerId, manifest: Option<String>) {
        // Who was fenced by a coordinator whose newest numbers we don't know (its disk
        // is gone, and a copy may be old) listens to nothing older than ours.
        let unknown = self.number.incarnation < self.incarnation && self.incarnation > 1;
        let generation = match unknown {
            true => Generation {
                incarnation: self.incarnation,
                counter: 0,
            },
            false => self.number,
        };
        let goes_back = self.goes_back(worker);
        if let Some(node) = self.pool.get_mut(&worker) {
            if !(node.can_train() || goes_back && node.available()) {
                return;
            }
            node.approach = Approach::Restoring;
            node.told = generation;
            self.send(
                worker,
                ToWorker::Restore {
                    generation,
                    manifest,
                },
            );
        }
    }

    /// Starts the world once enough workers hold the state to start from.
    pub(super) fn try_start(&mut self, now: Duration) {
        let Phase::Gathering {
            start: Some((_, start)),
            needed,
            ..
        } = &self.phase
        else {
            return;
        };
        let (start, needed) = (*start, *needed);
        let ready = self
            .pool
            .values()
            .filter(|n| n.can_train())
            .filter(|n| matches!(n.approach, Approach::Ready { round, .. } if round == start))
            .count();
        if let Phase::Gathering { lacking, .. } = &mut self.phase {
            *lacking = needed.saturating_sub(ready);
        }
        if ready >= needed && self.all_who_went_back_are_ready(start) && !self.stopping {
            self.nobody_is_awaited();
            self.prepare(now, Cause::Started);
        }
    }

    /// The run is complete: durable by its last manifest, so nobody is needed.
    pub(super) fn finish(&mut self, manifest: String) {
        self.end(ReleaseReason::Finished, Outcome::Finished { manifest });
    }

    /// The job can't go on, on any worker.
    pub(super) fn job_failed(&mut self, error: String) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.end(ReleaseReason::Failed(error.clone()), Outcome::Failed(error));
        }
    }

    pub(super) fn end(&mut self, reason: ReleaseReason, outcome: Outcome) {
        self.current = None;
        self.pending = None;
        self.persist();
        let here: Vec<WorkerId> = self.pool.keys().copied().collect();
        for worker in here {
            if let Some(node) = self.pool.get_mut(&worker) {
                node.released = true;
            }
            self.send(worker, ToWorker::Release(reason.clone()));
        }
        self.phase = Phase::Ended(reason);
        self.out.push(Command::End(outcome));
    }

    /// Save everything and let everybody go.
    pub(super) fn stop(&mut self, now: Duration) {
        if self.stopping || matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.stopping = true;
        // The shadow goes with us: until then it may have to write the last checkpoint.
        for node in self.pool.values_mut().filter(|n| !n.shadow) {
            node.leaving.get_or_insert_with(|| STOPS.to_owned());
        }
        match &self.phase {
            Phase::Gathering { .. } => self.end(ReleaseReason::Stopped, Outcome::Stopped),
            Phase::Running => self.plan(now),
            // Planned once it is known what there is to save.
            Phase::Recovering { .. } | Phase::Preparing(_) | Phase::Ended(_) => {}
        }
    }

    pub(super) fn tick(&mut self, now: Duration) {
        self.excuse_all_after_a_pause(now);
        self.go_on_rescuing();
        for worker in self.silent(now) {
            self.depart(now, worker, Departure::Silent);
        }
        if matches!(self.phase, Phase::Running | Phase::Preparing(_)) {
            self.ask_the_silent(now);
            self.ask_the_quiet(now);
        }
        let overdue = |since: Duration| now.saturating_sub(since) >= self.settings.patience;
        match &self.phase {
            Phase::Recovering { asked, .. } if overdue(*asked) => self.recover_without(now),
            Phase::Preparing(p) if self.unreported(p).is_empty() => self.try_install(now),
            Phase::Preparing(p) if self.is_unanswered(now, p) => {
                for worker in self.unreported(&p.clone()) {
                    self.evict(now, worker, Departure::Unanswered);
                }
            }
            Phase::Running => {
                self.end_standstill(now);
                self.even_out(now);
                self.end_waits(now);
                if self.closes() {
                    self.save_before_leaving();
                }
                self.feed_followers();
                self.serve_checkpoints();
            }
            _ => {}
        }
    }
}
