//! What every member knows of the course so far, and a checkpoint keeps.

use serde::{Deserialize, Serialize};

use super::decision::StopReason;
use super::monitor::Watch;
use crate::exact::Totals;

/// Where a run is: the same on every member after the same round.
///
/// As JSON it is part of a checkpoint. Sums are decimal text and floats are
/// their bits, so that no reader rounds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CourseState {
    /// Rounds finished.
    pub round: u64,
    /// Steps finished, the skipped ones included.
    pub step: u64,
    /// Steps skipped.
    pub skipped: u64,
    /// The running epoch.
    pub(super) epoch: Sums,
    /// Since the last log record.
    pub(super) log: Sums,
    /// The last epoch that has ended.
    pub(super) last_epoch: Sums,
    /// The evaluation under way.
    pub(super) evaluation: Option<PendingEvaluation>,
    /// The last evaluation that has ended.
    pub(super) last_evaluation: Option<PendingEvaluation>,
    /// The metric of `checkpoint.keep_best`.
    pub(super) best: Watch,
    /// The metric of `early_stopping`.
    pub(super) stopping: Watch,
    /// Set once, by the last round.
    pub stopped: Option<StopReason>,
}

impl CourseState {
    pub(super) fn new(metrics: usize) -> CourseState {
        CourseState {
            round: 0,
            step: 0,
            skipped: 0,
            epoch: Sums::new(metrics),
            log: Sums::new(metrics),
            last_epoch: Sums::new(metrics),
            evaluation: None,
            last_evaluation: None,
            best: Watch::default(),
            stopping: Watch::default(),
            stopped: None,
        }
    }

    pub(super) fn check(
        &self,
        metrics: usize,
        total_steps: u64,
        evaluation_parts: u32,
    ) -> Result<(), StateError> {
        if self.step > total_steps || (self.step == total_steps && self.is_training()) {
            return Err(StateError::Beyond {
                step: self.step,
                total_steps,
            });
        }
        let passes = self
            .evaluation
            .iter()
            .chain(&self.last_evaluation)
            .map(|pass| &pass.sums);
        let sums = [&self.epoch, &self.log, &self.last_epoch]
            .into_iter()
            .chain(passes);
        for found in sums.map(|sums| sums.metrics.len()) {
            if found != metrics {
                return Err(StateError::Metrics { found, metrics });
            }
        }
        match &self.evaluation {
            Some(pass) if pass.index >= evaluation_parts => Err(StateError::Evaluation {
                part: pass.index,
                parts: evaluation_parts,
            }),
            _ => Ok(()),
        }
    }

    fn is_training(&self) -> bool {
        self.stopped.is_none() && self.evaluation.is_none()
    }
}

/// A state that doesn't belong to the course it is put on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Nothing is left to train.
    #[error("the state is after step {step}, and the job ends after step {total_steps}")]
    Beyond {
        /// Steps finished in the state.
        step: u64,
        /// Steps of the job.
        total_steps: u64,
    },
    /// Another model's metrics.
    #[error("the state has sums of {found} metrics, and the model has {metrics}")]
    Metrics {
        /// In the state.
        found: usize,
        /// Of the model.
        metrics: usize,
    },
    /// Other validation data.
    #[error("the state is before part {part} of an evaluation that has {parts} parts")]
    Evaluation {
        /// In the state, counted from 0.
        part: u32,
        /// Of the course.
        parts: u32,
    },
}

/// Means over samples (or tokens).
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    /// Mean loss.
    pub loss: f64,
    /// Mean of each metric, in the model's order.
    pub metrics: Vec<f64>,
    /// Over how many samples or tokens.
    pub weight: u64,
}

/// What an evaluation pass has shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// `None` if a micro-batch was non-finite or out of range (or nothing had
    /// weight): a mean over the rest would look better than the model is.
    pub means: Option<Means>,
    /// How many micro-batches were.
    pub unusable: u64,
}

/// Exact sums over any number of rounds of one nominal weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sums {
    weight: u64,
    #[serde(with = "decimal")]
    loss: i128,
    #[serde(with = "decimals")]
    metrics: Vec<i128>,
}

impl Sums {
    pub fn new(metrics: usize) -> Sums {
        Sums {
            weight: 0,
            loss: 0,
            metrics: vec![0; metrics],
        }
    }

    pub fn add(&mut self, totals: &Totals) {
        // Saturating: honest sums never come near, a planted state must not abort.
        self.weight = self.weight.saturating_add(totals.weight);
        self.loss = self.loss.saturating_add(i128::from(totals.loss));
        for (sum, metric) in self.metrics.iter_mut().zip(&totals.metrics) {
            *sum = sum.saturating_add(i128::from(*metric));
        }
    }

    /// `None` over nothing.
    pub fn means(&self, nominal: u64) -> Option<Means> {
        const UNIT: f64 = 1.0 / (1_u64 << Totals::FRACTION_BITS) as f64;
        if self.weight == 0 {
            return None;
        }
        let mean = |sum: i128| sum as f64 * UNIT * nominal as f64 / self.weight as f64;
        Some(Means {
            loss: mean(self.loss),
            metrics: self.metrics.iter().map(|sum| mean(*sum)).collect(),
            weight: self.weight,
        })
    }
}

/// An evaluation pass, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingEvaluation {
    /// The next part, counted from 0.
    pub index: u32,
    /// Micro-batches that were non-finite or out of range.
    unusable: u64,
    sums: Sums,
}

impl PendingEvaluation {
    pub fn new(metrics: usize) -> PendingEvaluation {
        PendingEvaluation {
            index: 0,
            unusable: 0,
            sums: Sums::new(metrics),
        }
    }

    pub fn add(&mut self, totals: &Totals) {
        self.index += 1;
        let unusable = totals.non_finite.len() as u64 + totals.out_of_range.len() as u64;
        self.unusable = self.unusable.saturating_add(unusable);
        self.sums.add(totals);
    }

    pub fn validation(&self, nominal: u64) -> Validation {
        let means = if self.unusable == 0 {
            self.sums.means(nominal)
        } else {
            None
        };
        Validation {
            means,
            unusable: self.unusable,
        }
    }
}

/// A 128-bit integer as decimal text: JSON numbers end at 64 bits.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The same for a list.
mod decimals {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[i128], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(i128::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i128>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
        values.map_err(serde::de::Error::custom)
    }
}
