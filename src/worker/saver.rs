//! Writes checkpoints in the background; training doesn't wait.
//!
//! Where the store is slower than checkpoints come, or doesn't answer at all, a
//! newer snapshot takes the place of those that wait: a writer needs the memory
//! of two or three states, never of all that were ever due, and a joiner or the
//! end of the run doesn't wait for all of them. Small ones may queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::driver::Input;
use super::inject::{Faults, Point};
use crate::checkpoint::{Header, Identity, RunStore, Snapshot};
use crate::strategy::SavedState;
use crate::world::{Generation, Round};

/// Shards of a checkpoint are at most this large, unless one tensor is.
const SHARD_BYTES_MAX: usize = 256 << 20;

/// All states that wait, unless it is one alone, the run's last, or the best.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// What a store that failed is given before it is asked again.
const BREATH: Duration = Duration::from_secs(1);

/// What became of a checkpoint.
pub(super) struct Saved {
    pub round: Round,
    pub last: bool,
    /// The manifest's key, or what went wrong.
    pub outcome: Result<String, String>,
}

/// What is to be written.
#[derive(Default)]
struct Queue {
    /// Somebody is at it.
    writing: bool,
    /// Oldest first.
    waiting: VecDeque<Arc<Snapshot>>,
}

impl Queue {
    /// The run's last and the best so far wait until nothing stands for them;
    /// of the others the newest stays.
    fn add(&mut self, snapshot: Arc<Snapshot>) {
        let newer = snapshot.header.clone();
        self.waiting.push_back(snapshot);
        let overtaken =
            |old: &Header| (newer.best || !old.best) && (newer.is_final || !old.is_final);
        let mut bytes: usize = self.waiting.iter().map(|s| s.byte_len()).sum();
        let mut at = 0;
        while bytes > WAITING_BYTES_MAX && at + 1 < self.waiting.len() {
            if overtaken(&self.waiting[at].header) {
                let gone = self.waiting.remove(at);
                bytes -= gone.map_or(0, |gone| gone.byte_len());
            } else {
                at += 1;
            }
        }
    }
}

/// Hands snapshots to the store, one at a time.
#[derive(Clone)]
pub(super) struct Saver {
    run: RunStore,
    identity: Arc<Identity>,
    writer: String,
    runtime: Handle,
    queue: Arc<Mutex<Queue>>,
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
        Saver {
            run,
            identity: Arc::new(identity),
            writer,
            runtime,
            queue: Arc::default(),
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
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.add(snapshot);
        if !std::mem::replace(&mut queue.writing, true) {
            self.runtime.spawn(self.clone().write_all());
        }
    }

    /// The next one, if any waits.
    fn next(&self) -> Option<Arc<Snapshot>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.waiting.pop_front();
        queue.writing = next.is_some();
        next
    }

    async fn write_all(self) {
        while let Some(snapshot) = self.next() {
            let outcome = self.write(&snapshot).await;
            let header = &snapshot.header;
            self.faults
                .reached_checkpoint(Point::Committed, header.step);
            if outcome.is_err() {
                // The last one is tried again and again: not without a breath.
                tokio::time::sleep(BREATH).await;
            }
            let done = Saved {
                round: Round(header.round),
                last: header.is_final,
                outcome,
            };
            let _ = self.done.send(Input::Saved(done));
        }
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
