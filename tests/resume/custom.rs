//! `examples/custom_model.rs`: another model and data, with their own worker.

use std::process::Command;

use serde_json::Value;

use crate::support::{Folder, example, records, to_its_end};

fn trained(workers: &str) -> Value {
    let folder = Folder::new();
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom.toml");
    let mut command = Command::new(example("custom_model"));
    command.args(["run", job, "--json", "--workers", workers]);
    let ended = to_its_end(command.arg("--out").arg(folder.path())).expect(0);
    let summary = ended.summary();
    let run = folder.path().join(summary["run"].as_str().unwrap());
    let names: Vec<Value> = records(&run.join("events.jsonl"))
        .into_iter()
        .filter(|event| event["event"] == "worker_registered")
        .map(|event| event["artifact"].clone())
        .collect();
    assert_eq!(
        names,
        vec![Value::from("custom_model 1"); workers.parse().unwrap()]
    );
    let mut last = records(&run.join("metrics.jsonl")).into_iter();
    let evaluated = last.rfind(|r| r["kind"] == "evaluation").unwrap();
    let error = evaluated["val_mean_absolute_error"].as_f64().unwrap();
    // The noise alone has a mean absolute value of 0.08.
    assert!(error < 0.11, "{error}");
    summary
}

#[test]
fn a_model_and_data_of_ones_own_come_to_the_same_bits_on_any_number_of_workers() {
    assert_eq!(
        trained("1")["weights_sha256"],
        trained("2")["weights_sha256"]
    );
}
