/* Matrix kernels on the tiles of AMX: 2 × 2 tiles of sums, so that each tile loaded is used twice,
 * over long passes of k (writing sums back often costs more than it saves in cache). */
#include "device/cpu/gemm_internal.h"
#include "device/cpu/tiles.h"

/* Sums are tiles 0 (first rows, first panel), 1 (first, second), 2 (second, first), 3. */
struct corner {
    const uint8_t *rows[2], *panels[2];
    uint8_t *sums[4];
    size_t stride; /* bytes from one row of sums to the next */
    int n_units;
    bool add;
};

static struct corner corner_of(const struct gemm_block *block, int row, int panel, int n_panels) {
    struct corner corner = {
        .stride = (size_t)block->stride * 4,
        .n_units = block->n_units,
        .add = block->add,
    };
    for (int i = 0; i < 2; i++) {
        corner.rows[i] = block->rows + (size_t)(row / GEMM_ROWS + i) * block->rows_stride;
        int p = i < n_panels ? panel + i : panel;
        corner.panels[i] = block->panels + (size_t)p * block->panel_stride;
        uint8_t *sums = (uint8_t *)block->sums + (size_t)block->columns[p] * 4;
        corner.sums[i] = sums + (size_t)row * corner.stride;
        corner.sums[2 + i] = sums + (size_t)(row + GEMM_ROWS) * corner.stride;
    }
    return corner;
}

/* The tile numbers are part of the instructions, hence macros. */
#define BEGIN_SUMS(i)                                                                              \
    if (corner.add)                                                                                \
        _tile_loadd(i, corner.sums[i], corner.stride);                                             \
    else                                                                                           \
        _tile_zero(i)
#define LOAD_ROWS(tile, i, unit) _tile_loadd(tile, corner.rows[i] + (unit)*GEMM_TILE, GEMM_UNIT)
#define LOAD_PANEL(tile, i, unit) _tile_loadd(tile, corner.panels[i] + (unit)*GEMM_TILE, GEMM_UNIT)
#define END_SUMS(i) _tile_stored(i, corner.sums[i], corner.stride)

#define TILE_KERNEL(name, multiply)                                                                \
    static void name##_2x2(struct corner corner) {                                                 \
        BEGIN_SUMS(0);                                                                             \
        BEGIN_SUMS(1);                                                                             \
        BEGIN_SUMS(2);                                                                             \
        BEGIN_SUMS(3);                                                                             \
        for (size_t unit = 0; unit < (size_t)corner.n_units; unit++) {                             \
            LOAD_ROWS(4, 0, unit);                                                                 \
            LOAD_PANEL(6, 0, unit);                                                                \
            multiply(0, 4, 6);                                                                     \
            LOAD_PANEL(7, 1, unit);                                                                \
            multiply(1, 4, 7);                                                                     \
            LOAD_ROWS(5, 1, unit);                                                                 \
            multiply(2, 5, 6);                                                                     \
            multiply(3, 5, 7);                                                                     \
        }                                                                                          \
        END_SUMS(0);                                                                               \
        END_SUMS(1);                                                                               \
        END_SUMS(2);                                                                               \
        END_SUMS(3);                                                                               \
    }                                                                                              \
    static void name##_1x2(struct corner corner) {                                                 \
        BEGIN_SUMS(0);                                                                             \
        BEGIN_SUMS(1);                                                                             \
        for (size_t unit = 0; unit < (size_t)corner.n_units; unit++) {                             \
            LOAD_ROWS(4, 0, unit);                                                                 \
            LOAD_PANEL(6, 0, unit);                                                                \
            multiply(0, 4, 6);                                                                     \
            LOAD_PANEL(7, 1, unit);                                                                \
            multiply(1, 4, 7);                                                                     \
        }                                                                                          \
        END_SUMS(0);                                                                               \
        END_SUMS(1);                                                                               \
    }                                                                                              \
    static void name##_2x1(struct corner corner) {                                                 \
        BEGIN_SUMS(0);                                                                             \
        BEGIN_SUMS(2);                                                                             \
        for (size_t unit = 0; unit < (size_t)corner.n_units; unit++) {                             \
            LOAD_PANEL(6, 0, unit);                                                                \
            LOAD_ROWS(4, 0, unit);                                                                 \
            multiply(0, 4, 6);                                                                     \
            LOAD_ROWS(5, 1, unit);                                                                 \
            multiply(2, 5, 6);                                                                     \
        }                                                                                          \
        END_SUMS(0);                                                                               \
        END_SUMS(2);                                                                               \
    }                                                                                              \
    static void name##_1x1(struct corner corner) {                                                 \
        BEGIN_SUMS(0);                                                                             \
        for (size_t unit = 0; unit < (size_t)corner.n_units; unit++) {                             \
            LOAD_ROWS(4, 0, unit);                                                                 \
            LOAD_PANEL(6, 0, unit);                                                                \
            multiply(0, 4, 6);                                                                     \
        }                                                                                          \
        END_SUMS(0);                                                                               \
    }                                                                                              \
    static void name(const struct gemm_block *block) {                                             \
        for (int row = 0; row < block->n_rows; row += 2 * GEMM_ROWS) {                             \
            bool two_rows = block->n_rows - row > GEMM_ROWS;                                       \
            for (int panel = 0; panel < block->n_panels; panel += 2) {                             \
                bool two_panels = block->n_panels - panel > 1;                                     \
                struct corner corner = corner_of(block, row, panel, two_panels ? 2 : 1);           \
                if (two_rows)                                                                      \
                    (two_panels ? name##_2x2 : name##_2x1)(corner);                                \
                else                                                                               \
                    (two_panels ? name##_1x2 : name##_1x1)(corner);                                \
            }                                                                                      \
        }                                                                                          \
    }

TILE_KERNEL(bf16, _tile_dpbf16ps)
TILE_KERNEL(int8, _tile_dpbusd)

const struct gemm_kernel cpu_gemm_amx_bf16 = {
    .name = "amx",
    .multiply = bf16,
    .begin = tiles_begin,
    .end = tiles_end,
    .step_panels = 2,
    .pass_units = 128,
};
const struct gemm_kernel cpu_gemm_amx_int8 = {
    .name = "amx",
    .multiply = int8,
    .begin = tiles_begin,
    .end = tiles_end,
    .step_panels = 2,
    .pass_units = 128,
};
