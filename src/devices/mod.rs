//! The devices of a node: what there is, what was asked for, what is used.
//!
//! | room | what is in it |
//! |---|---|
//! | this file | [`Device`] and [`Devices`]: one replica each |
//! | [`Asked`] (`asked.rs`) | `--devices`, and what it comes to on this node |
//! | [`found()`] (`found.rs`) | the GPUs of this node, as the driver tells of them |
//! | [`Meter`] (`reading.rs`) | how busy, hot and full a GPU is at the moment |
//!
//! Without the feature `cuda` a node has no GPUs, and says why.

mod asked;
mod found;
mod reading;

use std::collections::BTreeSet;
use std::fmt;

pub use asked::{Asked, AskedError, Chosen, Unusable};
pub use found::{Found, Gpu, Needs, found};
pub use reading::{GpuReading, Meter, Reading};

use crate::model::plainly;
use crate::numerics::Kind;

/// More replicas in one worker than any node has use for.
pub const REPLICAS_MAX: usize = 64;

/// One device of this node, for one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor: one thread of tensor work a replica, as
    /// `RAYON_NUM_THREADS=1` makes it.
    Cpu,
    /// The GPU of this index, as the CUDA driver counts them
    /// (`CUDA_VISIBLE_DEVICES` is obeyed).
    Cuda(u32),
}

/// A device that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{device} can't be used: {}", plainly(source))]
pub struct DeviceError {
    device: Device,
    source: candle_core::Error,
}

impl Device {
    /// Opens it for candle. A GPU gets a stream of its own, so that its tensors may
    /// be used from any thread.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(self) -> Result<candle_core::Device, DeviceError> {
        match self {
            Device::Cpu => Ok(candle_core::Device::Cpu),
            Device::Cuda(index) => open_gpu(index as usize).map_err(|source| DeviceError {
                device: self,
                source,
            }),
        }
    }
}

/// With a stream of its own, in which everything happens.
fn open_gpu(index: usize) -> candle_core::Result<candle_core::Device> {
    let device = candle_core::Device::new_cuda_with_stream(index)?;
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(gpu) = &device {
        // Two events a buffer, recorded and waited for with every launch, would tell streams
        // what the others have done.
        // SAFETY: no buffer is used in another stream than the one of its device, and what the
        // host reads it waits for.
        unsafe { gpu.cuda_stream().context().disable_event_tracking() };
    }
    Ok(device)
}

impl Gpu {
    /// What its replicas' gradients depend on besides the job. Computes something
    /// on it.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn numerics_kind(&self) -> Result<Kind, DeviceError> {
        let device = Device::Cuda(self.index);
        Kind::gpu(&self.name, self.capability, self.driver, &device.open()?)
            .map_err(|source| DeviceError { device, source })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The devices of a worker, one a replica: never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// So many replicas on the processor, at least one.
    pub fn cpu(replicas: usize) -> Self {
        Devices(vec![Device::Cpu; replicas.clamp(1, REPLICAS_MAX)])
    }

    /// One replica on each of these GPUs; `None` without any.
    pub fn cuda(indices: &[u32]) -> Option<Self> {
        let devices: Vec<Device> = indices.iter().map(|index| Device::Cuda(*index)).collect();
        (!devices.is_empty()).then_some(Devices(devices))
    }

    /// One entry a replica.
    pub fn as_slice(&self) -> &[Device] {
        &self.0
    }

    /// What the replicas' gradients depend on besides the job, as
    /// [`numerics`](crate::numerics) names it: that of each kind of device, joined by `+`.
    /// Computes something on each.
    ///
    /// # Errors
    /// A device that can't be used.
    pub fn numerics_kind(&self) -> Result<String, DeviceError> {
        let gpus = match self.0.contains(&Device::Cpu) {
            true => Vec::new(),
            false => found().gpus,
        };
        let mut kinds = BTreeSet::new();
        for device in &self.0 {
            let gpu = gpus.iter().find(|gpu| Device::Cuda(gpu.index) == *device);
            let kind = gpu.map_or_else(|| Ok(Kind::cpu()), Gpu::numerics_kind)?;
            kinds.insert(kind.fingerprint);
        }
        Ok(Vec::from_iter(kinds).join("+"))
    }

    /// How many replicas.
    pub fn replicas(&self) -> usize {
        self.0.len()
    }
}

impl Default for Devices {
    /// One replica on the processor.
    fn default() -> Self {
        Devices::cpu(1)
    }
}

/// As `--devices` takes it: `cpu`, `cpu:3`, `cuda:0,2`.
impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indices = self.0.iter().filter_map(|device| match device {
            Device::Cuda(index) => Some(index.to_string()),
            Device::Cpu => None,
        });
        let indices: Vec<String> = indices.collect();
        match (indices.is_empty(), self.0.len()) {
            (false, _) => write!(f, "cuda:{}", indices.join(",")),
            (true, 1) => f.write_str("cpu"),
            (true, count) => write!(f, "cpu:{count}"),
        }
    }
}
