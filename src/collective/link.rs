//! One TCP connection at work: a thread that reads frames, a thread that
//! writes them, and a bounded outbox between the senders and the latter.
//!
//! Failures meet in one place: whoever notices one (reader, writer, sender)
//! notes the reason and shuts the socket down; the reader then gets to the
//! end of what had come, and says `Lost`. So a peer's last frames aren't lost
//! with it, and nothing follows the `Lost`.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::buffer::BufferPool;
use super::frame::{Frame, FrameError, HEADER_LEN, PayloadChecksum, read_frame};
use super::identity::ConnectionKind;
use super::path::Path;
use super::transport::{EventSink, Link, LostReason, PeerEvent, SendError};

/// Frames that one system call writes at most; two slices each.
const BATCH_FRAMES_MAX: usize = 32;
/// Bytes after which a batch is full.
const BATCH_BYTES: usize = 4 << 20;
/// How long we wait for the peer to close its side too.
const LINGER: Duration = Duration::from_secs(5);

/// Most bytes that may wait for one peer; can be changed when the size of the
/// model is known.
#[derive(Debug)]
pub(super) struct QueueLimits {
    pub(super) exchange_bytes: AtomicUsize,
    pub(super) stream_bytes: AtomicUsize,
}

impl QueueLimits {
    fn of(&self, kind: ConnectionKind) -> usize {
        match kind {
            ConnectionKind::Stream => self.stream_bytes.load(Ordering::Relaxed),
            ConnectionKind::Exchange | ConnectionKind::Control | ConnectionKind::Probe => {
                self.exchange_bytes.load(Ordering::Relaxed)
            }
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    socket: TcpStream,
    checksum: PayloadChecksum,
    outbox: Mutex<Outbox>,
    /// The outbox has something new: a frame, a state, an end.
    changed: Condvar,
}

#[derive(Debug)]
struct Outbox {
    frames: VecDeque<Outgoing>,
    /// Waiting or being written, headers included.
    bytes: usize,
    state: State,
    reason: Option<LostReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Takes no more frames; the writer sends what is there, then closes.
    Draining,
    /// Broken, or closed at both ends: threads leave.
    Over,
}

#[derive(Debug)]
struct Outgoing {
    header: [u8; HEADER_LEN],
    payload: Bytes,
}

impl Outgoing {
    fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.header), IoSlice::new(&self.payload)]
    }
}

