//! The job's tables as structs: one field a key, with its default beside it.
//!
//! Everything here is plain data. A [`Job`] that came out of
//! [`Job::load`](super::Job::load) or [`Job::parse`](super::Job::parse) has been
//! validated; the rest of the program doesn't check it again.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::source::Source;
pub use crate::data::order::Shuffle;
use crate::optim::OptimizerSpec;

/// The most micro-batches a global batch may be cut into: so many fixed-point
/// values below 2^51 can't overflow a 64-bit sum.
pub const MICRO_BATCHES_MAX: u32 = 2048;

/// What to train, from one TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What people call it; part of paths. Default: the file's name without `.toml`.
    pub name: String,
    /// The seed of initial values, dropout and data order. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// `[model]`: which model, and its own settings.
    pub model: ModelSpec,
    /// `[data]`: which samples, from where, in which order.
    pub data: DataSpec,
    /// `[train]`: how long, and how much at a time.
    pub train: TrainSpec,
    /// `[optimizer]`: the update rule.
    pub optimizer: OptimizerSpec,
    /// `[evaluation]`: when to look at the validation samples.
    #[serde(default)]
    pub evaluation: EvaluationSpec,
    /// `[early_stopping]`: when to give up early. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStoppingSpec>,
    /// `[checkpoint]`: when to save, and what to keep.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// `[init]`: weights to start from. Default: seeded initial values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitSpec>,
    /// `[exact]`: the fixed-point format of gradient sums.
    #[serde(default)]
    pub exact: ExactSpec,
    /// `[verify]`: how often the replicas compare themselves.
    #[serde(default)]
    pub verify: VerifySpec,
    /// `[numerics]`: what to do about a second numerics kind.
    #[serde(default)]
    pub numerics: NumericsSpec,
    /// `[log]`: how often training metrics are recorded.
    #[serde(default)]
    pub log: LogSpec,
    /// Where each value was written; leads errors back to their line.
    #[serde(skip)]
    pub(super) source: Source,
}

/// `[model]`: `kind` names an entry of the registry; every other key is the
/// model's own (see [`Job::model_config`](super::Job::model_config)).
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The name under which the model is registered, such as `"mlp"`.
    pub kind: String,
    /// All other keys of `[model]`, for the model's `Config`.
    pub config: toml::Table,
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

struct ModelVisitor;

impl<'de> de::Visitor<'de> for ModelVisitor {
    type Value = ModelSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<ModelSpec, A::Error> {
        let mut kind: Option<String> = None;
        let mut config = toml::Table::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "kind" {
                kind = Some(map.next_value()?);
            } else {
                config.insert(key, map.next_value()?);
            }
        }
        let kind = kind.ok_or_else(|| de::Error::missing_field("kind"))?;
        Ok(ModelSpec { kind, config })
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = self.config.clone();
        table.insert("kind".to_owned(), toml::Value::String(self.kind.clone()));
        table.serialize(serializer)
    }
}

/// `[data]`: where the samples come from and in which order they are seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The name under which the data set's opener is registered, such as `"mnist"`.
    pub kind: String,
    /// A URL or a path; a relative path in the file is relative to the file.
    /// After loading: a URL, an absolute path, or empty for data without a place.
    pub url: String,
    /// The order of the samples within an epoch. Default `"full"`.
    #[serde(default)]
    pub shuffle: Shuffle,
    /// `[data.options]`: settings of a data set of one's own.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// `[train]`: how long, and how much at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the data. `None` once [`steps`](Self::steps) is given, which wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Optimizer updates; may end in the middle of an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Samples a step, whoever computes them.
    pub global_batch: u32,
    /// Samples a micro-batch, the unit of work and of determinism. Divides the global batch.
    pub micro_batch: u32,
    /// How many steps with a non-finite or out-of-range gradient are skipped in
    /// one run; the next one after that stops the job. Default 10.
    #[serde(default = "defaults::max_skipped_steps")]
    pub max_skipped_steps: u64,
}

impl TrainSpec {
    /// Into how many micro-batches a global batch is cut (M, 1 to 2,048).
    pub fn micro_batches(&self) -> u32 {
        self.global_batch / self.micro_batch
    }

    /// Steps of the whole run, where an epoch has `steps_per_epoch`.
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, epochs) => epochs.unwrap_or(0).saturating_mul(steps_per_epoch),
        }
    }
}

/// How often something happens: `"200 steps"`, `"1 epoch"` or `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// After each so many steps.
    Steps(NonZeroU64),
    /// At the end of each so many epochs.
    Epochs(NonZeroU64),
    /// Not before the end.
    Never,
}

impl Every {
    /// At the end of each epoch.
    pub const EPOCH: Every = Every::Epochs(NonZeroU64::MIN);

    /// Whether it happens when `step` steps are finished.
    pub fn is_due(&self, step: u64, steps_per_epoch: u64) -> bool {
        self.steps(steps_per_epoch)
            .is_some_and(|steps| step.is_multiple_of(steps))
    }

