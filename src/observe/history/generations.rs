//! Generations and counters: the part of the history that the protocol stands on.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Durability, History, HistoryError};
use crate::observe::{Generation, UnixMillis};

/// What has become of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationStatus {
    /// Its number is taken, for a Prepare or a planned change.
    Proposed,
    /// It is the world: installed, or seen as entered.
    Effective,
    /// It never came to be, or a newer one took its place.
    Void,
}

impl GenerationStatus {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            GenerationStatus::Proposed => "proposed",
            GenerationStatus::Effective => "effective",
            GenerationStatus::Void => "void",
        }
    }

    fn parse(text: &str) -> Option<GenerationStatus> {
        [
            GenerationStatus::Proposed,
            GenerationStatus::Effective,
            GenerationStatus::Void,
        ]
        .into_iter()
        .find(|status| status.name() == text)
    }
}

/// A generation as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGeneration {
    /// Its number.
    pub generation: Generation,
    /// What has become of it.
    pub status: GenerationStatus,
    /// Its content, as the coordinator wrote it.
    pub record: Vec<u8>,
}

/// A row before its numbers and words have been checked.
type Row = (i64, i64, String, Vec<u8>);

const NEWEST: &str = "SELECT incarnation, counter, status, record FROM generations
     WHERE run = ?1 ORDER BY incarnation DESC, counter DESC LIMIT 1";
const NEWEST_EFFECTIVE: &str = "SELECT incarnation, counter, status, record FROM generations
     WHERE run = ?1 AND status = 'effective' ORDER BY incarnation DESC, counter DESC LIMIT 1";

impl History {
    /// Puts a generation on record and adds to counters, in one transaction
    /// that is on the disk when this returns: only then may anyone hear of it.
    /// Writing the same again changes nothing, the counters included. An
    /// effective one makes those before it void.
    ///
    /// # Errors
    /// [`HistoryError::StaleGeneration`] unless it is above all on record;
    /// [`HistoryError::GenerationTaken`]; the file's errors.
    pub fn put_generation(
        &self,
        run: &str,
        time: UnixMillis,
        stored: &StoredGeneration,
        counters: &[(&str, u64)],
    ) -> Result<(), HistoryError> {
        let generation = stored.generation;
        let incarnation = self.integer("incarnation", generation.incarnation)?;
        let counter = self.integer("generation counter", generation.counter)?;
        let time = self.integer("time", time.0)?;
        let mut deltas = Vec::with_capacity(counters.len());
        for (name, delta) in counters {
            deltas.push((*name, self.integer(name, *delta)?));
        }
        self.write("put a generation on record", Durability::Full, |tx| {
            let same: Option<Vec<u8>> = tx
                .prepare_cached(
                    "SELECT record FROM generations
                     WHERE run = ?1 AND incarnation = ?2 AND counter = ?3",
                )?
                .query_row(params![run, incarnation, counter], |row| row.get(0))
                .optional()?;
            if let Some(record) = same {
                let taken = || HistoryError::GenerationTaken {
                    run: run.into(),
                    asked: generation,
                };
                return if record == stored.record {
                    Ok(())
                } else {
                    Err(taken().into())
                };
            }
            if let Some(newest) = self.stored(query(tx, NEWEST, run)?)?
                && newest.generation > generation
            {
                let (run, newest) = (run.to_owned(), newest.generation);
                return Err(HistoryError::StaleGeneration {
                    run,
                    asked: generation,
                    newest,
                }
                .into());
            }
            tx.execute(
                "INSERT INTO generations (run, incarnation, counter, status, time_ms, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    run,
                    incarnation,
                    counter,
                    stored.status.name(),
                    time,
                    stored.record
                ],
            )?;
            if stored.status == GenerationStatus::Effective {
                void_below(tx, run, incarnation, counter)?;
            }
            for (name, delta) in deltas {
                add(tx, run, name, delta)?;
            }
            Ok(())
        })
    }

    /// A proposed generation has become effective (those before it are void
    /// now), or is void. Durable.
    ///
    /// # Errors
    /// [`HistoryError::Unknown`]; the file's errors.
    pub fn mark_generation(
        &self,
        run: &str,
        generation: Generation,
        status: GenerationStatus,
    ) -> Result<(), HistoryError> {
        let incarnation = self.integer("incarnation", generation.incarnation)?;
        let counter = self.integer("generation counter", generation.counter)?;
        self.write("mark a generation", Durability::Full, |tx| {
            let changed = tx.execute(
                "UPDATE generations SET status = ?4
                 WHERE run = ?1 AND incarnation = ?2 AND counter = ?3",
                params![run, incarnation, counter, status.name()],
            )?;
            if changed == 0 {
                let what = format!("run {run}, generation {generation}");
                return Err(HistoryError::Unknown { what }.into());
            }
            if status == GenerationStatus::Effective {
                void_below(tx, run, incarnation, counter)?;
            }
            Ok(())
        })
    }

    /// The newest generation of a run, whatever became of it: the next number
    /// must be above this one.
    ///
    /// # Errors
    /// The file's errors.
    pub fn latest_generation(&self, run: &str) -> Result<Option<StoredGeneration>, HistoryError> {
        let row = self.read("read the newest generation", |c| query(c, NEWEST, run))?;
        self.stored(row)
    }

    /// The newest generation that was a world.
    ///
    /// # Errors
    /// The file's errors.
    pub fn effective_generation(
        &self,
        run: &str,
    ) -> Result<Option<StoredGeneration>, HistoryError> {
        let row = self.read("read the newest generation", |c| {
            query(c, NEWEST_EFFECTIVE, run)
        })?;
        self.stored(row)
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

    fn stored(&self, row: Option<Row>) -> Result<Option<StoredGeneration>, HistoryError> {
        let Some((incarnation, counter, status, record)) = row else {
            return Ok(None);
        };
        let numbers = u64::try_from(incarnation)
            .ok()
            .zip(u64::try_from(counter).ok());
        let known = numbers.zip(GenerationStatus::parse(&status));
        let ((incarnation, counter), status) = known.ok_or_else(|| {
            self.bad(format!(
                "generation {incarnation}.{counter} has the status `{status}`"
            ))
        })?;
        let generation = Generation::new(incarnation, counter);
        Ok(Some(StoredGeneration {
            generation,
            status,
            record,
        }))
    }
}

fn query(connection: &Connection, sql: &str, run: &str) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(sql)?
        .query_row([run], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()
}

fn void_below(tx: &Connection, run: &str, incarnation: i64, counter: i64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE generations SET status = 'void'
         WHERE run = ?1 AND (incarnation, counter) < (?2, ?3) AND status <> 'void'",
        params![run, incarnation, counter],
    )?;
    Ok(())
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
