//! What a listener does about strangers: it bounds how many may be at the
//! door at once, counts what became of them, and doesn't let them fill a log.
//!
//! When the door is crowded the oldest unfinished handshake is dropped for the
//! newest: an honest one takes milliseconds, so whoever has been standing
//! there longest is the likeliest to mean no good, and nobody can keep others
//! out by holding the door.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::AcceptError;
use super::handshake::HandshakeError;

/// Bounds on a listener.
#[derive(Clone, Copy, Debug)]
pub struct DoorLimits {
    /// Most handshakes under way at once.
    pub handshakes_max: usize,
    /// Most authenticated connections at once.
    pub connections_max: usize,
}

impl Default for DoorLimits {
    fn default() -> DoorLimits {
        DoorLimits {
            handshakes_max: 64,
            connections_max: 4096,
        }
    }
}

/// What became of those who knocked, since the listener was opened.
#[derive(Debug, Default)]
pub struct DoorCounters {
    accepted: AtomicU64,
    not_ebbtide: AtomicU64,
    wrong_version: AtomicU64,
    wrong_token: AtomicU64,
    refused: AtomicU64,
    unfinished: AtomicU64,
}

/// A reading of [`DoorCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Let in.
    pub accepted: u64,
    /// Garbage, or another protocol.
    pub not_ebbtide: u64,
    /// Other builds.
    pub wrong_version: u64,
    /// Other tokens.
    pub wrong_token: u64,
    /// Refused by the policy, or because enough connections are open.
    pub refused: u64,
    /// Timed out, hung up, or dropped for a newer one.
    pub unfinished: u64,
}

impl DoorCounters {
    /// The counts so far.
    pub fn read(&self) -> DoorCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DoorCounts {
            accepted: get(&self.accepted),
            not_ebbtide: get(&self.not_ebbtide),
            wrong_version: get(&self.wrong_version),
            wrong_token: get(&self.wrong_token),
            refused: get(&self.refused),
            unfinished: get(&self.unfinished),
        }
    }

    pub(super) fn note_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts, and says so at the 1st, 2nd, 4th, 8th ... of its sort.
    pub(super) fn note_rejected(&self, from: SocketAddr, error: &AcceptError) {
        let counter = match error {
            AcceptError::Handshake(
                HandshakeError::NotEbbtide { .. } | HandshakeError::Malformed(_),
            ) => &self.not_ebbtide,
            AcceptError::Handshake(HandshakeError::WrongVersion { .. }) => &self.wrong_version,
            AcceptError::Handshake(HandshakeError::WrongToken) => &self.wrong_token,
            AcceptError::Handshake(HandshakeError::Refused(_)) => &self.refused,
            AcceptError::TimedOut(_) | AcceptError::HungUp | AcceptError::Io(_) => &self.unfinished,
        };
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(%from, count, reason = %error, "connection not let in");
        }
    }
}
