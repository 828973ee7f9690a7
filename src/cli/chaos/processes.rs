//! The processes that chaos plays with: how they are started, and what the
//! operating system is told about them.

use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::super::args::RunArgs;
use super::super::run::worker_command;
use super::crew::Condition;
use crate::collective::Token;

/// Below the ports that systems give to outgoing connections: a worker that
/// looks for a coordinator that is away must not get its very port.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// A ledger that has grown to this has been read: it begins anew.
const LEDGER_BYTES_MAX: u64 = 1 << 20;

/// What all processes are started with.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub args: &'a RunArgs,
    /// Logs and ledgers of the processes.
    pub folder: PathBuf,
    pub port: u16,
    pub token: Token,
}

/// A port of this machine where nobody listens.
pub(super) fn free_port() -> std::io::Result<u16> {
    let width = PORTS.end - PORTS.start;
    let first = (std::process::id() % u32::from(width)) as u16;
    let candidates = (0..width).map(|n| PORTS.start + (first + n) % width);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut free = candidates.filter(is_free);
    free.next()
        .ok_or_else(|| std::io::ErrorKind::AddrInUse.into())
}

impl Stage<'_> {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `first`: it may begin a run. Each later one goes on with it.
    pub fn coordinator(&self, first: bool) -> std::io::Result<Child> {
        let common = &self.args.common;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("coordinator").arg("--job").arg(&self.args.job);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--world-size", "auto", "--json", "--exit-with-parent"]);
        command.args(["--min-world-size", &common.min_world_size.to_string()]);
        command.args(["--spares", &common.spares.to_string()]);
        command.args(["--patience", &common.patience.as_secs_f64().to_string()]);
        if let Some(out) = &common.out {
            command.arg("--out").arg(out);
        }
        if let Some(url) = &common.checkpoint {
            command.args(["--checkpoint", url]);
        }
        for set in &common.set {
            command.args(["--set", set]);
        }
        if let Some(most) = common.max_world_size {
            command.args(["--max-world-size", &most.to_string()]);
        }
        if first && common.new {
            command.arg("--new");
        }
        if let (true, Some(fork)) = (first, &common.from) {
            command.args(["--from", &format!("{}@{}", fork.run, fork.step)]);
        }
        command
            .env("EBBTIDE_TOKEN", self.token.expose())
            .env_remove("EBBTIDE_NEW")
            .env_remove("EBBTIDE_FROM")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    pub fn worker(&self, number: usize) -> std::io::Result<Worker> {
        let log = self.folder.join(format!("worker-{number}.log"));
        let ledger = self.folder.join(format!("worker-{number}.ledger"));
        let mut command = worker_command(self.args, &self.url(), &self.token, number, &log)?;
        let child = command.env("EBBTIDE_LEDGER", &ledger).spawn()?;
        Ok(Worker {
            child,
            condition: Condition::Well,
            log,
            ledger: Ledger::new(ledger),
        })
    }
}

/// What a coordinator says; each start has its number.
#[derive(Debug)]
pub(super) enum Said {
    Line(String),
    End(usize),
}

/// Passes on what it prints, until it ends.
pub(super) fn listen(child: &mut Child, start: usize, to: mpsc::Sender<Said>) {
    let Some(stdout) = child.stdout.take() else {
        return;
    };
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if to.send(Said::Line(line)).await.is_err() {
                return;
            }
        }
        let _ = to.send(Said::End(start)).await; // nobody listens any more
    });
}

/// A worker's process and what it leaves behind.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    pub condition: Condition,
    pub log: PathBuf,
    pub ledger: Ledger,
}

impl Worker {
    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) {
        tell(&self.child, signal);
    }

    pub fn process(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// SIGKILL, and no process afterwards.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await; // it may have ended meanwhile
    }

    /// Waits for its end.
    pub async fn wait(&mut self) {
        let _ = self.child.wait().await;
    }
}

/// One that has ended hears nothing: as long as we haven't asked how, its
/// number is nobody else's.
pub(super) fn tell(child: &Child, signal: Signal) {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(process) = number.and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

/// The rounds that a worker has applied, as they come.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    read: u64,
    pub last: Option<String>,
}

impl Ledger {
    fn new(path: PathBuf) -> Ledger {
        Ledger {
            path,
            read: 0,
            last: None,
        }
    }

    /// Round and time of what has come since, of a member's.
    pub fn news(&mut self) -> Vec<(u64, f64)> {
        let text = self.read_on().unwrap_or_default();
        let entries = text.lines().filter_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_member = entry["member"].as_bool()?;
            let applied = (entry["round"].as_u64()?, entry["time"].as_f64()?);
            is_member.then_some(applied)
        });
        let news = entries.collect();
        if let Some(line) = text.lines().last() {
            self.last = Some(line.to_owned());
        }
        news
    }

    /// Whole lines only: the last one may still be written.
    fn read_on(&mut self) -> std::io::Result<String> {
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        self.read += text.len() as u64;
        if self.read > LEDGER_BYTES_MAX {
            file.set_len(0)?;
            self.read = 0;
        }
        Ok(text)
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
