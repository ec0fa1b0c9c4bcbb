/* Tests of vectors outside a segment: codes that leave the index score as they did in it, foreign
 * bytes are checked, floats come back, pooling is that of the index. */
#include "index/portable.h"
#include "made.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 1;

static float uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(random_state >> 40) / (float)(1 << 23) - 1;
}

/* Unit vectors, in the arena. */
static float *vectors_new(struct made *f, int n, int dim) {
    float *vectors = arena_alloc(f->arena, (size_t)n * (size_t)dim * sizeof *vectors);
    for (int i = 0; i < n; i++) {
        double sum = 0;
        float *row = vectors + (size_t)i * (size_t)dim;
        for (int d = 0; d < dim; d++) {
            row[d] = uniform();
            sum += (double)row[d] * (double)row[d];
        }
        for (int d = 0; d < dim; d++)
            row[d] /= (float)sqrt(sum);
    }
    return vectors;
}

static int space_with(struct made *f, int dim, bool late) {
    int space = -1;
    struct space_info info = {
        .name = arena_printf(f->arena, "%s %d", late ? "late" : "single", dim),
        .dim = dim,
        .late = late};
    must(index_space(&space, f->index, &info, &err));
    return space;
}

/* Document n with pages 1 and on, of counts[i] vectors each. */
static void put_pages(struct made *f, int space, int n, const float *const *vectors,
                      const int *counts, int n_pages) {
    struct index_writer *writer;
    struct store_tx *tx;
    char id[SHA256_HEX + 1];
    id_of(id, n);
    must(index_writer_open(&writer, f->index, space, id, &err));
    for (int i = 0; i < n_pages; i++)
        must(index_writer_add(writer, ITEM_PAGE, i + 1, vectors[i], counts[i], &err));
    must(begin_reading(&tx, f, n, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
}

static void cannot_load(struct made *f, int space, int n, enum item_kind kind, int item,
                        const char *code) {
    struct index_codes codes;
    char id[SHA256_HEX + 1];
    id_of(id, n);
    assert_false(index_load_codes(&codes, f->arena, f->index, space, id, kind, item, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_string_equal(err.code, code);
    assert_null(codes.data);
}

/* ---- codes ---- */

static void check_scores_of(struct made *f, int space, const struct index_codes *codes, int n,
                            const float *question, int n_query) {
    struct index_hit *hits;
    struct index_effort effort;
    int n_hits;
    float *scores = arena_alloc(f->arena, (size_t)n * sizeof *scores);
    struct index_query query = {.space = space,
                                .kind = ITEM_PAGE,
                                .vectors = question,
                                .n_vectors = n_query,
                                .limit = n,
                                .exact = true};
    must(index_search(&hits, &n_hits, &effort, f->arena, f->index, &query, &err));
    must(index_codes_score(scores, codes, n, question, n_query, &err));
    assert_int_equal(n_hits, n);
    for (int i = 0; i < n_hits; i++) {
        int item = hits[i].item - 1;
        if (hits[i].score != (double)scores[item])
            fail_msg("page %d: %.9g in the index, %.9g outside", item + 1, hits[i].score,
                     (double)scores[item]);
    }
}

static void codes_score_as_in_the_index(void **state) {
    struct made *f = *state;
    static const int dims[] = {1, 64, 100, 128, 320};
    enum { N_PAGES = 90, N_QUERY = 35 };
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    for (size_t at = 0; at < BASE_COUNT(dims); at++) {
        int dim = dims[at], space = space_with(f, dim, true), counts[N_PAGES];
        const float *vectors[N_PAGES];
        struct index_codes own[N_PAGES], foreign[N_PAGES];
        for (int i = 0; i < N_PAGES; i++) {
            counts[i] = 1 + i * 7 % 50;
            vectors[i] = vectors_new(f, counts[i], dim);
        }
        put_pages(f, space, 1, vectors, counts, N_PAGES);
        for (int i = 0; i < N_PAGES; i++) {
            must(index_load_codes(&own[i], f->arena, f->index, space, one, ITEM_PAGE, i + 1, &err));
            assert_int_equal(own[i].n, counts[i]);
            assert_int_equal(own[i].dim, dim);
            assert_int_equal(own[i].len, index_codes_bytes(counts[i], dim));
            assert_int_equal((uintptr_t)own[i].data % 64, 0);
            /* From an odd address, as a body of bytes has it. */
            uint8_t *odd = arena_alloc(f->arena, own[i].len + 1);
            memcpy(odd + 1, own[i].data, own[i].len);
            must(
                index_codes_wrap(&foreign[i], f->arena, odd + 1, own[i].len, counts[i], dim, &err));
            assert_int_equal((uintptr_t)foreign[i].data % 64, 0);
            assert_memory_equal(foreign[i].data, own[i].data, own[i].len);
        }
        float *question = vectors_new(f, N_QUERY, dim);
        memset(question + 2 * dim, 0, (size_t)dim * sizeof *question);
        memset(question + 30 * dim, 0, (size_t)dim * sizeof *question);
        check_scores_of(f, space, own, N_PAGES, question, N_QUERY);
        check_scores_of(f, space, foreign, N_PAGES, question, 1);
        check_scores_of(f, space, foreign, N_PAGES, question, N_QUERY);
        check_scores_of(f, space, foreign, N_PAGES, question + 2 * dim, 1); /* nothing but zeros */
        float score;
        must(index_codes_score(&score, own, 1, question, N_QUERY, &err));
        double wanted = maxsim_of(question, N_QUERY, vectors[0], counts[0], dim);
        assert_true(fabs((double)score - wanted) < 0.02 * N_QUERY);
    }
}

static void questions_are_checked(void **state) {
    struct made *f = *state;
    int counts[] = {3}, space = space_with(f, DIM, true);
    const float *vectors[] = {vectors_new(f, 3, DIM)};
    put_pages(f, space, 1, vectors, counts, 1);
    struct index_codes codes;
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    must(index_load_codes(&codes, f->arena, f->index, space, one, ITEM_PAGE, 1, &err));
    float question[DIM] = {1}, score;
    struct index_fit fit;
    assert_false(index_codes_score(&score, &codes, 1, question, 0, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_false(index_codes_score(&score, &codes, 1, question, MAXSIM_MAX_QUERY + 1, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_false(index_codes_fit(&fit, f->arena, &codes, question, MAXSIM_MAX_QUERY + 1, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    question[7] = NAN;
    assert_false(index_codes_score(&score, &codes, 1, question, 1, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    must(index_codes_score(&score, &codes, 0, question, 1, &err));
}

static void codes_fit_as_in_the_index(void **state) {
    struct made *f = *state;
    int counts[] = {37}, space = space_with(f, 100, true);
    const float *vectors[] = {vectors_new(f, 37, 100)};
    put_pages(f, space, 1, vectors, counts, 1);
    float *question = vectors_new(f, 5, 100);
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    struct index_codes codes;
    struct index_fit inside, outside;
    must(index_load_codes(&codes, f->arena, f->index, space, one, ITEM_PAGE, 1, &err));
    must(index_fit(&inside, f->arena, f->index, space, one, ITEM_PAGE, 1, question, 5, &err));
    must(index_codes_fit(&outside, f->arena, &codes, question, 5, &err));
    assert_int_equal(outside.n_query, 5);
    assert_int_equal(outside.n_vectors, 37);
    assert_memory_equal(outside.values, inside.values, 5 * 37 * sizeof(float));
}

static void what_is_not_there_is_said(void **state) {
    struct made *f = *state;
    int late = space_with(f, DIM, true), single = space_with(f, DIM + 1, false), counts[] = {40};
    const float *vectors[] = {vectors_new(f, 40, DIM + 1)};
    put_pages(f, late, 1, vectors, counts, 1);
    counts[0] = 1;
    put_pages(f, single, 2, vectors, counts, 1);
    cannot_load(f, late, 1, ITEM_PAGE, 2, "not_found");
    cannot_load(f, late, 1, ITEM_CHUNK, 1, "not_found");
    cannot_load(f, late, 2, ITEM_PAGE, 1, "not_found");
    cannot_load(f, 77, 1, ITEM_PAGE, 1, "not_found");
    cannot_load(f, single, 2, ITEM_PAGE, 1, "no_patches");
    float *values;
    char id[SHA256_HEX + 1];
    id_of(id, 1);
    assert_false(index_load_vector(&values, f->arena, f->index, late, id, ITEM_PAGE, 1, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_null(values);

    index_drop_space(f->index, late, &err);
    f->settings.keep_full = false;
    made_reopen_index(f);
    late = space_with(f, DIM, true);
    counts[0] = 40;
    put_pages(f, late, 1, vectors, counts, 1);
    cannot_load(f, late, 1, ITEM_PAGE, 1, "no_patches");
}

static void damaged_codes_do_not_leave(void **state) {
    struct made *f = *state;
    int counts[] = {40}, space = space_with(f, DIM, true);
    const float *vectors[] = {vectors_new(f, 40, DIM)};
    put_pages(f, space, 1, vectors, counts, 1);
    struct index_codes codes;
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    must(index_load_codes(&codes, f->arena, f->index, space, one, ITEM_PAGE, 1, &err));
    index_close(f->index);
    f->index = NULL;
    /* A byte of the codes, found by what they are. */
    char *path = segment_file(f, space, 1), *data, *at;
    size_t len;
    must(file_read(&data, &len, path, (size_t)1 << 30, &err));
    at = memmem(data, len, codes.data, codes.len);
    assert_non_null(at);
    at[100] ^= 1;
    must(file_write_durable(path, data, len, &err));
    mem_free(data);
    made_reopen_index(f);
    cannot_load(f, space, 1, ITEM_PAGE, 1, "not_found");
    assert_string_equal(f->damaged, "1:1 000001.seg full codes; ");
}

/* ---- foreign bytes ---- */

static void foreign_bytes_are_checked(void **state) {
    struct made *f = *state;
    enum { N = 37, D = 100 };
    int counts[] = {N}, space = space_with(f, D, true);
    const float *vectors[] = {vectors_new(f, N, D)};
    put_pages(f, space, 1, vectors, counts, 1);
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    struct index_codes codes, out;
    must(index_load_codes(&codes, f->arena, f->index, space, one, ITEM_PAGE, 1, &err));
    uint8_t *bytes = arena_alloc(f->arena, codes.len);
    size_t scales = codes.len - code_scales_bytes(N);
    static const struct {
        int n, dim, longer;
    } wrong[] = {
        {0, D, 0},     {-1, D, 0}, {(1 << 20) + 1, D, 0}, {N, 0, 0},  {N, -128, 0},
        {N, 65537, 0}, {N, 64, 0}, {N + 16, D, 0},        {N, D, -1}, {N, D, 1},
        {N, D, 64},
    };
    for (size_t i = 0; i < BASE_COUNT(wrong); i++) {
        assert_false(index_codes_wrap(&out, f->arena, codes.data,
                                      codes.len + (size_t)wrong[i].longer, wrong[i].n, wrong[i].dim,
                                      &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_null(out.data);
    }
    assert_false(index_codes_wrap(&out, f->arena, codes.data, 0, N, D, &err));
    /* Infinite, no number, negative, too large; of the first vector, the last, the filling. */
    static const uint16_t bad_scales[] = {0x7f80, 0x7fc0, 0xff80, 0xbf80, 0x6500};
    static const int places[] = {0, N - 1, N, 47};
    for (size_t i = 0; i < BASE_COUNT(bad_scales); i++) {
        for (size_t j = 0; j < BASE_COUNT(places); j++) {
            memcpy(bytes, codes.data, codes.len);
            memcpy(bytes + scales + 2 * places[j], &bad_scales[i], 2);
            assert_false(index_codes_wrap(&out, f->arena, bytes, codes.len, N, D, &err));
            assert_int_equal(err.kind, ERROR_INPUT);
        }
    }
    /* A filling that would count: its scale, a code of it. */
    memcpy(bytes, codes.data, codes.len);
    bytes[codes.len - 1] ^= 1;
    assert_false(index_codes_wrap(&out, f->arena, bytes, codes.len, N, D, &err));
    memcpy(bytes, codes.data, codes.len);
    bytes[scales - 1] ^= 1;
    assert_false(index_codes_wrap(&out, f->arena, bytes, codes.len, N, D, &err));
    /* Any codes and any scales within bounds are fine, the lowest code too. */
    memset(bytes, 0x80, scales);
    memset(bytes + scales, 0x3c, codes.len - scales);
    must(index_codes_wrap(&out, f->arena, bytes, codes.len, N, D, &err));
    float question[D] = {1}, score, *decoded;
    must(index_codes_score(&score, &out, 1, question, 1, &err));
    assert_true(isfinite(score));
    must(index_codes_decode(&decoded, f->arena, &out, &err));
    assert_true(isfinite(decoded[0]));
}

/* ---- floats ---- */

static void codes_decode_to_what_was_coded(void **state) {
    struct made *f = *state;
    static const int dims[] = {1, 5, 64, 100, 128, 384, 1000};
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    for (size_t at = 0; at < BASE_COUNT(dims); at++) {
        int dim = dims[at], counts[] = {1, 16, 45}, space = space_with(f, dim, true);
        const float *vectors[3];
        for (int i = 0; i < 3; i++)
            vectors[i] = vectors_new(f, counts[i], dim);
        put_pages(f, space, 1, vectors, counts, 3);
        for (int i = 0; i < 3; i++) {
            struct index_codes codes;
            float *decoded;
            must(index_load_codes(&codes, f->arena, f->index, space, one, ITEM_PAGE, i + 1, &err));
            must(index_codes_decode(&decoded, f->arena, &codes, &err));
            /* A level is at most 4/127 of the spread wide: a unit vector of few dimensions has it
             * largest. */
            for (int v = 0; v < counts[i]; v++) {
                double wrong = 0;
                for (int d = 0; d < dim; d++) {
                    double off = (double)decoded[v * dim + d] - (double)vectors[i][v * dim + d];
                    wrong += off * off;
                }
                if (!(sqrt(wrong) < 0.015))
                    fail_msg("dim %d, vector %d of %d is %g off", dim, v, counts[i], sqrt(wrong));
            }
        }
    }
}

static void the_rotation_goes_back(void **state) {
    struct made *f = *state;
    static const int dims[] = {1, 2, 3, 31, 64, 127, 128, 129, 384, 1024, 4100};
    for (size_t at = 0; at < BASE_COUNT(dims); at++) {
        int dim = dims[at];
        float *vectors = vectors_new(f, 3, dim);
        float *out = arena_alloc(f->arena, 3 * (size_t)dim * sizeof *out);
        rotate_vectors(out, vectors, 3, dim);
        rotate_vectors_back(out, out, 3, dim);
        for (int i = 0; i < 3 * dim; i++)
            assert_float_equal(out[i], vectors[i], 1e-6);
    }
}

static void single_vectors_come_out(void **state) {
    struct made *f = *state;
    static const int dims[] = {1, 63, 384, 1024};
    for (size_t at = 0; at < BASE_COUNT(dims); at++) {
        int dim = dims[at], counts[] = {1, 1, 1}, space = space_with(f, dim, false);
        const float *vectors[3];
        char one[SHA256_HEX + 1];
        id_of(one, 1);
        for (int i = 0; i < 3; i++)
            vectors[i] = vectors_new(f, 1, dim);
        put_pages(f, space, 1, vectors, counts, 3);
        for (int i = 0; i < 3; i++) {
            float *values;
            must(
                index_load_vector(&values, f->arena, f->index, space, one, ITEM_PAGE, i + 1, &err));
            double wrong = 0;
            for (int d = 0; d < dim; d++)
                wrong += pow((double)values[d] - (double)vectors[i][d], 2);
            assert_true(sqrt(wrong) < 0.015);
        }
        float *values;
        assert_false(
            index_load_vector(&values, f->arena, f->index, space, one, ITEM_PAGE, 4, &err));
        assert_int_equal(err.kind, ERROR_MISSING);
    }
}

static void pooling_is_the_indexes(void **state) {
    struct made *f = *state;
    enum { N = 50, D = 96 };
    float *vectors = vectors_new(f, N, D), out[N * D], wanted[N * D];
    struct pooling *pooling;
    must(pooling_new(&pooling, vectors, N, D, &err));
    static const int cuts[] = {1, 16, 49, 50};
    for (size_t i = 0; i < BASE_COUNT(cuts); i++) {
        int n_out = cuts[i];
        pooling_cut(wanted, pooling, n_out);
        must(index_pool(out, n_out, vectors, N, D, &err));
        assert_memory_equal(out, wanted, (size_t)n_out * D * sizeof *out);
        for (int v = 0; v < n_out; v++)
            assert_float_equal(maxsim_of(out + v * D, 1, out + v * D, 1, D), 1, 1e-5);
    }
    pooling_free(pooling);
    for (int d = 0; d < N * D; d++)
        assert_float_equal(out[d], vectors[d], 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes_score_as_in_the_index, made_open, made_close),
        cmocka_unit_test_setup_teardown(questions_are_checked, made_open, made_close),
        cmocka_unit_test_setup_teardown(codes_fit_as_in_the_index, made_open, made_close),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_said, made_open, made_close),
        cmocka_unit_test_setup_teardown(damaged_codes_do_not_leave, made_open, made_close),
        cmocka_unit_test_setup_teardown(foreign_bytes_are_checked, made_open, made_close),
        cmocka_unit_test_setup_teardown(codes_decode_to_what_was_coded, made_open, made_close),
        cmocka_unit_test_setup_teardown(the_rotation_goes_back, made_open, made_close),
        cmocka_unit_test_setup_teardown(single_vectors_come_out, made_open, made_close),
        cmocka_unit_test_setup_teardown(pooling_is_the_indexes, made_open, made_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
