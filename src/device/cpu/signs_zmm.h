/* MaxSim over signs in AVX-512: a lane is one of eight vectors, eight question vectors at once.
 *
 * Signs of 128 bits: 16 registers hold the question's words, 8 the smallest distances, so an item's
 * words are loaded once for the eight and nothing else is. A file that includes this says how the
 * bits of 64-bit lanes are counted: count_set, and count_set_2 of two words together. */
#ifndef DOCUSEARCH_DEVICE_CPU_SIGNS_ZMM_H
#define DOCUSEARCH_DEVICE_CPU_SIGNS_ZMM_H

#include "device/cpu/codes.h"
#include "device/cpu/vector.h"

#include <immintrin.h>

/* Distances are below 2^32, so the upper halves of lanes stay zero. */
INLINE __m512i nearer(__m512i a, __m512i b) {
    return _mm512_min_epu32(a, b);
}

/* out[q]: the smallest lane of least[q]. */
INLINE void store_least(uint32_t *out, const __m512i least[8]) {
    __m512i pairs[4], fours[2];
    UNROLLED
    for (int i = 0; i < 4; i++)
        pairs[i] = _mm512_or_si512(least[2 * i], _mm512_slli_epi64(least[2 * i + 1], 32));
    UNROLLED
    for (int i = 0; i < 2; i++)
        fours[i] = nearer(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                          _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    __m512i halves = nearer(_mm512_shuffle_i32x4(fours[0], fours[1], 0x88),
                            _mm512_shuffle_i32x4(fours[0], fours[1], 0xdd));
    halves = nearer(halves, _mm512_shuffle_i32x4(halves, halves, 0xb1));
    __m512i all = _mm512_shuffle_i32x4(halves, halves, 0x08);
    _mm256_storeu_si256((__m256i *)out, _mm512_castsi512_si256(all));
}

static void nearest_128(uint32_t *out, const uint64_t *question, int n, const uint64_t *signs,
                        int n_groups, int n_items) {
    __m512i words[8][2];
    UNROLLED
    for (int q = 0; q < 8; q++) {
        words[q][0] = _mm512_set1_epi64((long long)question[q * 2]);
        words[q][1] = _mm512_set1_epi64((long long)question[q * 2 + 1]);
    }
    if (n_groups < 1) /* says that the loop runs: else gcc 12 keeps some of the words in memory */
        __builtin_unreachable();
    for (int i = 0; i < n_items; i++, out += n) {
        __m512i least[8];
        UNROLLED
        for (int q = 0; q < 8; q++)
            least[q] = _mm512_set1_epi64(UINT32_MAX);
        for (int g = 0; g < n_groups; g++, signs += 16) {
            __m512i first = _mm512_loadu_si512(signs), second = _mm512_loadu_si512(signs + 8);
            UNROLLED
            for (int q = 0; q < 8; q++)
                least[q] = nearer(least[q], count_set_2(_mm512_xor_si512(first, words[q][0]),
                                                        _mm512_xor_si512(second, words[q][1])));
        }
        store_least(out, least);
    }
}

static void nearest_any(uint32_t *out, const uint64_t *question, int n, int n_words,
                        const uint64_t *signs, int n_groups, int n_items) {
    for (int i = 0; i < n_items; i++, out += n) {
        __m512i least[8], sum[8];
        UNROLLED
        for (int q = 0; q < 8; q++)
            least[q] = _mm512_set1_epi64(UINT32_MAX);
        for (int g = 0; g < n_groups; g++) {
            UNROLLED
            for (int q = 0; q < 8; q++)
                sum[q] = _mm512_setzero_si512();
            for (int w = 0; w < n_words; w++, signs += 8) {
                __m512i word = _mm512_loadu_si512(signs);
                UNROLLED
                for (int q = 0; q < 8; q++) {
                    __m512i other = _mm512_set1_epi64((long long)question[q * n_words + w]);
                    sum[q] = _mm512_add_epi64(sum[q], count_set(_mm512_xor_si512(word, other)));
                }
            }
            UNROLLED
            for (int q = 0; q < 8; q++)
                least[q] = nearer(least[q], sum[q]);
        }
        store_least(out, least);
    }
}

INLINE void zmm_nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                        const uint64_t *signs, int n_groups, int n_items) {
    for (int q = 0; q < n; q += 8) {
        if (n_words == 2)
            nearest_128(out + q, question + q * 2, n, signs, n_groups, n_items);
        else
            nearest_any(out + q, question + (size_t)q * (size_t)n_words, n, n_words, signs,
                        n_groups, n_items);
    }
}

#endif
