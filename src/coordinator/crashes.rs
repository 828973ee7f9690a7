//! Crashes that come again: the same error in the same round.
//!
//! Only what a process said of itself before it ended is a crash. A node that
//! vanished was preempted, however often: that costs it nothing here.

use std::collections::{BTreeMap, BTreeSet};

/// So often the same crash in the same round is met, and no more.
pub(super) const TIMES_MAX: u32 = 3;
/// Different crashes that are remembered, the oldest forgotten first.
const CRASHES_MAX: usize = 256;
/// Bytes of an error by which it is known.
const ERROR_LEN_MAX: usize = 512;

/// A node as it can be recognised: its name and its host.
pub(super) type NodeKey = (String, String);

/// One crash, and who met it.
#[derive(Clone, Debug)]
pub(super) struct Crash {
    /// Rounds applied before it.
    pub round: u64,
    pub error: String,
    by: BTreeMap<NodeKey, u32>,
}

/// What follows from a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may come back.
    Again,
    /// This node met it so often: it isn't taken in any more.
    Enough(u32),
    /// Everybody who was here met it, so often altogether: it is the job's.
    Everybodys(u32),
}

/// The crashes of this start of the coordinator.
#[derive(Debug, Default)]
pub(super) struct Crashes(Vec<Crash>);

impl Crashes {
    /// A node's process ends with this error in this round. `others` are here
    /// still; `passed` says whether anybody ever came past that round.
    pub fn crashed(
        &mut self,
        node: NodeKey,
        (round, error): (u64, &str),
        others: &BTreeSet<NodeKey>,
        passed: bool,
    ) -> Verdict {
        let error = head(error);
        let same = |c: &Crash| c.round == round && c.error == error;
        let crash = match self.0.iter().position(same) {
            Some(at) => &mut self.0[at],
            None => {
                if self.0.len() == CRASHES_MAX {
                    self.0.remove(0);
                }
                self.0.push(Crash {
                    round,
                    error,
                    by: BTreeMap::new(),
                });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        let its = crash.by.entry(node).or_default();
        *its += 1;
        let (its, all): (u32, u32) = (*its, crash.by.values().sum());
        let alike = others.iter().all(|other| crash.by.contains_key(other));
        if all >= TIMES_MAX && crash.by.len() > 1 && alike && !passed {
            Verdict::Everybodys(all)
        } else if its >= TIMES_MAX {
            Verdict::Enough(its)
        } else {
            Verdict::Again
        }
    }

    /// The crash for which a node isn't taken in any more, and how often it met it.
    pub fn of(&self, node: &NodeKey) -> Option<(&Crash, u32)> {
        let met = self.0.iter().filter_map(|c| Some((c, *c.by.get(node)?)));
        met.max_by_key(|(_, times)| *times)
            .filter(|(_, times)| *times >= TIMES_MAX)
    }
}

fn head(error: &str) -> String {
    let mut end = error.len().min(ERROR_LEN_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeKey {
        (name.to_owned(), "10.0.0.7".to_owned())
    }

    fn others(names: &[&str]) -> BTreeSet<NodeKey> {
        names.iter().map(|name| node(name)).collect()
    }

    #[test]
    fn the_third_same_crash_in_the_same_round_is_the_nodes_last() {
        let mut crashes = Crashes::default();
        let sound = others(&["sound"]);
        let mut crash = |round, error| crashes.crashed(node("a"), (round, error), &sound, false);
        assert_eq!(crash(30, "CUDA error"), Verdict::Again);
        assert_eq!(crash(31, "CUDA error"), Verdict::Again, "another round");
        assert_eq!(crash(30, "no space left"), Verdict::Again, "another error");
        assert_eq!(crash(30, "CUDA error"), Verdict::Again);
        assert_eq!(crash(30, "CUDA error"), Verdict::Enough(3));
        let (crash, times) = crashes.of(&node("a")).unwrap();
        assert_eq!(
            (crash.round, crash.error.as_str(), times),
            (30, "CUDA error", 3)
        );
        assert!(crashes.of(&node("b")).is_none());
    }

    #[test]
    fn a_crash_that_everybody_meets_is_the_jobs() {
        let mut crashes = Crashes::default();
        let mut crash = |name, left: &[&str]| {
            crashes.crashed(node(name), (30, "disk full"), &others(left), false)
        };
        assert_eq!(crash("a", &["b"]), Verdict::Again);
        assert_eq!(crash("b", &[]), Verdict::Again, "twice may be chance");
        assert_eq!(crash("a", &["b"]), Verdict::Everybodys(3));
    }

    #[test]
    fn somebody_who_has_not_met_it_or_came_past_it_clears_the_job() {
        let mut crashes = Crashes::default();
        let mut crash = |name, left: &[&str], passed| {
            crashes.crashed(node(name), (30, "disk full"), &others(left), passed)
        };
        crash("a", &["b"], false);
        crash("b", &[], false);
        assert_eq!(crash("a", &["b", "c"], false), Verdict::Again);
        assert_eq!(crash("b", &[], true), Verdict::Again);
        assert_eq!(crash("b", &[], true), Verdict::Enough(3));
    }

    #[test]
    fn a_long_error_is_known_by_its_beginning() {
        let mut crashes = Crashes::default();
        for end in ["1", "2", "3"] {
            let error = "ä".repeat(400) + end;
            crashes.crashed(node("a"), (1, &error), &others(&[]), false);
        }
        assert!(crashes.of(&node("a")).is_some());
    }
}
