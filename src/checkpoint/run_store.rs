//! One run's corner of a store, and the small records in it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::StoreError;
use super::identity::Identity;
use super::probe::nonce;
use super::store::{Created, Fetched, Store, valid_id};

/// The largest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// Incarnations tried in a row; so many coordinators don't start at once.
const INCARNATION_TRIES_MAX: u32 = 1000;

/// The record that makes a run known to [`Store::runs`].
pub const RUN_RECORD: &str = "run.json";

/// All that a store holds of one run; everything lies below `<store>/<run>/`.
/// Cheap to clone; clones share what is known to verify.
#[derive(Clone, Debug)]
pub struct RunStore {
    pub(super) store: Store,
    run: String,
    /// Keys of manifests all of whose shards this process has checked or written.
    verified: Arc<Mutex<BTreeSet<String>>>,
}

/// What `run.json` says: written once, when the run is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Job, data and code.
    pub identity: Identity,
    /// The run that this one continues as a fork.
    pub parent: Option<String>,
    /// The parent's step that it started from.
    pub parent_step: Option<u64>,
}

/// What became of a record that is written once.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded<T> {
    /// It holds what was given.
    Written,
    /// It was there with something else.
    Found(T),
}

#[derive(Serialize, Deserialize)]
struct IncarnationRecord {
    owner: String,
    /// `HOST:PORT` at which it listens.
    #[serde(default)]
    address: String,
    /// Makes the record unlike any other, so that finding it proves it ours.
    nonce: String,
}

/// The coordinator that was started last on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Which start it was.
    pub number: u32,
    /// `HOST:PORT` at which it listened; empty if it left none.
    pub address: String,
    /// Where this is recorded.
    pub key: String,
}

impl Store {
    /// The corner of run `id`. Nothing is read or written.
    pub fn run(&self, id: &str) -> Result<RunStore, StoreError> {
        valid_id("run id", id)?;
        Ok(RunStore {
            store: self.clone(),
            run: id.to_string(),
            verified: Arc::default(),
        })
    }

