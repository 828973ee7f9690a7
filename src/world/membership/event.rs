//! The closed sets of what can happen to a coordinator's world and what it then
//! does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::message::{FromWorker, Holdings, ToWorker};
use super::super::{Generation, GenerationRecord, Member, Round, WorkerId};
use super::drift::{Agreed, Drift};
use super::reason::{Cause, Departure};

/// What the operator asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Members needed before the first round; 1 with `--world-size auto`.
    pub start_size: usize,
    /// Fewer members than this pause.
    pub members_min: usize,
    /// Micro-batches in a step.
    pub micro_batches: u32,
    /// No more members than this; never more than micro-batches in a step.
    pub members_max: usize,
    /// So many workers beyond that follow, each ready to take a lost member's
    /// place in the same step.
    pub spares: usize,
    /// How long a process may be silent where it has to answer.
    pub patience: Duration,
}

/// What must be on disk before anybody hears of it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Durable {
    /// The newest number given out.
    pub number: Generation,
    /// The world in force.
    pub current: Option<GenerationRecord>,
    /// The planned change that members may have heard of.
    pub pending: Option<GenerationRecord>,
    /// The longest that any worker has said it trains on without a coordinator.
    #[serde(default)]
    pub trains_on: Duration,
    /// Checkpoints after this round are of states that had drifted, and have to
    /// be gone before any is looked for.
    #[serde(default)]
    pub go_back: Option<Round>,
}

/// Everything that can happen to the coordinator's world.
#[derive(Clone, Debug)]
pub enum Event {
    /// A registered worker opened its session and said what it holds.
    Hello {
        /// Who.
        worker: WorkerId,
        /// How it is reached and how much it can do.
        member: Member,
        /// For people.
        name: String,
        /// What it holds.
        holdings: Holdings,
        /// So long does it train on without us once it has noticed.
        trains_on: Duration,
        /// It only follows, and writes the checkpoints.
        shadow: bool,
    },
    /// A worker said something.
    From(WorkerId, FromWorker),
    /// A session ended without a Bye.
    SessionBroken(WorkerId),
    /// The answer to a [`Command::Probe`].
    Probed(WorkerId, Probe),
    /// The answer to [`Command::FindStart`].
    Start {
        /// The newest checkpoint that verifies; `None`: how the job begins.
        manifest: Option<String>,
        /// Its round, 0 without one.
        round: Round,
    },
    /// A member has seen that the members hold different states.
    Drifted(WorkerId, Drift),
    /// Members have compared their states, and hold the same, as one says.
    Agreed(WorkerId, Agreed),
    /// Who tells what was decided holds this after that round: a chain of digests.
    Holds(WorkerId, Round, String),
    /// Save everything, let everybody go.
    Stop,
    /// Time passes.
    Tick,
}

impl Event {
    /// What happens many times a second in a large fleet. Unless it leads to a
    /// command, it changes neither what is to be planned nor who idles.
    pub(super) fn is_routine(&self) -> bool {
        match self {
            Event::Tick | Event::Probed(..) => true,
            Event::From(_, message) => matches!(
                message,
                FromWorker::Progress { .. }
                    | FromWorker::PeerLost { .. }
                    | FromWorker::Report { .. }
            ),
            _ => false,
        }
    }
}

/// What a try to connect to a worker's peer address showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody listens there any more: the process is gone.
    Refused,
    /// Somebody listens: the process lives.
    Accepted,
    /// No answer: the host may be gone, or the way to it.
    Silent,
}

/// What the rim has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write down durably, before anything after it.
    Persist(Durable),
    /// Send on the worker's session, if it has one.
    Send(WorkerId, ToWorker),
    /// Ask at a worker's peer address whether its process lives.
    Probe {
        /// Whose.
        worker: WorkerId,
        /// Where.
        address: String,
        /// After so long no answer is one.
        within: Duration,
    },
    /// Throw away the checkpoints after this round, before the next start is
    /// looked for.
    GoBack(Round),
    /// Find the newest checkpoint that verifies.
    FindStart,
    /// Tell people.
    Note(Note),
    /// The run is over for this coordinator.
    End(Outcome),
}

/// How the run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; the manifest holds the result.
    Finished {
        /// The last checkpoint.
        manifest: String,
    },
    /// The job can't go on.
    Failed(String),
    /// Stopped on request; can be resumed.
    Stopped,
}

/// What people want to know, each decision with its reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A new world is in force.
    Installed {
        /// It.
        record: GenerationRecord,
        /// Why there is a new one.
        cause: Cause,
        /// Micro-batches that are computed again.
        recomputed: u32,
    },
    /// A worker became a member.
    Joined {
        /// Who.
        worker: WorkerId,
        /// For people.
        name: String,
        /// Of the world that took it in; there may be a newer one by now.
        generation: Generation,
    },
    /// A worker is gone.
    Left {
        /// Who.
        worker: WorkerId,
        /// For people.
        name: String,
        /// Why.
        departure: Departure,
    },
    /// A newcomer's node was lost so often that it becomes no member for a while.
    Flapping {
        /// Who.
        worker: WorkerId,
        /// For people.
        name: String,
        /// How often its node was lost lately.
        losses: u32,
        /// For how long it only follows.
        wait: Duration,
    },
    /// Members hold different states; all go back to where they agreed.
    Drifted {
        /// Which, and who.
        drift: Drift,
        /// Who drifted, as far as that is known.
        culprits: BTreeSet<WorkerId>,
    },
    /// This one follows as a hot spare.
    Spare {
        /// Who.
        worker: WorkerId,
        /// For people.
        name: String,
    },
    /// These have nothing to do.
    Idle(Vec<WorkerId>),
    /// A checkpoint is whole.
    Committed {
        /// Its manifest.
        manifest: String,
        /// Its round.
        round: Round,
        /// Who wrote it.
        worker: WorkerId,
    },
    /// A checkpoint could not be written.
    SaveFailed {
        /// Who tried.
        worker: WorkerId,
        /// Its round.
        round: Round,
        /// What went wrong.
        error: String,
    },
    /// The shadow has saved what the lost world was at: it goes on from there.
    Rescued {
        /// The checkpoint.
        manifest: String,
        /// Its round.
        round: Round,
    },
    /// Nobody holds the state any more; training resumes from a checkpoint.
    WorldLost {
        /// The last round that was known to be applied.
        round: Round,
        /// The shadow holds it.
        shadow: bool,
    },
    /// Something that should not happen, and what was done about it.
    Suspicious(String),
}
