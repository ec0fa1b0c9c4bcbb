/* Products with packed weights: every instruction set of this machine against sums in double.
 *
 * Bounds. fp32 and bf16: (k + 8) · 2^-24 · sum |a b|, which holds for any order of summing; bf16 is
 * compared with the product of the rounded inputs. int8: the sums are exact, so all instruction
 * sets agree to a few units in the last place, and differ from the true product by what rounding
 * costs, less than 2.5 % of its length. What is read and written lies against pages that may not be
 * touched. With --bench: gemm_bench.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fenced.h"
#include "gemm.h"

#include "device/cpu/memory.h"
#if defined(__x86_64__)
#include "device/cpu/tiles.h"
#endif

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct error err;

/* ---- numbers -------------------------------------------------------------------------------- */

static uint32_t random_state = 1;

static uint32_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* About normal: the sum of four. */
static float random_float(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(random_bits() >> 8) / (float)(1 << 24) - 0.5f;
    return sum * 1.7f;
}

static double bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum content { NORMAL, ZEROS, ONE_ROW_LARGE, DENORMAL, CONSTANT, OUTLIERS, N_CONTENTS };

static void fill(float *out, int64_t rows, int k, enum content content) {
    for (int64_t r = 0; r < rows; r++) {
        for (int i = 0; i < k; i++) {
            float value = random_float();
            switch (content) {
            case NORMAL:
            case N_CONTENTS:
                break;
            case ZEROS:
                value = 0;
                break;
            case ONE_ROW_LARGE:
                value *= r % 3 == 0 ? 1e15f : 1;
                break;
            case DENORMAL:
                value *= 1e-39f;
                break;
            case CONSTANT:
                value = (float)(r % 5) - 2;
                break;
            case OUTLIERS:
                value *= i % 61 == 7 ? 50 : 1;
                break;
            }
            out[r * k + i] = value;
        }
    }
}

/* ---- instruction sets ----------------------------------------------------------------------- */

#define ALL_AVX512 (CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16)

static const struct {
    const char *name;
    unsigned features;
} sets[] = {
    {"plain C", 0},
    {"avx2", CPU_AVX2},
    {"avx512", CPU_AVX2 | CPU_AVX512},
    {"avx512 vnni bf16", ALL_AVX512},
#ifdef AMX_EMULATED
    {"amx, emulated", CPU_AMX_BF16 | CPU_AMX_INT8},
#else
    {"amx", ALL_AVX512 | CPU_AMX_BF16 | CPU_AMX_INT8},
#endif
};

static bool have(int set_i) {
#ifdef AMX_EMULATED
    if (sets[set_i].features & CPU_AMX_BF16)
        return true;
#endif
    return (sets[set_i].features & ~cpu_features()) == 0;
}

/* ---- whole products ------------------------------------------------------------------------- */

struct matrix {
    const float *values;
    int k;
};

static bool give_row(void *ctx, int i, float *out, struct error *error) {
    (void)error;
    const struct matrix *matrix = ctx;
    memcpy(out, matrix->values + (size_t)i * (size_t)matrix->k, (size_t)matrix->k * sizeof *out);
    return true;
}

struct trial {
    int64_t rows;
    int n, k;
    enum precision precision;
    enum weight_join join;
    enum activation activation;
    bool bias, residual, in_place; /* residual is out */
    enum content content;
};

struct inputs {
    struct fenced in, weights, bias, residual;
};

static void inputs_new(struct inputs *inputs, const struct trial *trial) {
    size_t n = (size_t)trial->n, rows = (size_t)trial->rows;
    fill(fenced_new(&inputs->in, rows * (size_t)trial->k * 4), trial->rows, trial->k,
         trial->content);
    fill(fenced_new(&inputs->weights, n * (size_t)trial->k * 4), trial->n, trial->k,
         trial->content == ZEROS ? ZEROS : NORMAL);
    fill(fenced_new(&inputs->bias, n * 4), 1, trial->n, NORMAL);
    fill(fenced_new(&inputs->residual, n * rows * 4), trial->rows, trial->n, NORMAL);
}

static void inputs_free(struct inputs *inputs) {
    fenced_free(&inputs->in);
    fenced_free(&inputs->weights);
    fenced_free(&inputs->bias);
    fenced_free(&inputs->residual);
}

