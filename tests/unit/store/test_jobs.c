/* Jobs' rows: claims, ends, fencing, cancelling, recovery. */
#include "tests.h"

#include <stdio.h>
#include <string.h>

static int64_t put_job(struct fixture *f, int n, int max_attempts) {
    struct store_tx *tx;
    int64_t job_id;
    struct document_row row = {.filename = "f", .added_ms = n};
    bool existed;
    snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(f->arena, n));
    must(store_begin(&tx, f->store, &err));
    must(store_put_document(tx, &existed, &row, &err));
    must(store_put_job(tx, &job_id, "ingest", row.doc_id, "f", max_attempts, &err));
    must(store_commit(tx, &err));
    return job_id;
}

static bool claim(struct job_row *out, struct fixture *f, const char *run, int64_t now_ms) {
    bool found;
    must(store_claim_job(out, &found, f->arena, f->store, run, now_ms, &err));
    return found;
}

static bool end(struct fixture *f, const struct job_row *job, const char *run, enum job_state state,
                const char *code, int64_t not_before_ms) {
    struct store_tx *tx;
    must(store_begin(&tx, f->store, &err));
    if (!store_end_job(tx, job->job_id, run, job->attempts, state, code, "text", not_before_ms, 7,
                       &err)) {
        assert_int_equal(err.kind, ERROR_CONFLICT);
        store_rollback(tx);
        return false;
    }
    must(store_commit(tx, &err));
    return true;
}

static struct job_row find_job(struct fixture *f, int64_t job_id) {
    struct job_row row;
    bool found;
    must(store_find_job(&row, &found, f->arena, f->store, job_id, &err));
    assert_true(found);
    return row;
}

static enum document_state document_state(struct fixture *f, int n) {
    struct document_row row;
    bool found;
    must(store_find_document(&row, &found, f->arena, f->store, test_id(f->arena, n), &err));
    assert_true(found);
    return row.state;
}

static void jobs_are_claimed_oldest_first_and_once(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job, none;
    fixture_open(&f);
    int64_t first = put_job(&f, 1, 3), second = put_job(&f, 2, 3);
    assert_true(claim(&job, &f, "run", 1000));
    assert_int_equal(job.job_id, first);
    assert_int_equal(job.attempts, 1);
    assert_int_equal(job.state, JOB_PROCESSING);
    assert_string_equal(job.kind, "ingest");
    assert_int_equal(find_job(&f, first).attempts, 1); /* committed before work */
    assert_true(claim(&job, &f, "run", 1000));
    assert_int_equal(job.job_id, second);
    assert_false(claim(&none, &f, "run", 1000));
    assert_true(end(&f, &job, "run", JOB_COMPLETED, "", 0));
    job = find_job(&f, second);
    assert_int_equal(job.state, JOB_COMPLETED);
    assert_int_equal(job.n_pages, 7);
    assert_true(job.finished_ms > 0);
    fixture_close(&f);
}

static void a_retry_waits_its_time(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job, none;
    fixture_open(&f);
    put_job(&f, 1, 3);
    assert_true(claim(&job, &f, "run", 1000));
    assert_true(end(&f, &job, "run", JOB_QUEUED, "busy", 5000));
    assert_false(claim(&none, &f, "run", 4999));
    int64_t due_ms;
    bool found;
    must(store_next_due(&due_ms, &found, f.store, &err));
    assert_true(found);
    assert_int_equal(due_ms, 5000);
    assert_string_equal(find_job(&f, job.job_id).error_code, "busy");
    assert_true(claim(&job, &f, "run", 5000));
    assert_int_equal(job.attempts, 2);
    fixture_close(&f);
}

static void an_attempt_that_lost_its_job_cannot_end_it(void **state) {
    (void)state;
    struct fixture f;
    struct job_row old, new;
    int n;
    fixture_open(&f);
    put_job(&f, 1, 3);
    assert_true(claim(&old, &f, "one", 1000));
    must(store_recover_jobs(f.store, &n, "two", &err));
    assert_int_equal(n, 1);
    assert_true(claim(&new, &f, "two", 1000));
    assert_int_equal(new.attempts, 2);
    assert_false(end(&f, &old, "one", JOB_COMPLETED, "", 0));
    assert_false(end(&f, &old, "two", JOB_COMPLETED, "", 0)); /* right run, wrong attempt */
    assert_int_equal(find_job(&f, new.job_id).state, JOB_PROCESSING);
    assert_true(end(&f, &new, "two", JOB_COMPLETED, "", 0));
    assert_false(end(&f, &new, "two", JOB_COMPLETED, "", 0)); /* once */

    /* One whose document was deleted meanwhile: all it did is rolled back. */
    put_job(&f, 2, 3);
    assert_true(claim(&old, &f, "two", 1000));
    struct store_tx *tx;
    bool found;
    int n_pages, n_chunks;
    must(store_begin(&tx, f.store, &err));
    must(store_delete_document(tx, &found, &n_pages, &n_chunks, test_id(f.arena, 2), &err));
    must(store_commit(tx, &err));
    assert_false(end(&f, &old, "two", JOB_COMPLETED, "", 0));
    fixture_close(&f);
}

