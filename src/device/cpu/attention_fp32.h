/* Attention's kernels with fp32 elements, in vectors of any width: included once by
 * attention_avx2.c and once by attention_avx512.c, each after its vector_….h. */
#ifndef DOCUSEARCH_DEVICE_CPU_ATTENTION_FP32_H
#define DOCUSEARCH_DEVICE_CPU_ATTENTION_FP32_H

#include "device/cpu/attention_vector.h"

static void pack_row(void *out, const float *in, float factor, int dim, int depth) {
    (void)depth;
    float *row = out;
    for (int i = 0; i < dim; i++)
        row[i] = factor * in[i];
}

/* Keys become lanes: LANES rows, a square at a time, each column gathered. */
static void pack_keys(void *panel, const float *in, int64_t stride, int n, int dim, int depth) {
    (void)depth;
    float *out = panel;
    for (int d = 0; d < dim; d++) {
        for (int key = 0; key < LANES; key++)
            out[d * LANES + key] = key < n ? in[key * stride + d] : 0;
    }
}

static void pack_values(void *panels, size_t panel_bytes, const float *in, int64_t stride, int n,
                        int dim, int depth) {
    for (int key = 0; key < depth; key++) {
        float *out = (float *)panels + (size_t)key * LANES;
        for (int d = 0; d < dim; d += LANES, out += panel_bytes / sizeof *out) {
            const float *from = in + key * stride + d;
            if (key >= n)
                vec_store(out, vec_set(0));
            else
                vec_store(out, dim - d < LANES ? vec_load_some(from, dim - d) : vec_load(from));
        }
    }
}

INLINE vec multiply(vec sum, vec unit, vec part) {
    return vec_fma(unit, part, sum);
}

static void product(float *c, int c_stride, const void *a, int a_stride, const void *b,
                    size_t panel_bytes, int rows, int n_panels, int depth, bool add) {
    struct units units = {
        .c = c,
        .a = a,
        .b = b,
        .c_stride = (size_t)c_stride,
        .a_stride = (size_t)a_stride,
        .panel_stride = panel_bytes / sizeof(float),
        .depth = depth,
        .add = add,
    };
    units_product(&units, rows, n_panels, multiply);
}

/* 2^x for x of at most 0, to 2e-7 of it: the whole part goes to the exponent, a minimax polynomial
 * (2.0e-9) takes the rest. */
INLINE vec power_of_two(vec x) {
    x = vec_max(vec_set(-151), x);
    vec n = vec_round(x), r = vec_sub(x, n);
    vec p = vec_fma(vec_set(0.000153531539f), r, vec_set(0.00133991323f));
    p = vec_fma(p, r, vec_set(0.00961843971f));
    p = vec_fma(p, r, vec_set(0.0555033199f));
    p = vec_fma(p, r, vec_set(0.240226477f));
    p = vec_fma(p, r, vec_set(0.693147182f));
    return vec_ldexp(vec_fma(p, r, vec_set(1)), n);
}

static float soften(void *p, const float *scores, float *max, float *sum, int n, int depth) {
    (void)depth; /* rows of scores and p have room for whole vectors */
    float *out = p, old = *max;
    *max = largest_score(scores, n, old);
    vec top = vec_set(*max), total = vec_set(0);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec e = power_of_two(vec_sub(vec_load(scores + i), top));
        total = vec_add(total, e);
        vec_store(out + i, e);
    }
    if (i < n) {
        vec e = power_of_two(vec_sub(vec_load(scores + i), top));
        e = vec_first(e, vec_set(0), n - i);
        total = vec_add(total, e);
        vec_store(out + i, e);
    }
    float first[LANES];
    vec_store(first, power_of_two(vec_sub(vec_set(old), top)));
    *sum = *sum * first[0] + vec_total(total);
    return first[0];
}

#endif
