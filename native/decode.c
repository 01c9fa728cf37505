/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks to bytes (spec/pack.md, 2 to 4): what every path shares. Order of the checks as in the NumPy codec, so that both
 * name the same fault where a blob has several. */
#include <stdlib.h>

#include "parts.h"

enum { TILE = 4096 }; /* symbols decoded before they are rebuilt: half of the first cache at most */

struct tables {
    struct wm_slots slots;
    void *memory;
};

struct job {
    const struct wm_path *path;
    const struct wm_layout *layout;
    const struct tables *tables;
    wm_piece_fn *piece;
    const float *col;
    int flat; /* all levels are 0: scales do not matter, and their product may not be finite */
    size_t itemsize;
};

size_t wm_itemsize(uint32_t dtype) {
    static const uint8_t size[] = {0, 2, 2, 4, 1, 1};
    return dtype < sizeof size ? size[dtype] : 0;
}

uint32_t wm_raw_planes(const struct wm_layout *layout) {
    if (layout->codec == WM_LEVELS) {
        return 0;
    }
    return layout->variant == 1 ? 1 : (uint32_t)wm_itemsize(layout->dtype) - 1;
}

static int table_fits(const struct wm_table *table, uint32_t codec, uint32_t bits) {
    const int32_t least = codec == WM_LEVELS ? -255 : 0;
    uint32_t sum = 0;
    if (table->count == 0) {
        return 1;
    }
    if (table->count > (codec == WM_LEVELS ? 511U : 256U) || table->lowest < least ||
        table->lowest + (int32_t)table->count - 1 > 255) {
        return 0;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        sum += table->frequency[i];
    }
    return sum == 1U << bits;
}

int wm_layout_fits(const struct wm_layout *layout) {
    const int levels = layout->codec == WM_LEVELS;
    if ((!levels && layout->codec != WM_PLANES) || wm_itemsize(layout->dtype) == 0 ||
        (levels && layout->dtype > WM_FLOAT32) || layout->table_bits < 11 || layout->table_bits > 14 ||
        layout->variant > (layout->codec == WM_PLANES && layout->dtype == WM_FLOAT32) || layout->cols < 1 ||
        layout->cols > 1U << 24) {
        return 0;
    }
    for (int i = 0; i < WM_CLASSES; i++) {
        if (!table_fits(&layout->table[i], layout->codec, layout->table_bits)) {
            return 0;
        }
    }
    return 1;
}

static enum wm_kind kind_of(const struct wm_layout *layout) {
    if (layout->codec == WM_LEVELS) {
        return layout->dtype == WM_BFLOAT16 ? WM_LEVELS_BF16
               : layout->dtype == WM_FLOAT16 ? WM_LEVELS_F16
                                             : WM_LEVELS_F32;
    }
    switch (layout->dtype) {
    case WM_BFLOAT16:
        return WM_PLANES_BF16;
    case WM_FLOAT16:
        return WM_PLANES_F16;
    case WM_FLOAT32:
        return layout->variant ? WM_PLANES_F32_HIGH : WM_PLANES_F32;
    default:
        return WM_PLANES_F8;
    }
}

/* Largest magnitude of the symbols, and the lowest and highest of them; 0 where there is no table at all. */
static int32_t reach(const struct wm_layout *layout, int32_t *lowest, int32_t *highest) {
    int any = 0;
    *lowest = *highest = 0;
    for (int i = 0; i < WM_CLASSES; i++) {
        const struct wm_table *table = &layout->table[i];
        if (table->count != 0) {
            const int32_t last = table->lowest + (int32_t)table->count - 1;
            *lowest = any && *lowest < table->lowest ? *lowest : table->lowest;
            *highest = any && *highest > last ? *highest : last;
            any = 1;
        }
    }
    return -*lowest > *highest ? -*lowest : *highest;
}

static void fill_class(struct wm_class *class, int narrow, const struct wm_table *table, int32_t lowest) {
    uint32_t cum = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const uint32_t frequency = table->frequency[i], index = (uint32_t)(table->lowest - lowest) + i;
        class->share[index][0] = (uint16_t)frequency;
        class->share[index][1] = (uint16_t)cum;
        if (narrow) {
            memset(class->index + cum, (int)index, frequency);
        }
        for (uint32_t slot = cum; !narrow && slot < cum + frequency; slot++) {
            const uint16_t word = (uint16_t)index;
            memcpy(class->index + 2 * (size_t)slot, &word, sizeof word);
        }
        cum += frequency;
    }
}

