//! An object store as checkpoints need it: every request bounded in time,
//! attempts and bytes, every error naming the object, and create-if-absent that
//! stays right when the answer to a successful write is lost.

mod attempt;

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::error::StoreError;
use super::location::{Location, memory};

/// Objects that one listing may return; a store with more is not ours.
const LIST_MAX: usize = 1_000_000;

/// How patient and how parallel a store is used. One request takes at most
/// `attempts_max * (attempt_timeout + wait_max)`.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Attempts of one request, the first included.
    pub attempts_max: u32,
    /// Wait after the first failure; doubled after each further one.
    pub first_wait: Duration,
    /// The longest wait between two attempts.
    pub wait_max: Duration,
    /// The longest time for one attempt.
    pub attempt_timeout: Duration,
    /// Requests under way at the same time, each with one shard in memory.
    pub parallel_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            attempts_max: 4,
            first_wait: Duration::from_millis(100),
            wait_max: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(120),
            parallel_max: 4,
        }
    }
}

/// A place for checkpoints, opened from a URL. Cheap to clone.
///
/// Needs a tokio runtime with its timer when used.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// All keys lie below this.
    prefix: Path,
    /// As people know it, without a slash at the end.
    url: String,
    /// The folder of a `file://` store.
    folder: Option<PathBuf>,
    options: StoreOptions,
}

/// What became of a create-if-absent.
#[derive(Debug, PartialEq)]
pub(super) enum Created {
    /// The object is there with exactly the bytes given. Whether this attempt or
    /// an earlier one wrote them can't be told, and doesn't matter.
    Written,
    /// Somebody else's bytes are there.
    Taken(Bytes),
}

/// What a bounded read found.
pub(super) enum Fetched {
    /// All of the object.
    Whole(Bytes),
    /// An object of this many bytes, which was not wanted.
    OtherSize(u64),
}

impl Store {
    /// Opens `file:///folder`, a plain path (both make the folder), `memory://`
    /// (private to the returned store and its clones) or `memory://NAME` (shared
    /// within the process while anybody holds it).
    pub fn open(url: &str) -> Result<Store, StoreError> {
        Store::open_with(url, StoreOptions::default())
    }

