//! Tensors of random numbers that are made where they are needed.

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PushKernelArg;
use candle_core::{
    CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, bail,
};

use super::device::{function, spread};
use crate::numerics::philox::Key;

/// What is made of a key's stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Random {
    /// 0 where the uniform number is below `p`, else `kept`.
    Dropout { p: f32, kept: f32 },
    /// Uniform from `low` on, over `span`.
    Uniform { low: f64, span: f64 },
    /// Normal.
    Normal { mean: f64, deviation: f64 },
}

impl Random {
    /// A tensor of these numbers from the first on, on a GPU: the bits that a
    /// processor makes of the same key.
    ///
    /// # Errors
    /// What the device says.
    pub fn tensor(self, key: Key, shape: &Shape, device: &Device) -> Result<Tensor> {
        let tensor = Tensor::zeros(shape, DType::F32, device)?;
        tensor.inplace_op1(&Fill { random: self, key })?;
        Ok(tensor)
    }
}

struct Fill {
    random: Random,
    key: Key,
}

impl InplaceOp1 for Fill {
    fn name(&self) -> &'static str {
        "random"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("a processor makes random numbers in crate::numerics")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let Some((0, elements)) = layout.contiguous_offsets() else {
            bail!("a new tensor is contiguous, this one has {layout:?}")
        };
        let device = storage.device.clone();
        let stream = device.cuda_stream();
        let values = storage.as_cuda_slice_mut::<f32>()?;
        let kernel = function(
            &device,
            match self.random {
                Random::Dropout { .. } => "dropout_mask",
                Random::Uniform { .. } => "fill_uniform",
                Random::Normal { .. } => "fill_normal",
            },
        )?;
        let [k0, k1] = self.key.0;
        let n = elements as u64;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&k0).arg(&k1);
        match &self.random {
            Random::Dropout { p, kept } => launch.arg(p).arg(kept),
            Random::Uniform { low, span } => launch.arg(low).arg(span),
            Random::Normal { mean, deviation } => launch.arg(mean).arg(deviation),
        };
        launch.arg(values).arg(&n);
        // SAFETY: the kernel's parameters in its order; it writes `n` values, and the tensor is new
        // and has as many.
        unsafe { launch.launch(spread(elements.div_ceil(4))) }.w()?;
        Ok(())
    }
}
