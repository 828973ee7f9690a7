//! Checkpoints that are not what was written: named, passed over, left alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{events, folder_of, only_run, run};
use super::{stopped, undisturbed};
use crate::support::{Ended, Folder, Process, files, to_its_end};

/// A copy of the stopped run, whose checkpoints of step 10, 20 and 30 are sound.
struct Damaged {
    folder: Folder,
    run: String,
}

impl Damaged {
    fn new() -> Damaged {
        let folder = stopped().0.copy();
        let run = only_run(&folder);
        Damaged { folder, run }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("out/checkpoints").join(&self.run)
    }

    fn manifest(&self, step: u64) -> PathBuf {
        let is_it = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            // Others may be damaged already.
            let header: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            header.is_some_and(|header| text_of(&header).contains(&format!("\"step\":{step},")))
        };
        let manifests = files(&self.store().join("manifests"));
        manifests.into_iter().find(is_it).unwrap()
    }

    fn shards(&self, step: u64) -> Vec<PathBuf> {
        let folder = format!("step-{step:012}");
        let all = files(&self.store().join("shards")).into_iter();
        let shards: Vec<PathBuf> = all
            .filter(|path| {
                let folders = path.components().map(|c| c.as_os_str().to_string_lossy());
                folders.into_iter().any(|name| name.starts_with(&folder))
            })
            .collect();
        assert!(!shards.is_empty(), "no shards of step {step}");
        shards
    }

    /// Trains on to the end; says the messages about damage. Checks that the
    /// result is the same, and that all files are still there.
    fn goes_on_from(&self, step: u64) -> Vec<String> {
        let before = files(&self.store());
        let ended = to_its_end(&mut run(&self.folder, &["--workers", "1"])).expect(0);
        let summary = ended.summary();
        assert_eq!(summary["resumed_from_step"], step, "{}", ended.all());
        let whole = to_its_end(&mut run(&undisturbed(), &[]))
            .expect(0)
            .summary();
        assert_eq!(summary["weights_sha256"], whole["weights_sha256"]);
        let after = files(&self.store());
        let gone: Vec<&PathBuf> = before.difference(&after).collect();
        // What never had a manifest is no checkpoint, and is cleared away once
        // newer ones are whole.
        let orphans: Vec<&PathBuf> = gone
            .iter()
            .copied()
            .filter(|p| !self.is_orphan(p))
            .collect();
        assert!(orphans.is_empty(), "deleted: {orphans:?}");
        let told: Vec<String> = events(&folder_of(&self.folder, &self.run), "checkpoint_damaged")
            .iter()
            .map(|event| event["problem"].as_str().unwrap().to_owned())
            .collect();
        for problem in &told {
            assert!(ended.stdout.contains(problem), "{problem}: {}", ended.all());
        }
        told
    }

    fn is_orphan(&self, path: &Path) -> bool {
        let key = path.strip_prefix(self.store()).unwrap().to_str().unwrap();
        let manifests = files(&self.store().join("manifests"));
        let named = |manifest: &PathBuf| {
            let text = std::fs::read(manifest).unwrap();
            String::from_utf8_lossy(&text).contains(key)
        };
        !manifests.iter().any(named)
    }
}

fn text_of(value: &serde_json::Value) -> String {
    serde_json::to_string(value).unwrap()
}

