//! `ebbtide` as a person starts it, and what it leaves behind.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Bounds a hang; no test depends on its length.
const HANG: Duration = Duration::from_secs(120);

/// A folder of a test's own, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebbtide-resume-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Another folder with the same files in it.
    pub fn copy(&self) -> Folder {
        let copy = Folder::new();
        for file in files(self.path()) {
            let to = copy.0.join(file.strip_prefix(self.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&file, to).unwrap();
        }
        copy
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All regular files below a folder.
pub fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path());
            }
        }
    }
    found
}

/// What a command came to.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The JSON object on the last line.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        let parsed = serde_json::from_str(last);
        parsed.unwrap_or_else(|error| panic!("{error} in {last:?}\n{}", self.all()))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{}", self.all());
        self
    }

    pub fn all(&self) -> String {
        format!("{}\n{}\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A started command; it and all that it started is killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<Receiver<String>>,
    stderr: Option<Receiver<String>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = Some(reading(child.stdout.take().unwrap()));
        let stderr = Some(reading(child.stderr.take().unwrap()));
        Running {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for the end of the command, and of all that hold its output.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let mut text = |from: Option<Receiver<String>>| {
            from.unwrap().recv_timeout(HANG).unwrap_or_else(|_| {
                let _ = self.child.kill();
                panic!("the command hangs")
            })
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let status = self.child.wait().unwrap();
        Ended {
            status,
            stdout,
            stderr,
        }
    }

    /// SIGKILL; workers see it by their standard input, and end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let ended = self.end();
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.all());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reading(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (done, text) = channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        let _ = done.send(String::from_utf8_lossy(&all).into_owned());
    });
    text
}

/// A FIFO that never blocks who opens it: both of its ends are open here.
pub struct Fifo {
    pub path: PathBuf,
    both: File,
}

impl Fifo {
    pub fn new(path: PathBuf) -> Fifo {
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success(), "mkfifo {}", path.display());
        let both = OpenOptions::new().read(true).write(true).open(&path);
        let both = both.unwrap();
        Fifo { path, both }
    }

    /// The next lines that somebody writes.
    #[track_caller]
    pub fn lines(&self, count: usize) -> Vec<String> {
        let (done, lines) = channel();
        let from = BufReader::new(self.both.try_clone().unwrap());
        std::thread::spawn(move || {
            let lines: Vec<String> = from.lines().map_while(Result::ok).take(count).collect();
            let _ = done.send(lines);
        });
        let lines = lines.recv_timeout(HANG);
        lines.unwrap_or_else(|_| panic!("not all of {count} faults struck"))
    }

    /// Lets so many readers go on.
    pub fn release(&mut self, readers: usize) {
        self.both.write_all(&vec![b'!'; readers]).unwrap();
    }
}

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

/// The records of a `.jsonl` file.
pub fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(Result::unwrap).collect()
}

/// The records of this `event`.
pub fn events(folder: &Path, event: &str) -> Vec<Value> {
    let mut all = records(&folder.join("events.jsonl"));
    all.retain(|record| record["event"] == event);
    all
}
