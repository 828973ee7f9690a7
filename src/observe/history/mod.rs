//! `history.sqlite`: what a coordinator remembers of its runs.
//!
//! One file that people can open with anything: runs with their lineage,
//! metrics, events, workers. Two tables carry the protocol's own memory: a
//! *generation* is on the disk before anyone hears of it, and a *counter* (work
//! computed again) moves in the same transaction as the generation that caused
//! it, so that neither is lost or counted twice when the coordinator dies.
//!
//! The file runs in WAL mode. What must be durable is committed with
//! `synchronous = FULL`; metrics and events, which come often, with `NORMAL`:
//! a power cut may take the last of them, never damage what is there.
//!
//! The calls block (a durable one for as long as the disk takes to sync), so
//! async code makes them from a thread that may wait.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};

mod generations;
mod records;
mod runs;
mod schema;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use generations::StoredGeneration;
pub use runs::{Begun, RunRow, RunStatus};

use crate::world::Generation;
use schema::{APPLICATION_ID, MIGRATIONS};

/// Another process (a person's `sqlite3`) may hold the file this long.
const BUSY: Duration = Duration::from_secs(5);

/// Why the history can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is something else; it is left as it is.
    #[error("{}: {why}; move it away, or choose another --out", path.display())]
    NotAHistory {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: &'static str,
    },
    /// The file was written by a newer ebbtide; it is left as it is.
    #[error(
        "{}: schema version {found}, and this ebbtide knows up to {known}: use the newer ebbtide that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Another process holds the file; trying again may help.
    #[error("{}: can't {doing}: another process has kept it locked for {BUSY:?}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// Opening, reading or writing failed (permissions, a full or broken disk).
    #[error("{}: can't {doing}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A generation below the newest one: another coordinator has
    /// taken over this run, and the caller must stop.
    #[error(
        "run {run}: generation {asked} is below the newest one on record, {newest}: another coordinator has taken over"
    )]
    StaleGeneration {
        /// The run.
        run: String,
        /// The number that was to be written.
        asked: Generation,
        /// The newest one there.
        newest: Generation,
    },
    /// It isn't on record.
    #[error("{what} isn't on record")]
    Unknown {
        /// Which one.
        what: String,
    },
    /// A stored value makes no sense, or a value is too large to store.
    #[error("{}: {what}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// Which value.
        what: String,
    },
}

/// How sure a commit has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// On the disk when the call returns.
    Full,
    /// Consistent always; the last commits may be lost with the power.
    Normal,
}

/// A handle on the open file; clones share it.
#[derive(Clone, Debug)]
pub struct History {
    path: Arc<Path>,
    /// One connection: SQLite has one writer anyway.
    connection: Arc<Mutex<Connection>>,
}

impl History {
    /// Opens or creates the file and brings its tables up to date.
    ///
    /// # Errors
    /// [`HistoryError::NotAHistory`], [`HistoryError::Newer`], [`HistoryError::Busy`],
    /// [`HistoryError::Sqlite`].
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        let opened = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        );
        let mut connection = opened.map_err(|e| explain(path, "open it", e))?;
        prepare(path, &mut connection)?;
        Ok(History {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A panic elsewhere can't have left the connection in the middle of
    /// anything: a transaction rolls back when it is dropped.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        f(&self.lock()).map_err(|e| explain(&self.path, doing, e))
    }

    fn write<T>(
        &self,
        doing: &'static str,
        durability: Durability,
        f: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T, HistoryError> {
        let mut connection = self.lock();
        let attempt = || -> Result<T, WriteError> {
            let level = if durability == Durability::Full {
                "FULL"
            } else {
                "NORMAL"
            };
            connection.pragma_update(None, "synchronous", level)?;
            // Immediate: two processes then wait for each other instead of
            // failing in the middle.
            let behavior = rusqlite::TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = f(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|e| match e {
            WriteError::Sqlite(source) => explain(&self.path, doing, source),
            WriteError::Refused(error) => *error,
        })
    }

    /// SQLite's integers are signed.
    fn integer(&self, what: &str, value: u64) -> Result<i64, HistoryError> {
        i64::try_from(value).map_err(|_| self.bad(format!("{what} {value} is out of range")))
    }

    fn bad(&self, what: String) -> HistoryError {
        HistoryError::BadValue {
            path: self.path.to_path_buf(),
            what,
        }
    }
}

/// Why a transaction was rolled back.
enum WriteError {
    Sqlite(rusqlite::Error),
    Refused(Box<HistoryError>),
}

impl From<rusqlite::Error> for WriteError {
    fn from(source: rusqlite::Error) -> Self {
        WriteError::Sqlite(source)
    }
}

impl From<HistoryError> for WriteError {
    fn from(error: HistoryError) -> Self {
        WriteError::Refused(Box::new(error))
    }
}

fn explain(path: &Path, doing: &'static str, source: rusqlite::Error) -> HistoryError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => HistoryError::NotAHistory {
            path,
            why: "not a SQLite database",
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            HistoryError::Busy { path, doing }
        }
        _ => HistoryError::Sqlite {
            path,
            doing,
            source,
        },
    }
}

/// Looks before it writes: a file that isn't ours stays as it is.
fn prepare(path: &Path, connection: &mut Connection) -> Result<(), HistoryError> {
    let sql = |doing| move |source| explain(path, doing, source);
    connection.busy_timeout(BUSY).map_err(sql("open it"))?;
    let number = |connection: &Connection, name: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let id = number(connection, "application_id").map_err(sql("read it"))?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql("read it"))?;
    let found = number(connection, "user_version").map_err(sql("read it"))?;
    if id != APPLICATION_ID && (id != 0 || tables > 0 || found != 0) {
        let why = "a SQLite database, but not a history of ebbtide";
        return Err(HistoryError::NotAHistory {
            path: path.to_owned(),
            why,
        });
    }
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(HistoryError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    // On a network file system WAL isn't possible; SQLite then stays with its
    // rollback journal, which is as durable and only slower.
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(sql("open it for writing"))?;
    migrate(connection).map_err(sql("bring its tables up to date"))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior)?;
    // Read again under the lock: another process may just have done it.
    let done: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    if done < MIGRATIONS.len() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    }
    transaction.commit()
}
