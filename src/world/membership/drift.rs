//! Members that hold different states: a bit that flipped in somebody's memory.
//!
//! Who drifted has put wrong gradients into the sums since, and all have applied
//! them: everybody goes back to the last checkpoint at which the states agreed,
//! and those after it are thrown away. A majority says at once who it was. Of
//! two nobody can; if one of them held what the repetition then comes to, it was
//! the other.

use serde::{Deserialize, Serialize};

use super::*;

/// So often the same stretch may end in different states; then it is no chance.
const TIMES_MAX: u32 = 3;

/// A state, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldState {
    /// The chain of its digests, in hexadecimal.
    pub chain: String,
    /// Who.
    pub by: Vec<WorkerId>,
}

/// States that differ after a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The round.
    pub round: Round,
    /// The last one after which all are known to have held the same.
    pub agreed: Round,
    /// The different states.
    pub states: Vec<HeldState>,
}

impl Drift {
    /// Those that don't hold what most hold; nobody if no state has a majority.
    fn minority(&self) -> BTreeSet<WorkerId> {
        let all: usize = self.states.iter().map(|s| s.by.len()).sum();
        let right = self.states.iter().find(|s| s.by.len() * 2 > all);
        right.map_or_else(BTreeSet::new, |right| self.all_but(&right.chain))
    }

    fn all_but(&self, chain: &str) -> BTreeSet<WorkerId> {
        let others = self.states.iter().filter(|s| s.chain != chain);
        others.flat_map(|s| s.by.iter().copied()).collect()
    }
}

/// What is remembered of states that differed.
#[derive(Clone, Debug, Default)]
pub(super) struct Drifts {
    /// Nobody knows yet who was right.
    disputed: Option<Drift>,
    /// How far the last one was noticed, and how often before that round was passed.
    last: (Round, u32),
}

impl World {
    /// A member has seen that the members' states differ.
    pub(super) fn drifted(&mut self, now: Duration, by: WorkerId, drift: Drift) {
        let member = self.current.as_ref().is_some_and(|r| r.has(by));
        if !member || !matches!(self.phase, Phase::Running | Phase::Preparing(_)) {
            return; // told before, by another
        }
        let culprits = drift.minority();
        let (back_to, round) = (drift.agreed, drift.round);
        self.note(Note::Drifted {
            drift: drift.clone(),
            culprits: culprits.clone(),
        });
        let (last, times) = self.drifts.last;
        let times = if round <= last { times + 1 } else { 1 };
        self.drifts.last = (round, times);
        if times >= TIMES_MAX {
            return self.job_failed(format!(
                "the members' states differ after round {round}, for the {times}rd time: \
                 this must never be; see state_mismatch in events.jsonl, and report the fault"
            ));
        }
        // What members of the world before say from now on is not of the next.
        self.next_number();
        self.go_back = Some(back_to);
        self.newest.take_if(|(_, at)| *at > back_to);
        self.reached = back_to;
        self.clear_world();
        self.drifts.disputed = Some(drift).filter(|_| culprits.is_empty());
        for worker in culprits {
            self.send_away(now, worker);
        }
        match self.stopping {
            true => self.end(ReleaseReason::Stopped, Outcome::Stopped),
            false => self.find_start(),
        }
    }

    fn send_away(&mut self, now: Duration, worker: WorkerId) {
        if let Some(node) = self.pool.get(&worker).cloned() {
            self.count_loss(now, &node);
            self.evict(now, worker, Departure::Drifted);
        }
    }

    /// The state after a round, as all hold it now. If it is a disputed one,
    /// those that held another have been wrong.
    pub(super) fn repeated(&mut self, now: Duration, round: Round, chain: &str) {
        let Some(drift) = self.drifts.disputed.take_if(|d| d.round <= round) else {
            return;
        };
        let confirmed = drift.states.iter().any(|s| s.chain == chain);
        if drift.round != round || !confirmed {
            return; // all of them had been wrong by then
        }
        let culprits = drift.all_but(chain);
        self.note(Note::Drifted {
            drift,
            culprits: culprits.clone(),
        });
        for worker in culprits {
            self.send_away(now, worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(states: &[&[u64]]) -> Drift {
        let held = |(n, by): (usize, &&[u64])| HeldState {
            chain: n.to_string(),
            by: by.iter().map(|w| WorkerId(*w)).collect(),
        };
        Drift {
            round: Round(20),
            agreed: Round(10),
            states: states.iter().enumerate().map(held).collect(),
        }
    }

    #[test]
    fn who_holds_another_state_than_most_has_drifted() {
        let minority = |states: &[&[u64]]| -> Vec<u64> {
            drift(states).minority().iter().map(|w| w.0).collect()
        };
        assert_eq!(minority(&[&[1, 3], &[2]]), [2]);
        assert_eq!(minority(&[&[4], &[1, 2, 3], &[5]]), [4, 5]);
        assert_eq!(minority(&[&[1], &[2]]), [0; 0], "one of two");
        assert_eq!(minority(&[&[1, 2], &[3, 4]]), [0; 0]);
    }
}
