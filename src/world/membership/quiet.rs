//! Members that fall silent while others wait for them: a host that vanished, a
//! process that is stopped, a network that swallows everything.
//!
//! Each worker speaks ten times a second, whatever it computes. One that is
//! quiet for longer than it ever is, and that others wait for, is asked whether it
//! lives; if it doesn't answer and has said nothing since, the others go on
//! without it. Nothing here looks at how long a round takes.

use super::*;

/// Between two ticks there is much less than this: if there isn't, it was us who
/// didn't listen.
const WE_SLEPT: Duration = Duration::from_millis(500);

impl World {
    /// A worker has said something.
    pub(super) fn heard(&mut self, now: Duration, worker: WorkerId) {
        if let Some(node) = self.pool.get_mut(&worker) {
            node.heard.word(now);
        }
    }

    /// After a pause of our own nobody's quiet means anything.
    pub(super) fn excuse_all_after_a_pause(&mut self, now: Duration) {
        let slept = now.saturating_sub(self.ticked) >= WE_SLEPT;
        self.ticked = now;
        if slept {
            self.pool
                .values_mut()
                .for_each(|node| node.heard.excuse(now));
        }
    }

    pub(super) fn is_quiet(&self, now: Duration, node: &Node) -> bool {
        node.heard.is_quiet(now, self.settings.patience)
    }

    /// Those that others wait for, if a world without them can be made.
    fn waited_for(&self, now: Duration) -> BTreeSet<WorkerId> {
        match &self.phase {
            Phase::Running => {
                let speaks = |w: &WorkerId| {
                    self.pool
                        .get(w)
                        .is_some_and(|n| n.session == Session::Open && !self.is_quiet(now, n))
                };
                let mut waited_for = match self.holding_up(now) {
                    hung::HeldUpBy::Members(idle) if self.each_world_has(speaks) => idle,
                    _ => BTreeSet::new(),
                };
                // Nobody waits for a shadow, but somebody has to write.
                waited_for.extend(self.current.as_ref().and_then(|r| r.writer));
                waited_for
            }
            Phase::Preparing(p) if self.each_world_has(|w| p.reports.contains_key(w)) => {
                self.unreported(p).into_iter().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Asks those that are quiet and waited for.
    pub(super) fn ask_the_quiet(&mut self, now: Duration) {
        let patience = self.settings.patience;
        for worker in self.waited_for(now) {
            let Some(node) = self.pool.get_mut(&worker) else {
                continue;
            };
            if node.session != Session::Open || !node.heard.is_quiet(now, patience) {
                continue;
            }
            if let Some(within) = node.heard.ask(patience) {
                let address = node.member.address.clone();
                self.out.push(Command::Probe {
                    worker,
                    address,
                    within,
                });
            }
        }
    }

    /// One that was asked because of its quiet has answered, or hasn't.
    pub(super) fn asked_quiet(&mut self, now: Duration, worker: WorkerId, probe: Probe) {
        let still_waited_for = self.waited_for(now).contains(&worker);
        let Some(node) = self.pool.get_mut(&worker) else {
            return;
        };
        if !node.heard.is_asked() {
            return; // it has spoken meanwhile
        }
        match probe {
            Probe::Silent if still_waited_for => self.evict(now, worker, Departure::Vanished),
            // If its host is there, what is quiet in it is another rule's.
            _ => node.heard.excuse(now),
        }
    }
}
