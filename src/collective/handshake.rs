//! The challenge and response that every connection begins with, as pure
//! functions over byte arrays.
//!
//! ```text
//! dialling side                                   accepting side
//!   hello   72 B  magic version kind worker          |
//!                 generation run nonce      ------>  |
//!   |        <------  challenge 40 B  magic version code nonce
//!   proof   32 B  HMAC(token, "dialler",             |
//!                 hello, challenge)         ------>  |  the policy sees the hello
//!   |        <------  verdict   56 B  magic code worker generation
//!                               HMAC(token, "acceptor", hello, challenge, proof, verdict's head)
//! ```
//!
//! The token is the key of both HMAC-SHA256 proofs and never crosses the
//! wire; both nonces are in both, so nothing can be replayed. The dialler
//! proves first: a stranger who connects gets nothing that depends on the
//! token, sends us at most 104 bytes, and learns only our protocol version.
//! The verdict is proved too, so a refusal can't be forged. What this is not:
//! secrecy, or protection against someone who can rewrite packets after the
//! handshake. That is TLS's, which will stand underneath.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::identity::{ConnectionKind, Generation, Hello, Refusal, RunTag, Verdict, WorkerId};
use super::token::Token;

/// What both first messages begin with.
pub const MAGIC: [u8; 4] = *b"EBBT";
/// The version of this handshake and of all that follows it on the wire.
pub const PROTOCOL_VERSION: u16 = 1;
/// Bytes in the dialler's first message.
pub const HELLO_LEN: usize = 72;
/// Bytes in the acceptor's first message.
pub const CHALLENGE_LEN: usize = 40;
/// Bytes in a proof.
pub const PROOF_LEN: usize = 32;
/// Bytes in the acceptor's last message.
pub const VERDICT_LEN: usize = 56;

/// Random bytes that make a handshake unlike every other.
pub type Nonce = [u8; 32];

const CODE_OK: u8 = 0;
const CODE_WRONG_VERSION: u8 = 1;
const CODE_WRONG_TOKEN: u8 = 2;
const CODE_WRONG_RUN: u8 = 3;
const CODE_STALE_GENERATION: u8 = 4;
const CODE_UNKNOWN_WORKER: u8 = 5;
const CODE_WRONG_KIND: u8 = 6;
const CODE_BUSY: u8 = 7;

const VERDICT_HEAD_LEN: usize = VERDICT_LEN - PROOF_LEN;

/// Why a handshake ends without a connection. Knows no addresses; the
/// connector adds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are somebody else's protocol.
    #[error("the other side doesn't speak ebbtide's protocol (it began with \"{}\")", found.escape_ascii())]
    NotEbbtide {
        /// The first four bytes it sent.
        found: [u8; 4],
    },
    /// Both are ebbtide, of different builds.
    #[error("the other side speaks protocol version {theirs}, this build version {ours}")]
    WrongVersion {
        /// Our version.
        ours: u16,
        /// The other side's.
        theirs: u16,
    },
    /// The tokens differ.
    #[error("the other side has a different token")]
    WrongToken,
    /// The acceptor's policy said no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// A field has a value that this version doesn't know.
    #[error("malformed handshake: {0}")]
    Malformed(&'static str),
}

/// Checks the first four bytes of a first message: strangers can be told off
/// before the rest has arrived.
///
/// # Errors
/// [`HandshakeError::NotEbbtide`].
pub fn check_magic(found: [u8; 4]) -> Result<(), HandshakeError> {
    if found == MAGIC {
        return Ok(());
    }
    Err(HandshakeError::NotEbbtide { found })
}

/// The dialling side, its hello made and waiting for the challenge.
#[derive(Debug)]
pub struct Dialler {
    hello: [u8; HELLO_LEN],
}

/// The dialling side, its proof made and waiting for the verdict.
#[derive(Debug)]
pub struct DiallerProved {
    hello: [u8; HELLO_LEN],
    challenge: [u8; CHALLENGE_LEN],
    proof: [u8; PROOF_LEN],
}

impl Dialler {
    /// Begins with what we say about ourselves and a fresh random nonce.
    pub fn new(hello: &Hello, nonce: Nonce) -> Dialler {
        Dialler {
            hello: encode_hello(hello, nonce),
        }
    }

    /// The first message to send.
    pub fn hello(&self) -> &[u8; HELLO_LEN] {
        &self.hello
    }

