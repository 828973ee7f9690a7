//! Connections between processes: one door for all of them, and the frames
//! that workers exchange.
//!
//! ```text
//!  world's commands                                             world's events
//!        |                                                            ^
//!        v                                                            |
//!   transport: Transport, Link, PeerEvent   (what the rest knows)     |
//!   tcp -> link: outbox -> writer thread     reader thread -> event sink
//!          frame: 64-byte header + payload, bounded, checksummed
//!   ---------------------------------------------------------------------
//!   connector: dial, accept  <- guard: how many strangers at the door
//!   handshake: token proved both ways before any other byte
//!   control: the same door for gRPC
//! ```
//!
//! | concern | file |
//! |---|---|
//! | who is there | `identity.rs` |
//! | the shared secret | `token.rs` |
//! | challenge and response, pure | `handshake.rs` |
//! | whether somebody stands in between | `path.rs` |
//! | every TCP connection, dialled or accepted | `connector.rs`, `deadline.rs`, `error.rs` |
//! | strangers: bounds, counts, log lines | `guard.rs` |
//! | tonic channels and servers | `control.rs` |
//! | frames and their limits | `frame.rs`, `buffer.rs` |
//! | links and their events | `transport.rs` |
//! | TCP with threads | `tcp.rs`, `link.rs`, `listener.rs` |
//! | who sums which values | `layout.rs` |
//!
//! What is absent: nothing is decoded of a peer that hasn't proved to know the
//! token, nothing is allocated before its length has been checked, no caller of
//! [`Transport`] ever waits, and nobody here knows what a frame means.

mod buffer;
mod connector;
mod control;
mod deadline;
mod error;
mod frame;
mod guard;
pub mod handshake;
mod identity;
mod layout;
mod link;
mod listener;
mod path;
mod tcp;
mod token;
mod transport;

#[cfg(test)]
mod tests;

pub use buffer::BufferPool;
pub use connector::{Authenticated, Connector, SocketOptions};
pub use control::{
    AuthenticatedStream, CONTROL_MESSAGE_LEN_MAX, CONTROL_PING_AFTER, CONTROL_PING_TIMEOUT, Caller,
    Policy, control_channel, control_incoming,
};
pub use error::{AcceptError, ConnectError, ListenError};
pub use frame::{
    DecodedHeader, Frame, FrameError, FrameHead, FrameKind, HEADER_LEN, PAYLOAD_LEN_MAX, Payload,
    PayloadChecksum, decode_header, read_frame,
};
pub use guard::{DoorCounters, DoorCounts, DoorLimits};
pub use identity::{
    ConnectionKind, Generation, Hello, PeerIdentity, Refusal, RunTag, Verdict, WorkerId,
};
pub use layout::{Bucket, Cut};
pub use listener::PeerListener;
pub use path::Path;
pub use tcp::{TcpTransport, TransportLimits};
pub use token::{TOKEN_LEN_MAX, Token, TokenError, requires_token};
pub use transport::{EventSink, Link, LostReason, PeerEvent, SendError, Side, Transport};
