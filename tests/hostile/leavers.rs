//! Workers that a run loses for a reason that can be named.

use std::process::Command;

use crate::elastic::JOB;
use crate::support::{Ended, FaultLog, Folder, Process, files, records, to_its_end};

const DRAINED: i32 = 75;
const REFUSED: i32 = 78;

/// A coordinator that waits for workers, and its URL.
fn coordinator(folder: &Folder, flags: &[&str]) -> (Process, String) {
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("job.toml"), JOB).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.arg("--job").arg(path("job.toml"));
    command.arg("--out").arg(path("out"));
    command.args(["--listen", "127.0.0.1:0"]).args(flags);
    let process = Process::start("coordinator", &mut command);
    let line = process.stdout.wait("the coordinator", "join with");
    (process, line.rsplit(' ').next().unwrap().to_owned())
}

fn worker(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--coordinator", url, "--exit-with-parent"]);
    command
}

#[test]
fn worker_without_the_initial_weights_leaves_and_the_run_waits_for_another() {
    let folder = Folder::new();
    let weights = folder.path().join("start.safetensors");
    let header = br#"{"dense_1.bias":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(&weights, [&length[..], header, &[0; 40]].concat()).unwrap();
    let from = format!("init.from={}", weights.display());
    let flags = ["--set", &from, "--set", "init.partial=true"];
    let (coordinator, url) = coordinator(&folder, &flags);
    std::fs::remove_file(&weights).unwrap();
    let refused = to_its_end(&mut worker(&url)).expect(REFUSED);
    for part in ["init.from", "start.safetensors", "every node needs"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.all());
    }
    coordinator.stdout.wait("the coordinator", "worker 1 left");
    let run = files(&folder.path().join("out"));
    let log = run.iter().find(|path| path.ends_with("events.jsonl"));
    let events = records(log.expect("a log of events"));
    let left = events.iter().find(|event| event["event"] == "worker_left");
    let left = left.expect("it left");
    assert_eq!(left["reason"], "crashed");
    let error = left["last_error"].as_str().expect("its last error");
    assert!(error.contains("start.safetensors"), "{error}");
    let tail = left["log_tail"].as_array().expect("its log");
    assert!(!tail.is_empty());
    assert!(!coordinator.stdout.contain("failed"));
}

#[test]
fn worker_of_a_run_that_is_stopped_asks_to_be_started_again() {
    for signal in ["-TERM", "-INT"] {
        let folder = Folder::new();
        let (coordinator, url) = coordinator(&folder, &["--world-size", "2"]);
        let log = FaultLog::new(folder.path().join("log"));
        let mut command = worker(&url);
        command.env("EBBTIDE_FAULT", "tell@restore");
        command.env("EBBTIDE_FAULT_LOG", &log.path);
        let waiting = Process::start("worker", &mut command);
        log.wait("worker", "tell@restore");
        coordinator.signal(signal);
        let ended = Ended::of(waiting).expect(DRAINED);
        let why = "the coordinator has stopped the run";
        assert!(ended.stderr.contains(why), "{}", ended.all());
    }
}
