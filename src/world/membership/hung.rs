//! Members that hold the others up with their session open: a stuck device, a
//! stopped process that somebody keeps connected, a node that is far too slow.

use super::*;

/// A round that takes so many times the longest of the last ones is stuck.
const TIMES_THE_LONGEST: u32 = 10;
/// So many are the last ones.
const RECENT: usize = 16;
/// What members say of themselves is so old at most: what has looked alike for
/// longer is no glimpse of messages under way.
const OUTDATED_AFTER: Duration = Duration::from_secs(3);
/// Before the first round is finished nobody knows how long one takes.
const PATIENCE_AT_FIRST: u32 = 10;
/// From when on people are told whom a round waits for.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Why the round in hand isn't finished.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HeldUpBy {
    /// Nobody lacks anything, as far as they have said.
    Nobody,
    /// These have not sent their part.
    Members(BTreeSet<WorkerId>),
    /// All of these have sent theirs, and lack another's.
    EachOther(BTreeSet<WorkerId>),
}

impl World {
    /// Somebody has applied so many rounds.
    pub(super) fn advance(&mut self, now: Duration, round: Round) {
        if round > self.reached {
            if matches!(self.phase, Phase::Running) {
                self.recent.truncate(RECENT - 1);
                self.recent.push_front(now.saturating_sub(self.advanced));
            }
            (self.reached, self.advanced) = (round, now);
        }
    }

    /// Whom the members wait for, and of those who wait for nobody themselves.
    /// If there are only the former, they wait in a circle: for each other.
    pub(super) fn holding_up(&self, now: Duration) -> HeldUpBy {
        let members = self.current.iter().flat_map(|r| &r.members);
        let nodes: Vec<(WorkerId, &Node)> = members
            .filter_map(|m| Some((m.id, self.pool.get(&m.id)?)))
            .collect();
        // What one said before it fell silent is not what it waits for now.
        let waiting: Vec<&(WorkerId, &Node)> = nodes
            .iter()
            .filter(|(_, n)| !n.awaits.is_empty() && !self.is_quiet(now, n))
            .collect();
        let awaited: BTreeSet<WorkerId> = waiting
            .iter()
            .flat_map(|(_, n)| n.awaits.iter().copied())
            .collect();
        let waits: BTreeSet<WorkerId> = waiting.iter().map(|(w, _)| *w).collect();
        let idle: BTreeSet<WorkerId> = awaited
            .iter()
            .copied()
            .filter(|w| !waits.contains(w))
            .collect();
        match idle.is_empty() {
            false => HeldUpBy::Members(idle),
            true if awaited.is_empty() => HeldUpBy::Nobody,
            true => HeldUpBy::EachOther(awaited),
        }
    }

    /// Whom the round waits for, if it takes long enough for people to ask.
    pub(super) fn held_up_by(&self, now: Duration) -> HeldUpBy {
        match now.saturating_sub(self.advanced) >= TOLD_AFTER {
            true => self.holding_up(now),
            false => HeldUpBy::Nobody,
        }
    }

    /// Whoever holds the others up far beyond what rounds take, and finishes no
    /// micro-batch meanwhile, goes; its share is computed by them. Members that wait for each other have lost
    /// something on the way: they exchange the round anew, from what they hold.
    pub(super) fn end_standstill(&mut self, now: Duration) {
        let patience = self.settings.patience;
        let limit = match self.recent.iter().max() {
            None => patience * PATIENCE_AT_FIRST,
            Some(longest) => patience.max(longest.saturating_mul(TIMES_THE_LONGEST)),
        };
        let held_up = self.holding_up(now);
        if held_up != self.held_up.0 {
            self.held_up = (held_up.clone(), now);
        }
        let lasts = now.saturating_sub(self.held_up.1) >= OUTDATED_AFTER;
        if !lasts || now.saturating_sub(self.advanced) < limit {
            return;
        }
        match held_up {
            HeldUpBy::Nobody => {}
            HeldUpBy::Members(idle) => {
                for worker in idle {
                    let worked = self.pool.get(&worker).map_or(Duration::ZERO, |n| n.worked);
                    if now.saturating_sub(worked) >= limit {
                        self.evict(now, worker, Departure::Hung);
                    }
                }
            }
            HeldUpBy::EachOther(members) => self.prepare(now, Cause::Standstill(members)),
        }
    }
}
