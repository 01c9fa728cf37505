/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the codec share; nothing here is for a caller. */
#ifndef WM_PARTS_H
#define WM_PARTS_H

#include <string.h>

#include "codec.h"

#define WM_INLINE static inline __attribute__((always_inline))

/* Bytes that may be read beyond the place where words are taken from: a row of words, and a vector. */
enum { WM_AHEAD = 128 };

/* Decoder table of a class: frequency and cumulative frequency by index of the symbol, and the index by slot: bytes where
 * all indices of the blob fit (`narrow`), else words of 16 bits. */
struct wm_class {
    uint16_t share[512][2];
    uint8_t index[]; /* [1 << B], or twice that; and three more that may be read */
};

struct wm_slots {
    uint32_t bits;
    int32_t lowest; /* symbol of index 0 */
    int narrow;
    const struct wm_class *class[WM_CLASSES];
    /* For the paths that gather: index | freq - 1 << 8 | slot - cum << 20, [CLASSES << B]; NULL where that is too narrow. */
    const uint32_t *whole;
};

/* A part of one strip: rows downwards, lanes of `width` columns. */
struct wm_strip {
    const struct wm_slots *slots;
    const int8_t *row_class; /* [rows] */
    const int8_t *col_class; /* [width] */
    uint32_t rows, width;
    uint16_t *index; /* out: [rows][stride], of which width are written */
    size_t stride;
};

/* Decode rows of a strip while no more than `limit` is reached; return how many. */
typedef uint32_t wm_strip_fn(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                             const uint8_t *limit);

/* A part of a row to be rebuilt. */
struct wm_piece {
    const uint16_t *index;
    int32_t lowest;
    size_t count;
    float row;           /* scales; codec 1 */
    const float *col;    /* [count] */
    const uint8_t *raw;  /* first raw plane; codec 2 */
    size_t plane;        /* bytes from one plane to the next */
    uint8_t *out;
};
typedef void wm_piece_fn(const struct wm_piece *piece);

enum wm_kind {
    WM_LEVELS_BF16, WM_LEVELS_F16, WM_LEVELS_F32, WM_PLANES_BF16, WM_PLANES_F16, WM_PLANES_F32, WM_PLANES_F32_HIGH,
    WM_PLANES_F8, WM_KINDS
};

/* Encoder's view of a symbol in a class: x / freq is (x + add) * factor >> 32 + shift for every state that occurs. */
struct wm_share {
    uint32_t factor;
    uint16_t freq_less; /* 2^B - freq */
    uint16_t cum;
    uint16_t freq; /* 0: none */
    uint8_t shift, add;
    uint32_t none; /* all bits where there is no frequency */
};

struct wm_encoder {
    uint32_t bits;
    int32_t lowest;
    uint64_t cols;
    int8_t *col_class;
    struct wm_share *share; /* [CLASSES][512] */
};

/* A strip of symbols: rows downwards, lanes of `width` columns. */
struct wm_source {
    const struct wm_encoder *encoder;
    const int16_t *symbols; /* [rows][encoder->cols], from the strip's first column on */
    const int8_t *row_class, *col_class;
    uint64_t rows;
    uint32_t width;
};

/* Encode a strip, its last row first: words go downwards from `words`; the new place is returned. Up to 32 bytes below it
 * may be overwritten. *missing becomes other than 0 where a symbol has no frequency. */
typedef uint8_t *wm_source_fn(const struct wm_source *source, uint32_t *state, uint8_t *words, uint32_t *missing);

/* Add the squares of one row to the sums of its columns, and return its own. *infinite becomes other than 0 where an element is not finite. */
typedef double wm_squares_fn(const uint8_t *data, uint64_t cols, double *col, uint32_t *infinite);
/* Levels of one row; slow: a number, or a product of scales, may be subnormal. */
typedef void wm_levels_fn(const uint8_t *data, uint64_t cols, float row, const float *col, int slow, int16_t *levels);

struct wm_path {
    const char *name;
    wm_strip_fn *strip;       /* full strips, by class tables */
    wm_strip_fn *whole_strip; /* full strips, by slots.whole; NULL where the path has no use for it */
    wm_piece_fn *piece[WM_KINDS];
    wm_source_fn *encode;     /* full strips */
    wm_squares_fn *squares[3]; /* by dtype - 1 */
    wm_levels_fn *levels[3];
};

extern const struct wm_path wm_path_c, wm_path_avx2, wm_path_avx512, wm_path_neon;
wm_strip_fn wm_whole_strip_avx512;
void wm_avx2_setup(void);

/* The fastest CRC-32 of this CPU. */
extern uint32_t (*wm_crc)(const uint8_t *data, size_t size);
uint32_t wm_crc_slicing(const uint8_t *data, size_t size);
uint32_t wm_crc_continue(uint32_t crc, const uint8_t *data, size_t size);
void wm_crc_setup(void);
uint32_t wm_crc_clmul(const uint8_t *data, size_t size);
void wm_crc_clmul_setup(void);

/* Any width, any words: what the vector paths use for the last strip. */
wm_strip_fn wm_strip_c;
wm_source_fn wm_encode_c;

WM_INLINE uint32_t wm_word(const uint8_t *at) {
    uint16_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

WM_INLINE float wm_scale(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

WM_INLINE int wm_class(int row, int col) {
    const int sum = row + col;
    return sum < 0 ? 0 : sum > WM_CLASSES - 1 ? WM_CLASSES - 1 : sum;
}

#endif