static void fill_whole(uint32_t *slot, const struct wm_table *table, int32_t lowest) {
    for (uint32_t i = 0; i < table->count; i++) {
        const uint32_t frequency = table->frequency[i], index = (uint32_t)(table->lowest - lowest) + i;
        for (uint32_t rest = 0; rest < frequency; rest++) {
            *slot++ = index | (frequency - 1) << 8 | rest << 20;
        }
    }
}

static enum wm_status tables_new(const struct wm_layout *layout, const struct wm_path *path, struct tables *tables) {
    int32_t lowest, highest;
    reach(layout, &lowest, &highest);
    lowest = layout->codec == WM_PLANES ? 0 : lowest; /* indices are the bytes themselves */
    const uint32_t bits = layout->table_bits;
    const int narrow = highest - lowest <= 255, whole = narrow && bits <= 12 && path->whole_strip != NULL;
    /* Classes a line apart from a power of two: their shares do not compete for the same lines of the cache. */
    const size_t size = sizeof(struct wm_class) + ((size_t)1 << bits << !narrow) + 64;
    uint8_t *memory = calloc(1, WM_CLASSES * size + (whole ? (size_t)4 * WM_CLASSES << bits : 0));
    if (memory == NULL) {
        return WM_NO_MEMORY;
    }
    tables->memory = memory;
    tables->slots = (struct wm_slots){.bits = bits, .lowest = lowest, .narrow = narrow};
    for (size_t i = 0; i < WM_CLASSES; i++) {
        struct wm_class *class = (struct wm_class *)(void *)(memory + i * size);
        fill_class(class, narrow, &layout->table[i], lowest);
        tables->slots.class[i] = class;
    }
    if (whole) {
        uint32_t *slot = (uint32_t *)(void *)(memory + WM_CLASSES * size);
        for (size_t i = 0; i < WM_CLASSES; i++) {
            fill_whole(slot + (i << bits), &layout->table[i], lowest);
        }
        tables->slots.whole = slot;
    }
    return WM_OK;
}

/* Whether an element of these rows is in a class without a table. */
static int table_missing(const struct wm_layout *layout) {
    uint8_t row[256] = {0}, col[256] = {0};
    uint32_t missing = 0;
    for (uint32_t i = 0; i < WM_CLASSES; i++) {
        missing |= (uint32_t)(layout->table[i].count == 0) << i;
    }
    if (missing == 0) {
        return 0;
    }
    for (uint64_t i = 0; i < layout->rows; i++) {
        row[layout->row_class[i] + 128] = 1;
    }
    for (uint64_t i = 0; i < layout->cols; i++) {
        col[layout->col_class[i] + 128] = 1;
    }
    for (int r = 0; r < 256; r++) {
        for (int c = 0; row[r] && c < 256; c++) {
            if (col[c] && missing >> wm_class(r - 128, c - 128) & 1) {
                return 1;
            }
        }
    }
    return 0;
}

/* Words of a chunk. The last of them are moved to where reading ahead is harmless. */
struct words {
    const uint8_t *at, *limit, *end;
    int in_tail;
    uint8_t tail[2 * WM_AHEAD];
};

static void words_to_tail(struct words *words) {
    const size_t left = (size_t)(words->end - words->at); /* WM_AHEAD at most */
    memcpy(words->tail, words->at, left);
    memset(words->tail + left, 0, sizeof words->tail - left);
    words->at = words->tail;
    words->limit = words->end = words->tail + left;
    words->in_tail = 1;
}

static void words_begin(struct words *words, const uint8_t *at, size_t size) {
    words->at = at;
    words->end = at + size;
    words->in_tail = 0;
    if (size <= WM_AHEAD) {
        words_to_tail(words);
    } else {
        words->limit = words->end - WM_AHEAD;
    }
}

/* Decode `strip` wholly; a word beyond the last is a fault. */
static enum wm_status decode_strip(const struct job *job, struct wm_strip strip, uint32_t *state, struct words *words) {
    wm_strip_fn *run = strip.width != WM_LANES      ? wm_strip_c
                       : strip.slots->whole != NULL ? job->path->whole_strip
                                                    : job->path->strip;
    for (;;) {
        const uint32_t done = run(&strip, state, &words->at, words->limit);
        if (words->at > words->limit) {
            if (words->in_tail) {
                return WM_BEYOND;
            }
            words_to_tail(words);
        }
        if (done == strip.rows) {
            return WM_OK;
        }
        strip.rows -= done;
        strip.row_class += done;
        strip.index += done * strip.stride;
    }
}

/* A rectangle of a chunk: as many strips of as many rows as a tile holds. */
struct tile {
    uint64_t row, col;
    uint32_t rows, cols;
};

struct body {
    const uint8_t *raw; /* planes */
    uint64_t row, rows; /* first row in the layout; rows */
    uint8_t *out;
};

