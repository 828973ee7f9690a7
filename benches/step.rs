//! Workload A, the MNIST job (784-128-10, global batch 64, micro-batch 16),
//! with one and two workers of one thread each, as real processes.
//!
//! ```text
//! cargo bench --bench step                          # 3 runs each
//! cargo bench --bench step -- 5                     # 5 runs each
//! PEERS_DIR=... PEERS_SCRIPTS=... cargo bench --bench step    # torch beside it, in turn
//! ```
//!
//! Samples a second are over whole epochs after the first, evaluation left
//! out, from the coordinator's own clock; memory is a worker's peak.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let runs = std::env::args()
        .skip(1)
        .find_map(|a| a.parse().ok())
        .unwrap_or(3);
    println!(
        "{:<34} {:>12} {:>10} {:>10} {:>12} {:>8}",
        "", "samples/s", "min", "max", "first step s", "RSS MB"
    );
    let mut ours: Vec<Vec<Measured>> = vec![Vec::new(); 2];
    let mut theirs: Vec<Vec<Measured>> = vec![Vec::new(); 2];
    for run in 0..runs {
        for workers in [1, 2] {
            ours[workers - 1].push(ebbtide(workers, run));
            if let Some(measured) = torch(workers, run) {
                theirs[workers - 1].push(measured);
            }
        }
    }
    for workers in [1, 2] {
        row(&format!("ebbtide, {workers} worker(s)"), &ours[workers - 1]);
        row(
            &format!("torch, {workers} process(es)"),
            &theirs[workers - 1],
        );
    }
    if theirs[0].is_empty() {
        println!("(torch beside it: set PEERS_DIR and PEERS_SCRIPTS)");
    }
}

#[derive(Clone, Copy)]
struct Measured {
    samples_per_second: f64,
    first_step_seconds: f64,
    memory_mb: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(name: &str, measured: &[Measured]) {
    if measured.is_empty() {
        return;
    }
    let rates: Vec<f64> = measured.iter().map(|m| m.samples_per_second).collect();
    println!(
        "{name:<34} {:>12.0} {:>10.0} {:>10.0} {:>12.2} {:>8.0}",
        median(rates.clone()),
        rates.iter().copied().fold(f64::INFINITY, f64::min),
        rates.iter().copied().fold(0.0, f64::max),
        median(measured.iter().map(|m| m.first_step_seconds).collect()),
        median(measured.iter().map(|m| m.memory_mb).collect()),
    );
}

/// One run of four epochs without evaluation.
fn ebbtide(workers: usize, run: usize) -> Measured {
    let out = scratch(&format!("step-{workers}-{run}"));
    let log = out.join("steps");
    let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist.toml");
    let started = SystemTime::now();
    let status = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .arg("run")
        .arg(job)
        .args(["--workers", &workers.to_string(), "--json"])
        .args(["--set", "evaluation.every=never", "--set", "train.epochs=4"])
        .arg("--out")
        .arg(&out)
        .env("EBBTIDE_LEDGER", &log)
        .stdout(Stdio::null())
        .status()
        .expect("ebbtide");
    assert!(status.success(), "the job trains");
    let steps = ledger(&log);
    let _ = std::fs::remove_dir_all(&out);
    let tail: Vec<&(f64, u64, f64)> = steps.iter().filter(|s| s.1 >= 938).collect();
    let (first, last) = (tail[0], tail[tail.len() - 1]);
    Measured {
        samples_per_second: (last.1 - first.1) as f64 * 64.0 / (last.0 - first.0),
        first_step_seconds: steps[0].0 - seconds(started),
        memory_mb: last.2,
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A ledger: time, steps applied, and a worker's peak memory in MB.
fn ledger(log: &Path) -> Vec<(f64, u64, f64)> {
    let text = std::fs::read_to_string(log).expect("a ledger");
    let mut steps: Vec<(f64, u64, f64)> = text
        .lines()
        .filter_map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).ok()?;
            Some((
                record["time"].as_f64()?,
                record["step"].as_u64()?,
                record["memory_mb"].as_f64()?,
            ))
        })
        .collect();
    steps.sort_by_key(|step| step.1);
    steps.dedup_by_key(|s| s.1);
    steps
}

/// The same workload in torch, alone or with DDP over gloo.
fn torch(workers: usize, run: usize) -> Option<Measured> {
    let folder = PathBuf::from(std::env::var("PEERS_DIR").ok()?);
    let scripts = std::env::var("PEERS_SCRIPTS").ok()?;
    let port = 29_600 + (std::process::id() as usize + run) % 1000;
    let children: Vec<_> = (0..workers)
        .map(|rank| {
            // Each on a core of its own, which suits torch best.
            let mut command = Command::new("taskset");
            command
                .args(["-c", &rank.to_string()])
                .arg(folder.join("torch/bin/python"))
                .args([
                    "train_torch.py",
                    "--work",
                    "A",
                    "--steps",
                    "1500",
                    "--threads",
                    "1",
                ])
                .current_dir(&scripts)
                .env("PEERS_DIR", &folder)
                .env("OMP_NUM_THREADS", "1")
                .stdout(Stdio::piped());
            if workers > 1 {
                command
                    .env("RANK", rank.to_string())
                    .env("WORLD_SIZE", workers.to_string())
                    .env("MASTER_ADDR", "127.0.0.1")
                    .env("MASTER_PORT", port.to_string());
            }
            command.spawn().expect("torch's python")
        })
        .collect();
    let mut measured = None;
    for child in children {
        let output = child.wait_with_output().expect("a child that ends");
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            if let Ok(found) = serde_json::from_str::<serde_json::Value>(line) {
                measured = Some(Measured {
                    samples_per_second: found["per_s"].as_f64()?,
                    first_step_seconds: found["first_step_s"].as_f64()?,
                    memory_mb: found["rss_mb"].as_f64()?,
                });
            }
        }
    }
    measured
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ebbtide-bench-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}
