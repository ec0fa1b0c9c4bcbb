/* Rows to the precision of a product, and back, in plain C.
 *
 * Before int8, a row is multiplied by a random orthogonal matrix in blocks of 128 to 1,024: fixed
 * random signs, then a Hadamard transform. Weights and activations both are, so that the product
 * stays (QuaRot, Ashkboos et al. 2024, §3; randomised as in QuIP#, Tseng et al. 2024, §3). It
 * spreads a channel that is much larger than the others, as trained models have, over its block, so
 * that the step of rounding is not that channel's: with 6 of 2,048 channels 50 times as large, the
 * error of a product falls from 15 % to 4 % in blocks of 128 and to 3 % in blocks of 1,024. The
 * transform is not normalised: the two of them multiply the product by the block's length, which
 * the weights' scales take back.
 *
 * All instruction sets add in the same order and so give the same bytes. */
#include "device/cpu/gemm_internal.h"

#include <math.h>
#include <string.h>

static void copy_fp32(uint8_t *out, size_t stride, const float *in, int k, int n_units) {
    for (int unit = 0; unit < n_units; unit++, out += stride) {
        int n = k - unit * 16;
        n = n < 0 ? 0 : n > 16 ? 16 : n;
        if (n > 0)
            memcpy(out, in + unit * 16, (size_t)n * sizeof *in);
        memset(out + n * 4, 0, (size_t)(GEMM_UNIT - n * 4));
    }
}

/* To the nearest, ties to even; what is not a number stays so. */
static uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static void round_bf16(uint8_t *out, size_t stride, const float *in, int k, int n_units) {
    for (int unit = 0; unit < n_units; unit++, out += stride) {
        uint16_t rounded[32];
        for (int i = 0; i < 32; i++)
            rounded[i] = unit * 32 + i < k ? bf16_of(in[unit * 32 + i]) : 0;
        memcpy(out, rounded, sizeof rounded);
    }
}

/* Bits of pi: as good as any. */
const uint16_t cpu_gemm_signs[GEMM_ROTATION / 16] = {0x243f, 0x6a88, 0x85a3, 0x08d3,
                                                     0x1319, 0x8a2e, 0x0370, 0x7344};

static void butterflies(float *x, int n, int distance) {
    for (int i = 0; i < n; i += 2 * distance) {
        for (int j = i; j < i + distance; j++) {
            float a = x[j], b = x[j + distance];
            x[j] = a + b;
            x[j + distance] = a - b;
        }
    }
}

static void rotate(float *out, const float *in, int k, int n_units, float *low, float *high) {
    int together = cpu_gemm_rotation(n_units);
    bool nan = false;
    *low = *high = 0;
    for (int i = 0; i < n_units * 64; i += together, out += together) {
        for (int j = 0; j < together; j++) {
            float value = i + j < k ? in[i + j] : 0;
            bool minus = cpu_gemm_signs[j % GEMM_ROTATION / 16] >> j % 16 & 1;
            out[j] = minus ? -value : value;
        }
        for (int distance = 1; distance < together; distance *= 2)
            butterflies(out, together, distance);
        for (int j = 0; j < together; j++) {
            *low = out[j] < *low ? out[j] : *low;
            *high = out[j] > *high ? out[j] : *high;
            nan = nan || out[j] != out[j];
        }
    }
    *high = nan ? NAN : *high;
}

static void round_int8(uint8_t *out, size_t stride, const float *in, int n_units, float factor,
                       int zero) {
    for (int unit = 0; unit < n_units; unit++, out += stride, in += GEMM_UNIT) {
        for (int i = 0; i < GEMM_UNIT; i++) {
            float scaled = in[i] * factor;
            /* 255 / range * range may be a little more than 255. */
            int value = fabsf(scaled) < 256 ? (int)lrintf(scaled) + zero : 0;
            out[i] = (uint8_t)(value < 255 ? value : 255);
        }
    }
}

static void turn(uint8_t *out, const uint8_t *in, int n_units) {
    size_t row_bytes = (size_t)n_units * GEMM_UNIT;
    for (int g = 0; g < n_units * GEMM_ROWS; g++, out += GEMM_UNIT)
        for (int r = 0; r < GEMM_ROWS; r++)
            memcpy(out + r * 4, in + (size_t)r * row_bytes + (size_t)g * 4, 4);
}

static void scale_sums(float *out, const int32_t *sums, int n, int32_t zero, float scale,
                       const int32_t *column_sums, const float *column_scales) {
    for (int i = 0; i < n; i++) {
        int32_t sum;
        memcpy(&sum, sums + i, sizeof sum);
        /* Unsigned, because the parts may pass 31 bits though the result does not. */
        sum = (int32_t)((uint32_t)sum - (uint32_t)zero * (uint32_t)column_sums[i]);
        out[i] = (float)sum * scale * column_scales[i];
    }
}

static void add(float *out, const float *in, const float *bias, const float *residual, int n) {
    for (int i = 0; i < n; i++)
        out[i] = in[i] + (bias ? bias[i] : 0) + (residual ? residual[i] : 0);
}

void cpu_gemm_rows_plain(struct gemm_rows *rows) {
    *rows = (struct gemm_rows){
        .to_fp32 = copy_fp32,
        .to_bf16 = round_bf16,
        .rotate = rotate,
        .to_int8 = round_int8,
        .turn = turn,
        .scale_sums = scale_sums,
        .add = add,
        .stream = add,
    };
}
