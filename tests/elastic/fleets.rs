//! The whole fleet vanishes, with or without its coordinator.

use super::*;
use crate::support::{Fleet, Outcome};

fn in_step_50() -> Fleet {
    in_step_50_with("")
}

/// Two workers in step 50, with the checkpoint of step 40 written; the second may
/// meet these faults.
fn in_step_50_with(faults: &str) -> Fleet {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire(
        "w1",
        "tell@committed,step=40;hold@computed,step=50,until=HOLD",
    );
    fleet.hire_perhaps("w2", &format!("tell@compute,step=50;{faults}"));
    fleet.struck("w1", "tell@committed,step=40");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.struck("w2", "tell@compute,step=50");
    fleet
}

#[test]
fn all_workers_killed_and_a_new_fleet_goes_on_from_the_checkpoint() {
    // The second does not go on alone before it is killed too.
    let mut fleet = in_step_50_with("hold@prepare,step=50,until=HOLD");
    fleet.kill("w1");
    fleet.kill("w2");
    fleet.said("all workers are gone");
    // One alone would start, and could be done before the other is there.
    fleet.hire("w3", "hold@restore,until=HOLD");
    fleet.hire("w4", "");
    fleet.struck("w3", "hold@restore");
    fleet.release("w3");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 40);
    assert_eq!(outcome.count("world_lost"), 1);
    // Work done again after a resume is counted apart.
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert!(outcome.number("recomputed_after_resume") > 0);
}

#[test]
fn everything_killed_and_the_same_command_goes_on() {
    let mut fleet = in_step_50();
    fleet.kill("w1");
    fleet.kill("w2");
    fleet.restart_coordinator();
    // One alone would start, and could be done before the other is there.
    fleet.hire("w3", "hold@restore,until=HOLD");
    fleet.hire("w4", "");
    fleet.struck("w3", "hold@restore");
    fleet.release("w3");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 40);
}

/// The coordinator is not on the step path: the workers train on without it.
#[test]
fn coordinator_killed_alone_and_started_again_at_the_same_address() {
    let mut fleet = in_step_50();
    fleet.said("epoch 1/2");
    fleet.restart_coordinator();
    fleet.said("looking for  2 members");
    fleet.said("coordinator is back");
    fleet.release("w1");
    fleet.said("epoch 2/2");
    assert!(!fleet.has_said("epoch 1/2"), "it was shown already");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert!(
        outcome.exits.values().all(|code| *code == Some(0)),
        "{:?}",
        outcome.exits
    );
}

#[test]
fn steps_are_finished_and_a_checkpoint_is_committed_while_the_coordinator_is_down() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    let holds = "hold@computed,step=50,until=HOLD;tell@applied,step=60;tell@committed,step=60;\
                 hold@computed,step=70,until=HOLD";
    fleet.hire("w1", holds);
    fleet.hire("w2", "");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.struck("w1", "tell@applied,step=60");
    fleet.struck("w1", "tell@committed,step=60");
    fleet.struck("w1", "hold@computed,step=70");
    fleet.start_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}

/// In step 50, and the coordinator is down, with nothing left on its disk.
fn in_step_50_without_the_coordinators_disk() -> Fleet {
    let mut fleet = in_step_50();
    fleet.kill_coordinator();
    fleet.lose_disk();
    fleet
}

/// What the store holds is enough: the members train on, and are found again.
#[test]
fn coordinator_killed_and_its_disk_lost() {
    let mut fleet = in_step_50_without_the_coordinators_disk();
    fleet.start_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    let installed = outcome.events("generation_installed").last().unwrap();
    assert_eq!(installed["reason"], "restarted");
    // The new folder says what the old one did.
    assert_eq!(
        outcome.count("kinds_changed"),
        1,
        "as the checkpoint has it"
    );
    assert_eq!(outcome.count("run_started"), 1);
    assert_eq!(outcome.count("world_lost"), 0);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

/// The same without what the first coordinator had copied into the store: who
/// still trains comes back as a newcomer.
#[test]
fn coordinator_killed_and_nothing_left_but_the_manifests() {
    let mut fleet = in_step_50_without_the_coordinators_disk();
    fleet.lose_copies();
    fleet.start_coordinator();
    fleet.release("w1");
    fleet.release("w1"); // it comes to that step again, as a newcomer
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 40);
}

/// Two workers, the last manifest written, and nobody has been told of it.
fn complete_and_nobody_knows() -> Fleet {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    let committed = format!("hold@committed,step={STEPS}");
    fleet.hire("w1", &format!("{committed},until=HOLD"));
    fleet.hire("w2", "");
    fleet.struck("w1", &committed);
    fleet
}

fn nothing_happened_but_the_end(outcome: &Outcome) {
    assert_eq!(outcome.number("steps"), STEPS);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.exits["w2"], Some(0), "its run is complete");
}

#[test]
fn coordinator_killed_after_the_last_manifest_tells_its_members_when_it_is_back() {
    let mut fleet = complete_and_nobody_knows();
    fleet.restart_coordinator();
    fleet.release("w1");
    let outcome = fleet.finish();
    nothing_happened_but_the_end(&outcome);
    assert_eq!(outcome.exits["w1"], Some(0));
}

#[test]
fn coordinator_and_writer_killed_after_the_last_manifest() {
    let mut fleet = complete_and_nobody_knows();
    fleet.kill_coordinator(); // first: it would let the other one finish
    fleet.kill("w1");
    fleet.start_coordinator();
    nothing_happened_but_the_end(&fleet.finish());
}
