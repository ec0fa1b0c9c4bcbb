/* The bf16 matrix kernel with AVX-512's dot product of pairs. */
#include "device/cpu/gemm_zmm.h"

static __m512i multiply_pairs(__m512i sum, __m512i row, __m512i panel) {
    return _mm512_castps_si512(
        _mm512_dpbf16_ps(_mm512_castsi512_ps(sum), (__m512bh)row, (__m512bh)panel));
}

static void multiply(const struct gemm_block *block) {
    zmm_kernel(block, multiply_pairs);
}

const struct gemm_kernel cpu_gemm_avx512_dpbf16 = {
    .name = "avx512 bf16", .multiply = multiply, .step_panels = 3, .pass_units = 64};
