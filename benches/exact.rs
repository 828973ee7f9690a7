//! What exactness costs, in nanoseconds a value on one core.
//!
//! `cargo bench --bench exact` prints a table: each kernel over a buffer that stays in the
//! cache (100 thousand values, a small model) and one that doesn't (25 million). The
//! first two rows are the yardsticks: adding in plain f32, and adding plain integers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ebbtide::exact::{FixedPoint, Level, SumHash, max_packed_len, pack, unpack_add, unpack_into};

const SMALL: usize = 100_000;
const LARGE: usize = 25_000_000;
const FRACTION_BITS: u32 = 36;
/// A micro-batch of 16 in a global batch of 64.
const SCALE: f64 = 0.25;

/// Everything that the kernels work on, for one length.
struct Buffers {
    gradient: Vec<f32>,
    floats: Vec<f32>,
    sum: Vec<i64>,
    other: Vec<i64>,
    packed: Vec<u8>,
}

impl Buffers {
    /// Gradients about as a trained network has them: bell-shaped, with a standard
    /// deviation that differs between parameters, around 1e-3.
    fn new(len: usize, fixed: FixedPoint) -> Buffers {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let gradient: Vec<f32> = (0..len)
            .map(|i| {
                let deviation = 1e-3 / (1 + (i / 10_000) % 8) as f32;
                (uniform() + uniform() + uniform() + uniform()) * 1.7 * deviation
            })
            .collect();
        let mut sum = vec![0; len];
        assert!(fixed.inspect(&gradient, SCALE).is_clean());
        for _ in 0..4 {
            fixed.accumulate(&gradient, SCALE, &mut sum);
        }
        let mut packed = Vec::with_capacity(max_packed_len(len));
        pack(&sum, &mut packed);
        Buffers {
            floats: vec![0.0; len],
            other: sum.clone(),
            gradient,
            sum,
            packed,
        }
    }
}

/// The median time of one call, in nanoseconds a value.
fn measure(values: usize, repetitions: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<Duration> = (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[repetitions / 2].as_nanos() as f64 / values as f64
}

type Kernel = fn(FixedPoint, &mut Buffers);

const KERNELS: [(&str, Kernel); 10] = [
    ("f32 accumulate (yardstick)", |_, b| {
        for (sum, g) in b.floats.iter_mut().zip(&b.gradient) {
            *sum += g;
        }
    }),
    ("i64 add (yardstick)", |_, b| {
        for (sum, other) in b.sum.iter_mut().zip(&b.other) {
            *sum = sum.wrapping_add(*other);
        }
    }),
    ("inspect", |fixed, b| {
        black_box(fixed.inspect(&b.gradient, SCALE));
    }),
    ("accumulate", |fixed, b| {
        black_box(fixed.accumulate(&b.gradient, SCALE, &mut b.sum));
    }),
    ("inspect + accumulate", |fixed, b| {
        black_box(fixed.inspect(&b.gradient, SCALE));
        black_box(fixed.accumulate(&b.gradient, SCALE, &mut b.sum));
    }),
    ("pack", |_, b| {
        b.packed.clear();
        pack(&b.other, &mut b.packed);
    }),
    ("unpack_into", |_, b| {
        unpack_into(&b.packed, &mut b.sum).expect("what was packed unpacks");
    }),
    ("unpack_add", |_, b| {
        unpack_add(&b.packed, &mut b.sum).expect("what was packed unpacks");
    }),
    ("to_f32", |fixed, b| {
        fixed.to_f32(&b.other, 1.0, &mut b.floats);
    }),
    ("to_f32_hashed", |fixed, b| {
        let mut hash = SumHash::new();
        fixed.to_f32_hashed(&b.other, 1.0, &mut b.floats, &mut hash);
        black_box(hash);
    }),
];

fn main() {
    let fixed = FixedPoint::new(FRACTION_BITS).expect("36 is from 8 to 48");
    println!(
        "exact sums on one core, {} kernels, f = {FRACTION_BITS}",
        Level::best().name()
    );
    let mut small = Buffers::new(SMALL, fixed);
    let mut large = Buffers::new(LARGE, fixed);
    println!(
        "{:<28} {:>12} {:>12}",
        "ns a value (median)", "100 k", "25 M"
    );
    for (name, kernel) in KERNELS {
        let in_cache = measure(SMALL, 2001, || kernel(fixed, black_box(&mut small)));
        let in_memory = measure(LARGE, 11, || kernel(fixed, black_box(&mut large)));
        println!("{name:<28} {in_cache:>12.3} {in_memory:>12.3}");
    }
    println!(
        "packed: {:.3} bytes a value (of 8)",
        small.packed.len() as f64 / SMALL as f64
    );
}