impl Connection {
    pub(super) fn new(link: Link, socket: TcpStream, path: Path) -> Connection {
        let ends = (socket.local_addr(), socket.peer_addr());
        let checksum = match ends {
            (Ok(local), Ok(remote)) => checksum_between(local.ip(), remote.ip(), path),
            // It's down already.
            _ => PayloadChecksum::Crc32c,
        };
        let outbox = Outbox {
            frames: VecDeque::new(),
            bytes: 0,
            state: State::Open,
            reason: None,
        };
        Connection {
            link,
            socket,
            checksum,
            outbox: Mutex::new(outbox),
            changed: Condvar::new(),
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // No code that can panic runs while it is held.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, frame: Frame, limits: &QueueLimits) -> Result<(), SendError> {
        let outgoing = Outgoing {
            header: frame.encode_header(self.checksum),
            payload: frame.payload.into_bytes(),
        };
        let mut outbox = self.outbox();
        if outbox.state != State::Open {
            return Err(SendError::NotConnected(self.link));
        }
        let (queued, limit) = (outbox.bytes, limits.of(self.link.kind));
        if queued.saturating_add(outgoing.len()) > limit {
            if self.link.kind != ConnectionKind::Stream {
                self.end(&mut outbox, LostReason::QueueFull { queued, limit });
            }
            return Err(SendError::QueueFull {
                link: self.link,
                queued,
                limit,
            });
        }
        outbox.bytes += outgoing.len();
        outbox.frames.push_back(outgoing);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes no more frames, sends what is queued, then closes.
    pub(super) fn close(&self) {
        let mut outbox = self.outbox();
        if outbox.state == State::Open {
            outbox.state = State::Draining;
            outbox.reason.get_or_insert(LostReason::ClosedHere);
            self.changed.notify_all();
        }
    }

    /// Ends the connection now. The first reason counts, unless it is only
    /// that we were closing anyway.
    pub(super) fn fail(&self, reason: LostReason) {
        self.end(&mut self.outbox(), reason);
    }

    fn end(&self, outbox: &mut Outbox, reason: LostReason) {
        outbox.reason.get_or_insert(reason);
        outbox.state = State::Over;
        outbox.frames.clear();
        outbox.bytes = 0;
        self.changed.notify_all();
        // Fails only where the socket is down already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// The writer thread: until the connection is over.
    pub(super) fn write_loop(&self) {
        let mut batch = Vec::new();
        while self.next_batch(&mut batch) {
            let written = write_all_vectored(&self.socket, &batch);
            let mut outbox = self.outbox();
            let bytes: usize = batch.drain(..).map(|outgoing| outgoing.len()).sum();
            // An end meanwhile has set it to zero.
            outbox.bytes = outbox.bytes.saturating_sub(bytes);
            if let Err(error) = written {
                self.end(&mut outbox, LostReason::Broken(error));
            }
        }
        self.wait_for_the_peer_to_close();
    }

    /// Waits for frames and takes some; false when there won't be any more.
    fn next_batch(&self, batch: &mut Vec<Outgoing>) -> bool {
        let idle = |outbox: &mut Outbox| outbox.state == State::Open && outbox.frames.is_empty();
        let mut outbox = self
            .changed
            .wait_while(self.outbox(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        while batch.len() < BATCH_FRAMES_MAX
            && bytes < BATCH_BYTES
            && let Some(outgoing) = outbox.frames.pop_front()
        {
            bytes += outgoing.len();
            batch.push(outgoing);
        }
        !batch.is_empty()
    }

    /// After a close: our direction ends, the reader goes on until the peer
    /// ends its own. Closing at once would throw away what it hasn't read yet.
    fn wait_for_the_peer_to_close(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let draining = |outbox: &mut Outbox| outbox.state == State::Draining;
        let _unless_over = self
            .changed
            .wait_timeout_while(self.outbox(), LINGER, draining)
            .unwrap_or_else(PoisonError::into_inner);
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// The reader thread: until the connection is over. Returns why.
    pub(super) fn read_loop(&self, pool: &BufferPool, events: &EventSink) -> LostReason {
        let link = self.link;
        let reason = loop {
            match read_frame(&mut &self.socket, pool) {
                Ok(Some(frame)) if frame.head.sender != link.peer => {
                    break LostReason::WrongSender {
                        claimed: frame.head.sender,
                    };
                }
                Ok(Some(frame)) if !frame.head.kind.belongs_on(link.kind) => {
                    break LostReason::Misplaced(frame.head.kind);
                }
                Ok(Some(frame)) => events(PeerEvent::Frame { link, frame }),
                Ok(None) => break LostReason::HungUp,
                Err(FrameError::Io(error)) => break LostReason::Broken(error),
                Err(error) => break LostReason::BadFrame(error),
            }
        };
        let mut outbox = self.outbox();
        self.end(&mut outbox, reason);
        outbox.reason.take().unwrap_or(LostReason::HungUp)
    }
}

/// What goes over a network is checked, or may, where somebody passes it on;
/// what stays in this machine isn't.
fn checksum_between(local: IpAddr, remote: IpAddr, path: Path) -> PayloadChecksum {
    let (local, remote) = (local.to_canonical(), remote.to_canonical());
    let within = local == remote || remote.is_loopback();
    match path {
        Path::Direct if within => PayloadChecksum::Omitted,
        Path::Direct | Path::Forwarded => PayloadChecksum::Crc32c,
    }
}

/// Writes all frames, in as few system calls as the socket allows.
fn write_all_vectored(mut socket: &TcpStream, batch: &[Outgoing]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = batch.iter().flat_map(Outgoing::slices).collect();
    let mut slices = &mut slices[..];
    // Empty slices at the front would look like a write that got nowhere.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_checked_wherever_they_leave_the_machine() {
        for (local, remote, checksum) in [
            ("127.0.0.1", "127.0.0.1", PayloadChecksum::Omitted),
            ("127.0.0.1", "127.0.0.2", PayloadChecksum::Omitted),
            ("::1", "::1", PayloadChecksum::Omitted),
            ("10.0.0.3", "10.0.0.3", PayloadChecksum::Omitted),
            ("10.0.0.3", "::ffff:10.0.0.3", PayloadChecksum::Omitted),
            ("10.0.0.3", "10.0.0.4", PayloadChecksum::Crc32c),
            ("fd00::3", "fd00::4", PayloadChecksum::Crc32c),
        ] {
            let ends = (local.parse().unwrap(), remote.parse().unwrap());
            let between = |path| checksum_between(ends.0, ends.1, path);
            assert_eq!(between(Path::Direct), checksum, "{local} {remote}");
            assert_eq!(between(Path::Forwarded), PayloadChecksum::Crc32c);
        }
    }
}
