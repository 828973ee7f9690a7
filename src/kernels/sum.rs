//! The exact sum of a GPU's micro-batches.
//!
//! ```text
//!  gradients ── inspect ─▶ counts ┐                     ┌─▶ to the host, behind the micro-batch
//!  loss, metrics ── keep_scalar ─▶├── judge ─▶ verdict ─┤
//!  gradients ──────────────────── accumulate ◀──────────┘   adds, or leaves the sum as it is
//! ```
//!
//! Nothing here waits for the GPU until somebody wants to know what was found.

use std::collections::VecDeque;
use std::ops::Range;

use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, PushKernelArg};
use candle_core::cuda::{CudaDevice, WrapErr};
use candle_core::{DType, Result, Tensor};

use super::device::{THREADS, function, spread, threads, with_floats};
use super::packing::{Packed, Packing};
use super::pinned::{Pinned, Staging};
use crate::exact::{Inspection, Rounding};

/// Micro-batches that may be under way at a time: the GPU has the next one to do when it is
/// done with one.
pub(crate) const UNDER_WAY: usize = 3;

/// The sum of a GPU replica's micro-batches.
pub(crate) struct DeviceSum {
    device: CudaDevice,
    /// An element a parameter of the model.
    sum: CudaSlice<i64>,
    /// What was rounded away since it was last [asked](DeviceSum::rounded), two counts a variable.
    rounded: CudaSlice<u64>,
    variables: usize,
    scalars: usize,
    /// One a micro-batch under way, the oldest in front.
    found: VecDeque<Finding>,
    spare: Vec<Finding>,
    packing: Packing,
    staging: Option<Staging<i64>>,
    /// Nothing was added since it was zero.
    empty: bool,
}

/// What is found in a micro-batch: two counts a variable, the scalars' bits, the verdict.
struct Finding {
    there: CudaSlice<u64>,
    here: Pinned<u64>,
}

/// What a micro-batch came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// Of each variable.
    pub inspections: Vec<Inspection>,
    /// In the order in which they were given.
    pub scalars: Vec<f64>,
    /// Whether it was added.
    pub added: bool,
}

/// A gradient and where its variable is in the flat buffer; `None` for frozen ones.
pub(crate) type Gradients<'a> = [(Option<&'a Tensor>, Range<usize>)];

impl DeviceSum {
    /// A sum of nothing; each micro-batch has `scalars` numbers besides its gradients.
    pub fn new(
        device: &CudaDevice,
        elements: usize,
        variables: usize,
        scalars: usize,
    ) -> Result<Self> {
        let words = 2 * variables + scalars + 1;
        let finding = || {
            Ok(Finding {
                there: device.alloc_zeros(words)?,
                here: Pinned::new(device, words)?,
            })
        };
        Ok(DeviceSum {
            device: device.clone(),
            sum: device.alloc_zeros(elements)?,
            rounded: device.alloc_zeros(2 * variables)?,
            variables,
            scalars,
            found: VecDeque::new(),
            spare: (0..UNDER_WAY).map(|_| finding()).collect::<Result<_>>()?,
            packing: Packing::new(device, elements)?,
            staging: None,
            empty: true,
        })
    }

    /// Whether it is a sum of nothing.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether another micro-batch needs the oldest one's place: [`found`](DeviceSum::found)
    /// makes room.
    pub fn is_full(&self) -> bool {
        self.spare.is_empty()
    }

    /// Adds a micro-batch, unless a value of it can't be summed: gradients times `factor`, or
    /// scalars times `scale`.
    ///
    /// # Panics
    /// When it [is full](DeviceSum::is_full), or there are more or fewer scalars.
    pub fn add(
        &mut self,
        gradients: &Gradients,
        scalars: &[&Tensor],
        (scale, factor): (f64, f64),
    ) -> Result<()> {
        assert_eq!(scalars.len(), self.scalars, "scalars of a micro-batch");
        let mut finding = self.spare.pop().expect("room for another micro-batch");
        self.empty = false;
        self.inspect(gradients, factor, &mut finding.there)?;
        self.judge(scalars, scale, &mut finding.there)?;
        let verdict = finding.there.len() - 1;
        self.accumulate(gradients, factor, &finding.there.slice(verdict..))?;
        finding.here.receive(&finding.there.as_view())?;
        self.found.push_back(finding);
        Ok(())
    }

