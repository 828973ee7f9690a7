//! The closed sets of what can happen to a worker and what it then does.

use std::collections::BTreeMap;

use super::super::message::{FromWorker, ReleaseReason, ToWorker};
use super::super::{Generation, GenerationRecord, Round, WorkerId};

/// What comes after the rounds applied so far; a pure function of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A training step or an evaluation pass of so many micro-batches.
    Round {
        /// How many.
        micro_batches: u32,
        /// Length of the vector that is summed; 0 in an evaluation.
        values: u64,
    },
    /// Nothing: the run is over.
    End,
}

impl Next {
    pub(super) fn micro_batches(self) -> u32 {
        match self {
            Next::Round { micro_batches, .. } => micro_batches,
            Next::End => 0,
        }
    }
}

/// Numbers the things that the compute thread is asked for, so that the answer
/// to a question that no longer matters is recognised.
pub type Task = u64;

/// Everything that can happen to a worker.
#[derive(Clone, Debug)]
pub enum Event {
    /// The coordinator said something.
    Control(ToWorker),
    /// The state was restored.
    Restored {
        /// Of which [`Command::Restore`].
        task: Task,
        /// Rounds applied in it.
        round: Round,
        /// What comes next.
        next: Next,
    },
    /// The checkpoint to follow from was removed before it could be read: there
    /// are newer ones.
    CheckpointGone {
        /// Of which [`Command::Restore`].
        task: Task,
    },
    /// The partial sum holds these micro-batches, and nothing is computed now.
    Computed {
        /// Of which [`Command::Compute`].
        task: Task,
        /// All micro-batches in the partial.
        held: Vec<u32>,
    },
    /// A peer's part of one of our buckets was added to the reduced one (or
    /// our own was).
    Contributed {
        /// Whose.
        from: WorkerId,
        /// Which of our buckets.
        bucket: u32,
    },
    /// A member's trailer was merged; the first member only.
    TrailerContributed {
        /// Whose.
        from: WorkerId,
    },
    /// An owner's finished bucket was stored.
    Reduced {
        /// The owner.
        from: WorkerId,
        /// Which of its buckets.
        bucket: u32,
    },
    /// The finished trailer: how many members hold which planned change.
    TrailerReduced {
        /// Votes by the change's number.
        votes: BTreeMap<Generation, u32>,
    },
    /// A sum was applied to the state.
    Applied {
        /// Of which [`Command::Apply`].
        task: Task,
        /// What comes next.
        next: Next,
        /// The job's policy wants a checkpoint of this state.
        checkpoint: bool,
    },
    /// A process wants our sums from now on.
    Subscribe(WorkerId),
    /// A subscriber is gone, or too slow.
    Unsubscribed(WorkerId),
    /// The source's answer to our subscription.
    Subscribed {
        /// The source.
        from: WorkerId,
        /// The first round whose sum it will send.
        first: Round,
        /// The generation that it is in.
        record: GenerationRecord,
    },
    /// A complete sum from the source is at hand.
    Streamed {
        /// The source.
        from: WorkerId,
        /// Its round.
        round: Round,
        /// The generation that the source was in after it.
        record: GenerationRecord,
    },
    /// A member lacks the last sum and asks us for it.
    Fetch {
        /// Who.
        from: WorkerId,
        /// Under which generation.
        generation: Generation,
        /// Which round's sum.
        round: Round,
    },
    /// The sum that we asked for is at hand.
    Fetched {
        /// Under which generation.
        generation: Generation,
        /// Which round's sum.
        round: Round,
    },
    /// A connection to a peer broke or can't be made.
    PeerLost(WorkerId),
    /// A connection was broken because what came from the peer was damaged.
    PeerGarbled(WorkerId),
    /// The subscription to our source broke, or more came than we can hold.
    SourceLost {
        /// The source.
        from: WorkerId,
        /// What happened.
        error: String,
    },
    /// We are told to leave.
    Drain {
        /// For the log.
        reason: String,
    },
}

/// What the rim has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Say it to the coordinator.
    Tell(FromWorker),
    /// Load a state; `None` is how the job begins. Held sums are forgotten.
    Restore {
        /// Names the answer.
        task: Task,
        /// The checkpoint's manifest.
        manifest: Option<String>,
    },
    /// Add the gradients of these micro-batches to the partial sum.
    Compute {
        /// Names the answer.
        task: Task,
        /// Of which round.
        round: Round,
        /// Which.
        micro_batches: Vec<u32>,
        /// Start a new partial sum.
        fresh: bool,
    },
    /// Finish the micro-batch at hand and answer the Compute.
    StopCompute,
    /// Send the partial sum's parts to their owners and add our own.
    Contribute {
        /// The round.
        round: Round,
        /// The change that we vote for.
        vote: Option<Generation>,
    },
    /// One of our buckets is complete: send it to everybody. The whole round may
    /// be complete with it, and its exchange over.
    Broadcast {
        /// Of this round.
        round: Round,
        /// Which.
        bucket: u32,
    },
    /// The trailer is complete: send it to everybody.
    BroadcastTrailer,
    /// Apply a sum to the state.
    Apply {
        /// Names the answer.
        task: Task,
        /// Its round.
        round: Round,
        /// Where it is.
        sum: SumSource,
    },
    /// Send the kept sum of `round` to these subscribers, with our record.
    Stream {
        /// Which sum.
        round: Round,
        /// The generation we are in after it.
        record: GenerationRecord,
        /// To whom.
        to: Vec<WorkerId>,
    },
    /// We have nothing to offer to this subscriber.
    RefuseSubscription(WorkerId),
    /// Answer a subscription.
    AnswerSubscription {
        /// Whose.
        to: WorkerId,
        /// The first sum that it will get.
        first: Round,
        /// The generation we are in.
        record: GenerationRecord,
    },
    /// Send the kept sum of `round` to a member that lacks it.
    ServeFetch {
        /// To whom.
        to: WorkerId,
        /// Under which generation.
        generation: Generation,
        /// Which sum.
        round: Round,
    },
    /// Ask the source for the sum of `round`.
    Fetch {
        /// Whom.
        from: WorkerId,
        /// Which sum.
        round: Round,
    },
    /// See to it that all members of this record, and its source, are
    /// connected with us; the later worker of two dials. Where a new connection
    /// takes the place of one that we believed to be up, [`Event::PeerLost`]
    /// says so: what was sent on the old one may be lost.
    Connect(GenerationRecord),
    /// Subscribe to a member's sums, on a connection of its own.
    Follow {
        /// Whom.
        source: WorkerId,
        /// Where it listens.
        address: String,
    },
    /// Give up the subscription and the sums held from it.
    Unfollow,
    /// Write a checkpoint of the state as it is. The last one of the run is
    /// tried again until it is written: the end waits for it.
    Save {
        /// It is the last one of the run.
        last: bool,
    },
    /// Write a checkpoint of the state as it is, together: each of these copies
    /// a part of it, us among them, and the first one takes all that it needs to
    /// go on without the others. A state too small for that is the first one's.
    SaveTogether {
        /// Ranked.
        members: Vec<WorkerId>,
    },
    /// Leave; nobody needs us.
    Exit(ReleaseReason),
}

/// Where a complete sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumSource {
    /// The only member's own partial sum.
    Partial,
    /// Assembled from the exchange.
    Exchange,
    /// Fetched from a process that has it.
    Fetched,
    /// Received from the source.
    Streamed,
}
