//! gRPC through the door.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::http;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::*;

/// A service whose one method answers who it believes is asking.
#[derive(Clone)]
struct WhoAmI;

impl tonic::server::NamedService for WhoAmI {
    const NAME: &'static str = "ebbtide.test.WhoAmI";
}

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for WhoAmI {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let answer = |request: Request<Bytes>| {
            let peer = request
                .extensions()
                .get::<Caller>()
                .map(|caller| format!("{:?} {}", caller.peer.worker, caller.peer.kind));
            std::future::ready(
                peer.map(|peer| Response::new(Bytes::from(peer)))
                    .ok_or_else(|| Status::unknown("?")),
            )
        };
        Box::pin(async move {
            let codec = ProstCodec::<Bytes, Bytes>::default();
            Ok(tonic::server::Grpc::new(codec)
                .unary(tower::service_fn(answer), request)
                .await)
        })
    }
}

struct Coordinator {
    addr: String,
    counters: Arc<DoorCounters>,
}

async fn coordinator(limits: DoorLimits, policy: Policy) -> Coordinator {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let counters = Arc::new(DoorCounters::default());
    let connector = Connector::with_options(token(), quick());
    let incoming = control_incoming(listener, connector, limits, counters.clone(), policy);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(WhoAmI)
            .serve_with_incoming(incoming),
    );
    Coordinator { addr, counters }
}

fn anyone() -> Policy {
    Arc::new(|_: &Hello| Verdict::Welcome { worker: None })
}

async fn ask(channel: tonic::transport::Channel) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/ebbtide.test.WhoAmI/Ask");
    let answer: Response<Bytes> = grpc
        .unary(
            Request::new(Bytes::new()),
            path,
            ProstCodec::<Bytes, Bytes>::default(),
        )
        .await?;
    Ok(String::from_utf8_lossy(&answer.into_inner()).into_owned())
}

async fn dial(
    coordinator: &Coordinator,
    worker: u64,
) -> Result<tonic::transport::Channel, ConnectError> {
    let hello = hello(ConnectionKind::Control, worker);
    control_channel(&Connector::new(token()), &coordinator.addr, &hello)
        .await
        .map(|(channel, _)| channel)
}

#[tokio::test]
async fn a_handler_knows_who_calls_before_it_decodes_anything() {
    let coordinator = coordinator(DoorLimits::default(), anyone()).await;
    let (named, unnamed) = (
        dial(&coordinator, 4).await.unwrap(),
        dial(&coordinator, 0).await.unwrap(),
    );
    assert_eq!(ask(named).await.unwrap(), "Some(worker 4) control");
    assert_eq!(ask(unnamed).await.unwrap(), "None control");
}

#[tokio::test]
async fn strangers_at_the_control_port_are_shut_out_while_calls_go_on() {
    let coordinator = coordinator(DoorLimits::default(), anyone()).await;
    let channel = dial(&coordinator, 4).await.unwrap();
    let half_a_hello = &handshake::Dialler::new(&hello(ConnectionKind::Control, 9), [0; 32])
        .hello()[..30]
        .to_vec();
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &vec![0; 1 << 20],
        half_a_hello,
    ] {
        let mut stream = TcpStream::connect(&coordinator.addr).await.unwrap();
        // The door may slam while we are still talking.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        assert_eq!(
            ask(channel.clone()).await.unwrap(),
            "Some(worker 4) control"
        );
    }
    let hello = hello(ConnectionKind::Control, 9);
    let error = control_channel(&Connector::new(Token::none()), &coordinator.addr, &hello)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::WrongToken { .. }), "{error}");
    let counts = coordinator.counters.read();
    let expected = DoorCounts {
        accepted: 1,
        not_ebbtide: 2,
        wrong_token: 1,
        unfinished: 1,
        ..Default::default()
    };
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn whoever_holds_the_control_door_is_dropped_for_who_comes_next() {
    let limits = DoorLimits {
        handshakes_max: 1,
        connections_max: 8,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let patient = SocketOptions {
        handshake_timeout: PATIENCE * 10,
        ..SocketOptions::default()
    };
    let counters = Arc::new(DoorCounters::default());
    let connector = Connector::with_options(token(), patient);
    let incoming = control_incoming(listener, connector, limits, counters.clone(), anyone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(WhoAmI)
            .serve_with_incoming(incoming),
    );
    let mut holding = TcpStream::connect(addr).await.unwrap();
    let coordinator = Coordinator {
        addr: addr.to_string(),
        counters,
    };
    let channel = dial(&coordinator, 4).await.unwrap();
    assert_eq!(holding.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(ask(channel).await.unwrap(), "Some(worker 4) control");
    assert_eq!(coordinator.counters.read().unfinished, 1);
}

#[tokio::test]
async fn the_last_place_is_busy_until_its_holder_leaves() {
    let limits = DoorLimits {
        handshakes_max: 8,
        connections_max: 1,
    };
    let coordinator = coordinator(limits, anyone()).await;
    let first = dial(&coordinator, 4).await.unwrap();
    ask(first.clone()).await.unwrap();
    let error = dial(&coordinator, 5).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Busy { .. }) && error.is_worth_retrying(),
        "{error}"
    );
    drop(first);
    let freed = async {
        loop {
            match dial(&coordinator, 5).await {
                Ok(channel) => break channel,
                Err(ConnectError::Busy { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let second = tokio::time::timeout(PATIENCE, freed)
        .await
        .expect("the place is free again");
    assert_eq!(ask(second).await.unwrap(), "Some(worker 5) control");
}

#[tokio::test]
async fn a_channel_does_not_reconnect_behind_its_owners_back() {
    let coordinator = coordinator(
        DoorLimits::default(),
        Arc::new(|_: &Hello| Verdict::Welcome { worker: None }),
    )
    .await;
    // A relay that serves one connection and cuts it on command.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_addr = relay.local_addr().unwrap().to_string();
    let (cut, mut on_cut) = tokio::sync::oneshot::channel::<()>();
    let target = coordinator.addr.clone();
    let relayed = tokio::spawn(async move {
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = &mut on_cut => {}
        }
    });
    let hello = hello(ConnectionKind::Control, 4);
    let (channel, peer) = control_channel(&Connector::new(token()), &relay_addr, &hello)
        .await
        .unwrap();
    assert_eq!(peer.worker, None);
    assert!(ask(channel.clone()).await.is_ok());
    cut.send(()).unwrap();
    relayed.await.unwrap();
    assert!(ask(channel.clone()).await.is_err());
    assert!(ask(channel).await.is_err());
    assert_eq!(coordinator.counters.read().accepted, 1);
}

#[tokio::test]
async fn a_peer_connection_to_the_coordinator_is_told_that_it_is_the_wrong_port() {
    let coordinator = coordinator(
        DoorLimits::default(),
        Arc::new(|_: &Hello| panic!("not to be asked")),
    )
    .await;
    let hello = hello(ConnectionKind::Exchange, 4);
    let error = Connector::new(token())
        .dial_async(&coordinator.addr, &hello)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::WrongKind { .. }), "{error}");
    assert!(error.to_string().contains(&coordinator.addr));
}
