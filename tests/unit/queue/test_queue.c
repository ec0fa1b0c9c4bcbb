/* Tests of queue: what becomes of jobs whose handlers succeed, fail, hang, are cancelled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/queue.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct error err;

#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

enum behaviour { SUCCEED, FAIL_FINAL, FAIL_BUSY, FAIL_DISK_FULL, HANG, FORGET_TO_END };

struct fixture {
    char *dir;
    struct store *store;
    struct queue *queue;
    struct arena *arena;
    _Atomic enum behaviour behaviour;
    atomic_int n_begun, n_running, most_running, n_told;
};

static bool handle(void *ctx, struct queue_job *job, struct error *failure) {
    struct fixture *f = ctx;
    struct store_tx *tx;
    atomic_fetch_add(&f->n_begun, 1);
    int n_running = atomic_fetch_add(&f->n_running, 1) + 1;
    int most = atomic_load(&f->most_running);
    while (n_running > most && !atomic_compare_exchange_weak(&f->most_running, &most, n_running))
        ;
    bool ok = false;
    queue_job_progress(job, "parsing", 0.25, 1, 4);
    switch (atomic_load(&f->behaviour)) {
    case SUCCEED:
        time_sleep_ms(2);
        ok = store_begin(&tx, f->store, failure);
        if (ok && !queue_end_in(job, tx, 4, failure)) {
            store_rollback(tx);
            ok = false;
        } else if (ok) {
            ok = store_commit(tx, failure);
        }
        break;
    case FAIL_FINAL:
        error_set_code(failure, ERROR_INPUT, "corrupt", "page 3");
        break;
    case FAIL_BUSY:
        error_set(failure, ERROR_BUSY, "later");
        break;
    case FAIL_DISK_FULL:
        error_set_code(failure, ERROR_IO, "disk_full", "no space");
        break;
    case HANG:
        while (!queue_job_cancelled(job))
            time_sleep_ms(5);
        error_set(failure, ERROR_CONFLICT, "cancelled");
        break;
    case FORGET_TO_END:
        ok = true;
        break;
    }
    atomic_fetch_sub(&f->n_running, 1);
    return ok;
}

static void listen_to(void *ctx, int64_t job_id) {
    struct fixture *f = ctx;
    (void)job_id;
    atomic_fetch_add(&f->n_told, 1);
}

static void open_queue(struct fixture *f, int n_workers) {
    must(queue_open(&f->queue, f->store, n_workers, handle, f, &err));
    queue_set_listener(f->queue, listen_to, f);
}

static void fixture_open(struct fixture *f, int n_workers) {
    memset(f, 0, sizeof *f);
    const char *root = getenv("TMPDIR");
    f->dir = mem_printf("%s/docusearch-queue-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    f->arena = arena_new(0);
    must(store_open(&f->store, f->dir, &err));
    open_queue(f, n_workers);
}

static void fixture_close(struct fixture *f) {
    queue_close(f->queue);
    store_close(f->store);
    arena_free(f->arena);
    must(dir_remove(f->dir, &err));
    mem_free(f->dir);
}

static const char *test_id(struct fixture *f, int n) {
    return arena_printf(f->arena, "%064x", (unsigned)n);
}

static int64_t put(struct fixture *f, int n) {
    struct store_tx *tx;
    struct document_row row = {.filename = "f", .added_ms = n};
    int64_t job_id;
    bool existed;
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(f, n));
    must(store_begin(&tx, f->store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    must(queue_put(&job_id, f->queue, tx, "ingest", row.doc_id, "f", 0, &err));
    must(store_commit(tx, &err));
    queue_wake(f->queue);
    return job_id;
}

static struct job_row job_row(struct fixture *f, int64_t job_id) {
    struct job_row row;
    bool found;
    must(store_find_job(&row, &found, f->arena, f->store, job_id, &err));
    assert_true(found);
    return row;
}

static void wait_for_state(struct fixture *f, int64_t job_id, enum job_state state) {
    int64_t until_ms = time_mono_ms() + 20000;
    while (job_row(f, job_id).state != state) {
        if (time_mono_ms() > until_ms)
            fail_msg("job is in state %d, not %d", job_row(f, job_id).state, state);
        time_sleep_ms(5);
    }
}

static void jobs_run_beside_each_other(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f, 4);
    for (int i = 1; i <= 40; i++)
        put(&f, i);
    assert_int_equal(queue_waiting(f.queue), 40);
    must(queue_start(f.queue, &err));
    assert_true(queue_drain(f.queue, time_mono_ms() + 30000));
    assert_int_equal(f.n_begun, 40);
    assert_in_range(f.most_running, 2, 4);
    assert_int_equal(queue_waiting(f.queue), 0);
    assert_true(f.n_told >= 80);
    struct store_counts counts;
    must(store_counts(&counts, f.store, &err));
    assert_int_equal(counts.jobs[JOB_COMPLETED], 40);
    int64_t late = put(&f, 41); /* an idle queue wakes */
    wait_for_state(&f, late, JOB_COMPLETED);
    assert_int_equal(job_row(&f, late).n_pages, 4);
    fixture_close(&f);
}

