/* The CPU through the public face of device: each operation against a plain one in double
 * precision, ragged sequences, several threads at once, and what it refuses. Run with each
 * instruction set by DOCUSEARCH_KERNELS. */
#include "guarded.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

#include <cmocka.h>

static struct device *device;

/* ---- tensors of numbers that are the same in every run ---- */

static struct tensor *made(int64_t rows, int64_t cols, float size, uint64_t seed) {
    struct tensor *tensor;
    struct error err;
    if (!tensor_new(&tensor, device, rows, cols, &err))
        fail_msg("%s", err.text);
    float *values = malloc((size_t)(rows * cols + 1) * sizeof *values);
    for (int64_t i = 0; i < rows * cols; i++)
        values[i] = size * random_normal(&seed);
    assert_true(tensor_write(tensor, 0, rows, values, &err));
    free(values);
    return tensor;
}

static float *read_all(const struct tensor *tensor) {
    int64_t rows = tensor_rows(tensor), cols = tensor_cols(tensor);
    float *values = malloc((size_t)(rows * cols + 1) * sizeof *values);
    struct error err;
    assert_true(tensor_read(values, tensor, 0, rows, &err));
    return values;
}

#define check_near(got, expected, bound, what, i)                                                  \
    do {                                                                                           \
        double got_ = (double)(got), expected_ = (expected);                                       \
        if (!(fabs(got_ - expected_) <= (bound)))                                                  \
            fail_msg("%s: [%lld] is %.9g, not %.9g within %.3g", what, (long long)(i), got_,       \
                     expected_, (double)(bound));                                                  \
    } while (0)

/* ---- the device ---- */

static void test_names(void **state) {
    (void)state;
    struct error err;
    enum precision precision;
    for (int i = PRECISION_AUTO; i <= PRECISION_INT8; i++) {
        assert_true(precision_parse(&precision, precision_name((enum precision)i), &err));
        assert_int_equal(precision, i);
    }
    assert_false(precision_parse(&precision, "fp64", &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_non_null(strstr(err.text, "'fp64'"));
    assert_false(precision_parse(&precision, "", &err));
}

static void test_choice(void **state) {
    (void)state;
    static const char *const absent[] = {"mps", "cuda", "vulkan"};
    struct device *other;
    struct error err;
    for (size_t i = 0; i < BASE_COUNT(absent); i++) {
        assert_false(device_open(&other, absent[i], 1, &err));
        assert_null(other);
        assert_int_equal(err.kind, ERROR_DEVICE);
        assert_string_equal(err.code, "device_not_available");
        assert_non_null(strstr(err.text, absent[i]));
        assert_non_null(strstr(err.text, "not built"));
    }
    assert_false(device_open(&other, "tpu", 1, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_true(device_open(&other, "auto", 0, &err));
    struct device_info info;
    device_info(&info, other);
    assert_string_equal(info.name, "cpu");
    assert_int_equal(info.n_threads, cpu_count());
    assert_true(info.kernels[0] && info.processor[0]);
    assert_int_equal(info.bytes, 0);
    device_close(other);
    device_close(NULL);

    struct device_kind kinds[8];
    int n = device_kinds(kinds), n_present = 0;
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++) {
        n_present += kinds[i].present;
        assert_int_equal(kinds[i].built, strcmp(kinds[i].name, "cpu") == 0);
        assert_true(kinds[i].present || kinds[i].reason[0]);
    }
    assert_int_equal(n_present, 1);
}

static void test_precisions(void **state) {
    (void)state;
    struct error err;
    assert_true(device_check_precision(device, PRECISION_AUTO, &err));
    assert_true(device_check_precision(device, PRECISION_FP32, &err));
    assert_true(device_check_precision(device, PRECISION_BF16, &err));
    assert_true(device_check_precision(device, PRECISION_INT8, &err));
    assert_false(device_check_precision(device, PRECISION_FP16, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "fp16"));
    assert_non_null(strstr(err.text, "fp32, bf16, int8"));
    unsigned features = cpu_features();
    enum precision best = device_best_precision(device);
    if (features & (CPU_AMX_INT8 | CPU_AVX512_VNNI))
        assert_int_equal(best, PRECISION_INT8);
    else
        assert_int_equal(best, features & CPU_AVX512_BF16 ? PRECISION_BF16 : PRECISION_FP32);
}

static void test_memory(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1 << 20, 1 << 20}, /* four terabytes */
                                        {INT64_MAX / 4, 3}, /* overflow */
                                        {3, INT64_MAX},     /* of one row */
                                        {INT64_MAX, INT64_MAX}};
    struct tensor *tensor;
    struct device_info info;
    struct error err;
    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        assert_false(tensor_new(&tensor, device, shapes[i][0], shapes[i][1], &err));
        assert_null(tensor);
        assert_int_equal(err.kind, ERROR_LIMIT);
        assert_string_equal(err.code, "out_of_memory");
    }
    /* More than the machine has, though the system would promise it. */
    int64_t all_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    assert_false(tensor_new(&tensor, device, all_bytes / 4096 + 1, 1024, &err));
    assert_string_equal(err.code, "out_of_memory");
    int64_t room = device_room_bytes(device);
    assert_true(room > 0 && room <= all_bytes);
    device_info(&info, device);
    assert_int_equal(info.bytes, 0);
    assert_true(tensor_new(&tensor, device, 1000, 2000, &err)); /* from the system */
    struct tensor *small = made(3, 5, 1, 1);                    /* from the heap */
    device_info(&info, device);
    assert_int_equal(info.bytes, (1000 * 2000 + 15) * 4);
    assert_int_equal(tensor_rows(tensor), 1000);
    assert_int_equal(tensor_cols(tensor), 2000);
    tensor_free(tensor);
    tensor_free(small);
    tensor_free(NULL);
    device_info(&info, device);
    assert_int_equal(info.bytes, 0);
    assert_true(tensor_new(&tensor, device, 0, 7, &err)); /* no row */
    assert_true(tensor_read(NULL, tensor, 0, 0, &err));
    assert_true(device_scale(tensor, 2, &err));
    tensor_free(tensor);
}

