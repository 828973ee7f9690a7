//! gRPC through the door: tonic channels and servers over connections that
//! are authenticated before HTTP/2 begins.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

use super::connector::{Authenticated, Connector};
use super::error::{AcceptError, ConnectError};
use super::guard::{DoorCounters, DoorLimits};
use super::identity::{ConnectionKind, Hello, PeerIdentity, Refusal, Verdict};

/// The longest control message taken or sent, in bytes. For tonic's
/// `max_decoding_message_size` and `max_encoding_message_size`.
pub const CONTROL_MESSAGE_LEN_MAX: usize = 4 << 20;

/// Silence after which HTTP/2 pings the other side of a control connection,
/// and the time that the answer may take: for servers and channels alike.
pub const CONTROL_PING_AFTER: Duration = Duration::from_secs(5);
/// See [`CONTROL_PING_AFTER`].
pub const CONTROL_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after the operating system failed to accept (no descriptors left).
const ACCEPT_FAILED_PAUSE: Duration = Duration::from_millis(50);

/// Decides about authenticated hellos; asked from several tasks at once.
pub type Policy = Arc<dyn Fn(&Hello) -> Verdict + Send + Sync>;

/// Dials the coordinator and returns a channel over that one connection,
/// with who answered.
///
/// The channel doesn't reconnect behind our back: when the connection breaks,
/// its calls fail, and the caller dials again with what is true by then
/// (worker, generation).
///
/// # Errors
/// Any [`ConnectError`] of [`Connector::dial`].
pub async fn control_channel(
    connector: &Connector,
    addr: &str,
    hello: &Hello,
) -> Result<(Channel, PeerIdentity), ConnectError> {
    let Authenticated { stream, peer } = connector.dial_async(addr, hello).await?;
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let dial_once = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = once.lock().ok().and_then(|mut slot| slot.take());
        let gone = || {
            io::Error::new(
                io::ErrorKind::NotConnected,
                "the control connection is gone",
            )
        };
        std::future::ready(stream.ok_or_else(gone))
    });
    // The URI only fills HTTP/2's :authority; the connection is open already.
    let channel = Endpoint::from_static("http://coordinator")
        .http2_keep_alive_interval(CONTROL_PING_AFTER)
        .keep_alive_timeout(CONTROL_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial_once)
        .await
        .map_err(|error| ConnectError::Io {
            addr: addr.to_owned(),
            source: io::Error::other(error),
        })?;
    Ok((channel, peer))
}

/// The authenticated control connections to a listener, for tonic's
/// `serve_with_incoming_shutdown`. Handlers find the [`Caller`] in the
/// request's extensions. Dropping the stream closes the listener and all
/// unfinished handshakes; connections let in live on.
///
/// Peer connections are refused before the policy is asked.
pub fn control_incoming(
    listener: TcpListener,
    connector: Connector,
    limits: DoorLimits,
    counters: Arc<DoorCounters>,
    policy: Policy,
) -> impl Stream<Item = io::Result<AuthenticatedStream>> + Send {
    let door = Door {
        listener,
        connector,
        policy,
        counters,
        places: Arc::new(Semaphore::new(
            limits.connections_max.min(Semaphore::MAX_PERMITS),
        )),
        handshakes: JoinSet::new(),
        waiting: VecDeque::new(),
        handshakes_max: limits.handshakes_max.max(1),
    };
    stream::unfold(door, |mut door| async move {
        let stream = door.next().await;
        Some((Ok(stream), door))
    })
}

struct Door {
    listener: TcpListener,
    connector: Connector,
    policy: Policy,
    counters: Arc<DoorCounters>,
    /// One permit for each connection that may still be let in.
    places: Arc<Semaphore>,
    handshakes: JoinSet<Option<AuthenticatedStream>>,
    /// The handshakes under way, oldest first.
    waiting: VecDeque<AbortHandle>,
    handshakes_max: usize,
}

impl Door {
    async fn next(&mut self) -> AuthenticatedStream {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) => self.begin(stream, from),
                    Err(error) => {
                        tracing::warn!(%error, "accepting a control connection failed");
                        tokio::time::sleep(ACCEPT_FAILED_PAUSE).await;
                    }
                },
                Some(finished) = self.handshakes.join_next() => {
                    self.waiting.retain(|handshake| !handshake.is_finished());
                    if let Ok(Some(stream)) = finished {
                        return stream;
                    }
                }
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.waiting.len() >= self.handshakes_max
            && let Some(oldest) = self.waiting.pop_front()
        {
            oldest.abort();
        }
        let (connector, policy, places) = (
            self.connector.clone(),
            self.policy.clone(),
            self.places.clone(),
        );
        // Outside the task: one that is dropped before it has begun counts too.
        let mut count = Count {
            counters: self.counters.clone(),
            from,
            concluded: false,
        };
        let handshake = async move {
            let outcome = shake_hands(stream, &connector, &policy, places).await;
            count.conclude(&outcome);
            outcome.ok()
        };
        self.waiting.push_back(self.handshakes.spawn(handshake));
    }
}

async fn shake_hands(
    stream: TcpStream,
    connector: &Connector,
    policy: &Policy,
    places: Arc<Semaphore>,
) -> Result<AuthenticatedStream, AcceptError> {
    let mut place = None;
    let judge = |hello: &Hello| {
        if hello.kind != ConnectionKind::Control {
            return Verdict::Refuse(Refusal::WrongKind);
        }
        place = places.try_acquire_owned().ok();
        if place.is_none() {
            return Verdict::Refuse(Refusal::Busy);
        }
        policy(hello)
    };
    let Authenticated { stream, peer } = connector.accept_async(stream, judge).await?;
    Ok(AuthenticatedStream {
        stream,
        peer,
        open: Arc::new(()),
        _place: place,
    })
}

/// Counts what becomes of a handshake, also when it is dropped in the middle.
struct Count {
    counters: Arc<DoorCounters>,
    from: SocketAddr,
    concluded: bool,
}

impl Count {
    fn conclude<T>(&mut self, outcome: &Result<T, AcceptError>) {
        self.concluded = true;
        match outcome {
            Ok(_) => self.counters.note_accepted(),
            Err(error) => self.counters.note_rejected(self.from, error),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if !self.concluded {
            self.counters.note_rejected(self.from, &AcceptError::HungUp);
        }
    }
}

/// Who calls on a control connection, for as long as anybody asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub peer: PeerIdentity,
    connection: Weak<()>,
}

impl Caller {
    /// Whether both are the same connection.
    pub fn is_same(&self, other: &Caller) -> bool {
        Weak::ptr_eq(&self.connection, &other.connection)
    }

    /// Whether the connection is still open.
    pub fn is_connected(&self) -> bool {
        self.connection.strong_count() > 0
    }
}

/// An accepted control connection. Its [`Connected::ConnectInfo`] is the
/// [`Caller`].
#[derive(Debug)]
pub struct AuthenticatedStream {
    stream: TcpStream,
    peer: PeerIdentity,
    /// Dropped with the connection.
    open: Arc<()>,
    /// Frees a place for another connection when this one closes.
    _place: Option<OwnedSemaphorePermit>,
}

impl AuthenticatedStream {
    /// Who is there.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }
}

impl Connected for AuthenticatedStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller {
            peer: self.peer,
            connection: Arc::downgrade(&self.open),
        }
    }
}

impl AsyncRead for AuthenticatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for AuthenticatedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
