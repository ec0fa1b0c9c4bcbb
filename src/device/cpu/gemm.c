/* Products of activations with packed weights: what is computed when, on which thread.
 *
 * Rows of activations are packed block by block to the weight's precision; then the threads share
 * out tasks, each a chunk of columns by a part of the block's rows. The chunk's panels stay in the
 * second-level cache while the rows stream past them, so weights come from memory once a block.
 * Sums of a strip of rows go through the epilogue while they are hot; where k is too long for one
 * pass, the part's sums are kept between passes. A few rows (a question) are many narrow chunks. */
#include "device/cpu/gemm_internal.h"

#include <assert.h>
#include <stdatomic.h>
#include <unistd.h>

#define STRIP_ROWS 32
/* Packed activations of one block of rows, at most: they stay in the last-level cache. A weight is
 * read again for each block. */
#define MAX_BLOCK_BYTES ((int64_t)8 << 20)
/* Sums kept between passes over k, a thread. */
#define MAX_SUMS_BYTES (256 << 10)
/* An output of more is written past the caches. */
#define STREAMED_BYTES ((int64_t)8 << 20)
#define TASKS_A_THREAD 4
#define MAX_CHUNK_PANELS 96

_Static_assert((int64_t)255 * 127 * WEIGHT_MAX_K <= INT32_MAX, "int8 sums stay within 32 bits");

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- layout --------------------------------------------------------------------------------- */

static int units_of(int k, enum precision precision) {
    switch (precision) {
    case PRECISION_FP32:
        return (k + 15) / 16;
    case PRECISION_BF16:
        return (k + 31) / 32;
    case PRECISION_INT8:
        return (int)round_up(k, GEMM_ROTATION) / 64;
    case PRECISION_AUTO:
    case PRECISION_FP16:
        break;
    }
    assert(!"a precision that weights have");
    return 0;
}

void cpu_gemm_layout_of(struct gemm_layout *out, const struct weight_shape *shape) {
    assert(shape->n > 0 && shape->k > 0);
    assert(shape->n <= WEIGHT_MAX_N && shape->k <= WEIGHT_MAX_K);
    bool gated = shape->join == WEIGHT_GATED;
    assert(!gated || shape->n % 2 == 0);
    out->n_units = units_of(shape->k, shape->precision);
    out->n_half = gated ? shape->n / 2 : shape->n;
    out->n_panels = (out->n_half + GEMM_ROWS - 1) / GEMM_ROWS * (gated ? 2 : 1);
    out->panel_bytes = (size_t)out->n_units * GEMM_TILE;
    out->panels_bytes = out->panel_bytes * (size_t)out->n_panels;
    size_t columns = shape->precision == PRECISION_INT8 ? (size_t)out->n_panels * GEMM_ROWS : 0;
    out->bytes = out->panels_bytes + columns * (sizeof(int32_t) + sizeof(float));
}

const char *cpu_gemm_layout(unsigned features, enum precision precision) {
    (void)features; /* one layout for all of them */
    switch (precision) {
    case PRECISION_FP32:
        return "panels16-fp32-1";
    case PRECISION_BF16:
        return "panels16-bf16-1";
    case PRECISION_INT8:
        return "panels16-int8-rotated-1";
    case PRECISION_AUTO:
    case PRECISION_FP16:
        break;
    }
    assert(!"a precision that weights have");
    return "";
}

size_t cpu_gemm_bytes(unsigned features, const struct weight_shape *shape) {
    (void)features;
    struct gemm_layout layout;
    cpu_gemm_layout_of(&layout, shape);
    return layout.bytes;
}

/* ---- kernels -------------------------------------------------------------------------------- */

