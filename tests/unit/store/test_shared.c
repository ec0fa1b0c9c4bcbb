/* Documents that workers share: mirrored ones among own ones, what the shared store has, removals,
 * and which documents a filter lets through. */
#include "tests.h"

#include "store/lacking.h"
#include "store/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct document_row row_of(struct fixture *f, int n, const char *filename) {
    struct document_row row = {.filename = filename,
                               .source_path = "",
                               .format = "pdf",
                               .group = "pdf",
                               .size_bytes = 77,
                               .n_pages = 1,
                               .n_chunks = 1,
                               .title = "A Title",
                               .added_ms = 1000 + n,
                               .ready_ms = 2000 + n};
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(f->arena, n));
    return row;
}

/* With one passage on one page, of the worker "other:8", epoch 5. */
static bool put_mirrored(struct fixture *f, const struct document_row *row, const char *text,
                         int64_t generation) {
    struct store_tx *tx;
    struct shared_row shared = {
        .origin = "other:8", .generation = generation, .epoch = 5, .revision = "r1"};
    struct page_row page = {.width_pt = 100, .height_pt = 200};
    struct chunk_row chunk = {.n_words = 1,
                              .first_page = 1,
                              .last_page = 1,
                              .text = text,
                              .places = "pl",
                              .places_len = 2};
    bool own;
    must(store_begin(&tx, f->store, &err));
    must(store_put_mirrored(tx, &own, row, &shared, &page, &chunk, 1, &err));
    must(store_commit(tx, &err));
    return !own;
}

static bool put_own(struct fixture *f, const struct document_row *row) {
    struct store_tx *tx;
    bool existed;
    must(store_begin(&tx, f->store, &err));
    must(store_put_document(tx, &existed, row, &err));
    must(store_commit(tx, &err));
    return existed;
}

static void read_own(struct fixture *f, const struct document_row *row, const char *text) {
    struct store_tx *tx;
    struct chunk_row chunk = {.first_page = 1, .last_page = 1, .text = text};
    must(store_begin(&tx, f->store, &err));
    must(store_put_reading(tx, row, NULL, &chunk, 1, &err));
    must(store_commit(tx, &err));
}

static void delete_one(struct fixture *f, int n, int64_t generation) {
    struct store_tx *tx;
    bool found;
    int n_pages, n_chunks;
    must(store_begin(&tx, f->store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, test_id(f->arena, n), &err));
    assert_true(found);
    assert_int_equal(n_chunks, 1);
    if (generation > 0)
        must(store_put_removal(tx, test_id(f->arena, n), generation, 100, false, &err));
    must(store_commit(tx, &err));
}

static void set_shared(struct fixture *f, int n, int64_t generation, int64_t epoch) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(store_set_shared(tx, test_id(f->arena, n), generation, epoch, "rev", &err));
    must(store_commit(tx, &err));
}

/* "other:8 generation 1 epoch 5 r1"; "none" where there is no document. */
static const char *shared(struct fixture *f, int n) {
    struct shared_row row;
    bool found;
    must(store_find_shared(&row, &found, f->arena, f->store, test_id(f->arena, n), &err));
    if (!found)
        return "none";
    assert_string_equal(row.doc_id, test_id(f->arena, n));
    return arena_printf(f->arena, "%s generation %d epoch %d %s", row.origin, (int)row.generation,
                        (int)row.epoch, row.revision);
}

static struct document_row find(struct fixture *f, int n) {
    struct document_row row;
    bool found;
    must(store_find_document(&row, &found, f->arena, f->store, test_id(f->arena, n), &err));
    assert_true(found);
    return row;
}

static int64_t removal(struct fixture *f, int n) {
    int64_t generation;
    must(store_find_removal(&generation, f->store, test_id(f->arena, n), &err));
    return generation;
}

