/* Attention's products on the tiles of AMX: 2 × 2 tiles of sums, so that each tile loaded is used
 * twice. A panel's 16 pairs of depth are a tile as they lie; 16 rows of 32 elements are another.
 * Packing and softmax are AVX-512's. */
#include "device/cpu/attention.h"
#include "device/cpu/tiles.h"
#include "device/cpu/vector.h"

#define TILE_ROWS 16
#define TILE_COLUMNS 16
#define TILE_DEPTH 32
#define TILE_BYTES 1024
#define LINE_BYTES 64 /* of a tile */

/* One or two tiles of rows times one or two panels; strides in bytes. */
struct corner {
    char *c;
    const char *a, *b;
    size_t c_stride, a_stride, panel_stride;
    int n_steps; /* of TILE_DEPTH */
    bool add;
};

/* Sums are tiles 0 (first rows, first panel), 1 (first, second), 2 (second, first) and 3. */
INLINE void begin_sums(const struct corner *corner, bool two_rows, bool two_panels) {
    char *second = corner->c + TILE_ROWS * corner->c_stride;
    if (!corner->add) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        return;
    }
    _tile_loadd(0, corner->c, corner->c_stride);
    if (two_panels)
        _tile_loadd(1, corner->c + LINE_BYTES, corner->c_stride);
    if (two_rows)
        _tile_loadd(2, second, corner->c_stride);
    if (two_rows && two_panels)
        _tile_loadd(3, second + LINE_BYTES, corner->c_stride);
}

INLINE void end_sums(const struct corner *corner, bool two_rows, bool two_panels) {
    char *second = corner->c + TILE_ROWS * corner->c_stride;
    _tile_stored(0, corner->c, corner->c_stride);
    if (two_panels)
        _tile_stored(1, corner->c + LINE_BYTES, corner->c_stride);
    if (two_rows)
        _tile_stored(2, second, corner->c_stride);
    if (two_rows && two_panels)
        _tile_stored(3, second + LINE_BYTES, corner->c_stride);
}

INLINE void multiply_as(const struct corner *corner, bool two_rows, bool two_panels) {
    const char *a = corner->a, *b = corner->b;
    begin_sums(corner, two_rows, two_panels);
    for (int step = 0; step < corner->n_steps; step++, a += LINE_BYTES, b += TILE_BYTES) {
        _tile_loadd(4, a, corner->a_stride);
        _tile_loadd(6, b, LINE_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (two_panels) {
            _tile_loadd(7, b + corner->panel_stride, LINE_BYTES);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two_rows) {
            _tile_loadd(5, a + TILE_ROWS * corner->a_stride, corner->a_stride);
            _tile_dpbf16ps(2, 5, 6);
            if (two_panels)
                _tile_dpbf16ps(3, 5, 7);
        }
    }
    end_sums(corner, two_rows, two_panels);
}

static void multiply(const struct corner *corner, bool two_rows, bool two_panels) {
    if (two_rows && two_panels)
        multiply_as(corner, true, true);
    else if (two_rows)
        multiply_as(corner, true, false);
    else if (two_panels)
        multiply_as(corner, false, true);
    else
        multiply_as(corner, false, false);
}

static void product(float *c, int c_stride, const void *a, int a_stride, const void *b,
                    size_t panel_bytes, int rows, int n_panels, int depth, bool add) {
    tiles_begin();
    struct corner corner = {
        .c_stride = (size_t)c_stride * sizeof *c,
        .a_stride = (size_t)a_stride * sizeof(uint16_t),
        .panel_stride = panel_bytes,
        .n_steps = depth / TILE_DEPTH,
        .add = add,
    };
    for (int panel = 0; panel < n_panels; panel += 2) {
        for (int row = 0; row < rows; row += 2 * TILE_ROWS) {
            corner.c = (char *)(c + (size_t)row * (size_t)c_stride + panel * TILE_COLUMNS);
            corner.a = (const char *)a + (size_t)row * corner.a_stride;
            corner.b = (const char *)b + (size_t)panel * panel_bytes;
            multiply(&corner, rows - row > TILE_ROWS, n_panels - panel > 1);
        }
    }
    tiles_end();
}

const struct attention_kernels attention_amx = {
    .lanes = TILE_COLUMNS,
    .depth_step = TILE_DEPTH,
    .row_step = TILE_ROWS,
    .element_bytes = sizeof(uint16_t),
    .pack_row = attention_pairs_row,
    .pack_keys = attention_pairs_keys,
    .pack_values = attention_pairs_values,
    .product = product,
    .soften = attention_pairs_soften,
};
