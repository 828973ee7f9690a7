//! Which checkpoints stay, and how the others go.
//!
//! A checkpoint may go only when enough newer ones *verify*; a damaged one never
//! counts as a reason. Manifests go first, then whatever no manifest points to:
//! killed in between, only orphans are left, and the next call takes them.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{DamageKind, LoadError, StoreError};
use super::manifest::Manifest;
use super::run_store::RunStore;
use super::save::blocking;
use super::shard;

/// What is kept. The newest, and a final one, are always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// This many of the newest sound checkpoints; 0 means 1.
    pub keep_last: usize,
    /// The newest one that was the best when it was taken.
    pub keep_best: bool,
}

/// The run's manifests, sorted by what becomes of them.
#[derive(Default)]
struct Sorted {
    /// Newest first; never empty where `superfluous` isn't.
    kept: Vec<Manifest>,
    superfluous: Vec<Manifest>,
    /// The newest sound one.
    newest_sound: Option<Manifest>,
    /// Rounds of manifests that can't be read, whose shards are therefore unknown.
    unreadable_rounds: BTreeSet<u64>,
}

impl RunStore {
    /// Deletes what newer verified checkpoints have made superfluous, and
    /// orphaned shards older than the newest of them. Returns the deleted keys.
    ///
    /// A writer so slow that its shards are taken for orphans ends up with a
    /// damaged checkpoint *older* than a sound one, which nobody would use.
    pub async fn retain(&self, keep: Retention) -> Result<Vec<String>, LoadError> {
        let sorted = self.sort(keep).await?;
        let Some(newest) = &sorted.newest_sound else {
            return Ok(Vec::new());
        };
        let mut deleted = Vec::new();
        for manifest in &sorted.superfluous {
            self.store.delete(&manifest.reference.key).await?;
            deleted.push(manifest.reference.key.clone());
        }
        deleted.extend(self.sweep(&sorted, newest).await?);
        Ok(deleted)
    }

    async fn sort(&self, keep: Retention) -> Result<Sorted, LoadError> {
        let mut sorted = Sorted::default();
        let (mut sound, mut have_best) = (0, false);
        for reference in self.manifests().await? {
            let manifest = match self.read_manifest(&reference).await {
                Ok(manifest) => manifest,
                Err(LoadError::Damaged(damage)) if damage.kind == DamageKind::Missing => continue,
                Err(LoadError::Damaged(_) | LoadError::NewerFormat { .. }) => {
                    sorted.unreadable_rounds.insert(reference.round);
                    continue;
                }
                Err(other) => return Err(other),
            };
            let header = &manifest.header;
            let wanted_as_best = keep.keep_best && header.best && !have_best;
            if sound >= keep.keep_last.max(1) && !wanted_as_best && !header.is_final {
                sorted.superfluous.push(manifest);
                continue;
            }
            match self.read_verified(&reference).await {
                Ok(_) => {
                    sound += 1;
                    have_best |= header.best;
                    sorted.newest_sound.get_or_insert_with(|| manifest.clone());
                }
                Err(LoadError::Damaged(_)) => {}
                Err(other) => return Err(other),
            }
            sorted.kept.push(manifest);
        }
        Ok(sorted)
    }

    /// Makes all checkpoints after this round cease to exist: they are of states
    /// that nobody should have come to. Their shards are orphans then, and swept
    /// with the others.
    ///
    /// # Errors
    /// The store doesn't do it.
    pub async fn discard_after(&self, round: u64) -> Result<(), StoreError> {
        for reference in self.manifests().await? {
            if reference.round > round {
                self.store.delete(&reference.key).await?;
                self.verified().remove(&reference.key);
            }
        }
        Ok(())
    }

    fn shard_keys(&self, manifests: &[Manifest]) -> BTreeSet<String> {
        let shards = manifests.iter().flat_map(|manifest| &manifest.shards);
        shards.map(|shard| self.key(&shard.key)).collect()
    }

    /// Deletes the shards that no kept manifest points to: those of superfluous
    /// checkpoints, and orphans that are older, both by round and by the store's
    /// clock, than the newest sound checkpoint.
    async fn sweep(&self, sorted: &Sorted, newest: &Manifest) -> Result<Vec<String>, StoreError> {
        let (referenced, superfluous) = (
            self.shard_keys(&sorted.kept),
            self.shard_keys(&sorted.superfluous),
        );
        let below = self.key("");
        let old = |round: u64, modified_ms: i64| {
            round < newest.header.round
                && modified_ms <= newest.reference.modified_ms
                && !sorted.unreadable_rounds.contains(&round)
        };
        let mut deleted = Vec::new();
        for (key, meta) in self.store.list(&self.key("shards")).await? {
            let round = key.strip_prefix(&below).and_then(shard::round_of);
            let is_old =
                round.is_some_and(|round| old(round, meta.last_modified.timestamp_millis()));
            if (is_old || superfluous.contains(&key)) && !referenced.contains(&key) {
                self.store.delete(&key).await?;
                deleted.push(key);
            }
        }
        if let Some(folder) = self.store.folder() {
            let (shards, newest) = (folder.join(self.run()).join("shards"), newest.clone());
            blocking(move || sweep_staged(&shards, &newest)).await;
        }
        Ok(deleted)
    }
}

/// Removes what a writer killed in the middle of a file left beside it
/// (`name#1`), which the store itself never lists. Best effort.
fn sweep_staged(shards: &Path, newest: &Manifest) {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    for step in entries(shards) {
        let name = format!("shards/{}", step.file_name().to_string_lossy());
        if shard::round_of(&name).is_none_or(|round| round >= newest.header.round) {
            continue;
        }
        for writer in entries(&step.path()) {
            for file in entries(&writer.path()) {
                if is_staged(&file.file_name().to_string_lossy())
                    && modified_ms(&file) <= newest.reference.modified_ms
                {
                    let _ = std::fs::remove_file(file.path());
                }
            }
            // Both fail where something is left, as they should.
            let _ = std::fs::remove_dir(writer.path());
        }
        let _ = std::fs::remove_dir(step.path());
    }
}

fn is_staged(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// When a file was last changed; what can't be told counts as just now.
fn modified_ms(file: &std::fs::DirEntry) -> i64 {
    let modified = file.metadata().and_then(|meta| meta.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since
        .and_then(|age| i64::try_from(age.as_millis()).ok())
        .unwrap_or(i64::MAX)
}
