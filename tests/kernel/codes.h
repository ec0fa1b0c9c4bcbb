/* The program of MaxSim over codes: test_codes.c tries it, codes_bench.c measures it. */
#ifndef DOCUSEARCH_TESTS_KERNEL_CODES_H
#define DOCUSEARCH_TESTS_KERNEL_CODES_H

#include "device/cpu/codes.h"

int codes_bench(int n_args, char **args);

#endif
