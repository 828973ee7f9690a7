//! The names of the sums that this worker has applied, until the coordinator
//! knows them.
//!
//! Every worker keeps them and the first member tells, so that neither a
//! coordinator that is down for some minutes nor the loss of the first member
//! leaves a gap. What the coordinator has already it recognises.

use std::collections::VecDeque;
use std::time::Duration;

use crate::exact::SumDigest;
use crate::wire::{Record, StepRow, Steps};

/// Steps that are kept: 16 bytes each, more than four minutes of the shortest
/// ones.
const KEPT_MAX: usize = 1 << 18;

/// Consecutive steps, the newest last.
#[derive(Debug, Default)]
pub(super) struct StepLog {
    /// Index of the first one that is kept.
    first: u64,
    rows: VecDeque<StepRow>,
    /// The newest ones, which haven't been told.
    untold: usize,
}

impl StepLog {
    /// A step was applied so long after the round before it.
    pub fn applied(&mut self, step: u64, sum: SumDigest, took: Option<Duration>) {
        let next = self.first + self.rows.len() as u64;
        if step > next || step < self.first || self.rows.is_empty() {
            self.rows.clear();
            self.first = step;
        } else {
            // Trained again: a checkpoint lay behind.
            self.rows.truncate((step - self.first) as usize);
        }
        self.untold = self.untold.min(self.rows.len());
        if self.rows.len() == KEPT_MAX {
            self.rows.pop_front();
            self.first += 1;
        }
        let micros = took.map_or(0, |took| took.as_micros().clamp(1, u32::MAX.into()) as u32);
        self.rows.push_back(StepRow { sum, micros });
        self.untold = (self.untold + 1).min(self.rows.len());
    }

    /// So many steps are finished: we went back to there, and what we applied after
    /// it may have been of a state that had drifted.
    pub fn go_back(&mut self, finished: u64) {
        let kept = finished.saturating_sub(self.first);
        self.rows.truncate(kept.min(KEPT_MAX as u64) as usize);
        self.untold = self.untold.min(self.rows.len());
    }

    /// Whoever was told may have forgotten, or was told by somebody else.
    pub fn tell_again(&mut self) {
        self.untold = self.rows.len();
    }

    /// What is to be told next, if anything.
    pub fn take_untold(&mut self) -> Option<Record> {
        let from = self.rows.len() - self.untold;
        let rows: Vec<StepRow> = self.rows.range(from..).take(Steps::MAX).copied().collect();
        self.untold -= rows.len();
        let first = self.first + from as u64;
        (!rows.is_empty()).then_some(Record::Steps(Steps { first, rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bits: u64) -> SumDigest {
        SumDigest::from_bits(bits).unwrap()
    }

    /// Everything that is to be told, as (step, sum).
    fn told(log: &mut StepLog) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        while let Some(Record::Steps(steps)) = log.take_untold() {
            let rows = steps.rows.iter().zip(steps.first..);
            all.extend(rows.map(|(row, step)| (step, row.sum.bits())));
        }
        all
    }

    #[test]
    fn each_step_is_told_once_and_all_of_them_again_to_a_new_listener() {
        let mut log = StepLog::default();
        for step in 5..8 {
            log.applied(step, sum(step), None);
        }
        assert_eq!(told(&mut log), [(5, 5), (6, 6), (7, 7)]);
        log.applied(8, sum(8), Some(Duration::from_millis(2)));
        assert_eq!(told(&mut log), [(8, 8)]);
        assert_eq!(told(&mut log), []);
        log.tell_again();
        assert_eq!(told(&mut log).len(), 4);
    }

    #[test]
    fn steps_trained_again_and_a_jump_ahead_begin_where_they_begin() {
        let mut log = StepLog::default();
        for step in 0..10 {
            log.applied(step, sum(step + 1), None);
        }
        told(&mut log);
        log.applied(6, sum(70), None);
        log.applied(7, sum(80), None);
        assert_eq!(told(&mut log), [(6, 70), (7, 80)]);
        log.applied(40, sum(41), None);
        log.tell_again();
        assert_eq!(told(&mut log), [(40, 41)]);
        log.applied(3, sum(4), None);
        assert_eq!(told(&mut log), [(3, 4)]);
    }

    #[test]
    fn steps_after_the_one_we_went_back_to_are_not_told_any_more() {
        let mut log = StepLog::default();
        for step in 3..10 {
            log.applied(step, sum(step + 1), None);
        }
        log.go_back(5);
        log.tell_again();
        assert_eq!(told(&mut log), [(3, 4), (4, 5)]);
        log.go_back(20);
        log.go_back(2);
        log.tell_again();
        assert_eq!(told(&mut log), []);
    }

    #[test]
    fn of_a_long_silence_the_newest_steps_are_kept_and_told_in_portions() {
        let mut log = StepLog::default();
        for step in 0..KEPT_MAX as u64 + 3 {
            log.applied(step, sum(step + 1), None);
        }
        let told = told(&mut log);
        assert_eq!(told.len(), KEPT_MAX);
        assert_eq!((told[0], told[1]), ((3, 4), (4, 5)));
    }
}
