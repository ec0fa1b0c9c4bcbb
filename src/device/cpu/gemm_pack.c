/* Weights to their packed form: a panel of 16 rows at a time, each part on a thread of its own, so
 * that rows are read and converted while they are in that thread's cache. */
#include "device/cpu/gemm_internal.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct packing {
    uint8_t *out;
    const struct weight_shape *shape;
    const struct weight_source *sources;
    int n_sources;
    struct gemm_layout layout;
    const struct gemm_rows *rows;
    int32_t *column_sums;
    float *column_scales;

    uint8_t *room; /* room_bytes a thread */
    size_t room_bytes;
    atomic_bool failed;
    pthread_mutex_t mutex; /* of err */
    struct error *err;
};

/* Row of a panel: gate and up take turns by panels, and padding has none. */
static bool read_row(const struct packing *packing, float *out, int panel, int r, bool *present,
                     struct error *err) {
    bool gated = packing->shape->join == WEIGHT_GATED;
    int row = (gated ? panel / 2 : panel) * GEMM_ROWS + r;
    *present = row < packing->layout.n_half;
    if (!*present)
        return true;
    const struct weight_source *source = packing->sources + (gated ? panel % 2 : 0);
    for (; !gated && row >= source->n; source++)
        row -= source->n;
    return source->row(source->ctx, row, out, err);
}

/* Where a panel's column stands among the columns: gate's first, then up's. */
static int column_of(const struct packing *packing, int panel, int r) {
    if (packing->shape->join != WEIGHT_GATED)
        return panel * GEMM_ROWS + r;
    return (panel % 2 * packing->layout.n_panels / 2 + panel / 2) * GEMM_ROWS + r;
}

static bool convert_int8(struct packing *packing, uint8_t *units, const float *row, float *rotated,
                         int column, struct error *err) {
    int n_units = packing->layout.n_units;
    float low, high;
    packing->rows->rotate(rotated, row, packing->shape->k, n_units, &low, &high);
    if (!isfinite(low) || !isfinite(high))
        return error_set(err, ERROR_INPUT, "a row of weights is not finite in int8: %g to %g",
                         (double)low, (double)high);
    float most = high > -low ? high : -low;
    float factor = most > 1e-36f ? 127 / most : 0;
    packing->rows->to_int8(units, GEMM_UNIT, rotated, n_units, factor, 0);
    int32_t sum = 0;
    for (size_t i = 0; i < (size_t)n_units * GEMM_UNIT; i++)
        sum += (int8_t)units[i];
    packing->column_sums[column] = sum;
    /* Rotating weights and activations both has multiplied their product. */
    float product = (float)cpu_gemm_rotation(n_units);
    packing->column_scales[column] = factor > 0 ? most / 127 / product : 0;
    return true;
}

static bool pack_panel(struct packing *packing, int panel, uint8_t *room, struct error *err) {
    int n_units = packing->layout.n_units, k = packing->shape->k;
    size_t row_bytes = (size_t)n_units * GEMM_UNIT;
    uint8_t *units = room;
    float *rotated = (float *)(room + GEMM_ROWS * row_bytes);
    float *row = rotated + (size_t)n_units * 64;
    for (int r = 0; r < GEMM_ROWS; r++, units += row_bytes) {
        bool present;
        if (!read_row(packing, row, panel, r, &present, err))
            return false;
        if (!present)
            memset(row, 0, (size_t)k * sizeof *row);
        if (packing->shape->precision == PRECISION_FP32)
            packing->rows->to_fp32(units, GEMM_UNIT, row, k, n_units);
        else if (packing->shape->precision == PRECISION_BF16)
            packing->rows->to_bf16(units, GEMM_UNIT, row, k, n_units);
        else if (!convert_int8(packing, units, row, rotated, column_of(packing, panel, r), err))
            return false;
    }
    packing->rows->turn(packing->out + (size_t)panel * packing->layout.panel_bytes, room, n_units);
    return true;
}

static void pack_part(void *ctx, int i, int thread) {
    struct packing *packing = ctx;
    if (atomic_load_explicit(&packing->failed, memory_order_relaxed))
        return;
    struct error err;
    if (pack_panel(packing, i, packing->room + (size_t)thread * packing->room_bytes, &err))
        return;
    pthread_mutex_lock(&packing->mutex);
    if (!atomic_exchange(&packing->failed, true) && packing->err)
        *packing->err = err;
    pthread_mutex_unlock(&packing->mutex);
}

bool cpu_gemm_pack(void *out, struct cpu_pool *pool, unsigned features,
                   const struct weight_shape *shape, const struct weight_source *sources,
                   int n_sources, struct error *err) {
    struct packing packing = {
        .out = out,
        .shape = shape,
        .sources = sources,
        .n_sources = n_sources,
        .rows = cpu_gemm_rows(features),
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .err = err,
    };
    int64_t n = 0;
    for (int i = 0; i < n_sources; i++) {
        assert(sources[i].k == shape->k);
        n += sources[i].n;
    }
    assert(n == shape->n);
    assert(shape->join != WEIGHT_GATED || (n_sources == 2 && sources[0].n == sources[1].n));
    cpu_gemm_layout_of(&packing.layout, shape);
    uint8_t *columns = packing.out + packing.layout.panels_bytes;
    packing.column_sums = (int32_t *)columns;
    packing.column_scales = (float *)columns + (size_t)packing.layout.n_panels * GEMM_ROWS;

    size_t n_units = (size_t)packing.layout.n_units;
    size_t floats = 2 * n_units * 64 * sizeof(float);
    packing.room_bytes = GEMM_ROWS * n_units * GEMM_UNIT + floats;
    size_t n_threads = (size_t)cpu_pool_threads(pool);
    packing.room = cpu_pool_borrow(pool, packing.room_bytes * n_threads);
    if (!packing.room)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "no memory to pack weights of %d by %d", shape->n, shape->k);
    cpu_pool_run(pool, packing.layout.n_panels, pack_part, &packing);
    cpu_pool_give_back(pool);
    pthread_mutex_destroy(&packing.mutex);
    return !atomic_load(&packing.failed);
}
