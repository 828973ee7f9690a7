//! Workers that drain and workers that join, and losses in the middle of it.

use super::*;
use crate::support::Fleet;

/// Drained in step 30, and held in the next until it has been planned.
const DRAINED_IN_STEP_30: &str = "drain@applied,step=30;hold@computed,step=31,until=proposed";

#[test]
fn worker_drained_by_sigterm_costs_nothing() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@applied,step=30,until=HOLD;tell@proposed");
    fleet.hire("w3", "");
    fleet.struck("w2", "hold@applied");
    fleet.terminate("w2");
    fleet.said("worker 2 (w2) leaves after this round");
    fleet.struck("w2", "tell@proposed");
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(75));
    assert_eq!(outcome.left("w2"), "drained");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.number("generations"), 2);
}

#[test]
fn first_member_drained_and_the_next_one_takes_over() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", DRAINED_IN_STEP_30);
    fleet.hire("w2", "");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w1"], Some(75));
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

#[test]
fn drain_and_loss_together() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "4"]);
    fleet.hire("w1", "");
    fleet.hire("w2", DRAINED_IN_STEP_30);
    fleet.hire("w3", "kill@proposed");
    fleet.hire("w4", "");
    let outcome = fleet.finish();
    assert_eq!(
        (outcome.left("w2"), outcome.left("w3")),
        ("drained", "lost")
    );
    assert_eq!(outcome.exits["w2"], Some(75));
}

/// A world of one in step 10, which then meets `later`.
fn alone_in_step_10(later: &str) -> Fleet {
    let mut fleet = Fleet::start(JOB, &[]);
    let faults = format!("hold@computed,step=10,until=HOLD;{later}");
    fleet.hire("w1", &faults);
    fleet.struck("w1", "hold@computed,step=10");
    fleet
}

/// The world trains on while the newcomer restores, and takes it in where it
/// has caught up.
#[test]
fn nobody_waits_for_a_joiner() {
    let mut fleet = alone_in_step_10("hold@computed,step=30,until=HOLD;tell@proposed");
    fleet.hire("w2", "hold@restore,until=HOLD");
    // It has subscribed at step 10, and reads the checkpoint made for it.
    fleet.struck("w2", "hold@restore");
    fleet.release("w1");
    // Twenty steps without it.
    fleet.struck("w1", "hold@computed,step=30");
    fleet.release("w2");
    fleet.struck("w1", "tell@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    let made_for_it = |e: &&serde_json::Value| e["round"] == 10;
    assert_eq!(
        outcome
            .events("checkpoint_committed")
            .filter(made_for_it)
            .count(),
        1
    );
    let applied: Vec<u64> = outcome.steps_applied("w2").collect();
    assert_eq!(applied, (11..=STEPS).collect::<Vec<u64>>());
    assert_eq!(outcome.count("worker_joined"), 2);
    // Half of each step after step 30, and of the evaluations at 41 and 82.
    let share = 4 * (LAST_STEP - 30) + 2 * 2;
    assert_eq!(outcome.summary["micro_batches_by_worker"]["2"], share);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

/// With the only checkpoint kept, those made while it loads take its place.
#[test]
fn joiner_whose_checkpoint_is_removed_while_it_loads_asks_for_a_newer_one() {
    let job = format!("{JOB}keep_last = 1\n");
    let mut fleet = Fleet::start(&job, &[]);
    fleet.hire(
        "w1",
        "hold@computed,step=10,until=HOLD;hold@computed,step=70,until=HOLD",
    );
    fleet.struck("w1", "hold@computed,step=10");
    fleet.hire("w2", "hold@restore,until=HOLD;tell@proposed");
    fleet.struck("w2", "hold@restore");
    fleet.release("w1");
    fleet.struck("w1", "hold@computed,step=70");
    // Unless that has happened already.
    let _ = std::fs::remove_file(fleet.manifest(10));
    fleet.release("w2");
    fleet.worker_said("w2", "asking for a newer checkpoint");
    fleet.struck("w2", "tell@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(0));
    // Not from step 10 on.
    assert!(outcome.steps_applied("w2").next() > Some(20));
}

/// It still reads its data when everybody else has left.
#[test]
fn worker_that_comes_as_the_run_ends_hears_of_it() {
    let mut fleet = Fleet::start(JOB, &[]);
    fleet.hire("w1", "hold@computed,step=81,until=HOLD");
    fleet.hire("w2", "hold@registered,until=HOLD");
    fleet.struck("w2", "hold@registered");
    fleet.release("w1");
    fleet.ends("w1");
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(0));
    assert_eq!(outcome.count("worker_joined"), 1);
}

#[test]
fn two_join_at_once() {
    let mut fleet = alone_in_step_10("hold@computed,step=50,until=HOLD;tell@proposed");
    fleet.hire("w2", "tell@restore");
    fleet.hire("w3", "tell@restore");
    fleet.struck("w2", "tell@restore");
    fleet.struck("w3", "tell@restore");
    fleet.struck("w1", "tell@proposed");
    fleet.release("w1");
    fleet.struck("w1", "tell@proposed");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.count("worker_joined"), 3);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

#[test]
fn member_killed_when_a_join_is_proposed() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "hold@computed,step=10,until=HOLD");
    fleet.hire("w2", "kill@proposed");
    fleet.struck("w1", "hold@computed,step=10");
    fleet.hire("w3", "");
    fleet.struck("w2", "kill@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.left("w2"), "lost");
}

#[test]
fn joiner_killed_before_it_is_a_member() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "hold@computed,step=10,until=HOLD");
    fleet.hire("w2", "");
    fleet.struck("w1", "hold@computed,step=10");
    fleet.hire("w3", "kill@restore");
    fleet.hire("w4", "kill@proposed");
    fleet.struck("w3", "kill@restore");
    fleet.struck("w4", "kill@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    // At most what was meant for the fourth, if its change was in force.
    assert!(outcome.number("recomputed_micro_batches") <= 3);
}

#[test]
fn last_worker_drained_leaves_a_checkpoint_for_the_next_one() {
    let mut fleet = Fleet::start(JOB, &[]);
    fleet.hire(
        "w1",
        "drain@applied,step=33;hold@computed,step=34,until=proposed",
    );
    fleet.said("worker 1 left: drained");
    fleet.hire("w2", "");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w1"], Some(75));
    assert!(outcome.number("resumed_from_step") > 33);
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}
