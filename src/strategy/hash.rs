//! Small helpers around SHA-256.

use std::fmt::Write;

use sha2::{Digest, Sha256};

pub(super) use crate::checkpoint::unhex;

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Feeds a hash with little-endian values.
pub(super) fn update_f32(sha: &mut Sha256, values: &[f32]) {
    let mut bytes = [0u8; 4096];
    for values in values.chunks(bytes.len() / 4) {
        for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *place = value.to_le_bytes();
        }
        sha.update(&bytes[..4 * values.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back_and_anything_else_does_not() {
        let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37) as u8);
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
