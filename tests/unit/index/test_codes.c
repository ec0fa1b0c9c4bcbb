/* Tests of codes: the rotation as the format has it, layouts read by their description, errors
 * within their bounds, scores as of the vectors themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/segment.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

static struct error err;
static uint64_t random_state;

static double uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((double)(random_state >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(2 * 3.14159265358979323846 * uniform());
}

/* Unit vectors. */
static float *vectors_new(int n, int dim) {
    float *vectors = mem_alloc((size_t)n * (size_t)dim * sizeof *vectors);
    for (int i = 0; i < n; i++) {
        double square = 0;
        for (int d = 0; d < dim; d++) {
            vectors[i * dim + d] = (float)normal();
            square += (double)vectors[i * dim + d] * (double)vectors[i * dim + d];
        }
        for (int d = 0; d < dim; d++)
            vectors[i * dim + d] /= (float)sqrt(square);
    }
    return vectors;
}

static void *aligned_new(size_t size_bytes) {
    void *block = aligned_alloc(64, (size_bytes + 127) / 64 * 64); /* freed by free */
    assert_non_null(block);
    memset(block, 0xa5, (size_bytes + 127) / 64 * 64);
    return block;
}

struct item {
    struct slot slot;
    void *scan, *record;
    size_t record_bytes;
};

static struct item item_of(const struct shape *shape, const float *vectors, int n) {
    struct item item = {.slot = {.n = (uint32_t)n, .n_pooled = (uint32_t)shape_n_pooled(shape, n)}};
    item.scan = aligned_new(shape_scan_bytes(shape));
    item.record_bytes = shape_pooled_bytes(shape, n) + shape_full_bytes(shape, n);
    if (item.record_bytes > 0)
        item.record = aligned_new(item.record_bytes);
    must(item_encode(item.scan, item.record, shape, vectors, n, &err));
    /* Nothing past the ends. */
    assert_int_equal(((uint8_t *)item.scan)[shape_scan_bytes(shape)], 0xa5);
    if (item.record)
        assert_int_equal(((uint8_t *)item.record)[item.record_bytes], 0xa5);
    return item;
}

static void item_fini(struct item *item) {
    free(item->scan);
    free(item->record);
}

/* Element d of vector v, as device.h describes the layout. */
static int code_at(const struct coded *part, int dim, int v, int d) {
    size_t group = (size_t)(v / 16) * 16 * (size_t)CODE_DIM(dim);
    size_t bit = (group + (size_t)(d / 4) * 64 + (size_t)(v % 16) * 4 + (size_t)(d % 4)) *
                 (size_t)part->bits;
    int byte = ((const uint8_t *)part->codes)[bit / 8];
    int code = byte >> bit % 8 & ((1 << part->bits) - 1);
    return part->bits == 8 ? (int8_t)byte : codes_levels(part->bits)[code];
}

static double scale_at(const struct coded *part, int v) {
    uint32_t bits = (uint32_t)part->scales[v] << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return (double)scale;
}

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* ---- the rotation ---- */

/* Values of files that exist: they never change. */
static void rotation_is_the_formats(void **state) {
    (void)state;
    static const struct {
        int dim;
        float first[4], last;
    } wanted[] = {
        {1, {-8}, -8},
        {5, {1, -7.5f, 10.5f, 2.5f}, -4.5f},
        {128, {2.28125f, -2.09375f, 7.593751f, 2.09375f}, -3.28125f},
        {384, {-0.251709f, -4.862549f, -8.80249f, -5.002197f}, -1.261169f},
    };
    for (size_t i = 0; i < BASE_COUNT(wanted); i++) {
        int dim = wanted[i].dim;
        float vector[384], out[384];
        for (int d = 0; d < dim; d++)
            vector[d] = (float)(d * d % 17 - 8);
        rotate_vectors(out, vector, 1, dim);
        for (int d = 0; d < 4 && d < dim; d++)
            assert_float_equal(out[d], wanted[i].first[d], 1e-5);
        assert_float_equal(out[dim - 1], wanted[i].last, 1e-5);
    }
}