static void a_mirrored_document_is_found_like_an_own_one(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "walrus");
    struct document_row row = row_of(&f, 2, "M\u00edrrored.pdf");
    row.source_path = "/there/Mirrored.pdf";
    row.warning = "page 9 damaged";
    assert_true(put_mirrored(&f, &row, "walrus tusks", 1));
    fixture_reopen(&f);
    assert_string_equal(shared(&f, 2), "other:8 generation 1 epoch 5 r1");
    assert_string_equal(shared(&f, 1), " generation 0 epoch 0 ");
    assert_string_equal(shared(&f, 3), "none");
    struct document_row got = find(&f, 2);
    assert_int_equal(got.state, DOCUMENT_READY);
    assert_int_equal(got.added_ms, 1002);
    assert_int_equal(got.ready_ms, 2002);
    assert_int_equal(got.size_bytes, 77);
    assert_string_equal(got.source_path, "/there/Mirrored.pdf");
    assert_string_equal(got.warning, "page 9 damaged");
    assert_string_equal(found_by(&f, "tusks"), "2");

    struct chunk_row *chunks;
    struct page_row *pages;
    int n;
    must(store_list_chunks(&chunks, &n, f.arena, f.store, row.doc_id, true, &err));
    assert_int_equal(n, 1);
    assert_int_equal(chunks[0].places_len, 2);
    must(store_list_pages(&pages, &n, f.arena, f.store, row.doc_id, &err));
    assert_int_equal(n, 1);
    assert_true(pages[0].height_pt == 200);

    struct store_list_query query = {.search = "mirrored", .limit = 9};
    struct document_row *rows;
    int64_t total;
    must(store_list_documents(&rows, &n, &total, f.arena, f.store, &query, &err));
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].source_path, "/there/Mirrored.pdf");

    struct store_counts counts;
    must(store_counts(&counts, f.store, &err));
    assert_int_equal(counts.documents, 2);
    assert_int_equal(counts.ready, 2);
    assert_int_equal(counts.chunks, 2);

    char id[SHA256_HEX + 1];
    bool found;
    must(store_find_source(id, &found, f.store, "/there/Mirrored.pdf", &err));
    assert_false(found);

    row.filename = "Another.pdf";
    row.source_path = "";
    assert_true(put_mirrored(&f, &row, "seals", 2));
    assert_string_equal(found_by(&f, "tusks"), "");
    assert_string_equal(found_by(&f, "seals walrus"), "1 2");
    assert_string_equal(shared(&f, 2), "other:8 generation 2 epoch 5 r1");
    assert_string_equal(find(&f, 2).filename, "Another.pdf");
    assert_string_equal(find(&f, 2).source_path, "");
    must(store_list_documents(&rows, &n, &total, f.arena, f.store, &query, &err));
    assert_int_equal(n, 0);

    delete_one(&f, 2, 0);
    assert_string_equal(found_by(&f, "seals"), "");
    assert_string_equal(shared(&f, 2), "none");
    fixture_close(&f);
}

