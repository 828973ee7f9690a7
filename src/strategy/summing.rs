//! Where a replica's gradients become integers: on the processor, or on its GPU.

use std::sync::Mutex;

use candle_core::{Device, Result, Tensor};

use super::gradient::{Scalars, lock};
use super::partial::Partial;
use super::plan::Plan;
use super::replica::with_values;
use crate::exact::{Inspection, Verdict};
use crate::model::Loss;

/// What a model made of a micro-batch, on the replica's device.
pub(super) struct Computed<'a> {
    /// Its index in the step.
    pub index: u32,
    /// What a whole global batch weighs.
    pub nominal: u64,
    pub loss: &'a Loss,
    /// One a parameter in layout order; `None` for frozen ones.
    pub gradients: &'a [Option<Tensor>],
}

/// How the gradients of one replica get into the worker's sum.
///
/// Wherever the integers are added, they are the same.
pub(super) trait Summing: Send {
    /// Before the first micro-batch of a share. `anew`: of the round nothing is in any sum yet.
    fn begin(&mut self, anew: bool) -> Result<()>;

    /// Adds a micro-batch: all of it when every value is clean, else zeros, and the counters
    /// that say so. What it came to need not be in the totals before the share is finished.
    fn add(&mut self, plan: &Plan, computed: &Computed, into: &Mutex<Partial>) -> Result<()>;

    /// After the last micro-batch of a share: its totals are complete, and the sum is there,
    /// or on the replica's GPU if the partial is [resident](Partial::resident).
    fn finish(&mut self, into: &Mutex<Partial>) -> Result<()>;
}

/// Each micro-batch goes into the worker's sum by itself.
struct OnHost;

impl Summing for OnHost {
    fn begin(&mut self, _: bool) -> Result<()> {
        Ok(())
    }

    fn add(&mut self, plan: &Plan, computed: &Computed, into: &Mutex<Partial>) -> Result<()> {
        let scalars = Scalars::of(computed.loss)?;
        let micro_batch = scalars.micro_batch(computed.index, computed.nominal);
        let scale = micro_batch.scale();
        let inspect = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => with_values(gradient, |g| plan.fixed.inspect(g, scale)),
            None => Ok(Inspection::default()),
        };
        let inspections = computed.gradients.iter().map(inspect);
        let inspections: Vec<_> = inspections.collect::<Result<_>>()?;

        let partial = &mut *lock(into);
        if partial.totals.add_micro_batch(&micro_batch, &inspections) != Verdict::Clean {
            return Ok(());
        }
        let parameters = plan.layout.iter().zip(computed.gradients);
        for (index, (parameter, gradient)) in parameters.enumerate() {
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

/// What suits a device, and the sum that stays there.
pub(super) fn summing(device: &Device) -> (Box<dyn Summing>, Option<SharedSum>) {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        let sum = SharedSum::default();
        let summing = on_gpu::OnGpu::new(device.clone(), sum.clone());
        return (Box::new(summing), Some(sum));
    }
    let _ = device;
    (Box::new(OnHost), None)
}

/// The sum on a GPU: its replica adds to it, the update takes it. There from the first
/// micro-batch or update on: a replica that only evaluates needs none.
#[cfg(feature = "cuda")]
pub(super) type SharedSum = std::sync::Arc<Mutex<Option<crate::kernels::DeviceSum>>>;
/// There are no GPUs in this build.
#[cfg(not(feature = "cuda"))]
pub(super) type SharedSum = std::convert::Infallible;

#[cfg(feature = "cuda")]
pub(super) use on_gpu::made;

#[cfg(feature = "cuda")]
mod on_gpu {
    use std::collections::VecDeque;
    use std::sync::PoisonError;

    use candle_core::bail;
    use candle_core::cuda::CudaDevice;

    use super::*;
    use crate::exact::MicroBatch;
    use crate::kernels::DeviceSum;

