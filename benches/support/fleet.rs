//! A coordinator and workers for benches, as processes; what the workers have
//! done is read from their ledgers.

#![allow(dead_code, reason = "each bench uses a part of it")]

#[path = "../../tests/support/proxy.rs"]
mod proxy;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy::{Proxy, Way};

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// A coordinator that never ends, until it is dropped.
pub struct Fleet {
    coordinator: Child,
    url: String,
    folder: PathBuf,
    workers: usize,
}

impl Fleet {
    /// The MNIST job, changed by these settings, for a first world of so many.
    pub fn start(folder: &Path, world_size: usize, settings: &[&str]) -> Fleet {
        Fleet::start_with(folder, world_size, settings, &[])
    }

    /// The same, with more flags for the coordinator.
    pub fn start_with(
        folder: &Path,
        world_size: usize,
        settings: &[&str],
        flags: &[&str],
    ) -> Fleet {
        let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist.toml");
        let mut coordinator = Command::new(env!("CARGO_BIN_EXE_coordinator"))
            .args(["--world-size", &world_size.to_string()])
            .args(["--max-world-size", "32", "--listen", "127.0.0.1:0", "--job"])
            .arg(job)
            .args([
                "--set",
                "train.epochs=100000",
                "--set",
                "evaluation.every=never",
            ])
            .args(["--set", "checkpoint.every=1000000 steps"])
            .args(settings.iter().flat_map(|s| ["--set", s]))
            .args(flags)
            .arg("--out")
            .arg(folder.join("runs"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the coordinator");
        let mut lines = BufReader::new(coordinator.stdout.take().expect("piped")).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|l| {
                l.split_whitespace()
                    .find(|w| w.starts_with("http://"))
                    .map(str::to_owned)
            })
            .expect("the address to join at");
        std::thread::spawn(move || lines.for_each(drop));
        Fleet {
            coordinator,
            url,
            folder: folder.to_owned(),
            workers: 0,
        }
    }

    /// Workers that have left so far.
    pub fn departures(&self) -> usize {
        let runs = std::fs::read_dir(self.folder.join("runs")).expect("the runs");
        let events = runs.flatten().map(|run| run.path().join("events.jsonl"));
        let texts = events.filter_map(|file| std::fs::read_to_string(file).ok());
        texts
            .map(|text| text.matches("\"worker_left\"").count())
            .sum()
    }

    /// One more worker.
    pub fn worker(&mut self) -> Worker {
        self.worker_at("")
    }

    /// One more, whose host can be made to vanish: the later ones and the
    /// coordinator are connected with it through proxies.
    pub fn worker_behind(&mut self) -> Worker {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listens = free.local_addr().expect("its address").to_string();
        drop(free);
        let coordinator = self.url.trim_start_matches("http://");
        let net = [Proxy::to(coordinator), Proxy::to(&listens)];
        let [control, peers] = net.each_ref().map(Proxy::address);
        let flags = [
            "--coordinator",
            &control,
            "--peer-listen",
            &listens,
            "--advertise",
            &peers,
        ];
        let mut worker = self.start_worker(&flags, "");
        worker.net = Some(net);
        worker
    }

    /// One more, each of whose micro-batches takes so long (`EBBTIDE_PACE`).
    pub fn worker_at(&mut self, pace: &str) -> Worker {
        let url = self.url.clone();
        self.start_worker(&["--coordinator", &url], pace)
    }

    fn start_worker(&mut self, flags: &[&str], pace: &str) -> Worker {
        self.workers += 1;
        let ledger = self.folder.join(format!("ledger-{}", self.workers));
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command
            .args(flags)
            .arg("--exit-with-parent")
            .env("EBBTIDE_LEDGER", &ledger)
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        if !pace.is_empty() {
            command.env("EBBTIDE_PACE", pace);
        }
        let child = command.spawn().expect("a worker");
        Worker {
            child,
            ledger,
            net: None,
        }
    }

    /// Micro-batches that were computed again, as the run's events say.
    pub fn recomputed(&self) -> u64 {
        let runs = std::fs::read_dir(self.folder.join("runs")).expect("the folder of the runs");
        let logs = runs.flatten().map(|run| run.path().join("events.jsonl"));
        let text: String = logs.flat_map(std::fs::read_to_string).collect();
        let again = text.lines().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["recomputed_micro_batches"].as_u64()
        });
        again.sum()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.coordinator.kill();
        let _ = self.coordinator.wait();
    }
}

/// A worker that is killed when it is dropped.
pub struct Worker {
    pub child: Child,
    ledger: PathBuf,
    net: Option<[Proxy; 2]>,
}

/// A round that it has applied.
pub struct Line {
    pub time: f64,
    pub generation: String,
    pub member: bool,
}

impl Worker {
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Its host vanishes: nothing arrives, and nobody is told.
    pub fn vanish(&self) {
        let net = self.net.as_ref().expect("a worker behind proxies");
        net.iter()
            .for_each(|proxy| proxy.swallow(&[Way::In, Way::Out]));
    }

    /// All rounds so far.
    pub fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let fields: BTreeMap<String, serde_json::Value> =
                    serde_json::from_str(line).ok()?;
                Some(Line {
                    time: fields.get("time")?.as_f64()?,
                    generation: fields.get("generation")?.as_str()?.to_owned(),
                    member: fields.get("member")?.as_bool()?,
                })
            })
            .collect()
    }

    pub fn first_contribution(&self) -> Option<Line> {
        self.lines().into_iter().find(|l| l.member)
    }

    pub fn wait_for_contribution(&self) {
        for _ in 0..3000 {
            if self.first_contribution().is_some() {
                // A few steps more, so that one event doesn't run into the next.
                std::thread::sleep(Duration::from_millis(100));
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("a worker did not contribute within a minute");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
