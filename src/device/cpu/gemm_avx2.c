/* Matrix kernels in AVX2: 4 rows by one panel, that is, by two vectors of 8 columns. bf16 is
 * widened to fp32 (its products are exact), int8 to 16 bits: vpmaddubsw would saturate. */
#include "device/cpu/gemm_internal.h"
#include "device/cpu/vector.h"

#include <immintrin.h>

/* sum += group of a row · group of a panel, 8 columns. */
typedef __m256i ymm_multiply(__m256i sum, __m256i row, __m256i panel);

static __m256i multiply_fp32(__m256i sum, __m256i row, __m256i panel) {
    return _mm256_castps_si256(_mm256_fmadd_ps(_mm256_castsi256_ps(row), _mm256_castsi256_ps(panel),
                                               _mm256_castsi256_ps(sum)));
}

static __m256i multiply_bf16(__m256i sum, __m256i row, __m256i panel) {
    __m256i upper = _mm256_set1_epi32((int)0xffff0000);
    sum = multiply_fp32(sum, _mm256_slli_epi32(row, 16), _mm256_slli_epi32(panel, 16));
    return multiply_fp32(sum, _mm256_and_si256(row, upper), _mm256_and_si256(panel, upper));
}

static __m256i multiply_int8(__m256i sum, __m256i row, __m256i panel) {
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(row, _mm256_set1_epi16(0xff)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(panel, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(row, 8), _mm256_srai_epi16(panel, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

INLINE __m256i load(const void *from) {
    return _mm256_loadu_si256(from);
}

INLINE void block_rows(const struct gemm_block *block, int row, int panel, int n_rows,
                       ymm_multiply *multiply) {
    const uint8_t *rows = block->rows + (size_t)(row / GEMM_ROWS) * block->rows_stride +
                          (size_t)(row % GEMM_ROWS) * GEMM_UNIT;
    const uint8_t *groups = block->panels + (size_t)panel * block->panel_stride;
    size_t stride = (size_t)block->stride;
    int32_t *sums = (int32_t *)block->sums + (size_t)row * stride + (size_t)block->columns[panel];
    __m256i low[4], high[4];
    UNROLLED
    for (int r = 0; r < n_rows; r++) {
        low[r] = block->add ? load(sums + (size_t)r * stride) : _mm256_setzero_si256();
        high[r] = block->add ? load(sums + (size_t)r * stride + 8) : _mm256_setzero_si256();
    }
    for (int unit = 0; unit < block->n_units; unit++, rows += GEMM_TILE) {
        for (int group = 0; group < GEMM_ROWS; group++, groups += GEMM_UNIT) {
            __m256i first = load(groups), second = load(groups + 32);
            UNROLLED
            for (int r = 0; r < n_rows; r++) {
                int32_t four;
                __builtin_memcpy(&four, rows + r * GEMM_UNIT + group * 4, sizeof four);
                __m256i each = _mm256_set1_epi32(four);
                low[r] = multiply(low[r], each, first);
                high[r] = multiply(high[r], each, second);
            }
        }
    }
    UNROLLED
    for (int r = 0; r < n_rows; r++) {
        _mm256_storeu_si256((__m256i *)(sums + (size_t)r * stride), low[r]);
        _mm256_storeu_si256((__m256i *)(sums + (size_t)r * stride + 8), high[r]);
    }
}

INLINE void kernel(const struct gemm_block *block, ymm_multiply *multiply) {
    for (int panel = 0; panel < block->n_panels; panel++) {
        int row = 0;
        for (; row + 2 < block->n_rows; row += 4)
            block_rows(block, row, panel, 4, multiply);
        for (; row < block->n_rows; row++)
            block_rows(block, row, panel, 1, multiply);
    }
}

static void fp32(const struct gemm_block *block) {
    kernel(block, multiply_fp32);
}

static void bf16(const struct gemm_block *block) {
    kernel(block, multiply_bf16);
}

static void int8(const struct gemm_block *block) {
    kernel(block, multiply_int8);
}

const struct gemm_kernel cpu_gemm_avx2_fp32 = {
    .name = "avx2", .multiply = fp32, .step_panels = 1, .pass_units = 32};
const struct gemm_kernel cpu_gemm_avx2_bf16 = {
    .name = "avx2", .multiply = bf16, .step_panels = 1, .pass_units = 32};
const struct gemm_kernel cpu_gemm_avx2_int8 = {
    .name = "avx2", .multiply = int8, .step_panels = 1, .pass_units = 32};
