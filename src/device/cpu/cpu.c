/* The CPU as a device: memory, and every operation over the pool's threads.
 *
 * A tensor's memory is its rows as floats. Operations over rows are cut into parts of some ten
 * thousand elements, few enough to hand out cheaply, and small ones are done where they are called.
 *
 * Tables of rotary positions are made once a head size and base, and kept. Invariant: a table in
 * the list never changes and lives as long as the device, so it is read without a lock; two threads
 * that want the same new one may both add it. */
#include "device/cpu/cpu.h"
#include "device/cpu/memory.h"
#include "device/internal.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* Cosines and sines of positions 0 to n_positions - 1, rows of half. */
struct rope_table {
    struct rope_table *next;
    float base;
    int half, n_positions;
    float *cosines, *sines;
};

struct cpu_device {
    struct device device; /* first: a struct device * is one of these */
    struct cpu_pool *pool;
    unsigned features;
    const struct cpu_rows *rows;
    _Atomic int64_t tensor_bytes;
    _Atomic(struct rope_table *) ropes;
};

static struct cpu_device *cpu_of(const struct tensor *tensor) {
    return (struct cpu_device *)tensor->device;
}

static float *row_of(const struct tensor *tensor, int64_t row) {
    return (float *)tensor->memory + row * tensor->cols;
}

/* ---- the device ---- */

static void cpu_close(struct device *device) {
    struct cpu_device *cpu = (struct cpu_device *)device;
    struct rope_table *table = atomic_load(&cpu->ropes);
    while (table) {
        struct rope_table *next = table->next;
        cpu_memory_free(table->cosines);
        mem_free(table);
        table = next;
    }
    cpu_pool_close(cpu->pool);
    mem_free(cpu);
}

static void describe_kernels(char *out, size_t size, unsigned features) {
    bool amx = features & (CPU_AMX_INT8 | CPU_AMX_BF16);
    if (features & CPU_AVX512)
        snprintf(out, size, "%s%s%s%savx512%s%s", amx ? "amx" : "",
                 features & CPU_AMX_BF16 ? " bf16" : "", features & CPU_AMX_INT8 ? " int8" : "",
                 amx ? ", " : "", features & CPU_AVX512_VNNI && !amx ? " vnni" : "",
                 features & CPU_AVX512_BF16 && !amx ? " bf16" : "");
    else
        snprintf(out, size, "%s", features & CPU_AVX2 ? "avx2" : "plain C");
}

/* As Linux names it on x86; elsewhere, the architecture. */
static void describe_processor(char *out, size_t size) {
    struct utsname system;
    snprintf(out, size, "%s", uname(&system) == 0 ? system.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(out, size, "%s", value);
        break;
    }
    fclose(file);
}

static void cpu_info(struct device_info *out, const struct device *device) {
    const struct cpu_device *cpu = (const struct cpu_device *)device;
    describe_kernels(out->kernels, sizeof out->kernels, cpu->features);
    describe_processor(out->processor, sizeof out->processor);
    out->n_threads = cpu_pool_threads(cpu->pool);
    out->bytes = atomic_load(&cpu->tensor_bytes) + (int64_t)cpu_pool_scratch_bytes(cpu->pool);
}

static int64_t cpu_room_bytes(const struct device *device) {
    (void)device;
    return cpu_memory_room_bytes();
}

static void cpu_run(struct device *device, int n, void (*work)(void *ctx, int i, int thread),
                    void *ctx) {
    cpu_pool_run(((struct cpu_device *)device)->pool, n, work, ctx);
}

/* ---- tensors ---- */

static int64_t bytes_of(const struct tensor *tensor) {
    return tensor->rows * tensor->cols * (int64_t)sizeof(float);
}

static bool cpu_tensor_open(struct tensor *tensor, struct error *err) {
    size_t row_bytes;
    if (__builtin_mul_overflow((size_t)tensor->cols, sizeof(float), &row_bytes))
        row_bytes = SIZE_MAX;
    if (!cpu_memory_new(&tensor->memory, (size_t)tensor->rows, row_bytes, err)) {
        error_prefix(err, "a tensor of %lld x %lld: ", (long long)tensor->rows,
                     (long long)tensor->cols);
        return false;
    }
    atomic_fetch_add(&cpu_of(tensor)->tensor_bytes, bytes_of(tensor));
    return true;
}

static void cpu_tensor_close(struct tensor *tensor) {
    cpu_memory_free(tensor->memory);
    atomic_fetch_sub(&cpu_of(tensor)->tensor_bytes, bytes_of(tensor));
}

static bool cpu_tensor_write(struct tensor *tensor, int64_t row, int64_t n, const float *values,
                             struct error *err) {
    (void)err;
    memcpy(row_of(tensor, row), values, (size_t)(n * tensor->cols) * sizeof *values);
    return true;
}