    /// The ids of all runs with a record, sorted.
    pub async fn runs(&self) -> Result<Vec<String>, StoreError> {
        let mut runs = Vec::new();
        for folder in self.folders("").await? {
            if valid_id("run id", &folder).is_err() {
                continue;
            }
            match self.head(&format!("{folder}/{RUN_RECORD}")).await {
                Ok(_) => runs.push(folder),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        runs.sort_unstable();
        Ok(runs)
    }
}

impl RunStore {
    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The URL of the run's folder, for people.
    pub fn url(&self) -> String {
        format!("{}/{}", self.store.url().trim_end_matches('/'), self.run)
    }

    /// A key of this run, relative to the store.
    pub(super) fn key(&self, below: &str) -> String {
        format!("{}/{below}", self.run)
    }

    /// Whoever read this checkpoint last found it damaged: it has to be verified
    /// again. Returns whether it counted as sound.
    pub fn doubt(&self, manifest: &str) -> bool {
        self.verified().remove(manifest)
    }

    pub(super) fn verified(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set of keys is whole after every call that can panic.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the run known. Found: it exists already, with what it is.
    pub async fn create_run(&self, record: &RunRecord) -> Result<Recorded<RunRecord>, StoreError> {
        let value =
            serde_json::to_value(record).map_err(|error| self.invalid(RUN_RECORD, error))?;
        match self.write_record(RUN_RECORD, &value).await? {
            Recorded::Written => Ok(Recorded::Written),
            Recorded::Found(there) => {
                let there = serde_json::from_value(there)
                    .map_err(|error| self.invalid(RUN_RECORD, error))?;
                Ok(Recorded::Found(there))
            }
        }
    }

    /// What the run is, if it has been created.
    pub async fn run_record(&self) -> Result<Option<RunRecord>, StoreError> {
        match self.read_record(RUN_RECORD).await? {
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| self.invalid(RUN_RECORD, error)),
            None => Ok(None),
        }
    }

    /// Writes a small JSON record once. `key` is relative to the run's folder
    /// and not one of the names used by checkpoints.
    pub async fn write_record(
        &self,
        key: &str,
        value: &Value,
    ) -> Result<Recorded<Value>, StoreError> {
        let first = key.split('/').next().unwrap_or_default();
        if ["", "shards", "manifests", "incarnations", "worlds"].contains(&first) {
            return Err(self.invalid(key, "that name is used by checkpoints"));
        }
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| self.invalid(key, error))?;
        match self
            .store
            .create(&self.key(key), Bytes::from(bytes))
            .await?
        {
            Created::Written => Ok(Recorded::Written),
            Created::Taken(there) => {
                let there: Value =
                    serde_json::from_slice(&there).map_err(|error| self.invalid(key, error))?;
                Ok(if there == *value {
                    Recorded::Written
                } else {
                    Recorded::Found(there)
                })
            }
        }
    }

    /// Reads a record; `None` if it was never written.
    pub async fn read_record(&self, key: &str) -> Result<Option<Value>, StoreError> {
        match self.store.fetch(&self.key(key), 0..=RECORD_BYTES_MAX).await {
            Ok(Fetched::Whole(bytes)) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| self.invalid(key, error)),
            Ok(Fetched::OtherSize(size)) => {
                Err(self.invalid(key, format!("{size} bytes are too many")))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the next incarnation of this run's coordinator. No two calls,
    /// wherever, return the same number.
    pub async fn take_incarnation(&self, owner: &str, address: &str) -> Result<u32, StoreError> {
        let record = IncarnationRecord {
            owner: owner.to_string(),
            address: address.to_string(),
            nonce: nonce()?,
        };
        let bytes =
            serde_json::to_vec(&record).map_err(|error| self.invalid("incarnation", error))?;
        let bytes = Bytes::from(bytes);
        let newest = self
            .incarnation_numbers()
            .await?
            .into_iter()
            .max()
            .unwrap_or(0);
        for number in (newest..u32::MAX)
            .take(INCARNATION_TRIES_MAX as usize)
            .map(|taken| taken + 1)
        {
            if self
                .store
                .create(&self.key(&incarnation_key(number)), bytes.clone())
                .await?
                == Created::Written
            {
                return Ok(number);
            }
        }
        Err(self.invalid(
            "incarnations",
            format!("{INCARNATION_TRIES_MAX} in a row were taken by others"),
        ))
    }

    /// The newest coordinator of this run, if there was one.
    ///
    /// # Errors
    /// The store doesn't answer, or the record can't be read.
    pub async fn newest_incarnation(&self) -> Result<Option<Incarnation>, StoreError> {
        let listed = self.incarnation_numbers().await?.into_iter().max();
        let mut newest = None;
        // A list may be older than what is there; a record that is asked for isn't.
        for number in listed.unwrap_or(1)..u32::MAX {
            let key = incarnation_key(number);
            let Some(value) = self.read_record(&key).await? else {
                break;
            };
            let record: IncarnationRecord =
                serde_json::from_value(value).map_err(|error| self.invalid(&key, error))?;
            newest = Some(Incarnation {
                number,
                address: record.address,
                key: format!("{}/{key}", self.url()),
            });
        }
        Ok(newest)
    }

    async fn incarnation_numbers(&self) -> Result<Vec<u32>, StoreError> {
        let listed = self.store.list(&self.key("incarnations")).await?;
        Ok(listed
            .iter()
            .filter_map(|(key, _)| key.rsplit('/').next()?.parse().ok())
            .collect())
    }

    fn invalid(&self, key: &str, reason: impl ToString) -> StoreError {
        StoreError::Invalid {
            what: format!("{}/{key}", self.url()),
            reason: reason.to_string(),
        }
    }
}

fn incarnation_key(number: u32) -> String {
    format!("incarnations/{number:06}")
}
