//! What is recorded of a run while it goes on: metrics, events, workers.

use rusqlite::{Transaction, params};

use super::{Durability, History, HistoryError};
use crate::observe::MetricsRecord;
use crate::observe::events::{Event, EventRecord, WorkerInfo};

impl History {
    /// Records metrics in one transaction; what is there already stays as it is.
    ///
    /// # Errors
    /// The file's errors.
    pub fn put_metrics(&self, run: &str, records: &[MetricsRecord]) -> Result<(), HistoryError> {
        if records.is_empty() {
            return Ok(());
        }
        self.write("record metrics", Durability::Normal, |tx| {
            let mut value_row = tx.prepare_cached(
                "INSERT OR IGNORE INTO metrics (run, kind, round, name, value, step, epoch, time_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut digest_row = tx.prepare_cached(
                "INSERT OR IGNORE INTO digests (run, round, step, state_digest, chain, time_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for record in records {
                let round = self.integer("round", record.round)?;
                let step = self.integer("step", record.step)?;
                let epoch = self.integer("epoch", record.epoch)?;
                let time = self.integer("time", record.time.0)?;
                let kind = record.kind.name();
                for (name, value) in record.values() {
                    value_row.execute(params![run, kind, round, name, value, step, epoch, time])?;
                }
                if let Some(digest) = &record.state_digest {
                    digest_row.execute(params![run, round, step, digest, record.chain, time])?;
                }
            }
            Ok(())
        })
    }

    /// Removes what was recorded for rounds after this one; see
    /// [`MetricsLog::discard_after`](crate::observe::MetricsLog::discard_after).
    ///
    /// # Errors
    /// The file's errors.
    pub fn discard_metrics_after(&self, run: &str, round: u64) -> Result<(), HistoryError> {
        let round = self.integer("round", round)?;
        self.write("discard metrics", Durability::Normal, |tx| {
            tx.execute(
                "DELETE FROM metrics WHERE run = ?1 AND round > ?2",
                params![run, round],
            )?;
            tx.execute(
                "DELETE FROM digests WHERE run = ?1 AND round > ?2",
                params![run, round],
            )?;
            Ok(())
        })
    }

    /// Records an event; an event about a worker updates that worker too.
    ///
    /// # Errors
    /// The file's errors.
    pub fn put_event(&self, record: &EventRecord) -> Result<(), HistoryError> {
        let time = self.integer("time", record.time.0)?;
        let json = serde_json::to_string(record)
            .map_err(|e| self.bad(format!("an event can't be written as JSON: {e}")))?;
        self.write("record an event", Durability::Normal, |tx| {
            tx.prepare_cached(
                "INSERT INTO events (run, time_ms, event, record_json) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![record.run, time, record.event.name(), json])?;
            match &record.event {
                Event::WorkerRegistered(info) => put_worker(tx, &record.run, time, info)?,
                Event::WorkerJoined { worker, step, .. } => {
                    tx.execute(
                        "UPDATE workers SET joined_step = ?3, left_ms = NULL, left_reason = NULL
                         WHERE run = ?1 AND worker = ?2",
                        params![record.run, worker.to_string(), self.integer("step", *step)?],
                    )?;
                }
                Event::WorkerLeft { worker, reason, .. } => {
                    tx.execute(
                        "UPDATE workers SET left_ms = ?3, left_reason = ?4
                         WHERE run = ?1 AND worker = ?2",
                        params![record.run, worker.to_string(), time, reason.name()],
                    )?;
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// How many workers have registered for a run, ever; shadows are none.
    ///
    /// # Errors
    /// The file's errors.
    pub fn workers_seen(&self, run: &str) -> Result<u64, HistoryError> {
        self.read("count the workers", |c| {
            c.query_row(
                "SELECT count(*) FROM workers WHERE run = ?1 AND devices <> 'shadow'",
                [run],
                |row| row.get::<_, i64>(0),
            )
        })
        .map(|count| count as u64)
    }
}

/// A worker that registers again (a restarted coordinator) keeps its first time.
fn put_worker(
    tx: &Transaction<'_>,
    run: &str,
    time: i64,
    info: &WorkerInfo,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO workers (run, worker, name, devices, kind, zone, price_per_hour, build,
             artifact, registered_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (run, worker) DO UPDATE SET name = excluded.name,
             devices = excluded.devices, kind = excluded.kind, zone = excluded.zone,
             price_per_hour = excluded.price_per_hour, build = excluded.build,
             artifact = excluded.artifact",
        params![
            run,
            info.worker.to_string(),
            info.name,
            info.devices,
            info.kind,
            info.zone,
            info.price_per_hour,
            info.build,
            info.artifact,
            time
        ],
    )?;
    Ok(())
}
