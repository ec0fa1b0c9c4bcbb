/* Memory for activations and for what an operation works with. */
#ifndef DOCUSEARCH_DEVICE_CPU_MEMORY_H
#define DOCUSEARCH_DEVICE_CPU_MEMORY_H

#include "base/base.h"

/* n * size_bytes bytes, 64-byte aligned, contents undefined. ERROR_LIMIT "out_of_memory" when they
 * cannot be had; a large block is refused before the system would have to end a process for it. */
bool cpu_memory_new(void **out, size_t n, size_t size_bytes, struct error *err);
void cpu_memory_free(void *memory); /* NULL is fine */
/* Whole pages, huge where the system has them, taken at once; to be given to munmap. NULL when they
 * cannot be had. */
void *cpu_memory_map(size_t size_bytes);
/* What the machine, and the control group where this process has one to itself, still have; -1: not
 * known. */
int64_t cpu_memory_room_bytes(void);

#endif
