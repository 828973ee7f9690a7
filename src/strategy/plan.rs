//! All that is fixed while a job runs, worked out before anything starts.

use std::ops::Range;

use crate::data::{Order, Splits};
use crate::exact::{FixedPoint, MAX_METRICS, MAX_PARAMETERS, Totals};
use crate::job::{Course, Job, JobError, Kind};
use crate::model::{ModelFactory, ParameterLayout, Registry};
use crate::optim::{Optimizer, SpecError};

use super::partial::Partial;

/// A job with its data, its model and its course: the same on every process of
/// a run, and read-only.
///
/// Making it finds everything that can be wrong with a job before a worker is
/// asked for.
pub struct Plan {
    /// The job, with each key of its model and its data spelled out.
    pub job: Job,
    /// Makes the model, once a replica.
    pub factory: ModelFactory,
    /// The model's parameters in the flat buffer.
    pub layout: ParameterLayout,
    /// Which rounds there are and what they decide.
    pub course: Course,
    /// Which samples a micro-batch of a step holds.
    pub order: Order,
    /// Where the samples are.
    pub data: Splits,
    /// The gradients' fixed-point format.
    pub fixed: FixedPoint,
    /// Name of the build that knows model and data.
    pub artifact: String,
    /// One a parameter in layout order: whether a group freezes it.
    frozen: Vec<bool>,
}

impl Plan {
    /// Opens the data, tries the model and the optimizer, lays out the course.
    ///
    /// # Errors
    /// Whatever is wrong with the job, its model or its data, with the key's place.
    pub fn new(job: &Job, registry: &Registry) -> Result<Plan, JobError> {
        let factory = registry.model_factory(job)?;
        let layout = factory.layout()?;
        check_size(job, factory.metrics().len(), layout.len())?;
        let frozen = Optimizer::frozen(&job.optimizer, &named(&layout))
            .map_err(|SpecError { key, problem }| job.error(&key, problem.to_string()))?;
        let data = registry.open_data(job)?;
        let order = Order::new(
            data.train.len(),
            &job.data.shuffle,
            job.seed,
            job.train.global_batch,
            job.train.micro_batch,
        )
        .map_err(|error| job.error("data.url", error.to_string()))?;
        factory.check_data(&data)?;
        let evaluation_samples = data.validation.as_ref().map_or(0, |data| data.len());
        let course = Course::new(
            job,
            factory.metrics(),
            order.steps_per_epoch(),
            evaluation_samples,
        )?;
        let fixed = FixedPoint::new(job.exact.fraction_bits).ok_or_else(|| {
            job.error(
                "exact.fraction_bits",
                "expected a whole number from 8 to 48",
            )
        })?;
        Ok(Plan {
            job: factory.job().clone(),
            factory,
            layout,
            course,
            order,
            data,
            fixed,
            artifact: registry.artifact_name().to_owned(),
            frozen,
        })
    }

    /// Whether parameter `index` in layout order is trained; frozen ones need no gradient.
    pub fn is_trained(&self, index: usize) -> bool {
        !self.frozen[index]
    }

    /// A fresh optimizer for the job's model.
    pub(super) fn optimizer(&self) -> Optimizer {
        // `new` has tried the same settings on the same parameters.
        Optimizer::new(&self.job.optimizer, &named(&self.layout))
            .expect("the plan has tried the optimizer's settings")
    }

    /// Makes `partial` the sum over no micro-batches of a round, in the memory
    /// that it has; `resident`: on the replica, if it [keeps sums](super::Replicas::keep_sums).
    pub fn clear(&self, partial: &mut Partial, kind: &Kind, resident: bool) {
        partial.resident = resident && matches!(kind, Kind::Train { .. });
        let (elements, parameters) = match kind {
            Kind::Train { .. } if partial.resident => (0, self.layout.len()),
            Kind::Train { .. } => (self.layout.elements(), self.layout.len()),
            Kind::Evaluate { .. } | Kind::End(_) => (0, 0),
        };
        partial.sum.clear();
        partial.sum.resize(elements, 0);
        partial.totals = Totals::new(self.factory.metrics().len(), parameters);
    }

    /// Makes room for a sum that is on the replica: it comes with the next micro-batches.
    pub fn want_here(&self, partial: &mut Partial) {
        if std::mem::take(&mut partial.resident) {
            partial.sum.clear();
            partial.sum.resize(self.layout.elements(), 0);
        }
    }
}

/// The totals of a sum are bounded: every message has a largest size.
fn check_size(job: &Job, metrics: usize, parameters: usize) -> Result<(), JobError> {
    if metrics <= MAX_METRICS && parameters <= MAX_PARAMETERS {
        return Ok(());
    }
    Err(job.error(
        "model.kind",
        format!(
            "expected a model with at most {MAX_METRICS} metrics and {MAX_PARAMETERS} parameter \
             tensors; found {metrics} and {parameters}"
        ),
    ))
}

fn named(layout: &ParameterLayout) -> Vec<(String, Range<usize>)> {
    let parameters = layout.iter();
    parameters
        .map(|parameter| (parameter.name.clone(), parameter.range.clone()))
        .collect()
}