static void rotation_is_orthogonal(void **state) {
    (void)state;
    const int dims[] = {1, 2, 3, 5, 8, 31, 64, 96, 127, 128, 129, 320, 384, 768, 1000, 1023, 1024};
    for (size_t i = 0; i < BASE_COUNT(dims); i++) {
        int dim = dims[i];
        float *vectors = vectors_new(3, dim), *out = mem_alloc(3 * (size_t)dim * sizeof *out);
        rotate_vectors(out, vectors, 3, dim);
        for (int a = 0; a < 3; a++) {
            for (int b = 0; b < 3; b++)
                assert_float_equal(dot(out + a * dim, out + b * dim, dim),
                                   dot(vectors + a * dim, vectors + b * dim, dim), 2e-6);
        }
        rotate_vectors(vectors, vectors, 3, dim);
        assert_memory_equal(vectors, out, 3 * (size_t)dim * sizeof *out);
        mem_free(vectors);
        mem_free(out);
    }
}

/* A vector that is one loud element is spread over all of them: no element has more than seven
 * times an even share of its length, and no half of them goes without. */
static void loud_elements_are_spread(void **state) {
    (void)state;
    const int dims[] = {64, 96, 128, 320, 384, 511, 768, 1023};
    for (size_t i = 0; i < BASE_COUNT(dims); i++) {
        int dim = dims[i];
        float vector[1023], out[1023];
        for (int loud = 0; loud < dim; loud++) {
            memset(vector, 0, sizeof vector);
            vector[loud] = 1;
            rotate_vectors(out, vector, 1, dim);
            double halves[2] = {0};
            for (int d = 0; d < dim; d++) {
                assert_true(fabsf(out[d]) < 7 / sqrtf((float)dim));
                halves[d >= dim / 2] += (double)out[d] * (double)out[d];
            }
            assert_true(halves[0] > 0.2 && halves[1] > 0.2);
        }
    }
}

/* ---- sizes ---- */

static void sizes(void **state) {
    (void)state;
    struct shape shape = {.dim = 128,
                          .late = true,
                          .scan_vectors = 32,
                          .scan_bits = 1,
                          .pool_bits = 2,
                          .pool_factor = 4};
    assert_int_equal(shape_scan_bytes(&shape), 32 * 128 / 8);
    assert_int_equal(shape_n_pooled(&shape, 1030), 256); /* 257.5, to whole groups of 16 */
    assert_int_equal(shape_n_pooled(&shape, 1055), 272);
    assert_int_equal(shape_n_pooled(&shape, 20), 16);
    assert_int_equal(shape_n_pooled(&shape, 9), 9);
    assert_int_equal(shape_n_pooled(&shape, 1), 1);
    assert_int_equal(shape_n_pooled(&shape, 1 << 20), 1 << 18);
    assert_int_equal(shape_pooled_bytes(&shape, 1030), 16 * 512 + 16 * 32);
    assert_int_equal(shape_full_bytes(&shape, 1030), 0);
    size_t page = sizeof(struct slot) + shape_scan_bytes(&shape) + shape_pooled_bytes(&shape, 1030);
    assert_true(page < 10000);
    shape.keep_full = true;
    assert_int_equal(shape_full_bytes(&shape, 1030), 65 * 2048 + 65 * 32 + 32);
    assert_true(page + shape_full_bytes(&shape, 1030) < 145000);
    shape.pool_factor = 1;
    assert_int_equal(shape_n_pooled(&shape, 1030), 1030);
    shape.pool_bits = 0;
    assert_int_equal(shape_n_pooled(&shape, 1030), 0);
    assert_int_equal(shape_pooled_bytes(&shape, 1030), 0);
    shape = (struct shape){.dim = 384, .scan_bits = 8, .scan_vectors = 1};
    assert_int_equal(shape_scan_bytes(&shape), 384 + 64);
    assert_int_equal(shape_pooled_bytes(&shape, 1) + shape_full_bytes(&shape, 1), 0);
    shape.dim = 65536;
    assert_int_equal(shape_scan_bytes(&shape), 65536 + 64);
    for (int dim = 1; dim < 300; dim++) {
        for (int n = 1; n < 40; n += 5) {
            shape = (struct shape){.dim = dim,
                                   .late = true,
                                   .keep_full = true,
                                   .scan_vectors = 8,
                                   .pool_bits = 1 << n % 4,
                                   .pool_factor = 1 + n % 3};
            assert_int_equal(shape_scan_bytes(&shape) % 64, 0);
            assert_int_equal(shape_pooled_bytes(&shape, n) % 64, 0);
            assert_int_equal(shape_full_bytes(&shape, n) % 64, 0);
        }
    }
}

