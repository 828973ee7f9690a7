//! Each kernel beside its twin, bit by bit.
//!
//! The same tests run on every [`Machine`]: on the processor, where `on_host.cc` runs
//! the kernels thread for thread, and on the GPU where there is one.

mod exact;
#[cfg(feature = "cuda")]
mod gpu;
mod host;
#[cfg(feature = "cuda")]
mod launched;
mod random;
mod update;

use crate::numerics::philox::{Key, uniform_u64};

/// Runs kernels by name.
trait Machine {
    fn name(&self) -> &str;

    /// Launches `blocks` of `threads` with these arguments in the kernel's order.
    fn run(&self, kernel: &str, blocks: u32, threads: u32, arguments: &mut [Argument]);
}

/// What a kernel is given, in bytes.
#[derive(Clone, Debug)]
enum Argument {
    /// A number, or a structure of them.
    Scalar(Vec<u8>),
    /// A buffer, which the kernel may change.
    Buffer(Vec<u8>),
}

/// Numbers as the bytes that a kernel sees.
trait Number: Copy {
    fn bytes(values: &[Self]) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! number {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn bytes(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }

            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                let (values, []) = bytes.as_chunks() else { panic!("{} bytes", bytes.len()) };
                values.iter().map(|bytes| <$t>::from_le_bytes(*bytes)).collect()
            }
        }
    )*};
}
number!(u8, u32, i32, u64, i64, f32, f64);

fn scalar<T: Number>(value: T) -> Argument {
    Argument::Scalar(T::bytes(&[value]))
}

fn buffer<T: Number>(values: &[T]) -> Argument {
    Argument::Buffer(T::bytes(values))
}

/// What is in the buffer now.
fn values<T: Number>(argument: &Argument) -> Vec<T> {
    match argument {
        Argument::Buffer(bytes) => T::from_bytes(bytes),
        Argument::Scalar(_) => panic!("a scalar has no values"),
    }
}

/// All that there are here. What is left out is said.
#[track_caller]
fn on_each_machine(test: impl Fn(&dyn Machine)) {
    let mut machines: Vec<Box<dyn Machine>> = Vec::new();
    match host::Host::new() {
        Ok(host) => machines.push(Box::new(host)),
        Err(why) => eprintln!("not compared on the processor: {why}"),
    }
    #[cfg(feature = "cuda")]
    match gpu::Gpu::new() {
        Ok(gpu) => machines.push(Box::new(gpu)),
        Err(why) => eprintln!("not compared on a GPU: {why}"),
    }
    for machine in machines {
        test(&*machine);
    }
}

/// Equal bits, or both no number: of those a GPU has only one.
#[track_caller]
fn assert_same(machine: &dyn Machine, what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            "{what}, element {i} on {}: {a:e} instead of {b:e}",
            machine.name()
        );
    }
}

/// 64 random bits of test `name`.
fn draw(name: &str, index: usize) -> u64 {
    uniform_u64(Key::derive(7, "kernels", &[name.as_bytes()]), index as u64)
}

/// Floats of all magnitudes, and what is special among them.
fn any_floats(name: &str, len: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE / 2.0,
        f32::from_bits(1),
        f32::MAX,
        f32::MIN,
        1.0,
        -1.0,
    ];
    (0..len)
        .map(|i| match special.get(i) {
            Some(special) => *special,
            None => f32::from_bits(draw(name, i) as u32),
        })
        .collect()
}

/// Finite floats around zero, from 2^-60 to 2^`top`.
fn gradients(name: &str, len: usize, top: i32) -> Vec<f32> {
    (0..len)
        .map(|i| {
            let bits = draw(name, i);
            let exponent = (bits % (60 + top as u64)) as i32 - 60;
            let mantissa = 1.0 + (bits >> 40) as f32 / (1 << 24) as f32;
            let sign = if bits & (1 << 39) == 0 { 1.0 } else { -1.0 };
            sign * mantissa * f32::from_bits(((127 + exponent) as u32) << 23)
        })
        .collect()
}