    /// The replica's micro-batches are summed on its GPU, and cross to the host as one
    /// packed sum, or stay.
    pub(super) struct OnGpu {
        device: CudaDevice,
        sum: SharedSum,
        /// Of which the totals don't know yet, in order.
        under_way: VecDeque<UnderWay>,
    }

    struct UnderWay {
        index: u32,
        weight: u64,
        nominal: u64,
    }

    /// Calls `act` with the sum, which is made if there is none.
    pub fn made<T>(
        sum: &SharedSum,
        plan: &Plan,
        device: &CudaDevice,
        act: impl FnOnce(&mut DeviceSum) -> Result<T>,
    ) -> Result<T> {
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match sum.take() {
            Some(made) => made,
            None => {
                let (elements, variables) = (plan.layout.elements(), plan.layout.len());
                let scalars = 1 + plan.factory.metrics().len();
                DeviceSum::new(device, elements, variables, scalars)?
            }
        };
        act(sum.insert(made))
    }

    impl OnGpu {
        pub fn new(device: CudaDevice, sum: SharedSum) -> Self {
            OnGpu {
                device,
                sum,
                under_way: VecDeque::new(),
            }
        }
    }

    /// Has the oldest micro-batch accounted for.
    fn account(
        sum: &mut DeviceSum,
        under_way: &mut VecDeque<UnderWay>,
        into: &Mutex<Partial>,
    ) -> Result<()> {
        let (Some(found), Some(it)) = (sum.found()?, under_way.pop_front()) else {
            bail!("a micro-batch that was under way is lost")
        };
        let micro_batch = MicroBatch {
            index: it.index,
            weight: it.weight,
            nominal: it.nominal,
            mean_loss: found.scalars[0],
            metrics: &found.scalars[1..],
        };
        let totals = &mut lock(into).totals;
        let verdict = totals.add_micro_batch(&micro_batch, &found.inspections);
        match (verdict == Verdict::Clean) == found.added {
            true => Ok(()),
            false => bail!("the GPU judged micro-batch {} otherwise", it.index),
        }
    }

    impl Summing for OnGpu {
        fn begin(&mut self, anew: bool) -> Result<()> {
            self.under_way.clear();
            let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *sum {
                Some(sum) if anew => sum.clear(),
                Some(sum) => {
                    sum.forget_found();
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn add(&mut self, plan: &Plan, computed: &Computed, into: &Mutex<Partial>) -> Result<()> {
            let (index, nominal) = (computed.index, computed.nominal);
            let weight = computed.loss.weight;
            if weight == 0 {
                lock(into).totals.add_empty(index);
                return Ok(());
            }
            let scale = weight as f64 / nominal as f64;
            let factor = plan.fixed.factor(scale);
            let places = plan.layout.iter().map(|parameter| parameter.range.clone());
            let gradients = computed.gradients.iter().map(Option::as_ref);
            let gradients: Vec<_> = gradients.zip(places).collect();
            let under_way = &mut self.under_way;
            made(&self.sum, plan, &self.device, |sum| {
                if sum.is_full() {
                    account(sum, under_way, into)?;
                }
                sum.add(
                    &gradients,
                    &Scalars::tensors(computed.loss),
                    (scale, factor),
                )
            })?;
            self.under_way.push_back(UnderWay {
                index,
                weight,
                nominal,
            });
            Ok(())
        }

        fn finish(&mut self, into: &Mutex<Partial>) -> Result<()> {
            let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(sum) = sum.as_mut().filter(|sum| !sum.is_empty()) else {
                return Ok(());
            };
            while !self.under_way.is_empty() {
                account(sum, &mut self.under_way, into)?;
            }
            for (index, rounding) in sum.rounded()?.into_iter().enumerate() {
                lock(into).totals.add_rounding(index, rounding);
            }
            if lock(into).resident {
                return Ok(());
            }
            sum.take(|part, packed| packed.add_to(&mut lock(into).sum[part]))
        }
    }
}