/* ---- codes ---- */

/* 8 bits: every element within half a step; the step at most an 80th of the largest element, which
 * is a 127th and what bf16 rounds up. */
static void int8_is_near(void **state) {
    (void)state;
    const int dims[] = {1, 3, 64, 100, 128, 384};
    for (size_t i = 0; i < BASE_COUNT(dims); i++) {
        int dim = dims[i], n = 21;
        struct shape shape = {.dim = dim, .late = true, .keep_full = true, .scan_vectors = 8};
        float *vectors = vectors_new(n, dim);
        for (int d = 0; d < dim; d++) {
            vectors[d] *= 1e-20f;
            vectors[dim + d] *= 1e20f;
            vectors[2 * dim + d] = 0;
        }
        struct item item = item_of(&shape, vectors, n);
        struct coded full = slot_full(&shape, &item.slot, item.record);
        assert_int_equal(full.n, n);
        rotate_vectors(vectors, vectors, n, dim);
        for (int v = 0; v < 32; v++) {
            const float *vector = vectors + (v < n ? v : n - 1) * dim;
            double scale = scale_at(&full, v), peak = 0;
            for (int d = 0; d < dim; d++)
                peak = fmax(peak, fabs((double)vector[d]));
            assert_true(scale >= peak / 127 * 0.9999 && scale <= peak / 127 * 1.008);
            for (int d = 0; d < CODE_DIM(dim); d++) {
                double element = d < dim ? (double)vector[d] : 0;
                int code = code_at(&full, dim, v, d);
                assert_in_range(code + 127, 0, 254);
                assert_true(fabs(scale * code - element) <= scale * 0.50001);
            }
        }
        mem_free(vectors);
        item_fini(&item);
    }
}

/* The squared error of a normal variable's best quantiser is 0.363, 0.117 and 0.0095 (Max, 1960,
 * table I); what is left is a vector's cosine with its code, squared. */
static void fewer_bits_are_as_near_as_they_can(void **state) {
    (void)state;
    const double error[] = {0, 0.3634, 0.1175, 0, 0.009497}, floor_of[] = {0, 0.5, 0.8, 0, 0.96};
    const int dim = 128, n = 400;
    float *vectors = vectors_new(n, dim), *rotated = mem_alloc(400 * 128 * sizeof(float));
    rotate_vectors(rotated, vectors, n, dim);
    for (int bits = 1; bits <= 4; bits *= 2) {
        struct shape shape = {
            .dim = dim, .late = true, .scan_vectors = 8, .pool_bits = bits, .pool_factor = 1};
        struct item item = item_of(&shape, vectors, n);
        struct coded pooled = slot_pooled(&shape, &item.slot, item.record);
        assert_int_equal(pooled.n, n);
        double mean = 0, least = 1;
        for (int v = 0; v < n; v++) {
            float decoded[128];
            for (int d = 0; d < dim; d++)
                decoded[d] = (float)(scale_at(&pooled, v) * code_at(&pooled, dim, v, d));
            double product = dot(decoded, rotated + v * dim, dim);
            double square = product * product / dot(decoded, decoded, dim);
            mean += square / n;
            least = fmin(least, square);
            /* 1 bit: its product with the vector is the vector's own. More: no scale is nearer. */
            double own = bits == 1 ? product : product / dot(decoded, decoded, dim);
            assert_float_equal(own, 1, 0.005);
        }
        assert_float_equal(mean, 1 - error[bits], 0.01);
        assert_true(least > floor_of[bits]);
        item_fini(&item);
    }
    mem_free(vectors);
    mem_free(rotated);
}

