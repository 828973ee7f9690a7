// What runs on the GPU. Each kernel is its twin's element function, spread over threads;
// sums over threads are of integers, so their order leaves no trace. There is no atomic
// operation on a floating-point number in here.
//
// Lengths and indices have 64 bits. Where a comment doesn't say otherwise, any grid and
// any block size will do.

#include "exact.cuh"
#include "philox.cuh"
#include "update.cuh"

typedef unsigned long long Count;

#define KERNEL extern "C" __global__ void
#define EACH(i, n) \
    (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (uint64_t)gridDim.x * blockDim.x)

// counts[0] += values that aren't finite, counts[1] += finite ones out of range.
KERNEL inspect(const float *gradient, uint64_t n, double factor, Count *counts) {
    Count non_finite = 0, out_of_range = 0;
    for EACH (i, n) {
        const float g = gradient[i];
        if (!is_finite(g))
            non_finite++;
        else if (!is_in_range(mul((double)g, factor)))
            out_of_range++;
    }
    if (non_finite) atomicAdd(&counts[0], non_finite);
    if (out_of_range) atomicAdd(&counts[1], out_of_range);
}

// Where a micro-batch's findings are kept: counts of `inspect`, scalars as the bits of f64, and
// the verdict.
KERNEL keep_scalar(const float *scalar, Count *place) { *place = bits_of((double)*scalar); }

// found[counts + scalars] = 1 if a micro-batch may be summed: all counts are zero, and the
// scalars that follow them are in range. One thread block.
KERNEL judge(Count *found, uint64_t counts, uint64_t scalars, double scale) {
    __shared__ Count odd;
    if (threadIdx.x == 0) odd = 0;
    __syncthreads();
    bool own = false;
    for (uint64_t i = threadIdx.x; i < counts; i += blockDim.x) own |= found[i] != 0;
    for (uint64_t i = threadIdx.x; i < scalars; i += blockDim.x)
        own |= !is_in_range(mul(mul(double_of((uint64_t)found[counts + i]), scale), TOTALS_FACTOR));
    if (own) atomicOr(&odd, (Count)1);
    __syncthreads();
    if (threadIdx.x == 0) found[counts + scalars] = odd == 0;
}

// Unless the verdict is 0, adds the rounded products to the sum; counts[0] += values that aren't
// zero, counts[1] += those of them that the rounding made zero.
KERNEL accumulate(const float *gradient, uint64_t n, double factor, const Count *verdict, int64_t *sum, Count *counts) {
    __shared__ Count block_counts[2];
    if (*verdict == 0) return;
    if (threadIdx.x < 2) block_counts[threadIdx.x] = 0;
    __syncthreads();
    Count nonzero = 0, to_zero = 0;
    for EACH (i, n) {
        const float g = gradient[i];
        const int64_t rounded = to_fixed(g, factor);
        sum[i] = (int64_t)((uint64_t)sum[i] + (uint64_t)rounded);
        nonzero += g != 0.0f;
        to_zero += g != 0.0f && rounded == 0;
    }
    if (nonzero) atomicAdd(&block_counts[0], nonzero);
    if (to_zero) atomicAdd(&block_counts[1], to_zero);
    __syncthreads();
    if (threadIdx.x < 2 && block_counts[threadIdx.x]) atomicAdd(&counts[threadIdx.x], block_counts[threadIdx.x]);
}

// The gradient that a complete sum stands for.
KERNEL from_sum(const int64_t *sum, uint64_t n, double factor, float *gradient) {
    for EACH (i, n) gradient[i] = from_fixed(sum[i], factor);
}

// Packing, first of three: the width of each block of 512 values. One thread block each.
KERNEL pack_widths(const int64_t *values, uint64_t n, uint8_t *widths) {
    __shared__ Count used;
    if (threadIdx.x == 0) used = 0;
    __syncthreads();
    const uint64_t begin = (uint64_t)blockIdx.x * PACK_BLOCK;
    const uint64_t end = begin + PACK_BLOCK < n ? begin + PACK_BLOCK : n;
    uint64_t own = 0;
    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) own |= used_bits(values[i]);
    if (own) atomicOr(&used, (Count)own);
    __syncthreads();
    if (threadIdx.x == 0) widths[blockIdx.x] = (uint8_t)width_of(used);
}

// Second: where each block's body begins, in words, and behind the last where all end.
// One thread block of at most 1024 threads.
KERNEL pack_offsets(const uint8_t *widths, uint64_t blocks, uint64_t n, uint64_t *offsets) {
    __shared__ uint64_t sums[1024];
    const uint64_t share = (blocks + blockDim.x - 1) / blockDim.x;
    const uint64_t begin = threadIdx.x * share < blocks ? threadIdx.x * share : blocks;
    const uint64_t end = begin + share < blocks ? begin + share : blocks;
    const int last = n % PACK_BLOCK ? (int)(n % PACK_BLOCK) : PACK_BLOCK;
    uint64_t own = 0;
    for (uint64_t b = begin; b < end; b++) own += body_words(widths[b], b + 1 == blocks ? last : PACK_BLOCK);
    sums[threadIdx.x] = own;
    __syncthreads();
    uint64_t offset = 0;
    for (unsigned t = 0; t < threadIdx.x; t++) offset += sums[t];
    for (uint64_t b = begin; b < end; b++) {
        offsets[b] = offset;
        offset += body_words(widths[b], b + 1 == blocks ? last : PACK_BLOCK);
    }
    if (threadIdx.x == blockDim.x - 1) offsets[blocks] = offset;
}