static void test_rows_in_and_out(void **state) {
    (void)state;
    struct tensor *a = made(9, 33, 1, 3), *b = made(20, 33, 1, 4);
    float *from = read_all(a), *to = read_all(b), part[2 * 33];
    struct error err;
    assert_true(tensor_read(part, a, 4, 2, &err));
    assert_memory_equal(part, from + 4 * 33, sizeof part);
    assert_true(device_copy_rows(b, 7, a, 2, 5, &err));
    memcpy(to + 7 * 33, from + 2 * 33, sizeof(float) * 5 * 33);
    float *now = read_all(b);
    assert_memory_equal(now, to, sizeof(float) * 20 * 33);
    free(now);
    assert_true(device_copy_rows(b, 3, b, 1, 10, &err)); /* within itself, overlapping */
    memmove(to + 3 * 33, to + 33, sizeof(float) * 10 * 33);
    now = read_all(b);
    assert_memory_equal(now, to, sizeof(float) * 20 * 33);
    free(now);
    free(from);
    free(to);
    tensor_free(a);
    tensor_free(b);
}

/* ---- products ---- */

struct matrix {
    int n, k;
    float *values;
};

static bool matrix_row(void *ctx, int i, float *out, struct error *err) {
    const struct matrix *matrix = ctx;
    (void)err;
    memcpy(out, matrix->values + (size_t)i * (size_t)matrix->k, (size_t)matrix->k * sizeof *out);
    return true;
}

static struct matrix matrix_made(int n, int k, uint64_t seed) {
    struct matrix matrix = {n, k, malloc((size_t)n * (size_t)k * sizeof(float))};
    for (int i = 0; i < n * k; i++)
        matrix.values[i] = random_normal(&seed) / sqrtf((float)k);
    return matrix;
}

static struct weight *packed(void **memory, const struct matrix *a, const struct matrix *b,
                             enum weight_join join, enum precision precision) {
    struct weight_shape shape = {a->n + (b ? b->n : 0), a->k, join, precision};
    struct weight_source sources[] = {{a->n, a->k, matrix_row, (void *)(uintptr_t)a},
                                      {b ? b->n : 0, a->k, matrix_row, (void *)(uintptr_t)b}};
    struct weight *weight;
    struct error err;
    size_t bytes = weight_bytes(device, &shape);
    assert_int_equal(bytes % 64, 0);
    assert_non_null(weight_layout(device, precision));
    *memory = aligned_alloc(64, bytes);
    assert_non_null(*memory);
    assert_true(weight_pack(*memory, device, &shape, sources, b ? 2 : 1, &err));
    assert_true(weight_open(&weight, device, &shape, *memory, &err));
    return weight;
}