    /// Answers the acceptor's challenge.
    ///
    /// # Errors
    /// [`HandshakeError::NotEbbtide`], [`HandshakeError::WrongVersion`], [`HandshakeError::Malformed`].
    pub fn prove(
        self,
        challenge: &[u8; CHALLENGE_LEN],
        token: &Token,
    ) -> Result<DiallerProved, HandshakeError> {
        check_magic(array(challenge, 0))?;
        let theirs = u16::from_le_bytes(array(challenge, 4));
        if theirs != PROTOCOL_VERSION || challenge[6] == CODE_WRONG_VERSION {
            return Err(HandshakeError::WrongVersion {
                ours: PROTOCOL_VERSION,
                theirs,
            });
        }
        if challenge[6] != CODE_OK {
            return Err(HandshakeError::Malformed("unknown code in the challenge"));
        }
        let proof = mac(token, b"dialler", &[&self.hello, challenge]);
        let proof = proof.finalize().into_bytes().into();
        Ok(DiallerProved {
            hello: self.hello,
            challenge: *challenge,
            proof,
        })
    }
}

impl DiallerProved {
    /// The second message to send.
    pub fn proof(&self) -> &[u8; PROOF_LEN] {
        &self.proof
    }

    /// Reads the verdict: who answered, once it has proved that it has the
    /// same token (`None` for a coordinator).
    ///
    /// # Errors
    /// Any [`HandshakeError`] but [`HandshakeError::WrongVersion`].
    pub fn conclude(
        self,
        verdict: &[u8; VERDICT_LEN],
        token: &Token,
    ) -> Result<Option<WorkerId>, HandshakeError> {
        check_magic(array(verdict, 0))?;
        let (head, proof) = verdict.split_at(VERDICT_HEAD_LEN);
        let expected = mac(
            token,
            b"acceptor",
            &[&self.hello, &self.challenge, &self.proof, head],
        );
        if head[4] == CODE_WRONG_TOKEN || expected.verify_slice(proof).is_err() {
            return Err(HandshakeError::WrongToken);
        }
        let generation = decode_generation(array(head, 16));
        match head[4] {
            CODE_OK => Ok(decode_worker(array(head, 8))),
            CODE_WRONG_RUN => Err(HandshakeError::Refused(Refusal::WrongRun)),
            CODE_STALE_GENERATION => Err(HandshakeError::Refused(Refusal::StaleGeneration {
                newest: generation,
            })),
            CODE_UNKNOWN_WORKER => Err(HandshakeError::Refused(Refusal::UnknownWorker)),
            CODE_WRONG_KIND => Err(HandshakeError::Refused(Refusal::WrongKind)),
            CODE_BUSY => Err(HandshakeError::Refused(Refusal::Busy)),
            _ => Err(HandshakeError::Malformed("unknown code in the verdict")),
        }
    }
}

/// The accepting side, its challenge made and waiting for the proof.
#[derive(Debug)]
pub struct Acceptor {
    claimed: Hello,
    hello: [u8; HELLO_LEN],
    challenge: [u8; CHALLENGE_LEN],
}

/// A hello that ends the handshake, and what to send before closing.
#[derive(Debug)]
pub struct HelloRejected {
    /// The last message to send, if one is due.
    pub farewell: Option<[u8; CHALLENGE_LEN]>,
    /// Why.
    pub error: HandshakeError,
}

impl Acceptor {
    /// Reads a hello (any bytes) and makes the challenge from a fresh random
    /// nonce.
    ///
    /// # Errors
    /// [`HelloRejected`]: another protocol, another version, an unknown kind.
    pub fn challenge(hello: &[u8; HELLO_LEN], nonce: Nonce) -> Result<Acceptor, HelloRejected> {
        let silently = |error| HelloRejected {
            farewell: None,
            error,
        };
        check_magic(array(hello, 0)).map_err(silently)?;
        let theirs = u16::from_le_bytes(array(hello, 4));
        if theirs != PROTOCOL_VERSION {
            let error = HandshakeError::WrongVersion {
                ours: PROTOCOL_VERSION,
                theirs,
            };
            let farewell = Some(encode_challenge(CODE_WRONG_VERSION, nonce));
            return Err(HelloRejected { farewell, error });
        }
        let claimed = decode_hello(hello).map_err(silently)?;
        Ok(Acceptor {
            claimed,
            hello: *hello,
            challenge: encode_challenge(CODE_OK, nonce),
        })
    }

    /// The first message to send.
    pub fn message(&self) -> &[u8; CHALLENGE_LEN] {
        &self.challenge
    }

