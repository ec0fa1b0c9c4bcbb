/* Kernels over rows with AVX2. */
#include "device/cpu/vector_avx2.h"

#include "device/cpu/rows_vector.h"

const struct cpu_rows cpu_rows_avx2 = {
    .activate = activate,
    .gate = gate,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .add = add,
    .scale = scale,
    .rope = rope,
    .dot = dot,
};