static double product_of(const float *row, const struct matrix *matrix, int i, double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (int k = 0; k < matrix->k; k++) {
        double product = (double)row[k] * (double)matrix->values[i * matrix->k + k];
        sum += product;
        *magnitude += product * product;
    }
    *magnitude = sqrt(*magnitude);
    return sum;
}

static double gelu_tanh(double x) {
    return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* How far a product of this precision may be off, in units of the root of its terms' squares. */
static double product_bound(enum precision precision) {
    return precision == PRECISION_FP32 ? 5e-6 : precision == PRECISION_BF16 ? 0.03 : 0.12;
}

static void test_linear(void **state) {
    (void)state;
    static const enum precision precisions[] = {PRECISION_FP32, PRECISION_BF16, PRECISION_INT8};
    enum { ROWS = 37, K = 130, N = 71 };
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        struct matrix first = matrix_made(50, K, 1), second = matrix_made(N - 50, K, 2);
        void *memory;
        struct weight *weight = packed(&memory, &first, &second, WEIGHT_STACK, precisions[p]);
        struct tensor *in = made(ROWS, K, 1, 3), *bias = made(1, N, 1, 4);
        struct tensor *residual = made(ROWS, N, 1, 5), *out = made(ROWS, N, 1, 6);
        float *ins = read_all(in), *biases = read_all(bias), *residuals = read_all(residual);
        struct error err;
        for (int way = 0; way < 3; way++) {
            enum activation activation = way == 1 ? ACTIVATION_GELU_TANH : ACTIVATION_NONE;
            struct tensor *to = way == 2 ? residual : out; /* in place, as in a block's end */
            assert_true(device_linear(to, in, weight, way ? bias : NULL, activation,
                                      way == 2 ? residual : NULL, &err));
            float *outs = read_all(to);
            for (int i = 0; i < ROWS * N; i++) {
                int n = i % N;
                const struct matrix *matrix = n < 50 ? &first : &second;
                double magnitude,
                    exact = product_of(ins + i / N * K, matrix, n < 50 ? n : n - 50, &magnitude);
                exact += way ? (double)biases[n] : 0;
                exact = way == 1 ? gelu_tanh(exact) : exact;
                exact += way == 2 ? (double)residuals[i] : 0;
                check_near(outs[i], exact, 1.2 * product_bound(precisions[p]) * magnitude + 1e-6,
                           "linear", i);
            }
            free(outs);
        }
        free(ins);
        free(biases);
        free(residuals);
        free(first.values);
        free(second.values);
        weight_close(weight);
        free(memory);
        tensor_free(in);
        tensor_free(bias);
        tensor_free(residual);
        tensor_free(out);
    }
    weight_close(NULL);
    struct device_info info; /* what the products work with is kept, and told of */
    device_info(&info, device);
    assert_true(info.bytes > 0 && info.bytes < 64 << 20);
}

static void test_weight_limits(void **state) {
    (void)state;
    static const int sizes[][2] = {
        {1, WEIGHT_MAX_K + 1}, {WEIGHT_MAX_N + 1, 1}, {INT_MAX, INT_MAX}};
    static _Alignas(64) char memory[64];
    for (size_t i = 0; i < BASE_COUNT(sizes) * 2; i++) {
        int n = sizes[i / 2][0], k = sizes[i / 2][1];
        struct weight_shape shape = {n, k, WEIGHT_STACK, i % 2 ? PRECISION_INT8 : PRECISION_FP32};
        struct weight_source source = {n, k, matrix_row, NULL};
        struct weight *weight;
        struct error err;
        char number[16];
        snprintf(number, sizeof number, " %d ", k > WEIGHT_MAX_K ? k : n);
        assert_int_equal(weight_bytes(device, &shape), 0);
        assert_false(weight_pack(memory, device, &shape, &source, 1, &err));
        assert_int_equal(err.kind, ERROR_UNSUPPORTED);
        assert_non_null(strstr(err.text, number));
        assert_false(weight_open(&weight, device, &shape, memory, &err));
        assert_null(weight);
        assert_int_equal(err.kind, ERROR_UNSUPPORTED);
        assert_non_null(strstr(err.text, number));
    }
    struct weight_shape most = {WEIGHT_MAX_N, WEIGHT_MAX_K, WEIGHT_STACK, PRECISION_FP32};
    assert_true(weight_bytes(device, &most) == (size_t)WEIGHT_MAX_N * WEIGHT_MAX_K * 4);
}

