/* Rows of vectors: put, replaced, filtered, resolved; who is told; what an older schema had. */
#include "tests.h"

#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

static int space_of(struct fixture *f, const char *name) {
    struct store_tx *tx;
    struct space_row made;
    must(store_begin(&tx, f->store, &err));
    must(store_put_space(tx, &made, name, 4, true, &err));
    must(store_commit(tx, &err));
    return made.space;
}

/* Document n's rows: ids from first on, pages and chunks in turn. The caller ends tx. */
static bool put_rows(struct store_tx *tx, struct fixture *f, int space, int n, int64_t first,
                     int n_items) {
    struct vector_row rows[8];
    for (int i = 0; i < n_items; i++)
        rows[i] = (struct vector_row){first + i, i % 2 ? VECTORS_CHUNK : VECTORS_PAGE, i / 2 + 1};
    return store_put_vectors(tx, space, test_id(f->arena, n), rows, n_items, &err);
}

static void put_vectors(struct fixture *f, int space, int n, int64_t first, int n_items) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(put_rows(tx, f, space, n, first, n_items));
    must(store_commit(tx, &err));
}

static void delete_document(struct fixture *f, int n) {
    struct store_tx *tx;
    bool found;
    int n_pages, n_chunks;
    must(store_begin(&tx, f->store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, test_id(f->arena, n), &err));
    must(store_commit(tx, &err));
}

struct list {
    int64_t ids[64];
    int n;
};

static bool add_ids(void *ctx, const int64_t *ids, int n) {
    struct list *list = ctx;
    for (int i = 0; i < n; i++)
        list->ids[list->n++] = ids[i];
    return true;
}

static int ascending(const void *a, const void *b) {
    return *(const int64_t *)a < *(const int64_t *)b ? -1 : 1;
}

/* "10 12 15": ids, ascending. */
static const char *ids_of(struct fixture *f, int space, enum vector_kind kind,
                          const struct search_filter *filter) {
    struct list list = {.n = 0};
    const char *text = "";
    must(store_visit_vectors(f->store, space, kind, filter, add_ids, &list, &err));
    qsort(list.ids, (size_t)list.n, sizeof list.ids[0], ascending);
    for (int i = 0; i < list.n; i++)
        text = arena_printf(f->arena, "%s%s%d", text, i ? " " : "", (int)list.ids[i]);
    return text;
}

static void rows_are_put_replaced_and_dropped(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store_tx *tx;
    struct space_row made, *rows;
    int n, a = space_of(&f, "a"), b = space_of(&f, "b");
    assert_int_equal(space_of(&f, "a"), a);
    must(store_begin(&tx, f.store, &err));
    assert_false(store_put_space(tx, &made, "a", 5, true, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    store_rollback(tx);
    for (int i = 1; i <= 3; i++)
        put_text(&f, i, "words");
    put_vectors(&f, a, 1, 10, 3);
    put_vectors(&f, a, 2, 20, 2);
    put_vectors(&f, b, 1, 30, 4);
    put_vectors(&f, a, 3, 40, 1);
    assert_string_equal(ids_of(&f, a, VECTORS_PAGE, NULL), "10 12 20 40");
    assert_string_equal(ids_of(&f, a, VECTORS_CHUNK, NULL), "11 21");
    put_vectors(&f, a, 1, 50, 1); /* replaces, in its space alone */
    assert_string_equal(ids_of(&f, a, VECTORS_PAGE, NULL), "20 40 50");
    assert_string_equal(ids_of(&f, b, VECTORS_PAGE, NULL), "30 32");
    put_text(&f, 3, "read again");
    assert_string_equal(ids_of(&f, a, VECTORS_PAGE, NULL), "20 50");
    delete_document(&f, 1);
    assert_string_equal(ids_of(&f, a, VECTORS_PAGE, NULL), "20");
    assert_string_equal(ids_of(&f, b, VECTORS_PAGE, NULL), "");
    put_vectors(&f, b, 2, 60, 2);
    must(store_begin(&tx, f.store, &err));
    must(store_drop_space(tx, b, &err));
    must(store_commit(tx, &err));
    assert_string_equal(ids_of(&f, b, VECTORS_PAGE, NULL), "");
    must(store_list_spaces(&rows, &n, f.arena, f.store, &err));
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].name, "a");
    assert_int_equal(rows[0].dim, 4);
    assert_true(rows[0].late);
    assert_int_not_equal(space_of(&f, "c"), b); /* a number is given out once */
    must(store_begin(&tx, f.store, &err));
    assert_false(put_rows(tx, &f, b, 2, 70, 1)); /* there is no such space */
    store_rollback(tx);
    must(store_begin(&tx, f.store, &err));
    assert_false(put_rows(tx, &f, a, 9, 70, 1)); /* nor document */
    assert_int_equal(err.kind, ERROR_MISSING);
    store_rollback(tx);
    fixture_close(&f);
}

