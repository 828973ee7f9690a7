//! Digests and exact numbers in text.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The 32 bytes of a digest in hex; `None` when it is none.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |&c: &u8| (c as char).to_digit(16);
        *byte = (digit(high)? * 16 + digit(low)?) as u8;
    }
    Some(bytes)
}

/// SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest of a model's weights that scripts rely on: SHA-256 over all
/// parameters in byte order of their names; of each the name in UTF-8, one zero
/// byte, the values as little-endian f32. In hexadecimal, the same for any order
/// of `weights`.
pub fn weights_sha256<'a>(weights: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> String {
    let mut weights: Vec<_> = weights.into_iter().collect();
    weights.sort_unstable_by_key(|(name, _)| name.as_bytes());
    let mut hasher = Sha256::new();
    let mut buffer = Vec::with_capacity(4 * CHUNK_VALUES);
    for (name, values) in weights {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        for chunk in values.chunks(CHUNK_VALUES) {
            buffer.clear();
            little_endian(chunk, &mut buffer);
            hasher.update(&buffer);
        }
    }
    hex(&hasher.finalize())
}

/// Values converted at a time: enough to hide the calls, small enough for L1.
const CHUNK_VALUES: usize = 4096;

/// Appends `values` as little-endian bytes.
pub(crate) fn little_endian(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Numbers whose every bit counts, as text: JSON readers may round a float or a
/// large integer, and JSON has no NaN. Use these for what goes into
/// [`super::Header::state`].
pub mod bits {
    /// The 64 bits of `value` in hexadecimal.
    pub fn from_f64(value: f64) -> String {
        from_u64(value.to_bits())
    }

    /// The value whose bits `text` states; `None` if it isn't 16 digits.
    pub fn to_f64(text: &str) -> Option<f64> {
        to_u64(text).map(f64::from_bits)
    }

    /// `value` as 16 hexadecimal digits.
    pub fn from_u64(value: u64) -> String {
        format!("{value:016x}")
    }

    /// The integer that `text` states; `None` if it isn't 16 digits.
    pub fn to_u64(text: &str) -> Option<u64> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits {
            u64::from_str_radix(text, 16).ok()
        } else {
            None
        }
    }
}

/// Metrics in a manifest: the number for people, its bits for us.
pub(crate) mod exact_metrics {
    use super::bits;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize)]
    struct Exact {
        value: Option<f64>,
        bits: String,
    }

    pub fn serialize<S: Serializer>(
        metrics: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(metrics.iter().map(|(name, &value)| {
            let shown = value.is_finite().then_some(value);
            (
                name,
                Exact {
                    value: shown,
                    bits: bits::from_f64(value),
                },
            )
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let written = BTreeMap::<String, Exact>::deserialize(from)?;
        written
            .into_iter()
            .map(|(name, exact)| match bits::to_f64(&exact.bits) {
                Some(value) => Ok((name, value)),
                None => Err(D::Error::custom(format!(
                    "metric {name}: {:?} is not 64 bits",
                    exact.bits
                ))),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_the_contract_in_any_order() {
        let mut bytes = b"a\0".to_vec();
        bytes.extend(1.5f32.to_le_bytes());
        bytes.extend(b"b\0");
        bytes.extend((-0.0f32).to_le_bytes());
        let expected = sha256(&bytes);
        assert_eq!(
            weights_sha256([("a", &[1.5f32][..]), ("b", &[-0.0][..])]),
            expected
        );
        assert_eq!(
            weights_sha256([("b", &[-0.0f32][..]), ("a", &[1.5][..])]),
            expected
        );
    }

    #[test]
    fn the_empty_digest_is_the_known_one() {
        assert_eq!(
            sha256(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_long_tensor_digests_as_one_piece() {
        let values: Vec<f32> = (0..3 * CHUNK_VALUES + 7).map(|i| i as f32).collect();
        let mut bytes = b"w\0".to_vec();
        little_endian(&values, &mut bytes);
        assert_eq!(weights_sha256([("w", &values[..])]), sha256(&bytes));
    }

    #[test]
    fn bits_survive_text() {
        for value in [0.1, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 8.0] {
            assert_eq!(
                bits::to_f64(&bits::from_f64(value)).map(f64::to_bits),
                Some(value.to_bits())
            );
        }
        assert_eq!(bits::to_u64(&bits::from_u64(u64::MAX)), Some(u64::MAX));
        for wrong in [
            "",
            "1",
            "+000000000000001",
            "zzzzzzzzzzzzzzzz",
            "00000000000000001",
        ] {
            assert_eq!(bits::to_u64(wrong), None, "{wrong:?}");
        }
    }
}
