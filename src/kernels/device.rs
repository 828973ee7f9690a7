//! Launching the kernels, with candle's buffers and on candle's stream: what the model
//! has computed is there without waiting for it.

use candle_core::cuda::CudaDevice;
use candle_core::cuda::cudarc::driver::{CudaFunction, CudaView, LaunchConfig};
use candle_core::{Result, Storage, Tensor, bail};

/// `kernels.cu`, compiled by `build.rs`.
pub(super) const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Threads of a block, where a kernel takes any number.
pub(super) const THREADS: u32 = 256;
/// Thread blocks at most: a thread of a larger gradient takes several elements.
const BLOCKS_MAX: usize = 1 << 16;
/// Threads of a kernel that one block runs and that shares work out among them.
pub(super) const SHARING: u32 = 1024;

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

/// Calls `launch` with the values of a tensor of this GPU.
pub(super) fn with_floats<T>(
    tensor: &Tensor,
    launch: impl FnOnce(&CudaView<f32>) -> Result<T>,
) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, end))) => {
            launch(&storage.as_cuda_slice::<f32>()?.slice(start..end))
        }
        _ => bail!("expected contiguous f32 on the replica's GPU, found {layout:?}"),
    }
}
