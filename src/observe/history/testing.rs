//! What tests read back; people read the file with SQL of their own.

use rusqlite::params;

use super::{History, HistoryError};
use crate::observe::MetricsKind;

impl History {
    /// One curve: (step, value) in order of the rounds; `None` where the value
    /// wasn't finite.
    pub fn series(
        &self,
        run: &str,
        kind: MetricsKind,
        name: &str,
    ) -> Result<Vec<(u64, Option<f64>)>, HistoryError> {
        self.read("read a curve", |c| {
            c.prepare_cached(
                "SELECT step, value FROM metrics WHERE run = ?1 AND kind = ?2 AND name = ?3
                 ORDER BY round",
            )?
            .query_map(params![run, kind.name(), name], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
            })?
            .collect()
        })
    }

    /// The last events of a run, in their order, at most `limit`, as JSON.
    pub fn last_events(&self, run: &str, limit: u32) -> Result<Vec<String>, HistoryError> {
        let mut events: Vec<String> = self.read("read the events", |c| {
            c.prepare_cached(
                "SELECT record_json FROM events WHERE run = ?1 ORDER BY id DESC LIMIT ?2",
            )?
            .query_map(params![run, limit], |row| row.get(0))?
            .collect()
        })?;
        events.reverse();
        Ok(events)
    }
}