static void run(struct fenced *out, const struct trial *trial, const struct inputs *inputs,
                unsigned features, struct cpu_pool *pool) {
    bool gated = trial->join == WEIGHT_GATED;
    int n_out = gated ? trial->n / 2 : trial->n;
    struct weight_shape shape = {trial->n, trial->k, trial->join, trial->precision};
    /* As two sources: the halves of gate and up, or an uneven stack. */
    int first = gated ? trial->n / 2 : trial->n / 3;
    struct matrix matrices[2] = {
        {inputs->weights.data, trial->k},
        {(const float *)inputs->weights.data + (size_t)first * (size_t)trial->k, trial->k}};
    struct weight_source sources[2] = {{first, trial->k, give_row, matrices},
                                       {trial->n - first, trial->k, give_row, matrices + 1}};
    struct fenced packed;
    fenced_new(&packed, cpu_gemm_bytes(features, &shape));
    assert_true(cpu_gemm_pack(packed.data, pool, features, &shape, sources, 2, &err));

    float *to = fenced_new(out, (size_t)trial->rows * (size_t)n_out * 4);
    struct cpu_epilogue epilogue = {trial->bias ? inputs->bias.data : NULL, trial->activation,
                                    trial->residual ? inputs->residual.data : NULL};
    if (trial->residual && trial->in_place) {
        memcpy(to, inputs->residual.data, (size_t)trial->rows * (size_t)n_out * 4);
        epilogue.residual = to;
    }
    assert_true(cpu_gemm_run(to, inputs->in.data, trial->rows, pool, features, &shape, packed.data,
                             &epilogue, &err));
    fenced_free(&packed);
}

static double activation_of(double x, enum activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return x;
}

struct sum {
    double value, error; /* and what it may be off by */
};

static struct sum dot(const struct trial *trial, const struct inputs *inputs, int64_t row, int n) {
    const float *a = (const float *)inputs->in.data + row * trial->k;
    const float *b = (const float *)inputs->weights.data + (int64_t)n * trial->k;
    bool bf16 = trial->precision == PRECISION_BF16;
    double sum = 0, size = 0;
    for (int i = 0; i < trial->k; i++) {
        double product = bf16 ? bf16_of(a[i]) * bf16_of(b[i]) : (double)a[i] * b[i];
        sum += product;
        size += fabs(product);
    }
    /* vdpbf16ps takes denormals for zero. */
    return (struct sum){sum, (trial->k + 8) * ldexp(size, -24) + trial->k * 1e-37};
}

/* Of one output: out is what the epilogue makes of the sums. */
static struct sum expected(const struct trial *trial, const struct inputs *inputs, int64_t row,
                           int n) {
    struct sum sum = dot(trial, inputs, row, n);
    if (trial->bias)
        sum.value += ((const float *)inputs->bias.data)[n];
    /* The activations' slope is at most 1.13. */
    double slope = trial->activation == ACTIVATION_NONE ? 1 : 1.13;
    struct sum out = {activation_of(sum.value, trial->activation), sum.error * slope};
    if (trial->activation != ACTIVATION_NONE)
        out.error += 2e-6 + 4e-6 * fabs(sum.value);
    if (trial->join == WEIGHT_GATED) {
        struct sum up = dot(trial, inputs, row, trial->n / 2 + n);
        out.error = out.error * fabs(up.value) + up.error * fabs(out.value) + out.error * up.error;
        out.value *= up.value;
    }
    if (trial->residual)
        out.value += ((const float *)inputs->residual.data)[row * trial->n + n];
    out.error += 4e-7 * fabs(out.value) + 4e-7;
    return out;
}

static void describe(char out[160], const struct trial *trial, const char *set) {
    snprintf(out, 160,
             "%s %s rows %d n %d k %d join %d activation %d bias %d residual %d/%d "
             "content %d",
             set, precision_name(trial->precision), (int)trial->rows, trial->n, trial->k,
             (int)trial->join, (int)trial->activation, trial->bias, trial->residual,
             trial->in_place, (int)trial->content);
}

