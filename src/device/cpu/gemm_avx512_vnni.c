/* The int8 matrix kernel with AVX-512's dot product of fours: u8 by s8, summed in 32 bits without
 * saturation between. */
#include "device/cpu/gemm_zmm.h"

static __m512i multiply_fours(__m512i sum, __m512i row, __m512i panel) {
    return _mm512_dpbusd_epi32(sum, row, panel);
}

static void multiply(const struct gemm_block *block) {
    zmm_kernel(block, multiply_fours);
}

const struct gemm_kernel cpu_gemm_avx512_vnni = {
    .name = "avx512 vnni", .multiply = multiply, .step_panels = 3, .pass_units = 64};
