//! Members that get damaged frames: where the damage comes from.
//!
//! Both ends of a bad line see their connection break, but only who got the
//! damage knows why. So that is noted whatever the world is doing just then,
//! and looked up when a connection breaks again.

use std::cmp::Ordering;

use super::*;

/// What a connection is given to come about: to be accepted, and to shake hands.
const DIALLING: Duration = Duration::from_secs(10);

impl World {
    /// Worker `by` got a damaged frame from `peer`.
    pub(super) fn note_garbled(&mut self, now: Duration, by: WorkerId, peer: WorkerId) {
        self.garbled.insert((by, peer), now);
    }

    /// Whether `by` lately got damaged frames from `peer`.
    fn got_garbled(&self, now: Duration, by: WorkerId, peer: WorkerId) -> bool {
        let since = self.garbled.get(&(by, peer));
        since.is_some_and(|since| now.saturating_sub(*since) <= self.breaks_remembered_for())
    }

    /// For how long a break counts as one of several. However short the patience:
    /// two that swallow each other's packets notice it only when a connection has
    /// had its time to come about.
    pub(super) fn breaks_remembered_for(&self) -> Duration {
        self.settings.patience.max(DIALLING * 3)
    }

    /// With how many others this one lately exchanged damaged frames.
    fn garbled_with(&self, now: Duration, worker: WorkerId) -> usize {
        let lately = self.garbled.keys();
        let lately = lately.filter(|(by, peer)| self.got_garbled(now, *by, *peer));
        let others: BTreeSet<WorkerId> = lately
            .filter_map(|(by, peer)| match worker {
                _ if worker == *by => Some(*peer),
                _ if worker == *peer => Some(*by),
                _ => None,
            })
            .collect();
        others.len()
    }

    /// Why the connection of these two broke.
    pub(super) fn cause_of_break(&self, now: Duration, by: WorkerId, peer: WorkerId) -> Cause {
        let got = |by, peer| self.got_garbled(now, by, peer);
        match (got(by, peer), got(peer, by)) {
            (true, _) => Cause::Garbled { by, peer },
            (false, true) => Cause::Garbled { by: peer, peer: by },
            (false, false) => Cause::Disconnected(by, peer),
        }
    }

    /// Which of two goes that lost each other again, and why. If frames came
    /// damaged: the one where they do with more of the others; else who sent
    /// them. If not, or if both did: the later one; but not the one that has the
    /// sum which others still need, which would leave them behind.
    pub(super) fn culprit(&self, now: Duration, a: WorkerId, b: WorkerId) -> (WorkerId, Departure) {
        let (earlier, later) = (a.min(b), a.max(b));
        let of_earlier = self.got_garbled(now, later, earlier);
        let of_later = self.got_garbled(now, earlier, later);
        if !of_earlier && !of_later {
            let source = self.current.as_ref().and_then(|r| r.source.as_ref());
            return match source.is_some_and(|m| m.id == later) {
                true => (earlier, Departure::CutOff { from: later }),
                false => (later, Departure::CutOff { from: earlier }),
            };
        }
        let others = |worker| self.garbled_with(now, worker);
        let is_earlier = match others(earlier).cmp(&others(later)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => of_earlier && !of_later,
        };
        match is_earlier {
            true => (earlier, Departure::Garbled { with: later }),
            false => (later, Departure::Garbled { with: earlier }),
        }
    }
}
