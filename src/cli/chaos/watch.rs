//! Whether training goes on: pure.
//!
//! Progress is a round that nobody had applied before, whoever applies it; so
//! steps done again after a resume are none. The time in which nobody could
//! train doesn't count against anybody.

use std::time::Duration;

/// What the ledgers have shown so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// The next round that would be progress, and when the last one was.
    newest: Option<(u64, f64)>,
    longest: Duration,
    /// Time without progress in which somebody could train.
    standing: Duration,
}

impl Watch {
    /// A round was applied, at this time of day in seconds.
    pub fn applied(&mut self, round: u64, time: f64) {
        if let Some((newest, last)) = self.newest {
            if round <= newest {
                return;
            }
            let gap = Duration::try_from_secs_f64(time - last).unwrap_or_default();
            self.longest = self.longest.max(gap);
        }
        self.newest = Some((round, time));
        self.standing = Duration::ZERO;
    }

    /// So much time has passed, and somebody could train meanwhile, or not.
    pub fn passed(&mut self, time: Duration, able: bool) {
        if able {
            self.standing += time;
        }
    }

    /// Time without progress in which somebody could train.
    pub fn standing(&self) -> Duration {
        self.standing
    }

    /// The longest time between two rounds that were progress.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    pub fn newest_round(&self) -> Option<u64> {
        self.newest.map(|(round, _)| round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_rounds_that_nobody_had_applied_are_progress() {
        let mut watch = Watch::default();
        watch.applied(5, 100.0);
        watch.passed(3 * SECOND, true);
        watch.applied(5, 103.0);
        watch.applied(2, 103.5);
        assert_eq!(watch.standing(), 3 * SECOND);
        watch.applied(6, 104.0);
        assert_eq!(watch.standing(), Duration::ZERO);
        assert_eq!(watch.longest(), 4 * SECOND);
        assert_eq!(watch.newest_round(), Some(6));
    }

    #[test]
    fn time_in_which_nobody_could_train_does_not_count() {
        let mut watch = Watch::default();
        watch.passed(3 * SECOND, true);
        watch.passed(90 * SECOND, false);
        watch.passed(2 * SECOND, true);
        assert_eq!(watch.standing(), 5 * SECOND);
        assert_eq!(watch.longest(), Duration::ZERO);
    }
}
