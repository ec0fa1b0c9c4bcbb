/* Documents that lack vectors: listed, counted, made by a drop; jobs of a kind that are on their
 * way. */
#include "tests.h"

#include "store/lacking.h"

#include <stdio.h>
#include <stdlib.h>

static int space_of(struct fixture *f, const char *name) {
    struct store_tx *tx;
    struct space_row made;
    must(store_begin(&tx, f->store, &err));
    must(store_put_space(tx, &made, name, 4, true, &err));
    must(store_commit(tx, &err));
    return made.space;
}

static void put_vectors(struct fixture *f, int space, int n, const struct vector_row *rows,
                        int n_rows) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(store_put_vectors(tx, space, test_id(f->arena, n), rows, n_rows, &err));
    must(store_commit(tx, &err));
}

/* "1 3 (2 documents, 2 pages)" */
static const char *lacking(struct fixture *f, const struct vector_need *needs, int n_needs,
                           int64_t after, int64_t until, int limit) {
    struct lacking_row *rows;
    struct lacking_count count;
    int n;
    char *text = arena_strdup(f->arena, "");
    must(store_list_lacking(&rows, &n, f->arena, f->store, needs, n_needs, after, until, limit,
                            &err));
    for (int i = 0; i < n; i++)
        text = arena_printf(f->arena, "%s%ld ", text, strtol(rows[i].doc_id, NULL, 16));
    must(store_count_lacking(&count, f->store, needs, n_needs, after, until, &err));
    if (n > 0 && n == count.documents)
        assert_int_equal(count.last, rows[n - 1].doc_no);
    return arena_printf(f->arena, "%s(%d documents, %d pages)", text, (int)count.documents,
                        (int)count.pages);
}

static void what_lacks_vectors_is_listed(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    int pages = space_of(&f, "pages"), chunks = space_of(&f, "chunks");
    for (int i = 1; i <= 4; i++)
        put_text(&f, i, "words");
    put_texts(&f, 5, "picture.png", NULL, 0); /* a page without a passage */
    struct store_tx *tx;
    bool existed;
    struct document_row waiting = {.filename = "w", .source_path = "", .format = "", .group = ""};
    snprintf(waiting.doc_id, sizeof waiting.doc_id, "%s", test_id(f.arena, 6));
    must(store_begin(&tx, f.store, &err));
    must(store_put_document(tx, &existed, &waiting, &err));
    must(store_commit(tx, &err));
    put_vectors(&f, pages, 1, &(struct vector_row){10, VECTORS_PAGE, 1}, 1);
    put_vectors(&f, chunks, 1, &(struct vector_row){11, VECTORS_CHUNK, 0}, 1);
    put_vectors(&f, chunks, 3, &(struct vector_row){12, VECTORS_CHUNK, 0}, 1);
    const struct vector_need both[] = {{VECTORS_PAGE, pages}, {VECTORS_CHUNK, chunks}};
    const struct vector_need any[] = {{VECTORS_PAGE, 0}, {VECTORS_CHUNK, 0}};
    assert_string_equal(lacking(&f, both, 1, 0, INT64_MAX, 9), "2 3 4 5 (4 documents, 4 pages)");
    assert_string_equal(lacking(&f, both + 1, 1, 0, INT64_MAX, 9), "2 4 (2 documents, 2 pages)");
    assert_string_equal(lacking(&f, both, 2, 0, INT64_MAX, 9), "2 3 4 5 (4 documents, 4 pages)");
    assert_string_equal(lacking(&f, any, 2, 0, INT64_MAX, 9), "1 2 3 4 5 (5 documents, 5 pages)");
    assert_string_equal(lacking(&f, any + 1, 1, 0, INT64_MAX, 2), "1 2 (4 documents, 4 pages)");
    assert_string_equal(lacking(&f, any, 2, 1, 3, 9), "2 3 (2 documents, 2 pages)");
    assert_string_equal(lacking(&f, any, 0, 0, INT64_MAX, 9), "(0 documents, 0 pages)");
    fixture_close(&f);
}

static void a_drop_takes_one_space_of_one_document(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store_tx *tx;
    int64_t n;
    int a = space_of(&f, "a"), b = space_of(&f, "b");
    const struct vector_row rows[] = {
        {1, VECTORS_PAGE, 1}, {2, VECTORS_CHUNK, 0}, {3, VECTORS_PAGE, 1}, {4, VECTORS_PAGE, 1}};
    put_text(&f, 1, "words");
    put_text(&f, 2, "words");
    put_vectors(&f, a, 1, rows, 2);
    put_vectors(&f, b, 1, rows + 2, 1);
    put_vectors(&f, a, 2, rows + 3, 1);
    must(store_begin(&tx, f.store, &err));
    must(store_drop_vectors(tx, &n, a, test_id(f.arena, 1), &err));
    assert_int_equal(n, 2);
    must(store_drop_vectors(tx, &n, a, test_id(f.arena, 1), &err));
    assert_int_equal(n, 0);
    must(store_commit(tx, &err));
    const struct vector_need in_a = {VECTORS_PAGE, a}, in_b = {VECTORS_PAGE, b};
    assert_string_equal(lacking(&f, &in_a, 1, 0, INT64_MAX, 9), "1 (1 documents, 1 pages)");
    assert_string_equal(lacking(&f, &in_b, 1, 0, INT64_MAX, 9), "2 (1 documents, 1 pages)");
    fixture_close(&f);
}

static void live_jobs_of_a_kind_are_counted(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store_tx *tx;
    struct job_row claimed;
    int64_t job_id, n;
    bool found;
    put_text(&f, 1, "words");
    must(store_begin(&tx, f.store, &err));
    must(store_put_job(tx, &job_id, "embed", test_id(f.arena, 1), "f", 2, &err));
    must(store_put_job(tx, &job_id, "embed", test_id(f.arena, 1), "f", 2, &err));
    must(store_put_job(tx, &job_id, "ingest", test_id(f.arena, 1), "f", 2, &err));
    must(store_commit(tx, &err));
    must(store_claim_job(&claimed, &found, f.arena, f.store, "run", time_wall_ms(), &err));
    must(store_count_live_jobs(&n, f.store, "embed", &err));
    assert_int_equal(n, 2);
    must(store_begin(&tx, f.store, &err));
    must(store_end_job(tx, claimed.job_id, "run", 1, JOB_COMPLETED, "", "", 0, 1, &err));
    must(store_commit(tx, &err));
    must(store_count_live_jobs(&n, f.store, "embed", &err));
    assert_int_equal(n, 1);
    fixture_close(&f);
}

int run_lacking_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lacks_vectors_is_listed),
        cmocka_unit_test(a_drop_takes_one_space_of_one_document),
        cmocka_unit_test(live_jobs_of_a_kind_are_counted),
    };
    return cmocka_run_group_tests_name("lacking", tests, NULL, NULL);
}
