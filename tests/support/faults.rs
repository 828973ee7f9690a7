//! What a process was told to suffer, and what of it has happened.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lines::Lines;

/// Ends the reading of a log.
const LAST_LINE: &str = "the test is over";

/// The faults that have struck the processes that write here
/// (`EBBTIDE_FAULT_LOG`), in their order.
pub struct FaultLog {
    pub path: PathBuf,
    lines: Lines,
    end: File,
}

impl FaultLog {
    pub fn new(path: PathBuf) -> FaultLog {
        let end = fifo(&path);
        let lines = Lines::of(end.try_clone().unwrap(), Some(LAST_LINE));
        FaultLog { path, lines, end }
    }

    /// Waits until this one has struck.
    pub fn wait(&self, who: &str, fault: &str) {
        self.lines.wait(who, fault);
    }

    /// Waits until so many have struck: the first ones.
    pub fn first(&self, who: &str, count: usize) -> Vec<String> {
        self.lines.first(who, count)
    }

    /// All that have struck; nobody writes any more.
    pub fn all(&mut self, who: &str) -> Vec<String> {
        writeln!(self.end, "{LAST_LINE}").unwrap();
        self.lines.wait_for_end(who);
        self.lines.all()
    }
}

impl Drop for FaultLog {
    fn drop(&mut self) {
        let _ = writeln!(self.end, "{LAST_LINE}"); // the reading thread ends
    }
}

/// A FIFO that never blocks us: both of its ends are open here.
pub fn fifo(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success(), "mkfifo {}", path.display());
    let both = File::options().read(true).write(true).open(path);
    both.unwrap()
}
