//! The file as people write it: what it says, and what comes back out.

mod elsewhere;
mod identity;
mod mistakes;

use std::path::Path;

use super::*;
use crate::optim::OptimizerKind;

/// The example that the README begins with.
const MNIST: &str = include_str!("../../../examples/mnist.toml");

/// As short as a job can be; line numbers in the tests below are its.
const SHORT: &str = "\
name = 'short'
[model]
kind = 'mlp'
[data]
kind = 'mnist'
url = '/data'
[train]
epochs = 2
global_batch = 64
micro_batch = 16
[optimizer]
kind = 'adam'
lr = 1e-3
";

/// `SHORT` and `model.hidden=[128]`, with every default spelled out.
const RESOLVED: &str = r#"name = "short"
seed = 0

[model]
hidden = [128]
kind = "mlp"

[data]
kind = "mnist"
url = "/data"
shuffle = "full"

[train]
epochs = 2
global_batch = 64
micro_batch = 16
max_skipped_steps = 10

[optimizer]
kind = "adam"
lr = 0.001
beta1 = 0.9
beta2 = 0.999
eps = 0.0000001

[optimizer.schedule]
kind = "constant"
warmup_steps = 0

[evaluation]
every = "1 epoch"
micro_batch = 250

[checkpoint]
every = "1 epoch"
keep_last = 3
export_weights = true

[exact]
fraction_bits = 36

[verify]
every = 100

[numerics]
mode = "announce"

[log]
every = 50
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Job, JobError> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    Job::parse(text, Path::new("/jobs/job.toml"), &overrides)
}

fn short(overrides: &[&str]) -> Job {
    parse(SHORT, overrides).unwrap_or_else(|error| panic!("{error}"))
}

fn message_set(overrides: &[&str]) -> String {
    parse(SHORT, overrides).unwrap_err().to_string()
}

#[test]
fn quick_start_of_keras_is_the_example() {
    let job = parse(MNIST, &[]).unwrap();
    assert_eq!(
        (job.name.as_str(), job.model.kind.as_str()),
        ("mnist", "mlp")
    );
    assert_eq!(job.data.url, "/jobs/data/mnist");
    assert_eq!(job.train.epochs, Some(5));
    assert_eq!((job.train.global_batch, job.train.micro_batch), (64, 16));
    assert_eq!(job.train.micro_batches(), 4);
    assert_eq!(job.optimizer.kind, OptimizerKind::Adam);
    assert_eq!(
        (job.optimizer.lr, job.optimizer.eps),
        (Some(1e-3), Some(1e-7))
    );
    assert_eq!(
        (job.optimizer.beta1, job.optimizer.beta2),
        (Some(0.9), Some(0.999))
    );
    assert_eq!(job.evaluation.every, Every::EPOCH);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist.toml");
    let job = Job::load(&path, &["train.epochs=1".to_owned()]).unwrap();
    assert_eq!(job.train.epochs, Some(1));
    job.check_files().unwrap();
}

#[test]
fn what_is_not_said_has_its_default() {
    let job = parse(&SHORT.replace("name = 'short'", ""), &[]).unwrap();
    assert_eq!(job.name, "job");
    assert_eq!(job.seed, 0);
    assert_eq!(job.data.shuffle, Shuffle::Full);
    assert_eq!(job.train.max_skipped_steps, 10);
    assert_eq!(
        job.evaluation,
        EvaluationSpec {
            every: Every::EPOCH,
            micro_batch: 250
        }
    );
    assert_eq!(job.checkpoint.every, Every::EPOCH);
    assert_eq!(job.exact.fraction_bits, 36);
    assert_eq!((job.verify.every, job.log.every), (100, 50));
    assert_eq!(job.numerics.mode, NumericsMode::Announce);
    assert_eq!((job.early_stopping, job.init), (None, None));
}

#[test]
fn resolved_job_comes_back_as_it_was_with_every_default_spelled_out() {
    for job in [
        parse(MNIST, &[]).unwrap(),
        short(&[
            "early_stopping.patience=3",
            "init.from=w.safetensors",
            "train.steps=7",
        ]),
        short(&[
            "optimizer.kind=sgd",
            "optimizer.groups=[{pattern='*.bias', frozen=true}]",
        ]),
        short(&[
            "data.options.\"odd key\"='é\\t\"\\\\'",
            "model.widths=[1, 2]",
            "optimizer.lr=0.1",
        ]),
    ] {
        let text = job.resolved_toml();
        let again = Job::from_resolved(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, job, "{text}");
        assert_eq!(again.resolved_toml(), text);
    }
    assert_eq!(short(&["model.hidden=[128]"]).resolved_toml(), RESOLVED);
}

