/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of packs (spec/pack.md, 2 to 4): decoder, encoder, and what an encoder measures on a tensor.
 *
 * Every function works within the sizes that it is given, whatever the bytes are. Nothing here depends on modes of the
 * floating-point unit: products of levels and scales are exact and normal, and every rounding is written in integers or
 * names its mode. */
#ifndef WM_CODEC_H
#define WM_CODEC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines; elsewhere the NumPy codec is used"
#endif

enum { WM_LANES = 32, WM_CLASSES = 8, WM_STATES = 4 * WM_LANES, WM_MAX_SYMBOLS = 511 };
enum { WM_LEVELS = 1, WM_PLANES = 2 };
enum { WM_BFLOAT16 = 1, WM_FLOAT16 = 2, WM_FLOAT32 = 3, WM_FLOAT8_E4M3 = 4, WM_FLOAT8_E5M2 = 5 };

/* What a call ends with: all is well; what is wrong with a chunk; what is wrong with the call. */
enum wm_status {
    WM_OK = 0,
    WM_CRC = 1,      /* CRC-32 of the body differs */
    WM_NO_TABLE = 2, /* an element is in a class without a table */
    WM_SMALL = 3,    /* a state starts below 2^16 */
    WM_BEYOND = 4,   /* a word beyond the last is asked for */
    WM_END = 5,      /* words are left, or a state does not end at 2^16 */
    WM_PATCH = 6,    /* positions of patches do not ascend, or lie outside the chunk */
    WM_NO_FREQUENCY = 7, /* encoding: a symbol has no frequency in the table of its class */
    WM_NO_MEMORY = 8,
    WM_BAD_CALL = 9 /* sizes or tables given do not fit together: a fault of the caller, not of the blob */
};

/* Frequencies of `count` symbols from `lowest` on; count 0: the class has none. They sum to 2^B. */
struct wm_table {
    int32_t lowest;
    uint32_t count;
    const uint16_t *frequency;
};

/* Header, tables, and scales and classes of the rows at hand and of all columns. */
struct wm_layout {
    uint32_t codec, dtype, table_bits, variant;
    uint64_t rows, cols;
    struct wm_table table[WM_CLASSES];
    const uint16_t *row_scale, *col_scale; /* bits of bfloat16; codec 1 only */
    const int8_t *row_class, *col_class;
};

/* Where a chunk lies: its body from `begin` of the blob on. */
struct wm_chunk {
    uint64_t begin;
    uint32_t rows, words, patches, crc;
};

struct wm_path; /* one way to do it: "c", "avx2", "avx512", "neon" */

/* Paths that this CPU has, the fastest first; ended by NULL. Call wm_setup first, once. */
void wm_setup(void);
const struct wm_path *const *wm_paths(void);
const char *wm_path_name(const struct wm_path *path);

size_t wm_itemsize(uint32_t dtype);
uint32_t wm_raw_planes(const struct wm_layout *layout);
int wm_layout_fits(const struct wm_layout *layout);

/* Rebuild consecutive chunks, layout->rows rows in all, into out. *where is the chunk that a status is about. */
enum wm_status wm_decode(const struct wm_path *path, const struct wm_layout *layout, const uint8_t *blob,
                         size_t blob_size, const struct wm_chunk *chunks, size_t chunk_count, uint8_t *out,
                         size_t out_size, size_t *where);

/* Encoder of chunks: prepared tables, then any number of chunks. */
struct wm_encoder;
enum wm_status wm_encoder_new(const struct wm_layout *layout, struct wm_encoder **encoder);
void wm_encoder_free(struct wm_encoder *encoder);
/* Encode `rows` rows of symbols. out has room for WM_STATES + 2 * rows * cols bytes; the result lies at its start. */
enum wm_status wm_encode(const struct wm_path *path, const struct wm_encoder *encoder, const int16_t *symbols,
                         const int8_t *row_class, uint64_t rows, uint8_t *out, uint32_t *words);

/* CRC-32 of zlib; `plain`: without special instructions. */
uint32_t wm_crc32(const uint8_t *data, size_t size, int plain);

/* Sums of squares of rows and columns, what is not finite counted as 0; returns whether all are finite. */
int wm_energies(const struct wm_path *path, uint32_t dtype, const uint8_t *data, uint64_t rows, uint64_t cols,
                double *row, double *col);
/* Levels: w / (R * C) divided in binary32, to the nearest integer, ties to even, at most +-255. NaN gives 0. */
enum wm_status wm_quantize(const struct wm_path *path, uint32_t dtype, const uint8_t *data, uint64_t rows,
                           uint64_t cols, const uint16_t *row_scale, const uint16_t *col_scale, int16_t *levels);
/* Occurrences by class and level, [8][511]. Returns 0 where a level is beyond +-255. */
int wm_histogram(const int16_t *levels, uint64_t rows, uint64_t cols, const int8_t *row_class, const int8_t *col_class,
                 int64_t *counts);

#endif