const struct gemm_kernel *cpu_gemm_kernel(unsigned features, enum precision precision) {
    bool fp32 = precision == PRECISION_FP32, bf16 = precision == PRECISION_BF16;
#if defined(__x86_64__)
    if (bf16 && features & CPU_AMX_BF16)
        return &cpu_gemm_amx_bf16;
    if (precision == PRECISION_INT8 && features & CPU_AMX_INT8)
        return &cpu_gemm_amx_int8;
    if (features & CPU_AVX512) {
        if (fp32)
            return &cpu_gemm_avx512_fp32;
        if (bf16)
            return features & CPU_AVX512_BF16 ? &cpu_gemm_avx512_dpbf16 : &cpu_gemm_avx512_bf16;
        return features & CPU_AVX512_VNNI ? &cpu_gemm_avx512_vnni : &cpu_gemm_avx512_int8;
    }
    if (features & CPU_AVX2)
        return fp32 ? &cpu_gemm_avx2_fp32 : bf16 ? &cpu_gemm_avx2_bf16 : &cpu_gemm_avx2_int8;
#endif
    (void)features;
    return fp32 ? &cpu_gemm_plain_fp32 : bf16 ? &cpu_gemm_plain_bf16 : &cpu_gemm_plain_int8;
}

/* Filled each at its first use, for the kernels' files may not be entered on lesser processors. */
static struct gemm_rows plain_rows;

static void fill_plain(void) {
    cpu_gemm_rows_plain(&plain_rows);
}

#if defined(__x86_64__)

static struct gemm_rows avx512_rows, avx512_bf16_rows;

static void fill_avx512(void) {
    cpu_gemm_rows_avx512(&avx512_rows);
}

static void fill_avx512_bf16(void) {
    cpu_gemm_rows_avx512(&avx512_bf16_rows);
    cpu_gemm_rows_avx512_bf16(&avx512_bf16_rows);
}

#endif

const struct gemm_rows *cpu_gemm_rows(unsigned features) {
    static pthread_once_t plain = PTHREAD_ONCE_INIT;
#if defined(__x86_64__)
    static pthread_once_t avx512 = PTHREAD_ONCE_INIT, avx512_bf16 = PTHREAD_ONCE_INIT;
    if (features & CPU_AVX512 && features & CPU_AVX512_BF16) {
        pthread_once(&avx512_bf16, fill_avx512_bf16);
        return &avx512_bf16_rows;
    }
    if (features & CPU_AVX512) {
        pthread_once(&avx512, fill_avx512);
        return &avx512_rows;
    }
#endif
    (void)features;
    pthread_once(&plain, fill_plain);
    return &plain_rows;
}

/* ---- one product ---------------------------------------------------------------------------- */

/* Quantised rows: value = (u8 - zero) * scale. */
struct row_scale {
    float scale;
    int32_t zero;
};

struct product {
    float *out;
    const float *in;
    int64_t n_rows;
    const struct weight_shape *shape;
    struct gemm_layout layout;
    const uint8_t *panels;
    const int32_t *column_sums; /* int8; gate's, then up's */
    const float *column_scales;
    struct cpu_epilogue epilogue;
    const struct gemm_kernel *kernel;
    const struct gemm_rows *rows;
    const struct cpu_rows *functions;
    int n_out;

    int pass_units, chunk_panels, n_chunks, stride;
    int64_t block_rows; /* rows packed at a time, a multiple of STRIP_ROWS */
    int64_t part_rows;  /* rows of a task, likewise */
    bool one_pass;
    bool streams; /* out is too large for the caches */

    /* Of the block at hand. */
    int64_t first_row, n_block_rows;
    int n_parts;

    uint8_t *packed;
    struct row_scale *row_scales;
    uint8_t *of_threads;
    size_t thread_bytes, sums_bytes;
};

static int64_t second_level_cache(void) {
    static _Atomic int64_t known;
    int64_t bytes = atomic_load_explicit(&known, memory_order_relaxed);
    if (bytes > 0)
        return bytes;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    bytes = bytes >= (256 << 10) ? bytes : 1 << 20;
    atomic_store_explicit(&known, bytes, memory_order_relaxed);
    return bytes;
}

/* Columns of a chunk: as many panels as half the second-level cache holds, fewer where the threads
 * would not all have work. */
