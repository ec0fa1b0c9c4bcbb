/* MaxSim by instruction set; maxsim.c says which is used. */
#ifndef DOCUSEARCH_DEVICE_CPU_MAXSIM_H
#define DOCUSEARCH_DEVICE_CPU_MAXSIM_H

/* Queries are handed over transposed, so that each lane is a query and no sum goes across lanes:
 * query[dim][MAXSIM_QUERIES], unused columns zero. scores[q] becomes the largest dot product with
 * any of the n > 0 rows of vectors, best[q] that row, the first of equals. */
#define MAXSIM_QUERIES 32
typedef void maxsim_kernel(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES],
                           const float *query, const float *vectors, int n, int dim);

void maxsim_avx2(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES], const float *query,
                 const float *vectors, int n, int dim);
void maxsim_avx512(float scores[MAXSIM_QUERIES], int best[MAXSIM_QUERIES], const float *query,
                   const float *vectors, int n, int dim);
maxsim_kernel *maxsim_kernel_for(unsigned features);

#endif
