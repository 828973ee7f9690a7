//! Page-locked memory, which a GPU reads and writes on its own: transfers that nobody waits for.

use candle_core::Result;
use candle_core::cuda::cudarc::driver::{
    CudaEvent, CudaView, CudaViewMut, DeviceRepr, PinnedHostSlice, ValidAsZeroBits,
};
use candle_core::cuda::{CudaDevice, WrapErr};

/// Numbers of which any bits are one.
pub(super) trait Number: Copy + DeviceRepr + ValidAsZeroBits {}

impl Number for u64 {}
impl Number for i64 {}
impl Number for f32 {}

/// Values of each half of a [`Staging`].
const HALF: usize = 1 << 20;

/// Page-locked memory, and when it was last in use.
pub(super) struct Pinned<T> {
    device: CudaDevice,
    memory: PinnedHostSlice<T>,
    /// Not the memory's own event: that one puts the waiting thread to sleep, which takes
    /// longer than most transfers.
    used: CudaEvent,
}

impl<T: Number> Pinned<T> {
    pub fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        let stream = device.cuda_stream();
        // SAFETY: any bits are a number of this type.
        let memory = unsafe { stream.context().alloc_pinned_with_flags(len.max(1), 0) }.w()?;
        let used = stream.context().new_event(None).w()?;
        Ok(Pinned {
            device: device.clone(),
            memory,
            used,
        })
    }

    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// What has arrived. Waits for that, not for what was launched since.
    pub fn arrived(&self) -> Result<&[T]> {
        self.used.synchronize().w()?;
        self.memory.as_slice().w()
    }

    /// Has `from` copied here when all that was launched before is done.
    pub fn receive(&mut self, from: &CudaView<T>) -> Result<()> {
        let stream = self.device.cuda_stream();
        self.used.synchronize().w()?;
        let here = &mut self.memory.as_mut_slice().w()?[..from.len()];
        stream.memcpy_dtoh(from, here).w()?;
        self.used.record(&stream).w()
    }

    /// Has `values` copied to `to` when all that was launched before is done. Waits only until
    /// what was sent from here before has left.
    pub fn send(&mut self, values: &[T], to: &mut CudaViewMut<T>) -> Result<()> {
        let stream = self.device.cuda_stream();
        self.used.synchronize().w()?;
        let here = &mut self.memory.as_mut_slice().w()?[..values.len()];
        here.copy_from_slice(values);
        stream.memcpy_htod(here, to).w()?;
        self.used.record(&stream).w()
    }
}

/// The way of large buffers to a GPU and back: one half travels while the other is filled or
/// emptied.
pub(super) struct Staging<T> {
    halves: [Pinned<T>; 2],
    turn: usize,
}

impl<T: Number> Staging<T> {
    /// For buffers of at most `len` values.
    pub fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        let half = || Pinned::new(device, len.min(HALF));
        Ok(Staging {
            halves: [half()?, half()?],
            turn: 0,
        })
    }

    fn next(&mut self) -> &mut Pinned<T> {
        self.turn = 1 - self.turn;
        &mut self.halves[self.turn]
    }

    /// Copies `values` to the GPU; waits for all but the last two pieces.
    pub fn upload(&mut self, values: &[T], to: &mut CudaViewMut<T>) -> Result<()> {
        let piece = self.halves[0].len();
        for (index, values) in values.chunks(piece).enumerate() {
            let begin = index * piece;
            let mut place = to.slice_mut(begin..begin + values.len());
            self.next().send(values, &mut place)?;
        }
        Ok(())
    }

    /// Copies from the GPU to `values`; all of it has arrived when this returns.
    pub fn download(&mut self, from: &CudaView<T>, values: &mut [T]) -> Result<()> {
        let piece = self.halves[0].len();
        let mut before: Option<&mut [T]> = None;
        for (index, values) in values.chunks_mut(piece).enumerate() {
            let begin = index * piece;
            let end = begin + values.len();
            self.next().receive(&from.slice(begin..end))?;
            if let Some(before) = before.replace(values) {
                before.copy_from_slice(&self.halves[1 - self.turn].arrived()?[..before.len()]);
            }
        }
        if let Some(last) = before {
            last.copy_from_slice(&self.halves[self.turn].arrived()?[..last.len()]);
        }
        Ok(())
    }
}
