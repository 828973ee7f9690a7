//! Does this store keep what checkpoints rely on?
//!
//! A store that ignores "create only if absent" (some S3 servers do) would let
//! two coordinators own one run and neither would notice. So the first thing a
//! coordinator does is ask.

use bytes::Bytes;

use super::error::StoreError;
use super::store::{Created, Fetched, Store};

/// Bytes of a nonce: two of them never meet.
const NONCE_BYTES: usize = 16;

/// A text that no other process or call has.
pub(super) fn nonce() -> Result<String, StoreError> {
    let mut bytes = [0u8; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Invalid {
        what: "the system's random source".into(),
        reason: error.to_string(),
    })?;
    Ok(super::digest::hex(&bytes))
}

impl Store {
    /// Creates an object, creates it again (which must fail), reads, lists and
    /// deletes it. A store that can't be written, or doesn't honour
    /// create-if-absent, is refused here instead of in the middle of a run.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key = format!("probe/{}", nonce()?);
        let outcome = self.probe_with(&key).await;
        let cleaned = self.delete(&key).await;
        outcome.and(cleaned)
    }

    async fn probe_with(&self, key: &str) -> Result<(), StoreError> {
        let unfit = |reason: &str| StoreError::Unfit {
            url: self.url().into(),
            reason: reason.into(),
        };
        let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
        if self.create(key, first.clone()).await? != Created::Written {
            return Err(unfit("a new object was there before it was written"));
        }
        if self.create(key, second).await? != Created::Taken(first.clone()) {
            return Err(unfit(
                "it lets the same object be created twice, so two coordinators could own one run; \
                 enable conditional writes (If-None-Match) or use another store",
            ));
        }
        match self.fetch(key, 0..=1024).await? {
            Fetched::Whole(there) if there == first => {}
            _ => return Err(unfit("what was written doesn't read back")),
        }
        if !self
            .list("probe")
            .await?
            .iter()
            .any(|(listed, _)| listed == key)
        {
            return Err(unfit("an object that was just written isn't listed"));
        }
        Ok(())
    }
}
