/* Rows to bf16 by AVX-512's own conversion (to the nearest, ties to even; denormals to zero). */
#include "device/cpu/gemm_internal.h"
#include "device/cpu/vector_avx512.h"

static void round_bf16(uint8_t *out, size_t stride, const float *in, int k, int n_units) {
    for (int unit = 0; unit < n_units; unit++, out += stride) {
        int i = unit * 32;
        __m512 first = _mm512_maskz_loadu_ps(lanes_before(k - i), in + i);
        __m512 second = _mm512_maskz_loadu_ps(lanes_before(k - i - 16), in + i + 16);
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(second, first));
    }
}

void cpu_gemm_rows_avx512_bf16(struct gemm_rows *rows) {
    rows->to_bf16 = round_bf16;
}
