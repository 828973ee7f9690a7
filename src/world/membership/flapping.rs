//! Nodes that come and are lost again and again.
//!
//! Each loss of a member makes the others stop, reconcile and compute its share
//! again. So a node that has been lost more than once lately is taken in with
//! growing patience: it follows, and becomes a member some seconds later. Where
//! nobody else trains nobody waits, and who left with notice has done nothing
//! wrong.

use super::*;

/// One loss is no flapping.
const FREE: u32 = 1;
/// How long it waits after the first loss that counts; twice as long after each
/// further one, up to the longest.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A node that wasn't lost for so long starts anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Nodes that are remembered.
const NODES_MAX: usize = 4096;

/// A node as it can be recognised: its name and its host.
type Origin = (String, String);

#[derive(Clone, Copy, Debug)]
struct Losses {
    count: u32,
    last: Duration,
}

/// What is remembered of nodes that were lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Flapping {
    lost: BTreeMap<Origin, Losses>,
    /// Newcomers that are no members yet, and until when.
    waits: BTreeMap<WorkerId, Duration>,
}

impl Flapping {
    /// A member that came at this time was lost without notice. Processes of a
    /// node that were here together are one loss.
    fn lost(&mut self, now: Duration, node: Origin, came: Duration) {
        let lately = |l: &Losses| now.saturating_sub(l.last) < FORGOTTEN_AFTER;
        if self.lost.get(&node).is_some_and(|losses| !lately(losses)) {
            self.lost.remove(&node);
        }
        let is_new = !self.lost.contains_key(&node);
        if is_new && self.lost.len() >= NODES_MAX {
            self.lost.retain(|_, losses| lately(losses));
        }
        if is_new && self.lost.len() >= NODES_MAX {
            return; // a fleet in which everybody is lost has other troubles
        }
        let known = self.lost.entry(node).or_insert(Losses {
            count: 0,
            last: now,
        });
        if known.count == 0 || came >= known.last {
            known.count += 1;
        }
        known.last = now;
    }

    /// How often a node was lost lately, and how long it has to wait for that.
    fn patience(&self, now: Duration, node: &Origin) -> Option<(u32, Duration)> {
        let losses = self.lost.get(node)?;
        let lately = now.saturating_sub(losses.last) < FORGOTTEN_AFTER;
        let beyond = losses.count.checked_sub(FREE + 1).filter(|_| lately)?;
        let wait = WAIT.saturating_mul(1 << beyond.min(16)).min(WAIT_MAX);
        Some((losses.count, wait))
    }
}

fn origin(name: &str, member: &Member) -> Origin {
    let host = member.address.rsplit_once(':').map_or("", |(host, _)| host);
    (name.to_owned(), host.to_owned())
}

impl World {
    /// A member is gone without notice.
    pub(super) fn count_loss(&mut self, now: Duration, node: &Node) {
        let origin = origin(&node.name, &node.member);
        self.flapping.lost(now, origin, node.came);
    }

    /// A newcomer is here. While others train, one that flaps has to wait.
    pub(super) fn make_wait(&mut self, now: Duration, worker: WorkerId) {
        let trains = self.current.as_ref().is_some_and(|r| !r.members.is_empty());
        let Some(node) = self.pool.get(&worker).filter(|_| trains) else {
            return;
        };
        let origin = origin(&node.name, &node.member);
        if let Some((losses, wait)) = self.flapping.patience(now, &origin) {
            self.flapping.waits.insert(worker, now + wait);
            self.note(Note::Flapping {
                worker,
                name: origin.0,
                losses,
                wait,
            });
        }
    }

    /// Whether it may not become a member yet.
    pub(super) fn is_waiting(&self, worker: WorkerId) -> bool {
        let here = |r: &GenerationRecord| r.members.iter().any(|m| self.pool.contains_key(&m.id));
        // If no member is left, the one that flaps is better than nobody.
        self.flapping.waits.contains_key(&worker) && self.current.as_ref().is_some_and(here)
    }

    /// For how long a worker that flaps is not taken in yet.
    pub fn waits_for(&self, now: Duration, worker: WorkerId) -> Option<Duration> {
        let until = self.flapping.waits.get(&worker)?;
        Some(until.saturating_sub(now))
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget_wait(&mut self, worker: WorkerId) {
        self.flapping.waits.remove(&worker);
    }

    /// Nobody trains: whoever comes is welcome.
    pub(super) fn end_all_waits(&mut self) {
        self.flapping.waits.clear();
    }

    /// Takes in whoever has waited long enough.
    pub(super) fn end_waits(&mut self, now: Duration) {
        let before = self.flapping.waits.len();
        self.flapping.waits.retain(|_, until| *until > now);
        if self.flapping.waits.len() < before {
            self.settled = false;
            self.plan(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Origin {
        (name.to_owned(), "10.0.0.7".to_owned())
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn each_loss_after_the_first_doubles_the_wait_up_to_a_limit() {
        let mut flapping = Flapping::default();
        let mut waits = Vec::new();
        for loss in 1..=9 {
            flapping.lost(seconds(loss * 10), node("spot"), seconds(loss * 10 - 5));
            let patience = flapping.patience(seconds(loss * 10 + 1), &node("spot"));
            waits.push(patience.map_or(0, |(_, wait)| wait.as_secs()));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(flapping.patience(seconds(91), &node("another")), None);
    }

    #[test]
    fn a_node_that_has_held_long_enough_starts_anew() {
        let mut flapping = Flapping::default();
        for loss in 0..5 {
            flapping.lost(seconds(loss * 10), node("spot"), seconds(loss * 10));
        }
        assert!(flapping.patience(seconds(600), &node("spot")).is_some());
        assert_eq!(flapping.patience(seconds(640), &node("spot")), None);
        flapping.lost(seconds(700), node("spot"), seconds(650));
        assert_eq!(flapping.patience(seconds(700), &node("spot")), None);
    }

    #[test]
    fn processes_of_a_node_that_go_together_are_one_loss() {
        let mut flapping = Flapping::default();
        for process in 0..8 {
            flapping.lost(seconds(5 + process), node("gpus"), seconds(1));
        }
        assert_eq!(flapping.patience(seconds(13), &node("gpus")), None);
    }
}
