/* The one shape of AMX's eight tiles: 16 rows of 64 bytes (Intel's Architecture Instruction Set
 * Extensions reference, chapter 3). Included by the kernels of that instruction set alone. */
#ifndef DOCUSEARCH_DEVICE_CPU_TILES_H
#define DOCUSEARCH_DEVICE_CPU_TILES_H

#include <immintrin.h>
#include <stdint.h>

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "as the processor reads it");

/* A constant, never a local: gcc's intrinsic declares that it reads 8 bytes, so that the stores
 * which fill the rest of a local one are left out. */
static const struct tile_config tiles_of_16_by_64 = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .n_rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* On the thread that multiplies. What was written before is in memory: the loads of tiles do not
 * tell the compiler that they read. */
static inline void tiles_begin(void) {
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(&tiles_of_16_by_64);
}

static inline void tiles_end(void) {
    _tile_release();
}

#endif
