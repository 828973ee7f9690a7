//! The binary frames of the peer connections: 64 bytes of header, then the
//! payload.
//!
//! ```text
//!  0 magic "EBBF"   4 kind   5 flags   6 zero (2)   8 sender (8)
//! 16 incarnation (4)   20 counter (4)   24 round (8)   32 offset (8)
//! 40 values (4)   44 bucket (4)   48 payload length (4)   52 payload's CRC-32C (4)
//! 56 zero (4)   60 CRC-32C of bytes 0 to 59 (4)             all little-endian
//! ```
//!
//! The header has a checksum of its own, so that a length is believed, and
//! bounded, before anything is allocated for it. The run isn't in the frame:
//! the connection's handshake has fixed it.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::buffer::BufferPool;
use super::handshake::array;
use super::identity::{ConnectionKind, Generation, WorkerId};
use crate::world::Round;

/// Bytes in a header.
pub const HEADER_LEN: usize = 64;
/// The largest payload of a frame, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 8 << 20;

const MAGIC: [u8; 4] = *b"EBBF";
const FLAG_PAYLOAD_CHECKSUM: u8 = 1;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A member's partial sum of one bucket, to the bucket's owner.
    Contribute = 1,
    /// An owner's complete sum of one bucket, to every member.
    Reduced = 2,
    /// A member's counters and votes, to the trailer's owner.
    TrailerContribute = 3,
    /// The complete trailer, to every member.
    TrailerReduced = 4,
    /// Asks for the complete sum of a round.
    Fetch = 16,
    /// One bucket of a fetched sum.
    FetchedSum = 17,
    /// The trailer of a fetched sum, after its last bucket.
    FetchedTrailer = 18,
    /// The sum that was asked for isn't held here.
    NotHeld = 19,
    /// A follower asks for every sum from now on.
    Subscribe = 32,
    /// The answer: the first step that will come, the source's generation.
    Subscribed = 33,
    /// One bucket of a sum, to a follower.
    StreamSum = 34,
    /// The trailer of a sum, after its last bucket, to a follower.
    StreamTrailer = 35,
}

impl FrameKind {
    /// Every kind there is.
    pub const ALL: [FrameKind; 12] = [
        Self::Contribute,
        Self::Reduced,
        Self::TrailerContribute,
        Self::TrailerReduced,
        Self::Fetch,
        Self::FetchedSum,
        Self::FetchedTrailer,
        Self::NotHeld,
        Self::Subscribe,
        Self::Subscribed,
        Self::StreamSum,
        Self::StreamTrailer,
    ];

    fn from_wire(byte: u8) -> Option<FrameKind> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether frames of this kind may come on connections of that one. A
    /// fetch may share either.
    pub fn belongs_on(self, connection: ConnectionKind) -> bool {
        match self {
            Self::Contribute | Self::Reduced | Self::TrailerContribute | Self::TrailerReduced => {
                connection == ConnectionKind::Exchange
            }
            Self::Fetch | Self::FetchedSum | Self::FetchedTrailer | Self::NotHeld => {
                connection.carries_frames()
            }
            Self::Subscribe | Self::Subscribed | Self::StreamSum | Self::StreamTrailer => {
                connection == ConnectionKind::Stream
            }
        }
    }
}

/// What a frame says about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// What it is for.
    pub kind: FrameKind,
    /// Who sends it.
    pub sender: WorkerId,
    /// The generation it belongs to.
    pub generation: Generation,
    /// The round it belongs to.
    pub round: u64,
    /// Index of the first value in the whole vector.
    pub offset: u64,
    /// How many values the payload holds.
    pub values: u32,
    /// The bucket, counted within its owner's range.
    pub bucket: u32,
}

/// A frame's bytes after the header, shared and never copied: the same payload
/// can wait in the queues of many peers.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    bytes: Bytes,
    /// Computed when the first peer wants it, then shared by all clones.
    checksum: Arc<OnceLock<u32>>,
}

