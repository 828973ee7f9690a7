//! Samples that a step can't be made of. The step is skipped by all alike,
//! the samples are named, and after too many the job stops.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::support::{Folder, example, records, to_its_end};

/// 80 samples for training in 2 steps of 4 micro-batches, twice.
const JOB: &str = r#"
name = "odd"
seed = 3
[model]
kind = "curve"
hidden = 8
[data]
kind = "xy-csv"
url = "points.csv"
[train]
epochs = 2
global_batch = 40
micro_batch = 10
[optimizer]
kind = "adam"
lr = 1e-2
"#;

/// The row that is odd, and its index among the samples for training: each
/// fifth row is for validation.
const ODD_ROW: u64 = 23;
pub const ODD_SAMPLE: u64 = 19;

/// A folder with the job, and points of which one has this y.
pub fn with_odd(y: &str) -> Folder {
    let folder = Folder::new();
    let mut points = "x,y\n".to_owned();
    for row in 0..100 {
        let x = row as f32 / 100.0;
        let y = if row == ODD_ROW {
            y.to_owned()
        } else {
            x.to_string()
        };
        writeln!(points, "{x},{y}").unwrap();
    }
    std::fs::write(folder.path().join("points.csv"), points).unwrap();
    std::fs::write(folder.path().join("job.toml"), JOB).unwrap();
    folder
}

/// What a run came to.
pub struct Outcome {
    pub summary: Value,
    pub events: Vec<Value>,
    stdout: String,
}

pub fn run(folder: &Folder, workers: &str, flags: &[&str], code: i32) -> Outcome {
    let out = folder.path().join(format!("out-{workers}"));
    let mut command = Command::new(example("custom_model"));
    command.arg("run").arg(folder.path().join("job.toml"));
    command.args(["--json", "--workers", workers]).args(flags);
    let ended = to_its_end(command.arg("--out").arg(&out)).expect(code);
    let summary = ended.summary();
    let folder = out.join(summary["run"].as_str().unwrap());
    Outcome {
        events: records(&folder.join("events.jsonl")),
        stdout: ended.stdout,
        summary,
    }
}

impl Outcome {
    /// Each skipped step, as it was told: kind and samples.
    fn skipped(&self) -> Vec<(&str, Vec<u64>)> {
        let skipped = self.events.iter().filter(|e| e["event"] == "step_skipped");
        let told = skipped.map(|event| {
            assert!(!event["parameters"].as_array().unwrap().is_empty());
            let samples = event["sample_indices"].as_array().unwrap();
            let samples = samples.iter().map(|s| s.as_u64().unwrap()).collect();
            (event["kind"].as_str().unwrap(), samples)
        });
        told.collect()
    }
}

/// The same bits for one worker and two, with one step of each epoch skipped.
#[track_caller]
fn skipped_by_all_alike(y: &str, kind: &str) -> String {
    let folder = with_odd(y);
    let (alone, two) = (run(&folder, "1", &[], 0), run(&folder, "2", &[], 0));
    for ended in [&alone, &two] {
        let skipped = ended.skipped();
        assert_eq!(skipped.len(), 2, "once an epoch");
        for (told, samples) in skipped {
            assert_eq!(told, kind);
            assert_eq!(samples.len(), 10, "a micro-batch");
            assert!(samples.contains(&ODD_SAMPLE), "{samples:?}");
        }
        assert_eq!(ended.summary["steps"], 4);
    }
    let digest = &alone.summary["weights_sha256"];
    assert_eq!(*digest, two.summary["weights_sha256"]);
    digest.as_str().unwrap().to_owned()
}

#[test]
fn a_nan_sample_is_named_and_its_step_skipped_by_all_alike() {
    skipped_by_all_alike("NaN", "non-finite");
}

#[test]
fn a_gradient_out_of_range_is_named_and_its_step_skipped_by_all_alike() {
    skipped_by_all_alike("1e15", "out-of-range");
}

#[test]
fn too_many_bad_steps_stop_the_job_with_step_sample_and_parameter() {
    let folder = with_odd("NaN");
    let strict = ["--set", "train.max_skipped_steps=0"];
    let ended = run(&folder, "2", &strict, 1);
    let [(_, samples)] = &ended.skipped()[..] else {
        panic!("{:?}", ended.events);
    };
    let error = ended.summary["error"].as_str().unwrap();
    for words in [
        "more than 0 steps had to be skipped (train.max_skipped_steps)",
        "is non-finite",
        &format!("samples {samples:?}"),
        "output.bias",
    ] {
        assert!(error.contains(words), "{words} in {error}");
    }
    assert!(ended.stdout.contains(&format!("failed: {error}")));
    assert_eq!(ended.summary["status"], "failed");
}
