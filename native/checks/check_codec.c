/* SPDX-License-Identifier: Apache-2.0 */
/* Known answers of the NumPy codec (golden.bin), and the inputs of the fuzz target with as many damaged forms of each as
 * the first argument says, through every path that this CPU has; in every mode for subnormal numbers.
 *
 *     check_codec 100 native/checks/golden.bin native/checks/corpus/... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../codec.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
static void flush_subnormals(int on) { _mm_setcsr((_mm_getcsr() & ~0x8040U) | (on ? 0x8040U : 0)); }
#elif defined(__aarch64__)
static void flush_subnormals(int on) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    mode = (mode & ~(UINT64_C(1) << 24)) | (uint64_t)(on != 0) << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}
#else
static void flush_subnormals(int on) { (void)on; }
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long checked;

static void require(int holds, const char *what, const char *path, int flushed) {
    checked++;
    if (!holds) {
        fprintf(stderr, "check_codec: %s: %s%s\n", path, what, flushed ? ", subnormals flushed" : "");
        exit(1);
    }
}

static uint8_t *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(name);
        exit(1);
    }
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size + 1);
    if (data == NULL || fread(data, 1, *size, file) != *size) {
        perror(name);
        exit(1);
    }
    fclose(file);
    return data;
}

/* A part of a golden file: its length in 8 bytes, itself, zeros up to the next multiple of 8. */
static void *part(const uint8_t **at, uint64_t *size) {
    memcpy(size, *at, 8);
    void *copy = malloc(*size + 1);
    if (copy == NULL) {
        exit(1);
    }
    memcpy(copy, *at + 8, *size);
    *at += 8 + (*size + 7) / 8 * 8;
    return copy;
}

enum { HEAD, TABLES, SHARES, ROW_SCALE, COL_SCALE, ROW_CLASS, COL_CLASS, CHUNKS, BLOB, SYMBOLS, OUT, DATA, LEVELS, PARTS };

struct golden {
    void *part[PARTS];
    uint64_t size[PARTS];
};

static void check_decoder(const struct wm_path *path, const struct wm_layout *layout, const struct golden *g, int flushed) {
    uint8_t *out = calloc(1, g->size[OUT] + 1);
    size_t where = 0;
    const enum wm_status status = wm_decode(path, layout, g->part[BLOB], g->size[BLOB], g->part[CHUNKS],
                                            g->size[CHUNKS] / sizeof(struct wm_chunk), out, g->size[OUT], &where);
    require(status == WM_OK, "a golden blob is refused", wm_path_name(path), flushed);
    require(memcmp(out, g->part[OUT], g->size[OUT]) == 0, "other bytes are rebuilt", wm_path_name(path), flushed);
    free(out);
}

static void check_encoder(const struct wm_path *path, const struct wm_layout *layout, const struct golden *g, int flushed) {
    struct wm_encoder *encoder = NULL;
    require(wm_encoder_new(layout, &encoder) == WM_OK, "no encoder", wm_path_name(path), flushed);
    const struct wm_chunk *chunks = g->part[CHUNKS];
    const int16_t *symbols = g->part[SYMBOLS];
    uint64_t row = 0;
    for (size_t i = 0; i < g->size[CHUNKS] / sizeof *chunks; i++) {
        uint8_t *body = malloc(WM_STATES + 2 * chunks[i].rows * layout->cols);
        uint32_t words = 0;
        const enum wm_status status = wm_encode(path, encoder, symbols + row * layout->cols, layout->row_class + row,
                                                chunks[i].rows, body, &words);
        require(status == WM_OK && words == chunks[i].words &&
                    memcmp(body, (const uint8_t *)g->part[BLOB] + chunks[i].begin, WM_STATES + 2 * (size_t)words) == 0,
                "another chunk is encoded", wm_path_name(path), flushed);
        row += chunks[i].rows;
        free(body);
    }
    wm_encoder_free(encoder);
}

