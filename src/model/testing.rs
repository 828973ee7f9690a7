//! What the tests of layers have in common.

use candle_core::{Device, Shape, Tensor, Var};

use super::Variables;
use super::init;

/// Standard normal values, a function of `name`.
pub fn random(shape: impl Into<Shape>, name: &str) -> Var {
    let vb = Variables::seeded(11, &Device::Cpu).builder();
    let values = vb.get_with_hints(shape, name, init::normal(1.0)).unwrap();
    Var::from_tensor(&values).unwrap()
}

/// Asserts that two tensors are equal up to rounding.
#[track_caller]
pub fn close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let difference = (a - b).unwrap().abs().unwrap();
    let largest = difference.flatten_all().unwrap().max(0).unwrap();
    let largest = largest.to_scalar::<f32>().unwrap();
    assert!(largest < 2e-6, "{what}: differs by {largest}");
}