static void an_own_document_is_not_mirrored(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "walrus");
    struct document_row row = row_of(&f, 1, "theirs.pdf"), waiting = row_of(&f, 2, "own.pdf");
    put_own(&f, &waiting);
    assert_false(put_mirrored(&f, &row, "tusks", 1));
    waiting.filename = "theirs.pdf";
    assert_false(put_mirrored(&f, &waiting, "tusks", 1));
    assert_string_equal(find(&f, 1).filename, "a file.txt");
    assert_string_equal(found_by(&f, "walrus tusks"), "1");
    assert_int_equal(find(&f, 2).state, DOCUMENT_WAITING);
    assert_string_equal(find(&f, 2).filename, "own.pdf");

    struct store_tx *tx;
    bool own;
    struct shared_row nobody = {.origin = "", .generation = 1};
    row = row_of(&f, 3, "theirs.pdf");
    must(store_begin(&tx, f.store, &err));
    assert_false(store_put_mirrored(tx, &own, &row, &nobody, NULL, NULL, 0, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    store_rollback(tx);
    fixture_close(&f);
}

static bool folder_exists(struct fixture *f, int n) {
    struct stat info;
    char *path = store_path(f->arena, f->store, test_id(f->arena, n), STORE_ORIGINAL, 0);
    *strrchr(path, '/') = '\0';
    return stat(path, &info) == 0;
}

static void the_check_asks_no_files_of_mirrored_documents(void **state) {
    (void)state;
    struct fixture f;
    int n_lost;
    fixture_open(&f);
    for (int i = 1; i <= 4; i++) {
        struct document_row row = row_of(&f, i, "m.pdf");
        assert_true(put_mirrored(&f, &row, "tusks", 1));
    }
    put_text(&f, 5, "walrus");
    must(store_check(f.store, &n_lost, &err));
    assert_int_equal(n_lost, 1);
    assert_string_equal(found_by(&f, "tusks walrus"), "1 2 3 4");
    assert_int_equal(find(&f, 1).state, DOCUMENT_READY);
    assert_false(folder_exists(&f, 1));
    /* No own document has its original: that mirrored ones need none does not hide it. */
    put_text(&f, 6, "walrus");
    put_text(&f, 7, "walrus");
    assert_false(store_check(f.store, &n_lost, &err));
    assert_string_equal(err.code, "originals_missing");
    fixture_close(&f);
}

static void mirrored_documents_lack_no_vectors(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    struct space_row space;
    struct vector_cover cover;
    struct lacking_row *rows;
    struct lacking_count count;
    int n;
    fixture_open(&f);
    struct document_row row = row_of(&f, 1, "m.pdf");
    assert_true(put_mirrored(&f, &row, "tusks", 1));
    put_text(&f, 2, "walrus");
    must(store_begin(&tx, f.store, &err));
    must(store_put_space(tx, &space, "pages", 4, true, &err));
    must(store_commit(tx, &err));
    const struct vector_need needs[] = {{VECTORS_PAGE, space.space}, {VECTORS_CHUNK, 0}};
    must(store_list_lacking(&rows, &n, f.arena, f.store, needs, 2, 0, INT64_MAX, 9, &err));
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].doc_id, test_id(f.arena, 2));
    must(store_count_lacking(&count, f.store, needs, 2, 0, INT64_MAX, &err));
    assert_int_equal(count.documents, 1);
    must(store_vector_cover(&cover, f.store, space.space, VECTORS_PAGE, NULL, &err));
    assert_false(cover.any);
    assert_int_equal(cover.n_without, 1);
    must(store_vector_cover(&cover, f.store, space.space, VECTORS_PAGE, row.doc_id, &err));
    assert_int_equal(cover.n_without, 0);

    /* It may have vectors here, which go with its reading. */
    struct vector_row vector = {50, VECTORS_PAGE, 1};
    int64_t id;
    bool found;
    must(store_begin(&tx, f.store, &err));
    must(store_put_vectors(tx, space.space, row.doc_id, &vector, 1, &err));
    must(store_commit(tx, &err));
    must(store_vector_cover(&cover, f.store, space.space, VECTORS_PAGE, NULL, &err));
    assert_true(cover.any);
    assert_int_equal(cover.n_without, 1);
    assert_true(put_mirrored(&f, &row, "tusks", 1));
    must(store_find_item(&id, &found, f.store, space.space, row.doc_id, VECTORS_PAGE, 1, &err));
    assert_false(found);
    fixture_close(&f);
}