static void check_quantizer(const struct wm_path *path, const struct wm_layout *layout, const struct golden *g, int flushed) {
    int16_t *levels = malloc(g->size[LEVELS] + 2);
    const enum wm_status status = wm_quantize(path, layout->dtype, g->part[DATA], layout->rows, layout->cols,
                                              g->part[ROW_SCALE], g->part[COL_SCALE], levels);
    require(status == WM_OK, "quantizing fails", wm_path_name(path), flushed);
    require(memcmp(levels, g->part[LEVELS], g->size[LEVELS]) == 0, "other levels", wm_path_name(path), flushed);
    free(levels);
}

static void check_golden(const uint8_t **at) {
    struct golden g;
    struct wm_layout layout = {0};
    for (int i = 0; i < PARTS; i++) {
        g.part[i] = part(at, &g.size[i]);
    }
    const uint64_t *head = g.part[HEAD];
    layout.codec = (uint32_t)head[0];
    layout.dtype = (uint32_t)head[1];
    layout.table_bits = (uint32_t)head[2];
    layout.variant = (uint32_t)head[3];
    layout.cols = head[4];
    layout.rows = g.size[ROW_CLASS];
    const int32_t *pair = g.part[TABLES];
    const uint16_t *share = g.part[SHARES];
    for (int i = 0; i < WM_CLASSES; i++) {
        layout.table[i] = (struct wm_table){pair[2 * i], (uint32_t)pair[2 * i + 1], share};
        share += pair[2 * i + 1];
    }
    layout.row_scale = g.part[ROW_SCALE];
    layout.col_scale = g.part[COL_SCALE];
    layout.row_class = g.part[ROW_CLASS];
    layout.col_class = g.part[COL_CLASS];
    for (int flushed = 0; flushed < 2; flushed++) {
        flush_subnormals(flushed);
        for (const struct wm_path *const *path = wm_paths(); *path != NULL; path++) {
            check_decoder(*path, &layout, &g, flushed);
            check_encoder(*path, &layout, &g, flushed);
            if (g.size[LEVELS] != 0) {
                check_quantizer(*path, &layout, &g, flushed);
            }
        }
    }
    flush_subnormals(0);
    for (int i = 0; i < PARTS; i++) {
        free(g.part[i]);
    }
}

static void check_input(const char *name, unsigned long damaged) {
    size_t size;
    uint8_t *data = read_file(name, &size);
    uint32_t seed = 1;
    LLVMFuzzerTestOneInput(data, size);
    for (unsigned long i = 0; i < damaged && size != 0; i++) {
        uint8_t *copy = malloc(size);
        size_t kept = size;
        if (copy == NULL) {
            exit(1);
        }
        memcpy(copy, data, size);
        for (int k = 0; k < 3; k++) {
            seed = seed * 1664525 + 1013904223;
            copy[(seed >> 8) % size] = (uint8_t)(seed >> 24);
        }
        kept -= seed >> 12 & 1 ? (seed >> 16) % size : 0;
        LLVMFuzzerTestOneInput(copy, kept);
        checked++;
        free(copy);
    }
    free(data);
}

int main(int argc, char **argv) {
    wm_setup();
    if (argc < 3) {
        fprintf(stderr, "check_codec DAMAGED GOLDEN INPUT...\n");
        return 2;
    }
    size_t size;
    uint8_t *golden = read_file(argv[2], &size);
    const uint8_t *at = golden;
    int cases = 0;
    for (; at < golden + size; cases++) {
        check_golden(&at);
    }
    free(golden);
    for (int i = 3; i < argc; i++) {
        check_input(argv[i], strtoul(argv[1], NULL, 10));
    }
    printf("check_codec: paths");
    for (const struct wm_path *const *path = wm_paths(); *path != NULL; path++) {
        printf(" %s", wm_path_name(*path));
    }
    printf("; %d golden cases, %d inputs, %lu checks\n", cases, argc - 3, checked);
    return 0;
}
