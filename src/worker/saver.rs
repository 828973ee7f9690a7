//! Writes checkpoints in the background; training doesn't wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::driver::Input;
use super::inject::{Faults, Point};
use crate::checkpoint::{Header, Identity, RunStore, Snapshot};
use crate::strategy::SavedState;
use crate::world::{Generation, Round};

/// Shards of a checkpoint are at most this large, unless one tensor is.
const SHARD_BYTES_MAX: usize = 256 << 20;

/// What a store that failed is given before it is asked again.
const BREATH: Duration = Duration::from_secs(1);

/// What became of a checkpoint.
pub(super) struct Saved {
    pub round: Round,
    pub last: bool,
    /// The manifest's key, or what went wrong.
    pub outcome: Result<String, String>,
}

/// Hands snapshots to the store, one at a time.
#[derive(Clone)]
pub(super) struct Saver {
    run: RunStore,
    identity: Arc<Identity>,
    writer: String,
    runtime: Handle,
    turn: Arc<Semaphore>,
    done: SyncSender<Input>,
    faults: Faults,
}

impl Saver {
    pub fn new(
        run: RunStore,
        identity: Identity,
        writer: String,
        runtime: Handle,
        faults: Faults,
        done: SyncSender<Input>,
    ) -> Saver {
        let turn = Arc::new(Semaphore::new(1));
        Saver {
            run,
            identity: Arc::new(identity),
            writer,
            runtime,
            turn,
            done,
            faults,
        }
    }

    /// Begins to write; what became of it is told to the driver.
    pub fn save(
        &self,
        saved: SavedState,
        metrics: BTreeMap<String, f64>,
        last: bool,
        best: bool,
        generation: Generation,
    ) {
        let snapshot = Arc::new(Snapshot {
            header: Header {
                identity: (*self.identity).clone(),
                round: saved.round,
                step: saved.step,
                epoch: saved.epoch,
                generation: generation.to_string(),
                writer: self.writer.clone(),
                state_digest: saved.state_digest,
                weights_sha256: saved.weights_sha256,
                is_final: last,
                best,
                metrics,
                state: saved.state,
                counters: serde_json::Value::Null,
            },
            weights: saved.weights,
            optimizer: saved.optimizer,
        });
        let saver = self.clone();
        self.runtime.spawn(async move {
            let _turn = saver.turn.acquire().await;
            let outcome = saver.write(&snapshot).await;
            let step = snapshot.header.step;
            saver.faults.reached_checkpoint(Point::Committed, step);
            if outcome.is_err() {
                // The last one is tried again and again: not without a breath.
                tokio::time::sleep(BREATH).await;
            }
            let round = Round(snapshot.header.round);
            let done = Saved {
                round,
                last,
                outcome,
            };
            let _ = saver.done.send(Input::Saved(done));
        });
    }

    async fn write(&self, snapshot: &Arc<Snapshot>) -> Result<String, String> {
        if !self.faults.strikes_checkpoints() {
            let saved = self
                .run
                .save(snapshot, SHARD_BYTES_MAX)
                .await
                .map_err(|e| e.to_string())?;
            return Ok(saved.manifest.key);
        }
        let planned = snapshot.plan_shards(SHARD_BYTES_MAX);
        let shards = self
            .run
            .upload(snapshot, planned)
            .await
            .map_err(|e| e.to_string())?;
        self.faults
            .reached_checkpoint(Point::Uploaded, snapshot.header.step);
        let saved = self
            .run
            .commit(&snapshot.header, shards)
            .await
            .map_err(|e| e.to_string())?;
        Ok(saved.manifest.key)
    }
}
