// The twin of src/exact/fixed.rs and src/exact/pack.rs, an element at a time.
#pragma once

#include "arithmetic.cuh"

// |g * scale * 2^f| has to be below this.
#define FIXED_LIMIT 2251799813685248.0 // 2^51
// The integer x sits in the low bits of the mantissa of this plus x.
#define FIXED_MAGIC 6755399441055744.0 // 1.5 * 2^52

BOTH bool is_finite(float g) { return (bits_of(g) & 0x7f800000u) != 0x7f800000u; }

// False for NaN and infinities too.
BOTH bool is_in_range(double x) { return x < FIXED_LIMIT && x > -FIXED_LIMIT; }

// Needs |x| <= 2^51.
BOTH int64_t round_half_even(double x) {
    return (int64_t)(bits_of(add(x, FIXED_MAGIC)) - bits_of(FIXED_MAGIC));
}

BOTH int64_t to_fixed(float g, double factor) { return round_half_even(mul((double)g, factor)); }

BOTH float from_fixed(int64_t n, double factor) { return to_float(mul(to_double(n), factor)); }

// The same, and zero in its place.
BOTH float take_fixed(int64_t *n, double factor) {
    const float value = from_fixed(*n, factor);
    *n = 0;
    return value;
}

// Of the sums of loss and metrics: 2^Totals::FRACTION_BITS.
#define TOTALS_FACTOR 4294967296.0

// A sum's name: src/exact/digest.rs.
#define NAME_LANES 32
#define NAME_BASE 33ull

BOTH uint64_t name_power(uint64_t rows) {
    uint64_t power = 1;
    for (uint64_t square = NAME_BASE; rows; rows >>= 1, square *= square)
        if (rows & 1) power *= square;
    return power;
}

// Values in a block of a packed sum, and strings of bits side by side in it.
#define PACK_BLOCK 512
#define PACK_LANES 8

// The bits that are in use once the sign is moved to the lowest one.
BOTH uint64_t used_bits(int64_t value) { return (uint64_t)((int64_t)((uint64_t)value << 1) ^ (value >> 63)); }

BOTH int width_of(uint64_t used) {
#ifdef __CUDA_ARCH__
    return 64 - __clzll((long long)used);
#else
    return used ? 64 - __builtin_clzll(used) : 0;
#endif
}

// Word `word` of the string of `count` fields of `width` bits (1 to 64) that holds
// values[0], values[stride], values[2 * stride], ...
BOTH uint64_t packed_word(const int64_t *values, int count, int stride, int width, int word) {
    const uint64_t mask = ~(uint64_t)0 >> (64 - width);
    const int begin = 64 * word;
    uint64_t bits = 0;
    for (int i = begin / width; i < count && i * width < begin + 64; i++) {
        const uint64_t field = (uint64_t)values[i * stride] & mask;
        const int at = i * width - begin;
        bits |= at >= 0 ? field << at : field >> -at;
    }
    return bits;
}

// Words of 64 bits that a block of `count` values takes.
BOTH int body_words(int width, int count) {
    return count == PACK_BLOCK ? width * PACK_LANES : (width * count + 63) / 64;
}

// Word `word` of a block's body: a full block has its lanes' words side by side, a
// short one is a single string.
BOTH uint64_t body_word(const int64_t *values, int count, int width, int word) {
    if (count == PACK_BLOCK)
        return packed_word(values + word % PACK_LANES, PACK_BLOCK / PACK_LANES, PACK_LANES, width, word / PACK_LANES);
    return packed_word(values, count, 1, width, word);
}
