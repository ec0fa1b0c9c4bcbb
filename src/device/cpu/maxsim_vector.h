/* MaxSim's kernel in vectors of any width: included once by maxsim_avx2.c and once by
 * maxsim_avx512.c, each after its vector_….h.
 *
 * A lane is a query. As many vectors as registers hold, times all queries of the block, are summed
 * in one pass over the dimensions, so that each element read serves all queries. */
#ifndef DOCUSEARCH_DEVICE_CPU_MAXSIM_VECTOR_H
#define DOCUSEARCH_DEVICE_CPU_MAXSIM_VECTOR_H

#include "device/cpu/maxsim.h"

#include <math.h>
#include <stddef.h>

#define N_PARTS (MAXSIM_QUERIES / LANES) /* of a block of queries */
/* The sums leave room for the best yet, the parts and what is multiplied with them. */
#define N_ROWS (REGISTERS == 32 ? 10 : 3)

struct best_yet {
    vec scores[N_PARTS];
    vec_int rows[N_PARTS];
};

INLINE void take_rows(struct best_yet *yet, const float *query, const float *vectors, int first,
                      int n_rows, int dim) {
    const float *rows = vectors + (size_t)first * (size_t)dim;
    vec sum[N_ROWS][N_PARTS];
    UNROLLED
    for (int r = 0; r < n_rows; r++) {
        UNROLLED
        for (int p = 0; p < N_PARTS; p++)
            sum[r][p] = vec_set(0);
    }
    for (int d = 0; d < dim; d++) {
        vec part[N_PARTS];
        UNROLLED
        for (int p = 0; p < N_PARTS; p++)
            part[p] = vec_load(query + (size_t)d * MAXSIM_QUERIES + p * LANES);
        UNROLLED
        for (int r = 0; r < n_rows; r++) {
            vec each = vec_set(rows[(size_t)r * (size_t)dim + (size_t)d]);
            UNROLLED
            for (int p = 0; p < N_PARTS; p++)
                sum[r][p] = vec_fma(each, part[p], sum[r][p]);
        }
    }
    UNROLLED
    for (int r = 0; r < n_rows; r++) {
        vec_int row = vec_int_set(first + r);
        UNROLLED
        for (int p = 0; p < N_PARTS; p++)
            yet->scores[p] = vec_take_larger(sum[r][p], yet->scores[p], row, &yet->rows[p]);
    }
}

INLINE void maxsim(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES], const float *query,
                   const float *vectors, int n, int dim) {
    struct best_yet yet;
    for (int p = 0; p < N_PARTS; p++) {
        yet.scores[p] = vec_set(-INFINITY);
        yet.rows[p] = vec_int_set(0);
    }
    int row = 0;
    for (; row + N_ROWS <= n; row += N_ROWS)
        take_rows(&yet, query, vectors, row, N_ROWS, dim);
    for (; row + 3 <= n; row += 3)
        take_rows(&yet, query, vectors, row, 3, dim);
    for (; row < n; row++)
        take_rows(&yet, query, vectors, row, 1, dim);
    for (int p = 0; p < N_PARTS; p++) {
        vec_store(scores + p * LANES, yet.scores[p]);
        vec_int_store(best + p * LANES, yet.rows[p]);
    }
}

#endif
