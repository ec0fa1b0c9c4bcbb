/* What kernels over vectors ask of the compiler. */
#ifndef DOCUSEARCH_DEVICE_CPU_VECTOR_H
#define DOCUSEARCH_DEVICE_CPU_VECTOR_H

#define INLINE static inline __attribute__((always_inline))

/* Before a loop of at most 16 turns, their number known once the function is inlined: it becomes as
 * many copies of its body, so that an array it goes through can be registers. UNROLLED_BY_4:
 * four of them, for a longer loop. */
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#define UNROLLED_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#define UNROLLED_BY_4 _Pragma("GCC unroll 4")
#endif

#endif
