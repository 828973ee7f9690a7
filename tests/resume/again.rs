//! The same command once more: it goes on, says that it is complete, refuses,
//! forks, or repeats.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use super::command::{events, folder_of, only_run, run};
use super::{MICRO_BATCHES, held_in_step_45, stopped, undisturbed, with_job};
use crate::support::{records, to_its_end};

/// Every key that scripts may rely on.
const KEYS: &str = "job run steps epochs train_loss val_loss val_accuracy weights_sha256 exact \
    kinds seconds generations workers_seen recomputed_micro_batches sums_fetched damaged_frames \
    resumed_from_step checkpoint";

fn history(folder: &Path) -> Connection {
    Connection::open(folder.join("history.sqlite")).unwrap()
}

/// A counter that was never added to has no row.
fn counter(folder: &Path, name: &str) -> u64 {
    let sql = "SELECT coalesce(sum(value), 0) FROM counters WHERE name = ?1";
    let value: i64 = history(folder)
        .query_row(sql, [name], |row| row.get(0))
        .unwrap();
    value as u64
}

fn undisturbed_summary() -> Value {
    let again = to_its_end(&mut run(&undisturbed(), &[])).expect(0);
    again.summary()
}

/// `metrics.jsonl` by kind: step to record, without the time of writing.
fn metrics(folder: &Path) -> BTreeMap<(String, u64), Value> {
    let mut all = BTreeMap::new();
    for mut record in records(&folder.join("metrics.jsonl")) {
        record.as_object_mut().unwrap().remove("time");
        let key = (
            record["kind"].as_str().unwrap().to_owned(),
            record["step"].as_u64().unwrap(),
        );
        let twice = all.insert(key.clone(), record);
        assert!(twice.is_none(), "{key:?} twice");
    }
    all
}

#[test]
fn all_workers_killed_in_a_step_and_started_again_come_to_the_same_bits() {
    let made = stopped();
    let (stopped, first) = &*made;
    assert_eq!(first.status.code(), Some(1), "{}", first.all());
    assert_eq!(first.summary()["status"], "stopped");
    let advice = "run the same command again to resume";
    assert!(first.stderr.contains(advice), "{}", first.all());
    let folder = stopped.copy();
    let id = only_run(&folder);
    let reached = counter(&folder_of(&folder, &id), "step_reached");
    assert!((31..=45).contains(&reached), "step {reached}");

    let again = to_its_end(&mut run(&folder, &["--workers", "2"])).expect(0);
    let (summary, expected) = (again.summary(), undisturbed_summary());
    for same in [
        "run",
        "steps",
        "epochs",
        "weights_sha256",
        "train_loss",
        "val_loss",
        "val_accuracy",
    ] {
        assert_eq!(summary[same], expected[same], "{same}: {summary}");
    }
    assert_eq!(summary["resumed_from_step"], 30);
    assert_eq!(
        summary["recomputed_after_resume"],
        (reached - 30) * MICRO_BATCHES
    );
    assert_eq!(
        summary["recomputed_micro_batches"],
        first.summary()["recomputed_micro_batches"]
    );
    assert_eq!(summary["workers_seen"], 4);

    let folder_of_run = folder_of(&folder, &id);
    let resumed = events(&folder_of_run, "run_resumed");
    assert_eq!(resumed.len(), 1);
    assert_eq!(resumed[0]["step"], 30);
    assert_eq!(resumed[0]["steps_lost"], reached - 30);
    // The history of losses and digests is the one of a run that nobody disturbed.
    let whole = undisturbed();
    assert_eq!(metrics(&folder_of_run), metrics(&folder_of(&whole, &id)));
}

#[test]
fn workers_that_cannot_even_start_end_the_run_with_advice() {
    let folder = stopped().0.copy();
    let logs = folder_of(&folder, &only_run(&folder)).join("logs");
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::write(&logs, "no folder").unwrap();
    let ended = to_its_end(&mut run(&folder, &["--workers", "2"])).expect(1);
    let started = ended.stdout.matches("could not be started").count();
    assert_eq!(started, 2, "{}", ended.all());
    let advice = "run the same command again to resume";
    assert!(ended.stderr.contains(advice), "{}", ended.all());
}

#[test]
fn everything_killed_at_once_goes_on_with_the_same_command() {
    let folder = with_job();
    let mut held = held_in_step_45(&folder);
    held.running.kill();
    let again = to_its_end(&mut run(&folder, &["--workers", "1"])).expect(0);
    let summary = again.summary();
    assert_eq!(summary["resumed_from_step"], 30, "{}", again.all());
    assert_eq!(
        summary["weights_sha256"],
        undisturbed_summary()["weights_sha256"]
    );
    let recomputed = counter(
        &folder_of(&folder, &only_run(&folder)),
        "recomputed_after_resume",
    );
    assert_eq!(summary["recomputed_after_resume"], recomputed);
}

