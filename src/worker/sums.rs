//! Complete sums in packed form: the one kept for those who lack it, those
//! streamed to followers, those on their way to us.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::trailer::{Trailer, TrailerError};
use crate::exact::{self, UnpackError};

/// One piece of a sum: values `offset..offset + values`, packed.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub values: u32,
    pub bytes: Bytes,
}

/// A complete sum with its trailer.
#[derive(Clone, Debug)]
pub(super) struct PackedSum {
    pub round: u64,
    /// By offset; together they cover the vector.
    pub parts: BTreeMap<u64, Part>,
    pub trailer: Bytes,
}

/// A sum that arrived in pieces and isn't one.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadSum {
    #[error("a sum with a hole or an overlap at value {0}")]
    Gap(u64),
    #[error("a sum of {found} values where {expected} are needed")]
    Length { found: u64, expected: u64 },
    #[error("a sum that can't be unpacked: {0}")]
    Unpack(#[from] UnpackError),
    #[error("a sum {0}")]
    Trailer(#[from] TrailerError),
}

impl PackedSum {
    pub fn new(round: u64) -> PackedSum {
        PackedSum {
            round,
            parts: BTreeMap::new(),
            trailer: Bytes::new(),
        }
    }

    /// Packs a whole vector in pieces of at most `piece` values.
    pub fn pack(round: u64, values: &[i64], trailer: &Trailer, piece: usize) -> PackedSum {
        let mut sum = PackedSum::new(round);
        for (i, values) in values.chunks(piece).enumerate() {
            sum.put((i * piece) as u64, values.len() as u32, packed(values));
        }
        sum.trailer = trailer.to_bytes().into();
        sum
    }

    pub fn put(&mut self, offset: u64, values: u32, bytes: Bytes) {
        self.parts.insert(offset, Part { values, bytes });
    }

    /// Takes the next piece of a sum of at most `len` values that another
    /// process sends, in the order of its values.
    ///
    /// # Errors
    /// A piece that can't be the next one; the sum is as before.
    pub fn append(
        &mut self,
        offset: u64,
        values: u32,
        bytes: Bytes,
        len: usize,
    ) -> Result<(), BadSum> {
        let next = self.values();
        if offset != next || values == 0 {
            return Err(BadSum::Gap(next));
        }
        let found = next + u64::from(values);
        let expected = len as u64;
        if found > expected || bytes.len() > exact::max_packed_len(values as usize) {
            return Err(BadSum::Length { found, expected });
        }
        self.put(offset, values, bytes);
        Ok(())
    }

    /// Values so far, if there is no hole.
    fn values(&self) -> u64 {
        let last = self.parts.last_key_value();
        last.map_or(0, |(offset, part)| offset + u64::from(part.values))
    }

    pub fn byte_len(&self) -> usize {
        self.trailer.len() + self.parts.values().map(|p| p.bytes.len()).sum::<usize>()
    }

    /// Unpacks all of it into `values`, whose length is the vector's.
    pub fn unpack(&self, values: &mut [i64]) -> Result<(), BadSum> {
        let mut next = 0;
        for (offset, part) in &self.parts {
            if *offset != next {
                return Err(BadSum::Gap(next));
            }
            next += u64::from(part.values);
            let range = *offset as usize..next as usize;
            let expected = values.len() as u64;
            let into = values.get_mut(range).ok_or(BadSum::Length {
                found: next,
                expected,
            })?;
            exact::unpack_into(&part.bytes, into)?;
        }
        let expected = values.len() as u64;
        if next == expected {
            Ok(())
        } else {
            Err(BadSum::Length {
                found: next,
                expected,
            })
        }
    }
}

/// Values as they go on the wire.
pub(super) fn packed(values: &[i64]) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * 5);
    exact::pack(values, &mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::Totals;

    #[test]
    fn a_sum_in_pieces_is_the_sum() {
        let values: Vec<i64> = (0..3000).map(|i| i * i - 77).collect();
        let sum = PackedSum::pack(4, &values, &Trailer::new(Totals::new(0, 0)), 1024);
        let mut back = vec![0; values.len()];
        sum.unpack(&mut back).unwrap();
        assert_eq!(back, values);
    }

    #[test]
    fn pieces_come_in_order_and_within_the_vector() {
        let piece = |n: u32| packed(&vec![1; n as usize]);
        let mut sum = PackedSum::new(4);
        sum.append(0, 60, piece(60), 100).unwrap();
        for (offset, values) in [(0, 60), (61, 10), (60, 0), (60, 41), (u64::MAX, 1)] {
            assert!(
                sum.append(offset, values, piece(values), 100).is_err(),
                "{offset} {values}"
            );
        }
        assert!(sum.append(60, 1, Bytes::from(vec![0; 4096]), 100).is_err());
        sum.append(60, 40, piece(40), 100).unwrap();
        sum.unpack(&mut [0; 100]).unwrap();
    }

    #[test]
    fn a_missing_piece_is_noticed() {
        let values = vec![1; 3000];
        let mut sum = PackedSum::pack(4, &values, &Trailer::new(Totals::new(0, 0)), 1024);
        sum.parts.remove(&1024);
        assert!(matches!(
            sum.unpack(&mut vec![0; 3000]),
            Err(BadSum::Gap(1024))
        ));
    }

    #[test]
    fn another_length_is_noticed() {
        let sum = PackedSum::pack(4, &[1; 100], &Trailer::new(Totals::new(0, 0)), 64);
        assert!(matches!(
            sum.unpack(&mut [0; 90]),
            Err(BadSum::Length { .. })
        ));
        assert!(matches!(
            sum.unpack(&mut [0; 110]),
            Err(BadSum::Length { .. })
        ));
    }
}
