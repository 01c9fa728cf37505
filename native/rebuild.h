/* SPDX-License-Identifier: Apache-2.0 */
/* From indices of symbols to the bytes of a row (spec/pack.md, 1 and 4), in loops that a compiler turns into vectors.
 * A path includes this where its instructions are enabled, and gives the functions names of its own. */
#ifndef WM_REBUILD_H
#define WM_REBUILD_H

#include "parts.h"

/* Scales first: their product is normal, and exact; a row's scale times a level may not be finite. */
WM_INLINE uint32_t wm_product(float row, float col, int32_t level) {
    const float value = row * col * (float)level;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

WM_INLINE uint32_t wm_to_bf16(uint32_t bits) { return (bits + 0x7fff + (bits >> 16 & 1)) >> 16; }

WM_INLINE uint32_t wm_to_f16(uint32_t bits) {
    const uint32_t exponent = bits >> 23 & 255, mantissa = (bits & 0x7fffff) | 0x800000;
    /* 13 bits go, and one more for each step below 2^-14; all of them from 2^-26 on. */
    const uint32_t below = exponent < 113 ? 113 - exponent : 0, drop = 13 + (below < 12 ? below : 12);
    const uint32_t kept = (mantissa + (1U << (drop - 1)) - 1 + (mantissa >> drop & 1)) >> drop;
    const uint32_t high = exponent > 113 ? (exponent - 113) << 10 : 0;
    return (bits >> 16 & 0x8000) | ((bits & 0x7fffffff) != 0 ? kept + high : 0);
}

WM_INLINE void wm_put16(uint8_t *restrict out, size_t i, uint32_t bits) {
    const uint16_t half = (uint16_t)bits;
    memcpy(out + 2 * i, &half, sizeof half);
}

WM_INLINE void wm_put32(uint8_t *restrict out, size_t i, uint32_t bits) { memcpy(out + 4 * i, &bits, sizeof bits); }

WM_INLINE void wm_rebuild_levels(const struct wm_piece *p, uint32_t dtype) {
    const uint16_t *restrict index = p->index;
    const float *restrict col = p->col;
    uint8_t *restrict out = p->out;
    const size_t count = p->count;
    const int32_t lowest = p->lowest;
    const float row = p->row;
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = wm_product(row, col[i], lowest + (int32_t)index[i]);
        if (dtype == WM_FLOAT32) {
            wm_put32(out, i, bits);
        } else {
            wm_put16(out, i, dtype == WM_BFLOAT16 ? wm_to_bf16(bits) : wm_to_f16(bits));
        }
    }
}

/* Sign and mantissa are the raw byte; the symbol is the exponent. */
WM_INLINE uint32_t wm_join(uint32_t exponent, uint32_t low) { return (low & 128) << 8 | exponent << 7 | (low & 127); }

WM_INLINE void wm_rebuild_planes(const struct wm_piece *p, enum wm_kind kind) {
    const uint16_t *restrict index = p->index;
    const uint8_t *restrict raw = p->raw;
    uint8_t *restrict out = p->out;
    const size_t count = p->count, plane = p->plane;
    for (size_t i = 0; i < count; i++) {
        const uint32_t symbol = index[i];
        if (kind == WM_PLANES_BF16) {
            wm_put16(out, i, wm_join(symbol, raw[i]));
        } else if (kind == WM_PLANES_F32_HIGH) {
            wm_put32(out, i, wm_join(symbol, raw[i]) << 16);
        } else if (kind == WM_PLANES_F16) {
            wm_put16(out, i, symbol << 8 | raw[i]);
        } else if (kind == WM_PLANES_F32) {
            const uint32_t rest = (uint32_t)raw[2 * plane + i] << 16 | (uint32_t)raw[plane + i] << 8 | raw[i];
            wm_put32(out, i, (rest & 0x800000) << 8 | symbol << 23 | (rest & 0x7fffff));
        } else {
            out[i] = (uint8_t)symbol;
        }
    }
}

/* Define the functions of a path under `prefix`, compiled with `attribute`. */
#define WM_PIECE(prefix, attribute, name, rebuild, what) \
    attribute static void prefix##_##name(const struct wm_piece *p) { rebuild(p, what); }

#define WM_PIECES(prefix, attribute)                                                                  \
    WM_PIECE(prefix, attribute, levels_bf16, wm_rebuild_levels, WM_BFLOAT16)                          \
    WM_PIECE(prefix, attribute, levels_f16, wm_rebuild_levels, WM_FLOAT16)                            \
    WM_PIECE(prefix, attribute, levels_f32, wm_rebuild_levels, WM_FLOAT32)                            \
    WM_PIECE(prefix, attribute, planes_bf16, wm_rebuild_planes, WM_PLANES_BF16)                       \
    WM_PIECE(prefix, attribute, planes_f16, wm_rebuild_planes, WM_PLANES_F16)                         \
    WM_PIECE(prefix, attribute, planes_f32, wm_rebuild_planes, WM_PLANES_F32)                         \
    WM_PIECE(prefix, attribute, planes_f32_high, wm_rebuild_planes, WM_PLANES_F32_HIGH)               \
    WM_PIECE(prefix, attribute, planes_f8, wm_rebuild_planes, WM_PLANES_F8)

#define WM_PIECE_TABLE(prefix)                                                                              \
    {                                                                                                       \
        [WM_LEVELS_BF16] = prefix##_levels_bf16, [WM_LEVELS_F16] = prefix##_levels_f16,                     \
        [WM_LEVELS_F32] = prefix##_levels_f32, [WM_PLANES_BF16] = prefix##_planes_bf16,                     \
        [WM_PLANES_F16] = prefix##_planes_f16, [WM_PLANES_F32] = prefix##_planes_f32,                       \
        [WM_PLANES_F32_HIGH] = prefix##_planes_f32_high, [WM_PLANES_F8] = prefix##_planes_f8                \
    }

#endif
