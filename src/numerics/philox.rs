//! Random numbers as a pure function of (key, element index).
//!
//! A generator with a state gives what its history makes of it: who drew before,
//! and how often. Philox4x32-10 has no state; it encrypts a counter. Element 17
//! of a dropout mask is the same number whoever asks for it, in which order, on
//! which machine, and a tensor can be filled from any element on.
//!
//! One call of [`philox4x32`] gives four words, so element `i` of a stream is
//! word `i % 4` of counter `i / 4`. The counter's third word separates uniform
//! numbers, normal numbers and integers, so that the same key never gives the
//! same bits to two of them.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1,
//! 2, 3" (SC 2011); the known answers of its library Random123 are in the tests.

use super::dispatch::{Level, dispatched};
use super::maths;
use sha2::{Digest, Sha256};

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEP: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The counter's third word: which kind of number is drawn.
const UNIFORM: u32 = 0;
const NORMAL: u32 = 1;
const INTEGER: u32 = 2;

/// Counters that are encrypted side by side, one in each lane of a vector.
const LANES: usize = 16;
/// Elements that [`LANES`] counters give.
const GROUP: usize = 4 * LANES;

/// Names one stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u32; 2]);

impl Key {
    /// The key of the stream that belongs to `parts` in `domain` under `seed`:
    /// the first 64 bits of SHA-256 over all three, each with its length, so that
    /// no two different lists of parts read alike.
    ///
    /// `domain` says what the numbers are for (`"dropout"`, `"order"`), so that two
    /// uses of the same seed and parts have nothing in common.
    pub fn derive(seed: u64, domain: &str, parts: &[&[u8]]) -> Key {
        let mut sha = Sha256::new();
        sha.update(b"ebbtide philox key 1\0");
        sha.update(seed.to_le_bytes());
        for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
            sha.update((part.len() as u64).to_le_bytes());
            sha.update(part);
        }
        let hash = sha.finalize();
        let word =
            |at: usize| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]);
        Key([word(0), word(4)])
    }
}

/// Four words from one counter: Philox4x32 with ten rounds.
pub fn philox4x32(counter: [u32; 4], key: Key) -> [u32; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    let [mut k0, mut k1] = key.0;
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIER[0]) * u64::from(x0);
        let b = u64::from(MULTIPLIER[1]) * u64::from(x2);
        (x0, x1, x2, x3) = (
            (b >> 32) as u32 ^ x1 ^ k0,
            b as u32,
            (a >> 32) as u32 ^ x3 ^ k1,
            a as u32,
        );
        k0 = k0.wrapping_add(KEY_STEP[0]);
        k1 = k1.wrapping_add(KEY_STEP[1]);
    }
    [x0, x1, x2, x3]
}

/// Word `word` of `LANES` counters `first_block..`, at `out[word][lane]`: the same
/// numbers as [`philox4x32`], turned so that the compiler uses vectors.
#[inline(always)]
fn encrypt_lanes(first_block: u64, kind: u32, key: Key) -> [[u32; LANES]; 4] {
    let mut x = [[0; LANES], [0; LANES], [kind; LANES], [0; LANES]];
    let [low, high, ..] = &mut x;
    for (lane, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let block = first_block.wrapping_add(lane as u64);
        *low = block as u32;
        *high = (block >> 32) as u32;
    }
    let [mut k0, mut k1] = key.0;
    for _ in 0..ROUNDS {
        let mut next = [[0; LANES]; 4];
        for lane in 0..LANES {
            let a = u64::from(MULTIPLIER[0]) * u64::from(x[0][lane]);
            let b = u64::from(MULTIPLIER[1]) * u64::from(x[2][lane]);
            next[0][lane] = (b >> 32) as u32 ^ x[1][lane] ^ k0;
            next[1][lane] = b as u32;
            next[2][lane] = (a >> 32) as u32 ^ x[3][lane] ^ k1;
            next[3][lane] = a as u32;
        }
        x = next;
        k0 = k0.wrapping_add(KEY_STEP[0]);
        k1 = k1.wrapping_add(KEY_STEP[1]);
    }
    x
}

