//! Whole or absent: snapshots in an object store.
//!
//! A spot fleet can vanish between any two instructions, so a checkpoint must
//! never be half there. Many large objects can't be written at once, but one
//! small object can be created atomically, and that one decides:
//!
//! ```text
//! <store>/<run>/run.json                                     what the run is            (created once)
//!               incarnations/000001                          the coordinator's lives    (created once each)
//!               worlds/000001                                what each has last held    (overwritten)
//!               shards/step-000000000123-r000000000130/
//!                      <writer>/weights-00000-of-00002-<digest>.safetensors
//!                               optimizer-00000-of-00004-<digest>.safetensors
//!               manifests/r000000000130.json                 now the checkpoint exists  (created once)
//! ```
//!
//! - **Shards first, manifest last.** A writer killed at any point leaves orphans
//!   that nobody reads and [`RunStore::retain`] later removes.
//! - **Nothing that counts is overwritten.** Manifests and records are created only if absent;
//!   a shard's key contains the digest of its bytes. An answer lost after a
//!   successful write is resolved by reading back what is there.
//! - **Every byte is covered.** Each shard by CRC-32C and SHA-256 in the manifest,
//!   the manifest by its own SHA-256, the weights by the digest scripts rely on.
//! - **Damage isn't outage.** A damaged checkpoint is named and the one before it
//!   used; a store that doesn't answer is an error, never a reason to go back.
//!
//! | concern | file |
//! |---|---|
//! | URLs; bounded requests with retries; create-if-absent | `location.rs`, `store.rs`, `store/attempt.rs`, `probe.rs` |
//! | what a snapshot is, and when two runs are the same | `snapshot.rs`, `identity.rs`, `digest.rs` |
//! | tensors to shards and back; the manifest's bytes | `shard.rs`, `manifest.rs` |
//! | who writes which shards, where several write | `share.rs` |
//! | one run: records, incarnations, the world's copy | `run_store.rs`, `world_copy.rs` |
//! | save, load, retain | `save.rs`, `load.rs`, `retention.rs` |
//! | plain safetensors out and in | `export.rs`, `initial.rs` |
//! | a store that fails on purpose | `testing.rs` |
//!
//! Everything here is async and expects a tokio runtime with a timer; hashing and
//! encoding run on its blocking threads.

mod digest;
mod error;
mod export;
mod identity;
mod initial;
mod load;
mod location;
mod manifest;
mod probe;
mod retention;
mod run_store;
mod save;
mod shard;
mod share;
mod snapshot;
mod store;
pub mod testing;
#[cfg(test)]
mod tests;
mod world_copy;

pub use digest::{bits, weights_sha256};
pub(crate) use digest::{hex, unhex};
pub use error::{
    Damage, DamageKind, Divergence, ExportError, InitialError, LoadError, SaveError, StoreError,
};
pub use export::{ExportReport, POINTER, export, export_run, write_pointer, write_weights};
pub use identity::{Difference, Identity, Severity};
pub use initial::{InitialWeights, load_initial};
pub use location::is_in_memory;
pub use manifest::{FORMAT, Manifest, ManifestRef};
pub use retention::Retention;
pub use run_store::{Incarnation, RUN_RECORD, Recorded, RunRecord, RunStore};
pub use save::{Saved, SavedBy};
pub use shard::{METADATA_KEY, Part, PlannedShard, ShardEntry};
pub use share::{Extent, Extents, Offer, Origin, Portion, SHARD_BYTES_MAX, Tensors};
pub use snapshot::{Header, NamedTensor, Snapshot};
pub use store::{Store, StoreOptions};
