/* The matrix kernels, inside: how weights and activations lie packed, and the table of kernels.
 *
 * Everything packed is made of units of 64 bytes along k: 16 fp32, 32 bf16 or 64 int8 of one row.
 * A unit is 16 groups of 4 bytes (1, 2 or 4 elements).
 *
 *   row tile    16 rows of activations by one unit: row r, group g at r * 64 + g * 4
 *   panel tile  16 output columns by one unit of k: group g, column c at g * 64 + c * 4
 *
 * Both are 1 KiB, the shape that AMX loads; vdpbf16ps and vpdpbusd multiply one 4-byte group of a
 * row, broadcast, with the 64 bytes of a group of the panel. A panel is its tiles along k one after
 * another; a packed weight is its panels one after another, then, for int8, a column each of the
 * sums of weights (int32) and of scales (fp32).
 *
 * int8: rows of weights and of activations are both rotated before they are rounded (quantize.c),
 * weights to s8 by one scale a row, activations to u8 by a scale and a zero point a row:
 * sum((u - zero) * w) = sum(u * w) - zero * sum(w). */
#ifndef DOCUSEARCH_DEVICE_CPU_GEMM_INTERNAL_H
#define DOCUSEARCH_DEVICE_CPU_GEMM_INTERNAL_H

#include "device/cpu/cpu.h"

#define GEMM_UNIT 64   /* bytes */
#define GEMM_TILE 1024 /* bytes */
#define GEMM_ROWS 16   /* rows of a row tile, columns of a panel */
/* Elements of k that are rotated together: at least, which k is padded to, and at most. */
#define GEMM_ROTATION 128
#define GEMM_MAX_ROTATION 1024

/* ---- products ------------------------------------------------------------------------------- */

/* One block of sums, 4 bytes each (fp32, or int32 for int8): sums[row * stride + columns[p] + c]
 * for rows 0..n_rows-1 and each column c of panel p. Rows up to the next multiple of 16 may be
 * written too: sums and row tiles have room for them. */
struct gemm_block {
    void *sums;
    int stride;          /* elements from one row of sums to the next */
    const int *columns;  /* n_panels of them */
    const uint8_t *rows; /* row tile t, unit u at rows + t * rows_stride + u * GEMM_TILE */
    size_t rows_stride;
    const uint8_t *panels; /* panel p, unit u at panels + p * panel_stride + u * GEMM_TILE */
    size_t panel_stride;
    int n_rows, n_panels, n_units;
    bool add; /* to the sums that are there; else they are set */
};

struct gemm_kernel {
    const char *name;
    void (*multiply)(const struct gemm_block *block);
    void (*begin)(void); /* on each thread before its blocks, and after them; NULL: nothing */
    void (*end)(void);
    int step_panels; /* a chunk's panels are best a multiple of this */
    int pass_units;  /* units of k in one pass, at most */
};

/* ---- rows ----------------------------------------------------------------------------------- */

/* Units are written GEMM_TILE (a row of a row tile) or GEMM_UNIT (a row of weights, to be turned)
 * bytes apart: stride. k floats are read; units past them are zero. */
struct gemm_rows {
    void (*to_fp32)(uint8_t *out, size_t stride, const float *in, int k, int n_units);
    void (*to_bf16)(uint8_t *out, size_t stride, const float *in, int k, int n_units);
    /* out[n_units * 64] = in rotated; *low and *high: its extremes. */
    void (*rotate)(float *out, const float *in, int k, int n_units, float *low, float *high);
    /* round(in * factor) + zero, to u8 or s8; factor and zero are such that all of it fits. */
    void (*to_int8)(uint8_t *out, size_t stride, const float *in, int n_units, float factor,
                    int zero);
    /* out[g * 64 + r * 4] = in[r][g * 4], 4 bytes: 16 rows of n_units units to a panel. */
    void (*turn)(uint8_t *out, const uint8_t *in, int n_units);
    /* out[i] = (sums[i] - zero * column_sums[i]) * scale * column_scales[i]; out may be sums. */
    void (*scale_sums)(float *out, const int32_t *sums, int n, int32_t zero, float scale,
                       const int32_t *column_sums, const float *column_scales);
    /* out = in + bias + residual, those that are not NULL; out may be in or residual. */
    void (*add)(float *out, const float *in, const float *bias, const float *residual, int n);
    /* The same, past the caches: for what is not read again soon. */
    void (*stream)(float *out, const float *in, const float *bias, const float *residual, int n);
};

/* The best of what features allow. */
const struct gemm_kernel *cpu_gemm_kernel(unsigned features, enum precision precision);
const struct gemm_rows *cpu_gemm_rows(unsigned features);

extern const struct gemm_kernel cpu_gemm_plain_fp32, cpu_gemm_plain_bf16, cpu_gemm_plain_int8;
extern const struct gemm_kernel cpu_gemm_avx2_fp32, cpu_gemm_avx2_bf16, cpu_gemm_avx2_int8;
extern const struct gemm_kernel cpu_gemm_avx512_fp32, cpu_gemm_avx512_bf16, cpu_gemm_avx512_int8;
extern const struct gemm_kernel cpu_gemm_avx512_dpbf16, cpu_gemm_avx512_vnni;
extern const struct gemm_kernel cpu_gemm_amx_bf16, cpu_gemm_amx_int8;

/* Row kernels over those of a smaller instruction set, in place. */
void cpu_gemm_rows_plain(struct gemm_rows *rows);
void cpu_gemm_rows_avx512(struct gemm_rows *rows);
void cpu_gemm_rows_avx512_bf16(struct gemm_rows *rows);

/* ---- a packed weight ------------------------------------------------------------------------ */

struct gemm_layout {
    int n_units;  /* of k */
    int n_panels; /* WEIGHT_GATED: gate and up panels take turns */
    int n_half;   /* WEIGHT_GATED: columns of gate, and of up; else n */
    size_t panel_bytes, panels_bytes, bytes;
};
void cpu_gemm_layout_of(struct gemm_layout *out, const struct weight_shape *shape);
/* Element i is negated before rotation where bit i % 16 of [i % GEMM_ROTATION / 16] is set. */
extern const uint16_t cpu_gemm_signs[GEMM_ROTATION / 16];
/* The largest power of two, within the bounds above, that rows of n_units come in. */
static inline int cpu_gemm_rotation(int n_units) {
    int together = GEMM_ROTATION;
    while (together < GEMM_MAX_ROTATION && n_units * 64 % (2 * together) == 0)
        together *= 2;
    return together;
}

#endif
