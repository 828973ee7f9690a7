//! The update of one run of elements: the formulas of the [room's page](super).
//!
//! Each line rounds each operation on its own, in the order written. Square root
//! and division are correctly rounded by IEEE 754 like the rest, so vector code
//! gives the bits of scalar code.

use crate::numerics::dispatch::dispatched;

/// A moment or velocity below this becomes zero, before it turns subnormal.
pub(super) const TINY: f32 = f32::from_bits((127 - 110) << 23); // 2^-110

/// What Adam needs beside the element: constant within a step and run.
#[derive(Clone, Copy, Debug)]
#[repr(C)] // as in src/kernels/update.cuh
pub(crate) struct AdamScalars {
    /// 1 - β₁
    pub one_minus_beta1: f32,
    /// 1 - β₂
    pub one_minus_beta2: f32,
    /// ε'
    pub eps: f32,
    /// α
    pub alpha: f32,
    /// 1 - rate·decay
    pub keep: f32,
    /// The clip factor.
    pub clip: f32,
}

/// What SGD needs beside the element.
#[derive(Clone, Copy, Debug)]
#[repr(C)] // as in src/kernels/update.cuh
pub(crate) struct SgdScalars {
    pub rate: f32,
    /// μ
    pub momentum: f32,
    /// 1 - rate·decay
    pub keep: f32,
    /// The clip factor.
    pub clip: f32,
}

#[inline(always)]
fn without_tiny(x: f32) -> f32 {
    if x.abs() < TINY { 0.0 } else { x }
}

#[inline(always)]
fn adam_body(s: AdamScalars, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
    let elements = weights.iter_mut().zip(gradient).zip(m).zip(v);
    for (((weight, gradient), m), v) in elements {
        let g = gradient * s.clip;
        let first = without_tiny(*m + (g - *m) * s.one_minus_beta1);
        let second = without_tiny(*v + (g * g - *v) * s.one_minus_beta2);
        *m = first;
        *v = second;
        *weight = *weight * s.keep - s.alpha * (first / (second.sqrt() + s.eps));
    }
}

#[inline(always)]
fn sgd_body(s: SgdScalars, weights: &mut [f32], gradient: &[f32]) {
    for (weight, gradient) in weights.iter_mut().zip(gradient) {
        let g = gradient * s.clip;
        *weight = *weight * s.keep - s.rate * g;
    }
}

#[inline(always)]
fn momentum_body(s: SgdScalars, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
    for ((weight, gradient), u) in weights.iter_mut().zip(gradient).zip(velocity) {
        let g = gradient * s.clip;
        let next = without_tiny(s.momentum * *u + g);
        *u = next;
        *weight = *weight * s.keep - s.rate * next;
    }
}

#[inline(always)]
fn nesterov_body(s: SgdScalars, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
    for ((weight, gradient), u) in weights.iter_mut().zip(gradient).zip(velocity) {
        let g = gradient * s.clip;
        let next = without_tiny(s.momentum * *u + g);
        *u = next;
        *weight = *weight * s.keep - s.rate * (g + s.momentum * next);
    }
}

dispatched! {
    /// One Adam or AdamW step. The slices have the same length.
    pub(crate) fn adam(
        scalars: AdamScalars, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32],
    ) = adam_body;
}
dispatched! {
    /// One step of plain gradient descent.
    pub(crate) fn sgd(scalars: SgdScalars, weights: &mut [f32], gradient: &[f32]) = sgd_body;
}
dispatched! {
    /// One step with momentum.
    pub(crate) fn momentum(
        scalars: SgdScalars, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32],
    ) = momentum_body;
}
dispatched! {
    /// One step with Nesterov's momentum.
    pub(crate) fn nesterov(
        scalars: SgdScalars, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32],
    ) = nesterov_body;
}
