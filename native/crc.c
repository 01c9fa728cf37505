/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 of zlib (polynomial 0xedb88320, reflected), sixteen bytes per step ("slicing", M. E. Kounavis, F. L. Berry). */
#include "parts.h"

enum { SLICES = 16 };

static uint32_t table[SLICES][256];

void wm_crc_setup(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1U)));
        }
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int s = 1; s < SLICES; s++) {
            table[s][i] = table[s - 1][i] >> 8 ^ table[0][table[s - 1][i] & 255];
        }
    }
}

WM_INLINE uint32_t four(uint32_t word, int first) {
    return table[first + 3][word & 255] ^ table[first + 2][word >> 8 & 255] ^ table[first + 1][word >> 16 & 255] ^
           table[first][word >> 24];
}

uint32_t wm_crc_continue(uint32_t crc, const uint8_t *data, size_t size) {
    for (; size >= SLICES; data += SLICES, size -= SLICES) {
        uint32_t word[4];
        memcpy(word, data, sizeof word);
        crc = four(word[0] ^ crc, 12) ^ four(word[1], 8) ^ four(word[2], 4) ^ four(word[3], 0);
    }
    for (; size > 0; data++, size--) {
        crc = crc >> 8 ^ table[0][(crc ^ *data) & 255];
    }
    return crc;
}

uint32_t wm_crc_slicing(const uint8_t *data, size_t size) {
    return ~wm_crc_continue(~0U, data, size);
}
