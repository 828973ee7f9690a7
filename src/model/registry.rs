//! Which models and data sets a build knows, by the `kind` of the job file.
//!
//! One line each brings a person's own:
//!
//! ```
//! # use ebbtide::data::{DataError, Splits, local_path};
//! # use ebbtide::job::DataSpec;
//! # use ebbtide::model::{Mlp as MyModel, Registry};
//! # fn open_csv(spec: &DataSpec) -> Result<Splits, DataError> {
//! #     Err(DataError::damaged(local_path(&spec.url)?, "is no CSV file"))
//! # }
//! let registry = Registry::builtin()
//!     .model::<MyModel>("my-net")
//!     .dataset("my-csv", open_csv)
//!     .artifact("my-app 0.1");
//! # assert_eq!(registry.artifact_name(), "my-app 0.1");
//! ```
//!
//! Coordinator and workers of a run have to be built with the same registry;
//! the artifact's name stands in every handshake and checkpoint, so change it
//! whenever the model's code changes what it computes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::layout::ParameterLayout;
use super::vars::Variables;
use super::{Batch, KeyError, Loss, Mlp, Model, StepContext, plainly};
use crate::data::{DataError, Preview, Splits, mnist};
use crate::job::{DataSpec, Job, JobError};

/// A model behind one type, as the training step holds it.
pub trait DynModel: Send {
    /// See [`Model::loss`].
    ///
    /// # Errors
    /// Whatever the model reports.
    fn loss(&self, batch: &Batch, step: &StepContext) -> CandleResult<Loss>;

    /// See [`Model::evaluate`].
    ///
    /// # Errors
    /// Whatever the model reports.
    fn evaluate(&self, batch: &Batch) -> CandleResult<Loss>;
}

/// Keeps [`Model`]'s and [`DynModel`]'s methods of one name apart.
struct Erased<M>(M);

impl<M: Model> DynModel for Erased<M> {
    fn loss(&self, batch: &Batch, step: &StepContext) -> CandleResult<Loss> {
        self.0.loss(batch, step)
    }

    fn evaluate(&self, batch: &Batch) -> CandleResult<Loss> {
        self.0.evaluate(batch)
    }
}

/// Why a job's model can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The job has to be changed: an unknown kind, or a key of the model's own.
    #[error(transparent)]
    Job(#[from] JobError),
    /// `Model::new` failed.
    #[error("the model of kind {kind:?} can't be built: {}", plainly(source))]
    Build {
        /// The model.
        kind: String,
        /// The model's message.
        #[source]
        source: candle_core::Error,
    },
}

/// What a `kind` of model needs to be made.
#[derive(Debug, Clone, Copy)]
struct ModelEntry {
    metrics: &'static [&'static str],
    /// The model's own keys, checked, with their defaults.
    spell_out: SpellOut,
    check_data: fn(&Job, &Preview<'_>) -> Result<(), JobError>,
    build: Build,
}

type SpellOut = fn(&Job) -> Result<toml::Table, JobError>;

type Build = fn(&Job, VarBuilder) -> Result<Box<dyn DynModel>, ModelError>;

impl ModelEntry {
    fn of<M: Model>() -> Self {
        ModelEntry {
            metrics: M::METRICS,
            spell_out: |job| {
                let config = job.model_config::<M::Config>()?;
                M::check(&config).map_err(|error| wrong_key(job, &error))?;
                written(job, "model", &config)
            },
            check_data: |job, data| {
                let config = job.model_config::<M::Config>()?;
                M::check_data(&config, data).map_err(|error| wrong_key(job, &error))
            },
            build: |job, vars| {
                let config = job.model_config::<M::Config>()?;
                let model = M::new(&config, vars).map_err(|source| ModelError::Build {
                    kind: job.model.kind.clone(),
                    source,
                })?;
                Ok(Box::new(Erased(model)))
            },
        }
    }
}

fn wrong_key(job: &Job, error: &KeyError) -> JobError {
    job.error(&format!("model.{}", error.key), error.problem.clone())
}

/// A table with its defaults, as it goes into the resolved job.
fn written(job: &Job, key: &str, table: &impl Serialize) -> Result<toml::Table, JobError> {
    toml::Table::try_from(table)
        .map_err(|error| job.error(key, format!("can't be written down: {error}")))
}

/// What a `kind` of data needs to be opened.
#[derive(Clone)]
struct DataEntry {
    /// `[data.options]`, checked, with their defaults.
    spell_out: SpellOut,
    open: Arc<Open>,
}

type Open = dyn Fn(&Job) -> Result<Splits, JobError> + Send + Sync;

impl fmt::Debug for DataEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataEntry")
    }
}

/// The options of data that has none: every key in `[data.options]` is a mistake.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// The models and data sets of one build.
#[derive(Debug, Clone)]
pub struct Registry {
    models: BTreeMap<String, ModelEntry>,
    datasets: BTreeMap<String, DataEntry>,
    artifact: String,
}

