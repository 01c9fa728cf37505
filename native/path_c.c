/* SPDX-License-Identifier: Apache-2.0 */
/* The path of plain C: one lane after the other, without a branch that depends on the data. */
#include "measure.h"
#include "rebuild.h"

/* Tables of the lanes of a row. */
WM_INLINE void classes(const struct wm_class **class, const struct wm_strip *strip, int row_class) {
    for (uint32_t l = 0; l < strip->width; l++) {
        class[l] = strip->slots->class[wm_class(row_class, strip->col_class[l])];
    }
}

/* Words are at base + 2 * place. By masks where a state is low, as no branch could be foretold. */
WM_INLINE uint32_t lane(const struct wm_class *class, uint32_t state, uint32_t bits, int narrow, uint16_t *index,
                        const uint8_t *base, uint32_t *place) {
    const uint32_t slot = state & ((1U << bits) - 1);
    const uint32_t i = narrow ? class->index[slot] : wm_word(class->index + 2 * (size_t)slot);
    *index = (uint16_t)i;
    const uint32_t x = class->share[i][0] * (state >> bits) + slot - class->share[i][1];
    const uint32_t low = 0U - (uint32_t)(x < 0x10000), word = wm_word(base + 2 * (size_t)*place);
    *place -= low;
    return x << (low & 16) | (word & low);
}

WM_INLINE uint32_t run(const struct wm_strip *strip, uint32_t *states, const uint8_t **words, const uint8_t *limit,
                       uint32_t width, uint32_t bits, int narrow) {
    enum { KEPT = 8 }; /* row classes whose tables of lanes are at hand */
    const struct wm_class *class[KEPT][WM_LANES];
    int kept[KEPT] = {0};
    uint32_t row = 0, state[WM_LANES];
    const uint8_t *at = *words;
    memcpy(state, states, sizeof state);
    for (; row < strip->rows && at <= limit; row++) {
        uint16_t *out = strip->index + row * strip->stride;
        const int row_class = strip->row_class[row], slot = row_class & (KEPT - 1);
        if (kept[slot] != row_class + 256) {
            kept[slot] = row_class + 256;
            classes(class[slot], strip, row_class);
        }
        const struct wm_class *const *of = class[slot];
        uint32_t place = 0;
        for (uint32_t l = 0; l < width; l++) {
            state[l] = lane(of[l], state[l], bits, narrow, &out[l], at, &place);
        }
        at += 2 * place;
    }
    memcpy(states, state, sizeof state);
    *words = at;
    return row;
}

uint32_t wm_strip_c(const struct wm_strip *strip, uint32_t *state, const uint8_t **words, const uint8_t *limit) {
    const uint32_t bits = strip->slots->bits;
    const int narrow = strip->slots->narrow;
    if (strip->width != WM_LANES) {
        return run(strip, state, words, limit, strip->width, bits, narrow);
    }
    if (narrow && bits == 12) {
        return run(strip, state, words, limit, WM_LANES, 12, 1);
    }
    return run(strip, state, words, limit, WM_LANES, bits, narrow);
}

#define NO_ATTRIBUTE
WM_PIECES(c, NO_ATTRIBUTE)
WM_MEASURES(c, NO_ATTRIBUTE)

const struct wm_path wm_path_c = {
    .name = "c",
    .strip = wm_strip_c,
    .piece = WM_PIECE_TABLE(c),
    .row = wm_row_c,
    .squares = WM_SQUARES_TABLE(c),
    .levels = WM_LEVELS_TABLE(c),
    .crc = wm_crc_slicing,
};
