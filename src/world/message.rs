//! What the two sides say to each other, as plain values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Generation, GenerationRecord, Round, WorkerId};

/// From the coordinator to one worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// Forget what you hold and come to the state of this checkpoint, or to
    /// the job's first state.
    Restore {
        /// Nothing older than this is listened to any more.
        generation: Generation,
        /// The manifest to restore from; `None` is how the job begins.
        manifest: Option<String>,
    },
    /// Subscribe to the sums of a member and catch up with it.
    Follow {
        /// The member to follow.
        source: WorkerId,
        /// Where it listens.
        address: String,
    },
    /// A checkpoint that a follower can catch up from.
    RestoreFrom {
        /// Its manifest.
        manifest: String,
    },
    /// Stop, and report what you hold.
    Prepare {
        /// The generation to come.
        generation: Generation,
    },
    /// The new world.
    Install(GenerationRecord),
    /// A planned change: vote for it from your next contribution on.
    Propose(GenerationRecord),
    /// Write a checkpoint at the next round boundary.
    Save,
    /// You are no longer needed; nothing waits for you.
    Release(ReleaseReason),
}

/// Why a worker is let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseReason {
    /// The run is complete.
    Finished,
    /// It asked to leave, and may.
    Drained,
    /// The run failed; the message says why.
    Failed(String),
    /// The world went on without it; it may register again as a newcomer.
    Evicted(String),
    /// The coordinator stops and everything is saved.
    Stopped,
}

/// What a worker holds: the content of its Hello and of its Report.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Holdings {
    /// The generation it is in.
    pub installed: Generation,
    /// Nothing below this is accepted any more.
    pub fence: Generation,
    /// Rounds applied; `None` before a state has been restored.
    pub round: Option<Round>,
    /// Whether the sum of the round before `round` is at hand.
    pub has_last_sum: bool,
    /// Micro-batches of round `round` in its own partial sum, sorted.
    pub held: Vec<u32>,
    /// How many micro-batches round `round` has; 0 at the end of the run.
    pub micro_batches: u32,
    /// Why it is on its way out, if it is.
    pub leaving: Option<String>,
}

/// Counters that a worker tells with its progress; they only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WorkerCounters {
    /// Micro-batch gradients computed, those of a share at hand included.
    pub micro_batches: u64,
    /// Complete sums fetched from another process after a loss.
    pub sums_fetched: u64,
    /// Training steps whose update it has applied.
    pub steps: u64,
    /// Micro-batches of training steps whose computing was timed.
    pub timed: u64,
    /// How long those took.
    pub computing: Duration,
    /// Frames of peers that came damaged, each the end of its connection.
    pub damaged_frames: u64,
}

/// From a worker to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// First message of every session.
    Hello(Holdings),
    /// The answer to Prepare.
    Report {
        /// The Prepare that it answers.
        generation: Generation,
        /// What it holds; nothing in it changes before the Install.
        holdings: Holdings,
    },
    /// Where it is.
    Progress {
        /// The generation it is in.
        generation: Generation,
        /// Rounds applied.
        round: Round,
        /// What it has done so far.
        counters: WorkerCounters,
        /// Members whose part of the round is missing here, its own share
        /// being done.
        awaits: Vec<WorkerId>,
    },
    /// Restored, or caught up with its source.
    Ready {
        /// Of the Restore that it answers; of a follower the newest that it was
        /// told of.
        generation: Generation,
        /// Rounds applied.
        round: Round,
        /// The member that it caught up with; `None` after a Restore.
        source: Option<WorkerId>,
    },
    /// A follower needs a checkpoint of at least this round.
    NeedCheckpoint {
        /// The first round whose sum it will be sent.
        round: Round,
    },
    /// A newcomer holds the planned change that takes it in.
    Ack {
        /// The change's number.
        generation: Generation,
    },
    /// It wants to leave at a round boundary.
    Drain {
        /// For the log: a signal, a notice, a person.
        reason: String,
    },
    /// A connection to a peer broke, or can't be made.
    PeerLost {
        /// Which peer.
        peer: WorkerId,
        /// In which generation.
        generation: Generation,
        /// What came from it was damaged.
        garbled: bool,
    },
    /// A checkpoint is whole and can be found.
    Committed {
        /// Its manifest.
        manifest: String,
        /// Its round.
        round: Round,
        /// It is the last one of the run.
        last: bool,
    },
    /// A checkpoint could not be written.
    SaveFailed {
        /// The round it was for.
        round: Round,
        /// What went wrong.
        error: String,
    },
    /// The source is gone or can't keep up; the follower needs another one.
    SourceLost {
        /// What happened.
        error: String,
    },
    /// The job can't go on, on any worker.
    JobFailed {
        /// What went wrong, for people.
        error: String,
    },
    /// It leaves now and holds nothing that anybody needs.
    Bye {
        /// For the log.
        reason: String,
    },
}
