//! Writes checkpoints in the background; training doesn't wait.
//!
//! ```text
//!  the first:   copy of all ──> its shards ──> the others' told of? ──> manifest
//!                                               │ not in time, or one has left:
//!                                               └ written here, from the copy
//!  the others:  copy of theirs ──> their shards ──> told with their next sums
//! ```
//!
//! Where the store is slower than checkpoints come, or doesn't answer at all, a
//! newer snapshot takes the place of those that wait: a writer needs the memory
//! of two or three states, never of all that were ever due, and a joiner or the
//! end of the run doesn't wait for all of them. A few small ones may queue: what
//! a loss of everybody costs is bounded by how many there are.
//!
//! | what | where |
//! |---|---|
//! | what waits, and what is left out | `queue.rs` |
//! | what the others have said of their shards | `board.rs` |
//! | who writes which | `checkpoint/share.rs` |

mod board;
mod queue;

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use self::board::Board;
pub(super) use self::queue::Dealt;
use self::queue::{Queue, Work};
use super::driver::Input;
use super::inject::{Faults, Point};
use super::trailer::Written;
use crate::checkpoint::{
    Header, Identity, NamedTensor, Offer, PlannedShard, Portion, RunStore, SHARD_BYTES_MAX,
    SaveError, Snapshot, hex, unhex,
};
use crate::strategy::SavedState;
use crate::world::{Generation, Round, WorkerId};

/// What a store that failed is given before it is asked again.
const BREATH: Duration = Duration::from_secs(1);

/// The others' shards are awaited for so long at least after ours are written,
const OTHERS_MIN: Duration = Duration::from_secs(5);
/// or for so many times what ours took;
const OTHERS_FACTOR: u32 = 3;
/// longer where steps are: until so many sums could have told of them,
const OTHERS_TRAILERS: u64 = 2;
/// but no longer than this, or that many times what ours took.
const OTHERS_MAX: Duration = Duration::from_secs(60);

/// What became of a checkpoint.
pub(super) struct Saved {
    pub round: Round,
    pub last: bool,
    /// The manifest's key, or what went wrong.
    pub outcome: Result<String, String>,
}

/// When and why a state is written.
pub(super) struct Occasion {
    pub metrics: BTreeMap<String, f64>,
    pub last: bool,
    pub best: bool,
    pub generation: Generation,
}

/// Our part of a state that another one commits.
pub(super) struct SavedPart {
    pub round: u64,
    pub step: u64,
    pub best: bool,
    pub shards: Vec<PlannedShard>,
    pub weights: Vec<NamedTensor>,
    pub optimizer: Vec<NamedTensor>,
}

/// Hands snapshots to the store, one at a time.
#[derive(Clone)]
pub(super) struct Saver {
    me: WorkerId,
    run: RunStore,
    identity: Arc<Identity>,
    runtime: Handle,
    queue: Arc<Mutex<Queue>>,
    board: watch::Sender<Board>,
    /// How often all that was to be written was given up.
    forgotten: watch::Sender<u64>,
    done: SyncSender<Input>,
    faults: Faults,
}

impl Saver {
    pub fn new(
        me: WorkerId,
        run: RunStore,
        identity: Identity,
        runtime: Handle,
        faults: Faults,
        done: SyncSender<Input>,
    ) -> Saver {
        Saver {
            me,
            run,
            identity: Arc::new(identity),
            runtime,
            queue: Arc::default(),
            board: watch::Sender::default(),
            forgotten: watch::Sender::default(),
            done,
            faults,
        }
    }

    /// Begins to write; what became of it is told to the driver. `together`:
    /// the others write their shards of it too; ours are the first.
    pub fn save(&self, saved: SavedState, occasion: Occasion, together: Option<Dealt>) {
        let snapshot = Arc::new(Snapshot {
            header: Header {
                identity: (*self.identity).clone(),
                round: saved.round,
                step: saved.step,
                epoch: saved.epoch,
                generation: occasion.generation.to_string(),
                writer: writer(self.me),
                state_digest: saved.state_digest,
                weights_sha256: saved.weights_sha256,
                is_final: occasion.last,
                best: occasion.best,
                metrics: occasion.metrics,
                state: saved.state,
                counters: serde_json::Value::Null,
            },
            weights: saved.weights,
            optimizer: saved.optimizer,
        });
        self.board.send_modify(|board| {
            if let Some(dealt) = &together {
                board.expect(snapshot.header.round, dealt);
            }
        });
        self.add(Work::Checkpoint(snapshot, together.map(Arc::new)));
    }

    /// Begins to write our shards of a state that another one commits; those
    /// that are in the store are told to the driver.
    pub fn save_part(&self, part: SavedPart) {
        let portion = Arc::new(Portion {
            identity: (*self.identity).clone(),
            writer: writer(self.me),
            round: part.round,
            step: part.step,
            weights: part.weights,
            optimizer: part.optimizer,
        });
        self.add(Work::Shards {
            portion,
            shards: part.shards,
            best: part.best,
        });
    }

