//! What happened, as records: `events.jsonl`, one JSON object a line.
//!
//! ```text
//! {"time":1763885000.123,"run":"r1","event":"worker_left","worker":"2","name":"spot-7f","reason":"lost",…}
//! ```
//!
//! The enum is closed: a reader of the file finds the whole list here, and
//! [`headline`](super::headline) says each of them as a sentence or leaves it
//! to the file. Fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{UnixMillis, labels};
use crate::world::{Generation, WorkerId};

mod log;
mod parts;

pub use log::{EventLog, EventLogError};
pub use parts::{InstallReason, LeaveReason, Missing, SkipKind, WorkerInfo};

/// Everything that is worth a record. Steps are counted as applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "fields say what their names say; the variants are documented"
)]
pub enum Event {
    /// A run begins at step 0, or as a fork of another at its step.
    RunStarted {
        job: String,
        steps: Option<u64>,
        epochs: Option<u64>,
        parent: Option<String>,
        parent_step: Option<u64>,
    },
    /// A run goes on from a checkpoint; the steps after it are done again.
    RunResumed {
        step: u64,
        round: u64,
        checkpoint: Option<String>,
        steps_lost: u64,
    },
    /// A worker is known now.
    WorkerRegistered(WorkerInfo),
    /// Somebody who wanted in was turned away before it became a worker.
    ConnectionRefused { peer: String, problem: String },
    /// A worker is a member now.
    WorkerJoined {
        #[serde(with = "labels")]
        worker: WorkerId,
        name: String,
        devices: String,
        #[serde(with = "labels")]
        generation: Generation,
        step: u64,
    },
    /// A worker was asked to leave at the next round's end.
    DrainRequested {
        #[serde(with = "labels")]
        worker: WorkerId,
        name: String,
        reason: LeaveReason,
        why: String,
    },
    /// A worker is no longer a member (or never became one).
    WorkerLeft {
        #[serde(with = "labels")]
        worker: WorkerId,
        name: String,
        reason: LeaveReason,
        /// What led to it, in words; may be empty.
        why: String,
        step: Option<u64>,
        /// Micro-batches that had to be computed again; `None` if that isn't
        /// known yet: then the new generation says it.
        recomputed_micro_batches: Option<u64>,
        last_error: Option<String>,
        /// Its last log lines, oldest first.
        log_tail: Vec<String>,
    },
    /// There is a new world.
    GenerationInstalled {
        #[serde(with = "labels")]
        generation: Generation,
        #[serde(with = "labels")]
        members: Vec<WorkerId>,
        /// Their shares of the work, relative to each other.
        #[serde(default)]
        weights: Vec<u32>,
        base: u64,
        step: u64,
        reason: InstallReason,
        /// What led to it, in words; may be empty.
        why: String,
        recomputed_micro_batches: u64,
        /// The complete sum was fetched from this worker.
        #[serde(with = "labels")]
        source: Option<WorkerId>,
    },
    /// No process holds the state any more; it comes back from a checkpoint.
    WorldLost {
        step: u64,
        round: u64,
        /// The shadow holds the state that they had.
        #[serde(default)]
        shadow: bool,
    },
    /// Something that should not happen, and what was done about it.
    Suspicious { problem: String },
    /// The numerics kinds of the members are these now.
    KindsChanged { kinds: Vec<String>, exact: bool },
    /// Members hold different states after a round, which must never be: all go
    /// back to the last checkpoint at which they agreed.
    StateMismatch {
        step: u64,
        round: u64,
        /// The chained digests of the states that there are.
        digests: Vec<String>,
        /// Who holds each of them.
        #[serde(default)]
        holders: Vec<Vec<String>>,
        /// Who drifted: the minority, or who is contradicted by the repetition.
        #[serde(default)]
        culprits: Vec<String>,
        /// The last step after which all are known to have held the same.
        #[serde(default)]
        agreed: u64,
    },
    /// A step was trained again after a checkpoint and came to another sum: one
    /// kind of machine must never do that, several may.
    SumDiffers {
        step: u64,
        /// The names of both sums.
        before: String,
        now: String,
        exact: bool,
    },
    /// A gradient wasn't applied; the step counts.
    StepSkipped {
        step: u64,
        round: u64,
        kind: SkipKind,
        micro_batch: u32,
        sample_indices: Vec<u64>,
        parameters: Vec<String>,
    },
    /// In an epoch many gradients were too small for the fixed point.
    RoundedToZero {
        epoch: u64,
        step: u64,
        round: u64,
        fraction_bits: u32,
        /// Of the nonzero ones how many were lost, by parameter; the worst.
        shares: BTreeMap<String, f64>,
    },
    /// A checkpoint is whole.
    CheckpointCommitted {
        step: u64,
        round: u64,
        url: String,
        /// Who wrote its manifest.
        #[serde(with = "labels")]
        worker: Option<WorkerId>,
    },
    /// A checkpoint couldn't be written; training goes on.
    CheckpointFailed {
        step: u64,
        round: u64,
        url: String,
        problem: String,
    },
    /// A checkpoint can't be used; the one before (if any) is.
    CheckpointDamaged {
        url: String,
        problem: String,
        used_instead: Option<String>,
    },
    /// An epoch is over, its evaluation too.
    EpochEnded {
        epoch: u64,
        step: u64,
        round: u64,
        values: BTreeMap<String, Option<f64>>,
        seconds: f64,
    },
    /// Somebody is waited for; see [`super::stall`].
    Stalled {
        missing: Vec<Missing>,
        since_seconds: f64,
        next: String,
    },
    /// Fewer members than the minimum: no step is made until more come.
    Paused {
        members: u64,
        minimum: u64,
        step: u64,
    },
    /// Who writes the checkpoints from now on: the shadow, or the first member.
    WriterChanged {
        #[serde(with = "labels")]
        shadow: Option<WorkerId>,
        step: u64,
    },
    /// The fleet finishes more rounds a second than the shadow can apply.
    ShadowTooSlow {
        #[serde(with = "labels")]
        worker: WorkerId,
        rounds_per_second: f64,
        able: f64,
        /// It stays, behind the others; else it is let go.
        kept: bool,
    },
    /// This one's node was lost again and again: it follows, and isn't taken in
    /// for so long.
    Flapping {
        #[serde(with = "labels")]
        worker: WorkerId,
        name: String,
        /// Within ten minutes.
        losses: u32,
        seconds: f64,
    },
    /// A node met the same crash at the same step again and again: it isn't
    /// taken in any more.
    CrashLoop {
        #[serde(with = "labels")]
        worker: WorkerId,
        node: String,
        step: u64,
        times: u32,
        last_error: String,
        log_tail: Vec<String>,
    },
    /// The world is full; this one follows, to take a lost member's place.
    HotSpare {
        #[serde(with = "labels")]
        worker: WorkerId,
        name: String,
    },
    /// The world is full: these help nobody.
    IdleWorkers {
        workers: Vec<String>,
        micro_batches: u32,
        /// As many members as there can be: the micro-batches, or what the
        /// operator allows.
        members_max: u64,
    },
    /// A monitored value has stopped getting better.
    EarlyStopped {
        epoch: u64,
        step: u64,
        round: u64,
        monitor: String,
        #[serde(deserialize_with = "null_is_nan")]
        best: f64,
        patience: u64,
    },
    /// The run is complete.
    Finished {
        step: u64,
        epochs: u64,
        seconds: f64,
        weights_sha256: String,
        checkpoint: Option<String>,
    },
    /// A person has stopped the run; it can go on later.
    Stopped { step: u64, reason: String },
    /// Training failed.
    Failed { step: Option<u64>, error: String },
}

