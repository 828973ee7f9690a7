//! SIGTERM and Ctrl-C: the first hands everything over, the second stops at
//! once, and neither changes a bit of the result.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::elastic::JOB;
use crate::support::{Ended, FaultLog, Fleet, Folder, Process, fifo, reference, to_its_end};

const DRAINED: i32 = 75;
const INTERRUPTED: i32 = 130;

#[test]
fn worker_left_by_ctrl_c_costs_nothing_and_has_done_its_part() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "tell@proposed");
    fleet.hire("w2", "hold@computed,step=30,until=HOLD;tell@proposed");
    fleet.hire("w3", "tell@proposed");
    fleet.struck("w2", "hold@computed");
    fleet.interrupt("w2");
    fleet.said("worker 2 (w2) leaves after this round");
    for name in ["w1", "w2", "w3"] {
        fleet.struck(name, "tell@proposed");
    }
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(0));
    assert_eq!(outcome.left("w2"), "drained");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.number("generations"), 2);
}

#[test]
fn worker_stopped_by_a_second_ctrl_c_is_a_loss_like_any_other() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@computed,step=30,until=HOLD");
    fleet.struck("w2", "hold@computed");
    fleet.interrupt("w2");
    fleet.said("worker 2 (w2) leaves after this round");
    fleet.interrupt("w2"); // it is still held
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(INTERRUPTED));
    assert_eq!(outcome.left("w2"), "lost");
}

/// Not even its driver listens: it is held itself.
#[test]
fn worker_that_is_stuck_is_stopped_by_a_second_ctrl_c_all_the_same() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "hold@contributed,step=30,until=HOLD");
    fleet.struck("w2", "hold@contributed");
    fleet.interrupt("w2");
    fleet.worker_said("w2", "Ctrl-C: leaving");
    fleet.interrupt("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.exits["w2"], Some(INTERRUPTED));
    assert_eq!(outcome.left("w2"), "lost");
}

#[test]
fn worker_that_still_looks_for_its_coordinator_leaves_at_once() {
    for (signal, code) in [("-INT", 0), ("-TERM", DRAINED)] {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command.args(["--coordinator", &address, "--exit-with-parent"]);
        let mut worker = Process::start("worker", &mut command);
        let waiting = nobody.accept().unwrap(); // and is never answered
        worker.signal(signal);
        assert_eq!(worker.end().code(), Some(code), "{signal}");
        drop(waiting);
    }
}

/// `ebbtide run` with two workers, both held in step 30, and the checkpoint of
/// step 20 committed.
struct Held {
    process: Process,
    gate: std::fs::File,
    log: FaultLog,
}

impl Held {
    fn start(folder: &Folder) -> Held {
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("job.toml"), JOB).unwrap();
        let (log, gate) = (FaultLog::new(path("log")), fifo(&path("gate")));
        let gate_path = path("gate");
        let hold = format!(
            "hold@computed,step=30,until={};tell@committed,step=20;tell@proposed",
            gate_path.display()
        );
        let mut command = run(folder);
        command.env("EBBTIDE_FAULT", hold);
        command.env("EBBTIDE_FAULT_LOG", &log.path);
        let process = Process::start("ebbtide run", &mut command);
        let struck = log.first("ebbtide run", 3);
        let committed = struck.iter().any(|line| line.contains("tell@committed"));
        assert!(committed, "{struck:?}");
        Held { process, gate, log }
    }

    /// The first signal, and that it was understood.
    fn signal(&self, signal: &str) {
        self.process.signal(signal);
        self.process.stdout.wait("ebbtide run", "stopping (");
    }

    /// Both workers go on, once both know that they are to leave: they are
    /// quick.
    fn release(&mut self) {
        self.log.first("ebbtide run", 5);
        self.gate.write_all(b"!!").unwrap();
    }
}

fn run(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.arg("run").arg(folder.path().join("job.toml"));
    command.arg("--out").arg(folder.path().join("out"));
    command.args(["--json", "--workers", "2"]);
    command
}

/// The same command goes on to the bits of the undisturbed run.
#[track_caller]
fn goes_on(folder: &Folder) -> Value {
    let summary = to_its_end(&mut run(folder)).expect(0).summary();
    let reference = reference(JOB);
    assert_eq!(summary["status"], "finished");
    assert_eq!(summary["weights_sha256"], *reference.weights_sha256);
    summary
}

#[test]
fn ctrl_c_at_the_whole_run_saves_it_and_the_same_command_goes_on() {
    for (signal, code) in [("-INT", 0), ("-TERM", DRAINED)] {
        let folder = Folder::new();
        let mut held = Held::start(&folder);
        held.signal(signal);
        held.release();
        let stopped = Ended::of(held.process).expect(code).summary();
        assert_eq!(stopped["status"], "stopped");
        let reached = stopped["steps"].as_u64().unwrap();
        assert!((31..82).contains(&reached), "{stopped}");
        let resumed = goes_on(&folder);
        assert_eq!(resumed["resumed_from_step"], reached, "all was saved");
        assert_eq!(resumed["recomputed_after_resume"], 0);
        assert_eq!(resumed["run"], stopped["run"]);
    }
}

#[test]
fn a_second_ctrl_c_stops_the_whole_run_at_once() {
    let folder = Folder::new();
    let mut held = Held::start(&folder);
    held.signal("-INT");
    held.process.signal("-INT"); // the workers are still held
    assert_eq!(held.process.end().code(), Some(INTERRUPTED));
    // Nothing of step 30 was saved: the checkpoint of step 20 is the last.
    assert_eq!(goes_on(&folder)["resumed_from_step"], 20);
}