    /// [`Store::open`] with other limits.
    pub fn open_with(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        let location = Location::parse(url)?;
        if let Location::Folder(folder) = &location {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Open {
                url: url.into(),
                reason: format!("cannot make the folder {}: {error}", folder.display()),
                remedy: "choose a folder that you may write to",
            })?;
        }
        Store::at(url, location, options)
    }

    /// [`Store::open`] for reading: a folder that isn't there is an error.
    pub fn open_existing(url: &str) -> Result<Store, StoreError> {
        Store::at(url, Location::parse(url)?, StoreOptions::default())
    }

    /// A store over any backend or adapter, under the name `url`.
    pub fn over(objects: Arc<dyn ObjectStore>, url: &str, options: StoreOptions) -> Store {
        Store {
            objects,
            prefix: Path::default(),
            url: trimmed(url),
            folder: None,
            options,
        }
    }

    fn at(url: &str, location: Location, options: StoreOptions) -> Result<Store, StoreError> {
        match location {
            Location::Memory { name, prefix } => Ok(Store {
                prefix,
                ..Store::over(memory(name.as_deref()), url, options)
            }),
            Location::Folder(folder) => {
                let files = LocalFileSystem::new_with_prefix(&folder).map_err(|error| {
                    StoreError::Open {
                        url: url.into(),
                        reason: error.to_string(),
                        remedy: "give the folder of an existing store",
                    }
                })?;
                // A checkpoint that a power cut can take back is none.
                let files = files.with_fsync(true).with_automatic_cleanup(true);
                Ok(Store {
                    folder: Some(folder),
                    ..Store::over(Arc::new(files), url, options)
                })
            }
        }
    }

    /// The URL as given, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of a `file://` store.
    pub(super) fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }

    pub(super) fn parallel_max(&self) -> usize {
        self.options.parallel_max.max(1)
    }

    /// Reads an object whose size lies in `sizes`; no more is ever read.
    pub(super) async fn fetch(
        &self,
        key: &str,
        sizes: RangeInclusive<u64>,
    ) -> Result<Fetched, StoreError> {
        let path = self.path(key)?;
        self.attempt("read", key, || {
            let (objects, path, sizes) = (self.objects.clone(), path.clone(), sizes.clone());
            async move {
                let found = objects.get(&path).await?;
                if !sizes.contains(&found.meta.size) {
                    return Ok(Fetched::OtherSize(found.meta.size));
                }
                Ok(Fetched::Whole(found.bytes().await?))
            }
        })
        .await
    }

    /// Reads a part of an object.
    pub(super) async fn fetch_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let path = self.path(key)?;
        self.attempt("read", key, || {
            let (objects, path, range) = (self.objects.clone(), path.clone(), range.clone());
            async move { objects.get_range(&path, range).await }
        })
        .await
    }

    /// Size and age of an object.
    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let path = self.path(key)?;
        self.attempt("look up", key, || {
            let (objects, path) = (self.objects.clone(), path.clone());
            async move { objects.head(&path).await }
        })
        .await
    }

    /// Writes an object, whatever was there. Only for keys that fix their content.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_mode(key, bytes, PutMode::Overwrite).await
    }

    /// Writes an object unless one is there. A time-out after a write that
    /// succeeded makes the next attempt meet its own object; so what is there is
    /// read back, and the same bytes count as written. Callers that must not
    /// share an object put something unique into it.
    pub(super) async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let failure = match self.put_mode(key, bytes.clone(), PutMode::Create).await {
            Ok(()) => return Ok(Created::Written),
            Err(failure @ (StoreError::Exists { .. } | StoreError::Unavailable { .. })) => failure,
            Err(failure) => return Err(failure),
        };
        match self.fetch(key, 0..=u64::from(u32::MAX)).await {
            Ok(Fetched::Whole(there)) if there == bytes => Ok(Created::Written),
            Ok(Fetched::Whole(there)) => Ok(Created::Taken(there)),
            Ok(Fetched::OtherSize(_)) | Err(_) => Err(failure),
        }
    }

    async fn put_mode(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let path = self.path(key)?;
        self.attempt("write", key, || {
            let (objects, path, mode) = (self.objects.clone(), path.clone(), mode.clone());
            let payload = PutPayload::from_bytes(bytes.clone());
            async move {
                objects
                    .put_opts(&path, payload, mode.into())
                    .await
                    .map(drop)
            }
        })
        .await
    }

    /// Removes an object; one that isn't there counts as removed.
    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let deleted = self
            .attempt("delete", key, || {
                let (objects, path) = (self.objects.clone(), path.clone());
                async move { objects.delete(&path).await }
            })
            .await;
        match deleted {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// All objects below the folder `key`, with keys relative to the store.
    pub(super) async fn list(&self, key: &str) -> Result<Vec<(String, ObjectMeta)>, StoreError> {
        let path = self.path(key)?;
        let found = self
            .attempt("list", key, || {
                let (objects, path) = (self.objects.clone(), path.clone());
                async move {
                    objects
                        .list(Some(&path))
                        .take(LIST_MAX + 1)
                        .try_collect::<Vec<_>>()
                        .await
                }
            })
            .await?;
        if found.len() > LIST_MAX {
            let reason = format!("more than {LIST_MAX} objects below {key}");
            return Err(StoreError::Unfit {
                url: self.url.clone(),
                reason,
            });
        }
        Ok(found
            .into_iter()
            .map(|meta| (self.relative(&meta.location), meta))
            .collect())
    }

    /// The names of the folders directly below the folder `key`.
    pub(super) async fn folders(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(key)?;
        let found = self
            .attempt("list", key, || {
                let (objects, path) = (self.objects.clone(), path.clone());
                async move { objects.list_with_delimiter(Some(&path)).await }
            })
            .await?;
        let names = found.common_prefixes.iter().filter_map(Path::filename);
        Ok(names.map(str::to_string).collect())
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let joined = match (self.prefix.is_root(), key.is_empty()) {
            (true, _) => key.to_string(),
            (false, true) => return Ok(self.prefix.clone()),
            (false, false) => format!("{}/{key}", self.prefix),
        };
        Path::parse(&joined).map_err(|error| StoreError::Invalid {
            what: format!("the object name {key:?}"),
            reason: error.to_string(),
        })
    }

    fn relative(&self, location: &Path) -> String {
        let full = location.as_ref();
        let below = full.strip_prefix(self.prefix.as_ref()).unwrap_or(full);
        below.trim_start_matches('/').to_string()
    }
}

fn trimmed(url: &str) -> String {
    let cut = url.trim_end_matches('/');
    // `memory://` and `/` are nothing but their slashes.
    if cut.is_empty() || cut.ends_with(':') {
        url.to_string()
    } else {
        cut.to_string()
    }
}

/// Run and writer ids are parts of keys: letters, digits, `.`, `_` and `-`, not
/// starting with a dot, at most 128 bytes.
pub(super) fn valid_id(what: &str, id: &str) -> Result<(), StoreError> {
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && !id.is_empty() && id.len() <= 128 && !id.starts_with('.') {
        return Ok(());
    }
    Err(StoreError::Invalid {
        what: format!("the {what} {id:?}"),
        reason: "it may hold up to 128 letters, digits, '.', '_' and '-', and not start with '.'"
            .into(),
    })
}
