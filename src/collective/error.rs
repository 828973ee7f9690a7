//! What can go wrong while two processes find each other, in words that name
//! the address and say what to do.

use std::io;
use std::time::Duration;

use super::handshake::HandshakeError;
use super::identity::{Generation, Refusal, WorkerId};

/// Why an address could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{addr}: no such address ({source}); give HOST:PORT")]
    Resolve {
        /// As it was given.
        addr: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The host is there, the port is closed.
    #[error("{addr}: connection refused; nothing listens there (yet), or a firewall says no")]
    RefusedByHost {
        /// As it was given.
        addr: String,
    },
    /// No way to the host.
    #[error("{addr}: unreachable ({source}); check the address and the route")]
    Unreachable {
        /// As it was given.
        addr: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// No answer in time.
    #[error(
        "{addr}: no answer within {after:?} while {phase}; the host may be gone, or a firewall drops packets"
    )]
    TimedOut {
        /// As it was given.
        addr: String,
        /// The time that was allowed.
        after: Duration,
        /// What was being waited for.
        phase: &'static str,
    },
    /// Closed in the middle of the handshake.
    #[error(
        "{addr}: the other side hung up during the handshake; it may be stopping, overrun, or not ebbtide"
    )]
    HungUp {
        /// As it was given.
        addr: String,
    },
    /// Another protocol answers there.
    #[error("{addr}: not an ebbtide port (it answered \"{}\"); check host and port", found.escape_ascii())]
    NotEbbtide {
        /// As it was given.
        addr: String,
        /// The first bytes of the answer.
        found: [u8; 4],
    },
    /// Another build answers there.
    #[error(
        "{addr}: speaks protocol version {theirs}, this build version {ours}; run the same build on both"
    )]
    WrongVersion {
        /// As it was given.
        addr: String,
        /// Our version.
        ours: u16,
        /// The other side's.
        theirs: u16,
    },
    /// The tokens differ.
    #[error("{addr}: wrong token; set EBBTIDE_TOKEN to the one that the coordinator shows")]
    WrongToken {
        /// As it was given.
        addr: String,
    },
    /// It trains another run.
    #[error("{addr}: belongs to another run")]
    WrongRun {
        /// As it was given.
        addr: String,
    },
    /// Our generation is over.
    #[error(
        "{addr}: generation {ours} is over, {newest} is known there; wait for the coordinator's word"
    )]
    StaleGeneration {
        /// As it was given.
        addr: String,
        /// What our hello said.
        ours: Generation,
        /// What is known there.
        newest: Generation,
    },
    /// We aren't known there.
    #[error("{addr}: doesn't know us as a member (yet)")]
    UnknownWorker {
        /// As it was given.
        addr: String,
    },
    /// A coordinator's port dialled as a worker's, or the other way round.
    #[error("{addr}: takes no {kind} connections; is it the coordinator's port or a worker's?")]
    WrongKind {
        /// As it was given.
        addr: String,
        /// What was asked for.
        kind: super::ConnectionKind,
    },
    /// As many connections as allowed are open there.
    #[error("{addr}: has as many connections as it takes; try again later")]
    Busy {
        /// As it was given.
        addr: String,
    },
    /// Another worker has taken over the address.
    #[error("{addr}: answered by {found:?}, not {expected:?}; the node was replaced")]
    WrongWorker {
        /// As it was given.
        addr: String,
        /// Whom we dialled.
        expected: WorkerId,
        /// Who answered.
        found: Option<WorkerId>,
    },
    /// A message that this version can't read.
    #[error("{addr}: malformed handshake ({what}); run the same build on both")]
    Malformed {
        /// As it was given.
        addr: String,
        /// Which field.
        what: &'static str,
    },
    /// Anything else from the operating system.
    #[error("{addr}: {source}")]
    Io {
        /// As it was given.
        addr: String,
        /// Its answer.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether the same call may succeed later without anyone changing
    /// anything: a node still starting, a host gone, a queue full.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. }
                | Self::RefusedByHost { .. }
                | Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::HungUp { .. }
                | Self::UnknownWorker { .. }
                | Self::Busy { .. }
                | Self::Io { .. }
        )
    }

    pub(super) fn from_connect(addr: &str, source: io::Error, after: Duration) -> ConnectError {
        let addr = addr.to_owned();
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::RefusedByHost { addr },
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable { addr, source },
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut {
                addr,
                after,
                phase: "connecting",
            },
            _ => Self::Io { addr, source },
        }
    }

    pub(super) fn from_exchange(addr: &str, source: io::Error, after: Duration) -> ConnectError {
        let addr = addr.to_owned();
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut {
                addr,
                after,
                phase: "shaking hands",
            },
            kind if is_hang_up(kind) => Self::HungUp { addr },
            _ => Self::Io { addr, source },
        }
    }

    pub(super) fn from_handshake(
        addr: &str,
        error: HandshakeError,
        hello: &super::Hello,
    ) -> ConnectError {
        let addr = addr.to_owned();
        match error {
            HandshakeError::NotEbbtide { found } => Self::NotEbbtide { addr, found },
            HandshakeError::WrongVersion { ours, theirs } => {
                Self::WrongVersion { addr, ours, theirs }
            }
            HandshakeError::WrongToken => Self::WrongToken { addr },
            HandshakeError::Malformed(what) => Self::Malformed { addr, what },
            HandshakeError::Refused(refusal) => match refusal {
                Refusal::WrongRun => Self::WrongRun { addr },
                Refusal::StaleGeneration { newest } => Self::StaleGeneration {
                    addr,
                    ours: hello.generation,
                    newest,
                },
                Refusal::UnknownWorker => Self::UnknownWorker { addr },
                Refusal::WrongKind => Self::WrongKind {
                    addr,
                    kind: hello.kind,
                },
                Refusal::Busy => Self::Busy { addr },
            },
        }
    }
}

/// Why somebody who knocked was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The handshake itself says no.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It didn't finish in time.
    #[error("no complete handshake within {0:?}")]
    TimedOut(Duration),
    /// It closed before the end.
    #[error("hung up during the handshake")]
    HungUp,
    /// Anything else from the operating system.
    #[error(transparent)]
    Io(io::Error),
}

impl AcceptError {
    pub(super) fn from_io(source: io::Error, after: Duration) -> AcceptError {
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut(after),
            kind if is_hang_up(kind) => Self::HungUp,
            _ => Self::Io(source),
        }
    }
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct ListenError {
    /// As it was given.
    pub addr: String,
    /// The operating system's answer.
    pub source: io::Error,
}

/// Whether an error of this kind means that the other side closed.
pub(super) fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}
