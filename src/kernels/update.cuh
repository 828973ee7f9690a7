// The twin of src/optim/kernel.rs: one element's update.
#pragma once

#include "arithmetic.cuh"

struct AdamScalars {
    float one_minus_beta1, one_minus_beta2, eps, alpha, keep, clip;
};

struct SgdScalars {
    float rate, momentum, keep, clip;
};

// A moment or velocity below 2^-110 becomes zero, before it turns subnormal.
BOTH float without_tiny(float x) {
    const float tiny = 7.70371977754894341e-34f; // 2^-110
    return x < tiny && x > -tiny ? 0.0f : x;
}

BOTH void adam_element(AdamScalars s, float gradient, float *weight, float *m, float *v) {
    const float g = mul(gradient, s.clip);
    const float first = without_tiny(add(*m, mul(sub(g, *m), s.one_minus_beta1)));
    const float second = without_tiny(add(*v, mul(sub(mul(g, g), *v), s.one_minus_beta2)));
    const float step = mul(s.alpha, quotient(first, add(root(second), s.eps)));
    *m = one_nan(first);
    *v = one_nan(second);
    *weight = one_nan(sub(mul(*weight, s.keep), step));
}

BOTH void sgd_element(SgdScalars s, float gradient, float *weight) {
    const float g = mul(gradient, s.clip);
    *weight = one_nan(sub(mul(*weight, s.keep), mul(s.rate, g)));
}

BOTH void momentum_element(SgdScalars s, bool nesterov, float gradient, float *weight, float *velocity) {
    const float g = mul(gradient, s.clip);
    const float next = without_tiny(add(mul(s.momentum, *velocity), g));
    const float step = nesterov ? add(g, mul(s.momentum, next)) : next;
    *velocity = one_nan(next);
    *weight = one_nan(sub(mul(*weight, s.keep), mul(s.rate, step)));
}
