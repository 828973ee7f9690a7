//! Lossless packing of integer sums: blocks of 512 values, each in the fewest
//! bits that hold all of its values.
//!
//! ```text
//! | width of block 0 | width of block 1 | ... |  body of block 0  |  body of block 1  | ...
//!   one byte each: w = 0..=64                   w * 64 bytes each, a last short one less
//!
//! a full block: 8 lanes side by side, 64 rows          (values in the order of the rows)
//!            lane 0        lane 1              lane 7
//! row 0    value 0       value 1      ...    value 7      each lane's 64 fields of w bits are
//! row 1    value 8       value 9      ...    value 15     one bit string in w words of 64 bits;
//! ...                                                     word k of all lanes = bytes
//! row 63   value 504     value 505    ...    value 511    64 * k .. 64 * (k + 1) of the body
//! ```
//!
//! A field is the value's low w bits in two's complement, sign-extended on reading
//! as `((v & mask) ^ sign) - sign`. In a row, all lanes are shifted by the same
//! number of bits, so a row is a handful of instructions on one vector of 8 words,
//! for any width, without transposing and without code for each width (the layout's
//! idea is FastLanes': Afroozeh and Boncz, VLDB 2023). The widths come first so that the length
//! can be checked in full, from a few bytes, before anything is added.
//!
//! The last block, when short, is one plain bit string, value i in bits `i * w ..
//! (i + 1) * w`, rounded up to whole bytes: nothing is wasted on a bias of ten values.
//! Everything is little-endian. See `docs/decisions/0001-packed-sums.md`.

use thiserror::Error;

use crate::numerics::dispatch::{Level, dispatched};

/// Values in a full block.
pub const BLOCK: usize = 512;

/// Values in a row: as many as 64-bit words in the widest vector register.
const LANES: usize = 8;

/// Bytes of one word of all lanes.
const ROW_BYTES: usize = LANES * size_of::<u64>();

/// One word of all lanes, as it is on the wire.
type Row = [u8; ROW_BYTES];

/// Why bytes are no packed sum of the expected length. Nothing was written or
/// added; the sender is of another version or not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnpackError {
    /// A block says that its values take more than 64 bits.
    #[error("block {block} of a packed sum has a width of {width} bits, more than 64")]
    Width {
        /// Which block.
        block: usize,
        /// The width it claims.
        width: u8,
    },
    /// The bytes don't end where their blocks do.
    #[error(
        "a packed sum of {values} values has {actual} bytes where its blocks take {expected} bytes"
    )]
    Length {
        /// How many values were expected.
        values: usize,
        /// How many bytes they take by the widths in front (at least).
        expected: usize,
        /// How many bytes there are.
        actual: usize,
    },
}

/// The most bytes that [`pack()`] appends for so many values: one a block more than
/// the values themselves take.
pub const fn max_packed_len(values: usize) -> usize {
    values.div_ceil(BLOCK) + values * size_of::<i64>()
}

/// Appends the packed form of `values` to `out`. A caller that packs again and
/// again clears and reuses `out`, so that it doesn't have to grow.
pub fn pack(values: &[i64], out: &mut Vec<u8>) {
    pack_at(Level::best(), values, out);
}

/// Writes the values that `bytes` hold to `out`, which must have exactly as many
/// elements as were packed.
///
/// # Errors
/// When `bytes` isn't a packed sum of that length; `out` is then untouched.
pub fn unpack_into(bytes: &[u8], out: &mut [i64]) -> Result<(), UnpackError> {
    unpack_into_at(Level::best(), bytes, out)
}

/// Adds the values that `bytes` hold to `out`, which must have exactly as many
/// elements as were packed.
///
/// The addition wraps around. Honest sums never do: by the range check of
/// [`FixedPoint`](super::FixedPoint) and the limit of 2,048 micro-batches they stay
/// within 2^62, and so does each partial sum on the way. What a dishonest peer sends
/// must not be able to panic us, and wrapping is associative too.
///
/// # Errors
/// When `bytes` isn't a packed sum of that length; nothing is then added.
pub fn unpack_add(bytes: &[u8], out: &mut [i64]) -> Result<(), UnpackError> {
    unpack_add_at(Level::best(), bytes, out)
}

