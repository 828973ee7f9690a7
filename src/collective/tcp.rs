//! The transport over TCP: two blocking threads for each link, and a listener
//! with a bounded crowd at its door.
//!
//! Threads, not tasks: a worker has few peers, and a step of 1.5 ms has no
//! room for a scheduler between socket and sum (docs/decisions/0002).

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::buffer::BufferPool;
use super::connector::{Authenticated, Connector};
use super::control::Policy;
use super::error::{ConnectError, ListenError};
use super::frame::Frame;
use super::guard::DoorLimits;
use super::identity::{Hello, PeerIdentity, WorkerId};
use super::link::{Connection, QueueLimits};
use super::listener::PeerListener;
use super::transport::{EventSink, Link, LostReason, PeerEvent, SendError, Side, Transport};

/// Bounds on a transport.
#[derive(Clone, Copy, Debug)]
pub struct TransportLimits {
    /// Most bytes that may wait for one peer of the exchange: two steps'
    /// frames are all that the protocol can need. See
    /// [`TcpTransport::set_queue_limits`].
    pub exchange_queue_bytes_max: usize,
    /// Most bytes that may wait for one follower.
    pub stream_queue_bytes_max: usize,
    /// Most bytes of receive buffers kept while nobody uses them.
    pub idle_buffer_bytes_max: usize,
    /// Most dials under way at once.
    pub dials_max: usize,
    /// Bounds on the listener.
    pub door: DoorLimits,
}

impl Default for TransportLimits {
    fn default() -> TransportLimits {
        TransportLimits {
            exchange_queue_bytes_max: 1 << 30,
            stream_queue_bytes_max: 256 << 20,
            idle_buffer_bytes_max: 32 << 20,
            dials_max: 64,
            door: DoorLimits {
                handshakes_max: 32,
                connections_max: 1024,
            },
        }
    }
}

/// Links over TCP. Dropping it closes them all, at once;
/// [`TcpTransport::shutdown`] sends what is queued first.
#[derive(Debug)]
pub struct TcpTransport {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) limits: TransportLimits,
    queues: QueueLimits,
    pool: BufferPool,
    events: EventSink,
    links: Mutex<Links>,
    /// A link is gone.
    gone: Condvar,
    dials: AtomicUsize,
}

