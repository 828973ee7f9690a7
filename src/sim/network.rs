//! Connections that deliver in order, or break. Each way has a delay of its
//! own, so that what one says on two connections may arrive in any order; a
//! partition holds everything back, and an end that hears nothing for too long
//! takes the connection for lost, each in its own time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::values::{Random, Sum};
use crate::world::message::{FromWorker, Holdings, ToWorker};
use crate::world::{Generation, GenerationRecord, Round, WorkerId};

/// A node for coordinators; the first is 0.
pub type Node = u32;

/// Who is at the end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// The coordinator's process on this node.
    Coordinator(Node),
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
    /// Under way to each end, with the time of arrival.
    to: [VecDeque<(Duration, Message)>; 2],
    /// Ends that believe it is up.
    open: [bool; 2],
    broken: bool,
    /// When each end learns that it is broken.
    told: [Duration; 2],
}

/// What an end is given next.
pub enum Delivery {
    Message(Message),
    /// The connection is gone.
    Lost,
}

/// What it is about, to whom it goes, from whom it comes, and what it is.
pub type Delivered = (Kind, End, End, Delivery);

/// Hosts that don't reach others for a while.
#[derive(Clone, Debug)]
pub struct Partition {
    pub hosts: BTreeSet<End>,
    /// Whom they don't reach, if it isn't everybody else.
    pub other: Option<End>,
    /// Only what they send is held back.
    pub one_way: bool,
    pub until: Duration,
}

impl Partition {
    fn holds_back(&self, from: End, to: End) -> bool {
        let other = |end: End| self.other.map_or(!self.hosts.contains(&end), |o| o == end);
        let crosses = |a: End, b: End| self.hosts.contains(&a) && other(b);
        crosses(from, to) || !self.one_way && crosses(to, from)
    }

    /// Whether they don't reach each other.
    pub fn parts(&self, a: End, b: End) -> bool {
        self.holds_back(a, b) || self.holds_back(b, a)
    }
}

/// All connections.
#[derive(Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    last: LinkId,
    pub partitions: Vec<Partition>,
    /// Hosts that have vanished without a word.
    pub dark: BTreeSet<End>,
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
            told: [Duration::ZERO; 2],
        };
        self.links.insert(self.last, link);
        self.last
    }

    /// Until when nothing gets from one host to the other.
    pub fn held_back(&self, from: End, to: End, now: Duration) -> Option<Duration> {
        let crosses = |p: &&Partition| p.until > now && p.holds_back(from, to);
        let held = self.partitions.iter().filter(crosses).map(|p| p.until);
        held.max()
    }

    /// Whether an answer comes to whoever asks.
    pub fn reach_each_other(&self, a: End, b: End, now: Duration) -> bool {
        !self.dark.contains(&a)
            && !self.dark.contains(&b)
            && self.held_back(a, b, now).is_none()
            && self.held_back(b, a, now).is_none()
    }

    /// Puts a message on its way; the side it goes to and the time of arrival.
    pub fn send(
        &mut self,
        id: LinkId,
        from: End,
        message: Message,
        arrives: Duration,
    ) -> Option<(usize, Duration)> {
        let link = self.links.get_mut(&id)?;
        let other = usize::from(link.ends[0] == from);
        if link.broken || !link.open[other] {
            return None;
        }
        let last = link.to[other].back().map_or(Duration::ZERO, |(at, _)| *at);
        let arrives = arrives.max(last);
        link.to[other].push_back((arrives, message));
        Some((other, arrives))
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

    /// A process is gone, and with it the tail of what it has sent. Its host
    /// tells the others, unless it is gone as well. Returns what has changed.
    pub fn vanish(&mut self, end: End, random: &mut Random) -> Vec<(LinkId, usize)> {
        let dark = self.dark.contains(&end);
        let mut changed = Vec::new();
        for (id, link) in &mut self.links {
            if link.ends.contains(&end) {
                let side = usize::from(link.ends[1] == end);
                link.open[side] = false;
                link.broken = !dark;
                let left = random.range(0, link.to[1 - side].len());
                link.to[1 - side].truncate(left);
                changed.push((*id, 1 - side));
            }
        }
        self.links.retain(|_, link| link.open != [false; 2]);
        changed
    }

    /// Both ends of all connections for which this holds, by side.
    pub fn sides(&self, which: impl Fn(Kind, End, End) -> bool) -> Vec<(LinkId, usize)> {
        let fits = |l: &Link| which(l.kind, l.ends[0], l.ends[1]);
        let links = self.links.iter().filter(|(_, link)| fits(link));
        links.flat_map(|(id, _)| [(*id, 0), (*id, 1)]).collect()
    }

    /// Messages that this side has yet to get.
    pub fn under_way(&self, id: LinkId, side: usize) -> usize {
        self.links.get(&id).map_or(0, |link| link.to[side].len())
    }

    /// Kind, this side's end and the other one, while this side believes in it.
    pub fn ends(&self, id: LinkId, side: usize) -> Option<(Kind, End, End)> {
        let link = self.links.get(&id).filter(|link| link.open[side])?;
        Some((link.kind, link.ends[side], link.ends[1 - side]))
    }

    /// This side has heard nothing for too long. The other learns of it when it
    /// hears anything again.
    pub fn give_up(&mut self, id: LinkId, side: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.to[side].clear();
            link.to[1 - side].clear();
            link.broken = true;
            link.told[side] = Duration::ZERO; // by itself, whatever is on its way
        }
    }

    /// The next thing for one end, if it is there by now: what it is about,
    /// from whom, and what.
    pub fn deliver(
        &mut self,
        id: LinkId,
        side: usize,
        now: Duration,
    ) -> Option<(Kind, End, Delivery)> {
        let link = self.links.get_mut(&id).filter(|link| link.open[side])?;
        let (kind, from) = (link.kind, link.ends[1 - side]);
        if link.to[side].front().is_some_and(|(at, _)| *at <= now) {
            let (_, message) = link.to[side].pop_front()?;
            return Some((kind, from, Delivery::Message(message)));
        }
        if !link.broken || !link.to[side].is_empty() || now < link.told[side] {
            return None;
        }
        link.open[side] = false;
        if !link.open[1 - side] {
            self.links.remove(&id);
        }
        Some((kind, from, Delivery::Lost))
    }

    /// This side learns that it is broken at this time, after what is on its way
    /// to it; `None` if it doesn't believe in it any more.
    pub fn tell(&mut self, id: LinkId, side: usize, at: Duration) -> Option<Duration> {
        let link = self.links.get_mut(&id).filter(|link| link.open[side])?;
        let last = link.to[side].back().map_or(Duration::ZERO, |(at, _)| *at);
        link.told[side] = at.max(last);
        Some(link.told[side])
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