static void compare(const struct trial *trial, const struct inputs *inputs, const float *out,
                    const char *set) {
    int n_out = trial->join == WEIGHT_GATED ? trial->n / 2 : trial->n;
    char what[160];
    describe(what, trial, set);
    double difference = 0, length = 0;
    for (int64_t row = 0; row < trial->rows; row++) {
        for (int n = 0; n < n_out; n++) {
            struct sum want = expected(trial, inputs, row, n);
            double off = fabs(out[row * n_out + n] - want.value);
            difference += off * off;
            length += want.value * want.value;
            if (trial->precision != PRECISION_INT8 && !(off <= want.error))
                fail_msg("%s: [%d, %d] is %g, not %g: off by %g, bound %g", what, (int)row, n,
                         (double)out[row * n_out + n], want.value, off, want.error);
        }
    }
    double bound = trial->content == OUTLIERS ? 0.04 : 0.025;
    if (trial->precision == PRECISION_INT8 &&
        !(sqrt(difference) <= bound * sqrt(length) + 1e-6 * trial->k))
        fail_msg("%s: off by %.3f of its length", what, sqrt(difference / length));
}

/* int8: the same sums whatever the instruction set, then the same few fp32 operations. */
static void compare_sets(const struct trial *trial, const float *out, const float *plain,
                         const char *set) {
    int n_out = trial->join == WEIGHT_GATED ? trial->n / 2 : trial->n;
    char what[160];
    describe(what, trial, set);
    for (int64_t i = 0; i < trial->rows * n_out; i++) {
        double bound = 4e-6 * fabs((double)plain[i]) + 4e-6;
        if (!(fabs((double)out[i] - plain[i]) <= bound))
            fail_msg("%s: [%d] is %.9g, plain C %.9g", what, (int)i, (double)out[i],
                     (double)plain[i]);
    }
}

static struct cpu_pool *pools[2];

static void try_sets(const struct trial *trial) {
    struct inputs inputs;
    inputs_new(&inputs, trial);
    struct fenced plain = {0};
    for (int i = 0; i < (int)BASE_COUNT(sets); i++) {
        if (!have(i))
            continue;
        struct fenced out;
        run(&out, trial, &inputs, sets[i].features, pools[i % 2]);
        compare(trial, &inputs, out.data, sets[i].name);
        if (i == 0) {
            plain = out;
            continue;
        }
        if (trial->precision == PRECISION_INT8 && trial->content != ONE_ROW_LARGE)
            compare_sets(trial, out.data, plain.data, sets[i].name);
        fenced_free(&out);
    }
    fenced_free(&plain);
    inputs_free(&inputs);
}

static const enum precision precisions[] = {PRECISION_FP32, PRECISION_BF16, PRECISION_INT8};

static void sizes(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 1},     {5, 17, 33},   {8, 48, 64},   {33, 97, 130},
                                    {16, 16, 128}, {40, 33, 257}, {2, 50, 31},   {3, 96, 129},
                                    {31, 15, 500}, {70, 160, 96}, {1, 300, 200}, {20, 7, 4000}};
    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
            struct trial trial = {.rows = shapes[i][0],
                                  .n = shapes[i][1],
                                  .k = shapes[i][2],
                                  .precision = precisions[p]};
            try_sets(&trial);
        }
    }
}

static void epilogues(void **state) {
    (void)state;
    static const enum activation activations[] = {ACTIVATION_NONE, ACTIVATION_GELU_ERF,
                                                  ACTIVATION_GELU_TANH};
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        for (int i = 0; i < 3 * 2 * 3; i++) {
            struct trial trial = {.rows = 19 + i,
                                  .n = 67,
                                  .k = 90,
                                  .precision = precisions[p],
                                  .activation = activations[i / 6],
                                  .bias = i % 2,
                                  .residual = i / 2 % 3 > 0,
                                  .in_place = i / 2 % 3 > 1};
            try_sets(&trial);
        }
    }
}

static void gated(void **state) {
    (void)state;
    static const int halves[] = {1, 16, 23, 130};
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        for (size_t i = 0; i < BASE_COUNT(halves); i++) {
            struct trial trial = {.rows = 37,
                                  .n = 2 * halves[i],
                                  .k = 70,
                                  .precision = precisions[p],
                                  .join = WEIGHT_GATED,
                                  .activation = i % 2 ? ACTIVATION_GELU_TANH : ACTIVATION_GELU_ERF};
            try_sets(&trial);
        }
    }
}

/* k in several passes, rows in several parts and blocks. */
static void long_and_tall(void **state) {
    (void)state;
    static const int shapes[][3] = {{45, 40, 9000}, {700, 20, 3000}, {1500, 33, 40}};
    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
            struct trial trial = {.rows = shapes[i][0],
                                  .n = shapes[i][1],
                                  .k = shapes[i][2],
                                  .precision = precisions[p],
                                  .bias = true};
            try_sets(&trial);
        }
    }
}

