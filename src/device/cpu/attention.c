/* Attention over ragged sequences, every row seeing all rows of its own sequence.
 *
 * The scores of a sequence are never held whole: a block of query rows goes over the keys in
 * blocks, with a running maximum and sum a row (Milakov & Gimelshein 2018; FlashAttention, Dao et
 * al. 2022, algorithm 1). All products, sums and the softmax are fp32; where the table's elements
 * are bf16, queries, keys, values and softmax's numerators are rounded to it first.
 *
 * An operation has two passes over the pool. The first reads the rows in order and packs the
 * queries, keys and values of every head, keys and values once for all query heads that share
 * them; the second does the blocks. Scores are powers of two: the scale and log2 e are multiplied
 * into the queries. */
#include "device/cpu/attention.h"

#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* Rows: multiples of every table's lanes, depth_step and row_step. */
#define QUERY_BLOCK 64
#define KEY_BLOCK 256
#define PACK_BLOCK 64

/* ---- plain C ---- */

#define PLAIN_LANES 8

static void plain_pack_row(void *out, const float *in, float factor, int dim, int depth) {
    float *row = out;
    for (int i = 0; i < depth; i++)
        row[i] = i < dim ? factor * in[i] : 0;
}

static void plain_pack_keys(void *panel, const float *in, int64_t stride, int n, int dim,
                            int depth) {
    float *out = panel;
    for (int d = 0; d < depth; d++) {
        for (int key = 0; key < PLAIN_LANES; key++)
            *out++ = key < n && d < dim ? in[key * stride + d] : 0;
    }
}

static void plain_pack_values(void *panels, size_t panel_bytes, const float *in, int64_t stride,
                              int n, int dim, int depth) {
    for (int first = 0; first < dim; first += PLAIN_LANES) {
        float *out = (float *)((char *)panels + (size_t)(first / PLAIN_LANES) * panel_bytes);
        for (int key = 0; key < depth; key++) {
            for (int d = first; d < first + PLAIN_LANES; d++)
                *out++ = key < n && d < dim ? in[key * stride + d] : 0;
        }
    }
}

static void plain_product(float *c, int c_stride, const void *a, int a_stride, const void *b,
                          size_t panel_bytes, int rows, int n_panels, int depth, bool add) {
    for (int row = 0; row < rows; row++) {
        const float *from = (const float *)a + (size_t)row * (size_t)a_stride;
        for (int panel_i = 0; panel_i < n_panels; panel_i++) {
            const float *panel = (const float *)((const char *)b + (size_t)panel_i * panel_bytes);
            float *to = c + (size_t)row * (size_t)c_stride + panel_i * PLAIN_LANES;
            float sums[PLAIN_LANES] = {0};
            for (int d = 0; d < depth; d++) {
                for (int lane = 0; lane < PLAIN_LANES; lane++)
                    sums[lane] += from[d] * panel[d * PLAIN_LANES + lane];
            }
            for (int lane = 0; lane < PLAIN_LANES; lane++)
                to[lane] = add ? to[lane] + sums[lane] : sums[lane];
        }
    }
}

static float plain_soften(void *p, const float *scores, float *max, float *sum, int n, int depth) {
    float *out = p, old = *max, top = old;
    for (int i = 0; i < n; i++)
        top = scores[i] > top ? scores[i] : top;
    float lower = exp2f(old - top), total = 0;
    for (int i = 0; i < depth; i++) {
        out[i] = i < n ? exp2f(scores[i] - top) : 0;
        total += out[i];
    }
    *max = top;
    *sum = *sum * lower + total;
    return lower;
}

static const struct attention_kernels plain = {
    .lanes = PLAIN_LANES,
    .depth_step = 1,
    .row_step = 1,
    .element_bytes = sizeof(float),
    .pack_row = plain_pack_row,
    .pack_keys = plain_pack_keys,
    .pack_values = plain_pack_values,
    .product = plain_product,
    .soften = plain_soften,
};

const struct attention_kernels *attention_kernels_for(unsigned features, enum precision precision) {
#if defined(__x86_64__)
    bool pairs = precision == PRECISION_BF16 || precision == PRECISION_INT8;
    if (pairs && (features & CPU_AVX512_BF16) && (features & CPU_AMX_BF16))
        return &attention_amx;
    if (pairs && (features & CPU_AVX512_BF16))
        return &attention_avx512_bf16;
    if (features & CPU_AVX512)
        return &attention_avx512;
    if (features & CPU_AVX2)
        return &attention_avx2;
#endif
    (void)features;
    (void)precision;
    return &plain;
}

