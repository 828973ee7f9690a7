//! Links to other workers, by whom they lead to; frames for a link that isn't
//! up yet wait here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::collective::{
    ConnectionKind, Frame, Hello, Link, RunTag, SendError, TcpTransport, Transport,
};
use crate::world::{Generation, GenerationRecord, Member, WorkerId};

/// All links of this worker.
pub(super) struct Peers {
    transport: Arc<TcpTransport>,
    me: WorkerId,
    run: RunTag,
    /// With the generation in which each was dialled.
    exchange: BTreeMap<WorkerId, (Link, Generation)>,
    dialling: BTreeSet<WorkerId>,
    /// Frames for members whose link isn't up; at most one round's.
    waiting: BTreeMap<WorkerId, Vec<Frame>>,
    /// Followers that subscribed to us.
    subscribers: BTreeMap<WorkerId, Link>,
    /// Our own subscription.
    source: Option<(WorkerId, Option<Link>)>,
}

impl Peers {
    pub fn new(transport: Arc<TcpTransport>, me: WorkerId, run: RunTag) -> Peers {
        Peers {
            transport,
            me,
            run,
            exchange: BTreeMap::new(),
            dialling: BTreeSet::new(),
            waiting: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            source: None,
        }
    }

    fn hello(&self, kind: ConnectionKind, generation: Generation) -> Hello {
        Hello {
            kind,
            worker: Some(self.me),
            generation,
            run: self.run,
        }
    }

    /// Dials the members that came before us and aren't connected; those that
    /// came later dial us.
    pub fn connect(&mut self, record: &GenerationRecord) {
        let earlier = record
            .members
            .iter()
            .chain(&record.source)
            .filter(|m| m.id < self.me);
        for Member { id, address, .. } in earlier {
            if !self.exchange.contains_key(id) && self.dialling.insert(*id) {
                let hello = self.hello(ConnectionKind::Exchange, record.generation);
                self.transport.dial(*id, address, &hello);
            }
        }
        self.waiting.clear();
    }

    /// Dials the member whose sums we want.
    pub fn follow(&mut self, source: WorkerId, address: &str, generation: Generation) {
        self.unfollow();
        self.source = Some((source, None));
        self.transport.dial(
            source,
            address,
            &self.hello(ConnectionKind::Stream, generation),
        );
    }

    pub fn unfollow(&mut self) {
        if let Some((_, Some(link))) = self.source.take() {
            self.transport.close(link);
        }
    }

    /// A link of ours or a peer's is up, dialled in `generation`.
    ///
    /// A worker dials again only in a newer generation: whoever else comes in
    /// the name of one whose link stands is somebody else.
    pub fn connected(&mut self, link: Link, generation: Generation, dialled: bool) -> Up {
        match (link.kind, dialled) {
            (ConnectionKind::Exchange, _) => {
                let standing = self.exchange.get(&link.peer).map(|(_, since)| *since);
                if !dialled && standing.is_some_and(|since| generation <= since) {
                    tracing::warn!(peer = %link.peer, "a second connection in its name; closing it");
                    self.transport.close(link);
                    return Up::Unwanted;
                }
                self.dialling.remove(&link.peer);
                let old = self.exchange.insert(link.peer, (link, generation));
                for frame in self.waiting.remove(&link.peer).unwrap_or_default() {
                    let _ = self.transport.send(link, frame); // its Lost will come
                }
                match old {
                    Some((old, _)) => {
                        self.transport.close(old);
                        Up::Replaced
                    }
                    None => Up::Exchange,
                }
            }
            (ConnectionKind::Stream, true) => match &mut self.source {
                Some((source, slot)) if *source == link.peer => {
                    *slot = Some(link);
                    Up::Source
                }
                _ => {
                    self.transport.close(link);
                    Up::Unwanted
                }
            },
            (ConnectionKind::Stream, false) => {
                if let Some(old) = self.subscribers.insert(link.peer, link) {
                    self.transport.close(old);
                }
                Up::Subscriber
            }
            (ConnectionKind::Control | ConnectionKind::Probe, _) => Up::Unwanted,
        }
    }

    /// A link is no more; says what it was, unless another has taken its place.
    pub fn lost(&mut self, link: Link) -> Up {
        if self.is_exchange(link) {
            self.exchange.remove(&link.peer);
            return Up::Exchange;
        }
        if self.subscribers.get(&link.peer) == Some(&link) {
            self.subscribers.remove(&link.peer);
            return Up::Subscriber;
        }
        if self.source == Some((link.peer, Some(link))) {
            self.source = None;
            return Up::Source;
        }
        Up::Unwanted
    }

    /// A dial came to nothing.
    pub fn dial_failed(&mut self, peer: WorkerId, kind: ConnectionKind) -> Up {
        match kind {
            ConnectionKind::Exchange => {
                self.dialling.remove(&peer);
                Up::Exchange
            }
            ConnectionKind::Stream if self.source == Some((peer, None)) => {
                self.source = None;
                Up::Source
            }
            _ => Up::Unwanted,
        }
    }

    /// Whether the link is the one on which its peer exchanges with us.
    pub fn is_exchange(&self, link: Link) -> bool {
        let current = self.exchange.get(&link.peer);
        current.is_some_and(|(current, _)| *current == link)
    }

    /// Whether the frame came on the subscription that counts.
    pub fn is_source(&self, link: Link) -> bool {
        self.source == Some((link.peer, Some(link)))
    }

    /// Sends to a member, as soon as there is a link.
    pub fn send(&mut self, to: WorkerId, frame: Frame) {
        match self.exchange.get(&to) {
            Some((link, _)) => {
                if let Err(error) = self.transport.send(*link, frame) {
                    tracing::debug!(%to, %error, "its Lost will come");
                }
            }
            None => self.waiting.entry(to).or_default().push(frame),
        }
    }

    /// Sends to our source.
    pub fn send_to_source(&mut self, frame: Frame) {
        if let Some((_, Some(link))) = self.source {
            let _ = self.transport.send(link, frame);
        }
    }

    /// Sends to a follower; one that can't keep up is dropped.
    ///
    /// # Errors
    /// It is gone or too slow: nothing more will be sent to it.
    pub fn send_to_subscriber(&mut self, to: WorkerId, frame: Frame) -> Result<(), SendError> {
        let Some(link) = self.subscribers.get(&to).copied() else {
            return Ok(());
        };
        self.transport
            .send(link, frame)
            .inspect_err(|_| self.drop_subscriber(to))
    }

    pub fn drop_subscriber(&mut self, to: WorkerId) {
        if let Some(link) = self.subscribers.remove(&to) {
            self.transport.close(link);
        }
    }

    /// Closes a link whose peer broke the protocol.
    pub fn close(&mut self, link: Link) {
        self.transport.close(link);
    }
}

/// What a link was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Up {
    /// The exchange with a member.
    Exchange,
    /// The same, in the place of one that we believed to be up.
    Replaced,
    /// A follower's subscription to us.
    Subscriber,
    /// Our subscription.
    Source,
    /// Nothing that still counts.
    Unwanted,
}