    fn inspect(
        &self,
        gradients: &Gradients,
        factor: f64,
        counts: &mut CudaSlice<u64>,
    ) -> Result<()> {
        let stream = self.device.cuda_stream();
        stream.memset_zeros(counts).w()?;
        let kernel = function(&self.device, "inspect")?;
        for (index, (gradient, _)) in gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let mut counts = counts.slice_mut(2 * index..2 * index + 2);
            with_floats(gradient, |values| {
                let n = values.len() as u64;
                let mut launch = stream.launch_builder(&kernel);
                launch.arg(values).arg(&n).arg(&factor).arg(&mut counts);
                // SAFETY: the kernel's parameters in its order; it reads `n` values and
                // adds to two counts, which is what these buffers hold.
                unsafe { launch.launch(spread(values.len())) }.w()
            })?;
        }
        Ok(())
    }

    fn judge(&self, scalars: &[&Tensor], scale: f64, found: &mut CudaSlice<u64>) -> Result<()> {
        let stream = self.device.cuda_stream();
        let counts = 2 * self.variables;
        let kernel = function(&self.device, "keep_scalar")?;
        for (index, scalar) in scalars.iter().enumerate() {
            let mut place = found.slice_mut(counts + index..counts + index + 1);
            with_floats(&scalar.to_dtype(DType::F32)?, |value| {
                assert_eq!(value.len(), 1, "a scalar");
                let mut launch = stream.launch_builder(&kernel);
                launch.arg(value).arg(&mut place);
                // SAFETY: the kernel's parameters in its order; it reads one value, which is
                // there by the assertion, and writes one.
                unsafe { launch.launch(threads(1, 1)) }.w()
            })?;
        }
        let kernel = function(&self.device, "judge")?;
        let (counts, scalars) = (counts as u64, scalars.len() as u64);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(found).arg(&counts).arg(&scalars).arg(&scale);
        // SAFETY: the kernel's parameters in its order; it reads as many words as this says and
        // writes the one behind them, which is the buffer's last.
        unsafe { launch.launch(threads(1, THREADS)) }.w()?;
        Ok(())
    }

    fn accumulate(
        &mut self,
        gradients: &Gradients,
        factor: f64,
        verdict: &CudaView<u64>,
    ) -> Result<()> {
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
                launch.arg(values).arg(&n).arg(&factor).arg(verdict);
                launch.arg(&mut sum).arg(&mut counts);
                // SAFETY: the kernel's parameters in its order; it reads `n` values and the
                // verdict, adds to as many sums, by the assertion, and to two counts.
                unsafe { launch.launch(spread(values.len())) }.w()
            })?;
        }
        Ok(())
    }

    /// What the oldest micro-batch that nobody has asked about came to. Waits for it.
    pub fn found(&mut self) -> Result<Option<Found>> {
        let Some(finding) = self.found.pop_front() else {
            return Ok(None);
        };
        let words = &finding.here.arrived()?[..finding.there.len()];
        let (counts, scalars) = words.split_at(2 * self.variables);
        let counts = counts.as_chunks::<2>().0.iter();
        let inspection = |&[non_finite, out_of_range]: &[u64; 2]| Inspection {
            non_finite,
            out_of_range,
        };
        let found = Found {
            inspections: counts.map(inspection).collect(),
            scalars: scalars[..self.scalars]
                .iter()
                .map(|bits| f64::from_bits(*bits))
                .collect(),
            added: scalars[self.scalars] != 0,
        };
        self.spare.push(finding);
        Ok(Some(found))
    }

    /// What was rounded away since this was asked last, of each variable. Waits for the GPU.
    pub fn rounded(&mut self) -> Result<Vec<Rounding>> {
        let rounded = self.device.clone_dtoh(&self.rounded)?;
        self.device
            .cuda_stream()
            .memset_zeros(&mut self.rounded)
            .w()?;
        let rounded = rounded.as_chunks::<2>().0.iter();
        Ok(rounded
            .map(|&[nonzero, to_zero]| Rounding { nonzero, to_zero })
            .collect())
    }

    /// Gives the sum to `receive`, packed and a part after the other, and is a sum of nothing
    /// again.
    pub fn take(&mut self, receive: impl FnMut(Range<usize>, &Packed) -> Result<()>) -> Result<()> {
        self.packing.pack(&self.sum, receive)?;
        self.clear()
    }

    /// Replaces the sum by a complete one.
    pub fn put(&mut self, sum: &[i64]) -> Result<()> {
        let staging = match self.staging.take() {
            Some(staging) => staging,
            None => Staging::new(&self.device, self.sum.len())?,
        };
        let staging = self.staging.insert(staging);
        self.empty = false;
        staging.upload(sum, &mut self.sum.as_view_mut())
    }

    /// Is a sum of nothing again, whatever was added.
    pub fn clear(&mut self) -> Result<()> {
        self.forget_found();
        if std::mem::replace(&mut self.empty, true) {
            return Ok(());
        }
        let stream = self.device.cuda_stream();
        stream.memset_zeros(&mut self.sum).w()?;
        stream.memset_zeros(&mut self.rounded).w()
    }

    /// Nobody will ask any more what was found so far.
    pub fn forget_found(&mut self) {
        self.spare.extend(self.found.drain(..));
    }

    /// An update has left zeros where the sum was.
    pub fn taken(&mut self) {
        self.empty = true;
    }

    /// The sum itself.
    pub(super) fn values(&self) -> CudaView<'_, i64> {
        self.sum.as_view()
    }

    /// The part of it that is a parameter's.
    pub(super) fn values_mut(&mut self, range: Range<usize>) -> CudaViewMut<'_, i64> {
        self.sum.slice_mut(range)
    }
}