static void plan_chunks(struct product *product, int n_threads) {
    int n_panels = product->layout.n_panels;
    int step = product->kernel->step_panels;
    if (product->shape->join == WEIGHT_GATED && step % 2)
        step *= 2;
    int64_t chunk = second_level_cache() / 2 / ((int64_t)product->pass_units * GEMM_TILE);
    int64_t tasks = (int64_t)n_threads * TASKS_A_THREAD;
    int64_t n_strips = round_up(product->n_rows, STRIP_ROWS) / STRIP_ROWS;
    int64_t wanted = round_up(tasks, n_strips) / n_strips; /* chunks, if each strip is a part */
    if (n_threads > 1)
        chunk = smaller(chunk, n_panels / wanted);
    chunk = larger(smaller(chunk / step * step, MAX_CHUNK_PANELS / step * step), step);
    int64_t n_chunks = round_up(n_panels, chunk) / chunk;
    chunk = round_up(round_up(n_panels, n_chunks) / n_chunks, step);
    product->chunk_panels = (int)chunk;
    product->n_chunks = (int)(round_up(n_panels, chunk) / chunk);
    product->stride = (int)chunk * GEMM_ROWS + GEMM_ROWS;
}

static void plan(struct product *product, int n_threads) {
    int n_units = product->layout.n_units;
    int n_passes = (n_units + product->kernel->pass_units - 1) / product->kernel->pass_units;
    product->one_pass = n_passes == 1;
    product->pass_units = (n_units + n_passes - 1) / n_passes;
    plan_chunks(product, n_threads);

    int64_t n_rows = round_up(product->n_rows, STRIP_ROWS);
    int64_t most = MAX_BLOCK_BYTES / ((int64_t)n_units * GEMM_UNIT);
    most = larger(most / STRIP_ROWS * STRIP_ROWS, STRIP_ROWS);
    int64_t n_blocks = round_up(n_rows, most) / most;
    product->block_rows = round_up(round_up(n_rows, n_blocks) / n_blocks, STRIP_ROWS);

    int64_t row_bytes = (int64_t)product->stride * (int64_t)sizeof(float);
    int64_t part = product->block_rows;
    if (!product->one_pass)
        part = smaller(part, larger(MAX_SUMS_BYTES / row_bytes, STRIP_ROWS));
    int64_t n_parts = round_up(n_threads * TASKS_A_THREAD, product->n_chunks) / product->n_chunks;
    if (n_threads > 1)
        part = smaller(part, round_up(product->block_rows, n_parts) / n_parts);
    product->part_rows = round_up(larger(part, 1), STRIP_ROWS);

    int64_t kept = product->one_pass ? STRIP_ROWS : product->part_rows;
    product->sums_bytes = (size_t)round_up(kept * row_bytes, GEMM_UNIT);
    size_t rotated_bytes = (size_t)n_units * 64 * sizeof(float);
    product->thread_bytes = product->sums_bytes > rotated_bytes ? product->sums_bytes
                                                                : rotated_bytes;
}

/* ---- activations ---------------------------------------------------------------------------- */

static void pack_int8(struct product *product, uint8_t *out, struct row_scale *scale,
                      const float *in, float *rotated) {
    int n_units = product->layout.n_units;
    float low, high;
    product->rows->rotate(rotated, in, product->shape->k, n_units, &low, &high);
    low = low > 0 ? 0 : low;
    high = high < 0 ? 0 : high; /* or what it is when the row has something not a number */
    float range = high - low;
    /* Below that, the reciprocal is infinite and the products are zero. */
    float factor = range > 1e-36f || range != range ? 255 / range : 0;
    scale->scale = range / 255;
    scale->zero = factor > 0 ? (int32_t)(-low * factor + 0.5f) : 0;
    product->rows->to_int8(out, GEMM_TILE, rotated, n_units, factor, scale->zero);
}