static void failures_are_final_or_tried_again(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f, 1);
    f.behaviour = FAIL_FINAL;
    int64_t job_id = put(&f, 1);
    must(queue_start(f.queue, &err));
    wait_for_state(&f, job_id, JOB_FAILED);
    assert_int_equal(f.n_begun, 1);
    assert_string_equal(job_row(&f, job_id).error_code, "corrupt");
    assert_string_equal(job_row(&f, job_id).error_text, "page 3");

    f.behaviour = FAIL_BUSY;
    job_id = put(&f, 2);
    while (f.n_begun < 2)
        time_sleep_ms(5);
    wait_for_state(&f, job_id, JOB_QUEUED);
    struct job_row row = job_row(&f, job_id);
    assert_in_range(row.not_before_ms - row.started_ms, 750, 60000);
    f.behaviour = SUCCEED;
    wait_for_state(&f, job_id, JOB_COMPLETED); /* by itself, when its time has come */
    assert_int_equal(job_row(&f, job_id).attempts, 2);

    f.behaviour = FORGET_TO_END;
    job_id = put(&f, 3);
    while (f.n_begun < 4)
        time_sleep_ms(5);
    wait_for_state(&f, job_id, JOB_QUEUED);
    fixture_close(&f);
}

static void a_full_disk_uses_up_no_attempt(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f, 1);
    f.behaviour = FAIL_DISK_FULL;
    int64_t job_id = put(&f, 1);
    must(queue_start(f.queue, &err));
    while (f.n_begun < 1)
        time_sleep_ms(5);
    wait_for_state(&f, job_id, JOB_QUEUED);
    assert_int_equal(job_row(&f, job_id).attempts, 0);
    assert_string_equal(job_row(&f, job_id).error_code, "disk_full");
    fixture_close(&f);
}

static void cancelling(void **state) {
    (void)state;
    struct fixture f;
    bool found;
    fixture_open(&f, 1);
    f.behaviour = HANG;
    int64_t running = put(&f, 1), waiting = put(&f, 2);
    must(queue_start(f.queue, &err));
    while (f.n_running < 1)
        time_sleep_ms(5);
    struct queue_progress progress;
    assert_true(queue_progress(&progress, f.queue, running));
    assert_string_equal(progress.stage, "parsing");
    assert_int_equal(progress.page, 1);
    assert_true(progress.remaining_ms >= 0);
    assert_int_equal(queue_running(f.queue), 1);
    assert_false(queue_progress(&progress, f.queue, waiting));

    must(queue_cancel(f.queue, &found, waiting, &err));
    assert_true(found);
    assert_int_equal(job_row(&f, waiting).state, JOB_CANCELLED);
    must(queue_cancel(f.queue, &found, running, &err));
    assert_true(found);
    wait_for_state(&f, running, JOB_CANCELLED);
    must(queue_cancel(f.queue, &found, running, &err));
    assert_false(found);
    assert_true(queue_drain(f.queue, time_mono_ms() + 5000));

    f.behaviour = SUCCEED;
    must(queue_retry(f.queue, &found, running, &err));
    assert_true(found);
    wait_for_state(&f, running, JOB_COMPLETED);
    must(queue_retry(f.queue, &found, running, &err));
    assert_false(found);

    f.behaviour = HANG; /* a document that is removed while it is worked on */
    put(&f, 3);
    while (f.n_running < 1)
        time_sleep_ms(5);
    queue_cancel_document(f.queue, test_id(&f, 3));
    struct store_tx *tx;
    int n_pages, n_chunks;
    must(store_begin(&tx, f.store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, test_id(&f, 3), &err));
    must(store_commit(tx, &err));
    assert_true(queue_drain(f.queue, time_mono_ms() + 5000));
    fixture_close(&f);
}

static void a_stop_is_quick_and_gives_attempts_back(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f, 2);
    f.behaviour = HANG;
    int64_t jobs[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = put(&f, i + 1);
    must(queue_start(f.queue, &err));
    while (f.n_running < 2)
        time_sleep_ms(5);
    assert_false(queue_drain(f.queue, time_mono_ms() + 50));
    int64_t begun_ms = time_mono_ms();
    queue_stop(f.queue);
    assert_true(time_mono_ms() - begun_ms < 5000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(job_row(&f, jobs[i]).state, JOB_QUEUED);
        assert_int_equal(job_row(&f, jobs[i]).attempts, 0);
    }
    f.behaviour = SUCCEED;
    must(queue_start(f.queue, &err)); /* and it can go on */
    assert_true(queue_drain(f.queue, time_mono_ms() + 10000));
    for (int i = 0; i < 3; i++)
        assert_int_equal(job_row(&f, jobs[i]).state, JOB_COMPLETED);
    fixture_close(&f);
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    struct fixture f;
    struct store_tx *tx;
    int64_t job_id;
    fixture_open(&f, 1);
    put(&f, 1);
    put(&f, 2);
    must(store_begin(&tx, f.store, &err));
    assert_false(queue_put(&job_id, f.queue, tx, "ingest", test_id(&f, 3), "f", 2, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_string_equal(err.code, "queue_full");
    must(queue_put(&job_id, f.queue, tx, "ingest", test_id(&f, 3), "f", 3, &err));
    store_rollback(tx);
    fixture_close(&f);
}

static void jobs_of_a_dead_run_are_taken_up(void **state) {
    (void)state;
    struct fixture f;
    struct job_row row;
    bool found;
    fixture_open(&f, 1);
    int64_t job_id = put(&f, 1);
    must(store_claim_job(&row, &found, f.arena, f.store, "a dead run", 1, &err));
    assert_true(found);
    queue_close(f.queue);
    open_queue(&f, 1);
    must(queue_start(f.queue, &err));
    wait_for_state(&f, job_id, JOB_COMPLETED);
    assert_int_equal(job_row(&f, job_id).attempts, 2);
    fixture_close(&f);
}

int main(void) {
    log_open(LOG_ERROR, false, "/dev/null", &err);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_beside_each_other),
        cmocka_unit_test(failures_are_final_or_tried_again),
        cmocka_unit_test(a_full_disk_uses_up_no_attempt),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(a_stop_is_quick_and_gives_attempts_back),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(jobs_of_a_dead_run_are_taken_up),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
