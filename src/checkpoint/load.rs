//! Reading checkpoints: the newest that verifies, shard by shard.
//!
//! Damage (bytes that differ) and outage (no answer) are two things: on damage
//! the checkpoint before is used and the damaged one named, on outage nothing is
//! decided. Nothing is ever deleted here.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::digest::sha256;
use super::error::{Damage, DamageKind, LoadError, StoreError};
use super::manifest::{self, MANIFEST_BYTES_MAX, Manifest, ManifestRef};
use super::run_store::RunStore;
use super::save::blocking;
use super::shard::{self, Part, ShardEntry};
use super::snapshot::{NamedTensor, Snapshot, digest_of};
use super::store::Fetched;

/// Bytes that verification holds per shard.
const BLOCK_BYTES: u64 = 8 << 20;

/// How often a search starts over because retention overtook it.
const RESTARTS_MAX: u32 = 8;

/// How thoroughly a candidate is looked at.
#[derive(Clone, Copy)]
enum Look {
    /// Length and CRC-32C of all shards, in little memory.
    Verify,
    /// Everything, keeping the tensors.
    Load,
}

fn newest_first(manifests: &mut [ManifestRef]) {
    manifests
        .sort_unstable_by_key(|manifest| std::cmp::Reverse((manifest.round, manifest.attempt)));
}

impl RunStore {
    /// All manifests of the run by their names, newest first. Unread.
    pub async fn manifests(&self) -> Result<Vec<ManifestRef>, StoreError> {
        let listed = self.store.list(&self.key("manifests")).await?;
        let mut manifests: Vec<ManifestRef> = listed
            .into_iter()
            .filter_map(|(key, meta)| ManifestRef::of(key, meta.last_modified.timestamp_millis()))
            .collect();
        newest_first(&mut manifests);
        self.verified()
            .retain(|key| manifests.iter().any(|manifest| manifest.key == *key));
        Ok(manifests)
    }