    /// After how many steps it happens again; `None`: not before the end.
    pub fn steps(&self, steps_per_epoch: u64) -> Option<u64> {
        match self {
            Every::Steps(steps) => Some(steps.get()),
            Every::Epochs(epochs) => Some(epochs.get().saturating_mul(steps_per_epoch)),
            Every::Never => None,
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: &NonZeroU64| if n.get() == 1 { "" } else { "s" };
        match self {
            Every::Steps(n) => write!(f, "{n} step{}", plural(n)),
            Every::Epochs(n) => write!(f, "{n} epoch{}", plural(n)),
            Every::Never => f.write_str("never"),
        }
    }
}

impl FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let every = match words.as_slice() {
            ["never"] => Some(Every::Never),
            [n, "step" | "steps"] => n.parse().ok().map(Every::Steps),
            [n, "epoch" | "epochs"] => n.parse().ok().map(Every::Epochs),
            _ => None,
        };
        every.ok_or_else(|| {
            format!(
                "expected a number of at least 1 and a unit, such as \"200 steps\" or \
                 \"1 epoch\", or \"never\"; found \"{text}\""
            )
        })
    }
}

impl TryFrom<String> for Every {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Every> for String {
    fn from(every: Every) -> String {
        every.to_string()
    }
}

/// `[evaluation]`: when to look at the validation samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSpec {
    /// Default `"1 epoch"`. Except with `"never"`, also after the last step.
    pub every: Every,
    /// Samples a micro-batch of an evaluation pass. Default 250.
    pub micro_batch: u32,
}

impl Default for EvaluationSpec {
    fn default() -> Self {
        EvaluationSpec {
            every: Every::EPOCH,
            micro_batch: 250,
        }
    }
}

/// Whether a smaller or a larger value of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Smaller is better, as for a loss.
    Min,
    /// Larger is better, as for an accuracy.
    Max,
}

impl Mode {
    /// What the metric's name says about itself; `None` for a name that says nothing.
    pub fn of(metric: &str) -> Option<Mode> {
        let ends = |endings: &[&str]| endings.iter().any(|ending| metric.ends_with(ending));
        if ends(&["loss", "error", "perplexity"]) {
            Some(Mode::Min)
        } else if ends(&["accuracy", "acc", "auc", "precision", "recall", "f1"]) {
            Some(Mode::Max)
        } else {
            None
        }
    }
}

/// `[early_stopping]`: the run ends when the monitored metric hasn't improved
/// for `patience` looks at it. The rule is the one of Keras' `EarlyStopping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingSpec {
    /// `val_loss` (default), `val_` and a metric of the model, `train_loss` or
    /// `train_` and a metric. `val_` is looked at after each evaluation, `train_`
    /// after each epoch.
    #[serde(default = "defaults::monitor")]
    pub monitor: String,
    /// Which direction is better. Default: by the metric's name; filled in where that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Looks without improvement before the run ends.
    pub patience: u32,
    /// A change of no more than this is no improvement. Default 0.
    #[serde(default)]
    pub min_delta: f64,
}

/// `[checkpoint]`: when to save, and what to keep. The last step is always saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// Default `"1 epoch"`.
    pub every: Every,
    /// How many of the newest checkpoints are kept. Default 3.
    pub keep_last: u32,
    /// Also save and keep the best one by this metric, named as in
    /// [`EarlyStoppingSpec::monitor`]. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<String>,
    /// Which direction is better. Default: by the metric's name, as for early stopping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best_mode: Option<Mode>,
    /// Write the weights alone as one safetensors file at the end. Default true.
    pub export_weights: bool,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        CheckpointSpec {
            every: Every::EPOCH,
            keep_last: 3,
            keep_best: None,
            keep_best_mode: None,
            export_weights: true,
        }
    }
}

/// `[init]`: weights to start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitSpec {
    /// A safetensors file: a path (relative to the job file) or a `file://` URL.
    pub from: String,
    /// Take what fits by name and shape and initialise the rest by seed.
    /// Default false: the file has to hold exactly the model's parameters.
    #[serde(default)]
    pub partial: bool,
    /// SHA-256 of the file, in hex. Filled in by [`Job::pin_init`](super::Job::pin_init),
    /// checked where it is given: the bytes decide the numbers, not the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// `[exact]`: the fixed-point format of gradient sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactSpec {
    /// Bits after the binary point, 8 to 48. Default 36.
    pub fraction_bits: u32,
}

impl Default for ExactSpec {
    fn default() -> Self {
        ExactSpec { fraction_bits: 36 }
    }
}

/// `[verify]`: how often the replicas compare themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifySpec {
    /// Steps between two chained state digests. Default 100.
    pub every: u64,
}

impl Default for VerifySpec {
    fn default() -> Self {
        VerifySpec { every: 100 }
    }
}

/// What happens when a worker of a second numerics kind wants to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumericsMode {
    /// It joins; the run is announced as no longer exact.
    #[default]
    Announce,
    /// It is refused.
    Pinned,
}

/// `[numerics]`: what to do about a second numerics kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NumericsSpec {
    /// Default `"announce"`.
    pub mode: NumericsMode,
}

/// `[log]`: how often training metrics are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSpec {
    /// Steps between two records. Default 50.
    pub every: u64,
}

impl Default for LogSpec {
    fn default() -> Self {
        LogSpec { every: 50 }
    }
}

/// Defaults of single keys in tables that also have keys without one.
mod defaults {
    pub fn max_skipped_steps() -> u64 {
        10
    }
    pub fn monitor() -> String {
        "val_loss".to_owned()
    }
}
