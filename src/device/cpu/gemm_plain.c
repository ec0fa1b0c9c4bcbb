/* Matrix kernels in plain C: what every instruction set is compared with. */
#include "device/cpu/gemm_internal.h"

#include <string.h>

static float upper_half(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void group_fp32(void *sums, const uint8_t *row, const uint8_t *panel) {
    float a, b[GEMM_ROWS], *sum = sums;
    memcpy(&a, row, sizeof a);
    memcpy(b, panel, sizeof b);
    for (int c = 0; c < GEMM_ROWS; c++)
        sum[c] += a * b[c];
}

static void group_bf16(void *sums, const uint8_t *row, const uint8_t *panel) {
    uint32_t a, b[GEMM_ROWS];
    float *sum = sums;
    memcpy(&a, row, sizeof a);
    memcpy(b, panel, sizeof b);
    float first = upper_half(a << 16), second = upper_half(a & 0xffff0000u);
    for (int c = 0; c < GEMM_ROWS; c++) {
        sum[c] += first * upper_half(b[c] << 16);
        sum[c] += second * upper_half(b[c] & 0xffff0000u);
    }
}

static void group_int8(void *sums, const uint8_t *row, const uint8_t *panel) {
    int32_t *sum = sums;
    const int8_t *b = (const int8_t *)panel;
    for (int c = 0; c < GEMM_ROWS; c++, b += 4)
        sum[c] += row[0] * b[0] + row[1] * b[1] + row[2] * b[2] + row[3] * b[3];
}

static inline void multiply(const struct gemm_block *block,
                            void (*group)(void *sums, const uint8_t *row, const uint8_t *panel)) {
    for (int p = 0; p < block->n_panels; p++) {
        const uint8_t *panel = block->panels + (size_t)p * block->panel_stride;
        for (int r = 0; r < block->n_rows; r++) {
            const uint8_t *row = block->rows + (size_t)(r / GEMM_ROWS) * block->rows_stride +
                                 (size_t)(r % GEMM_ROWS) * GEMM_UNIT;
            uint8_t *sums = (uint8_t *)block->sums +
                            ((size_t)r * (size_t)block->stride + (size_t)block->columns[p]) * 4;
            if (!block->add)
                memset(sums, 0, GEMM_UNIT);
            for (int unit = 0; unit < block->n_units; unit++)
                for (int g = 0; g < GEMM_ROWS; g++)
                    group(sums, row + (size_t)unit * GEMM_TILE + g * 4,
                          panel + (size_t)unit * GEMM_TILE + g * GEMM_UNIT);
        }
    }
}

static void fp32(const struct gemm_block *block) {
    multiply(block, group_fp32);
}

static void bf16(const struct gemm_block *block) {
    multiply(block, group_bf16);
}

static void int8(const struct gemm_block *block) {
    multiply(block, group_int8);
}

const struct gemm_kernel cpu_gemm_plain_fp32 = {
    .name = "plain C", .multiply = fp32, .step_panels = 1, .pass_units = 64};
const struct gemm_kernel cpu_gemm_plain_bf16 = {
    .name = "plain C", .multiply = bf16, .step_panels = 1, .pass_units = 64};
const struct gemm_kernel cpu_gemm_plain_int8 = {
    .name = "plain C", .multiply = int8, .step_panels = 1, .pass_units = 64};