static void cancelling(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job, none;
    struct store_tx *tx;
    bool found;
    fixture_open(&f);
    int64_t waiting = put_job(&f, 1, 3);
    must(store_begin(&tx, f.store, &err));
    must(store_cancel_job(tx, &found, waiting, &err));
    must(store_commit(tx, &err));
    assert_true(found);
    assert_int_equal(find_job(&f, waiting).state, JOB_CANCELLED);
    assert_false(claim(&none, &f, "run", 1000));

    int64_t running = put_job(&f, 2, 3);
    assert_true(claim(&job, &f, "run", 1000));
    must(store_begin(&tx, f.store, &err));
    must(store_cancel_job(tx, &found, running, &err));
    must(store_commit(tx, &err));
    assert_true(found);
    assert_int_equal(find_job(&f, running).state, JOB_PROCESSING);
    assert_true(find_job(&f, running).cancel_asked);
    assert_false(end(&f, &job, "run", JOB_COMPLETED, "", 0)); /* cancelled: nothing may commit */
    must(store_begin(&tx, f.store, &err));
    assert_false(store_return_job(tx, running, "run", job.attempts, "", "", 0, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT); /* nor be tried again */
    store_rollback(tx);
    assert_true(end(&f, &job, "run", JOB_CANCELLED, "", 0));
    must(store_begin(&tx, f.store, &err));
    must(store_cancel_job(tx, &found, running, &err));
    assert_false(found);
    must(store_retry_job(tx, &found, running, &err));
    assert_true(found);
    must(store_commit(tx, &err));
    assert_true(claim(&job, &f, "run", 1000));
    assert_int_equal(job.attempts, 1);
    assert_false(job.cancel_asked);
    fixture_close(&f);
}

static void a_poison_job_ends_failed(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job;
    int n;
    fixture_open(&f);
    int64_t job_id = put_job(&f, 1, 2);
    for (int run = 0; run < 2; run++) { /* each run dies while it works */
        char name[8];
        snprintf(name, sizeof name, "run%d", run);
        must(store_recover_jobs(f.store, &n, name, &err));
        assert_true(claim(&job, &f, name, 1000));
        fixture_reopen(&f);
    }
    must(store_recover_jobs(f.store, &n, "last", &err));
    assert_int_equal(n, 1);
    job = find_job(&f, job_id);
    assert_int_equal(job.state, JOB_FAILED);
    assert_string_equal(job.error_code, "parser_crash");
    assert_int_equal(document_state(&f, 1), DOCUMENT_FAILED);
    assert_false(claim(&job, &f, "last", 1000));
    fixture_close(&f);
}

static void a_document_follows_its_job(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job;
    struct store_tx *tx;
    bool found;
    fixture_open(&f);
    int64_t job_id = put_job(&f, 1, 1);
    assert_true(claim(&job, &f, "run", 1000));
    assert_true(end(&f, &job, "run", JOB_FAILED, "corrupt", 0));
    assert_int_equal(document_state(&f, 1), DOCUMENT_FAILED);
    must(store_begin(&tx, f.store, &err));
    must(store_retry_job(tx, &found, job_id, &err));
    must(store_commit(tx, &err));
    assert_int_equal(document_state(&f, 1), DOCUMENT_WAITING);
    put_text(&f, 1, "read after all");
    assert_true(claim(&job, &f, "run", 1000));
    assert_true(end(&f, &job, "run", JOB_FAILED, "corrupt", 0));
    assert_int_equal(document_state(&f, 1), DOCUMENT_READY); /* what was read stays */
    fixture_close(&f);
}

static void a_returned_attempt_was_none(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job;
    struct store_tx *tx;
    fixture_open(&f);
    put_job(&f, 1, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(claim(&job, &f, "run", 1000));
        assert_int_equal(job.attempts, 1);
        must(store_begin(&tx, f.store, &err));
        must(store_return_job(tx, job.job_id, "run", job.attempts, "", "", 0, &err));
        must(store_commit(tx, &err));
    }
    fixture_close(&f);
}

static void jobs_are_listed_and_counted(void **state) {
    (void)state;
    struct fixture f;
    struct job_row job, *rows;
    int n;
    int64_t total;
    bool found;
    fixture_open(&f);
    int64_t first = put_job(&f, 1, 3);
    put_job(&f, 2, 3);
    int64_t third = put_job(&f, 1, 3);
    assert_true(claim(&job, &f, "run", 1000));
    must(store_list_jobs(&rows, &n, &total, f.arena, f.store, ~0u, 2, 0, &err));
    assert_int_equal(total, 3);
    assert_int_equal(n, 2);
    assert_int_equal(rows[0].job_id, third);
    must(store_list_jobs(&rows, &n, &total, f.arena, f.store, 1u << JOB_PROCESSING, 10, 0, &err));
    assert_int_equal(total, 1);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].job_id, first);
    must(store_list_jobs(&rows, &n, &total, f.arena, f.store,
                         1u << JOB_QUEUED | 1u << JOB_PROCESSING, 10, 1, &err));
    assert_int_equal(total, 3);
    assert_int_equal(n, 2);
    assert_int_equal(rows[1].job_id, first);
    must(store_list_jobs(&rows, &n, &total, f.arena, f.store, 0, 10, 0, &err));
    assert_int_equal(total, 0);
    must(store_find_document_job(&job, &found, f.arena, f.store, test_id(f.arena, 1), &err));
    assert_true(found);
    assert_int_equal(job.job_id, third);
    int64_t waiting;
    must(store_count_jobs(&waiting, f.store, 1u << JOB_QUEUED, &err));
    assert_int_equal(waiting, 2);
    fixture_close(&f);
}

int run_jobs_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_are_claimed_oldest_first_and_once),
        cmocka_unit_test(a_retry_waits_its_time),
        cmocka_unit_test(an_attempt_that_lost_its_job_cannot_end_it),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(a_poison_job_ends_failed),
        cmocka_unit_test(a_document_follows_its_job),
        cmocka_unit_test(a_returned_attempt_was_none),
        cmocka_unit_test(jobs_are_listed_and_counted),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
