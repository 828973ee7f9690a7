//! Links: frames both ways, and every way to lose one.

use std::io::Write;
use std::net::TcpStream;

use super::*;

/// An authenticated connection that then does as it likes.
fn rogue(node: &Node, me: u64) -> (TcpStream, Link) {
    let hello = hello(ConnectionKind::Exchange, me);
    let stream = Connector::new(token())
        .dial(&node.addr().to_string(), &hello)
        .unwrap()
        .stream;
    (stream, node.connected().0)
}

fn wire(frame: &Frame) -> Vec<u8> {
    [
        &frame.encode_header(PayloadChecksum::Crc32c)[..],
        frame.payload.bytes(),
    ]
    .concat()
}

#[test]
fn frames_arrive_whole_and_in_order_both_ways() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (to_b, to_a) = a.dial(&b, ConnectionKind::Exchange);
    let payload = |round: u64| Bytes::from(vec![round as u8; round as usize * 40_000]);
    for round in 0..30 {
        a.transport
            .send(to_b, frame(1, FrameKind::Contribute, round, payload(round)))
            .unwrap();
        b.transport
            .send(to_a, frame(2, FrameKind::Reduced, round, payload(round)))
            .unwrap();
    }
    for round in 0..30 {
        for (node, link, sender) in [(&b, to_a, 1), (&a, to_b, 2)] {
            let (on, frame) = node.frame();
            assert_eq!(
                (on, frame.head.sender, frame.head.round),
                (link, WorkerId(sender), round)
            );
            assert_eq!(frame.payload.bytes(), &payload(round));
        }
    }
}

#[test]
fn one_payload_goes_to_several_peers_without_a_copy() {
    let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
    let links = [
        a.dial(&b, ConnectionKind::Exchange).0,
        a.dial(&c, ConnectionKind::Exchange).0,
    ];
    let bytes = Bytes::from(vec![5; 1 << 20]);
    let reduced = frame(1, FrameKind::Reduced, 4, bytes.clone());
    assert_eq!(reduced.payload.bytes().as_ptr(), bytes.as_ptr());
    for link in links {
        a.transport.send(link, reduced.clone()).unwrap();
    }
    assert_eq!(b.frame().1, reduced);
    assert_eq!(c.frame().1, reduced);
}

#[test]
fn exchange_and_stream_to_the_same_peer_are_links_of_their_own() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (exchange, _) = a.dial(&b, ConnectionKind::Exchange);
    let (stream, _) = a.dial(&b, ConnectionKind::Stream);
    a.transport.close(exchange);
    assert_eq!(b.lost().0.kind, ConnectionKind::Exchange);
    assert_eq!(a.lost().0, exchange);
    a.transport
        .send(stream, frame(1, FrameKind::StreamSum, 1, Bytes::new()))
        .unwrap();
    assert_eq!(b.frame().0.kind, ConnectionKind::Stream);
}

#[test]
fn a_peer_killed_after_its_last_frame_is_lost_once_and_after_that_frame() {
    let b = Node::new(2);
    let (mut killed, link) = rogue(&b, 1);
    let last = frame(1, FrameKind::Reduced, 7, Bytes::from(vec![1; 300_000]));
    killed.write_all(&wire(&last)).unwrap();
    drop(killed);
    assert_eq!(b.frame().1, last);
    let (lost, reason) = b.lost();
    assert!(
        lost == link && matches!(reason, LostReason::HungUp),
        "{reason}"
    );
    assert!(!reason.is_violation());
    // Nothing follows: sending says so, and no other event has come.
    let refused = b
        .transport
        .send(link, frame(2, FrameKind::Reduced, 7, Bytes::new()));
    assert_eq!(refused, Err(SendError::NotConnected(link)));
    assert!(b.events.try_recv().is_err());
}

#[test]
fn a_peer_killed_within_a_frame_leaves_nothing_of_it() {
    let b = Node::new(2);
    let (mut killed, _) = rogue(&b, 1);
    let bytes = wire(&frame(
        1,
        FrameKind::Reduced,
        7,
        Bytes::from(vec![1; 300_000]),
    ));
    killed.write_all(&bytes[..200_000]).unwrap();
    drop(killed);
    let (_, reason) = b.lost();
    assert!(
        matches!(reason, LostReason::BadFrame(FrameError::Truncated { .. })),
        "{reason}"
    );
    assert!(!reason.is_violation());
}

#[test]
fn a_peer_that_breaks_the_protocol_is_dropped_and_the_others_go_on() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (to_b, _) = a.dial(&b, ConnectionKind::Exchange);
    let good = frame(3, FrameKind::Contribute, 1, Bytes::from_static(b"payload"));
    let mut damaged = wire(&good);
    *damaged.last_mut().unwrap() ^= 1;
    let mut oversized = good.encode_header(PayloadChecksum::Crc32c);
    oversized[48..52].copy_from_slice(&(PAYLOAD_LEN_MAX as u32 + 1).to_le_bytes());
    let checksum = crc32c::crc32c(&oversized[..60]);
    oversized[60..].copy_from_slice(&checksum.to_le_bytes());
    type Named = fn(&LostReason) -> bool;
    let attacks: [(Vec<u8>, Named); 5] = [
        (vec![0xee; 1000], |r| {
            matches!(r, LostReason::BadFrame(FrameError::BadMagic { .. }))
        }),
        (oversized.to_vec(), |r| {
            matches!(r, LostReason::BadFrame(FrameError::TooLarge { .. }))
        }),
        (damaged, |r| {
            matches!(r, LostReason::BadFrame(FrameError::PayloadChecksum { .. }))
        }),
        (
            wire(&frame(4, FrameKind::Contribute, 1, Bytes::new())),
            |r| {
                matches!(
                    r,
                    LostReason::WrongSender {
                        claimed: WorkerId(4)
                    }
                )
            },
        ),
        (
            wire(&frame(3, FrameKind::StreamSum, 1, Bytes::new())),
            |r| matches!(r, LostReason::Misplaced(FrameKind::StreamSum)),
        ),
    ];
    for (bytes, named) in attacks {
        let (mut stream, link) = rogue(&b, 3);
        stream.write_all(&bytes).unwrap();
        let (lost, reason) = b.lost();
        assert!(
            lost == link && named(&reason) && reason.is_violation(),
            "{reason}"
        );
    }
    a.transport
        .send(
            to_b,
            frame(1, FrameKind::Contribute, 2, Bytes::from_static(b"unharmed")),
        )
        .unwrap();
    assert_eq!(&b.frame().1.payload.bytes()[..], b"unharmed");
}

