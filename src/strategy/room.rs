//! Errors that are a GPU's, and what to do about a full one.

use candle_core::{Device, Error};

use super::error::StrategyError;
use super::plan::Plan;

/// Whether a GPU that is full or broken said it, whatever was added on the way.
pub(super) fn is_a_gpus(error: &Error) -> bool {
    gpus_words(error).is_some()
}

fn gpus_words(error: &Error) -> Option<String> {
    use Error::{Context, Cuda, WithBacktrace, WithPath};
    match error {
        Cuda(words) => Some(words.to_string()),
        Context { inner, .. } | WithPath { inner, .. } | WithBacktrace { inner, .. } => {
            gpus_words(inner)
        }
        _ => None,
    }
}

/// The driver's and cuBLAS' words for a full GPU.
fn is_full(error: &Error) -> bool {
    gpus_words(error).is_some_and(|words| {
        words.contains("OUT_OF_MEMORY") || words.contains("CUBLAS_STATUS_ALLOC_FAILED")
    })
}

impl StrategyError {
    /// The same, with the sizes where a GPU was full.
    pub(super) fn with_room(self, device: &Device, plan: &Plan) -> StrategyError {
        match self {
            StrategyError::Compute { place, source } if is_full(&source) => {
                let (free, total) = room(device);
                let sizes = format!(
                    "{} of {} MB are free, and a micro-batch of {} samples doesn't fit beside a model \
                     of {} parameters and what other processes hold",
                    free >> 20,
                    total >> 20,
                    plan.job.train.micro_batch,
                    plan.layout.elements()
                );
                StrategyError::Full {
                    place,
                    sizes,
                    source,
                }
            }
            StrategyError::Update { source } if is_full(&source) => {
                let (free, total) = room(device);
                let sizes = format!(
                    "{} of {} MB are free, and weights, sum and optimizer state of {} parameters don't \
                     fit beside what other processes hold",
                    free >> 20,
                    total >> 20,
                    plan.layout.elements()
                );
                StrategyError::FullOfModel { sizes, source }
            }
            other => other,
        }
    }
}

/// Bytes free and in all; of a processor nobody asks.
fn room(device: &Device) -> (usize, usize) {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return device
            .cuda_stream()
            .context()
            .mem_get_info()
            .unwrap_or_default();
    }
    let _ = device;
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Error {
        Error::Cuda(words.into())
    }

    #[test]
    fn a_full_gpu_is_told_from_a_broken_one_and_from_a_models_mistake() {
        let full = said("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(is_full(&full) && is_a_gpus(&full));
        let full = full.context("on the way");
        assert!(is_full(&full) && is_a_gpus(&full));
        let broken = said("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"...\")");
        assert!(!is_full(&broken) && is_a_gpus(&broken));
        let mistake = Error::Msg("OUT_OF_MEMORY is what I call my layer".into());
        assert!(!is_full(&mistake) && !is_a_gpus(&mistake));
    }
}