static void test_gated(void **state) {
    (void)state;
    enum { ROWS = 21, K = 64, N = 45 };
    struct matrix gate = matrix_made(N, K, 1), up = matrix_made(N, K, 2);
    void *memory;
    struct weight *weight = packed(&memory, &gate, &up, WEIGHT_GATED, PRECISION_FP32);
    struct tensor *in = made(ROWS, K, 1, 3), *out = made(ROWS, N, 1, 4);
    float *ins = read_all(in);
    struct error err;
    assert_true(device_gated(out, in, weight, ACTIVATION_GELU_TANH, &err));
    float *outs = read_all(out);
    for (int i = 0; i < ROWS * N; i++) {
        double magnitude, more;
        double a = product_of(ins + i / N * K, &gate, i % N, &magnitude);
        double b = product_of(ins + i / N * K, &up, i % N, &more);
        check_near(outs[i], gelu_tanh(a) * b, 1e-5 * (1 + fabs(a)) * (1 + fabs(b)), "gated", i);
    }
    free(outs);
    free(ins);
    free(gate.values);
    free(up.values);
    weight_close(weight);
    free(memory);
    tensor_free(in);
    tensor_free(out);
}

/* ---- over rows ---- */

static void test_norms(void **state) {
    (void)state;
    enum { ROWS = 700, N = 73 }; /* more than one part */
    struct tensor *in = made(ROWS, N, 3, 1), *out = made(ROWS, N, 1, 2);
    struct tensor *gain = made(1, N, 1, 3), *bias = made(1, N, 1, 4);
    float *ins = read_all(in), *gains = read_all(gain), *biases = read_all(bias);
    struct error err;
    assert_true(device_layer_norm(out, in, gain, bias, 1e-6f, &err));
    float *layers = read_all(out);
    assert_true(device_rms_norm(out, in, gain, 1e-6f, &err));
    float *roots = read_all(out);
    assert_true(device_normalize(out, in, &err));
    float *units = read_all(out);
    for (int row = 0; row < ROWS; row++) {
        const float *x = ins + row * N;
        double mean = 0, variance = 0, squares = 0;
        for (int i = 0; i < N; i++)
            mean += (double)x[i] / N;
        for (int i = 0; i < N; i++) {
            squares += (double)x[i] * (double)x[i];
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / N;
        }
        for (int i = 0; i < N; i++) {
            int at = row * N + i;
            check_near(layers[at],
                       ((double)x[i] - mean) / sqrt(variance + 1e-6) * (double)gains[i] +
                           (double)biases[i],
                       4e-6, "layer norm", at);
            check_near(roots[at], (double)x[i] / sqrt(squares / N + 1e-6) * (double)gains[i], 4e-6,
                       "rms norm", at);
            check_near(units[at], (double)x[i] / sqrt(squares), 1e-7, "normalize", at);
        }
    }
    free(layers);
    free(roots);
    free(units);
    free(ins);
    free(gains);
    free(biases);
    tensor_free(in);
    tensor_free(out);
    tensor_free(gain);
    tensor_free(bias);
}

static void test_normalize_edges(void **state) {
    (void)state;
    static const float rows[5][3] = {
        {0, 0, 0}, {1e-13f, 0, 0}, {3e-12f, 4e-12f, 0}, {3e30f, -4e30f, 0}, {0, 0, -3e38f}};
    static const float expected[5][3] = {
        {0, 0, 0}, {0, 0, 0}, {0.6f, 0.8f, 0}, {0.6f, -0.8f, 0}, {0, 0, -1}};
    struct tensor *tensor = made(5, 3, 1, 1);
    struct error err;
    assert_true(tensor_write(tensor, 0, 5, rows[0], &err));
    assert_true(device_normalize(tensor, tensor, &err));
    float *got = read_all(tensor);
    for (int i = 0; i < 15; i++)
        check_near(got[i], (double)expected[i / 3][i % 3], 1e-7, "normalize", i);
    free(got);
    tensor_free(tensor);
}

static void test_add_and_scale(void **state) {
    (void)state;
    enum { ROWS = 1000, N = 40 };
    static const int rows_in[] = {1, 7, 500, 1000};
    for (size_t c = 0; c < BASE_COUNT(rows_in); c++) {
        struct tensor *out = made(ROWS, N, 1, 1), *in = made(rows_in[c], N, 1, 2);
        float *before = read_all(out), *ins = read_all(in);
        struct error err;
        assert_true(device_add(out, in, &err));
        assert_true(device_scale(out, 0.5f, &err));
        float *outs = read_all(out);
        for (int i = 0; i < ROWS * N; i++)
            assert_true(outs[i] == (before[i] + ins[i / N % rows_in[c] * N + i % N]) * 0.5f);
        free(before);
        free(ins);
        free(outs);
        tensor_free(out);
        tensor_free(in);
    }
}

