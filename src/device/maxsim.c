/* MaxSim on the host: late interaction's score of one page or passage.
 *
 * Query rows go through in blocks of MAXSIM_QUERIES, transposed once a block; the kernel then reads
 * the vectors once, holding some of them times all queries of the block in registers. */
#include "device/cpu/maxsim.h"
#include "device/cpu/cpu.h"

#include <assert.h>
#include <math.h>
#include <stdalign.h>
#include <string.h>

#define STACK_DIM 256 /* a larger block of queries comes from the heap */

static void maxsim_plain(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES], const float *query,
                         const float *vectors, int n, int dim) {
    for (int q = 0; q < MAXSIM_QUERIES; q++) {
        scores[q] = -INFINITY;
        best[q] = 0;
    }
    for (int i = 0; i < n; i++) {
        const float *vector = vectors + (size_t)i * (size_t)dim;
        float sums[MAXSIM_QUERIES] = {0};
        for (int d = 0; d < dim; d++) {
            for (int q = 0; q < MAXSIM_QUERIES; q++)
                sums[q] += query[d * MAXSIM_QUERIES + q] * vector[d];
        }
        for (int q = 0; q < MAXSIM_QUERIES; q++) {
            if (sums[q] > scores[q]) {
                scores[q] = sums[q];
                best[q] = i;
            }
        }
    }
}

maxsim_kernel *maxsim_kernel_for(unsigned features) {
#if defined(__x86_64__)
    if (features & CPU_AVX512)
        return maxsim_avx512;
    if (features & CPU_AVX2)
        return maxsim_avx2;
#endif
    (void)features;
    return maxsim_plain;
}

double maxsim_f32(const float *query, int n_query, const float *vectors, int n, int dim,
                  int *best) {
    assert(n_query >= 0 && n >= 0 && dim > 0);
    for (int q = 0; best && q < n_query; q++)
        best[q] = -1;
    if (n == 0)
        return 0;
    maxsim_kernel *kernel = maxsim_kernel_for(cpu_features());
    alignas(64) float on_stack[STACK_DIM * MAXSIM_QUERIES];
    float *block = on_stack;
    if (dim > STACK_DIM)
        block = mem_alloc((size_t)dim * MAXSIM_QUERIES * sizeof *block);

    double sum = 0;
    for (int first = 0; first < n_query; first += MAXSIM_QUERIES) {
        int n_block = n_query - first < MAXSIM_QUERIES ? n_query - first : MAXSIM_QUERIES;
        memset(block, 0, (size_t)dim * MAXSIM_QUERIES * sizeof *block);
        for (int q = 0; q < n_block; q++) {
            const float *row = query + (size_t)(first + q) * (size_t)dim;
            for (int d = 0; d < dim; d++)
                block[d * MAXSIM_QUERIES + q] = row[d];
        }
        float scores[MAXSIM_QUERIES];
        int rows[MAXSIM_QUERIES];
        kernel(scores, rows, block, vectors, n, dim);
        for (int q = 0; q < n_block; q++) {
            sum += (double)scores[q];
            if (best)
                best[first + q] = rows[q];
        }
    }
    if (block != on_stack)
        mem_free(block);
    return sum;
}
