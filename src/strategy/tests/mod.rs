//! Scenarios of the training step, on a toy job whose numbers can be worked out
//! by hand, and on MNIST.

mod faults;
#[cfg(feature = "cuda")]
mod gpu;
mod mnist;
mod saving;
mod steps;

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::*;
use crate::data::{DataError, Field, MemoryDataset, Sample, Splits};
use crate::job::{DataSpec, Job, Kind};
use crate::model::{Batch, Loss, Model, Registry, StepContext};

/// `y = w·x + b` with squared error, and whatever mistake a test asks for.
pub struct Line {
    w: Tensor,
    b: Tensor,
    mistake: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineConfig {
    mistake: String,
}

impl Model for Line {
    type Config = LineConfig;
    const METRICS: &'static [&'static str] = &["error"];

    fn new(config: &LineConfig, vars: VarBuilder) -> candle_core::Result<Self> {
        Ok(Line {
            w: vars.get(1, "w")?,
            b: vars.get(1, "b")?,
            mistake: config.mistake.clone(),
        })
    }

    fn loss(&self, batch: &Batch, _: &StepContext) -> candle_core::Result<Loss> {
        if self.mistake == "panic" {
            panic!("a line that panics");
        }
        let lost = self.mistake == "detach";
        let b = if lost {
            self.b.detach()
        } else {
            self.b.clone()
        };
        let mut loss = self.forward(batch, &b)?;
        if self.mistake == "metrics" {
            loss.metrics.clear();
        }
        Ok(loss)
    }

    fn evaluate(&self, batch: &Batch) -> candle_core::Result<Loss> {
        if self.mistake == "refuse" {
            candle_core::bail!("these samples aren't mine");
        }
        self.forward(batch, &self.b)
    }
}

impl Line {
    fn forward(&self, batch: &Batch, b: &Tensor) -> candle_core::Result<Loss> {
        let xs = batch.field(0)?.flatten_all()?;
        let ys = xs.broadcast_mul(&self.w)?.broadcast_add(b)?;
        let error = (ys - batch.field(1)?.flatten_all()?)?;
        Ok(Loss {
            mean: error.sqr()?.mean_all()?,
            weight: batch.len as u64,
            metrics: vec![("error", error.abs()?.detach().mean_all()?)],
        })
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct PointsOptions {
    samples: u64,
    /// This sample's x is so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    odd: Option<(u64, f32)>,
}

impl Default for PointsOptions {
    fn default() -> Self {
        PointsOptions {
            samples: 10,
            odd: None,
        }
    }
}

/// Points on y = 3x + 1, x within [-1, 1).
fn open_points(_: &DataSpec, options: &PointsOptions) -> Result<Splits, DataError> {
    let sample = |index: u64| {
        let plain = 2.0 * index as f32 / options.samples as f32 - 1.0;
        let x = match options.odd {
            Some((odd, value)) if odd == index => value,
            _ => plain,
        };
        Sample::new([
            Field::vector(vec![x]),
            Field::vector(vec![3.0 * plain + 1.0]),
        ])
    };
    let train = MemoryDataset::new((0..options.samples).map(sample).collect())?;
    let validation = MemoryDataset::new((0..5).map(sample).collect())?;
    Ok(Splits {
        train: Arc::new(train),
        validation: Some(Arc::new(validation)),
        transform: None,
    })
}

/// A plan for a line through ten points, in steps of 4 in micro-batches of 2.
pub fn line(overrides: &[&str]) -> Arc<Plan> {
    let text = "seed = 7\n[model]\nkind = \"line\"\n[data]\nkind = \"points\"\nurl = \"\"\n\
                [train]\nepochs = 2\nglobal_batch = 4\nmicro_batch = 2\n\
                [optimizer]\nkind = \"sgd\"\nlr = 0.5\n";
    plan(text, overrides)
}

fn plan(text: &str, overrides: &[&str]) -> Arc<Plan> {
    let overrides: Vec<String> = overrides.iter().map(|&set| set.to_owned()).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/test.toml");
    let job = Job::parse(text, &path, &overrides).unwrap();
    let registry = Registry::builtin()
        .model::<Line>("line")
        .dataset_with_options("points", open_points);
    Arc::new(Plan::new(&job, &registry).unwrap_or_else(|error| panic!("{error}")))
}

/// All micro-batches of the next round on one replica.
pub fn whole_round(plan: &Arc<Plan>, state: &TrainState) -> (Kind, Result<Partial, StrategyError>) {
    let kind = plan.course.kind(&state.course);
    let mut replicas = Replicas::of(plan, &Devices::cpu(1)).unwrap();
    state.put(plan, &mut replicas).unwrap();
    let mut partial = Partial::default();
    plan.clear(&mut partial, &kind, false);
    let all: Vec<u32> = (0..plan.course.micro_batches(&kind)).collect();
    let result = replicas.compute(plan, &kind, &all, &mut partial, &Stop::new());
    (kind, result.map(|()| partial))
}

/// Digest and decisions of a whole run.
pub fn digest_of_run(plan: &Arc<Plan>, replicas: usize) -> String {
    let state = TrainState::initial(plan).unwrap();
    let end = train_alone(plan, &Devices::cpu(replicas), state, |_, _| ()).unwrap();
    end.digest(plan)
}
