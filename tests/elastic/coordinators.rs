//! The coordinator dies, or freezes, at the worst moments; no step needs it.

use super::*;
use crate::support::{Fleet, Outcome, Proxy};
use ebbtide::world::assign;

/// Each worker came to its end by itself, and did nothing twice.
fn without_a_loss(outcome: &Outcome) {
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
    assert_eq!(outcome.count("world_lost"), 0);
}

/// Three workers lose one in step 30; the coordinator has asked the others what
/// they hold, and dies before it can say how they go on.
fn killed_between_prepare_and_install(second: &str) -> Fleet {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    let in_step = "tell@compute,step=30";
    fleet.hire("w1", &format!("{in_step};hold@prepare,step=30,until=HOLD"));
    fleet.hire("w2", &format!("{in_step};{second}"));
    fleet.hire("w3", "hold@compute,step=30,until=HOLD");
    fleet.struck("w1", in_step);
    fleet.struck("w2", in_step);
    fleet.struck("w3", "hold@compute");
    fleet.kill("w3");
    fleet.struck("w1", "hold@prepare,step=30");
    fleet
}

fn only_the_lost_share_again(outcome: &Outcome, name: &str) {
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
    assert_eq!(outcome.count("world_lost"), 0);
    let again = outcome.number("recomputed_micro_batches");
    let most = assign(8, &[1, 1, 1])[0].len() as u64;
    assert!((1..=most).contains(&again), "{again} after {name}'s loss");
}

#[test]
fn coordinator_killed_between_prepare_and_install() {
    let mut fleet = killed_between_prepare_and_install("tell@prepare,step=30");
    fleet.struck("w2", "tell@prepare,step=30");
    fleet.restart_coordinator();
    fleet.release("w1");
    let outcome = fleet.finish();
    only_the_lost_share_again(&outcome, "w3");
    let installed = outcome.events("generation_installed").last().unwrap();
    assert_eq!(installed["reason"], "restarted");
}

/// Nobody has told it anything yet, and then one of those it asked is lost too.
#[test]
fn coordinator_and_another_worker_killed_between_prepare_and_install() {
    let mut fleet = killed_between_prepare_and_install("hold@prepare,step=30,until=HOLD");
    fleet.struck("w2", "hold@prepare,step=30");
    fleet.kill_coordinator();
    fleet.kill("w1");
    fleet.release("w2");
    fleet.start_coordinator();
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
    assert_eq!(outcome.count("world_lost"), 0, "w2 holds the state");
    let mut left = outcome.events("worker_left");
    let told = left.any(|e| e["worker"] == "1" && e["why"] == "its process is gone");
    assert!(told, "by the coordinator that came after it");
}

/// The change that lets one go has reached the members; the coordinator that
/// planned it is gone when it takes effect.
#[test]
fn coordinator_killed_while_a_worker_drains() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire(
        "w1",
        "hold@proposed,until=HOLD;hold@computed,step=50,until=HOLD",
    );
    fleet.hire("w2", "hold@computed,step=31,until=HOLD;tell@proposed");
    fleet.hire("w3", "drain@applied,step=30;tell@proposed");
    fleet.struck("w2", "hold@computed,step=31");
    fleet.struck("w3", "drain@applied,step=30");
    fleet.struck("w1", "hold@proposed");
    fleet.struck("w2", "tell@proposed");
    fleet.struck("w3", "tell@proposed");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.release("w2");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.start_coordinator();
    fleet.said("worker 3 left: drained");
    fleet.release("w1");
    let outcome = fleet.finish();
    without_a_loss(&outcome);
    assert_eq!(outcome.exits["w3"], Some(75), "drained");
}