impl Payload {
    /// A payload of at most [`PAYLOAD_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn new(bytes: Bytes) -> Result<Payload, FrameError> {
        if bytes.len() > PAYLOAD_LEN_MAX {
            return Err(FrameError::TooLarge {
                stated: bytes.len(),
            });
        }
        Ok(Payload {
            bytes,
            checksum: Arc::default(),
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, for good.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    fn checksum(&self) -> u32 {
        *self.checksum.get_or_init(|| crc32c::crc32c(&self.bytes))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload {}

/// Whether a frame's payload carries a checksum. The header always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadChecksum {
    /// CRC-32C, because TCP's own 16 bits let damage through on a busy network.
    Crc32c,
    /// None: the payload never leaves this machine's memory, and a checksum
    /// would be a quarter of what sending it costs (docs/decisions/0002).
    Omitted,
}

/// One message between two workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says about its payload.
    pub head: FrameHead,
    /// The payload; may be empty.
    pub payload: Payload,
}

impl Frame {
    /// The header as it goes on the wire.
    pub fn encode_header(&self, checksum: PayloadChecksum) -> [u8; HEADER_LEN] {
        let head = &self.head;
        let (flags, checksum) = match checksum {
            PayloadChecksum::Crc32c => (FLAG_PAYLOAD_CHECKSUM, self.payload.checksum()),
            PayloadChecksum::Omitted => (0, 0),
        };
        let mut bytes = [0u8; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = head.kind as u8;
        bytes[5] = flags;
        bytes[8..16].copy_from_slice(&head.sender.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&head.generation.incarnation.to_le_bytes());
        bytes[20..24].copy_from_slice(&head.generation.counter.to_le_bytes());
        bytes[24..32].copy_from_slice(&head.round.to_le_bytes());
        bytes[32..40].copy_from_slice(&head.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&head.values.to_le_bytes());
        bytes[44..48].copy_from_slice(&head.bucket.to_le_bytes());
        bytes[48..52].copy_from_slice(&(self.payload.bytes.len() as u32).to_le_bytes());
        bytes[52..56].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// A header that has been read and checked; its payload has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedHeader {
    /// What the frame is.
    pub head: FrameHead,
    /// Bytes of payload to come; at most [`PAYLOAD_LEN_MAX`].
    pub payload_len: usize,
    /// Their CRC-32C, where the sender computed one.
    pub payload_checksum: Option<u32>,
}

/// Why bytes are no frame. Each ends the connection: after one, nothing that
/// follows can be trusted to be where it should.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not a header.
    #[error("not a frame: it begins with \"{}\"", found.escape_ascii())]
    BadMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A header that was damaged, or made by something else.
    #[error("damaged frame header: its checksum is {stated:08x}, its bytes have {computed:08x}")]
    HeaderChecksum {
        /// What the header says.
        stated: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// A kind that this build doesn't know.
    #[error("unknown kind of frame: {0}")]
    UnknownKind(u8),
    /// A field with a value that can't be.
    #[error("malformed frame header: {0}")]
    Malformed(&'static str),
    /// A payload beyond the limit.
    #[error("a frame of {stated} bytes; at most {PAYLOAD_LEN_MAX} are taken")]
    TooLarge {
        /// The length it states.
        stated: usize,
    },
    /// A payload that was damaged on the way.
    #[error(
        "damaged payload of a {kind:?} frame, round {round}: its checksum is {stated:08x}, its bytes have {computed:08x}"
    )]
    PayloadChecksum {
        /// The frame's kind.
        kind: FrameKind,
        /// Its round.
        round: u64,
        /// What the header says.
        stated: u32,
        /// What the bytes have.
        computed: u32,
    },
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame: {got} of {wanted} bytes")]
    Truncated {
        /// Bytes of header or payload that were due.
        wanted: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The connection broke.
    #[error(transparent)]
    Io(io::Error),
}

/// Reads a header from any 64 bytes.
///
/// # Errors
/// [`FrameError`]: what is wrong with them.
pub fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<DecodedHeader, FrameError> {
    let u32_at = |at| u32::from_le_bytes(array(bytes, at));
    let u64_at = |at| u64::from_le_bytes(array(bytes, at));
    let found: [u8; 4] = array(bytes, 0);
    if found != MAGIC {
        return Err(FrameError::BadMagic { found });
    }
    let (stated, computed) = (u32_at(60), crc32c::crc32c(&bytes[..60]));
    if stated != computed {
        return Err(FrameError::HeaderChecksum { stated, computed });
    }
    let kind = FrameKind::from_wire(bytes[4]).ok_or(FrameError::UnknownKind(bytes[4]))?;
    let flags = bytes[5];
    if flags & !FLAG_PAYLOAD_CHECKSUM != 0 || bytes[6..8] != [0; 2] || bytes[56..60] != [0; 4] {
        return Err(FrameError::Malformed(
            "a bit that this version doesn't know",
        ));
    }
    let head = FrameHead {
        kind,
        sender: WorkerId(u64_at(8)),
        generation: Generation {
            incarnation: u32_at(16),
            counter: u32_at(20),
        },
        round: u64_at(24),
        offset: u64_at(32),
        values: u32_at(40),
        bucket: u32_at(44),
    };
    if head.round > Round::MAX.0 {
        return Err(FrameError::Malformed("a round that no run gets to"));
    }
    if head.offset.checked_add(u64::from(head.values)).is_none() {
        return Err(FrameError::Malformed(
            "its values end beyond the last index",
        ));
    }
    let payload_len = u32_at(48) as usize;
    if payload_len > PAYLOAD_LEN_MAX {
        return Err(FrameError::TooLarge {
            stated: payload_len,
        });
    }
    let payload_checksum = (flags & FLAG_PAYLOAD_CHECKSUM != 0).then(|| u32_at(52));
    Ok(DecodedHeader {
        head,
        payload_len,
        payload_checksum,
    })
}

/// Reads the next frame, blocking. `None` when the connection ended between
/// two frames. Allocates nothing before the header is checked, then only the
/// payload, from the pool.
///
/// # Errors
/// [`FrameError`]; the connection is of no use then.
pub fn read_frame(from: &mut impl Read, pool: &BufferPool) -> Result<Option<Frame>, FrameError> {
    let mut header = [0u8; HEADER_LEN];
    match fill(from, &mut header)? {
        0 => return Ok(None),
        HEADER_LEN => {}
        got => {
            return Err(FrameError::Truncated {
                wanted: HEADER_LEN,
                got,
            });
        }
    }
    let DecodedHeader {
        head,
        payload_len,
        payload_checksum,
    } = decode_header(&header)?;
    let mut buffer = pool.take(payload_len);
    let got = fill(from, buffer.as_mut_slice())?;
    if got != payload_len {
        return Err(FrameError::Truncated {
            wanted: payload_len,
            got,
        });
    }
    let payload = Payload::new(buffer.freeze())?;
    match payload_checksum {
        Some(stated) if stated != payload.checksum() => Err(FrameError::PayloadChecksum {
            kind: head.kind,
            round: head.round,
            stated,
            computed: payload.checksum(),
        }),
        _ => Ok(Some(Frame { head, payload })),
    }
}

/// Reads until `bytes` are full or the connection ends; returns how many came.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<usize, FrameError> {
    let mut got = 0;
    while got < bytes.len() {
        match from.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests;
