//! Workers killed with SIGKILL, each at a chosen moment.

use super::*;
use crate::support::{Fleet, Outcome};

/// Worker `killed` of three meets `fault`.
fn one_of_three(killed: &str, fault: &str) -> Outcome {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    for name in ["w1", "w2", "w3"] {
        fleet.hire(name, if name == killed { fault } else { "" });
    }
    let outcome = fleet.finish();
    assert_eq!(outcome.exits[killed], None);
    outcome
}

/// The others notice, and it costs no more than its share.
fn noticed(killed: &str, fault: &str) {
    let outcome = one_of_three(killed, fault);
    assert_eq!(outcome.left(killed), "lost");
    assert_eq!(outcome.count("worker_left"), 1);
    assert_eq!(outcome.number("generations"), 2);
}

#[test]
fn worker_killed_while_it_computes() {
    noticed("w2", "kill@compute,step=30");
}

#[test]
fn worker_killed_after_its_share_reached_all_or_one_of_the_others() {
    noticed("w2", "kill@contributed,step=30");
    noticed("w3", "kill@contributed,step=30,peers=1");
}

#[test]
fn worker_killed_after_its_reduced_chunk_reached_all_or_one_of_the_others() {
    noticed("w2", "kill@reduced,step=30");
    noticed("w3", "kill@reduced,step=30,peers=1");
}

#[test]
fn worker_killed_before_and_after_it_applies() {
    noticed("w2", "kill@apply,step=30");
    noticed("w3", "kill@applied,step=30");
}

#[test]
fn first_member_killed_in_a_step() {
    noticed("w1", "kill@compute,step=30");
    noticed("w1", "kill@reduced,step=30,peers=1");
}

#[test]
fn writer_killed_between_the_shards_of_a_checkpoint_and_its_manifest() {
    noticed("w1", "kill@uploaded,step=40");
}

#[test]
fn worker_killed_during_the_evaluation() {
    noticed("w2", "kill@compute,step=41,evaluation");
    noticed("w3", "kill@applied,step=41,evaluation");
}

#[test]
fn worker_killed_in_the_last_step_and_in_the_last_evaluation() {
    noticed("w2", &format!("kill@compute,step={LAST_STEP}"));
    one_of_three("w3", &format!("kill@applied,step={STEPS},evaluation"));
}

#[test]
fn writer_killed_before_the_last_manifest() {
    noticed("w1", &format!("kill@uploaded,step={STEPS}"));
}

#[test]
fn writer_killed_after_early_stopping_fired() {
    let patience = "[early_stopping]\nmonitor = \"val_loss\"\nmin_delta = 100.0\npatience = 1\n";
    let job = JOB.replace("epochs = 2", "epochs = 9") + patience;
    let mut fleet = Fleet::start(&job, &["--world-size", "3"]);
    fleet.hire("w1", "kill@uploaded,step=82");
    fleet.hire("w2", "");
    fleet.hire("w3", "");
    let outcome = fleet.finish();
    assert_eq!(outcome.count("early_stopped"), 1);
    assert_eq!(outcome.number("steps"), STEPS);
    assert_eq!(outcome.left("w1"), "lost");
}

/// The owner of a chunk gives it to w3 alone, which applies the step; then the
/// owner dies, and w1 has to get the sum from w3.
fn sum_on_one_survivor(holder: &str) -> Fleet {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@reduced,step=30,peers=1,until=HOLD");
    fleet.hire("w3", holder);
    fleet.struck("w2", "hold@reduced");
    fleet.struck("w3", "@applied,step=30");
    fleet.kill("w2");
    fleet
}

#[test]
fn owner_killed_after_one_peer_had_its_chunk_the_others_fetch_the_sum() {
    let outcome = sum_on_one_survivor("tell@applied,step=30").finish();
    assert!(outcome.number("sums_fetched") >= 1);
    // Nothing of step 30; of step 31 at most what the owner was to do.
    assert!(outcome.number("recomputed_micro_batches") <= 3);
}

#[test]
fn holder_of_the_only_sum_killed_when_it_is_asked_for_it() {
    let outcome = sum_on_one_survivor("tell@applied,step=30;kill@fetch").finish();
    assert_eq!(outcome.number("sums_fetched"), 0);
    assert_eq!((outcome.left("w2"), outcome.left("w3")), ("lost", "lost"));
    // The survivor's own share of step 30 counts still.
    let last = outcome.events("generation_installed").last().unwrap();
    assert!(
        last["recomputed_micro_batches"].as_u64() <= Some(5),
        "{last}"
    );
}

#[test]
fn holder_of_the_only_sum_killed_before_it_is_asked_for_it() {
    let outcome = sum_on_one_survivor("kill@applied,step=30").finish();
    assert_eq!(outcome.number("sums_fetched"), 0);
    assert!(outcome.number("recomputed_micro_batches") <= 5);
}

#[test]
fn second_worker_killed_when_asked_what_it_holds_after_the_first_loss() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "4"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@compute,step=30,until=HOLD");
    fleet.hire("w3", "tell@compute,step=30;kill@prepare,step=30");
    fleet.hire("w4", "");
    fleet.struck("w2", "hold@compute");
    fleet.struck("w3", "tell@compute");
    fleet.kill("w2");
    let outcome = fleet.finish();
    assert_eq!((outcome.left("w2"), outcome.left("w3")), ("lost", "lost"));
    assert_eq!(outcome.number("generations"), 2);
    assert!(outcome.number("recomputed_micro_batches") <= 4);
}

#[test]
fn two_workers_killed_in_the_same_step() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "kill@compute,step=30");
    fleet.hire("w2", "kill@compute,step=30");
    fleet.hire("w3", "");
    let outcome = fleet.finish();
    assert_eq!((outcome.left("w1"), outcome.left("w2")), ("lost", "lost"));
}
