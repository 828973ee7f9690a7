//! A complete sum for a member that lacks it after a loss.

use bytes::Bytes;

use super::super::super::inject::Point;
use super::super::super::sums::{PackedSum, Part};
use super::super::Driver;
use super::{Offence, framed};
use crate::collective::{Frame, FrameHead, FrameKind, Link};
use crate::world::member::{Admit, Event, Violation};
use crate::world::{Generation, Round, WorkerId};

impl Driver {
    /// Asks a process for the sum that we lack.
    pub(in crate::worker::driver) fn fetch(&mut self, from: WorkerId, round: Round) {
        self.fetched = None;
        let head = self.head(FrameKind::Fetch, self.member.installed(), round.0);
        self.peers.send(from, framed(head, Bytes::new()));
    }

    pub(in crate::worker::driver) fn serve_fetch(
        &mut self,
        to: WorkerId,
        generation: Generation,
        round: Round,
    ) {
        self.faults.reached(Point::Fetch, &self.kind);
        let Some(sum) = self.kept.clone().filter(|sum| sum.round == round.0) else {
            let head = self.head(FrameKind::NotHeld, generation, round.0);
            return self.peers.send(to, framed(head, Bytes::new()));
        };
        for frame in self.sum_frames(&sum, FrameKind::FetchedSum, generation) {
            self.peers.send(to, frame);
        }
        let head = self.head(FrameKind::FetchedTrailer, generation, round.0);
        self.peers.send(to, framed(head, sum.trailer.clone()));
    }

    pub(super) fn sum_frames(
        &self,
        sum: &PackedSum,
        kind: FrameKind,
        generation: Generation,
    ) -> Vec<Frame> {
        let head = self.head(kind, generation, sum.round);
        let frame = |(offset, part): (&u64, &Part)| {
            let head = FrameHead {
                offset: *offset,
                values: part.values,
                ..head
            };
            framed(head, part.bytes.clone())
        };
        sum.parts.iter().map(frame).collect()
    }

    pub(super) fn fetch_frame(&mut self, link: Link, frame: Frame) -> Result<(), Offence> {
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
}
