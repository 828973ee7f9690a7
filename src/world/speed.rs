//! How fast a worker computes, from the counters that it tells.

use std::time::Duration;

use super::message::WorkerCounters;

/// A measurement is of so much computing at least.
const ENOUGH: Duration = Duration::from_millis(500);
/// Of two measurements the newer one counts so much.
const NEWER: f64 = 0.5;

/// The speed of one worker: micro-batches of training steps a second, while it
/// computes. How long it waits for others is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// The counters when this measurement began.
    since: WorkerCounters,
    rate: Option<f64>,
}

impl Speed {
    /// The worker has told its counters. Counters that are lower than before
    /// are those of another process: measuring starts again.
    pub fn learn(&mut self, counters: &WorkerCounters) {
        let computing = counters.computing.checked_sub(self.since.computing);
        let micro_batches = counters.timed.checked_sub(self.since.timed);
        let (Some(computing), Some(micro_batches)) = (computing, micro_batches) else {
            self.since = *counters;
            return;
        };
        if computing < ENOUGH || micro_batches < 2 {
            return;
        }
        let now = micro_batches as f64 / computing.as_secs_f64();
        self.rate = Some(match self.rate {
            Some(before) => before + NEWER * (now - before),
            None => now,
        });
        self.since = *counters;
    }

    /// Micro-batches a second, once it is known.
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(timed: u64, ms: u64) -> WorkerCounters {
        WorkerCounters {
            timed,
            computing: Duration::from_millis(ms),
            ..WorkerCounters::default()
        }
    }

    #[test]
    fn a_speed_is_known_after_half_a_second_of_computing() {
        let mut speed = Speed::default();
        speed.learn(&counters(40, 400));
        assert_eq!(speed.rate(), None);
        speed.learn(&counters(100, 1000));
        assert_eq!(speed.rate(), Some(100.0));
    }

    #[test]
    fn a_newer_measurement_counts_half() {
        let mut speed = Speed::default();
        speed.learn(&counters(100, 1000));
        speed.learn(&counters(150, 2000));
        assert_eq!(speed.rate(), Some(75.0));
    }

    #[test]
    fn counters_that_start_anew_are_not_a_speed() {
        let mut speed = Speed::default();
        speed.learn(&counters(1000, 10_000));
        speed.learn(&counters(0, 0));
        speed.learn(&counters(100, 1000));
        assert_eq!(speed.rate(), Some(100.0));
    }
}
