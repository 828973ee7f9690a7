//! What training takes of memory, found by trying it: one replica on ever larger micro-batches.
//!
//! Activations depend on the model's code, so nothing but running it tells their size: the
//! process's peak grows by what each further sample keeps for the backward pass.

use super::error::{Place, StrategyError};
use super::mirrored::Replicas;
use super::plan::Plan;
use super::replica::Replica;
use crate::data::Draw;
use crate::devices::Devices;
use crate::job::{JobError, Kind};
use crate::model::StepContext;
use crate::optim::Rule;

/// Bytes a parameter of a member at its peak, without the moments of its optimizer:
/// docs/performance.md, "Memory".
const MEMBER_BYTES: u64 = 48;
/// Bytes a parameter on a GPU, without the moments: weights, gradient, the replica's sum.
const GPU_BYTES: u64 = 4 + 4 + 8;
/// Bytes a moment of a parameter.
const MOMENT_BYTES: u64 = 4;
/// No larger micro-batch is tried.
const TRIED_MAX: u64 = 1 << 16;
/// A peak that has grown by so much tells what a sample takes.
const GROWN_ENOUGH: u64 = 64 << 20;

/// What training takes of memory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Estimate {
    /// Values of the model.
    pub parameters: u64,
    /// Bytes a parameter of a worker's process at its peak, and as much again on
    /// each further replica on the processor as on a GPU.
    pub worker_bytes_per_parameter: u64,
    /// Bytes a parameter on each GPU.
    pub gpu_bytes_per_parameter: u64,
    /// Bytes that a sample keeps until the backward pass is through with it.
    pub bytes_per_sample: u64,
    /// The largest micro-batch that was tried to find that.
    pub tried_micro_batch: u64,
}

impl Estimate {
    /// The largest micro-batch where there is room for so many bytes besides what everything but
    /// this model takes, at so many bytes a parameter; 0 if the model alone is too large.
    pub fn largest_micro_batch(&self, room: u64, bytes_per_parameter: u64) -> u64 {
        let model = self.parameters.saturating_mul(bytes_per_parameter);
        room.saturating_sub(model) / self.bytes_per_sample.max(1)
    }
}

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
pub enum EstimateError {
    /// The job can't be trained.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The model or the data can't be computed with.
    #[error(transparent)]
    Strategy(Box<StrategyError>),
    /// The system keeps no account of a process's peak.
    #[error("this system doesn't tell how much memory a process takes (/proc/self/status): {0}")]
    NoAccount(String),
}

impl From<StrategyError> for EstimateError {
    fn from(error: StrategyError) -> EstimateError {
        EstimateError::Strategy(Box::new(error))
    }
}

impl Plan {
    /// Tries this job's model on the processor. Memory that this process has taken and given
    /// back before hides what a sample takes: it had better be a young one.
    ///
    /// # Errors
    /// What the model or the data say, or that the system says nothing.
    pub fn estimate(&self) -> Result<Estimate, EstimateError> {
        let mut replicas = Replicas::of(self, &Devices::cpu(1))?;
        let replica = replicas.first_replica();
        replica.try_micro_batch(self, 1)?;
        let smallest = peak()?;
        let mut size = 1;
        let mut grown = 0;
        while grown < GROWN_ENOUGH && size < TRIED_MAX {
            size *= 2;
            replica.try_micro_batch(self, size)?;
            grown = peak()?.saturating_sub(smallest);
        }
        let moments = match self
            .job
            .optimizer
            .rule()
            .map_err(|e| self.job.error(&e.key, e.problem.to_string()))?
        {
            Rule::Adam { .. } => 2,
            Rule::Sgd { momentum, .. } => u64::from(momentum != 0.0),
        };
        Ok(Estimate {
            parameters: self.layout.elements() as u64,
            worker_bytes_per_parameter: MEMBER_BYTES + MOMENT_BYTES * moments,
            gpu_bytes_per_parameter: GPU_BYTES + MOMENT_BYTES * moments,
            bytes_per_sample: grown.div_ceil(size - 1),
            tried_micro_batch: size,
        })
    }
}

impl Replica {
    /// Computes the gradient of so many samples and drops it. Small data come again and again.
    fn try_micro_batch(&mut self, plan: &Plan, size: u64) -> Result<(), StrategyError> {
        let (step, m) = (0, 0);
        let kind = Kind::Train { step, epoch: 0 };
        let place = Place::of(plan, &kind, m);
        let failed = |source| StrategyError::Compute { place, source };
        let samples: Vec<u64> = (0..size).map(|s| s % plan.data.train.len()).collect();
        let seed = plan.job.seed;
        plan.data
            .gather_train(Draw { seed, epoch: 0 }, &samples, &mut self.gathered)
            .map_err(|source| StrategyError::Data { place, source })?;
        let batch = self.batch().map_err(failed)?;
        let context = StepContext::new(seed, step, m);
        let loss = self.model.loss(&batch, &context).map_err(failed)?;
        self.gradients(&loss.mean, plan, place).map(drop)
    }
}

/// The most memory that this process has had so far, in bytes.
fn peak() -> Result<u64, EstimateError> {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.map_err(|error| EstimateError::NoAccount(error.to_string()))?;
    peak_in(&status).ok_or_else(|| EstimateError::NoAccount("no VmHWM in it".into()))
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    #[test]
    fn what_is_left_beside_the_model_is_for_samples() {
        let estimate = Estimate {
            parameters: 1000,
            worker_bytes_per_parameter: 56,
            gpu_bytes_per_parameter: 8,
            bytes_per_sample: 100,
            tried_micro_batch: 64,
        };
        assert_eq!(estimate.largest_micro_batch(18_050, 8), 100);
        assert_eq!(estimate.largest_micro_batch(8_050, 8), 0);
        assert_eq!(estimate.largest_micro_batch(7_000, 8), 0);
    }

    #[test]
    fn a_peak_is_read_in_kibibytes() {
        assert_eq!(
            peak_in("VmPeak: 9 kB\nVmHWM:\t    1204 kB\n"),
            Some(1_232_896)
        );
        assert_eq!(peak_in("VmHWM: much"), None);
    }

    #[test]
    fn a_model_of_two_values_is_tried_up_to_the_largest_micro_batch() {
        let estimate = line(&[]).estimate().unwrap();
        assert_eq!(estimate.parameters, 2);
        assert!(estimate.tried_micro_batch > 1);
    }
}