static bool cpu_tensor_read(float *values, const struct tensor *tensor, int64_t row, int64_t n,
                            struct error *err) {
    (void)err;
    memcpy(values, row_of(tensor, row), (size_t)(n * tensor->cols) * sizeof *values);
    return true;
}

/* ---- weights: used where they lie ---- */

static const char *cpu_weight_layout(const struct device *device, enum precision precision) {
    return cpu_gemm_layout(((const struct cpu_device *)device)->features, precision);
}

static size_t cpu_weight_bytes(const struct device *device, const struct weight_shape *shape) {
    return cpu_gemm_bytes(((const struct cpu_device *)device)->features, shape);
}

static bool cpu_weight_pack(void *out, struct device *device, const struct weight_shape *shape,
                            const struct weight_source *sources, int n_sources, struct error *err) {
    struct cpu_device *cpu = (struct cpu_device *)device;
    return cpu_gemm_pack(out, cpu->pool, cpu->features, shape, sources, n_sources, err);
}

static bool cpu_weight_open(struct weight *weight, struct error *err) {
    (void)weight;
    (void)err;
    return true;
}

static void cpu_weight_close(struct weight *weight) {
    (void)weight;
}

/* ---- products ---- */

static bool cpu_linear(struct tensor *out, const struct tensor *in, const struct weight *weight,
                       const struct tensor *bias, enum activation activation,
                       const struct tensor *residual, struct error *err) {
    struct cpu_device *cpu = cpu_of(out);
    struct cpu_epilogue epilogue = {
        .bias = bias ? bias->memory : NULL,
        .activation = activation,
        .residual = residual ? residual->memory : NULL,
    };
    return cpu_gemm_run(out->memory, in->memory, in->rows, cpu->pool, cpu->features, &weight->shape,
                        weight->packed, &epilogue, err);
}

static bool cpu_gated(struct tensor *out, const struct tensor *in, const struct weight *weight,
                      enum activation activation, struct error *err) {
    struct cpu_device *cpu = cpu_of(out);
    struct cpu_epilogue epilogue = {.activation = activation};
    return cpu_gemm_run(out->memory, in->memory, in->rows, cpu->pool, cpu->features, &weight->shape,
                        weight->packed, &epilogue, err);
}

/* ---- operations over rows ---- */

#define PART_ELEMENTS 16384

/* An operation on rows from `from` to `to`; what it does not use is unset. */
struct over_rows {
    void (*work)(const struct over_rows *op, int64_t from, int64_t to);
    const struct cpu_rows *kernels;
    struct tensor *out;
    const struct tensor *in, *gain, *bias;
    float factor; /* or epsilon */
    int64_t n, step;
    int64_t to, from; /* first rows of out and in, where they differ */
    const struct attention_shape *shape;
    const struct sequences *sequences;
    const struct rope_table *table;
};

static void rows_part(void *ctx, int i, int thread) {
    const struct over_rows *op = ctx;
    (void)thread;
    int64_t from = i * op->step;
    op->work(op, from, from + op->step < op->n ? from + op->step : op->n);
}

static bool run_over(struct over_rows *op, int64_t n, int64_t elements_a_row) {
    struct cpu_device *cpu = cpu_of(op->out);
    assert(elements_a_row <= INT_MAX);
    op->kernels = cpu->rows;
    op->n = n;
    op->step = elements_a_row < PART_ELEMENTS ? PART_ELEMENTS / elements_a_row : 1;
    if (n <= op->step) {
        op->work(op, 0, n);
        return true;
    }
    int64_t n_parts = (n + op->step - 1) / op->step;
    assert(n_parts <= INT_MAX);
    cpu_pool_run(cpu->pool, (int)n_parts, rows_part, op);
    return true;
}

static void layer_norm_rows(const struct over_rows *op, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++)
        op->kernels->layer_norm(row_of(op->out, row), row_of(op->in, row), (int)op->in->cols,
                                op->gain->memory, op->bias->memory, op->factor);
}

static bool cpu_layer_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                           const struct tensor *bias, float epsilon, struct error *err) {
    (void)err;
    struct over_rows op = {.work = layer_norm_rows,
                           .out = out,
                           .in = in,
                           .gain = gain,
                           .bias = bias,
                           .factor = epsilon};
    return run_over(&op, out->rows, out->cols);
}

static void rms_norm_rows(const struct over_rows *op, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++)
        op->kernels->rms_norm(row_of(op->out, row), row_of(op->in, row), (int)op->in->cols,
                              op->gain->memory, op->factor);
}