/* As few vectors as the scan has, or fewer: signs are their own, again and again. */
static void signs_are_of_the_vectors(void **state) {
    (void)state;
    const int dims[] = {3, 64, 100, 128, 384}, counts[] = {1, 5, 16};
    for (size_t i = 0; i < BASE_COUNT(dims) * BASE_COUNT(counts); i++) {
        int dim = dims[i / 3], n = counts[i % 3], words = CODE_DIM(dim) / 64;
        struct shape shape = {.dim = dim, .late = true, .keep_full = true, .scan_vectors = 16};
        float *vectors = vectors_new(n, dim);
        struct item item = item_of(&shape, vectors, n);
        rotate_vectors(vectors, vectors, n, dim);
        const uint64_t *scan = item.scan;
        for (int v = 0; v < 16; v++) {
            for (int d = 0; d < CODE_DIM(dim); d++) {
                uint64_t word = scan[(v / 8 * words + d / 64) * 8 + v % 8];
                bool minus = d < dim && vectors[v % n * dim + d] < 0;
                assert_int_equal(word >> d % 64 & 1, minus);
            }
        }
        mem_free(vectors);
        item_fini(&item);
    }
}

/* Pooled codes are of the clusters' means, which are unit vectors. */
static void pooled_codes_are_of_means(void **state) {
    (void)state;
    const int dim = 48, n = 100;
    struct shape shape = {.dim = dim,
                          .late = true,
                          .keep_full = true,
                          .scan_vectors = 8,
                          .pool_bits = 8,
                          .pool_factor = 3};
    float *vectors = vectors_new(n, dim), means[32 * 48];
    struct item item = item_of(&shape, vectors, n);
    struct coded pooled = slot_pooled(&shape, &item.slot, item.record);
    assert_int_equal(pooled.n, 32);
    struct pooling *pooling;
    must(pooling_new(&pooling, vectors, n, dim, &err));
    pooling_cut(means, pooling, 32);
    pooling_free(pooling);
    rotate_vectors(means, means, 32, dim);
    for (int v = 0; v < 32; v++) {
        for (int d = 0; d < dim; d++)
            assert_float_equal(scale_at(&pooled, v) * code_at(&pooled, dim, v, d),
                               means[v * dim + d], 0.005);
    }
    mem_free(vectors);
    item_fini(&item);
}

/* ---- scores ---- */

/* A question vector's best product by codes differs from fp32's by no more than the codes' part of
 * the length at right angles would give five times over: 5 * sqrt(error / dim). */
static void scores_are_near(void **state) {
    (void)state;
    const int dim = 128, n = 77, n_query = 24;
    const double error[] = {0, 0.363 / 0.637, 0.117, 0, 0.0095, 0, 0, 0, 0.0002};
    float *vectors = vectors_new(n, dim), *question = vectors_new(n_query, dim);
    for (int q = 0; q < n_query; q++) { /* near some vector */
        for (int d = 0; d < dim; d++)
            question[q * dim + d] = 0.6f * question[q * dim + d] + 0.8f * vectors[q * 3 * dim + d];
    }
    double wanted = maxsim_of(question, n_query, vectors, n, dim);
    float *rotated = mem_alloc((size_t)(n_query * dim) * sizeof *rotated);
    rotate_vectors(rotated, question, n_query, dim);
    struct maxsim_query *query = maxsim_query_new(rotated, n_query, dim);
    for (int bits = 1; bits <= 8; bits *= 2) {
        struct shape shape = {.dim = dim,
                              .late = true,
                              .keep_full = true,
                              .scan_vectors = 8,
                              .pool_bits = bits,
                              .pool_factor = 1};
        struct item item = item_of(&shape, vectors, n);
        struct coded parts[] = {slot_pooled(&shape, &item.slot, item.record),
                                slot_full(&shape, &item.slot, item.record)};
        float scores[2];
        maxsim_codes(scores, query, parts, 2);
        assert_float_equal(scores[0], wanted, n_query * 5 * sqrt(error[bits] / dim));
        assert_float_equal(scores[1], wanted, n_query * 5 * sqrt(error[8] / dim));
        item_fini(&item);
    }
    maxsim_query_free(query);
    mem_free(rotated);
    mem_free(vectors);
    mem_free(question);
}

