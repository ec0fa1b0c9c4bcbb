/* MaxSim over codes and over signs: every instruction set of this machine against sums in int64 and
 * double.
 *
 * Bounds: products are exact; a value is rounded three times to fp32 and a score's sum once a
 * question vector, so a score is within (n_query + 3) * 2^-24 of the sum of its terms' sizes. All
 * instruction sets give the same bits. What is read and written lies against pages that may not be
 * touched. With --bench: codes_bench.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codes.h"
#include "fenced.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- instruction sets ------------------------------------------------------------------------ */

#define AVX512 (CPU_AVX2 | CPU_AVX512)

static const struct {
    const char *name;
    unsigned features;
} sets[] = {
    {"plain C", 0},
#if defined(__aarch64__)
    {"neon", CPU_NEON},
    {"neon dotprod", CPU_NEON | CPU_NEON_DOT},
#else
    {"avx2", CPU_AVX2},
    {"avx512", AVX512},
    {"avx512 vnni", AVX512 | CPU_AVX512_VNNI},
    {"avx512 vnni vpopcntq", AVX512 | CPU_AVX512_VNNI | CPU_AVX512_POPCNT},
#ifdef AMX_EMULATED
    {"amx, emulated", AVX512 | CPU_AMX_INT8},
#else
    {"amx", AVX512 | CPU_AVX512_VNNI | CPU_AVX512_POPCNT | CPU_AMX_INT8},
#endif
#endif
};

static bool have(int set_i) {
    unsigned wanted = sets[set_i].features;
#ifdef AMX_EMULATED
    wanted &= ~(unsigned)CPU_AMX_INT8;
#endif
    return (cpu_features() & wanted) == wanted;
}

/* ---- what is tried --------------------------------------------------------------------------- */

static uint64_t random_state = 1;

static uint32_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) << 16 ^ (uint32_t)(random_state >> 40);
}

enum content { RANDOM, LOWEST, HIGHEST, EQUAL, N_CONTENTS };

struct trial {
    int dim, n_query, bits;
    float *vectors;       /* of the question: whole numbers to 127 times a power of two */
    int8_t *codes;        /* the same whole numbers */
    float *scales;        /* and powers */
    struct fenced fenced; /* of vectors */
};

static void trial_new(struct trial *trial, int dim, int n_query, int bits, enum content content) {
    *trial = (struct trial){.dim = dim, .n_query = n_query, .bits = bits};
    size_t n = (size_t)dim * (size_t)n_query;
    trial->vectors = fenced_new(&trial->fenced, n * sizeof(float));
    trial->codes = malloc(n + 1);
    trial->scales = malloc((size_t)n_query * sizeof(float) + 1);
    for (int q = 0; q < n_query; q++) {
        trial->scales[q] = ldexpf(1, (int)(random_bits() % 12) - 9);
        int peak = (int)(random_bits() % (unsigned)dim);
        for (int d = 0; d < dim; d++) {
            int code = (int)(random_bits() % 255) - 127;
            if (content == LOWEST || d == peak)
                code = -127;
            if (content == HIGHEST)
                code = 127;
            trial->codes[q * dim + d] = (int8_t)code;
            trial->vectors[q * dim + d] = (float)code * trial->scales[q];
        }
    }
}

static void trial_free(struct trial *trial) {
    fenced_free(&trial->fenced);
    free(trial->codes);
    free(trial->scales);
}

struct item {
    struct coded coded;
    struct fenced codes, scales;
};

static void item_new(struct item *item, const struct trial *trial, int n, enum content content) {
    size_t n_bytes = codes_bytes(n, trial->dim, trial->bits);
    uint8_t *codes = fenced_new(&item->codes, n_bytes);
    uint16_t *scales = fenced_new(&item->scales, code_scales_bytes(n));
    for (size_t i = 0; i < n_bytes; i++) {
        switch (content) {
        case RANDOM:
        case N_CONTENTS:
            codes[i] = (uint8_t)random_bits();
            break;
        case LOWEST: /* lower than a writer would */
            codes[i] = trial->bits == 8 ? 0x80 : 0;
            break;
        case HIGHEST:
            codes[i] = trial->bits == 8 ? 0x7f : 0xff;
            break;
        case EQUAL:
            codes[i] = 0x55;
            break;
        }
    }
    for (int v = 0; v < CODE_GROUPS(n) * CODE_GROUP; v++)
        scales[v] = content == EQUAL ? 0x3f80 : (uint16_t)(0x3c00 + random_bits() % 0x400);
    item->coded = (struct coded){codes, scales, n, trial->bits};
}