/* One row tile; rows past the last are zero. */
static void pack_tile(void *ctx, int i, int thread) {
    struct product *product = ctx;
    int n_units = product->layout.n_units, k = product->shape->k;
    uint8_t *tile = product->packed + (size_t)i * (size_t)n_units * GEMM_TILE;
    float *rotated = (float *)(product->of_threads + (size_t)thread * product->thread_bytes);
    for (int r = 0; r < GEMM_ROWS; r++) {
        int64_t row = (int64_t)i * GEMM_ROWS + r;
        uint8_t *out = tile + (size_t)r * GEMM_UNIT;
        if (row >= product->n_block_rows) {
            product->rows->to_fp32(out, GEMM_TILE, NULL, 0, n_units);
            continue;
        }
        const float *in = product->in + (product->first_row + row) * k;
        if (product->shape->precision == PRECISION_FP32)
            product->rows->to_fp32(out, GEMM_TILE, in, k, n_units);
        else if (product->shape->precision == PRECISION_BF16)
            product->rows->to_bf16(out, GEMM_TILE, in, k, n_units);
        else
            pack_int8(product, out, product->row_scales + row, in, rotated);
    }
}

/* ---- sums ----------------------------------------------------------------------------------- */

struct task {
    struct product *product;
    int first_panel, n_panels;
    int first_column, n_columns; /* of out */
    int up;                      /* WEIGHT_GATED: where up's sums begin in a row of sums */
    int64_t first_row, n_rows;   /* of the block */
    int columns[MAX_CHUNK_PANELS + 8];
    float *sums;
};

static void task_columns(struct task *task) {
    const struct product *product = task->product;
    bool gated = product->shape->join == WEIGHT_GATED;
    int n_pairs = gated ? task->n_panels / 2 : task->n_panels;
    task->up = n_pairs * GEMM_ROWS;
    task->first_column = (gated ? task->first_panel / 2 : task->first_panel) * GEMM_ROWS;
    task->n_columns = (int)smaller(task->up, product->layout.n_half - task->first_column);
    for (int p = 0; p < task->n_panels; p++)
        task->columns[p] = gated ? p / 2 * GEMM_ROWS + p % 2 * task->up : p * GEMM_ROWS;
}

static void finish_row(const struct task *task, float *sums, int64_t block_row) {
    const struct product *product = task->product;
    const struct gemm_rows *rows = product->rows;
    int n = task->n_columns, column = task->first_column;
    bool gated = product->shape->join == WEIGHT_GATED;
    if (product->shape->precision == PRECISION_INT8) {
        struct row_scale by = product->row_scales[block_row];
        rows->scale_sums(sums, (int32_t *)sums, n, by.zero, by.scale, product->column_sums + column,
                         product->column_scales + column);
        int up = product->layout.n_panels / 2 * GEMM_ROWS + column;
        if (gated)
            rows->scale_sums(sums + task->up, (int32_t *)sums + task->up, n, by.zero, by.scale,
                             product->column_sums + up, product->column_scales + up);
    }
    int64_t at = (product->first_row + block_row) * product->n_out + column;
    const float *bias = product->epilogue.bias ? product->epilogue.bias + column : NULL;
    const float *residual = product->epilogue.residual ? product->epilogue.residual + at : NULL;
    if (gated) {
        product->functions->gate(sums, sums + task->up, n, product->epilogue.activation);
    } else if (product->epilogue.activation != ACTIVATION_NONE) {
        if (bias)
            rows->add(sums, sums, bias, NULL, n);
        bias = NULL;
        product->functions->activate(sums, n, product->epilogue.activation);
    }
    (product->streams ? rows->stream : rows->add)(product->out + at, sums, bias, residual, n);
}

static void multiply(const struct task *task, int64_t row, int64_t n_rows, float *sums, int unit) {
    const struct product *product = task->product;
    const struct gemm_layout *layout = &product->layout;
    size_t tile_stride = (size_t)layout->n_units * GEMM_TILE;
    struct gemm_block block = {
        .sums = sums,
        .stride = product->stride,
        .columns = task->columns,
        .rows = product->packed + (size_t)(row / GEMM_ROWS) * tile_stride +
                (size_t)unit * GEMM_TILE,
        .rows_stride = tile_stride,
        .panels = product->panels + (size_t)task->first_panel * layout->panel_bytes +
                  (size_t)unit * GEMM_TILE,
        .panel_stride = layout->panel_bytes,
        .n_rows = (int)n_rows,
        .n_panels = task->n_panels,
        .n_units = (int)smaller(product->pass_units, layout->n_units - unit),
        .add = unit > 0,
    };
    product->kernel->multiply(&block);
}

