//! When what happens: a pure function of the expression and the seed.
//!
//! Each act is a Poisson process of its own, so that what one word does isn't
//! changed by another one beside it. Which worker it strikes can't be said
//! beforehand: that depends on who is there, so it is only drawn here.

use std::time::Duration;

use super::expression::{Act, Expression};
use crate::numerics::maths;
use crate::numerics::philox::{Key, uniform_u64};

/// How long a worker may be frozen.
const FREEZE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(8));
/// How long the coordinator may be away.
const AWAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// One thing that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Since the chaos began.
    pub at: Duration,
    pub act: Act,
    /// Decides whom of those it could strike.
    pub draw: u64,
    /// How long it lasts: a freeze, the coordinator's absence.
    pub lasts: Duration,
}

/// All that is to happen, in its order, for ever.
#[derive(Clone, Debug)]
pub(super) struct Schedule(Vec<Process>);

#[derive(Clone, Debug)]
struct Process {
    act: Act,
    mean: Duration,
    key: Key,
    drawn: u64,
    next: Duration,
}

impl Schedule {
    pub fn new(expression: &Expression, seed: u64) -> Schedule {
        let of = |(act, mean): (Act, Duration)| {
            let mut process = Process {
                act,
                mean,
                key: Key::derive(seed, "ebbtide chaos", &[act.word().as_bytes()]),
                drawn: 0,
                next: Duration::ZERO,
            };
            process.next = process.pause();
            process
        };
        Schedule(expression.pauses().map(of).collect())
    }
}

impl Iterator for Schedule {
    type Item = Trouble;

    fn next(&mut self) -> Option<Trouble> {
        let process = self.0.iter_mut().min_by_key(|p| (p.next, p.act))?;
        Some(process.trouble())
    }
}

impl Process {
    fn trouble(&mut self) -> Trouble {
        let at = self.next;
        let draw = self.draw();
        let (shortest, longest) = match self.act {
            Act::Freeze => FREEZE,
            Act::Coordinator => AWAY,
            Act::Kill | Act::Join | Act::Drain => (Duration::ZERO, Duration::ZERO),
        };
        let lasts = shortest + (longest - shortest).mul_f64(self.share());
        self.next = at + self.pause();
        Trouble {
            at,
            act: self.act,
            draw,
            lasts,
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        uniform_u64(self.key, self.drawn)
    }

    /// Between zero and one, never one.
    fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential: what has just happened says nothing about the next time.
    fn pause(&mut self) -> Duration {
        let share = self.share();
        self.mean.mul_f64(-maths::ln(1.0 - share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str, seed: u64) -> Schedule {
        Schedule::new(&text.parse().unwrap(), seed)
    }

    #[test]
    fn a_seed_says_what_happens_and_another_one_something_else() {
        let text = "kill 1/5s, freeze 1/20s, join 1/5s, coordinator 1/30s";
        let first: Vec<Trouble> = schedule(text, 7).take(500).collect();
        let again: Vec<Trouble> = schedule(text, 7).take(500).collect();
        let other: Vec<Trouble> = schedule(text, 8).take(500).collect();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(first.is_sorted_by_key(|trouble| trouble.at));
    }

    #[test]
    fn what_one_word_does_is_not_changed_by_another_beside_it() {
        let alone: Vec<Trouble> = schedule("kill 1/5s", 7).take(100).collect();
        let both = schedule("join 1/3s, kill 1/5s", 7);
        let kills: Vec<Trouble> = both.filter(|t| t.act == Act::Kill).take(100).collect();
        assert_eq!(alone, kills);
    }

    #[test]
    fn rates_are_kept_on_average_and_lengths_within_their_bounds() {
        let hour = Duration::from_secs(3600);
        let text = "freeze 1/s, coordinator 1/10s";
        let within: Vec<Trouble> = schedule(text, 3).take_while(|t| t.at < hour).collect();
        let (freezes, coordinator): (Vec<&Trouble>, Vec<&Trouble>) =
            within.iter().partition(|t| t.act == Act::Freeze);
        assert!((3300..3900).contains(&freezes.len()), "{}", freezes.len());
        assert!(
            (300..420).contains(&coordinator.len()),
            "{}",
            coordinator.len()
        );
        assert!(
            freezes
                .iter()
                .all(|t| (FREEZE.0..FREEZE.1).contains(&t.lasts))
        );
        assert!(
            coordinator
                .iter()
                .all(|t| (AWAY.0..AWAY.1).contains(&t.lasts))
        );
    }
}