static void ids_are_filtered(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    int space = space_of(&f, "a");
    static const char *const texts[] = {"one", "two", "three", "four"};
    put_texts(&f, 1, "a.txt", texts, 4);
    put_texts(&f, 2, "b.txt", texts, 4);
    put_vectors(&f, space, 1, 10, 8);
    put_vectors(&f, space, 2, 20, 8);
    const char *one[] = {test_id(f.arena, 1)}, *none[] = {"nothing"};
    struct search_filter filter = {.doc_ids = one, .n_doc_ids = 1};
    assert_false(store_filter_is_open(&filter));
    assert_true(store_filter_is_open(&(struct search_filter){0}));
    assert_true(store_filter_is_open(NULL));
    assert_string_equal(ids_of(&f, space, VECTORS_PAGE, &filter), "10 12 14 16");
    assert_string_equal(ids_of(&f, space, VECTORS_CHUNK, &filter), "11 13 15 17");
    filter.n_doc_ids = 0;
    assert_string_equal(ids_of(&f, space, VECTORS_PAGE, &filter), "");
    filter = (struct search_filter){.formats = none, .n_formats = 1};
    assert_string_equal(ids_of(&f, space, VECTORS_PAGE, &filter), "");
    filter = (struct search_filter){.page_from = 2, .page_to = 3};
    assert_string_equal(ids_of(&f, space, VECTORS_PAGE, &filter), "12 14 22 24");
    fixture_close(&f);
}

static void ids_lead_to_their_items(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    int space = space_of(&f, "a");
    put_text(&f, 1, "words");
    put_text(&f, 2, "words");
    put_vectors(&f, space, 1, 10, 4);
    put_vectors(&f, space, 2, INT64_C(1) << 40, 1);
    const int64_t ids[] = {13, 99, INT64_C(1) << 40};
    struct vector_place places[3];
    must(store_find_vectors(places, f.store, ids, 3, &err));
    assert_string_equal(places[0].doc_id, test_id(f.arena, 1));
    assert_int_equal(places[0].kind, VECTORS_CHUNK);
    assert_int_equal(places[0].item, 2);
    assert_int_equal(places[0].space, space);
    assert_string_equal(places[1].doc_id, "");
    assert_string_equal(places[2].doc_id, test_id(f.arena, 2));
    int64_t id;
    bool found;
    must(store_find_item(&id, &found, f.store, space, test_id(f.arena, 1), VECTORS_PAGE, 2, &err));
    assert_true(found);
    assert_int_equal(id, 12);
    must(store_find_item(&id, &found, f.store, space, test_id(f.arena, 1), VECTORS_PAGE, 9, &err));
    assert_false(found);
    must(store_find_item(&id, &found, f.store, space, test_id(f.arena, 7), VECTORS_PAGE, 2, &err));
    assert_false(found);
    fixture_close(&f);
}

/* ---- the watcher ---- */

