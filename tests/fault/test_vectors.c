/* Store and index together under faults: killed, or given EIO or ENOSPC, at every operation on
 * their files in turn; refused each allocation in turn.
 *
 * A child puts documents with vectors, deletes some, puts one again, compacts, and drops a space;
 * it says after each step that it is done. Then both are opened again without faults: what is found
 * must be what was there after the last step said, or after the one that was under way, whole: each
 * item with its own score, nothing damaged, nothing twice. */
#include "fault_vfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_STEPS 13
#define DIM 64
#define N_VECTORS 9
#define EVERY 500 /* answers to a question, more than there are items */

static char *root;

struct both {
    struct store *store;
    struct index *index;
    int late, single;
    int n_damaged;
};

static void fill(float *vectors, int n, unsigned seed) {
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int v = 0; v < n; v++) {
        double sum = 0;
        for (int d = 0; d < DIM; d++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            vectors[v * DIM + d] = (float)(state >> 40) / (float)(1 << 23) - 1;
            sum += (double)vectors[v * DIM + d] * (double)vectors[v * DIM + d];
        }
        for (int d = 0; d < DIM; d++)
            vectors[v * DIM + d] /= (float)sqrt(sum);
    }
}

static void note_damage(void *ctx, const struct index_damage *damage) {
    struct both *both = ctx;
    (void)damage;
    both->n_damaged++;
}

static void close_both(struct both *both) {
    index_close(both->index);
    store_close(both->store);
    both->index = NULL;
    both->store = NULL;
}

static bool open_both(struct both *both, const char *dir, struct error *err) {
    const struct index_settings settings = {
        .pool_factor = 2, .code_bits = 4, .keep_full = true, .recall = 1};
    *both = (struct both){0};
    if (!store_open(&both->store, dir, err) ||
        !index_open(&both->index, both->store, dir, &settings, err)) {
        close_both(both);
        return false;
    }
    index_on_damage(both->index, note_damage, both);
    return true;
}

static bool find_spaces(struct both *both, struct error *err) {
    struct space_info late = {.name = "late", .dim = DIM, .late = true};
    struct space_info single = {.name = "single", .dim = DIM};
    return index_space(&both->late, both->index, &late, err) &&
           index_space(&both->single, both->index, &single, err);
}

static bool put(struct both *both, int space, int n, int n_items, struct error *err) {
    struct document_row row = {.filename = "f", .added_ms = n, .ready_ms = 1, .n_pages = n_items};
    struct page_row pages[16] = {{1, 1, 0}};
    struct index_writer *writer;
    struct store_tx *tx;
    float vectors[N_VECTORS * DIM];
    bool existed, late = space == both->late;
    snprintf(row.doc_id, sizeof row.doc_id, "%064x", (unsigned)n);
    if (!index_writer_open(&writer, both->index, space, row.doc_id, err))
        return false;
    bool ok = true;
    for (int i = 0; i < n_items && ok; i++) {
        fill(vectors, N_VECTORS, (unsigned)(n * 1000 + n_items * 100 + i));
        ok = index_writer_add(writer, ITEM_PAGE, i + 1, vectors, late ? N_VECTORS : 1, err);
    }
    if (ok && (ok = index_writer_sync(writer, err) && store_begin(&tx, both->store, err))) {
        ok = store_put_document(tx, &existed, &row, err) &&
             store_put_reading(tx, &row, pages, NULL, 0, err) &&
             index_writer_commit(writer, tx, err);
        if (ok)
            ok = store_commit(tx, err);
        else
            store_rollback(tx);
    }
    index_writer_free(writer);
    return ok;
}

