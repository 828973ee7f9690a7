//! One process of a fleet; killed when it is dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::lines::Lines;

/// A running coordinator or worker, and all that it says.
pub struct Process {
    name: String,
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't be started: {error}"));
        let stdout = Lines::of(child.stdout.take().unwrap(), None);
        let stderr = Lines::of(child.stderr.take().unwrap(), None);
        Process {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// SIGKILL, and no process afterwards.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "kill {signal} {}", self.name);
    }

    /// The most memory it has had at once, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|l| l.trim().strip_suffix(" kB")).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Waits until it has ended by itself.
    pub fn end(&mut self) -> ExitStatus {
        self.stdout.wait_for_end(&self.name);
        self.stdout.wait_for_end(&self.name);
        self.stderr.wait_for_end(&self.name);
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for line in self.stdout.all().iter().chain(&self.stderr.all()) {
                eprintln!("{:>12} | {line}", self.name);
            }
        }
    }
}

/// The program of this example. `cargo test` builds examples beside the tests:
/// TARGET/PROFILE/examples.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    let shown = program.display();
    assert!(
        program.exists(),
        "cargo build --example {name} makes {shown}"
    );
    program
}

/// A folder of a test's own, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebbtide-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Of a killed process that had our number.
        std::fs::remove_dir_all(&path).ok();
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

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
