//! Members that hold different states: a bit that flipped in somebody's memory.
//!
//! Who drifted has put wrong gradients into the sums since, and all have applied
//! them: everybody goes back to the last checkpoint at which the states agreed,
//! and those after it are thrown away. A majority says at once who it was. Of
//! two nobody can; if one of them held what the repetition then comes to, it was
//! the other.

use serde::{Deserialize, Serialize};

use super::shadowed::Shadowed;
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

/// Members have compared their states after a round, and hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The round.
    pub round: Round,
    /// The chain of the state's digests, in hexadecimal.
    pub chain: String,
    /// How many members hold it.
    pub members: usize,
    /// What the member's contributions came to in rounds that it did again.
    pub repeated: Option<Repeated>,
}

/// How what a member contributes to rounds that are done again compares with
/// what it contributed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// Up to this round it was the same.
    pub to: Round,
    /// In the next one it was not. If that is false, they could not be compared.
    pub differs: bool,
}

/// States that differed, and nobody knows yet who was right.
#[derive(Clone, Debug)]
struct Dispute {
    drift: Drift,
    /// What the shares of the world were made by that drifted.
    weights: BTreeMap<WorkerId, u32>,
    /// What was said of the rounds since they were done again.
    said: BTreeMap<WorkerId, Option<Repeated>>,
}

impl Dispute {
    fn suspects(&self) -> impl Iterator<Item = WorkerId> {
        self.drift.states.iter().flat_map(|s| s.by.iter().copied())
    }

    /// Who is wrong, now that all who are left hold what was disputed or later.
    fn culprits(&self, agreed: &Agreed) -> BTreeSet<WorkerId> {
        let confirmed = |s: &HeldState| s.chain == agreed.chain;
        if agreed.round == self.drift.round && self.drift.states.iter().any(confirmed) {
            return self.drift.all_but(&agreed.chain);
        }
        // Wrong was who first contributed something else than before, while the
        // others still contributed the same.
        let repeated = |w: WorkerId| self.said.get(&w).copied().flatten();
        let differ = |w: &WorkerId| repeated(*w).is_some_and(|r| r.differs);
        let is_first = |w: &WorkerId| {
            let mut others = self.suspects().filter(|other| other != w);
            others.all(|other| repeated(other).map(|r| r.to) > repeated(*w).map(|r| r.to))
        };
        self.suspects().filter(differ).filter(is_first).collect()
    }
}

