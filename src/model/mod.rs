//! What is trained: the [`Model`] trait, variables by name, seeded initial
//! values, counter-based dropout.
//!
//! A model is ordinary candle code. It asks a `VarBuilder` for its variables by
//! name and turns a micro-batch into a mean loss:
//!
//! ```text
//!  job file ── Registry ── ModelFactory ── build(vars) ── Box<dyn DynModel>
//!                                             │              loss(batch, step) -> Loss
//!                                         Variables          evaluate(batch)   -> Loss
//!                             seeded by (seed, parameter name)
//! ```
//!
//! Three habits of other trainers would break the promise that the result is a
//! function of job, data and code alone, so they have no place here:
//!
//! * **No random source.** Initial values are keyed by (seed, parameter name),
//!   dropout by (seed, step, micro-batch, layer, call); the element's index is
//!   the counter ([`Variables`], [`StepContext`]).
//! * **No hash order.** Parameters stand in byte order of their names, in the
//!   flat buffer, on the wire, in digests ([`ParameterLayout`]).
//! * **No state between micro-batches**, such as running means: a model is
//!   `&self` while it computes.
//!
//! Beware of candle's operations without a backward pass (`ops::layer_norm`,
//! `ops::softmax_last_dim`, `rotary_emb::rope` and others): the graph silently
//! ends there. The training step stops the job and names every parameter that
//! receives no gradient.

pub mod init;
mod key_error;
mod layers;
mod layout;
mod loss;
mod mlp;
mod registry;
mod step;
#[cfg(test)]
mod testing;
pub mod trace;
mod vars;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::Preview;

pub use key_error::{KeyError, plainly};
pub use layers::{Activation, Dense};
pub use layout::{ELEMENTS_MAX, LayoutError, Parameter, ParameterLayout};
pub use loss::{accuracy, sparse_cross_entropy};
pub use mlp::{Mlp, MlpConfig};
pub use registry::{DynModel, ModelError, ModelFactory, Registry};
pub use step::StepContext;
pub use vars::Variables;

/// A micro-batch on the device.
///
/// One tensor a field of the data set's samples, stacked along a new first
/// dimension of size [`len`](Self::len): field 0 holds the inputs, field 1 the
/// targets, further fields whatever data set and model agree on.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Fields, each `[len, ...]`.
    pub fields: Vec<Tensor>,
    /// Samples in this micro-batch, at least 1.
    pub len: usize,
}

impl Batch {
    /// Field `index`, or an error that says what the batch has: a data set and a
    /// model that don't fit each other are a person's mistake, not a panic.
    ///
    /// # Errors
    /// When the samples have no such field.
    pub fn field(&self, index: usize) -> candle_core::Result<&Tensor> {
        self.fields.get(index).ok_or_else(|| {
            candle_core::Error::Msg(format!(
                "the model asks for field {index} of its samples, but they have {} field(s)",
                self.fields.len()
            ))
        })
    }
}

/// What a micro-batch gave: a mean, and how much it weighs.
///
/// The mean is over `weight` things (samples, or unmasked tokens). The training
/// step scales gradients by weight over the nominal weight of the global batch
/// and corrects by the summed weight, so short and masked micro-batches are
/// right whoever computes them.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Mean loss, a scalar of any floating-point type.
    pub mean: Tensor,
    /// What the mean is over: samples or unmasked tokens.
    pub weight: u64,
    /// Mean metrics, scalars of any floating-point type, in the order of
    /// [`Model::METRICS`].
    pub metrics: Vec<(&'static str, Tensor)>,
}

/// A model that can be trained: three functions in plain candle.
pub trait Model: Send + Sized + 'static {
    /// The keys of `[model]` besides `kind`; use `#[serde(deny_unknown_fields)]`
    /// so that a misspelt key is an error. It is written as it was read, with
    /// its defaults, into the job that workers get, the run's identity and
    /// `config.resolved.toml`. (An f32 stands there with all of its digits as an
    /// f64; so f64 is the better type for a share or a rate.)
    type Config: DeserializeOwned + Serialize;

    /// Names of the metrics that both passes return, in this order.
    const METRICS: &'static [&'static str];

    /// Says which key has a value of which no model can be made. The message gets the key's place
    /// in the job file, and nothing has started yet.
    ///
    /// # Errors
    /// That key, what was expected and what was found.
    fn check(config: &Self::Config) -> Result<(), KeyError> {
        let _ = config;
        Ok(())
    }

    /// Says which key doesn't fit samples like these; asked once a split, as `check` before
    /// anything starts.
    ///
    /// # Errors
    /// That key, what the data has and what was found.
    fn check_data(config: &Self::Config, data: &Preview<'_>) -> Result<(), KeyError> {
        let _ = (config, data);
        Ok(())
    }

    /// Creates the variables, in f32, and keeps them.
    ///
    /// # Errors
    /// A configuration that makes no model and that `check` doesn't know.
    fn new(config: &Self::Config, vars: VarBuilder) -> candle_core::Result<Self>;

    /// The training pass over one micro-batch. It has to be a pure function of
    /// weights, batch and `step`; random numbers come from `step` only.
    ///
    /// # Errors
    /// Whatever candle reports, such as shapes that don't fit.
    fn loss(&self, batch: &Batch, step: &StepContext) -> candle_core::Result<Loss>;

    /// The evaluation pass over one micro-batch: no dropout.
    ///
    /// # Errors
    /// Whatever candle reports, such as shapes that don't fit.
    fn evaluate(&self, batch: &Batch) -> candle_core::Result<Loss>;
}
