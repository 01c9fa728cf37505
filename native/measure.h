/* SPDX-License-Identifier: Apache-2.0 */
/* What an encoder measures and rounds, row by row, in loops that a compiler turns into vectors; included as rebuild.h is.
 * Numbers that are subnormal in binary32 go through integers: a flush-to-zero mode changes nothing. */
#ifndef WM_MEASURE_H
#define WM_MEASURE_H

#include "parts.h"

/* Bits of binary32 of element i. */
WM_INLINE uint32_t wm_wide(uint32_t dtype, const uint8_t *data, size_t i) {
    uint32_t bits;
    if (dtype == WM_FLOAT32) {
        memcpy(&bits, data + 4 * i, sizeof bits);
        return bits;
    }
    bits = wm_word(data + 2 * i);
    if (dtype == WM_BFLOAT16) {
        return bits << 16;
    }
    const uint32_t rest = bits & 0x7fff, sign = (bits & 0x8000) << 16;
    const float small = (float)(int32_t)rest * 0x1p-24F; /* of those below 2^-14 */
    uint32_t low;
    memcpy(&low, &small, sizeof low);
    const uint32_t normal = (rest << 13) + (112U << 23), high = normal + (112U << 23);
    return sign | (rest < 0x400 ? low : rest < 0x7c00 ? normal : high);
}

WM_INLINE float wm_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Magnitude of an element that is not NaN. */
WM_INLINE double wm_magnitude(uint32_t bits) {
    const uint32_t rest = bits & 0x7fffffff;
    return rest < 0x800000 ? (double)(int32_t)rest * 0x1p-149 : (double)wm_float(rest);
}

enum { WM_SUBNORMAL = 1, WM_INFINITE = 2 };

/* What kinds of numbers other than zero and normal ones are in a row. */
WM_INLINE uint32_t wm_kinds_in(uint32_t dtype, const uint8_t *data, uint64_t cols) {
    uint32_t subnormal = 0, infinite = 0;
    for (uint64_t i = 0; i < cols; i++) {
        const uint32_t rest = wm_wide(dtype, data, i) & 0x7fffffff;
        subnormal |= (uint32_t)(rest - 1 < 0x7fffff);
        infinite |= (uint32_t)(rest >= 0x7f800000);
    }
    return subnormal * WM_SUBNORMAL + infinite * WM_INFINITE;
}

/* Square of an element; 0 for what is not finite. Exact in binary64. */
WM_INLINE double wm_square(uint32_t dtype, const uint8_t *data, size_t i, int plain) {
    const uint32_t rest = wm_wide(dtype, data, i) & 0x7fffffff;
    const double value = plain ? (double)wm_float(rest) : rest >= 0x7f800000 ? 0 : wm_magnitude(rest);
    return value * value;
}

/* Column sums row after row; the sum of a row in 32 lanes, column modulo 32, which are then added in halves. */
WM_INLINE double wm_square_row(uint32_t dtype, const uint8_t *data, uint64_t cols, double *col, int plain) {
    double lane[WM_LANES] = {0};
    uint64_t first = 0;
    for (; first + WM_LANES <= cols; first += WM_LANES) {
        for (uint32_t l = 0; l < WM_LANES; l++) {
            const double square = wm_square(dtype, data, first + l, plain);
            lane[l] += square;
            col[first + l] += square;
        }
    }
    for (uint32_t l = 0; first + l < cols; l++) {
        const double square = wm_square(dtype, data, first + l, plain);
        lane[l] += square;
        col[first + l] += square;
    }
    for (uint32_t half = WM_LANES / 2; half > 0; half /= 2) {
        for (uint32_t l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return lane[0];
}

WM_INLINE double wm_squares(uint32_t dtype, const uint8_t *data, uint64_t cols, double *col, uint32_t *infinite) {
    const uint32_t kinds = wm_kinds_in(dtype, data, cols);
    *infinite |= kinds & WM_INFINITE;
    if (kinds == 0) {
        return wm_square_row(dtype, data, cols, col, 1);
    }
    return wm_square_row(dtype, data, cols, col, 0);
}

/* Nearest integer of a quotient of binary32 that is not negative, ties to even, at most 255; NaN counts as large. Compared
 * in integers, so that a compiler makes vectors of it. */
WM_INLINE int32_t wm_nearest(float quotient) {
    uint32_t bits;
    memcpy(&bits, &quotient, sizeof bits);
    const float most = wm_float(bits < 0x43800000 ? bits : 0x43800000); /* 256 */
    const int32_t whole = (int32_t)most, rest = (int32_t)((most - (float)whole) * 0x1p24F);
    const int32_t level = whole + ((rest + 0x7fffff + (whole & 1)) >> 24);
    return level < 255 ? level : 255;
}

WM_INLINE int16_t wm_signed(uint32_t bits, int32_t level) {
    const int32_t kept = level & -(int32_t)((bits & 0x7fffffff) <= 0x7f800000); /* NaN gives 0 */
    return (int16_t)(bits >> 31 ? -kept : kept);
}

/* The same where a number or a product of scales may be subnormal. A quotient of binary64 rounded once more to binary32 is
 * the quotient of binary32 (S. A. Figueroa 1995: 53 >= 2 * 24 + 2). */
WM_INLINE int16_t wm_level_slow(uint32_t bits, float row, float col) {
    const uint32_t rest = bits & 0x7fffffff;
    const double magnitude = rest > 0x7f800000 ? 0 : wm_magnitude(rest);
    const double quotient = magnitude / ((double)row * (double)col);
    return wm_signed(bits, wm_nearest(quotient < 256 ? (float)quotient : 256.0F));
}

WM_INLINE void wm_levels(uint32_t dtype, const uint8_t *data, uint64_t cols, float row, const float *col, int slow,
                         int16_t *levels) {
    if (slow) {
        for (uint64_t i = 0; i < cols; i++) {
            levels[i] = wm_level_slow(wm_wide(dtype, data, i), row, col[i]);
        }
        return;
    }
    for (uint64_t i = 0; i < cols; i++) {
        const uint32_t bits = wm_wide(dtype, data, i);
        levels[i] = wm_signed(bits, wm_nearest(wm_float(bits & 0x7fffffff) / (row * col[i])));
    }
}

#define WM_MEASURE(prefix, attribute, name, dtype)                                                          \
    attribute static double prefix##_squares_##name(const uint8_t *data, uint64_t cols, double *col,          \
                                                    uint32_t *infinite) {                                     \
        return wm_squares(dtype, data, cols, col, infinite);                                                  \
    }                                                                                                         \
    attribute static void prefix##_levels_of_##name(const uint8_t *data, uint64_t cols, float row,            \
                                                    const float *col, int slow, int16_t *levels) {            \
        wm_levels(dtype, data, cols, row, col, slow, levels);                                                 \
    }

#define WM_MEASURES(prefix, attribute)               \
    WM_MEASURE(prefix, attribute, bf16, WM_BFLOAT16) \
    WM_MEASURE(prefix, attribute, f16, WM_FLOAT16)   \
    WM_MEASURE(prefix, attribute, f32, WM_FLOAT32)

#define WM_SQUARES_TABLE(prefix) {prefix##_squares_bf16, prefix##_squares_f16, prefix##_squares_f32}
#define WM_LEVELS_TABLE(prefix) {prefix##_levels_of_bf16, prefix##_levels_of_f16, prefix##_levels_of_f32}

#endif