static void item_free(struct item *item) {
    fenced_free(&item->codes);
    fenced_free(&item->scales);
}

/* ---- what it should be ------------------------------------------------------------------------
 */

static double scale_of(const struct coded *item, int v) {
    uint32_t bits = (uint32_t)item->scales[v] << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return (double)scale;
}

static int level_of(const struct coded *item, int dim, int v, int d) {
    size_t group = (size_t)(v / 16) * 16 * (size_t)CODE_DIM(dim);
    size_t element = group + (size_t)(d / 4 * 64 + v % 16 * 4 + d % 4);
    const uint8_t *codes = item->codes;
    size_t bit = element * (size_t)item->bits;
    int code = codes[bit / 8] >> (bit % 8) & ((1 << item->bits) - 1);
    return item->bits == 8 ? (int8_t)code : codes_levels(item->bits)[code];
}

static double product(const struct trial *trial, const struct coded *item, int q, int v) {
    int64_t sum = 0;
    for (int d = 0; d < trial->dim; d++)
        sum += trial->codes[q * trial->dim + d] * level_of(item, trial->dim, v, d);
    return (double)sum * scale_of(item, v) * (double)trial->scales[q];
}

static double padded_product(const struct trial *trial, const struct coded *item, int q, int v,
                             double largest) {
    double value = product(trial, item, q, v);
    return value > largest ? value : largest;
}

/* Vectors that fill up the last group count too: here they are no copies. */
static double score_of(double *bound, const struct trial *trial, const struct coded *item) {
    double sum = 0, sizes = 0;
    for (int q = 0; item->n > 0 && q < trial->n_query; q++) {
        double largest = -INFINITY;
        for (int v = 0; v < CODE_GROUPS(item->n) * 16; v++)
            largest = padded_product(trial, item, q, v, largest);
        sum += largest;
        sizes += fabs(largest);
    }
    *bound = (trial->n_query + 3) * 0x1p-24 * sizes;
    return sum;
}

/* ---- codes ------------------------------------------------------------------------------------
 */

#define MAX_ITEMS 4

static void check_scores(const struct trial *trial, const struct item *items, int n_items) {
    struct coded coded[MAX_ITEMS];
    float first[MAX_ITEMS];
    for (int i = 0; i < n_items; i++)
        coded[i] = items[i].coded;
    for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        struct maxsim_query *query = cpu_query_new(trial->vectors, trial->n_query, trial->dim,
                                                   sets[s].features);
        struct fenced out;
        float *scores = fenced_new(&out, (size_t)n_items * sizeof *scores);
        maxsim_codes(scores, query, coded, n_items);
        for (int i = 0; i < n_items; i++) {
            double bound, exact = s == 0 ? score_of(&bound, trial, &coded[i]) : 0;
            if (s == 0) {
                first[i] = scores[i];
                if (!(fabs((double)scores[i] - exact) <= bound))
                    fail_msg("dim %d, %d bits, %d vectors, question %d: %.9g, not %.9g", trial->dim,
                             trial->bits, coded[i].n, trial->n_query, (double)scores[i], exact);
            }
            if (memcmp(&scores[i], &first[i], sizeof first[i]) != 0)
                fail_msg("%s, dim %d, %d bits, %d vectors, question %d: %.9g, plain C %.9g",
                         sets[s].name, trial->dim, trial->bits, coded[i].n, trial->n_query,
                         (double)scores[i], (double)first[i]);
        }
        fenced_free(&out);
        maxsim_query_free(query);
    }
}

static void check_matrix(const struct trial *trial, const struct coded *item) {
    for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        struct maxsim_query *query = cpu_query_new(trial->vectors, trial->n_query, trial->dim,
                                                   sets[s].features);
        struct fenced out;
        size_t n = (size_t)trial->n_query * (size_t)item->n;
        float *values = fenced_new(&out, n * sizeof *values);
        maxsim_matrix(values, query, item);
        for (int q = 0; q < trial->n_query; q++) {
            for (int v = 0; v < item->n; v++) {
                double exact = product(trial, item, q, v), got = (double)values[q * item->n + v];
                if (!(fabs(got - exact) <= 3 * 0x1p-24 * fabs(exact)))
                    fail_msg("%s, dim %d, %d bits, vector %d of %d, question %d of %d: %.9g, not "
                             "%.9g",
                             sets[s].name, trial->dim, trial->bits, v, item->n, q, trial->n_query,
                             got, exact);
            }
        }
        fenced_free(&out);
        maxsim_query_free(query);
    }
}

