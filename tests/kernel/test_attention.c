/* Attention × instruction set × precision, against the same in double precision: ragged and empty
 * sequences, shared heads, odd sizes, scores at their worst, guard bytes. Where elements are bf16
 * the reference rounds queries, keys and values alike, so that what is left is the rounding of
 * softmax's numerators. `--bench` prints the rate of the models' shapes on one thread, beside a
 * loop of nothing but multiplications. */
#include "guarded.h"

#include "device/cpu/attention.h"
#include "device/cpu/vector.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static struct cpu_pool *pool;
static unsigned features;
static const char *set_name;

/* As the processor rounds: to the nearest, ties to even. */
static double bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

struct layout {
    int n_heads, n_kv_heads, dim;
};

static int stride_of(const struct layout *layout) {
    return (layout->n_heads + 2 * layout->n_kv_heads) * layout->dim;
}

/* One head of one row over its sequence, in double precision; bound[d] is what may be off. */
static void exact_row(double *out, double *bound, const float *qkv, const struct layout *layout,
                      int head, int row, int first, int end, float scale, bool pairs) {
    int stride = stride_of(layout), dim = layout->dim;
    const float *q = qkv + (size_t)row * (size_t)stride + head * dim;
    int kv_head = head / (layout->n_heads / layout->n_kv_heads);
    const float *keys = qkv + (layout->n_heads + kv_head) * dim;
    const float *values = keys + layout->n_kv_heads * dim;
    double *scores = malloc((size_t)(end - first) * sizeof *scores);
    double max = -INFINITY, sum = 0, largest = 0;
    for (int key = first; key < end; key++) {
        double score = 0, magnitude = 0;
        for (int d = 0; d < dim; d++) {
            float k = keys[(size_t)key * (size_t)stride + (size_t)d];
            double a = (double)(q[d] * (scale * (float)M_LOG2E));
            double product = pairs ? bf16_of((float)a) * bf16_of(k) : a * (double)k;
            score += product;
            magnitude += fabs(product);
        }
        scores[key - first] = score;
        max = score > max ? score : max;
        largest = magnitude > largest ? magnitude : largest;
    }
    for (int d = 0; d < dim; d++)
        out[d] = bound[d] = 0;
    for (int key = first; key < end; key++) {
        double p = exp2(scores[key - first] - max);
        sum += p;
        for (int d = 0; d < dim; d++) {
            float v = values[(size_t)key * (size_t)stride + (size_t)d];
            double value = pairs ? bf16_of(v) : (double)v;
            out[d] += p * value;
            bound[d] += p * fabs(value);
        }
    }
    double relative = (pairs ? 0x1p-8 : 2e-6) + 3e-7 * largest;
    for (int d = 0; d < dim; d++) {
        out[d] /= sum;
        bound[d] = bound[d] / sum * relative + 1e-12;
    }
    free(scores);
}

static void check_attention(const struct layout *layout, const int *lengths, int n, float size,
                            enum precision precision) {
    int starts[16] = {0};
    for (int i = 0; i < n; i++)
        starts[i + 1] = starts[i] + lengths[i];
    int n_rows = starts[n], stride = stride_of(layout), out_stride = layout->n_heads * layout->dim;
    struct guarded qkv = guarded_new((size_t)n_rows * (size_t)stride);
    struct guarded out = guarded_new((size_t)n_rows * (size_t)out_stride);
    uint64_t seed = (uint64_t)(n_rows * 131 + layout->dim);
    for (size_t i = 0; i < qkv.n; i++)
        qkv.x[i] = (int)(i % (size_t)stride) < (layout->n_heads + layout->n_kv_heads) * layout->dim
                       ? size * random_normal(&seed)
                       : random_normal(&seed) + 0.25f;
    struct attention_shape shape = {layout->n_heads, layout->n_kv_heads, layout->dim,
                                    1 / sqrtf((float)layout->dim), precision};
    struct sequences sequences = {n, starts};
    struct error err;
    assert_true(cpu_attention_run(out.x, qkv.x, pool, features, &shape, &sequences, &err));

    bool pairs = attention_kernels_for(features, precision)->element_bytes == 2;
    double exact[1024], bound[1024];
    for (int i = 0; i < n; i++) {
        int step = lengths[i] > 64 ? lengths[i] / 23 : 1;
        for (int row = starts[i]; row < starts[i + 1]; row += step) {
            for (int head = 0; head < layout->n_heads; head++) {
                exact_row(exact, bound, qkv.x, layout, head, row, starts[i], starts[i + 1],
                          shape.scale, pairs);
                for (int d = 0; d < layout->dim; d++) {
                    float got =
                        out.x[(size_t)row * (size_t)out_stride + (size_t)(head * layout->dim + d)];
                    if (!(fabs((double)got - exact[d]) <= bound[d]))
                        fail_msg("%s: %d heads of %d, %d rows, size %g: row %d head %d [%d] is "
                                 "%.9g, not %.9g within %.3g",
                                 set_name, layout->n_heads, layout->dim, n_rows, (double)size, row,
                                 head, d, (double)got, exact[d], bound[d]);
                }
            }
        }
    }
    for (size_t i = 0; i < out.n; i++)
        assert_true(isfinite(out.x[i]));
    assert_true(guarded_is_whole(&qkv) && guarded_is_whole(&out));
    guarded_free(&qkv);
    guarded_free(&out);
}

