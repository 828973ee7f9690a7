//! The learning rate as a pure function of the step.
//!
//! ```text
//! lr ┤      ╭─────╮          warm-up: lr·(step + 1)/warmup_steps, so that the first step
//!    │    ╱        ╲         moves and the last of the warm-up has the full rate;
//!    │  ╱            ╲       then from lr at progress 0 to lr·final_lr_fraction at
//!  0 ┼╱────────────────╲─    progress 1, which the step after the last one would have
//!    0   warm-up       total
//! ```
//!
//! The cosine is our own: a library's may have other bits on the next machine.

use super::error::{Problem, SpecError, check, error};
use crate::numerics::maths;
use serde::{Deserialize, Serialize};

/// What happens to the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// It stays.
    #[default]
    Constant,
    /// It falls on a straight line.
    Linear,
    /// It falls on half a period of the cosine.
    Cosine,
}

/// `[optimizer.schedule]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// What happens after the warm-up; `"constant"` by default.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// Steps over which the rate rises linearly to its full value.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The share of the full rate at the end; 0 by default. Not for `"constant"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_lr_fraction: Option<f64>,
}

impl ScheduleSpec {
    /// The same schedule with every default written out.
    pub(super) fn resolved(&self) -> ScheduleSpec {
        let mut spec = self.clone();
        if self.kind != ScheduleKind::Constant {
            spec.final_lr_fraction.get_or_insert(0.0);
        }
        spec
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let Some(fraction) = self.final_lr_fraction else {
            return Ok(());
        };
        if self.kind == ScheduleKind::Constant {
            let problem = Problem::Misplaced {
                kind: "constant",
                belongs_to: "\"linear\" and \"cosine\"",
            };
            return Err(error("schedule.final_lr_fraction", problem));
        }
        let valid = (0.0..=1.0).contains(&fraction);
        check(
            "schedule.final_lr_fraction",
            valid,
            "a number from 0 to 1",
            fraction,
        )
    }

    /// Checks the warm-up against the length of the run.
    ///
    /// # Errors
    /// A warm-up that doesn't end before the run does.
    pub fn validate_length(&self, total_steps: u64) -> Result<(), SpecError> {
        let expected = format!("fewer steps than the run's {total_steps}");
        let valid = self.warmup_steps == 0 || self.warmup_steps < total_steps;
        check("schedule.warmup_steps", valid, &expected, self.warmup_steps)
    }

    /// The factor on the learning rate in the update of `step`, counted from 0, of a
    /// run of `total_steps`.
    pub fn factor(&self, step: u64, total_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let after = (step - self.warmup_steps) as f64;
        let falling = total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (after / falling).min(1.0);
        let last = self.final_lr_fraction.unwrap_or(0.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - (1.0 - last) * progress,
            ScheduleKind::Cosine => {
                let half_wave = 0.5 * (1.0 + maths::cos(std::f64::consts::PI * progress));
                last + (1.0 - last) * half_wave
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: u64, last: Option<f64>) -> ScheduleSpec {
        ScheduleSpec {
            kind,
            warmup_steps,
            final_lr_fraction: last,
        }
    }

    #[test]
    fn the_warm_up_rises_to_the_full_rate_whatever_follows() {
        for kind in [
            ScheduleKind::Constant,
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
        ] {
            let schedule = schedule(kind, 4, None);
            let rates: Vec<f64> = (0..5).map(|step| schedule.factor(step, 100)).collect();
            assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0]);
        }
    }

    #[test]
    fn the_decay_ends_at_the_final_fraction() {
        let linear = schedule(ScheduleKind::Linear, 0, Some(0.1));
        assert_eq!(linear.factor(0, 10), 1.0);
        assert!((linear.factor(5, 10) - 0.55).abs() < 1e-15);
        let cosine = schedule(ScheduleKind::Cosine, 2, Some(0.1));
        assert_eq!(cosine.factor(2, 12), 1.0);
        assert!((cosine.factor(7, 12) - 0.55).abs() < 1e-15);
        for schedule in [linear, cosine] {
            assert!((schedule.factor(12, 12) - 0.1).abs() < 1e-15);
            assert!(
                (schedule.factor(1000, 12) - 0.1).abs() < 1e-15,
                "a longer run stays there"
            );
        }
        assert_eq!(
            schedule(ScheduleKind::Constant, 0, None).factor(1000, 12),
            1.0
        );
    }

    #[test]
    fn a_cosine_falls_and_never_rises() {
        let cosine = schedule(ScheduleKind::Cosine, 0, None);
        let rates: Vec<f64> = (0..1000).map(|step| cosine.factor(step, 1000)).collect();
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]));
        assert!(rates[999] > 0.0);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_refused() {
        let error = schedule(ScheduleKind::Linear, 10, None)
            .validate_length(10)
            .unwrap_err();
        assert_eq!(error.key, "optimizer.schedule.warmup_steps");
        assert!(
            schedule(ScheduleKind::Linear, 9, None)
                .validate_length(10)
                .is_ok()
        );
    }
}
