//! Frames through wires that cut, damage and lie.

use super::*;
use proptest::prelude::*;

fn frame(payload: Payload) -> Frame {
    let head = FrameHead {
        kind: FrameKind::Contribute,
        sender: WorkerId(3),
        generation: Generation {
            incarnation: 1,
            counter: 4,
        },
        round: 120,
        offset: 1024,
        values: 512,
        bucket: 2,
    };
    Frame { head, payload }
}

fn on_wire(frame: &Frame) -> Vec<u8> {
    on_wire_with(frame, PayloadChecksum::Crc32c)
}

fn on_wire_with(frame: &Frame, checksum: PayloadChecksum) -> Vec<u8> {
    [&frame.encode_header(checksum)[..], frame.payload.bytes()].concat()
}

/// A header with its checksum made right again after `change`.
fn header_with(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> [u8; HEADER_LEN] {
    let mut bytes = frame(Payload::default()).encode_header(PayloadChecksum::Omitted);
    change(&mut bytes);
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Gives out its bytes in pieces of the given sizes, over and over.
struct Pieces<'b> {
    bytes: &'b [u8],
    sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self
            .sizes
            .next()
            .unwrap_or(1)
            .min(into.len())
            .min(self.bytes.len());
        into[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

#[test]
fn an_oversized_frame_is_refused_before_a_buffer_is_taken() {
    let header = header_with(|bytes| bytes[48..52].copy_from_slice(&u32::MAX.to_le_bytes()));
    let pool = BufferPool::new(1 << 20);
    let error = read_frame(&mut &header[..], &pool).unwrap_err();
    assert!(
        matches!(error, FrameError::TooLarge { stated } if stated == u32::MAX as usize),
        "{error}"
    );
    assert_eq!(pool.taken_total(), 0);
    let large = Bytes::from(vec![0; PAYLOAD_LEN_MAX + 1]);
    assert!(matches!(
        Payload::new(large),
        Err(FrameError::TooLarge { .. })
    ));
}

#[test]
fn headers_that_cannot_be_are_named() {
    let decode =
        |change: fn(&mut [u8; HEADER_LEN])| decode_header(&header_with(change)).unwrap_err();
    assert!(matches!(
        decode(|b| b[0] = b'X'),
        FrameError::BadMagic { found: [b'X', ..] }
    ));
    assert!(matches!(decode(|b| b[4] = 99), FrameError::UnknownKind(99)));
    assert!(matches!(decode(|b| b[5] = 2), FrameError::Malformed(_)));
    assert!(matches!(decode(|b| b[7] = 1), FrameError::Malformed(_)));
    assert!(matches!(
        decode(|b| b[32..40].fill(0xff)),
        FrameError::Malformed(_)
    ));
}

#[test]
fn the_end_between_frames_is_clean_and_within_one_is_not() {
    let bytes = on_wire(&frame(Payload::new(Bytes::from_static(b"abc")).unwrap()));
    let pool = BufferPool::new(1 << 20);
    assert!(read_frame(&mut &bytes[..0], &pool).unwrap().is_none());
    for (len, wanted, got) in [
        (10, HEADER_LEN, 10),
        (HEADER_LEN, 3, 0),
        (HEADER_LEN + 2, 3, 2),
    ] {
        let error = read_frame(&mut &bytes[..len], &pool).unwrap_err();
        assert!(
            matches!(error, FrameError::Truncated { wanted: w, got: g } if (w, g) == (wanted, got)),
            "{error}"
        );
    }
}

#[test]
fn each_kind_has_its_own_number_and_its_connections() {
    for (i, kind) in FrameKind::ALL.into_iter().enumerate() {
        assert_eq!(FrameKind::from_wire(kind as u8), Some(kind));
        assert!(!FrameKind::ALL[..i].contains(&kind));
        assert!(!kind.belongs_on(ConnectionKind::Control));
        assert!(
            kind.belongs_on(ConnectionKind::Exchange) || kind.belongs_on(ConnectionKind::Stream)
        );
    }
    assert_eq!(
        (0..=255).filter_map(FrameKind::from_wire).count(),
        FrameKind::ALL.len()
    );
}

proptest! {
    #[test]
    fn frames_survive_however_the_wire_cuts_them(
        payloads in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..5),
        sizes in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let frames: Vec<(Frame, PayloadChecksum)> = payloads
            .into_iter()
            .map(|(bytes, checked)| {
                let checksum = if checked { PayloadChecksum::Crc32c } else { PayloadChecksum::Omitted };
                (frame(Payload::new(Bytes::from(bytes)).unwrap()), checksum)
            })
            .collect();
        let on_wire = |(frame, checksum): &(Frame, PayloadChecksum)| on_wire_with(frame, *checksum);
        let bytes: Vec<u8> = frames.iter().flat_map(on_wire).collect();
        let mut pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        let pool = BufferPool::new(1 << 20);
        for (frame, _) in &frames {
            let read = read_frame(&mut pieces, &pool).unwrap();
            prop_assert_eq!(read.as_ref(), Some(frame));
        }
        prop_assert!(read_frame(&mut pieces, &pool).unwrap().is_none());
    }

    #[test]
    fn a_bit_flipped_anywhere_in_a_checked_frame_is_noticed(
        payload in proptest::collection::vec(any::<u8>(), 1..100),
        place in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = on_wire(&frame(Payload::new(Bytes::from(payload)).unwrap()));
        let bit = place.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read_frame(&mut &bytes[..], &BufferPool::new(0)).is_err());
    }

    #[test]
    fn any_header_bytes_are_survived(
        noise in proptest::collection::vec(any::<u8>(), HEADER_LEN),
        made_plausible in any::<bool>(),
    ) {
        let noise: [u8; HEADER_LEN] = noise.try_into().unwrap();
        let bytes = if made_plausible {
            header_with(|bytes| bytes[5..60].copy_from_slice(&noise[5..60]))
        } else {
            noise
        };
        if let Ok(decoded) = decode_header(&bytes) {
            prop_assert!(decoded.payload_len <= PAYLOAD_LEN_MAX);
        }
    }
}