/// Sends until the queue is full; how that was told, and after how many frames.
fn overfill(node: &Node, link: Link, kind: FrameKind) -> (SendError, usize) {
    let payload = Bytes::from(vec![0; 1 << 20]);
    for sent in 0..1000 {
        if let Err(error) = node
            .transport
            .send(link, frame(node.me, kind, 0, payload.clone()))
        {
            return (error, sent);
        }
    }
    panic!("a thousand megabytes were queued for a peer that doesn't read");
}

#[test]
fn a_follower_that_does_not_read_costs_an_error_and_nobody_waits() {
    let b = Node::with(
        2,
        TransportLimits::default(),
        SocketOptions::default(),
        welcome(2),
    );
    b.transport.set_queue_limits(0, 4 << 20);
    let hello = hello(ConnectionKind::Stream, 1);
    let unread = Connector::new(token())
        .dial(&b.addr().to_string(), &hello)
        .unwrap()
        .stream;
    let link = b.connected().0;
    let (error, _) = overfill(&b, link, FrameKind::StreamSum);
    assert!(
        matches!(error, SendError::QueueFull { limit, .. } if limit == 4 << 20),
        "{error}"
    );
    // The link stands until its owner decides otherwise.
    assert!(b.events.try_recv().is_err());
    drop(unread);
    assert!(!b.lost().1.is_violation());
}

#[test]
fn a_member_that_does_not_read_is_dropped() {
    let b = Node::new(2);
    b.transport.set_queue_limits(4 << 20, 0);
    let (_unread, link) = rogue(&b, 1);
    let (error, _) = overfill(&b, link, FrameKind::Contribute);
    assert!(matches!(error, SendError::QueueFull { .. }), "{error}");
    let (lost, reason) = b.lost();
    assert!(
        lost == link && matches!(reason, LostReason::QueueFull { .. }),
        "{reason}"
    );
}

#[test]
fn closing_sends_what_is_queued_first() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (to_b, _) = a.dial(&b, ConnectionKind::Exchange);
    let payload = Bytes::from(vec![9; 4 << 20]);
    for round in 0..10 {
        a.transport
            .send(to_b, frame(1, FrameKind::Reduced, round, payload.clone()))
            .unwrap();
    }
    a.transport.close(to_b);
    assert!(
        a.transport
            .send(to_b, frame(1, FrameKind::Reduced, 10, Bytes::new()))
            .is_err()
    );
    for round in 0..10 {
        let (_, frame) = b.frame();
        assert_eq!(
            (frame.head.round, frame.payload.bytes().len()),
            (round, payload.len())
        );
    }
    assert!(matches!(b.lost().1, LostReason::HungUp));
    assert!(matches!(a.lost().1, LostReason::ClosedHere));
}

#[test]
fn a_shutdown_delivers_what_is_queued_and_takes_no_more_links() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (to_b, _) = a.dial(&b, ConnectionKind::Exchange);
    a.transport
        .send(
            to_b,
            frame(1, FrameKind::Reduced, 3, Bytes::from(vec![0; 5 << 20])),
        )
        .unwrap();
    a.transport.shutdown(PATIENCE);
    assert!(matches!(a.lost().1, LostReason::ClosedHere));
    assert_eq!(b.frame().1.payload.bytes().len(), 5 << 20);
    assert!(matches!(b.lost().1, LostReason::HungUp));
    a.transport.dial(
        WorkerId(2),
        &b.addr().to_string(),
        &hello(ConnectionKind::Exchange, 1),
    );
    assert!(matches!(
        a.event(),
        PeerEvent::DialFailed {
            peer: WorkerId(2),
            ..
        }
    ));
}

#[test]
fn a_dropped_transport_hangs_up_on_everybody() {
    let (a, b) = (Node::new(1), Node::new(2));
    a.dial(&b, ConnectionKind::Exchange);
    drop(a);
    let reason = b.lost().1;
    assert!(
        matches!(reason, LostReason::HungUp | LostReason::Broken(_)),
        "{reason}"
    );
}

#[test]
fn an_address_taken_over_by_another_worker_is_noticed() {
    let (a, b) = (Node::new(1), Node::new(2));
    a.transport.dial(
        WorkerId(7),
        &b.addr().to_string(),
        &hello(ConnectionKind::Exchange, 1),
    );
    let PeerEvent::DialFailed {
        peer: WorkerId(7),
        error,
        ..
    } = a.event()
    else {
        panic!()
    };
    let replaced = matches!(
        &error,
        ConnectError::WrongWorker {
            found: Some(WorkerId(2)),
            ..
        }
    );
    assert!(replaced, "{error}");
}
