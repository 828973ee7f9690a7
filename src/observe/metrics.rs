//! `metrics.jsonl`: the loss curve and the chained state digests, each round once.
//!
//! ```text
//! {"kind":"step","time":1763885000.123,"step":412,"epoch":1,"round":412,"accuracy":0.91,"loss":0.31}
//! {"kind":"epoch","time":1763885001.5,"step":938,"epoch":1,"round":939,"loss":0.3,"val_loss":0.15}
//! {"kind":"digest","time":1763885001.6,"step":1000,"epoch":2,"round":1001,"state_digest":"…","chain":"…"}
//! ```
//!
//! Several members may report the same round, and a restarted coordinator hears
//! of rounds that it has already written: a record is known by its kind and
//! round, and the second one is dropped. When a run goes back to a checkpoint,
//! [`MetricsLog::discard_after`] removes what is going to be computed again, so
//! that the file always tells one history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::history::{History, HistoryError};
use super::jsonl::{JsonLines, JsonLinesError, LINE_BYTES_MAX, Tail, io_error};

/// Rounds per kind that are remembered one by one. Anything older counts as
/// written: reports are never that late.
const WINDOW: usize = 4096;
/// Records that wait for one transaction of the history.
const PENDING_MAX: usize = 256;
/// Names of a record's own keys, which a model's metric can't have.
const RESERVED: [&str; 8] = [
    "kind",
    "run",
    "time",
    "step",
    "epoch",
    "round",
    "state_digest",
    "chain",
];

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsKind {
    /// One training step.
    Step,
    /// A whole epoch, with its evaluation.
    Epoch,
    /// An evaluation, also where an epoch's record repeats it.
    Evaluation,
    /// The state digest after a step, chained to the one before.
    Digest,
}

impl MetricsKind {
    /// The word in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            MetricsKind::Step => "step",
            MetricsKind::Epoch => "epoch",
            MetricsKind::Evaluation => "evaluation",
            MetricsKind::Digest => "digest",
        }
    }
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsRecord {
    /// What it is about.
    pub kind: MetricsKind,
    /// When it was written.
    pub time: UnixMillis,
    /// Steps applied.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Rounds done; with the kind, the record's identity.
    pub round: u64,
    /// The digest of weights and optimizer state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_digest: Option<String>,
    /// The digest chained over all records of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// `loss`, `val_loss`, metrics, `lr`: flat, so that a line is a row. `null`
    /// stands for a value that isn't finite.
    #[serde(flatten)]
    values: BTreeMap<String, Option<f64>>,
}

impl MetricsRecord {
    /// A record without values.
    pub fn new(kind: MetricsKind, time: UnixMillis, step: u64, epoch: u64, round: u64) -> Self {
        let (state_digest, chain) = (None, None);
        MetricsRecord {
            kind,
            time,
            step,
            epoch,
            round,
            state_digest,
            chain,
            values: BTreeMap::new(),
        }
    }

    /// Adds a value. A name that a record uses itself becomes `metric_NAME`.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        let name = if RESERVED.contains(&name) {
            format!("metric_{name}")
        } else {
            name.to_owned()
        };
        self.values.insert(name, value.is_finite().then_some(value));
        self
    }

    /// Adds the state digest and its chain.
    #[must_use]
    pub fn with_digest(mut self, state_digest: String, chain: Option<String>) -> Self {
        self.state_digest = Some(state_digest);
        self.chain = chain;
        self
    }

    /// All values by name; `None` where it isn't finite.
    pub fn values(&self) -> &BTreeMap<String, Option<f64>> {
        &self.values
    }
}

