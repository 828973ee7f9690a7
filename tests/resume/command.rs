//! `ebbtide run` as a person types it, and the run's folder afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Folder, records};

/// `ebbtide run JOB --out FOLDER/out --json`, with more flags.
pub fn run(folder: &Folder, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command
        .arg("run")
        .arg(folder.path().join("job.toml"))
        .arg("--out")
        .arg(folder.path().join("out"))
        .arg("--json")
        .args(flags);
    command
}

/// The folder of the run that the command told of.
pub fn folder_of(folder: &Folder, run: &str) -> PathBuf {
    folder.path().join("out").join(run)
}

/// The id of the only run there.
pub fn only_run(folder: &Folder) -> String {
    let checkpoints = folder.path().join("out/checkpoints");
    let mut runs = std::fs::read_dir(checkpoints).unwrap().map(Result::unwrap);
    let run = runs.next().unwrap().file_name().into_string().unwrap();
    assert!(runs.next().is_none(), "more than one run");
    run
}

/// The records of this `event`.
pub fn events(folder: &Path, event: &str) -> Vec<Value> {
    let mut all = records(&folder.join("events.jsonl"));
    all.retain(|record| record["event"] == event);
    all
}
