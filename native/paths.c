/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths this CPU has. */
#include "parts.h"

static const struct wm_path *there[5];

void wm_setup(void) {
    size_t count = 0;
    wm_crc_setup();
    there[count++] = &wm_path_c;
    there[count] = NULL;
}

const struct wm_path *const *wm_paths(void) { return there; }

const char *wm_path_name(const struct wm_path *path) { return path->name; }

uint32_t wm_crc32(const struct wm_path *path, const uint8_t *data, size_t size) { return path->crc(data, size); }
