//! What can go wrong, sorted by what the caller can do about it.

use std::fmt;
use std::path::PathBuf;

/// The source of a store's error, boxed to keep results small.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A request to the object store that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL can't be opened at all. The person who gave it has to change it.
    #[error("cannot open the checkpoint store {url}: {reason}; {remedy}")]
    Open {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The store can be reached but doesn't keep what checkpoints rely on.
    #[error("the checkpoint store {url} can't be used: {reason}")]
    Unfit {
        /// The store.
        url: String,
        /// Which promise it breaks.
        reason: String,
    },
    /// There is no such object.
    #[error("{url}/{key} does not exist")]
    Missing {
        /// The store.
        url: String,
        /// The object, relative to the store.
        key: String,
    },
    /// The object exists although it was to be created: somebody was first.
    #[error("{url}/{key} exists already")]
    Exists {
        /// The store.
        url: String,
        /// The object, relative to the store.
        key: String,
    },
    /// Asking again will not help: a permission, a wrong setting, a read-only disk.
    #[error("cannot {action} {url}/{key}: {source}; check permissions and settings")]
    Refused {
        /// The store.
        url: String,
        /// The object, relative to the store.
        key: String,
        /// What was attempted, as a verb.
        action: &'static str,
        /// The store's own words.
        #[source]
        source: Source,
    },
    /// The store does not answer, or fails; worth trying again later.
    #[error("cannot {action} {url}/{key} after {attempts} attempts: {source}")]
    Unavailable {
        /// The store.
        url: String,
        /// The object, relative to the store.
        key: String,
        /// What was attempted, as a verb.
        action: &'static str,
        /// How often.
        attempts: u32,
        /// The last failure.
        #[source]
        source: Source,
    },
    /// A name or a record that this code must not write or cannot read.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// What: a run id, a writer id, an object's name.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl StoreError {
    /// True if the object simply isn't there.
    pub fn is_missing(&self) -> bool {
        matches!(self, StoreError::Missing { .. })
    }
}

/// A checkpoint that could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store failed; the run can go on and try at the next checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sound checkpoint of this round holds another state. Two worlds have
    /// trained the same run apart; going on would mix them up.
    #[error("{0}")]
    Diverged(Box<Divergence>),
    /// A checkpoint of this round is there and can't be judged.
    #[error("cannot tell whether the checkpoint of this round is there already: {0}")]
    Existing(#[source] LoadError),
    /// The snapshot contradicts itself: a mistake of ours.
    #[error("snapshot of run {run} at step {step} is not valid: {reason}")]
    Invalid {
        /// The run.
        run: String,
        /// The step.
        step: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Two states of one run after the same round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The run.
    pub run: String,
    /// The round of both.
    pub round: u64,
    /// The manifest's key.
    pub manifest: String,
    /// Who wrote it.
    pub their_writer: String,
    /// The state digest in the store.
    pub theirs: String,
    /// The state digest here.
    pub ours: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence {
            run,
            round,
            manifest,
            their_writer,
            theirs,
            ours,
        } = self;
        write!(
            f,
            "{manifest} of run {run}, written by {their_writer}, holds state {theirs} at round {round}, \
             but here the state is {ours}: another world is training this run, or the replicas differ"
        )
    }
}

/// A checkpoint that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed. It is *not* a reason to use an older checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes aren't those that were written; use the checkpoint before it.
    #[error("{0}")]
    Damaged(Damage),
    /// Written by a later version. Using an older checkpoint instead would
    /// silently throw work away, so this stops.
    #[error(
        "{manifest} has format {found}, this build reads up to {known}: use the build that wrote it"
    )]
    NewerFormat {
        /// The manifest's key.
        manifest: String,
        /// The format it states.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Retention kept removing what was being read, several times in a row.
    #[error(
        "the checkpoints of run {run} changed {attempts} times while they were read; try again"
    )]
    Moving {
        /// The run.
        run: String,
        /// How often the list was read again.
        attempts: u32,
    },
}

/// What is wrong with one checkpoint: which object, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The manifest's key, relative to the store.
    pub manifest: String,
    /// The shard's key relative to the store; `None` if it is the manifest itself.
    pub shard: Option<String>,
    /// How it is damaged.
    pub kind: DamageKind,
}

/// How an object differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// It isn't there.
    Missing,
    /// It has another length, in bytes; shorter means truncated.
    Length {
        /// As the manifest says.
        expected: u64,
        /// As found.
        found: u64,
    },
    /// The length is right and the content is not.
    Checksum {
        /// As the manifest says.
        expected: String,
        /// As found.
        found: String,
    },
    /// It can't be understood.
    Unreadable(String),
    /// It was never written: the shards are all there is of the checkpoint.
    Unfinished,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {} is damaged: ", self.manifest)?;
        match &self.shard {
            Some(shard) => write!(f, "shard {shard} ")?,
            None => write!(f, "the manifest ")?,
        }
        match &self.kind {
            DamageKind::Missing => write!(f, "is missing"),
            DamageKind::Length { expected, found } if found < expected => {
                write!(f, "is truncated: {found} of {expected} bytes")
            }
            DamageKind::Length { expected, found } => {
                write!(f, "is too long: {found} bytes instead of {expected}")
            }
            DamageKind::Checksum { expected, found } => {
                write!(f, "has changed: checksum {found} instead of {expected}")
            }
            DamageKind::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            DamageKind::Unfinished => {
                write!(
                    f,
                    "is missing: its shards were written, and then its writer ended"
                )
            }
        }
    }
}

/// Weights that could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is nothing to export.
    #[error("no checkpoint that verifies in {from}: {reason}")]
    Nothing {
        /// Where was looked.
        from: String,
        /// What was found instead.
        reason: String,
    },
    /// The file can't be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A file of initial weights that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum InitialError {
    /// The file can't be opened.
    #[error("cannot read the initial weights {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file isn't safetensors.
    #[error("{} is not a safetensors file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
