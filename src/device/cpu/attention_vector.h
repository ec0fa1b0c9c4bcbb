/* The register blocks of attention's products, in vectors of any width: included by
 * attention_….c after a vector_….h.
 *
 * A unit is what a lane of a multiplication takes: 4 bytes, one fp32 or a pair of bf16. A block
 * holds `rows` by `panels` sums in registers and goes over the depth once; each unit of a row is
 * broadcast once for all panels. Panels are the outer loop, so that those of one block stay in the
 * first cache while all rows pass. */
#ifndef DOCUSEARCH_DEVICE_CPU_ATTENTION_VECTOR_H
#define DOCUSEARCH_DEVICE_CPU_ATTENTION_VECTOR_H

#include "device/cpu/attention.h"

#include <float.h>

/* sum + unit * part, in each lane */
typedef vec multiply_units(vec sum, vec unit, vec part);

/* What a product works on, its strides in units. */
struct units {
    float *c;
    const float *a, *b;
    size_t c_stride, a_stride, panel_stride;
    int depth;
    bool add;
};

INLINE void units_block(const struct units *product, int row, int panel, int rows, int panels,
                        multiply_units *multiply) {
    const float *a = product->a + (size_t)row * product->a_stride;
    const float *b = product->b + (size_t)panel * product->panel_stride;
    float *c = product->c + (size_t)row * product->c_stride + (size_t)panel * LANES;
    vec sum[12][4];
    UNROLLED
    for (int r = 0; r < rows; r++) {
        UNROLLED
        for (int p = 0; p < panels; p++)
            sum[r][p] = product->add ? vec_load(c + (size_t)r * product->c_stride + p * LANES)
                                     : vec_set(0);
    }
    for (int unit = 0; unit < product->depth; unit++) {
        vec part[4];
        UNROLLED
        for (int p = 0; p < panels; p++)
            part[p] = vec_load(b + (size_t)p * product->panel_stride + (size_t)unit * LANES);
        UNROLLED
        for (int r = 0; r < rows; r++) {
            vec each = vec_set(a[(size_t)r * product->a_stride + (size_t)unit]);
            UNROLLED
            for (int p = 0; p < panels; p++)
                sum[r][p] = multiply(sum[r][p], each, part[p]);
        }
    }
    UNROLLED
    for (int r = 0; r < rows; r++) {
        UNROLLED
        for (int p = 0; p < panels; p++)
            vec_store(c + (size_t)r * product->c_stride + p * LANES, sum[r][p]);
    }
}

/* All rows, a multiple of UNITS_ROW_STEP; at_once is 6, 8 or 12. */
#define UNITS_ROW_STEP 4
INLINE void units_rows(const struct units *product, int panel, int n_rows, int at_once, int panels,
                       multiply_units *multiply) {
    int row = 0;
    for (; row + at_once <= n_rows; row += at_once)
        units_block(product, row, panel, at_once, panels, multiply);
    for (; row + 4 <= n_rows; row += 4)
        units_block(product, row, panel, 4, panels, multiply);
    if (row < n_rows)
        units_block(product, row, panel, 2, panels, multiply);
}

INLINE void units_product(const struct units *product, int n_rows, int n_panels,
                          multiply_units *multiply) {
    int panel = 0;
#if REGISTERS == 32
    for (; n_panels - panel >= 4 && n_panels - panel != 5; panel += 4)
        units_rows(product, panel, n_rows, 6, 4, multiply);
    for (; n_panels - panel >= 3; panel += 3)
        units_rows(product, panel, n_rows, 8, 3, multiply);
    for (; n_panels - panel >= 2; panel += 2)
        units_rows(product, panel, n_rows, 12, 2, multiply);
#else
    for (; n_panels - panel >= 2; panel += 2)
        units_rows(product, panel, n_rows, 6, 2, multiply);
#endif
    for (; panel < n_panels; panel++)
        units_rows(product, panel, n_rows, 12, 1, multiply);
}

/* The largest of n scores and `max`. */
INLINE float largest_score(const float *scores, int n, float max) {
    vec top = vec_set(max);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        top = vec_max(top, vec_load(scores + i));
    if (i < n)
        top = vec_max(top, vec_first(vec_load(scores + i), top, n - i));
    return vec_largest(top);
}

#endif