impl Event {
    /// The word in the record's `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Event::RunStarted { .. } => "run_started",
            Event::RunResumed { .. } => "run_resumed",
            Event::WorkerRegistered(_) => "worker_registered",
            Event::ConnectionRefused { .. } => "connection_refused",
            Event::WorkerJoined { .. } => "worker_joined",
            Event::DrainRequested { .. } => "drain_requested",
            Event::WorkerLeft { .. } => "worker_left",
            Event::GenerationInstalled { .. } => "generation_installed",
            Event::WorldLost { .. } => "world_lost",
            Event::Suspicious { .. } => "suspicious",
            Event::KindsChanged { .. } => "kinds_changed",
            Event::StateMismatch { .. } => "state_mismatch",
            Event::SumDiffers { .. } => "sum_differs",
            Event::StepSkipped { .. } => "step_skipped",
            Event::RoundedToZero { .. } => "rounded_to_zero",
            Event::CheckpointCommitted { .. } => "checkpoint_committed",
            Event::CheckpointFailed { .. } => "checkpoint_failed",
            Event::CheckpointDamaged { .. } => "checkpoint_damaged",
            Event::EpochEnded { .. } => "epoch_ended",
            Event::Stalled { .. } => "stalled",
            Event::Paused { .. } => "paused",
            Event::WriterChanged { .. } => "writer_changed",
            Event::ShadowTooSlow { .. } => "shadow_too_slow",
            Event::Flapping { .. } => "flapping",
            Event::CrashLoop { .. } => "crash_loop",
            Event::HotSpare { .. } => "hot_spare",
            Event::IdleWorkers { .. } => "idle_workers",
            Event::EarlyStopped { .. } => "early_stopped",
            Event::Finished { .. } => "finished",
            Event::Stopped { .. } => "stopped",
            Event::Failed { .. } => "failed",
        }
    }

    /// Decisions that every member takes alike are told by each of them. Those
    /// are known by their round and this text; anything else happens each time.
    fn identity(&self) -> Option<(u64, String)> {
        let name = self.name();
        match self {
            Event::StepSkipped {
                round,
                kind,
                micro_batch,
                ..
            } => Some((*round, format!("{name} {micro_batch} {}", kind.name()))),
            Event::EpochEnded { round, .. }
            | Event::EarlyStopped { round, .. }
            | Event::RoundedToZero { round, .. } => Some((*round, name.to_owned())),
            _ => None,
        }
    }
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When it happened.
    pub time: UnixMillis,
    /// In which run.
    pub run: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// JSON has no NaN; it is written as `null`.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
pub(crate) mod tests;
