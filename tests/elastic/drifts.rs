//! A bit flips in the memory of one worker: its state is not the others' any
//! more, and its gradients are wrong. The run still comes to the right bits.

use super::*;
use crate::support::{FaultLog, Fleet, Folder, Outcome};

/// States are compared each fifth step; checkpoints come each tenth.
fn job(compared: u64) -> String {
    let job = JOB.replace(r#"every = "20 steps""#, r#"every = "10 steps""#);
    format!("{job}[verify]\nevery = {compared}\n")
}

/// So many workers; in the state of the second a bit flips after step 33. It is
/// evicted for that, and comes back before the run is over.
fn with_a_flip_in_the_second(workers: usize, compared: u64) -> Outcome {
    let size = workers.to_string();
    let mut fleet = Fleet::start(&job(compared), &["--world-size", &size]);
    for number in 1..=workers {
        let fault = match number {
            1 => "hold@computed,step=70,until=HOLD",
            2 => "flip@applied,step=32",
            _ => "",
        };
        fleet.hire(&format!("w{number}"), fault);
    }
    fleet.struck("w1", "hold@computed,step=70");
    fleet.worker_said("w2", "evicted; coming back");
    fleet.worker_said("w2", "registered");
    fleet.release("w1");
    let outcome = fleet.finish_after_a_mismatch();
    // From a checkpoint at which all agreed, whatever had been written since.
    let resumed = outcome.events("run_resumed").next().unwrap();
    assert!(resumed["step"].as_u64() <= Some(30), "{resumed}");
    assert!(outcome.number("recomputed_after_resume") > 0);
    outcome
}

fn culprits(mismatch: &serde_json::Value) -> Vec<&str> {
    let culprits = mismatch["culprits"].as_array().unwrap().iter();
    culprits.map(|who| who.as_str().unwrap()).collect()
}

#[test]
fn replica_of_three_that_drifts_is_evicted_and_all_go_back_to_where_they_agreed() {
    let outcome = with_a_flip_in_the_second(3, 5);
    let mismatch = outcome.events("state_mismatch").next().unwrap();
    assert_eq!(culprits(mismatch), ["2 (w2)"]);
    assert_eq!(
        (mismatch["step"].as_u64(), mismatch["agreed"].as_u64()),
        (Some(35), Some(30))
    );
    assert_eq!(mismatch["holders"].as_array().unwrap().len(), 2);
    assert_eq!(outcome.left("w2"), "evicted");
    assert_eq!(outcome.count("state_mismatch"), 1);
}

/// Compared after each step, one of two still holds what the repetition comes
/// to, and so the other one was wrong.
#[test]
fn replica_of_two_that_drifts_is_found_by_doing_the_steps_again() {
    let outcome = with_a_flip_in_the_second(2, 1);
    let mismatches: Vec<_> = outcome.events("state_mismatch").collect();
    assert_eq!(mismatches.len(), 2, "{mismatches:?}");
    assert_eq!(culprits(mismatches[0]), [""; 0]);
    assert_eq!(culprits(mismatches[1]), ["2 (w2)"]);
    assert_eq!(outcome.left("w2"), "evicted");
}

/// Both have applied wrong gradients by then, and neither holds what the
/// repetition comes to. But one has contributed something else, first.
#[test]
fn of_two_that_are_both_wrong_by_then_the_one_that_drifted_is_found() {
    let outcome = with_a_flip_in_the_second(2, 5);
    let mismatches: Vec<_> = outcome.events("state_mismatch").collect();
    assert_eq!(mismatches.len(), 2, "{mismatches:?}");
    assert_eq!(culprits(mismatches[0]), [""; 0]);
    let holders = mismatches[0]["holders"].to_string();
    assert!(
        holders.contains("w1") && holders.contains("w2"),
        "{holders}"
    );
    assert_eq!(culprits(mismatches[1]), ["2 (w2)"]);
    assert_eq!(outcome.left("w2"), "evicted");
}

/// The shadow applies the wrong gradients like the members that didn't drift: it has
/// written a checkpoint of the wrong state by then, and holds it.
#[test]
fn shadow_of_members_that_drifted_leaves_its_state_and_its_checkpoints_behind() {
    let job = format!("{JOB}[verify]\nevery = 15\n");
    let flags = ["--world-size", "3", "--shadow", "on"];
    let folder = Folder::new();
    let of_shadow = FaultLog::new(folder.path().join("faults"));
    let faults = [
        ("EBBTIDE_FAULT", "tell@committed,step=40"),
        ("EBBTIDE_FAULT_LOG", of_shadow.path.to_str().unwrap()),
    ];
    let mut fleet = Fleet::start_with(&job, &flags, &faults);
    let holds = "hold@computed,step=43,until=HOLD;hold@computed,step=70,until=HOLD";
    fleet.hire("w1", holds);
    fleet.hire("w2", "flip@applied,step=32");
    fleet.hire("w3", "hold@computed,step=5,until=proposed");
    fleet.struck("w1", "hold@computed,step=43");
    of_shadow.wait("the shadow", "tell@committed,step=40");
    fleet.release("w1");
    fleet.struck("w1", "hold@computed,step=70");
    fleet.worker_said("w2", "evicted; coming back");
    fleet.worker_said("w2", "registered");
    fleet.release("w1");
    let outcome = fleet.finish_after_a_mismatch();
    let mismatch = outcome.events("state_mismatch").next().unwrap();
    // The shadow has a number too.
    let named = culprits(mismatch);
    assert!(named.len() == 1 && named[0].ends_with("(w2)"), "{named:?}");
    let resumed = outcome.events("run_resumed").next().unwrap();
    assert_eq!(resumed["step"], 20);
}

/// All see it, and nobody is there to hear of it. When the coordinator is back
/// they say it again, before it lets them go on.
#[test]
fn drift_that_is_seen_while_the_coordinator_is_down_is_not_forgotten() {
    let mut fleet = Fleet::start(&job(5), &["--world-size", "3"]);
    let holds = "hold@computed,step=34,until=HOLD;hold@computed,step=70,until=HOLD";
    fleet.hire("w1", holds);
    fleet.hire("w2", "flip@applied,step=32");
    fleet.hire("w3", "");
    fleet.struck("w1", "hold@computed,step=34");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.worker_said("w1", "the members' states differ");
    fleet.start_coordinator();
    fleet.worker_said("w2", "evicted; coming back");
    fleet.kill("w2"); // it would meet the same fault again
    fleet.struck("w1", "hold@computed,step=70");
    fleet.release("w1");
    let outcome = fleet.finish_after_a_mismatch();
    let mismatch = outcome.events("state_mismatch").next().unwrap();
    assert_eq!(culprits(mismatch), ["2 (w2)"]);
}

/// The members hold the same, and the shadow, which writes the checkpoints,
/// something else: whatever it has written since they all held the same is gone.
#[test]
fn shadow_that_drifts_is_evicted_and_its_checkpoints_are_thrown_away() {
    let flags = ["--world-size", "2", "--shadow", "on"];
    let folder = Folder::new();
    let of_shadow = FaultLog::new(folder.path().join("faults"));
    let faults = [
        (
            "EBBTIDE_FAULT",
            "flip@applied,step=32;tell@committed,step=40",
        ),
        ("EBBTIDE_FAULT_LOG", of_shadow.path.to_str().unwrap()),
    ];
    let mut fleet = Fleet::start_with(&job(15), &flags, &faults);
    let holds = "hold@computed,step=43,until=HOLD;hold@computed,step=70,until=HOLD";
    fleet.hire("w1", holds);
    fleet.hire("w2", "hold@computed,step=5,until=proposed");
    fleet.struck("w1", "hold@computed,step=43");
    of_shadow.wait("the shadow", "flip@applied,step=32");
    of_shadow.wait("the shadow", "tell@committed,step=40");
    fleet.release("w1");
    fleet.struck("w1", "hold@computed,step=70");
    fleet.release("w1");
    let outcome = fleet.finish_after_a_mismatch();
    let mismatch = outcome.events("state_mismatch").next().unwrap();
    let named = culprits(mismatch);
    assert!(
        named.len() == 1 && named[0].ends_with("(shadow)"),
        "{named:?}"
    );
    assert_eq!(mismatch["agreed"], 30);
    assert_eq!(outcome.events("run_resumed").next().unwrap()["step"], 30);
    assert_eq!(
        (outcome.exits["w1"], outcome.exits["w2"]),
        (Some(0), Some(0))
    );
}
