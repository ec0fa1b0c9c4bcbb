/* The register block of the AVX-512 kernels: 8 rows by 3 panels, 24 accumulators of 16 columns.
 *
 * A row's group is broadcast once for the three panels, so the load ports carry 11 loads for 24
 * multiplications. A kernel is this block with its own multiply-and-add; everything here is inlined
 * into it. Files that include it are compiled for AVX-512. */
#ifndef DOCUSEARCH_DEVICE_CPU_GEMM_ZMM_H
#define DOCUSEARCH_DEVICE_CPU_GEMM_ZMM_H

#include "device/cpu/gemm_internal.h"
#include "device/cpu/vector.h"

#include <immintrin.h>

#define ZMM_ROWS 8
#define ZMM_PANELS 3
#define ZMM_TILES_AHEAD 2 /* a strip of rows */
#define ZMM_BYTES_AHEAD 4096

/* sum += group of a row · group of a panel, 16 columns. */
typedef __m512i zmm_multiply(__m512i sum, __m512i row, __m512i panel);

INLINE void zmm_block(const struct gemm_block *block, int row, int panel, int n_rows, int n_panels,
                      zmm_multiply *multiply) {
    const uint8_t *rows = block->rows + (size_t)(row / GEMM_ROWS) * block->rows_stride +
                          (size_t)(row % GEMM_ROWS) * GEMM_UNIT;
    const uint8_t *panels[ZMM_PANELS];
    int32_t *sums[ZMM_PANELS];
    __m512i sum[ZMM_ROWS][ZMM_PANELS];
    UNROLLED
    for (int p = 0; p < n_panels; p++) {
        panels[p] = block->panels + (size_t)(panel + p) * block->panel_stride;
        sums[p] = (int32_t *)block->sums + (size_t)row * (size_t)block->stride +
                  block->columns[panel + p];
        UNROLLED
        for (int r = 0; r < n_rows; r++)
            sum[r][p] = block->add ? _mm512_loadu_si512(sums[p] + (size_t)r * block->stride)
                                   : _mm512_setzero_si512();
    }
    /* The first panels of a chunk find its rows in the last-level cache, and the first rows find
     * panels in memory: those are fetched in good time. Further ones find them nearer. */
    const size_t rows_ahead = panel == 0 ? ZMM_TILES_AHEAD * block->rows_stride : 0;
    const size_t panel_ahead = row == 0 ? ZMM_BYTES_AHEAD : 0;
    for (int unit = 0; unit < block->n_units; unit++) {
        UNROLLED
        for (int r = 0; r < n_rows; r++)
            _mm_prefetch((const char *)rows + rows_ahead + r * GEMM_UNIT, _MM_HINT_T1);
        UNROLLED_BY_4
        for (int group = 0; group < GEMM_ROWS; group++) {
            __m512i part[ZMM_PANELS];
            UNROLLED
            for (int p = 0; p < n_panels; p++) {
                part[p] = _mm512_loadu_si512(panels[p] + group * GEMM_UNIT);
                _mm_prefetch((const char *)panels[p] + group * GEMM_UNIT + panel_ahead,
                             _MM_HINT_T0);
            }
            UNROLLED
            for (int r = 0; r < n_rows; r++) {
                int32_t four;
                __builtin_memcpy(&four, rows + r * GEMM_UNIT + group * 4, sizeof four);
                __m512i each = _mm512_set1_epi32(four);
                UNROLLED
                for (int p = 0; p < n_panels; p++)
                    sum[r][p] = multiply(sum[r][p], each, part[p]);
            }
        }
        rows += GEMM_TILE;
        UNROLLED
        for (int p = 0; p < n_panels; p++)
            panels[p] += GEMM_TILE;
    }
    UNROLLED
    for (int p = 0; p < n_panels; p++) {
        UNROLLED
        for (int r = 0; r < n_rows; r++)
            _mm512_storeu_si512(sums[p] + (size_t)r * block->stride, sum[r][p]);
    }
}

INLINE void zmm_rows(const struct gemm_block *block, int panel, int n_panels,
                     zmm_multiply *multiply) {
    int row = 0;
    for (; row + 4 < block->n_rows; row += 8)
        zmm_block(block, row, panel, 8, n_panels, multiply);
    int left = block->n_rows - row;
    if (left > 2)
        zmm_block(block, row, panel, 4, n_panels, multiply);
    else if (left == 2)
        zmm_block(block, row, panel, 2, n_panels, multiply);
    else if (left == 1)
        zmm_block(block, row, panel, 1, n_panels, multiply);
}

INLINE void zmm_kernel(const struct gemm_block *block, zmm_multiply *multiply) {
    int panel = 0;
    for (; panel + 3 <= block->n_panels; panel += 3)
        zmm_rows(block, panel, 3, multiply);
    if (block->n_panels - panel == 2)
        zmm_rows(block, panel, 2, multiply);
    else if (block->n_panels - panel == 1)
        zmm_rows(block, panel, 1, multiply);
}

#endif