static void rebuild_tile(const struct job *job, const struct body *body, const struct tile *tile,
                         const uint16_t *index, size_t stride) {
    const struct wm_layout *layout = job->layout;
    for (uint32_t r = 0; r < tile->rows; r++) {
        const uint64_t row = tile->row + r, at = row * layout->cols + tile->col;
        const struct wm_piece piece = {
            .index = index + r * stride,
            .lowest = job->tables->slots.lowest,
            .count = tile->cols,
            .row = layout->codec != WM_LEVELS || job->flat ? 1.0F : wm_scale(layout->row_scale[body->row + row]),
            .col = job->col == NULL ? NULL : job->col + tile->col,
            .raw = body->raw + at,
            .plane = body->rows * layout->cols,
            .out = body->out + at * job->itemsize,
        };
        job->piece(&piece);
    }
}

static enum wm_status decode_tile(const struct job *job, const struct body *body, const struct tile *tile,
                                  uint32_t *state, struct words *words, uint64_t *strip_at) {
    uint16_t index[TILE];
    const size_t stride = (tile->cols + WM_LANES - 1U) / WM_LANES * WM_LANES;
    for (uint32_t c = 0; c < tile->cols; c += WM_LANES) {
        const uint32_t left = tile->cols - c;
        const struct wm_strip strip = {
            .slots = &job->tables->slots,
            .row_class = job->layout->row_class + body->row + tile->row,
            .col_class = job->layout->col_class + tile->col + c,
            .rows = tile->rows,
            .width = left < WM_LANES ? left : WM_LANES,
            .index = index + c,
            .stride = stride,
        };
        *strip_at = (tile->col + c) / WM_LANES;
        const enum wm_status status = decode_strip(job, strip, state, words);
        if (status != WM_OK) {
            return status;
        }
    }
    rebuild_tile(job, body, tile, index, stride);
    return WM_OK;
}

/* Decode the words of a chunk and rebuild its elements. *strip_at is where it was. */
static enum wm_status decode_body(const struct job *job, const struct body *body, const uint8_t *states, size_t size,
                                  uint64_t *strip_at) {
    uint32_t state[WM_LANES], rest = 0;
    struct words words;
    *strip_at = 0;
    memcpy(state, states, sizeof state);
    for (int l = 0; l < WM_LANES; l++) {
        if (state[l] < 0x10000) {
            return WM_SMALL;
        }
    }
    words_begin(&words, states + WM_STATES, size);
    const uint64_t cols = job->layout->cols;
    const uint32_t most = TILE / WM_LANES, tall = body->rows > most ? most : (uint32_t)body->rows;
    const uint32_t strips = tall == body->rows ? most / tall : 1;
    struct tile tile = {0, 0, 0, 0};
    for (tile.col = 0; tile.col < cols; tile.col += tile.cols) {
        const uint64_t left = cols - tile.col;
        tile.cols = left < strips * WM_LANES ? (uint32_t)left : strips * WM_LANES;
        for (tile.row = 0; tile.row < body->rows; tile.row += tile.rows) {
            tile.rows = body->rows - tile.row < tall ? (uint32_t)(body->rows - tile.row) : tall;
            const enum wm_status status = decode_tile(job, body, &tile, state, &words, strip_at);
            if (status != WM_OK) {
                return status;
            }
        }
    }
    for (int l = 0; l < WM_LANES; l++) {
        rest |= state[l] ^ 0x10000;
    }
    *strip_at = UINT64_MAX;
    return rest == 0 && words.in_tail && words.at == words.end ? WM_OK : WM_END;
}

static enum wm_status apply_patches(const uint8_t *at, uint32_t count, uint64_t elements, size_t itemsize,
                                    uint8_t *out) {
    uint32_t place = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t next;
        memcpy(&next, at + 4 * (size_t)i, sizeof next);
        if (next >= elements || (i > 0 && next <= place)) {
            return WM_PATCH;
        }
        place = next;
    }
    const uint8_t *value = at + 4 * (size_t)count;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&place, at + 4 * (size_t)i, sizeof place);
        if (place >= elements) {
            return WM_PATCH; /* the caller's memory was written to meanwhile */
        }
        memcpy(out + place * itemsize, value + i * itemsize, itemsize);
    }
    return WM_OK;
}

/* Faults come in the order of the NumPy codec: by group of equal height, then start, strip, end, then patches. */
struct fault {
    enum wm_status status;
    int late;
    uint64_t strip;
    size_t where;
};

static void keep_first(struct fault *first, const struct fault *now) {
    const int sooner = now->late < first->late || (now->late == first->late && now->strip < first->strip);
    if (now->status != WM_OK && (first->status == WM_OK || sooner)) {
        *first = *now;
    }
}