// Third: the bodies. One thread block each.
KERNEL pack_bodies(const int64_t *values, uint64_t n, const uint8_t *widths, const uint64_t *offsets, uint64_t *bodies) {
    const uint64_t begin = (uint64_t)blockIdx.x * PACK_BLOCK;
    const int count = begin + PACK_BLOCK < n ? PACK_BLOCK : (int)(n - begin);
    const int width = widths[blockIdx.x];
    if (width == 0) return;
    uint64_t *body = bodies + offsets[blockIdx.x];
    for (int word = threadIdx.x; word < body_words(width, count); word += blockDim.x)
        body[word] = body_word(values + begin, count, width, word);
}

// The sums of squares of 1024 gradient elements each, in the order of src/optim/clip.rs: 16
// lanes, added in order. One thread block of 16 threads each.
KERNEL squares(const int64_t *sum, uint64_t n, double factor, double *blocks) {
    __shared__ double lanes[16];
    const uint64_t begin = (uint64_t)blockIdx.x * 1024;
    const uint64_t end = begin + 1024 < n ? begin + 1024 : n;
    double lane = 0.0;
    for (uint64_t i = begin + threadIdx.x; i < end; i += 16) {
        const double g = (double)from_fixed(sum[i], factor);
        lane = add(lane, mul(g, g));
    }
    lanes[threadIdx.x] = lane;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double total = 0.0;
    for (int i = 0; i < 16; i++) total = add(total, lanes[i]);
    blocks[blockIdx.x] = total;
}

// A sum's name, as in src/exact/digest.rs, first of two: the polynomials of each piece of the sum, from
// starts[p] to starts[p + 1], as if it stood alone.
KERNEL name_pieces(const int64_t *sum, const uint64_t *starts, uint64_t pieces, uint64_t *lanes) {
    for EACH (i, pieces * NAME_LANES) {
        const uint64_t end = starts[i / NAME_LANES + 1];
        uint64_t lane = 0;
        for (uint64_t row = starts[i / NAME_LANES]; row < end; row += NAME_LANES) {
            const uint64_t at = row + i % NAME_LANES;
            lane = NAME_BASE * lane + (at < end ? (uint64_t)sum[at] : 0);
        }
        lanes[i] = lane;
    }
}

// Second: those of all pieces one behind the other. One thread block of at most 1024 threads, a
// multiple of 32.
KERNEL name_whole(const uint64_t *lanes, const uint64_t *starts, uint64_t pieces, uint64_t *name) {
    __shared__ uint64_t values[1024], powers[1024];
    const uint64_t lane = threadIdx.x % NAME_LANES;
    const uint64_t share = (pieces + blockDim.x / NAME_LANES - 1) / (blockDim.x / NAME_LANES);
    const uint64_t begin = share * (threadIdx.x / NAME_LANES);
    uint64_t value = 0, power = 1;
    for (uint64_t p = begin; p < begin + share && p < pieces; p++) {
        const uint64_t factor = name_power((starts[p + 1] - starts[p] + NAME_LANES - 1) / NAME_LANES);
        value = factor * value + lanes[p * NAME_LANES + lane];
        power *= factor;
    }
    values[threadIdx.x] = value, powers[threadIdx.x] = power;
    __syncthreads();
    if (threadIdx.x >= NAME_LANES) return;
    uint64_t whole = 1;
    for (unsigned i = threadIdx.x; i < blockDim.x; i += NAME_LANES) whole = powers[i] * whole + values[i];
    name[lane] = whole;
}

// From a complete sum to new weights. The sum is zero afterwards, for the next step.
KERNEL adam(int64_t *sum, uint64_t n, double factor, AdamScalars s, float *weights, float *m, float *v) {
    for EACH (i, n) adam_element(s, take_fixed(&sum[i], factor), &weights[i], &m[i], &v[i]);
}

KERNEL sgd(int64_t *sum, uint64_t n, double factor, SgdScalars s, float *weights) {
    for EACH (i, n) sgd_element(s, take_fixed(&sum[i], factor), &weights[i]);
}

KERNEL momentum(int64_t *sum, uint64_t n, double factor, SgdScalars s, int nesterov, float *weights, float *velocity) {
    for EACH (i, n) momentum_element(s, nesterov != 0, take_fixed(&sum[i], factor), &weights[i], &velocity[i]);
}

// A dropout mask: 0 where the uniform number is below p, else `kept`.
KERNEL dropout_mask(uint32_t k0, uint32_t k1, float p, float kept, float *mask, uint64_t n) {
    for EACH (block, (n + 3) / 4) {
        const Words words = philox4x32(block, PHILOX_UNIFORM, k0, k1);
        for (int i = 0; i < 4 && 4 * block + i < n; i++) mask[4 * block + i] = unit(words.word[i]) >= p ? kept : 0.0f;
    }
}

// Uniform numbers from `low` on, over `span`.
KERNEL fill_uniform(uint32_t k0, uint32_t k1, double low, double span, float *values, uint64_t n) {
    for EACH (block, (n + 3) / 4) {
        const Words words = philox4x32(block, PHILOX_UNIFORM, k0, k1);
        for (int i = 0; i < 4 && 4 * block + i < n; i++)
            values[4 * block + i] = to_float(add(low, mul(span, (double)unit(words.word[i]))));
    }
}

// Normal numbers around `mean`.
KERNEL fill_normal(uint32_t k0, uint32_t k1, double mean, double deviation, float *values, uint64_t n) {
    for EACH (block, (n + 3) / 4) {
        const Words words = philox4x32(block, PHILOX_NORMAL, k0, k1);
        float normal[4];
        normal_pair(words.word[0], words.word[1], &normal[0], &normal[1]);
        normal_pair(words.word[2], words.word[3], &normal[2], &normal[3]);
        for (int i = 0; i < 4 && 4 * block + i < n; i++)
            values[4 * block + i] = to_float(add(mean, mul(deviation, (double)normal[i])));
    }
}