static bool cpu_rms_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                         float epsilon, struct error *err) {
    (void)err;
    struct over_rows op = {
        .work = rms_norm_rows, .out = out, .in = in, .gain = gain, .factor = epsilon};
    return run_over(&op, out->rows, out->cols);
}

static void add_rows(const struct over_rows *op, int64_t from, int64_t to) {
    while (from < to) {
        int64_t in_row = from % op->in->rows, n = op->in->rows - in_row;
        n = n < to - from ? n : to - from;
        op->kernels->add(row_of(op->out, from), row_of(op->in, in_row), n * op->out->cols);
        from += n;
    }
}

static bool cpu_add(struct tensor *out, const struct tensor *in, struct error *err) {
    (void)err;
    struct over_rows op = {.work = add_rows, .out = out, .in = in};
    return run_over(&op, out->rows, out->cols);
}

static void scale_rows(const struct over_rows *op, int64_t from, int64_t to) {
    op->kernels->scale(row_of(op->out, from), op->factor, (to - from) * op->out->cols);
}

static bool cpu_scale(struct tensor *out, float factor, struct error *err) {
    (void)err;
    struct over_rows op = {.work = scale_rows, .out = out, .factor = factor};
    return run_over(&op, out->rows, out->cols);
}

static void copy_rows(const struct over_rows *op, int64_t from, int64_t to) {
    memcpy(row_of(op->out, op->to + from), row_of(op->in, op->from + from),
           (size_t)((to - from) * op->out->cols) * sizeof(float));
}

static bool cpu_copy_rows(struct tensor *out, int64_t to, const struct tensor *in, int64_t from,
                          int64_t n, struct error *err) {
    (void)err;
    if (out == in) {
        memmove(row_of(out, to), row_of(in, from), (size_t)(n * out->cols) * sizeof(float));
        return true;
    }
    struct over_rows op = {.work = copy_rows, .out = out, .in = in, .to = to, .from = from};
    return run_over(&op, n, out->cols);
}

static void mean_rows(const struct over_rows *op, int64_t from, int64_t to) {
    int64_t cols = op->out->cols;
    for (int64_t i = from; i < to; i++) {
        float *mean = row_of(op->out, i);
        int first = op->sequences->starts[i], end = op->sequences->starts[i + 1];
        memset(mean, 0, (size_t)cols * sizeof *mean);
        for (int row = first; row < end; row++)
            op->kernels->add(mean, row_of(op->in, row), cols);
        if (end > first)
            op->kernels->scale(mean, 1 / (float)(end - first), cols);
    }
}

static bool cpu_mean_pool(struct tensor *out, const struct tensor *in,
                          const struct sequences *sequences, struct error *err) {
    (void)err;
    struct over_rows op = {.work = mean_rows, .out = out, .in = in, .sequences = sequences};
    int64_t elements = in->rows / out->rows * out->cols; /* of a sequence, about */
    return run_over(&op, out->rows, elements > INT_MAX ? INT_MAX : elements > 0 ? elements : 1);
}

#define SHORTEST 1e-12 /* a row shorter than this has no direction */

static void normalize_rows(const struct over_rows *op, int64_t from, int64_t to) {
    int64_t cols = op->out->cols;
    for (int64_t row = from; row < to; row++) {
        const float *in = row_of(op->in, row);
        float *out = row_of(op->out, row);
        double length = sqrt(op->kernels->dot(in, in, (int)cols));
        double factor = length < SHORTEST ? 0 : 1 / length;
        for (int64_t i = 0; i < cols; i++)
            out[i] = (float)((double)in[i] * factor);
    }
}

static bool cpu_normalize(struct tensor *out, const struct tensor *in, struct error *err) {
    (void)err;
    struct over_rows op = {.work = normalize_rows, .out = out, .in = in};
    return run_over(&op, out->rows, out->cols);
}

/* ---- rotary positions ---- */

/* Angles are rounded to fp32 on their way, as the models were trained and their references compute
 * them: base^(-2i / head_dim), then times the position. */
static struct rope_table *rope_table_new(float base, int half, int n_positions, struct error *err) {
    void *memory;
    if (!cpu_memory_new(&memory, (size_t)n_positions, 2 * sizeof(float) * (size_t)half, err))
        return NULL;
    struct rope_table *table = mem_alloc(sizeof *table);
    *table = (struct rope_table){.base = base, .half = half, .n_positions = n_positions};
    table->cosines = memory;
    table->sines = table->cosines + (size_t)n_positions * (size_t)half;
    for (int i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)(2 * half);
        float frequency = (float)(1 / pow((double)base, (double)exponent));
        for (int position = 0; position < n_positions; position++) {
            float angle = (float)position * frequency;
            table->cosines[(size_t)position * (size_t)half + (size_t)i] = (float)cos((double)angle);
            table->sines[(size_t)position * (size_t)half + (size_t)i] = (float)sin((double)angle);
        }
    }
    return table;
}

