//! A store that fails on purpose, for tests here and of whole processes.
//!
//! Faults are planned before the action ("the second write of a shard"), and a
//! test ends by asking whether each one fired: a fault that never happens proves
//! nothing.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Any write.
    Put,
    /// Any read, look-ups included.
    Get,
    /// Any listing.
    List,
    /// Any deletion.
    Delete,
}

/// What happens instead of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and an error comes back.
    Fail,
    /// Only the first bytes are written, and success comes back.
    Torn {
        /// How many.
        keep_bytes: usize,
    },
    /// The request is carried out and an error comes back, as after a time-out.
    Ambiguous,
    /// A listing without the objects written since the fault was planned.
    Stale,
    /// A create-if-absent overwrites, as some S3 servers do.
    Overwrites,
    /// As if the process had been killed: this and everything after it fails,
    /// until [`FaultyStore::revive`].
    Die,
}

#[derive(Debug)]
struct Planned {
    on: Operation,
    within: String,
    /// Matching requests that still pass before it fires.
    skip: u32,
    /// Requests that it still hits.
    times: u32,
    fault: Fault,
    fired: u32,
    /// What a stale listing must not show.
    written_since: Vec<Path>,
}

/// An adapter around any store.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    planned: Mutex<Vec<Planned>>,
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl FaultyStore {
    /// Around `inner`, without faults.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<FaultyStore> {
        Arc::new(FaultyStore {
            inner,
            planned: Mutex::default(),
        })
    }

    /// Plans `fault` for the `nth` (from 0) request of kind `on` whose key
    /// contains `within`, and for the `times - 1` after it.
    pub fn plan(&self, on: Operation, within: &str, nth: u32, times: u32, fault: Fault) {
        let within = within.to_string();
        self.planned().push(Planned {
            on,
            within,
            skip: nth,
            times,
            fault,
            fired: 0,
            written_since: Vec::new(),
        });
    }

    /// Whether every planned fault has happened at least once.
    pub fn all_fired(&self) -> bool {
        self.planned().iter().all(|planned| planned.fired > 0)
    }

    /// Forgets all faults: the process has been started again.
    pub fn revive(&self) {
        self.planned().clear();
    }

    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault for this request, and what a stale listing has to hide.
    fn strike(&self, on: Operation, key: &str) -> Option<(Fault, Vec<Path>)> {
        for planned in self.planned().iter_mut() {
            let dead = planned.fault == Fault::Die && planned.fired > 0;
            if !dead && (planned.on != on || !key.contains(&planned.within) || planned.times == 0) {
                continue;
            }
            if !dead && planned.skip > 0 {
                planned.skip -= 1;
                continue;
            }
            planned.times = planned.times.saturating_sub(1);
            planned.fired += 1;
            return Some((planned.fault, planned.written_since.clone()));
        }
        None
    }

    fn note_written(&self, location: &Path) {
        for planned in self.planned().iter_mut() {
            planned.written_since.push(location.clone());
        }
    }

    fn error(&self, fault: Fault, key: &str) -> Error {
        Error::Generic {
            store: "FaultyStore",
            source: format!("planned {fault:?} at {key}").into(),
        }
    }

    async fn write(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let written = self.inner.put_opts(location, payload, options).await?;
        self.note_written(location);
        Ok(written)
    }
}

#[tonic::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        match self
            .strike(Operation::Put, location.as_ref())
            .map(|(fault, _)| fault)
        {
            Some(Fault::Torn { keep_bytes }) => {
                let whole: Bytes = payload.into();
                let torn = whole.slice(..keep_bytes.min(whole.len()));
                self.write(location, PutPayload::from_bytes(torn), options)
                    .await
            }
            Some(Fault::Overwrites) => {
                options.mode = PutMode::Overwrite;
                self.write(location, payload, options).await
            }
            Some(fault @ Fault::Ambiguous) => {
                self.write(location, payload, options).await?;
                Err(self.error(fault, location.as_ref()))
            }
            Some(fault) => Err(self.error(fault, location.as_ref())),
            None => self.write(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.strike(Operation::Get, location.as_ref()) {
            Some((fault, _)) => Err(self.error(fault, location.as_ref())),
            None => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.strike(Operation::Get, location.as_ref()) {
            Some((fault, _)) => Err(self.error(fault, location.as_ref())),
            None => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.strike(Operation::Delete, "") {
            Some((fault @ Fault::Ambiguous, _)) => {
                let error = self.error(fault, "a deletion");
                let done = self.inner.delete_stream(locations);
                done.filter(|_| std::future::ready(false))
                    .chain(stream::once(std::future::ready(Err(error))))
                    .boxed()
            }
            Some((fault, _)) => {
                stream::once(std::future::ready(Err(self.error(fault, "a deletion")))).boxed()
            }
            None => self.inner.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        match self.strike(Operation::List, &key) {
            Some((Fault::Stale, unseen)) => {
                let all = self.inner.list(prefix);
                let seen = move |found: &Result<ObjectMeta>| match found {
                    Ok(meta) => !unseen.contains(&meta.location),
                    Err(_) => true,
                };
                all.filter(move |found| std::future::ready(seen(found)))
                    .boxed()
            }
            Some((fault, _)) => {
                stream::once(std::future::ready(Err(self.error(fault, &key)))).boxed()
            }
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.map(ToString::to_string).unwrap_or_default();
        match self.strike(Operation::List, &key) {
            Some((fault, _)) => Err(self.error(fault, &key)),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
