//! Generations and counters: the part of the history that the protocol stands on.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Durability, History, HistoryError};
use crate::observe::UnixMillis;
use crate::world::Generation;

/// A generation as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGeneration {
    /// The newest number given out.
    pub generation: Generation,
    /// What must be remembered under it, as the coordinator wrote it: the
    /// [`Durable`](crate::world) world.
    pub record: Vec<u8>,
}

const NEWEST: &str = "SELECT incarnation, counter, record FROM generations
     WHERE run = ?1 ORDER BY incarnation DESC, counter DESC LIMIT 1";

impl History {
    /// Puts on record what must be remembered under a generation's number (its
    /// world; later, with the same number, that a planned change has come into
    /// force or is void) and adds to counters, in one transaction. It is on the
    /// disk when this returns: only then may anyone hear of it. Writing the
    /// same again changes nothing, the counters included.
    ///
    /// # Errors
    /// [`HistoryError::StaleGeneration`] if a newer number is on record; the
    /// file's errors.
    pub fn put_generation(
        &self,
        run: &str,
        time: UnixMillis,
        stored: &StoredGeneration,
        counters: &[(&str, u64)],
    ) -> Result<(), HistoryError> {
        let Generation {
            incarnation,
            counter,
        } = stored.generation;
        let time = self.integer("time", time.0)?;
        let mut deltas = Vec::with_capacity(counters.len());
        for (name, delta) in counters {
            deltas.push((*name, self.integer(name, *delta)?));
        }
        self.write("put a generation on record", Durability::Full, |tx| {
            if let Some(newest) = newest(tx, run)? {
                if newest == *stored {
                    return Ok(());
                }
                if newest.generation > stored.generation {
                    let (asked, newest) = (stored.generation, newest.generation);
                    let run = run.to_owned();
                    return Err(HistoryError::StaleGeneration { run, asked, newest }.into());
                }
            }
            tx.prepare_cached(
                "INSERT OR REPLACE INTO generations (run, incarnation, counter, time_ms, record)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![run, incarnation, counter, time, stored.record])?;
            for (name, delta) in deltas {
                add(tx, run, name, delta)?;
            }
            Ok(())
        })
    }

    /// What was put on record last: a restarted coordinator's memory. The next
    /// number must be above this one.
    ///
    /// # Errors
    /// The file's errors.
    pub fn latest_generation(&self, run: &str) -> Result<Option<StoredGeneration>, HistoryError> {
        self.read("read the newest generation", |c| newest(c, run))
    }

    /// Adds to a counter that is kept across restarts and returns its value.
    /// Durable. What a generation causes is counted in [`History::put_generation`].
    ///
    /// # Errors
    /// The file's errors.
    pub fn add_counter(&self, run: &str, name: &str, delta: u64) -> Result<u64, HistoryError> {
        let delta = self.integer(name, delta)?;
        let value = self.write("count", Durability::Full, |tx| {
            Ok(add(tx, run, name, delta)?)
        })?;
        u64::try_from(value).map_err(|_| self.bad(format!("counter {name} is {value}")))
    }

    /// Sets a counter, up or down. Cheap rather than durable: after a power cut
    /// the value may be an older one.
    ///
    /// # Errors
    /// The file's errors.
    pub fn set_counter(&self, run: &str, name: &str, value: u64) -> Result<(), HistoryError> {
        let value = self.integer(name, value)?;
        self.write("count", Durability::Normal, |tx| {
            tx.prepare_cached(
                "INSERT INTO counters (run, name, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
            )?
            .execute(rusqlite::params![run, name, value])?;
            Ok(())
        })
    }

    /// A counter's value, 0 if it has never been added to.
    ///
    /// # Errors
    /// The file's errors.
    pub fn counter(&self, run: &str, name: &str) -> Result<u64, HistoryError> {
        let value = self.read("read a counter", |c| {
            c.prepare_cached("SELECT value FROM counters WHERE run = ?1 AND name = ?2")?
                .query_row([run, name], |row| row.get::<_, i64>(0))
                .optional()
        })?;
        let value = value.unwrap_or(0);
        u64::try_from(value).map_err(|_| self.bad(format!("counter {name} is {value}")))
    }
}

fn newest(connection: &Connection, run: &str) -> rusqlite::Result<Option<StoredGeneration>> {
    let row = |row: &rusqlite::Row<'_>| {
        let generation = Generation {
            incarnation: row.get(0)?,
            counter: row.get(1)?,
        };
        Ok(StoredGeneration {
            generation,
            record: row.get(2)?,
        })
    };
    connection
        .prepare_cached(NEWEST)?
        .query_row([run], row)
        .optional()
}

/// Integer overflow in SQLite turns a sum into a float, which a STRICT table
/// refuses: an error, never a wrong number.
fn add(tx: &Connection, run: &str, name: &str, delta: i64) -> rusqlite::Result<i64> {
    tx.prepare_cached(
        "INSERT INTO counters (run, name, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (run, name) DO UPDATE SET value = value + excluded.value
         RETURNING value",
    )?
    .query_row(params![run, name, delta], |row| row.get(0))
}
