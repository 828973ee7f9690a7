//! From a complete sum to new weights on every replica.
//!
//! One pass over blocks that stay in the cache: integer sum to f32 gradient,
//! optimizer, and the new weights into the variables of every replica. Each
//! worker, and each follower without any replica, does the same and arrives at
//! the same bits.

use std::ops::Range;

use super::error::StrategyError;
use super::plan::Plan;
use crate::exact::{SumHash, Totals};
use crate::optim::{NormAccumulator, Optimizer};

/// Elements that are converted and updated at a time: 16 KiB of gradient.
const BLOCK: usize = 4096;

/// What an applied step used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    /// The schedule's learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping; measured only where the job clips.
    pub gradient_norm: Option<f64>,
}

/// A block of the flat buffer within one parameter.
pub(super) struct Block {
    /// Index of the parameter in layout order.
    pub parameter: usize,
    /// Elements of the flat buffer.
    pub range: Range<usize>,
}

/// Updates `weights` by the gradient in `sum`, and calls `publish` with each
/// block of new weights. The sum goes into `hash` in passing.
///
/// The caller has asked whether the sum may be applied: a sum that isn't clean
/// leaves weights, moments and their step count as they are.
pub(super) fn apply(
    plan: &Plan,
    step: u64,
    (sum, totals, hash): (&[i64], &Totals, &mut SumHash),
    (weights, optimizer): (&mut [f32], &mut Optimizer),
    mut publish: impl FnMut(&Block, &[f32]) -> Result<(), StrategyError>,
) -> Result<Applied, StrategyError> {
    assert_eq!(sum.len(), weights.len(), "a sum over the whole model");
    let correction = correction(plan, totals);
    let mut gradient = [0.0f32; BLOCK];

    let mut gradient_norm = None;
    let mut clip = 1.0;
    if optimizer.clip_norm().is_some() {
        let mut norm = NormAccumulator::new();
        for sum in sum.chunks(BLOCK) {
            let gradient = &mut gradient[..sum.len()];
            plan.fixed.to_f32(sum, correction, gradient);
            optimizer.add_to_norm(&mut norm, gradient);
        }
        gradient_norm = Some(norm.norm());
        clip = optimizer.clip_factor(&norm);
    }

    let lr = optimizer.lr(step, plan.course.total_steps());
    optimizer.begin_step();
    for block in blocks(plan) {
        let range = block.range.clone();
        let gradient = &mut gradient[..range.len()];
        let weights = &mut weights[range.clone()];
        let sum = &sum[range.clone()];
        plan.fixed.to_f32_hashed(sum, correction, gradient, hash);
        optimizer.update_clipped(range, weights, gradient, lr, clip);
        publish(&block, weights)?;
    }
    Ok(Applied { lr, gradient_norm })
}

/// Short and masked batches: the sum is over fewer samples than its scale assumed.
pub(super) fn correction(plan: &Plan, totals: &Totals) -> f64 {
    let nominal = u64::from(plan.job.train.global_batch);
    let correction = totals.correction(nominal);
    correction.expect("a sum of no weight isn't applied")
}

/// The flat buffer in blocks that don't cross parameters.
pub(super) fn blocks(plan: &Plan) -> impl Iterator<Item = Block> {
    plan.layout
        .iter()
        .enumerate()
        .flat_map(|(index, parameter)| {
            let Range { start, end } = parameter.range;
            (start..end).step_by(BLOCK).map(move |from| Block {
                parameter: index,
                range: from..end.min(from + BLOCK),
            })
        })
}
