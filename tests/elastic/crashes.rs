//! The same crash at the same step, again and again.

use super::*;
use crate::support::Fleet;

const CRASH: &str = "crash@compute,step=30";

/// A process of that node comes to step 30 and crashes there.
fn crash(fleet: &mut Fleet, process: &str, node: &str) {
    fleet.hire_with(process, CRASH, &["--node", node]);
    fleet.struck(process, CRASH);
    fleet.ends(process);
}

#[test]
fn node_that_crashes_three_times_at_the_same_step_is_not_taken_in_again() {
    let mut fleet = Fleet::start(JOB, &[]);
    for process in ["w1", "w2", "w3"] {
        crash(&mut fleet, process, "odd");
    }
    fleet.said("odd crashed 3 times at step 30");
    let away = fleet.turned_away("odd").expect(77);
    assert!(away.stderr.contains("planned fault"), "{}", away.stderr);
    fleet.hire("sound", "");
    let outcome = fleet.finish();
    let crash = outcome.events("crash_loop").next().unwrap();
    assert_eq!(crash["node"], "odd");
    assert_eq!(
        (crash["step"].as_u64(), crash["times"].as_u64()),
        (Some(30), Some(3))
    );
    let error = crash["last_error"].as_str().unwrap();
    assert!(error.contains("planned fault"), "{error}");
    assert!(!crash["log_tail"].as_array().unwrap().is_empty());
    assert!(
        outcome
            .events("worker_left")
            .all(|left| left["reason"] == "crashed")
    );
    assert_eq!(outcome.count("crash_loop"), 1);
}

#[test]
fn crash_that_every_worker_meets_ends_the_run_with_its_error() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2", "--min-world-size", "1"]);
    fleet.hire_with("w1", CRASH, &["--node", "a"]);
    fleet.hire_with("w2", CRASH, &["--node", "b"]);
    for process in ["w1", "w2"] {
        fleet.struck(process, CRASH);
        fleet.ends(process);
    }
    fleet.hire_with("w3", CRASH, &["--node", "a"]);
    let (summary, events) = fleet.fails();
    let error = summary["error"].as_str().unwrap();
    assert!(
        error.contains("every worker") && error.contains("planned fault"),
        "{error}"
    );
    assert_eq!(events.last().unwrap()["event"], "failed");
}

/// Not in the model's code or the engine's, but where frames come and go.
#[test]
fn worker_that_panics_between_two_frames_has_crashed() {
    let panics = "crash@contributed,step=30";
    let mut fleet = Fleet::start(JOB, &["--world-size", "2", "--min-world-size", "1"]);
    fleet.hire("w1", panics);
    fleet.hire("w2", "");
    fleet.struck("w1", panics);
    fleet.ends("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.left("w1"), "crashed");
    assert_eq!(outcome.exits["w1"], Some(1));
}

/// Killed at the same step each time: whoever does that, it is no crash.
#[test]
fn preemptions_at_the_same_step_are_no_crashes() {
    let killed = "kill@compute,step=30";
    let mut fleet = Fleet::start(JOB, &[]);
    for process in ["w1", "w2", "w3", "w4"] {
        fleet.hire_with(process, killed, &["--node", "spot"]);
        fleet.struck(process, killed);
        fleet.ends(process);
    }
    fleet.hire_with("w5", "", &["--node", "spot"]);
    let outcome = fleet.finish();
    assert_eq!(outcome.count("crash_loop"), 0);
    assert_eq!(
        outcome.count("flapping"),
        0,
        "nobody else trained meanwhile"
    );
}
