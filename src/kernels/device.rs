//! Launching the kernels, with candle's buffers and on candle's stream: what the model
//! has computed is there without waiting for it.

use std::ops::Range;

use candle_core::cuda::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, LaunchConfig, PinnedHostSlice, PushKernelArg,
};
use candle_core::cuda::{CudaDevice, WrapErr};
use candle_core::{Result, Storage, Tensor, bail};

use crate::exact::{BLOCK, Inspection, Rounding, bodies_len, unpack_add_parts};

/// `kernels.cu`, compiled by `build.rs`.
pub(super) const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Threads of a block, where a kernel takes any number.
const THREADS: u32 = 256;
/// Thread blocks at most: a thread of a larger gradient takes several elements.
const BLOCKS_MAX: usize = 1 << 16;
/// Threads that add up the widths of a packed sum's blocks.
const SCANNING: u32 = 1024;

/// The kernel of this name; the driver compiles all of them with the first.
pub(super) fn function(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    let found = device.get_or_load_custom_func(name, "ebbtide", PTX)?;
    Ok(found.into_cuda_function())
}

pub(super) fn threads(grid: u32, block: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (grid, 1, 1),
        block_dim: (block, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// A thread an element, within bounds.
pub(super) fn spread(elements: usize) -> LaunchConfig {
    let blocks = elements.div_ceil(THREADS as usize).clamp(1, BLOCKS_MAX);
    threads(blocks as u32, THREADS)
}

/// The exact sum of a GPU replica's micro-batches, which stays on the GPU until the
/// replica has computed its share.
pub(crate) struct DeviceSum {
    device: CudaDevice,
    /// An element a parameter of the model.
    sum: CudaSlice<i64>,
    /// Values of the micro-batch that can't be summed, two counts a variable.
    odd: CudaSlice<u64>,
    /// What was rounded away since the last [`take`](DeviceSum::take), likewise.
    rounded: CudaSlice<u64>,
    /// Where the packed sum arrives; grows as needed.
    landing: Option<PinnedHostSlice<u8>>,
}

/// A gradient and where its variable is in the flat buffer; `None` for frozen ones.
pub(crate) type Gradients<'a> = [(Option<&'a Tensor>, Range<usize>)];

impl DeviceSum {
    /// A sum of nothing.
    pub fn new(device: &CudaDevice, elements: usize, variables: usize) -> Result<Self> {
        Ok(DeviceSum {
            device: device.clone(),
            sum: device.alloc_zeros(elements)?,
            odd: device.alloc_zeros(2 * variables)?,
            rounded: device.alloc_zeros(2 * variables)?,
            landing: None,
        })
    }

