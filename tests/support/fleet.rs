//! A coordinator and workers that come and go as a test says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use ebbtide::exact::SumDigest;
use ebbtide::observe::steps::{STEPS_FILE, read_steps};
use serde_json::Value;

use super::ended::{Ended, records, to_its_end};
use super::faults::{FaultLog, fifo};
use super::process::{Folder, Process};
use super::reference::{Reference, reference};

/// Stands for the FIFO of a worker's holds in its faults.
pub const HOLD: &str = "until=HOLD";

struct Worker {
    process: Process,
    faults: String,
    /// Its faults may be overtaken by the end of the run.
    perhaps: bool,
    struck: FaultLog,
    hold: File,
    ledger: PathBuf,
    /// The test has killed it.
    killed: bool,
}

/// A run with its processes.
pub struct Fleet {
    job: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    folder: Folder,
    /// The coordinator's own disk, in the folder.
    out: &'static str,
    coordinator: Process,
    address: String,
    workers: BTreeMap<String, Worker>,
}

/// What a run came to.
pub struct Outcome {
    pub summary: Value,
    pub events: Vec<Value>,
    /// The sums of the steps, as the run's folder has them.
    pub sums: Vec<Option<SumDigest>>,
    /// The run's folder, as long as this is there.
    pub run: PathBuf,
    _kept: Folder,
    /// Exit codes of the workers; `None` if killed.
    pub exits: BTreeMap<String, Option<i32>>,
    /// What each worker applied.
    pub ledgers: BTreeMap<String, Vec<Value>>,
    pub reference: std::sync::Arc<Reference>,
}

impl Fleet {
    /// Starts a coordinator for the job with these flags.
    pub fn start(job: &str, flags: &[&str]) -> Fleet {
        Fleet::start_with(job, flags, &[])
    }

    /// The same, in this environment, which a shadow has as well.
    pub fn start_with(job: &str, flags: &[&str], environment: &[(&str, &str)]) -> Fleet {
        let folder = Folder::new();
        std::fs::write(folder.path().join("job.toml"), job).unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let out = "out";
        let told = (&flags[..], &environment[..]);
        let (coordinator, address) = coordinator(&folder, out, "127.0.0.1:0", told);
        Fleet {
            job: job.to_owned(),
            flags,
            environment,
            folder,
            out,
            coordinator,
            address,
            workers: BTreeMap::new(),
        }
    }

    /// Starts a worker that meets these faults, and waits until it is known:
    /// workers are numbered in the order of these calls.
    pub fn hire(&mut self, name: &str, faults: &str) {
        self.hire_with(name, faults, &[]);
    }

    pub fn hire_with(&mut self, name: &str, faults: &str, flags: &[&str]) {
        self.hire_at_a_pace("", name, faults, flags);
    }

    /// Each of its micro-batches takes so long (`EBBTIDE_PACE`), if anything is said.
    pub fn hire_at_a_pace(&mut self, pace: &str, name: &str, faults: &str, flags: &[&str]) {
        let path = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        let (hold, ledger) = (path("hold"), path("ledger"));
        let (struck, release) = (FaultLog::new(path("faults")), fifo(&hold));
        let until = format!("until={}", hold.display());
        let direct = ["--coordinator", &self.address];
        let node = ["--node", name];
        let node: &[&str] = match flags.contains(&"--node") {
            true => &[],
            false => &node,
        };
        let direct: &[&str] = match flags.contains(&"--coordinator") {
            true => &[],
            false => &direct,
        };
        let process = Process::start(
            name,
            Command::new(env!("CARGO_BIN_EXE_worker"))
                .arg("--exit-with-parent")
                .args(node)
                .args(direct)
                .args(flags)
                .env("EBBTIDE_FAULT", faults.replace(HOLD, &until))
                .env("EBBTIDE_FAULT_LOG", &struck.path)
                .env("EBBTIDE_LEDGER", &ledger)
                .envs((!pace.is_empty()).then_some(("EBBTIDE_PACE", pace))),
        );
        process.stderr.wait(name, "registered");
        let worker = Worker {
            process,
            faults: faults.to_owned(),
            perhaps: false,
            struck,
            hold: release,
            ledger,
            killed: false,
        };
        self.workers.insert(name.to_owned(), worker);
    }

