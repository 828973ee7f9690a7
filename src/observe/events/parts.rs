//! What events say of workers, worlds and numbers.

use serde::{Deserialize, Serialize};

use super::labels;
use crate::world::WorkerId;

/// A worker as it registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its number in this run.
    #[serde(with = "labels")]
    pub worker: WorkerId,
    /// The node's name.
    pub name: String,
    /// Its devices: `cpu`, `cpu:2`, `cuda:8`.
    pub devices: String,
    /// Its numerics kind.
    pub kind: String,
    /// Where the node is.
    pub zone: Option<String>,
    /// What the node costs, in the currency of its cloud.
    pub price_per_hour: Option<f64>,
    /// Version and commit of its ebbtide.
    pub build: String,
    /// Name and version of the code it trains with.
    pub artifact: String,
}

/// Why a worker is no longer a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// Its connections broke and it didn't come back.
    Lost,
    /// It said nothing until its deadline.
    Silent,
    /// Somebody asked it to leave.
    Drained,
    /// Its process failed with an error.
    Crashed,
    /// The others couldn't reach it, or it couldn't follow.
    Evicted,
}

impl LeaveReason {
    /// The word in records.
    pub fn name(self) -> &'static str {
        match self {
            LeaveReason::Lost => "lost",
            LeaveReason::Silent => "silent",
            LeaveReason::Drained => "drained",
            LeaveReason::Crashed => "crashed",
            LeaveReason::Evicted => "evicted",
        }
    }
}

/// Why there is a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallReason {
    /// The run's first world.
    Started,
    /// A member was lost.
    Loss,
    /// Members came, left or changed shares as planned.
    Planned,
    /// Two members lost their connection, and both live.
    Disconnected,
    /// Members waited for each other.
    Standstill,
    /// A member came back to its session.
    Returned,
    /// A restarted coordinator had to ask everyone.
    Restarted,
}

/// Why a step's gradient was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipKind {
    /// NaN or infinite.
    #[serde(rename = "non-finite")]
    NonFinite,
    /// Finite, and too large for the fixed point.
    #[serde(rename = "out-of-range")]
    OutOfRange,
}

impl SkipKind {
    /// The word in records.
    pub fn name(self) -> &'static str {
        match self {
            SkipKind::NonFinite => "non-finite",
            SkipKind::OutOfRange => "out-of-range",
        }
    }
}

/// Somebody who is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// Who.
    pub name: String,
    /// For how long.
    pub since_seconds: f64,
}
