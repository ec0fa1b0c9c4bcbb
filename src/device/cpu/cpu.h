/* The CPU device, inside: processor features, threads, matrix kernels, row kernels.
 *
 * Activations are fp32, row-major, 64-byte aligned. Every kernel has a plain C form; tables are
 * filled with it and then overridden by the best instruction set found at run time. Instruction
 * sets live in files of their own (…_avx2.c, …_avx512.c, …_amx.c), each compiled with its flags;
 * nothing outside them is. */
#ifndef DOCUSEARCH_DEVICE_CPU_H
#define DOCUSEARCH_DEVICE_CPU_H

#include "device/device.h"

/* ---- features.c ----------------------------------------------------------------------------- */

enum cpu_feature {
    CPU_AVX2 = 1,        /* with FMA and F16C */
    CPU_AVX512 = 2,      /* F, BW, DQ, VL */
    CPU_AVX512_VNNI = 4, /* vpdpbusd */
    CPU_AVX512_BF16 = 8, /* vdpbf16ps */
    CPU_AMX_INT8 = 16,   /* and the kernel has granted the tile state */
    CPU_AMX_BF16 = 32,
    CPU_AVX512_POPCNT = 64, /* vpopcntq */
    CPU_NEON = 128,         /* of every 64-bit ARM */
    CPU_NEON_DOT = 256,     /* sdot */
};
/* What the processor has, asked once; DOCUSEARCH_KERNELS=plain|avx2|avx512|amx allows no more than
 * that (plain: nothing). */
unsigned cpu_features(void);

/* ---- pool.c --------------------------------------------------------------------------------- */

/* Threads that wait for work; the caller works too. */
struct cpu_pool;
bool cpu_pool_open(struct cpu_pool **out, int n_threads, struct error *err);
void cpu_pool_close(struct cpu_pool *pool); /* NULL is fine */
int cpu_pool_threads(const struct cpu_pool *pool);
/* work(ctx, i) for each i of 0..n-1, handed out in order, on all threads; returns when all are
 * done. Calls of several threads take turns. Memory that the parts need a thread: thread numbers
 * 0..n_threads-1 are passed too. */
void cpu_pool_run(struct cpu_pool *pool, int n, void (*work)(void *ctx, int i, int thread),
                  void *ctx);
/* At least size_bytes, in huge pages where they can be had, contents undefined; the pool's, kept
 * for the next call. One borrower at a time: others wait. NULL when it cannot be had (then nothing
 * is to be given back). */
void *cpu_pool_borrow(struct cpu_pool *pool, size_t size_bytes);
void cpu_pool_give_back(struct cpu_pool *pool);
size_t cpu_pool_scratch_bytes(const struct cpu_pool *pool); /* that it keeps */

/* ---- gemm.c: packed weights, and products with them ----------------------------------------- */

const char *cpu_gemm_layout(unsigned features, enum precision precision);
size_t cpu_gemm_bytes(unsigned features, const struct weight_shape *shape);
bool cpu_gemm_pack(void *out, struct cpu_pool *pool, unsigned features,
                   const struct weight_shape *shape, const struct weight_source *sources,
                   int n_sources, struct error *err);
/* What becomes of each sum before it is written. */
struct cpu_epilogue {
    const float *bias; /* n, or NULL */
    enum activation activation;
    const float *residual; /* rows × n, may be out; or NULL */
};
/* out[rows, n] (WEIGHT_GATED: n / 2) from in[rows, k]. Fails only for want of memory. */
bool cpu_gemm_run(float *out, const float *in, int64_t rows, struct cpu_pool *pool,
                  unsigned features, const struct weight_shape *shape, const void *packed,
                  const struct cpu_epilogue *epilogue, struct error *err);

/* ---- rows.c: kernels over rows --------------------------------------------------------------- */

struct cpu_rows {
    void (*activate)(float *x, int64_t n, enum activation activation); /* in place */
    void (*gate)(float *gate, const float *up, int64_t n, enum activation activation);
    void (*layer_norm)(float *out, const float *in, int n, const float *gain, const float *bias,
                       float epsilon);
    void (*rms_norm)(float *out, const float *in, int n, const float *gain, float epsilon);
    void (*add)(float *out, const float *in, int64_t n);
    void (*scale)(float *out, float factor, int64_t n);
    void (*rope)(float *x, const float *cosines, const float *sines, int half);
    double (*dot)(const float *a, const float *b, int n);
};
/* The table for these features; lives for ever. */
const struct cpu_rows *cpu_rows_for(unsigned features);

/* ---- attention.c ---------------------------------------------------------------------------- */

bool cpu_attention_run(float *out, const float *qkv, struct cpu_pool *pool, unsigned features,
                       const struct attention_shape *shape, const struct sequences *sequences,
                       struct error *err);

#endif
