/* Documents, sources, chunks, lists, counts, transactions. */
#include "tests.h"

#include "store/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct document_row plain_row(struct fixture *f, int n, const char *filename,
                                     const char *group) {
    struct document_row row = {.filename = filename,
                               .source_path = "",
                               .format = group,
                               .group = group,
                               .size_bytes = 100 + n,
                               .added_ms = 1000 + n};
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(f->arena, n));
    return row;
}

static bool put_plain(struct fixture *f, const struct document_row *row) {
    struct store_tx *tx;
    bool existed;
    must(store_begin(&tx, f->store, &err));
    must(store_put_document(tx, &existed, row, &err));
    must(store_commit(tx, &err));
    return existed;
}

static struct document_row find(struct fixture *f, int n) {
    struct document_row row;
    bool found;
    must(store_find_document(&row, &found, f->arena, f->store, test_id(f->arena, n), &err));
    assert_true(found);
    return row;
}

static void a_document_is_put_read_and_deleted(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct document_row row = plain_row(&f, 1, "R\u00e9port.pdf", "pdf");
    row.source_path = "/in/report.pdf";
    assert_false(put_plain(&f, &row));
    assert_int_equal(find(&f, 1).state, DOCUMENT_WAITING);
    row.filename = "another name.pdf";
    row.source_path = "/in/again.pdf";
    assert_true(put_plain(&f, &row));
    struct document_row got = find(&f, 1);
    assert_string_equal(got.filename, "R\u00e9port.pdf");
    assert_string_equal(got.source_path, "/in/again.pdf");
    assert_int_equal(got.size_bytes, 101);

    struct page_row pages[2] = {{595.5f, 842, 1}, {100, 200, 4}};
    struct chunk_row chunks[2] = {{.ordinal = 0,
                                   .n_words = 2,
                                   .first_page = 1,
                                   .last_page = 1,
                                   .text = "first words",
                                   .heading_path = "A > B",
                                   .places = "\0\1\2",
                                   .places_len = 3},
                                  {.ordinal = 1,
                                   .n_words = 2,
                                   .first_page = 1,
                                   .last_page = 2,
                                   .text = "second words",
                                   .heading_path = ""}};
    row.n_pages = 2;
    row.title = "The T\u00edtle";
    row.warning = "page 2 damaged";
    struct store_tx *tx;
    must(store_begin(&tx, f.store, &err));
    must(store_put_reading(tx, &row, pages, chunks, 2, &err));
    must(store_commit(tx, &err));
    got = find(&f, 1);
    assert_int_equal(got.state, DOCUMENT_READY);
    assert_int_equal(got.n_chunks, 2);
    assert_int_equal(got.n_pages, 2);
    assert_true(got.ready_ms > 0);
    assert_string_equal(got.warning, "page 2 damaged");

    struct page_row *got_pages;
    int n;
    must(store_list_pages(&got_pages, &n, f.arena, f.store, got.doc_id, &err));
    assert_int_equal(n, 2);
    assert_true(got_pages[0].width_pt == 595.5f && got_pages[1].height_pt == 200);
    assert_int_equal(got_pages[1].flags, 4);

    struct chunk_row *got_chunks;
    must(store_list_chunks(&got_chunks, &n, f.arena, f.store, got.doc_id, true, &err));
    assert_int_equal(n, 2);
    assert_string_equal(got_chunks[0].text, "first words");
    assert_string_equal(got_chunks[0].heading_path, "A > B");
    assert_int_equal(got_chunks[0].places_len, 3);
    assert_memory_equal(got_chunks[0].places, "\0\1\2", 3);
    assert_int_equal(got_chunks[1].places_len, 0);
    assert_string_equal(got_chunks[1].doc_id, got.doc_id);
    struct chunk_row one;
    bool found;
    must(store_find_chunk(&one, &found, f.arena, f.store, got_chunks[1].row_id, &err));
    assert_true(found);
    assert_string_equal(one.text, "second words");
    assert_int_equal(one.last_page, 2);
    must(store_find_chunk_at(&one, &found, f.arena, f.store, got.doc_id, 0, &err));
    assert_true(found);
    assert_string_equal(one.text, "first words");
    assert_int_equal(one.places_len, 3);
    must(store_find_chunk_at(&one, &found, f.arena, f.store, got.doc_id, 2, &err));
    assert_false(found);

    struct store_counts counts;
    must(store_counts(&counts, f.store, &err));
    assert_int_equal(counts.documents, 1);
    assert_int_equal(counts.ready, 1);
    assert_int_equal(counts.partial, 1);
    assert_int_equal(counts.pages, 2);
    assert_int_equal(counts.chunks, 2);
    assert_true(counts.database_bytes > 0);

    int n_pages, n_chunks;
    must(store_begin(&tx, f.store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, got.doc_id, &err));
    must(store_commit(tx, &err));
    assert_true(found);
    assert_int_equal(n_pages, 2);
    assert_int_equal(n_chunks, 2);
    must(store_find_document(&row, &found, f.arena, f.store, got.doc_id, &err));
    assert_false(found);
    must(store_find_chunk(&one, &found, f.arena, f.store, got_chunks[1].row_id, &err));
    assert_false(found);
    char id[SHA256_HEX + 1];
    must(store_find_source(id, &found, f.store, "/in/report.pdf", &err));
    assert_false(found);
    assert_string_equal(found_by(&f, "words"), "");
    must(store_begin(&tx, f.store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, got.doc_id, &err));
    must(store_commit(tx, &err));
    assert_false(found);
    fixture_close(&f);
}

