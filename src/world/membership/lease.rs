//! When somebody who says nothing may be given up.
//!
//! A member that the coordinator doesn't hear may train on, with the others or
//! alone, for as long as its operator allows (`--reconnect-timeout`). While one
//! member answers, the others are no danger: once that one is fenced, nothing
//! of theirs is complete without it. When none does, a second world beside
//! theirs begins only when they must have stopped, or are known to be dead.

use super::*;

/// From the break of a connection until the other end must have noticed: the
/// keep-alives of both kinds of connection take 15 seconds at most.
const NOTICED_AFTER: Duration = Duration::from_secs(20);

impl World {
    /// After so long without a word a worker trains no more.
    pub(super) fn lease(&self) -> Duration {
        self.settings.patience.max(self.trains_on + NOTICED_AFTER)
    }

    /// Whether the world in force, and the one that a planned change may have
    /// put in its place, each have a member for which this holds. If those are
    /// stopped, neither goes on. A newcomer of the planned one alone stops
    /// nothing.
    pub(super) fn each_world_has(&self, which: impl Fn(&WorkerId) -> bool) -> bool {
        let told = self.pending.iter().filter(|p| p.unconfirmed.is_empty());
        let mut worlds = self.current.iter().chain(told.map(|p| &p.record));
        worlds.all(|r| r.members.is_empty() || r.members.iter().any(|m| which(&m.id)))
    }

    /// Whether all that may still train can be stopped.
    pub(super) fn reaches_one(&self) -> bool {
        let open = |w: &WorkerId| self.pool.get(w).is_some_and(|n| n.session == Session::Open);
        self.each_world_has(open)
    }

    /// Workers without a session that are waited for no longer.
    pub(super) fn silent(&mut self, now: Duration) -> Vec<WorkerId> {
        let patience = self.settings.patience;
        let broken = self.pool.iter().filter_map(|(w, n)| match n.session {
            Session::Broken { since } => Some((*w, since)),
            Session::Open => None,
        });
        // While rounds are completed a member lives, whoever can't hear it.
        let trains =
            matches!(self.phase, Phase::Running) && now.saturating_sub(self.advanced) < patience;
        let reaches_one = self.reaches_one();
        if !reaches_one {
            self.unheard = now;
        }
        let limit = |worker: &WorkerId| match self.is_required(*worker) {
            true if trains => None,
            true if !reaches_one => Some((Duration::ZERO, self.lease())),
            // Where all were out of reach, one is back before the others.
            _ => Some((self.unheard, patience)),
        };
        let silent = |worker: &WorkerId, since: Duration| {
            limit(worker).is_some_and(|(from, limit)| now.saturating_sub(since.max(from)) >= limit)
        };
        broken
            .filter(|(worker, since)| silent(worker, *since))
            .map(|(worker, _)| worker)
            .collect()
    }

    /// While nobody is heard, it is asked again and again who lives: whoever is
    /// known to be dead isn't waited for.
    pub(super) fn ask_the_silent(&mut self, now: Duration) {
        let waits = now.saturating_sub(self.asked) < self.settings.patience;
        if waits || self.current.is_none() || self.reaches_one() {
            return;
        }
        self.asked = now;
        for worker in self.required() {
            if let Some(node) = self.pool.get(&worker) {
                let address = node.member.address.clone();
                self.probe(worker, address);
            }
        }
    }

    /// Whether those who have not reported are to be given up: they had their
    /// time, and somebody who has reported is fenced, or they had all of it.
    pub(super) fn is_unanswered(&self, now: Duration, p: &Preparing) -> bool {
        let waited = now.saturating_sub(p.since);
        let fenced = self.each_world_has(|w| p.reports.contains_key(w));
        let limit = match fenced || self.current.is_none() {
            true => self.settings.patience,
            false => self.lease(),
        };
        waited >= limit
    }
}
