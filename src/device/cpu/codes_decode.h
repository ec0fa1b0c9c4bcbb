/* Codes of 4, 2 and 1 bits to int8 in AVX-512, and scales to fp32. Included by files compiled for
 * it. */
#ifndef DOCUSEARCH_DEVICE_CPU_CODES_DECODE_H
#define DOCUSEARCH_DEVICE_CPU_CODES_DECODE_H

#include "device/cpu/codes.h"
#include "device/cpu/vector.h"

#include <immintrin.h>
#include <string.h>

/* 64 elements to int8; levels are in every 16 bytes of `levels`. */
INLINE __m512i decode_step(const uint8_t *codes, __m512i levels, int bits) {
    if (bits == 4) {
        __m512i x = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)codes));
        x = _mm512_or_si512(x, _mm512_slli_epi32(x, 4));
        return _mm512_shuffle_epi8(levels, _mm512_and_si512(x, _mm512_set1_epi8(0x0f)));
    }
    if (bits == 2) {
        __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
        x = _mm512_or_si512(x, _mm512_slli_epi32(x, 12));
        x = _mm512_or_si512(x, _mm512_slli_epi32(x, 6));
        return _mm512_shuffle_epi8(levels, _mm512_and_si512(x, _mm512_set1_epi8(0x03)));
    }
    uint64_t set;
    memcpy(&set, codes, sizeof set);
    __m512i low = _mm512_shuffle_epi8(levels, _mm512_setzero_si512());
    __m512i high = _mm512_shuffle_epi8(levels, _mm512_set1_epi8(1));
    return _mm512_mask_mov_epi8(low, set, high);
}

INLINE void decode_bits(int8_t *out, const uint8_t *codes, const uint8_t *ahead, int n_steps,
                        int bits) {
    uint8_t table[16] = {0};
    memcpy(table, codes_levels(bits), (size_t)1 << bits);
    __m512i levels = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    for (int step = 0; step < n_steps; step++) {
        _mm512_storeu_si512(out + step * 64, decode_step(codes + step * 8 * bits, levels, bits));
        _mm_prefetch((const char *)ahead + step * 8 * bits, _MM_HINT_T0);
    }
}

/* A group; ahead: the codes that are fetched meanwhile. 8 bits stay where they lie. */
static inline const int8_t *decode(int8_t *out, const uint8_t *codes, const uint8_t *ahead,
                                   int n_steps, int bits) {
    if (bits == 8)
        return (const int8_t *)codes;
    if (bits == 4)
        decode_bits(out, codes, ahead, n_steps, 4);
    else if (bits == 2)
        decode_bits(out, codes, ahead, n_steps, 2);
    else
        decode_bits(out, codes, ahead, n_steps, 1);
    return out;
}

/* One a vector of a group. */
INLINE __m512 scales_of(const uint16_t *scales) {
    __m256i upper = _mm256_loadu_si256((const __m256i *)scales);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

#endif
