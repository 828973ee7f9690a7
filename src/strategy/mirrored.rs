//! The replicas of one worker, and how they share a round's work.
//!
//! ```text
//!  compute(round, [0, 3, 5, 6, 7])            micro-batches are taken one by one
//!     ├─ replica 0, on the caller's thread ── 0 ─────── 5 ── 7 ──┐
//!     └─ replica 1, on a thread of its own ── 3 ── 6 ────────────┴─▶ one sum, under a lock
//! ```
//!
//! Each replica takes the next micro-batch when it is done with one, so a slow
//! one takes fewer. Which replica took which leaves no trace in an integer sum.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use candle_nn::VarBuilder;

use super::apply::blocks;
use super::error::{Place, StrategyError};
use super::heap::keep_freed_memory;
use super::partial::Partial;
use super::plan::Plan;
use super::replica::{Mirror, Replica};
use super::resident::{Resident, resident};
use super::summing::summing;
use crate::data::Gathered;
use crate::devices::Devices;
use crate::job::Kind;
use crate::model::{DynModel, ModelError, ParameterLayout, Variables};
use crate::optim::Optimizer;

/// Creates a model on each device of a worker with the same initial values.
///
/// As in Keras, variables are created within the strategy's
/// [`scope`](Self::scope); other than there, their values are a function of seed
/// and name, so that replicas on other nodes have the same ones without being
/// told.
#[derive(Debug, Clone)]
pub struct MirroredStrategy {
    devices: Devices,
    seed: u64,
}

impl MirroredStrategy {
    /// One replica on each of `devices`, initial values by `seed`.
    pub fn new(devices: Devices, seed: u64) -> Self {
        MirroredStrategy { devices, seed }
    }

