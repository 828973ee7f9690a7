//! The well-known first network: flatten, dense layers with ReLU and dropout,
//! and a dense layer of logits; Keras' quick start with one hidden layer of 128.

use candle_core::{Error, Result, Tensor};
use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{Activation, Dense};
use super::loss::{accuracy, sparse_cross_entropy};
use super::{Batch, ELEMENTS_MAX, KeyError, Loss, Model, StepContext};
use crate::data::{Field, Preview};

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

impl MlpConfig {
    /// Each width with its key, from the inputs to the classes.
    fn widths(&self) -> Vec<(String, usize)> {
        let hidden = self.hidden.iter().enumerate();
        let hidden = hidden.map(|(i, width)| (format!("hidden.{i}"), *width));
        let mut widths = vec![("inputs".to_owned(), self.inputs)];
        widths.extend(hidden);
        widths.push(("classes".to_owned(), self.classes));
        widths
    }

    /// Blames the widest layer.
    fn too_large(&self, widths: &[(String, usize)]) -> KeyError {
        let widest = widths.iter().max_by_key(|(_, width)| *width);
        let (key, width) = widest.cloned().unwrap_or_default();
        let expected = format!("widths of a model of at most {ELEMENTS_MAX} values");
        KeyError::expected(key, expected, width)
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

    fn check(config: &MlpConfig) -> std::result::Result<(), KeyError> {
        if !(0.0..1.0).contains(&(config.dropout as f32)) {
            let expected = "a number of at least 0 and below 1";
            return Err(KeyError::expected("dropout", expected, config.dropout));
        }
        let widths = config.widths();
        if let Some((key, _)) = widths.iter().find(|(_, width)| *width == 0) {
            return Err(KeyError::expected(key, "a whole number of at least 1", 0));
        }
        let layers = widths.windows(2).map(|pair| (pair[0].1, pair[1].1));
        let elements = layers.map(|(n, m)| n.checked_add(1).and_then(|n| n.checked_mul(m)));
        let sum = |sum: usize, layer: Option<usize>| sum.checked_add(layer?);
        match elements.into_iter().try_fold(0, sum) {
            Some(elements) if elements <= ELEMENTS_MAX => Ok(()),
            _ => Err(config.too_large(&widths)),
        }
    }

    fn check_data(config: &MlpConfig, data: &Preview<'_>) -> std::result::Result<(), KeyError> {
        let (split, found) = (data.split, &data.sample.fields);
        let [
            Field::F32 {
                shape,
                data: inputs,
            },
            Field::U32 { data: label, .. },
            ..,
        ] = &found[..]
        else {
            let expected = "a model for this data";
            let found = format!(
                "\"mlp\", which takes f32 values and a u32 class; the {split} data has other fields"
            );
            return Err(KeyError::expected("kind", expected, found));
        };
        if inputs.len() != config.inputs {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            let (inputs, shape) = (inputs.len(), shape.join(" x "));
            let expected = format!("{inputs}, as a sample of the {split} data has {shape} values");
            return Err(KeyError::expected("inputs", expected, config.inputs));
        }
        let largest = data.largest(1).or(label.first().copied()).unwrap_or(0);
        if largest as usize >= config.classes {
            let least = u64::from(largest) + 1;
            let expected =
                format!("at least {least}, as the {split} data has classes up to {largest}");
            return Err(KeyError::expected("classes", expected, config.classes));
        }
        Ok(())
    }

    fn new(config: &MlpConfig, vars: VarBuilder) -> Result<Self> {
        Self::check(config).map_err(|error| Error::Msg(error.to_string()))?;
        let widths: Vec<usize> = config.widths().iter().map(|(_, width)| *width).collect();
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
            dropout: config.dropout as f32,
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
                "dropout: ",
            ),
            (
                MlpConfig {
                    hidden: vec![4, 0],
                    ..MlpConfig::default()
                },
                "hidden.1: ",
            ),
        ] {
            let vars = Variables::shapes_only();
            let error = Mlp::new(&config, vars.builder()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
