//! The figures of a report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::observe::{UnixMillis, labels};
use crate::world::WorkerId;

/// What a run came to, and what it went through.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Its id.
    pub run: String,
    /// The job's name.
    pub job: String,
    /// `running`, `finished`, `stopped`, `failed`.
    pub status: &'static str,
    /// Why it failed or was stopped.
    pub why: Option<String>,
    /// The run that it goes on from, and at which step.
    pub parent: Option<(String, u64)>,
    /// Its first event, and its last.
    pub began: UnixMillis,
    /// See `began`.
    pub ended: UnixMillis,
    /// Steps finished, and of how many.
    pub steps: u64,
    /// See `steps`.
    pub steps_planned: Option<u64>,
    /// Numerics kinds that took part.
    pub kinds: Vec<String>,
    /// Of the final weights.
    pub weights_sha256: Option<String>,
    /// The last value of each metric.
    pub last_values: BTreeMap<String, f64>,
    /// Everybody who was a member, in the order in which they came.
    pub workers: Vec<Stay>,
    /// Workers that registered and never became members.
    pub never_members: u64,
    /// Members: the most at once, and the mean over the time with any.
    pub workers_max: u64,
    /// See `workers_max`.
    pub workers_mean: f64,
    /// When there were none: from, seconds.
    pub zero: Vec<(UnixMillis, f64)>,
    /// What losses and the like cost, one by one.
    pub losses: Vec<Loss>,
    /// Starts of the coordinator.
    pub coordinator_starts: u32,
    /// When a restarted one took over: time, step, generation.
    pub restarts: Vec<(UnixMillis, u64, String)>,
    /// Checkpoints.
    pub checkpoints: Checkpoints,
    /// Steps that were not applied, by index.
    pub skipped: Vec<u64>,
    /// How long steps took, where that is known.
    pub pace: Option<Pace>,
    /// Everything else that a person was told of: time and sentence.
    pub notes: Vec<(UnixMillis, String)>,
}

/// A worker's time as a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stay {
    /// Its number.
    #[serde(with = "labels")]
    pub worker: WorkerId,
    /// Its node.
    pub name: String,
    /// Its devices.
    pub devices: String,
    /// When it became a member, and at which step.
    pub joined: UnixMillis,
    /// See `joined`.
    pub joined_step: u64,
    /// When it left, if it did before the run's end.
    pub left: Option<UnixMillis>,
    /// At which step.
    pub left_step: Option<u64>,
    /// Why: a word, and what led to it.
    pub reason: Option<&'static str>,
    /// See `reason`.
    pub why: String,
    /// As a member.
    pub seconds: f64,
    /// In dollars, where the node's price is known.
    pub cost: Option<f64>,
}

/// What was lost at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// When.
    pub time: UnixMillis,
    /// Steps finished by then: the index of the one in which it happened.
    pub step: u64,
    /// The generation that came of it.
    pub generation: String,
    /// What happened.
    pub what: String,
    /// How much longer than the median step the one in question took.
    pub seconds: Option<f64>,
    /// Computed again.
    pub micro_batches: u64,
    /// Steps done again from a checkpoint.
    pub steps_again: u64,
}

/// Checkpoints of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Checkpoints {
    /// Whole ones.
    pub committed: u64,
    /// That could not be written.
    pub failed: u64,
    /// That could not be used.
    pub damaged: u64,
    /// Step of the last whole one.
    pub last_step: Option<u64>,
}

/// How long steps took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Half of them took less.
    pub median_ms: f64,
    /// One in a hundred took longer.
    pub p99_ms: f64,
    /// The slowest: index of the step, milliseconds, what happened there.
    pub slowest: Vec<(u64, f64, String)>,
}
