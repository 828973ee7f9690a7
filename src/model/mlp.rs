//! The well-known first network: flatten, dense layers with ReLU and dropout,
//! and a dense layer of logits; Keras' quick start with one hidden layer of 128.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{Activation, Dense};
use super::loss::{accuracy, sparse_cross_entropy};
use super::{Batch, Loss, Model, StepContext};

/// The keys of `[model]` with `kind = "mlp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Width of each hidden layer; may be empty (softmax regression).
    pub hidden: Vec<usize>,
    /// Share of activations that is dropped after each hidden layer.
    pub dropout: f64,
    /// Values in a sample, flattened.
    pub inputs: usize,
    /// Number of classes.
    pub classes: usize,
}

impl Default for MlpConfig {
    /// Keras' quick start on MNIST.
    fn default() -> Self {
        MlpConfig {
            hidden: vec![128],
            dropout: 0.2,
            inputs: 784,
            classes: 10,
        }
    }
}

/// A multi-layer perceptron that classifies.
///
/// Field 0 of a sample holds `inputs` f32 values of any shape, field 1 the class
/// as one u32. Parameters: `dense_0.weight` of shape `[outputs, inputs]`,
/// `dense_0.bias`, `dense_1.weight` and so on.
#[derive(Debug)]
pub struct Mlp {
    hidden: Vec<Hidden>,
    logits: Dense,
    dropout: f32,
}

#[derive(Debug)]
struct Hidden {
    dense: Dense,
    /// Path of the dropout behind it.
    dropout: String,
}

impl Model for Mlp {
    type Config = MlpConfig;
    const METRICS: &'static [&'static str] = &["accuracy"];

    fn new(config: &MlpConfig, vars: VarBuilder) -> Result<Self> {
        let dropout = config.dropout as f32;
        if !(0.0..1.0).contains(&dropout) {
            bail!(
                "`dropout` is {}: it has to be at least 0 and below 1",
                config.dropout
            )
        }
        let widths = [&[config.inputs], &config.hidden[..], &[config.classes]].concat();
        if widths.contains(&0) {
            bail!("`inputs`, `classes` and each of `hidden` have to be at least 1")
        }
        let layer = |index: usize, activation| {
            let vars = vars.pp(format!("dense_{index}"));
            Dense::new(widths[index], widths[index + 1], activation, vars)
        };
        let last = config.hidden.len();
        let hidden = (0..last)
            .map(|index| {
                Ok(Hidden {
                    dense: layer(index, Activation::Relu)?,
                    dropout: format!("dropout_{index}"),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Mlp {
            hidden,
            logits: layer(last, Activation::Linear)?,
            dropout,
        })
    }

    fn loss(&self, batch: &Batch, step: &StepContext) -> Result<Loss> {
        let mut xs = batch.field(0)?.flatten_from(1)?;
        for layer in &self.hidden {
            xs = layer.dense.forward(&xs)?;
            xs = step.dropout(&xs, self.dropout, &layer.dropout)?;
        }
        Self::classify(&self.logits.forward(&xs)?, batch)
    }

    fn evaluate(&self, batch: &Batch) -> Result<Loss> {
        let mut xs = batch.field(0)?.flatten_from(1)?;
        for layer in &self.hidden {
            xs = layer.dense.forward(&xs)?;
        }
        Self::classify(&self.logits.forward(&xs)?, batch)
    }
}

impl Mlp {
    fn classify(logits: &Tensor, batch: &Batch) -> Result<Loss> {
        let targets = batch.field(1)?.flatten_all()?;
        Ok(Loss {
            mean: sparse_cross_entropy(logits, &targets)?,
            weight: batch.len as u64,
            metrics: vec![("accuracy", accuracy(logits, &targets)?)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Variables;
    use candle_core::{Device, Tensor};

    fn mlp(config: &MlpConfig) -> (Mlp, Variables) {
        let vars = Variables::seeded(3, &Device::Cpu);
        (Mlp::new(config, vars.builder()).unwrap(), vars)
    }

    fn batch(len: usize) -> Batch {
        let pixels = (0..len * 784).map(|i| (i % 251) as f32 / 251.0).collect();
        let classes = (0..len as u32).map(|i| i % 10).collect();
        Batch {
            fields: vec![
                Tensor::from_vec(pixels, (len, 28, 28), &Device::Cpu).unwrap(),
                Tensor::from_vec(classes, len, &Device::Cpu).unwrap(),
            ],
            len,
        }
    }

    #[test]
    fn parameters_have_the_names_and_shapes_that_a_checkpoint_shows() {
        let (_, vars) = mlp(&MlpConfig::default());
        let layout = vars.layout().unwrap();
        let shown: Vec<_> = layout
            .iter()
            .map(|p| (p.name.as_str(), p.shape.as_slice()))
            .collect();
        assert_eq!(
            shown,
            [
                ("dense_0.bias", &[128][..]),
                ("dense_0.weight", &[128, 784]),
                ("dense_1.bias", &[10]),
                ("dense_1.weight", &[10, 128]),
            ]
        );
        assert_eq!(layout.elements(), 101_770);
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        let config = MlpConfig {
            hidden: vec![32, 16],
            ..MlpConfig::default()
        };
        let (model, vars) = mlp(&config);
        let loss = model.loss(&batch(4), &StepContext::new(3, 0, 0)).unwrap();
        assert_eq!(loss.weight, 4);
        let grads = loss.mean.backward().unwrap();
        for (name, var) in vars.in_order() {
            let gradient = grads.get(&var).unwrap_or_else(|| panic!("{name} has none"));
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(gradient.iter().any(|&g| g != 0.0), "{name} is all zeros");
        }
    }

    #[test]
    fn evaluation_has_no_dropout_and_training_repeats_itself() {
        let (model, _) = mlp(&MlpConfig::default());
        let value = |loss: Loss| loss.mean.to_scalar::<f32>().unwrap();
        let train = |step| {
            value(
                model
                    .loss(&batch(16), &StepContext::new(3, step, 0))
                    .unwrap(),
            )
        };
        assert_eq!(train(5), train(5));
        assert_ne!(train(5), train(6));
        let quiet = value(model.evaluate(&batch(16)).unwrap());
        assert_ne!(train(5), quiet);
        let (still, _) = mlp(&MlpConfig {
            dropout: 0.0,
            ..MlpConfig::default()
        });
        let step = StepContext::new(3, 5, 0);
        assert_eq!(value(still.loss(&batch(16), &step).unwrap()), quiet);
    }

    #[test]
    fn impossible_configurations_are_refused_by_key() {
        for (config, key) in [
            (
                MlpConfig {
                    dropout: 1.0,
                    ..MlpConfig::default()
                },
                "`dropout`",
            ),
            (
                MlpConfig {
                    hidden: vec![4, 0],
                    ..MlpConfig::default()
                },
                "`hidden`",
            ),
        ] {
            let vars = Variables::shapes_only();
            let error = Mlp::new(&config, vars.builder()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
