//! Layers that candle lacks, or has in a form too slow to train small models.
//!
//! candle's backward pass is general: it differentiates through the transpose in
//! front of a matrix product, computes the gradient of the input pixels, and
//! walks a chain of small operations for each activation. For a layer of
//! 784 x 128 that costs as much as the arithmetic. The operations here are single
//! nodes of the graph with a backward pass of their own. On devices other than
//! the CPU the same functions are built from candle's operations.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::init;
use super::trace::named;

/// What follows the affine map of a [`Dense`] layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// max(x, 0). Its derivative at 0 is 0.
    Relu,
}

/// A fully connected layer: `activation(xs · weightᵀ + bias)`.
///
/// Variables as in `candle_nn::Linear`: `weight` of shape `[outputs, inputs]`
/// and `bias` of shape `[outputs]`; initial values as in Keras: Glorot uniform
/// and zeros.
#[derive(Debug, Clone)]
pub struct Dense {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    /// Its path in the model, for those who look into a step.
    path: String,
}

impl Dense {
    /// Creates the layer's variables under the path of `vars`.
    ///
    /// # Errors
    /// When `vars` refuses, such as for a name that has another shape already.
    pub fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        vars: VarBuilder,
    ) -> Result<Self> {
        let hint = init::glorot_uniform(inputs, outputs);
        Ok(Dense {
            weight: vars.get_with_hints((outputs, inputs), "weight", hint)?,
            bias: vars.get_with_hints(outputs, "bias", init::zeros())?,
            activation,
            path: vars.prefix(),
        })
    }
}

impl Module for Dense {
    /// `[n, inputs]` to `[n, outputs]`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if xs.device().is_cpu() && xs.dtype() == DType::F32 {
            let op = DenseOp(self.activation);
            let ys = xs.contiguous()?.apply_op3(&self.weight, &self.bias, op)?;
            return named(ys, "dense", &self.path);
        }
        let ys = xs.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        let ys = match self.activation {
            Activation::Linear => ys,
            Activation::Relu => ys.relu()?,
        };
        named(ys, "dense", &self.path)
    }
}

/// `activation(x · wᵀ + b)` as one node of the graph.
struct DenseOp(Activation);

impl CustomOp3 for DenseOp {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, inputs) = xs_layout.shape().dims2()?;
        let (outputs, weight_inputs) = weight_layout.shape().dims2()?;
        if inputs != weight_inputs {
            bail!("a dense layer with {weight_inputs} inputs was given {inputs} values a sample")
        }
        // weight · xsᵀ and not xs · weightᵀ: for few samples the second spends most
        // of its time on rearranging the weight (130 against 52 µs at 16 x 784 x 128).
        let transposed = xs_layout.transpose(0, 1)?;
        let product = weight.matmul(xs, (1, outputs, n, inputs), weight_layout, &transposed)?;
        let CpuStorage::F32(product) = product else {
            bail!("dense: the matrix product isn't f32")
        };
        let bias = contiguous(bias, bias_layout, self.name())?;
        let relu = self.0 == Activation::Relu;
        let mut ys = vec![0.0f32; n * outputs];
        for (output, (sums, b)) in product.chunks_exact(n).zip(bias).enumerate() {
            for (y, sum) in ys[output..].iter_mut().step_by(outputs).zip(sums) {
                let sum = sum + b;
                // Not `max`: that would turn NaN into 0 and hide it.
                *y = if relu && sum < 0.0 { 0.0 } else { sum };
            }
        }
        Ok((CpuStorage::F32(ys), (n, outputs).into()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = match self.0 {
            Activation::Linear => grad.contiguous()?,
            Activation::Relu => grad.contiguous()?.apply_op2_no_bwd(ys, &ReluGradOp)?,
        };
        // Pixels need no gradient: half of the first layer's backward pass.
        let xs_grad = match xs.track_op() {
            true => Some(grad.matmul(weight)?),
            false => None,
        };
        let weight_grad = grad.t()?.matmul(xs)?;
        let bias_grad = grad.sum(0)?;
        Ok((xs_grad, Some(weight_grad), Some(bias_grad)))
    }
}

/// The gradient where the activation is above 0, else 0.
struct ReluGradOp;

impl CustomOp2 for ReluGradOp {
    fn name(&self) -> &'static str {
        "relu-grad"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        ys: &CpuStorage,
        ys_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let grad = contiguous(grad, grad_layout, self.name())?;
        let ys = contiguous(ys, ys_layout, self.name())?;
        let masked = grad
            .iter()
            .zip(ys)
            .map(|(&g, &y)| if y <= 0.0 { 0.0 } else { g })
            .collect();
        Ok((CpuStorage::F32(masked), grad_layout.shape().clone()))
    }
}

/// The values of an operand of ours, which are contiguous where we call it.
pub(super) fn contiguous<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("{op}: expected contiguous f32 values, got {layout:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{close, random};
    use candle_core::Device;

    #[test]
    fn the_dense_layer_and_its_gradients_are_those_of_candles_operations() {
        for activation in [Activation::Linear, Activation::Relu] {
            let xs = random((5, 7), "xs");
            let layer = Dense {
                weight: random((3, 7), "w").into_inner(),
                bias: random(3, "b").into_inner(),
                activation,
                path: String::new(),
            };
            let ys = layer.forward(&xs).unwrap();
            let reference = xs.matmul(&layer.weight.t().unwrap()).unwrap();
            let mut reference = reference.broadcast_add(&layer.bias).unwrap();
            if activation == Activation::Relu {
                reference = reference.relu().unwrap();
            }
            close(&ys, &reference, "outputs");
            let grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let expected = reference
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap();
            for (tensor, what) in [
                (xs.as_tensor(), "inputs"),
                (&layer.weight, "weight"),
                (&layer.bias, "bias"),
            ] {
                let scale = 1.0 / 64.0;
                let got = (grads.get(tensor).unwrap() * scale).unwrap();
                close(
                    &got,
                    &(expected.get(tensor).unwrap() * scale).unwrap(),
                    what,
                );
            }
        }
    }

    #[test]
    fn a_layer_on_plain_inputs_computes_no_gradient_for_them() {
        let xs = random((5, 7), "xs").as_detached_tensor();
        let layer = Dense {
            weight: random((3, 7), "w").into_inner(),
            bias: random(3, "b").into_inner(),
            activation: Activation::Relu,
            path: String::new(),
        };
        let loss = layer.forward(&xs).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert!(grads.get(&xs).is_none());
        assert!(grads.get(&layer.weight).is_some());
    }

    #[test]
    fn a_nan_passes_through_the_relu() {
        let xs = Tensor::new(&[[f32::NAN, 1.0]], &Device::Cpu).unwrap();
        let layer = Dense {
            weight: Tensor::ones((1, 2), DType::F32, &Device::Cpu).unwrap(),
            bias: Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap(),
            activation: Activation::Relu,
            path: String::new(),
        };
        let ys = layer.forward(&xs).unwrap().to_vec2::<f32>().unwrap();
        assert!(ys[0][0].is_nan());
    }
}
