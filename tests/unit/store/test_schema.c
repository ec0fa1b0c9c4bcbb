/* Versions of the schema: from older ones up, never down. */
#include "tests.h"

#include "store/internal.h"
#include "store/shared.h"

#include <string.h>
#include <sys/stat.h>

static char *db_path(struct fixture *f) {
    return arena_printf(f->arena, "%s/docusearch.db", f->dir);
}

static void run_sql(struct fixture *f, const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(db_path(f), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void newer_and_foreign_databases_are_refused(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "word");
    store_close(f.store);
    run_sql(&f, "PRAGMA user_version=99");
    assert_false(store_open(&f.store, f.dir, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "99"));
    run_sql(&f, "PRAGMA user_version=5; PRAGMA application_id=7");
    assert_false(store_open(&f.store, f.dir, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    run_sql(&f, "PRAGMA application_id=1148150611"); /* "DocS" */
    must(store_open(&f.store, f.dir, &err));
    assert_string_equal(found_by(&f, "word"), "1");
    fixture_close(&f);
}

static void garbage_is_refused(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    store_close(f.store);
    char bytes[8192];
    memset(bytes, 'x', sizeof bytes);
    must(file_write_durable(db_path(&f), bytes, sizeof bytes, &err));
    assert_false(store_open(&f.store, f.dir, &err));
    assert_int_equal(err.kind, ERROR_IO);
    f.store = NULL;
    fixture_close(&f);
}

/* A database of version 1, with a document, becomes one of today that finds it. */
static void an_older_database_is_copied_and_brought_up(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    store_close(f.store);
    must(dir_remove(f.dir, &err));
    must(dir_make(f.dir, &err));
    struct store old = {.db_path = db_path(&f), .data_dir = f.dir, .words = word_filter_new()};
    struct conn *conn;
    must(conn_open(&conn, &old, true, &err));
    old.writer = conn;
    must(store_migrate(conn, 1, &err));
    conn_close(conn);
    mem_free(old.words);
    run_sql(&f, "INSERT INTO documents (doc_id, state, n_chunks, first_chunk, size_bytes, added_ms,"
                " filename, name_key, search_key, format, format_group) VALUES"
                " (printf('%064d', 5), 1, 1, 1, 1, 1, 'f', 'f', 'f', 'txt', 'text');"
                "INSERT INTO chunks (doc_no, ordinal, n_words, first_page, last_page, heading_path,"
                " text) VALUES (1, 0, 2, 1, 1, '', 'Antediluvian words');");
    must(store_open(&f.store, f.dir, &err));
    assert_string_equal(found_by(&f, "antediluvian"), "5");
    assert_string_equal(found_by(&f, "ante*"), "5");
    struct stat info;
    assert_int_equal(stat(arena_printf(f.arena, "%s.version-1", db_path(&f)), &info), 0);
    assert_true(info.st_size > 0);
    fixture_reopen(&f);
    assert_string_equal(found_by(&f, "antediluvian"), "5");
    fixture_close(&f);
}

/* A database of version 4 keeps what it has: every document own and never shared, its sources in
 * their order by name. */
static void documents_of_before_there_was_sharing_are_own(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    store_close(f.store);
    must(dir_remove(f.dir, &err));
    must(dir_make(f.dir, &err));
    struct store old = {.db_path = db_path(&f), .data_dir = f.dir, .words = word_filter_new()};
    struct conn *conn;
    must(conn_open(&conn, &old, true, &err));
    old.writer = conn;
    must(store_migrate(conn, 4, &err));
    conn_close(conn);
    mem_free(old.words);
    run_sql(&f, "INSERT INTO documents (doc_id, state, size_bytes, added_ms, filename, name_key,"
                " search_key, format, format_group) VALUES"
                " (printf('%064d', 5), 1, 1, 1, 'a.txt', 'a.txt', 'a.txt', 'txt', 'text');"
                "INSERT INTO sources (path, doc_no) VALUES ('/in/a.txt', 1), ('/in/c.txt', 1),"
                " ('/in/b.txt', 1);");
    must(store_open(&f.store, f.dir, &err));
    struct shared_row *rows;
    struct document_row row;
    struct store_tx *tx;
    int n;
    int64_t last;
    bool found;
    must(store_list_unshared(&rows, &n, &last, f.arena, f.store, 1, 0, 9, &err));
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].origin, "");
    assert_int_equal(rows[0].generation, 0);
    must(store_begin(&tx, f.store, &err));
    must(store_drop_source(tx, &n, rows[0].doc_id, "/in/a.txt", &err));
    must(store_commit(tx, &err));
    assert_int_equal(n, 2);
    must(store_find_document(&row, &found, f.arena, f.store, rows[0].doc_id, &err));
    assert_string_equal(row.filename, "b.txt");
    struct stat info;
    assert_int_equal(stat(arena_printf(f.arena, "%s.version-4", db_path(&f)), &info), 0);
    fixture_close(&f);
}

static void facts_of_the_folder_are_kept(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    char *value;
    fixture_open(&f);
    must(store_get_meta(&value, f.arena, f.store, "a", &err));
    assert_null(value);
    must(store_begin(&tx, f.store, &err));
    must(store_put_meta(tx, "a", "one", &err));
    must(store_put_meta(tx, "b", "", &err));
    must(store_put_meta(tx, "a", "two", &err));
    must(store_commit(tx, &err));
    fixture_reopen(&f);
    must(store_get_meta(&value, f.arena, f.store, "a", &err));
    assert_string_equal(value, "two");
    must(store_get_meta(&value, f.arena, f.store, "b", &err));
    assert_string_equal(value, "");
    must(store_begin(&tx, f.store, &err));
    must(store_put_meta(tx, "a", NULL, &err));
    must(store_commit(tx, &err));
    must(store_get_meta(&value, f.arena, f.store, "a", &err));
    assert_null(value);
    fixture_close(&f);
}

int run_schema_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newer_and_foreign_databases_are_refused),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(an_older_database_is_copied_and_brought_up),
        cmocka_unit_test(documents_of_before_there_was_sharing_are_own),
        cmocka_unit_test(facts_of_the_folder_are_kept),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
