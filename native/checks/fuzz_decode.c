/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: chunks that are made of the input, or encoded from it and then damaged, go through every path that
 * this CPU has. All must end with the same status and, where all is well, with the same bytes; what was encoded and not
 * damaged must come back. Buffers have their exact sizes, so that a sanitizer sees the first byte beyond.
 * `make native-fuzz`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../codec.h"

struct input {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct input *in) {
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static uint32_t noise(uint32_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "fuzz_decode: %s\n", what);
        abort();
    }
}

static void *room(size_t size) {
    void *memory = malloc(size == 0 ? 1 : size);
    require(memory != NULL, "no memory");
    return memory;
}

enum { MOST_ROWS = 40, MOST_COLS = 100, MOST = MOST_ROWS * MOST_COLS };

struct scene {
    struct wm_layout layout;
    uint16_t frequency[WM_CLASSES][WM_MAX_SYMBOLS], row_scale[MOST_ROWS], col_scale[MOST_COLS];
    int8_t row_class[MOST_ROWS], col_class[MOST_COLS];
    int16_t symbol[MOST];
    uint32_t seed;
};

static void make_table(struct scene *s, int i, uint32_t kind) {
    const uint32_t total = 1U << s->layout.table_bits, limit = s->layout.codec == WM_LEVELS ? 511 : 256;
    const uint32_t count = 1 + (kind < 112 ? 0 : kind < 224 ? kind % 64 : noise(&s->seed) % limit);
    const int32_t least = s->layout.codec == WM_LEVELS ? -255 : 0, place = (int32_t)(noise(&s->seed) % (limit - count + 1));
    struct wm_table *table = &s->layout.table[i];
    uint32_t sum = 0;
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t share = noise(&s->seed) % (2 * total / count + 1), fits = total - sum - (count - k);
        s->frequency[i][k] = (uint16_t)(noise(&s->seed) % 7 == 0 ? 0 : share < fits ? share : fits);
        sum += s->frequency[i][k];
    }
    s->frequency[i][noise(&s->seed) % count] += (uint16_t)(total - sum);
    *table = (struct wm_table){.lowest = least + place, .count = count, .frequency = s->frequency[i]};
}

static void make_scene(struct scene *s, struct input *in) {
    const uint32_t what = take(in), size = take(in), more = take(in);
    struct wm_layout *layout = &s->layout;
    layout->codec = what & 1 ? WM_PLANES : WM_LEVELS;
    layout->dtype = 1 + (what >> 1) % (layout->codec == WM_PLANES ? 5 : 3);
    layout->table_bits = 11 + (what >> 4) % 4;
    layout->variant = layout->codec == WM_PLANES && layout->dtype == WM_FLOAT32 && (what >> 6) % 2;
    layout->rows = 1 + size % MOST_ROWS;
    layout->cols = 1 + more % MOST_COLS;
    s->seed = 1 + take(in) + (take(in) << 8);
    for (int i = 0; i < WM_CLASSES; i++) {
        const uint32_t kind = take(in);
        layout->table[i] = (struct wm_table){.count = 0};
        if (kind >= 96) {
            make_table(s, i, kind);
        }
    }
    const int spread = (int)(take(in) % 9);
    for (uint64_t i = 0; i < layout->rows; i++) {
        s->row_class[i] = (int8_t)(spread == 8 ? noise(&s->seed) : noise(&s->seed) % 4);
        s->row_scale[i] = (uint16_t)(0x3f80 + noise(&s->seed) % 64);
    }
    for (uint64_t i = 0; i < layout->cols; i++) {
        s->col_class[i] = (int8_t)((int)(noise(&s->seed) % (uint32_t)(spread + 1)) - 1);
        s->col_scale[i] = (uint16_t)(0x3f80 - noise(&s->seed) % 900);
    }
    layout->row_scale = s->row_scale;
    layout->col_scale = s->col_scale;
    layout->row_class = s->row_class;
    layout->col_class = s->col_class;
}

static int class_of(const struct scene *s, uint64_t row, uint64_t col) {
    const int sum = s->row_class[row] + s->col_class[col];
    return sum < 0 ? 0 : sum > 7 ? 7 : sum;
}

/* Symbols that their tables have; returns 0 where a class has no table. */
static int make_symbols(struct scene *s) {
    const struct wm_layout *layout = &s->layout;
    for (uint64_t i = 0; i < layout->rows * layout->cols; i++) {
        const struct wm_table *table = &layout->table[class_of(s, i / layout->cols, i % layout->cols)];
        if (table->count == 0) {
            return 0;
        }
        uint32_t slot = noise(&s->seed) % (1U << layout->table_bits), k = 0;
        while (slot >= table->frequency[k]) {
            slot -= table->frequency[k++];
        }
        s->symbol[i] = (int16_t)(table->lowest + (int32_t)k);
    }
    return 1;
}

/* Encode by every path, which must agree; returns the number of words, the body without its end in *out. */
static uint32_t encode(const struct scene *s, uint8_t **out) {
    const struct wm_layout *layout = &s->layout;
    const size_t size = WM_STATES + 2 * (size_t)(layout->rows * layout->cols);
    struct wm_encoder *encoder = NULL;
    uint32_t words = 0;
    *out = NULL;
    require(wm_encoder_new(layout, &encoder) == WM_OK, "no encoder");
    for (const struct wm_path *const *path = wm_paths(); *path != NULL; path++) {
        uint8_t *body = room(size);
        uint32_t now = 0;
        require(wm_encode(*path, encoder, s->symbol, s->row_class, layout->rows, body, &now) == WM_OK, "encoding fails");
        if (*out == NULL) {
            *out = body;
            words = now;
            continue;
        }
        require(words == now && memcmp(*out, body, WM_STATES + 2 * (size_t)words) == 0, "encoders differ");
        free(body);
    }
    wm_encoder_free(encoder);
    return words;
}

