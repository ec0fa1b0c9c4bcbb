/* Tests of store, a group a file. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct error err;

void fixture_open(struct fixture *fixture) {
    const char *root = getenv("TMPDIR");
    fixture->dir = mem_printf("%s/docusearch-store-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(fixture->dir));
    fixture->arena = arena_new(0);
    must(store_open(&fixture->store, fixture->dir, &err));
}

void fixture_reopen(struct fixture *fixture) {
    store_close(fixture->store);
    fixture->store = NULL;
    must(store_open(&fixture->store, fixture->dir, &err));
}

void fixture_close(struct fixture *fixture) {
    store_close(fixture->store);
    arena_free(fixture->arena);
    must(dir_remove(fixture->dir, &err));
    mem_free(fixture->dir);
}

const char *test_id(struct arena *arena, int n) {
    char *id = arena_alloc(arena, SHA256_HEX + 1);
    snprintf(id, SHA256_HEX + 1, "%064x", (unsigned)n);
    return id;
}

void put_texts(struct fixture *fixture, int n, const char *filename, const char *const *texts,
               int n_texts) {
    struct store_tx *tx;
    struct document_row row = {.filename = filename,
                               .source_path = "",
                               .format = "txt",
                               .group = "text",
                               .size_bytes = 10,
                               .added_ms = 1000 + n,
                               .n_pages = 1,
                               .n_chunks = n_texts,
                               .title = ""};
    struct page_row page = {.width_pt = 595, .height_pt = 842};
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(fixture->arena, n));
    struct chunk_row *chunks = arena_alloc(fixture->arena, (size_t)n_texts * sizeof *chunks);
    for (int i = 0; i < n_texts; i++)
        chunks[i] = (struct chunk_row){.ordinal = i,
                                       .n_words = 1,
                                       .first_page = i + 1,
                                       .last_page = i + 1,
                                       .text = texts[i],
                                       .heading_path = ""};
    bool existed;
    must(store_begin(&tx, fixture->store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    must(store_put_reading(tx, &row, &page, chunks, n_texts, &err));
    must(store_commit(tx, &err));
}

void put_text(struct fixture *fixture, int n, const char *text) {
    put_texts(fixture, n, "a file.txt", &text, 1);
}

const char *found_by(struct fixture *fixture, const char *query) {
    struct lexical_hit *hits;
    int n;
    must(lexical_search(&hits, &n, fixture->arena, fixture->store,
                        lexical_parse(fixture->arena, query), NULL, 100, &err));
    char *out = arena_strdup(fixture->arena, "");
    for (int i = 0; i < n; i++)
        out = arena_printf(fixture->arena, "%s%s%ld", out, i ? " " : "",
                           strtol(hits[i].doc_id, NULL, 16));
    return out;
}

int main(void) {
    log_open(LOG_ERROR, false, "/dev/null", &err);
    int failed = run_text_tests();
    failed += run_search_tests();
    failed += run_rows_tests();
    failed += run_jobs_tests();
    failed += run_files_tests();
    failed += run_schema_tests();
    failed += run_vectors_tests();
    failed += run_lacking_tests();
    failed += run_shared_tests();
    failed += run_thread_tests();
    return failed != 0;
}
