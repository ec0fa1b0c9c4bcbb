/* Vectors of floats, AVX-512: what rows_vector.h and attention_vector.h are
 * written in. vector_avx2.h has the same names. Included by files compiled for AVX-512. */
#ifndef DOCUSEARCH_DEVICE_CPU_VECTOR_AVX512_H
#define DOCUSEARCH_DEVICE_CPU_VECTOR_AVX512_H

#include "device/cpu/vector.h"

#include <immintrin.h>

#define LANES 16
#define REGISTERS 32

typedef __m512 vec;
typedef __m512i vec_int;
typedef struct {
    __m512d low, high;
} sums; /* a sum a lane, in double precision */

static inline vec vec_set(float x) {
    return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *from) {
    return _mm512_loadu_ps(from);
}

static inline void vec_store(float *to, vec x) {
    _mm512_storeu_ps(to, x);
}

/* The first n lanes, 0 <= n <= LANES. */
static inline __mmask16 lanes_first(int n) {
    return (__mmask16)((1u << n) - 1);
}

/* Those that lie before n, whatever n is. */
static inline __mmask16 lanes_before(int n) {
    return lanes_first(n >= LANES ? LANES : n <= 0 ? 0 : n);
}

/* Of the first n < LANES lanes only; the others are read as 0. */
static inline vec vec_load_some(const float *from, int n) {
    return _mm512_maskz_loadu_ps(lanes_first(n), from);
}

static inline void vec_store_some(float *to, vec x, int n) {
    _mm512_mask_storeu_ps(to, lanes_first(n), x);
}

/* The first n lanes of x, `other` in the rest. */
static inline vec vec_first(vec x, vec other, int n) {
    return _mm512_mask_mov_ps(other, lanes_first(n), x);
}

static inline vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}

/* a * b + c, and c - a * b */
static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}

/* Where a lane of b is no number, so is that of the result. */
static inline vec vec_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

static inline vec vec_abs(vec x) {
    return _mm512_abs_ps(x);
}

static inline vec vec_round(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for whole n of at most 128; 0 where that is below 2^-126 or so. */
static inline vec vec_ldexp(vec x, vec n) {
    return _mm512_scalef_ps(x, n);
}

/* 1 / x to a unit in the last place: the estimate and one step of Newton's method. */
static inline vec vec_reciprocal(vec x) {
    vec estimate = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(estimate, _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1)), estimate);
}

static inline float vec_largest(vec x) {
    return _mm512_reduce_max_ps(x);
}

static inline float vec_total(vec x) {
    return _mm512_reduce_add_ps(x);
}

static inline sums sums_zero(void) {
    return (sums){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

static inline __m512d low_half(vec x) {
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}

static inline __m512d high_half(vec x) {
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}

static inline sums sums_add(sums sum, vec x) {
    return (sums){_mm512_add_pd(sum.low, low_half(x)), _mm512_add_pd(sum.high, high_half(x))};
}

/* sum += a * b, the products in double precision too */
static inline sums sums_fma(sums sum, vec a, vec b) {
    return (sums){_mm512_fmadd_pd(low_half(a), low_half(b), sum.low),
                  _mm512_fmadd_pd(high_half(a), high_half(b), sum.high)};
}

static inline double sums_total(sums sum) {
    return _mm512_reduce_add_pd(_mm512_add_pd(sum.low, sum.high));
}

static inline vec_int vec_int_set(int x) {
    return _mm512_set1_epi32(x);
}

static inline void vec_int_store(int *to, vec_int x) {
    _mm512_storeu_si512(to, x);
}

/* Element j of row i becomes element i of row j. */
static inline void transpose_16(__m512i rows[16]) {
    __m512i pairs[16], fours[16];
    UNROLLED
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    /* fours[i + j]: columns j, 4 + j, 8 + j and 12 + j of rows i to i + 3 */
    UNROLLED
    for (int i = 0; i < 16; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    UNROLLED
    for (int j = 0; j < 4; j++) {
        __m512i even_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
        __m512i even_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
        __m512i odd_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
        rows[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        rows[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        rows[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        rows[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

/* Where a > b: a, and *j becomes i; elsewhere b. */
static inline vec vec_take_larger(vec a, vec b, vec_int i, vec_int *j) {
    __mmask16 larger = _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
    *j = _mm512_mask_mov_epi32(*j, larger, i);
    return _mm512_mask_mov_ps(b, larger, a);
}

#endif
