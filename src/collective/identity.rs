//! Who is at the other end: the plain values that a connection opens with.
//!
//! Everything here is claimed by the peer in its hello and believed only after
//! the handshake has shown that it knows the token.

use std::fmt;
use std::net::SocketAddr;

use super::path::Path;

pub use crate::world::{Generation, WorkerId};

/// The first 16 bytes of the run's id; all zeros before a run is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunTag(pub [u8; 16]);

impl RunTag {
    /// The tag of the run with this id.
    pub fn of(run: &str) -> RunTag {
        let mut tag = [0; 16];
        tag.iter_mut()
            .zip(run.bytes())
            .for_each(|(to, from)| *to = from);
        RunTag(tag)
    }
}

impl fmt::Display for RunTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a connection carries. Streams have connections of their own, so that
/// exchange frames held back for a newer generation can't block them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConnectionKind {
    /// gRPC to the coordinator.
    Control = 1,
    /// The members' reduce-scatter and all-gather, and sums fetched after a loss.
    Exchange = 2,
    /// Gradient sums to a follower.
    Stream = 3,
    /// The coordinator's question whether a worker's process lives; the verdict
    /// says which worker it is, and the connection ends there.
    Probe = 4,
}

impl ConnectionKind {
    /// Whether frames cross it.
    pub fn carries_frames(self) -> bool {
        matches!(self, Self::Exchange | Self::Stream)
    }

    pub(crate) fn from_wire(byte: u8) -> Option<ConnectionKind> {
        [Self::Control, Self::Exchange, Self::Stream, Self::Probe]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Exchange => "exchange",
            Self::Stream => "stream",
            Self::Probe => "probe",
        })
    }
}

/// What the dialling side says about itself before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the connection will carry.
    pub kind: ConnectionKind,
    /// The dialler's number; `None` before the coordinator gave it one.
    pub worker: Option<WorkerId>,
    /// The newest generation the dialler knows; zero before the first.
    pub generation: Generation,
    /// The run it works on; zeros before one is known.
    pub run: RunTag,
}

/// Who is at the other end of an authenticated connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// What the connection carries.
    pub kind: ConnectionKind,
    /// The other side's number; `None` for a coordinator, and for a worker
    /// that has none yet.
    pub worker: Option<WorkerId>,
    /// The generation in the dialler's hello.
    pub generation: Generation,
    /// The run in the dialler's hello.
    pub run: RunTag,
    /// The address the connection comes from (or goes to, where we dialled).
    pub remote_addr: SocketAddr,
    /// Whether somebody passes it on in between.
    pub path: Path,
}

/// What the accepting side's policy decides about an authenticated hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Come in; this is who answers (`None` for the coordinator).
    Welcome {
        /// The answering worker, so that a dialler notices when another
        /// process has taken over an address it knew.
        worker: Option<WorkerId>,
    },
    /// Stay out, for this reason.
    Refuse(Refusal),
}

/// Why an authenticated peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer works on another run.
    #[error("it works on another run")]
    WrongRun,
    /// The peer's generation is over.
    #[error("the generation is over: the newest known there is {newest}")]
    StaleGeneration {
        /// The newest generation that the accepting side knows.
        newest: Generation,
    },
    /// No such worker in the accepting side's world.
    #[error("no such worker is known there")]
    UnknownWorker,
    /// A control connection to a worker, or a peer connection to a coordinator.
    #[error("connections of this kind are not taken there")]
    WrongKind,
    /// As many connections as allowed are open.
    #[error("it has as many connections as it takes")]
    Busy,
}