static void single_vectors(void **state) {
    (void)state;
    const int dims[] = {1, 64, 100, 384, 65536};
    for (size_t i = 0; i < BASE_COUNT(dims); i++) {
        int dim = dims[i];
        struct shape shape = {.dim = dim, .scan_vectors = 1, .scan_bits = 8};
        float *vectors = vectors_new(2, dim);
        struct item item = item_of(&shape, vectors, 1);
        assert_int_equal(item.record_bytes, 0);
        double wanted = dot(vectors, vectors + dim, dim);
        rotate_vectors(vectors, vectors, 2, dim);
        struct maxsim_query *query = maxsim_query_new(vectors + dim, 1, dim);
        float score;
        dot_rows(&score, query, item.scan, shape_scan_bytes(&shape), 1);
        assert_float_equal(score, wanted, 5 * sqrt(2 * 0.0002 / dim));
        maxsim_query_free(query);
        mem_free(vectors);
        item_fini(&item);
    }
}

/* ---- what is refused, and what is not ---- */

static void what_is_no_number_is_refused(void **state) {
    (void)state;
    struct shape shapes[] = {
        {.dim = 96,
         .late = true,
         .keep_full = true,
         .scan_vectors = 8,
         .pool_bits = 1,
         .pool_factor = 2},
        {.dim = 96, .scan_vectors = 1, .scan_bits = 8},
    };
    const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; i < 8; i++) {
        const struct shape *shape = &shapes[i % 2];
        int n = shape->late ? 40 : 1;
        float *vectors = vectors_new(n, 96);
        struct item item = item_of(shape, vectors, n);
        vectors[n * 96 - 1] = bad[i / 2];
        assert_false(item_encode(item.scan, item.record, shape, vectors, n, &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_false(item_encode(item.scan, item.record, shape, vectors, 0, &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_false(item_encode(item.scan, item.record, shape, vectors, (1 << 20) + 1, &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        mem_free(vectors);
        item_fini(&item);
    }
    float two[192] = {0};
    uint8_t scan[192];
    assert_false(item_encode(scan, NULL, &shapes[1], two, 2, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
}

static void zeros_are_fine(void **state) {
    (void)state;
    const int dim = 128, n = 40;
    float *vectors = mem_alloc((size_t)(n * dim) * sizeof *vectors),
          *question = vectors_new(3, dim);
    struct maxsim_query *query = maxsim_query_new(question, 3, dim);
    for (int bits = 1; bits <= 8; bits *= 2) {
        struct shape shape = {.dim = dim,
                              .late = true,
                              .keep_full = true,
                              .scan_vectors = 8,
                              .pool_bits = bits,
                              .pool_factor = 3};
        struct item item = item_of(&shape, vectors, n);
        struct coded parts[] = {slot_pooled(&shape, &item.slot, item.record),
                                slot_full(&shape, &item.slot, item.record)};
        float scores[] = {1, 1};
        maxsim_codes(scores, query, parts, 2);
        assert_float_equal(scores[0], 0, 0);
        assert_float_equal(scores[1], 0, 0);
        item_fini(&item);
    }
    maxsim_query_free(query);
    mem_free(vectors);
    mem_free(question);
}

/* The same vectors are the same bytes. */
static void codes_are_repeatable(void **state) {
    (void)state;
    struct shape shape = {.dim = 128,
                          .late = true,
                          .keep_full = true,
                          .scan_vectors = 32,
                          .pool_bits = 2,
                          .pool_factor = 4};
    float *vectors = vectors_new(200, 128);
    struct item a = item_of(&shape, vectors, 200), b = item_of(&shape, vectors, 200);
    assert_memory_equal(a.scan, b.scan, shape_scan_bytes(&shape));
    assert_memory_equal(a.record, b.record, a.record_bytes);
    item_fini(&a);
    item_fini(&b);
    mem_free(vectors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotation_is_the_formats),
        cmocka_unit_test(rotation_is_orthogonal),
        cmocka_unit_test(loud_elements_are_spread),
        cmocka_unit_test(sizes),
        cmocka_unit_test(int8_is_near),
        cmocka_unit_test(fewer_bits_are_as_near_as_they_can),
        cmocka_unit_test(signs_are_of_the_vectors),
        cmocka_unit_test(pooled_codes_are_of_means),
        cmocka_unit_test(scores_are_near),
        cmocka_unit_test(single_vectors),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(zeros_are_fine),
        cmocka_unit_test(codes_are_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
