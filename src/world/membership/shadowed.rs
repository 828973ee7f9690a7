//! Whether the shadow holds what the members hold: it writes every checkpoint,
//! and takes part in no comparison of theirs.
//!
//! It tells the chain of its digests with whatever else was decided, and the
//! members say what they have agreed on, or one alone what it holds. What comes
//! first is kept until the other half is there.

use super::drift::{Agreed, Drift, HeldState};
use super::*;

/// So many rounds are kept of either side; the other one is never so far behind.
const KEPT: usize = 64;

/// What either side holds, and how far both have held the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadowed {
    members: BTreeMap<Round, HeldState>,
    shadow: BTreeMap<Round, HeldState>,
    /// At first what was written before it came.
    same_to: Round,
}

impl Shadowed {
    /// A shadow comes, which begins with a checkpoint that is no newer than this.
    pub fn comes(&mut self, newest: Round) {
        *self = Shadowed {
            same_to: newest,
            ..Shadowed::default()
        };
    }

    /// What was said so far is of no use any more.
    pub fn forget(&mut self) {
        (self.members, self.shadow) = Default::default();
    }

    /// All go back to this round.
    pub fn goes_back(&mut self, to: Round) {
        self.forget();
        self.same_to = self.same_to.min(to);
    }

    /// The first round after which both are known and not the same.
    fn compare(&mut self) -> Option<Drift> {
        while let Some((round, ours)) = self.members.first_key_value() {
            let round = *round;
            self.shadow = self.shadow.split_off(&round); // nobody tells the earlier ones
            let (told, theirs) = self.shadow.first_key_value()?;
            if *told == round && theirs.chain != ours.chain {
                return Some(Drift {
                    round,
                    agreed: self.same_to,
                    states: vec![ours.clone(), theirs.clone()],
                });
            }
            if *told == round {
                self.same_to = round;
            }
            self.members.pop_first();
        }
        None
    }
}

fn keep(said: &mut BTreeMap<Round, HeldState>, round: Round, held: HeldState) {
    said.insert(round, held);
    if said.len() > KEPT {
        said.pop_first();
    }
}

impl World {
    /// The members have compared their states, or one alone says what it holds.
    pub(super) fn members_hold(&mut self, now: Duration, by: WorkerId, agreed: &Agreed) {
        let current = self.current.as_ref();
        let Some(current) = current.filter(|r| r.writer.is_some() && r.has(by)) else {
            return;
        };
        let held = HeldState {
            chain: agreed.chain.clone(),
            by: current.members.iter().map(|m| m.id).collect(),
        };
        keep(&mut self.drifts.shadowed.members, agreed.round, held);
        self.compare_with_shadow(now);
    }

    /// Who tells what was decided holds this.
    pub(super) fn holds(&mut self, now: Duration, by: WorkerId, round: Round, chain: String) {
        let shadow = self.pool.get(&by).is_some_and(|n| n.shadow);
        if !shadow || !self.is_writer(by) {
            return;
        }
        let by = vec![by];
        let held = HeldState { chain, by };
        keep(&mut self.drifts.shadowed.shadow, round, held);
        self.compare_with_shadow(now);
    }

    fn compare_with_shadow(&mut self, now: Duration) {
        if let Some(drift) = self.drifts.shadowed.compare()
            && let Some(member) = drift.states[0].by.first().copied()
        {
            self.drifted(now, member, drift);
        }
    }
}