struct watched {
    struct fixture *f;
    const char *text; /* "+10 11 -5": all that was told since it was last looked at */
};

static void watch(void *ctx, const int64_t *added, int n_added, const int64_t *removed,
                  int n_removed) {
    struct watched *watched = ctx;
    struct arena *arena = watched->f->arena;
    for (int i = 0; i < n_added; i++)
        watched->text = arena_printf(arena, "%s+%d ", watched->text, (int)added[i]);
    for (int i = 0; i < n_removed; i++)
        watched->text = arena_printf(arena, "%s-%d ", watched->text, (int)removed[i]);
    watched->text = arena_printf(arena, "%s.", watched->text);
}

#define assert_told(expected)                                                                      \
    do {                                                                                           \
        assert_string_equal(watched.text, expected);                                               \
        watched.text = "";                                                                         \
    } while (0)

static void commits_are_told_of(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    fixture_open(&f);
    struct watched watched = {&f, ""};
    int space = space_of(&f, "a"), other = space_of(&f, "b");
    store_watch_items(f.store, watch, &watched);
    put_text(&f, 1, "words");
    put_text(&f, 2, "words");
    assert_told("");
    put_vectors(&f, space, 1, 10, 3);
    assert_told("+10 +11 +12 .");
    put_vectors(&f, space, 1, 20, 1);
    assert_told("+20 -10 -11 -12 .");
    must(store_begin(&tx, f.store, &err));
    must(put_rows(tx, &f, space, 2, 30, 2));
    store_rollback(tx);
    assert_told("");
    must(store_begin(&tx, f.store, &err));
    must(put_rows(tx, &f, space, 2, 40, 2));
    must(put_rows(tx, &f, other, 2, 50, 1));
    assert_told("");
    must(store_commit(tx, &err));
    assert_told("+40 +41 +50 .");
    must(store_begin(&tx, f.store, &err));
    assert_false(put_rows(tx, &f, space, 7, 60, 1)); /* a transaction that fails says nothing */
    assert_false(store_commit(tx, &err));
    assert_told("");
    put_text(&f, 2, "read again"); /* the old reading's go with it */
    assert_told("-40 -41 -50 .");
    put_vectors(&f, space, 2, 70, 1);
    assert_told("+70 .");
    delete_document(&f, 2);
    assert_told("-70 .");
    put_vectors(&f, other, 1, 80, 2);
    assert_told("+80 +81 .");
    must(store_begin(&tx, f.store, &err));
    must(store_drop_space(tx, other, &err));
    must(store_commit(tx, &err));
    assert_told("-80 -81 .");
    must(store_begin(&tx, f.store, &err));
    must(store_drop_space(tx, space, &err)); /* the table is empty now, and each row was told of */
    must(store_commit(tx, &err));
    assert_told("-20 .");
    store_watch_items(f.store, NULL, NULL);
    space = space_of(&f, "c");
    put_vectors(&f, space, 1, 90, 1);
    assert_told("");
    fixture_close(&f);
}

/* ---- size, age ---- */

static void run_sql(struct fixture *f, const char *sql) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(arena_printf(f->arena, "%s/docusearch.db", f->dir), &db),
                     SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(db);
}

static bool count_ids(void *ctx, const int64_t *ids, int n) {
    (void)ids;
    *(int64_t *)ctx += n;
    return true;
}