static void run_task(void *ctx, int i, int thread) {
    struct product *product = ctx;
    struct task task = {.product = product};
    int chunk = i / product->n_parts, part = i % product->n_parts;
    task.first_panel = chunk * product->chunk_panels;
    task.n_panels = (int)smaller(product->chunk_panels,
                                 product->layout.n_panels - task.first_panel);
    task.first_row = part * product->part_rows;
    task.n_rows = smaller(product->part_rows, product->n_block_rows - task.first_row);
    task.sums = (float *)(product->of_threads + (size_t)thread * product->thread_bytes);
    task_columns(&task);

    if (product->kernel->begin)
        product->kernel->begin();
    int unit = 0;
    for (; unit + product->pass_units < product->layout.n_units; unit += product->pass_units)
        multiply(&task, task.first_row, task.n_rows, task.sums, unit);
    for (int64_t row = 0; row < task.n_rows; row += STRIP_ROWS) {
        int64_t n = smaller(STRIP_ROWS, task.n_rows - row);
        float *sums = task.sums + (product->one_pass ? 0 : row * product->stride);
        multiply(&task, task.first_row + row, n, sums, unit);
        for (int64_t r = 0; r < n; r++)
            finish_row(&task, sums + r * product->stride, task.first_row + row + r);
    }
    if (product->kernel->end)
        product->kernel->end();
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool borrow(struct product *product, struct cpu_pool *pool, struct error *err) {
    size_t packed_bytes = (size_t)product->block_rows * (size_t)product->layout.n_units * GEMM_UNIT;
    size_t scales_bytes = (size_t)round_up(product->block_rows * (int64_t)sizeof(struct row_scale),
                                           GEMM_UNIT);
    size_t total = packed_bytes + scales_bytes +
                   product->thread_bytes * (size_t)cpu_pool_threads(pool);
    uint8_t *scratch = cpu_pool_borrow(pool, total);
    if (!scratch)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "no memory for %zu bytes of packed activations", total);
    product->packed = scratch;
    product->row_scales = (struct row_scale *)(scratch + packed_bytes);
    product->of_threads = scratch + packed_bytes + scales_bytes;
    return true;
}

bool cpu_gemm_run(float *out, const float *in, int64_t rows, struct cpu_pool *pool,
                  unsigned features, const struct weight_shape *shape, const void *packed,
                  const struct cpu_epilogue *epilogue, struct error *err) {
    bool gated = shape->join == WEIGHT_GATED;
    assert(!gated || (!epilogue->bias && !epilogue->residual));
    if (rows <= 0)
        return true;
    struct product product = {
        .out = out,
        .in = in,
        .n_rows = rows,
        .shape = shape,
        .panels = packed,
        .epilogue = *epilogue,
        .kernel = cpu_gemm_kernel(features, shape->precision),
        .rows = cpu_gemm_rows(features),
        .functions = cpu_rows_for(features),
        .n_out = gated ? shape->n / 2 : shape->n,
    };
    cpu_gemm_layout_of(&product.layout, shape);
    const uint8_t *columns = product.panels + product.layout.panels_bytes;
    product.column_sums = (const int32_t *)columns;
    product.column_scales = (const float *)columns + (size_t)product.layout.n_panels * GEMM_ROWS;
    plan(&product, cpu_pool_threads(pool));
    product.streams = rows * product.n_out * (int64_t)sizeof(float) > STREAMED_BYTES;
    if (!borrow(&product, pool, err))
        return false;

    for (int64_t row = 0; row < rows; row += product.block_rows) {
        product.first_row = row;
        product.n_block_rows = smaller(product.block_rows, rows - row);
        int n_tiles = (int)(round_up(product.n_block_rows, GEMM_ROWS) / GEMM_ROWS);
        cpu_pool_run(pool, n_tiles, pack_tile, &product);
        product.n_parts = (int)(round_up(product.n_block_rows, product.part_rows) /
                                product.part_rows);
        cpu_pool_run(pool, product.n_chunks * product.n_parts, run_task, &product);
    }
    cpu_pool_give_back(pool);
    return true;
}