    fn add(&self, work: Work) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for left_out in queue.add(work) {
            if let Work::Checkpoint(snapshot, Some(_)) = left_out {
                self.give_up(snapshot.header.round);
            }
        }
        self.board
            .send_modify(|board| board.hurry = queue.is_urgent());
        if !std::mem::replace(&mut queue.writing, true) {
            self.runtime.spawn(self.clone().write_all());
        }
    }

    /// A complete trailer told of these shards.
    pub fn told(&self, written: &[Written]) {
        self.board.send_modify(|board| board.told(written));
    }

    /// These exchange sums from now on.
    pub fn members_are(&self, members: Vec<WorkerId>) {
        self.board.send_modify(|board| board.members_are(members));
    }

    /// What waits, or is being written, is of states that we leave.
    pub fn forget(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.clear();
        self.board.send_modify(Board::give_up_all);
        self.forgotten.send_modify(|times| *times += 1);
    }

    fn give_up(&self, round: u64) {
        self.board.send_modify(|board| board.give_up(round));
    }

    /// The next one, if any waits; and whether it is given up.
    fn next(&self) -> Option<(Work, watch::Receiver<u64>)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.next();
        self.board
            .send_modify(|board| board.hurry = queue.is_urgent());
        next.map(|work| (work, self.forgotten.subscribe()))
    }

    async fn write_all(self) {
        while let Some((work, mut forgotten)) = self.next() {
            let given_up = async move {
                let _ = forgotten.changed().await;
            };
            match work {
                Work::Checkpoint(snapshot, dealt) => {
                    let write = self.write_checkpoint(&snapshot, dealt.as_deref());
                    let outcome = unless(given_up, write).await;
                    self.committed(&snapshot.header, outcome).await;
                }
                Work::Shards {
                    portion, shards, ..
                } => match unless(given_up, self.write_shards(&portion, shards)).await {
                    Ok(written) => drop(self.done.send(Input::Written(written))),
                    Err(error) => {
                        let round = portion.round;
                        tracing::warn!(round, %error, "our shards could not be written");
                    }
                },
            }
        }
    }

    async fn committed(&self, header: &Header, outcome: Result<String, String>) {
        self.give_up(header.round);
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

    async fn write_checkpoint(
        &self,
        snapshot: &Arc<Snapshot>,
        dealt: Option<&Dealt>,
    ) -> Result<String, SaveError> {
        if let Some(saved) = self.run.prepare(snapshot).await? {
            return Ok(saved.manifest.key);
        }
        let (header, began) = (&snapshot.header, Instant::now());
        let mut dealt = dealt.map_or(&[][..], |dealt| &dealt[..]).iter();
        let ours = match dealt.next() {
            Some((_, ours)) => ours.clone(),
            None => snapshot.plan_shards(SHARD_BYTES_MAX),
        };
        let mut shards = self.run.upload(snapshot, ours).await?;
        self.faults.reached_checkpoint(Point::Uploaded, header.step);
        if dealt.len() > 0 {
            self.await_others(header.round, began.elapsed()).await;
            let theirs = self.offers(header.round, dealt.flat_map(|(_, shards)| shards));
            shards.extend(self.run.complete(snapshot, theirs).await?);
        }
        Ok(self.run.commit(header, shards).await?.manifest.key)
    }

    /// Until the others have written their shards, or it takes too long.
    async fn await_others(&self, round: u64, ours_took: Duration) {
        let mut board = self.board.subscribe();
        let told = board.borrow().trailers + OTHERS_TRAILERS;
        let enough = OTHERS_MIN.max(OTHERS_FACTOR * ours_took);
        let settled = board.wait_for(|board| board.is_settled(round, self.me));
        if timeout(enough, settled).await.is_ok() {
            return;
        }
        let settled = |board: &Board| board.is_settled(round, self.me) || board.trailers >= told;
        let rest = OTHERS_MAX.saturating_sub(enough);
        let _ = timeout(rest, board.wait_for(settled)).await;
    }

    /// The others' shards, with what they said of them.
    fn offers<'a>(
        &self,
        round: u64,
        shards: impl Iterator<Item = &'a PlannedShard>,
    ) -> Vec<(PlannedShard, Option<Offer>)> {
        let mut told = (BTreeMap::new(), Vec::new());
        self.board.send_modify(|board| told = board.take(round));
        let (mut written, missing) = told;
        if !missing.is_empty() {
            tracing::info!(
                round,
                ?missing,
                "shards of a checkpoint have not come from these; writing them here"
            );
        }
        let offer = |written: Written| Offer {
            writer: writer(written.by),
            sha256: hex(&written.sha256),
        };
        shards
            .map(|shard| (shard.clone(), written.remove(&shard.place()).map(offer)))
            .collect()
    }

    async fn write_shards(
        &self,
        portion: &Arc<Portion>,
        shards: Vec<PlannedShard>,
    ) -> Result<Vec<Written>, SaveError> {
        let entries = self.run.upload(portion, shards).await?;
        self.faults
            .reached_checkpoint(Point::Uploaded, portion.step);
        let written = entries.iter().filter_map(|entry| {
            Some(Written {
                by: self.me,
                round: portion.round,
                part: entry.part,
                index: entry.index,
                sha256: unhex(&entry.sha256)?,
            })
        });
        Ok(written.collect())
    }
}

/// In the shards' keys; unique, as the ids of workers are.
fn writer(worker: WorkerId) -> String {
    format!("worker-{}", worker.0)
}

async fn unless<T>(
    given_up: impl Future<Output = ()>,
    write: impl Future<Output = Result<T, SaveError>>,
) -> Result<T, String> {
    tokio::select! {
        outcome = write => outcome.map_err(|error| error.to_string()),
        () = given_up => Err("its state was given up".to_owned()),
    }
}
