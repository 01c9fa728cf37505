/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 by carry-less multiplication: 64 bytes per step are folded onto the next 64 (V. Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009). */
#include "parts.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define CLMUL __attribute__((target("pclmul,sse4.1")))

/* x^n modulo the polynomial, reflected, as a factor of 33 bits. */
static uint64_t power(int n) {
    uint32_t value = 0x80000000;
    for (int i = 0; i < n; i++) {
        value = value >> 1 ^ (0xedb88320U & (0U - (value & 1U)));
    }
    return (uint64_t)value << 1;
}

static uint64_t by_64[2], by_16[2];

void wm_crc_clmul_setup(void) {
    by_64[0] = power(64 * 8 + 32);
    by_64[1] = power(64 * 8 - 32);
    by_16[0] = power(16 * 8 + 32);
    by_16[1] = power(16 * 8 - 32);
}

CLMUL WM_INLINE __m128i fold(__m128i value, __m128i factors, __m128i next) {
    const __m128i low = _mm_clmulepi64_si128(value, factors, 0x00), high = _mm_clmulepi64_si128(value, factors, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

CLMUL WM_INLINE __m128i load(const uint8_t *data) { return _mm_loadu_si128((const __m128i *)(const void *)data); }

CLMUL uint32_t wm_crc_clmul(const uint8_t *data, size_t size) {
    if (size < 128) {
        return wm_crc_slicing(data, size);
    }
    const __m128i far = load((const uint8_t *)by_64), near = load((const uint8_t *)by_16);
    __m128i a = _mm_xor_si128(load(data), _mm_cvtsi32_si128(-1)), b = load(data + 16), c = load(data + 32);
    __m128i d = load(data + 48);
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        a = fold(a, far, load(data));
        b = fold(b, far, load(data + 16));
        c = fold(c, far, load(data + 32));
        d = fold(d, far, load(data + 48));
    }
    a = fold(fold(fold(a, near, b), near, c), near, d);
    for (; size >= 16; data += 16, size -= 16) {
        a = fold(a, near, load(data));
    }
    uint8_t rest[16];
    _mm_storeu_si128((__m128i *)(void *)rest, a);
    return ~wm_crc_continue(wm_crc_continue(0, rest, sizeof rest), data, size);
}

#endif
