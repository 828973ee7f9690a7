//! What a run leaves behind, and the ways in which it ends early.

use std::path::Path;
use std::process::Command;

use ebbtide::observe::History;
use rusqlite::Connection;
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::command::{events, folder_of, only_run, run};
use super::{undisturbed, with_job};
use crate::support::{Folder, files, records, to_its_end};

/// The digest of all parameters, computed anew from a safetensors file: name,
/// a zero byte, little-endian f32, in byte order of the names.
fn weights_sha256(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> = tensors.names();
    names.sort_unstable();
    let mut sha = Sha256::new();
    for name in names {
        sha.update(name);
        sha.update([0]);
        sha.update(tensors.tensor(name).unwrap().data());
    }
    sha.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn export(from: &Path, to: &Path) -> String {
    let command = &mut Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    let ended = to_its_end(command.arg("export").arg(from).arg("--to").arg(to)).expect(0);
    let digest = ended.stdout.split("sha256:").nth(1).unwrap();
    digest.trim().to_owned()
}

fn trained(folder: &Folder, flags: &[&str]) -> Value {
    to_its_end(&mut run(folder, flags)).expect(0).summary()
}

fn steps_of(folder: &Path, kind: &str) -> Vec<u64> {
    let mut all = records(&folder.join("metrics.jsonl"));
    all.retain(|record| record["kind"] == kind);
    all.iter()
        .map(|record| record["step"].as_u64().unwrap())
        .collect()
}

#[test]
fn the_folder_tells_the_whole_run() {
    let whole = undisturbed();
    let summary = trained(&whole, &[]);
    let id = only_run(&whole);
    let folder = folder_of(&whole, &id);

    let config = std::fs::read_to_string(folder.join("config.resolved.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    assert_eq!(
        config["optimizer"]["eps"].as_float(),
        Some(1e-7),
        "defaults are written out"
    );
    assert_eq!(
        config["model"]["dropout"].as_float(),
        Some(0.2),
        "the model's own too"
    );

    assert_eq!(steps_of(&folder, "step"), (1..=60).collect::<Vec<u64>>());
    assert_eq!(steps_of(&folder, "epoch"), [10, 20, 30, 40, 50, 60]);
    let every_five: Vec<u64> = (1..=12).map(|n| 5 * n).collect();
    assert_eq!(steps_of(&folder, "digest"), every_five);
    let digests = records(&folder.join("metrics.jsonl"));
    for record in digests.iter().filter(|record| record["kind"] == "digest") {
        assert_eq!(record["chain"].as_str().unwrap().len(), 64, "{record}");
    }
    for event in [
        "run_started",
        "worker_registered",
        "generation_installed",
        "finished",
    ] {
        assert_eq!(events(&folder, event).len(), 1, "{event}");
    }

    let history = Connection::open(folder.join("history.sqlite")).unwrap();
    let count = |sql: &str| {
        history
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let (status, digest, job): (String, String, String) = history
        .query_row(
            "SELECT status, weights_sha256, job FROM runs WHERE id = ?1",
            [&id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!((status.as_str(), job.as_str()), ("finished", "small"));
    assert_eq!(summary["weights_sha256"], digest);
    assert_eq!(count("SELECT count(*) FROM digests"), 12);
    assert_eq!(
        count("SELECT count(*) FROM metrics WHERE kind = 'step' AND name = 'loss'"),
        60
    );
    assert_eq!(count("SELECT count(*) FROM workers"), 1);
    let lines = records(&folder.join("events.jsonl")).len();
    assert_eq!(count("SELECT count(*) FROM events"), lines as i64);
}

#[test]
fn the_resolved_job_is_the_same_run() {
    let folder = undisturbed().copy();
    let id = only_run(&folder);
    let resolved = folder_of(&folder, &id).join("config.resolved.toml");
    std::fs::copy(resolved, folder.path().join("job.toml")).unwrap();
    let again = trained(&folder, &[]);
    assert_eq!(again["status"], "already complete");
    assert_eq!(again["run"], id.as_str());
}

#[test]
fn exported_weights_have_the_digest_that_was_promised() {
    let digest = trained(&undisturbed(), &[])["weights_sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    // The copy of its folder still says where the checkpoints are.
    let whole = undisturbed();
    let folder = whole.copy();
    let of_run = folder_of(&folder, &only_run(&folder));
    // Written at the run's end, as the job asks by default, and named there.
    let weights = of_run.join("weights.safetensors");
    assert_eq!(weights_sha256(&weights), digest);
    // As after a coordinator that was killed before it wrote them.
    std::fs::remove_file(&weights).unwrap();
    let complete = to_its_end(&mut run(&folder, &[])).expect(0);
    let named = format!("weights  sha256:{digest}   {}", weights.display());
    assert!(complete.stdout.contains(&named), "{}", complete.all());
    assert_eq!(complete.summary()["weights"], *weights.to_str().unwrap());
    assert_eq!(weights_sha256(&weights), digest);

    let of_folder = folder.path().join("of-folder.safetensors");
    assert_eq!(export(&of_run, &of_folder), digest);
    assert_eq!(weights_sha256(&of_folder), digest);
    let of_store = folder.path().join("of-store.safetensors");
    assert_eq!(
        export(&folder.path().join("out/checkpoints"), &of_store),
        digest
    );
    assert_eq!(
        std::fs::read(of_store).unwrap(),
        std::fs::read(&of_folder).unwrap()
    );
    python_reads(&of_folder, &digest);
}

/// Python's own reader comes to the same digest, where it is installed.
fn python_reads(file: &Path, digest: &str) {
    let program = "
import hashlib, sys
try:
    from safetensors.numpy import load_file
except ImportError as error:
    sys.exit(f'skipped: {error}')
digest, tensors = hashlib.sha256(), load_file(sys.argv[1])
for name in sorted(tensors, key=str.encode):
    digest.update(name.encode() + b'\\0' + tensors[name].astype('<f4').tobytes())
print(digest.hexdigest())
";
    let read = Command::new("python3")
        .args(["-c", program])
        .arg(file)
        .output();
    let Ok(read) = read else {
        return eprintln!("reading with Python skipped: there is no python3");
    };
    let said = String::from_utf8_lossy(&read.stderr);
    if said.contains("skipped: ") {
        return eprintln!("reading with Python {}", said.trim());
    }
    assert_eq!(
        String::from_utf8_lossy(&read.stdout).trim(),
        digest,
        "{said}"
    );
}

#[test]
fn gradients_too_small_for_the_fixed_point_are_told_of_where_they_are_many() {
    let folder = with_job();
    trained(&folder, &["--set", "exact.fraction_bits=12"]);
    let coarse = folder_of(&folder, &only_run(&folder));
    let told = events(&coarse, "rounded_to_zero");
    assert_eq!(told.len(), 6, "once an epoch");
    let worst = told[0]["shares"].as_object().unwrap();
    assert!(worst.values().all(|share| share.as_f64() >= Some(0.01)));
    let whole = undisturbed();
    let fine = folder_of(&whole, &only_run(&whole));
    assert_eq!(events(&fine, "rounded_to_zero").len(), 0);
    let in_step_1 = |folder: &Path| {
        let mut records = records(&folder.join("metrics.jsonl")).into_iter();
        let step = records.find(|record| record["kind"] == "step").unwrap();
        step["rounded_to_zero"].as_f64().unwrap()
    };
    assert!(in_step_1(&coarse) > in_step_1(&fine));
}

#[test]
fn a_job_that_asks_for_no_exported_weights_gets_none() {
    let folder = with_job();
    let flags = [
        "--workers",
        "1",
        "--set",
        "train.steps=2",
        "--set",
        "checkpoint.export_weights=false",
    ];
    assert!(trained(&folder, &flags)["weights"].is_null());
    let of_run = folder_of(&folder, &only_run(&folder));
    assert!(!of_run.join("weights.safetensors").exists());
}

#[test]
fn weights_of_another_run_are_taken_as_the_start() {
    let folder = with_job();
    let start = undisturbed();
    let from = folder_of(&start, &only_run(&start)).join("weights.safetensors");
    let from = format!("init.from={}", from.display());
    let one_step = |more: &[&str]| {
        let flags = ["--workers", "1", "--new", "--set", "train.steps=1"];
        to_its_end(&mut run(&folder, &[&flags[..], more].concat()))
    };
    let loss = |more: &[&str]| {
        one_step(more).expect(0).summary()["val_loss"]
            .as_f64()
            .unwrap()
    };
    let (seeded, trained) = (loss(&[]), loss(&["--set", &from]));
    assert!(
        trained < 0.7 * seeded,
        "{trained} with the weights, {seeded} without"
    );

    // Another width of the hidden layer: only the last bias still fits.
    let narrow = ["--set", &from, "--set", "model.hidden=[8]"];
    let refused = one_step(&narrow).expect(2);
    for part in ["init.from", "dense_0.weight", "init.partial"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.all());
    }
    loss(&[&narrow[..], &["--set", "init.partial=true"]].concat());
    let absent = one_step(&["--set", "init.from=absent.safetensors"]).expect(2);
    assert!(
        absent.stderr.contains("absent.safetensors"),
        "{}",
        absent.all()
    );
}

#[test]
fn a_run_that_stops_improving_ends_alike_on_any_number_of_workers() {
    let digest = |workers: &str| {
        let folder = with_job();
        let flags = [
            "--workers",
            workers,
            "--set",
            "early_stopping.monitor=val_loss",
            "--set",
            "early_stopping.patience=1",
            "--set",
            "early_stopping.min_delta=10.0",
        ];
        let summary = trained(&folder, &flags);
        assert_eq!(
            (&summary["steps"], &summary["epochs"]),
            (&20.into(), &2.into())
        );
        let of_run = folder_of(&folder, &only_run(&folder));
        let stopped = events(&of_run, "early_stopped");
        assert_eq!((stopped.len(), &stopped[0]["step"]), (1, &20.into()));
        assert_eq!(trained(&folder, &flags)["status"], "already complete");
        summary["weights_sha256"].clone()
    };
    assert_eq!(digest("1"), digest("2"));
}

#[test]
fn a_number_of_steps_wins_over_epochs_and_is_evaluated_at_its_end() {
    let folder = with_job();
    let summary = trained(&folder, &["--workers", "2", "--set", "train.steps=25"]);
    assert_eq!(
        (&summary["steps"], &summary["epochs"]),
        (&25.into(), &2.into())
    );
    assert!(
        summary["val_loss"].is_f64() && summary["val_accuracy"].is_f64(),
        "{summary}"
    );
    let of_run = folder_of(&folder, &only_run(&folder));
    assert_eq!(steps_of(&of_run, "evaluation"), [10, 20, 25]);
    assert_eq!(steps_of(&of_run, "epoch"), [10, 20, 25]);
    assert_eq!(steps_of(&of_run, "digest"), [5, 10, 15, 20, 25]);
}

#[test]
fn the_last_and_the_best_checkpoints_stay() {
    let folder = with_job();
    let flags = [
        "--workers",
        "1",
        "--set",
        "checkpoint.keep_last=2",
        // By this measure the first evaluation is the best one.
        "--set",
        "checkpoint.keep_best=val_accuracy",
        "--set",
        "checkpoint.keep_best_mode=min",
    ];
    trained(&folder, &flags);
    let store = folder
        .path()
        .join("out/checkpoints")
        .join(only_run(&folder));
    let mut steps: Vec<u64> = files(&store.join("manifests"))
        .iter()
        .map(|manifest| {
            let text = std::fs::read_to_string(manifest).unwrap();
            let manifest: Value = serde_json::from_str(&text).unwrap();
            step_of(&manifest).unwrap()
        })
        .collect();
    steps.sort_unstable();
    assert_eq!(steps, [10, 50, 60]);
    let shards = files(&store.join("shards"));
    let of_step = |step: u64| {
        let folder = format!("step-{step:012}");
        shards
            .iter()
            .filter(|s| s.to_string_lossy().contains(&folder))
            .count()
    };
    assert!([10, 50, 60].iter().all(|step| of_step(*step) > 0));
    assert!(
        [20, 30, 40].iter().all(|step| of_step(*step) == 0),
        "{shards:?}"
    );
}

/// `step` in a manifest, wherever it stands there.
fn step_of(manifest: &Value) -> Option<u64> {
    let object = manifest.as_object()?;
    let here = object.get("step").and_then(Value::as_u64);
    here.or_else(|| object.values().find_map(step_of))
}

#[test]
fn a_run_that_can_write_down_nothing_more_fails_with_its_object_on_the_last_line() {
    let folder = undisturbed().copy();
    let id = format!("{}-2", only_run(&folder));
    let history = folder_of(&folder, &id).join("history.sqlite");
    std::fs::create_dir_all(history.parent().unwrap()).unwrap();
    drop(History::open(&history).unwrap());
    // What a full disk says, from the first generation on.
    let full = "CREATE TRIGGER full BEFORE INSERT ON generations
                BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    let connection = Connection::open(&history).unwrap();
    connection.execute_batch(full).unwrap();
    drop(connection);
    let summary = to_its_end(&mut run(&folder, &["--new"]))
        .expect(1)
        .summary();
    assert_eq!(
        (&summary["status"], &summary["run"]),
        (&"failed".into(), &id.into())
    );
    let error = summary["error"].as_str().unwrap();
    assert!(error.contains("database or disk is full"), "{error}");
}
