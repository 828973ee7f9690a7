//! What members tell about the run itself: decisions that all of them take
//! alike. Several may send the same one; the coordinator keeps it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::steps::Steps;
use crate::world::membership::{Drift, Repeated};

/// Values by name: `loss`, the model's metrics, `val_loss`, ...; `None` where
/// one isn't finite.
pub type Values = BTreeMap<String, Option<f64>>;

/// One thing to keep or show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// Where the running epoch is; for the progress bar, not for the files.
    Running {
        /// Training steps done.
        step: u64,
        /// The running epoch, counted from 1.
        epoch: u64,
        /// Means over the epoch so far.
        values: Values,
    },
    /// Finished steps, each by the name of its sum; the file knows what it has.
    Steps(Steps),
    /// Means over the steps since the last record.
    Step {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// The epoch that it lies in, counted from 1.
        epoch: u64,
        /// `loss` and metrics.
        values: Values,
    },
    /// An epoch is over, with its evaluation if there is one.
    Epoch {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// Counted from 1.
        epoch: u64,
        /// False where the run ends in its middle.
        complete: bool,
        /// `loss`, metrics, `val_loss`, `val_...`.
        values: Values,
    },
    /// What an evaluation came to; at an epoch's end the `Epoch` says it again.
    Evaluated {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// `val_loss`, `val_...`.
        values: Values,
    },
    /// The digest of the replicated state, and the chain of all of them.
    Digest {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// SHA-256 of the state, in hexadecimal.
        state_digest: String,
        /// SHA-256 of the chain before and this digest.
        chain: String,
    },
    /// Members hold different states. Each says so; the world hears of it.
    Drifted(Drift),
    /// Members have compared their states, and hold the same; or one alone says what
    /// it holds, for a shadow to be compared with. The world hears of it.
    Agreed {
        /// Rounds applied.
        round: u64,
        /// SHA-256 of the chain before and the state, in hexadecimal.
        chain: String,
        /// How many members.
        members: usize,
        /// What the rounds came to that were done again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repeated: Option<Repeated>,
    },
    /// A step whose sum could not be applied.
    Skipped {
        /// Rounds applied.
        round: u64,
        /// Index of the step, from 0.
        step: u64,
        /// The micro-batch that was wrong.
        micro_batch: u32,
        /// `non-finite` or `out-of-range`.
        kind: String,
        /// The samples that it was made of.
        samples: Vec<u64>,
        /// Parameters whose gradient was wrong in this step.
        parameters: Vec<String>,
    },
    /// In an epoch many gradients were too small for the fixed point.
    RoundedToZero {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// Counted from 1.
        epoch: u64,
        /// Of the fixed point.
        fraction_bits: u32,
        /// Of the nonzero ones how many are zero in the sums, by parameter; the
        /// worst.
        shares: BTreeMap<String, f64>,
    },
    /// Training ends early because the monitored value stopped improving.
    EarlyStopped {
        /// Rounds applied.
        round: u64,
        /// Steps done.
        step: u64,
        /// What was watched.
        monitor: String,
        /// Its best value.
        best: Option<f64>,
        /// Looks without improvement.
        patience: u32,
    },
}

impl Record {
    /// What makes it one of a kind; `None` for what may be told again.
    pub fn key(&self) -> Option<(&'static str, u64, u32)> {
        match self {
            Record::Running { .. }
            | Record::Steps(_)
            | Record::Drifted(_)
            | Record::Agreed { .. } => None,
            Record::Step { round, .. } => Some(("step", *round, 0)),
            Record::Epoch { round, .. } => Some(("epoch", *round, 0)),
            Record::Evaluated { round, .. } => Some(("evaluated", *round, 0)),
            Record::Digest { round, .. } => Some(("digest", *round, 0)),
            Record::Skipped {
                round, micro_batch, ..
            } => Some(("skipped", *round, *micro_batch)),
            Record::RoundedToZero { round, .. } => Some(("rounded_to_zero", *round, 0)),
            Record::EarlyStopped { round, .. } => Some(("early_stopped", *round, 0)),
        }
    }
}