/* ---- packing ---- */

/* One sequence: its rows, where its packed heads begin, and the first of its parts in each pass.
 * Packed are the queries of all heads, then keys and values of one key/value head after another. */
struct stretch {
    int64_t row;
    int n, n_padded; /* n_padded: a multiple of lanes, depth_step and row_step */
    char *queries, *keys;
    size_t query_bytes, key_bytes, value_bytes; /* a head */
    int first_packing, first_block;
};

struct attention {
    const struct attention_kernels *kernels;
    const struct cpu_rows *rows;
    const struct attention_shape *shape;
    const float *qkv;
    float *out;
    int64_t qkv_stride, out_stride;
    int dim, depth, n_value_panels; /* of a head: its size, padded; and in panels */
    struct stretch *stretches;
    int n_stretches, n_packings, n_blocks;
    char *workspaces;
    size_t workspace_bytes; /* a thread */
};

static int round_up(int n, int step) {
    return (n + step - 1) / step * step;
}

static int least(int a, int b) {
    return a < b ? a : b;
}

static size_t panel_bytes(const struct attention *op, int depth) {
    return (size_t)depth * (size_t)op->kernels->lanes * (size_t)op->kernels->element_bytes;
}

static size_t row_bytes(const struct attention *op) {
    return (size_t)op->depth * (size_t)op->kernels->element_bytes;
}

