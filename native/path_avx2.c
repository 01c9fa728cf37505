/* SPDX-License-Identifier: Apache-2.0 */
/* The path of AVX2: eight lanes at once. Functions are compiled for it one by one, and called only where it is there. */
#include "measure.h"
#include "rebuild.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt")))
#define AVX2_INLINE AVX2 WM_INLINE

/* For pshufb. Word n of those read goes to the nth lane of the mask, elsewhere 0; and back: the words of the lanes of the
 * mask go to the upper end, in their order. */
static uint8_t spread[256][16], gather[256][16];

void wm_avx2_setup(void) {
    memset(spread, 0x80, sizeof spread);
    memset(gather, 0x80, sizeof gather);
    for (uint32_t mask = 0; mask < 256; mask++) {
        uint32_t next = 0, place = 8 - (uint32_t)__builtin_popcount(mask);
        for (uint32_t l = 0; l < 8; l++) {
            for (uint32_t byte = 0; (mask >> l & 1) && byte < 2; byte++) {
                spread[mask][2 * l + byte] = (uint8_t)(2 * next + byte);
                gather[mask][2 * place + byte] = (uint8_t)(2 * l + byte);
            }
            next += mask >> l & 1;
            place += mask >> l & 1;
        }
    }
}

/* Eight loads are faster than a gather where gathers are microcode, and no slower elsewhere. */
AVX2_INLINE __m256i look_up(const uint32_t *table, __m256i at) {
    uint32_t i[8];
    _mm256_storeu_si256((__m256i *)(void *)i, at);
    __m128i low = _mm_cvtsi32_si128((int)table[i[0]]), high = _mm_cvtsi32_si128((int)table[i[4]]);
    low = _mm_insert_epi32(low, (int)table[i[1]], 1);
    low = _mm_insert_epi32(low, (int)table[i[2]], 2);
    low = _mm_insert_epi32(low, (int)table[i[3]], 3);
    high = _mm_insert_epi32(high, (int)table[i[5]], 1);
    high = _mm_insert_epi32(high, (int)table[i[6]], 2);
    high = _mm_insert_epi32(high, (int)table[i[7]], 3);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Take words for the lanes whose state is low. */
AVX2_INLINE __m256i refill(__m256i x, const uint8_t **words) {
    const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    const __m128i next = _mm_loadu_si128((const __m128i *)(const void *)*words);
    const __m128i order = _mm_loadu_si128((const __m128i *)(const void *)spread[mask]);
    const __m256i word = _mm256_cvtepu16_epi32(_mm_shuffle_epi8(next, order));
    *words += 2 * (uint32_t)__builtin_popcount(mask);
    return _mm256_or_si256(_mm256_blendv_epi8(x, _mm256_slli_epi32(x, 16), low), word);
}

AVX2_INLINE __m256i step(__m256i *state, const uint32_t *table, __m256i offset, int bits, const uint8_t **words) {
    const __m256i x = *state, slot = _mm256_and_si256(x, _mm256_set1_epi32((1 << bits) - 1));
    const __m256i entry = look_up(table, _mm256_add_epi32(offset, slot));
    const __m256i less = _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(0xfff));
    const __m256i freq = _mm256_add_epi32(less, _mm256_set1_epi32(1));
    const __m256i product = _mm256_mullo_epi32(freq, _mm256_srli_epi32(x, bits));
    *state = refill(_mm256_add_epi32(product, _mm256_srli_epi32(entry, 20)), words);
    return _mm256_and_si256(entry, _mm256_set1_epi32(255));
}

/* Offsets of the classes of eight lanes. */
AVX2_INLINE __m256i offset_of(__m256i col, __m256i row, __m256i last) {
    return _mm256_min_epi32(_mm256_max_epi32(_mm256_add_epi32(col, row), _mm256_setzero_si256()), last);
}

AVX2_INLINE __m256i load8(const int8_t *class, int bits) {
    return _mm256_slli_epi32(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)class)), bits);
}

AVX2_INLINE void put(uint16_t *index, __m256i a, __m256i b) {
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    _mm256_storeu_si256((__m256i *)(void *)index, both);
}

AVX2_INLINE uint32_t run_whole(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                               const uint8_t *limit, int bits) {
    const uint32_t *table = strip->slots->whole;
    const __m256i last = _mm256_set1_epi32((WM_CLASSES - 1) << bits);
    __m256i x[4], col[4];
    const uint8_t *at = *words;
    uint32_t row = 0;
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_si256((const __m256i *)(const void *)(state + 8 * i));
        col[i] = load8(strip->col_class + 8 * i, bits);
    }
    for (; row < strip->rows && at <= limit; row++) {
        uint16_t *out = strip->index + row * strip->stride;
        const __m256i of_row = _mm256_set1_epi32(strip->row_class[row] * (1 << bits));
        const __m256i a = step(&x[0], table, offset_of(col[0], of_row, last), bits, &at);
        const __m256i b = step(&x[1], table, offset_of(col[1], of_row, last), bits, &at);
        const __m256i c = step(&x[2], table, offset_of(col[2], of_row, last), bits, &at);
        const __m256i d = step(&x[3], table, offset_of(col[3], of_row, last), bits, &at);
        put(out, a, b);
        put(out + 16, c, d);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(state + 8 * i), x[i]);
    }
    *words = at;
    return row;
}

