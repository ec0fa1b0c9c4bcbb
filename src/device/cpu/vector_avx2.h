/* Vectors of floats, AVX2 with FMA; the names are those of vector_avx512.h, which says what each
 * does. Included by files compiled for AVX2. */
#ifndef DOCUSEARCH_DEVICE_CPU_VECTOR_AVX2_H
#define DOCUSEARCH_DEVICE_CPU_VECTOR_AVX2_H

#include "device/cpu/vector.h"

#include <immintrin.h>

#define LANES 8
#define REGISTERS 16

typedef __m256 vec;
typedef __m256i vec_int;
typedef struct {
    __m256d low, high;
} sums;

static inline vec vec_set(float x) {
    return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *from) {
    return _mm256_loadu_ps(from);
}

static inline void vec_store(float *to, vec x) {
    _mm256_storeu_ps(to, x);
}

static inline __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec vec_load_some(const float *from, int n) {
    return _mm256_maskload_ps(from, first_lanes(n));
}

static inline void vec_store_some(float *to, vec x, int n) {
    _mm256_maskstore_ps(to, first_lanes(n), x);
}

static inline vec vec_first(vec x, vec other, int n) {
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(first_lanes(n)));
}

static inline vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}

static inline vec vec_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

static inline vec vec_abs(vec x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline vec vec_round(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* The exponent is put together in two halves, so that 2^128 does not overflow on its way. */
static inline vec vec_ldexp(vec x, vec n) {
    __m256i whole = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_set1_ps(-252), n));
    __m256i half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    __m256i rest = _mm256_sub_epi32(whole, half);
    vec a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vec b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}

static inline vec vec_reciprocal(vec x) {
    return _mm256_div_ps(_mm256_set1_ps(1), x);
}

static inline __m128 halves_max(vec x) {
    return _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

static inline float vec_largest(vec x) {
    __m128 four = halves_max(x);
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

static inline float vec_total(vec x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

static inline sums sums_zero(void) {
    return (sums){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

static inline __m256d low_half(vec x) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
}

static inline __m256d high_half(vec x) {
    return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
}

static inline sums sums_add(sums sum, vec x) {
    return (sums){_mm256_add_pd(sum.low, low_half(x)), _mm256_add_pd(sum.high, high_half(x))};
}

static inline sums sums_fma(sums sum, vec a, vec b) {
    return (sums){_mm256_fmadd_pd(low_half(a), low_half(b), sum.low),
                  _mm256_fmadd_pd(high_half(a), high_half(b), sum.high)};
}

static inline double sums_total(sums sum) {
    __m256d four = _mm256_add_pd(sum.low, sum.high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static inline vec_int vec_int_set(int x) {
    return _mm256_set1_epi32(x);
}

static inline void vec_int_store(int *to, vec_int x) {
    _mm256_storeu_si256((__m256i *)to, x);
}

static inline vec vec_take_larger(vec a, vec b, vec_int i, vec_int *j) {
    vec larger = _mm256_cmp_ps(a, b, _CMP_GT_OQ);
    *j = _mm256_blendv_epi8(*j, i, _mm256_castps_si256(larger));
    return _mm256_blendv_ps(b, a, larger);
}

#endif
