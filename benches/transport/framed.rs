//! Our own transport: frames over TCP, threads, a bounded channel to the main
//! thread.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use ebbtide::collective::{
    ConnectionKind, Connector, EventSink, Frame, FrameHead, FrameKind, Generation, Hello, Link,
    Payload, PeerEvent, RunTag, TcpTransport, Token, Transport, TransportLimits, Verdict, WorkerId,
};

use super::{Clock, Outcome, Work};

const FIRST: WorkerId = WorkerId(1);
const SECOND: WorkerId = WorkerId(2);

fn transport() -> (TcpTransport, Receiver<PeerEvent>) {
    let (sender, events) = sync_channel(1024);
    let sink: EventSink = Arc::new(move |event| drop(sender.send(event)));
    (
        TcpTransport::new(
            Connector::new(Token::none()),
            TransportLimits::default(),
            sink,
        ),
        events,
    )
}

fn connected(events: &Receiver<PeerEvent>) -> Outcome<Link> {
    match events.recv()? {
        PeerEvent::Connected { link, .. } => Ok(link),
        other => Err(format!("{other:?}").into()),
    }
}

pub fn dial(addr: &str, work: Work, checksum: bool) -> Outcome<Clock> {
    let (transport, events) = transport();
    let hello = Hello {
        kind: ConnectionKind::Exchange,
        worker: Some(FIRST),
        generation: Generation::NONE,
        run: RunTag::default(),
    };
    transport.dial(SECOND, addr, &hello);
    let link = connected(&events)?;
    exchange(&transport, link, &events, work, (FIRST, checksum))
}

pub fn serve(
    announce: impl FnOnce(SocketAddr) -> std::io::Result<()>,
    work: Work,
    checksum: bool,
) -> Outcome<()> {
    let (transport, events) = transport();
    let welcome = Arc::new(|_: &Hello| Verdict::Welcome {
        worker: Some(SECOND),
    });
    let listener = transport.listen("127.0.0.1:0", welcome)?;
    announce(listener.local_addr())?;
    let link = connected(&events)?;
    exchange(&transport, link, &events, work, (SECOND, checksum))?;
    Ok(())
}

fn exchange(
    transport: &TcpTransport,
    link: Link,
    events: &Receiver<PeerEvent>,
    work: Work,
    (sender, checksum): (WorkerId, bool),
) -> Outcome<Clock> {
    let bytes = Bytes::from(vec![7; work.frame_bytes]);
    let mut clock = Clock(Vec::new());
    for round in 0..work.all_rounds() {
        for bucket in 0..work.frames {
            let head = FrameHead {
                kind: FrameKind::Contribute,
                sender,
                generation: Generation::NONE,
                round: round as u64,
                offset: 0,
                values: 0,
                bucket: bucket as u32,
            };
            let payload = Payload::new(bytes.clone())?;
            if checksum {
                // What both sides would do beyond this machine, for its cost alone.
                black_box(crc32c::crc32c(payload.bytes()));
            }
            transport.send(link, Frame { head, payload })?;
        }
        // Nobody is more than a round ahead: the other side waits for ours.
        for _ in 0..work.frames {
            match events.recv()? {
                PeerEvent::Frame { frame, .. } => {
                    assert_eq!(frame.head.round, round as u64);
                    if checksum {
                        black_box(crc32c::crc32c(frame.payload.bytes()));
                    }
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        clock.after(round, work);
    }
    // The last frames may still wait; closing sends them.
    transport.close(link);
    while !matches!(events.recv()?, PeerEvent::Lost { .. }) {}
    Ok(clock)
}
