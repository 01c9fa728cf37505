/* SPDX-License-Identifier: Apache-2.0 */
/* The path of NEON, which every 64-bit ARM has: four lanes at once. */
#include "measure.h"
#include "rebuild.h"

#if defined(__aarch64__) && defined(__GNUC__)

#include <arm_neon.h>

/* For tbl, by the four bits of a mask: word n of those read goes to the nth lane of the mask, its upper half is 0. */
#define WORD(n) 2 * (n), 2 * (n) + 1, 255, 255
#define NONE 255, 255, 255, 255
static const uint8_t spread[16][16] = {
    {NONE, NONE, NONE, NONE},       {WORD(0), NONE, NONE, NONE},       {NONE, WORD(0), NONE, NONE},
    {WORD(0), WORD(1), NONE, NONE}, {NONE, NONE, WORD(0), NONE},       {WORD(0), NONE, WORD(1), NONE},
    {NONE, WORD(0), WORD(1), NONE}, {WORD(0), WORD(1), WORD(2), NONE}, {NONE, NONE, NONE, WORD(0)},
    {WORD(0), NONE, NONE, WORD(1)}, {NONE, WORD(0), NONE, WORD(1)},    {WORD(0), WORD(1), NONE, WORD(2)},
    {NONE, NONE, WORD(0), WORD(1)}, {WORD(0), NONE, WORD(1), WORD(2)}, {NONE, WORD(0), WORD(1), WORD(2)},
    {WORD(0), WORD(1), WORD(2), WORD(3)},
};

WM_INLINE uint32x4_t look_up(const uint32_t *table, uint32x4_t at) {
    uint32x4_t entry = vdupq_n_u32(table[vgetq_lane_u32(at, 0)]);
    entry = vld1q_lane_u32(table + vgetq_lane_u32(at, 1), entry, 1);
    entry = vld1q_lane_u32(table + vgetq_lane_u32(at, 2), entry, 2);
    return vld1q_lane_u32(table + vgetq_lane_u32(at, 3), entry, 3);
}

/* Take words for the lanes whose state is low. */
WM_INLINE uint32x4_t refill(uint32x4_t x, const uint8_t **words) {
    const uint32x4_t low = vcltq_u32(x, vdupq_n_u32(0x10000));
    const uint32x4_t bit = {1, 2, 4, 8};
    const uint32_t mask = vaddvq_u32(vandq_u32(low, bit));
    uint8_t next[16] = {0};
    memcpy(next, *words, 8);
    const uint8x16_t word = vqtbl1q_u8(vld1q_u8(next), vld1q_u8(spread[mask]));
    *words += 2 * (uint32_t)__builtin_popcount(mask);
    return vorrq_u32(vbslq_u32(low, vshlq_n_u32(x, 16), x), vreinterpretq_u32_u8(word));
}

WM_INLINE uint32x4_t step(uint32x4_t *state, const uint32_t *table, uint32x4_t offset, int bits,
                          const uint8_t **words) {
    const uint32x4_t x = *state, slot = vandq_u32(x, vdupq_n_u32((1U << bits) - 1));
    const uint32x4_t entry = look_up(table, vaddq_u32(offset, slot));
    const uint32x4_t freq = vaddq_u32(vandq_u32(vshrq_n_u32(entry, 8), vdupq_n_u32(0xfff)), vdupq_n_u32(1));
    const uint32x4_t high = vshlq_u32(x, vdupq_n_s32(-bits));
    *state = refill(vmlaq_u32(vshrq_n_u32(entry, 20), freq, high), words);
    return vandq_u32(entry, vdupq_n_u32(255));
}

WM_INLINE uint32x4_t offset_of(int32x4_t col, int32x4_t row, int32x4_t last) {
    return vreinterpretq_u32_s32(vminq_s32(vmaxq_s32(vaddq_s32(col, row), vdupq_n_s32(0)), last));
}

WM_INLINE uint32_t run_whole(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                             const uint8_t *limit, int bits) {
    const uint32_t *table = strip->slots->whole;
    const int32x4_t last = vdupq_n_s32((WM_CLASSES - 1) << bits);
    uint32x4_t x[8];
    int32x4_t col[8];
    const uint8_t *at = *words;
    uint32_t row = 0;
    for (int i = 0; i < 8; i++) {
        int32_t class[4];
        for (int l = 0; l < 4; l++) {
            class[l] = strip->col_class[4 * i + l] * (1 << bits);
        }
        col[i] = vld1q_s32(class);
        x[i] = vld1q_u32(state + 4 * i);
    }
    for (; row < strip->rows && at <= limit; row++) {
        uint16_t *out = strip->index + row * strip->stride;
        const int32x4_t of_row = vdupq_n_s32(strip->row_class[row] * (1 << bits));
        for (int i = 0; i < 8; i++) {
            vst1_u16(out + 4 * i, vmovn_u32(step(&x[i], table, offset_of(col[i], of_row, last), bits, &at)));
        }
    }
    for (int i = 0; i < 8; i++) {
        vst1q_u32(state + 4 * i, x[i]);
    }
    *words = at;
    return row;
}

static uint32_t whole_strip(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                            const uint8_t *limit) {
    return strip->slots->bits == 12 ? run_whole(strip, state, words, limit, 12)
                                    : run_whole(strip, state, words, limit, 11);
}

#define NO_ATTRIBUTE
WM_PIECES(neon, NO_ATTRIBUTE)
WM_MEASURES(neon, NO_ATTRIBUTE)

const struct wm_path wm_path_neon = {
    .name = "neon",
    .strip = wm_strip_c,
    .whole_strip = whole_strip,
    .piece = WM_PIECE_TABLE(neon),
    .encode = wm_encode_c,
    .squares = WM_SQUARES_TABLE(neon),
    .levels = WM_LEVELS_TABLE(neon),
};

#endif