static void a_mirrored_document_that_is_taken_in_becomes_own(void **state) {
    (void)state;
    struct fixture f;
    char id[SHA256_HEX + 1];
    bool found;
    fixture_open(&f);
    struct document_row row = row_of(&f, 1, "theirs.pdf");
    row.source_path = "/there/theirs.pdf";
    row.warning = "partial";
    assert_true(put_mirrored(&f, &row, "tusks", 3));
    row = row_of(&f, 1, "ours.pdf");
    row.source_path = "/here/ours.pdf";
    row.title = "";
    row.added_ms = 9000;
    assert_false(put_own(&f, &row));
    struct document_row got = find(&f, 1);
    assert_int_equal(got.state, DOCUMENT_WAITING);
    assert_string_equal(got.filename, "ours.pdf");
    assert_string_equal(got.source_path, "/here/ours.pdf");
    assert_string_equal(got.warning, "");
    assert_int_equal(got.added_ms, 9000);
    assert_int_equal(got.n_pages, 0);
    assert_int_equal(got.n_chunks, 0);
    assert_string_equal(found_by(&f, "tusks"), "");
    assert_string_equal(shared(&f, 1), " generation 3 epoch 0 ");
    must(store_find_source(id, &found, f.store, "/here/ours.pdf", &err));
    assert_true(found);
    assert_true(put_own(&f, &row));

    /* It follows its job as any own one, and is no longer one that a mirror may change. */
    struct store_tx *tx;
    struct job_row job;
    int64_t job_id;
    must(store_begin(&tx, f.store, &err));
    must(store_put_job(tx, &job_id, "ingest", row.doc_id, "f", 1, &err));
    must(store_commit(tx, &err));
    must(store_claim_job(&job, &found, f.arena, f.store, "run", time_wall_ms(), &err));
    must(store_begin(&tx, f.store, &err));
    must(store_end_job(tx, job_id, "run", 1, JOB_FAILED, "corrupt", "no", 0, 0, &err));
    must(store_commit(tx, &err));
    assert_int_equal(find(&f, 1).state, DOCUMENT_FAILED);
    assert_false(put_mirrored(&f, &row, "tusks", 3));
    read_own(&f, &row, "ivory");
    assert_string_equal(found_by(&f, "ivory tusks"), "1");
    fixture_close(&f);
}

/* "2 4 (last 4)": those not shared in the epoch. */
static const char *unshared(struct fixture *f, int64_t epoch, int64_t after, int limit) {
    struct shared_row *rows;
    int n;
    int64_t last;
    must(store_list_unshared(&rows, &n, &last, f->arena, f->store, epoch, after, limit, &err));
    char *text = arena_strdup(f->arena, "");
    for (int i = 0; i < n; i++)
        text = arena_printf(f->arena, "%s%ld ", text, strtol(rows[i].doc_id, NULL, 16));
    return arena_printf(f->arena, "%s(last %d)", text, (int)last);
}