static const struct rope_table *find_ropes(struct cpu_device *cpu, float base, int half,
                                           int n_positions, struct error *err) {
    struct rope_table *first = atomic_load(&cpu->ropes);
    for (const struct rope_table *table = first; table; table = table->next) {
        if (table->base == base && table->half == half && table->n_positions >= n_positions)
            return table;
    }
    int64_t rounded = 512; /* doubling: the tables that longer sequences replace stay small */
    while (rounded < n_positions)
        rounded *= 2;
    assert(rounded <= INT_MAX);
    struct rope_table *table = rope_table_new(base, half, (int)rounded, err);
    if (!table)
        return NULL;
    table->next = first;
    while (!atomic_compare_exchange_weak(&cpu->ropes, &table->next, table))
        ;
    return table;
}

static void rope_rows(const struct over_rows *op, int64_t from, int64_t to) {
    const struct rope_table *table = op->table;
    int n_heads = op->shape->n_heads + op->shape->n_kv_heads; /* those of q, then those of k */
    int sequence = 0;
    for (int64_t row = from; row < to; row++) {
        while (op->sequences->starts[sequence + 1] <= row)
            sequence++;
        size_t at = (size_t)(row - op->sequences->starts[sequence]) * (size_t)table->half;
        float *head = row_of(op->out, row);
        for (int i = 0; i < n_heads; i++, head += 2 * table->half)
            op->kernels->rope(head, table->cosines + at, table->sines + at, table->half);
    }
}

static bool cpu_rope(struct tensor *qkv, const struct attention_shape *shape,
                     const struct sequences *sequences, float base, struct error *err) {
    int longest = 0;
    for (int i = 0; i < sequences->n; i++) {
        int n = sequences->starts[i + 1] - sequences->starts[i];
        longest = n > longest ? n : longest;
    }
    struct over_rows op = {.work = rope_rows, .out = qkv, .shape = shape, .sequences = sequences};
    op.table = find_ropes(cpu_of(qkv), base, shape->head_dim / 2, longest, err);
    return op.table && run_over(&op, qkv->rows, qkv->cols);
}

static bool cpu_attention(struct tensor *out, const struct tensor *qkv,
                          const struct attention_shape *shape, const struct sequences *sequences,
                          struct error *err) {
    struct cpu_device *cpu = cpu_of(out);
    return cpu_attention_run(out->memory, qkv->memory, cpu->pool, cpu->features, shape, sequences,
                             err);
}

/* ---- opening ---- */

static const struct device_ops cpu_ops = {
    .close = cpu_close,
    .info = cpu_info,
    .room_bytes = cpu_room_bytes,
    .run = cpu_run,
    .tensor_open = cpu_tensor_open,
    .tensor_close = cpu_tensor_close,
    .tensor_write = cpu_tensor_write,
    .tensor_read = cpu_tensor_read,
    .weight_layout = cpu_weight_layout,
    .weight_bytes = cpu_weight_bytes,
    .weight_pack = cpu_weight_pack,
    .weight_open = cpu_weight_open,
    .weight_close = cpu_weight_close,
    .linear = cpu_linear,
    .gated = cpu_gated,
    .layer_norm = cpu_layer_norm,
    .rms_norm = cpu_rms_norm,
    .add = cpu_add,
    .scale = cpu_scale,
    .copy_rows = cpu_copy_rows,
    .rope = cpu_rope,
    .attention = cpu_attention,
    .mean_pool = cpu_mean_pool,
    .normalize = cpu_normalize,
};

static enum precision best_precision(unsigned features) {
    if (features & (CPU_AMX_INT8 | CPU_AVX512_VNNI))
        return PRECISION_INT8;
    return features & (CPU_AMX_BF16 | CPU_AVX512_BF16) ? PRECISION_BF16 : PRECISION_FP32;
}

bool cpu_device_probe(char reason[96]) {
    (void)reason; /* it runs this */
    return true;
}

bool cpu_device_open(struct device **out, int n_threads, struct error *err) {
    struct cpu_device *cpu = mem_alloc(sizeof *cpu);
    cpu->features = cpu_features();
    cpu->rows = cpu_rows_for(cpu->features);
    cpu->device = (struct device){
        .ops = &cpu_ops,
        .name = "cpu",
        .precisions = 1u << PRECISION_FP32 | 1u << PRECISION_BF16 | 1u << PRECISION_INT8,
        .best = best_precision(cpu->features),
    };
    if (!cpu_pool_open(&cpu->pool, n_threads ? n_threads : cpu_count(), err)) {
        cpu_close(&cpu->device);
        return false;
    }
    *out = &cpu->device;
    return true;
}
