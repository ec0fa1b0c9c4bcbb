/* Tests of pooling: the clusters are Ward's, cut anywhere; ties, zeros and many vectors. With
 * --bench: the time it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/segment.h"
#include "pooling_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct error err;

static float next_number(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return (float)(*state >> 16) / 32768 - 1;
}

static void normalise(float *vector, int dim) {
    double square = 0;
    for (int d = 0; d < dim; d++)
        square += (double)vector[d] * (double)vector[d];
    for (int d = 0; d < dim && square > 0; d++)
        vector[d] = (float)((double)vector[d] / sqrt(square));
}

/* As make_pooling_cases.py makes them. */
static float *vectors_new(int n, int dim, uint32_t seed) {
    float *vectors = mem_alloc((size_t)n * (size_t)dim * sizeof *vectors);
    for (int i = 0; i < n * dim; i++)
        vectors[i] = next_number(&seed);
    for (int i = 2; i < n; i += 3) {
        for (int d = 0; d < dim; d++)
            vectors[i * dim + d] = vectors[i / 2 * dim + d] + vectors[i * dim + d] / 4;
    }
    for (int i = 0; i < n; i++)
        normalise(vectors + (size_t)i * (size_t)dim, dim);
    return vectors;
}

static float *cut_new(const float *vectors, int n, int dim, int n_out) {
    struct pooling *pooling;
    assert_true(pooling_new(&pooling, vectors, n, dim, &err));
    float *out = mem_alloc((size_t)n_out * (size_t)dim * sizeof *out);
    pooling_cut(out, pooling, n_out);
    pooling_free(pooling);
    return out;
}

static void check_means(const float *out, const float *vectors, int dim,
                        const struct pooling_case *wanted) {
    float *means = mem_alloc((size_t)wanted->n_out * (size_t)dim * sizeof *means);
    for (int i = 0; i < wanted->n; i++) {
        for (int d = 0; d < dim; d++)
            means[wanted->labels[i] * dim + d] += vectors[i * dim + d];
    }
    for (int i = 0; i < wanted->n_out; i++) {
        normalise(means + i * dim, dim);
        for (int d = 0; d < dim; d++)
            assert_float_equal(out[i * dim + d], means[i * dim + d], 1e-5);
    }
    mem_free(means);
}

static void clusters_are_wards(void **state) {
    (void)state;
    uint32_t seed = 0;
    for (size_t i = 0; i < BASE_COUNT(pooling_cases); i++) {
        const struct pooling_case *wanted = &pooling_cases[i];
        seed += i == 0 || wanted->n != pooling_cases[i - 1].n;
        float *vectors = vectors_new(wanted->n, wanted->dim, seed);
        float *out = cut_new(vectors, wanted->n, wanted->dim, wanted->n_out);
        check_means(out, vectors, wanted->dim, wanted);
        mem_free(out);
        mem_free(vectors);
    }
}

/* One tree, cut wherever asked for, in any order. */
static void cuts_are_of_one_tree(void **state) {
    (void)state;
    enum { N = 90, DIM = 20 };
    float *vectors = vectors_new(N, DIM, 5);
    struct pooling *pooling;
    assert_true(pooling_new(&pooling, vectors, N, DIM, &err));
    static float out[N * DIM], again[N * DIM];
    for (int n_out = N; n_out >= 1; n_out--) {
        pooling_cut(out, pooling, n_out);
        float *fresh = cut_new(vectors, N, DIM, n_out);
        assert_memory_equal(out, fresh, (size_t)n_out * DIM * sizeof *out);
        mem_free(fresh);
    }
    pooling_cut(again, pooling, N);
    for (int i = 0; i < N * DIM; i++)
        assert_float_equal(again[i], vectors[i], 1e-6);
    pooling_free(pooling);
    mem_free(vectors);
}

