//! Why a step can't be computed again.

use crate::checkpoint::{LoadError, StoreError};
use crate::inspect::InspectError;
use crate::job::JobError;
use crate::strategy::{InitialError, RestoreError, StrategyError};

/// Why a step can't be computed again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The run's folder.
    #[error(transparent)]
    Folder(#[from] InspectError),
    /// The job, its model or its data.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Another program has trained it.
    #[error(
        "the run was trained by {theirs}, and this is {ours}: use the program that has trained it \
         (its own `replay`)"
    )]
    Artifact {
        /// This program.
        ours: String,
        /// The run's.
        theirs: String,
    },
    /// The data isn't the run's.
    #[error(
        "the data at {url} has fingerprint {ours}, the run's had {theirs}; --data says where it is"
    )]
    Data {
        /// Where it is.
        url: String,
        /// Its fingerprint.
        ours: String,
        /// The run's.
        theirs: String,
    },
    /// There is no such step, or micro-batch.
    #[error("no step {step}: the run has the steps 0 to {last}")]
    NoStep {
        /// Asked for.
        step: u64,
        /// The last one.
        last: u64,
    },
    /// As above.
    #[error("no micro-batch {micro_batch}: a step has the micro-batches 0 to {last}")]
    NoMicroBatch {
        /// Asked for.
        micro_batch: u32,
        /// The last one.
        last: u32,
    },
    /// The run goes on from another one, and nothing says with which weights.
    #[error(
        "run {run} began with the weights of another at step {at}, and its checkpoint of that step \
         is gone: {tail}"
    )]
    NoBeginning {
        /// The run.
        run: String,
        /// The parent's step.
        at: u64,
        /// What may help.
        tail: &'static str,
    },
    /// The checkpoints.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A checkpoint that isn't this job's.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The beginning.
    #[error(transparent)]
    Initial(#[from] InitialError),
    /// The model.
    #[error(transparent)]
    Strategy(Box<StrategyError>),
}

impl From<StrategyError> for ReplayError {
    fn from(error: StrategyError) -> Self {
        ReplayError::Strategy(Box::new(error))
    }
}
