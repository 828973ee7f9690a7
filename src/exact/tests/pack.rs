//! Packing against a layout written bit by bit.

use super::super::pack::{pack_at, unpack_add_at, unpack_into_at};
use super::*;

/// A pseudo-random value of at most `width` bits, for tests that walk all cases.
fn of_width(width: u32, index: u64) -> i64 {
    let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as i64;
    mixed.checked_shr(64 - width).unwrap_or(0)
}

/// The layout of a full block bit by bit, as the drawing in pack.rs says.
fn reference_full_block(values: &[i64], width: usize) -> Vec<u8> {
    let mut bytes = vec![width as u8];
    bytes.resize(1 + width * 64, 0);
    for (i, &value) in values.iter().enumerate() {
        let (row, lane) = (i / 8, i % 8);
        for bit in 0..width {
            let position = row * width + bit;
            let byte = position / 64 * 64 + lane * 8 + position % 64 / 8;
            bytes[1 + byte] |= ((value >> bit & 1) as u8) << (position % 8);
        }
    }
    bytes
}

#[test]
fn layout_on_the_wire_is_the_documented_one() {
    assert!(packed(&[]).is_empty());
    assert_eq!(packed(&[0; 1025]), [0, 0, 0]);
    assert_eq!(packed(&[1, -1, 0]), [2, 0b00_11_01]);
    assert_eq!(packed(&[-1; 9]), [1, 0xff, 0x01]);
    assert_eq!(packed(&[i64::MIN]), [64, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    for width in 1..=64 {
        let mut values: Vec<i64> = (0..512).map(|i| of_width(width, i)).collect();
        values[77] = i64::MIN >> (64 - width);
        let expected = reference_full_block(&values, width as usize);
        assert_eq!(packed(&values), expected, "width {width}");
    }
    // The widths of all blocks come first.
    let mut values = vec![0; 1026];
    values[512..1024].fill(-1);
    values[1024..].fill(1);
    let expected = [&[0, 1, 2][..], &[0xff; 64], &[0b0101]].concat();
    assert_eq!(packed(&values), expected);
}

#[test]
fn every_length_and_every_width_comes_back_at_every_level() {
    let mut bytes = Vec::new();
    let mut same = Vec::new();
    for length in 0..2000_usize {
        let width = (length * 7 % 65) as u32;
        let values: Vec<i64> = (0..length as u64).map(|i| of_width(width, i)).collect();
        bytes.clear();
        pack(&values, &mut bytes);
        assert!(bytes.len() <= max_packed_len(length));
        for level in Level::all() {
            let on = level.name();
            same.clear();
            pack_at(level, &values, &mut same);
            assert_eq!(same, bytes, "{on}, {length} values of {width} bits");
            let mut out = vec![i64::MIN + 5; length];
            unpack_into_at(level, &bytes, &mut out).unwrap();
            assert_eq!(out, values, "{on}, {length} values of {width} bits");
            unpack_add_at(level, &bytes, &mut out).unwrap();
            assert!(
                out.iter()
                    .zip(&values)
                    .all(|(o, v)| *o == v.wrapping_add(*v))
            );
        }
    }
}

#[test]
fn damaged_packed_sum_is_refused_before_anything_is_added() {
    let values: Vec<i64> = (0..1100).map(|i| of_width(30, i)).collect();
    let good = packed(&values);
    let mut out = vec![7; values.len()];
    let mut refused = |bytes: &[u8]| {
        let error = unpack_add(bytes, &mut out).unwrap_err();
        assert_eq!(unpack_into(bytes, &mut out), Err(error));
        assert!(out.iter().all(|&value| value == 7));
        error
    };
    for length in 0..good.len() {
        let error = refused(&good[..length]);
        assert!(matches!(error, UnpackError::Length { actual, .. } if actual == length));
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(refused(&longer), UnpackError::Length { .. }));
    let mut wide = good.clone();
    wide[2] = 65;
    let expected = UnpackError::Width {
        block: 2,
        width: 65,
    };
    assert_eq!(refused(&wide), expected);
    wide[2] = 64;
    assert!(matches!(refused(&wide), UnpackError::Length { .. }));
}

proptest! {
    #[test]
    fn any_integers_come_back(values in prop::collection::vec(value(), 0..2000)) {
        let bytes = packed(&values);
        prop_assert!(bytes.len() <= max_packed_len(values.len()));
        let mut out = vec![1; values.len()];
        unpack_into(&bytes, &mut out).unwrap();
        prop_assert_eq!(out, values);
    }

    #[test]
    fn pack_appends_and_leaves_what_was_there(
        before in prop::collection::vec(any::<u8>(), 0..10),
        values in prop::collection::vec(-1000_i64..1000, 0..700),
    ) {
        let mut bytes = before.clone();
        pack(&values, &mut bytes);
        prop_assert_eq!(bytes, [before, packed(&values)].concat());
    }

    #[test]
    fn unpack_add_is_unpack_and_add(
        pairs in prop::collection::vec((value(), value()), 0..1500),
    ) {
        let (values, start): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
        let mut sum = start.clone();
        unpack_add(&packed(&values), &mut sum).unwrap();
        let expected: Vec<i64> = start.iter().zip(&values).map(|(a, b)| a.wrapping_add(*b)).collect();
        prop_assert_eq!(sum, expected);
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        length in 0_usize..1200,
        narrow: bool,
    ) {
        let mut bytes = bytes;
        if narrow {
            for byte in bytes.iter_mut().take(length.div_ceil(BLOCK)) {
                *byte %= 66;
            }
        }
        let mut out = vec![3; length];
        if unpack_add(&bytes, &mut out).is_err() {
            prop_assert!(out.iter().all(|&value| value == 3));
        }
    }

    #[test]
    fn damaged_bytes_of_the_right_length_are_survived(
        values in prop::collection::vec(value(), 500..1100),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = packed(&values);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = unpack_into(&bytes, &mut vec![0; values.len()]);
    }
}