static const int starts[] = {0, 5, 5, 6, 206, 300};
static const struct sequences ragged = {5, starts};

static void test_mean_pool(void **state) {
    (void)state;
    enum { N = 37 };
    struct tensor *in = made(300, N, 1, 1), *out = made(5, N, 1, 2);
    float *ins = read_all(in);
    struct error err;
    assert_true(device_mean_pool(out, in, &ragged, &err));
    float *outs = read_all(out);
    for (int i = 0; i < 5 * N; i++) {
        int first = starts[i / N], end = starts[i / N + 1];
        double mean = 0;
        for (int row = first; row < end; row++)
            mean += (double)ins[row * N + i % N] / (end - first);
        check_near(outs[i], mean, 1e-6, "mean pool", i);
    }
    free(ins);
    free(outs);
    tensor_free(in);
    tensor_free(out);
}

static void test_rope(void **state) {
    (void)state;
    enum { HEADS = 4, KV = 2, DIM = 32, COLS = (HEADS + 2 * KV) * DIM };
    struct attention_shape shape = {HEADS, KV, DIM, 1, PRECISION_FP32};
    struct error err;
    for (int turn = 0; turn < 3; turn++) { /* two bases; the second time they are known */
        double base = turn == 1 ? 500 : 10000;
        struct tensor *qkv = made(300, COLS, 1, 1);
        float *before = read_all(qkv);
        assert_true(device_rope(qkv, &shape, &ragged, (float)base, &err));
        float *after = read_all(qkv);
        for (int row = 0; row < 300; row++) {
            int sequence = 0;
            while (starts[sequence + 1] <= row)
                sequence++;
            for (int col = 0; col < COLS; col++) {
                int i = col % DIM, pair = i % (DIM / 2), at = row * COLS + col;
                double angle = (row - starts[sequence]) * pow(base, -2.0 * pair / DIM);
                double other = (double)before[i < DIM / 2 ? at + DIM / 2 : at - DIM / 2];
                double turned = (double)before[at] * cos(angle) +
                                (i < DIM / 2 ? -other : other) * sin(angle);
                if (col >= (HEADS + KV) * DIM)
                    assert_true(after[at] == before[at]);
                else
                    check_near(after[at], turned, 1e-4, "rope", at);
            }
        }
        free(before);
        free(after);
        tensor_free(qkv);
    }
    /* Longer than the table that was made first. */
    static const int long_starts[] = {0, 1500};
    const struct sequences sequence = {1, long_starts};
    struct tensor *qkv = made(1500, COLS, 1, 1);
    float *before = read_all(qkv);
    assert_true(device_rope(qkv, &shape, &sequence, 10000, &err));
    float *after = read_all(qkv);
    double a = (double)before[1499 * COLS], b = (double)before[1499 * COLS + DIM / 2];
    check_near(after[1499 * COLS], a * cos(1499) - b * sin(1499), 1e-5, "rope", 1499);
    free(before);
    free(after);
    tensor_free(qkv);
}

static void exact_attention(double *out, const float *qkv, const struct attention_shape *shape,
                            int row, int head, int first, int end) {
    int dim = shape->head_dim, cols = (shape->n_heads + 2 * shape->n_kv_heads) * dim;
    int kv = shape->n_heads * dim + head / (shape->n_heads / shape->n_kv_heads) * dim;
    double max = -INFINITY, sum = 0, scores[300];
    for (int key = first; key < end; key++) {
        double score = 0;
        for (int d = 0; d < dim; d++)
            score += (double)qkv[row * cols + head * dim + d] * (double)qkv[key * cols + kv + d];
        scores[key - first] = score * (double)shape->scale;
        max = scores[key - first] > max ? scores[key - first] : max;
    }
    for (int d = 0; d < dim; d++)
        out[d] = 0;
    for (int key = first; key < end; key++) {
        double p = exp(scores[key - first] - max);
        sum += p;
        for (int d = 0; d < dim; d++)
            out[d] += p * (double)qkv[key * cols + kv + shape->n_kv_heads * dim + d];
    }
    for (int d = 0; d < dim; d++)
        out[d] /= sum;
}

