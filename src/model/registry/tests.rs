//! What a job may ask of the registry, and what it is refused with.

use super::*;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::data::{Field, MemoryDataset, Sample};

fn job(model: &str) -> Job {
    let text = format!(
        "[data]\nkind = \"mnist\"\nurl = \"\"\n[train]\nepochs = 1\nglobal_batch = 4\nmicro_batch = 2\n\
         [optimizer]\nkind = \"adam\"\nlr = 1e-3\n[model]\n{model}"
    );
    Job::parse(&text, Path::new("job.toml"), &[]).unwrap()
}

fn with(overrides: &[&str]) -> Job {
    let overrides: Vec<String> = overrides.iter().map(|&set| set.to_owned()).collect();
    let text = job("kind = \"mlp\"").resolved_toml();
    Job::parse(&text, Path::new("job.toml"), &overrides).unwrap()
}

fn said(overrides: &[&str]) -> String {
    let made = Registry::builtin().model_factory(&with(overrides));
    made.unwrap_err().to_string()
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
        "[data.options]\nclasses = 10",
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
    let kind = refused("kind = \"mpl\"");
    assert!(
        kind.contains("model.kind") && kind.contains("\"mlp\""),
        "{kind}"
    );
}

#[test]
fn an_unknown_kind_of_data_is_refused_by_name() {
    let error = match Registry::builtin().open_data(&with(&["data.kind=none"])) {
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

#[test]
fn values_of_which_no_model_can_be_made_are_refused_with_their_line() {
    let line = refused("kind = \"mlp\"\nhidden = [8,\n 0]");
    assert_eq!(
        line,
        "job.toml:14: model.hidden.1: expected a whole number of at least 1; found 0"
    );
    for (set, problem) in [
        (
            "model.dropout=1.0",
            "model.dropout: expected a number of at least 0 and below 1; found 1",
        ),
        (
            "model.dropout=nan",
            "model.dropout: expected a number of at least 0 and below 1; found NaN",
        ),
        (
            "model.classes=0",
            "model.classes: expected a whole number of at least 1; found 0",
        ),
        (
            "model.hidden=[8, 9000000000000000000]",
            "model.hidden.1: expected widths of a model of at most 2147483648 values; found 9000000000000000000",
        ),
        (
            "model.inputs=300000000",
            "model.inputs: expected widths of a model of at most 2147483648 values; found 300000000",
        ),
    ] {
        assert_eq!(said(&[set]), format!("--set {set}: {problem}"));
    }
}

#[test]
fn mistakes_in_the_options_of_data_are_led_back_to_their_place() {
    for (set, problem) in [
        (
            "data.options.trian_limit=4",
            "data.options.trian_limit: unknown key; the nearest valid key is `train_limit`; the keys of \
             [data.options] are classes, train_limit, validation_limit",
        ),
        (
            "data.options.train_limit=0",
            "data.options.train_limit: expected a whole number of at least 1; found the whole number 0",
        ),
        (
            "data.options.train_limit=many",
            "data.options.train_limit: expected a whole number of at least 1; found the string \"many\"",
        ),
    ] {
        assert_eq!(said(&[set]), format!("--set {set}: {problem}"));
    }
    let registry = Registry::builtin().dataset("plain", |spec| {
        Err(DataError::damaged(&spec.url, "holds nothing of use"))
    });
    let plain = with(&["data.kind=plain", "data.options.x=1"]);
    assert_eq!(
        registry.model_factory(&plain).unwrap_err().to_string(),
        "--set data.options.x=1: data.options.x: unknown key; expected no key in [data.options]"
    );
}

#[test]
fn data_that_cannot_be_opened_is_led_back_to_its_url() {
    let opened = |job: &Job| {
        Registry::builtin()
            .open_data(job)
            .err()
            .unwrap()
            .to_string()
    };
    let mut job = with(&["data.url=s3://bucket/mnist"]);
    assert_eq!(
        opened(&job),
        "--set data.url=s3://bucket/mnist: data.url: expected a path or \
         file:///an/absolute/path of this machine; found \"s3://bucket/mnist\""
    );
    job.relocate_data("--data", "/no/such/folder");
    let error = opened(&job);
    assert!(
        error.starts_with("--data /no/such/folder: data.url: /no/such/folder is missing"),
        "{error}"
    );
}

/// Two samples of three values, with classes up to 4.
fn small(_: &DataSpec) -> Result<Splits, DataError> {
    let sample = |class| Sample::new([Field::vector(vec![0.0; 3]), Field::label(class)]);
    Ok(Splits::train_only(Arc::new(MemoryDataset::new(vec![
        sample(1),
        sample(4),
    ])?)))
}

#[test]
fn a_model_that_does_not_fit_the_data_is_refused_by_its_key() {
    let registry = Registry::builtin().dataset("small", small);
    let check = |overrides: &[&str]| {
        let job = with(&[overrides, &["data.kind=small"]].concat());
        let factory = registry.model_factory(&job).unwrap();
        factory.check_data(&registry.open_data(&job).unwrap())
    };
    check(&["model.inputs=3", "model.classes=5"]).unwrap();
    for (sets, problem) in [
        (
            ["model.classes=5", "model.inputs=100"],
            "model.inputs: expected 3, as a sample of the training data has 3 values; found 100",
        ),
        (
            ["model.inputs=3", "model.classes=4"],
            "model.classes: expected at least 5, as the training data has classes up to 4; found 4",
        ),
    ] {
        let error = check(&sets).unwrap_err().to_string();
        assert_eq!(error, format!("--set {}: {problem}", sets[1]));
    }
}