fn truncate(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn each_truncated_shard_is_named_and_the_checkpoint_before_is_used() {
    let damaged = Damaged::new();
    let (newest, before) = (damaged.shards(30), damaged.shards(20));
    assert!(newest.len() >= 2, "weights and optimizer: {newest:?}");
    truncate(&newest[0]);
    truncate(before.last().unwrap());
    let told = damaged.goes_on_from(10);
    let of = |part: &str| told.iter().filter(|t| t.contains(part)).count();
    assert_eq!(of("is truncated"), 2, "{told:?}");
    for shard in [&newest[0], before.last().unwrap()] {
        let name = shard
            .strip_prefix(damaged.store())
            .unwrap()
            .to_str()
            .unwrap();
        assert_eq!(of(name), 1, "{name}: {told:?}");
    }
}

#[test]
fn a_flipped_bit_and_a_manifest_of_garbage_are_found() {
    let damaged = Damaged::new();
    let shard = &damaged.shards(30)[0];
    let mut bytes = std::fs::read(shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(shard, bytes).unwrap();
    std::fs::write(damaged.manifest(20), b"\xff{ not a manifest").unwrap();
    let told = damaged.goes_on_from(10);
    assert!(
        told.iter().any(|t| t.contains("has changed: checksum")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|t| t.contains("the manifest cannot be read")),
        "{told:?}"
    );
}

#[test]
fn shards_without_a_manifest_and_a_manifest_without_shards_are_no_checkpoints() {
    let damaged = Damaged::new();
    std::fs::remove_file(damaged.manifest(30)).unwrap();
    for shard in damaged.shards(20) {
        std::fs::remove_file(shard).unwrap();
    }
    let told = damaged.goes_on_from(10);
    let missing = |what: &str| told.iter().filter(|t| t.contains(what)).count();
    // Of step 30, and of step 40, whose writer died before it.
    assert_eq!(missing("the manifest is missing"), 2, "{told:?}");
    assert_eq!(
        told.iter().filter(|t| t.ends_with("is missing")).count(),
        1,
        "{told:?}"
    );
}

#[test]
fn without_any_sound_checkpoint_the_run_begins_again_and_says_so() {
    let damaged = Damaged::new();
    for step in [10, 20, 30] {
        truncate(&damaged.manifest(step));
    }
    let told = damaged.goes_on_from(0);
    assert_eq!(
        told.iter()
            .filter(|t| t.contains("the manifest cannot be read"))
            .count(),
        3
    );
    let all = events(
        &folder_of(&damaged.folder, &damaged.run),
        "checkpoint_damaged",
    );
    assert!(
        all.iter().all(|event| event["used_instead"].is_null()),
        "{all:?}"
    );
}

#[test]
fn a_checkpoint_damaged_after_it_was_verified_is_passed_over_once_a_worker_has_met_it() {
    let damaged = Damaged::new();
    let path = |name: &str| damaged.folder.path().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.arg("--job").arg(path("job.toml"));
    command.arg("--out").arg(path("out"));
    command.args(["--listen", "127.0.0.1:0", "--json"]);
    let coordinator = Process::start("coordinator", &mut command);
    let line = coordinator.stdout.wait("the coordinator", "join with");
    let url = line.rsplit(' ').next().unwrap().to_owned();
    coordinator
        .stdout
        .wait("the coordinator", "resumed from step 30");
    truncate(&damaged.shards(30)[0]);

    let worker = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command.args(["--coordinator", &url, "--exit-with-parent"]);
        command
    };
    let refused = to_its_end(&mut worker()).expect(1);
    let error = refused.stderr.lines().last().unwrap();
    assert!(error.contains("is truncated"), "{error}");
    assert_eq!(error.matches("checkpoint").count(), 1, "{error}");
    coordinator
        .stdout
        .wait("the coordinator", "resumed from step 20");
    let mut second = Process::start("worker", &mut worker());
    assert_eq!(second.end().code(), Some(0));
    let ended = Ended::of(coordinator).expect(0);
    let whole = to_its_end(&mut run(&undisturbed(), &[]))
        .expect(0)
        .summary();
    assert_eq!(ended.summary()["weights_sha256"], whole["weights_sha256"]);
    let told = |event: &serde_json::Value| event["problem"].to_string().contains("is truncated");
    let all = events(
        &folder_of(&damaged.folder, &damaged.run),
        "checkpoint_damaged",
    );
    assert_eq!(all.iter().filter(|event| told(event)).count(), 1, "{all:?}");
}
