//! Sums for followers: each round's, as the members apply it.

use bytes::Bytes;
use prost::Message;

use super::super::super::sums::PackedSum;
use super::super::{Driver, STREAMED_BYTES_MAX};
use super::{Offence, framed};
use crate::collective::{Frame, FrameKind, Link};
use crate::wire::control as pb;
use crate::world::member::Event;
use crate::world::{GenerationRecord, Round, WorkerId};

impl Driver {
    /// Our subscription is up: ask for the sums.
    pub(in crate::worker::driver) fn subscribe(&mut self) {
        let round = self.member.round().map_or(0, |r| r.0);
        let head = self.head(FrameKind::Subscribe, self.member.installed(), round);
        self.peers.send_to_source(framed(head, Bytes::new()));
    }

    pub(in crate::worker::driver) fn answer_subscription(
        &mut self,
        to: WorkerId,
        first: Round,
        record: &GenerationRecord,
    ) {
        let head = self.head(FrameKind::Subscribed, record.generation, first.0);
        let record = pb::GenerationRecord::from(record).encode_to_vec();
        let frame = framed(head, record.into());
        if self.peers.send_to_subscriber(to, frame).is_err() {
            self.event(Event::Unsubscribed(to));
        }
    }

    /// Sends the sum just applied to our followers; members never wait for one.
    pub(in crate::worker::driver) fn stream(
        &mut self,
        round: Round,
        record: &GenerationRecord,
        to: &[WorkerId],
    ) {
        let Some(sum) = self.kept.clone().filter(|sum| sum.round == round.0) else {
            // A subscriber that came while the sum was being applied gets the
            // next checkpoint instead.
            for worker in to {
                self.peers.drop_subscriber(*worker);
                self.event(Event::Unsubscribed(*worker));
            }
            return;
        };
        let generation = record.generation;
        let mut frames = self.sum_frames(&sum, FrameKind::StreamSum, generation);
        let record = pb::GenerationRecord::from(record).encode_to_vec();
        let mut bytes = (record.len() as u32).to_le_bytes().to_vec();
        bytes.extend(record);
        bytes.extend(&*sum.trailer);
        let head = self.head(FrameKind::StreamTrailer, generation, round.0);
        frames.push(framed(head, bytes.into()));
        for worker in to {
            let sent = frames
                .iter()
                .try_for_each(|frame| self.peers.send_to_subscriber(*worker, frame.clone()));
            if let Err(error) = sent {
                tracing::info!(follower = %worker, %error, "a follower can't keep up");
                self.event(Event::Unsubscribed(*worker));
            }
        }
    }

    pub(super) fn stream_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
        if !self.peers.is_source(link) {
            return Ok(());
        }
        let head = frame.head;
        let bytes = frame.payload.into_bytes();
        let is_next = self.streamed_next == Some(head.round);
        let len = self.rounds.elements();
        match head.kind {
            FrameKind::Subscribed => {
                let record = pb::GenerationRecord::decode(bytes)?.try_into()?;
                let (from, first) = (link.peer, Round(head.round));
                self.streamed_next = Some(head.round);
                self.event(Event::Subscribed {
                    from,
                    first,
                    record,
                });
            }
            _ if !is_next => return Err(Offence::OutOfOrder(Round(head.round))),
            FrameKind::StreamSum => {
                let sum = self
                    .arriving
                    .get_or_insert_with(|| PackedSum::new(head.round));
                sum.append(head.offset, head.values, bytes, len)?;
            }
            _ => {
                let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Offence::Short)?;
                let length = u32::from_le_bytes(*length) as usize;
                if rest.len() < length {
                    return Err(Offence::Short);
                }
                let record =
                    pb::GenerationRecord::decode(bytes.slice(4..4 + length))?.try_into()?;
                let mut sum = self
                    .arriving
                    .take()
                    .unwrap_or_else(|| PackedSum::new(head.round));
                sum.trailer = bytes.slice(4 + length..);
                if !self.may_hold_streamed() {
                    self.overflowed(link.peer);
                    return Ok(());
                }
                self.streamed.insert(head.round, sum);
                self.streamed_next = Some(head.round + 1);
                self.event(Event::Streamed {
                    from: link.peer,
                    round: Round(head.round),
                    record,
                });
            }
        }
        Ok(())
    }

    /// The source sends faster than we apply: start over with a newer state.
    pub(super) fn overflowed(&mut self, from: WorkerId) {
        self.forget_streamed();
        self.peers.unfollow();
        let error = "its sums came faster than they could be applied".to_owned();
        self.event(Event::SourceLost { from, error });
    }

    pub(in crate::worker::driver) fn forget_streamed(&mut self) {
        self.streamed.clear();
        self.arriving = None;
        self.streamed_next = None;
    }

    /// Whether another streamed sum may be kept for later.
    pub(super) fn may_hold_streamed(&self) -> bool {
        self.streamed
            .values()
            .map(PackedSum::byte_len)
            .sum::<usize>()
            < STREAMED_BYTES_MAX
    }
}