static void check_codes(int dim, int n_query, int bits, const int counts[MAX_ITEMS],
                        enum content content) {
    struct trial trial;
    trial_new(&trial, dim, n_query, bits, content);
    struct item items[MAX_ITEMS];
    for (int i = 0; i < MAX_ITEMS; i++)
        item_new(&items[i], &trial, counts[i], content);
    check_scores(&trial, items, MAX_ITEMS);
    for (int i = 0; i < 2; i++)
        check_matrix(&trial, &items[i].coded);
    for (int i = 0; i < MAX_ITEMS; i++)
        item_free(&items[i]);
    trial_free(&trial);
}

static const int all_bits[] = {1, 2, 4, 8};
static const int queries[] = {0, 1, 3, 4, 5, 8, 9, 13, 16, 17, 24, 29, 32, 33, 48, 49, 100};

static void sizes(void **state) {
    (void)state;
    static const int dims[] = {1, 63, 64, 65, 128, 192, 384};
    static const int counts[][MAX_ITEMS] = {{1, 15, 16, 17}, {0, 31, 32, 33}, {48, 0, 0, 49}};
    int turn = 0;
    for (size_t d = 0; d < BASE_COUNT(dims); d++) {
        for (size_t b = 0; b < BASE_COUNT(all_bits); b++) {
            for (size_t q = 0; q < BASE_COUNT(queries); q++)
                check_codes(dims[d], queries[q], all_bits[b], counts[turn++ % 3], RANDOM);
        }
    }
}

static void large(void **state) {
    (void)state;
    static const int pages[MAX_ITEMS] = {1030, 103, 0, 1}, few[MAX_ITEMS] = {17, 1, 33, 16};
    for (size_t b = 0; b < BASE_COUNT(all_bits); b++) {
        check_codes(128, 24, all_bits[b], pages, RANDOM);
        check_codes(1024, 5, all_bits[b], few, RANDOM);
        check_codes(1100, 25, all_bits[b], few, RANDOM);
    }
}

static void contents(void **state) {
    (void)state;
    static const int counts[MAX_ITEMS] = {33, 1, 16, 0}, one[MAX_ITEMS] = {17, 0, 1, 0};
    for (enum content content = LOWEST; content < N_CONTENTS; content++) {
        for (size_t b = 0; b < BASE_COUNT(all_bits); b++) {
            check_codes(128, 24, all_bits[b], counts, content);
            check_codes(200, 13, all_bits[b], counts, content);
            check_codes(CODES_MAX_DIM, 2, all_bits[b], one, content);
        }
    }
}

/* Rounding of the question to int8: half a unit an element. */
static void rounded_question(void **state) {
    (void)state;
    enum { DIM = 128, N_QUERY = 24, N = 40 };
    struct trial trial = {.dim = DIM, .n_query = N_QUERY, .bits = 8};
    struct item item;
    item_new(&item, &trial, N, RANDOM);
    static float vectors[N_QUERY * DIM], values[N_QUERY * N];
    for (int i = 0; i < N_QUERY * DIM; i++)
        vectors[i] = ((float)(random_bits() >> 8) * 0x1p-23f - 1) * (i / DIM % 2 ? 1e-20f : 3);
    struct maxsim_query *query = maxsim_query_new(vectors, N_QUERY, DIM);
    maxsim_matrix(values, query, &item.coded);
    for (int q = 0; q < N_QUERY; q++) {
        double peak = 0;
        for (int d = 0; d < DIM; d++)
            peak = fabs((double)vectors[q * DIM + d]) > peak ? fabs((double)vectors[q * DIM + d])
                                                             : peak;
        for (int v = 0; v < N; v++) {
            double sum = 0, bound = 0;
            for (int d = 0; d < DIM; d++) {
                double level = level_of(&item.coded, DIM, v, d) * scale_of(&item.coded, v);
                sum += level * (double)vectors[q * DIM + d];
                bound += fabs(level) * peak * (0.5 / 127 + 0x1p-20);
            }
            assert_true(fabs((double)values[q * N + v] - sum) <= bound);
        }
    }
    maxsim_query_free(query);
    item_free(&item);
}