    /// Builds the model once a device; `build` takes its variables from the
    /// builder that it is given.
    ///
    /// # Errors
    /// When `build` fails or creates different variables on different devices, or
    /// a thread can't be started.
    pub fn scope(
        &self,
        build: impl Fn(VarBuilder) -> Result<Box<dyn DynModel>, ModelError>,
    ) -> Result<Replicas, StrategyError> {
        keep_freed_memory();
        let mut replicas = Vec::new();
        let mut shared_layout: Option<ParameterLayout> = None;
        for (index, device) in self.devices.as_slice().iter().enumerate() {
            let device = device.open()?;
            let variables = Variables::seeded(self.seed, &device);
            let model = build(variables.builder())?;
            let layout = variables
                .layout()
                .map_err(|_| StrategyError::OtherParameters { replica: index })?;
            if shared_layout.get_or_insert_with(|| layout.clone()) != &layout {
                return Err(StrategyError::OtherParameters { replica: index });
            }
            let in_order = variables.in_order().into_iter().map(|(_, var)| var);
            let (summing, sum) = summing(&device);
            replicas.push(Replica {
                summing,
                sum,
                device,
                model,
                variables: Mirror(in_order.collect()),
                gathered: Gathered::new(),
            });
        }
        let mirrors = replicas.iter().map(|r| r.variables.clone()).collect();
        let resident = resident(&replicas);
        let mut replicas = replicas.into_iter();
        let first = replicas.next().expect("a list of devices is never empty");
        Ok(Replicas {
            layout: shared_layout.expect("a list of devices is never empty"),
            mirrors,
            resident,
            first,
            others: (1..)
                .zip(replicas)
                .map(|(index, replica)| ReplicaThread::start(index, replica))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The replicas of one worker.
pub struct Replicas {
    layout: ParameterLayout,
    /// The variables of all replicas, to be set by the optimizer.
    mirrors: Vec<Mirror>,
    /// The state on their GPUs, if that's where they are.
    resident: Option<Box<dyn Resident>>,
    /// Computes on the caller's thread: with one replica there is no other.
    first: Replica,
    others: Vec<ReplicaThread>,
}

/// Asks a computation under way to take no further micro-batch, and tells how
/// far it is. Those that have begun are finished, so the sum holds whole
/// micro-batches only.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Underway>);

#[derive(Debug, Default)]
struct Underway {
    asked: AtomicBool,
    finished: AtomicU64,
}

impl Stop {
    /// Not asked for.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Asks for it, from any thread; for good.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Micro-batches that are in the sum since it began.
    pub fn finished(&self) -> u64 {
        self.0.finished.load(Ordering::Relaxed)
    }
}

impl Replicas {
    /// The replicas of `plan`'s model on `devices`.
    ///
    /// # Errors
    /// When the model can't be built.
    pub fn of(plan: &Plan, devices: &Devices) -> Result<Replicas, StrategyError> {
        let strategy = MirroredStrategy::new(devices.clone(), plan.job.seed);
        let replicas = strategy.scope(|vars| plan.factory.build(vars))?;
        match replicas.layout == plan.layout {
            true => Ok(replicas),
            false => Err(StrategyError::OtherParameters { replica: 0 }),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.mirrors.len()
    }

    /// The one that computes on the caller's thread.
    pub(super) fn first_replica(&mut self) -> &mut Replica {
        &mut self.first
    }

    /// Whether a sum of theirs may stay where it was summed, if nobody else wants it.
    pub fn keep_sums(&self) -> bool {
        self.resident.is_some() && self.count() == 1
    }

    pub(super) fn resident(&mut self) -> Option<&mut (dyn Resident + 'static)> {
        self.resident.as_deref_mut()
    }

    /// The parameters of the model.
    pub fn layout(&self) -> &ParameterLayout {
        &self.layout
    }

    /// Computes these micro-batches of a round and adds them to `partial`.
    ///
    /// Blocks until all are computed, or, after `stop`, those that had begun;
    /// `partial.totals.contributed` says which are in. Of a [resident](Partial::resident)
    /// partial the sum stays on the replica; once it isn't any more, all of it comes here.
    ///
    /// # Errors
    /// The first that a replica meets; `partial` is of no use then.
    pub fn compute(
        &mut self,
        plan: &Arc<Plan>,
        kind: &Kind,
        micro_batches: &[u32],
        partial: &mut Partial,
        stop: &Stop,
    ) -> Result<(), StrategyError> {
        assert!(!matches!(kind, Kind::End(_)), "a round to compute");
        let share = Arc::new(Share {
            plan: Arc::clone(plan),
            kind: kind.clone(),
            micro_batches: micro_batches.to_vec(),
            next: AtomicUsize::new(0),
            stop: stop.clone(),
            failed: AtomicBool::new(false),
            anew: partial.totals.contributed.is_empty(),
            partial: Mutex::new(std::mem::take(partial)),
        });
        for other in &self.others {
            other.begin(&share);
        }
        let mut result = share.work(&mut self.first);
        for other in &self.others {
            result = result.and(other.finish());
        }
        // Each thread gives its handle back before it says that it's done.
        let share = Arc::into_inner(share).expect("all replicas are done with the share");
        *partial = share
            .partial
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        result
    }

    /// Copies a state to every replica: flat `weights` into its variables, and to a GPU the
    /// moments as well.
    ///
    /// # Errors
    /// When a device fails.
    ///
    /// # Panics
    /// When they are those of another model.
    pub(super) fn put(
        &mut self,
        plan: &Plan,
        weights: &[f32],
        optimizer: &Optimizer,
    ) -> Result<(), StrategyError> {
        let elements = self.layout.elements();
        assert_eq!(weights.len(), elements, "weights of the model");
        if let Some(resident) = &mut self.resident {
            return resident.put(plan, weights, optimizer);
        }
        blocks(plan).try_for_each(|block| {
            self.publish(block.parameter, &block.range, &weights[block.range.clone()])
        })
    }

    /// Copies a block of new weights, flat elements `range` within one parameter, into the
    /// replicas on the processor: they are in its cache.
    pub(super) fn publish(
        &self,
        parameter: usize,
        range: &std::ops::Range<usize>,
        weights: &[f32],
    ) -> Result<(), StrategyError> {
        let mut mirrors = self.mirrors.iter();
        mirrors.try_for_each(|mirror| mirror.write(&self.layout, parameter, range, weights))
    }

    /// The flat weights of replica `replica`, read from its device.
    ///
    /// # Errors
    /// When the device fails.
    #[cfg(test)]
    pub(super) fn weights(&self, replica: usize) -> candle_core::Result<Vec<f32>> {
        let mut weights = Vec::with_capacity(self.layout.elements());
        for variable in &self.mirrors[replica].0 {
            weights.extend(variable.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(weights)
    }
}

/// What the replicas of a worker have to compute of one round.
struct Share {
    plan: Arc<Plan>,
    kind: Kind,
    micro_batches: Vec<u32>,
    /// Position of the next one that nobody has taken.
    next: AtomicUsize,
    stop: Stop,
    /// A replica has failed: the others needn't go on.
    failed: AtomicBool,
    /// Of the round nothing is in any sum yet.
    anew: bool,
    partial: Mutex<Partial>,
}

impl Share {
    /// Takes micro-batches until there are none left.
    fn work(&self, replica: &mut Replica) -> Result<(), StrategyError> {
        let failed = |source| StrategyError::Sum { source };
        replica.summing.begin(self.anew).map_err(failed)?;
        while !self.stop.is_asked() && !self.failed.load(Ordering::Relaxed) {
            let position = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&m) = self.micro_batches.get(position) else {
                break;
            };
            // candle panics where a custom operation forgets a gradient; that is a
            // model's mistake and has to be told like one.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.compute(replica, m)));
            let outcome = outcome.unwrap_or_else(|panic| {
                Err(StrategyError::Panicked {
                    place: Place::of(&self.plan, &self.kind, m),
                    message: panic_message(&*panic),
                })
            });
            if let Err(error) = outcome {
                self.failed.store(true, Ordering::Relaxed);
                return Err(error.with_room(&replica.device, &self.plan));
            }
            self.stop.0.finished.fetch_add(1, Ordering::Relaxed);
        }
        replica.summing.finish(&self.partial).map_err(failed)
    }

    fn compute(&self, replica: &mut Replica, m: u32) -> Result<(), StrategyError> {
        match self.kind {
            Kind::Train { .. } => replica.train(&self.plan, &self.kind, m, &self.partial),
            Kind::Evaluate { .. } => replica.evaluate(&self.plan, &self.kind, m, &self.partial),
            Kind::End(_) => unreachable!("there is nothing to compute after the end"),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// A replica that computes on a thread of its own, which lives as long as it:
/// candle's kernels keep their buffers by thread.
struct ReplicaThread {
    /// At most one share at a time. `None` only while it is dropped.
    shares: Option<SyncSender<Arc<Share>>>,
    results: Receiver<Result<(), StrategyError>>,
    thread: Option<JoinHandle<()>>,
}

impl ReplicaThread {
    fn start(index: usize, mut replica: Replica) -> Result<Self, StrategyError> {
        let (shares, to_do) = sync_channel::<Arc<Share>>(1);
        let (done, results) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("replica-{index}"))
            .spawn(move || {
                for share in to_do {
                    let result = share.work(&mut replica);
                    drop(share);
                    if done.send(result).is_err() {
                        return;
                    }
                }
            })
            .map_err(|source| StrategyError::Thread {
                replica: index,
                source,
            })?;
        Ok(ReplicaThread {
            shares: Some(shares),
            results,
            thread: Some(thread),
        })
    }

    fn begin(&self, share: &Arc<Share>) {
        let shares = self.shares.as_ref().expect("set until it is dropped");
        shares
            .send(Arc::clone(share))
            .expect("the thread ends only after its sender is dropped");
    }

    fn finish(&self) -> Result<(), StrategyError> {
        self.results
            .recv()
            .expect("the thread answers each share, a panic included")
    }
}

impl Drop for ReplicaThread {
    fn drop(&mut self) {
        drop(self.shares.take());
        if let Some(thread) = self.thread.take() {
            // It can't panic: a model's panic is caught and answered.
            let _ = thread.join();
        }
    }
}