    /// A worker that isn't taken: what it ends with.
    pub fn turned_away(&self, node: &str) -> Ended {
        to_its_end(
            Command::new(env!("CARGO_BIN_EXE_worker"))
                .args(["--node", node, "--exit-with-parent"])
                .args(["--coordinator", &self.address]),
        )
    }

    /// Starts a worker whose faults may be overtaken by the run's end.
    pub fn hire_perhaps(&mut self, name: &str, faults: &str) {
        self.hire(name, faults);
        self.worker(name).perhaps = true;
    }

    fn worker(&mut self, name: &str) -> &mut Worker {
        self.workers.get_mut(name).unwrap()
    }

    /// Waits until a fault of this worker has struck.
    pub fn struck(&mut self, name: &str, fault: &str) {
        self.worker(name).struck.wait(name, fault);
    }

    /// Ends one hold of this worker.
    pub fn release(&mut self, name: &str) {
        self.worker(name).hold.write_all(b"!").unwrap();
    }

    pub fn kill(&mut self, name: &str) {
        let worker = self.worker(name);
        worker.process.kill();
        worker.killed = true;
    }

    /// Waits until this worker has ended by itself.
    pub fn ends(&mut self, name: &str) {
        self.worker(name).process.end();
    }

    pub fn terminate(&mut self, name: &str) {
        self.worker(name).process.signal("-TERM");
    }

    pub fn signal(&mut self, name: &str, signal: &str) {
        self.worker(name).process.signal(signal);
    }

    /// Ctrl-C.
    pub fn interrupt(&mut self, name: &str) {
        self.worker(name).process.signal("-INT");
    }

    #[cfg(target_os = "linux")]
    pub fn peak_memory(&mut self, name: &str) -> u64 {
        self.worker(name).process.peak_memory()
    }

    /// Waits until this worker says so.
    pub fn worker_said(&mut self, name: &str, text: &str) {
        self.worker(name).process.stderr.wait(name, text);
    }

    /// The checkpoint of this round.
    pub fn manifest(&self, round: u64) -> PathBuf {
        let mut runs = std::fs::read_dir(self.folder.path().join("out/checkpoints")).unwrap();
        let run = runs.next().unwrap().unwrap().path();
        run.join(format!("manifests/r{round:012}.json"))
    }

    /// The names of the steps' sums, in the run's folder.
    pub fn steps_file(&self) -> PathBuf {
        let runs = std::fs::read_dir(self.folder.path().join("out")).unwrap();
        let mut files = runs.flatten().map(|run| run.path().join(STEPS_FILE));
        files.find(|file| file.exists()).unwrap()
    }