static const enum precision precisions[] = {PRECISION_FP32, PRECISION_BF16};

static void test_lengths(void **state) {
    (void)state;
    static const int lengths[] = {1,  2,  3,  7,   8,   15,  16,  17,  31,  32,  33,
                                  47, 48, 49, 100, 255, 256, 257, 272, 513, 1030};
    const struct layout layout = {2, 1, 32};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < BASE_COUNT(lengths); i++)
            check_attention(&layout, &lengths[i], 1, 1, precisions[p]);
    }
}

static void test_heads(void **state) {
    (void)state;
    static const struct layout layouts[] = {{1, 1, 1},   {3, 3, 7},   {2, 2, 16},  {4, 2, 33},
                                            {2, 1, 64},  {2, 2, 72},  {3, 1, 80},  {2, 2, 96},
                                            {1, 1, 128}, {8, 1, 256}, {1, 1, 300}, {1, 1, 1024}};
    static const int lengths[] = {70};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < BASE_COUNT(layouts); i++)
            check_attention(&layouts[i], lengths, 1, 1, precisions[p]);
    }
}

static void test_ragged(void **state) {
    (void)state;
    static const int lengths[] = {0, 5, 1, 0, 0, 300, 49, 16, 257, 2, 0};
    const struct layout layout = {4, 2, 40};
    for (size_t p = 0; p < 2; p++) {
        check_attention(&layout, lengths, BASE_COUNT(lengths), 1, precisions[p]);
        check_attention(&layout, lengths, 1, 1, precisions[p]); /* no row at all */
    }
}

/* Scores all but equal, and so far apart that one key takes all. */
static void test_sizes(void **state) {
    (void)state;
    static const int lengths[] = {300, 21};
    static const float sizes[] = {0, 1e-20f, 0.01f, 5, 30, 1000};
    const struct layout layout = {2, 1, 72};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < BASE_COUNT(sizes); i++)
            check_attention(&layout, lengths, 2, sizes[i], precisions[p]);
    }
}

/* The largest score comes last, first or in the middle: the running maximum moves or does not. */
static void test_maximum_moves(void **state) {
    (void)state;
    enum { N = 600, DIM = 16 };
    static float qkv[N * 3 * DIM], out[N * DIM];
    static const int at[] = {0, 255, 256, 400, 599};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < BASE_COUNT(at); i++) {
            for (int row = 0; row < N; row++) {
                for (int d = 0; d < DIM; d++) {
                    qkv[row * 3 * DIM + d] = 1;
                    qkv[row * 3 * DIM + DIM + d] = row == at[i] ? 40 : -40;
                    qkv[row * 3 * DIM + 2 * DIM + d] = row == at[i] ? (float)d : 1000;
                }
            }
            const int starts[] = {0, N};
            struct attention_shape shape = {1, 1, DIM, 0.25f, precisions[p]};
            struct sequences sequences = {1, starts};
            struct error err;
            assert_true(cpu_attention_run(out, qkv, pool, features, &shape, &sequences, &err));
            for (int j = 0; j < N * DIM; j++)
                assert_true(out[j] == (float)(j % DIM));
        }
    }
}

