/* SPDX-License-Identifier: Apache-2.0 */
/* The path of AVX-512: sixteen lanes at once where tables are whole; all else as with AVX2. */
#include "parts.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,popcnt")))
#define AVX512_INLINE AVX512 WM_INLINE

/* Take words for the lanes whose state is low. */
AVX512_INLINE __m512i refill(__m512i x, const uint8_t **words) {
    const __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(0x10000));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)*words));
    const __m512i word = _mm512_maskz_expand_epi32(low, next);
    *words += 2 * (uint32_t)__builtin_popcount(low);
    return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), word);
}

AVX512_INLINE __m512i step(__m512i *state, const uint32_t *table, __m512i offset, unsigned bits,
                           const uint8_t **words) {
    const __m512i x = *state, slot = _mm512_and_si512(x, _mm512_set1_epi32((1 << bits) - 1));
    const __m512i entry = _mm512_i32gather_epi32(_mm512_add_epi32(offset, slot), (const void *)table, 4);
    const __m512i less = _mm512_and_si512(_mm512_srli_epi32(entry, 8), _mm512_set1_epi32(0xfff));
    const __m512i freq = _mm512_add_epi32(less, _mm512_set1_epi32(1));
    const __m512i product = _mm512_mullo_epi32(freq, _mm512_srli_epi32(x, bits));
    *state = refill(_mm512_add_epi32(product, _mm512_srli_epi32(entry, 20)), words);
    return _mm512_and_si512(entry, _mm512_set1_epi32(255));
}

AVX512_INLINE __m512i offset_of(__m512i col, __m512i row, __m512i last) {
    return _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(col, row), _mm512_setzero_si512()), last);
}

AVX512_INLINE __m512i load16(const int8_t *class, unsigned bits) {
    return _mm512_slli_epi32(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)class)), bits);
}

AVX512_INLINE void put(uint16_t *index, __m512i value) {
    _mm256_storeu_si256((__m256i *)(void *)index, _mm512_cvtepi32_epi16(value));
}

AVX512_INLINE uint32_t run_whole(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                                 const uint8_t *limit, unsigned bits) {
    const uint32_t *table = strip->slots->whole;
    const __m512i last = _mm512_set1_epi32((WM_CLASSES - 1) << bits);
    const __m512i low_col = load16(strip->col_class, bits), high_col = load16(strip->col_class + 16, bits);
    __m512i low = _mm512_loadu_si512(state), high = _mm512_loadu_si512(state + 16);
    const uint8_t *at = *words;
    uint32_t row = 0;
    for (; row < strip->rows && at <= limit; row++) {
        uint16_t *out = strip->index + row * strip->stride;
        const __m512i of_row = _mm512_set1_epi32(strip->row_class[row] * (1 << bits));
        put(out, step(&low, table, offset_of(low_col, of_row, last), bits, &at));
        put(out + 16, step(&high, table, offset_of(high_col, of_row, last), bits, &at));
    }
    _mm512_storeu_si512(state, low);
    _mm512_storeu_si512(state + 16, high);
    *words = at;
    return row;
}

AVX512 uint32_t wm_whole_strip_avx512(const struct wm_strip *strip, uint32_t *state, const uint8_t **words,
                                      const uint8_t *limit) {
    return strip->slots->bits == 12 ? run_whole(strip, state, words, limit, 12)
                                    : run_whole(strip, state, words, limit, 11);
}

#endif
