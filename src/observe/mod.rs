//! What a person sees: progress lines, metrics, events, the run's history.
//!
//! Everything that happens reaches a person by one of three roads, and a
//! record of it stays behind on another:
//!
//! ```text
//!              EpochLine --------> Screen --------------> terminal or pipe
//!   coordinator Event -----------> headline -> Screen
//!        |        `--------------> EventLog   -> events.jsonl  --.
//!        |--- MetricsRecord -----> MetricsLog -> metrics.jsonl --+--> History
//!        `--- generation --------------------------------------- '    (history.sqlite)
//!   worker: tracing -> logs/worker-N.log, and LogTail -> sent when it fails
//! ```
//!
//! | file | concern |
//! |---|---|
//! | [`progress`] | one epoch as one line, fitted to the terminal's width (pure) |
//! | [`screen`] | draws the line in place, prints what happened above it |
//! | [`joinline`] | what the coordinator prints at start: address, line to join with |
//! | [`stall`] | no wait over ten seconds is silent (pure) |
//! | [`summary`] | how a run ended, for a person and for a script (`--json`) |
//! | [`events`], [`headline`] | what happened, as records and as sentences |
//! | [`labels`] | generations and workers in records, as people write them |
//! | [`steps`] | of each step its sum's name and its time |
//! | [`metrics`] | loss curves and state digests, each round once |
//! | [`jsonl`] | files of JSON lines that survive a torn last line |
//! | [`history`] | `history.sqlite`: runs, metrics, events, generations, counters, workers |
//! | [`telemetry`] | tracing to stderr, a capped file or above the bar |
//! | [`logtail`] | a worker's last log lines, to be sent when it fails |
//!
//! No function here reads a clock: a caller passes [`UnixMillis`] for records
//! and a monotonic [`std::time::Duration`] for what is paced. The exception is
//! the time stamp that `tracing` puts on log lines.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub mod events;
pub mod headline;
pub mod history;
pub mod joinline;
pub mod jsonl;
pub mod labels;
pub mod logtail;
pub mod metrics;
pub mod progress;
pub mod screen;
pub mod stall;
pub mod steps;
pub mod summary;
pub mod telemetry;

pub use events::{Event, EventLog};
pub use history::History;
pub use logtail::LogTail;
pub use metrics::{MetricsKind, MetricsLog, MetricsRecord};
pub use progress::EpochLine;
pub use screen::{Screen, Terminal};
pub use stall::StallWatch;
pub use steps::StepsFile;
pub use summary::Summary;

/// Milliseconds since 1970-01-01 UTC. In JSON: seconds, with the milliseconds
/// as the fraction, so that a record reads like `1763885000.123`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// As seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.seconds())
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // A float-to-integer cast saturates, so any number is harmless here.
        Ok(UnixMillis((seconds * 1000.0).round() as u64))
    }
}

/// Names and error texts come from other machines. Printed as they are, an
/// escape sequence in one could rewrite what a person sees, so every control
/// character (and the invisible ones that reorder text) becomes `?`.
pub fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if hidden(c) { '?' } else { c })
        .collect()
}

/// `1 worker`, `2 workers`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// At most eight names, then how many more: `a, b and 3 more`.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 8;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| printable(n.as_ref()))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_reads_as_seconds_in_json_and_comes_back() {
        let json = serde_json::to_string(&UnixMillis(1_763_885_000_123)).expect("serialises");
        assert_eq!(json, "1763885000.123");
        let back: UnixMillis = serde_json::from_str(&json).expect("parses");
        assert_eq!(back, UnixMillis(1_763_885_000_123));
    }

    #[test]
    fn a_hostile_name_cannot_move_the_cursor() {
        assert_eq!(printable("spot\x1b[2J\r\n\u{202e}gpj"), "spot?[2J???gpj");
        assert_eq!(printable("Zürich 東京"), "Zürich 東京");
    }

    #[test]
    fn long_lists_end_in_a_number() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        let many: Vec<String> = (0..11).map(|i| i.to_string()).collect();
        assert_eq!(listed(&many), "0, 1, 2, 3, 4, 5, 6, 7 and 3 more");
    }
}
