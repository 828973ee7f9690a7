//! What the fixed point makes of small gradients: how many that weren't zero
//! have become so, by parameter, over the epoch's steps that we have applied.
//!
//! One in a hundred is worth a word. Fewer than that are less than a dropout of
//! one percent takes away, each by itself below the last bit; more mean that the
//! gradients of this parameter lie at the lower end of the range, where the few
//! bits that the next larger ones keep say little too. More fraction bits cost
//! bytes on the wire and nothing else.

use crate::exact::{ParameterCounts, Totals};

/// From this share on people are told.
const SHARE_TOLD: f64 = 0.01;
/// Parameters that are named at most.
const NAMED_MAX: usize = 8;

/// Counters by parameter.
#[derive(Debug, Default)]
pub(super) struct RoundedToZero {
    epoch: Vec<ParameterCounts>,
}

impl RoundedToZero {
    /// A step was applied, or skipped; an evaluation counts nothing.
    pub fn add(&mut self, totals: &Totals) {
        self.epoch.resize(
            totals.parameters.len().max(self.epoch.len()),
            Default::default(),
        );
        for (sum, of_step) in self.epoch.iter_mut().zip(&totals.parameters) {
            sum.nonzero = sum.nonzero.saturating_add(of_step.nonzero);
            sum.rounded_to_zero = sum.rounded_to_zero.saturating_add(of_step.rounded_to_zero);
        }
    }

    /// Another state: what was counted led elsewhere.
    pub fn forget(&mut self) {
        self.epoch.clear();
    }

    /// The epoch is over: the parameters that lose too much, the worst first.
    pub fn take_worst(&mut self) -> Vec<(usize, f64)> {
        let epoch = std::mem::take(&mut self.epoch);
        let shares = epoch.iter().map(ParameterCounts::share_rounded_to_zero);
        let mut worst: Vec<(usize, f64)> = shares
            .enumerate()
            .filter(|(_, share)| *share >= SHARE_TOLD)
            .collect();
        worst.sort_by(|a, b| b.1.total_cmp(&a.1));
        worst.truncate(NAMED_MAX);
        worst
    }
}

/// The share over all parameters of one step.
pub(super) fn share_of(totals: &Totals) -> f64 {
    let mut all = ParameterCounts::default();
    for of in &totals.parameters {
        all.nonzero = all.nonzero.saturating_add(of.nonzero);
        all.rounded_to_zero = all.rounded_to_zero.saturating_add(of.rounded_to_zero);
    }
    all.share_rounded_to_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(counts: &[(u64, u64)]) -> Totals {
        let mut totals = Totals::new(0, counts.len());
        for (of, (nonzero, rounded_to_zero)) in totals.parameters.iter_mut().zip(counts) {
            (of.nonzero, of.rounded_to_zero) = (*nonzero, *rounded_to_zero);
        }
        totals
    }

    #[test]
    fn parameters_that_lose_much_over_an_epoch_are_named_the_worst_first() {
        let mut rounded = RoundedToZero::default();
        rounded.add(&step(&[(1000, 9), (1000, 10), (0, 0), (1000, 0)]));
        rounded.add(&Totals::new(0, 0)); // an evaluation
        rounded.add(&step(&[(1000, 9), (1000, 10), (0, 0), (1000, 1000)]));
        assert_eq!(rounded.take_worst(), [(3, 0.5), (1, 0.01)]);
        assert_eq!(rounded.take_worst(), [], "the next epoch begins anew");
    }

    #[test]
    fn the_share_of_a_step_is_that_of_all_its_elements() {
        assert_eq!(share_of(&step(&[(900, 0), (100, 50)])), 0.05);
        assert_eq!(share_of(&step(&[])), 0.0);
    }
}
