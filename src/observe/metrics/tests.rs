use super::*;
use crate::observe::jsonl::scratch::Folder;

fn step(round: u64) -> MetricsRecord {
    MetricsRecord::new(
        MetricsKind::Step,
        UnixMillis(1_000 + round),
        round,
        1,
        round,
    )
    .with("loss", 0.5)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}

/// The records of a whole file.
fn read_all(path: &Path) -> Vec<MetricsRecord> {
    let lines = read(path);
    lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn a_record_is_one_flat_row() {
    let record = step(412)
        .with("accuracy", 0.25)
        .with("step", 7.0)
        .with("val_loss", f64::NAN);
    let json = serde_json::to_string(&record).expect("serialises");
    assert_eq!(
        json,
        r#"{"kind":"step","time":1.412,"step":412,"epoch":1,"round":412,"accuracy":0.25,"loss":0.5,"metric_step":7.0,"val_loss":null}"#
    );
    assert_eq!(
        serde_json::from_str::<MetricsRecord>(&json).expect("parses"),
        record
    );
    let digest = MetricsRecord::new(MetricsKind::Digest, UnixMillis(2_000), 4, 1, 5)
        .with_digest("ab".into(), Some("cd".into()));
    let json = serde_json::to_string(&digest).expect("serialises");
    assert_eq!(
        json,
        r#"{"kind":"digest","time":2.0,"step":4,"epoch":1,"round":5,"state_digest":"ab","chain":"cd"}"#
    );
    assert_eq!(
        serde_json::from_str::<MetricsRecord>(&json).expect("parses"),
        digest
    );
}

#[test]
fn a_round_reported_twice_is_written_once_across_a_restart() {
    let folder = Folder::new();
    let path = folder.file("metrics.jsonl");
    let mut log = MetricsLog::open(&path, "r", None).expect("opens");
    let epoch = MetricsRecord::new(MetricsKind::Epoch, UnixMillis(9_000), 2, 1, 2);
    let appended: Vec<bool> = [&step(1), &step(3), &step(2), &step(1), &epoch, &epoch]
        .into_iter()
        .map(|r| log.append(r).expect("writes"))
        .collect();
    assert_eq!(appended, [true, true, true, false, true, false]);
    let before = read(&path);
    drop(log);

    let mut log = MetricsLog::open(&path, "r", None).expect("opens again");
    for round in 1..=3 {
        assert!(!log.append(&step(round)).expect("reads"), "round {round}");
    }
    assert!(!log.append(&epoch).expect("reads"));
    assert_eq!(read(&path), before);
    assert!(log.append(&step(4)).expect("writes"));
    assert_eq!(read_all(&path).len(), 5);
}

#[test]
fn a_torn_record_is_written_again() {
    let folder = Folder::new();
    let path = folder.file("metrics.jsonl");
    let mut log = MetricsLog::open(&path, "r", None).expect("opens");
    log.append(&step(1)).expect("writes");
    log.append(&step(2)).expect("writes");
    drop(log);
    let whole = read(&path);
    std::fs::write(&path, &whole[..whole.len() - 5]).expect("tears it");

    let mut log = MetricsLog::open(&path, "r", None).expect("opens");
    assert!(!log.append(&step(1)).expect("reads"));
    assert!(log.append(&step(2)).expect("writes"));
    assert_eq!(read(&path), whole);
}

#[test]
fn a_long_file_is_known_by_its_last_records() {
    let folder = Folder::new();
    let path = folder.file("metrics.jsonl");
    let mut log = MetricsLog::open(&path, "r", None).expect("opens");
    let rounds = 20_000;
    for round in 1..=rounds {
        log.append(&step(round)).expect("writes");
    }
    assert!(read(&path).len() > LINE_BYTES_MAX);
    for _ in 0..2 {
        for round in [1, 2, rounds - WINDOW as u64, rounds - 1, rounds] {
            assert!(!log.append(&step(round)).expect("reads"), "round {round}");
        }
        log = MetricsLog::open(&path, "r", None).expect("opens again");
    }
    assert!(log.append(&step(rounds + 1)).expect("writes"));
}

#[test]
fn going_back_to_a_checkpoint_keeps_one_history() {
    let folder = Folder::new();
    let path = folder.file("metrics.jsonl");
    let history = History::open(&folder.file("history.sqlite")).expect("opens");
    let mut log = MetricsLog::open(&path, "r", Some(history.clone())).expect("opens");
    for round in 1..=9 {
        log.append(&step(round)).expect("writes");
    }
    assert_eq!(log.discard_after(6).expect("rewrites"), 3);
    assert_eq!(log.discard_after(6).expect("rewrites"), 0);
    assert!(!log.append(&step(6)).expect("reads"));
    assert!(log.append(&step(7).with("loss", 0.25)).expect("writes"));
    log.sync().expect("syncs");
    let rounds: Vec<u64> = read_all(&path).iter().map(|r| r.round).collect();
    assert_eq!(rounds, [1, 2, 3, 4, 5, 6, 7]);
    let losses = history
        .series("r", MetricsKind::Step, "loss")
        .expect("reads");
    assert_eq!(losses.len(), 7);
    assert_eq!(losses.last(), Some(&(7, Some(0.25))));
}

#[test]
fn what_a_crash_kept_from_the_history_follows_at_the_next_start() {
    let folder = Folder::new();
    let path = folder.file("metrics.jsonl");
    let mut log = MetricsLog::open(&path, "r", None).expect("opens");
    log.append(&step(1)).expect("writes");
    drop(log);
    let history = History::open(&folder.file("history.sqlite")).expect("opens");
    for _ in 0..2 {
        MetricsLog::open(&path, "r", Some(history.clone())).expect("opens");
        let series = history
            .series("r", MetricsKind::Step, "loss")
            .expect("reads");
        assert_eq!(series, [(1, Some(0.5))]);
    }
}