    /// Reads one manifest and checks it, but not its shards.
    pub async fn read_manifest(&self, reference: &ManifestRef) -> Result<Manifest, LoadError> {
        let damaged = |kind| {
            LoadError::Damaged(Damage {
                manifest: reference.key.clone(),
                shard: None,
                kind,
            })
        };
        match self
            .store
            .fetch(&reference.key, 0..=MANIFEST_BYTES_MAX)
            .await
        {
            Ok(Fetched::Whole(bytes)) => manifest::decode(&bytes, reference),
            Ok(Fetched::OtherSize(size)) => Err(damaged(DamageKind::Unreadable(format!(
                "{size} bytes are more than a manifest has"
            )))),
            Err(error) if error.is_missing() => Err(damaged(DamageKind::Missing)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one manifest and checks that all its shards are there, whole and
    /// unchanged (length and CRC-32C). What this process has checked or written
    /// before is not read again.
    pub async fn read_verified(&self, reference: &ManifestRef) -> Result<Manifest, LoadError> {
        let manifest = self.read_manifest(reference).await?;
        if self.verified().contains(&reference.key) {
            return Ok(manifest);
        }
        let checks = manifest.shards.iter().cloned().map(|shard| {
            let (this, key) = (self.clone(), reference.key.clone());
            async move { this.verify_shard(&key, &shard).await }
        });
        stream::iter(checks)
            .buffered(self.store.parallel_max())
            .try_collect::<()>()
            .await?;
        self.verified().insert(reference.key.clone());
        Ok(manifest)
    }

    async fn verify_shard(&self, manifest: &str, shard: &ShardEntry) -> Result<(), LoadError> {
        let key = self.key(&shard.key);
        let absent = |error| self.absent(manifest, shard, error);
        let found = self.store.head(&key).await.map_err(absent)?.size;
        if found != shard.bytes {
            return Err(self.damaged(
                manifest,
                shard,
                DamageKind::Length {
                    expected: shard.bytes,
                    found,
                },
            ));
        }
        let mut crc = 0;
        for start in (0..shard.bytes).step_by(BLOCK_BYTES as usize) {
            let end = shard.bytes.min(start + BLOCK_BYTES);
            let block = self
                .store
                .fetch_range(&key, start..end)
                .await
                .map_err(absent)?;
            crc = crc32c::crc32c_append(crc, &block);
        }
        let found = format!("{crc:08x}");
        if found != shard.crc32c {
            let expected = shard.crc32c.clone();
            return Err(self.damaged(manifest, shard, DamageKind::Checksum { expected, found }));
        }
        Ok(())
    }

    /// The newest checkpoint all of whose shards verify; `None` if the run has
    /// no sound one. Damaged ones on the way are told to `on_damage`.
    pub async fn newest_verified(
        &self,
        on_damage: impl FnMut(Damage) + Send,
    ) -> Result<Option<Manifest>, LoadError> {
        self.newest_verified_of(None, on_damage).await
    }

    /// The same, with one that is known to have been committed: a list that is
    /// older than it may lack it.
    pub async fn newest_verified_of(
        &self,
        known: Option<&str>,
        on_damage: impl FnMut(Damage) + Send,
    ) -> Result<Option<Manifest>, LoadError> {
        let newest = self.newest(Look::Verify, known, on_damage).await?;
        Ok(newest.map(|(manifest, _)| manifest))
    }

    /// Loads the newest sound checkpoint, the way to resume: a shard is read
    /// once, and one that retention removes meanwhile sends it to the newer one.
    pub async fn load_newest(
        &self,
        on_damage: impl FnMut(Damage) + Send,
    ) -> Result<Option<(Manifest, Snapshot)>, LoadError> {
        let newest = self.newest(Look::Load, None, on_damage).await?;
        Ok(newest.and_then(|(manifest, snapshot)| Some((manifest, snapshot?))))
    }

    async fn newest(
        &self,
        look: Look,
        known: Option<&str>,
        mut on_damage: impl FnMut(Damage) + Send,
    ) -> Result<Option<(Manifest, Option<Snapshot>)>, LoadError> {
        'search: for _ in 0..RESTARTS_MAX {
            let mut candidates = self.manifests().await?;
            let unlisted = known.and_then(|key| ManifestRef::unlisted(key, &candidates));
            if let Some(unlisted) = unlisted {
                candidates.push(unlisted);
                newest_first(&mut candidates);
            }
            for candidate in &candidates {
                match self.look_at(candidate, look).await {
                    Ok(found) => return Ok(Some(found)),
                    Err(LoadError::Damaged(damage)) => {
                        // Gone may mean superseded: others have saved newer ones
                        // since the listing and retention has made room.
                        let gone = damage.kind == DamageKind::Missing;
                        if gone && self.manifests().await?.first() > candidates.first() {
                            continue 'search;
                        }
                        on_damage(damage);
                    }
                    Err(other) => return Err(other),
                }
            }
            return Ok(None);
        }
        Err(LoadError::Moving {
            run: self.run().into(),
            attempts: RESTARTS_MAX,
        })
    }

    /// Checkpoints of rounds after this one whose shards are there and whose
    /// manifest isn't: their writers died in between, or are still writing.
    pub async fn unfinished_after(&self, round: Option<u64>) -> Result<Vec<Damage>, LoadError> {
        let below = self.key("");
        let listed = self.store.list(&self.key("shards")).await?;
        let rounds = listed
            .iter()
            .filter_map(|(key, _)| shard::round_of(key.strip_prefix(&below)?));
        let mut rounds: BTreeSet<u64> = rounds.filter(|r| Some(*r) > round).collect();
        for manifest in self.manifests().await? {
            rounds.remove(&manifest.round);
        }
        let unfinished = rounds.into_iter().rev().map(|round| Damage {
            manifest: self.key(&format!("manifests/{}", manifest::name(round, 0))),
            shard: None,
            kind: DamageKind::Unfinished,
        });
        Ok(unfinished.collect())
    }

    async fn look_at(
        &self,
        at: &ManifestRef,
        look: Look,
    ) -> Result<(Manifest, Option<Snapshot>), LoadError> {
        match look {
            Look::Verify => Ok((self.read_verified(at).await?, None)),
            Look::Load => {
                let manifest = self.read_manifest(at).await?;
                let snapshot = self.load(&manifest).await?;
                Ok((manifest, Some(snapshot)))
            }
        }
    }

    /// The manifest of this key, as [`ManifestRef::key`] says it.
    pub async fn manifest(&self, key: &str) -> Result<Manifest, LoadError> {
        let name = key.rsplit('/').next().unwrap_or_default();
        let (round, attempt) = manifest::parse_name(name).ok_or_else(|| {
            LoadError::Damaged(Damage {
                manifest: key.to_owned(),
                shard: None,
                kind: DamageKind::Unreadable("its key is none of a manifest".into()),
            })
        })?;
        let key = key.to_owned();
        self.read_manifest(&ManifestRef {
            round,
            attempt,
            key,
            modified_ms: 0,
        })
        .await
    }

    /// The newest sound checkpoint of exactly this step, to fork from.
    pub async fn at_step(&self, step: u64) -> Result<Option<Manifest>, LoadError> {
        // Evaluations are rounds too, so a round is never below its step.
        self.newest_sound(step, |of| of == step).await
    }

    /// The newest sound checkpoint with at most so many steps, to compute what
    /// comes after it again.
    pub async fn before_step(&self, step: u64) -> Result<Option<Manifest>, LoadError> {
        self.newest_sound(0, |of| of <= step).await
    }

    async fn newest_sound(
        &self,
        round_min: u64,
        fits: impl Fn(u64) -> bool,
    ) -> Result<Option<Manifest>, LoadError> {
        for reference in self.manifests().await? {
            if reference.round < round_min {
                break;
            }
            match self.read_manifest(&reference).await {
                Ok(manifest) if !fits(manifest.header.step) => {}
                Ok(_) => match self.read_verified(&reference).await {
                    Ok(manifest) => return Ok(Some(manifest)),
                    Err(LoadError::Damaged(damage)) => {
                        tracing::warn!(%damage, "looking for another")
                    }
                    Err(other) => return Err(other),
                },
                Err(LoadError::Damaged(damage)) => tracing::warn!(%damage, "passed over"),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// The final checkpoint of a complete run. If it is damaged, the run counts
    /// as unfinished: its end is computed again.
    pub async fn finished(&self) -> Result<Option<Manifest>, LoadError> {
        let newest = self
            .newest_verified(|damage| tracing::warn!(%damage, "using the checkpoint before it"))
            .await?;
        Ok(newest.filter(|manifest| manifest.header.is_final))
    }

    /// Loads a checkpoint, checking every shard's length, CRC-32C and SHA-256
    /// and the digest of the weights. The state digest is the caller's to check.
    /// Tensors come in byte order of names.
    pub async fn load(&self, manifest: &Manifest) -> Result<Snapshot, LoadError> {
        let weights = self.load_weights_only(manifest).await?;
        let optimizer = self.load_part(manifest, Part::Optimizer).await?;
        self.verified().insert(manifest.reference.key.clone());
        Ok(Snapshot {
            header: manifest.header.clone(),
            weights,
            optimizer,
        })
    }

    /// Loads and checks the weights of a checkpoint, in byte order of names.
    pub async fn load_weights_only(
        &self,
        manifest: &Manifest,
    ) -> Result<Vec<NamedTensor>, LoadError> {
        let weights = Arc::new(self.load_part(manifest, Part::Weights).await?);
        let hashed = Arc::clone(&weights);
        let found = blocking(move || digest_of(&hashed)).await;
        let expected = &manifest.header.weights_sha256;
        if found != *expected {
            return Err(LoadError::Damaged(Damage {
                manifest: manifest.reference.key.clone(),
                shard: None,
                kind: DamageKind::Unreadable(format!(
                    "its weights have digest {found}, it says {expected}"
                )),
            }));
        }
        Ok(Arc::unwrap_or_clone(weights))
    }

    async fn load_part(
        &self,
        manifest: &Manifest,
        part: Part,
    ) -> Result<Vec<NamedTensor>, LoadError> {
        let mut wanted = manifest.shards.clone();
        wanted.retain(|shard| shard.part == part);
        let loads = wanted.into_iter().map(|shard| {
            let (this, key) = (self.clone(), manifest.reference.key.clone());
            async move { this.load_shard(key, shard).await }
        });
        let shards: Vec<Vec<NamedTensor>> = stream::iter(loads)
            .buffered(self.store.parallel_max())
            .try_collect()
            .await?;
        Ok(shards.into_iter().flatten().collect())
    }

    async fn load_shard(
        &self,
        manifest: String,
        shard: ShardEntry,
    ) -> Result<Vec<NamedTensor>, LoadError> {
        let fetched = self
            .store
            .fetch(&self.key(&shard.key), shard.bytes..=shard.bytes)
            .await;
        let bytes = match fetched.map_err(|error| self.absent(&manifest, &shard, error))? {
            Fetched::Whole(bytes) => bytes,
            Fetched::OtherSize(found) => {
                return Err(self.damaged(
                    &manifest,
                    &shard,
                    DamageKind::Length {
                        expected: shard.bytes,
                        found,
                    },
                ));
            }
        };
        let (crc32c, sha256) = (shard.crc32c.clone(), shard.sha256.clone());
        let decoded = blocking(move || check_and_decode(&bytes, &crc32c, &sha256)).await;
        decoded.map_err(|kind| self.damaged(&manifest, &shard, kind))
    }

    fn damaged(&self, manifest: &str, shard: &ShardEntry, kind: DamageKind) -> LoadError {
        let shard = Some(self.key(&shard.key));
        LoadError::Damaged(Damage {
            manifest: manifest.to_string(),
            shard,
            kind,
        })
    }

    /// A shard that isn't there is damage; any other failure is the store's.
    fn absent(&self, manifest: &str, shard: &ShardEntry, error: StoreError) -> LoadError {
        if error.is_missing() {
            self.damaged(manifest, shard, DamageKind::Missing)
        } else {
            error.into()
        }
    }
}

fn check_and_decode(
    bytes: &Bytes,
    crc: &str,
    digest: &str,
) -> Result<Vec<NamedTensor>, DamageKind> {
    let found = [format!("{:08x}", crc32c::crc32c(bytes)), sha256(bytes)];
    for (expected, found) in [crc, digest].into_iter().zip(found) {
        if found != expected {
            return Err(DamageKind::Checksum {
                expected: expected.to_string(),
                found,
            });
        }
    }
    shard::decode(bytes).map_err(DamageKind::Unreadable)
}
