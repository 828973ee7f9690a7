use super::*;
use crate::observe::jsonl::scratch::Folder;
use crate::observe::{MetricsKind, MetricsRecord, UnixMillis};

const T: UnixMillis = UnixMillis(1_763_885_000_000);

fn stored(incarnation: u32, counter: u32, record: &str) -> StoredGeneration {
    let generation = Generation {
        incarnation,
        counter,
    };
    StoredGeneration {
        generation,
        record: record.as_bytes().to_vec(),
    }
}

fn run_row(id: &str) -> RunRow {
    RunRow {
        id: id.into(),
        parent: Some(("r0".into(), 400)),
        owner: Some("ada".into()),
        project: None,
        job: "mnist".into(),
        artifact: "ebbtide 0.1.0".into(),
        data_fingerprint: "d1".into(),
        kinds: vec!["cpu-9a1b".into()],
        status: RunStatus::Running,
        error: None,
        weights_sha256: None,
        created: T,
        finished: None,
        config: "name = \"mnist\"\n".into(),
    }
}

fn open(folder: &Folder) -> History {
    History::open(&folder.file("history.sqlite")).expect("opens")
}

#[test]
fn a_generation_and_what_it_cost_are_there_after_a_restart() {
    let folder = Folder::new();
    let history = open(&folder);
    assert_eq!(history.latest_generation("r").expect("reads"), None);
    let cost = [("recomputed_micro_batches", 3), ("sums_fetched", 1)];
    history
        .put_generation("r", T, &stored(1, 1, "one"), &[])
        .expect("writes");
    history
        .put_generation("r", T, &stored(1, 2, "two"), &cost)
        .expect("writes");
    // Told again, as after an answer that was lost: nothing counts twice.
    history
        .put_generation("r", T, &stored(1, 2, "two"), &cost)
        .expect("writes");
    history
        .put_generation("other", T, &stored(7, 1, "x"), &cost)
        .expect("writes");
    drop(history);

    let history = open(&folder);
    assert_eq!(
        history.latest_generation("r").expect("reads"),
        Some(stored(1, 2, "two"))
    );
    assert_eq!(
        history
            .counter("r", "recomputed_micro_batches")
            .expect("reads"),
        3
    );
    assert_eq!(history.counter("r", "sums_fetched").expect("reads"), 1);
    assert_eq!(
        history.add_counter("r", "sums_fetched", 2).expect("writes"),
        3
    );
    assert_eq!(history.counter("r", "never").expect("reads"), 0);
}

#[test]
fn a_coordinator_that_was_replaced_cannot_write_a_generation() {
    let history = open(&Folder::new());
    history
        .put_generation("r", T, &stored(2, 10, "newer"), &[])
        .expect("writes");
    // Numbers are compared as numbers: 2.9 is below 2.10.
    for older in [stored(1, 99, "older"), stored(2, 9, "older")] {
        let error = history
            .put_generation("r", T, &older, &[("n", 1)])
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!(
                "run r: generation {} is below the newest one on record, 2.10: \
                 another coordinator has taken over",
                older.generation
            )
        );
    }
    assert_eq!(history.counter("r", "n").expect("reads"), 0);
    assert_eq!(
        history.latest_generation("r").expect("reads"),
        Some(stored(2, 10, "newer"))
    );
}

#[test]
fn what_is_known_of_a_generation_changes_under_its_number() {
    let history = open(&Folder::new());
    history
        .put_generation("r", T, &stored(1, 1, "start"), &[])
        .expect("writes");
    history
        .put_generation("r", T, &stored(1, 2, "change proposed"), &[("n", 1)])
        .expect("writes");
    history
        .put_generation("r", T, &stored(1, 2, "change in force"), &[("n", 1)])
        .expect("writes");
    let latest = history.latest_generation("r").expect("reads");
    assert_eq!(latest, Some(stored(1, 2, "change in force")));
    assert_eq!(history.counter("r", "n").expect("reads"), 2);
}

#[test]
fn a_run_is_known_again_with_its_lineage() {
    let folder = Folder::new();
    let history = open(&folder);
    assert_eq!(
        history.begin_run(&run_row("r1")).expect("writes"),
        Begun::New
    );
    let changed = RunRow {
        job: "other".into(),
        ..run_row("r1")
    };
    let known = Begun::Known(Box::new(run_row("r1")));
    assert_eq!(history.begin_run(&changed).expect("reads"), known);

    let end = UnixMillis(T.0 + 3_100);
    let kinds = vec!["cpu-1".to_owned(), "t4-2".to_owned()];
    history.set_run_kinds("r1", &kinds).expect("writes");
    history
        .set_run_status("r1", end, RunStatus::Finished, None, Some("5f1c"))
        .expect("writes");
    drop(history);
    let history = open(&folder);
    let finished = RunRow {
        status: RunStatus::Finished,
        weights_sha256: Some("5f1c".into()),
        finished: Some(end),
        kinds,
        ..run_row("r1")
    };
    assert_eq!(history.run("r1").expect("reads"), Some(finished.clone()));
    assert_eq!(history.run("r2").expect("reads"), None);

    let later = RunRow {
        created: UnixMillis(T.0 + 1),
        ..run_row("r2")
    };
    history.begin_run(&later).expect("writes");
    assert_eq!(history.runs(10).expect("reads"), [later.clone(), finished]);
    assert_eq!(history.runs(1).expect("reads"), [later]);
    let error = history.set_run_status("r9", end, RunStatus::Failed, Some("x"), None);
    assert_eq!(
        error.expect_err("unknown").to_string(),
        "run r9 isn't on record"
    );
}

