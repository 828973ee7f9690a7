//! Why the engine can't go on, and who has to do something about it.

use std::any::Any;

use crate::checkpoint::{DamageKind, LoadError};
use crate::strategy::{InitialError, RestoreError, StrategyError};

/// Why the engine can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Strategy(Box<StrategyError>),
    #[error("no state can be restored: {source}")]
    Load { manifest: String, source: LoadError },
    #[error("checkpoint {manifest}: {source}")]
    Restore {
        manifest: String,
        source: RestoreError,
    },
    #[error(transparent)]
    Begin(Box<InitialError>),
    #[error("the state was asked for before there was one")]
    NoState,
    #[error("the engine panicked, which is a fault of ours: {0}")]
    Panicked(String),
}

/// Where a fault lies, and so who has to do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// In the job: every other worker would fail alike.
    Jobs,
    /// In the node: it lacks something that the others have.
    Nodes,
    /// In this checkpoint: another one has to be used.
    Checkpoint(String),
    /// In this process: another one may do better.
    Ours,
}

impl From<StrategyError> for EngineError {
    fn from(error: StrategyError) -> EngineError {
        EngineError::Strategy(Box::new(error))
    }
}

impl EngineError {
    /// Whether the checkpoint, or a part of it, is not there.
    pub fn is_gone(&self) -> bool {
        let EngineError::Load { source, .. } = self else {
            return false;
        };
        matches!(source, LoadError::Damaged(damage) if damage.kind == DamageKind::Missing)
    }

    /// Where it lies.
    pub fn fault(&self) -> Fault {
        match self {
            EngineError::Strategy(error) if error.is_the_jobs() => Fault::Jobs,
            EngineError::Begin(error) => match **error {
                InitialError::File(_) => Fault::Nodes,
                InitialError::Unfit(_) | InitialError::Model(_) => Fault::Jobs,
            },
            EngineError::Load {
                manifest,
                source: LoadError::Damaged(_),
            } => Fault::Checkpoint(manifest.clone()),
            EngineError::Strategy(_)
            | EngineError::Load { .. }
            | EngineError::Restore { .. }
            | EngineError::NoState
            | EngineError::Panicked(_) => Fault::Ours,
        }
    }
}

/// What a panic said.
pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("nothing").to_owned()
}
