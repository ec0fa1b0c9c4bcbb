/* MaxSim over codes with ARM's dot product of fours: 16 vectors by six question vectors are 24
 * accumulators. */
#include "device/cpu/codes_neon_decode.h"

#define QUERIES 6

INLINE void multiply(code_lanes *lanes, const int8_t *rows, size_t row_bytes, const int8_t *codes,
                     const uint16_t *scales, int n_steps, int n) {
    int32x4_t sum[QUERIES][4];
    UNROLLED
    for (int q = 0; q < n; q++) {
        UNROLLED
        for (int v = 0; v < 4; v++)
            sum[q][v] = vdupq_n_s32(0);
    }
    for (int step = 0; step < n_steps; step++, codes += 64, rows += 4) {
        int8x16_t part[4];
        UNROLLED
        for (int v = 0; v < 4; v++)
            part[v] = vld1q_s8(codes + v * 16);
        UNROLLED
        for (int q = 0; q < n; q++) {
            int8x16_t each = broadcast(rows + (size_t)q * row_bytes);
            UNROLLED
            for (int v = 0; v < 4; v++)
                sum[q][v] = vdotq_s32(sum[q][v], part[v], each);
        }
    }
    UNROLLED
    for (int q = 0; q < n; q++) {
        UNROLLED
        for (int v = 0; v < 4; v++)
            raise(lanes[q] + v * 4, sum[q][v], scales + v * 4);
    }
}

INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b) {
    return vdotq_s32(sum, a, b);
}

#include "device/cpu/codes_neon.h"

void cpu_codes_neon_dot(struct cpu_codes *kernels) {
    kernels->name = "neon dotprod";
    kernels->lanes = lanes;
    kernels->dot_rows = neon_dot_rows;
}
