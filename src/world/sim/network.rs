//! Connections that deliver in order, or break: then the tail of what is under
//! way is lost and both ends learn of it, each in its own time.

use std::collections::{BTreeMap, VecDeque};

use super::super::message::{FromWorker, Holdings, ToWorker};
use super::super::{Generation, GenerationRecord, Round, WorkerId};
use super::values::{Random, Sum};

/// Who is at the end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Coordinator,
    Worker(WorkerId),
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Control,
    Exchange,
    Stream,
}

/// A piece of an exchange.
#[derive(Clone, Debug)]
pub struct Frame {
    pub generation: Generation,
    pub round: Round,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Part { bucket: u32, sum: Sum },
    Vote(Option<Generation>),
    Reduced { bucket: u32, sum: Sum },
    Votes(BTreeMap<Generation, u32>),
    Fetch,
    Fetched(Sum),
}

/// What is under way.
#[derive(Clone, Debug)]
pub enum Message {
    Hello(Holdings),
    FromWorker(FromWorker),
    ToWorker(ToWorker),
    /// The first word on a connection of an exchange.
    Dial,
    Frame(Frame),
    /// The first word on a subscription.
    Subscribe,
    Subscribed {
        first: Round,
        record: GenerationRecord,
    },
    Refused,
    Sum {
        round: Round,
        record: GenerationRecord,
        sum: Sum,
    },
}

pub type LinkId = u64;

struct Link {
    kind: Kind,
    ends: [End; 2],
    /// Under way to each end.
    to: [VecDeque<Message>; 2],
    /// Ends that believe it is up.
    open: [bool; 2],
    broken: bool,
}

/// What an end is given next.
pub enum Delivery {
    Message(Message),
    /// The connection is gone.
    Lost,
}

/// All connections.
#[derive(Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    last: LinkId,
}

impl Network {
    pub fn open(&mut self, kind: Kind, from: End, to: End) -> LinkId {
        self.last += 1;
        let link = Link {
            kind,
            ends: [from, to],
            to: Default::default(),
            open: [true; 2],
            broken: false,
        };
        self.links.insert(self.last, link);
        self.last
    }

    pub fn send(&mut self, id: LinkId, from: End, message: Message) {
        if let Some(link) = self.links.get_mut(&id) {
            let other = usize::from(link.ends[0] == from);
            if !link.broken && link.open[other] {
                link.to[other].push_back(message);
            }
        }
    }

    /// It breaks; a part of what is under way still arrives.
    pub fn cut(&mut self, id: LinkId, random: &mut Random) {
        if let Some(link) = self.links.get_mut(&id) {
            link.broken = true;
            for queue in &mut link.to {
                let left = random.range(0, queue.len());
                queue.truncate(left);
            }
        }
    }

    /// One end closes it in good order: what it has sent arrives.
    pub fn close(&mut self, id: LinkId, by: End) {
        if let Some(link) = self.links.get_mut(&id) {
            let side = usize::from(link.ends[1] == by);
            link.open[side] = false;
            link.to[side].clear();
            link.broken = true;
            if !link.open[1 - side] {
                self.links.remove(&id);
            }
        }
    }

    /// A process is gone, and with it the tail of what it has sent.
    pub fn vanish(&mut self, end: End, random: &mut Random) {
        let of_it = |link: &&mut Link| link.ends.contains(&end);
        for link in self.links.values_mut().filter(of_it) {
            let side = usize::from(link.ends[1] == end);
            link.open[side] = false;
            link.broken = true;
            let left = random.range(0, link.to[1 - side].len());
            link.to[1 - side].truncate(left);
        }
        self.links.retain(|_, link| link.open != [false; 2]);
    }

    /// Ends that have something to learn.
    pub fn deliverable(&self) -> impl Iterator<Item = (LinkId, usize, End)> {
        self.links.iter().flat_map(|(id, link)| {
            let ready =
                |side: &usize| link.open[*side] && (link.broken || !link.to[*side].is_empty());
            (0..2)
                .filter(ready)
                .map(|side| (*id, side, link.ends[side]))
        })
    }

    /// The next thing for one end: what it is about, from whom, and what.
    pub fn deliver(&mut self, id: LinkId, side: usize) -> Option<(Kind, End, Delivery)> {
        let link = self.links.get_mut(&id)?;
        let (kind, from) = (link.kind, link.ends[1 - side]);
        if let Some(message) = link.to[side].pop_front() {
            return Some((kind, from, Delivery::Message(message)));
        }
        link.open[side] = false;
        if !link.open[1 - side] {
            self.links.remove(&id);
        }
        Some((kind, from, Delivery::Lost))
    }

    /// Connections of a kind that are up between two that live.
    pub fn up(&self, kind: Kind) -> Vec<LinkId> {
        let up = |link: &Link| link.kind == kind && !link.broken;
        self.links
            .iter()
            .filter(|(_, link)| up(link))
            .map(|(id, _)| *id)
            .collect()
    }
}