#[derive(Default)]
pub(super) struct Links {
    pub(super) open: HashMap<u64, Arc<Connection>>,
    next_number: u64,
    /// No more links are taken.
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl TcpTransport {
    /// A transport without any links yet, whose events go to `events`.
    pub fn new(connector: Connector, limits: TransportLimits, events: EventSink) -> TcpTransport {
        let queues = QueueLimits {
            exchange_bytes: AtomicUsize::new(limits.exchange_queue_bytes_max),
            stream_bytes: AtomicUsize::new(limits.stream_queue_bytes_max),
        };
        let shared = Shared {
            connector,
            limits,
            queues,
            pool: BufferPool::new(limits.idle_buffer_bytes_max),
            events,
            links: Mutex::default(),
            gone: Condvar::new(),
            dials: AtomicUsize::new(0),
        };
        TcpTransport {
            shared: Arc::new(shared),
        }
    }

    /// Changes the bounds on what may wait, once the size of the model is
    /// known. Holds for the next frame of every link.
    pub fn set_queue_limits(&self, exchange_bytes_max: usize, stream_bytes_max: usize) {
        self.shared
            .queues
            .exchange_bytes
            .store(exchange_bytes_max, Ordering::Relaxed);
        self.shared
            .queues
            .stream_bytes
            .store(stream_bytes_max, Ordering::Relaxed);
    }

    /// Listens for peers. The policy is asked about each authenticated hello
    /// of a numbered worker that isn't for a control connection.
    ///
    /// # Errors
    /// [`ListenError`] names the address.
    pub fn listen(&self, addr: &str, policy: Policy) -> Result<PeerListener, ListenError> {
        PeerListener::open(self.shared.clone(), addr, policy)
    }

    /// Closes every link, lets at most `wait` pass until what is queued has
    /// been sent, and takes no new ones. Not to be called from the event sink.
    pub fn shutdown(&self, wait: Duration) {
        let mut links = self.shared.links();
        links.closed = true;
        links
            .open
            .values()
            .for_each(|connection| connection.close());
        let some_left = |links: &mut Links| !links.open.is_empty();
        let waited = self.shared.gone.wait_timeout_while(links, wait, some_left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.shared.abort_all();
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.abort_all();
    }
}

impl Transport for TcpTransport {
    fn dial(&self, peer: WorkerId, addr: &str, hello: &Hello) {
        let (shared, addr, hello) = (self.shared.clone(), addr.to_owned(), *hello);
        let kind = hello.kind;
        let spawned = if shared.dials.fetch_add(1, Ordering::Relaxed) < shared.limits.dials_max {
            let (shared, addr) = (shared.clone(), addr.clone());
            let dial = move || {
                let outcome = shared.dial(peer, &addr, &hello);
                shared.dials.fetch_sub(1, Ordering::Relaxed);
                if let Err(error) = outcome {
                    (shared.events)(PeerEvent::DialFailed { peer, kind, error });
                }
            };
            thread::Builder::new()
                .name(format!("dial-{}", peer.0))
                .spawn(dial)
                .map(drop)
        } else {
            Err(io::Error::other("too many dials under way"))
        };
        if let Err(source) = spawned {
            shared.dials.fetch_sub(1, Ordering::Relaxed);
            (shared.events)(PeerEvent::DialFailed {
                peer,
                kind,
                error: ConnectError::Io { addr, source },
            });
        }
    }

    fn send(&self, link: Link, frame: Frame) -> Result<(), SendError> {
        let connection = self.shared.links().open.get(&link.number).cloned();
        connection
            .ok_or(SendError::NotConnected(link))?
            .send(frame, &self.shared.queues)
    }

    fn close(&self, link: Link) {
        let connection = self.shared.links().open.get(&link.number).cloned();
        if let Some(connection) = connection {
            connection.close();
        }
    }
}

impl Shared {
    pub(super) fn links(&self) -> MutexGuard<'_, Links> {
        // Nothing that can panic runs while it is held.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dial(
        self: &Arc<Shared>,
        expected: WorkerId,
        addr: &str,
        hello: &Hello,
    ) -> Result<(), ConnectError> {
        let Authenticated { stream, peer } = self.connector.dial(addr, hello)?;
        if peer.worker != Some(expected) {
            return Err(ConnectError::WrongWorker {
                addr: addr.to_owned(),
                expected,
                found: peer.worker,
            });
        }
        self.adopt(stream, peer, expected, Side::Dialled)
            .map_err(|source| ConnectError::Io {
                addr: addr.to_owned(),
                source,
            })
    }

    /// Puts an authenticated connection to work.
    pub(super) fn adopt(
        self: &Arc<Shared>,
        stream: TcpStream,
        peer: PeerIdentity,
        worker: WorkerId,
        side: Side,
    ) -> io::Result<()> {
        let mut links = self.links();
        if links.closed {
            return Err(io::Error::other("this transport is closed"));
        }
        let link = Link {
            peer: worker,
            kind: peer.kind,
            number: links.next_number,
        };
        links.next_number += 1;
        let connection = Arc::new(Connection::new(link, stream, peer.path));
        links.open.insert(link.number, connection.clone());
        drop(links);
        (self.events)(PeerEvent::Connected { link, peer, side });

        let reading = (self.clone(), connection.clone());
        let reader = thread::Builder::new()
            .name(format!("peer-rx-{}", worker.0))
            .spawn(move || {
                let (shared, connection) = reading;
                let reason = connection.read_loop(&shared.pool, &shared.events);
                shared.lost(link, reason);
            });
        if let Err(error) = reader {
            self.lost(link, LostReason::Broken(error));
            return Ok(());
        }
        let writing = connection.clone();
        let writer = thread::Builder::new()
            .name(format!("peer-tx-{}", worker.0))
            .spawn(move || writing.write_loop());
        if let Err(error) = writer {
            connection.fail(LostReason::Broken(error));
        }
        Ok(())
    }

    fn lost(&self, link: Link, reason: LostReason) {
        let gone = self.links().open.remove(&link.number);
        if gone.is_some() {
            tracing::debug!(peer = link.peer.0, kind = %link.kind, %reason, "peer connection over");
            (self.events)(PeerEvent::Lost { link, reason });
            self.gone.notify_all();
        }
    }

    fn abort_all(&self) {
        let mut links = self.links();
        links.closed = true;
        links
            .open
            .values()
            .for_each(|connection| connection.fail(LostReason::ClosedHere));
    }
}