/// As [`unpack_add`], where widths and bodies arrive apart: as a GPU packs them.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn unpack_add_parts(
    widths: &[u8],
    bodies: &[u8],
    out: &mut [i64],
) -> Result<(), UnpackError> {
    check(widths, bodies.len(), out.len())?;
    add_blocks(Level::best(), widths, bodies, out);
    Ok(())
}

/// Bytes of the bodies of so many values with these widths.
pub(crate) fn bodies_len(widths: &[u8], values: usize) -> usize {
    let (full, short) = widths.split_at(values / BLOCK);
    let full: usize = full.iter().map(|&width| full_len(width)).sum();
    let short: usize = short.iter().map(|&w| short_len(w, values % BLOCK)).sum();
    full + short
}

pub(super) fn unpack_into_at(
    level: Level,
    bytes: &[u8],
    out: &mut [i64],
) -> Result<(), UnpackError> {
    let (widths, bodies) = split(bytes, out.len())?;
    unpack_blocks(level, widths, bodies, out);
    Ok(())
}

pub(super) fn unpack_add_at(
    level: Level,
    bytes: &[u8],
    out: &mut [i64],
) -> Result<(), UnpackError> {
    let (widths, bodies) = split(bytes, out.len())?;
    add_blocks(level, widths, bodies, out);
    Ok(())
}

/// Widths and bodies of the blocks, after all checks: no width is above 64, and
/// the bodies have exactly the bytes that the widths say.
fn split(bytes: &[u8], values: usize) -> Result<(&[u8], &[u8]), UnpackError> {
    let blocks = values.div_ceil(BLOCK);
    let Some((widths, bodies)) = bytes.split_at_checked(blocks) else {
        return Err(UnpackError::Length {
            values,
            expected: blocks,
            actual: bytes.len(),
        });
    };
    check(widths, bodies.len(), values)?;
    Ok((widths, bodies))
}

/// No width is above 64, and there are as many bytes of bodies as the widths say.
fn check(widths: &[u8], bodies: usize, values: usize) -> Result<(), UnpackError> {
    if let Some(block) = widths.iter().position(|&width| width > 64) {
        return Err(UnpackError::Width {
            block,
            width: widths[block],
        });
    }
    let expected = bodies_len(widths, values);
    if bodies != expected {
        return Err(UnpackError::Length {
            values,
            expected: widths.len() + expected,
            actual: widths.len() + bodies,
        });
    }
    Ok(())
}

fn full_len(width: u8) -> usize {
    usize::from(width) * ROW_BYTES
}

fn short_len(width: u8, values: usize) -> usize {
    (usize::from(width) * values).div_ceil(8)
}

dispatched! {
    /// Appends the widths of all blocks, then their bodies.
    pub(super) fn pack_at(values: &[i64], out: &mut Vec<u8>) = pack_body;
}

#[inline(always)]
fn pack_body(values: &[i64], out: &mut Vec<u8>) {
    let header = out.len();
    out.resize(header + values.len().div_ceil(BLOCK), 0);
    let (full, short) = values.as_chunks::<BLOCK>();
    for (block, values) in full.iter().enumerate() {
        let width = width_of(values);
        out[header + block] = width;
        let start = out.len();
        out.resize(start + full_len(width), 0);
        pack_full(values, width, out[start..].as_chunks_mut().0);
    }
    if !short.is_empty() {
        let width = width_of(short);
        out[header + full.len()] = width;
        pack_short(short, width, out);
    }
}

