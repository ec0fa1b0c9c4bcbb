/* Attention over ragged sequences, every row seeing all rows of its own sequence.
 *
 * The scores of a sequence are never held whole: a block of query rows goes over the keys in
 * blocks, with a running maximum and sum a row (Milakov & Gimelshein 2018; FlashAttention, Dao et
 * al. 2022, algorithm 1). All products, sums and the softmax are fp32; where the table's elements
 * are bf16, queries, keys, values and softmax's numerators are rounded to it first.
 *
 * An operation has two passes over the pool. The first packs keys and values of each sequence and
 * key/value head, once for all query heads that share them; the second does the blocks. Scores are
 * powers of two: the scale and log2 e are multiplied into the queries. */
#include "device/cpu/attention.h"
#include "device/cpu/memory.h"

#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define QUERY_BLOCK 48 /* rows: a multiple of what every kernel holds in registers */
#define KEY_BLOCK 256  /* a multiple of every table's lanes and depth_step */

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

/* ---- blocks ---- */

/* One sequence: its rows, where its packed keys and values begin, and the first of its parts in
 * each pass. Keys of one head take key_bytes, values value_bytes. */
struct stretch {
    int64_t row;
    int n, n_padded;
    size_t packed, key_bytes, value_bytes;
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
    char *packed, *scratch;
    size_t scratch_bytes; /* a thread */
};

static int round_up(int n, int step) {
    return (n + step - 1) / step * step;
}