    /// Checks the proof in constant time and, only if it holds, asks the
    /// policy. Returns the last message to send, and whom to let in.
    pub fn decide(
        self,
        proof: &[u8; PROOF_LEN],
        token: &Token,
        policy: impl FnOnce(&Hello) -> Verdict,
    ) -> ([u8; VERDICT_LEN], Result<Hello, HandshakeError>) {
        let mut verdict = [0u8; VERDICT_LEN];
        verdict[..4].copy_from_slice(&MAGIC);
        if mac(token, b"dialler", &[&self.hello, &self.challenge])
            .verify_slice(proof)
            .is_err()
        {
            verdict[4] = CODE_WRONG_TOKEN;
            return (verdict, Err(HandshakeError::WrongToken));
        }
        let decision = policy(&self.claimed);
        let (code, worker, generation) = match decision {
            Verdict::Welcome { worker } => (CODE_OK, worker, Generation::NONE),
            Verdict::Refuse(refusal) => refusal_on_wire(refusal),
        };
        verdict[4] = code;
        verdict[8..16].copy_from_slice(&encode_worker(worker));
        verdict[16..24].copy_from_slice(&encode_generation(generation));
        let (head, tail) = verdict.split_at_mut(VERDICT_HEAD_LEN);
        let ours = mac(
            token,
            b"acceptor",
            &[&self.hello, &self.challenge, proof, head],
        );
        tail.copy_from_slice(&ours.finalize().into_bytes());
        let outcome = match decision {
            Verdict::Welcome { .. } => Ok(self.claimed),
            Verdict::Refuse(refusal) => Err(HandshakeError::Refused(refusal)),
        };
        (verdict, outcome)
    }
}

fn refusal_on_wire(refusal: Refusal) -> (u8, Option<WorkerId>, Generation) {
    match refusal {
        Refusal::WrongRun => (CODE_WRONG_RUN, None, Generation::NONE),
        Refusal::StaleGeneration { newest } => (CODE_STALE_GENERATION, None, newest),
        Refusal::UnknownWorker => (CODE_UNKNOWN_WORKER, None, Generation::NONE),
        Refusal::WrongKind => (CODE_WRONG_KIND, None, Generation::NONE),
        Refusal::Busy => (CODE_BUSY, None, Generation::NONE),
    }
}

/// HMAC-SHA256 over a role and messages of fixed lengths, so that their
/// concatenation is unambiguous. An empty token is an empty key.
fn mac(token: &Token, role: &[u8], messages: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token.key()).expect("HMAC takes keys of any length");
    mac.update(b"ebbtide handshake ");
    mac.update(role);
    for message in messages {
        mac.update(message);
    }
    mac
}

fn encode_hello(hello: &Hello, nonce: Nonce) -> [u8; HELLO_LEN] {
    let mut bytes = [0u8; HELLO_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    bytes[6] = hello.kind as u8;
    bytes[8..16].copy_from_slice(&encode_worker(hello.worker));
    bytes[16..24].copy_from_slice(&encode_generation(hello.generation));
    bytes[24..40].copy_from_slice(&hello.run.0);
    bytes[40..].copy_from_slice(&nonce);
    bytes
}

fn decode_hello(bytes: &[u8; HELLO_LEN]) -> Result<Hello, HandshakeError> {
    let kind = ConnectionKind::from_wire(bytes[6])
        .ok_or(HandshakeError::Malformed("unknown kind of connection"))?;
    if bytes[7] != 0 {
        return Err(HandshakeError::Malformed(
            "the hello's spare byte is not zero",
        ));
    }
    Ok(Hello {
        kind,
        worker: decode_worker(array(bytes, 8)),
        generation: decode_generation(array(bytes, 16)),
        run: RunTag(array(bytes, 24)),
    })
}

fn encode_challenge(code: u8, nonce: Nonce) -> [u8; CHALLENGE_LEN] {
    let mut bytes = [0u8; CHALLENGE_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    bytes[6] = code;
    bytes[8..].copy_from_slice(&nonce);
    bytes
}

/// The dialler's nonce.
pub(super) fn nonce_of_hello(bytes: &[u8; HELLO_LEN]) -> Nonce {
    array(bytes, 40)
}

/// The acceptor's nonce.
pub(super) fn nonce_of_challenge(bytes: &[u8; CHALLENGE_LEN]) -> Nonce {
    array(bytes, 8)
}

fn encode_worker(worker: Option<WorkerId>) -> [u8; 8] {
    assert!(
        worker != Some(WorkerId(0)),
        "worker ids begin at 1: zero means none on the wire"
    );
    worker.map_or(0, |worker| worker.0).to_le_bytes()
}

fn decode_worker(bytes: [u8; 8]) -> Option<WorkerId> {
    Some(u64::from_le_bytes(bytes))
        .filter(|id| *id != 0)
        .map(WorkerId)
}

fn encode_generation(generation: Generation) -> [u8; 8] {
    let mut bytes = [0u8; 8];
    bytes[..4].copy_from_slice(&generation.incarnation.to_le_bytes());
    bytes[4..].copy_from_slice(&generation.counter.to_le_bytes());
    bytes
}

fn decode_generation(bytes: [u8; 8]) -> Generation {
    Generation {
        incarnation: u32::from_le_bytes(array(&bytes, 0)),
        counter: u32::from_le_bytes(array(&bytes, 4)),
    }
}

/// `N` bytes of a longer array, from a constant place.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0u8; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests;
