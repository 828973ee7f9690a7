//! A command from its start to its end, as a person types it.

use std::path::Path;
use std::process::{Command, ExitStatus};

use serde_json::Value;

use super::process::Process;

/// What a command came to.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Starts the command and waits for its end.
pub fn to_its_end(command: &mut Command) -> Ended {
    Ended::of(Process::start("the command", command))
}

impl Ended {
    /// Waits for the end of the process.
    pub fn of(mut process: Process) -> Ended {
        Ended {
            status: process.end(),
            stdout: process.stdout.all().join("\n"),
            stderr: process.stderr.all().join("\n"),
        }
    }

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

/// The records of a `.jsonl` file.
pub fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(Result::unwrap).collect()
}
