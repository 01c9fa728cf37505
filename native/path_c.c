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


#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll_count(16)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

WM_INLINE uint32_t run_whole(const struct wm_strip *strip, uint32_t *states, const uint8_t **words,
                             const uint8_t *limit, uint32_t bits) {
    const uint32_t *table = strip->slots->whole;
    uint32_t row = 0, x[WM_LANES], at[WM_LANES], entry[WM_LANES], low[WM_LANES], word[WM_LANES];
    int16_t col[WM_LANES];
    const uint8_t *place = *words;
    memcpy(x, states, sizeof x);
    for (uint32_t l = 0; l < WM_LANES; l++) {
        col[l] = strip->col_class[l];
    }
    for (; row < strip->rows && place <= limit; row++) {
        uint16_t *out = strip->index + row * strip->stride;
        const int16_t of_row = strip->row_class[row];
        for (uint32_t l = 0; l < WM_LANES; l++) {
            int16_t class = (int16_t)(col[l] + of_row);
            class = class < 0 ? 0 : class;
            class = class > WM_CLASSES - 1 ? WM_CLASSES - 1 : class;
            at[l] = ((uint32_t)class << bits) + (x[l] & ((1U << bits) - 1));
        }
        UNROLL
        for (uint32_t l = 0; l < WM_LANES; l++) {
            entry[l] = table[at[l]];
        }
        for (uint32_t l = 0; l < WM_LANES; l++) {
            const uint32_t y = ((entry[l] >> 8 & 0xfff) + 1) * (x[l] >> bits) + (entry[l] >> 20);
            low[l] = 0U - (uint32_t)(y >> 16 == 0);
            x[l] = (y << 16 & low[l]) | (y & ~low[l]);
            out[l] = (uint16_t)(entry[l] & 255);
        }
        uint32_t n = 0;
        UNROLL
        for (uint32_t l = 0; l < WM_LANES; l++) {
            word[l] = wm_word(place + 2 * (size_t)n) & low[l];
            n -= low[l];
        }
        for (uint32_t l = 0; l < WM_LANES; l++) {
            x[l] |= word[l];
        }
        place += 2 * n;
    }
    memcpy(states, x, sizeof x);
    *words = place;
    return row;
}

static uint32_t whole_strip(const struct wm_strip *strip, uint32_t *state, const uint8_t **words, const uint8_t *limit) {
    return strip->slots->bits == 12 ? run_whole(strip, state, words, limit, 12)
                                    : run_whole(strip, state, words, limit, 11);
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

/* Where a symbol is in a table of a class; the last place has no frequency. */
WM_INLINE uint32_t place_of(int16_t symbol, int32_t lowest) {
    const uint32_t place = (uint32_t)(symbol - lowest);
    return place < 511 ? place : 511;
}

/* Emit a word where the state would grow too far, and take the symbol in. */
WM_INLINE uint8_t *take_in(const struct wm_share *share, uint32_t bits, uint32_t *state, uint8_t *words) {
    uint32_t x = *state;
    const uint32_t full = x >> (32 - bits) >= share->freq;
    const uint16_t word = (uint16_t)x;
    memcpy(words - 2, &word, sizeof word); /* overwritten where it is not wanted */
    x >>= full << 4;
    const uint32_t quotient = (uint32_t)(((uint64_t)x + share->add) * share->factor >> 32) >> share->shift;
    *state = x + share->cum + quotient * share->freq_less;
    return words - 2 * (size_t)full;
}

WM_INLINE uint8_t *encode(const struct wm_source *source, uint32_t *states, uint8_t *words, uint32_t *missing,
                          uint32_t width) {
    const struct wm_encoder *encoder = source->encoder;
    const struct wm_share *table[WM_LANES];
    uint32_t state[WM_LANES], none = 0;
    int last = INT32_MIN;
    memcpy(state, states, sizeof state);
    for (uint64_t row = source->rows; row-- > 0;) {
        const int16_t *symbol = source->symbols + row * encoder->cols;
        for (uint32_t l = 0; source->row_class[row] != last && l < width; l++) {
            table[l] = encoder->share + (wm_class(source->row_class[row], source->col_class[l]) << 9);
        }
        last = source->row_class[row];
        for (uint32_t l = width; l-- > 0;) {
            const struct wm_share *share = table[l] + place_of(symbol[l], encoder->lowest);
            none |= share->none;
            words = take_in(share, encoder->bits, &state[l], words);
        }
    }
    memcpy(states, state, sizeof state);
    *missing |= none;
    return words;
}

uint8_t *wm_encode_c(const struct wm_source *source, uint32_t *state, uint8_t *words, uint32_t *missing) {
    return source->width == WM_LANES ? encode(source, state, words, missing, WM_LANES)
                                     : encode(source, state, words, missing, source->width);
}

#define NO_ATTRIBUTE
WM_PIECES(c, NO_ATTRIBUTE)
WM_MEASURES(c, NO_ATTRIBUTE)

const struct wm_path wm_path_c = {
    .name = "c",
    .strip = wm_strip_c,
    .whole_strip = whole_strip,
    .piece = WM_PIECE_TABLE(c),
    .encode = wm_encode_c,
    .squares = WM_SQUARES_TABLE(c),
    .levels = WM_LEVELS_TABLE(c),
};
