//! Whom a trouble strikes, and when it has to be left out: pure.
//!
//! The promise is that somebody could train all the time: at least `least`
//! workers are neither frozen nor told to leave. More than `most` never are.

use std::collections::BTreeMap;

use super::expression::Act;
use super::schedule::Trouble;

/// How a worker's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It can train.
    Well,
    Frozen,
    /// It was told to leave.
    Leaving,
}

/// The processes that are there.
#[derive(Clone, Debug)]
pub(super) struct Crew {
    pub workers: BTreeMap<usize, Condition>,
    /// The coordinator's process is there.
    pub coordinator: bool,
    pub least: usize,
    pub most: usize,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Kill(usize),
    Freeze(usize),
    Drain(usize),
    Join,
    KillCoordinator,
}

impl Crew {
    fn of(&self, condition: Condition) -> Vec<usize> {
        let workers = self.workers.iter().filter(|(_, is)| **is == condition);
        workers.map(|(number, _)| *number).collect()
    }

    /// How many could train.
    pub fn well(&self) -> usize {
        self.of(Condition::Well).len()
    }

    /// What the trouble comes to here, or why it is left out.
    pub fn decide(&self, trouble: &Trouble) -> Result<Action, &'static str> {
        match trouble.act {
            Act::Join if self.workers.len() >= self.most => Err("the fleet is at its largest"),
            Act::Join => Ok(Action::Join),
            Act::Coordinator if !self.coordinator => Err("it is away already"),
            Act::Coordinator => Ok(Action::KillCoordinator),
            Act::Kill if self.well() > self.least => {
                let all: Vec<usize> = self.workers.keys().copied().collect();
                strike(&all, trouble.draw).map(Action::Kill)
            }
            Act::Kill => {
                let others = [Condition::Frozen, Condition::Leaving].map(|c| self.of(c));
                strike(&others.concat(), trouble.draw).map(Action::Kill)
            }
            Act::Freeze | Act::Drain if self.well() <= self.least => Err(NOBODY),
            Act::Freeze => strike(&self.of(Condition::Well), trouble.draw).map(Action::Freeze),
            Act::Drain => strike(&self.of(Condition::Well), trouble.draw).map(Action::Drain),
        }
    }
}

const NOBODY: &str = "too few would be left";

fn strike(candidates: &[usize], draw: u64) -> Result<usize, &'static str> {
    let count = candidates.len() as u64;
    let at = draw.checked_rem(count).ok_or(NOBODY)?;
    Ok(candidates[at as usize])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn crew(workers: &[Condition], least: usize) -> Crew {
        Crew {
            workers: (1..).zip(workers.iter().copied()).collect(),
            coordinator: true,
            least,
            most: 4,
        }
    }

    fn trouble(act: Act, draw: u64) -> Trouble {
        let (at, lasts) = (Duration::ZERO, Duration::ZERO);
        Trouble {
            at,
            act,
            draw,
            lasts,
        }
    }

    #[test]
    fn the_last_one_that_could_train_is_spared() {
        use Condition::{Frozen, Leaving, Well};
        let alone = crew(&[Well], 1);
        for act in [Act::Kill, Act::Freeze, Act::Drain] {
            assert_eq!(alone.decide(&trouble(act, 5)), Err(NOBODY));
        }
        let others = crew(&[Frozen, Well, Leaving], 1);
        for draw in 0..20 {
            let kill = others.decide(&trouble(Act::Kill, draw));
            assert!(matches!(kill, Ok(Action::Kill(1 | 3))), "{kill:?}");
            assert_eq!(others.decide(&trouble(Act::Freeze, draw)), Err(NOBODY));
        }
        assert_eq!(
            crew(&[Well, Well], 2).decide(&trouble(Act::Kill, 0)),
            Err(NOBODY)
        );
    }

    #[test]
    fn a_kill_may_strike_anybody_a_freeze_and_a_drain_those_that_are_well() {
        use Condition::{Frozen, Well};
        let crew = crew(&[Well, Frozen, Well], 1);
        let struck = |act| -> Vec<Action> {
            let decided = (0..6).map(|draw| crew.decide(&trouble(act, draw)).unwrap());
            decided.collect()
        };
        assert!(struck(Act::Kill).contains(&Action::Kill(2)));
        assert!(!struck(Act::Freeze).contains(&Action::Freeze(2)));
        assert!(!struck(Act::Drain).contains(&Action::Drain(2)));
    }

    #[test]
    fn the_fleet_has_a_largest_size_and_one_coordinator() {
        let mut crew = crew(&[Condition::Frozen; 4], 1);
        assert!(crew.decide(&trouble(Act::Join, 0)).is_err());
        crew.workers.remove(&2);
        assert_eq!(crew.decide(&trouble(Act::Join, 0)), Ok(Action::Join));
        let kill = trouble(Act::Coordinator, 0);
        assert_eq!(crew.decide(&kill), Ok(Action::KillCoordinator));
        crew.coordinator = false;
        assert!(crew.decide(&kill).is_err());
    }
}
