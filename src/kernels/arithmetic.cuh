// IEEE operations that round once each, with the same bits on a GPU and on a processor.
//
// On the GPU these are intrinsics that a compiler neither contracts nor approximates.
// On the host they are the plain operators, compiled with -ffp-contract=off.
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define BOTH __host__ __device__ __forceinline__
#else
#define BOTH static inline
#endif

#ifdef __CUDA_ARCH__
#define ON_GPU_OR_HOST(gpu, host) return gpu
#else
#define ON_GPU_OR_HOST(gpu, host) return host
#endif

BOTH float add(float a, float b) { ON_GPU_OR_HOST(__fadd_rn(a, b), a + b); }
BOTH float sub(float a, float b) { ON_GPU_OR_HOST(__fsub_rn(a, b), a - b); }
BOTH float mul(float a, float b) { ON_GPU_OR_HOST(__fmul_rn(a, b), a * b); }
BOTH float quotient(float a, float b) { ON_GPU_OR_HOST(__fdiv_rn(a, b), a / b); }
BOTH float root(float a) { ON_GPU_OR_HOST(__fsqrt_rn(a), __builtin_sqrtf(a)); }

BOTH double add(double a, double b) { ON_GPU_OR_HOST(__dadd_rn(a, b), a + b); }
BOTH double sub(double a, double b) { ON_GPU_OR_HOST(__dsub_rn(a, b), a - b); }
BOTH double mul(double a, double b) { ON_GPU_OR_HOST(__dmul_rn(a, b), a * b); }
BOTH double quotient(double a, double b) { ON_GPU_OR_HOST(__ddiv_rn(a, b), a / b); }
BOTH double root(double a) { ON_GPU_OR_HOST(__dsqrt_rn(a), __builtin_sqrt(a)); }

// To the nearest, ties to even; subnormal results are kept.
BOTH float to_float(double a) { ON_GPU_OR_HOST(__double2float_rn(a), (float)a); }
BOTH double to_double(int64_t a) { ON_GPU_OR_HOST(__ll2double_rn(a), (double)a); }

BOTH uint32_t bits_of(float a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
BOTH uint64_t bits_of(double a) {
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
BOTH float float_of(uint32_t bits) {
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}
BOTH double double_of(uint64_t bits) {
    double a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

// What an operation without a result gives has other bits on a GPU: made those of x86.
BOTH float one_nan(float a) { return a != a ? float_of(0xffc00000u) : a; }
