//! A whole run in one process, without anybody to exchange with.

use std::sync::Arc;

use super::error::StrategyError;
use super::mirrored::{Replicas, Stop};
use super::partial::Partial;
use super::plan::Plan;
use super::state::{Finished, TrainState};
use crate::devices::Devices;
use crate::job::Kind;

/// Trains from `state` to the end of the job on this process's devices and
/// calls `observe` after each round.
///
/// The undisturbed run: whatever a shifting set of workers comes to has to be
/// the same, bit by bit. It is also the shortest description of what a worker
/// does, less everything that has to do with other workers.
///
/// # Errors
/// What a replica meets.
pub fn train_alone(
    plan: &Arc<Plan>,
    devices: &Devices,
    mut state: TrainState,
    mut observe: impl FnMut(&TrainState, &Finished),
) -> Result<TrainState, StrategyError> {
    let mut replicas = Replicas::of(plan, devices)?;
    state.put(plan, &mut replicas)?;
    let mut round = Partial::default();
    loop {
        let kind = plan.course.kind(&state.course);
        if matches!(kind, Kind::End(_)) {
            state.settle(plan, Some(&mut replicas))?;
            return Ok(state);
        }
        plan.clear(&mut round, &kind, replicas.keep_sums());
        let all: Vec<u32> = (0..plan.course.micro_batches(&kind)).collect();
        replicas.compute(plan, &kind, &all, &mut round, &Stop::new())?;
        let (sum, totals) = (round.complete(), &round.totals);
        let finished = state.finish(plan, Some(&mut replicas), sum, totals)?;
        observe(&state, &finished);
    }
}
