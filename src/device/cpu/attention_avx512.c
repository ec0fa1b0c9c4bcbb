/* Attention with AVX-512, elements fp32. */
#include "device/cpu/vector_avx512.h"

#include "device/cpu/attention_fp32.h"

const struct attention_kernels attention_avx512 = {
    .lanes = LANES,
    .depth_step = 1,
    .row_step = UNITS_ROW_STEP,
    .element_bytes = sizeof(float),
    .pack_row = pack_row,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .product = product,
    .soften = soften,
};
