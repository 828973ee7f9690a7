//! The peers' port: an accepting thread, and a bounded crowd of handshakes at
//! its door, each on a thread of its own for as long as it takes.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::connector::Authenticated;
use super::control::Policy;
use super::error::ListenError;
use super::guard::DoorCounters;
use super::identity::{ConnectionKind, Hello, Refusal, Verdict};
use super::tcp::Shared;
use super::transport::Side;

/// Pause after the operating system failed to accept (no descriptors left).
const ACCEPT_FAILED_PAUSE: Duration = Duration::from_millis(50);

/// An open port for peers. Dropping it closes the port; links live on.
pub struct PeerListener {
    local_addr: SocketAddr,
    door: Arc<PeerDoor>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl PeerListener {
    pub(super) fn open(
        shared: Arc<Shared>,
        addr: &str,
        policy: Policy,
    ) -> Result<PeerListener, ListenError> {
        let listener = shared.connector.listen(addr)?;
        let failed = |source| ListenError {
            addr: addr.to_owned(),
            source,
        };
        let local_addr = listener.local_addr().map_err(failed)?;
        let door = Arc::new(PeerDoor {
            shared,
            policy,
            counters: DoorCounters::default(),
            crowd: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let at_the_door = door.clone();
        let acceptor = thread::Builder::new()
            .name("peer-accept".into())
            .spawn(move || at_the_door.accept_loop(&listener))
            .map_err(failed)?;
        Ok(PeerListener {
            local_addr,
            door,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens: the port that was chosen, if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What became of those who knocked.
    pub fn counters(&self) -> &DoorCounters {
        &self.door.counters
    }
}

impl std::fmt::Debug for PeerListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerListener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        self.door.stopped.store(true, Ordering::SeqCst);
        self.door
            .crowd()
            .waiting
            .drain(..)
            .for_each(|(_, stream)| drop(stream.shutdown(Shutdown::Both)));
        // A blocking accept wakes up for a connection, and for nothing else
        // that is portable.
        let ip = match self.local_addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let ourselves = SocketAddr::new(ip, self.local_addr.port());
        let woken = TcpStream::connect_timeout(&ourselves, Duration::from_secs(1)).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            // The port is free once the thread has dropped its listener.
            let _ = acceptor.join();
        }
    }
}

struct PeerDoor {
    shared: Arc<Shared>,
    policy: Policy,
    counters: DoorCounters,
    crowd: Mutex<Crowd>,
    stopped: AtomicBool,
}

/// The handshakes under way, oldest first; a handle on each one's socket.
#[derive(Default)]
struct Crowd {
    waiting: VecDeque<(u64, TcpStream)>,
    next_number: u64,
}

impl PeerDoor {
    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_loop(self: &Arc<PeerDoor>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let begun = accepted.and_then(|(stream, from)| self.begin(stream, from));
            if let Err(error) = begun {
                tracing::warn!(%error, "accepting a peer connection failed");
                thread::sleep(ACCEPT_FAILED_PAUSE);
            }
        }
    }

    fn begin(self: &Arc<PeerDoor>, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        let handle = stream.try_clone()?;
        let mut crowd = self.crowd();
        if crowd.waiting.len() >= self.shared.limits.door.handshakes_max.max(1)
            && let Some((_, oldest)) = crowd.waiting.pop_front()
        {
            // Its thread reads the end of the stream and leaves.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let number = crowd.next_number;
        crowd.next_number += 1;
        crowd.waiting.push_back((number, handle));
        drop(crowd);

        let door = self.clone();
        let shake_hands = move || {
            door.shake_hands(stream, from);
            door.crowd()
                .waiting
                .retain(|(waiting, _)| *waiting != number);
        };
        let spawned = thread::Builder::new()
            .name("peer-handshake".into())
            .spawn(shake_hands);
        if spawned.is_err() {
            self.crowd()
                .waiting
                .retain(|(waiting, _)| *waiting != number);
        }
        spawned.map(drop)
    }

    fn shake_hands(&self, stream: TcpStream, from: SocketAddr) {
        match self
            .shared
            .connector
            .accept(stream, |hello| self.judge(hello))
        {
            Ok(Authenticated { stream, peer }) => {
                self.counters.note_accepted();
                if peer.kind.carries_frames()
                    && let Some(worker) = peer.worker
                    && let Err(error) = self.shared.adopt(stream, peer, worker, Side::Accepted)
                {
                    tracing::warn!(%from, %error, "peer connection dropped");
                }
            }
            Err(error) => self.counters.note_rejected(from, &error),
        }
    }

    fn judge(&self, hello: &Hello) -> Verdict {
        if hello.kind == ConnectionKind::Control {
            return Verdict::Refuse(Refusal::WrongKind);
        }
        if hello.kind == ConnectionKind::Probe {
            return (self.policy)(hello);
        }
        if hello.worker.is_none() {
            return Verdict::Refuse(Refusal::UnknownWorker);
        }
        if self.shared.links().open.len() >= self.shared.limits.door.connections_max {
            return Verdict::Refuse(Refusal::Busy);
        }
        (self.policy)(hello)
    }
}