/// The upper 24 bits as a number in [0, 1): every one is an exact `f32`.
#[inline(always)]
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Calls `write(place, words)` so that the words of elements `first..` land in
/// `out`, whatever part of a group `first` and the length cut off.
#[inline(always)]
fn fill_groups(
    key: Key,
    kind: u32,
    first: u64,
    out: &mut [f32],
    write: impl Fn(&mut [f32; GROUP], &[[u32; LANES]; 4]),
) {
    let mut scratch = [0.0; GROUP];
    let mut block = first / 4;
    // A first element inside a block: fill a group aside and copy its tail.
    let skipped = (first % 4) as usize;
    let (head, whole) = out.split_at_mut(if skipped == 0 {
        0
    } else {
        out.len().min(GROUP - skipped)
    });
    if skipped != 0 {
        write(&mut scratch, &encrypt_lanes(block, kind, key));
        head.copy_from_slice(&scratch[skipped..skipped + head.len()]);
        block = block.wrapping_add(LANES as u64);
    }
    let (groups, tail) = whole.as_chunks_mut::<GROUP>();
    for group in groups {
        write(group, &encrypt_lanes(block, kind, key));
        block = block.wrapping_add(LANES as u64);
    }
    if !tail.is_empty() {
        write(&mut scratch, &encrypt_lanes(block, kind, key));
        tail.copy_from_slice(&scratch[..tail.len()]);
    }
}

#[inline(always)]
fn uniform_body(key: Key, first: u64, out: &mut [f32]) {
    fill_groups(key, UNIFORM, first, out, |group, words| {
        for lane in 0..LANES {
            for word in 0..4 {
                group[4 * lane + word] = unit(words[word][lane]);
            }
        }
    });
}

dispatched! { fn uniform(key: Key, first: u64, out: &mut [f32]) = uniform_body; }

/// Elements `first_element..` of the key's uniform stream: multiples of 2^-24 in [0, 1).
pub fn fill_uniform(key: Key, first_element: u64, out: &mut [f32]) {
    uniform(Level::best(), key, first_element, out);
}

/// Elements `first_element..` of the key's normal stream: mean 0, variance 1,
/// absolute values up to 6.77.
///
/// Box and Muller's method: elements 2p and 2p+1 are cosine and sine of the same
/// pair of words, in f64 and rounded once.
pub fn fill_normal(key: Key, first_element: u64, out: &mut [f32]) {
    let mut pair_at = u64::MAX;
    let mut pair = [0.0; 2];
    for (i, value) in out.iter_mut().enumerate() {
        let element = first_element.wrapping_add(i as u64);
        if element / 2 != pair_at {
            pair_at = element / 2;
            pair = normal_pair(key, pair_at);
        }
        *value = pair[(element % 2) as usize];
    }
}

/// Two independent normal numbers from half a block.
fn normal_pair(key: Key, pair: u64) -> [f32; 2] {
    let words = philox4x32(counter(pair / 2, NORMAL), key);
    let half = 2 * (pair % 2) as usize;
    // Half a unit away from zero: the logarithm is always finite.
    let open_unit = (f64::from(words[half]) + 0.5) * (1.0 / 4_294_967_296.0);
    let turn = f64::from(words[half + 1]) * (1.0 / 4_294_967_296.0);
    let radius = (-2.0 * maths::ln(open_unit)).sqrt();
    let (sin, cos) = maths::sin_cos(turn * std::f64::consts::TAU);
    [(radius * cos) as f32, (radius * sin) as f32]
}

/// Number `index` of the key's integer stream: all 64 bits are random.
pub fn uniform_u64(key: Key, index: u64) -> u64 {
    let words = philox4x32(counter(index, INTEGER), key);
    u64::from(words[1]) << 32 | u64::from(words[0])
}

