//! The door: dialling what isn't ebbtide, and strangers who dial us.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::super::handshake::{self, Dialler};
use super::*;

/// A server that treats its first connection in some way of its own.
fn server(treat: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || treat(listener.accept().unwrap().0));
    addr
}

/// The same dial by both drivers; both must fail alike.
fn dial_error(addr: impl Fn() -> String, connector: &Connector) -> ConnectError {
    let hello = hello(ConnectionKind::Exchange, 1);
    let blocking = connector.dial(&addr(), &hello).unwrap_err();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let on_tokio = runtime
        .block_on(connector.dial_async(&addr(), &hello))
        .unwrap_err();
    assert_eq!(
        std::mem::discriminant(&blocking),
        std::mem::discriminant(&on_tokio),
        "{blocking} / {on_tokio}"
    );
    blocking
}

/// An acceptor with this token and policy, by either driver.
fn acceptor(token: Token, policy: fn(&Hello) -> Verdict) -> String {
    server(move |stream| drop(Connector::new(token).accept(stream, policy)))
}

#[test]
fn both_drivers_understand_each_other_and_know_who_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ours = hello(ConnectionKind::Stream, 5);
    let answer = |_: &Hello| Verdict::Welcome {
        worker: Some(WorkerId(8)),
    };

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let accepting = thread::spawn(move || {
        Connector::new(token())
            .accept(listener.accept().unwrap().0, answer)
            .unwrap()
    });
    let dialled = runtime
        .block_on(Connector::new(token()).dial_async(&addr, &ours))
        .unwrap();
    let accepted = accepting.join().unwrap();
    assert_eq!(dialled.peer.worker, Some(WorkerId(8)));
    assert_eq!(accepted.peer.worker, Some(WorkerId(5)));
    assert_eq!(
        (
            accepted.peer.kind,
            accepted.peer.run,
            accepted.peer.generation
        ),
        (ours.kind, ours.run, ours.generation)
    );
    assert_eq!(
        accepted.peer.remote_addr,
        dialled.stream.local_addr().unwrap()
    );

    let (addr, accepted) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let dialling = thread::spawn({
            let addr = addr.clone();
            move || Connector::new(token()).dial(&addr, &ours).unwrap()
        });
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = Connector::new(token())
            .accept_async(stream, answer)
            .await
            .unwrap();
        assert_eq!(dialling.join().unwrap().peer.worker, Some(WorkerId(8)));
        (addr, accepted)
    });
    assert_eq!(accepted.stream.local_addr().unwrap().to_string(), addr);
    assert_eq!(accepted.peer.worker, Some(WorkerId(5)));
}

#[test]
fn every_way_not_to_get_in_has_its_own_name() {
    let connector = Connector::with_options(token(), quick());
    let closed_port = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = dial_error(closed_port, &connector);
    assert!(
        matches!(error, ConnectError::RefusedByHost { .. }),
        "{error}"
    );

    let web = || {
        server(|mut stream| {
            stream
                .write_all(&b"HTTP/1.1 400 Bad Request\r\n".repeat(9))
                .unwrap()
        })
    };
    let error = dial_error(web, &connector);
    assert!(
        matches!(error, ConnectError::NotEbbtide { found, .. } if &found == b"HTTP"),
        "{error}"
    );

    let error = dial_error(|| server(drop), &connector);
    assert!(
        matches!(error, ConnectError::HungUp { .. }) && error.is_worth_retrying(),
        "{error}"
    );

    // Holds the connection until the dialler gives up.
    let silent = || server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let error = dial_error(silent, &connector);
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");

    let error = dial_error(|| "not an address".into(), &connector);
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error}");

    let other = |_: &Hello| Verdict::Welcome { worker: None };
    let error = dial_error(
        || acceptor("another-token".parse().unwrap(), other),
        &connector,
    );
    assert!(
        matches!(error, ConnectError::WrongToken { .. }) && !error.is_worth_retrying(),
        "{error}"
    );
    let error = dial_error(|| acceptor(Token::none(), other), &connector);
    assert!(matches!(error, ConnectError::WrongToken { .. }), "{error}");
}