#if defined(__x86_64__)
/* GFLOP/s of nothing but multiplications of pairs. */
__attribute__((target("avx512f,avx512bf16"))) static double pairs_rate(void) {
    float start[16], out[16];
    for (int i = 0; i < 16; i++)
        start[i] = 1e-3f * (float)i;
    __m512 sum[16], a = _mm512_loadu_ps(start), b = _mm512_set1_ps(1e-3f);
    UNROLLED
    for (int i = 0; i < 16; i++)
        sum[i] = _mm512_mul_ps(a, _mm512_set1_ps((float)i)); /* no two alike */
    enum { ROUNDS = 6000000 };
    double begin = seconds_spent();
    for (int i = 0; i < ROUNDS; i++) {
        UNROLLED
        for (int j = 0; j < 16; j++)
            sum[j] = _mm512_dpbf16_ps(sum[j], (__m512bh)a, (__m512bh)b);
    }
    double seconds = seconds_spent() - begin;
    UNROLLED
    for (int i = 1; i < 16; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    _mm512_storeu_ps(out, sum[0]);
    return out[3] == 12345 ? 0 : 16.0 * 64 * ROUNDS / seconds * 1e-9;
}
#endif

static void bench_shape(const char *name, struct layout layout, int length, int n,
                        enum precision precision) {
    int starts[16] = {0};
    for (int i = 0; i < n; i++)
        starts[i + 1] = starts[i] + length;
    size_t n_in = (size_t)(n * length) * (size_t)stride_of(&layout);
    size_t n_out = (size_t)(n * length * layout.n_heads * layout.dim);
    float *qkv = malloc(n_in * sizeof *qkv), *out = malloc(n_out * sizeof *out);
    uint64_t seed = 1;
    for (size_t i = 0; i < n_in; i++)
        qkv[i] = random_normal(&seed);
    struct attention_shape shape = {layout.n_heads, layout.n_kv_heads, layout.dim,
                                    1 / sqrtf((float)layout.dim), precision};
    struct sequences sequences = {n, starts};
    double best = INFINITY;
    for (int turn = 0; turn < 7; turn++) {
        double start = seconds_spent();
        if (!cpu_attention_run(out, qkv, pool, features, &shape, &sequences, NULL))
            abort();
        double seconds = seconds_spent() - start;
        best = seconds < best ? seconds : best;
    }
    double flop = 4.0 * n * length * length * layout.n_heads * layout.dim;
    printf("%-8s %-8s %-5s %8.2f ms %8.1f GFLOP/s\n", set_name, name, precision_name(precision),
           best * 1e3, flop / best * 1e-9);
    free(qkv);
    free(out);
}

static void bench(void) {
    for (int p = 0; p < 2; p++) {
        bench_shape("SigLIP", (struct layout){16, 16, 72}, 1024, 1, precisions[p]);
        bench_shape("Gemma", (struct layout){8, 1, 256}, 1030, 1, precisions[p]);
        bench_shape("MiniLM", (struct layout){12, 12, 32}, 256, 8, precisions[p]);
    }
#if defined(__x86_64__)
    if (features & CPU_AVX512_BF16)
        printf("%-8s pairs, nothing but multiplications %8.1f GFLOP/s\n", set_name, pairs_rate());
#endif
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_heads),
        cmocka_unit_test(test_ragged),        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_maximum_moves),
    };
    bool benching = argc > 1 && strcmp(argv[1], "--bench") == 0;
    struct instruction_set sets[5];
    struct error err;
    int n_sets = instruction_sets(sets), failed = 0;
    if (!cpu_pool_open(&pool, benching ? 1 : 3, &err))
        return 1;
    for (int i = benching && n_sets > 1; i < n_sets; i++) {
        features = sets[i].features;
        set_name = sets[i].name;
        if (benching)
            bench();
        else
            failed += cmocka_run_group_tests_name(set_name, tests, NULL, NULL);
    }
    cpu_pool_close(pool);
    return failed ? 1 : 0;
}