/// What is remembered of states that differed.
#[derive(Clone, Debug, Default)]
pub(super) struct Drifts {
    pub(super) shadowed: Shadowed,
    disputed: Option<Dispute>,
    /// Who was in the world that went back, or shadowed it, until the next one
    /// begins; and to where.
    back: BTreeSet<WorkerId>,
    back_to: Round,
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
        let members = self.current.iter().flat_map(|r| &r.members);
        let dispute = Dispute {
            drift,
            weights: members.map(|m| (m.id, m.weight)).collect(),
            said: BTreeMap::new(),
        };
        self.take_back(dispute.weights.keys().copied().collect(), back_to);
        // What members of the world before say from now on is not of the next.
        self.next_number();
        self.go_back = Some(back_to);
        self.clear_world();
        // What one member and the shadow hold is done again by that one alone.
        let can_show = culprits.is_empty() && dispute.weights.len() > 1;
        self.drifts.disputed = Some(dispute).filter(|_| can_show);
        for worker in culprits {
            self.send_away(now, worker);
        }
        match self.stopping {
            true => self.end(ReleaseReason::Stopped, Outcome::Stopped),
            false => self.find_start(),
        }
    }

    /// What was done after this round doesn't count any more, for anybody.
    fn take_back(&mut self, members: BTreeSet<WorkerId>, to: Round) {
        self.newest.take_if(|(_, at)| *at > to);
        self.reached = to;
        for (worker, node) in &mut self.pool {
            node.progress.1 = node.progress.1.min(to);
            if node.shadow {
                self.drifts.back.insert(*worker);
            }
        }
        self.drifts.back.extend(members);
        self.drifts.back_to = to;
        self.drifts.shadowed.goes_back(to);
    }

    /// A checkpoint after the round to which all go back. A shadow doesn't know
    /// that the state has drifted until it is told to restore another one.
    pub(super) fn is_of_a_state_that_drifted(&mut self, by: WorkerId, round: Round) -> bool {
        let going = |node: &Node| !matches!(node.approach, Approach::Ready { .. });
        let late = self.drifts.back.contains(&by) && self.pool.get(&by).is_some_and(going);
        let limit = self.go_back.or(late.then_some(self.drifts.back_to));
        let is_of_it = limit.is_some_and(|limit| round > limit);
        if is_of_it && self.go_back.is_none() && matches!(self.phase, Phase::Gathering { .. }) {
            // It came after those that were thrown away.
            self.go_back = limit;
            self.persist();
            self.look_for_start();
        }
        is_of_it
    }

    fn send_away(&mut self, now: Duration, worker: WorkerId) {
        if let Some(node) = self.pool.get(&worker).cloned() {
            self.count_loss(now, &node);
            self.evict(now, worker, Departure::Drifted);
        }
    }

    /// Members have compared what they hold after a round, and it is the same. If
    /// that round was disputed, the rounds before it show who was wrong. What one
    /// member alone comes to, or holds before it was compared, shows nothing: that
    /// member may be the one that can't be trusted.
    pub(super) fn agreed(&mut self, now: Duration, by: WorkerId, agreed: &Agreed) {
        self.members_hold(now, by, agreed);
        if agreed.members < 2 {
            return;
        }
        let Some(dispute) = &mut self.drifts.disputed else {
            return;
        };
        if agreed.round < dispute.drift.round {
            return;
        }
        let said = dispute.said.entry(by).or_default();
        *said = said.or(agreed.repeated);
        let culprits = dispute.culprits(agreed);
        let said = |w| dispute.said.contains_key(&w) || !self.pool.contains_key(&w);
        if culprits.is_empty() && !dispute.suspects().all(said) {
            return; // not all have said yet what they did again
        }
        let Some(Dispute { drift, .. }) = self.drifts.disputed.take() else {
            return;
        };
        if culprits.is_empty() {
            return;
        }
        self.note(Note::Drifted {
            drift,
            culprits: culprits.clone(),
        });
        for worker in culprits {
            self.send_away(now, worker);
        }
    }

    /// Those who hold different states, if all of them are still here.
    fn dispute(&self) -> Option<&Dispute> {
        let dispute = self.drifts.disputed.as_ref()?;
        let here = dispute.suspects().all(|w| self.pool.contains_key(&w));
        here.then_some(dispute)
    }

    /// Rounds are done again by those that did them, in the shares that they had.
    pub(super) fn weights_in_dispute(&self) -> Option<&BTreeMap<WorkerId, u32>> {
        self.dispute().map(|dispute| &dispute.weights)
    }

    /// Who went back together goes on together: of two, one alone could not show
    /// who of them was wrong.
    pub(super) fn all_who_went_back_are_ready(&self, start: Round) -> bool {
        let here = self.drifts.back.iter().filter_map(|w| self.pool.get(w));
        let is_ready =
            |n: &Node| matches!(n.approach, Approach::Ready { round, .. } if round == start);
        here.filter(|n| n.available()).all(is_ready)
    }

    /// Whether it has to leave its state for the one that all go back to.
    pub(super) fn goes_back(&self, worker: WorkerId) -> bool {
        self.drifts.back.contains(&worker)
    }

    /// A world begins.
    pub(super) fn nobody_is_awaited(&mut self) {
        self.drifts.back.clear();
        self.drifts.shadowed.forget();
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
