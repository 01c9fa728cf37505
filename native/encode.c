/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols to the states and words of chunks (spec/pack.md, 3), last symbol first. */
#include <stdlib.h>

#include "parts.h"

/* A divisor as a factor and a shift: floor(x / f) = (x + add) * factor >> shift for 0 <= x < f << (32 - bits).
 * Rounding the factor up errs by x * (factor * f - 2^shift) at most, rounding it down (with add = 1) by
 * (x + 1) * (2^shift - factor * f); either is harmless up to 2^shift (R. Alverson; H. S. Warren, Hacker's Delight, 10). */
static void divisor(struct wm_share *share, uint64_t f, uint32_t bits) {
    const uint64_t end = f << (32 - bits);
    for (uint32_t shift = 32;; shift++) {
        const uint64_t one = UINT64_C(1) << shift, down = one / f, up = (one + f - 1) / f;
        const int up_fits = up <= UINT32_MAX && (up * f - one) * end <= one;
        if (up_fits || (down <= UINT32_MAX && (one - down * f) * end <= one)) {
            share->factor = (uint32_t)(up_fits ? up : down);
            share->shift = (uint8_t)(shift - 32);
            share->add = (uint8_t)!up_fits;
            return;
        }
        if (f == 1) { /* 2^32 does not fit: (x + 1) * (2^32 - 1) >> 32 is x */
            share->factor = UINT32_MAX;
            share->shift = 0;
            share->add = 1;
            return;
        }
    }
}

static void fill(struct wm_share *share, const struct wm_table *table, int32_t lowest, uint32_t bits) {
    uint32_t cum = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        struct wm_share *s = &share[(uint32_t)(table->lowest - lowest) + i];
        const uint32_t f = table->frequency[i];
        s->freq = (uint16_t)f;
        s->freq_less = (uint16_t)((1U << bits) - f);
        s->cum = (uint16_t)cum;
        cum += f;
        if (f != 0) {
            s->none = 0;
            divisor(s, f, bits);
        }
    }
}

enum wm_status wm_encoder_new(const struct wm_layout *layout, struct wm_encoder **out) {
    if (!wm_layout_fits(layout)) {
        return WM_BAD_CALL;
    }
    struct wm_encoder *encoder = calloc(1, sizeof *encoder);
    *out = encoder;
    if (encoder == NULL) {
        return WM_NO_MEMORY;
    }
    encoder->bits = layout->table_bits;
    encoder->cols = layout->cols;
    encoder->lowest = layout->codec == WM_LEVELS ? -255 : 0;
    encoder->share = calloc(WM_CLASSES << 9, sizeof *encoder->share);
    encoder->col_class = malloc(layout->cols);
    if (encoder->share == NULL || encoder->col_class == NULL) {
        wm_encoder_free(encoder);
        *out = NULL;
        return WM_NO_MEMORY;
    }
    memcpy(encoder->col_class, layout->col_class, layout->cols);
    for (int i = 0; i < WM_CLASSES << 9; i++) {
        encoder->share[i].none = UINT32_MAX;
    }
    for (int i = 0; i < WM_CLASSES; i++) {
        fill(encoder->share + ((size_t)i << 9), &layout->table[i], encoder->lowest, encoder->bits);
    }
    return WM_OK;
}

void wm_encoder_free(struct wm_encoder *encoder) {
    if (encoder != NULL) {
        free(encoder->share);
        free(encoder->col_class);
        free(encoder);
    }
}

enum wm_status wm_encode(const struct wm_path *path, const struct wm_encoder *encoder, const int16_t *symbols,
                         const int8_t *row_class, uint64_t rows, uint8_t *out, uint32_t *words) {
    const uint64_t cols = encoder->cols;
    if (rows < 1 || rows > UINT64_C(1) << 24 || rows * cols > 1U << 24) {
        return WM_BAD_CALL;
    }
    uint32_t state[WM_LANES], missing = 0;
    uint8_t *const end = out + WM_STATES + 2 * rows * cols, *at = end;
    for (int l = 0; l < WM_LANES; l++) {
        state[l] = 0x10000;
    }
    for (uint64_t strip = (cols + WM_LANES - 1) / WM_LANES; strip-- > 0;) {
        const uint64_t first = strip * WM_LANES, left = cols - first;
        const struct wm_source source = {
            .encoder = encoder,
            .symbols = symbols + first,
            .row_class = row_class,
            .col_class = encoder->col_class + first,
            .rows = rows,
            .width = left < WM_LANES ? (uint32_t)left : WM_LANES,
        };
        at = (left < WM_LANES ? wm_encode_c : path->encode)(&source, state, at, &missing);
    }
    if (missing) {
        return WM_NO_FREQUENCY;
    }
    memcpy(out, state, sizeof state);
    memmove(out + WM_STATES, at, (size_t)(end - at));
    *words = (uint32_t)((end - at) / 2);
    return WM_OK;
}