/* A million rows of 20,000 documents. */
static void a_million_rows_are_visited_quickly(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    int space = space_of(&f, "a");
    run_sql(&f, "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 20000)"
                "INSERT INTO documents (doc_id, state, n_pages, size_bytes, added_ms, filename,"
                " name_key, search_key, format, format_group)"
                " SELECT printf('%064x', n), 1, 50, 1, n, 'f', 'f', 'f',"
                "  iif(n % 2, 'pdf', 'docx'), iif(n % 2, 'pdf', 'office') FROM i;"
                "WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 999999)"
                "INSERT INTO vectors (id, doc_no, space_no, kind, item)"
                " SELECT n + 1, n / 50 + 1, 1, 0, n % 50 + 1 FROM i;");
    fixture_reopen(&f);
    const char *pdf[] = {"pdf"}, *one[] = {test_id(f.arena, 777)};
    const struct {
        struct search_filter filter;
        int64_t n;
    } visits[] = {
        {{0}, 1000000},
        {{.formats = pdf, .n_formats = 1}, 500000},
        {{.formats = pdf, .n_formats = 1, .page_from = 1, .page_to = 5}, 50000},
        {{.added_from_ms = 1, .added_to_ms = 100}, 5000},
        {{.doc_ids = one, .n_doc_ids = 1}, 50},
    };
    for (size_t i = 0; i < BASE_COUNT(visits); i++) {
        int64_t n = 0, begun_ms = time_mono_ms();
        must(store_visit_vectors(f.store, space, VECTORS_PAGE, &visits[i].filter, count_ids, &n,
                                 &err));
        print_message("visit %zu: %lld ms\n", i, (long long)(time_mono_ms() - begun_ms));
        assert_int_equal(n, visits[i].n);
        assert_in_range(time_mono_ms() - begun_ms, 0, 5000);
    }
    int64_t begun_ms = time_mono_ms();
    for (int n = 1; n <= 100; n++)
        delete_document(&f, n);
    print_message("100 documents deleted: %lld ms\n", (long long)(time_mono_ms() - begun_ms));
    assert_in_range(time_mono_ms() - begun_ms, 0, 10000);
    int64_t n = 0;
    must(store_visit_vectors(f.store, space, VECTORS_PAGE, NULL, count_ids, &n, &err));
    assert_int_equal(n, 995000);
    fixture_close(&f);
}

/* Rows that named places in the files of before go; the spaces stay, under their numbers. */
static void rows_of_the_older_form_are_dropped(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    store_close(f.store);
    must(dir_remove(f.dir, &err));
    must(dir_make(f.dir, &err));
    struct store old = {.db_path = arena_printf(f.arena, "%s/docusearch.db", f.dir),
                        .data_dir = f.dir,
                        .words = word_filter_new()};
    struct conn *conn;
    must(conn_open(&conn, &old, true, &err));
    old.writer = conn;
    must(store_migrate(conn, 3, &err));
    conn_close(conn);
    mem_free(old.words);
    run_sql(&f, "INSERT INTO documents (doc_id, state, n_pages, size_bytes, added_ms, filename,"
                " name_key, search_key, format, format_group) VALUES"
                " (printf('%064x', 1), 1, 1, 1, 1, 'f', 'f', 'f', 'txt', 'text');"
                "INSERT INTO spaces (space_no, name, dim, late) VALUES (3, 'x', 8, 0),"
                " (7, 'a', 4, 1);"
                "INSERT INTO vectors VALUES (1, 7, 0, 1, 0, 1030);"
                "DELETE FROM spaces WHERE space_no = 3;");
    must(store_open(&f.store, f.dir, &err));
    assert_int_equal(space_of(&f, "a"), 7);
    assert_string_equal(ids_of(&f, 7, VECTORS_PAGE, NULL), "");
    assert_true(space_of(&f, "b") > 7);
    put_vectors(&f, 7, 1, 10, 2);
    fixture_reopen(&f);
    assert_string_equal(ids_of(&f, 7, VECTORS_PAGE, NULL), "10");
    fixture_close(&f);
}

int run_vectors_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_put_replaced_and_dropped),
        cmocka_unit_test(ids_are_filtered),
        cmocka_unit_test(ids_lead_to_their_items),
        cmocka_unit_test(commits_are_told_of),
        cmocka_unit_test(a_million_rows_are_visited_quickly),
        cmocka_unit_test(rows_of_the_older_form_are_dropped),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
