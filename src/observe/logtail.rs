//! A worker's last log lines, kept in memory.
//!
//! When a worker fails, its node may be gone a moment later, and its log file
//! with it. So the last lines and the last error are at hand to be sent to the
//! coordinator, in bounded memory whatever is logged.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that a [`LogTail`] keeps.
pub const TAIL_LINES_MAX: usize = 64;
/// Bytes that a [`LogTail`] keeps.
pub const TAIL_BYTES_MAX: usize = 8 << 10;
/// A single line is cut here.
const TAIL_LINE_BYTES_MAX: usize = 1 << 10;

/// The last log lines and the last error, in bounded memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<TailState>>);

#[derive(Debug, Default)]
struct TailState {
    lines: VecDeque<String>,
    bytes: usize,
    last_error: Option<String>,
}

impl LogTail {
    /// Nothing said yet.
    pub fn new() -> LogTail {
        LogTail::default()
    }

    /// The last lines, oldest first: at most [`TAIL_LINES_MAX`] and
    /// [`TAIL_BYTES_MAX`].
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// The last line of level error.
    pub fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// Adds a line, cut where it is too long.
    pub fn push(&self, level: Level, text: &str) {
        let mut line = format!("{level} ");
        line.push_str(text);
        truncate(&mut line, TAIL_LINE_BYTES_MAX);
        let mut state = self.lock();
        if level == Level::ERROR {
            state.last_error = Some(line["ERROR ".len()..].to_owned());
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        while state.lines.len() > TAIL_LINES_MAX || state.bytes > TAIL_BYTES_MAX {
            let gone = state.lines.pop_front().map_or(0, |line| line.len());
            state.bytes -= gone;
        }
    }

    fn lock(&self) -> MutexGuard<'_, TailState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for LogTail {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text {
            line: format!("{}:", metadata.target()),
        };
        event.record(&mut text);
        self.push(*metadata.level(), &text.line);
    }
}

/// `target: message field=value …`, of bounded length whatever is logged.
struct Text {
    line: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut bounded = Bounded {
            line: &mut self.line,
        };
        // An error here only means that the line is full.
        let _ = match field.name() {
            "message" => write!(bounded, " {value:?}"),
            name => write!(bounded, " {name}={value:?}"),
        };
    }
}

/// Stops a formatter that would write without end.
struct Bounded<'a> {
    line: &'a mut String,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.line.push_str(text);
        if self.line.len() > TAIL_LINE_BYTES_MAX {
            truncate(self.line, TAIL_LINE_BYTES_MAX);
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Cuts at a character's start.
fn truncate(line: &mut String, bytes_max: usize) {
    if line.len() > bytes_max {
        line.truncate(line.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    fn traced(tail: &LogTail, f: impl FnOnce()) {
        let subscriber = Registry::default().with(tail.clone());
        tracing::subscriber::with_default(subscriber, f);
    }

    #[test]
    fn the_tail_keeps_the_last_lines_and_the_last_error() {
        let tail = LogTail::new();
        traced(&tail, || {
            tracing::error!(step = 12, "no gradient");
            for i in 0..100 {
                tracing::info!(target: "ebbtide::worker", worker = 2, name = "spot", "line {i}");
            }
        });
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES_MAX);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("INFO ebbtide::worker: line 99 worker=2 name=\"spot\"")
        );
        let error = tail.last_error().expect("one");
        assert!(error.ends_with(": no gradient step=12"), "{error}");
    }

    #[test]
    fn the_tail_is_bounded_whatever_is_logged() {
        let tail = LogTail::new();
        traced(&tail, || {
            for _ in 0..20 {
                tracing::warn!("{}", "ä".repeat(1 << 20));
            }
        });
        let lines = tail.lines();
        assert!(lines.iter().map(String::len).sum::<usize>() <= TAIL_BYTES_MAX);
        assert!(
            lines
                .iter()
                .all(|l| l.len() <= TAIL_LINE_BYTES_MAX && l.ends_with('ä'))
        );
        assert_eq!(lines.len(), 8);
    }
}
