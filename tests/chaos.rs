//! `ebbtide run --chaos`: random trouble for real processes, from a seed.

use std::process::Command;

use crate::elastic::JOB;
use crate::support::{Ended, FaultLog, Folder, HANG, Process, fifo, reference, to_its_end};

const USAGE: i32 = 2;
const STANDSTILL: i32 = 70;

/// `ebbtide run` of this job with this trouble.
fn run(folder: &Folder, job: &str, chaos: &str, flags: &[&str]) -> Command {
    let path = folder.path().join("job.toml");
    std::fs::write(&path, job).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command
        .arg("run")
        .arg(path)
        .args(["--chaos", chaos, "--json"]);
    command.arg("--out").arg(folder.path().join("out"));
    command.args(flags);
    command
}

/// `SEED=n` makes the trouble of another seed.
#[test]
fn a_run_under_chaos_comes_to_the_same_bits_and_says_what_happened() {
    let seed = std::env::var("SEED").unwrap_or("7".into());
    println!("SEED={seed}");
    let folder = Folder::new();
    let job = JOB.replace("epochs = 2", "epochs = 40");
    let trouble = "kill 2/s, freeze 1/s, join 4/s, drain 1/s, coordinator 1/s";
    let flags = ["--workers", "3", "--patience", "1", "--chaos-seed", &seed];
    let mut command = run(&folder, &job, trouble, &flags);
    let ended = to_its_end(&mut command).expect(0);
    println!("{}", ended.stdout);
    let summary = ended.summary();
    let undisturbed = reference(&job);
    assert_eq!(
        summary["weights_sha256"],
        undisturbed.weights_sha256.as_str()
    );
    assert_eq!(summary["steps"], undisturbed.steps);
    let happened = &summary["chaos"];
    assert_eq!(happened["seed"].to_string(), seed);
    let acts = [
        "kills",
        "freezes",
        "joins",
        "drains",
        "coordinator_restarts",
    ];
    for act in acts {
        assert!(happened[act].as_u64() > Some(0), "{act}: {happened}");
    }
    assert_eq!(happened["ended_unasked"], 0, "{}", ended.all());
}

#[test]
fn a_standstill_ends_the_run_with_the_evidence_and_a_code_of_its_own() {
    let folder = Folder::new();
    let gate = folder.path().join("gate");
    let _both_ends = fifo(&gate);
    let flags = ["--workers", "1", "--chaos-seed", "3", "--chaos-bound", "1"];
    let mut command = run(&folder, JOB, "join 1/h", &flags);
    let hold = format!("hold@computed,step=5,until={}", gate.display());
    let ended = to_its_end(command.env("EBBTIDE_FAULT", hold)).expect(STANDSTILL);
    for words in [
        "no round was finished for 1 s although a worker could train",
        "--chaos-seed 3",
        "the newest round that anybody finished: 4",
        "worker process 1 (pid ",
        "\"step\":5",
        "the coordinator's status: {",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.all());
    }
}

#[test]
fn an_expression_that_makes_no_sense_is_refused_with_what_would() {
    let folder = Folder::new();
    for (chaos, words) in [
        (
            "kil 1/5s",
            "expected one of kill, freeze, join, drain, coordinator",
        ),
        ("kill 5s", "expected COUNT/TIME"),
        ("", "nothing is to happen"),
    ] {
        let ended = to_its_end(&mut run(&folder, JOB, chaos, &[])).expect(USAGE);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.all());
    }
    assert!(!folder.path().join("out").exists(), "nothing has begun");
}

/// Not even a worker that is stopped, and can't notice.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_behind_when_the_command_is_killed() {
    let folder = Folder::new();
    let gate = folder.path().join("gate");
    let _both_ends = fifo(&gate);
    let log = FaultLog::new(folder.path().join("log"));
    let flags = ["--workers", "2", "--chaos-seed", "3"];
    let mut command = run(&folder, JOB, "freeze 1/s", &flags);
    let hold = format!("hold@computed,step=5,until={}", gate.display());
    command.env("EBBTIDE_FAULT", hold);
    command.env("EBBTIDE_FAULT_LOG", &log.path);
    let mut process = Process::start("chaos", &mut command);
    log.wait("chaos", "hold@computed");
    let line = process.stdout.wait("chaos", "freeze: worker process");
    let frozen = line.rsplit(' ').next().unwrap().parse().unwrap();
    let frozen = open(frozen);
    process.kill();
    assert!(has_ended(&frozen), "it hangs");
    // The coordinator writes to the same standard error.
    Ended::of(process);
}

#[cfg(target_os = "linux")]
fn open(process: i32) -> std::os::fd::OwnedFd {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_raw(process).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a process that is no child of ours.
#[cfg(target_os = "linux")]
fn has_ended(process: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec::try_from(HANG).unwrap();
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    poll(&mut ends, Some(&limit)).unwrap() == 1
}
