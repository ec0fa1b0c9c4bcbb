/* The tile instructions of AMX in plain C (Intel's Architecture Instruction Set Extensions
 * reference, chapter 3), put in place of the intrinsics: included before a source that uses them.
 * tdpbf16ps sums each pair without rounding between, as the instruction does; denormals are kept.
 */
#ifndef DOCUSEARCH_TESTS_AMX_EMULATED_H
#define DOCUSEARCH_TESTS_AMX_EMULATED_H

#include <assert.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AMX_EMULATED 1

struct emulated_tiles {
    bool configured;
    uint16_t row_bytes[8];
    uint8_t n_rows[8];
    uint8_t data[8][16][64];
};
static _Thread_local struct emulated_tiles emulated;

__attribute__((unused)) static void emulated_loadconfig(const void *config) {
    const uint8_t *bytes = config;
    assert(bytes[0] == 1 && bytes[1] == 0);
    memset(&emulated, 0, sizeof emulated);
    memcpy(emulated.row_bytes, bytes + 16, sizeof emulated.row_bytes);
    memcpy(emulated.n_rows, bytes + 48, sizeof emulated.n_rows);
    emulated.configured = true;
}

__attribute__((unused)) static void emulated_release(void) {
    emulated.configured = false;
}

__attribute__((unused)) static void emulated_zero(int tile) {
    assert(emulated.configured);
    memset(emulated.data[tile], 0, sizeof emulated.data[tile]);
}

__attribute__((unused)) static void emulated_load(int tile, const void *from, size_t stride) {
    assert(emulated.configured);
    for (int r = 0; r < emulated.n_rows[tile]; r++)
        memcpy(emulated.data[tile][r], (const char *)from + (size_t)r * stride,
               emulated.row_bytes[tile]);
}

__attribute__((unused)) static void emulated_store(int tile, void *to, size_t stride) {
    assert(emulated.configured);
    for (int r = 0; r < emulated.n_rows[tile]; r++)
        memcpy((char *)to + (size_t)r * stride, emulated.data[tile][r], emulated.row_bytes[tile]);
}

static inline float emulated_bf16(const uint8_t *from) {
    uint32_t bits = (uint32_t)from[1] << 24 | (uint32_t)from[0] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

__attribute__((unused)) static void emulated_dpbf16ps(int sum, int a, int b) {
    assert(emulated.configured);
    for (int m = 0; m < emulated.n_rows[sum]; m++) {
        for (int g = 0; g < emulated.row_bytes[a] / 4; g++) {
            const uint8_t *left = emulated.data[a][m] + g * 4;
            for (int n = 0; n < emulated.row_bytes[sum] / 4; n++) {
                const uint8_t *right = emulated.data[b][g] + n * 4;
                float value;
                memcpy(&value, emulated.data[sum][m] + n * 4, sizeof value);
                value += emulated_bf16(left) * emulated_bf16(right);
                value += emulated_bf16(left + 2) * emulated_bf16(right + 2);
                memcpy(emulated.data[sum][m] + n * 4, &value, sizeof value);
            }
        }
    }
}

__attribute__((unused)) static void emulated_dpbusd(int sum, int a, int b) {
    assert(emulated.configured);
    for (int m = 0; m < emulated.n_rows[sum]; m++) {
        for (int g = 0; g < emulated.row_bytes[a] / 4; g++) {
            const uint8_t *left = emulated.data[a][m] + g * 4;
            for (int n = 0; n < emulated.row_bytes[sum] / 4; n++) {
                const uint8_t *right = emulated.data[b][g] + n * 4;
                int32_t value;
                memcpy(&value, emulated.data[sum][m] + n * 4, sizeof value);
                for (int i = 0; i < 4; i++)
                    value += left[i] * (int8_t)right[i];
                memcpy(emulated.data[sum][m] + n * 4, &value, sizeof value);
            }
        }
    }
}

__attribute__((unused)) static void emulated_dpbssd(int sum, int a, int b) {
    assert(emulated.configured);
    for (int m = 0; m < emulated.n_rows[sum]; m++) {
        for (int g = 0; g < emulated.row_bytes[a] / 4; g++) {
            const uint8_t *left = emulated.data[a][m] + g * 4;
            for (int n = 0; n < emulated.row_bytes[sum] / 4; n++) {
                const uint8_t *right = emulated.data[b][g] + n * 4;
                int32_t value;
                memcpy(&value, emulated.data[sum][m] + n * 4, sizeof value);
                for (int i = 0; i < 4; i++)
                    value += (int8_t)left[i] * (int8_t)right[i];
                memcpy(emulated.data[sum][m] + n * 4, &value, sizeof value);
            }
        }
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#undef _tile_dpbssd
#define _tile_loadconfig emulated_loadconfig
#define _tile_release emulated_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_load
#define _tile_stored emulated_store
#define _tile_dpbf16ps emulated_dpbf16ps
#define _tile_dpbusd emulated_dpbusd
#define _tile_dpbssd emulated_dpbssd

#endif
