//! The GPUs of this node, as the CUDA driver tells of them.

use std::fmt;

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the driver's order.
    pub gpus: Vec<Gpu>,
    /// Why there are none.
    pub why_none: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// As the driver counts.
    pub index: u32,
    /// `"NVIDIA H200"`.
    pub name: String,
    /// `"GPU-8f6d..."`.
    pub uuid: String,
    /// Bytes.
    pub memory: u64,
    /// Compute capability: (9, 0) is Hopper.
    pub capability: (u32, u32),
    /// The newest CUDA that its driver knows: (13, 0).
    pub driver: (u32, u32),
    /// What this build needs.
    pub needs: Needs,
}

/// What a build needs of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The least compute capability that its kernels were compiled for; newer GPUs
    /// run them too.
    pub capability: (u32, u32),
    /// The CUDA that it was compiled with: older drivers don't read its kernels.
    pub driver: (u32, u32),
}

/// `GPU 0: NVIDIA H200 (UUID: GPU-...), 139.8 GiB, compute capability 9.0, driver for CUDA 13.0`.
impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory as f64 / f64::from(1 << 30);
        write!(
            f,
            "GPU {}: {} (UUID: {}), {gib:.1} GiB, compute capability {}, driver for CUDA {}",
            self.index,
            self.name,
            self.uuid,
            dotted(self.capability),
            dotted(self.driver),
        )
    }
}

impl Gpu {
    /// Why this build can't use it, and what to do.
    pub fn problem(&self) -> Option<String> {
        let Needs { capability, driver } = self.needs;
        let (name, has) = (&self.name, dotted(self.capability));
        if self.capability < OLDEST {
            return Some(format!(
                "{name} has compute capability {has}, which CUDA 13 has dropped: use a newer GPU \
                 (T4 or later), or --devices cpu"
            ));
        }
        if self.capability < capability {
            let digits = has.replace('.', "");
            return Some(format!(
                "{name} has compute capability {has}, this build is for {} and newer: build another \
                 worker with CUDA_COMPUTE_CAP={digits} (docs/gpu.md)",
                dotted(capability)
            ));
        }
        (self.driver < driver).then(|| {
            format!(
                "the driver of {name} is for CUDA {}, this build needs {}: install NVIDIA's driver \
                 580 or newer, or use --devices cpu",
                dotted(self.driver),
                dotted(driver)
            )
        })
    }
}

/// The oldest that CUDA 13 compiles for: Turing (T4).
const OLDEST: (u32, u32) = (7, 5);

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// Asks the driver.
#[cfg(not(feature = "cuda"))]
pub fn found() -> Found {
    Found {
        gpus: Vec::new(),
        why_none: Some(
            "this build knows no GPUs (build it with --features cuda: docs/gpu.md)".to_owned(),
        ),
    }
}

#[cfg(feature = "cuda")]
pub use cuda::found;

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::cuda::cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
    use candle_core::cuda::cudarc::driver::{DriverError, result};

    use super::{Found, Gpu, Needs};

    /// Asks the driver. A machine without one has no GPUs, and says why.
    pub fn found() -> Found {
        match gpus() {
            Ok(gpus) if gpus.is_empty() => none("the driver finds none".to_owned()),
            Ok(gpus) => Found {
                gpus,
                why_none: None,
            },
            // Its own text is in the driver, which may not be there.
            Err(DriverError(code)) => none(format!(
                "no NVIDIA driver answers ({code:?}): install 580 or newer, and in a container give \
                 it the GPUs"
            )),
        }
    }

    fn none(why: String) -> Found {
        Found {
            gpus: Vec::new(),
            why_none: Some(why),
        }
    }

    fn gpus() -> Result<Vec<Gpu>, DriverError> {
        result::init()?;
        let driver = parted(driver_version()?.unsigned_abs());
        let count = u32::try_from(result::device::get_count()?).unwrap_or_default();
        (0..count).map(|index| gpu(index, driver)).collect()
    }

    fn gpu(index: u32, driver: (u32, u32)) -> Result<Gpu, DriverError> {
        let device = result::device::get(index as i32)?;
        // SAFETY: the device is one that the driver has just given us.
        let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(device) }? as u64;
        let uuid = result::device::get_uuid(device)?;
        Ok(Gpu {
            index,
            name: result::device::get_name(device)?,
            uuid: uuid_text(&uuid.bytes.map(|byte| byte as u8)),
            memory,
            capability: (major.unsigned_abs(), minor.unsigned_abs()),
            driver,
            needs: needs(),
        })
    }

    fn driver_version() -> Result<i32, DriverError> {
        let mut version = 0;
        // SAFETY: the driver writes one number to where we point.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
        Ok(version)
    }

    /// As `nvidia-smi -L` shows it.
    fn uuid_text(bytes: &[u8; 16]) -> String {
        let hex = |range: std::ops::Range<usize>| -> String {
            bytes[range].iter().map(|b| format!("{b:02x}")).collect()
        };
        let parts = [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)];
        format!("GPU-{}", parts.join("-"))
    }

    fn needs() -> Needs {
        let capability = option_env!("CUDA_COMPUTE_CAP").and_then(|cap| cap.parse::<u32>().ok());
        Needs {
            capability: capability.map_or((8, 0), |cap| (cap / 10, cap % 10)),
            driver: parted(sys::CUDA_VERSION),
        }
    }

    /// 13000 is CUDA 13.0.
    fn parted(version: u32) -> (u32, u32) {
        (version / 1000, version % 1000 / 10)
    }
}
