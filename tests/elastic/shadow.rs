//! A shadow beside the coordinator: it writes the checkpoints, and training
//! goes on from it when all workers are gone at once.

use super::*;
use crate::support::{Fleet, Outcome};

/// Until the shadow has caught up, the second worker's share of step 5 isn't done.
const UNTIL_IN_STEP: &str = "hold@computed,step=5,until=proposed";

/// Two workers and a shadow that meets `of_shadow`; in step from step 6 on.
fn with_a_shadow(first: &str, second: &str, of_shadow: &str) -> Fleet {
    let flags = ["--world-size", "2", "--shadow", "on"];
    let mut fleet = Fleet::start_with(JOB, &flags, &[("EBBTIDE_FAULT", of_shadow)]);
    fleet.hire("w1", first);
    fleet.hire("w2", &format!("{UNTIL_IN_STEP};{second}"));
    fleet
}

/// Who wrote the checkpoints, and of which steps.
fn checkpoints(outcome: &Outcome) -> Vec<(String, u64)> {
    let committed = outcome.events("checkpoint_committed");
    let of = |event: &serde_json::Value| {
        let worker = event["worker"].as_str().unwrap();
        let mut registered = outcome.events("worker_registered");
        let writer = registered.find(|r| r["worker"] == worker).unwrap();
        let name = writer["name"].as_str().unwrap().to_owned();
        (name, event["step"].as_u64().unwrap())
    };
    committed.map(of).collect()
}

/// Those after the one that the shadow itself caught up from.
fn since_in_step(outcome: &Outcome) -> Vec<(String, u64)> {
    let mut written = checkpoints(outcome);
    written.retain(|(_, step)| *step > 6);
    written
}

#[test]
fn the_shadow_writes_all_checkpoints() {
    let outcome = with_a_shadow("", "", "").finish();
    let written = since_in_step(&outcome);
    assert!(
        written.iter().all(|(name, _)| name == "shadow"),
        "{written:?}"
    );
    let steps: Vec<u64> = written.iter().map(|(_, step)| *step).collect();
    assert_eq!(steps.last(), Some(&STEPS));
    assert!(steps.contains(&20) && steps.contains(&60), "{steps:?}");
    assert_eq!(outcome.count("writer_changed"), 1);
}

#[test]
fn all_workers_killed_in_an_exchange_cost_nothing_that_was_told() {
    let mut fleet = with_a_shadow("kill@contributed,step=37", "kill@contributed,step=37", "");
    fleet.ends("w1");
    fleet.ends("w2");
    fleet.said("all workers are gone");
    let told = fleet.finished_steps();
    // Alone it could be through before the other one is there.
    fleet.hire("w3", "hold@computed,step=60,until=HOLD");
    fleet.hire("w4", "");
    fleet.release("w3");
    let outcome = fleet.finish();
    let resumed = outcome.events("run_resumed").last().expect("it resumed");
    let step = resumed["step"].as_u64().unwrap();
    assert!(told <= step, "told {told}, resumed at {step}");
    let applied = ["w1", "w2"].map(|name| outcome.steps_applied(name).max().unwrap());
    let applied = applied[0].max(applied[1]);
    assert_eq!(applied, 37);
    assert!(
        step + 1 >= applied,
        "it held all but the last at least: {step}"
    );
    assert_eq!(resumed["steps_lost"], 0);
}

#[test]
fn a_shadow_that_dies_stops_nobody() {
    let outcome = with_a_shadow("", "", "kill@committed,step=40").finish();
    let written = checkpoints(&outcome);
    assert!(written.contains(&("shadow".into(), 20)), "{written:?}");
    assert_eq!(outcome.left("shadow"), "lost");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(written.last().map(|(_, step)| *step), Some(STEPS));
}

#[test]
fn a_joiner_is_served_by_the_shadow() {
    let mut fleet = with_a_shadow("hold@computed,step=33,until=HOLD", "", "");
    fleet.struck("w1", "hold@computed");
    fleet.hire("w3", "tell@proposed");
    fleet.struck("w3", "tell@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert!(outcome.first_contribution("w3") > 33);
    let written = since_in_step(&outcome);
    assert!(
        written.iter().all(|(name, _)| name == "shadow"),
        "{written:?}"
    );
}

/// The shadow ends with its coordinator.
#[test]
fn while_the_coordinator_is_down_the_first_member_writes_instead_of_the_shadow() {
    let first = "hold@computed,step=30,until=HOLD;tell@committed,step=40;\
                 hold@computed,step=50,until=HOLD";
    let mut fleet = with_a_shadow(first, "", "");
    fleet.struck("w1", "hold@computed,step=30");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.struck("w1", "tell@committed,step=40");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.start_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}
