//! Frames in and out: each is checked against the machine's state before its
//! values are looked at.

mod exchange;
mod fetch;
mod stream;

use bytes::Bytes;

use super::super::rounds::BadPiece;
use super::super::sums::BadSum;
use super::super::trailer::TrailerError;
use super::{Driver, HeldFrame};
use crate::collective::{ConnectionKind, Frame, FrameHead, FrameKind, HEADER_LEN, Link, Payload};
use crate::exact::MergeError;
use crate::wire::WireError;
use crate::world::member::{Event, Violation};
use crate::world::{Generation, Round};

/// What a peer must not send; its connection is closed.
#[derive(Debug, thiserror::Error)]
enum Offence {
    #[error(transparent)]
    Protocol(#[from] Violation),
    #[error(transparent)]
    Piece(#[from] BadPiece),
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("a generation record that can't be read: {0}")]
    Record(#[from] prost::DecodeError),
    #[error("a generation record that makes no sense: {0}")]
    Wire(#[from] WireError),
    #[error("a stream trailer that is cut short")]
    Short,
    #[error(transparent)]
    Sum(#[from] BadSum),
    #[error("{0:?} of a sum that nobody asked it for")]
    NotAsked(FrameKind),
    #[error("a sum of {0:?}, which is not the next one")]
    OutOfOrder(Round),
}

impl Driver {
    /// A frame has come.
    pub(super) fn frame(&mut self, link: Link, frame: Frame) {
        // Where another link has taken its place, only that one counts.
        if link.kind != ConnectionKind::Exchange || self.peers.is_exchange(link) {
            self.offer(link, frame);
        }
    }

    fn offer(&mut self, link: Link, frame: Frame) {
        let outcome = match frame.head.kind {
            FrameKind::Contribute
            | FrameKind::Reduced
            | FrameKind::TrailerContribute
            | FrameKind::TrailerReduced => self.exchange_frame(link, frame),
            FrameKind::Fetch
            | FrameKind::FetchedSum
            | FrameKind::FetchedTrailer
            | FrameKind::NotHeld => self.fetch_frame(link, frame),
            FrameKind::Subscribe => {
                self.event(Event::Subscribe(link.peer));
                Ok(())
            }
            FrameKind::Subscribed | FrameKind::StreamSum | FrameKind::StreamTrailer => {
                self.stream_frame(link, frame)
            }
        };
        if let Err(offence) = outcome {
            tracing::warn!(peer = %link.peer, %offence, "closing the connection");
            self.peers.close(link);
        }
    }

    /// Looks again at what came too early.
    pub(super) fn offer_held(&mut self) {
        for HeldFrame { link, frame } in std::mem::take(&mut self.held) {
            self.offer(link, frame);
        }
    }

    /// Keeps what came too early: at most two rounds of one peer, so that
    /// nobody takes the room of others.
    fn hold(&mut self, link: Link, frame: Frame) {
        let of_the_peer = self.held.iter().filter(|held| held.link == link);
        let bytes: usize = of_the_peer
            .map(|held| held.frame.payload.bytes().len() + HEADER_LEN)
            .sum();
        if bytes < 2 * self.rounds.peer_bytes_max() {
            self.held.push_back(HeldFrame { link, frame });
        } else {
            tracing::warn!(peer = %link.peer, "too much came too early; closing the connection");
            self.peers.close(link);
        }
    }

    fn head(&self, kind: FrameKind, generation: Generation, round: u64) -> FrameHead {
        FrameHead {
            kind,
            sender: self.me,
            generation,
            round,
            offset: 0,
            values: 0,
            bucket: 0,
        }
    }
}

/// A frame of ours, whose payload is never too large: buckets are bounded.
fn framed(head: FrameHead, bytes: Bytes) -> Frame {
    let payload = Payload::new(bytes).unwrap_or_else(|error| panic!("a frame of our own: {error}"));
    Frame { head, payload }
}
