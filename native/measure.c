/* SPDX-License-Identifier: Apache-2.0 */
/* What an encoder measures on a tensor: sums of squares, levels, histograms. */
#include "measure.h"

#include <stdlib.h>

int wm_energies(const struct wm_path *path, uint32_t dtype, const uint8_t *data, uint64_t rows, uint64_t cols,
                double *row, double *col) {
    const size_t width = cols * wm_itemsize(dtype);
    uint32_t infinite = 0;
    memset(col, 0, cols * sizeof *col);
    for (uint64_t r = 0; r < rows; r++) {
        row[r] = path->squares[dtype - 1](data + r * width, cols, col, &infinite);
    }
    return infinite == 0;
}

static int normal(const uint16_t *scale, uint64_t count, float *least, float *most) {
    uint16_t low = UINT16_MAX, high = 0;
    for (uint64_t i = 0; i < count; i++) {
        low = scale[i] < low ? scale[i] : low;
        high = scale[i] > high ? scale[i] : high;
    }
    *least = wm_scale(low);
    *most = wm_scale(high);
    return low >= 0x0080 && high < 0x7f80;
}

enum wm_status wm_quantize(const struct wm_path *path, uint32_t dtype, const uint8_t *data, uint64_t rows,
                           uint64_t cols, const uint16_t *row_scale, const uint16_t *col_scale, int16_t *levels) {
    const size_t itemsize = wm_itemsize(dtype);
    float low_row, high_row, low_col, high_col, *col = malloc(cols * sizeof *col);
    if (col == NULL) {
        return WM_NO_MEMORY;
    }
    if (!normal(row_scale, rows, &low_row, &high_row) || !normal(col_scale, cols, &low_col, &high_col)) {
        free(col);
        return WM_BAD_CALL;
    }
    const double low = (double)low_row * (double)low_col, high = (double)high_row * (double)high_col;
    /* Below half of such a product a number rounds to 0, whether its own value is kept or flushed. */
    const int slow = low < 0x1p-124 || high >= 0x1p127;
    for (uint64_t c = 0; c < cols; c++) {
        col[c] = wm_scale(col_scale[c]);
    }
    for (uint64_t r = 0; r < rows; r++) {
        path->levels[dtype - 1](data + r * cols * itemsize, cols, wm_scale(row_scale[r]), col, slow, levels + r * cols);
    }
    free(col);
    return WM_OK;
}

int wm_histogram(const int16_t *levels, uint64_t rows, uint64_t cols, const int8_t *row_class, const int8_t *col_class,
                 int64_t *counts) {
    /* Two sets of counters, so that equal neighbours do not wait for each other. */
    uint32_t part[2][WM_CLASSES << 9];
    uint32_t beyond = 0;
    memset(counts, 0, WM_CLASSES * WM_MAX_SYMBOLS * sizeof *counts);
    for (uint64_t first = 0; first < rows && beyond == 0;) {
        const uint64_t most = 1 + (UINT64_C(1) << 30) / cols, last = rows - first < most ? rows : first + most;
        memset(part, 0, sizeof part);
        for (; first < last; first++) {
            const int16_t *row = levels + first * cols;
            for (uint64_t c = 0; c < cols; c++) {
                const uint32_t level = (uint32_t)(row[c] + 255), bad = level > 510;
                beyond |= bad;
                part[c & 1][(uint32_t)wm_class(row_class[first], col_class[c]) << 9 | (bad ? 511 : level)]++;
            }
        }
        for (uint32_t i = 0; i < WM_CLASSES * WM_MAX_SYMBOLS; i++) {
            const uint32_t at = i / WM_MAX_SYMBOLS << 9 | i % WM_MAX_SYMBOLS;
            counts[i] += (int64_t)part[0][at] + part[1][at];
        }
    }
    return beyond == 0;
}
