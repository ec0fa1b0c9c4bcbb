/* MaxSim with AVX-512. */
#include "device/cpu/vector_avx512.h"

#include "device/cpu/maxsim_vector.h"

void maxsim_avx512(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES], const float *query,
                   const float *vectors, int n, int dim) {
    maxsim(scores, best, query, vectors, n, dim);
}
