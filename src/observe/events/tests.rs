use super::*;
use crate::observe::History;
use crate::observe::jsonl::scratch::Folder;

/// One of each, for this room's tests.
pub(crate) fn every_event() -> Vec<Event> {
    let text = |t: &str| t.to_owned();
    let generation = Generation {
        incarnation: 1,
        counter: 3,
    };
    vec![
        Event::RunStarted {
            job: text("mnist"),
            steps: Some(4690),
            epochs: Some(5),
            parent: Some(text("r0")),
            parent_step: Some(100),
        },
        Event::RunResumed {
            step: 400,
            round: 401,
            checkpoint: Some(text("file:///c/400")),
            steps_lost: 12,
        },
        Event::WorkerRegistered(WorkerInfo {
            worker: WorkerId::new(1, 3),
            name: text("spot-7f"),
            devices: text("cpu"),
            kind: text("cpu-9a1b"),
            zone: Some(text("eu-1a")),
            price_per_hour: Some(0.25),
            build: text("0.1.0+abc"),
            artifact: text("ebbtide 0.1.0"),
        }),
        Event::ConnectionRefused {
            peer: text("10.0.0.9:4711"),
            problem: text("wrong token"),
        },
        Event::WorkerJoined {
            worker: WorkerId::new(1, 3),
            name: text("spot-7f"),
            devices: text("cpu"),
            generation,
            step: 412,
        },
        Event::DrainRequested {
            worker: WorkerId::new(1, 2),
            name: text("spot-2"),
            reason: LeaveReason::Drained,
            why: text("notice of its cloud"),
        },
        Event::WorkerLeft {
            worker: WorkerId::new(1, 2),
            name: text("spot-2"),
            reason: LeaveReason::Lost,
            why: String::new(),
            step: Some(420),
            recomputed_micro_batches: Some(0),
            last_error: None,
            log_tail: vec![],
        },
        Event::GenerationInstalled {
            generation,
            members: vec![WorkerId::new(1, 1), WorkerId::new(2, 3)],
            weights: vec![1000, 333],
            base: 421,
            step: 420,
            reason: InstallReason::Loss,
            why: text("worker 2 left"),
            recomputed_micro_batches: 3,
            source: Some(WorkerId::new(1, 1)),
        },
        Event::WorldLost {
            shadow: false,
            step: 450,
            round: 451,
        },
        Event::Suspicious {
            problem: text("worker 4 reported what another one holds"),
        },
        Event::KindsChanged {
            kinds: vec![text("cpu-9a1b"), text("cpu-77")],
            exact: false,
        },
        Event::StateMismatch {
            step: 9,
            round: 9,
            digests: vec![text("ab"), text("cd")],
            holders: vec![vec![text("1 (a)")], vec![text("2 (b)")]],
            culprits: vec![text("2 (b)")],
            agreed: 4,
        },
        Event::StepSkipped {
            step: 7,
            round: 7,
            kind: SkipKind::NonFinite,
            micro_batch: 2,
            sample_indices: vec![32, 33],
            parameters: vec![text("dense1.weight")],
        },
        Event::RoundedToZero {
            epoch: 2,
            step: 938,
            round: 939,
            fraction_bits: 12,
            shares: [(text("dense1.bias"), 0.01), (text("dense1.weight"), 0.25)].into(),
        },
        Event::CheckpointCommitted {
            step: 938,
            round: 939,
            url: text("file:///c/938"),
            worker: Some(WorkerId::new(1, 1)),
        },
        Event::CheckpointFailed {
            step: 938,
            round: 939,
            url: text("file:///c"),
            problem: text("disk full"),
        },
        Event::CheckpointDamaged {
            url: text("file:///c/938"),
            problem: text("weights-0: checksum differs"),
            used_instead: Some(text("file:///c/469")),
        },
        Event::EpochEnded {
            epoch: 1,
            step: 938,
            round: 939,
            values: [(text("loss"), Some(0.25)), (text("val_loss"), None)].into(),
            seconds: 0.6,
        },
        Event::Stalled {
            missing: vec![Missing {
                name: text("worker 2"),
                since_seconds: 12.0,
            }],
            since_seconds: 12.0,
            next: text("it is evicted at 15s"),
        },
        Event::Paused {
            members: 1,
            minimum: 2,
            step: 50,
        },
        Event::WriterChanged {
            shadow: Some(WorkerId::new(1, 5)),
            step: 40,
        },
        Event::ShadowTooSlow {
            worker: WorkerId::new(1, 5),
            rounds_per_second: 910.5,
            able: 420.5,
            kept: false,
        },
        Event::HotSpare {
            worker: WorkerId::new(1, 9),
            name: text("spot-9"),
        },
        Event::IdleWorkers {
            workers: vec![text("worker 9 (spot-9)")],
            micro_batches: 4,
            members_max: 4,
        },
        Event::EarlyStopped {
            epoch: 4,
            step: 3752,
            round: 3756,
            monitor: text("val_loss"),
            best: 0.07,
            patience: 2,
        },
        Event::Finished {
            step: 4690,
            epochs: 5,
            seconds: 3.1,
            weights_sha256: text("5f1c"),
            checkpoint: Some(text("file:///c/4690")),
        },
        Event::Stopped {
            step: 99,
            reason: text("Ctrl-C"),
        },
        Event::Failed {
            step: Some(12),
            error: text("parameter `b` receives no gradient"),
        },
        Event::SumDiffers {
            step: 41,
            before: text("00000000000000aa"),
            now: text("00000000000000bb"),
            exact: true,
        },
        Event::Flapping {
            worker: WorkerId::new(1, 4),
            name: text("spot-7f"),
            losses: 3,
            seconds: 2.0,
        },
        Event::CrashLoop {
            worker: WorkerId::new(1, 4),
            node: text("spot-7f"),
            step: 420,
            times: 3,
            last_error: text("CUDA error"),
            log_tail: vec![text("a line")],
        },
    ]
}

