//! Both sides of the handshake against each other, and against bytes that are
//! nobody's.

use super::*;
use proptest::prelude::*;

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn hello() -> Hello {
    Hello {
        kind: ConnectionKind::Exchange,
        worker: Some(WorkerId(7)),
        generation: Generation {
            incarnation: 2,
            counter: 5,
        },
        run: RunTag([9; 16]),
    }
}

fn welcome(_: &Hello) -> Verdict {
    Verdict::Welcome {
        worker: Some(WorkerId(3)),
    }
}

/// Both state machines against each other: the dialler's and the
/// acceptor's outcome.
fn shake(
    dialler_token: &Token,
    acceptor_token: &Token,
    policy: impl FnOnce(&Hello) -> Verdict,
) -> (
    Result<Option<WorkerId>, HandshakeError>,
    Result<Hello, HandshakeError>,
) {
    let dialler = Dialler::new(&hello(), [1; 32]);
    let acceptor = Acceptor::challenge(dialler.hello(), [2; 32]).unwrap();
    let dialler = dialler.prove(acceptor.message(), dialler_token).unwrap();
    let (verdict, accepted) = acceptor.decide(dialler.proof(), acceptor_token, policy);
    (dialler.conclude(&verdict, dialler_token), accepted)
}

#[test]
fn the_same_token_lets_in_and_tells_both_who_is_there() {
    for text in ["a-token", ""] {
        let (dialled, accepted) = shake(&token(text), &token(text), welcome);
        assert_eq!(dialled, Ok(Some(WorkerId(3))));
        assert_eq!(accepted, Ok(hello()));
    }
}

#[test]
fn another_token_is_told_so_and_the_policy_never_asked() {
    for (ours, theirs) in [("a", "b"), ("", "b"), ("a", "")] {
        let (dialled, accepted) = shake(&token(ours), &token(theirs), |_| {
            panic!("asked about a stranger")
        });
        assert_eq!(dialled, Err(HandshakeError::WrongToken));
        assert_eq!(accepted, Err(HandshakeError::WrongToken));
    }
}

#[test]
fn every_refusal_reaches_both_sides_as_it_was_given() {
    let newest = Generation {
        incarnation: 3,
        counter: 1,
    };
    for refusal in [
        Refusal::WrongRun,
        Refusal::StaleGeneration { newest },
        Refusal::UnknownWorker,
        Refusal::WrongKind,
        Refusal::Busy,
    ] {
        let (dialled, accepted) = shake(&token("t"), &token("t"), |_| Verdict::Refuse(refusal));
        assert_eq!(dialled, Err(HandshakeError::Refused(refusal)));
        assert_eq!(accepted, Err(HandshakeError::Refused(refusal)));
    }
}

#[test]
fn an_impostor_without_the_token_cannot_answer_not_even_with_a_refusal() {
    for code in [CODE_OK, CODE_WRONG_RUN, CODE_BUSY] {
        let dialler = Dialler::new(&hello(), [1; 32]);
        let dialler = dialler
            .prove(&encode_challenge(CODE_OK, [2; 32]), &token("t"))
            .unwrap();
        let mut verdict = [0u8; VERDICT_LEN];
        verdict[..4].copy_from_slice(&MAGIC);
        verdict[4] = code;
        // The best a stranger has: our own proof, reflected.
        verdict[VERDICT_HEAD_LEN..].copy_from_slice(dialler.proof());
        assert_eq!(
            dialler.conclude(&verdict, &token("t")),
            Err(HandshakeError::WrongToken)
        );
    }
}

#[test]
fn a_recorded_proof_is_worthless_against_another_nonce() {
    let dialler = Dialler::new(&hello(), [1; 32]);
    let hello_bytes = *dialler.hello();
    let first = Acceptor::challenge(&hello_bytes, [2; 32]).unwrap();
    let proof = *dialler.prove(first.message(), &token("t")).unwrap().proof();
    let second = Acceptor::challenge(&hello_bytes, [3; 32]).unwrap();
    let (_, outcome) = second.decide(&proof, &token("t"), welcome);
    assert_eq!(outcome, Err(HandshakeError::WrongToken));
}