static void contents(void **state) {
    (void)state;
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        for (int content = 0; content < N_CONTENTS; content++) {
            struct trial trial = {.rows = 21,
                                  .n = 45,
                                  .k = 300,
                                  .precision = precisions[p],
                                  .content = (enum content)content};
            try_sets(&trial);
        }
    }
}

/* ---- the int8 kernels alone ----------------------------------------------------------------- */

#define EXTREME_UNITS 1024 /* k 65536, the longest */

static void int8_extremes(void **state) {
    (void)state;
    uint8_t *rows = mem_alloc(GEMM_TILE * EXTREME_UNITS);
    int8_t *panel = mem_alloc(GEMM_TILE * EXTREME_UNITS);
    static const int values[][2] = {{255, 127}, {255, -127}, {255, -128}, {0, 0}, {-1, -1}};
    for (size_t v = 0; v < BASE_COUNT(values); v++) {
        for (size_t i = 0; i < GEMM_TILE * EXTREME_UNITS; i++) {
            rows[i] = values[v][0] < 0 ? (uint8_t)random_bits() : (uint8_t)values[v][0];
            panel[i] = values[v][0] < 0 ? (int8_t)random_bits() : (int8_t)values[v][1];
        }
        for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
            if (!have(s))
                continue;
            const struct gemm_kernel *kernel = cpu_gemm_kernel(sets[s].features, PRECISION_INT8);
            _Alignas(64) int32_t sums[16][16];
            int column = 0;
            struct gemm_block block = {.sums = sums,
                                       .stride = 16,
                                       .columns = &column,
                                       .rows = rows,
                                       .panels = (const uint8_t *)panel,
                                       .n_rows = 16,
                                       .n_panels = 1,
                                       .n_units = EXTREME_UNITS};
            if (kernel->begin)
                kernel->begin();
            kernel->multiply(&block);
            if (kernel->end)
                kernel->end();
            for (int r = 0; r < 16; r++) {
                for (int c = 0; c < 16; c++) {
                    int64_t want = 0;
                    for (size_t i = 0; i < (size_t)EXTREME_UNITS * 64; i++)
                        want += rows[i / 64 * GEMM_TILE + (size_t)r * 64 + i % 64] *
                                panel[i / 4 * 64 + (size_t)c * 4 + i % 4];
                    assert_int_equal(sums[r][c], want);
                }
            }
        }
    }
    mem_free(rows);
    mem_free(panel);
}

/* Rows whose values are all of one sign: their largest becomes 255 (or 0), whatever it is, and all
 * instruction sets round alike. */
static void one_sided_rows(void **state) {
    (void)state;
    for (int i = 0; i < 4000; i++) {
        float row[2 * GEMM_UNIT], range = 0;
        float size = ldexpf(1 + (float)(random_bits() >> 8) / (1 << 24), i % 60 - 30);
        for (int j = 0; j < 2 * GEMM_UNIT; j++) {
            row[j] = (float)(random_bits() >> 8) / (1 << 24) * size;
            range = row[j] > range ? row[j] : range;
        }
        bool minus = i % 2;
        for (int j = 0; j < 2 * GEMM_UNIT; j++)
            row[j] = minus ? -row[j] : row[j];
        float factor = 255 / range;
        int zero = minus ? (int)(range * factor + 0.5f) : 0;
        uint8_t plain[sizeof row / sizeof *row], bytes[sizeof plain];
        for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
            if (!have(s))
                continue;
            uint8_t *out = s ? bytes : plain;
            cpu_gemm_rows(sets[s].features)->to_int8(out, GEMM_UNIT, row, 2, factor, zero);
            for (int j = 0; j < 2 * GEMM_UNIT; j++) {
                if (fabsf(row[j]) == range)
                    assert_int_equal(out[j], minus ? 0 : 255);
            }
            assert_memory_equal(plain, out, sizeof plain);
        }
    }
}

#if defined(__x86_64__)

/* Byte 0: palette 1; from 16 on, the bytes of a row, 16 bits each; from 48 on, rows; eight tiles.
 */
