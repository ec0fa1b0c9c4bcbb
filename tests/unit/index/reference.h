/* MaxSim as it is defined, in double. */
#ifndef DOCUSEARCH_TEST_REFERENCE_H
#define DOCUSEARCH_TEST_REFERENCE_H

#include <math.h>
#include <stddef.h>

static inline double maxsim_of(const float *query, int n_query, const float *vectors, int n,
                               int dim) {
    double sum = 0;
    for (int q = 0; q < n_query; q++) {
        double best = -INFINITY;
        for (int v = 0; v < n; v++) {
            double product = 0;
            for (int d = 0; d < dim; d++)
                product += (double)query[(size_t)q * (size_t)dim + (size_t)d] *
                           (double)vectors[(size_t)v * (size_t)dim + (size_t)d];
            best = product > best ? product : best;
        }
        sum += best;
    }
    return sum;
}

#endif