/* A vector with an element that is no number, or too large for one, counts as zero. */
static void not_finite(void **state) {
    (void)state;
    enum { DIM = 70, N = 20 };
    struct trial trial = {.dim = DIM, .n_query = 5, .bits = 8};
    struct item item;
    item_new(&item, &trial, N, RANDOM);
    float vectors[5 * DIM], values[5 * N];
    for (int i = 0; i < 5 * DIM; i++)
        vectors[i] = i / DIM == 3 ? 0 : i / DIM == 4 ? 1e-45f : 1;
    vectors[5] = NAN;
    vectors[DIM + 69] = INFINITY;
    for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        struct maxsim_query *query = cpu_query_new(vectors, 5, DIM, sets[s].features);
        maxsim_matrix(values, query, &item.coded);
        for (int i = 0; i < 5 * N; i++)
            assert_true(i / N == 2 ? isfinite(values[i]) : values[i] == 0);
        maxsim_query_free(query);
    }
    item_free(&item);
}

static void levels(void **state) {
    (void)state;
    for (int bits = 1; bits <= 4; bits *= 2) {
        int n = 1 << bits;
        const int8_t *of = codes_levels(bits);
        for (int i = 0; i < n; i++) {
            assert_int_equal(of[i], -of[n - 1 - i]);
            assert_true(i == 0 || of[i] > of[i - 1]);
        }
        /* Each is the mean of a normal variable between the middles to its neighbours. */
        double factor = bits == 1 ? 128 : bits == 2 ? 64 : 32;
        for (int i = n / 2; i < n; i++) {
            double low = i == n / 2 ? 0 : (of[i - 1] + of[i]) / (2 * factor);
            double high = i == n - 1 ? 30 : (of[i] + of[i + 1]) / (2 * factor);
            double mean = sqrt(2 / M_PI) * (exp(-low * low / 2) - exp(-high * high / 2)) /
                          (erf(high * M_SQRT1_2) - erf(low * M_SQRT1_2));
            assert_true(fabs(mean * factor - of[i]) < 0.7);
        }
    }
    assert_null(codes_levels(8));
}

/* ---- signs ------------------------------------------------------------------------------------
 */

static uint32_t distance_of(const struct trial *trial, const uint64_t *item, int q, int v) {
    int n_words = CODE_DIM(trial->dim) / 64;
    uint32_t distance = 0;
    for (int d = 0; d < n_words * 64; d++) {
        uint64_t word = item[(v / 8 * n_words + d / 64) * 8 + v % 8];
        bool negative = d < trial->dim && trial->codes[q * trial->dim + d] < 0;
        distance += (word >> (d % 64) & 1) != negative;
    }
    return distance;
}

static void check_signs(int dim, int n_query, int n_vectors, int n_items) {
    struct trial trial;
    trial_new(&trial, dim, n_query, 8, RANDOM);
    struct fenced in, table, out;
    size_t item_bytes = signs_bytes(n_vectors, dim);
    uint64_t *signs = fenced_new(&in, item_bytes * (size_t)n_items);
    float *value = fenced_new(&table, ((size_t)dim + 1) * sizeof *value);
    for (int h = 0; h <= dim; h++)
        value[h] = (float)cos(M_PI * h / dim);
    /* Bits past dim too: nothing outside the table may be read for them. Some items are all of one
     * sign, the question's first vector or its opposite. */
    for (size_t i = 0; i < item_bytes * (size_t)n_items / 8; i++)
        signs[i] = (uint64_t)random_bits() << 32 | random_bits();
    if (n_items > 2)
        memset(signs, 0xff, item_bytes);
    double *exact = malloc((size_t)n_items * sizeof *exact + 1);
    for (int i = 0; i < n_items; i++) {
        exact[i] = 0;
        for (int q = 0; q < n_query && n_vectors > 0; q++) {
            uint32_t least = UINT32_MAX;
            for (int v = 0; v < n_vectors; v++) {
                uint32_t h = distance_of(&trial, signs + (size_t)i * item_bytes / 8, q, v);
                least = h < least ? h : least;
            }
            exact[i] += (double)value[least < (uint32_t)dim ? least : (uint32_t)dim];
        }
    }
    for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        struct maxsim_query *query = cpu_query_new(trial.vectors, n_query, dim, sets[s].features);
        float *scores = fenced_new(&out, (size_t)n_items * sizeof *scores);
        maxsim_signs(scores, query, signs, n_vectors, n_items, value);
        for (int i = 0; i < n_items; i++) {
            if (!(fabs((double)scores[i] - exact[i]) <= n_query * n_query * 0x1p-24))
                fail_msg("%s, dim %d, %d vectors, question %d, item %d: %.9g, not %.9g",
                         sets[s].name, dim, n_vectors, n_query, i, (double)scores[i], exact[i]);
        }
        fenced_free(&out);
        maxsim_query_free(query);
    }
    free(exact);
    fenced_free(&in);
    fenced_free(&table);
    trial_free(&trial);
}

