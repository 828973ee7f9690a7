//! Whether a member that does rounds again contributes what it did before.
//!
//! When states differ, everybody goes back to where they were the same and does
//! the rounds again. A member whose state was right until then contributes the
//! same as the first time; the first one that doesn't held a wrong state then.
//! From the round after that all do, as all have applied its wrong gradients. So
//! it is by the first difference that the coordinator tells who it was.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::exact::{MicroBatchSet, SumDigest};
use crate::world::membership::Repeated;
use crate::world::{Round, WorkerId};

/// Rounds that are remembered: those since members last compared their states.
const ROUNDS_MAX: usize = 4096;

/// What we contributed to a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contribution {
    /// Stands for the members in their order and for our micro-batches: only what
    /// is alike in both can be compared.
    pub work: u64,
    /// The name of our partial sum.
    pub sum: SumDigest,
}

impl Contribution {
    pub fn new(members: &[WorkerId], micro_batches: &MicroBatchSet, sum: SumDigest) -> Self {
        let mut hasher = DefaultHasher::new();
        members.hash(&mut hasher);
        micro_batches.iter().for_each(|m| m.hash(&mut hasher));
        let work = hasher.finish();
        Contribution { work, sum }
    }
}

/// What we contributed, and what we had when we were sent back.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    latest: BTreeMap<u64, Contribution>,
    before: BTreeMap<u64, Contribution>,
    repeated: Option<Repeated>,
    /// We wait to be sent back.
    differ: bool,
    /// Each round since we went back was compared, and was the same.
    goes_on: bool,
}

impl Repeats {
    /// We contribute this to a round.
    pub fn contributed(&mut self, round: u64, ours: Contribution) {
        if self.latest.len() == ROUNDS_MAX {
            self.latest.pop_first();
        }
        self.latest.insert(round, ours);
        let Some(repeated) = self.repeated.as_mut().filter(|_| self.goes_on) else {
            return;
        };
        if round <= repeated.to.0 {
            return; // not in question, or the exchange of a round once more
        }
        let first = self.before.get(&round).filter(|b| b.work == ours.work);
        match first.filter(|_| round == repeated.to.0 + 1) {
            Some(first) if first.sum == ours.sum => repeated.to = Round(round),
            Some(_) => (repeated.differs, self.goes_on) = (true, false),
            None => self.goes_on = false,
        }
    }

    /// Members hold different states; we are about to be sent back.
    pub fn states_differ(&mut self) {
        let latest = std::mem::take(&mut self.latest);
        if std::mem::replace(&mut self.differ, true) {
            // Found once more, as nobody who could send us back had heard of it.
            self.before.extend(latest);
        } else {
            self.before = latest;
        }
    }

    /// We go on from the state after this round.
    pub fn restored(&mut self, round: u64) {
        self.latest.clear();
        self.differ = false;
        // The checkpoint may be of long before; until the first round that is
        // remembered all members were found to hold the same.
        let first = self.before.keys().next();
        self.goes_on = first.is_some();
        self.repeated = first.map(|first| Repeated {
            to: Round(round.max(first - 1)),
            differs: false,
        });
    }

    /// All members hold the same after this round. What the rounds that we did
    /// again came to, if we did.
    pub fn agreed(&mut self, round: u64) -> Option<Repeated> {
        self.latest = self.latest.split_off(&(round + 1));
        let repeated = self.repeated;
        // The comparison rides with the contribution to the next round.
        if self.before.keys().all(|known| *known <= round + 1) {
            self.before.clear();
            self.repeated = None;
        }
        repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(members: &[u64], sum: u64) -> Contribution {
        let members: Vec<WorkerId> = members.iter().map(|w| WorkerId(*w)).collect();
        let sum = SumDigest::from_bits(sum).unwrap();
        Contribution::new(&members, &MicroBatchSet::new(), sum)
    }

    /// Rounds 11 to 14 were contributed to, and all go back to round 10.
    fn sent_back() -> Repeats {
        let mut repeats = Repeats::default();
        repeats.contributed(10, of(&[1, 2], 100));
        assert_eq!(repeats.agreed(10), None);
        for round in 11..=14 {
            repeats.contributed(round, of(&[1, 2], round));
        }
        repeats.states_differ();
        repeats.restored(10);
        repeats
    }

    fn repeated(to: u64, differs: bool) -> Option<Repeated> {
        let to = Round(to);
        Some(Repeated { to, differs })
    }

    #[test]
    fn who_contributes_the_same_again_says_how_far() {
        let mut repeats = sent_back();
        for round in [11, 11, 12, 13, 14] {
            repeats.contributed(round, of(&[1, 2], round));
        }
        assert_eq!(repeats.agreed(13), repeated(14, false));
        assert_eq!(repeats.agreed(20), None, "it is said");
    }

    #[test]
    fn rounds_before_those_in_question_say_nothing() {
        let mut repeats = sent_back();
        repeats.restored(5);
        for round in [6, 7, 8, 9, 10, 11, 12] {
            repeats.contributed(round, of(&[1, 2], round));
        }
        repeats.contributed(13, of(&[1, 2], 99));
        assert_eq!(repeats.agreed(13), repeated(12, true));
    }

    #[test]
    fn the_first_contribution_that_differs_is_the_one_that_counts() {
        let mut repeats = sent_back();
        for (round, sum) in [(11, 11), (12, 12), (13, 99), (14, 98)] {
            repeats.contributed(round, of(&[1, 2], sum));
        }
        assert_eq!(repeats.agreed(12), repeated(12, true));
        assert_eq!(repeats.agreed(20), repeated(12, true));
    }

    #[test]
    fn rounds_of_other_members_or_shares_are_not_compared() {
        let mut repeats = sent_back();
        repeats.contributed(11, of(&[1, 2], 11));
        repeats.contributed(12, of(&[1, 2, 3], 99));
        repeats.contributed(13, of(&[1, 2], 99));
        assert_eq!(repeats.agreed(20), repeated(11, false));
    }

    #[test]
    fn what_was_agreed_on_is_forgotten_and_so_is_too_much() {
        let mut repeats = sent_back();
        for round in 11..=20 + ROUNDS_MAX as u64 {
            repeats.contributed(round, of(&[1, 2], round));
        }
        assert_eq!(repeats.latest.len(), ROUNDS_MAX);
        assert_eq!(repeats.agreed(u64::MAX - 1), repeated(14, false));
        assert!(repeats.latest.is_empty());
    }
}