static void own_documents_that_were_not_shared_are_listed(void **state) {
    (void)state;
    struct fixture f;
    struct shared_counts counts;
    fixture_open(&f);
    for (int i = 1; i <= 6; i++)
        put_text(&f, i, "walrus"); /* numbers are those of the rows */
    struct document_row waiting = row_of(&f, 7, "w.pdf"), mirrored = row_of(&f, 8, "m.pdf");
    put_own(&f, &waiting);
    assert_true(put_mirrored(&f, &mirrored, "tusks", 1));
    assert_string_equal(unshared(&f, 5, 0, 9), "1 2 3 4 5 6 (last 6)");
    assert_string_equal(unshared(&f, 0, 0, 9), "(last 0)");
    set_shared(&f, 1, 1, 5);
    set_shared(&f, 3, 1, 4);
    set_shared(&f, 5, 2, -6);
    set_shared(&f, 6, 1, 5);
    assert_string_equal(shared(&f, 5), " generation 2 epoch -6 rev");
    assert_string_equal(unshared(&f, 5, 0, 9), "2 3 4 5 (last 5)");
    assert_string_equal(unshared(&f, 5, 0, 3), "2 3 4 (last 4)");
    assert_string_equal(unshared(&f, 5, 4, 3), "5 (last 5)");
    assert_string_equal(unshared(&f, 5, 5, 3), "(last 5)");
    assert_string_equal(unshared(&f, 4, 0, 2), "1 2 (last 2)");
    must(store_count_shared(&counts, f.store, 5, &err));
    assert_int_equal(counts.own, 6);
    assert_int_equal(counts.mirrored, 1);
    assert_int_equal(counts.unshared, 4);
    assert_int_equal(counts.never_shared, 2);

    /* Another reading is not what the shared store has. */
    put_text(&f, 6, "seal");
    assert_string_equal(shared(&f, 6), " generation 1 epoch 0 ");
    assert_string_equal(unshared(&f, 5, 5, 3), "6 (last 6)");

    struct store_tx *tx;
    must(store_begin(&tx, f.store, &err));
    assert_false(store_set_shared(tx, test_id(f.arena, 99), 1, 1, "", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    store_rollback(tx);
    fixture_close(&f);
}

/* "1 2 8 ": documents that the store of epoch 5 was seen to have. */
static const char *seen(struct fixture *f, int64_t after, int limit) {
    struct shared_row *rows;
    int n;
    must(store_list_seen(&rows, &n, f->arena, f->store, 5, after, limit, &err));
    char *text = arena_strdup(f->arena, "");
    for (int i = 0; i < n; i++) {
        assert_int_equal(rows[i].doc_no, strtol(rows[i].doc_id, NULL, 16));
        text = arena_printf(f->arena, "%s%d ", text, (int)rows[i].doc_no);
    }
    return text;
}

static void what_the_shared_store_has_no_more_is_to_be_put_again(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    struct shared_counts counts;
    fixture_open(&f);
    for (int i = 1; i <= 4; i++)
        put_text(&f, i, "walrus");
    struct document_row mirrored = row_of(&f, 5, "m.pdf"), waiting = row_of(&f, 6, "w.pdf");
    assert_true(put_mirrored(&f, &mirrored, "tusks", 1));
    put_own(&f, &waiting);
    for (int i = 1; i <= 3; i++)
        set_shared(&f, i, 1, i == 2 ? 4 : 5);
    set_shared(&f, 6, 1, 5);
    assert_string_equal(seen(&f, 0, 9), "1 3 5 ");
    assert_string_equal(seen(&f, 1, 1), "3 ");
    const int64_t gone[] = {1, 2, 4, 5};
    must(store_begin(&tx, f.store, &err));
    must(store_set_unseen(tx, 5, gone, 4, &err));
    must(store_commit(tx, &err));
    assert_string_equal(seen(&f, 0, 9), "3 ");
    assert_string_equal(shared(&f, 1), " generation 1 epoch 0 rev");
    assert_string_equal(shared(&f, 2), " generation 1 epoch 4 rev");
    assert_string_equal(unshared(&f, 5, 0, 9), "1 2 4 (last 4)");
    must(store_count_shared(&counts, f.store, 5, &err));
    assert_int_equal(counts.unshared, 3);
    assert_int_equal(counts.unseen, 1);
    fixture_close(&f);
}

static void put_job(struct fixture *f, int n, bool cancelled) {
    struct store_tx *tx;
    int64_t job_id;
    bool found = true;
    must(store_begin(&tx, f->store, &err));
    must(store_put_job(tx, &job_id, "ingest", test_id(f->arena, n), "x", 3, &err));
    if (cancelled)
        must(store_cancel_job(tx, &found, job_id, &err));
    assert_true(found);
    must(store_commit(tx, &err));
}

static void what_was_cancelled_while_it_was_held_is_not_counted(void **state) {
    (void)state;
    struct fixture f;
    struct shared_counts counts;
    fixture_open(&f);
    for (int i = 1; i <= 4; i++)
        put_text(&f, i, "walrus");
    for (int i = 1; i <= 3; i++)
        set_shared(&f, i, 0, SHARED_HELD);
    put_job(&f, 1, true);
    put_job(&f, 2, false);
    put_job(&f, 4, true); /* which is not held */
    must(store_count_shared(&counts, f.store, 5, &err));
    assert_int_equal(counts.own, 4);
    assert_int_equal(counts.cancelled, 1);
    assert_int_equal(counts.unshared, 3);
    assert_int_equal(counts.never_shared, 3);
    put_job(&f, 1, false); /* its newest counts */
    must(store_count_shared(&counts, f.store, 5, &err));
    assert_int_equal(counts.cancelled, 0);
    assert_int_equal(counts.unshared, 4);
    fixture_close(&f);
}

static void an_own_document_gives_way(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    char doc_id[SHA256_HEX + 1];
    bool found;
    fixture_open(&f);
    struct document_row row = row_of(&f, 1, "here.pdf");
    row.source_path = "/here/a.pdf";
    put_own(&f, &row);
    read_own(&f, &row, "walrus");
    row.source_path = "/there/a.pdf";
    assert_false(put_mirrored(&f, &row, "tusks", 1));
    must(store_begin(&tx, f.store, &err));
    must(store_give_up(tx, row.doc_id, "other:8", &err));
    must(store_commit(tx, &err));
    assert_true(put_mirrored(&f, &row, "tusks", 1));
    assert_string_equal(shared(&f, 1), "other:8 generation 1 epoch 5 r1");
    assert_string_equal(found_by(&f, "tusks"), "1");
    assert_string_equal(found_by(&f, "walrus"), "");
    assert_string_equal(find(&f, 1).source_path, "/there/a.pdf");
    must(store_find_source(doc_id, &found, f.store, "/here/a.pdf", &err));
    assert_false(found);
    must(store_begin(&tx, f.store, &err));
    assert_false(store_give_up(tx, test_id(f.arena, 9), "other:8", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    store_rollback(tx);
    fixture_close(&f);
}

/* "3 1 2": removals not told. */
static const char *untold(struct fixture *f, int limit) {
    struct removal_row *rows;
    int n;
    must(store_list_removals(&rows, &n, f->arena, f->store, limit, &err));
    char *text = arena_strdup(f->arena, "");
    for (int i = 0; i < n; i++)
        text = arena_printf(f->arena, "%s%s%ld/%d", text, i ? " " : "",
                            strtol(rows[i].doc_id, NULL, 16), (int)rows[i].generation);
    return text;
}

static void put_removal(struct fixture *f, int n, int64_t generation, int64_t ms, bool told) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(store_put_removal(tx, test_id(f->arena, n), generation, ms, told, &err));
    must(store_commit(tx, &err));
}

static void removals_are_told_and_forgotten(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    struct shared_counts counts;
    fixture_open(&f);
    put_removal(&f, 1, 4, 300, false);
    put_removal(&f, 2, 1, 100, true);
    put_removal(&f, 3, 1, 200, false);
    assert_string_equal(untold(&f, 9), "3/1 1/4");
    assert_string_equal(untold(&f, 1), "3/1");
    assert_int_equal(removal(&f, 1), 4);
    assert_int_equal(removal(&f, 9), 0);
    must(store_begin(&tx, f.store, &err));
    struct removal_row third = {.generation = 1, .removed_ms = 200};
    memcpy(third.doc_id, test_id(f.arena, 3), sizeof third.doc_id);
    must(store_set_removal_told(tx, &third, 1, &err));
    must(store_commit(tx, &err));
    fixture_reopen(&f);
    assert_string_equal(untold(&f, 9), "1/4");
    must(store_count_shared(&counts, f.store, 5, &err));
    assert_int_equal(counts.removals, 3);
    assert_int_equal(counts.untold, 1);
    must(store_begin(&tx, f.store, &err));
    must(store_forget_told(tx, &err));
    must(store_commit(tx, &err));
    assert_string_equal(untold(&f, 9), "2/1 3/1 1/4");

    put_removal(&f, 1, 3, 50, true); /* an older one says nothing of this one */
    put_removal(&f, 2, 1, 50, true); /* the same, heard from elsewhere */
    put_removal(&f, 3, 2, 900, false);
    assert_string_equal(untold(&f, 9), "1/4 3/2");
    put_removal(&f, 3, 2, 900, true);
    assert_string_equal(untold(&f, 9), "1/4");
    put_removal(&f, 3, 2, 900, false); /* something of it was left behind */
    assert_string_equal(untold(&f, 9), "1/4 3/2");
    put_removal(&f, 3, 2, 900, true);
    put_removal(&f, 3, 1, 50, false); /* of an older generation too */
    assert_string_equal(untold(&f, 9), "1/4 3/2");
    fixture_close(&f);
}

static void tell(struct fixture *f, const struct removal_row *row, int64_t generation) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    must(store_set_removal_told(tx, row, generation, &err));
    must(store_commit(tx, &err));
}

static void a_removal_put_in_while_one_is_told_is_not_told(void **state) {
    (void)state;
    struct fixture f;
    struct removal_row *rows;
    int n;
    fixture_open(&f);
    put_removal(&f, 1, 4, 300, false);
    put_removal(&f, 2, 0, 300, false);
    put_removal(&f, 3, 2, 300, false);
    must(store_list_removals(&rows, &n, f.arena, f.store, 9, &err));
    assert_int_equal(n, 3);
    put_removal(&f, 1, 4, 300, false); /* in the same millisecond */
    put_removal(&f, 3, 3, 300, false);
    for (int i = 0; i < n; i++)
        tell(&f, &rows[i], rows[i].generation > 0 ? rows[i].generation : 7);
    assert_string_equal(untold(&f, 9), "3/3 1/4");
    assert_int_equal(removal(&f, 2), 7); /* nobody knew it here */
    must(store_list_removals(&rows, &n, f.arena, f.store, 9, &err));
    for (int i = 0; i < n; i++)
        tell(&f, &rows[i], rows[i].generation);
    assert_string_equal(untold(&f, 9), "");
    fixture_close(&f);
}

static void a_removal_outlives_what_it_removed(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct document_row row = row_of(&f, 1, "m.pdf");
    assert_true(put_mirrored(&f, &row, "tusks", 2));
    delete_one(&f, 1, 2);
    assert_string_equal(untold(&f, 9), "1/2");
    /* The mirror still reads what was removed here. */
    assert_true(put_mirrored(&f, &row, "tusks", 2));
    assert_string_equal(shared(&f, 1), "none");
    assert_string_equal(found_by(&f, "tusks"), "");
    assert_true(put_mirrored(&f, &row, "tusks", 3));
    assert_string_equal(found_by(&f, "tusks"), "1");
    assert_string_equal(untold(&f, 9), "");
    assert_int_equal(removal(&f, 1), 2);
    delete_one(&f, 1, 3);
    assert_int_equal(removal(&f, 1), 3);

    assert_false(put_own(&f, &row));
    assert_string_equal(untold(&f, 9), "");
    assert_int_equal(removal(&f, 1), 3);
    assert_string_equal(shared(&f, 1), " generation 0 epoch 0 ");
    read_own(&f, &row, "ivory");
    assert_int_equal(removal(&f, 1), 3);
    /* Gone before it was ever shared: its removal is the one that it came back from. */
    delete_one(&f, 1, 0);
    assert_string_equal(untold(&f, 9), "1/3");
    fixture_close(&f);
}

/* The documents 1 to 6 that the filter lets through, both ways: "1 4". */
static const char *let_through(struct fixture *f, const struct search_filter *filter) {
    char(*ids)[SHA256_HEX + 1];
    bool allowed[6];
    const char *asked[6];
    int n;
    for (int i = 0; i < 6; i++)
        asked[i] = test_id(f->arena, i + 1);
    must(store_filter_documents(allowed, f->store, asked, 6, filter, &err));
    must(store_list_filtered(&ids, &n, f->arena, f->store, filter, 6, &err));
    char *text = arena_strdup(f->arena, "");
    int n_allowed = 0, n_listed = 0;
    for (int i = 0; i < 6; i++) {
        n_allowed += allowed[i];
        for (int k = 0; k < n; k++)
            n_listed += allowed[i] && strcmp(ids[k], asked[i]) == 0;
        if (allowed[i])
            text = arena_printf(f->arena, "%s%s%d", text, text[0] ? " " : "", i + 1);
    }
    assert_int_equal(n_allowed, n);
    assert_int_equal(n_listed, n);
    return text;
}

static void filters_judge_documents(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "walrus"); /* txt, added at 1001 */
    struct document_row own = row_of(&f, 2, "o.pdf"), theirs = row_of(&f, 3, "m.pdf"),
                        waiting = row_of(&f, 4, "w.pdf"), image = row_of(&f, 5, "i.png");
    own.source_path = "/in/deep/o.pdf";
    put_own(&f, &own);
    read_own(&f, &own, "walrus");
    theirs.source_path = "/in/m.pdf";
    assert_true(put_mirrored(&f, &theirs, "walrus", 1));
    waiting.source_path = "/in/w.pdf";
    put_own(&f, &waiting);
    image.format = "png";
    image.group = "images";
    image.n_chunks = 0;
    put_own(&f, &image);
    struct store_tx *tx;
    must(store_begin(&tx, f.store, &err));
    must(store_put_reading(tx, &image, NULL, NULL, 0, &err));
    must(store_commit(tx, &err));

    assert_string_equal(let_through(&f, NULL), "1 2 3 5");
    struct search_filter filter = {.folder = "/in/"};
    assert_string_equal(let_through(&f, &filter), "2 3");
    filter = (struct search_filter){.folder = "/in/d"};
    assert_string_equal(let_through(&f, &filter), "2");
    const char *formats[] = {"txt", "images", "\xff"};
    filter = (struct search_filter){.formats = formats, .n_formats = 3};
    assert_string_equal(let_through(&f, &filter), "1 5");
    filter.n_formats = 0;
    assert_string_equal(let_through(&f, &filter), "");
    filter = (struct search_filter){.added_from_ms = 1002, .added_to_ms = 1003};
    assert_string_equal(let_through(&f, &filter), "2 3");
    filter.page_from = 100; /* pages are not judged */
    assert_string_equal(let_through(&f, &filter), "2 3");
    const char *ids[] = {test_id(f.arena, 3), test_id(f.arena, 4), test_id(f.arena, 3), "\xff",
                         test_id(f.arena, 1)};
    filter = (struct search_filter){.doc_ids = ids, .n_doc_ids = 5};
    assert_string_equal(let_through(&f, &filter), "1 3");
    filter.folder = "/in/";
    assert_string_equal(let_through(&f, &filter), "3");

    /* Each place of what is asked is answered; the same filter finds passages. */
    bool allowed[5];
    must(store_filter_documents(allowed, f.store, ids, 5, NULL, &err));
    assert_true(allowed[0] && allowed[2] && allowed[4]);
    assert_false(allowed[1] || allowed[3]);
    must(store_filter_documents(allowed, f.store, ids, 0, NULL, &err));
    struct lexical_hit *hits;
    int n;
    filter = (struct search_filter){.folder = "/in/m"};
    must(lexical_search(&hits, &n, f.arena, f.store, lexical_parse(f.arena, "walrus"), &filter, 9,
                        &err));
    assert_int_equal(n, 1);
    assert_string_equal(hits[0].doc_id, theirs.doc_id);

    char(*listed)[SHA256_HEX + 1];
    must(store_list_filtered(&listed, &n, f.arena, f.store, NULL, 4, &err));
    assert_int_equal(n, 4);
    must(store_list_filtered(&listed, &n, f.arena, f.store, NULL, 3, &err));
    assert_int_equal(n, -1);
    assert_null(listed);
    fixture_close(&f);
}

int run_shared_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mirrored_document_is_found_like_an_own_one),
        cmocka_unit_test(an_own_document_is_not_mirrored),
        cmocka_unit_test(the_check_asks_no_files_of_mirrored_documents),
        cmocka_unit_test(mirrored_documents_lack_no_vectors),
        cmocka_unit_test(a_mirrored_document_that_is_taken_in_becomes_own),
        cmocka_unit_test(own_documents_that_were_not_shared_are_listed),
        cmocka_unit_test(what_the_shared_store_has_no_more_is_to_be_put_again),
        cmocka_unit_test(what_was_cancelled_while_it_was_held_is_not_counted),
        cmocka_unit_test(an_own_document_gives_way),
        cmocka_unit_test(removals_are_told_and_forgotten),
        cmocka_unit_test(a_removal_put_in_while_one_is_told_is_not_told),
        cmocka_unit_test(a_removal_outlives_what_it_removed),
        cmocka_unit_test(filters_judge_documents),
    };
    return cmocka_run_group_tests_name("shared", tests, NULL, NULL);
}
