//! Evaluation: a round like a step, with sums but without gradients.

use std::sync::Mutex;

use super::error::{Place, StrategyError};
use super::gradient::{Scalars, lock};
use super::partial::Partial;
use super::plan::Plan;
use super::replica::Replica;
use crate::data::Order;
use crate::job::Kind;

impl Replica {
    /// Evaluates micro-batch `m` of part `index` of a pass and adds it to `into`.
    pub(super) fn evaluate(
        &mut self,
        plan: &Plan,
        kind: &Kind,
        m: u32,
        into: &Mutex<Partial>,
    ) -> Result<(), StrategyError> {
        let (&Kind::Evaluate { index, .. }, Some(data)) = (kind, &plan.data.validation) else {
            unreachable!("the course evaluates only where there is validation data")
        };
        let number = plan.course.evaluation_micro_batch(index, m);
        let place = Place::of(plan, kind, m);
        let size = plan.job.evaluation.micro_batch;
        let samples: Vec<u64> = Order::evaluation(data.len(), size, number).collect();
        if samples.is_empty() {
            lock(into).totals.add_empty(m);
            return Ok(());
        }
        data.gather(&samples, &mut self.gathered)
            .map_err(|source| StrategyError::Data { place, source })?;

        let failed = |source| StrategyError::Compute { place, source };
        let batch = self.batch().map_err(failed)?;
        let loss = self.model.evaluate(&batch).map_err(failed)?;
        let scalars = Scalars::read(&loss, plan, place)?;
        let micro_batch = scalars.micro_batch(m, plan.course.nominal_weight(kind));
        // A NaN loss sets the counters of the totals; there is nothing else to do about it.
        lock(into).totals.add_micro_batch(&micro_batch, &[]);
        Ok(())
    }
}