AVX2 static uint32_t whole_strip(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                                 const uint8_t *limit) {
    return strip->slots->bits == 12 ? run_whole(strip, state, words, limit, 12)
                                    : run_whole(strip, state, words, limit, 11);
}

/* Shares of eight lanes, one register for each of their words. */
struct shares {
    __m256i factor, less_cum, freq_shift_add, none;
};

AVX2_INLINE __m256i two(const struct wm_share *low, const struct wm_share *high) {
    const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)low);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), _mm_loadu_si128((const __m128i *)(const void *)high), 1);
}

AVX2_INLINE struct shares shares_at(const struct wm_share *table, __m256i place) {
    uint32_t i[8];
    _mm256_storeu_si256((__m256i *)(void *)i, place);
    const __m256i a = two(table + i[0], table + i[4]), b = two(table + i[1], table + i[5]);
    const __m256i c = two(table + i[2], table + i[6]), d = two(table + i[3], table + i[7]);
    const __m256i ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    const __m256i ab_high = _mm256_unpackhi_epi32(a, b), cd_high = _mm256_unpackhi_epi32(c, d);
    return (struct shares){
        .factor = _mm256_unpacklo_epi64(ab, cd),
        .less_cum = _mm256_unpackhi_epi64(ab, cd),
        .freq_shift_add = _mm256_unpacklo_epi64(ab_high, cd_high),
        .none = _mm256_unpackhi_epi64(ab_high, cd_high),
    };
}

/* Upper halves of the products of eight pairs. */
AVX2_INLINE __m256i high_product(__m256i a, __m256i b) {
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(even, odd, 0xaa);
}

/* Emit the words of the lanes whose state would grow too far. */
AVX2_INLINE __m256i emit(__m256i x, __m256i freq, __m128i bits, uint8_t **words) {
    const __m256i room = _mm256_cmpgt_epi32(freq, _mm256_srl_epi32(x, bits));
    const uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(room)) ^ 255;
    const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    const __m128i order = _mm_loadu_si128((const __m128i *)(const void *)gather[mask]);
    _mm_storeu_si128((__m128i *)(void *)(*words - 16), _mm_shuffle_epi8(half, order));
    *words -= 2 * (uint32_t)__builtin_popcount(mask);
    return _mm256_srlv_epi32(x, _mm256_andnot_si256(room, _mm256_set1_epi32(16)));
}

AVX2_INLINE __m256i take_in(__m256i state, const struct shares *s, __m128i bits, uint8_t **words) {
    const __m256i half = _mm256_set1_epi32(0xffff), byte = _mm256_set1_epi32(255);
    const __m256i x = emit(state, _mm256_and_si256(s->freq_shift_add, half), bits, words);
    const __m256i shift = _mm256_and_si256(_mm256_srli_epi32(s->freq_shift_add, 16), byte);
    const __m256i more = _mm256_add_epi32(x, _mm256_srli_epi32(s->freq_shift_add, 24));
    const __m256i quotient = _mm256_srlv_epi32(high_product(more, s->factor), shift);
    const __m256i rest = _mm256_mullo_epi32(quotient, _mm256_and_si256(s->less_cum, half));
    return _mm256_add_epi32(_mm256_add_epi32(x, _mm256_srli_epi32(s->less_cum, 16)), rest);
}

AVX2 static uint8_t *encode(const struct wm_source *source, uint32_t *state, uint8_t *words, uint32_t *missing) {
    const struct wm_encoder *encoder = source->encoder;
    const __m256i last = _mm256_set1_epi32((WM_CLASSES - 1) << 9), lowest = _mm256_set1_epi32(encoder->lowest);
    const __m128i bits = _mm_cvtsi32_si128(32 - (int)encoder->bits);
    __m256i x[4], col[4], none = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_si256((const __m256i *)(const void *)(state + 8 * i));
        col[i] = load8(source->col_class + 8 * i, 9);
    }
    for (uint64_t row = source->rows; row-- > 0;) {
        const int16_t *symbol = source->symbols + row * encoder->cols;
        const __m256i of_row = _mm256_set1_epi32(source->row_class[row] * (1 << 9));
        for (int i = 3; i >= 0; i--) {
            const __m128i eight = _mm_loadu_si128((const __m128i *)(const void *)(symbol + 8 * i));
            const __m256i index = _mm256_sub_epi32(_mm256_cvtepi16_epi32(eight), lowest);
            const __m256i place = _mm256_min_epu32(index, _mm256_set1_epi32(511));
            const struct shares shares = shares_at(encoder->share, _mm256_or_si256(offset_of(col[i], of_row, last), place));
            none = _mm256_or_si256(none, shares.none);
            x[i] = take_in(x[i], &shares, bits, &words);
        }
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(state + 8 * i), x[i]);
    }
    *missing |= !_mm256_testz_si256(none, none);
    return words;
}

WM_PIECES(avx2, AVX2)
WM_MEASURES(avx2, AVX2)

#define THE_REST                                                                                          \
    .strip = wm_strip_c, .piece = WM_PIECE_TABLE(avx2), .encode = encode, .squares = WM_SQUARES_TABLE(avx2), \
    .levels = WM_LEVELS_TABLE(avx2)

const struct wm_path wm_path_avx2 = {.name = "avx2", .whole_strip = whole_strip, THE_REST};

const struct wm_path wm_path_avx512 = {.name = "avx512", .whole_strip = wm_whole_strip_avx512, THE_REST};

#endif
