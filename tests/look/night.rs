//! What a report says about a run that things happened to.

use super::*;

fn report(outcome: &Outcome) -> (Ended, Value) {
    let page = ebbtide("report", &[&outcome.run], &[]).expect(0);
    let json = ebbtide("report", &[&outcome.run], &["--json"]).expect(0);
    let json = json.summary();
    assert_eq!(json["run"], outcome.summary["run"]);
    assert_eq!(json["weights_sha256"], outcome.summary["weights_sha256"]);
    (page, json)
}

#[test]
fn worker_that_is_lost_is_named_with_the_reason_and_what_it_cost() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("stays", "");
    fleet.hire("dies", "kill@compute,step=30");
    let outcome = fleet.finish();
    let (page, json) = report(&outcome);
    says(
        &page,
        &[
            "(small): finished, 82 steps",
            "workers  2 took part, at most 2 at once",
            "lost: its process is gone",
            "stayed to the end",
            "losses   1: ",
            "coordinator  1 start",
            "step        30 ",
        ],
    );
    let [loss] = &list(&json["losses"])[..] else {
        panic!("{json}");
    };
    assert_eq!(loss["step"], 30);
    assert_eq!(
        loss["micro_batches"],
        outcome.number("recomputed_micro_batches")
    );
    assert!(loss["seconds"].as_f64().unwrap() >= 0.0, "{loss}");
    assert_eq!(list(&json["workers"])[1]["reason"], "lost");
    assert_eq!(list(&json["zero"]).len(), 0);
    let last = &json["last_values"]["val_accuracy"];
    assert_eq!(*last, outcome.summary["val_accuracy"]);
}

#[test]
fn time_without_anybody_and_steps_done_again_are_counted() {
    let mut fleet = without_its_only_worker();
    fleet.hire("second", "");
    let outcome = fleet.finish();
    let (page, json) = report(&outcome);
    let [zero] = &list(&json["zero"])[..] else {
        panic!("{json}");
    };
    assert!(zero[1].as_f64().unwrap() > 0.0, "{zero}");
    let [lost] = &list(&json["losses"])[..] else {
        panic!("{json}");
    };
    let again = lost["steps_again"].as_u64().unwrap();
    assert_eq!(lost["micro_batches"], 8 * again);
    assert_eq!(again * 8, outcome.number("recomputed_after_resume"));
    says(
        &page,
        &["nobody from", "everybody gone: resumed from step 40"],
    );
}

/// The coordinator that comes back finds that its process is gone.
#[test]
fn worker_that_is_lost_while_the_coordinator_is_away_is_a_loss_too() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "hold@computed,step=50,until=HOLD");
    fleet.hire("w2", "");
    fleet.hire("w3", "");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.kill_coordinator();
    fleet.kill("w2");
    fleet.release("w1");
    fleet.start_coordinator();
    let outcome = fleet.finish();
    let (page, json) = report(&outcome);
    says(
        &page,
        &["lost: its process is gone", "coordinator  2 starts"],
    );
    let [loss] = &list(&json["losses"])[..] else {
        panic!("{json}");
    };
    assert_eq!(
        loss["micro_batches"],
        outcome.number("recomputed_micro_batches")
    );
    assert!(loss["micro_batches"].as_u64() > Some(0), "{loss}");
}

#[test]
fn coordinator_that_came_back_is_told_with_its_step() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "hold@computed,step=50,until=HOLD");
    fleet.hire("w2", "");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.restart_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    let (page, json) = report(&outcome);
    says(&page, &["coordinator  2 starts", "back at step 50 (gen 2."]);
    assert_eq!(json["coordinator_starts"], 2);
    assert_eq!(list(&json["workers"]).len(), 2, "nobody left");
}

#[test]
fn run_that_is_not_there_is_refused_with_those_that_are() {
    let folder = crate::support::Folder::new();
    let run = folder.path().join("small/0123abcd");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("events.jsonl"), "").unwrap();
    let out = folder.path().to_str().unwrap();
    let ended = ebbtide("report", &[Path::new("ffff")], &["--out", out]).expect(2);
    let words = "there are 0123abcd";
    assert!(ended.stderr.contains(words), "{}", ended.all());
}
