//! What the name of a sum tells apart, and what it doesn't depend on.

use super::super::{FixedPoint, Level, SumHash, Totals};

fn values(n: i64) -> Vec<i64> {
    (0..n).map(|i| (i * 7919) % 1_000_003 - 500_000).collect()
}

fn named(values: &[i64]) -> u64 {
    let mut hash = SumHash::new();
    for piece in values.chunks(1000) {
        hash.add(piece);
    }
    hash.finish(&Totals::new(1, 2)).bits()
}

#[test]
fn one_bit_anywhere_and_any_two_places_swapped_give_another_name() {
    let sum = values(2_345);
    let name = named(&sum);
    for at in [0, 1, 31, 32, 999, 1000, 2_344] {
        for bit in [0, 1, 31, 62, 63] {
            let mut other = sum.clone();
            other[at] ^= 1 << bit;
            assert_ne!(named(&other), name, "bit {bit} of value {at}");
        }
        for (from, to) in [(at, 500), (at, 532), (at, 1777)] {
            let mut other = sum.clone();
            other.swap(from, to);
            assert_ne!(named(&other), name, "values {from} and {to}");
        }
    }
    let mut swapped = sum.clone();
    swapped[..1024].rotate_left(512); // two buckets
    assert_ne!(named(&swapped), name);
    assert_eq!(named(&sum), name);
}

#[test]
fn the_totals_are_part_of_the_name() {
    let hash = SumHash::new();
    let mut totals = Totals::new(1, 2);
    totals.add_empty(0);
    let name = hash.finish(&totals);
    for change in [
        |t: &mut Totals| t.loss += 1,
        |t: &mut Totals| t.weight += 1,
        |t: &mut Totals| t.metrics[0] -= 1,
        |t: &mut Totals| t.parameters[1].rounded_to_zero += 1,
        |t: &mut Totals| t.add_empty(7),
    ] {
        let mut other = totals.clone();
        change(&mut other);
        assert_ne!(hash.finish(&other), name);
    }
}

#[test]
fn every_level_and_the_conversion_give_the_same_name_and_the_same_floats() {
    let fixed = FixedPoint::new(36).unwrap();
    for n in [0, 1, 31, 32, 33, 4096, 4100] {
        let sum = values(n);
        let mut expected = SumHash::new();
        expected.add(&sum);
        let mut floats = vec![0.0; sum.len()];
        fixed.to_f32(&sum, 1.5, &mut floats);
        for level in Level::all() {
            let mut alone = SumHash::new();
            alone.add_at(level, &sum);
            assert_eq!(alone.lanes, expected.lanes, "{level:?}, {n} values");
            let (mut beside, mut out) = (SumHash::new(), vec![0.0; sum.len()]);
            fixed.to_f32_hashed_at(level, &sum, 1.5, &mut out, &mut beside);
            assert_eq!(beside.lanes, expected.lanes, "{level:?}, {n} values");
            assert_eq!(out, floats);
        }
    }
}

/// Written down: files of earlier builds have to mean the same.
#[test]
fn a_name_is_the_same_on_every_machine_and_in_every_build() {
    assert_eq!(
        format!("{:016x}", named(&values(2_345))),
        "692c6bb3c3696afc"
    );
}