static bool delete (struct both *both, int n, struct error *err) {
    struct store_tx *tx;
    char id[SHA256_HEX + 1];
    bool found;
    int n_pages, n_chunks;
    snprintf(id, sizeof id, "%064x", (unsigned)n);
    if (!store_begin(&tx, both->store, err))
        return false;
    if (store_delete_document(tx, &found, &n_pages, &n_chunks, id, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

static bool run_step(struct both *both, int step, struct error *err) {
    struct error ignored;
    switch (step) {
    case 1:
        return find_spaces(both, err);
    case 2:
        return put(both, both->late, 1, 3, err);
    case 3:
        return put(both, both->late, 2, 4, err);
    case 4:
        return put(both, both->single, 3, 5, err);
    case 5:
        return delete (both, 1, err);
    case 6:
        return put(both, both->late, 4, 3, err);
    case 7:
        return index_compact(both->index, err);
    case 8:
        return put(both, both->late, 2, 2, err); /* again, otherwise */
    case 9:
        return delete (both, 4, err);
    case 10:
        return index_compact(both->index, err);
    case 11:
        return put(both, both->late, 5, 6, err);
    case 12:
        /* A space that went with a commit whose answer was lost is not there to be dropped. */
        return index_drop_space(both->index, both->single, err) || err->kind == ERROR_MISSING;
    case 13:
        return put(both, both->late, 6, 1, err);
    default:
        return error_set(&ignored, ERROR_INTERNAL, "no step %d", step);
    }
}

/* All that a question finds, in words. */
static void describe_space(struct buf *out, struct both *both, int space, const char *name) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    float question[3 * DIM];
    fill(question, 3, 77);
    struct index_query query = {.space = space,
                                .kind = ITEM_PAGE,
                                .vectors = question,
                                .n_vectors = space == both->late ? 3 : 1,
                                .limit = EVERY,
                                .exact = true};
    buf_printf(out, "%s:", name);
    if (!index_search(&hits, &n, &effort, arena, both->index, &query, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++)
        buf_printf(out, " %ld:%d=%.4f", strtol(hits[i].doc_id, NULL, 16), hits[i].item,
                   hits[i].score);
    buf_puts(out, "; ");
    arena_free(arena);
}

static char *describe(struct both *both) {
    struct error err;
    struct buf out = {0};
    struct arena *arena = arena_new(0);
    struct space_facts *spaces;
    int n;
    int64_t n_items, n_damaged;
    both->late = both->single = 0;
    if (!index_spaces(&spaces, &n, arena, both->index, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        *(spaces[i].late ? &both->late : &both->single) = spaces[i].space;
        describe_space(&out, both, spaces[i].space, spaces[i].name);
    }
    if (!index_check(&n_items, &n_damaged, both->index, &err))
        fail_msg("%s", err.text);
    assert_int_equal(both->n_damaged, 0);
    assert_int_equal(n_damaged, 0);
    buf_printf(&out, "%d items", (int)n_items);
    char *text = mem_strdup(out.data);
    buf_fini(&out);
    arena_free(arena);
    return text;
}

/* The child: says each step it has done. A step that fails is tried again, as a job would be; after
 * an error that latches, that fails too. */
static void run_course(const char *dir, int say, enum fault fault) {
    struct both both;
    struct error err;
    char done = 0;
    for (int tries = 0; !open_both(&both, dir, &err); tries++) {
        if (tries > 3)
            _exit(0);
    }
    if (write(say, &done, 1) != 1)
        _exit(2);
    for (done = 1; done <= N_STEPS; done++) {
        bool ok = run_step(&both, done, &err);
        for (int tries = 0; !ok && tries < 4; tries++) {
            if (err.kind != ERROR_IO && err.kind != ERROR_INTERNAL)
                _exit(3);
            ok = run_step(&both, done, &err);
        }
        if (!ok && fault == FAULT_ENOSPC)
            _exit(4);
        if (!ok)
            break;
        if (write(say, &done, 1) != 1)
            _exit(2);
    }
    close_both(&both);
    _exit(0);
}

static int run_child(const char *dir, enum fault fault, int n) {
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
    bool killed = fault == FAULT_KILL && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        fail_msg("the child ended with %#x at operation %d after step %d", status, n, last);
    return last;
}

static char *expected[N_STEPS + 1];
static int n_all;

static int learn(void **state) {
    (void)state;
    struct error err;
    struct both both;
    char *dir = mem_printf("%s/plain", root);
    fault_vfs_arm(FAULT_NONE, 0);
    if (!open_both(&both, dir, &err))
        return -1;
    for (int step = 0; step <= N_STEPS; step++) {
        if (step > 0 && !run_step(&both, step, &err)) {
            print_message("step %d: %s\n", step, err.text);
            return -1;
        }
        int late = both.late, single = both.single;
        expected[step] = describe(&both);
        both.late = late;
        both.single = single;
    }
    close_both(&both);
    n_all = fault_vfs_count();
    print_message("%d operations\n", n_all);
    mem_free(dir);
    return n_all > 200 ? 0 : -1;
}

static int forget(void **state) {
    (void)state;
    for (int i = 0; i <= N_STEPS; i++)
        mem_free(expected[i]);
    return 0;
}

static void try_all(enum fault fault) {
    int n_ended_early = 0;
    for (int n = 1; n <= n_all; n++) {
        struct error err;
        struct both both;
        char *dir = mem_printf("%s/fault-%d-%d", root, (int)fault, n);
        int last = run_child(dir, fault, n);
        fault_vfs_arm(FAULT_NONE, 0);
        if (!open_both(&both, dir, &err))
            fail_msg("operation %d: %s", n, err.text);
        char *found = describe(&both);
        int step = last < 0 ? 0 : last;
        n_ended_early += last < N_STEPS;
        if (fault == FAULT_ENOSPC)
            assert_int_equal(last, N_STEPS); /* it went on when there was space again */
        if (strcmp(found, expected[step]) != 0 &&
            (step == N_STEPS || strcmp(found, expected[step + 1]) != 0) &&
            /* the first step is two commits: a space each */
            !(step == 0 && strcmp(found, "late:; 0 items") == 0))
            fail_msg("operation %d, step %d: found\n%s\nnot\n%s", n, step, found, expected[step]);
        mem_free(found);
        /* What was left goes on: a document more, and all is as it should be. */
        if (!find_spaces(&both, &err) || !put(&both, both.late, 9, 2, &err) ||
            !index_compact(both.index, &err))
            fail_msg("operation %d, after: %s", n, err.text);
        close_both(&both);
        if (!open_both(&both, dir, &err))
            fail_msg("operation %d, again: %s", n, err.text);
        found = describe(&both);
        assert_non_null(strstr(found, " 9:2="));
        mem_free(found);
        close_both(&both);
        dir_remove(dir, &err);
        mem_free(dir);
    }
    if (fault == FAULT_KILL)
        assert_true(n_ended_early > n_all / 2);
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

/* After a sync that failed none of the space's vectors are taken until a restart, and searches go
 * on. */
static void a_failed_sync_latches_the_space(void **state) {
    (void)state;
    struct error err;
    struct both both;
    char *dir = mem_printf("%s/latch", root);
    bool latched = false;
    for (int n = 1; n < 40 && !latched; n++) {
        fault_vfs_arm(FAULT_NONE, 0);
        if (!open_both(&both, dir, &err) || !find_spaces(&both, &err) ||
            !put(&both, both.late, 1, 3, &err) || !put(&both, both.single, 2, 1, &err))
            fail_msg("%s", err.text);
        fault_vfs_arm(FAULT_EIO, n);
        bool ok = put(&both, both.late, 100 + n, 3, &err);
        fault_vfs_arm(FAULT_NONE, 0);
        latched = !ok && strstr(err.text, "none are taken until a restart");
        if (latched) {
            assert_string_equal(err.code, "storage_error");
            assert_false(put(&both, both.late, 4, 1, &err));
            assert_non_null(strstr(err.text, "none are taken until a restart"));
            if (!put(&both, both.single, 5, 1, &err)) /* another space's files are its own */
                fail_msg("%s", err.text);
            struct buf out = {0};
            describe_space(&out, &both, both.late, "late");
            assert_non_null(strstr(out.data, " 1:3="));
            char refused[16];
            snprintf(refused, sizeof refused, " %d:", 100 + n);
            assert_null(strstr(out.data, refused));
            buf_fini(&out);
        }
        close_both(&both);
    }
    assert_true(latched);
    if (!open_both(&both, dir, &err) || !find_spaces(&both, &err) ||
        !put(&both, both.late, 4, 1, &err))
        fail_msg("%s", err.text);
    close_both(&both);
    mem_free(dir);
}

static void each_allocation_is_refused(void **state) {
    (void)state;
    struct error err;
    struct both both;
    char *dir = mem_printf("%s/memory", root);
    int n_refused = 0;
    fault_vfs_arm(FAULT_NONE, 0);
    if (!open_both(&both, dir, &err) || !find_spaces(&both, &err) ||
        !put(&both, both.late, 1, 3, &err))
        fail_msg("%s", err.text);
    char *before = describe(&both);
    for (int n = 1;; n++) {
        fault_memory_arm(n);
        bool ok = put(&both, both.late, 2, 3, &err);
        bool met = fault_memory_count() >= n;
        fault_memory_arm(0);
        if (ok && !met)
            break;
        n_refused += !ok;
        if (!ok && strcmp(err.code, "out_of_memory") != 0)
            fail_msg("block %d: %s", n, err.text);
        if (ok && !delete (&both, 2, &err))
            fail_msg("%s", err.text);
        char *after = describe(&both);
        assert_string_equal(after, before);
        mem_free(after);
    }
    assert_true(n_refused > 5);
    mem_free(before);
    before = describe(&both);
    n_refused = 0;
    for (int n = 1;; n++) { /* searches */
        struct arena *arena = arena_new(0);
        struct index_hit *hits;
        struct index_effort effort;
        int n_hits;
        float question[3 * DIM];
        fill(question, 3, 77);
        struct index_query query = {
            .space = both.late, .kind = ITEM_PAGE, .vectors = question, .n_vectors = 3, .limit = 4};
        fault_memory_arm(n);
        bool ok = index_search(&hits, &n_hits, &effort, arena, both.index, &query, &err);
        bool met = fault_memory_count() >= n;
        fault_memory_arm(0);
        arena_free(arena);
        n_refused += !ok;
        if (!ok && strcmp(err.code, "out_of_memory") != 0)
            fail_msg("block %d: %s", n, err.text);
        if (!met)
            break;
        if (ok)
            assert_int_equal(n_hits, 4);
    }
    assert_true(n_refused > 0);
    char *after = describe(&both);
    assert_string_equal(after, before);
    mem_free(after);
    mem_free(before);
    close_both(&both);
    mem_free(dir);
}

int main(void) {
    struct error err;
    const char *tmp = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        tmp = "/dev/shm";
    root = mem_printf("%s/docusearch-fault-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(root))
        return 1;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    index_segment_slots = 8;
    fault_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_operation),
        cmocka_unit_test(io_error_at_every_operation),
        cmocka_unit_test(disk_full_at_every_operation),
        cmocka_unit_test(a_failed_sync_latches_the_space),
        cmocka_unit_test(each_allocation_is_refused),
    };
    int failed = cmocka_run_group_tests_name("faults of vectors", tests, learn, forget);
    dir_remove(root, &err);
    mem_free(root);
    return failed != 0;
}
