//! Writing a checkpoint: all shards, then the manifest.
//!
//! ```text
//!   plan ──> upload (N at a time) ──> lengths read back ──> manifest by create-if-absent
//!             │ killed here: orphans, invisible                 │ now it exists
//! ```
//! Any member may commit: the first one wins, and for the others a sound
//! checkpoint of the same round and state counts as their own success.
//!
//! Others may have written some of the shards. What they say of theirs is
//! compared with the shard that our own copy of the state gives, so a manifest
//! never names a value that whoever commits it doesn't hold.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::error::{Divergence, LoadError, SaveError, StoreError};
use super::manifest::{self, ATTEMPTS_MAX, ManifestRef};
use super::run_store::RunStore;
use super::shard::{self, PlannedShard, ShardEntry};
use super::share::{Offer, Tensors};
use super::snapshot::{Header, Snapshot};
use super::store::Created;

/// How often a shard is written again because it reads back too short or long.
const REWRITES_MAX: u32 = 3;

/// A checkpoint that is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Its manifest.
    pub manifest: ManifestRef,
    /// Who put it there.
    pub by: SavedBy,
}

/// Whose write made a checkpoint exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedBy {
    /// This call.
    Us,
    /// It was there: another writer, or an earlier life.
    Another,
}

/// What an existing manifest means to somebody who wants to write the same round.
enum Standing {
    /// It is sound and says all that we would.
    Serves,
    /// It is damaged, or isn't final or best where ours is.
    Insufficient,
}

impl RunStore {
    /// Saves `snapshot` whole or not at all, in shards of at most
    /// `shard_bytes_max` bytes (a larger tensor gets one of its own).
    ///
    /// Interrupted at any point it leaves nothing that a reader would see, and
    /// calling it again is safe.
    pub async fn save(
        &self,
        snapshot: &Arc<Snapshot>,
        shard_bytes_max: usize,
    ) -> Result<Saved, SaveError> {
        if let Some(saved) = self.prepare(snapshot).await? {
            return Ok(saved);
        }
        let shards = self
            .upload(snapshot, snapshot.plan_shards(shard_bytes_max))
            .await?;
        self.commit(&snapshot.header, shards).await
    }

    /// Checks what is to be saved; and whether there is nothing left to do.
    pub async fn prepare(&self, snapshot: &Arc<Snapshot>) -> Result<Option<Saved>, SaveError> {
        let (checked, run) = (Arc::clone(snapshot), self.run().to_string());
        blocking(move || checked.check(&run)).await?;
        let serving = self.serving(&snapshot.header).await?;
        Ok(serving.map(|manifest| Saved {
            manifest,
            by: SavedBy::Another,
        }))
    }

    /// Writes some of a state's shards. Members with the same state can each
    /// write a part of [`Extents::plan_shards`](super::Extents::plan_shards) and
    /// one of them commits all.
    pub async fn upload<T: Tensors>(
        &self,
        source: &Arc<T>,
        shards: Vec<PlannedShard>,
    ) -> Result<Vec<ShardEntry>, SaveError> {
        let alone = shards.into_iter().map(|planned| (planned, None)).collect();
        self.complete(source, alone).await
    }

    /// Sees to it that these shards are in the store: what another member says
    /// it has written is taken if it is what `source` gives, else written here.
    pub async fn complete<T: Tensors>(
        &self,
        source: &Arc<T>,
        shards: Vec<(PlannedShard, Option<Offer>)>,
    ) -> Result<Vec<ShardEntry>, SaveError> {
        let uploads = shards.into_iter().map(|(planned, offer)| {
            let (this, source) = (self.clone(), Arc::clone(source));
            async move { this.complete_one(source, planned, offer).await }
        });
        stream::iter(uploads)
            .buffered(self.store.parallel_max())
            .try_collect()
            .await
    }

    async fn complete_one<T: Tensors>(
        &self,
        source: Arc<T>,
        planned: PlannedShard,
        offer: Option<Offer>,
    ) -> Result<ShardEntry, SaveError> {
        let (run, step) = (self.run().to_string(), source.origin().step);
        let (shard, tensors) = (planned.clone(), Arc::clone(&source));
        let built = blocking(move || shard::build(&*tensors, &shard)).await;
        let (bytes, ours) = built.map_err(|reason| SaveError::Invalid { run, step, reason })?;
        if let Some(offer) = offer {
            let key = shard::key(&source.origin(), &offer.writer, &planned, &ours.sha256);
            let theirs = ShardEntry {
                key,
                ..ours.clone()
            };
            if self.accepts(&theirs, &offer).await? {
                return Ok(theirs);
            }
        }
        self.upload_one(bytes, ours).await
    }

