/* What the kernels' tests share: numbers that are the same in every run, and memory whose ends are
 * watched. */
#ifndef DOCUSEARCH_TESTS_GUARDED_H
#define DOCUSEARCH_TESTS_GUARDED_H

#include "device/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Uniform in [-1, 1). */
static inline float random_unit(uint64_t *state) {
    return (float)((double)(random_next(state) >> 11) * 0x1p-52 - 1);
}

/* Near enough to a normal distribution of variance 1. */
static inline float random_normal(uint64_t *state) {
    float sum = 0;
    for (int i = 0; i < 6; i++)
        sum += random_unit(state);
    return sum * 0.70710678f;
}

/* n floats, not aligned to a vector, between guard bytes; under AddressSanitizer their end is the
 * end of the block, so that reading past it is seen too. */
#define GUARD_BYTES 260
#define GUARD_VALUE 0xa5
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define GUARD_AFTER 0
#else
#define GUARD_AFTER GUARD_BYTES
#endif
struct guarded {
    unsigned char *block;
    float *x;
    size_t n;
};

static inline struct guarded guarded_new(size_t n) {
    struct guarded out = {.n = n};
    size_t bytes = GUARD_BYTES + n * sizeof(float) + GUARD_AFTER;
    out.block = malloc(bytes);
    if (!out.block)
        abort();
    memset(out.block, GUARD_VALUE, bytes);
    out.x = (float *)(out.block + GUARD_BYTES);
    return out;
}

static inline bool guarded_is_whole(const struct guarded *guarded) {
    const unsigned char *after = (const unsigned char *)(guarded->x + guarded->n);
    for (int i = 0; i < GUARD_BYTES; i++) {
        if (guarded->block[i] != GUARD_VALUE || (i < GUARD_AFTER && after[i] != GUARD_VALUE))
            return false;
    }
    return true;
}

static inline void guarded_free(struct guarded *guarded) {
    free(guarded->block);
}

/* The instruction sets of this processor, least first; each with its name. */
struct instruction_set {
    const char *name;
    unsigned features;
};
static inline int instruction_sets(struct instruction_set out[5]) {
    unsigned all = cpu_features(), avx512 = CPU_AVX2 | CPU_AVX512;
    int n = 0;
    out[n++] = (struct instruction_set){"plain", 0};
    if (all & CPU_AVX2)
        out[n++] = (struct instruction_set){"avx2", CPU_AVX2};
    if (all & CPU_AVX512)
        out[n++] = (struct instruction_set){"avx512", avx512};
    if (all & ~avx512)
        out[n++] = (struct instruction_set){"all", all};
#if defined(AMX_EMULATED)
    if ((all & CPU_AVX512_BF16) && !(all & CPU_AMX_BF16))
        out[n++] = (struct instruction_set){"emulated amx", all | CPU_AMX_BF16};
#endif
    return n;
}

/* Of this thread on a processor, so that other programs' work does not count. */
static inline double seconds_spent(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
