//! Why a worker is gone and why there is a new world, as values; people's
//! words for them are made here and nowhere else.

use std::collections::BTreeSet;
use std::fmt;

use super::super::ids::WorkerId;

/// Why a worker is not in the pool any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its process is gone: nobody answers in its name at its address.
    Gone,
    /// Neither the coordinator nor its peers reach its host.
    Unreachable,
    /// It fell silent while others waited for it, and didn't answer when asked.
    Vanished,
    /// It had no session for too long, and the rounds stood still.
    Silent,
    /// It did not say what it holds when the others waited for it.
    Unanswered,
    /// The others waited for its part of a round far longer than any has taken.
    Hung,
    /// It said that it holds micro-batches that another one holds.
    Conflicting,
    /// It and another member can't reach each other: it came later, or lacks what
    /// the other has.
    CutOff {
        /// The member.
        from: WorkerId,
    },
    /// Frames between it and another came damaged, again on a new connection.
    Garbled {
        /// The other.
        with: WorkerId,
    },
    /// Its state was not the one that the others hold.
    Drifted,
    /// It left by itself, with these words.
    Said(String),
    /// It asked to leave, for this reason, and was let go.
    Drained(String),
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Departure::Gone => f.write_str("its process is gone"),
            Departure::Unreachable => f.write_str("neither we nor its peers reach it"),
            Departure::Vanished => f.write_str("it fell silent and does not answer"),
            Departure::Silent => f.write_str("silent for too long"),
            Departure::Unanswered => f.write_str("did not answer in time"),
            Departure::Hung => f.write_str("the others waited too long for its part"),
            Departure::Conflicting => f.write_str("reported micro-batches that another one holds"),
            Departure::CutOff { from } => write!(
                f,
                "it and worker {from} can't reach each other, and one has to go"
            ),
            Departure::Garbled { with } => write!(
                f,
                "frames between it and worker {with} come damaged, again on a new connection"
            ),
            Departure::Drifted => f.write_str(
                "its state differs from the others': a memory or a device that can't be trusted",
            ),
            Departure::Said(words) | Departure::Drained(words) => f.write_str(words),
        }
    }
}

/// Why there is a new world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Enough workers were ready for the first one.
    Started,
    /// A process that the world needed is gone.
    Left(WorkerId, Departure),
    /// Two members lost their connection, and both live.
    Disconnected(WorkerId, WorkerId),
    /// One of them got a damaged frame from the other.
    Garbled {
        /// Who got it.
        by: WorkerId,
        /// Who sent it.
        peer: WorkerId,
    },
    /// A member came back to its session: what it missed is made good.
    Returned(WorkerId),
    /// A newcomer that the world waited for can't come; why.
    CameNot(WorkerId, &'static str),
    /// These members waited for each other: something was lost on the way.
    Standstill(BTreeSet<WorkerId>),
    /// Somebody came to the paused world, or left it.
    WhilePaused,
    /// The coordinator started again.
    Restarted,
    /// Workers came or left at a round boundary; who.
    Planned(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Started => f.write_str("enough workers are ready"),
            Cause::Left(worker, departure) => write!(f, "worker {worker} left: {departure}"),
            Cause::Disconnected(a, b) => write!(f, "workers {a} and {b} lost their connection"),
            Cause::Garbled { by, peer } => {
                write!(f, "worker {by} got a damaged frame from worker {peer}")
            }
            Cause::Returned(worker) => write!(f, "worker {worker} came back to its session"),
            Cause::CameNot(worker, why) => write!(f, "worker {worker} {why}"),
            Cause::Standstill(members) => {
                let all: Vec<String> = members.iter().map(WorkerId::to_string).collect();
                write!(f, "workers {} waited for each other", all.join(", "))
            }
            Cause::WhilePaused => f.write_str("the paused world's workers changed"),
            Cause::Restarted => f.write_str("the coordinator started again"),
            Cause::Planned(who) => f.write_str(who),
        }
    }
}
