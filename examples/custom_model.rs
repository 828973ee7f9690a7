//! A model and data of one's own, and the whole command line around them.
//!
//! ```text
//! cargo run --release --example custom_model -- run examples/custom.toml
//! cargo run --release --example custom_model -- worker --coordinator http://stable:7070
//! ```
//!
//! The model fits a curve through noisy points: two hidden layers, the mean
//! squared error. The data are lines of `x,y`.

use std::process::ExitCode;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use ebbtide::data::{DataError, Field, MemoryDataset, Sample, Splits, local_path};
use ebbtide::job::DataSpec;
use ebbtide::model::{Activation, Batch, Dense, Loss, Model, Registry, StepContext};

/// The keys of `[model]` with `kind = "curve"`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CurveConfig {
    hidden: usize,
}

/// y = f(x), by two hidden layers.
struct Curve {
    first: Dense,
    second: Dense,
    output: Dense,
}

impl Model for Curve {
    type Config = CurveConfig;
    const METRICS: &'static [&'static str] = &["mean_absolute_error"];

    fn new(config: &CurveConfig, vars: VarBuilder) -> Result<Self> {
        let n = config.hidden;
        Ok(Curve {
            first: Dense::new(1, n, Activation::Relu, vars.pp("first"))?,
            second: Dense::new(n, n, Activation::Relu, vars.pp("second"))?,
            output: Dense::new(n, 1, Activation::Linear, vars.pp("output"))?,
        })
    }

    fn loss(&self, batch: &Batch, _: &StepContext) -> Result<Loss> {
        self.evaluate(batch)
    }

    fn evaluate(&self, batch: &Batch) -> Result<Loss> {
        let hidden = self.first.forward(batch.field(0)?)?;
        let hidden = self.second.forward(&hidden)?;
        let error: Tensor = (self.output.forward(&hidden)? - batch.field(1)?)?;
        Ok(Loss {
            mean: error.sqr()?.mean_all()?,
            weight: batch.len as u64,
            metrics: vec![("mean_absolute_error", error.detach().abs()?.mean_all()?)],
        })
    }
}

/// Lines of `x,y` below a head; every fifth point is kept for validation.
fn open_xy_csv(spec: &DataSpec) -> std::result::Result<Splits, DataError> {
    let path = local_path(&spec.url)?;
    let text = std::fs::read_to_string(&path).map_err(|error| DataError::read(&path, error))?;
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    for (row, line) in rows.skip(1).enumerate() {
        let point = line.split_once(',').map(|(x, y)| (x.parse(), y.parse()));
        let Some((Ok(x), Ok(y))) = point else {
            let problem = format!("row {row} is {line:?}, expected x,y");
            return Err(DataError::damaged(&path, problem));
        };
        let sample = Sample::new([Field::vector(vec![x]), Field::vector(vec![y])]);
        let split = if row % 5 == 4 {
            &mut validation
        } else {
            &mut train
        };
        split.push(sample);
    }
    Ok(Splits {
        train: Arc::new(MemoryDataset::new(train)?),
        validation: Some(Arc::new(MemoryDataset::new(validation)?)),
        transform: None,
    })
}

fn main() -> ExitCode {
    let registry = Registry::builtin()
        .model::<Curve>("curve")
        .dataset("xy-csv", open_xy_csv)
        .artifact("custom_model 1");
    ebbtide::cli::main(registry)
}
