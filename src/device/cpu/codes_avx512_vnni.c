/* MaxSim over codes with AVX-512's dot product of fours, which wants one side unsigned: codes are
 * taken as 128 more than they are, and sums begin with what that adds, taken away. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define STEP_BYTES 4

typedef __m512i step_codes;
typedef __m512i step_query;

static inline __m512i step_start(int32_t start) {
    return _mm512_set1_epi32(start);
}

static inline step_codes step_of(__m512i codes) {
    return _mm512_xor_si512(codes, _mm512_set1_epi8((char)0x80));
}

static inline step_query step_query_of(const uint8_t *packed) {
    int32_t four;
    memcpy(&four, packed, sizeof four);
    return _mm512_set1_epi32(four);
}

/* _mm512_dpbusd_epi32; from that gcc 12 makes two copies of every sum in the loop. */
static inline __m512i step_multiply(__m512i sum, step_codes codes, step_query four) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(four));
    return sum;
}

static inline void step_pack(uint8_t *out, const int8_t four[4]) {
    memcpy(out, four, 4);
}

#include "device/cpu/codes_zmm.h"

static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    zmm_lanes(best, query, first, n, groups, decoded);
}

static void pack(uint8_t *out, const int8_t *rows, int n, int code_dim) {
    zmm_pack(out, rows, n, code_dim);
}

#define ROWS 4

/* The sums of the lanes of each. */
static __m128i totals(const __m512i sum[ROWS]) {
    __m512i first = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]),
                                     _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i second = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]),
                                      _mm512_unpackhi_epi32(sum[2], sum[3]));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(first, second),
                                   _mm512_unpackhi_epi64(first, second));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static void vnni_dot_rows(float *scores, const struct maxsim_query *query, const uint8_t *rows,
                          size_t stride, int64_t n_rows) {
    const int code_dim = query->code_dim;
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (int64_t i = 0; i < n_rows; i += ROWS, rows += ROWS * stride) {
        int n = n_rows - i < ROWS ? (int)(n_rows - i) : ROWS;
        const uint8_t *row[ROWS];
        __m512i sum[ROWS];
        UNROLLED
        for (int r = 0; r < ROWS; r++) {
            row[r] = rows + (size_t)(r < n ? r : 0) * stride;
            sum[r] = _mm512_setzero_si512();
        }
        for (int d = 0; d < code_dim; d += 64) {
            __m512i part = _mm512_loadu_si512(query->rows + d);
            UNROLLED
            for (int r = 0; r < ROWS; r++) {
                __m512i codes = _mm512_xor_si512(_mm512_loadu_si512(row[r] + d), flip);
                sum[r] = _mm512_dpbusd_epi32(sum[r], codes, part);
                _mm_prefetch((const char *)row[r] + d + CODES_AHEAD_BYTES, _MM_HINT_T0);
            }
        }
        float scales[ROWS];
        for (int r = 0; r < ROWS; r++)
            memcpy(&scales[r], row[r] + code_dim, sizeof scales[r]);
        __m128i total = _mm_add_epi32(totals(sum), _mm_set1_epi32(query->starts[0]));
        __m128 values = _mm_mul_ps(_mm_cvtepi32_ps(total), _mm_loadu_ps(scales));
        values = _mm_mul_ps(values, _mm_set1_ps(query->scales[0]));
        _mm_mask_storeu_ps(scores + i, (__mmask8)((1u << n) - 1), values);
    }
}

void cpu_codes_avx512_vnni(struct cpu_codes *kernels) {
    kernels->name = "avx512 vnni";
    kernels->pack = pack;
    kernels->pack_step = ZMM_STEP;
    kernels->pack_bytes = STEP_BYTES / 4;
    kernels->lanes = lanes;
    kernels->dot_rows = vnni_dot_rows;
}
