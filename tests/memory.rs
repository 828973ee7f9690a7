//! What a worker needs at most, a parameter.
//!
//! Weights, two moments and the replica's own copy of the weights are 16
//! bytes, a gradient 4, the sum of our share and the reduced one 16, the last
//! sum, packed, about 5; the rest is under way: candle's intermediate values,
//! buckets in and out, and for the writer of a checkpoint the state that it
//! writes: 12, and as much again for the shards on their way. Of n members that
//! write together, each of the others needs an n-th of that.

use std::process::Command;

use crate::elastic::JOB;
use crate::support::{Fleet, to_its_end};

/// Bytes a parameter with Adam, of any member.
const MEMBER: f64 = 64.0;
/// Of the member that commits a checkpoint.
const WRITER: f64 = 100.0;
/// Of the other one of two that write it together.
const HELPER: f64 = 84.0;

/// Parameters of the job with two hidden layers this wide.
fn parameters(width: u64) -> u64 {
    784 * width + width + width * width + width + width * 10 + 10
}

/// Eight steps of it, with a checkpoint after each so many.
fn job(width: u64, every: u64) -> String {
    JOB.replace("hidden = [16]", &format!("hidden = [{width}, {width}]"))
        .replace("epochs = 2", "steps = 8")
        .replace("\"20 steps\"", &format!("\"{every} steps\""))
}

/// The most memory that the writer and the other member of two have taken, and
/// the other one's if no checkpoint is written.
fn peaks(width: u64) -> [u64; 3] {
    let mut fleet = Fleet::start(&job(width, 4), &["--world-size", "2"]);
    fleet.hire("w1", "hold@committed,step=4,until=HOLD");
    fleet.hire("w2", "hold@applied,step=6,until=HOLD");
    fleet.struck("w1", "hold@committed,step=4");
    fleet.struck("w2", "hold@applied,step=6");
    let [writer, helper] = ["w1", "w2"].map(|name| fleet.peak_memory(name));
    fleet.release("w1");
    fleet.release("w2");
    fleet.finish();
    [writer, helper, peak_without_checkpoints(width)]
}

fn peak_without_checkpoints(width: u64) -> u64 {
    let mut fleet = Fleet::start(&job(width, 100), &["--world-size", "2"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@applied,step=6,until=HOLD");
    fleet.struck("w2", "hold@applied,step=6");
    let peak = fleet.peak_memory("w2");
    fleet.release("w2");
    fleet.finish();
    peak
}

/// Checkpoints are due after each step, and the store takes its time with one.
#[test]
fn a_store_slower_than_checkpoints_come_has_only_the_newest_waiting() {
    let job = job(1024, 1);
    let mut fleet = Fleet::start(&job, &[]);
    let faults = "hold@committed,step=1,until=HOLD;hold@applied,step=7,until=HOLD";
    fleet.hire("w1", faults);
    fleet.struck("w1", "hold@committed,step=1");
    fleet.struck("w1", "hold@applied,step=7");
    fleet.release("w1");
    fleet.release("w1");
    let outcome = fleet.finish();
    let committed = outcome.events("checkpoint_committed");
    let steps: Vec<u64> = committed.map(|e| e["step"].as_u64().unwrap()).collect();
    assert!(!steps.iter().any(|s| (2..6).contains(s)), "{steps:?}");
    assert!(steps.contains(&1) && steps.contains(&8), "{steps:?}");
}

#[test]
fn a_worker_takes_no_more_bytes_a_parameter_than_is_said() {
    let [small, large] = [peaks(16), peaks(1024)];
    let added = (parameters(1024) - parameters(16)) as f64;
    let taken = [0, 1, 2].map(|k| large[k].saturating_sub(small[k]) as f64 / added);
    let [writer, helper, member] = taken;
    println!("bytes a parameter: writer {writer:.1}, helper {helper:.1}, member {member:.1}");
    assert!(writer <= WRITER, "the writer takes {writer:.1}");
    assert!(helper <= HELPER, "who helps it takes {helper:.1}");
    assert!(member <= MEMBER, "a member takes {member:.1}");
    // A test that measures nothing would pass as well.
    assert!(taken.iter().all(|bytes| *bytes > 24.0), "{taken:?}");
}

/// The bytes a sample that `ebbtide estimate` tells of a hidden layer this wide.
fn estimated(width: u64) -> u64 {
    let mut estimate = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mnist.toml");
    estimate.args(["estimate", job, "--json"]);
    estimate.args(["--set", &format!("model.hidden=[{width}]")]);
    let told = to_its_end(&mut estimate).expect(0).summary();
    let parameters = 784 * width + width + width * 10 + 10;
    assert_eq!(told["parameters"], parameters, "{told}");
    let devices = told["devices"].as_array().unwrap();
    let fits = |device: &serde_json::Value| device["largest_micro_batch"].as_u64() > Some(0);
    assert!(devices.len() > 5 && devices.iter().all(fits), "{told}");
    told["bytes_per_sample"].as_u64().unwrap()
}

/// At least the layer's outputs before and after its activation are kept, and a few
/// copies at most.
#[test]
fn an_estimate_grows_with_what_a_sample_keeps() {
    let (narrow, wide) = (estimated(256), estimated(2048));
    let added = wide.saturating_sub(narrow) / (2048 - 256);
    assert!(
        (8..=64).contains(&added),
        "{added} bytes a unit: {narrow}, {wide}"
    );
}