    /// What can't be summed, of each variable. Waits for the GPU.
    pub fn inspect(&mut self, gradients: &Gradients, factor: f64) -> Result<Vec<Inspection>> {
        let stream = self.device.cuda_stream();
        stream.memset_zeros(&mut self.odd).w()?;
        let kernel = function(&self.device, "inspect")?;
        for (index, (gradient, _)) in gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let mut counts = self.odd.slice_mut(2 * index..2 * index + 2);
            with_floats(gradient, |values| {
                let n = values.len() as u64;
                let mut launch = stream.launch_builder(&kernel);
                launch.arg(values).arg(&n).arg(&factor).arg(&mut counts);
                // SAFETY: the kernel's parameters in its order; it reads `n` values and
                // adds to two counts, which is what these buffers hold.
                unsafe { launch.launch(spread(values.len())) }
                    .w()
                    .map(|_| ())
            })?;
        }
        let counts = self.device.clone_dtoh(&self.odd)?;
        let counts = counts.as_chunks::<2>().0.iter();
        Ok(counts
            .map(|&[non_finite, out_of_range]| Inspection {
                non_finite,
                out_of_range,
            })
            .collect())
    }

    /// Adds gradients that [`inspect`](DeviceSum::inspect) found clean with the same
    /// factor.
    pub fn accumulate(&mut self, gradients: &Gradients, factor: f64) -> Result<()> {
        let stream = self.device.cuda_stream();
        let kernel = function(&self.device, "accumulate")?;
        for (index, (gradient, range)) in gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let mut sum = self.sum.slice_mut(range.clone());
            let mut counts = self.rounded.slice_mut(2 * index..2 * index + 2);
            with_floats(gradient, |values| {
                assert_eq!(values.len(), range.len(), "a gradient and its sum");
                let n = values.len() as u64;
                let mut launch = stream.launch_builder(&kernel);
                launch.arg(values).arg(&n).arg(&factor);
                launch.arg(&mut sum).arg(&mut counts);
                // SAFETY: the kernel's parameters in its order; it reads `n` values, adds to as
                // many sums, by the assertion, and to two counts.
                unsafe { launch.launch(spread(values.len())) }
                    .w()
                    .map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Gives the sum, packed, to `receive`, and is a sum of nothing again; what was rounded
    /// away, of each variable.
    pub fn take(&mut self, receive: impl FnOnce(&Packed) -> Result<()>) -> Result<Vec<Rounding>> {
        receive(&self.pack()?)?;
        let rounded = self.device.clone_dtoh(&self.rounded)?;
        self.clear()?;
        let rounded = rounded.as_chunks::<2>().0.iter();
        Ok(rounded
            .map(|&[nonzero, to_zero]| Rounding { nonzero, to_zero })
            .collect())
    }

    /// Forgets what was added.
    pub fn clear(&mut self) -> Result<()> {
        let stream = self.device.cuda_stream();
        stream.memset_zeros(&mut self.sum).w()?;
        stream.memset_zeros(&mut self.rounded).w()
    }

    fn pack(&mut self) -> Result<Packed<'_>> {
        let stream = self.device.cuda_stream();
        let n = self.sum.len() as u64;
        let blocks = self.sum.len().div_ceil(BLOCK);
        let each_block = threads(blocks as u32, THREADS);
        let mut widths = self.device.alloc_zeros::<u8>(blocks)?;
        let mut offsets = self.device.alloc_zeros::<u64>(blocks + 1)?;
        let kernel = function(&self.device, "pack_widths")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&self.sum).arg(&n).arg(&mut widths);
        // SAFETY: the kernel's parameters in its order; a width for each block of `n` values.
        unsafe { launch.launch(each_block) }.w()?;
        let kernel = function(&self.device, "pack_offsets")?;
        let count = blocks as u64;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&widths).arg(&count).arg(&n).arg(&mut offsets);
        // SAFETY: as above; it writes an offset a block and one more.
        unsafe { launch.launch(threads(1, SCANNING)) }.w()?;

        // How much it comes to is known here before there is room for it there.
        let on_host = self.device.clone_dtoh(&widths)?;
        let bytes = bodies_len(&on_host, self.sum.len());
        let mut bodies = self.device.alloc_zeros::<u64>(bytes.div_ceil(8).max(1))?;
        let kernel = function(&self.device, "pack_bodies")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&self.sum).arg(&n).arg(&widths);
        launch.arg(&offsets).arg(&mut bodies);
        // SAFETY: as above; by the widths the bodies take exactly these words.
        unsafe { launch.launch(each_block) }.w()?;
        Ok(Packed {
            widths: on_host,
            bodies: self.land(&bodies, bytes)?,
        })
    }

    /// The first `bytes` of the bodies, through memory that the GPU writes to directly.
    fn land(&mut self, bodies: &CudaSlice<u64>, bytes: usize) -> Result<&[u8]> {
        let stream = self.device.cuda_stream();
        let landing = match self.landing.take() {
            Some(landing) if landing.len() >= bytes => landing,
            _ => {
                let room = bytes.next_power_of_two();
                // SAFETY: the memory is the operating system's, which has zeroed it, and any
                // bytes are bytes.
                unsafe { stream.context().alloc_pinned_with_flags(room, 0) }.w()?
            }
        };
        let landing = self.landing.insert(landing);
        // SAFETY: any bytes are bytes, and there are as many, or it gives `None`.
        let Some(words) = (unsafe { bodies.transmute::<u8>(bytes) }) else {
            bail!("{bytes} bytes don't fit into {} words", bodies.len())
        };
        let landed = &mut landing.as_mut_slice().w()?[..bytes];
        stream.memcpy_dtoh(&words, landed).w()?;
        stream.synchronize().w()?;
        Ok(landed)
    }
}

/// A sum as it came from the GPU.
pub(crate) struct Packed<'a> {
    widths: Vec<u8>,
    bodies: &'a [u8],
}

impl Packed<'_> {
    /// Adds it.
    ///
    /// # Errors
    /// When it isn't as long, or isn't a packed sum: a mistake of the kernels.
    pub fn add_to(&self, sum: &mut [i64]) -> Result<()> {
        match unpack_add_parts(&self.widths, self.bodies, sum) {
            Ok(()) => Ok(()),
            Err(error) => bail!("the GPU packed its sum wrongly: {error}"),
        }
    }
}

/// Calls `launch` with the values of a tensor of this GPU.
fn with_floats(tensor: &Tensor, launch: impl FnOnce(&CudaView<f32>) -> Result<()>) -> Result<()> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, end))) => {
            launch(&storage.as_cuda_slice::<f32>()?.slice(start..end))
        }
        _ => bail!("a gradient is contiguous f32 on the replica's GPU, this one is {layout:?}"),
    }
}
