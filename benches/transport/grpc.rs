//! tonic as well as we can tune it: one bidirectional stream of raw bytes, a
//! codec that only moves them, large HTTP/2 frames, windows and buffers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use ebbtide::collective::{
    ConnectionKind, Connector, DoorCounters, DoorLimits, Generation, Hello, RunTag, Token, Verdict,
    control_incoming,
};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::{Clock, Outcome, Work};

const HTTP_FRAME: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const MESSAGE_MAX: usize = 16 << 20;
/// Messages between the round's loop and the stream.
const QUEUE: usize = 8;
const PATH: &str = "/ebbtide.bench.Exchange/Round";

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(2 << 20, 1 << 20)
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

type Session = (mpsc::Sender<Bytes>, Streaming<Bytes>);

/// Hands its one call's streams to the round's loop.
#[derive(Clone)]
struct Exchange(Arc<Mutex<Option<oneshot::Sender<Session>>>>);

impl tonic::server::NamedService for Exchange {
    const NAME: &'static str = "ebbtide.bench.Exchange";
}

impl Service<http::Request<tonic::body::Body>> for Exchange {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let session = self.0.clone();
        let begin = move |request: Request<Streaming<Bytes>>| {
            let (sender, outbound) = mpsc::channel(QUEUE);
            let taken = session.lock().ok().and_then(|mut slot| slot.take());
            let begun = taken.and_then(|session| session.send((sender, request.into_inner())).ok());
            let answer = begun.ok_or_else(|| Status::already_exists("one call only"));
            std::future::ready(
                answer.map(|()| Response::new(ReceiverStream::new(outbound).map(Ok))),
            )
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(MESSAGE_MAX);
            Ok(grpc.streaming(tower::service_fn(begin), request).await)
        })
    }
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build()
}

pub fn dial(addr: &str, work: Work, threads: usize) -> Outcome<Clock> {
    let hello = Hello {
        kind: ConnectionKind::Control,
        worker: None,
        generation: Generation::NONE,
        run: RunTag::default(),
    };
    runtime(threads)?.block_on(async {
        let stream = Connector::new(Token::none())
            .dial_async(addr, &hello)
            .await?
            .stream;
        let mut once = Some(TokioIo::new(stream));
        let connect = tower::service_fn(move |_: tonic::transport::Uri| {
            std::future::ready(once.take().ok_or_else(|| std::io::Error::other("gone")))
        });
        let channel = Endpoint::from_static("http://bench")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(HTTP_FRAME)
            .connect_with_connector(connect)
            .await?;
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
        grpc.ready().await?;
        let (sender, outbound) = mpsc::channel(QUEUE);
        let request = Request::new(ReceiverStream::new(outbound));
        let path = http::uri::PathAndQuery::from_static(PATH);
        let inbound = grpc.streaming(request, path, Raw).await?.into_inner();
        exchange(sender, inbound, work).await
    })
}

pub fn serve(
    announce: impl FnOnce(SocketAddr) -> std::io::Result<()>,
    work: Work,
    threads: usize,
) -> Outcome<()> {
    runtime(threads)?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?)?;
        let welcome = Arc::new(|_: &Hello| Verdict::Welcome { worker: None });
        let incoming = control_incoming(
            listener,
            Connector::new(Token::none()),
            DoorLimits::default(),
            Arc::new(DoorCounters::default()),
            welcome,
        );
        let (session, begun) = oneshot::channel();
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(HTTP_FRAME)
            .add_service(Exchange(Arc::new(Mutex::new(Some(session)))));
        tokio::spawn(server.serve_with_incoming(incoming));
        let (sender, inbound) = begun.await?;
        exchange(sender, inbound, work).await?;
        Ok(())
    })
}

async fn exchange(
    sender: mpsc::Sender<Bytes>,
    mut inbound: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    work: Work,
) -> Outcome<Clock> {
    let bytes = Bytes::from(vec![7; work.frame_bytes]);
    let mut clock = Clock(Vec::new());
    for round in 0..work.all_rounds() {
        let send = async {
            for _ in 0..work.frames {
                sender.send(bytes.clone()).await?;
            }
            Outcome::Ok(())
        };
        let receive = async {
            for _ in 0..work.frames {
                let message = inbound.next().await.ok_or("the stream ended")??;
                assert_eq!(message.len(), work.frame_bytes);
            }
            Outcome::Ok(())
        };
        let (sent, received) = tokio::join!(send, receive);
        sent?;
        received?;
        clock.after(round, work);
    }
    // The last messages may still wait; both sides read to the stream's end.
    drop(sender);
    while let Some(Ok(_)) = inbound.next().await {}
    Ok(clock)
}
