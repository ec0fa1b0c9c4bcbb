/* The store under faults: killed, or given EIO or ENOSPC, at every operation on its files in turn.
 *
 * A child runs a fixed course of transactions and says after each commit that it is done. Then the
 * database is opened again without faults; its state must be that after the last step said to be
 * done, or after the one that was under way, whole. */
#include "fault_vfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/internal.h"
#include "store/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_STEPS 12
#define N_BIG 40

static char *root;

static void name_id(char out[SHA256_HEX + 1], int n) {
    snprintf(out, SHA256_HEX + 1, "%064x", (unsigned)n);
}

static bool put(struct store_tx *tx, int n, int64_t next_id, const char *text, int n_chunks,
                struct error *err) {
    struct document_row row = {.filename = "f", .added_ms = n, .ready_ms = 1, .n_pages = 1};
    struct page_row page = {.width_pt = 1, .height_pt = 1};
    struct chunk_row chunks[N_BIG] = {0};
    struct vector_row vectors[N_BIG];
    struct space_row space;
    bool existed;
    name_id(row.doc_id, n);
    for (int i = 0; i < n_chunks; i++) {
        chunks[i] = (struct chunk_row){.ordinal = i, .text = text, .places = "p", .places_len = 1};
        vectors[i] = (struct vector_row){next_id++, VECTORS_CHUNK, i};
    }
    return store_put_document(tx, &existed, &row, err) &&
           (n_chunks == 0 ||
            (store_put_reading(tx, &row, &page, chunks, n_chunks, err) &&
             store_put_space(tx, &space, "space", 8, false, err) &&
             store_put_vectors(tx, space.space, row.doc_id, vectors, n_chunks, err)));
}

static bool put_mirrored(struct store_tx *tx, int n, int64_t generation, const char *text,
                         struct error *err) {
    struct document_row row = {.filename = "m", .added_ms = n, .ready_ms = 1};
    struct shared_row shared = {.origin = "other", .generation = generation, .revision = "r"};
    struct chunk_row chunk = {.text = text};
    bool own;
    name_id(row.doc_id, n);
    return store_put_mirrored(tx, &own, &row, &shared, NULL, &chunk, 1, err);
}

/* One step in its transaction. */
static bool step_in(struct store_tx *tx, int step, struct error *err) {
    char id[SHA256_HEX + 1];
    bool found;
    int n_pages, n_chunks;
    int64_t job_id;
    switch (step) {
    case 1:
        return put(tx, 1, 10, "alpha beta", 2, err);
    case 2:
        name_id(id, 2);
        return put(tx, 2, 0, "", 0, err) && store_put_job(tx, &job_id, "ingest", id, "f", 3, err);
    case 4:
        return store_end_job(tx, 1, "run", 1, JOB_COMPLETED, "", "", 0, 1, err) &&
               put(tx, 2, 20, "alpha delta", 3, err);
    case 5:
        name_id(id, 1);
        return store_delete_document(tx, &found, &n_pages, &n_chunks, id, err);
    case 6:
        return put(tx, 3, 100, "gamma rays of many kinds, over and over, in long passages of text",
                   N_BIG, err);
    case 7:
        name_id(id, 2);
        return store_set_document_state(tx, id, DOCUMENT_FAILED, "corrupt", "text", err);
    case 8:
        return put(tx, 3, 200, "epsilon", 1, err);
    case 9:
        return put(tx, 2, 300, "alpha again", 2, err);
    case 10:
        return put_mirrored(tx, 4, 1, "beta elsewhere", err);
    case 11:
        name_id(id, 4);
        return store_delete_document(tx, &found, &n_pages, &n_chunks, id, err) &&
               store_put_removal(tx, id, 1, 1, false, err);
    case 12:
        name_id(id, 3); /* of three whose originals are all missing the check would complain */
        return store_delete_document(tx, &found, &n_pages, &n_chunks, id, err) &&
               put_mirrored(tx, 4, 2, "delta elsewhere", err) &&
               put(tx, 4, 400, "beta here", 1, err);
    default:
        return false;
    }
}

