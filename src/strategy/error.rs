//! What can go wrong in a training step.

use super::plan::Plan;
use crate::data::DataError;
use crate::devices::DeviceError;
use crate::job::Kind;
use crate::model::ModelError;

/// Which pass over which micro-batch, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Training pass.
    Train {
        /// Index of the step, from 0.
        step: u64,
        /// Index within the step.
        micro_batch: u32,
    },
    /// Evaluation pass.
    Evaluate {
        /// Steps finished before it.
        after_step: u64,
        /// Index within the whole pass.
        micro_batch: u32,
    },
}

impl Place {
    /// Where micro-batch `m` of a round stands.
    pub(super) fn of(plan: &Plan, kind: &Kind, m: u32) -> Place {
        match *kind {
            Kind::Train { step, .. } => Place::Train {
                step,
                micro_batch: m,
            },
            Kind::Evaluate {
                index, after_step, ..
            } => Place::Evaluate {
                after_step,
                micro_batch: plan.course.evaluation_micro_batch(index, m),
            },
            Kind::End(_) => unreachable!("there is nothing to compute after the end"),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Train { step, micro_batch } => {
                write!(f, "step {step}, micro-batch {micro_batch}")
            }
            Place::Evaluate {
                after_step,
                micro_batch,
            } => write!(
                f,
                "evaluation after step {after_step}, micro-batch {micro_batch}"
            ),
        }
    }
}

/// Why a replica can't go on. None of these is cured by trying again: the same
/// micro-batch gives the same error on every worker, so the job stops.
#[derive(Debug, thiserror::Error)]
pub enum StrategyError {
    /// The model can't be built.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A device of this node can't be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A GPU has no room for a micro-batch.
    #[error(
        "{place}: the GPU is full: {sizes}; `ebbtide estimate JOB` says which train.micro_batch fits: {source}"
    )]
    Full {
        /// Which one.
        place: Place,
        /// What didn't fit into what.
        sizes: String,
        /// What the device says.
        source: candle_core::Error,
    },
    /// A GPU couldn't give its share of the sum.
    #[error("the sum of a replica's micro-batches: {source}")]
    Sum {
        /// What the device says.
        source: candle_core::Error,
    },
    /// The state on a GPU could not be set, read or updated.
    #[error("weights and optimizer on the GPU: {source}")]
    Update {
        /// What the device says.
        source: candle_core::Error,
    },
    /// A GPU has no room for the model.
    #[error("the GPU is full: {sizes}; `ebbtide estimate JOB` says what training takes: {source}")]
    FullOfModel {
        /// What didn't fit into what.
        sizes: String,
        /// What the device says.
        source: candle_core::Error,
    },
    /// Two replicas created different variables.
    #[error(
        "replica {replica} has other parameters than the job's model has: the scope has to create \
         the same variables on every replica"
    )]
    OtherParameters {
        /// Which replica of this worker, from 0.
        replica: usize,
    },
    /// Samples can't be had, or don't fit together.
    #[error("{place}: {source}")]
    Data {
        /// Where.
        place: Place,
        /// What is wrong with them.
        #[source]
        source: DataError,
    },
    /// The model's own code failed.
    #[error("{place}: the model failed: {source}")]
    Compute {
        /// Where.
        place: Place,
        /// candle's or the model's message.
        #[source]
        source: candle_core::Error,
    },
    /// The model's own code panicked.
    #[error("{place}: the model panicked: {message}")]
    Panicked {
        /// Where.
        place: Place,
        /// The panic's message.
        message: String,
    },
    /// The model returned other metrics than it announces.
    #[error("{place}: the model returned the metrics {found:?}, but announces {expected:?}")]
    Metrics {
        /// Where.
        place: Place,
        /// What it returned.
        found: Vec<&'static str>,
        /// `Model::METRICS`.
        expected: &'static [&'static str],
    },
    /// Parameters that the loss doesn't depend on, as far as candle can tell.
    #[error(
        "{place}: no gradient reaches {}: the loss doesn't depend on it, or an operation without \
         a backward pass stands between (in candle: ops::layer_norm, ops::rms_norm, \
         ops::softmax_last_dim, rotary_emb::rope; take their `_slow` twins or ops::softmax). \
         Parameters that aren't to be trained can be frozen in [[optimizer.groups]]",
        parameters.join(", ")
    )]
    NoGradient {
        /// Where.
        place: Place,
        /// Names of the parameters.
        parameters: Vec<String>,
    },
    /// A gradient of another shape than its parameter: a mistake in a custom operation.
    #[error("{place}: the gradient of {parameter} has shape {found:?}, the parameter {expected:?}")]
    GradientShape {
        /// Where.
        place: Place,
        /// The parameter.
        parameter: String,
        /// Shape of the gradient.
        found: Vec<usize>,
        /// Shape of the parameter.
        expected: Vec<usize>,
    },
    /// Weights could not be copied to a replica's device.
    #[error("the weights of {parameter} can't be set on a replica: {source}")]
    SetWeights {
        /// The parameter.
        parameter: String,
        /// candle's message.
        #[source]
        source: candle_core::Error,
    },
    /// The threads of the replicas can't be started.
    #[error("a thread for replica {replica} can't be started: {source}")]
    Thread {
        /// Which replica of this worker, from 0.
        replica: usize,
        /// The system's message.
        #[source]
        source: std::io::Error,
    },
}
