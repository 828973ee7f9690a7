//! The table of runs: what was asked for, and how far it has come.

use rusqlite::{OptionalExtension, Row, params};

use super::{Durability, History, HistoryError};
use crate::observe::UnixMillis;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Neither finished nor failed: starting it again resumes it.
    Running,
    /// Complete: starting it again says so.
    Finished,
    /// Training failed; the error is on record.
    Failed,
    /// Stopped by a person; starting it again resumes it.
    Stopped,
}

impl RunStatus {
    const ALL: [RunStatus; 4] = [
        RunStatus::Running,
        RunStatus::Finished,
        RunStatus::Failed,
        RunStatus::Stopped,
    ];

    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Finished => "finished",
            RunStatus::Failed => "failed",
            RunStatus::Stopped => "stopped",
        }
    }
}

/// One run as it is on record.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Its id: the hash of resolved job, artifact and data.
    pub id: String,
    /// The run that it was forked from, and at which step.
    pub parent: Option<(String, u64)>,
    /// Who started it.
    pub owner: Option<String>,
    /// What it belongs to.
    pub project: Option<String>,
    /// The job's name.
    pub job: String,
    /// Name and version of the code.
    pub artifact: String,
    /// The data's fingerprint.
    pub data_fingerprint: String,
    /// The numerics kinds that have taken part.
    pub kinds: Vec<String>,
    /// How far it has come.
    pub status: RunStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// The digest of the final weights.
    pub weights_sha256: Option<String>,
    /// When it was created.
    pub created: UnixMillis,
    /// When it finished or failed.
    pub finished: Option<UnixMillis>,
    /// The resolved job, as TOML.
    pub config: String,
}

/// Whether a run is new.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// It is on record now.
    New,
    /// It has been there; this is how it stands.
    Known(Box<RunRow>),
}

impl History {
    /// Puts a run on record, or finds it there and changes nothing. Durable.
    ///
    /// # Errors
    /// The file's errors.
    pub fn begin_run(&self, run: &RunRow) -> Result<Begun, HistoryError> {
        let created = self.integer("time", run.created.0)?;
        let (parent, parent_step) = match &run.parent {
            Some((parent, step)) => (Some(parent), Some(self.integer("step", *step)?)),
            None => (None, None),
        };
        let kinds = serde_json::json!(run.kinds).to_string();
        let new = self.write("put a run on record", Durability::Full, |tx| {
            Ok(tx.execute(
                "INSERT INTO runs (id, parent, parent_step, owner, project, job, artifact,
                     data_fingerprint, kinds_json, status, created_ms, config)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT (id) DO NOTHING",
                params![
                    run.id,
                    parent,
                    parent_step,
                    run.owner,
                    run.project,
                    run.job,
                    run.artifact,
                    run.data_fingerprint,
                    kinds,
                    run.status.name(),
                    created,
                    run.config
                ],
            )?)
        })?;
        if new == 1 {
            return Ok(Begun::New);
        }
        let known = self.run(&run.id)?;
        let known = known.ok_or_else(|| HistoryError::Unknown {
            what: format!("run {}", run.id),
        })?;
        Ok(Begun::Known(Box::new(known)))
    }

    /// A run by its id.
    ///
    /// # Errors
    /// The file's errors.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>, HistoryError> {
        let raw = self.read("read a run", |c| {
            c.prepare_cached("SELECT * FROM runs WHERE id = ?1")?
                .query_row([id], RawRun::read)
                .optional()
        })?;
        raw.map(|raw| self.checked(raw)).transpose()
    }

    /// The newest runs, newest first, at most `limit`.
    ///
    /// # Errors
    /// The file's errors.
    pub fn runs(&self, limit: u32) -> Result<Vec<RunRow>, HistoryError> {
        let raw: Vec<RawRun> = self.read("list the runs", |c| {
            c.prepare_cached("SELECT * FROM runs ORDER BY created_ms DESC, id LIMIT ?1")?
                .query_map([limit], RawRun::read)?
                .collect()
        })?;
        raw.into_iter().map(|raw| self.checked(raw)).collect()
    }

    /// A run has finished, failed, been stopped, or goes on (which clears what
    /// an earlier end wrote). Durable.
    ///
    /// # Errors
    /// [`HistoryError::Unknown`]; the file's errors.
    pub fn set_run_status(
        &self,
        id: &str,
        time: UnixMillis,
        status: RunStatus,
        error: Option<&str>,
        weights_sha256: Option<&str>,
    ) -> Result<(), HistoryError> {
        let time = self.integer("time", time.0)?;
        let finished = (status != RunStatus::Running).then_some(time);
        self.update_run(id, |tx| {
            tx.execute(
                "UPDATE runs SET status = ?2, finished_ms = ?3, error = ?4, weights_sha256 = ?5
                 WHERE id = ?1",
                params![id, status.name(), finished, error, weights_sha256],
            )
        })
    }

    /// The numerics kinds that have taken part in a run so far. Durable.
    ///
    /// # Errors
    /// [`HistoryError::Unknown`]; the file's errors.
    pub fn set_run_kinds(&self, id: &str, kinds: &[String]) -> Result<(), HistoryError> {
        let kinds = serde_json::json!(kinds).to_string();
        self.update_run(id, |tx| {
            tx.execute(
                "UPDATE runs SET kinds_json = ?2 WHERE id = ?1",
                params![id, kinds],
            )
        })
    }

    fn update_run(
        &self,
        id: &str,
        f: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> Result<(), HistoryError> {
        let changed = self.write("update a run", Durability::Full, |tx| Ok(f(tx)?))?;
        if changed == 0 {
            return Err(HistoryError::Unknown {
                what: format!("run {id}"),
            });
        }
        Ok(())
    }

    fn checked(&self, raw: RawRun) -> Result<RunRow, HistoryError> {
        let status = RunStatus::ALL.into_iter().find(|s| s.name() == raw.status);
        let status = status.ok_or_else(|| {
            self.bad(format!(
                "run {} has the status `{}`",
                raw.row.id, raw.status
            ))
        })?;
        let kinds = serde_json::from_str(&raw.kinds).map_err(|e| {
            self.bad(format!(
                "run {} has the kinds `{}`: {e}",
                raw.row.id, raw.kinds
            ))
        })?;
        Ok(RunRow {
            status,
            kinds,
            ..raw.row
        })
    }
}

/// A row whose words haven't been checked.
struct RawRun {
    row: RunRow,
    status: String,
    kinds: String,
}

impl RawRun {
    fn read(row: &Row<'_>) -> rusqlite::Result<RawRun> {
        let parent: Option<String> = row.get("parent")?;
        let parent_step: Option<i64> = row.get("parent_step")?;
        let finished: Option<i64> = row.get("finished_ms")?;
        Ok(RawRun {
            status: row.get("status")?,
            kinds: row.get("kinds_json")?,
            row: RunRow {
                id: row.get("id")?,
                parent: parent.map(|parent| (parent, parent_step.unwrap_or(0) as u64)),
                owner: row.get("owner")?,
                project: row.get("project")?,
                job: row.get("job")?,
                artifact: row.get("artifact")?,
                data_fingerprint: row.get("data_fingerprint")?,
                kinds: Vec::new(),
                status: RunStatus::Running,
                error: row.get("error")?,
                weights_sha256: row.get("weights_sha256")?,
                created: UnixMillis(row.get::<_, i64>("created_ms")? as u64),
                finished: finished.map(|ms| UnixMillis(ms as u64)),
                config: row.get("config")?,
            },
        })
    }
}
