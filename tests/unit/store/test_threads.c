/* Readers beside the writer, writers beside each other. */
#include "tests.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define N_THREADS 8
#define N_DOCUMENTS 40

struct work {
    struct fixture *f;
    int first; /* document number */
    atomic_int *n_left, *n_bad;
};

static void put_one(struct store *store, struct arena *arena, int n, const char *text,
                    bool remove) {
    struct store_tx *tx;
    struct error failure;
    struct document_row row = {.filename = "f", .added_ms = n};
    struct chunk_row chunks[2] = {{.text = text, .heading_path = ""},
                                  {.ordinal = 1, .text = text, .heading_path = ""}};
    bool existed, found;
    int n_pages, n_chunks;
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(arena, n));
    bool ok = store_begin(&tx, store, &failure) &&
              store_put_document(tx, &existed, &row, &failure) &&
              store_put_reading(tx, &row, NULL, chunks, 2, &failure) &&
              (!remove ||
               store_delete_document(tx, &found, &n_pages, &n_chunks, row.doc_id, &failure)) &&
              store_commit(tx, &failure);
    if (!ok)
        abort();
}

static void write_documents(void *arg) {
    struct work *work = arg;
    for (int i = 0; i < N_DOCUMENTS; i++) {
        struct arena *arena = arena_new(0);
        put_one(work->f->store, arena, work->first + i, "common needle in a haystack", i % 4 == 3);
        arena_free(arena);
    }
    atomic_fetch_sub(work->n_left, 1);
}

/* Both chunks of a document are found, or none. */
static void read_documents(void *arg) {
    struct work *work = arg;
    while (atomic_load(work->n_left) > 0) {
        struct arena *arena = arena_new(0);
        struct lexical_hit *hits;
        struct store_counts counts;
        struct error failure;
        int n;
        if (!lexical_search(&hits, &n, arena, work->f->store, lexical_parse(arena, "needle"), NULL,
                            10000, &failure) ||
            n % 2 != 0 || !store_counts(&counts, work->f->store, &failure) ||
            counts.chunks != 2 * counts.ready)
            atomic_fetch_add(work->n_bad, 1);
        arena_free(arena);
    }
}

static void readers_and_writers_share_the_store(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    atomic_int n_left = N_THREADS, n_bad = 0;
    struct thread *threads[2 * N_THREADS];
    struct work work[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        work[i] = (struct work){&f, 1 + i * N_DOCUMENTS, &n_left, &n_bad};
        must(thread_start(&threads[i], "writer", write_documents, &work[i], &err));
        must(thread_start(&threads[N_THREADS + i], "reader", read_documents, &work[i], &err));
    }
    for (int i = 0; i < 2 * N_THREADS; i++)
        thread_join(threads[i]);
    assert_int_equal(n_bad, 0);
    struct store_counts counts;
    must(store_counts(&counts, f.store, &err));
    assert_int_equal(counts.ready, N_THREADS * N_DOCUMENTS * 3 / 4);
    struct lexical_hit *hits;
    int n;
    must(lexical_search(&hits, &n, f.arena, f.store, lexical_parse(f.arena, "needle"), NULL, 10000,
                        &err));
    assert_int_equal(n, 2 * counts.ready);
    fixture_close(&f);
}

int run_thread_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_and_writers_share_the_store),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
