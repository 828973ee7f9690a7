//! Beginnings and ends: gathering the first members, finding them again after
//! the coordinator started anew, and letting everybody go.

use super::*;

impl World {
    /// A worker's session is open: a newcomer, or one that lost its session.
    pub(super) fn hello(
        &mut self,
        now: Duration,
        worker: WorkerId,
        member: Member,
        name: String,
        holdings: Holdings,
    ) {
        if let Phase::Ended(reason) = &self.phase {
            let reason = reason.clone();
            return self.send(worker, ToWorker::Release(reason));
        }
        let known = self.pool.get_mut(&worker).map(|node| {
            node.session = Session::Open;
            node.accused = None;
        });
        if known.is_some() {
            return self.returned(now, worker, &holdings);
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
            name,
            session: Session::Open,
            approach: Approach::Idle,
            told: Generation::NONE,
            progress: (holdings.installed, holdings.round.unwrap_or_default()),
            counters: Default::default(),
            leaving: None,
            accused: None,
            released: false,
        };
        self.reached = self.reached.max(node.progress.1);
        self.pool.insert(worker, node);
        if self.stopping && !recorded {
            return self.send(worker, ToWorker::Release(ReleaseReason::Stopped));
        }
        match &mut self.phase {
            Phase::Recovering { awaited, .. } if recorded => {
                awaited.remove(&worker);
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

    /// A session that broke is back. Whatever was missed is made good by the
    /// one mechanism that needs no memory of what was said: a new Prepare.
    fn returned(&mut self, now: Duration, worker: WorkerId, holdings: &Holdings) {
        match &self.phase {
            Phase::Preparing(p) => {
                let generation = p.generation;
                self.send(worker, ToWorker::Prepare { generation });
            }
            Phase::Running if self.required().contains(&worker) => {
                let in_force = self.current.as_ref().map(|r| r.generation);
                let pending = self.pending.as_ref().map(|p| p.record.generation);
                let agrees = Some(holdings.installed) == in_force
                    || (pending.is_some() && Some(holdings.installed) == pending);
                if !agrees || holdings.fence != holdings.installed || self.pending.is_some() {
                    self.prepare(now, format!("worker {worker} came back to its session"));
                }
            }
            Phase::Running => {
                if let Some(node) = self.pool.get_mut(&worker) {
                    node.approach = Approach::Idle;
                }
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
        self.out.extend(
            members
                .into_iter()
                .map(|(id, address)| Command::Probe(id, address)),
        );
    }

    /// A recorded member is known to be gone, or has been silent for too long.
    pub(super) fn give_up_recorded(&mut self, now: Duration, gone: WorkerId) {
        if let Phase::Recovering { awaited, .. } = &mut self.phase {
            awaited.remove(&gone);
            self.try_recover(now);
        }
    }

    fn try_recover(&mut self, now: Duration) {
        let Phase::Recovering { awaited, .. } = &self.phase else {
            return;
        };
        if !awaited.is_empty() {
            return;
        }
        if self.pool.is_empty() || self.required().iter().all(|w| !self.pool.contains_key(w)) {
            return self.lose_world();
        }
        self.phase = Phase::Running;
        self.prepare(now, "the coordinator started again".into());
    }

    /// Nobody holds a state that a world could go on from.
    pub(super) fn lose_world(&mut self) {
        if self.current.as_ref().is_some_and(|r| !r.members.is_empty()) {
            self.note(Note::WorldLost {
                round: self.reached,
            });
        }
        self.clear_world();
        self.out.push(Command::FindStart);
    }

    pub(super) fn clear_world(&mut self) {
        let needed = if self.started {
            self.settings.members_min
        } else {
            self.settings.start_size
        };
        self.phase = Phase::Gathering {
            start: None,
            needed: needed.max(1),
        };
        self.current = None;
        self.pending = None;
        self.saving = None;
        self.persist();
        for node in self.pool.values_mut() {
            node.approach = Approach::Idle;
        }
    }

    pub(super) fn start_point(&mut self, now: Duration, manifest: Option<String>, round: Round) {
        if let Some(manifest) = &manifest {
            self.newest = Some((manifest.clone(), round));
        }
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
        let generation = self.number;
        if let Some(node) = self.pool.get_mut(&worker) {
            if !node.available() {
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
        } = &self.phase
        else {
            return;
        };
        let (start, needed) = (*start, *needed);
        let ready = self
            .pool
            .values()
            .filter(|n| n.available())
            .filter(|n| matches!(n.approach, Approach::Ready { round, .. } if round == start))
            .count();
        if ready >= needed.min(self.settings.members_max).max(1) && !self.stopping {
            self.prepare(now, "enough workers are ready".into());
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
        let reason = "the coordinator stops".to_owned();
        for node in self.pool.values_mut() {
            node.leaving.get_or_insert_with(|| reason.clone());
        }
        match &self.phase {
            Phase::Gathering { .. } | Phase::Recovering { .. } => {
                self.end(ReleaseReason::Stopped, Outcome::Stopped);
            }
            Phase::Running => self.plan(now),
            Phase::Preparing(_) | Phase::Ended(_) => {}
        }
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let patience = self.settings.patience;
        let overdue = |since: Duration| now.saturating_sub(since) >= patience;
        let silent: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(_, n)| matches!(n.session, Session::Broken { since } if overdue(since)))
            .map(|(w, _)| *w)
            .collect();
        for worker in silent {
            self.depart(now, worker, "silent for too long".into());
        }
        match &self.phase {
            Phase::Recovering { since, awaited } if overdue(*since) => {
                let gone: Vec<WorkerId> = awaited.iter().copied().collect();
                for worker in gone {
                    self.give_up_recorded(now, worker);
                }
            }
            Phase::Preparing(p) if overdue(p.since) => {
                for worker in self.unreported(&p.clone()) {
                    let reason = "did not answer in time".to_owned();
                    self.send(
                        worker,
                        ToWorker::Release(ReleaseReason::Evicted(reason.clone())),
                    );
                    self.depart(now, worker, reason);
                }
            }
            Phase::Running => self.feed_followers(),
            _ => {}
        }
    }
}
