//! What is wrong with a job, in words that lead to the place to change.
//!
//! Every message reads `PLACE: KEY: PROBLEM`, where the place is a line of the
//! file or the `--set` that brought the value. All of them mean the same to
//! the caller: nothing has started, the person has to change the job (exit code 2).

use std::fmt;

/// A job that can't be run as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The job file itself can't be read.
    #[error("{file}: cannot read the job file: {reason}")]
    Unreadable {
        /// The path as given.
        file: String,
        /// What the operating system said, or the limit that was exceeded.
        reason: String,
    },
    /// The text is no TOML.
    #[error("{place}: {problem}")]
    Syntax {
        /// The line at which reading stopped making sense.
        place: Place,
        /// What the TOML reader expected there.
        problem: String,
    },
    /// A `--set` that isn't of the form `key=value`.
    #[error("--set {text}: {problem}")]
    Override {
        /// The text after `--set`.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that is unknown, missing, of the wrong type or of an impossible value.
    #[error("{place}: {key}: {problem}")]
    Key {
        /// Where the key, or the table that lacks it, was written.
        place: Place,
        /// The key's full path, such as `optimizer.lr`.
        key: String,
        /// What was expected, what was found, and the nearest valid key.
        problem: String,
    },
}

impl JobError {
    /// The full path of the key the error is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            JobError::Key { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// Where a value of a job was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Somewhere in this file: the place of what isn't there.
    File(String),
    /// A line of the file, counted from 1.
    Line {
        /// The file as it was named.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// An override on the command line.
    Set(String),
    /// Another flag with its value, such as `--data /mnt/mnist`.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => f.write_str(file),
            Place::Line { file, line } => write!(f, "{file}:{line}"),
            Place::Set(text) => write!(f, "--set {text}"),
            Place::Flag(text) => f.write_str(text),
        }
    }
}