#[test]
fn a_complete_run_says_so_and_a_repeat_has_an_id_of_its_own() {
    let folder = undisturbed().copy();
    let first = folder_of(&folder, &only_run(&folder));
    let before = std::fs::read(first.join("metrics.jsonl")).unwrap();

    let again = to_its_end(&mut run(&folder, &[])).expect(0);
    let complete = again.summary();
    assert!(again.stdout.contains("already complete"), "{}", again.all());
    assert_eq!(complete["status"], "already complete");
    for key in KEYS.split_whitespace() {
        assert!(complete.get(key).is_some(), "{key} in {complete}");
    }
    assert_eq!(complete["steps"], 60);
    assert_eq!(complete["generations"], 1);
    assert_eq!(std::fs::read(first.join("metrics.jsonl")).unwrap(), before);

    let repeat = to_its_end(&mut run(&folder, &["--new", "--workers", "2"])).expect(0);
    let repeat = repeat.summary();
    assert_eq!(repeat["status"], "finished");
    assert_ne!(repeat["run"], complete["run"]);
    assert_eq!(repeat["weights_sha256"], complete["weights_sha256"]);
    for key in KEYS.split_whitespace() {
        assert!(repeat.get(key).is_some(), "{key} in {repeat}");
    }
}

#[test]
fn an_interrupted_repeat_is_what_the_plain_command_goes_on_with() {
    let folder = undisturbed().copy();
    let kill = |command: &mut std::process::Command| {
        let log = folder.path().join("faults");
        let ended = to_its_end(
            command
                .env("EBBTIDE_FAULT", "kill@uploaded,step=20")
                .env("EBBTIDE_FAULT_LOG", &log),
        );
        assert!(log.exists(), "the fault never struck: {}", ended.all());
        ended.expect(1).summary()
    };
    let repeat = kill(&mut run(&folder, &["--new", "--workers", "1"]));
    let goes_on = to_its_end(&mut run(&folder, &["--workers", "1"]))
        .expect(0)
        .summary();
    assert_eq!(goes_on["run"], repeat["run"]);
    assert_eq!(goes_on["resumed_from_step"], 10);
    assert_eq!(
        goes_on["weights_sha256"],
        undisturbed_summary()["weights_sha256"]
    );
}

#[test]
fn a_changed_job_is_refused_by_its_keys_and_may_fork() {
    let folder = stopped().0.copy();
    let parent = only_run(&folder);
    let changed = ["--workers", "1", "--set", "optimizer.lr=5e-4"];

    let refused = to_its_end(&mut run(&folder, &changed)).expect(2);
    for part in [
        "optimizer.lr",
        "0.001",
        "0.0005",
        &parent,
        "--from",
        "--new",
    ] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.all());
    }
    assert_eq!(only_run(&folder), parent, "nothing has started");

    let nowhere = format!("{parent}@17");
    let nowhere = to_its_end(&mut run(
        &folder,
        &[&changed[..], &["--from", &nowhere]].concat(),
    ));
    assert!(nowhere.stderr.contains("at step 30"), "{}", nowhere.all());
    nowhere.expect(2);

    let from = format!("{parent}@20");
    let fork = [&changed[..], &["--from", &from]].concat();
    let forked = to_its_end(&mut run(&folder, &fork)).expect(0).summary();
    assert_eq!(forked["steps"], 60);
    assert_ne!(forked["run"], parent.as_str());
    assert_ne!(
        forked["weights_sha256"],
        undisturbed_summary()["weights_sha256"]
    );
    let row = history(&folder_of(&folder, forked["run"].as_str().unwrap()))
        .query_row("SELECT parent, parent_step, status FROM runs", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let expected: (String, i64, String) = (parent.clone(), 20, "finished".into());
    assert_eq!(expected, row);
    let again = to_its_end(&mut run(&folder, &fork)).expect(0).summary();
    assert_eq!(again["status"], "already complete");

    // The parent is as it was, and goes on as if nothing had happened.
    let parent = to_its_end(&mut run(&folder, &["--workers", "1"]))
        .expect(0)
        .summary();
    assert_eq!(
        parent["weights_sha256"],
        undisturbed_summary()["weights_sha256"]
    );
}

#[test]
fn what_changes_no_number_may_change_on_the_way() {
    let folder = stopped().0.copy();
    let flags = [
        "--workers",
        "1",
        "--set",
        "checkpoint.every=never",
        "--set",
        "name=other",
    ];
    let summary = to_its_end(&mut run(&folder, &flags)).expect(0).summary();
    assert_eq!(summary["resumed_from_step"], 30);
    assert_eq!(
        summary["weights_sha256"],
        undisturbed_summary()["weights_sha256"]
    );
}