/// What can go wrong: with the file, or with the history beside it.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// `metrics.jsonl`.
    #[error(transparent)]
    File(#[from] JsonLinesError),
    /// `history.sqlite`.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Which rounds have been written, in bounded memory.
#[derive(Debug, Default)]
struct Written {
    /// Rounds below count as written, for every kind.
    floor: u64,
    recent: BTreeMap<MetricsKind, BTreeSet<u64>>,
    /// As `floor`, for one kind whose window is full.
    floors: BTreeMap<MetricsKind, u64>,
}

impl Written {
    fn contains(&self, kind: MetricsKind, round: u64) -> bool {
        round < self.floor
            || self.floors.get(&kind).is_some_and(|floor| round < *floor)
            || self
                .recent
                .get(&kind)
                .is_some_and(|recent| recent.contains(&round))
    }

    fn insert(&mut self, kind: MetricsKind, round: u64) {
        let recent = self.recent.entry(kind).or_default();
        recent.insert(round);
        if recent.len() > WINDOW
            && let Some(oldest) = recent.pop_first()
        {
            self.floors.insert(kind, oldest + 1);
        }
    }
}

/// The open file of one run.
#[derive(Debug)]
pub struct MetricsLog {
    lines: JsonLines,
    run: String,
    written: Written,
    history: Option<History>,
    /// Written to the file, not yet to the history.
    pending: Vec<MetricsRecord>,
}

impl MetricsLog {
    /// Opens `path` for the run, repairs a torn last line, and finds out which
    /// rounds it holds. With a history, records are copied to it; those that a
    /// crash kept from it follow now.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn open(path: &Path, run: &str, history: Option<History>) -> Result<Self, MetricsError> {
        let (lines, tail) = JsonLines::open(path)?;
        let records = records_of(&tail);
        let mut written = Written::default();
        if !tail.from_start {
            written.floor = records.iter().map(|r| r.round).min().unwrap_or(0);
        }
        for record in &records {
            written.insert(record.kind, record.round);
        }
        if let Some(history) = &history {
            history.put_metrics(run, &records)?;
        }
        Ok(MetricsLog {
            lines,
            run: run.to_owned(),
            written,
            history,
            pending: Vec::new(),
        })
    }

    /// Writes a record, unless one of this kind and round has been written.
    /// Returns whether it was new.
    ///
    /// # Errors
    /// [`MetricsError`]; if the file can't be written, the record counts as not
    /// written.
    pub fn append(&mut self, record: &MetricsRecord) -> Result<bool, MetricsError> {
        if self.written.contains(record.kind, record.round) {
            return Ok(false);
        }
        self.lines.append(record)?;
        self.written.insert(record.kind, record.round);
        if self.history.is_some() {
            self.pending.push(record.clone());
            // Steps are many and can wait; an epoch is what people look for.
            if record.kind != MetricsKind::Step || self.pending.len() >= PENDING_MAX {
                self.flush()?;
            }
        }
        Ok(true)
    }

    /// Copies what waits to the history.
    ///
    /// # Errors
    /// [`MetricsError::History`]; the records stay in the file, and the next
    /// opening copies them.
    pub fn flush(&mut self) -> Result<(), MetricsError> {
        let pending = std::mem::take(&mut self.pending);
        if let Some(history) = &self.history {
            history.put_metrics(&self.run, &pending)?;
        }
        Ok(())
    }

    /// [`MetricsLog::flush`], and waits until the file is on the disk.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        self.lines.sync()?;
        self.flush()
    }

    /// The run goes back to a checkpoint of this round: removes the records of
    /// later rounds, which will come again. Returns how many there were. The
    /// file is replaced as a whole, so a crash leaves the old or the new one.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn discard_after(&mut self, round: u64) -> Result<u64, MetricsError> {
        self.flush()?;
        let path = self.lines.path().to_owned();
        let discarded = rewrite_without(&path, round)?;
        if let Some(history) = &self.history {
            history.discard_metrics_after(&self.run, round)?;
        }
        *self = MetricsLog::open(&path, &self.run, self.history.take())?;
        Ok(discarded)
    }
}

impl Drop for MetricsLog {
    /// What can't be copied now is copied at the next opening.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

fn records_of(tail: &Tail) -> Vec<MetricsRecord> {
    tail.lines()
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

fn rewrite_without(path: &Path, after: u64) -> Result<u64, JsonLinesError> {
    let new_path = path.with_extension("jsonl.new");
    let io = |e| io_error(&new_path, "write it", e);
    let mut new = BufWriter::new(File::create(&new_path).map_err(io)?);
    let mut discarded = 0;
    each_line(path, |line| {
        let record = serde_json::from_slice::<MetricsRecord>(line);
        if record.is_ok_and(|record| record.round > after) {
            discarded += 1;
            return Ok(());
        }
        new.write_all(line).map_err(io)
    })?;
    let file = new.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&new_path, path).map_err(|e| io_error(path, "replace it", e))?;
    Ok(discarded)
}

/// Calls `f` with each line, its line end included. Lines longer than the limit
/// come in pieces, which are no records.
fn each_line(
    path: &Path,
    mut f: impl FnMut(&[u8]) -> Result<(), JsonLinesError>,
) -> Result<(), JsonLinesError> {
    let file = File::open(path).map_err(|e| io_error(path, "open it", e))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX as u64);
        let read = limited
            .read_until(b'\n', &mut line)
            .map_err(|e| io_error(path, "read it", e))?;
        if read == 0 {
            return Ok(());
        }
        f(&line)?;
    }
}

#[cfg(test)]
mod tests;
