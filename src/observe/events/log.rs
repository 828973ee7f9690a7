//! The open `events.jsonl` of a run: a line for each event, once for those that
//! every member tells.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Event, EventRecord};
use crate::observe::UnixMillis;
use crate::observe::history::{History, HistoryError};
use crate::observe::jsonl::{JsonLines, JsonLinesError};

/// Decisions that are remembered one by one, so that each is written once.
const TOLD_MAX: usize = 4096;

/// What can go wrong: with the file, or with the history beside it.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// `events.jsonl`.
    #[error(transparent)]
    File(#[from] JsonLinesError),
    /// `history.sqlite`.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Decisions already written, in bounded memory.
#[derive(Debug, Default)]
struct Told(BTreeSet<(u64, String)>);

impl Told {
    fn knows(&self, event: &Event) -> bool {
        event
            .identity()
            .is_some_and(|identity| self.0.contains(&identity))
    }

    fn learn(&mut self, event: &Event) {
        if let Event::RunResumed { round, .. } = event {
            // What comes after the checkpoint is decided again.
            self.0.split_off(&(round.saturating_add(1), String::new()));
        }
        self.0.extend(event.identity());
        if self.0.len() > TOLD_MAX {
            self.0.pop_first();
        }
    }
}

/// The open file of one run.
#[derive(Debug)]
pub struct EventLog {
    lines: JsonLines,
    run: String,
    told: Told,
    history: Option<History>,
}

impl EventLog {
    /// Opens `path` for the run, repairs a torn last line, and finds out which
    /// decisions it holds. With a history, records are copied to it.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn open(path: &Path, run: &str, history: Option<History>) -> Result<Self, EventLogError> {
        let (lines, tail) = JsonLines::open(path)?;
        let mut told = Told::default();
        for line in tail.lines() {
            if let Ok(record) = serde_json::from_slice::<EventRecord>(line) {
                told.learn(&record.event);
            }
        }
        Ok(EventLog {
            lines,
            run: run.to_owned(),
            told,
            history,
        })
    }

    /// Writes what happened, as one line, at once, and returns the record. A
    /// decision that every member takes alike (a skipped step, an epoch's end,
    /// early stopping) is written when the first tells of it; then `None`.
    ///
    /// # Errors
    /// [`EventLogError`]. If only the history fails, the line is in the file.
    pub fn record(
        &mut self,
        time: UnixMillis,
        event: Event,
    ) -> Result<Option<EventRecord>, EventLogError> {
        if self.told.knows(&event) {
            return Ok(None);
        }
        let record = EventRecord {
            time,
            run: self.run.clone(),
            event,
        };
        self.lines.append(&record)?;
        self.told.learn(&record.event);
        if let Some(history) = &self.history {
            history.put_event(&record)?;
        }
        Ok(Some(record))
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// [`EventLogError::File`].
    pub fn sync(&self) -> Result<(), EventLogError> {
        Ok(self.lines.sync()?)
    }
}
