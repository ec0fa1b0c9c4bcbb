/* MaxSim over codes in NEON, for both ways to multiply. A file that includes this says how:
 * QUERIES, multiply of so many question vectors or fewer, add_products of 16 elements. */
#ifndef DOCUSEARCH_DEVICE_CPU_CODES_NEON_H
#define DOCUSEARCH_DEVICE_CPU_CODES_NEON_H

#include "device/cpu/codes_neon_decode.h"

static void lanes(code_lanes *best, const struct maxsim_query *query, int first, int n,
                  const struct code_groups *groups, int8_t *decoded) {
    const int n_steps = query->code_dim / 4;
    const size_t row_bytes = (size_t)query->code_dim;
    const size_t group_bytes = code_group_bytes(query->code_dim, groups->bits);
    const int8_t *rows = query->rows + (size_t)first * row_bytes;
    for (int g = 0; g < groups->n; g++) {
        const uint8_t *ahead = code_groups_ahead(groups, g, group_bytes);
        for (size_t line = 0; line < group_bytes && line < CODES_AHEAD_BYTES; line += 64)
            __builtin_prefetch(ahead + line);
        const int8_t *codes = decode(decoded, groups->codes + (size_t)g * group_bytes, n_steps,
                                     groups->bits);
        const uint16_t *scales = groups->scales + (size_t)g * CODE_GROUP;
        int q = 0;
        for (; q + QUERIES <= n; q += QUERIES)
            multiply(best + q, rows + (size_t)q * row_bytes, row_bytes, codes, scales, n_steps,
                     QUERIES);
        for (; q + 2 <= n; q += 2)
            multiply(best + q, rows + (size_t)q * row_bytes, row_bytes, codes, scales, n_steps, 2);
        if (q < n)
            multiply(best + q, rows + (size_t)q * row_bytes, row_bytes, codes, scales, n_steps, 1);
    }
}

static void neon_dot_rows(float *scores, const struct maxsim_query *query, const uint8_t *rows,
                          size_t stride, int64_t n_rows) {
    for (int64_t i = 0; i < n_rows; i++, rows += stride) {
        int32x4_t sum[4];
        UNROLLED
        for (int j = 0; j < 4; j++)
            sum[j] = vdupq_n_s32(0);
        for (int d = 0; d < query->code_dim; d += 64) {
            UNROLLED
            for (int j = 0; j < 4; j++)
                sum[j] = add_products(sum[j], vld1q_s8((const int8_t *)rows + d + j * 16),
                                      vld1q_s8(query->rows + d + j * 16));
        }
        int32_t total = vaddvq_s32(vaddq_s32(vaddq_s32(sum[0], sum[1]), vaddq_s32(sum[2], sum[3])));
        float scale;
        memcpy(&scale, rows + query->code_dim, sizeof scale);
        scores[i] = (float)total * scale * query->scales[0];
    }
}

#endif
