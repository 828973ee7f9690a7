//! Reduce-scatter and all-gather of one round: parts of our partial to their
//! owners, our finished buckets to everybody, and the same from the others.

use bytes::Bytes;

use super::super::super::inject::Point;
use super::super::super::repeats::Contribution;
use super::super::super::trailer::{Held, Trailer};
use super::super::Driver;
use super::{Offence, framed};
use crate::collective::{Bucket, Frame, FrameHead, FrameKind, Link};
use crate::exact::MergeError;
use crate::world::member::{Admit, Event, Violation};
use crate::world::{Generation, Round, WorkerId};

/// Of more members a majority shows whose state differs; of two, what they have
/// contributed has to.
const PAIR: usize = 2;

impl Driver {
    pub(super) fn exchange_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
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
                trailer.is_ones(from)?;
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

    fn trailer_complete(&mut self, mut trailer: Trailer) {
        let votes = trailer.votes.clone();
        let written = std::mem::take(&mut trailer.written);
        if let Some(drift) = trailer.drift() {
            return self.drifted(drift);
        }
        let members = self.member.record().map_or(0, |r| r.members.len());
        if let Some(state) = trailer.agreed_by(members) {
            self.states_agreed(state, members);
        }
        self.shards_told(&written);
        self.rounds.trailer = Some(trailer);
        self.event(Event::TrailerReduced { votes });
    }

    /// Sends our partial's parts to their owners, then adds our own.
    pub(in crate::worker::driver) fn contribute(&mut self, round: Round, vote: Option<Generation>) {
        let Some(exchange) = self.member.exchange() else {
            return;
        };
        let (me, generation) = (exchange.rank(), exchange.generation);
        let members = exchange.members().to_vec();
        let trailer = self.own_trailer(vote);
        if members.len() == PAIR {
            self.rounds.begin_naming();
        }
        self.send_parts(me, &members, generation, round);
        if me == 0 {
            if let Err(error) = self.merge_trailer(trailer) {
                panic!("our own trailer does not fit the sum: {error}");
            }
            self.event(Event::TrailerContributed { from: self.me });
        } else {
            let head = self.head(FrameKind::TrailerContribute, generation, round.0);
            let frame = framed(head, trailer.to_bytes().into());
            self.peers.send(members[0], frame);
        }
        self.add_own_parts(me, round, &members);
    }

    /// One bucket for each owner in turn, beginning with the one after us, so
    /// that all links are busy at once and no owner gets everybody's first.
    fn send_parts(
        &mut self,
        me: usize,
        members: &[WorkerId],
        generation: Generation,
        round: Round,
    ) {
        let limit = self.faults.peers(Point::Contributed, &self.kind);
        let cut = *self.rounds.cut();
        let others: Vec<usize> = (1..members.len())
            .map(|i| (me + i) % members.len())
            .collect();
        let counts = others.iter().map(|owner| cut.buckets(*owner).count());
        for local in 0..counts.max().unwrap_or(0) {
            for owner in others.iter().take(limit.unwrap_or(usize::MAX)) {
                let Some(bucket) = self.rounds.bucket(*owner, local as u32) else {
                    continue;
                };
                let head = self.head(FrameKind::Contribute, generation, round.0);
                let head = of_bucket(head, &bucket);
                let frame = framed(head, self.rounds.pack_partial(&bucket));
                self.peers.send(members[*owner], frame);
            }
        }
        if limit.is_some() {
            self.faults.reached(Point::Contributed, &self.kind);
        }
    }

    fn add_own_parts(&mut self, me: usize, round: Round, members: &[WorkerId]) {
        let cut = *self.rounds.cut();
        let mut left = cut.bucket_count(me);
        if left == 0 {
            self.remember_contribution(round, members);
        }
        for bucket in cut.buckets(me) {
            let local = bucket.index;
            let exchange = self.member.exchange();
            let untouched = exchange.is_some_and(|x| x.is_untouched(local));
            self.rounds.add_own(&bucket, untouched);
            left -= 1;
            if left == 0 {
                // Before the event: it may complete the exchange.
                self.remember_contribution(round, members);
            }
            self.event(Event::Contributed {
                from: self.me,
                bucket: local,
            });
        }
    }

    /// For the case that states are found to differ.
    fn remember_contribution(&mut self, round: Round, members: &[WorkerId]) {
        if let Some(sum) = self.rounds.take_name() {
            let micro_batches = &self.rounds.partial.totals.contributed;
            let ours = Contribution::new(members, micro_batches, sum);
            self.repeats.contributed(round.0, ours);
        }
    }

    fn own_trailer(&mut self, vote: Option<Generation>) -> Trailer {
        let mut trailer = Trailer::new(self.rounds.partial.totals.clone());
        trailer.votes.extend(vote.map(|change| (change, 1)));
        trailer.agreed = self.agreed;
        trailer.written = self.uploads.next();
        // Until a complete trailer has carried it: an exchange may be done again.
        let digest = self.digest;
        let by = vec![self.me];
        trailer
            .digests
            .extend(digest.map(|digest| Held { digest, by }));
        trailer
    }

    /// One of our buckets is finished. What it is sent with is the record's, not
    /// the exchange's: the last bucket of all ends that one.
    pub(in crate::worker::driver) fn broadcast(&mut self, round: Round, local: u32) {
        let Some((record, me)) = self
            .member
            .record()
            .and_then(|record| Some((record, record.rank(self.me)?)))
        else {
            return;
        };
        let generation = record.generation;
        let count = record.members.len();
        let others: Vec<WorkerId> = (1..count) // the next one first
            .map(|i| record.members[(me + i) % count].id)
            .collect();
        let Some(bucket) = self.rounds.bucket(me, local) else {
            return;
        };
        let last = self.rounds.bucket(me, local + 1).is_none();
        let head = self.head(FrameKind::Reduced, generation, round.0);
        let head = of_bucket(head, &bucket);
        let frame = framed(head, self.rounds.pack_reduced(&bucket));
        let limit = self.faults.peers(Point::Reduced, &self.kind);
        for to in others.into_iter().take(limit.unwrap_or(usize::MAX)) {
            self.peers.send(to, frame.clone());
        }
        if limit.is_some() && last {
            self.faults.reached(Point::Reduced, &self.kind);
        }
    }

    /// The trailer is finished; the first member only.
    pub(in crate::worker::driver) fn broadcast_trailer(&mut self) {
        let (Some(exchange), Some(trailer)) = (self.member.exchange(), self.rounds.trailer.take())
        else {
            return;
        };
        let (generation, round) = (exchange.generation, exchange.round);
        let head = self.head(FrameKind::TrailerReduced, generation, round.0);
        let frame = framed(head, trailer.to_bytes().into());
        for to in exchange.others() {
            self.peers.send(to, frame.clone());
        }
        self.trailer_complete(trailer);
    }
}

/// The head of a frame that carries this bucket.
fn of_bucket(head: FrameHead, bucket: &Bucket) -> FrameHead {
    FrameHead {
        offset: bucket.range.start as u64,
        values: bucket.range.len() as u32,
        bucket: bucket.index,
        ..head
    }
}
