//! Everything that training needs to go on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::{exact_metrics, weights_sha256};
use super::error::SaveError;
use super::identity::Identity;
use super::shard::{Part, PlannedShard};
use super::share::{Extent, Extents, Origin, Tensors};
use super::store::valid_id;

/// One named tensor of f32 values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Unique among the weights, and among the optimizer's tensors.
    pub name: String,
    /// Dimensions; their product is the number of values.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Vec<f32>,
}

/// All of a snapshot but its tensors: the part that stands in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What is being trained, by what code, on which data.
    pub identity: Identity,
    /// The last round (training step or evaluation) that this state contains.
    pub round: u64,
    /// Optimizer updates so far, skipped ones included.
    pub step: u64,
    /// The epoch that `step` lies in.
    pub epoch: u64,
    /// The generation in which it was taken, as text.
    pub generation: String,
    /// Who wrote it; unique per process and life.
    pub writer: String,
    /// Digest of the whole replicated state; the caller compares it after loading.
    pub state_digest: String,
    /// [`weights_sha256`] of the weights.
    pub weights_sha256: String,
    /// The run is complete with this.
    pub is_final: bool,
    /// The best so far by the monitored metric.
    pub best: bool,
    /// The metrics known at this point, bit-exact through [`super::bits`].
    #[serde(with = "exact_metrics")]
    pub metrics: BTreeMap<String, f64>,
    /// Whatever else the replicated state holds (course, optimizer scalars).
    /// Numbers whose every bit counts belong here as [`super::bits`] text.
    pub state: Value,
    /// Counters that outlive restarts but aren't part of the state.
    pub counters: Value,
}

/// A complete state between two rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Where and what.
    pub header: Header,
    /// The model's parameters.
    pub weights: Vec<NamedTensor>,
    /// The optimizer's buffers.
    pub optimizer: Vec<NamedTensor>,
}

impl NamedTensor {
    /// Bytes of the values.
    pub(super) fn byte_len(&self) -> usize {
        4 * self.data.len()
    }

    fn check(&self) -> Result<(), String> {
        let values = self
            .shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if values != Some(self.data.len()) {
            return Err(format!(
                "tensor {} of shape {:?} has {} values",
                self.name,
                self.shape,
                self.data.len()
            ));
        }
        if self.name.is_empty() || self.name == "__metadata__" {
            return Err(format!("{:?} can't be a tensor's name", self.name));
        }
        Ok(())
    }
}

/// The digest of a list of tensors as [`weights_sha256`] defines it.
pub(super) fn digest_of(weights: &[NamedTensor]) -> String {
    weights_sha256(
        weights
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.data.as_slice())),
    )
}

impl Tensors for Snapshot {
    fn origin(&self) -> Origin<'_> {
        let header = &self.header;
        Origin {
            identity: &header.identity,
            writer: &header.writer,
            round: header.round,
            step: header.step,
        }
    }

    fn part(&self, part: Part) -> &[NamedTensor] {
        match part {
            Part::Weights => &self.weights,
            Part::Optimizer => &self.optimizer,
        }
    }
}

impl Snapshot {
    /// Bytes of all values.
    pub fn byte_len(&self) -> usize {
        let tensors = self.weights.iter().chain(&self.optimizer);
        tensors.map(NamedTensor::byte_len).sum()
    }

    /// Its shards: [`Extents::plan_shards`].
    pub fn plan_shards(&self, shard_bytes_max: usize) -> Vec<PlannedShard> {
        let extents = |tensors: &[NamedTensor]| tensors.iter().map(Extent::of).collect();
        let extents = Extents {
            weights: extents(&self.weights),
            optimizer: extents(&self.optimizer),
        };
        extents.plan_shards(shard_bytes_max)
    }

    /// Checks that the snapshot belongs to `run` and is consistent with itself,
    /// the digest of the weights included: what can't be loaded mustn't be saved.
    pub(super) fn check(&self, run: &str) -> Result<(), SaveError> {
        let header = &self.header;
        let invalid = |reason| SaveError::Invalid {
            run: run.into(),
            step: header.step,
            reason,
        };
        if header.identity.run != run {
            return Err(invalid(format!(
                "it belongs to run {}",
                header.identity.run
            )));
        }
        valid_id("writer id", &header.writer)?;
        for tensors in [&self.weights, &self.optimizer] {
            let mut names = BTreeSet::new();
            for tensor in tensors {
                tensor.check().map_err(invalid)?;
                if !names.insert(tensor.name.as_str()) {
                    return Err(invalid(format!(
                        "tensor {} stands in it twice",
                        tensor.name
                    )));
                }
            }
        }
        let digest = digest_of(&self.weights);
        if digest != header.weights_sha256 {
            return Err(invalid(format!(
                "its weights have digest {digest}, it says {}",
                header.weights_sha256
            )));
        }
        Ok(())
    }
}
