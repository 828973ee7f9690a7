//! Watching one metric: its best value, and how long it hasn't improved.

use serde::{Deserialize, Serialize};

use super::decision::StopReason;
use super::state::Means;
use crate::job::keys::nearest;
use crate::job::spec::{EarlyStoppingSpec, Mode};

/// Which mean a monitored name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    /// Measured on the validation samples, else on the training samples.
    pub of_validation: bool,
    /// Index of the metric; `None` for the loss.
    metric: Option<usize>,
}

impl Quantity {
    /// `val_loss`, `train_loss`, `val_` or `train_` and one of the metrics.
    pub fn parse(name: &str, metrics: &[&str]) -> Result<Quantity, String> {
        let quantities = || std::iter::once("loss").chain(metrics.iter().copied());
        for (prefix, of_validation) in [("val_", true), ("train_", false)] {
            let found = name
                .strip_prefix(prefix)
                .and_then(|rest| quantities().position(|q| q == rest));
            if let Some(position) = found {
                return Ok(Quantity {
                    of_validation,
                    metric: position.checked_sub(1),
                });
            }
        }
        let names: Vec<String> = ["val_", "train_"]
            .iter()
            .flat_map(|prefix| quantities().map(move |quantity| format!("{prefix}{quantity}")))
            .collect();
        let near = nearest(name, &names).unwrap_or_default();
        Err(format!(
            "expected one of {}; found \"{name}\"; the nearest is \"{near}\"",
            names.join(", ")
        ))
    }

    fn of(&self, means: &Means) -> f64 {
        self.metric
            .map_or(means.loss, |metric| means.metrics[metric])
    }
}

/// The problem of a metric whose name says nothing, where the job says nothing either.
pub(super) fn no_mode(metric: &str) -> String {
    format!(
        "missing; expected \"min\" or \"max\": the name \"{metric}\" doesn't say which is better"
    )
}

/// The rule by which a value counts as better.
#[derive(Debug, Clone)]
pub(super) struct Tracker {
    monitor: String,
    pub quantity: Quantity,
    mode: Mode,
    min_delta: f64,
}

/// What has been seen of a monitored metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// The metric; empty before the first look.
    monitor: String,
    #[serde(with = "bits")]
    best: Option<f64>,
    best_step: u64,
    /// Looks since the best one.
    waited: u32,
}

impl Watch {
    pub fn monitor(&self) -> Option<String> {
        (!self.monitor.is_empty()).then(|| self.monitor.clone())
    }
}

impl Tracker {
    pub fn new(monitor: &str, quantity: Quantity, mode: Mode) -> Tracker {
        Tracker {
            monitor: monitor.to_owned(),
            quantity,
            mode,
            min_delta: 0.0,
        }
    }

    pub fn monitor(&self) -> &str {
        &self.monitor
    }

    /// One look at the metric after `step` steps (`None`: it had no value); whether it's a
    /// new best.
    pub fn look(&self, watch: &mut Watch, means: Option<&Means>, step: u64) -> bool {
        watch.monitor.clone_from(&self.monitor);
        let value = means
            .map(|means| self.quantity.of(means))
            .filter(|value| !value.is_nan());
        let better = value.is_some_and(|value| match (watch.best, self.mode) {
            (None, _) => true,
            (Some(best), Mode::Min) => value < best - self.min_delta,
            (Some(best), Mode::Max) => value > best + self.min_delta,
        });
        if better {
            *watch = Watch {
                best: value,
                best_step: step,
                waited: 0,
                monitor: self.monitor.clone(),
            };
        } else {
            watch.waited = watch.waited.saturating_add(1);
        }
        better
    }
}

/// Early stopping, by the rule of Keras.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub tracker: Tracker,
    patience: u32,
}

impl Patience {
    pub fn new(spec: &EarlyStoppingSpec, tracker: Tracker) -> Patience {
        Patience {
            tracker: Tracker {
                min_delta: spec.min_delta,
                ..tracker
            },
            patience: spec.patience,
        }
    }

    /// One look at the metric; the reason to stop, once patience is over.
    pub fn look(&self, watch: &mut Watch, means: Option<&Means>, step: u64) -> Option<StopReason> {
        self.tracker.look(watch, means, step);
        (watch.waited >= self.patience).then(|| StopReason::EarlyStopping {
            monitor: self.tracker.monitor.clone(),
            best: watch.best,
            best_step: watch.best_step,
            patience: self.patience,
        })
    }
}

/// A float as its bits: JSON readers may round what they read, and what is
/// replicated must not be.
pub(super) mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value
            .map(|value| format!("{:016x}", value.to_bits()))
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| u64::from_str_radix(&text, 16).map(f64::from_bits))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}
