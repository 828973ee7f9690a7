//! The first sample through the model, before anything starts: a model and data of one's own that
//! don't fit each other are found here, and not in the first step of every worker.

use super::plan::Plan;
use super::replica::{Mirror, Replica};
use super::summing::summing;
use candle_core::Device;

use crate::data::{DataError, Draw, Gathered};
use crate::job::JobError;
use crate::model::{Variables, plainly};

/// Larger models aren't tried: where the run is coordinated there need be no room for one.
const TRIED_VALUES_MAX: usize = 1 << 24;

impl Plan {
    /// Evaluates one training and one validation sample on fresh weights.
    ///
    /// # Errors
    /// What the model says against the sample, or the sample that can't be read.
    pub fn try_samples(&self) -> Result<(), JobError> {
        if self.layout.elements() > TRIED_VALUES_MAX {
            return Ok(());
        }
        let variables = Variables::seeded(self.job.seed, &Device::Cpu);
        let refused = |problem: String| self.job.error("model.kind", problem);
        let model = self.factory.build(variables.builder());
        let (summing, sum) = summing(&Device::Cpu);
        let mut replica = Replica {
            device: Device::Cpu,
            model: model.map_err(|error| refused(error.to_string()))?,
            variables: Mirror(Vec::new()),
            gathered: Gathered::new(),
            summing,
            sum,
        };
        let seed = self.job.seed;
        let draw = Draw { seed, epoch: 0 };
        let read = self.data.gather_train(draw, &[0], &mut replica.gathered);
        self.try_gathered("training", read, &mut replica)?;
        if let Some(validation) = &self.data.validation {
            let read = validation.gather(&[0], &mut replica.gathered);
            self.try_gathered("validation", read, &mut replica)?;
        }
        Ok(())
    }

    fn try_gathered(
        &self,
        split: &str,
        read: Result<(), DataError>,
        replica: &mut Replica,
    ) -> Result<(), JobError> {
        read.map_err(|error| self.job.error("data.url", error.to_string()))?;
        let batch = replica.batch();
        let evaluated = batch.and_then(|batch| replica.model.evaluate(&batch));
        evaluated.map(drop).map_err(|error| {
            let problem = format!(
                "expected a model that fits the {split} data; found one that says of its first \
                 sample: {}",
                plainly(&error)
            );
            self.job.error("model.kind", problem)
        })
    }
}