#[test]
fn every_event_survives_the_file_and_is_filed_under_its_name() {
    let folder = Folder::new();
    let path = folder.file("events.jsonl");
    let mut log = EventLog::open(&path, "r1", None).expect("opens");
    let mut written = Vec::new();
    for (i, event) in every_event().into_iter().enumerate() {
        let record = log
            .record(UnixMillis(1_000 + i as u64), event)
            .expect("writes");
        written.push(record.expect("news"));
    }
    log.sync().expect("syncs");
    let text = std::fs::read_to_string(&path).expect("readable");
    let read: Vec<EventRecord> = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("parses"))
        .collect();
    assert_eq!(read, written);
    for (line, record) in text.lines().zip(&written) {
        let json: serde_json::Value = serde_json::from_str(line).expect("parses");
        assert_eq!(json["event"], record.event.name());
    }
}

#[test]
fn records_are_these_bytes() {
    let folder = Folder::new();
    let path = folder.file("events.jsonl");
    let mut log = EventLog::open(&path, "r1", None).expect("opens");
    let events = every_event();
    for index in [6, 7, 12] {
        log.record(UnixMillis(1_763_885_000_123), events[index].clone())
            .expect("writes");
    }
    assert_eq!(
        std::fs::read_to_string(&path).expect("readable"),
        concat!(
            r#"{"time":1763885000.123,"run":"r1","event":"worker_left","worker":"2","name":"spot-2","#,
            r#""reason":"lost","why":"","step":420,"recomputed_micro_batches":0,"#,
            r#""last_error":null,"log_tail":[]}"#,
            "\n",
            r#"{"time":1763885000.123,"run":"r1","event":"generation_installed","generation":"1.3","#,
            r#""members":["1","2.3"],"weights":[1000,333],"base":421,"step":420,"reason":"loss","why":"worker 2 left","#,
            r#""recomputed_micro_batches":3,"source":"1"}"#,
            "\n",
            r#"{"time":1763885000.123,"run":"r1","event":"step_skipped","step":7,"round":7,"#,
            r#""kind":"non-finite","micro_batch":2,"sample_indices":[32,33],"#,
            r#""parameters":["dense1.weight"]}"#,
            "\n",
        )
    );
}