static void tiles_as_the_processor_reads_them(void **state) {
    (void)state;
    uint8_t want[64] = {1}, bytes[64];
    for (int tile = 0; tile < 8; tile++) {
        want[16 + 2 * tile] = GEMM_UNIT;
        want[48 + tile] = GEMM_ROWS;
    }
    memcpy(bytes, &tiles_of_16_by_64, sizeof bytes);
    assert_memory_equal(bytes, want, sizeof want);
}

#endif

static void same_bytes_of(int k, enum precision precision) {
    struct trial trial = {.rows = 1, .n = 50, .k = k};
    struct inputs inputs;
    inputs_new(&inputs, &trial);
    struct matrix matrix = {inputs.weights.data, trial.k};
    struct weight_source source = {trial.n, trial.k, give_row, &matrix};
    struct weight_shape shape = {trial.n, trial.k, WEIGHT_STACK, precision};
    size_t bytes = cpu_gemm_bytes(0, &shape);
    assert_int_equal(bytes % 64, 0);
    uint8_t *plain = mem_alloc(bytes), *packed = mem_alloc(bytes);
    assert_true(cpu_gemm_pack(plain, pools[0], 0, &shape, &source, 1, &err));
    for (int s = 1; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        assert_int_equal(cpu_gemm_bytes(sets[s].features, &shape), bytes);
        assert_string_equal(cpu_gemm_layout(sets[s].features, precision),
                            cpu_gemm_layout(0, precision));
        assert_true(cpu_gemm_pack(packed, pools[1], sets[s].features, &shape, &source, 1, &err));
        assert_memory_equal(plain, packed, bytes);
    }
    mem_free(plain);
    mem_free(packed);
    inputs_free(&inputs);
}

/* Weights become the same bytes whatever the instruction set, at each length of rotation. */
static void same_bytes(void **state) {
    (void)state;
    static const int lengths[] = {90, 333, 250, 500, 1000, 2048, 4304};
    for (size_t p = 0; p < BASE_COUNT(precisions); p++)
        for (size_t i = 0; i < BASE_COUNT(lengths); i++)
            same_bytes_of(lengths[i], precisions[p]);
}

/* What is not a number does not become one. */
static void not_a_number(void **state) {
    (void)state;
    for (size_t p = 0; p < BASE_COUNT(precisions); p++) {
        struct trial trial = {.rows = 3, .n = 20, .k = 700, .precision = precisions[p]};
        struct inputs inputs;
        inputs_new(&inputs, &trial);
        ((float *)inputs.in.data)[trial.k + 350] = NAN;
        for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
            if (!have(s))
                continue;
            struct fenced out;
            run(&out, &trial, &inputs, sets[s].features, pools[s % 2]);
            for (int i = 0; i < 3 * trial.n; i++)
                assert_int_equal(isnan(((float *)out.data)[i]) != 0, i / trial.n == 1);
            fenced_free(&out);
        }
        inputs_free(&inputs);
    }
}

