/* The program of the matrix kernels: test_gemm.c tries them, gemm_bench.c measures them. */
#ifndef DOCUSEARCH_TESTS_KERNEL_GEMM_H
#define DOCUSEARCH_TESTS_KERNEL_GEMM_H

#include "device/cpu/gemm_internal.h"

int gemm_bench(int n_args, char **args);

/* Operations a second of the multiply instruction that `features` give a precision, out of
 * registers or tiles, on this thread; 0 where there is no such loop (plain C). */
double gemm_peak(unsigned features, enum precision precision);

#endif