static void lengths_do_not_count(void **state) {
    (void)state;
    enum { N = 60, DIM = 16 };
    float *vectors = vectors_new(N, DIM, 9);
    float *out = cut_new(vectors, N, DIM, 11);
    for (int i = 0; i < N * DIM; i++)
        vectors[i] *= i / DIM % 2 ? 1024.0f : 0.125f;
    float *scaled = cut_new(vectors, N, DIM, 11);
    for (int i = 0; i < 11 * DIM; i++)
        assert_float_equal(out[i], scaled[i], 1e-6);
    mem_free(out);
    mem_free(scaled);
    mem_free(vectors);
}

/* The same vector many times, vectors without length, opposites: any cut is possible, and the same
 * at every run. */
static void ties_and_zeros(void **state) {
    (void)state;
    enum { N = 70, DIM = 5 };
    static float vectors[N * DIM];
    for (int i = 0; i < N; i++) {
        if (i % 7 < 5)
            vectors[i * DIM + i % 7] = i % 2 ? -1 : 1;
    }
    for (int n_out = 1; n_out <= N; n_out++) {
        float *out = cut_new(vectors, N, DIM, n_out), *again = cut_new(vectors, N, DIM, n_out);
        assert_memory_equal(out, again, (size_t)n_out * DIM * sizeof *out);
        for (int i = 0; i < n_out * DIM; i++)
            assert_true(fabsf(out[i]) <= 1.00001f);
        mem_free(out);
        mem_free(again);
    }
    /* Eleven different vectors: cut at eleven, they come back. */
    float *out = cut_new(vectors, N, DIM, 11);
    for (int i = 0; i < 7; i++)
        assert_memory_equal(out + i * DIM, vectors + i * DIM, i < 5 ? DIM * sizeof *out : 0);
    mem_free(out);
}

/* More than are clustered at once: slices of neighbours, each with its share. */
static void many_vectors_in_slices(void **state) {
    (void)state;
    enum { N = 9000, DIM = 3 };
    float *vectors = vectors_new(N, DIM, 3);
    struct pooling *pooling;
    assert_true(pooling_new(&pooling, vectors, N, DIM, &err));
    static float out[N * DIM];
    for (int n_out = 1; n_out <= N; n_out = n_out < 6 ? n_out + 1 : n_out * 3) {
        memset(out, 0xff, sizeof out);
        pooling_cut(out, pooling, n_out);
        for (int i = 0; i < n_out; i++) {
            double square = 0;
            for (int d = 0; d < DIM; d++)
                square += (double)out[i * DIM + d] * (double)out[i * DIM + d];
            assert_float_equal(square, 1, 1e-4);
        }
    }
    /* Two clusters of three slices: the first and the second are one. */
    static float halves[2 * DIM];
    for (int i = 0; i < N; i++) {
        for (int d = 0; d < DIM; d++)
            halves[(i >= 6000) * DIM + d] += vectors[i * DIM + d];
    }
    pooling_cut(out, pooling, 2);
    for (int i = 0; i < 2; i++) {
        normalise(halves + i * DIM, DIM);
        for (int d = 0; d < DIM; d++)
            assert_float_equal(out[i * DIM + d], halves[i * DIM + d], 1e-4);
    }
    pooling_cut(out, pooling, N);
    for (int i = 0; i < N * DIM; i++)
        assert_float_equal(out[i], vectors[i], 1e-6);
    pooling_free(pooling);
    mem_free(vectors);
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int bench(void) {
    const int sizes[] = {64, 256, 768, 1030, 2048, 4096};
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        int n = sizes[i];
        float *vectors = vectors_new(n, 128, 1);
        double best = INFINITY;
        for (int run = 0; run < 9; run++) {
            double began = now_ms();
            mem_free(cut_new(vectors, n, 128, (n + 3) / 4));
            best = fmin(best, now_ms() - began);
        }
        printf("%d vectors of 128 dimensions: %.2f ms\n", n, best);
        mem_free(vectors);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_are_wards),     cmocka_unit_test(cuts_are_of_one_tree),
        cmocka_unit_test(lengths_do_not_count),   cmocka_unit_test(ties_and_zeros),
        cmocka_unit_test(many_vectors_in_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