fn counter(block: u64, kind: u32) -> [u32; 4] {
    [block as u32, (block >> 32) as u32, kind, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `kat_vectors` of Random123, philox4x32 with 10 rounds.
    #[test]
    fn the_known_answers_of_random123() {
        let answers = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in answers {
            assert_eq!(philox4x32(counter, Key(key)), answer);
        }
    }

    #[test]
    fn keys_differ_by_seed_domain_and_the_cut_between_parts() {
        let keys = [
            Key::derive(1, "dropout", &[b"ab", b"c"]),
            Key::derive(2, "dropout", &[b"ab", b"c"]),
            Key::derive(1, "order", &[b"ab", b"c"]),
            Key::derive(1, "dropout", &[b"a", b"bc"]),
            Key::derive(1, "dropout", &[b"abc"]),
            Key::derive(1, "dropout", &[b"ab", b"c", b""]),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "key {i} stands twice");
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_the_same_wherever_it_is_cut(
            seed: u64, base in prop_oneof![0u64..200, Just(u64::from(u32::MAX) * 4 - 70)], len in 0usize..300, cut in 0usize..300,
        ) {
            let key = Key::derive(seed, "test", &[]);
            let cut = cut.min(len);
            for fill in [fill_uniform, fill_normal] {
                let mut whole = vec![0.0; len];
                fill(key, base, &mut whole);
                let mut parts = vec![0.0; len];
                fill(key, base, &mut parts[..cut]);
                fill(key, base + cut as u64, &mut parts[cut..]);
                prop_assert_eq!(whole, parts);
            }
        }

        #[test]
        fn every_dispatch_level_gives_the_numbers_of_the_plain_function(seed: u64, first in 0u64..1 << 40, len in 0usize..200) {
            let key = Key::derive(seed, "test", &[]);
            let plain: Vec<f32> = (first..first + len as u64)
                .map(|i| unit(philox4x32(counter(i / 4, UNIFORM), key)[(i % 4) as usize]))
                .collect();
            for level in Level::all() {
                let mut out = vec![0.0; len];
                uniform(level, key, first, &mut out);
                prop_assert_eq!(&out, &plain, "{}", level.name());
            }
        }
    }

    fn moments(xs: &[f32]) -> (f64, f64) {
        let mean = xs.iter().map(|x| f64::from(*x)).sum::<f64>() / xs.len() as f64;
        let variance = xs
            .iter()
            .map(|x| (f64::from(*x) - mean) * (f64::from(*x) - mean))
            .sum::<f64>()
            / xs.len() as f64;
        (mean, variance)
    }

    #[test]
    fn the_streams_have_the_moments_of_their_distributions() {
        let key = Key::derive(7, "moments", &[]);
        let mut xs = vec![0.0; 1 << 20];
        fill_uniform(key, 0, &mut xs);
        let (mean, variance) = moments(&xs);
        assert!(
            (mean - 0.5).abs() < 2e-3 && (variance - 1.0 / 12.0).abs() < 1e-3,
            "{mean} {variance}"
        );
        assert!(xs.iter().all(|x| (0.0..1.0).contains(x)));

        fill_normal(key, 0, &mut xs);
        let (mean, variance) = moments(&xs);
        assert!(
            mean.abs() < 5e-3 && (variance - 1.0).abs() < 1e-2,
            "{mean} {variance}"
        );
        let within = xs.iter().filter(|x| x.abs() < 1.0).count() as f64 / xs.len() as f64;
        assert!((within - 0.6827).abs() < 3e-3, "{within}");
        let neighbours = xs
            .chunks_exact(2)
            .map(|pair| f64::from(pair[0] * pair[1]))
            .sum::<f64>()
            / (xs.len() / 2) as f64;
        assert!(neighbours.abs() < 6e-3, "{neighbours}");
    }

    /// The bits that `NUMERICS_VERSION` 1 stands for.
    #[test]
    fn the_numbers_are_the_recorded_ones() {
        let key = Key::derive(42, "recorded", &[b"fc1.weight", &3u64.to_le_bytes()]);
        let mut uniform = [0.0; 3];
        fill_uniform(key, 5, &mut uniform);
        let mut normal = [0.0; 3];
        fill_normal(key, 5, &mut normal);
        let found = format!(
            "{:08x?} {uniform:?} {normal:?} {:x}",
            key.0,
            uniform_u64(key, 9)
        );
        assert_eq!(
            found,
            "[84a94060, c3a2bdd3] [0.4310304, 0.47788548, 0.5652647] [2.3799145, -0.56419635, 1.190584] 666d83000f4f2313"
        );
    }
}
