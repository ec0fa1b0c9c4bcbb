/* Kernels over rows by instruction set; rows.c says which are used. */
#ifndef DOCUSEARCH_DEVICE_CPU_ROWS_H
#define DOCUSEARCH_DEVICE_CPU_ROWS_H

#include "device/cpu/cpu.h"

extern const struct cpu_rows cpu_rows_avx2;
extern const struct cpu_rows cpu_rows_avx512;

#endif