static void test_attention(void **state) {
    (void)state;
    static const enum precision precisions[] = {PRECISION_FP32, PRECISION_BF16, PRECISION_INT8};
    enum { HEADS = 4, KV = 2, DIM = 24, COLS = (HEADS + 2 * KV) * DIM };
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        struct attention_shape shape = {HEADS, KV, DIM, 0.2f, precisions[p]};
        struct tensor *qkv = made(300, COLS, 1, 1), *out = made(300, HEADS * DIM, 1, 2);
        float *ins = read_all(qkv);
        struct error err;
        assert_true(device_attention(out, qkv, &shape, &ragged, &err));
        float *outs = read_all(out);
        for (int row = 0; row < 300; row++) {
            int sequence = 0;
            while (starts[sequence + 1] <= row)
                sequence++;
            for (int head = 0; head < HEADS; head++) {
                double exact[DIM];
                exact_attention(exact, ins, &shape, row, head, starts[sequence],
                                starts[sequence + 1]);
                for (int d = 0; d < DIM; d++)
                    check_near(outs[(row * HEADS + head) * DIM + d], exact[d],
                               precisions[p] == PRECISION_FP32 ? 5e-6 : 0.03, "attention", row);
            }
        }
        free(ins);
        free(outs);
        tensor_free(qkv);
        tensor_free(out);
    }
}

/* ---- several threads ---- */

struct together {
    struct weight *weight;
    float *result; /* 300 × 96 */
    bool done;
};

/* A layer of sorts. */
static void work_through(void *arg) {
    struct together *one = arg;
    struct attention_shape shape = {4, 2, 24, 0.2f, PRECISION_BF16};
    struct tensor *x = made(300, 192, 1, 1), *y = made(300, 96, 1, 2), *z = made(300, 192, 1, 3);
    struct error err;
    bool good = true;
    for (int i = 0; i < 3 && good; i++)
        good = device_rope(x, &shape, &ragged, 1234, &err) &&
               device_attention(y, x, &shape, &ragged, &err) &&
               device_linear(z, y, one->weight, NULL, ACTIVATION_GELU_ERF, NULL, &err) &&
               device_add(x, z, &err) && device_scale(x, 0.5f, &err);
    good = good && device_normalize(y, y, &err);
    one->done = good && tensor_read(one->result, y, 0, 300, &err);
    tensor_free(x);
    tensor_free(y);
    tensor_free(z);
}

static void test_together(void **state) {
    (void)state;
    enum { N = 5 };
    struct together all[N];
    struct thread *threads[N];
    struct matrix matrix = matrix_made(192, 96, 7);
    struct error err;
    void *memory;
    struct weight *weight = packed(&memory, &matrix, NULL, WEIGHT_STACK, PRECISION_BF16);
    for (int i = 0; i < N; i++) {
        all[i] = (struct together){weight, malloc(sizeof(float) * 300 * 96), false};
        assert_true(thread_start(&threads[i], "together", work_through, &all[i], &err));
    }
    for (int i = 0; i < N; i++)
        thread_join(threads[i]);
    for (int i = 0; i < N; i++) {
        assert_true(all[i].done);
        assert_memory_equal(all[i].result, all[0].result, sizeof(float) * 300 * 96);
    }
    for (int i = 0; i < N; i++)
        free(all[i].result);
    weight_close(weight);
    free(memory);
    free(matrix.values);
}

/* ---- work on the device's threads ---- */

enum { N_PARTS = 500 };

static void take_part(void *ctx, int i, int thread) {
    atomic_int *done = ctx;
    assert_true(thread >= 0 && thread < 3);
    atomic_fetch_add(&done[i], 1);
}

static void test_run(void **state) {
    (void)state;
    atomic_int done[N_PARTS] = {0};
    for (int n = 0; n <= N_PARTS; n += 100)
        device_run(device, n, take_part, done);
    for (int i = 0; i < N_PARTS; i++)
        assert_int_equal(atomic_load(&done[i]), N_PARTS / 100 - i / 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_rows_in_and_out),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_weight_limits),
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_normalize_edges),
        cmocka_unit_test(test_add_and_scale),
        cmocka_unit_test(test_mean_pool),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_run),
    };
    struct error err;
    if (!device_open(&device, "cpu", 3, &err)) {
        print_error("%s\n", err.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close(device);
    return failed ? 1 : 0;
}
