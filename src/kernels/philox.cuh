// The twin of src/numerics/philox.rs and of what it needs of src/numerics/maths.rs.
#pragma once

#include "arithmetic.cuh"

#define PHILOX_UNIFORM 0u
#define PHILOX_NORMAL 1u

struct Words {
    uint32_t word[4];
};

BOTH Words philox4x32(uint64_t block, uint32_t kind, uint32_t k0, uint32_t k1) {
    uint32_t x0 = (uint32_t)block, x1 = (uint32_t)(block >> 32), x2 = kind, x3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * x0;
        const uint64_t b = (uint64_t)0xCD9E8D57u * x2;
        const uint32_t y0 = (uint32_t)(b >> 32) ^ x1 ^ k0;
        const uint32_t y2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x0 = y0, x1 = (uint32_t)b, x2 = y2, x3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{x0, x1, x2, x3}};
}

// The upper 24 bits as a number in [0, 1).
BOTH float unit(uint32_t word) { return mul((float)(word >> 8), 1.0f / 16777216.0f); }

// sum of series[i] * z^(n - 1 - i), by Horner.
BOTH double horner(const double *series, int n, double z) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum = add(mul(sum, z), series[i]);
    return sum;
}

// The natural logarithm of a normal positive number.
BOTH double natural_log(double x) {
    const double ln_2_high = double_of(0x3fe62e42fef00000ull), ln_2_low = double_of(0x3dd473de6af278edull);
    const uint64_t bits = bits_of(x);
    int exponent = (int)(bits >> 52) - 1023;
    double mantissa = double_of((bits & 0xfffffffffffffull) | (uint64_t)1023 << 52);
    if (mantissa >= 1.41421356237309504880) {
        mantissa = mul(mantissa, 0.5);
        exponent += 1;
    }
    const double s = quotient(sub(mantissa, 1.0), add(mantissa, 1.0));
    const double z = mul(s, s);
    const double odd[] = {1.0 / 23.0, 1.0 / 21.0, 1.0 / 19.0, 1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0,
                          1.0 / 11.0, 1.0 / 9.0,  1.0 / 7.0,  1.0 / 5.0,  1.0 / 3.0};
    const double series = horner(odd, 11, z);
    const double twice = mul(2.0, s);
    const double logarithm = add(twice, mul(twice, mul(z, series)));
    const double power = (double)exponent;
    return add(mul(power, ln_2_high), add(logarithm, mul(power, ln_2_low)));
}

// Sine and cosine of an angle of up to 2^20.
BOTH void sine_cosine(double angle, double *sine, double *cosine) {
    const double half_pi[] = {double_of(0x3ff921fb54400000ull), double_of(0x3dd0b4611a600000ull),
                              double_of(0x3ba3198a2e037073ull)};
    const double magic = 6755399441055744.0; // 1.5 * 2^52
    const double quarter = sub(add(mul(angle, 0.63661977236758134308), magic), magic);
    const double r = sub(sub(sub(angle, mul(quarter, half_pi[0])), mul(quarter, half_pi[1])), mul(quarter, half_pi[2]));
    const double z = mul(r, r);
    const double odd[] = {1.0 / 355687428096000.0, 1.0 / -1307674368000.0, 1.0 / 6227020800.0, 1.0 / -39916800.0,
                          1.0 / 362880.0,          1.0 / -5040.0,          1.0 / 120.0,        1.0 / -6.0};
    const double sin = add(r, mul(r, mul(z, horner(odd, 8, z))));
    const double even[] = {1.0 / -6402373705728000.0, 1.0 / 20922789888000.0, 1.0 / -87178291200.0,
                           1.0 / 479001600.0,         1.0 / -3628800.0,       1.0 / 40320.0,
                           1.0 / -720.0,              1.0 / 24.0,             1.0 / -2.0};
    const double cos = add(1.0, mul(z, horner(even, 9, z)));
    switch ((int64_t)quarter & 3) {
    case 0: *sine = sin, *cosine = cos; break;
    case 1: *sine = cos, *cosine = -sin; break;
    case 2: *sine = -sin, *cosine = -cos; break;
    default: *sine = -cos, *cosine = sin;
    }
}

// Two independent normal numbers from two words.
BOTH void normal_pair(uint32_t first, uint32_t second, float *even, float *odd) {
    const double open_unit = mul(add((double)first, 0.5), 1.0 / 4294967296.0);
    const double turn = mul((double)second, 1.0 / 4294967296.0);
    const double radius = root(mul(-2.0, natural_log(open_unit)));
    double sine, cosine;
    sine_cosine(mul(turn, 6.28318530717958647693), &sine, &cosine);
    *even = to_float(mul(radius, cosine));
    *odd = to_float(mul(radius, sine));
}