static void put_at(struct fixture *f, int n, const char *path) {
    const char *slash = strrchr(path, '/');
    struct document_row row = plain_row(f, n, slash ? slash + 1 : "uploaded.txt", "text");
    row.source_path = path;
    put_plain(f, &row);
}

static int drop_source(struct fixture *f, int n, const char *path) {
    struct store_tx *tx;
    int n_left;
    must(store_begin(&tx, f->store, &err));
    must(store_drop_source(tx, &n_left, test_id(f->arena, n), path, &err));
    must(store_commit(tx, &err));
    return n_left;
}

static bool list_has(struct fixture *f, const char *search) {
    struct document_row *rows;
    struct store_list_query query = {.search = search, .limit = 9};
    int n;
    int64_t total;
    must(store_list_documents(&rows, &n, &total, f->arena, f->store, &query, &err));
    return n > 0;
}

static void a_document_goes_by_a_name_it_has(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_at(&f, 1, "/in/First.txt");
    put_text(&f, 1, "words"); /* READY, titled ""; the upload is a source too */
    put_at(&f, 1, "/in/z.txt");
    put_at(&f, 1, "/in/a/\u00dcber.txt");
    put_at(&f, 1, "/in/z.txt"); /* known: it is no newer for that */
    assert_int_equal(drop_source(&f, 1, "/elsewhere/First.txt"), 4);
    assert_string_equal(find(&f, 1).filename, "First.txt");
    assert_int_equal(drop_source(&f, 1, "/in/First.txt"), 3);
    assert_string_equal(find(&f, 1).filename, "\u00dcber.txt");
    assert_false(list_has(&f, "first"));
    assert_true(list_has(&f, "uber"));
    assert_string_equal(found_by(&f, "words"), "1");
    assert_int_equal(find(&f, 1).state, DOCUMENT_READY);
    /* A path of another name goes: nothing follows. */
    assert_int_equal(drop_source(&f, 1, "/in/z.txt"), 2);
    assert_string_equal(find(&f, 1).filename, "\u00dcber.txt");
    /* What is left has no name of its own. */
    assert_int_equal(drop_source(&f, 1, "/in/a/\u00dcber.txt"), 1);
    assert_string_equal(find(&f, 1).filename, "\u00dcber.txt");

    /* Other bytes came to the path: for the document that was there it is gone. */
    put_at(&f, 2, "/in/x.txt");
    put_at(&f, 2, "/in/y.txt");
    put_at(&f, 3, "/in/x.txt");
    assert_string_equal(find(&f, 2).filename, "y.txt");
    assert_string_equal(find(&f, 3).filename, "x.txt");
    /* Renamed, as a hook tells it: the new path first. */
    put_at(&f, 3, "/in/new name.txt");
    assert_int_equal(drop_source(&f, 3, "/in/x.txt"), 1);
    assert_string_equal(find(&f, 3).filename, "new name.txt");
    struct document_row *rows;
    struct store_list_query query = {.sort = SORT_NAME_ASC, .limit = 9};
    int n;
    int64_t total;
    must(store_list_documents(&rows, &n, &total, f.arena, f.store, &query, &err));
    assert_int_equal(n, 3);
    assert_string_equal(rows[0].filename, "new name.txt");
    assert_int_equal(drop_source(&f, 3, "/in/new name.txt"), 0);
    assert_string_equal(find(&f, 3).filename, "new name.txt");
    fixture_close(&f);
}

static void a_source_belongs_to_one_document(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct document_row one = plain_row(&f, 1, "a", "text"), two = plain_row(&f, 2, "b", "text");
    one.source_path = two.source_path = "/in/file";
    put_plain(&f, &one);
    put_plain(&f, &two);
    char id[SHA256_HEX + 1];
    bool found;
    must(store_find_source(id, &found, f.store, "/in/file", &err));
    assert_true(found);
    assert_string_equal(id, two.doc_id);
    assert_string_equal(find(&f, 1).source_path, "");

    two.source_path = "/in/other";
    put_plain(&f, &two);
    struct store_tx *tx;
    int n_left;
    must(store_begin(&tx, f.store, &err));
    must(store_drop_source(tx, &n_left, one.doc_id, "/in/file", &err));
    assert_int_equal(n_left, 0);
    must(store_drop_source(tx, &n_left, two.doc_id, "/in/file", &err));
    assert_int_equal(n_left, 1);
    must(store_commit(tx, &err));
    must(store_find_source(id, &found, f.store, "/in/file", &err));
    assert_false(found);
    fixture_close(&f);
}

