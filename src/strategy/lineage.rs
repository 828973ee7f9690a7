//! Which run a plan makes, and how one run goes on from another.

use serde_json::Value;

use super::error::StrategyError;
use super::plan::Plan;
use super::room::is_a_gpus;
use super::snapshot::RestoreError;
use super::state::TrainState;
use crate::checkpoint::{Header, Identity, Snapshot};
use crate::data::order::ORDER_VERSION;
use crate::job;
use crate::numerics::NUMERICS_VERSION;

impl Plan {
    /// The fingerprint of all data that the job reads.
    pub fn data_fingerprint(&self) -> String {
        let validation = self.data.validation.as_ref();
        match validation.map(|data| data.fingerprint()) {
            None => self.data.train.fingerprint().to_string(),
            Some(validation) => format!("{}+{validation}", self.data.train.fingerprint()),
        }
    }

    /// Everything that decides the run's numbers, and the id that follows.
    pub fn identity(&self) -> Identity {
        let job_toml = self.job.identity();
        let data_fingerprint = self.data_fingerprint();
        let run = job::run_id(&job_toml, &self.artifact, &data_fingerprint);
        Identity {
            run,
            job_hash: job::run_id(&job_toml, "", ""),
            job_toml,
            artifact: self.artifact.clone(),
            data_fingerprint,
            order_version: ORDER_VERSION,
            numerics_version: NUMERICS_VERSION,
            kinds: Vec::new(),
        }
    }
}

impl StrategyError {
    /// Whether every other worker would meet it too, so that the job has to be
    /// changed, rather than this worker replaced.
    pub fn is_the_jobs(&self) -> bool {
        match self {
            StrategyError::Data { .. }
            | StrategyError::Device(_)
            | StrategyError::Full { .. }
            | StrategyError::FullOfModel { .. }
            | StrategyError::Thread { .. }
            | StrategyError::SetWeights { .. }
            | StrategyError::Sum { .. }
            | StrategyError::Update { .. } => false,
            StrategyError::Compute { source, .. } => !is_a_gpus(source),
            _ => true,
        }
    }
}

/// The first checkpoint of a run that goes on from another's `snapshot` with a
/// changed job.
///
/// # Errors
/// Weights that don't fit the model, or a job that ends before that step.
pub fn fork(
    plan: &Plan,
    snapshot: &Snapshot,
    identity: &Identity,
) -> Result<Snapshot, RestoreError> {
    let forked = TrainState::fork(plan, snapshot)?;
    if let Some(reason) = &forked.optimizer_reset {
        tracing::warn!(%reason, "the optimizer starts anew");
    }
    let saved = forked.state.save(plan);
    Ok(Snapshot {
        header: Header {
            identity: identity.clone(),
            round: saved.round,
            step: saved.step,
            epoch: saved.epoch,
            generation: "0.0".into(),
            writer: "coordinator".into(),
            state_digest: saved.state_digest,
            weights_sha256: saved.weights_sha256,
            is_final: false,
            best: false,
            metrics: Default::default(),
            state: saved.state,
            counters: Value::Null,
        },
        weights: saved.weights,
        optimizer: saved.optimizer,
    })
}