static struct fault decode_chunk(const struct job *job, const struct wm_chunk *chunk, const uint8_t *blob, uint64_t row,
                                 uint8_t *out, size_t where, int other_height) {
    const uint64_t elements = chunk->rows * job->layout->cols;
    const uint8_t *states = blob + chunk->begin, *raw = states + WM_STATES + 2 * (size_t)chunk->words;
    const struct body body = {.raw = raw, .row = row, .rows = chunk->rows, .out = out};
    struct fault fault = {.where = where, .late = other_height};
    fault.status = decode_body(job, &body, states, 2 * (size_t)chunk->words, &fault.strip);
    fault.strip += fault.status != WM_SMALL && fault.status != WM_END && fault.status != WM_OK;
    if (fault.status == WM_OK && chunk->patches != 0) {
        const uint8_t *at = raw + wm_raw_planes(job->layout) * elements;
        fault.status = apply_patches(at, chunk->patches, elements, job->itemsize, out);
        fault.late = 2;
        fault.strip = 0;
    }
    return fault;
}

static enum wm_status decode_all(const struct job *job, const uint8_t *blob, const struct wm_chunk *chunks,
                                 size_t count, uint8_t *out, int no_table, size_t *where) {
    struct fault first = {.status = no_table ? WM_NO_TABLE : WM_OK, .late = -1};
    uint64_t row = 0;
    const size_t planes = wm_raw_planes(job->layout);
    for (size_t i = 0; i < count; i++) {
        const uint64_t elements = chunks[i].rows * job->layout->cols;
        const size_t size = WM_STATES + 2 * (size_t)chunks[i].words + planes * elements +
                            chunks[i].patches * (4 + job->itemsize);
        if (wm_crc(blob + chunks[i].begin, size) != chunks[i].crc) {
            *where = i;
            return WM_CRC; /* comes before all others */
        }
        if (!no_table) {
            const struct fault now =
                decode_chunk(job, &chunks[i], blob, row, out, i, chunks[i].rows != chunks[0].rows);
            keep_first(&first, &now);
        }
        row += chunks[i].rows;
        out += elements * job->itemsize;
    }
    *where = first.where;
    return first.status;
}

static int chunks_fit(const struct wm_layout *layout, size_t blob_size, const struct wm_chunk *chunks, size_t count,
                      size_t out_size) {
    const uint64_t item = wm_itemsize(layout->dtype), planes = wm_raw_planes(layout);
    uint64_t rows = 0;
    for (size_t i = 0; i < count; i++) {
        const struct wm_chunk *c = &chunks[i];
        const uint64_t elements = c->rows * layout->cols; /* below 2^56 */
        if (c->rows < 1 || elements > 1U << 24 || (layout->codec == WM_PLANES && c->patches != 0)) {
            return 0;
        }
        const uint64_t body = WM_STATES + 2 * (uint64_t)c->words + planes * elements + c->patches * (4 + item);
        if (body > blob_size || c->begin > blob_size - body) {
            return 0;
        }
        rows += c->rows;
    }
    return rows == layout->rows && rows < UINT64_C(1) << 36 && out_size == rows * layout->cols * item;
}

enum wm_status wm_decode(const struct wm_path *path, const struct wm_layout *layout, const uint8_t *blob,
                         size_t blob_size, const struct wm_chunk *chunks, size_t chunk_count, uint8_t *out,
                         size_t out_size, size_t *where) {
    *where = 0;
    if (!wm_layout_fits(layout) || !chunks_fit(layout, blob_size, chunks, chunk_count, out_size)) {
        return WM_BAD_CALL;
    }
    struct tables tables = {.memory = NULL};
    float *col = NULL;
    int32_t lowest, highest;
    const int flat = reach(layout, &lowest, &highest) == 0;
    enum wm_status status = tables_new(layout, path, &tables);
    if (status == WM_OK && layout->codec == WM_LEVELS) {
        col = malloc(layout->cols * sizeof *col);
        status = col == NULL ? WM_NO_MEMORY : WM_OK;
        for (uint64_t i = 0; col != NULL && i < layout->cols; i++) {
            col[i] = flat ? 1.0F : wm_scale(layout->col_scale[i]);
        }
    }
    if (status == WM_OK) {
        const struct job job = {
            .path = path,
            .layout = layout,
            .tables = &tables,
            .piece = path->piece[kind_of(layout)],
            .col = col,
            .flat = flat,
            .itemsize = wm_itemsize(layout->dtype),
        };
        status = decode_all(&job, blob, chunks, chunk_count, out, table_missing(layout), where);
    }
    free(col);
    free(tables.memory);
    return status;
}