/* Decode by every path; returns the status, and in *first what the first path gave. */
static enum wm_status decode(const struct scene *s, const uint8_t *blob, size_t size, struct wm_chunk chunk,
                             uint8_t **first) {
    const size_t out_size = (size_t)(s->layout.rows * s->layout.cols) * wm_itemsize(s->layout.dtype);
    enum wm_status status = WM_OK;
    *first = NULL;
    for (const struct wm_path *const *path = wm_paths(); *path != NULL; path++) {
        uint8_t *out = room(out_size);
        size_t where = 1;
        const enum wm_status now = wm_decode(*path, &s->layout, blob, size, &chunk, 1, out, out_size, &where);
        require(where == 0, "another chunk is blamed");
        if (*first == NULL) {
            *first = out;
            status = now;
            continue;
        }
        require(status == now, "paths end differently");
        require(status != WM_OK || memcmp(*first, out, out_size) == 0, "paths differ");
        free(out);
    }
    return status;
}

static float scale(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Whether an element is what its symbol says: of planes the symbol alone, of levels the number. */
static int holds(const struct scene *s, size_t i, const uint8_t *element) {
    const struct wm_layout *layout = &s->layout;
    uint32_t bits = 0;
    memcpy(&bits, element, wm_itemsize(layout->dtype));
    if (layout->codec == WM_PLANES) {
        const uint32_t shift[] = {0, 7, 8, 23, 0, 0};
        return (bits >> shift[layout->dtype] & 255) == (uint32_t)s->symbol[i];
    }
    const float exact = scale(s->row_scale[i / layout->cols]) * scale(s->col_scale[i % layout->cols]) * s->symbol[i];
    if (layout->dtype == WM_FLOAT16) {
        return (bits >> 15 == 1) == (s->symbol[i] < 0);
    }
    const float found = layout->dtype == WM_BFLOAT16 ? scale((uint16_t)bits) : 0;
    float same;
    memcpy(&same, &bits, sizeof same);
    return layout->dtype == WM_FLOAT32 ? same == exact : (found - exact) * (found - exact) <= exact * exact / 65536;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    wm_setup();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct scene s;
    struct input in = {data, size};
    const uint32_t mode = take(&in);
    make_scene(&s, &in);
    const size_t elements = (size_t)(s.layout.rows * s.layout.cols), item = wm_itemsize(s.layout.dtype);
    const size_t planes = wm_raw_planes(&s.layout) * elements;
    struct wm_chunk chunk = {.rows = (uint32_t)s.layout.rows};
    uint8_t *body = NULL, *blob;
    const int valid = mode & 1 && make_symbols(&s);
    if (valid) {
        chunk.words = encode(&s, &body);
    } else {
        chunk.words = (take(&in) | take(&in) << 8) % 1024;
    }
    chunk.patches = s.layout.codec == WM_LEVELS ? (mode >> 1) % 4 : 0;
    chunk.patches = chunk.patches > elements ? 0 : chunk.patches;
    const size_t coded = WM_STATES + 2 * (size_t)chunk.words, blob_size = coded + planes + chunk.patches * (4 + item);
    blob = room(blob_size);
    for (size_t i = 0; i < blob_size; i++) {
        blob[i] = valid && i < coded ? body[i] : (uint8_t)take(&in);
    }
    for (uint32_t i = 0; valid && i < chunk.patches; i++) {
        const uint32_t place = i * (uint32_t)(elements / chunk.patches);
        memcpy(blob + coded + 4 * (size_t)i, &place, sizeof place);
    }
    int damaged = 0;
    if (mode & 8 && valid && chunk.words > 0) {
        const uint32_t gone = take(&in) % chunk.words;
        memmove(blob + coded - 2 * (size_t)gone, blob + coded, blob_size - coded);
        chunk.words -= gone;
        damaged = gone != 0;
    }
    const size_t kept = WM_STATES + 2 * (size_t)chunk.words + planes + chunk.patches * (4 + item);
    blob = realloc(blob, kept);
    require(blob != NULL, "no memory");
    while (valid && in.left >= 3 && mode & 16) {
        const size_t at = (take(&in) | take(&in) << 8) % kept;
        const uint32_t bits = take(&in);
        blob[at] ^= (uint8_t)bits;
        damaged |= bits != 0;
    }
    chunk.crc = wm_crc32(blob, kept, 1);
    require(chunk.crc == wm_crc32(blob, kept, 0), "CRC-32 differ");
    uint8_t *out;
    const enum wm_status status = decode(&s, blob, kept, chunk, &out);
    require(!valid || damaged || status == WM_OK, "what was encoded is refused");
    for (size_t i = 0; valid && !damaged && chunk.patches == 0 && i < elements; i++) {
        require(holds(&s, i, out + i * item), "another element comes back");
    }
    free(out);
    if (mode & 32) {
        chunk.crc ^= 1;
        require(decode(&s, blob, kept, chunk, &out) == WM_CRC, "a wrong CRC-32 is not seen");
        free(out);
    }
    free(body);
    free(blob);
    return 0;
}