static size_t panel_bytes(const struct attention *op, int depth) {
    return (size_t)depth * (size_t)op->kernels->lanes * (size_t)op->kernels->element_bytes;
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

static char *keys_of(const struct attention *op, const struct stretch *stretch, int kv_head) {
    return op->packed + stretch->packed +
           (size_t)kv_head * (stretch->key_bytes + stretch->value_bytes);
}

/* Part i of the first pass: KEY_BLOCK rows of one key/value head. */
static void pack_part(void *ctx, int i, int thread) {
    const struct attention *op = ctx;
    const struct attention_kernels *kernels = op->kernels;
    (void)thread;
    const struct stretch *stretch = stretch_of(op, i, true);
    int n_parts = (stretch->n + KEY_BLOCK - 1) / KEY_BLOCK;
    int kv_head = (i - stretch->first_packing) / n_parts;
    int first = (i - stretch->first_packing) % n_parts * KEY_BLOCK;
    int end = first + KEY_BLOCK < stretch->n ? first + KEY_BLOCK : stretch->n;

    const float *keys = op->qkv + stretch->row * op->qkv_stride +
                        ((int64_t)op->shape->n_heads + kv_head) * op->dim;
    const float *values = keys + (int64_t)op->shape->n_kv_heads * op->dim;
    char *packed_keys = keys_of(op, stretch, kv_head);
    char *packed_values = packed_keys + stretch->key_bytes;
    int padded = first + KEY_BLOCK < stretch->n_padded ? first + KEY_BLOCK : stretch->n_padded;
    for (int key = first; key < padded; key += kernels->lanes) {
        int n = key >= end ? 0 : end - key < kernels->lanes ? end - key : kernels->lanes;
        kernels->pack_keys(
            packed_keys + (size_t)(key / kernels->lanes) * panel_bytes(op, op->depth),
            n ? keys + key * op->qkv_stride : keys, op->qkv_stride, n, op->dim, op->depth);
    }
    kernels->pack_values(packed_values + panel_bytes(op, first), panel_bytes(op, stretch->n_padded),
                         values + first * op->qkv_stride, op->qkv_stride, end - first, op->dim,
                         padded - first);
}

/* What one thread works in. */
struct workspace {
    char *queries, *numerators; /* QUERY_BLOCK rows of depth, and of KEY_BLOCK, elements */
    float *scores, *sums;       /* QUERY_BLOCK rows of KEY_BLOCK, and of value panels, floats */
    float max[QUERY_BLOCK], sum[QUERY_BLOCK];
};

static size_t workspace_bytes(const struct attention *op) {
    size_t elements = QUERY_BLOCK * ((size_t)op->depth + KEY_BLOCK);
    size_t floats = QUERY_BLOCK *
                    (KEY_BLOCK + (size_t)op->n_value_panels * (size_t)op->kernels->lanes);
    size_t bytes = elements * (size_t)op->kernels->element_bytes + floats * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}

static void workspace_init(struct workspace *work, const struct attention *op, int thread) {
    size_t element = (size_t)op->kernels->element_bytes;
    char *at = op->scratch + (size_t)thread * op->scratch_bytes;
    work->scores = (float *)at;
    at += sizeof(float) * QUERY_BLOCK * KEY_BLOCK;
    work->numerators = at;
    at += element * QUERY_BLOCK * KEY_BLOCK;
    work->sums = (float *)at;
    at += sizeof(float) * QUERY_BLOCK * (size_t)op->n_value_panels * (size_t)op->kernels->lanes;
    work->queries = at;
    for (int row = 0; row < QUERY_BLOCK; row++) {
        work->max[row] = -FLT_MAX;
        work->sum[row] = 0;
    }
}

static void keys_block(struct workspace *work, const struct attention *op,
                       const struct stretch *stretch, const char *keys, int first, int n_rows,
                       int n_padded_rows) {
    const struct attention_kernels *kernels = op->kernels;
    int n = stretch->n - first < KEY_BLOCK ? stretch->n - first : KEY_BLOCK;
    int depth = round_up(n, kernels->depth_step);
    int sums_stride = op->n_value_panels * kernels->lanes;
    size_t element = (size_t)kernels->element_bytes;
    kernels->product(work->scores, KEY_BLOCK, work->queries, op->depth,
                     keys + (size_t)(first / kernels->lanes) * panel_bytes(op, op->depth),
                     panel_bytes(op, op->depth), n_padded_rows,
                     round_up(n, kernels->lanes) / kernels->lanes, op->depth, false);
    for (int row = 0; row < n_rows; row++) {
        float lower = kernels->soften(work->numerators + (size_t)row * KEY_BLOCK * element,
                                      work->scores + row * KEY_BLOCK, &work->max[row],
                                      &work->sum[row], n, depth);
        if (first > 0 && lower != 1)
            op->rows->scale(work->sums + row * sums_stride, lower, sums_stride);
    }
    kernels->product(work->sums, sums_stride, work->numerators, KEY_BLOCK,
                     keys + stretch->key_bytes + panel_bytes(op, first),
                     panel_bytes(op, stretch->n_padded), n_padded_rows, op->n_value_panels, depth,
                     first > 0);
}

/* Part i of the second pass: QUERY_BLOCK rows of one head, over all keys. */
static void block_part(void *ctx, int i, int thread) {
    const struct attention *op = ctx;
    const struct attention_kernels *kernels = op->kernels;
    const struct stretch *stretch = stretch_of(op, i, false);
    int n_parts = (stretch->n + QUERY_BLOCK - 1) / QUERY_BLOCK;
    int head = (i - stretch->first_block) / n_parts;
    int first = (i - stretch->first_block) % n_parts * QUERY_BLOCK;
    int n_rows = stretch->n - first < QUERY_BLOCK ? stretch->n - first : QUERY_BLOCK;
    int n_padded_rows = round_up(n_rows, kernels->row_step);

    struct workspace work;
    workspace_init(&work, op, thread);
    size_t element = (size_t)kernels->element_bytes;
    size_t query_bytes = (size_t)op->depth * element;
    const float *queries = op->qkv + (stretch->row + first) * op->qkv_stride +
                           (int64_t)head * op->dim;
    for (int row = 0; row < n_rows; row++)
        kernels->pack_row(work.queries + (size_t)row * query_bytes, queries + row * op->qkv_stride,
                          op->shape->scale * (float)M_LOG2E, op->dim, op->depth);
    size_t n_extra = (size_t)(n_padded_rows - n_rows);
    memset(work.queries + (size_t)n_rows * query_bytes, 0, n_extra * query_bytes);
    memset(work.numerators + (size_t)n_rows * KEY_BLOCK * element, 0,
           n_extra * KEY_BLOCK * element);

    int group = op->shape->n_heads / op->shape->n_kv_heads;
    const char *keys = keys_of(op, stretch, head / group);
    for (int key = 0; key < stretch->n; key += KEY_BLOCK)
        keys_block(&work, op, stretch, keys, key, n_rows, n_padded_rows);

    float *out = op->out + (stretch->row + first) * op->out_stride + (int64_t)head * op->dim;
    for (int row = 0; row < n_rows; row++) {
        float *sums = work.sums + row * op->n_value_panels * kernels->lanes;
        op->rows->scale(sums, work.sum[row] == 0 ? 0 : 1 / work.sum[row], op->dim);
        memcpy(out + row * op->out_stride, sums, (size_t)op->dim * sizeof *sums);
    }
}

/* ---- the operation ---- */

/* Lays out the sequences; returns the bytes of all packed keys and values. Each row of a head takes
 * at most 64 elements more than the row itself, so nothing here overflows. */
static size_t lay_out(struct attention *op, const struct sequences *sequences) {
    const struct attention_kernels *kernels = op->kernels;
    size_t bytes = 0;
    int64_t n_packings = 0, n_blocks = 0;
    int key_step = kernels->lanes > kernels->depth_step ? kernels->lanes : kernels->depth_step;
    for (int i = 0; i < sequences->n; i++) {
        int n = sequences->starts[i + 1] - sequences->starts[i];
        if (n == 0)
            continue;
        struct stretch *stretch = &op->stretches[op->n_stretches++];
        stretch->row = sequences->starts[i];
        stretch->n = n;
        stretch->n_padded = round_up(n, key_step);
        stretch->key_bytes = (size_t)(stretch->n_padded / kernels->lanes) *
                             panel_bytes(op, op->depth);
        stretch->value_bytes = (size_t)op->n_value_panels * panel_bytes(op, stretch->n_padded);
        stretch->packed = bytes;
        bytes += (size_t)op->shape->n_kv_heads * (stretch->key_bytes + stretch->value_bytes);
        stretch->first_packing = (int)n_packings;
        stretch->first_block = (int)n_blocks;
        n_packings += (int64_t)((n + KEY_BLOCK - 1) / KEY_BLOCK) * op->shape->n_kv_heads;
        n_blocks += (int64_t)((n + QUERY_BLOCK - 1) / QUERY_BLOCK) * op->shape->n_heads;
        assert(n_packings <= INT_MAX && n_blocks <= INT_MAX);
    }
    op->n_packings = (int)n_packings;
    op->n_blocks = (int)n_blocks;
    return bytes;
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
    void *packed = NULL, *scratch = NULL, *stretches = NULL;
    bool done = cpu_memory_new(&stretches, (size_t)sequences->n, sizeof *op.stretches, err);
    if (done) {
        op.stretches = stretches;
        op.scratch_bytes = workspace_bytes(&op);
        done = cpu_memory_new(&packed, lay_out(&op, sequences), 1, err) &&
               cpu_memory_new(&scratch, (size_t)cpu_pool_threads(pool), op.scratch_bytes, err);
    }
    if (done && op.n_stretches > 0) {
        op.packed = packed;
        op.scratch = scratch;
        cpu_pool_run(pool, op.n_packings, pack_part, &op);
        cpu_pool_run(pool, op.n_blocks, block_part, &op);
    }
    cpu_memory_free(scratch);
    cpu_memory_free(packed);
    cpu_memory_free(stretches);
    return done;
}
