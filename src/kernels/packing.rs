//! A sum on a GPU becomes bytes there ([`exact`](crate::exact)'s packed form), which take less
//! than half the time to cross.

use std::ops::Range;

use candle_core::cuda::cudarc::driver::{CudaSlice, PushKernelArg};
use candle_core::cuda::{CudaDevice, WrapErr};
use candle_core::{Result, bail};

use super::device::{SHARING, THREADS, function, threads};
use super::pinned::Pinned;
use crate::exact::{BLOCK, bodies_len, unpack_add_parts};

/// Values that are packed at a time, whole blocks: bounds what packing takes of the GPU's memory
/// and of the host's.
const PART: usize = 8192 * BLOCK;

/// Buffers for packing a part of a sum.
pub(super) struct Packing {
    device: CudaDevice,
    widths: CudaSlice<u8>,
    offsets: CudaSlice<u64>,
    /// From the first time on; grows as needed.
    bodies: Option<(CudaSlice<u64>, Pinned<u64>)>,
}

impl Packing {
    /// For sums of so many values.
    pub fn new(device: &CudaDevice, values: usize) -> Result<Self> {
        let blocks = values.min(PART).div_ceil(BLOCK);
        Ok(Packing {
            device: device.clone(),
            widths: device.alloc_zeros(blocks.max(1))?,
            offsets: device.alloc_zeros(blocks + 1)?,
            bodies: None,
        })
    }

    /// Gives `receive` part after part, and which values it holds.
    pub fn pack(
        &mut self,
        sum: &CudaSlice<i64>,
        mut receive: impl FnMut(Range<usize>, &Packed) -> Result<()>,
    ) -> Result<()> {
        for begin in (0..sum.len()).step_by(PART) {
            let part = begin..sum.len().min(begin + PART);
            let packed = self.part(sum, part.clone())?;
            receive(part, &packed)?;
        }
        Ok(())
    }

    fn part(&mut self, sum: &CudaSlice<i64>, part: Range<usize>) -> Result<Packed<'_>> {
        let stream = self.device.cuda_stream();
        let values = sum.slice(part.clone());
        let n = part.len() as u64;
        let blocks = part.len().div_ceil(BLOCK);
        let each_block = threads(blocks as u32, THREADS);
        let kernel = function(&self.device, "pack_widths")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&values).arg(&n).arg(&mut self.widths);
        // SAFETY: the kernel's parameters in its order; a width for each block of `n` values.
        unsafe { launch.launch(each_block) }.w()?;
        let kernel = function(&self.device, "pack_offsets")?;
        let count = blocks as u64;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&self.widths).arg(&count).arg(&n);
        launch.arg(&mut self.offsets);
        // SAFETY: as above; it writes an offset a block and one more.
        unsafe { launch.launch(threads(1, SHARING)) }.w()?;

        // How much it comes to is known here before there is room for it there.
        let widths = self.device.clone_dtoh(&self.widths.slice(..blocks))?;
        let bytes = bodies_len(&widths, part.len());
        let words = bytes.div_ceil(8);
        let (bodies, landed) = match self.bodies.take() {
            Some(bodies) if bodies.1.len() >= words => self.bodies.insert(bodies),
            _ => {
                let room = words.max(1).next_power_of_two();
                let there = self.device.alloc_zeros(room)?;
                let here = Pinned::new(&self.device, room)?;
                self.bodies.insert((there, here))
            }
        };
        let kernel = function(&self.device, "pack_bodies")?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&values).arg(&n).arg(&self.widths);
        launch.arg(&self.offsets).arg(&mut *bodies);
        // SAFETY: as above; by the widths the bodies take these words, and there are as many.
        unsafe { launch.launch(each_block) }.w()?;
        if words > 0 {
            landed.receive(&bodies.slice(..words))?;
        }
        Ok(Packed {
            widths,
            bodies: as_bytes(&landed.arrived()?[..words], bytes),
        })
    }
}

/// The first `bytes` of words as they stand in memory.
fn as_bytes(words: &[u64], bytes: usize) -> &[u8] {
    // SAFETY: any words are bytes, eight times as many.
    let (_, all, _) = unsafe { words.align_to::<u8>() };
    &all[..bytes]
}

/// A part of a sum as it came from the GPU.
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