#[test]
fn metrics_are_recorded_once_and_read_as_curves() {
    let history = open(&Folder::new());
    let record = |round: u64, loss: f64| {
        MetricsRecord::new(MetricsKind::Step, T, round, 1, round).with("loss", loss)
    };
    let digest = MetricsRecord::new(MetricsKind::Digest, T, 2, 1, 2)
        .with_digest("ab".into(), Some("cd".into()));
    history
        .put_metrics("r", &[record(1, 0.5), record(2, f64::NAN), digest])
        .expect("writes");
    history
        .put_metrics("r", &[record(1, 9.0), record(10, 0.25)])
        .expect("writes");
    let curve = history
        .series("r", MetricsKind::Step, "loss")
        .expect("reads");
    assert_eq!(curve, [(1, Some(0.5)), (2, None), (10, Some(0.25))]);
    let chain: String = history
        .read("look", |c| {
            c.query_row("SELECT chain FROM digests", [], |row| row.get(0))
        })
        .expect("reads");
    assert_eq!(chain, "cd");
    history.discard_metrics_after("r", 1).expect("writes");
    let curve = history
        .series("r", MetricsKind::Step, "loss")
        .expect("reads");
    assert_eq!(curve, [(1, Some(0.5))]);
}

#[test]
fn another_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let text = folder.file("notes.txt");
    std::fs::write(
        &text,
        "not a database, only a longer text than a header is\n".repeat(99),
    )
    .expect("writes");
    let foreign = folder.file("foreign.sqlite");
    let connection = Connection::open(&foreign).expect("opens");
    connection
        .execute_batch("CREATE TABLE runs (x); INSERT INTO runs VALUES (1)")
        .expect("writes");
    drop(connection);
    for (path, why) in [
        (&text, "not a SQLite database"),
        (&foreign, "not a history of ebbtide"),
    ] {
        let before = std::fs::read(path).expect("readable");
        let error = History::open(path).expect_err("refused");
        assert!(
            matches!(error, HistoryError::NotAHistory { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(why) && text.contains(&path.display().to_string()),
            "{text}"
        );
        assert_eq!(std::fs::read(path).expect("readable"), before);
    }
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    open(&folder);
    let path = folder.file("history.sqlite");
    let connection = Connection::open(&path).expect("opens");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("writes");
    drop(connection);
    let error = History::open(&path).expect_err("refused");
    let expected = "schema version 99, and this ebbtide knows up to 1";
    assert!(error.to_string().contains(expected), "{error}");
    let connection = Connection::open(&path).expect("opens");
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |r| r.get(0))
        .expect("reads");
    assert_eq!(version, 99);
}

#[test]
fn a_file_cut_short_is_an_error_and_not_an_empty_history() {
    let folder = Folder::new();
    let history = open(&folder);
    history.begin_run(&run_row("r1")).expect("writes");
    drop(history);
    let path = folder.file("history.sqlite");
    let bytes = std::fs::read(&path).expect("readable");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("cuts it");
    let result = History::open(&path).and_then(|history| history.run("r1"));
    let error = result.expect_err("refused").to_string();
    assert!(error.contains("history.sqlite: "), "{error}");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = Folder::new();
    let error = History::open(&folder.file("none/history.sqlite")).expect_err("no folder");
    assert!(
        error
            .to_string()
            .contains("none/history.sqlite: can't open it"),
        "{error}"
    );
}

#[test]
fn threads_share_one_history() {
    let folder = Folder::new();
    let history = open(&folder);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let history = history.clone();
            scope.spawn(move || {
                for _ in 0..10 {
                    history.add_counter("r", "n", 1).expect("writes");
                }
            });
        }
    });
    assert_eq!(history.counter("r", "n").expect("reads"), 40);
    // A second process (a second connection) sees it at once.
    assert_eq!(open(&folder).counter("r", "n").expect("reads"), 40);
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let history = open(&Folder::new());
    let error = history
        .add_counter("r", "n", u64::MAX)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("n 18446744073709551615 is out of range"),
        "{error}"
    );
    history
        .add_counter("r", "n", i64::MAX as u64)
        .expect("writes");
    assert!(history.add_counter("r", "n", 1).is_err());
    assert_eq!(history.counter("r", "n").expect("reads"), i64::MAX as u64);
}
