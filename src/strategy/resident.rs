//! The state of replicas on GPUs: each keeps weights and moments of its own and updates them
//! there, so that neither has to cross.
//!
//! The host's copy in [`TrainState`](super::TrainState) then lags behind, and is brought up to
//! date when somebody wants to read it: for a checkpoint, a digest, a newcomer.

use super::apply::Applied;
use super::error::StrategyError;
use super::plan::Plan;
use super::replica::Replica;
use crate::exact::{SumHash, Totals};
use crate::optim::Optimizer;

/// A complete sum, and where it is.
#[derive(Debug, Clone, Copy)]
pub enum CompleteSum<'a> {
    /// On the host.
    Here(&'a [i64]),
    /// On the only replica's GPU, where it was summed.
    OnReplica,
}

impl<'a> CompleteSum<'a> {
    /// The values.
    ///
    /// # Panics
    /// When they aren't on the host: a mistake of ours.
    pub(super) fn here(self) -> &'a [i64] {
        match self {
            CompleteSum::Here(values) => values,
            CompleteSum::OnReplica => panic!("a sum on a GPU is applied there"),
        }
    }
}

/// The state on the GPUs of a worker.
pub(super) trait Resident: Send {
    /// Takes over a state from the host.
    fn put(
        &mut self,
        plan: &Plan,
        weights: &[f32],
        optimizer: &Optimizer,
    ) -> Result<(), StrategyError>;

    /// Copies weights and moments to the host.
    fn get(
        &mut self,
        plan: &Plan,
        weights: &mut [f32],
        optimizer: &mut Optimizer,
    ) -> Result<(), StrategyError>;

    /// Updates every replica by a complete sum. Of `optimizer` only what doesn't depend on the
    /// element moves on.
    fn apply(
        &mut self,
        plan: &Plan,
        step: u64,
        sum: CompleteSum,
        totals: &Totals,
        optimizer: &mut Optimizer,
    ) -> Result<(Applied, SumHash), StrategyError>;

    /// The name of a sum on the replica that is not to be applied; it is forgotten.
    fn forget(&mut self, plan: &Plan) -> Result<SumHash, StrategyError>;
}

/// Of replicas on GPUs; `None` of those on the processor.
pub(super) fn resident(replicas: &[Replica]) -> Option<Box<dyn Resident>> {
    #[cfg(feature = "cuda")]
    if let Some(on_gpus) = on_gpus::OnGpus::of(replicas) {
        return Some(Box::new(on_gpus));
    }
    let _ = replicas;
    None
}

#[cfg(feature = "cuda")]
mod on_gpus {
    use std::ops::Range;

    use candle_core::Result;
    use candle_core::cuda::CudaDevice;

    use super::super::apply::{blocks, correction};
    use super::super::replica::Mirror;
    use super::super::summing::{SharedSum, made};
    use super::*;
    use crate::kernels::{DeviceSum, DeviceUpdate};
    use crate::optim::Change;

    pub(super) struct OnGpus(Vec<OnGpu>);

    struct OnGpu {
        device: CudaDevice,
        variables: Mirror,
        sum: SharedSum,
        /// There from the first state on.
        update: Option<DeviceUpdate>,
    }

    fn failed(source: candle_core::Error) -> StrategyError {
        StrategyError::Update { source }
    }

    impl OnGpus {
        pub fn of(replicas: &[Replica]) -> Option<OnGpus> {
            let of = |replica: &Replica| {
                Some(OnGpu {
                    device: replica.device.as_cuda_device().ok()?.clone(),
                    variables: replica.variables.clone(),
                    sum: replica.sum.clone()?,
                    update: None,
                })
            };
            replicas.iter().map(of).collect::<Option<_>>().map(OnGpus)
        }
    }

    impl OnGpu {
        fn put(&mut self, plan: &Plan, weights: &[f32], optimizer: &Optimizer) -> Result<()> {
            let buffers = optimizer.buffers();
            if self.update.is_none() {
                let elements = plan.layout.elements() as u64;
                let begins = blocks(plan).map(|block| block.range.start as u64);
                let starts: Vec<u64> = begins.chain([elements]).collect();
                let update =
                    DeviceUpdate::new(&self.device, buffers.len(), elements as usize, &starts)?;
                self.update = Some(update);
            }
            let Some(update) = &mut self.update else {
                return Ok(());
            };
            update.put(&buffers)?;
            for (variable, parameter) in self.variables.0.iter().zip(&plan.layout) {
                update.put_variable(variable, &weights[parameter.range.clone()])?;
            }
            Ok(())
        }

