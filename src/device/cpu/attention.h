/* Attention's kernels, one table an instruction set.
 *
 * Both of its products, q kᵀ and p v, are one kernel: a block of rows `a` (depth elements each, row
 * after row) times panels `b`. A panel holds `lanes` columns over the whole depth; two elements
 * that follow each other in depth lie side by side where an element is bf16:
 *
 *     fp32  b[depth][lanes]        bf16  b[depth / 2][lanes][2]
 *
 * For q kᵀ the columns are keys and the depth is the head's dimension; for p v the columns are the
 * head's dimensions and the depth is keys. */
#ifndef DOCUSEARCH_DEVICE_CPU_ATTENTION_H
#define DOCUSEARCH_DEVICE_CPU_ATTENTION_H

#include "device/cpu/cpu.h"

struct attention_kernels {
    int lanes;
    int depth_step;    /* depths are padded to a multiple of it, with zeros */
    int row_step;      /* rows of a block are padded to a multiple of it, with zeros */
    int element_bytes; /* of a and b */

    /* One row of a: factor * in[dim], padded to depth. */
    void (*pack_row)(void *out, const float *in, float factor, int dim, int depth);
    /* One panel of n keys (at most lanes): in[n] rows of dim, `stride` floats apart. */
    void (*pack_keys)(void *panel, const float *in, int64_t stride, int n, int dim, int depth);
    /* n values, as rows of dim, into all panels (panel_bytes apart); depth: n padded. */
    void (*pack_values)(void *panels, size_t panel_bytes, const float *in, int64_t stride, int n,
                        int dim, int depth);
    /* c[rows][n_panels * lanes] = a · b, or += where add. c's rows are c_stride floats apart, a's
     * a_stride elements, panels panel_bytes. */
    void (*product)(float *c, int c_stride, const void *a, int a_stride, const void *b,
                    size_t panel_bytes, int rows, int n_panels, int depth, bool add);
    /* One row of scores, in powers of two: p = 2^(score - max) for n of them, max raised first to
     * the largest score, padded to depth. Lowers *sum to the new max and adds p to it; returns the
     * factor that lowers what was summed before. */
    float (*soften)(void *p, const float *scores, float *max, float *sum, int n, int depth);
};

extern const struct attention_kernels attention_avx2;
extern const struct attention_kernels attention_avx512;
extern const struct attention_kernels attention_avx512_bf16;
extern const struct attention_kernels attention_amx; /* with what has AVX-512 and its bf16 too */

/* attention_avx512_bf16's, for other tables of the same packing. */
void attention_pairs_row(void *out, const float *in, float factor, int dim, int depth);
void attention_pairs_keys(void *panel, const float *in, int64_t stride, int n, int dim, int depth);
void attention_pairs_values(void *panels, size_t panel_bytes, const float *in, int64_t stride,
                            int n, int dim, int depth);
float attention_pairs_soften(void *p, const float *scores, float *max, float *sum, int n,
                             int depth);

/* The table for these features, products in this precision or a better one. */
const struct attention_kernels *attention_kernels_for(unsigned features, enum precision precision);

#endif