/* "b c": what is listed below folder, a page of limit paths after the other. */
static const char *sources_below(struct fixture *f, const char *folder, int limit) {
    const char *after = "", *text = "";
    const char *const *paths;
    int n;
    do {
        must(store_list_sources(&paths, &n, f->arena, f->store, folder, after, limit, &err));
        assert_true(n <= limit);
        for (int i = 0; i < n; i++) {
            assert_true(strcmp(paths[i], after) > 0);
            text = arena_printf(f->arena, "%s%s%s", text, *text ? " " : "",
                                paths[i] + strlen(folder) + 1);
            after = paths[i];
        }
    } while (n == limit);
    return text;
}

static void sources_are_listed_by_path(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    const char *const paths[] = {"/in/b",       "/in/sub/deep/c", "/in/sub/a", "/in",
                                 "/inside/x",   "/in-side/x",     "/in0",      "/other/x",
                                 "/in/sub.txt", "/in/\xff\xfe",   "upload",    ""};
    for (int i = 0; i < (int)BASE_COUNT(paths); i++)
        put_at(&f, 1 + i % 2, paths[i]); /* of two documents, several each */
    for (int limit = 1; limit < 7; limit++) {
        assert_string_equal(sources_below(&f, "/in", limit), "b sub.txt sub/a sub/deep/c \xff\xfe");
        assert_string_equal(sources_below(&f, "/in/sub", limit), "a deep/c");
        assert_string_equal(sources_below(&f, "/in/su", limit), "");
    }
    drop_source(&f, 2, "/in/sub.txt");
    drop_source(&f, 1, "/in/sub.txt");
    assert_string_equal(sources_below(&f, "/in", 9), "b sub/a sub/deep/c \xff\xfe");
    fixture_close(&f);
}

