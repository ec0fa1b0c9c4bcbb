/* Matrix kernels in AVX-512 without its dot products: fp32, and bf16 and int8 on processors before
 * VNNI and BF16. */
#include "device/cpu/gemm_zmm.h"

static __m512i multiply_fp32(__m512i sum, __m512i row, __m512i panel) {
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(row), _mm512_castsi512_ps(panel),
                                               _mm512_castsi512_ps(sum)));
}

/* bf16 is the upper half of fp32: the products are exact. */
static __m512i multiply_bf16(__m512i sum, __m512i row, __m512i panel) {
    __m512i upper = _mm512_set1_epi32((int)0xffff0000);
    sum = multiply_fp32(sum, _mm512_slli_epi32(row, 16), _mm512_slli_epi32(panel, 16));
    return multiply_fp32(sum, _mm512_and_si512(row, upper), _mm512_and_si512(panel, upper));
}

/* Exact: products of 16 bits are summed in 32 (vpmaddubsw would saturate at 16). */
static __m512i multiply_int8(__m512i sum, __m512i row, __m512i panel) {
    __m512i even = _mm512_madd_epi16(_mm512_and_si512(row, _mm512_set1_epi16(0xff)),
                                     _mm512_srai_epi16(_mm512_slli_epi16(panel, 8), 8));
    __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(row, 8), _mm512_srai_epi16(panel, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

static void fp32(const struct gemm_block *block) {
    zmm_kernel(block, multiply_fp32);
}

static void bf16(const struct gemm_block *block) {
    zmm_kernel(block, multiply_bf16);
}

static void int8(const struct gemm_block *block) {
    zmm_kernel(block, multiply_int8);
}

const struct gemm_kernel cpu_gemm_avx512_fp32 = {
    .name = "avx512", .multiply = fp32, .step_panels = 3, .pass_units = 64};
const struct gemm_kernel cpu_gemm_avx512_bf16 = {
    .name = "avx512", .multiply = bf16, .step_panels = 3, .pass_units = 64};
const struct gemm_kernel cpu_gemm_avx512_int8 = {
    .name = "avx512", .multiply = int8, .step_panels = 3, .pass_units = 64};
