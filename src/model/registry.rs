//! Which models and data sets a build knows, by the `kind` of the job file.
//!
//! One line each brings a person's own:
//!
//! ```
//! # use candle_core::Result;
//! # use candle_nn::VarBuilder;
//! # use ebbtide::data::{DataError, Splits};
//! # use ebbtide::job::DataSpec;
//! # use ebbtide::model::{Batch, Loss, Model, Registry, StepContext};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct MyConfig {}
//! # struct MyModel;
//! # impl Model for MyModel {
//! #     type Config = MyConfig;
//! #     const METRICS: &'static [&'static str] = &[];
//! #     fn new(_: &MyConfig, _: VarBuilder) -> Result<Self> { Ok(MyModel) }
//! #     fn loss(&self, _: &Batch, _: &StepContext) -> Result<Loss> { unimplemented!() }
//! #     fn evaluate(&self, _: &Batch) -> Result<Loss> { unimplemented!() }
//! # }
//! # fn open_csv(_: &DataSpec) -> std::result::Result<Splits, DataError> { unimplemented!() }
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

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;

use super::layout::{LayoutError, ParameterLayout};
use super::vars::Variables;
use super::{Batch, Loss, Mlp, Model, StepContext};
use crate::data::{BUILTIN, DataError, Opener, Splits};
use crate::job::{Job, JobError};

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
    #[error("the model of kind {kind:?} can't be built: {source}")]
    Build {
        /// The model.
        kind: String,
        /// The model's message.
        #[source]
        source: candle_core::Error,
    },
    /// Its variables make no layout: a mistake in the model.
    #[error("the model of kind {kind:?} can't be trained: {source}")]
    Layout {
        /// The model.
        kind: String,
        /// What is wrong with them.
        #[source]
        source: LayoutError,
    },
}

/// Why a job's data can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The job asks for a kind that isn't registered.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The data isn't what it should be.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// What a `kind` of model needs to be made.
#[derive(Debug, Clone, Copy)]
struct ModelEntry {
    metrics: &'static [&'static str],
    /// The model's own keys, checked, with their defaults.
    spell_out: fn(&Job) -> Result<toml::Table, JobError>,
    build: Build,
}

type Build = fn(&Job, VarBuilder) -> Result<Box<dyn DynModel>, ModelError>;

