//! Micro-batches into sums.

use std::sync::Arc;
use std::time::Instant;

use super::super::fault::EngineError;
use super::super::inject::Point;
use super::{Answer, Worker};
use crate::exact::Totals;
use crate::strategy::{Partial, Stop};
use crate::world::member::Task;

impl Worker {
    /// What is to be added to.
    pub(super) fn prepare(
        &self,
        partial: &mut Partial,
        fresh: bool,
        ours: bool,
    ) -> Result<(), EngineError> {
        let (Some(replicas), Some(state)) = (&self.replicas, &self.state) else {
            return Err(EngineError::NoState);
        };
        let kind = self.plan.course.kind(&state.course);
        match (fresh, ours) {
            (true, _) => self
                .plan
                .clear(partial, &kind, ours && replicas.keep_sums()),
            (false, false) => self.plan.want_here(partial),
            (false, true) => {}
        }
        Ok(())
    }

    /// A whole sum that stayed where it was summed, and that somebody else wants now.
    pub(super) fn fetch(&mut self, totals: &Totals) -> Result<Vec<i64>, EngineError> {
        let (Some(replicas), Some(state)) = (&mut self.replicas, &self.state) else {
            return Err(EngineError::NoState);
        };
        let kind = self.plan.course.kind(&state.course);
        let mut partial = Partial {
            sum: Vec::new(),
            resident: true,
            totals: totals.clone(),
        };
        self.plan.want_here(&mut partial);
        replicas.compute(&self.plan, &kind, &[], &mut partial, &Stop::new())?;
        Ok(partial.sum)
    }

    pub(super) fn compute(
        &mut self,
        task: Task,
        micro_batches: &[u32],
        mut partial: Box<Partial>,
        stop: &Stop,
    ) -> Result<(), EngineError> {
        let (Some(replicas), Some(state)) = (&mut self.replicas, &self.state) else {
            return Err(EngineError::NoState);
        };
        let kind = self.plan.course.kind(&state.course);
        let began = Instant::now();
        if let Some(pace) = self.faults.pace() {
            for m in micro_batches {
                let began = Instant::now();
                replicas.compute(&self.plan, &kind, &[*m], &mut partial, stop)?;
                pace.wait(began, stop);
            }
        } else if self.faults.wants(Point::Compute, &kind) {
            // The fault strikes in the middle of the share.
            let (first, rest) = micro_batches.split_at(micro_batches.len().min(1));
            replicas.compute(&self.plan, &kind, first, &mut partial, stop)?;
            self.faults.reached(Point::Compute, &kind);
            replicas.compute(&self.plan, &kind, rest, &mut partial, stop)?;
        } else {
            replicas.compute(&self.plan, &kind, micro_batches, &mut partial, stop)?;
        }
        let took = began.elapsed();
        let say = Arc::clone(&self.say);
        self.faults.computed(&kind, stop, move || {
            say(Answer::Computed {
                task,
                partial,
                took,
            });
        });
        Ok(())
    }
}
