//! Frames in and out: each is checked against the machine's state before its
//! values are looked at.

use bytes::Bytes;
use prost::Message;

use super::driver::{Driver, HeldFrame};
use super::inject::Point;
use super::rounds::BadPiece;
use super::sums::{BadSum, PackedSum};
use super::trailer::{Trailer, TrailerError};
use crate::collective::{
    ConnectionKind, Frame, FrameHead, FrameKind, HEADER_LEN, Link, Payload,
};
use crate::exact::MergeError;
use crate::wire::WireError;
use crate::wire::control as pb;
use crate::world::member::{Admit, Event, Violation};
use crate::world::{Generation, GenerationRecord, Round, WorkerId};

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
            FrameKind::StreamEnd | FrameKind::Applied => Ok(()),
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

    fn exchange_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
        let head = frame.head;
        let current = self
            .member
            .record()
            .filter(|record| record.generation == head.generation);
        if current.is_some_and(|record| !record.has(link.peer)) {
            return Err(Violation::NotAMember(link.peer).into());
        }
        match self
            .member
            .admit(link.peer, head.generation, Round(head.round))?
        {
            Admit::Drop => Ok(()),
            Admit::Hold => {
                self.hold(link, frame);
                Ok(())
            }
            Admit::Now => self.take(link.peer, head, frame.payload.into_bytes()),
        }
    }

    /// Takes the values of an admitted frame, then tells the machine.
    fn take(&mut self, from: WorkerId, head: FrameHead, bytes: Bytes) -> Result<(), Offence> {
        let Some(exchange) = self.member.exchange() else {
            return Ok(());
        };
        let (rank, me) = (exchange.rank_of(from)?, exchange.rank());
        match head.kind {
            FrameKind::Contribute => {
                let bucket = self
                    .rounds
                    .piece(me, head.bucket, head.offset, head.values)?;
                let local = bucket.index;
                exchange.may_contribute(from, local)?;
                let untouched = exchange.is_untouched(local);
                self.rounds.add_peer(&bucket, untouched, &bytes)?;
                self.event(Event::Contributed {
                    from,
                    bucket: local,
                });
            }
            FrameKind::Reduced => {
                let bucket = self
                    .rounds
                    .piece(rank, head.bucket, head.offset, head.values)?;
                let local = bucket.index;
                exchange.may_reduce(from, local)?;
                self.rounds.store_reduced(&bucket, bytes)?;
                self.event(Event::Reduced {
                    from,
                    bucket: local,
                });
            }
            FrameKind::TrailerContribute => {
                exchange.may_contribute_trailer(from)?;
                let trailer = Trailer::from_bytes(&bytes)?;
                trailer.is_ones()?;
                trailer.covers(self.shape(), self.member.share_of(from))?;
                self.merge_trailer(trailer)?;
                self.event(Event::TrailerContributed { from });
            }
            _ => {
                exchange.may_reduce_trailer(from)?;
                let trailer = Trailer::from_bytes(&bytes)?;
                trailer.covers(self.shape(), 0..self.member.micro_batches())?;
                self.trailer_complete(trailer);
            }
        }
        Ok(())
    }

    fn merge_trailer(&mut self, trailer: Trailer) -> Result<(), MergeError> {
        match &mut self.rounds.trailer {
            Some(sum) => sum.merge(&trailer),
            none => {
                *none = Some(trailer);
                Ok(())
            }
        }
    }

    fn trailer_complete(&mut self, trailer: Trailer) {
        let votes = trailer.votes.clone();
        if let Some(round) = trailer.drift() {
            self.drifted(round);
        }
        self.rounds.trailer = Some(trailer);
        self.event(Event::TrailerReduced { votes });
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

    /// Sends our partial's parts to their owners, then adds our own.
    pub(super) fn contribute(&mut self, round: Round, vote: Option<Generation>) {
        let Some(exchange) = self.member.exchange() else {
            return;
        };
        let (me, generation) = (exchange.rank(), exchange.generation);
        let members = exchange.members().to_vec();
        let limit = self.faults.peers(Point::Contributed, &self.kind);
        let cut = *self.rounds.cut();
        let others: Vec<usize> = (1..members.len())
            .map(|i| (me + i) % members.len())
            .collect();
        let most = others
            .iter()
            .map(|o| cut.buckets(*o).count())
            .max()
            .unwrap_or(0);
        let trailer = self.own_trailer(vote);
        for local in 0..most {
            for owner in others.iter().take(limit.unwrap_or(usize::MAX)) {
                let Some(bucket) = self.rounds.bucket(*owner, local as u32) else {
                    continue;
                };
                let head = FrameHead {
                    offset: bucket.range.start as u64,
                    values: bucket.range.len() as u32,
                    bucket: bucket.index,
                    ..self.head(FrameKind::Contribute, generation, round.0)
                };
                let payload = payload(self.rounds.pack_partial(&bucket));
                self.peers.send(members[*owner], Frame { head, payload });
            }
        }
        if limit.is_some() {
            let kind = self.kind.clone();
            self.faults.reached(Point::Contributed, &kind);
        }
        for bucket in cut.buckets(me) {
            let local = bucket.index;
            let untouched = self
                .member
                .exchange()
                .is_some_and(|x| x.is_untouched(local));
            self.rounds.add_own(&bucket, untouched);
            self.event(Event::Contributed {
                from: self.me,
                bucket: local,
            });
        }
        if me == 0 {
            if let Err(error) = self.merge_trailer(trailer) {
                panic!("our own trailer does not fit the sum: {error}");
            }
            self.event(Event::TrailerContributed { from: self.me });
        } else {
            let head = self.head(FrameKind::TrailerContribute, generation, round.0);
            let payload = payload(trailer.to_bytes().into());
            self.peers.send(members[0], Frame { head, payload });
        }
    }

    fn own_trailer(&mut self, vote: Option<Generation>) -> Trailer {
        let mut trailer = Trailer::new(self.rounds.partial.totals.clone());
        trailer.votes.extend(vote.map(|change| (change, 1)));
        trailer.digests.extend(self.digest.take());
        trailer
    }

    /// One of our buckets is finished.
    pub(super) fn broadcast(&mut self, local: u32) {
        let Some(exchange) = self.member.exchange() else {
            return;
        };
        let (me, generation, round) = (exchange.rank(), exchange.generation, exchange.round);
        let others = exchange.others();
        let last = exchange.is_last_bucket(local);
        let Some(bucket) = self.rounds.bucket(me, local) else {
            return;
        };
        let head = FrameHead {
            offset: bucket.range.start as u64,
            values: bucket.range.len() as u32,
            bucket: bucket.index,
            ..self.head(FrameKind::Reduced, generation, round.0)
        };
        let payload = payload(self.rounds.pack_reduced(&bucket));
        let limit = self.faults.peers(Point::Reduced, &self.kind);
        for to in others.into_iter().take(limit.unwrap_or(usize::MAX)) {
            self.peers.send(
                to,
                Frame {
                    head,
                    payload: payload.clone(),
                },
            );
        }
        if limit.is_some() && last {
            let kind = self.kind.clone();
            self.faults.reached(Point::Reduced, &kind);
        }
    }

    /// The trailer is finished; the first member only.
    pub(super) fn broadcast_trailer(&mut self) {
        let (Some(exchange), Some(trailer)) = (self.member.exchange(), self.rounds.trailer.take())
        else {
            return;
        };
        let (generation, round) = (exchange.generation, exchange.round);
        let payload = payload(trailer.to_bytes().into());
        let head = self.head(FrameKind::TrailerReduced, generation, round.0);
        for to in exchange.others() {
            self.peers.send(
                to,
                Frame {
                    head,
                    payload: payload.clone(),
                },
            );
        }
        self.trailer_complete(trailer);
    }

    /// Asks a process for the sum that we lack.
    pub(super) fn fetch(&mut self, from: WorkerId, round: Round) {
        self.fetched = None;
        let head = self.head(FrameKind::Fetch, self.member.installed(), round.0);
        self.peers.send(
            from,
            Frame {
                head,
                payload: payload(Bytes::new()),
            },
        );
    }

    pub(super) fn serve_fetch(&mut self, to: WorkerId, generation: Generation, round: Round) {
        let kind = self.kind.clone();
        self.faults.reached(Point::Fetch, &kind);
        let Some(sum) = self.kept.clone().filter(|sum| sum.round == round.0) else {
            let head = self.head(FrameKind::NotHeld, generation, round.0);
            return self.peers.send(
                to,
                Frame {
                    head,
                    payload: payload(Bytes::new()),
                },
            );
        };
        for frame in self.sum_frames(&sum, FrameKind::FetchedSum, generation) {
            self.peers.send(to, frame);
        }
        let head = self.head(FrameKind::FetchedTrailer, generation, round.0);
        self.peers.send(
            to,
            Frame {
                head,
                payload: payload(sum.trailer.clone()),
            },
        );
    }

    fn sum_frames(&self, sum: &PackedSum, kind: FrameKind, generation: Generation) -> Vec<Frame> {
        let head = self.head(kind, generation, sum.round);
        let frame = |(offset, part): (&u64, &super::sums::Part)| Frame {
            head: FrameHead {
                offset: *offset,
                values: part.values,
                ..head
            },
            payload: payload(part.bytes.clone()),
        };
        sum.parts.iter().map(frame).collect()
    }

    fn fetch_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
        let head = frame.head;
        match self.member.admit_fetch(head.generation) {
            Admit::Drop => return Ok(()),
            Admit::Hold => {
                self.hold(link, frame);
                return Ok(());
            }
            Admit::Now => {}
        }
        let (generation, round) = (head.generation, Round(head.round));
        let record = self.member.record();
        let asked = record
            .and_then(|r| r.source.as_ref())
            .is_some_and(|s| s.id == link.peer);
        if head.kind == FrameKind::Fetch {
            if !record.is_some_and(|r| r.has(link.peer)) {
                return Err(Violation::NotAMember(link.peer).into());
            }
        } else if !asked {
            return Err(Offence::NotAsked(head.kind));
        }
        if self.fetched.as_ref().is_some_and(|s| s.round != head.round) {
            self.fetched = None;
        }
        let len = self.rounds.elements();
        match head.kind {
            FrameKind::Fetch => self.event(Event::Fetch {
                from: link.peer,
                generation,
                round,
            }),
            FrameKind::FetchedSum => {
                let sum = self
                    .fetched
                    .get_or_insert_with(|| PackedSum::new(head.round));
                sum.append(head.offset, head.values, frame.payload.into_bytes(), len)?;
            }
            FrameKind::FetchedTrailer => {
                let sum = self
                    .fetched
                    .get_or_insert_with(|| PackedSum::new(head.round));
                sum.trailer = frame.payload.into_bytes();
                self.event(Event::Fetched { generation, round });
            }
            _ => self.event(Event::PeerLost(link.peer)),
        }
        Ok(())
    }

    /// Our subscription is up: ask for the sums.
    pub(super) fn subscribe(&mut self) {
        let round = self.member.round().map_or(0, |r| r.0);
        let head = self.head(FrameKind::Subscribe, self.member.installed(), round);
        self.peers.send_to_source(Frame {
            head,
            payload: payload(Bytes::new()),
        });
    }

    pub(super) fn answer_subscription(
        &mut self,
        to: WorkerId,
        first: Round,
        record: &GenerationRecord,
    ) {
        let head = self.head(FrameKind::Subscribed, record.generation, first.0);
        let payload = payload(pb::GenerationRecord::from(record).encode_to_vec().into());
        if self
            .peers
            .send_to_subscriber(to, Frame { head, payload })
            .is_err()
        {
            self.event(Event::Unsubscribed(to));
        }
    }

    /// Sends the sum just applied to our followers; members never wait for one.
    pub(super) fn stream(&mut self, round: Round, record: &GenerationRecord, to: &[WorkerId]) {
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
        frames.push(Frame {
            head,
            payload: payload(bytes.into()),
        });
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

    fn stream_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
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
    fn overflowed(&mut self, from: WorkerId) {
        self.forget_streamed();
        self.peers.unfollow();
        let error = "its sums came faster than they could be applied".to_owned();
        self.event(Event::SourceLost { from, error });
    }
}

/// A payload of ours, which is never too large: buckets are bounded.
fn payload(bytes: Bytes) -> Payload {
    Payload::new(bytes).unwrap_or_else(|error| panic!("a frame of our own: {error}"))
}
