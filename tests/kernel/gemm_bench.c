/* What the matrix kernels reach on the models' shapes, beside a loop of the multiply instruction
 * measured next to each of them: the processor's speed changes, the share does not.
 *
 * --bench [PRECISION…] [rows=N] [threads=N] [only=TEXT] */
#include "gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Seconds spent on one shape, about. */
#define SPAN 0.25

static const struct {
    const char *model;
    int n, k;
    enum weight_join join;
    int n_rows[3];
} shapes[] = {
    {"vision qkv", 3456, 1152, WEIGHT_STACK, {4096, 1024}},
    {"vision out", 1152, 1152, WEIGHT_STACK, {4096, 1024}},
    {"vision up", 4304, 1152, WEIGHT_STACK, {4096, 1024}},
    {"vision down", 1152, 4304, WEIGHT_STACK, {4096, 1024}},
    {"gemma qkv", 2560, 2048, WEIGHT_STACK, {4120, 1030, 24}},
    {"gemma out", 2048, 2048, WEIGHT_STACK, {4120, 1030, 24}},
    {"gemma gated", 32768, 2048, WEIGHT_GATED, {4120, 1030, 24}},
    {"gemma down", 2048, 16384, WEIGHT_STACK, {4120, 1030, 24}},
    {"minilm qkv", 1152, 384, WEIGHT_STACK, {2048, 256, 12}},
    {"minilm out", 384, 384, WEIGHT_STACK, {2048, 256, 12}},
    {"minilm up", 1536, 384, WEIGHT_STACK, {2048, 256, 12}},
    {"minilm down", 384, 1536, WEIGHT_STACK, {2048, 256, 12}},
};

/* One thread's own time, in which other processes do not count; of several, the clock's. */
static double seconds(int n_threads) {
    struct timespec now;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *big(size_t size_bytes) {
    void *p = mmap(NULL, size_bytes + (2 << 20), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit(2);
    madvise(p, size_bytes, MADV_HUGEPAGE);
    return p;
}

static uint32_t random_state = 1;

static float random_float(void) {
    random_state = random_state * 1664525 + 1013904223;
    return (float)(random_state >> 8) / (float)(1 << 23) - 1;
}

static bool give_row(void *ctx, int i, float *out, struct error *err) {
    (void)err;
    uint32_t state = (uint32_t)i * 2654435761u + 1;
    for (int j = 0; j < *(int *)ctx; j++) {
        state = state * 1664525 + 1013904223;
        out[j] = (float)(state >> 8) / (float)(1 << 23) - 1;
    }
    return true;
}

struct bench {
    struct cpu_pool *pool;
    int n_threads;
    float *in, *out, *bias;
    struct error err;
};

static void measure(struct bench *bench, int shape_i, int rows, enum precision precision) {
    unsigned features = cpu_features();
    int n = shapes[shape_i].n, k = shapes[shape_i].k;
    bool gated = shapes[shape_i].join == WEIGHT_GATED;
    struct weight_shape shape = {n, k, shapes[shape_i].join, precision};
    struct weight_source sources[2] = {{gated ? n / 2 : n, k, give_row, &k},
                                       {n / 2, k, give_row, &k}};
    size_t bytes = cpu_gemm_bytes(features, &shape);
    void *packed = big(bytes);
    struct cpu_epilogue epilogue = {gated ? NULL : bench->bias,
                                    gated ? ACTIVATION_GELU_TANH : ACTIVATION_NONE, NULL};
    if (!cpu_gemm_pack(packed, bench->pool, features, &shape, sources, gated ? 2 : 1, &bench->err))
        exit(2);
    double best_rate = 0, best_peak = 0, begun = seconds(2);
    int n_runs = 0;
    for (; n_runs < 3 || seconds(2) - begun < SPAN; n_runs++) {
        double peak = gemm_peak(features, precision) * bench->n_threads;
        double start = seconds(bench->n_threads);
        if (!cpu_gemm_run(bench->out, bench->in, rows, bench->pool, features, &shape, packed,
                          &epilogue, &bench->err))
            exit(2);
        double rate = 2.0 * rows * n * k / (seconds(bench->n_threads) - start);
        best_rate = rate > best_rate ? rate : best_rate;
        best_peak = peak > best_peak ? peak : best_peak;
    }
    munmap(packed, bytes + (2 << 20));
    printf("%-12s %-5s threads %d  M %5d N %6d K %6d  %7.1f G/s  loop %7.1f  share %4.0f %%\n",
           shapes[shape_i].model, precision_name(precision), bench->n_threads, rows, n, k,
           best_rate / 1e9, best_peak / 1e9, best_peak > 0 ? 100 * best_rate / best_peak : 0.0);
}

static int number_after(const char *arg, const char *name) {
    size_t len = strlen(name);
    return strncmp(arg, name, len) == 0 ? (int)strtol(arg + len, NULL, 10) : 0;
}

int gemm_bench(int n_args, char **args) {
    int only_rows = 0, only_threads = 0;
    const char *only = "";
    bool some = false, wanted[PRECISION_INT8 + 1] = {false};
    for (int i = 0; i < n_args; i++) {
        enum precision precision;
        struct error err;
        if (number_after(args[i], "rows="))
            only_rows = number_after(args[i], "rows=");
        else if (number_after(args[i], "threads="))
            only_threads = number_after(args[i], "threads=");
        else if (strncmp(args[i], "only=", 5) == 0)
            only = args[i] + 5;
        else if (precision_parse(&precision, args[i], &err))
            wanted[precision] = some = true;
        else
            return fprintf(stderr, "%s\n", err.text), 2;
    }
    struct bench bench = {.in = big((size_t)4120 * 16384 * 4),
                          .out = big((size_t)4120 * 16384 * 4),
                          .bias = big(32768 * 4)};
    for (size_t i = 0; i < (size_t)4120 * 16384; i++)
        bench.in[i] = random_float();
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        if (only_threads && n_threads != only_threads)
            continue;
        bench.n_threads = n_threads;
        if (!cpu_pool_open(&bench.pool, n_threads, &bench.err))
            return 2;
        for (enum precision p = PRECISION_FP32; p <= PRECISION_INT8; p++) {
            if (p == PRECISION_FP16 || (some && !wanted[p]))
                continue;
            for (int i = 0; i < (int)BASE_COUNT(shapes); i++) {
                for (int r = 0; r < 3; r++) {
                    int rows = shapes[i].n_rows[r];
                    if (rows && (!only_rows || rows == only_rows) && strstr(shapes[i].model, only))
                        measure(&bench, i, rows, p);
                }
            }
        }
        cpu_pool_close(bench.pool);
    }
    return 0;
}
