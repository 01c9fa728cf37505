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

enum { COLUMNS = 1024 }; /* whose places are worked out before they are counted */

/* Places of the counters of a part of a row; other than 0 where a level is beyond +-255. */
static uint32_t places(const int16_t *level, size_t count, int8_t row_class, const int8_t *col_class, uint16_t *place) {
    uint16_t beyond = 0;
    for (size_t c = 0; c < count; c++) {
        int16_t class = (int16_t)(row_class + col_class[c]);
        class = class < 0 ? 0 : class;
        class = class > WM_CLASSES - 1 ? WM_CLASSES - 1 : class;
        const uint16_t at = (uint16_t)(level[c] + 255);
        beyond |= (uint16_t)(at > 510);
        place[c] = (uint16_t)((at & 511) + class * 512);
    }
    return beyond;
}

int wm_histogram(const int16_t *levels, uint64_t rows, uint64_t cols, const int8_t *row_class, const int8_t *col_class,
                 int64_t *counts) {
    /* Two sets of counters, so that equal neighbours do not wait for each other; emptied before they could overflow. */
    uint32_t part[2][WM_CLASSES << 9] = {{0}}, beyond = 0;
    uint64_t counted = 0;
    uint16_t place[COLUMNS];
    memset(counts, 0, WM_CLASSES * WM_MAX_SYMBOLS * sizeof *counts);
    for (uint64_t row = 0, col = 0; row < rows;) {
        const size_t count = cols - col < COLUMNS ? (size_t)(cols - col) : COLUMNS;
        beyond |= places(levels + row * cols + col, count, row_class[row], col_class + col, place);
        for (size_t c = 0; c < count; c++) {
            part[c & 1][place[c]]++;
        }
        col = col + count == cols ? 0 : col + count;
        row += col == 0;
        counted += count;
        for (uint32_t i = 0; (row == rows || counted > UINT64_C(1) << 31) && i < WM_CLASSES * WM_MAX_SYMBOLS; i++) {
            const uint32_t from = i / WM_MAX_SYMBOLS << 9 | i % WM_MAX_SYMBOLS;
            counts[i] += (int64_t)part[0][from] + part[1][from];
            part[0][from] = part[1][from] = 0;
        }
        counted = counted > UINT64_C(1) << 31 ? 0 : counted;
    }
    return beyond == 0;
}
