//! The promises of the room, against references that share no code with it.

mod digest;
mod fixed;
mod pack;
mod totals;

use proptest::prelude::*;

use super::*;

const F36: FixedPoint = FixedPoint::new(36).unwrap();

/// 2^exponent.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// Floats of all magnitudes, most of them near the range of f = 36.
fn element() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (any::<u32>(), 85_u32..141)
            .prop_map(|(bits, exponent)| f32::from_bits(bits & 0x807f_ffff | exponent << 23)),
        1 => (any::<bool>(), 0_u32..0x0080_0000)
            .prop_map(|(minus, bits)| f32::from_bits(bits | u32::from(minus) << 31)),
        1 => prop_oneof![Just(0.0_f32), Just(-0.0)],
    ]
}

/// Values of every width, not mostly wide ones.
fn value() -> impl Strategy<Value = i64> {
    (any::<i64>(), 0_u32..65).prop_map(|(value, shift)| value.checked_shr(shift).unwrap_or(0))
}

fn packed(values: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(values, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn all_levels_give_the_same_bits(
        gradient in prop::collection::vec(element(), 0..200),
        planted in prop::option::of((any::<prop::sample::Index>(), any::<u32>())),
        scale in 1e-3_f64..1.0,
        sum in prop::collection::vec(value(), 200),
        skip in 0_usize..3,
    ) {
        let portable = Level::SCALAR;
        let mut gradient = gradient;
        if let (Some((at, bits)), false) = (planted, gradient.is_empty()) {
            let at = at.index(gradient.len());
            gradient[at] = f32::from_bits(bits);
        }
        let gradient = &gradient[skip.min(gradient.len())..];
        let sum = &sum[..gradient.len()];
        let run = |level: Level| {
            let inspection = F36.inspect_at(level, gradient, scale);
            let mut added = sum.to_vec();
            let rounding = inspection
                .is_clean()
                .then(|| F36.accumulate_at(level, gradient, scale, &mut added));
            let mut floats = vec![0.0; sum.len()];
            F36.to_f32_at(level, sum, 1.0 / scale, &mut floats);
            let floats: Vec<u32> = floats.into_iter().map(f32::to_bits).collect();
            (inspection, added, rounding, floats)
        };
        for level in Level::all() {
            prop_assert_eq!(run(level), run(portable), "{}", level.name());
        }
    }
}
