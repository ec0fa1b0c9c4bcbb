/* Kernels over rows with AVX-512. */
#include "device/cpu/vector_avx512.h"

#include "device/cpu/rows_vector.h"

const struct cpu_rows cpu_rows_avx512 = {
    .activate = activate,
    .gate = gate,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .add = add,
    .scale = scale,
    .rope = rope,
    .dot = dot,
};
