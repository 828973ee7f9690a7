//! From a complete sum on a GPU to new weights there.

use std::ops::Range;

use candle_core::cuda::cudarc::driver::{CudaSlice, CudaViewMut, DeviceRepr, PushKernelArg};
use candle_core::cuda::{CudaDevice, WrapErr};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Var, bail};
use std::cell::RefCell;

use super::device::{SHARING, function, spread, threads, with_floats};
use super::pinned::{Pinned, Staging};
use super::sum::DeviceSum;
use crate::exact::SumHash;
use crate::optim::kernel::{AdamScalars, SgdScalars};
use crate::optim::{Change, NormAccumulator};

/// Elements whose squares one thread block adds up: src/optim/clip.rs.
const SQUARED: usize = 1024;
/// Threads of that block, one a lane.
const SQUARING: u32 = 16;
/// Lanes of a sum's name.
const LANES: usize = 32;

/// The optimizer's buffers on a GPU, and what an update needs besides.
pub(crate) struct DeviceUpdate {
    device: CudaDevice,
    /// As [`Optimizer::buffers`](crate::optim::Optimizer::buffers): flat, in their order.
    buffers: Vec<CudaSlice<f32>>,
    staging: Staging<f32>,
    naming: Naming,
}

/// A sum's name, on its way.
struct Naming {
    /// Where each piece begins, and where the last ends.
    starts: CudaSlice<u64>,
    lanes: CudaSlice<u64>,
    whole: CudaSlice<u64>,
    here: Pinned<u64>,
}

// SAFETY: plain numbers as in src/kernels/update.cuh, in its order.
unsafe impl DeviceRepr for AdamScalars {}
// SAFETY: likewise.
unsafe impl DeviceRepr for SgdScalars {}

impl DeviceUpdate {
    /// Zero buffers for so many elements, and the pieces by which their sum is named: `starts`
    /// is where each begins and where the last one ends.
    pub fn new(
        device: &CudaDevice,
        buffers: usize,
        elements: usize,
        starts: &[u64],
    ) -> Result<Self> {
        let buffer = |_| device.alloc_zeros(elements);
        Ok(DeviceUpdate {
            device: device.clone(),
            buffers: (0..buffers).map(buffer).collect::<Result<_>>()?,
            staging: Staging::new(device, elements)?,
            naming: Naming {
                starts: device.clone_htod(starts)?,
                lanes: device.alloc_zeros(LANES * (starts.len() - 1))?,
                whole: device.alloc_zeros(LANES)?,
                here: Pinned::new(device, LANES)?,
            },
        })
    }

    /// Takes over buffers from the host.
    pub fn put(&mut self, buffers: &[(&str, &[f32])]) -> Result<()> {
        assert_eq!(buffers.len(), self.buffers.len(), "the same optimizer");
        for ((_, values), there) in buffers.iter().zip(&mut self.buffers) {
            self.staging.upload(values, &mut there.as_view_mut())?;
        }
        Ok(())
    }

    /// Copies them to the host.
    pub fn get(&mut self, buffers: Vec<&mut [f32]>) -> Result<()> {
        assert_eq!(buffers.len(), self.buffers.len(), "the same optimizer");
        for (values, there) in buffers.into_iter().zip(&self.buffers) {
            self.staging.download(&there.as_view(), values)?;
        }
        Ok(())
    }

    /// Copies new values to a variable on this GPU.
    pub fn put_variable(&mut self, variable: &Var, values: &[f32]) -> Result<()> {
        in_place(variable, |mut there| {
            self.staging.upload(values, &mut there)
        })
    }

    /// Copies a variable's values to the host.
    pub fn get_variable(&mut self, variable: &Var, values: &mut [f32]) -> Result<()> {
        with_floats(variable, |there| self.staging.download(there, values))
    }