static void what_is_rolled_back_never_was(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct document_row row = plain_row(&f, 1, "a", "text");
    struct chunk_row chunk = {.text = "unforgettable", .heading_path = ""};
    struct store_tx *tx;
    bool existed, found;
    must(store_begin(&tx, f.store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    must(store_put_reading(tx, &row, NULL, &chunk, 1, &err));
    must(store_find_document(&row, &found, f.arena, f.store, row.doc_id, &err));
    assert_false(found); /* nobody else sees it before the commit */
    store_rollback(tx);
    must(store_find_document(&row, &found, f.arena, f.store, row.doc_id, &err));
    assert_false(found);
    assert_string_equal(found_by(&f, "unforgettable"), "");
    put_text(&f, 1, "unforgettable");
    assert_string_equal(found_by(&f, "unforgettable"), "1");
    assert_string_equal(found_by(&f, "unforget*"), "1"); /* the vocabulary came back too */
    fixture_close(&f);
}

static void a_failed_write_spoils_its_transaction(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct document_row row = plain_row(&f, 1, "a", "text"), none = plain_row(&f, 9, "z", "text");
    struct store_tx *tx;
    bool existed, found;
    must(store_begin(&tx, f.store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    assert_false(store_put_reading(tx, &none, NULL, NULL, 0, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_false(store_put_document(tx, &existed, &row, &err));
    assert_false(store_commit(tx, &err));
    must(store_find_document(&row, &found, f.arena, f.store, row.doc_id, &err));
    assert_false(found);
    put_plain(&f, &row); /* the writer is free again */
    fixture_close(&f);
}

static void only_ready_documents_are_found(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "needle");
    put_text(&f, 2, "needle");
    struct store_tx *tx;
    must(store_begin(&tx, f.store, &err));
    must(store_set_document_state(tx, test_id(f.arena, 1), DOCUMENT_FAILED, "corrupt", "page 1",
                                  &err));
    must(store_commit(tx, &err));
    assert_string_equal(found_by(&f, "needle"), "2");
    struct document_row row = find(&f, 1);
    assert_int_equal(row.state, DOCUMENT_FAILED);
    assert_string_equal(row.error_code, "corrupt");
    assert_string_equal(row.error_text, "page 1");
    put_text(&f, 1, "needles again"); /* read again */
    assert_string_equal(find(&f, 1).error_code, "");
    assert_string_equal(found_by(&f, "again"), "1");
    put_text(&f, 1, "other words"); /* a reading replaces the one before */
    assert_string_equal(found_by(&f, "needle"), "2");
    assert_string_equal(found_by(&f, "other"), "1");
    fixture_close(&f);
}

static const char *listed(struct fixture *f, const struct store_list_query *query) {
    struct document_row *rows;
    int n;
    int64_t total;
    must(store_list_documents(&rows, &n, &total, f->arena, f->store, query, &err));
    char *out = arena_printf(f->arena, "%d:", (int)total);
    for (int i = 0; i < n; i++)
        out = arena_printf(f->arena, "%s %ld", out, strtol(rows[i].doc_id, NULL, 16));
    return out;
}

static void lists_are_sorted_searched_and_cut(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static const char *const names[] = {"Beta.pdf", "alpha.txt", "\u00c9clair.PDF", "beta.pdf",
                                        "100%_x.txt"};
    static const char *const groups[] = {"pdf", "text", "pdf", "pdf", "text"};
    for (int i = 0; i < 5; i++) {
        struct document_row row = plain_row(&f, i + 1, names[i], groups[i]);
        row.title = i == 1 ? "On Clouds" : "";
        row.added_ms = i == 3 ? 1003 : 1001 + i; /* 3 and 4 at the same time */
        put_plain(&f, &row);
    }
    struct store_list_query query = {.sort = SORT_NEWEST, .limit = 10};
    assert_string_equal(listed(&f, &query), "5: 5 4 3 2 1");
    query.sort = SORT_OLDEST;
    assert_string_equal(listed(&f, &query), "5: 1 2 3 4 5");
    query.sort = SORT_NAME_ASC;
    assert_string_equal(listed(&f, &query), "5: 5 2 1 4 3");
    query.sort = SORT_NAME_DESC;
    assert_string_equal(listed(&f, &query), "5: 3 4 1 2 5");
    query.offset = 1;
    query.limit = 2;
    assert_string_equal(listed(&f, &query), "5: 4 1");
    query.offset = 10;
    assert_string_equal(listed(&f, &query), "5:");
    query = (struct store_list_query){.sort = SORT_NEWEST, .limit = 10, .group = "pdf"};
    assert_string_equal(listed(&f, &query), "3: 4 3 1");
    query.search = "BETA";
    assert_string_equal(listed(&f, &query), "2: 4 1");
    query.group = "all";
    query.search = "ecl";
    assert_string_equal(listed(&f, &query), "1: 3");
    query.search = "%_";
    assert_string_equal(listed(&f, &query), "1: 5");
    query.search = "clouds";
    assert_string_equal(listed(&f, &query), "1: 2");
    query.search = "' OR 1=1 --";
    assert_string_equal(listed(&f, &query), "0:");
    query.search = "";
    query.limit = 0;
    assert_string_equal(listed(&f, &query), "5:");
    fixture_close(&f);
}

static void a_hundred_thousand_documents_list_quickly(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store_tx *tx;
    must(store_begin(&tx, f.store, &err));
    for (int i = 1; i <= 100000; i++) {
        struct arena *arena = arena_new(0);
        struct document_row row = {
            .filename = arena_printf(arena, "file %d.txt", i * 7919 % 100003),
            .format = "txt",
            .group = "text",
            .added_ms = i};
        snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(arena, i));
        bool existed;
        must(store_put_document(tx, &existed, &row, &err));
        arena_free(arena);
    }
    must(store_commit(tx, &err));
    static const struct store_list_query queries[] = {
        {.sort = SORT_NEWEST, .limit = 50},
        {.sort = SORT_NAME_ASC, .limit = 50, .offset = 1000},
        {.sort = SORT_NAME_DESC, .limit = 50, .search = "777"},
        {.sort = SORT_OLDEST, .limit = 50, .group = "pdf"},
        {.sort = SORT_NEWEST, .limit = 50, .search = "nothing has this"},
    };
    for (size_t i = 0; i < BASE_COUNT(queries); i++) {
        int64_t begun_ms = time_mono_ms();
        listed(&f, &queries[i]);
        int64_t took_ms = time_mono_ms() - begun_ms;
        if (took_ms > 2000) /* some 30 ms; generous for loaded machines and sanitizers */
            fail_msg("list %zu took %lld ms", i, (long long)took_ms);
    }
    fixture_close(&f);
}

int run_rows_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_is_put_read_and_deleted),
        cmocka_unit_test(a_document_goes_by_a_name_it_has),
        cmocka_unit_test(a_source_belongs_to_one_document),
        cmocka_unit_test(sources_are_listed_by_path),
        cmocka_unit_test(what_is_rolled_back_never_was),
        cmocka_unit_test(a_failed_write_spoils_its_transaction),
        cmocka_unit_test(only_ready_documents_are_found),
        cmocka_unit_test(lists_are_sorted_searched_and_cut),
        cmocka_unit_test(a_hundred_thousand_documents_list_quickly),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