        /// Calls `act` with what updates, and the sum.
        fn with_sum<T>(
            &mut self,
            plan: &Plan,
            act: impl FnOnce(&mut DeviceUpdate, &mut DeviceSum) -> Result<T>,
        ) -> Result<T> {
            let Some(update) = &mut self.update else {
                candle_core::bail!("there is no state on the GPU")
            };
            made(&self.sum, plan, &self.device, |sum| act(update, sum))
        }

        fn put_sum(&mut self, plan: &Plan, sum: CompleteSum) -> Result<()> {
            match sum {
                CompleteSum::Here(values) => self.with_sum(plan, |_, sum| sum.put(values)),
                CompleteSum::OnReplica => Ok(()),
            }
        }

        /// One list of changes a parameter, in layout order.
        fn update(
            &mut self,
            plan: &Plan,
            changes: &[Vec<(Range<usize>, Change)>],
            factor: f64,
        ) -> Result<()> {
            let variables = self.variables.clone();
            self.with_sum(plan, |update, sum| {
                let parameters = variables.0.iter().zip(&plan.layout);
                for ((variable, parameter), changes) in parameters.zip(changes) {
                    for (part, change) in changes {
                        let place = (variable, part.start - parameter.range.start);
                        update.update(place, part.clone(), *change, (sum, factor))?;
                    }
                }
                sum.taken();
                Ok(())
            })
        }
    }

    impl Resident for OnGpus {
        fn put(
            &mut self,
            plan: &Plan,
            weights: &[f32],
            optimizer: &Optimizer,
        ) -> std::result::Result<(), StrategyError> {
            let mut all = self.0.iter_mut();
            all.try_for_each(|gpu| {
                let put = gpu.put(plan, weights, optimizer).map_err(failed);
                let device = candle_core::Device::Cuda(gpu.device.clone());
                put.map_err(|error| error.with_room(&device, plan))
            })
        }

        fn get(
            &mut self,
            plan: &Plan,
            weights: &mut [f32],
            optimizer: &mut Optimizer,
        ) -> std::result::Result<(), StrategyError> {
            // All hold the same.
            let Some(gpu) = self.0.first_mut() else {
                return Ok(());
            };
            let Some(update) = &mut gpu.update else {
                return Ok(());
            };
            update.get(optimizer.buffers_mut()).map_err(failed)?;
            for (variable, parameter) in gpu.variables.0.iter().zip(&plan.layout) {
                let place = &mut weights[parameter.range.clone()];
                update.get_variable(variable, place).map_err(failed)?;
            }
            Ok(())
        }

        fn apply(
            &mut self,
            plan: &Plan,
            step: u64,
            sum: CompleteSum,
            totals: &Totals,
            optimizer: &mut Optimizer,
        ) -> std::result::Result<(Applied, SumHash), StrategyError> {
            let factor = plan.fixed.resolution() * correction(plan, totals);
            let Some((first, others)) = self.0.split_first_mut() else {
                unreachable!("a list of devices is never empty")
            };
            first.put_sum(plan, sum).map_err(failed)?;
            let naming = first.with_sum(plan, |update, sum| update.begin_naming(sum));
            naming.map_err(failed)?;
            let (mut gradient_norm, mut clip) = (None, 1.0);
            if optimizer.clip_norm().is_some() {
                let norm = first.with_sum(plan, |update, sum| update.norm(sum, factor));
                let norm = norm.map_err(failed)?;
                (gradient_norm, clip) = (Some(norm.norm()), optimizer.clip_factor(&norm));
            }
            let lr = optimizer.lr(step, plan.course.total_steps());
            optimizer.begin_step();
            let ranges = plan.layout.iter().map(|parameter| parameter.range.clone());
            let changes = ranges.map(|range| optimizer.changes(range, lr, clip));
            let changes: Vec<_> = changes.collect();
            first.update(plan, &changes, factor).map_err(failed)?;
            for other in others {
                let put = other.put_sum(plan, sum);
                let updated = put.and_then(|()| other.update(plan, &changes, factor));
                updated.map_err(failed)?;
            }
            // By now it has long been made.
            let name = first.with_sum(plan, |update, _| update.name());
            Ok((Applied { lr, gradient_norm }, name.map_err(failed)?))
        }

        fn forget(&mut self, plan: &Plan) -> std::result::Result<SumHash, StrategyError> {
            let Some(first) = self.0.first_mut() else {
                unreachable!("a list of devices is never empty")
            };
            let name = first.with_sum(plan, |update, sum| {
                update.begin_naming(sum)?;
                sum.clear()?;
                update.name()
            });
            name.map_err(failed)
        }
    }
}
