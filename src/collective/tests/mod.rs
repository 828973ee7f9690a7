//! The room over real sockets on loopback: what honest processes get, what
//! strangers and broken peers do, and that others don't notice.

mod control;
mod door;
mod links;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use bytes::Bytes;

use super::*;

/// Longest wait for something that must happen; its end is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn token() -> Token {
    "the-token-of-these-tests".parse().unwrap()
}

fn hello(kind: ConnectionKind, worker: u64) -> Hello {
    Hello {
        kind,
        worker: Some(WorkerId(worker)).filter(|worker| worker.0 > 0),
        generation: Generation {
            incarnation: 1,
            counter: 2,
        },
        run: RunTag([7; 16]),
    }
}

/// Lets everybody in, as this worker.
fn welcome(me: u64) -> Policy {
    Arc::new(move |_: &Hello| Verdict::Welcome {
        worker: Some(WorkerId(me)),
    })
}

fn quick() -> SocketOptions {
    SocketOptions {
        handshake_timeout: Duration::from_millis(100),
        ..SocketOptions::default()
    }
}

/// A worker's transport, its listener and its events.
struct Node {
    me: u64,
    transport: TcpTransport,
    listener: PeerListener,
    events: Receiver<PeerEvent>,
}

impl Node {
    fn new(me: u64) -> Node {
        Node::with(
            me,
            TransportLimits::default(),
            SocketOptions::default(),
            welcome(me),
        )
    }

    fn with(me: u64, limits: TransportLimits, options: SocketOptions, policy: Policy) -> Node {
        let (sender, events) = sync_channel(1024);
        // A node that is being dropped has nobody left to tell.
        let sink: EventSink = Arc::new(move |event| drop(sender.send(event)));
        let transport = TcpTransport::new(Connector::with_options(token(), options), limits, sink);
        let listener = transport.listen("127.0.0.1:0", policy).unwrap();
        Node {
            me,
            transport,
            listener,
            events,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    fn event(&self) -> PeerEvent {
        self.events
            .recv_timeout(PATIENCE)
            .expect("an event was due")
    }

    fn connected(&self) -> (Link, PeerIdentity, Side) {
        match self.event() {
            PeerEvent::Connected { link, peer, side } => (link, peer, side),
            other => panic!("expected Connected, got {other:?}"),
        }
    }

    fn frame(&self) -> (Link, Frame) {
        match self.event() {
            PeerEvent::Frame { link, frame } => (link, frame),
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    fn lost(&self) -> (Link, LostReason) {
        match self.event() {
            PeerEvent::Lost { link, reason } => (link, reason),
            other => panic!("expected Lost, got {other:?}"),
        }
    }

    /// Dials another node; both links.
    fn dial(&self, other: &Node, kind: ConnectionKind) -> (Link, Link) {
        self.transport.dial(
            WorkerId(other.me),
            &other.addr().to_string(),
            &hello(kind, self.me),
        );
        let (ours, _, side) = self.connected();
        assert_eq!(
            (ours.peer, ours.kind, side),
            (WorkerId(other.me), kind, Side::Dialled)
        );
        let (theirs, peer, side) = other.connected();
        assert_eq!(
            (peer.worker, peer.kind, side),
            (Some(WorkerId(self.me)), kind, Side::Accepted)
        );
        (ours, theirs)
    }
}

fn frame(sender: u64, kind: FrameKind, round: u64, payload: Bytes) -> Frame {
    let head = FrameHead {
        kind,
        sender: WorkerId(sender),
        generation: Generation {
            incarnation: 1,
            counter: 2,
        },
        round,
        offset: 0,
        values: 0,
        bucket: 0,
    };
    Frame {
        head,
        payload: Payload::new(payload).unwrap(),
    }
}