static void signs(void **state) {
    (void)state;
    static const int dims[] = {1, 64, 100, 128, 192, 320, 1024};
    static const int vectors[] = {0, 8, 16, 24, 32, 40};
    static const int counts[] = {0, 1, 3, 31, 33};
    int turn = 0;
    for (size_t d = 0; d < BASE_COUNT(dims); d++) {
        for (size_t q = 0; q < BASE_COUNT(queries); q++, turn++)
            check_signs(dims[d], queries[q], vectors[turn % 6], counts[turn / 2 % 5]);
    }
    check_signs(128, 24, 32, 100);
    check_signs(CODES_MAX_DIM, 2, 8, 3);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static void check_rows(int dim, int n_rows, size_t stride, enum content content) {
    struct trial trial;
    trial_new(&trial, dim, 2, 8, content);
    size_t code_dim = CODE_DIM((size_t)dim);
    struct fenced in, out;
    size_t n_bytes = n_rows ? (size_t)(n_rows - 1) * stride + code_dim + 4 : 0;
    uint8_t *rows = fenced_new(&in, n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        rows[i] = content == LOWEST ? 0x80 : content == HIGHEST ? 0x7f : (uint8_t)random_bits();
    for (int i = 0; i < n_rows; i++) {
        float scale = (float)(random_bits() % 1000) * 1e-4f - 0.01f;
        memcpy(rows + (size_t)i * stride + code_dim, &scale, sizeof scale);
    }
    for (int s = 0; s < (int)BASE_COUNT(sets); s++) {
        if (!have(s))
            continue;
        struct maxsim_query *query = cpu_query_new(trial.vectors, 2, dim, sets[s].features);
        float *scores = fenced_new(&out, (size_t)n_rows * sizeof *scores);
        dot_rows(scores, query, rows, stride, n_rows);
        for (int i = 0; i < n_rows; i++) {
            const int8_t *row = (const int8_t *)rows + (size_t)i * stride;
            int64_t sum = 0;
            for (int d = 0; d < dim; d++)
                sum += row[d] * trial.codes[d];
            float scale;
            memcpy(&scale, row + code_dim, sizeof scale);
            double exact = (double)sum * (double)scale * (double)trial.scales[0];
            if (!(fabs((double)scores[i] - exact) <= 3 * 0x1p-24 * fabs(exact)))
                fail_msg("%s, dim %d, row %d of %d: %.9g, not %.9g", sets[s].name, dim, i, n_rows,
                         (double)scores[i], exact);
        }
        fenced_free(&out);
        maxsim_query_free(query);
    }
    fenced_free(&in);
    trial_free(&trial);
}

static void rows(void **state) {
    (void)state;
    static const int dims[] = {1, 64, 100, 128, 384, 1024, CODES_MAX_DIM};
    static const int counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 17};
    for (size_t d = 0; d < BASE_COUNT(dims); d++) {
        for (size_t c = 0; c < BASE_COUNT(counts); c++) {
            size_t stride = (size_t)CODE_DIM(dims[d]) + 64 * (1 + c % 2);
            check_rows(dims[d], counts[c], stride, (enum content)(c % EQUAL));
        }
    }
}

/* ---- turns ------------------------------------------------------------------------------------
 */

static void count_turn(void *ctx, int i, int thread) {
    assert_int_equal(thread, 0);
    int *turns = ctx;
    assert_int_equal(turns[0], i);
    turns[0]++;
}

static void no_device(void **state) {
    (void)state;
    int turns = 0;
    device_run(NULL, 0, count_turn, &turns);
    device_run(NULL, 7, count_turn, &turns);
    assert_int_equal(turns, 7);
}

int main(int argc, char **argv) {
#ifndef AMX_EMULATED
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return codes_bench(argc - 2, argv + 2);
#else
    (void)argc;
    (void)argv;
#endif
    for (int i = 0; i < (int)BASE_COUNT(sets); i++)
        printf("# %s: %s\n", sets[i].name, have(i) ? "tried" : "skipped, this machine has it not");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),      cmocka_unit_test(large),
        cmocka_unit_test(contents),   cmocka_unit_test(rounded_question),
        cmocka_unit_test(not_finite), cmocka_unit_test(levels),
        cmocka_unit_test(signs),      cmocka_unit_test(rows),
        cmocka_unit_test(no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