impl Registry {
    /// What comes with ebbtide.
    pub fn builtin() -> Self {
        let empty = Registry {
            models: BTreeMap::new(),
            datasets: BTreeMap::new(),
            artifact: concat!("ebbtide ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        empty
            .model::<Mlp>("mlp")
            .dataset_with_options(mnist::KIND, mnist::open)
    }

    /// Adds a model under `kind`, in place of one that was there.
    #[must_use]
    pub fn model<M: Model>(mut self, kind: impl Into<String>) -> Self {
        self.models.insert(kind.into(), ModelEntry::of::<M>());
        self
    }

    /// Adds a data set without options under `kind`, in place of one that was there.
    #[must_use]
    pub fn dataset(
        self,
        kind: impl Into<String>,
        opener: impl Fn(&DataSpec) -> Result<Splits, DataError> + Send + Sync + 'static,
    ) -> Self {
        self.dataset_with_options(kind, move |spec, _: &NoOptions| opener(spec))
    }

    /// Adds a data set whose `[data.options]` are an `O`; it wants `#[serde(deny_unknown_fields)]`
    /// so that a misspelt key is an error.
    #[must_use]
    pub fn dataset_with_options<O: DeserializeOwned + Serialize + 'static>(
        mut self,
        kind: impl Into<String>,
        opener: impl Fn(&DataSpec, &O) -> Result<Splits, DataError> + Send + Sync + 'static,
    ) -> Self {
        let entry = DataEntry {
            spell_out: |job| written(job, "data.options", &job.data_options::<O>()?),
            open: Arc::new(move |job| {
                let options = job.data_options::<O>()?;
                // Whatever is wrong with the data, this is where it came from.
                opener(&job.data, &options)
                    .map_err(|error| job.error("data.url", error.to_string()))
            }),
        };
        self.datasets.insert(kind.into(), entry);
        self
    }

    /// Names this build: name and version of the program that adds to the registry.
    #[must_use]
    pub fn artifact(mut self, name: impl Into<String>) -> Self {
        self.artifact = name.into();
        self
    }

    /// The name of this build.
    pub fn artifact_name(&self) -> &str {
        &self.artifact
    }

    /// Opens a job's data.
    ///
    /// # Errors
    /// When the kind is unknown, or options or data aren't what they should be, with the key's place.
    pub fn open_data(&self, job: &Job) -> Result<Splits, JobError> {
        (self.data_entry(job)?.open)(job)
    }

    fn data_entry(&self, job: &Job) -> Result<&DataEntry, JobError> {
        let kind = &job.data.kind;
        self.datasets.get(kind).ok_or_else(|| {
            let known: Vec<&String> = self.datasets.keys().collect();
            job.unknown_kind("data.kind", kind, &known)
        })
    }

    /// Checks the keys that a job's model and data have of their own, spells out the defaults of
    /// these, and makes a factory for the model; nothing is built or opened yet.
    ///
    /// # Errors
    /// When a kind is unknown, or a key is wrong, with its place.
    pub fn model_factory(&self, job: &Job) -> Result<ModelFactory, JobError> {
        let kind = &job.model.kind;
        let Some(&entry) = self.models.get(kind) else {
            let known: Vec<&String> = self.models.keys().collect();
            return Err(job.unknown_kind("model.kind", kind, &known));
        };
        let mut job = job.clone();
        job.model.config = (entry.spell_out)(&job)?;
        job.data.options = (self.data_entry(&job)?.spell_out)(&job)?;
        Ok(ModelFactory { job, entry })
    }
}

/// A model of a job, ready to be built once a replica.
#[derive(Debug, Clone)]
pub struct ModelFactory {
    job: Job,
    entry: ModelEntry,
}

impl ModelFactory {
    /// The job, with each key of its model and its data spelled out.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The model's `kind`.
    pub fn kind(&self) -> &str {
        &self.job.model.kind
    }

    /// Names of the metrics that both passes give, in order.
    pub fn metrics(&self) -> &'static [&'static str] {
        self.entry.metrics
    }

    /// Builds the model; it takes its variables from `vars`.
    ///
    /// # Errors
    /// When the model refuses its configuration.
    pub fn build(&self, vars: VarBuilder) -> Result<Box<dyn DynModel>, ModelError> {
        (self.entry.build)(&self.job, vars)
    }

    /// Names, shapes and places of the model's parameters, without values.
    ///
    /// # Errors
    /// When the model refuses its configuration, or creates no proper parameters; with the place.
    pub fn layout(&self) -> Result<ParameterLayout, JobError> {
        let vars = Variables::shapes_only();
        let refused = |error: &dyn fmt::Display| self.job.error("model.kind", error.to_string());
        match self.build(vars.builder()) {
            Err(ModelError::Job(error)) => return Err(error),
            built => drop(built.map_err(|error| refused(&error))?),
        }
        vars.layout().map_err(|source| {
            let kind = self.kind();
            refused(&format_args!(
                "the model of kind {kind:?} can't be trained: {source}"
            ))
        })
    }

    /// Refuses samples that don't fit the model, as far as the model can tell before it sees them.
    ///
    /// # Errors
    /// The key that doesn't fit, with its place; or data without a sample to look at.
    pub fn check_data(&self, data: &Splits) -> Result<(), JobError> {
        let unreadable = |error: DataError| self.job.error("data.url", error.to_string());
        for preview in data.previews(self.job.seed).map_err(unreadable)? {
            (self.entry.check_data)(&self.job, &preview)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