    /// `HOST:PORT` of the coordinator.
    pub fn address(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// What `ebbtide status --json` says.
    pub fn status(&self, flags: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
            .args(["status", "--json", "--coordinator", &self.address])
            .args(flags)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the coordinator says so.
    pub fn said(&self, text: &str) -> String {
        self.coordinator.stdout.wait("the coordinator", text)
    }

    /// Whether the coordinator of this start has said so.
    pub fn has_said(&self, text: &str) -> bool {
        self.coordinator.stdout.contain(text)
    }

    /// Kills the coordinator and starts it again with the same command, at the
    /// same address.
    pub fn restart_coordinator(&mut self) {
        self.kill_coordinator();
        self.start_coordinator();
    }

    pub fn kill_coordinator(&mut self) {
        self.coordinator.kill();
    }

    pub fn signal_coordinator(&self, signal: &str) {
        self.coordinator.signal(signal);
    }

    /// Another coordinator of the same run starts on another node, with nothing
    /// of the first one's disk; the first one is left as it is.
    pub fn take_over(&mut self) -> Process {
        let store = self.folder.path().join("out/checkpoints");
        let store = ["--checkpoint".to_owned(), store.display().to_string()];
        self.flags.extend(store);
        self.out = "another-disk";
        let anywhere = "127.0.0.1:0";
        let told = (&self.flags[..], &self.environment[..]);
        let (second, address) = coordinator(&self.folder, self.out, anywhere, told);
        self.address = address;
        std::mem::replace(&mut self.coordinator, second)
    }

    /// All that the coordinator has on its own disk is gone.
    pub fn lose_disk(&self) {
        let out = self.folder.path().join("out");
        for folder in std::fs::read_dir(out).unwrap().flatten() {
            if folder.path().join("history.sqlite").exists() {
                std::fs::remove_dir_all(folder.path()).unwrap();
            }
        }
    }

    /// What coordinators have copied into the store is gone too.
    pub fn lose_copies(&self) {
        let runs = self.folder.path().join("out/checkpoints");
        for run in std::fs::read_dir(runs).unwrap().flatten() {
            std::fs::remove_dir_all(run.path().join("worlds")).unwrap();
        }
    }

    pub fn start_coordinator(&mut self) {
        let port = self.address.trim_start_matches("http://");
        let told = (&self.flags[..], &self.environment[..]);
        let (coordinator, address) = coordinator(&self.folder, self.out, port, told);
        (self.coordinator, self.address) = (coordinator, address);
    }

    /// The newest step that the run's folder tells of as finished.
    pub fn finished_steps(&self) -> u64 {
        let out = self.folder.path().join("out");
        let runs = std::fs::read_dir(out).unwrap().flatten();
        let mut runs = runs.map(|run| run.path().join(STEPS_FILE));
        let file = runs.find(|file| file.exists()).expect("a run");
        read_steps(&file).unwrap().len() as u64
    }

    /// Waits for the end of a run that fails; its summary and its events.
    pub fn fails(mut self) -> (Value, Vec<Value>) {
        let status = self.coordinator.end();
        let summary = self.coordinator.stdout.all();
        let summary: Value = serde_json::from_str(summary.last().expect("a summary")).unwrap();
        assert_eq!(status.code(), Some(1), "{summary}");
        for (name, worker) in &mut self.workers {
            worker.check_faults(name);
        }
        let run = self.folder.path().join(self.out);
        let run = run.join(summary["run"].as_str().unwrap());
        (summary, records(&run.join("events.jsonl")))
    }

    /// Waits for the end of the run and of all its processes, and checks what
    /// holds for every run: the digest of the undisturbed one, all faults
    /// struck, each sample summed once, nobody's work done again but the lost.
    pub fn finish(self) -> Outcome {
        let outcome = self.finish_after_a_mismatch();
        assert_eq!(outcome.count("state_mismatch"), 0);
        outcome
    }

    /// The same, where members may have held different states meanwhile.
    pub fn finish_after_a_mismatch(mut self) -> Outcome {
        let status = self.coordinator.end();
        let summary = self.coordinator.stdout.all();
        let summary: Value = serde_json::from_str(summary.last().expect("a summary")).unwrap();
        assert!(status.success(), "{status}: {summary}");
        let mut exits = BTreeMap::new();
        let mut ledgers = BTreeMap::new();
        for (name, worker) in &mut self.workers {
            let code = match worker.killed {
                true => None,
                false => worker.process.end().code(),
            };
            exits.insert(name.clone(), code);
            worker.check_faults(name);
            ledgers.insert(name.clone(), worker.ledger());
        }
        let run = summary["run"].as_str().unwrap();
        let run = self.folder.path().join(self.out).join(run);
        let steps = read_steps(&run.join(STEPS_FILE)).unwrap().into_iter();
        let outcome = Outcome {
            events: records(&run.join("events.jsonl")),
            sums: steps.map(|row| Some(row?.sum)).collect(),
            run,
            _kept: self.folder,
            reference: reference(&self.job),
            summary,
            exits,
            ledgers,
        };
        outcome.check();
        outcome
    }
}

fn coordinator(
    folder: &Folder,
    out: &str,
    listen: &str,
    (flags, environment): (&[String], &[(String, String)]),
) -> (Process, String) {
    let process = Process::start(
        "coordinator",
        Command::new(env!("CARGO_BIN_EXE_coordinator"))
            .arg("--job")
            .arg(folder.path().join("job.toml"))
            .arg("--out")
            .arg(folder.path().join(out))
            .args(["--listen", listen, "--json"])
            .args(flags)
            .envs(environment.iter().map(|(name, value)| (name, value))),
    );
    let line = process.stdout.wait("the coordinator", "join with");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (process, address)
}

impl Worker {
    fn check_faults(&mut self, name: &str) {
        let struck = self.struck.all(name);
        let promised = |fault: &&str| !fault.is_empty() && !self.perhaps;
        let faults = self.faults.split(';').filter(promised);
        for fault in faults {
            let told = fault.split(",until=").next().unwrap();
            let has = struck.iter().any(|line| line.contains(told));
            assert!(has, "{name}: {fault} never struck");
        }
    }

    fn ledger(&self) -> Vec<Value> {
        if self.ledger.exists() {
            records(&self.ledger)
        } else {
            Vec::new()
        }
    }
}