#[test]
fn worker_that_wants_to_leave_while_the_coordinator_is_down_leaves_when_it_is_back() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    let holds = "hold@computed,step=20,until=HOLD;hold@applied,step=50,until=HOLD;\
                 hold@computed,step=52,until=proposed";
    fleet.hire("w1", holds);
    fleet.hire("w2", "");
    fleet.hire("w3", "drain@applied,step=30");
    fleet.struck("w1", "hold@computed,step=20");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.struck("w3", "drain@applied,step=30");
    fleet.struck("w1", "hold@applied,step=50");
    fleet.start_coordinator();
    // It ended meanwhile: nobody knows how long it took.
    let epoch = fleet.said("epoch 1/2");
    assert!(epoch.contains("41/41  loss"), "{epoch}");
    fleet.said("worker 3 (w3) leaves after this round");
    fleet.release("w1");
    let outcome = fleet.finish();
    without_a_loss(&outcome);
    assert_eq!(outcome.exits["w3"], Some(75), "drained");
}

#[test]
fn coordinator_killed_in_the_last_step() {
    let (last, end) = (
        format!("hold@computed,step={LAST_STEP}"),
        format!("tell@committed,step={STEPS}"),
    );
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", &format!("{last},until=HOLD;{end}"));
    fleet.hire("w2", "");
    fleet.struck("w1", &last);
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.struck("w1", &end);
    fleet.start_coordinator();
    let outcome = fleet.finish();
    without_a_loss(&outcome);
    assert!(outcome.exits.values().all(|code| *code == Some(0)));
}

/// Without the coordinator nobody may go on without the lost one: the step
/// stands until it is back, and then only what was lost is computed again.
#[test]
fn worker_lost_while_the_coordinator_is_down_the_others_hold_the_step() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "hold@computed,step=50,until=HOLD");
    fleet.hire("w2", "tell@computed,step=50");
    fleet.hire("w3", "tell@computed,step=50");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.struck("w2", "tell@computed,step=50");
    fleet.struck("w3", "tell@computed,step=50");
    fleet.kill_coordinator();
    fleet.kill("w2");
    fleet.release("w1");
    fleet.start_coordinator();
    let outcome = fleet.finish();
    only_the_lost_share_again(&outcome, "w2");
    let steps = |name: &str| outcome.steps_applied(name).collect::<Vec<u64>>();
    assert_eq!(steps("w1"), (1..=STEPS).collect::<Vec<u64>>());
    assert_eq!(
        steps("w2"),
        (1..=50).collect::<Vec<u64>>(),
        "it was held in the next"
    );
    // The first step after the loss is one of the coordinator's second life.
    for name in ["w1", "w3"] {
        let entry = outcome.ledgers[name].iter().find(|e| e["step"] == 51);
        let generation = entry.unwrap()["generation"].as_str().unwrap();
        assert!(generation.starts_with("2."), "step 51 in {generation}");
    }
}

/// A frozen coordinator is taken for dead, another one takes over on another
/// node; thawed, the first one finds that out and changes nothing.
#[test]
fn frozen_coordinator_that_thaws_after_another_has_taken_over_ends_and_says_why() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    let proxy = Proxy::to(fleet.address());
    let address = format!("http://{}", proxy.address());
    let way = ["--coordinator", address.as_str()];
    fleet.hire_with(
        "w1",
        "tell@committed,step=40;hold@computed,step=50,until=HOLD",
        &way,
    );
    fleet.hire_with("w2", "", &way);
    fleet.struck("w1", "tell@committed,step=40");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.signal_coordinator("-STOP");
    let mut frozen = fleet.take_over();
    proxy.lead_to(fleet.address());
    fleet.said("coordinator is back");
    frozen.signal("-CONT");
    let status = frozen.end();
    assert_eq!(status.code(), Some(1));
    let summary: serde_json::Value =
        serde_json::from_str(frozen.stdout.all().last().unwrap()).unwrap();
    let error = summary["error"].as_str().unwrap();
    assert!(
        error.contains("another coordinator") && error.contains(fleet.address()),
        "{error}"
    );
    fleet.release("w1");
    let outcome = fleet.finish();
    without_a_loss(&outcome);
    assert_eq!(
        outcome.count("connection_refused"),
        0,
        "nobody was sent away"
    );
}