#[test]
fn another_version_is_named_on_both_sides() {
    let mut bytes = *Dialler::new(&hello(), [1; 32]).hello();
    bytes[4..6].copy_from_slice(&9u16.to_le_bytes());
    let rejected = Acceptor::challenge(&bytes, [2; 32]).unwrap_err();
    assert_eq!(
        rejected.error,
        HandshakeError::WrongVersion {
            ours: PROTOCOL_VERSION,
            theirs: 9
        }
    );

    // The old build hears our version from the farewell, and we hear a newer one's.
    let mut farewell = rejected.farewell.unwrap();
    let heard = Dialler::new(&hello(), [1; 32]).prove(&farewell, &token("t"));
    assert!(matches!(heard, Err(HandshakeError::WrongVersion { .. })));
    farewell[4..6].copy_from_slice(&12u16.to_le_bytes());
    let heard = Dialler::new(&hello(), [1; 32])
        .prove(&farewell, &token("t"))
        .unwrap_err();
    assert_eq!(
        heard,
        HandshakeError::WrongVersion {
            ours: PROTOCOL_VERSION,
            theirs: 12
        }
    );
}

#[test]
fn a_web_server_is_recognised_as_one() {
    let mut answer = [b' '; CHALLENGE_LEN];
    answer[..12].copy_from_slice(b"HTTP/1.1 400");
    let error = Dialler::new(&hello(), [1; 32])
        .prove(&answer, &token("t"))
        .unwrap_err();
    assert_eq!(error, HandshakeError::NotEbbtide { found: *b"HTTP" });
    assert!(error.to_string().contains("\"HTTP\""));
}

proptest! {
    #[test]
    fn any_single_bit_flipped_on_the_way_ends_the_handshake(bit in 0usize..(HELLO_LEN + CHALLENGE_LEN + PROOF_LEN + VERDICT_LEN) * 8) {
        let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
        let flip = |bytes: &mut [u8], from: usize| {
            if (from..from + bytes.len()).contains(&byte) {
                bytes[byte - from] ^= mask;
            }
        };
        let t = token("t");
        let run = || -> Result<Option<WorkerId>, HandshakeError> {
            let dialler = Dialler::new(&hello(), [1; 32]);
            let mut hello_bytes = *dialler.hello();
            flip(&mut hello_bytes, 0);
            let acceptor = Acceptor::challenge(&hello_bytes, [2; 32]).map_err(|r| r.error)?;
            let mut challenge = *acceptor.message();
            flip(&mut challenge, HELLO_LEN);
            let dialler = dialler.prove(&challenge, &t)?;
            let mut proof = *dialler.proof();
            flip(&mut proof, HELLO_LEN + CHALLENGE_LEN);
            let (mut verdict, outcome) = acceptor.decide(&proof, &t, welcome);
            outcome?;
            flip(&mut verdict, HELLO_LEN + CHALLENGE_LEN + PROOF_LEN);
            dialler.conclude(&verdict, &t)
        };
        prop_assert!(run().is_err());
    }

    #[test]
    fn no_bytes_whatever_bring_either_side_down(
        noise in proptest::collection::vec(any::<u8>(), HELLO_LEN),
        well_begun in any::<bool>(),
    ) {
        let mut noise = noise;
        if well_begun {
            noise[..4].copy_from_slice(&MAGIC);
            noise[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        }
        let t = token("t");
        if let Ok(acceptor) = Acceptor::challenge(&array(&noise, 0), [2; 32]) {
            let (_, outcome) = acceptor.decide(&array(&noise, 40), &t, welcome);
            prop_assert_eq!(outcome, Err(HandshakeError::WrongToken));
        }
        if let Ok(dialler) = Dialler::new(&hello(), [1; 32]).prove(&array(&noise, 0), &t) {
            prop_assert!(dialler.conclude(&array(&noise, 8), &t).is_err());
        }
    }
}
