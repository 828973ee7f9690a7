//! Writes checkpoints in the background; training doesn't wait.
//!
//! Where the store is slower than checkpoints come, or doesn't answer at all, a
//! newer snapshot takes the place of those that wait: a writer needs the memory
//! of two or three states, never of all that were ever due, and a joiner or the
//! end of the run doesn't wait for all of them. A few small ones may queue: what
//! a loss of everybody costs is bounded by how many there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::driver::Input;
use super::inject::{Faults, Point};
use crate::checkpoint::{Header, Identity, RunStore, Snapshot};
use crate::strategy::SavedState;
use crate::world::{Generation, Round};

/// Shards of a checkpoint are at most this large, unless one tensor is.
const SHARD_BYTES_MAX: usize = 256 << 20;

/// All states that wait, unless it is one alone, the run's last, or the best.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// So many wait at most, however small.
const WAITING_MAX: usize = 16;

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

/// What decides whether a snapshot may be left out.
#[derive(Clone, Copy, Debug)]
struct Due {
    bytes: usize,
    best: bool,
    last: bool,
}

impl Queue {
    fn add(&mut self, snapshot: Arc<Snapshot>) {
        self.waiting.push_back(snapshot);
        let due = |snapshot: &Arc<Snapshot>| Due {
            bytes: snapshot.byte_len(),
            best: snapshot.header.best,
            last: snapshot.header.is_final,
        };
        while let Some(at) = overtaken(&self.waiting.iter().map(due).collect::<Vec<_>>()) {
            self.waiting.remove(at);
        }
    }
}

/// Which of those that wait, oldest first, the newest one stands for, if they
/// are too many: the oldest, but never the run's last and the best so far.
fn overtaken(waiting: &[Due]) -> Option<usize> {
    let (newer, older) = waiting.split_last()?;
    let bytes: usize = waiting.iter().map(|due| due.bytes).sum();
    if bytes <= WAITING_BYTES_MAX && waiting.len() <= WAITING_MAX {
        return None;
    }
    let stands_for = |old: &Due| (newer.best || !old.best) && (newer.last || !old.last);
    older.iter().position(stands_for)
}

/// Hands snapshots to the store, one at a time.
#[derive(Clone)]
pub(super) struct Saver {
    run: RunStore,
    identity: Arc<Identity>,
    writer: String,
    runtime: Handle,
    queue: Arc<Mutex<Queue>>,
    /// How often all that was to be written was given up.
    forgotten: watch::Sender<u64>,
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
            forgotten: watch::Sender::default(),
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

    /// What waits, or is being written, is of states that we leave.
    pub fn forget(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.clear();
        self.forgotten.send_modify(|times| *times += 1);
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
            let mut forgotten = self.forgotten.subscribe();
            let outcome = tokio::select! {
                outcome = self.write(&snapshot) => outcome,
                _ = forgotten.changed() => Err("its state was given up".to_owned()),
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The snapshots that still wait after these were due, by their number.
    fn left(dues: &[Due]) -> Vec<usize> {
        let mut waiting: Vec<(usize, Due)> = Vec::new();
        for due in dues.iter().copied().enumerate() {
            waiting.push(due);
            let all = |waiting: &[(usize, Due)]| waiting.iter().map(|w| w.1).collect::<Vec<_>>();
            while let Some(at) = overtaken(&all(&waiting)) {
                waiting.remove(at);
            }
        }
        waiting.into_iter().map(|(number, _)| number).collect()
    }

    const SMALL: Due = Due {
        bytes: 1000,
        best: false,
        last: false,
    };

    #[test]
    fn however_small_they_are_only_the_newest_wait() {
        let expected: Vec<usize> = (1000 - WAITING_MAX..1000).collect();
        assert_eq!(left(&[SMALL; 1000]), expected);
    }

    #[test]
    fn of_large_ones_the_newest_alone_waits() {
        let large = Due {
            bytes: WAITING_BYTES_MAX,
            ..SMALL
        };
        assert_eq!(left(&[large; 5]), [4]);
    }

    #[test]
    fn the_best_waits_for_a_better_one_and_the_last_for_good() {
        let mut dues = [SMALL; 100];
        (dues[20].last, dues[30].best, dues[60].best) = (true, true, true);
        let left = left(&dues);
        assert!(!left.contains(&30), "another was better: {left:?}");
        assert!(left.contains(&60) && left.contains(&20), "{left:?}");
    }
}
