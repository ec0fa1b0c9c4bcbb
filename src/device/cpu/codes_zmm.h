/* MaxSim over codes in AVX-512: two groups by twelve question vectors, 24 accumulators of 16
 * vectors each.
 *
 * Four elements of a question vector are broadcast once for both groups, so the load ports carry 14
 * loads for 24 multiplications, and a group's codes stay in the first cache while the question goes
 * past them. A file that includes this is compiled for AVX-512 and says how a step of four
 * dimensions is multiplied: STEP_BYTES of a question vector, step_codes, step_query, and the
 * functions that make and multiply them. */
#ifndef DOCUSEARCH_DEVICE_CPU_CODES_ZMM_H
#define DOCUSEARCH_DEVICE_CPU_CODES_ZMM_H

#include "device/cpu/codes_decode.h"

#define ZMM_QUERIES 12 /* in one pass over two groups; the rest of a block in fours */
#define ZMM_STEP 4

/* ---- products -------------------------------------------------------------------------------- */

struct pair {
    const int8_t *codes[2], *ahead[2]; /* ahead: what is fetched meanwhile */
    __m512 scales[2];
};

INLINE void multiply(code_lanes *lanes, const uint8_t *packed, const int32_t *starts,
                     const struct pair *pair, int n_steps, int n, int n_groups) {
    __m512i sum[2][ZMM_QUERIES];
    UNROLLED
    for (int q = 0; q < n; q++) {
        UNROLLED
        for (int g = 0; g < n_groups; g++)
            sum[g][q] = step_start(starts[q]);
    }
    const int8_t *codes[2] = {pair->codes[0], pair->codes[1]};
    const int8_t *ahead[2] = {pair->ahead[0], pair->ahead[1]};
    if (n_steps < 1) /* says that the loop runs: else gcc 12 copies each sum in it */
        __builtin_unreachable();
    for (int i = 0; i < n_steps; i++, packed += n * STEP_BYTES) {
        step_codes part[2];
        UNROLLED
        for (int g = 0; g < n_groups; g++) {
            part[g] = step_of(_mm512_loadu_si512(codes[g] + i * 64));
            _mm_prefetch((const char *)ahead[g] + i * 64, _MM_HINT_T0);
        }
        UNROLLED
        for (int q = 0; q < n; q++) {
            step_query query = step_query_of(packed + q * STEP_BYTES);
            UNROLLED
            for (int g = 0; g < n_groups; g++)
                sum[g][q] = step_multiply(sum[g][q], part[g], query);
        }
    }
    UNROLLED
    for (int q = 0; q < n; q++) {
        __m512 best = _mm512_loadu_ps(lanes[q]);
        UNROLLED
        for (int g = 0; g < n_groups; g++)
            best = _mm512_max_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[g][q]), pair->scales[g]),
                                 best);
        _mm512_storeu_ps(lanes[q], best);
    }
}

INLINE void multiply_all(code_lanes *lanes, const uint8_t *packed, const int32_t *starts,
                         const struct pair *pair, int n_steps, int n, int n_groups) {
    int q = 0;
    for (; n - q >= ZMM_QUERIES - ZMM_STEP + 1; q += ZMM_QUERIES) {
        multiply(lanes + q, packed, starts + q, pair, n_steps, ZMM_QUERIES, n_groups);
        packed += (size_t)n_steps * ZMM_QUERIES * STEP_BYTES;
    }
    if (n - q > ZMM_STEP)
        multiply(lanes + q, packed, starts + q, pair, n_steps, 2 * ZMM_STEP, n_groups);
    else if (n - q > 0)
        multiply(lanes + q, packed, starts + q, pair, n_steps, ZMM_STEP, n_groups);
}

INLINE void zmm_lanes(code_lanes *lanes, const struct maxsim_query *query, int first, int n,
                      const struct code_groups *groups, int8_t *decoded) {
    const int n_steps = query->code_dim / 4;
    const size_t group_bytes = code_group_bytes(query->code_dim, groups->bits);
    const uint8_t *packed = query->packed + (size_t)first * (size_t)n_steps * STEP_BYTES;
    const uint8_t *codes = groups->codes;
    const uint16_t *scales = groups->scales;
    for (int g = 0; g < groups->n; g += 2) {
        int n_now = groups->n - g < 2 ? 1 : 2;
        struct pair pair = {0};
        for (int i = 0; i < n_now; i++) {
            const uint8_t *ahead = code_groups_ahead(groups, g + i, group_bytes);
            pair.codes[i] = decode(decoded + (size_t)i * (size_t)n_steps * 64, codes, ahead,
                                   n_steps, groups->bits);
            pair.ahead[i] = groups->bits == 8 ? (const int8_t *)ahead : pair.codes[i];
            pair.scales[i] = scales_of(scales);
            codes += group_bytes;
            scales += CODE_GROUP;
        }
        if (n_now == 2)
            multiply_all(lanes, packed, query->starts + first, &pair, n_steps, n, 2);
        else
            multiply_all(lanes, packed, query->starts + first, &pair, n_steps, n, 1);
    }
}

/* ---- question vectors, as multiply wants them ------------------------------------------------ */

INLINE void zmm_pack(uint8_t *out, const int8_t *rows, int n, int code_dim) {
    for (int first = 0; first < n;) {
        int in_block = first % CODES_BLOCK;
        int end = first - in_block + CODES_BLOCK < n ? first - in_block + CODES_BLOCK : n;
        int n_now = end - first > ZMM_QUERIES - ZMM_STEP ? ZMM_QUERIES
                    : end - first > ZMM_STEP             ? 2 * ZMM_STEP
                                                         : ZMM_STEP;
        for (int d = 0; d < code_dim; d += 4) {
            for (int q = first; q < first + n_now; q++, out += STEP_BYTES) {
                static const int8_t none[4];
                step_pack(out, q < n ? rows + (size_t)q * (size_t)code_dim + d : none);
            }
        }
        first += n_now;
    }
}

#endif
