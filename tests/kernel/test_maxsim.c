/* MaxSim × instruction set against double precision: odd numbers of queries, vectors and
 * dimensions, equal scores, guard bytes. `--bench` prints pages a second of a ColPali query. */
#include "guarded.h"

#include "device/cpu/maxsim.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static maxsim_kernel *kernel;
static const char *set_name;

static void test_kernel(void **state) {
    (void)state;
    static const int counts[] = {1, 2, 3, 4, 5, 11, 12, 13, 15, 24, 25, 100};
    static const int dims[] = {1, 2, 7, 8, 31, 96, 128, 130, 300};
    uint64_t seed = 5;
    for (size_t c = 0; c < BASE_COUNT(counts); c++) {
        for (size_t d = 0; d < BASE_COUNT(dims); d++) {
            int n = counts[c], dim = dims[d];
            struct guarded query = guarded_new((size_t)dim * MAXSIM_QUERIES);
            struct guarded vectors = guarded_new((size_t)n * (size_t)dim);
            for (size_t i = 0; i < query.n; i++)
                query.x[i] = random_normal(&seed);
            for (size_t i = 0; i < vectors.n; i++)
                vectors.x[i] = random_normal(&seed);
            float scores[MAXSIM_QUERIES];
            int best[MAXSIM_QUERIES];
            kernel(scores, best, query.x, vectors.x, n, dim);
            for (int q = 0; q < MAXSIM_QUERIES; q++) {
                double max = -INFINITY, of_best = 0, bound = 1e-6 * dim;
                for (int i = 0; i < n; i++) {
                    double sum = 0;
                    for (int k = 0; k < dim; k++)
                        sum += (double)query.x[k * MAXSIM_QUERIES + q] *
                               (double)vectors.x[i * dim + k];
                    max = sum > max ? sum : max;
                    of_best = i == best[q] ? sum : of_best;
                }
                assert_true(best[q] >= 0 && best[q] < n);
                if (!(fabs((double)scores[q] - max) <= bound && max - of_best <= bound))
                    fail_msg("%s: %d vectors of %d, query %d: %.9g of row %d, not %.9g", set_name,
                             n, dim, q, (double)scores[q], best[q], max);
            }
            assert_true(guarded_is_whole(&query) && guarded_is_whole(&vectors));
            guarded_free(&query);
            guarded_free(&vectors);
        }
    }
}

static void test_first_of_equals(void **state) {
    (void)state;
    static float query[4 * MAXSIM_QUERIES], vectors[40 * 4];
    for (int i = 0; i < 4 * MAXSIM_QUERIES; i++)
        query[i] = 1;
    for (int i = 0; i < 40 * 4; i++)
        vectors[i] = i / 4 == 9 || i / 4 == 17 || i / 4 == 39 ? 1 : -1;
    float scores[MAXSIM_QUERIES];
    int best[MAXSIM_QUERIES];
    kernel(scores, best, query, vectors, 40, 4);
    for (int q = 0; q < MAXSIM_QUERIES; q++)
        assert_true(best[q] == 9 && scores[q] == 4);
}

/* The public function, with the best kernel: blocks of queries, rows found, nothing to find. */
static void test_public(void **state) {
    (void)state;
    static const int queries[] = {0, 1, 31, 32, 33, 70};
    static const int dims[] = {5, 128, 256, 257, 700};
    uint64_t seed = 9;
    for (size_t c = 0; c < BASE_COUNT(queries) * BASE_COUNT(dims); c++) {
        int n_query = queries[c % BASE_COUNT(queries)], dim = dims[c / BASE_COUNT(queries)];
        int n = 50, best[70];
        struct guarded query = guarded_new((size_t)n_query * (size_t)dim);
        struct guarded vectors = guarded_new((size_t)n * (size_t)dim);
        for (size_t i = 0; i < query.n; i++)
            query.x[i] = random_normal(&seed);
        for (size_t i = 0; i < vectors.n; i++)
            vectors.x[i] = random_normal(&seed);
        double exact = 0;
        int rows[70];
        for (int q = 0; q < n_query; q++) {
            double max = -INFINITY;
            for (int i = 0; i < n; i++) {
                double sum = 0;
                for (int k = 0; k < dim; k++)
                    sum += (double)query.x[q * dim + k] * (double)vectors.x[i * dim + k];
                if (sum > max) {
                    max = sum;
                    rows[q] = i;
                }
            }
            exact += max;
        }
        double got = maxsim_f32(query.x, n_query, vectors.x, n, dim, best);
        assert_true(fabs(got - exact) <= 1e-6 * dim * (n_query + 1));
        assert_true(got == maxsim_f32(query.x, n_query, vectors.x, n, dim, NULL));
        for (int q = 0; q < n_query; q++)
            assert_int_equal(best[q], rows[q]);
        assert_true(maxsim_f32(query.x, n_query, vectors.x, 0, dim, best) == 0);
        for (int q = 0; q < n_query; q++)
            assert_int_equal(best[q], -1);
        guarded_free(&query);
        guarded_free(&vectors);
    }
}

static void bench(void) {
    enum { N = 1030, DIM = 128, PAGES = 64 };
    float *vectors = malloc(sizeof(float) * N * DIM * PAGES), *query = malloc(sizeof(float) * 4096);
    uint64_t seed = 1;
    for (int i = 0; i < N * DIM * PAGES; i++)
        vectors[i] = random_unit(&seed);
    for (int i = 0; i < 4096; i++)
        query[i] = random_unit(&seed);
    double fastest = INFINITY;
    for (int turn = 0; turn < 9; turn++) {
        float scores[MAXSIM_QUERIES];
        int best[MAXSIM_QUERIES];
        double start = seconds_spent();
        for (int page = 0; page < PAGES; page++)
            kernel(scores, best, query, vectors + (size_t)page * N * DIM, N, DIM);
        double seconds = seconds_spent() - start;
        fastest = seconds < fastest ? seconds : fastest;
    }
    printf("%-8s %8.0f pages/s of %d x %d, 32 queries, %6.1f GFLOP/s\n", set_name, PAGES / fastest,
           N, DIM, 2.0 * 32 * N * DIM * PAGES / fastest * 1e-9);
    free(vectors);
    free(query);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_first_of_equals),
        cmocka_unit_test(test_public),
    };
    struct instruction_set sets[5];
    int n_sets = instruction_sets(sets), failed = 0;
    for (int i = 0; i < n_sets; i++) {
        kernel = maxsim_kernel_for(sets[i].features);
        set_name = sets[i].name;
        if (i > 0 && kernel == maxsim_kernel_for(sets[i - 1].features))
            continue;
        if (argc > 1 && strcmp(argv[1], "--bench") == 0)
            bench();
        else
            failed += cmocka_run_group_tests_name(set_name, tests, NULL, NULL);
    }
    return failed ? 1 : 0;
}
