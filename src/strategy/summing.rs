//! Where a replica's gradients become integers: on the processor, or on its GPU.

use std::sync::Mutex;

use candle_core::{Device, Result, Tensor};

use super::gradient::lock;
use super::partial::Partial;
use super::plan::Plan;
use super::replica::with_values;
use crate::exact::{Inspection, MicroBatch, Verdict};

/// How the gradients of one replica get into the worker's sum.
///
/// Wherever the integers are added, they are the same.
pub(super) trait Summing: Send {
    /// Before the first micro-batch of a share: forgets what a failed one left.
    fn begin(&mut self) -> Result<()>;

    /// Adds a micro-batch: all of it when every gradient is clean, else zeros, and
    /// the counters that say so.
    fn add(
        &mut self,
        plan: &Plan,
        micro_batch: &MicroBatch,
        gradients: &[Option<Tensor>],
        into: &Mutex<Partial>,
    ) -> Result<()>;

    /// After the last micro-batch of a share: all of it is in the sum.
    fn finish(&mut self, into: &Mutex<Partial>) -> Result<()>;
}

/// What suits a device.
pub(super) fn summing(device: &Device) -> Box<dyn Summing> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return Box::new(on_gpu::OnGpu::new(device.clone()));
    }
    let _ = device;
    Box::new(OnHost)
}

/// Each micro-batch goes into the worker's sum by itself.
struct OnHost;

impl Summing for OnHost {
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn add(
        &mut self,
        plan: &Plan,
        micro_batch: &MicroBatch,
        gradients: &[Option<Tensor>],
        into: &Mutex<Partial>,
    ) -> Result<()> {
        let scale = micro_batch.scale();
        let inspect = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => with_values(gradient, |g| plan.fixed.inspect(g, scale)),
            None => Ok(Inspection::default()),
        };
        let inspections: Vec<_> = gradients.iter().map(inspect).collect::<Result<_>>()?;

        let partial = &mut *lock(into);
        if partial.totals.add_micro_batch(micro_batch, &inspections) != Verdict::Clean {
            return Ok(());
        }
        for (index, (parameter, gradient)) in plan.layout.iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let sum = &mut partial.sum[parameter.range.clone()];
            let rounding = with_values(gradient, |g| plan.fixed.accumulate(g, scale, sum))?;
            partial.totals.add_rounding(index, rounding);
        }
        Ok(())
    }

    fn finish(&mut self, _: &Mutex<Partial>) -> Result<()> {
        Ok(())
    }
}

#[cfg(feature = "cuda")]
mod on_gpu {
    use candle_core::cuda::CudaDevice;

    use super::*;
    use crate::kernels::DeviceSum;

    /// The replica's micro-batches are summed on its GPU, and cross to the host as one
    /// packed sum.
    pub(super) struct OnGpu {
        device: CudaDevice,
        /// From the first micro-batch on: a replica that only evaluates needs none.
        sum: Option<DeviceSum>,
        /// Whether there is something in it.
        filled: bool,
    }

    impl OnGpu {
        pub fn new(device: CudaDevice) -> Self {
            OnGpu {
                device,
                sum: None,
                filled: false,
            }
        }

        fn sum(&mut self, plan: &Plan) -> Result<&mut DeviceSum> {
            if self.sum.is_none() {
                let (elements, variables) = (plan.layout.elements(), plan.layout.len());
                self.sum = Some(DeviceSum::new(&self.device, elements, variables)?);
            }
            Ok(self.sum.as_mut().expect("there since the line above"))
        }
    }

    impl Summing for OnGpu {
        fn begin(&mut self) -> Result<()> {
            match &mut self.sum {
                Some(sum) if std::mem::take(&mut self.filled) => sum.clear(),
                _ => Ok(()),
            }
        }

        fn add(
            &mut self,
            plan: &Plan,
            micro_batch: &MicroBatch,
            gradients: &[Option<Tensor>],
            into: &Mutex<Partial>,
        ) -> Result<()> {
            let factor = plan.fixed.factor(micro_batch.scale());
            let places = plan.layout.iter().map(|parameter| parameter.range.clone());
            let gradients: Vec<_> = gradients.iter().map(Option::as_ref).zip(places).collect();
            let inspections = self.sum(plan)?.inspect(&gradients, factor)?;
            let totals = &mut lock(into).totals;
            if totals.add_micro_batch(micro_batch, &inspections) != Verdict::Clean {
                return Ok(());
            }
            self.filled = true;
            self.sum(plan)?.accumulate(&gradients, factor)
        }

        fn finish(&mut self, into: &Mutex<Partial>) -> Result<()> {
            let Some(sum) = self.sum.as_mut().filter(|_| self.filled) else {
                return Ok(());
            };
            let rounded = sum.take(|packed| {
                let partial = &mut *lock(into);
                packed.add_to(&mut partial.sum)
            })?;
            let totals = &mut lock(into).totals;
            for (index, rounding) in rounded.into_iter().enumerate() {
                totals.add_rounding(index, rounding);
            }
            self.filled = false;
            Ok(())
        }
    }
}
