/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths this CPU has. */
#include "parts.h"

static const struct wm_path *there[5];

uint32_t (*wm_crc)(const uint8_t *data, size_t size) = wm_crc_slicing;

void wm_setup(void) {
    size_t count = 0;
    wm_crc_setup();
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        wm_crc_clmul_setup();
        wm_crc = wm_crc_clmul;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
        wm_avx2_setup();
        if (__builtin_cpu_supports("avx512f")) {
            there[count++] = &wm_path_avx512;
        }
        there[count++] = &wm_path_avx2;
    }
#elif defined(__aarch64__) && defined(__GNUC__)
    there[count++] = &wm_path_neon;
#endif
    there[count++] = &wm_path_c;
    there[count] = NULL;
}

const struct wm_path *const *wm_paths(void) { return there; }

const char *wm_path_name(const struct wm_path *path) { return path->name; }

uint32_t wm_crc32(const uint8_t *data, size_t size, int plain) {
    return plain ? wm_crc_slicing(data, size) : wm_crc(data, size);
}
