//! The kernels on the first GPU.

use candle_core::cuda::CudaDevice;
use candle_core::cuda::cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg};

use super::super::device::{function, threads};
use super::{Argument, Machine};
use crate::devices::{Device, found};

pub struct Gpu {
    name: String,
    device: CudaDevice,
}

impl Gpu {
    /// Opens it, where there is one.
    ///
    /// # Panics
    /// When there is one that can't be opened.
    pub fn new() -> Result<Gpu, String> {
        let found = found();
        let Some(gpu) = found.gpus.first() else {
            return Err(found.why_none.unwrap_or_default());
        };
        if let Some(problem) = gpu.problem() {
            return Err(problem);
        }
        let device = Device::Cuda(gpu.index).open().unwrap();
        Ok(Gpu {
            name: gpu.name.clone(),
            device: device.as_cuda_device().unwrap().clone(),
        })
    }
}

impl Gpu {
    /// For candle.
    pub fn device(&self) -> candle_core::Device {
        candle_core::Device::Cuda(self.device.clone())
    }
}

/// Any scalar argument: the kernel reads as many bytes as its parameter has.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scalar([u64; 4]);

// SAFETY: plain bytes, larger than any scalar parameter of a kernel.
unsafe impl DeviceRepr for Scalar {}

enum OnGpu {
    Scalar(Scalar),
    Buffer(CudaSlice<u8>),
}

impl Machine for Gpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, kernel: &str, blocks: u32, block: u32, arguments: &mut [Argument]) {
        let stream = self.device.cuda_stream();
        let mut there: Vec<OnGpu> = Vec::new();
        for argument in &*arguments {
            there.push(match argument {
                Argument::Scalar(bytes) => {
                    let mut words = [0; 32];
                    words[..bytes.len()].copy_from_slice(bytes);
                    let words = words.as_chunks().0.iter();
                    let words: Vec<u64> = words.map(|word| u64::from_le_bytes(*word)).collect();
                    OnGpu::Scalar(Scalar(words.try_into().unwrap()))
                }
                Argument::Buffer(bytes) => OnGpu::Buffer(self.device.clone_htod(bytes).unwrap()),
            });
        }
        let function = function(&self.device, kernel).unwrap();
        let mut launch = stream.launch_builder(&function);
        for argument in &mut there {
            match argument {
                OnGpu::Scalar(scalar) => launch.arg(&*scalar),
                OnGpu::Buffer(buffer) => launch.arg(buffer),
            };
        }
        // SAFETY: the test gives the kernel's parameters in its order, with buffers of the
        // lengths that it says; on the processor the same call is made first.
        unsafe { launch.launch(threads(blocks, block)) }.unwrap();
        for (argument, there) in arguments.iter_mut().zip(&there) {
            if let (Argument::Buffer(bytes), OnGpu::Buffer(buffer)) = (argument, there) {
                *bytes = self.device.clone_dtoh(buffer).unwrap();
            }
        }
    }
}