#[test]
fn a_refusal_by_the_policy_reaches_the_dialler_as_it_was_meant() {
    let connector = Connector::new(token());
    let stale = |hello: &Hello| {
        let newest = Generation {
            counter: hello.generation.counter + 1,
            ..hello.generation
        };
        Verdict::Refuse(Refusal::StaleGeneration { newest })
    };
    let error = dial_error(|| acceptor(token(), stale), &connector);
    let ConnectError::StaleGeneration { ours, newest, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((ours.counter, newest.counter), (2, 3));

    let error = dial_error(
        || acceptor(token(), |_| Verdict::Refuse(Refusal::WrongRun)),
        &connector,
    );
    assert!(matches!(error, ConnectError::WrongRun { .. }), "{error}");
    let error = dial_error(
        || acceptor(token(), |_| Verdict::Refuse(Refusal::WrongKind)),
        &connector,
    );
    assert!(matches!(error, ConnectError::WrongKind { .. }), "{error}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let error = Connector::new(token()).listen(&addr).unwrap_err();
    assert!(error.to_string().contains(&addr), "{error}");
}

#[test]
fn a_dropped_listener_frees_its_port_at_once() {
    let node = Node::new(1);
    let addr = node.addr().to_string();
    drop(node.listener);
    node.transport.listen(&addr, welcome(1)).unwrap();
}

/// Sends bytes, then reads to the end; what came back.
fn knock(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    // The door may slam while we are still talking.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn strangers_are_shut_out_and_counted_while_peers_go_on() {
    let (a, b) = (
        Node::new(1),
        Node::with(2, TransportLimits::default(), quick(), welcome(2)),
    );
    let (to_b, _) = a.dial(&b, ConnectionKind::Exchange);

    let hello = *Dialler::new(&hello(ConnectionKind::Exchange, 9), [3; 32]).hello();
    let mut other_version = hello;
    other_version[4] = 99;
    assert!(knock(b.addr(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").is_empty());
    assert!(knock(b.addr(), &vec![0xee; 1 << 20]).is_empty());
    assert_eq!(
        knock(b.addr(), &other_version).len(),
        handshake::CHALLENGE_LEN
    );
    // A well-formed hello, then a megabyte where 32 bytes of proof are due.
    let noisy = [&hello[..], &vec![0x55; 1 << 20]].concat();
    assert!(knock(b.addr(), &noisy).len() <= handshake::CHALLENGE_LEN + handshake::VERDICT_LEN);
    // Half a hello, then silence until the deadline.
    assert!(knock(b.addr(), &hello[..20]).is_empty());
    // Without a token at all.
    let error = Connector::new(Token::none()).dial(
        &b.addr().to_string(),
        &super::hello(ConnectionKind::Stream, 9),
    );
    assert!(
        matches!(error, Err(ConnectError::WrongToken { .. })),
        "{error:?}"
    );

    a.transport
        .send(
            to_b,
            frame(
                1,
                FrameKind::Contribute,
                1,
                Bytes::from_static(b"still here"),
            ),
        )
        .unwrap();
    assert_eq!(&b.frame().1.payload.bytes()[..], b"still here");
    let expected = DoorCounts {
        accepted: 1,
        not_ebbtide: 2,
        wrong_version: 1,
        wrong_token: 2,
        refused: 0,
        unfinished: 1,
    };
    // Whoever is turned away hears of it before it is counted.
    let given_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while b.listener.counters().read() != expected && std::time::Instant::now() < given_up {
        std::thread::yield_now();
    }
    assert_eq!(b.listener.counters().read(), expected);
}

#[test]
fn whoever_holds_the_door_is_dropped_for_who_comes_next() {
    let limits = TransportLimits {
        door: DoorLimits {
            handshakes_max: 2,
            connections_max: 8,
        },
        ..Default::default()
    };
    // Long enough that only the crowd, not the deadline, can end a handshake.
    let patient = SocketOptions {
        handshake_timeout: PATIENCE * 10,
        ..SocketOptions::default()
    };
    let (a, b) = (Node::new(1), Node::with(2, limits, patient, welcome(2)));
    let mut holding: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(b.addr()).unwrap())
        .collect();
    assert_eq!(
        holding[0].read(&mut [0; 1]).unwrap(),
        0,
        "the first must go for the third"
    );
    a.dial(&b, ConnectionKind::Exchange);
    assert_eq!(
        holding[1].read(&mut [0; 1]).unwrap(),
        0,
        "the second must go for the honest one"
    );
}

#[test]
fn peers_beyond_the_limit_and_control_connections_are_refused_by_name() {
    let limits = TransportLimits {
        door: DoorLimits {
            handshakes_max: 8,
            connections_max: 1,
        },
        ..Default::default()
    };
    let (a, b) = (
        Node::new(1),
        Node::with(2, limits, SocketOptions::default(), welcome(2)),
    );
    a.dial(&b, ConnectionKind::Exchange);
    let dial = |hello| {
        Connector::new(token())
            .dial(&b.addr().to_string(), &hello)
            .unwrap_err()
    };
    let error = dial(hello(ConnectionKind::Stream, 3));
    assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
    let error = dial(hello(ConnectionKind::Control, 3));
    assert!(matches!(error, ConnectError::WrongKind { .. }), "{error}");
    let error = dial(hello(ConnectionKind::Exchange, 0));
    assert!(
        matches!(error, ConnectError::UnknownWorker { .. }),
        "{error}"
    );
}