impl ModelEntry {
    fn of<M: Model>() -> Self {
        ModelEntry {
            metrics: M::METRICS,
            spell_out: |job| {
                let config = job.model_config::<M::Config>()?;
                toml::Table::try_from(&config)
                    .map_err(|error| job.error("model", format!("can't be written down: {error}")))
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

/// The models and data sets of one build.
#[derive(Debug, Clone)]
pub struct Registry {
    models: BTreeMap<String, ModelEntry>,
    datasets: BTreeMap<String, Opener>,
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
        BUILTIN
            .iter()
            .fold(empty.model::<Mlp>("mlp"), |registry, &(kind, opener)| {
                registry.dataset(kind, opener)
            })
    }

    /// Adds a model under `kind`, in place of one that was there.
    #[must_use]
    pub fn model<M: Model>(mut self, kind: impl Into<String>) -> Self {
        self.models.insert(kind.into(), ModelEntry::of::<M>());
        self
    }

    /// Adds a data set under `kind`, in place of one that was there.
    #[must_use]
    pub fn dataset(mut self, kind: impl Into<String>, opener: Opener) -> Self {
        self.datasets.insert(kind.into(), opener);
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
    /// When the kind is unknown, or the data isn't what it should be.
    pub fn open_data(&self, job: &Job) -> Result<Splits, OpenError> {
        let kind = &job.data.kind;
        let Some(opener) = self.datasets.get(kind) else {
            let known: Vec<&String> = self.datasets.keys().collect();
            return Err(job.unknown_kind("data.kind", kind, &known).into());
        };
        Ok(opener(&job.data)?)
    }

    /// Checks a job's model and its keys, spells out the defaults of these, and
    /// makes a factory for it; nothing is built yet.
    ///
    /// # Errors
    /// When the kind is unknown, or a key of the model is wrong, with its place.
    pub fn model_factory(&self, job: &Job) -> Result<ModelFactory, JobError> {
        let kind = &job.model.kind;
        let Some(&entry) = self.models.get(kind) else {
            let known: Vec<&String> = self.models.keys().collect();
            return Err(job.unknown_kind("model.kind", kind, &known));
        };
        let mut job = job.clone();
        job.model.config = (entry.spell_out)(&job)?;
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
    /// The job, with each key of its model spelled out.
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
    /// When the model refuses its configuration, or creates no proper parameters.
    pub fn layout(&self) -> Result<ParameterLayout, ModelError> {
        let vars = Variables::shapes_only();
        self.build(vars.builder())?;
        vars.layout().map_err(|source| ModelError::Layout {
            kind: self.kind().to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use serde::{Deserialize, Serialize};
    use std::path::Path;

    fn job(model: &str) -> Job {
        let text = format!(
            "[data]\nkind = \"none\"\nurl = \"\"\n[train]\nepochs = 1\nglobal_batch = 4\nmicro_batch = 2\n\
             [optimizer]\nkind = \"adam\"\nlr = 1e-3\n[model]\n{model}"
        );
        Job::parse(&text, Path::new("job.toml"), &[]).unwrap()
    }

    fn refused(model: &str) -> String {
        match Registry::builtin().model_factory(&job(model)) {
            Ok(factory) => factory.layout().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_builtin_mlp_is_made_from_its_keys() {
        let job = job("kind = \"mlp\"\nhidden = [32, 16]\nclasses = 3");
        let factory = Registry::builtin().model_factory(&job).unwrap();
        assert_eq!(factory.kind(), "mlp");
        assert_eq!(factory.metrics(), ["accuracy"]);
        let layout = factory.layout().unwrap();
        assert_eq!(layout.get("dense_2.weight").unwrap().shape, [3, 16]);
    }

    #[test]
    fn defaults_of_the_models_own_keys_are_spelled_out_and_change_no_identity() {
        let registry = Registry::builtin();
        let short = job("kind = \"mlp\"\nhidden = [32]");
        let short = registry.model_factory(&short).unwrap();
        let text = short.job().resolved_toml();
        for line in [
            "dropout = 0.2",
            "inputs = 784",
            "classes = 10",
            "hidden = [32]",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let again = Job::from_resolved(&text).unwrap();
        let again = registry.model_factory(&again).unwrap();
        assert_eq!(again.job(), short.job());
        let spelled = job("kind = \"mlp\"\nhidden = [32]\ndropout = 0.2\nclasses = 10");
        let spelled = registry.model_factory(&spelled).unwrap();
        assert_eq!(spelled.job().identity(), short.job().identity());
    }

    #[test]
    fn wrong_keys_and_types_and_values_are_refused_by_name() {
        let unknown = refused("kind = \"mlp\"\nhiden = [32]");
        for part in ["job.toml:13", "model.hiden", "hidden"] {
            assert!(unknown.contains(part), "{part} in {unknown}");
        }
        let wrong = refused("kind = \"mlp\"\ndropout = \"much\"");
        assert!(wrong.contains("model.dropout"), "{wrong}");
        let value = refused("kind = \"mlp\"\ndropout = 1.5");
        assert!(
            value.contains("`dropout`") && value.contains("1.5"),
            "{value}"
        );
        let kind = refused("kind = \"mpl\"");
        assert!(
            kind.contains("model.kind") && kind.contains("\"mlp\""),
            "{kind}"
        );
    }

    #[test]
    fn an_unknown_kind_of_data_is_refused_by_name() {
        let error = match Registry::builtin().open_data(&job("kind = \"mlp\"")) {
            Ok(_) => panic!("there is no data of kind none"),
            Err(error) => error.to_string(),
        };
        assert!(
            error.contains("data.kind") && error.contains("\"mnist\""),
            "{error}"
        );
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoConfig {}

    struct Nothing;

    impl Model for Nothing {
        type Config = NoConfig;
        const METRICS: &'static [&'static str] = &[];

        fn new(_: &NoConfig, _: VarBuilder) -> CandleResult<Self> {
            Ok(Nothing)
        }

        fn loss(&self, batch: &Batch, _: &StepContext) -> CandleResult<Loss> {
            self.evaluate(batch)
        }

        fn evaluate(&self, batch: &Batch) -> CandleResult<Loss> {
            Ok(Loss {
                mean: Tensor::new(0f32, batch.field(0)?.device())?,
                weight: 1,
                metrics: vec![],
            })
        }
    }

    #[test]
    fn a_model_of_ones_own_takes_one_line_and_one_without_parameters_is_refused() {
        let registry = Registry::builtin()
            .model::<Nothing>("nothing")
            .artifact("mine 1");
        assert_eq!(registry.artifact_name(), "mine 1");
        let factory = registry.model_factory(&job("kind = \"nothing\"")).unwrap();
        let error = factory.layout().unwrap_err().to_string();
        assert!(error.contains("no parameters"), "{error}");
    }
}