    /// Whether the other's shard is the one that we would write, and is there.
    async fn accepts(&self, expected: &ShardEntry, offer: &Offer) -> Result<bool, SaveError> {
        let key = self.key(&expected.key);
        let reason = if offer.sha256 != expected.sha256 {
            "holds other values than ours"
        } else {
            match self.store.head(&key).await {
                Ok(found) if found.size == expected.bytes => return Ok(true),
                Ok(_) => "is of another length",
                Err(error) if error.is_missing() => "is not there",
                Err(error) => return Err(error.into()),
            }
        };
        tracing::warn!(key, writer = offer.writer, "their shard {reason}");
        Ok(false)
    }

    async fn upload_one(&self, bytes: Bytes, entry: ShardEntry) -> Result<ShardEntry, SaveError> {
        let key = self.key(&entry.key);
        let mut found = None;
        for _ in 0..REWRITES_MAX {
            self.store.put(&key, bytes.clone()).await?;
            let size = self.store.head(&key).await?.size;
            if size == entry.bytes {
                return Ok(entry);
            }
            tracing::warn!(
                key,
                size,
                expected = entry.bytes,
                "a shard reads back with another length, writing it again"
            );
            found = Some(size);
        }
        let reason = format!(
            "{key} was written with {} bytes and reads back with {found:?}",
            entry.bytes
        );
        Err(StoreError::Unfit {
            url: self.store.url().into(),
            reason,
        }
        .into())
    }

    /// Makes the checkpoint exist: all `shards` must have been uploaded.
    pub async fn commit(
        &self,
        header: &Header,
        mut shards: Vec<ShardEntry>,
    ) -> Result<Saved, SaveError> {
        shards.sort_unstable_by_key(|shard| (shard.part, shard.index));
        let invalid = |reason| SaveError::Invalid {
            run: self.run().into(),
            step: header.step,
            reason,
        };
        shard::complete(&shards).map_err(invalid)?;
        let bytes =
            manifest::encode(header, &shards).map_err(|error| invalid(error.to_string()))?;
        let bytes = Bytes::from(bytes);
        for attempt in 0..ATTEMPTS_MAX {
            let key = self.key(&format!(
                "manifests/{}",
                manifest::name(header.round, attempt)
            ));
            let created = self.store.create(&key, bytes.clone()).await?;
            let meta = self.store.head(&key).await?;
            let modified_ms = meta.last_modified.timestamp_millis();
            let manifest = ManifestRef {
                round: header.round,
                attempt,
                key,
                modified_ms,
            };
            if created == Created::Written && meta.size == bytes.len() as u64 {
                self.verified().insert(manifest.key.clone());
                return Ok(Saved {
                    manifest,
                    by: SavedBy::Us,
                });
            }
            if let Standing::Serves = self.standing(header, &manifest).await? {
                return Ok(Saved {
                    manifest,
                    by: SavedBy::Another,
                });
            }
        }
        Err(invalid(format!(
            "round {} has {ATTEMPTS_MAX} manifests already",
            header.round
        )))
    }

    /// A manifest that makes saving `header` unnecessary.
    async fn serving(&self, header: &Header) -> Result<Option<ManifestRef>, SaveError> {
        for manifest in self.manifests().await? {
            if manifest.round == header.round
                && let Standing::Serves = self.standing(header, &manifest).await?
            {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    async fn standing(
        &self,
        header: &Header,
        reference: &ManifestRef,
    ) -> Result<Standing, SaveError> {
        let there = match self.read_verified(reference).await {
            Ok(there) => there.header,
            Err(LoadError::Damaged(damage)) => {
                tracing::warn!(%damage, "writing this round's checkpoint again");
                return Ok(Standing::Insufficient);
            }
            Err(LoadError::Store(error)) => return Err(error.into()),
            Err(other) => return Err(SaveError::Existing(other)),
        };
        if there.state_digest != header.state_digest {
            return Err(SaveError::Diverged(Box::new(Divergence {
                run: self.run().into(),
                round: header.round,
                manifest: reference.key.clone(),
                their_writer: there.writer,
                theirs: there.state_digest,
                ours: header.state_digest.clone(),
            })));
        }
        let says_all = (there.is_final || !header.is_final) && (there.best || !header.best);
        Ok(if says_all {
            Standing::Serves
        } else {
            Standing::Insufficient
        })
    }
}

/// Runs `work` where it doesn't hold up the runtime's other tasks.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Cancelled: the runtime is being dropped, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
