//! What a finished round can decide: the closed list.
//!
//! In decisions, `step` is how many steps are finished and `epoch` is counted
//! from 1, as people say it; a [`SkippedStep`] has the step's index, counted
//! from 0, because that is what its samples are looked up by.

use serde::{Deserialize, Serialize};

use super::monitor::bits;
use super::state::{Means, Validation};
use crate::exact::Totals;

/// What follows from a finished round. To be done in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The step's sum wasn't applied: data order and schedule go on, the weights stay.
    StepSkipped(SkippedStep),
    /// A record of training: the means over the steps since the last record.
    Log {
        /// Steps finished.
        step: u64,
        /// The epoch it belongs to, counted from 1.
        epoch: u64,
        /// `None` if all steps since were skipped.
        train: Option<Means>,
    },
    /// The replicas compare their state, chained to the digest before.
    VerifyDigest {
        /// Steps finished.
        step: u64,
    },
    /// An evaluation pass is complete.
    Evaluated {
        /// Steps finished.
        step: u64,
        /// What it has shown.
        validation: Validation,
    },
    /// An epoch is over, or the run has ended within it.
    EpochEnded {
        /// Counted from 1.
        epoch: u64,
        /// Steps finished.
        step: u64,
        /// False if the run ends in its middle.
        complete: bool,
        /// Means over all samples of its steps that weren't skipped; `None` if all were.
        train: Option<Means>,
        /// The evaluation at its end, where one was due.
        validation: Option<Validation>,
    },
    /// The state as it is now is to be saved.
    Checkpoint {
        /// Steps finished.
        step: u64,
        /// The metric of `checkpoint.keep_best` is better than ever before.
        best: bool,
        /// The run ends with it.
        last: bool,
    },
    /// The run is over.
    Stopped {
        /// Steps finished.
        step: u64,
        /// Why.
        reason: StopReason,
    },
}

/// Why a run is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum StopReason {
    /// All steps are done.
    Completed,
    /// The monitored metric hasn't improved for `patience` looks.
    EarlyStopping {
        /// The metric, such as `val_loss`.
        monitor: String,
        /// Its best value; `None` if it never had one.
        #[serde(with = "bits")]
        best: Option<f64>,
        /// After how many steps it had it.
        best_step: u64,
        /// Looks without improvement.
        patience: u32,
    },
    /// More steps had to be skipped than `train.max_skipped_steps`.
    Failed {
        /// The one too many.
        skipped: SkippedStep,
        /// How many were allowed.
        skipped_steps_max: u64,
    },
}

/// A step whose sum couldn't be applied, and what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// The step's index, counted from 0, as `Order::samples` takes it.
    pub step: u64,
    /// The epoch's index, counted from 0.
    pub epoch: u64,
    /// Micro-batches with a NaN or an infinity.
    pub non_finite: Vec<u32>,
    /// Micro-batches with a value beyond the fixed-point range.
    pub out_of_range: Vec<u32>,
    /// Parameters whose gradient held such values. Empty if it was the loss or a
    /// metric, or if the step had no weight at all.
    pub parameters: Vec<ParameterFault>,
}

/// How many values of one parameter's gradient were unusable in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterFault {
    /// The parameter's index in layout order.
    pub index: u32,
    /// NaN or infinite elements.
    pub non_finite: u64,
    /// Finite elements beyond the range.
    pub out_of_range: u64,
}

impl SkippedStep {
    pub(super) fn new(step: u64, epoch: u64, totals: &Totals) -> SkippedStep {
        let parameters = (0_u32..)
            .zip(&totals.parameters)
            .filter(|(_, counts)| counts.non_finite > 0 || counts.out_of_range > 0)
            .map(|(index, counts)| ParameterFault {
                index,
                non_finite: counts.non_finite,
                out_of_range: counts.out_of_range,
            })
            .collect();
        SkippedStep {
            step,
            epoch,
            non_finite: totals.non_finite.iter().collect(),
            out_of_range: totals.out_of_range.iter().collect(),
            parameters,
        }
    }
}
