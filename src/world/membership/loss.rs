//! Losses: what counts as evidence, and how the survivors go on.

use super::super::reconcile::{self, Plan, Situation, reconcile};
use super::*;

/// How long a process may take to say that it lives.
const PROBE: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn probe(&mut self, worker: WorkerId, address: String) {
        self.out.push(Command::Probe {
            worker,
            address,
            within: PROBE,
        });
    }

    pub(super) fn session_broken(&mut self, now: Duration, worker: WorkerId) {
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        if node.released || matches!(self.phase, Phase::Ended(_)) {
            self.forget(worker);
            return;
        }
        node.session = Session::Broken { since: now };
        if self.saving == Some(worker) {
            self.saving = None;
        }
        let address = node.member.address.clone();
        self.probe(worker, address);
    }

    /// Whether what a member says of its connections in this generation still
    /// matters: after an Install they are made anew, after a planned change
    /// they are kept.
    fn is_news(&self, generation: Generation) -> bool {
        let in_force = |r: &GenerationRecord| {
            r.generation <= generation || r.origin == (Origin::Planned { from: generation })
        };
        matches!(self.phase, Phase::Running) && self.current.as_ref().is_some_and(in_force)
    }

    /// A member can't reach a peer. Whether that peer is gone or just cut off
    /// is for us to find out.
    pub(super) fn accuse(
        &mut self,
        now: Duration,
        by: WorkerId,
        peer: WorkerId,
        generation: Generation,
    ) {
        if !self.is_news(generation) {
            return;
        }
        let member = self.current.as_ref().is_some_and(|r| r.has(peer));
        let Some(node) = self.pool.get_mut(&peer) else {
            if member {
                // Let go before the change that has it as a member was entered.
                self.prepare(now, Cause::Left(peer, Departure::Gone));
            }
            return;
        };
        if node.accused.is_none() {
            node.accused = Some((by, generation));
            let address = node.member.address.clone();
            self.probe(peer, address);
        }
    }

    pub(super) fn probed(&mut self, now: Duration, worker: WorkerId, probe: Probe) {
        if let Phase::Recovering { awaited, alive, .. } = &mut self.phase
            && awaited.contains(&worker)
        {
            match probe {
                Probe::Refused => self.give_up_recorded(now, worker, Departure::Gone),
                Probe::Accepted => drop(alive.insert(worker)),
                Probe::Silent => drop(alive.remove(&worker)),
            }
            return;
        }
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        let accused = node.accused.take();
        let broken = node.session != Session::Open;
        match (probe, accused) {
            (Probe::Refused, _) => self.depart(now, worker, Departure::Gone),
            (Probe::Silent, Some(_)) if broken => {
                self.depart(now, worker, Departure::Unreachable);
            }
            (_, Some((by, generation))) => self.exchange_broken(now, by, worker, generation),
            (_, None) => self.asked_quiet(now, worker, probe),
        }
    }

    /// Two members that both live have lost each other. The exchange is done
    /// again under a new generation, which costs no gradient; if that happens
    /// again, one of them goes.
    fn exchange_broken(
        &mut self,
        now: Duration,
        by: WorkerId,
        peer: WorkerId,
        generation: Generation,
    ) {
        if !self.is_news(generation) {
            return;
        }
        // By direction: the other side may tell of the same break later.
        let before = self.strikes.insert((by, peer), now);
        let memory = self.breaks_remembered_for();
        if before.is_none_or(|before| now.saturating_sub(before) > memory) {
            let cause = self.cause_of_break(now, by, peer);
            return self.prepare(now, cause);
        }
        let (worker, departure) = self.culprit(now, by, peer);
        self.evict(now, worker, departure);
    }

    /// A worker says that it leaves now.
    pub(super) fn bye(&mut self, now: Duration, worker: WorkerId, reason: String) {
        let released = self.pool.get(&worker).is_some_and(|n| n.released);
        if released {
            self.forget(worker);
        } else {
            let asked = self.pool.get(&worker).is_some_and(|n| n.leaving.is_some());
            let departure = match asked {
                true => Departure::Drained(reason),
                false => Departure::Said(reason),
            };
            self.depart(now, worker, departure);
        }
    }

    /// Sends away one that may well live.
    pub(super) fn evict(&mut self, now: Duration, worker: WorkerId, departure: Departure) {
        let reason = ReleaseReason::Evicted(departure.to_string());
        self.send(worker, ToWorker::Release(reason));
        self.depart(now, worker, departure);
    }

    /// A process is gone for good. If the world needs it, the others reconcile.
    pub(super) fn depart(&mut self, now: Duration, worker: WorkerId, departure: Departure) {
        let needed = self.is_required(worker) || self.is_writer(worker);
        let Some(node) = self.forget(worker) else {
            return;
        };
        if needed && !matches!(departure, Departure::Drained(_)) {
            self.count_loss(now, &node);
        }
        self.note(Note::Left {
            worker,
            name: node.name,
            departure: departure.clone(),
        });
        self.drop_unheard_change(worker);
        match &mut self.phase {
            Phase::Preparing(p) => {
                p.reports.remove(&worker);
                self.try_install(now);
            }
            Phase::Running if needed => {
                self.prepare(now, Cause::Left(worker, departure));
            }
            Phase::Running => self.feed_followers(),
            Phase::Gathering { .. } => self.try_start(now),
            Phase::Recovering { .. } | Phase::Ended(_) => {}
        }
    }

    /// Nothing is expected of it any more.
    fn forget(&mut self, worker: WorkerId) -> Option<Node> {
        if self.saving == Some(worker) {
            self.saving = None;
        }
        for told in [&mut self.strikes, &mut self.garbled] {
            told.retain(|(a, b), _| *a != worker && *b != worker);
        }
        self.spares_told.remove(&worker);
        if let Phase::Preparing(p) = &mut self.phase {
            p.missing.remove(&worker);
        }
        if self.current.as_ref().is_some_and(|r| r.has(worker)) {
            self.entering.insert(worker);
        }
        self.forget_wait(worker);
        self.pool.remove(&worker)
    }

    /// Fences everybody with a new number and asks what they hold.
    pub(super) fn prepare(&mut self, now: Duration, cause: Cause) {
        let generation = self.next_number();
        self.persist();
        self.phase = Phase::Preparing(Preparing {
            generation,
            reports: BTreeMap::new(),
            missing: BTreeSet::new(),
            cause,
            since: now,
        });
        let here: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(_, n)| !n.released)
            .map(|(w, _)| *w)
            .collect();
        for worker in here {
            if let Some(node) = self.pool.get_mut(&worker) {
                node.told = generation;
            }
            self.send(worker, ToWorker::Prepare { generation });
        }
        self.try_install(now);
    }

    fn shadows(&self) -> BTreeSet<WorkerId> {
        let shadows = self.pool.iter().filter(|(_, n)| n.shadow);
        shadows.map(|(w, _)| *w).collect()
    }

    /// Who may enter the new world from outside.
    fn admitted(&self, paused: bool) -> BTreeSet<WorkerId> {
        match paused {
            true => self.pool.keys().copied().collect(),
            false => self.caught_up().filter(|w| !self.is_waiting(*w)).collect(),
        }
    }

    pub(super) fn report(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: Generation,
        holdings: Holdings,
    ) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        if p.generation == generation {
            let at = holdings.round.map(|round| (holdings.installed, round));
            p.reports.insert(worker, holdings);
            p.missing.remove(&worker);
            if let Some((installed, round)) = at {
                self.advance(now, round);
                if let Some(node) = self.pool.get_mut(&worker) {
                    node.progress = (installed, round);
                }
            }
            self.try_install(now);
        }
    }

    /// Decides the new world once everybody who has to has reported.
    pub(super) fn try_install(&mut self, now: Duration) {
        let Phase::Preparing(p) = &self.phase else {
            return;
        };
        if !p.missing.is_empty() {
            return;
        }
        let mut missing: BTreeSet<WorkerId> = self.unreported(p).into_iter().collect();
        if !missing.is_empty() {
            // The shadow isn't waited for any more as soon as it is quiet.
            missing.retain(|w| self.pool.get(w).is_none_or(|n| !n.shadow));
            if let Phase::Preparing(p) = &mut self.phase {
                p.missing = missing;
            }
            return;
        }
        let p = p.clone();
        self.adopt_effective_change(&p.reports);
        let nothing = GenerationRecord::installed(Generation::NONE, Vec::new());
        let current = self.current.as_ref().unwrap_or(&nothing);
        let starting = self.current.is_none();
        let leaving = self
            .pool
            .iter()
            .filter(|(_, n)| n.leaving.is_some())
            .map(|(w, _)| *w)
            .collect();
        let outcome = reconcile(&Situation {
            generation: p.generation,
            current,
            reports: &p.reports,
            nodes: &self.directory(),
            leaving: &leaving,
            shadows: &self.shadows(),
            writer: self.next_writer(),
            admit: &self.admitted(current.paused),
            members_min: self.settings.members_min,
            members_max: self.settings.members_max,
            checkpoint: self.newest.as_ref().map_or(Round(0), |(_, round)| *round),
        });
        let enough = |plan: &Plan| !starting || plan.record.members.len() >= self.needed();
        match outcome {
            reconcile::Outcome::Install(plan) if enough(&plan) => self.install(now, plan, &p),
            // Some that were ready have left, or leave.
            reconcile::Outcome::Install(_) => self.lose_world(),
            reconcile::Outcome::Lost => self.lose_world(),
        }
    }

    /// A planned change that any process has entered is in force.
    fn adopt_effective_change(&mut self, reports: &BTreeMap<WorkerId, Holdings>) {
        let Some(pending) = &self.pending else { return };
        let number = pending.record.generation;
        if reports.values().any(|h| h.installed == number) {
            self.enter_change();
        }
    }

    fn install(&mut self, now: Duration, plan: Plan, p: &Preparing) {
        let Plan {
            record,
            recomputed,
            conflicting,
        } = plan;
        let before = self.current.replace(record.clone());
        self.pending = None;
        self.phase = Phase::Running;
        self.wait_until_entered();
        self.advanced = now;
        self.started = true;
        self.saving = None;
        self.persist();
        self.take_over_writing(before.as_ref().and_then(|r| r.writer));
        for worker in conflicting {
            let departure = Departure::Conflicting;
            self.note(Note::Suspicious(format!("worker {worker} {departure}")));
            let reason = ReleaseReason::Evicted(departure.to_string());
            self.send(worker, ToWorker::Release(reason));
            if let Some(Node { name, .. }) = self.forget(worker) {
                self.note(Note::Left {
                    worker,
                    name,
                    departure,
                });
            }
        }
        let here: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(_, n)| !n.released)
            .map(|(w, _)| *w)
            .collect();
        for worker in here {
            let joined = record.has(worker) && !before.as_ref().is_some_and(|r| r.has(worker));
            if let Some(node) = self.pool.get_mut(&worker) {
                node.accused = None;
                node.told = record.generation;
                node.approach = match (node.approach, node.source()) {
                    _ if record.has(worker) => Approach::Idle,
                    (Approach::Restoring | Approach::Idle, _) | (_, None) => Approach::Idle,
                    (Approach::Following { needs, .. }, Some(source)) => {
                        Approach::Following { source, needs }
                    }
                    (_, Some(source)) => Approach::Following {
                        source,
                        needs: None,
                    },
                };
            }
            self.send(worker, ToWorker::Install(record.clone()));
            if joined {
                self.note_joined(worker, record.generation);
            }
        }
        self.note(Note::Installed {
            record,
            cause: p.cause.clone(),
            recomputed,
        });
        self.after_change(now);
    }

    /// A worker tells where it is; that is how we learn that a planned change
    /// has taken effect, and that a leaver is no longer needed.
    pub(super) fn progress(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: Generation,
        round: Round,
    ) {
        self.advance(now, round);
        if let Some(node) = self.pool.get_mut(&worker) {
            node.progress = (generation, round);
        }
        self.note_where(worker, generation);
        let entered = self
            .pending
            .as_ref()
            .is_some_and(|p| p.record.generation == generation);
        if entered && matches!(self.phase, Phase::Running) {
            self.change_took_effect(now);
        }
        if matches!(self.phase, Phase::Running) {
            self.release_leavers();
            self.plan(now);
        }
    }
}