/* Values that are finite, though sums of them are not, and one that is none. */
static void rows_too_large(void **state) {
    (void)state;
    enum { K = 1024, N = 3 };
    static const float larges[] = {3e38f, -3e38f, 1e38f, INFINITY, NAN};
    struct weight_shape shape = {N, K, WEIGHT_STACK, PRECISION_INT8};
    float *values = mem_alloc(sizeof *values * N * K);
    struct matrix matrix = {values, K};
    struct weight_source source = {N, K, give_row, &matrix};
    void *out = mem_alloc(cpu_gemm_bytes(0, &shape));
    for (size_t i = 0; i < BASE_COUNT(larges) * BASE_COUNT(sets); i++) {
        int s = (int)(i % BASE_COUNT(sets));
        if (!have(s))
            continue;
        fill(values, N, K, NORMAL);
        for (int j = 0; j < 700; j += 10)
            values[K + j] = larges[i / BASE_COUNT(sets)];
        assert_false(cpu_gemm_pack(out, pools[s % 2], sets[s].features, &shape, &source, 1, &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_non_null(strstr(err.text, "not finite"));
        for (int j = 0; j < 700; j += 10)
            values[K + j] = 1e35f;
        assert_true(cpu_gemm_pack(out, pools[s % 2], sets[s].features, &shape, &source, 1, &err));
    }
    mem_free(out);
    mem_free(values);
}

static bool fail_row(void *ctx, int i, float *out, struct error *error) {
    memset(out, 0, *(int *)ctx * sizeof *out);
    return i < 20 || error_set(error, ERROR_INPUT, "row %d is not a row", i);
}

static void a_row_fails(void **state) {
    (void)state;
    int k = 40;
    struct weight_shape shape = {21, k, WEIGHT_STACK, PRECISION_INT8};
    struct weight_source source = {21, k, fail_row, &k};
    void *out = mem_alloc(cpu_gemm_bytes(0, &shape));
    for (int i = 0; i < 2; i++) {
        assert_false(cpu_gemm_pack(out, pools[i], 0, &shape, &source, 1, &err));
        assert_string_equal(err.text, "row 20 is not a row");
        assert_false(cpu_gemm_pack(out, pools[i], 0, &shape, &source, 1, NULL));
    }
    mem_free(out);
}

/* ---- the pool ------------------------------------------------------------------------------- */

struct counted {
    atomic_int done[1000];
    int n_threads;
};

static void count_part(void *ctx, int i, int thread) {
    struct counted *counted = ctx;
    assert(thread >= 0 && thread < counted->n_threads);
    atomic_fetch_add(&counted->done[i], 1);
    if (i % 97 == 0)
        usleep(300);
}

static void each_part_once(void **state) {
    (void)state;
    struct counted counted = {.n_threads = cpu_pool_threads(pools[1])};
    int n_runs = 0;
    for (int n = 0; n <= 1000; n += n < 20 ? 1 : 49, n_runs++) {
        for (int i = 0; i < 1000; i++)
            atomic_store(&counted.done[i], 0);
        cpu_pool_run(pools[1], n, count_part, &counted);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(atomic_load(&counted.done[i]), i < n);
        if (n_runs % 5 == 0)
            usleep(2000); /* long enough for its threads to sleep */
    }
}

static void run_often(void *arg) {
    struct counted *counted = arg;
    for (int i = 0; i < 200; i++)
        cpu_pool_run(pools[1], 50, count_part, counted);
}

static void callers_take_turns(void **state) {
    (void)state;
    static struct counted counted[3];
    struct thread *threads[3];
    for (int i = 0; i < 3; i++) {
        counted[i].n_threads = cpu_pool_threads(pools[1]);
        assert_true(thread_start(&threads[i], "caller", run_often, &counted[i], &err));
    }
    for (int i = 0; i < 3; i++) {
        thread_join(threads[i]);
        for (int part = 0; part < 50; part++)
            assert_int_equal(atomic_load(&counted[i].done[part]), 200);
    }
}

static void too_much_memory(void **state) {
    (void)state;
    assert_null(cpu_pool_borrow(pools[0], (size_t)1 << 40));
    assert_non_null(cpu_pool_borrow(pools[0], 1000));
    cpu_pool_give_back(pools[0]);
    assert_true(cpu_pool_scratch_bytes(pools[0]) >= 1000);
    /* More than is there, though the system would promise it. */
    size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    assert_null(cpu_memory_map(all));
    size_t most = all < (size_t)4 << 30 ? all : (size_t)4 << 30;
    assert_null(cpu_pool_borrow(pools[0], most + 1));
    assert_int_equal(cpu_pool_scratch_bytes(pools[0]), 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
#ifndef AMX_EMULATED
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return gemm_bench(argc - 2, argv + 2);
#else
    (void)argc;
    (void)argv;
#endif
    for (int i = 0; i < (int)BASE_COUNT(sets); i++)
        printf("# %s: %s\n", sets[i].name, have(i) ? "tried" : "skipped, this machine has it not");
    if (!cpu_pool_open(&pools[0], 1, &err) || !cpu_pool_open(&pools[1], 3, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_once),
        cmocka_unit_test(callers_take_turns),
        cmocka_unit_test(too_much_memory),
        cmocka_unit_test(sizes),
        cmocka_unit_test(epilogues),
        cmocka_unit_test(gated),
        cmocka_unit_test(long_and_tall),
        cmocka_unit_test(contents),
        cmocka_unit_test(int8_extremes),
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(a_row_fails),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(one_sided_rows),
        cmocka_unit_test(rows_too_large),
#if defined(__x86_64__)
        cmocka_unit_test(tiles_as_the_processor_reads_them),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cpu_pool_close(pools[0]);
    cpu_pool_close(pools[1]);
    return failed;
}