#[test]
fn a_torn_event_is_dropped_and_the_log_goes_on() {
    let folder = Folder::new();
    let path = folder.file("events.jsonl");
    let stopped = |step| Event::Stopped {
        step,
        reason: String::new(),
    };
    let mut log = EventLog::open(&path, "r1", None).expect("opens");
    log.record(UnixMillis(1), stopped(1)).expect("writes");
    log.record(UnixMillis(2), stopped(2)).expect("writes");
    let whole = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("tears it");
    let mut log = EventLog::open(&path, "r1", None).expect("opens again");
    log.record(UnixMillis(3), stopped(3)).expect("writes");
    let text = std::fs::read_to_string(&path).expect("readable");
    let steps: Vec<bool> = text
        .lines()
        .map(|l| serde_json::from_str::<EventRecord>(l).is_ok())
        .collect();
    assert_eq!(steps, [true, true]);
}

#[test]
fn the_history_gets_the_same_records_and_knows_the_workers() {
    let folder = Folder::new();
    let history = History::open(&folder.file("history.sqlite")).expect("opens");
    let path = folder.file("events.jsonl");
    let mut log = EventLog::open(&path, "r1", Some(history.clone())).expect("opens");
    for event in every_event() {
        log.record(UnixMillis(5_000), event).expect("writes");
    }
    let text = std::fs::read_to_string(&path).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(history.last_events("r1", 1000).expect("reads"), lines);
    assert_eq!(
        history.last_events("r1", 2).expect("reads"),
        lines[lines.len() - 2..]
    );
    assert_eq!(history.workers_seen("r1").expect("reads"), 1);
    assert_eq!(history.workers_seen("r2").expect("reads"), 0);
}

#[test]
fn what_every_member_tells_is_written_once_across_a_restart() {
    let folder = Folder::new();
    let path = folder.file("events.jsonl");
    let skipped = |round, micro_batch| Event::StepSkipped {
        step: round,
        round,
        kind: SkipKind::OutOfRange,
        micro_batch,
        sample_indices: vec![1],
        parameters: vec![],
    };
    let resumed = |round| Event::RunResumed {
        step: round,
        round,
        checkpoint: None,
        steps_lost: 0,
    };
    let tell =
        |log: &mut EventLog, event| log.record(UnixMillis(1), event).expect("writes").is_some();
    let mut log = EventLog::open(&path, "r1", None).expect("opens");
    let told = [(7, 2), (7, 2), (7, 3), (8, 2)].map(|(r, m)| tell(&mut log, skipped(r, m)));
    assert_eq!(told, [true, false, true, true]);

    let mut log = EventLog::open(&path, "r1", None).expect("opens again");
    assert!(!tell(&mut log, skipped(8, 2)));
    // Back to a checkpoint: round 8 is decided again, round 7 isn't.
    assert!(tell(&mut log, resumed(7)));
    assert!(!tell(&mut log, skipped(7, 2)));
    assert!(tell(&mut log, skipped(8, 2)));
    let early = |best| Event::EarlyStopped {
        epoch: 1,
        step: 8,
        round: 8,
        monitor: "loss".into(),
        best,
        patience: 1,
    };
    assert!(tell(&mut log, early(f64::NAN)));
    let mut log = EventLog::open(&path, "r1", None).expect("opens again");
    assert!(!tell(&mut log, early(f64::NAN)));
    // What isn't a decision happens as often as it happens.
    assert!(tell(&mut log, resumed(7)));
    let mut log = EventLog::open(&path, "r1", None).expect("opens again");
    assert!(tell(&mut log, skipped(8, 2)));
    assert!(tell(&mut log, early(0.5)));
    let mut log = EventLog::open(&path, "r1", None).expect("opens again");
    assert!(!tell(&mut log, early(0.5)));
}
