/* MaxSim over codes and signs with AVX-512 alone: codes and question are widened to 16 bits, whose
 * products are summed in pairs; bits are counted by halves of bytes. */
#include <immintrin.h>
#include <stdint.h>

#define STEP_BYTES 8

typedef struct {
    __m512i even, odd; /* elements 0 and 2, and 1 and 3, of each four */
} step_codes;
typedef step_codes step_query;

static inline __m512i step_start(int32_t start) {
    (void)start;
    return _mm512_setzero_si512();
}

static inline step_codes step_of(__m512i codes) {
    return (step_codes){_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8),
                        _mm512_srai_epi16(codes, 8)};
}

static inline step_query step_query_of(const uint8_t *packed) {
    int32_t pairs[2];
    __builtin_memcpy(pairs, packed, sizeof pairs);
    return (step_query){_mm512_set1_epi32(pairs[0]), _mm512_set1_epi32(pairs[1])};
}

static inline __m512i step_multiply(__m512i sum, step_codes codes, step_query query) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(codes.even, query.even));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(codes.odd, query.odd));
}

static inline void step_pack(uint8_t *out, const int8_t four[4]) {
    int16_t pairs[4] = {four[0], four[2], four[1], four[3]};
    __builtin_memcpy(out, pairs, sizeof pairs);
}

#include "device/cpu/codes_zmm.h"

static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    zmm_lanes(best, query, first, n, groups, decoded);
}

static void pack(uint8_t *out, const int8_t *rows, int n, int code_dim) {
    zmm_pack(out, rows, n, code_dim);
}

/* ---- the largest of 16 lanes, 16 question vectors at once -------------------------------------
 */

/* Of a and b, alternating: of each lane and the second next. */
INLINE __m512 larger_pairs(__m512 a, __m512 b) {
    return _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

/* Two of a and two of b in every 128 bits. */
INLINE __m512 larger_fours(__m512 a, __m512 b) {
    __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

/* 128 bits of a, and of b, for the larger of each two. */
INLINE __m512 larger_quarters(__m512 a, __m512 b) {
    return _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

static void largest(float *out, const code_lanes *best, int n) {
    for (int q = 0; q < n; q += 16) {
        __m512 fours[4];
        UNROLLED
        for (int i = 0; i < 4; i++) {
            const code_lanes *four = best + q + i * 4;
            __m512 first = larger_pairs(_mm512_loadu_ps(four[0]), _mm512_loadu_ps(four[1]));
            __m512 second = larger_pairs(_mm512_loadu_ps(four[2]), _mm512_loadu_ps(four[3]));
            fours[i] = larger_fours(first, second);
        }
        __m512 low = larger_quarters(fours[0], fours[1]),
               high = larger_quarters(fours[2], fours[3]);
        _mm512_storeu_ps(out + q, larger_quarters(low, high));
    }
}

/* ---- signs ------------------------------------------------------------------------------------
 */

INLINE __m512i bytes_set(__m512i x) {
    const __m512i n_of = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i half = _mm512_set1_epi8(0x0f);
    return _mm512_add_epi8(
        _mm512_shuffle_epi8(n_of, _mm512_and_si512(x, half)),
        _mm512_shuffle_epi8(n_of, _mm512_and_si512(_mm512_srli_epi16(x, 4), half)));
}

static inline __m512i count_set(__m512i x) {
    return _mm512_sad_epu8(bytes_set(x), _mm512_setzero_si512());
}

static inline __m512i count_set_2(__m512i x, __m512i y) {
    return _mm512_sad_epu8(_mm512_add_epi8(bytes_set(x), bytes_set(y)), _mm512_setzero_si512());
}

#include "device/cpu/signs_zmm.h"

static void nearest(uint32_t *out, const uint64_t *question, int n, int n_words,
                    const uint64_t *signs, int n_groups, int n_items) {
    zmm_nearest(out, question, n, n_words, signs, n_groups, n_items);
}

void cpu_codes_avx512(struct cpu_codes *kernels) {
    kernels->name = "avx512";
    kernels->signs_name = "avx512";
    kernels->pack = pack;
    kernels->pack_step = ZMM_STEP;
    kernels->pack_bytes = STEP_BYTES / 4;
    kernels->lanes = lanes;
    kernels->largest = largest;
    kernels->nearest = nearest;
}
