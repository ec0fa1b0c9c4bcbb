/* Attention with AVX-512's dot product of bf16 pairs. */
#include "device/cpu/vector_avx512.h"

#include "device/cpu/attention_vector.h"

#define ALL_PAIRS 0xffffffffu

/* Floats i and i + 1 of a row, factor * each, as bf16 pairs; past dim, zeros. */
INLINE __m512i pairs_of(const float *in, vec factor, int dim) {
    vec low = dim >= LANES ? vec_load(in) : vec_load_some(in, dim);
    vec high = vec_set(0);
    if (dim > LANES)
        high = dim >= 2 * LANES ? vec_load(in + LANES) : vec_load_some(in + LANES, dim - LANES);
    return (__m512i)_mm512_cvtne2ps_pbh(vec_mul(high, factor), vec_mul(low, factor));
}

void attention_pairs_row(void *out, const float *in, float factor, int dim, int depth) {
    uint16_t *row = out;
    for (int i = 0; i < depth; i += 2 * LANES) {
        int left = depth - i;
        __mmask32 some = left < 2 * LANES ? (1u << left) - 1 : ALL_PAIRS;
        _mm512_mask_storeu_epi16(row + i, some, pairs_of(in + i, vec_set(factor), dim - i));
    }
}

/* Sixteen keys become lanes: 32 dimensions of each are rounded, and the square of their pairs
 * transposed. */
void attention_pairs_keys(void *panel, const float *in, int64_t stride, int n, int dim, int depth) {
    int32_t *out = panel;
    for (int d = 0; d < depth; d += 2 * LANES, out += LANES * LANES) {
        __m512i rows[LANES];
        for (int key = 0; key < LANES; key++)
            rows[key] = key < n ? pairs_of(in + key * stride + d, vec_set(1), dim - d)
                                : _mm512_setzero_si512();
        transpose_16(rows);
        int n_pairs = depth - d < 2 * LANES ? (depth - d) / 2 : LANES;
        for (int pair = 0; pair < n_pairs; pair++)
            _mm512_storeu_si512(out + pair * LANES, rows[pair]);
    }
}

/* LANES floats of one row as bf16, one in each 32-bit lane; zeros past dim. */
INLINE __m512i widened(const float *in, int dim) {
    vec x = dim < LANES ? vec_load_some(in, dim) : vec_load(in);
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
}

void attention_pairs_values(void *panels, size_t panel_bytes, const float *in, int64_t stride,
                            int n, int dim, int depth) {
    for (int key = 0; key < depth; key += 2) {
        char *out = (char *)panels + (size_t)key * LANES * sizeof(uint16_t);
        for (int d = 0; d < dim; d += LANES, out += panel_bytes) {
            const float *from = in + key * stride + d;
            __m512i first = key < n ? widened(from, dim - d) : _mm512_setzero_si512();
            __m512i second = key + 1 < n ? widened(from + stride, dim - d) : _mm512_setzero_si512();
            _mm512_storeu_si512(out, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
        }
    }
}

INLINE vec multiply(vec sum, vec unit, vec part) {
    return _mm512_dpbf16_ps(sum, (__m512bh)unit, (__m512bh)part);
}

static void product(float *c, int c_stride, const void *a, int a_stride, const void *b,
                    size_t panel_bytes, int rows, int n_panels, int depth, bool add) {
    struct units units = {
        .c = c,
        .a = a,
        .b = b,
        .c_stride = (size_t)c_stride,
        .a_stride = (size_t)a_stride / 2,
        .panel_stride = panel_bytes / sizeof(float),
        .depth = depth / 2,
        .add = add,
    };
    units_product(&units, rows, n_panels, multiply);
}

/* 2^x for x of at most 0, to 1.1e-4 of it: a twentieth of what rounding to bf16 takes. */
INLINE vec power_of_two(vec x) {
    vec n = vec_round(x), r = vec_sub(x, n);
    vec p = vec_fma(vec_set(0.0550069883f), r, vec_set(0.242218882f));
    p = vec_fma(p, r, vec_set(0.693284035f));
    return vec_ldexp(vec_fma(p, r, vec_set(1)), n);
}

float attention_pairs_soften(void *p, const float *scores, float *max, float *sum, int n,
                             int depth) {
    (void)depth; /* rows of scores and p have room for whole vectors */
    uint16_t *out = p;
    float old = *max;
    *max = largest_score(scores, n, old);
    vec top = vec_set(*max), lowest = vec_set(-151), total = vec_set(0);
    for (int i = 0; i < n; i += 2 * LANES) {
        vec low = vec_sub(vec_load(scores + i), top);
        vec high = vec_sub(vec_load(scores + i + LANES), top);
        low = power_of_two(vec_max(lowest, low));
        high = power_of_two(vec_max(lowest, high));
        int left = n - i;
        if (left < 2 * LANES) {
            low = left < LANES ? vec_first(low, vec_set(0), left) : low;
            high = left > LANES ? vec_first(high, vec_set(0), left - LANES) : vec_set(0);
        }
        total = vec_add(total, vec_add(low, high));
        _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    float lower = _mm512_cvtss_f32(power_of_two(vec_max(lowest, vec_sub(vec_set(old), top))));
    *sum = *sum * lower + vec_total(total);
    return lower;
}

const struct attention_kernels attention_avx512_bf16 = {
    .lanes = LANES,
    .depth_step = 2,
    .row_step = UNITS_ROW_STEP,
    .element_bytes = sizeof(uint16_t),
    .pack_row = attention_pairs_row,
    .pack_keys = attention_pairs_keys,
    .pack_values = attention_pairs_values,
    .product = product,
    .soften = attention_pairs_soften,
};
