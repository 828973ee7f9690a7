//! Micro-batches that can't be summed, each for another reason.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::*;
use crate::data::{DataError, Field, MemoryDataset, Sample, Splits};
use crate::job::{DataSpec, Job};
use crate::model::{Batch, Loss, Model, Registry, StepContext, trace};
use crate::strategy::Devices;

/// The mean of the roots of `w * x`: at 0 it is finite, and its derivative isn't.
struct Roots(Tensor);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

impl Model for Roots {
    type Config = NoKeys;
    const METRICS: &'static [&'static str] = &[];

    fn new(_: &NoKeys, vars: VarBuilder) -> candle_core::Result<Self> {
        let ones = candle_nn::Init::Const(1.0);
        Ok(Roots(vars.get_with_hints(1, "w", ones)?))
    }

    fn loss(&self, batch: &Batch, _: &StepContext) -> candle_core::Result<Loss> {
        self.evaluate(batch)
    }

    fn evaluate(&self, batch: &Batch) -> candle_core::Result<Loss> {
        let xs = batch.field(0)?.flatten_all()?.broadcast_mul(&self.0)?;
        let roots = trace::named(xs, "scale", "first")?.sqrt()?;
        Ok(Loss {
            mean: trace::named(roots, "root", "second")?.mean_all()?,
            weight: batch.len as u64,
            metrics: Vec::new(),
        })
    }
}

fn open(values: &[f32]) -> Result<Splits, DataError> {
    let samples = values
        .iter()
        .map(|x| Sample::new([Field::vector(vec![*x])]));
    let data = MemoryDataset::new(samples.collect::<Vec<_>>())?;
    Ok(Splits::train_only(Arc::new(data)))
}

/// Why the only micro-batch of the only step can't be summed.
fn cause(values: &'static [f32]) -> Cause {
    let job = "seed = 1\n[model]\nkind = \"roots\"\n[data]\nkind = \"list\"\nurl = \"\"\nshuffle = \"none\"\n\
               [train]\nsteps = 1\nglobal_batch = 4\nmicro_batch = 4\n\
               [optimizer]\nkind = \"sgd\"\nlr = 0.1\n[evaluation]\nevery = \"never\"\n";
    let job = Job::parse(job, Path::new("roots.toml"), &[]).unwrap();
    let registry = Registry::builtin()
        .model::<Roots>("roots")
        .dataset("list", move |_: &DataSpec| open(values));
    let plan = Plan::new(&job, &registry).unwrap();
    let mut replicas = Replicas::of(&plan, &Devices::cpu(1)).unwrap();
    let kind = Kind::Train { step: 0, epoch: 0 };
    let samples = plan.order.samples(0, 0);
    let whole = replicas.examine(&plan, &kind, 0, &samples).unwrap();
    assert_ne!(whole.verdict, Verdict::Clean);
    find(&plan, &kind, 0, &samples, &whole, &mut replicas).unwrap()
}

#[test]
fn value_that_is_not_finite_is_found_in_the_forward_pass() {
    let cause = cause(&[1.0, -2.0, 3.0, 4.0]); // no root
    assert_eq!((&cause.samples[..], cause.alone), (&[1][..], true));
    let first = cause.first.unwrap();
    assert_eq!(
        (first.pass, first.operation.as_str()),
        ("forward", "root of second")
    );
    assert_eq!(cause.largest_before.unwrap().1, 2.0);
    assert!(cause.odd_fields.is_empty());
}

#[test]
fn gradient_that_is_not_finite_is_found_between_two_layers() {
    let cause = cause(&[1.0, 2.0, 3.0, 0.0]);
    assert_eq!((&cause.samples[..], cause.alone), (&[3][..], true));
    let first = cause.first.unwrap();
    assert_eq!(first.pass, "backward");
    assert_eq!(first.operation, "between root of second and scale of first");
    assert_eq!(cause.parameters[0].0, "w");
}

#[test]
fn data_that_is_not_finite_is_said_first() {
    let cause = cause(&[1.0, f32::INFINITY, f32::NAN, 4.0]);
    assert_eq!(cause.samples, [1, 2]);
    assert_eq!(cause.odd_fields, [(0, 1)]);
}

#[test]
fn samples_that_fail_only_together_are_halved_as_far_as_one_half_fails() {
    let together = |of: &[u64]| Ok(of.contains(&5) && of.contains(&6));
    let samples: Vec<u64> = (0..16).collect();
    let found = smallest(&samples, &mut { together }).unwrap();
    assert_eq!(found, [4, 5, 6, 7]);
    let both_ends = |of: &[u64]| Ok(of.contains(&0) && of.contains(&15));
    assert_eq!(smallest(&samples, &mut { both_ends }).unwrap(), samples);
}
