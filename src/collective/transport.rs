//! What the rest of a worker knows about peer connections: links that carry
//! frames, and events that say what happened to them.
//!
//! ```text
//!   dial ----> Connected | DialFailed        listener ----> Connected
//!   send ----> (queue) ----> peer            peer     ----> Frame, Frame, ...
//!                   close, failure, peer gone ----> Lost, once, last
//! ```
//!
//! Nothing here blocks the caller, and nothing decides: which peer to dial,
//! what a frame means and what a loss costs is `world`'s business.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::error::ConnectError;
use super::frame::{Frame, FrameError, FrameKind};
use super::identity::{ConnectionKind, Hello, PeerIdentity, WorkerId};

/// One authenticated connection to one worker. A worker that was lost and
/// comes back is another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Who is at the other end.
    pub peer: WorkerId,
    /// What it carries.
    pub kind: ConnectionKind,
    /// Unlike any other in this process.
    pub(super) number: u64,
}

#[cfg(test)]
impl Link {
    /// One that no transport has opened.
    pub(crate) fn imagined(peer: WorkerId, kind: ConnectionKind, number: u64) -> Link {
        Link { peer, kind, number }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.peer, self.kind)
    }
}

/// Which side opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We dialled.
    Dialled,
    /// The peer dialled, our policy let it in.
    Accepted,
}

/// What happens to links. For one link always in this order: one `Connected`,
/// any number of `Frame`s, one `Lost`.
#[derive(Debug)]
pub enum PeerEvent {
    /// A link is open.
    Connected {
        /// The link.
        link: Link,
        /// What the handshake showed about the other side.
        peer: PeerIdentity,
        /// Who opened it.
        side: Side,
    },
    /// A frame has come, its checksums right, its sender the link's peer, its
    /// kind one that belongs on the link.
    Frame {
        /// The link.
        link: Link,
        /// The frame. Its payload's buffer is used again once the last holder
        /// drops it.
        frame: Frame,
    },
    /// The link is no more. Its last event.
    Lost {
        /// The link.
        link: Link,
        /// Why.
        reason: LostReason,
    },
    /// A [`Transport::dial`] that came to nothing.
    DialFailed {
        /// Whom we wanted.
        peer: WorkerId,
        /// For what.
        kind: ConnectionKind,
        /// Why not.
        error: ConnectError,
    },
}

/// Takes events, from several threads at once. It may block for a moment (a
/// bounded channel that is full): the link isn't read meanwhile, which holds
/// up its peer alone. Held up for longer than
/// [`super::SocketOptions::unacknowledged_timeout`], the peer takes us for dead.
pub type EventSink = Arc<dyn Fn(PeerEvent) + Send + Sync>;

/// Why a link is no more.
#[derive(Debug, thiserror::Error)]
pub enum LostReason {
    /// The peer closed it between two frames: it stopped, or was killed.
    #[error("the peer closed the connection")]
    HungUp,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// Bytes that are no frame.
    #[error("{0}")]
    BadFrame(FrameError),
    /// A frame in another worker's name.
    #[error("a frame in the name of {claimed:?}")]
    WrongSender {
        /// Whose name it bears.
        claimed: WorkerId,
    },
    /// A frame of a kind that doesn't belong on this kind of link.
    #[error("a {0:?} frame doesn't belong on this connection")]
    Misplaced(FrameKind),
    /// More was queued than the protocol can need: the peer doesn't read.
    #[error("{queued} bytes wait for the peer, {limit} are allowed")]
    QueueFull {
        /// Bytes that waited.
        queued: usize,
        /// Bytes that may wait.
        limit: usize,
    },
    /// We closed it.
    #[error("closed here")]
    ClosedHere,
}

impl LostReason {
    /// Whether the peer broke the protocol, rather than vanished.
    pub fn is_violation(&self) -> bool {
        match self {
            Self::BadFrame(FrameError::Truncated { .. } | FrameError::Io(_)) => false,
            Self::BadFrame(_) | Self::WrongSender { .. } | Self::Misplaced(_) => true,
            Self::HungUp | Self::Broken(_) | Self::QueueFull { .. } | Self::ClosedHere => false,
        }
    }
}

/// Why a frame wasn't queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is no more; its `Lost` has come or will.
    #[error("{0}: the connection is gone")]
    NotConnected(Link),
    /// The peer doesn't read as fast as we send. A stream goes on without the
    /// frame (the caller drops the follower); an exchange is closed, because
    /// its protocol bounds what can wait.
    #[error("{link}: {queued} bytes wait already, {limit} are allowed")]
    QueueFull {
        /// The link.
        link: Link,
        /// Bytes waiting.
        queued: usize,
        /// Bytes that may wait.
        limit: usize,
    },
}

/// Carries frames between this worker and others.
pub trait Transport: Send + Sync + 'static {
    /// Begins to dial a worker at HOST:PORT; the outcome is an event
    /// (`Connected` or `DialFailed`, the latter too when somebody else answers
    /// there). The hello says who we are and what for.
    fn dial(&self, peer: WorkerId, addr: &str, hello: &Hello);

    /// Queues a frame. Never waits; the payload is shared, not copied.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the frame is sent then.
    fn send(&self, link: Link, frame: Frame) -> Result<(), SendError>;

    /// Sends what is queued, then closes; the `Lost` event follows.
    fn close(&self, link: Link);
}