static bool run_step(struct store *store, int step, struct error *err) {
    struct store_tx *tx;
    if (step == 3) {
        struct arena *arena = arena_new(0);
        struct job_row job;
        bool found;
        bool ok = store_claim_job(&job, &found, arena, store, "run", 1, err);
        arena_free(arena);
        return ok;
    }
    if (!store_begin(&tx, store, err))
        return false;
    if (step_in(tx, step, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

static bool describe_ids(void *ctx, const int64_t *ids, int n) {
    for (int i = 0; i < n; i++)
        buf_printf(ctx, "vector %lld; ", (long long)ids[i]);
    return true;
}

static void describe_vectors(struct buf *out, struct store *store, struct arena *arena) {
    struct error err;
    struct space_row *spaces;
    int n;
    if (!store_list_spaces(&spaces, &n, arena, store, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        buf_printf(out, "space %s: ", spaces[i].name);
        if (!store_visit_vectors(store, spaces[i].space, VECTORS_CHUNK, NULL, describe_ids, out,
                                 &err))
            fail_msg("%s", err.text);
    }
}

static void describe_shared(struct buf *out, struct store *store, struct arena *arena,
                            const char *doc_id) {
    struct error err;
    struct shared_row shared;
    int64_t removed = 0;
    bool found;
    if (!store_find_shared(&shared, &found, arena, store, doc_id, &err) ||
        !store_find_removal(&removed, store, doc_id, &err))
        fail_msg("%s", err.text);
    buf_printf(out, " origin '%s' generation %d removed %d; ", shared.origin,
               (int)shared.generation, (int)removed);
}

/* All that can be seen of the store, in words. */
static char *describe(struct store *store) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct buf out = {0};
    static const char *const queries[] = {"alpha", "beta", "gamma", "delta", "epsilon", "kind*"};
    for (size_t i = 0; i < BASE_COUNT(queries); i++) {
        struct lexical_hit *hits;
        int n;
        if (!lexical_search(&hits, &n, arena, store, lexical_parse(arena, queries[i]), NULL, 1000,
                            &err))
            fail_msg("%s: %s", queries[i], err.text);
        buf_printf(&out, "%s:", queries[i]);
        for (int h = 0; h < n; h++)
            buf_printf(&out, " %ld", strtol(hits[h].doc_id, NULL, 16));
        buf_puts(&out, "; ");
    }
    describe_vectors(&out, store, arena);
    struct document_row *rows;
    int n;
    int64_t total;
    struct store_list_query query = {.sort = SORT_OLDEST, .limit = 100};
    if (!store_list_documents(&rows, &n, &total, arena, store, &query, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        struct chunk_row *chunks;
        int n_chunks;
        if (!store_list_chunks(&chunks, &n_chunks, arena, store, rows[i].doc_id, true, &err))
            fail_msg("%s", err.text);
        buf_printf(&out, "document %ld state %d chunks %d %d", strtol(rows[i].doc_id, NULL, 16),
                   rows[i].state, rows[i].n_chunks, n_chunks);
        describe_shared(&out, store, arena, rows[i].doc_id);
    }
    struct removal_row *removals;
    if (!store_list_removals(&removals, &n, arena, store, 9, &err))
        fail_msg("%s", err.text);
    buf_printf(&out, "%d removals; ", n);
    struct job_row job;
    bool found;
    if (!store_find_job(&job, &found, arena, store, 1, &err))
        fail_msg("%s", err.text);
    if (found)
        buf_printf(&out, "job state %d attempts %d", job.state, job.attempts);
    char *text = mem_strdup(out.data);
    buf_fini(&out);
    arena_free(arena);
    return text;
}

/* The child: says each step it has done. With ENOSPC a step is tried again, as a job would be. */
static void run_course(const char *dir, int say, enum fault fault) {
    struct store *store = NULL;
    struct error err;
    char done = 0;
    for (int tries = 0; !store_open(&store, dir, &err); tries++) {
        if (fault != FAULT_ENOSPC || tries > 3)
            _exit(0);
    }
    if (write(say, &done, 1) != 1)
        _exit(2);
    for (done = 1; done <= N_STEPS; done++) {
        bool ok = run_step(store, done, &err);
        for (int tries = 0; !ok && fault == FAULT_ENOSPC && tries < 4; tries++) {
            if (strcmp(err.code, "disk_full") != 0 && err.kind != ERROR_INTERNAL)
                _exit(3);
            ok = run_step(store, done, &err);
        }
        if (!ok) {
            struct error again;
            if (fault != FAULT_EIO || err.kind != ERROR_IO || run_step(store, done, &again))
                _exit(4); /* after an i/o error nothing is written */
            break;
        }
        if (write(say, &done, 1) != 1)
            _exit(2);
    }
    store_close(store);
    _exit(0);
}

/* Runs the course with the fault at operation n; the last step said, or -1. *met: the fault came.
 */
static int run_child(const char *dir, enum fault fault, int n, bool *met) {
    int ends[2], status, last = -1;
    char said;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        fault_vfs_arm(fault, n);
        run_course(dir, ends[1], fault);
    }
    close(ends[1]);
    while (read(ends[0], &said, 1) == 1)
        last = said;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        fail_msg("the child ended with %#x at operation %d after step %d", status, n, last);
    if (fault == FAULT_KILL)
        *met = killed;
    else
        *met = fault != FAULT_EIO || last < N_STEPS;
    return last;
}

static void check_integrity(struct store *store) {
    struct error err;
    int n_lost;
    if (!conn_exec(store->writer, "INSERT INTO chunks_fts (chunks_fts) VALUES ('integrity-check')",
                   &err))
        fail_msg("full text: %s", err.text);
    if (!store_check(store, &n_lost, &err))
        fail_msg("%s", err.text);
}

static char *expected[N_STEPS + 1];
static int n_all;

/* The states after each step, and how many operations there are, without faults. */
static int learn(void **state) {
    (void)state;
    struct error err;
    struct store *store;
    char *dir = mem_printf("%s/plain", root);
    fault_vfs_arm(FAULT_NONE, 0);
    if (!store_open(&store, dir, &err))
        return -1;
    expected[0] = describe(store);
    for (int step = 1; step <= N_STEPS; step++) {
        if (!run_step(store, step, &err))
            return -1;
        expected[step] = describe(store);
    }
    store_close(store);
    n_all = fault_vfs_count();
    mem_free(dir);
    return n_all > 50 ? 0 : -1;
}

static int forget(void **state) {
    (void)state;
    for (int i = 0; i <= N_STEPS; i++)
        mem_free(expected[i]);
    return 0;
}

static void try_all(enum fault fault) {
    int n_met = 0;
    for (int n = 1; n <= n_all; n++) {
        struct error err;
        struct store *store;
        bool met;
        char *dir = mem_printf("%s/fault-%d-%d", root, (int)fault, n);
        int last = run_child(dir, fault, n, &met);
        n_met += met;
        fault_vfs_arm(FAULT_NONE, 0);
        if (!store_open(&store, dir, &err))
            fail_msg("operation %d: %s", n, err.text);
        char *found = describe(store);
        int step = last < 0 ? 0 : last;
        bool as_said = strcmp(found, expected[step]) == 0;
        bool one_more = step < N_STEPS && strcmp(found, expected[step + 1]) == 0;
        if (fault == FAULT_ENOSPC)
            assert_int_equal(last, N_STEPS); /* it went on when there was space again */
        if (!as_said && !one_more)
            fail_msg("operation %d, step %d: found\n%s\nnot\n%s", n, step, found, expected[step]);
        check_integrity(store);
        mem_free(found);
        store_close(store);
        dir_remove(dir, &err);
        mem_free(dir);
    }
    assert_true(n_met > n_all / 2);
}

static void killed_at_every_operation(void **state) {
    (void)state;
    try_all(FAULT_KILL);
}

static void io_error_at_every_operation(void **state) {
    (void)state;
    try_all(FAULT_EIO);
}

static void disk_full_at_every_operation(void **state) {
    (void)state;
    try_all(FAULT_ENOSPC);
}

int main(void) {
    struct error err;
    /* Nothing here asks the disk to keep what it was told to sync, so memory will do. */
    const char *tmp = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        tmp = "/dev/shm";
    root = mem_printf("%s/docusearch-fault-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(root))
        return 1;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    fault_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_operation),
        cmocka_unit_test(io_error_at_every_operation),
        cmocka_unit_test(disk_full_at_every_operation),
    };
    int failed = cmocka_run_group_tests_name("storage faults", tests, learn, forget);
    dir_remove(root, &err);
    mem_free(root);
    return failed != 0;
}