/// The fewest bits that hold all values in two's complement; 0 when all are zero.
#[inline(always)]
fn width_of(values: &[i64]) -> u8 {
    // Sign moved to the lowest bit, the others inverted when negative: the bits that
    // are then in use are the ones that have to be kept.
    let mut used = 0_u64;
    for &value in values {
        used |= (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    }
    (64 - used.leading_zeros()) as u8
}

/// The low `width` bits (1..=64) set.
#[inline(always)]
fn mask_of(width: u8) -> u64 {
    u64::MAX >> (64 - u32::from(width))
}

/// `rows` has `width` elements.
#[inline(always)]
fn pack_full(values: &[i64; BLOCK], width: u8, rows: &mut [Row]) {
    if width == 0 {
        return;
    }
    let mask = mask_of(width);
    let (mut word, mut bit) = (0_usize, 0_u32);
    let mut filling = [0_u64; LANES];
    for row in values.as_chunks::<LANES>().0 {
        let mut filled = [0_u64; LANES];
        let mut rest = [0_u64; LANES];
        for lane in 0..LANES {
            let field = row[lane] as u64 & mask;
            filled[lane] = filling[lane] | field.wrapping_shl(bit);
            // What didn't fit: field >> (64 - bit), in two shifts as bit may be 0.
            rest[lane] = (field >> 1).wrapping_shr(63 - bit);
        }
        // Stored after every row, even when the word isn't full yet: cheaper than a
        // branch that the CPU can't foresee.
        store(&mut rows[word], &filled);
        bit += u32::from(width);
        let full = bit >= 64;
        filling = if full { rest } else { filled };
        word += usize::from(full);
        bit %= 64;
    }
}

dispatched! {
    /// Overwrites `out`; the arguments come from [`split`].
    fn unpack_blocks(widths: &[u8], bodies: &[u8], out: &mut [i64]) = unpack_body::<false>;
}

dispatched! {
    /// Adds to `out`; the arguments come from [`split`].
    fn add_blocks(widths: &[u8], bodies: &[u8], out: &mut [i64]) = unpack_body::<true>;
}

#[inline(always)]
fn unpack_body<const ADD: bool>(widths: &[u8], bodies: &[u8], out: &mut [i64]) {
    let (full, short) = out.as_chunks_mut::<BLOCK>();
    let (full_widths, short_widths) = widths.split_at(full.len());
    let mut rest = bodies;
    for (values, &width) in full.iter_mut().zip(full_widths) {
        let (body, after) = rest.split_at(full_len(width));
        unpack_full::<ADD>(width, body.as_chunks().0, values);
        rest = after;
    }
    if let Some(&width) = short_widths.first() {
        unpack_short::<ADD>(width, rest, short);
    }
}

/// `rows` has `width` elements.
#[inline(always)]
fn unpack_full<const ADD: bool>(width: u8, rows: &[Row], values: &mut [i64; BLOCK]) {
    if width == 0 {
        if !ADD {
            values.fill(0);
        }
        return;
    }
    let mask = mask_of(width);
    let sign = 1_u64 << (width - 1);
    let last = rows.len() - 1;
    let mut position = 0_usize;
    for row in values.as_chunks_mut::<LANES>().0 {
        let (word, bit) = (position / 64, (position % 64) as u32);
        let low = load(&rows[word]);
        // Where a field ends with its word, these bits are masked off again, so any
        // row will do at the end.
        let high = load(&rows[(word + 1).min(last)]);
        for lane in 0..LANES {
            let field = low[lane].wrapping_shr(bit) | (high[lane] << 1).wrapping_shl(63 - bit);
            let value = ((field & mask) ^ sign).wrapping_sub(sign) as i64;
            row[lane] = if ADD {
                row[lane].wrapping_add(value)
            } else {
                value
            };
        }
        position += usize::from(width);
    }
}

#[inline(always)]
fn load(row: &Row) -> [u64; LANES] {
    let mut words = [0; LANES];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[inline(always)]
fn store(row: &mut Row, words: &[u64; LANES]) {
    for (bytes, word) in row.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}

/// Appends a block of fewer than 512 values as one bit string.
fn pack_short(values: &[i64], width: u8, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = mask_of(width);
    let (mut pending, mut bits) = (0_u128, 0_u32);
    for &value in values {
        pending |= u128::from(value as u64 & mask) << bits;
        bits += u32::from(width);
        if bits >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Bits after the last value are ignored.
fn unpack_short<const ADD: bool>(width: u8, body: &[u8], values: &mut [i64]) {
    if width == 0 {
        if !ADD {
            values.fill(0);
        }
        return;
    }
    let mask = mask_of(width);
    let sign = 1_u64 << (width - 1);
    let (mut pending, mut bits) = (0_u128, 0_u32);
    let mut rest = body;
    for slot in values {
        if bits < u32::from(width) {
            let (taken, after) = rest.split_at(rest.len().min(8));
            let mut word = [0; 8];
            word[..taken.len()].copy_from_slice(taken);
            pending |= u128::from(u64::from_le_bytes(word)) << bits;
            bits += 64;
            rest = after;
        }
        let value = ((pending as u64 & mask) ^ sign).wrapping_sub(sign) as i64;
        *slot = if ADD { slot.wrapping_add(value) } else { value };
        pending >>= width;
        bits -= u32::from(width);
    }
}
