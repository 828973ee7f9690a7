//! A step computed again: the same sums, and what was wrong in a bad one.

use std::os::unix::fs::FileExt;

use super::*;
use crate::hostile::samples::{self, ODD_SAMPLE, with_odd};
use crate::support::example;

/// Of a run with a loss: from the newest checkpoint before the step.
#[test]
fn step_computed_again_has_the_sum_that_was_logged() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "kill@compute,step=30");
    let outcome = fleet.finish();
    let ended = ebbtide("replay", &[&outcome.run], &["--step", "70"]).expect(0);
    says(
        &ended,
        &[
            "step 70 (of 0 to 81), epoch 2",
            "from the checkpoint of step 60, steps 60 to 69 again; all 11 sums are the logged ones",
            &format!("sum {}, as it was logged", outcome.sums[70].unwrap()),
            "gradient norm",
            "applied with learning rate 0.001",
            "dense_0.weight",
        ],
    );
    let flags = ["--step", "3", "--micro-batch", "5", "--trace-ops", "--json"];
    let json = ebbtide("replay", &[&outcome.run], &flags)
        .expect(0)
        .summary();
    assert_eq!((&json["from_step"], &json["same"]), (&0.into(), &4.into()));
    let order = &outcome.reference.plan.order;
    assert_eq!(json["samples"], serde_json::json!(order.samples(3, 5)));
    let operations: Vec<&str> = list(&json["operations"])
        .iter()
        .map(|row| row["operation"].as_str().unwrap())
        .filter(|name| !name.starts_with("parameter"))
        .collect();
    assert_eq!(
        operations,
        [
            "dense of dense_0",
            "dropout of dropout_0",
            "dense of dense_1",
            "sparse cross-entropy of loss"
        ]
    );
}

#[test]
fn first_step_whose_sum_is_not_the_logged_one_is_named() {
    let outcome = undisturbed();
    let steps = outcome.run.join("steps.bin");
    let mut bytes = std::fs::read(&steps).unwrap();
    bytes[16 + 16 * 65] ^= 1; // step 65
    std::fs::write(&steps, &bytes).unwrap();
    let ended = ebbtide("replay", &[&outcome.run], &["--step", "67"]).expect(0);
    let words = "step 65 is the first whose sum is not the logged one";
    assert!(ended.stderr.contains(words), "{}", ended.all());
    says(&ended, &["from step 65 on other sums than logged"]);
}

#[test]
fn step_trained_again_with_another_sum_is_told() {
    let mut fleet = without_its_only_worker();
    // As if a machine had not been sound then.
    let mut options = std::fs::File::options();
    let file = options.write(true).open(fleet.steps_file()).unwrap();
    file.write_all_at(&7u64.to_le_bytes(), 16 + 16 * 40)
        .unwrap();
    fleet.hire("second", "");
    fleet.said("step 40 was trained again and came to another sum: 0000000000000007 before");
    fleet.ends("second");
}

/// Replays the first skipped step of a run of the custom model.
fn skipped(y: &str) -> (Ended, Value, Value) {
    let folder = with_odd(y);
    let outcome = samples::run(&folder, "2", &[], 0);
    let mut events = outcome.events.into_iter();
    let skipped = events.find(|e| e["event"] == "step_skipped").unwrap();
    let run = outcome.summary["run_dir"].as_str().unwrap().to_owned();
    let step = skipped["step"].to_string();
    let replay = |flags: &[&str]| {
        let mut command = Command::new(example("custom_model"));
        command.args(["replay", &run, "--step", &step]).args(flags);
        to_its_end(&mut command).expect(0)
    };
    let json = replay(&["--json"]).summary();
    (replay(&[]), json, skipped)
}

#[test]
fn nan_sample_is_explained_by_micro_batch_sample_and_first_operation() {
    let (page, json, skipped) = skipped("NaN");
    let [cause] = &list(&json["causes"])[..] else {
        panic!("{json}");
    };
    assert_eq!(cause["micro_batch"], skipped["micro_batch"]);
    assert_eq!(cause["verdict"], "non-finite");
    assert_eq!(cause["samples"], serde_json::json!([ODD_SAMPLE]));
    assert_eq!(cause["odd_fields"], serde_json::json!([[1, 1]]));
    // The difference of the output and the target that is NaN.
    assert_eq!(cause["first"]["pass"], "forward");
    assert_eq!(
        cause["first"]["operation"],
        "candle operation 1 after dense of output"
    );
    says(
        &page,
        &[
            "skipped: a micro-batch could not be summed",
            "sample 19, alone (1 of 10)",
            "the data itself: field 1 has 1 value not finite",
            "first in the forward pass: candle operation 1 after dense of output, shape 1x1",
        ],
    );
    assert_eq!(json["sum"], json["logged_sum"]);
}

#[test]
fn gradient_out_of_range_is_explained_by_sample_and_parameter() {
    let (page, json, skipped) = skipped("1e15");
    let [cause] = &list(&json["causes"])[..] else {
        panic!("{json}");
    };
    assert_eq!(cause["micro_batch"], skipped["micro_batch"]);
    assert_eq!(cause["samples"], serde_json::json!([ODD_SAMPLE]));
    assert!(cause["first"].is_null(), "all values are finite: {cause}");
    says(
        &page,
        &["is out of range", "exact.fraction_bits", "output.bias"],
    );
}

#[test]
fn what_cannot_be_computed_again_is_refused_by_name() {
    let folder = with_odd("1");
    let outcome = samples::run(&folder, "1", &[], 0);
    let run = Path::new(outcome.summary["run_dir"].as_str().unwrap());
    let ended = ebbtide("replay", &[run], &["--step", "0"]).expect(2);
    assert!(
        ended
            .stderr
            .contains("trained by custom_model 1, and this is ebbtide"),
        "{}",
        ended.all()
    );
    let mut command = Command::new(example("custom_model"));
    let asked = command.arg("replay").arg(run).args(["--step", "4"]);
    let ended = to_its_end(asked).expect(2);
    let words = "no step 4: the run has the steps 0 to 3";
    assert!(ended.stderr.contains(words), "{}", ended.all());
}