#[test]
fn steps_win_over_epochs() {
    let job = short(&["train.steps=300"]);
    assert_eq!((job.train.steps, job.train.epochs), (Some(300), None));
    assert_eq!(job.train.total_steps(938), 300);
    assert_eq!(short(&[]).train.total_steps(938), 1876);
}

#[test]
fn relative_locations_start_from_the_file_and_those_of_overrides_from_here() {
    let located = |url: &str| {
        let text = SHORT.replace("url = '/data'", &format!("url = '{url}'"));
        parse(&text, &[]).unwrap().data.url
    };
    assert_eq!(located("data/mnist"), "/jobs/data/mnist");
    assert_eq!(located("./data"), "/jobs/data");
    assert_eq!(located("/data"), "/data");
    assert_eq!(located("file:///data"), "file:///data");
    assert_eq!(located("s3://bucket/mnist"), "s3://bucket/mnist");
    assert_eq!(located(""), "");
    let here = std::env::current_dir().unwrap().join("mine");
    assert_eq!(Path::new(&short(&["data.url=mine"]).data.url), here);

    assert_eq!(local_path("file:///a%20b").unwrap(), Path::new("/a b"));
    assert_eq!(local_path("s3://bucket/x"), None);
}

#[test]
fn override_takes_a_toml_value_or_a_bare_word() {
    let job = short(&[
        "optimizer.lr=3e-4",
        "optimizer.kind=adamw",
        "optimizer.schedule.kind=cosine",
        "optimizer.schedule.warmup_steps=10",
        "optimizer.groups=[{pattern='*.bias', decay_multiplier=0}]",
        "optimizer.groups.0.frozen=true",
        "checkpoint.every=200 steps",
        "evaluation.every=\"2 epochs\"",
        "data.url=s3://bucket/x#y",
        "name=2026-01-01",
        "model.hidden=[512, 256]",
        "seed=1",
        "seed=2",
    ]);
    assert_eq!(job.optimizer.lr, Some(3e-4));
    assert_eq!(job.optimizer.kind, OptimizerKind::AdamW);
    assert_eq!(job.optimizer.schedule.warmup_steps, 10);
    assert_eq!(
        (job.optimizer.groups.len(), job.optimizer.groups[0].frozen),
        (1, true)
    );
    assert_eq!(job.optimizer.groups[0].decay_multiplier, 0.0);
    assert_eq!(job.checkpoint.every.to_string(), "200 steps");
    assert_eq!(job.evaluation.every.to_string(), "2 epochs");
    assert_eq!(
        (job.data.url.as_str(), job.name.as_str()),
        ("s3://bucket/x#y", "2026-01-01")
    );
    assert_eq!(job.model.config["hidden"].as_array().unwrap().len(), 2);
    assert_eq!(job.seed, 2);
}

#[test]
fn missing_files_are_named_with_their_key() {
    assert_eq!(
        short(&[]).check_files().unwrap_err().to_string(),
        "/jobs/job.toml:6: data.url: expected data at /data: No such file or directory (os error 2)"
    );
    let with_init = |from: &str| short(&["data.url=/", &format!("init.from={from}")]);
    assert_eq!(
        with_init("/no.safetensors")
            .check_files()
            .unwrap_err()
            .to_string(),
        "--set init.from=/no.safetensors: init.from: expected a safetensors file at \
         /no.safetensors: No such file or directory (os error 2)"
    );
    assert_eq!(
        with_init("/").check_files().unwrap_err().to_string(),
        "--set init.from=/: init.from: expected a safetensors file at /: this is no file"
    );
    assert!(
        with_init("s3://b/w")
            .check_files()
            .unwrap_err()
            .to_string()
            .contains("a path or a file://")
    );
    short(&["data.url=s3://bucket/x"]).check_files().unwrap();
}

#[test]
fn initial_weights_count_by_their_bytes() {
    let folder = std::env::temp_dir().join(format!("ebbtide-job-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pinned = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        let mut job = short(&[&format!("init.from={}", path.display())]);
        job.pin_init().unwrap();
        job
    };
    let (a, copy, other) = (
        pinned("a", "weights"),
        pinned("b", "weights"),
        pinned("c", "other"),
    );
    let mut stale = a.clone();
    stale.init.as_mut().unwrap().from = other.init.as_ref().unwrap().from.clone();
    let error = stale.pin_init().unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();

    assert_eq!(a.identity(), copy.identity());
    assert_ne!(a.identity(), other.identity());
    assert!(error.contains("init.sha256: expected 9a12"), "{error}");
}
