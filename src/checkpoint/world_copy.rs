//! A copy of the world's record, for a coordinator that has lost its disk, or
//! takes over on another node.
//!
//! The one object that is overwritten, by the one coordinator whose life it
//! belongs to. It is written after the workers have heard of it, and so may be a
//! little older than what they know: whoever reads it looks for those that it
//! names, asks them what they hold, and believes them.

use bytes::Bytes;

use super::StoreError;
use super::run_store::RunStore;
use super::store::Fetched;

/// A world of 10,000 takes a few MiB.
const BYTES_MAX: u64 = 64 << 20;
/// So many lives of a coordinator are looked through that may have written none.
const LIVES: usize = 16;

impl RunStore {
    /// Writes what this life of the coordinator holds.
    ///
    /// # Errors
    /// The store doesn't do it.
    pub async fn write_world(&self, incarnation: u32, world: Vec<u8>) -> Result<(), StoreError> {
        let key = self.key(&world_key(incarnation));
        self.store.put(&key, Bytes::from(world)).await
    }

    /// What the newest coordinator before this one that wrote any has written.
    ///
    /// # Errors
    /// The store doesn't answer.
    pub async fn world_before(&self, incarnation: u32) -> Result<Option<Bytes>, StoreError> {
        for life in (1..incarnation).rev().take(LIVES) {
            let key = self.key(&world_key(life));
            match self.store.fetch(&key, 0..=BYTES_MAX).await {
                Ok(Fetched::Whole(bytes)) => return Ok(Some(bytes)),
                Ok(Fetched::OtherSize(size)) => {
                    tracing::warn!(
                        key,
                        size,
                        "the copy of the newest world is too large to read"
                    );
                    return Ok(None);
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn world_key(incarnation: u32) -> String {
    format!("worlds/{incarnation:06}")
}