    /// Has the sum's name worked out; [`name`](DeviceUpdate::name) waits for it.
    pub fn begin_naming(&mut self, sum: &DeviceSum) -> Result<()> {
        let stream = self.device.cuda_stream();
        let Naming {
            starts,
            lanes,
            whole,
            here,
        } = &mut self.naming;
        let pieces = starts.len() as u64 - 1;
        let kernel = function(&self.device, "name_pieces")?;
        let values = sum.values();
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&values).arg(&*starts).arg(&pieces);
        launch.arg(&mut *lanes);
        // SAFETY: the kernel's parameters in its order; it reads the sum where the pieces say,
        // which is within it, and writes 32 lanes a piece.
        unsafe { launch.launch(spread(LANES * pieces as usize)) }.w()?;
        let kernel = function(&self.device, "name_whole")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&*lanes).arg(&*starts).arg(&pieces);
        launch.arg(&mut *whole);
        // SAFETY: as above; it writes 32 lanes.
        unsafe { launch.launch(threads(1, SHARING)) }.w()?;
        here.receive(&whole.as_view())
    }

    /// The name of the sum, without its totals.
    pub fn name(&self) -> Result<SumHash> {
        match self.naming.here.arrived()?.try_into() {
            Ok(lanes) => Ok(SumHash::of_lanes(lanes)),
            Err(_) => bail!("a name of other than {LANES} lanes"),
        }
    }

    /// The norm of the gradient that the sum stands for: each integer times `factor`. Waits
    /// for the GPU.
    pub fn norm(&self, sum: &DeviceSum, factor: f64) -> Result<NormAccumulator> {
        let stream = self.device.cuda_stream();
        let values = sum.values();
        let n = values.len() as u64;
        let count = values.len().div_ceil(SQUARED);
        let mut blocks = self.device.alloc_zeros::<f64>(count.max(1))?;
        let kernel = function(&self.device, "squares")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&values).arg(&n).arg(&factor).arg(&mut blocks);
        // SAFETY: the kernel's parameters in its order; it reads `n` values and writes a number
        // for each 1024 of them.
        unsafe { launch.launch(threads(count as u32, SQUARING)) }.w()?;
        let blocks = self.device.clone_dtoh(&blocks)?;
        Ok(NormAccumulator::of_blocks(&blocks[..count]))
    }

    /// Updates the elements `part` of the flat buffer, which begin `offset` values into
    /// `variable`; the sum is zero there afterwards.
    pub fn update(
        &mut self,
        (variable, offset): (&Var, usize),
        part: Range<usize>,
        change: Change,
        (sum, factor): (&mut DeviceSum, f64),
    ) -> Result<()> {
        in_place(variable, |mut weights| {
            let weights = weights.slice_mut(offset..offset + part.len());
            self.launch(weights, part, change, sum, factor)
        })
    }

    fn launch(
        &mut self,
        mut weights: CudaViewMut<f32>,
        part: Range<usize>,
        change: Change,
        sum: &mut DeviceSum,
        factor: f64,
    ) -> Result<()> {
        let stream = self.device.cuda_stream();
        let name = match change {
            Change::Adam(_) => "adam",
            Change::Sgd(_) => "sgd",
            Change::Momentum { .. } => "momentum",
        };
        let kernel = function(&self.device, name)?;
        let n = part.len() as u64;
        let mut sum = sum.values_mut(part.clone());
        let mut buffers = self.buffers.iter_mut();
        let mut buffers: Vec<_> = buffers
            .by_ref()
            .map(|b| b.slice_mut(part.clone()))
            .collect();
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut sum).arg(&n).arg(&factor);
        let (adam, sgd, nesterov);
        match change {
            Change::Adam(scalars) => {
                adam = scalars;
                launch.arg(&adam);
            }
            Change::Sgd(scalars) => {
                sgd = scalars;
                launch.arg(&sgd);
            }
            Change::Momentum {
                scalars,
                nesterov: is,
            } => {
                (sgd, nesterov) = (scalars, i32::from(is));
                launch.arg(&sgd).arg(&nesterov);
            }
        }
        launch.arg(&mut weights);
        for buffer in &mut buffers {
            launch.arg(buffer);
        }
        // SAFETY: the kernel's parameters in its order, with as many buffers as the method has;
        // all are `n` values long.
        unsafe { launch.launch(spread(part.len())) }.w()?;
        Ok(())
    }
}

/// Calls `change` with the values of a variable of a GPU.
fn in_place(variable: &Var, change: impl FnOnce(CudaViewMut<f32>) -> Result<()>) -> Result<()> {
    let change = RefCell::new(Some(change));
    variable.inplace_op1(&InPlace(change))
}

struct InPlace<F>(RefCell<Option<F>>);

impl<F: FnOnce(CudaViewMut<f32>) -> Result<()>> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("the processor's variables are updated there")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let (Some(change), Some((start, end))) = (self.0.take(), layout.contiguous_offsets())
        else {
            bail!("a variable is contiguous f32, this one has {layout:?}")
        };
        change(storage.as_cuda_slice_mut::<f32>()?.slice_mut(start..end))
    }
}