/* The stretch that part i of a pass belongs to: the last that begins at or before it. */
static const struct stretch *stretch_of(const struct attention *op, int i, bool packing) {
    int low = 0, high = op->n_stretches - 1;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        const struct stretch *stretch = &op->stretches[middle];
        if ((packing ? stretch->first_packing : stretch->first_block) <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return &op->stretches[low];
}

static char *keys_of(const struct stretch *stretch, int kv_head) {
    return stretch->keys + (size_t)kv_head * (stretch->key_bytes + stretch->value_bytes);
}

static void pack_queries(const struct attention *op, const struct stretch *stretch, int first,
                         int end, int padded) {
    float factor = op->shape->scale * (float)M_LOG2E;
    for (int row = first; row < padded; row++) {
        const float *in = op->qkv + (stretch->row + row) * op->qkv_stride;
        for (int head = 0; head < op->shape->n_heads; head++) {
            char *out = stretch->queries + (size_t)head * stretch->query_bytes +
                        (size_t)row * row_bytes(op);
            if (row < end)
                op->kernels->pack_row(out, in + head * op->dim, factor, op->dim, op->depth);
            else
                memset(out, 0, row_bytes(op));
        }
    }
}

static void pack_keys(const struct attention *op, const struct stretch *stretch, int first, int end,
                      int padded) {
    int lanes = op->kernels->lanes;
    for (int key = first; key < padded; key += lanes) {
        int n = key < end ? least(end - key, lanes) : 0;
        const float *keys = op->qkv + (stretch->row + (n ? key : first)) * op->qkv_stride +
                            (int64_t)op->shape->n_heads * op->dim;
        for (int head = 0; head < op->shape->n_kv_heads; head++) {
            char *panel = keys_of(stretch, head) +
                          (size_t)(key / lanes) * panel_bytes(op, op->depth);
            op->kernels->pack_keys(panel, keys + head * op->dim, op->qkv_stride, n, op->dim,
                                   op->depth);
        }
    }
}

/* Part i of the first pass: PACK_BLOCK rows, and what pads the last of them. */
static void pack_part(void *ctx, int i, int thread) {
    const struct attention *op = ctx;
    (void)thread;
    const struct stretch *stretch = stretch_of(op, i, true);
    int first = (i - stretch->first_packing) * PACK_BLOCK;
    int end = least(first + PACK_BLOCK, stretch->n);
    int padded = least(first + PACK_BLOCK, stretch->n_padded);
    pack_queries(op, stretch, first, end, padded);
    pack_keys(op, stretch, first, end, padded);
    const float *values = op->qkv + (stretch->row + first) * op->qkv_stride +
                          ((int64_t)op->shape->n_heads + op->shape->n_kv_heads) * op->dim;
    for (int head = 0; head < op->shape->n_kv_heads; head++) {
        char *panels = keys_of(stretch, head) + stretch->key_bytes + panel_bytes(op, first);
        op->kernels->pack_values(panels, panel_bytes(op, stretch->n_padded),
                                 values + head * op->dim, op->qkv_stride, end - first, op->dim,
                                 padded - first);
    }
}

/* ---- blocks ---- */

/* What one thread works in: rows of KEY_BLOCK scores and numerators, and of sums over values. */
struct workspace {
    float *scores, *sums;
    char *numerators;
    float max[QUERY_BLOCK], sum[QUERY_BLOCK];
};

static int sums_stride(const struct attention *op) {
    return op->n_value_panels * op->kernels->lanes;
}

static size_t workspace_bytes(const struct attention *op) {
    return QUERY_BLOCK * (KEY_BLOCK * (sizeof(float) + (size_t)op->kernels->element_bytes) +
                          (size_t)sums_stride(op) * sizeof(float));
}

static void workspace_init(struct workspace *work, const struct attention *op, int thread) {
    char *at = op->workspaces + (size_t)thread * op->workspace_bytes;
    work->scores = (float *)at;
    work->numerators = at + QUERY_BLOCK * KEY_BLOCK * sizeof(float);
    work->sums = (float *)(work->numerators +
                           QUERY_BLOCK * KEY_BLOCK * (size_t)op->kernels->element_bytes);
    for (int row = 0; row < QUERY_BLOCK; row++) {
        work->max[row] = -FLT_MAX;
        work->sum[row] = 0;
    }
}

/* n_rows of queries with the keys from `first` on. */
static void keys_block(struct workspace *work, const struct attention *op,
                       const struct stretch *stretch, const char *queries, const char *keys,
                       int first, int n_rows) {
    const struct attention_kernels *kernels = op->kernels;
    int n = least(stretch->n - first, KEY_BLOCK), depth = round_up(n, kernels->depth_step);
    int n_padded_rows = round_up(n_rows, kernels->row_step);
    size_t panel = panel_bytes(op, op->depth), element = (size_t)kernels->element_bytes;
    kernels->product(work->scores, KEY_BLOCK, queries, op->depth,
                     keys + (size_t)(first / kernels->lanes) * panel, panel, n_padded_rows,
                     round_up(n, kernels->lanes) / kernels->lanes, op->depth, false);
    for (int row = 0; row < n_rows; row++) {
        float lower = kernels->soften(work->numerators + (size_t)row * KEY_BLOCK * element,
                                      work->scores + row * KEY_BLOCK, &work->max[row],
                                      &work->sum[row], n, depth);
        if (first > 0 && lower != 1)
            op->rows->scale(work->sums + row * sums_stride(op), lower, sums_stride(op));
    }
    kernels->product(work->sums, sums_stride(op), work->numerators, KEY_BLOCK,
                     keys + stretch->key_bytes + panel_bytes(op, first),
                     panel_bytes(op, stretch->n_padded), n_padded_rows, op->n_value_panels, depth,
                     first > 0);
}

/* Part i of the second pass: QUERY_BLOCK rows of one head, over all keys. */
static void block_part(void *ctx, int i, int thread) {
    const struct attention *op = ctx;
    const struct stretch *stretch = stretch_of(op, i, false);
    int n_parts = (stretch->n + QUERY_BLOCK - 1) / QUERY_BLOCK;
    int head = (i - stretch->first_block) / n_parts;
    int first = (i - stretch->first_block) % n_parts * QUERY_BLOCK;
    int n_rows = least(stretch->n - first, QUERY_BLOCK);

    struct workspace work;
    workspace_init(&work, op, thread);
    size_t numerator_bytes = KEY_BLOCK * (size_t)op->kernels->element_bytes;
    memset(work.numerators + (size_t)n_rows * numerator_bytes, 0,
           (size_t)(round_up(n_rows, op->kernels->row_step) - n_rows) * numerator_bytes);
    const char *queries = stretch->queries + (size_t)head * stretch->query_bytes +
                          (size_t)first * row_bytes(op);
    const char *keys = keys_of(stretch, head / (op->shape->n_heads / op->shape->n_kv_heads));
    for (int key = 0; key < stretch->n; key += KEY_BLOCK)
        keys_block(&work, op, stretch, queries, keys, key, n_rows);

    float *out = op->out + (stretch->row + first) * op->out_stride + (int64_t)head * op->dim;
    for (int row = 0; row < n_rows; row++) {
        float *sums = work.sums + row * sums_stride(op);
        op->rows->scale(sums, work.sum[row] == 0 ? 0 : 1 / work.sum[row], op->dim);
        memcpy(out + row * op->out_stride, sums, (size_t)op->dim * sizeof *sums);
    }
}

/* ---- the operation ---- */

static size_t line_up(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

/* Lays out the sequences that have rows, their memory beginning at `at`; returns where it ends.
 * With op->stretches NULL it only counts. A packed row is at most 32 elements longer than the row
 * itself, and a sequence at most 32 rows, so nothing here overflows. */
static size_t lay_out(struct attention *op, const struct sequences *sequences, char *memory,
                      size_t at) {
    const struct attention_kernels *kernels = op->kernels;
    int64_t n_packings = 0, n_blocks = 0;
    int step = kernels->lanes > kernels->depth_step ? kernels->lanes : kernels->depth_step;
    step = step > kernels->row_step ? step : kernels->row_step;
    op->n_stretches = 0;
    for (int i = 0; i < sequences->n; i++) {
        int n = sequences->starts[i + 1] - sequences->starts[i];
        if (n == 0)
            continue;
        struct stretch stretch = {.row = sequences->starts[i], .n = n};
        stretch.n_padded = round_up(n, step);
        stretch.query_bytes = line_up((size_t)stretch.n_padded * row_bytes(op));
        stretch.key_bytes = (size_t)(stretch.n_padded / kernels->lanes) *
                            panel_bytes(op, op->depth);
        stretch.value_bytes = (size_t)op->n_value_panels * panel_bytes(op, stretch.n_padded);
        stretch.first_packing = (int)n_packings;
        stretch.first_block = (int)n_blocks;
        n_packings += (n + PACK_BLOCK - 1) / PACK_BLOCK;
        n_blocks += (int64_t)((n + QUERY_BLOCK - 1) / QUERY_BLOCK) * op->shape->n_heads;
        assert(n_packings <= INT_MAX && n_blocks <= INT_MAX);
        size_t queries = at, keys = at + (size_t)op->shape->n_heads * stretch.query_bytes;
        at = line_up(keys +
                     (size_t)op->shape->n_kv_heads * (stretch.key_bytes + stretch.value_bytes));
        if (memory) {
            stretch.queries = memory + queries;
            stretch.keys = memory + keys;
            op->stretches[op->n_stretches] = stretch;
        }
        op->n_stretches++;
    }
    op->n_packings = (int)n_packings;
    op->n_blocks = (int)n_blocks;
    return at;
}

bool cpu_attention_run(float *out, const float *qkv, struct cpu_pool *pool, unsigned features,
                       const struct attention_shape *shape, const struct sequences *sequences,
                       struct error *err) {
    const struct attention_kernels *kernels = attention_kernels_for(features, shape->precision);
    struct attention op = {
        .kernels = kernels,
        .rows = cpu_rows_for(features),
        .shape = shape,
        .qkv = qkv,
        .out = out,
        .qkv_stride = ((int64_t)shape->n_heads + 2 * (int64_t)shape->n_kv_heads) * shape->head_dim,
        .out_stride = (int64_t)shape->n_heads * shape->head_dim,
        .dim = shape->head_dim,
        .depth = round_up(shape->head_dim, kernels->depth_step),
        .n_value_panels = round_up(shape->head_dim, kernels->lanes) / kernels->lanes,
    };
    op.workspace_bytes = line_up(workspace_bytes(&op));
    size_t workspaces = line_up((size_t)sequences->n * sizeof *op.stretches);
    size_t packed = workspaces + (size_t)cpu_pool_threads(pool) * op.workspace_bytes;
    size_t total = lay_out(&op, sequences, NULL, packed);
    if (op.n_stretches == 0)
        return true;
    char *memory = cpu_pool_borrow(pool, total);
    if (!memory)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "%zu bytes of memory for attention cannot be had", total);
    op.stretches = (struct stretch *)memory;
    op.workspaces = memory + workspaces;
    lay_out(&op, sequences, memory, packed);
    cpu_pool_run(pool, op.n_packings, pack_part, &op);
    cpu_pool_run(pool, op.n_blocks, block_part, &op);
    cpu_pool_give_back(pool);
    return true;
}
