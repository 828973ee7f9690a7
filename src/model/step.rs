//! What a training pass may know besides weights and batch: which step it is.
//!
//! Dropout needs random numbers, and elasticity needs them to be the same
//! whoever computes the micro-batch. So they aren't drawn from a stream but
//! looked up: the key says which mask, the counter which element.

use std::cell::RefCell;

use candle_core::{Device, Result, Shape, Tensor, bail};

use super::trace::named;
#[cfg(feature = "cuda")]
use crate::kernels::Random;
use crate::numerics::philox::{self, Key};

/// Names one micro-batch of one step, and is the only source of randomness of a
/// training pass.
///
/// Made anew for each pass, and used by one thread.
#[derive(Debug)]
pub struct StepContext {
    seed: u64,
    step: u64,
    micro_batch: u32,
    /// How often each layer has asked in this pass: a layer that is used twice
    /// gets two masks. A handful of layers: a list is enough.
    calls: RefCell<Vec<(String, u32)>>,
}

impl StepContext {
    /// The context of micro-batch `micro_batch` of step `step` of a job with `seed`.
    pub fn new(seed: u64, step: u64, micro_batch: u32) -> Self {
        StepContext {
            seed,
            step,
            micro_batch,
            calls: RefCell::new(Vec::new()),
        }
    }

    /// Steps completed before this one.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Index of the micro-batch within the global batch.
    pub fn micro_batch(&self) -> u32 {
        self.micro_batch
    }

    /// Inverted dropout: each element becomes 0 with probability `p`, and
    /// `x / (1 - p)` otherwise, so that evaluation needs no scaling.
    ///
    /// `layer` is the layer's path in the model: masks of different layers, and
    /// of repeated calls of one layer, are independent. The mask is a function of
    /// (seed, step, micro-batch, layer, call) and the element's row-major index.
    ///
    /// # Errors
    /// When `p` isn't in [0, 1), or candle fails.
    pub fn dropout(&self, xs: &Tensor, p: f32, layer: &str) -> Result<Tensor> {
        if !(0.0..1.0).contains(&p) {
            bail!("dropout of layer {layer:?} is {p}: it has to be at least 0 and below 1")
        }
        if p == 0.0 {
            self.count(layer); // a call like any other
            return Ok(xs.clone());
        }
        let mask = self.mask(p, layer, xs.shape(), xs.device())?;
        named((xs * mask.to_dtype(xs.dtype())?)?, "dropout", layer)
    }

    /// 0 with probability `p`, else the inverse of what is kept.
    pub(crate) fn mask(
        &self,
        p: f32,
        layer: &str,
        shape: &Shape,
        device: &Device,
    ) -> Result<Tensor> {
        let key = self.key("dropout", layer);
        let kept = 1.0 / (1.0 - p);
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return Random::Dropout { p, kept }.tensor(key, shape, device);
        }
        let mut mask = vec![0.0f32; shape.elem_count()];
        philox::fill_uniform(key, 0, &mut mask);
        for value in &mut mask {
            *value = if *value >= p { kept } else { 0.0 };
        }
        Tensor::from_vec(mask, shape, device)
    }

    /// A key of the counter-based generator for one call of `layer`, for models
    /// with a randomness of their own; `domain` keeps different uses apart.
    pub fn key(&self, domain: &str, layer: &str) -> Key {
        let call = self.count(layer);
        Key::derive(
            self.seed,
            domain,
            &[
                &self.step.to_le_bytes(),
                &self.micro_batch.to_le_bytes(),
                layer.as_bytes(),
                &call.to_le_bytes(),
            ],
        )
    }

    fn count(&self, layer: &str) -> u32 {
        let mut calls = self.calls.borrow_mut();
        match calls.iter_mut().find(|(name, _)| name == layer) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                calls.push((layer.to_owned(), 0));
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    fn mask(context: &StepContext, p: f32, layer: &str) -> Vec<f32> {
        let ones = Tensor::ones((40, 50), DType::F32, &Device::Cpu).unwrap();
        let dropped = context.dropout(&ones, p, layer).unwrap();
        dropped.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_mask_is_zero_or_the_inverse_of_what_is_kept() {
        let mask = mask(&StepContext::new(1, 2, 3), 0.2, "d");
        assert!(mask.iter().all(|&v| v == 0.0 || v == 1.0 / 0.8f32));
        let zeros = mask.iter().filter(|&&v| v == 0.0).count();
        assert!((320..480).contains(&zeros), "{zeros} of 2000 at p = 0.2");
    }

    #[test]
    fn the_mask_is_a_function_of_seed_step_micro_batch_layer_and_call() {
        let base = || StepContext::new(1, 2, 3);
        let reference = mask(&base(), 0.5, "a");
        assert_eq!(reference, mask(&base(), 0.5, "a"));
        for other in [
            mask(&StepContext::new(9, 2, 3), 0.5, "a"),
            mask(&StepContext::new(1, 9, 3), 0.5, "a"),
            mask(&StepContext::new(1, 2, 9), 0.5, "a"),
            mask(&base(), 0.5, "b"),
        ] {
            assert_ne!(reference, other);
        }
        let context = base();
        let first = mask(&context, 0.5, "a");
        let other_layer = mask(&context, 0.5, "b");
        let second = mask(&context, 0.5, "a");
        assert_eq!(first, reference);
        assert_ne!(second, reference);
        // Another layer's calls don't shift this one's.
        assert_eq!(other_layer, mask(&base(), 0.5, "b"));
    }

    #[test]
    fn gradients_pass_only_where_values_did() {
        let xs = Var::from_tensor(&Tensor::ones(64, DType::F32, &Device::Cpu).unwrap()).unwrap();
        let context = StepContext::new(1, 2, 3);
        let ys = context.dropout(&xs, 0.5, "d").unwrap();
        let grads = ys.sum_all().unwrap().backward().unwrap();
        let gradient = grads.get(&xs).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradient, ys.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn no_dropout_is_the_identity_and_impossible_rates_are_refused() {
        let xs = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap();
        let context = StepContext::new(1, 2, 3);
        let same = context.dropout(&xs, 0.0, "d").unwrap();
        assert_eq!(same.to_vec1::<f32>().unwrap(), xs.to_vec1::<f32>().unwrap());
        for p in [1.0, -0.1, f32::NAN] {
            let error = context.dropout(&xs, p, "hidden").unwrap_err().to_string();
            assert!(error.contains("\"hidden\""), "{error}");
        }
    }
}
