//! The loss and the metric of classifiers.
//!
//! Cross-entropy in candle is a chain of a dozen small operations, each with
//! several more in the backward pass; for ten classes their overhead is most of
//! the work. Here it is one operation, computed in f64 with elementary functions
//! of our own.

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor, bail};

use super::layers::contiguous;
use super::trace::named;
use crate::numerics::maths;

/// Mean sparse categorical cross-entropy of `[n, classes]` logits and `[n]`
/// class numbers (u32), in nats.
///
/// # Errors
/// When shapes don't fit, or a target is no class.
pub fn sparse_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if logits.device().is_cpu() && logits.dtype() == DType::F32 {
        let loss = logits.contiguous()?.apply_op2(targets, CrossEntropyOp)?;
        return named(loss, "sparse cross-entropy", "loss");
    }
    let loss = candle_nn::loss::cross_entropy(logits, targets)?;
    named(loss, "sparse cross-entropy", "loss")
}

/// Share of rows of `[n, classes]` logits whose largest value stands at the
/// target; the first of equals counts. In f64, so that 9,767 of 10,000 are 0.9767
/// when micro-batches are put together.
///
/// # Errors
/// When shapes don't fit.
pub fn accuracy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let guessed = logits.detach().argmax(D::Minus1)?;
    guessed.eq(targets)?.to_dtype(DType::F64)?.mean_all()
}

/// Mean of -ln softmax(logits)[target], in f64 inside.
struct CrossEntropyOp;

impl CrossEntropyOp {
    /// Calls `each(row number, row, target, largest value, Σ exp(value - largest))`.
    fn rows(
        logits: &[f32],
        targets: &[u32],
        classes: usize,
        mut each: impl FnMut(usize, &[f32], usize, f64, f64),
    ) -> Result<()> {
        for (index, (row, &target)) in logits.chunks_exact(classes).zip(targets).enumerate() {
            let target = target as usize;
            if target >= classes {
                bail!(
                    "target {target} of sample {index} of the micro-batch is no class: the model \
                     has classes 0 to {}",
                    classes - 1
                )
            }
            let largest = row
                .iter()
                .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let largest = f64::from(largest);
            let sum = row
                .iter()
                .map(|&x| maths::exp(f64::from(x) - largest))
                .sum();
            each(index, row, target, largest, sum);
        }
        Ok(())
    }
}

impl CustomOp2 for CrossEntropyOp {
    fn name(&self) -> &'static str {
        "sparse-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, classes) = logits_layout.shape().dims2()?;
        if targets_layout.shape().dims() != [n] {
            bail!(
                "cross-entropy of {n} samples was given targets of shape {:?}",
                targets_layout.shape()
            )
        }
        let logits = contiguous(logits, logits_layout, self.name())?;
        let targets = contiguous_u32(targets, targets_layout, self.name())?;
        let mut total = 0.0f64;
        Self::rows(logits, targets, classes, |_, row, target, largest, sum| {
            total += largest - f64::from(row[target]) + maths::ln(sum);
        })?;
        let mean = (total / n as f64) as f32;
        Ok((CpuStorage::F32(vec![mean]), ().into()))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = f64::from(grad.to_scalar::<f32>()?) / logits.dim(0)? as f64;
        let op = CrossEntropyGradOp(scale);
        Ok((Some(logits.apply_op2_no_bwd(targets, &op)?), None))
    }
}

/// (softmax(logits) - onehot(target)) * scale.
struct CrossEntropyGradOp(f64);

impl CustomOp2 for CrossEntropyGradOp {
    fn name(&self) -> &'static str {
        "sparse-cross-entropy-grad"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = logits_layout.shape().dims2()?;
        let logits = contiguous(logits, logits_layout, self.name())?;
        let targets = contiguous_u32(targets, targets_layout, self.name())?;
        let mut grads = Vec::with_capacity(logits.len());
        CrossEntropyOp::rows(logits, targets, classes, |_, row, target, largest, sum| {
            grads.extend(row.iter().enumerate().map(|(class, &x)| {
                let share = maths::exp(f64::from(x) - largest) / sum;
                let hit = if class == target { 1.0 } else { 0.0 };
                ((share - hit) * self.0) as f32
            }));
        })?;
        Ok((CpuStorage::F32(grads), logits_layout.shape().clone()))
    }
}

fn contiguous_u32<'a>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [u32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::U32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("{op}: expected contiguous u32 class numbers, got {layout:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{close, random};
    use candle_core::Device;

    #[test]
    fn cross_entropy_and_its_gradient_are_those_of_candles_operations() {
        let logits = random((6, 4), "logits");
        let targets = Tensor::new(&[0u32, 3, 1, 2, 2, 0], &Device::Cpu).unwrap();
        let loss = sparse_cross_entropy(&logits, &targets).unwrap();
        let reference = candle_nn::loss::cross_entropy(&logits, &targets).unwrap();
        close(&loss, &reference, "loss");
        let grads = (&loss * 3.0).unwrap().backward().unwrap();
        let expected = (&reference * 3.0).unwrap().backward().unwrap();
        let gradient = grads.get(&logits).unwrap();
        close(gradient, expected.get(&logits).unwrap(), "gradient");
    }

    #[test]
    fn a_target_that_is_no_class_is_named() {
        let logits = random((2, 4), "logits");
        let targets = Tensor::new(&[0u32, 4], &Device::Cpu).unwrap();
        let error = sparse_cross_entropy(&logits, &targets)
            .unwrap_err()
            .to_string();
        assert!(error.contains("target 4 of sample 1"), "{error}");
    }

    #[test]
    fn accuracy_is_the_share_of_hits() {
        let logits = Tensor::new(
            &[[0f32, 1.0], [1.0, 0.0], [2.0, 3.0], [5.0, 4.0]],
            &Device::Cpu,
        );
        let targets = Tensor::new(&[1u32, 0, 0, 0], &Device::Cpu).unwrap();
        let share = accuracy(&logits.unwrap(), &targets).unwrap();
        assert_eq!(share.to_scalar::<f64>().unwrap(), 0.75);
    }
}
