/* The queue's face: opening, starting and stopping, putting jobs in, cancelling, progress.
 *
 * Invariants:
 *  1. running[i] is worker i's attempt from its claim until its end is recorded.
 *  2. The store is the truth of every state; what is kept here is what the store cannot know: which
 *     thread runs what, how far it is, who was asked to stop. */
#include "queue/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_ATTEMPTS 2

static void name_run(char out[QUEUE_RUN_ID], const struct queue *queue) {
    char *facts = mem_printf("%ld %" PRId64 " %" PRId64 " %p", (long)getpid(), time_wall_ms(),
                             time_mono_ms(), (const void *)queue);
    char hex[SHA256_HEX + 1];
    sha256_hex(hex, facts, strlen(facts));
    snprintf(out, QUEUE_RUN_ID, "%.32s", hex);
    mem_free(facts);
}

void queue_recount(struct queue *queue) {
    int64_t n_waiting;
    struct error ignored;
    if (store_count_jobs(&n_waiting, queue->store, 1u << JOB_QUEUED, &ignored))
        atomic_store(&queue->n_waiting, n_waiting);
}

bool queue_open(struct queue **out, struct store *store, int n_workers, queue_handler handler,
                void *ctx, struct error *err) {
    struct queue *queue = mem_alloc(sizeof *queue);
    queue->store = store;
    queue->handler = handler;
    queue->ctx = ctx;
    queue->n_workers = n_workers < 1                   ? 1
                       : n_workers > QUEUE_MAX_WORKERS ? QUEUE_MAX_WORKERS
                                                       : n_workers;
    lock_init(&queue->lock, LOCK_STORE);
    cond_init(&queue->changed);
    name_run(queue->run_id, queue);
    int n_recovered = 0;
    if (!store_recover_jobs(store, &n_recovered, queue->run_id, err)) {
        queue_close(queue);
        return false;
    }
    if (n_recovered > 0)
        log_info("%d jobs of an earlier run are taken up again", n_recovered);
    queue_recount(queue);
    *out = queue;
    return true;
}

void queue_set_listener(struct queue *queue, queue_listener listener, void *ctx) {
    assert(queue->n_started == 0);
    queue->listener = listener;
    queue->listener_ctx = ctx;
}

bool queue_start(struct queue *queue, struct error *err) {
    atomic_store(&queue->stopping, false);
    while (queue->n_started < queue->n_workers) {
        struct queue_worker *worker = mem_alloc(sizeof *worker);
        worker->queue = queue;
        worker->worker_i = queue->n_started;
        char name[16];
        snprintf(name, sizeof name, "worker-%d", worker->worker_i);
        if (!thread_start(&queue->threads[worker->worker_i], name, queue_work, worker, err)) {
            mem_free(worker);
            queue_stop(queue);
            return false;
        }
        queue->n_started++;
    }
    return true;
}

void queue_stop(struct queue *queue) {
    atomic_store(&queue->stopping, true);
    queue_wake(queue);
    for (int i = 0; i < queue->n_started; i++) {
        thread_join(queue->threads[i]);
        queue->threads[i] = NULL;
    }
    queue->n_started = 0;
}

void queue_close(struct queue *queue) {
    if (!queue)
        return;
    queue_stop(queue);
    cond_fini(&queue->changed);
    lock_fini(&queue->lock);
    mem_free(queue);
}

bool queue_put(int64_t *job_id, struct queue *queue, struct store_tx *tx, const char *kind,
               const char *doc_id, const char *filename, int max_queue, struct error *err) {
    int64_t n_waiting = atomic_load(&queue->n_waiting);
    if (max_queue > 0 && n_waiting >= max_queue)
        return error_set_code(err, ERROR_LIMIT, "queue_full",
                              "%" PRId64 " jobs are waiting already", n_waiting);
    if (!store_put_job(tx, job_id, kind, doc_id, filename, MAX_ATTEMPTS, err))
        return false;
    atomic_fetch_add(&queue->n_waiting, 1);
    return true;
}

void queue_wake(struct queue *queue) {
    lock_take(&queue->lock);
    queue->wakes++;
    cond_wake_all(&queue->changed);
    lock_drop(&queue->lock);
}

/* ---- cancelling ---- */

static void flag_running(struct queue *queue, int64_t job_id, const char *doc_id) {
    lock_take(&queue->lock);
    for (int i = 0; i < queue->n_workers; i++) {
        struct queue_job *job = queue->running[i];
        if (job && (doc_id ? strcmp(job->row.doc_id, doc_id) == 0 : job->row.job_id == job_id))
            atomic_store(&job->cancelled, true);
    }
    lock_drop(&queue->lock);
}

typedef bool (*job_change)(struct store_tx *tx, bool *found, int64_t job_id, struct error *err);

static bool change_job(struct queue *queue, bool *found, int64_t job_id, job_change change,
                       struct error *err) {
    struct store_tx *tx;
    *found = false;
    if (!store_begin(&tx, queue->store, err))
        return false;
    if (!change(tx, found, job_id, err)) {
        store_rollback(tx);
        return false;
    }
    if (!store_commit(tx, err)) {
        *found = false;
        return false;
    }
    return true;
}

bool queue_cancel(struct queue *queue, bool *found, int64_t job_id, struct error *err) {
    if (!change_job(queue, found, job_id, store_cancel_job, err))
        return false;
    if (*found) {
        flag_running(queue, job_id, NULL);
        queue_recount(queue);
        queue_wake(queue);
        queue_tell(queue, job_id);
    }
    return true;
}

bool queue_retry(struct queue *queue, bool *found, int64_t job_id, struct error *err) {
    if (!change_job(queue, found, job_id, store_retry_job, err))
        return false;
    if (*found) {
        queue_recount(queue);
        queue_wake(queue);
        queue_tell(queue, job_id);
    }
    return true;
}

void queue_cancel_document(struct queue *queue, const char *doc_id) {
    flag_running(queue, 0, doc_id);
    queue_recount(queue);
}

bool queue_drain(struct queue *queue, int64_t deadline_ms) {
    for (;;) {
        struct error ignored;
        int64_t n_open;
        if (store_count_jobs(&n_open, queue->store, 1u << JOB_QUEUED | 1u << JOB_PROCESSING,
                             &ignored) &&
            n_open == 0 && queue_running(queue) == 0)
            return true;
        if (deadline_ms >= 0 && time_mono_ms() >= deadline_ms)
            return false;
        int64_t until_ms = time_mono_ms() + 50;
        if (deadline_ms >= 0 && deadline_ms < until_ms)
            until_ms = deadline_ms;
        lock_take(&queue->lock);
        cond_wait(&queue->changed, &queue->lock, until_ms);
        lock_drop(&queue->lock);
    }
}

/* ---- for handlers ---- */

const struct job_row *queue_job_row(const struct queue_job *job) {
    return &job->row;
}

bool queue_job_cancelled(const struct queue_job *job) {
    return atomic_load(&job->cancelled) || atomic_load(&job->queue->stopping);
}

void queue_job_progress(struct queue_job *job, const char *stage, double progress, int page,
                        int n_pages) {
    lock_take(&job->queue->lock);
    job->stage = stage;
    job->progress = progress;
    job->page = page;
    job->n_pages = n_pages;
    lock_drop(&job->queue->lock);
    queue_tell(job->queue, job->row.job_id);
}

bool queue_end_in(struct queue_job *job, struct store_tx *tx, int n_pages, struct error *err) {
    if (queue_job_cancelled(job))
        return error_set_code(err, ERROR_CONFLICT, "cancelled", "the job was cancelled");
    if (!store_end_job(tx, job->row.job_id, job->queue->run_id, job->row.attempts, JOB_COMPLETED,
                       "", "", 0, n_pages, err))
        return false;
    job->ended = true;
    return true;
}

bool queue_will_retry(const struct queue_job *job, const struct error *err) {
    return !atomic_load(&job->cancelled) &&
           (atomic_load(&job->queue->stopping) || queue_is_retried(&job->row, err));
}

/* ---- live facts ---- */

bool queue_progress(struct queue_progress *out, struct queue *queue, int64_t job_id) {
    bool found = false;
    memset(out, 0, sizeof *out);
    out->stage = "";
    out->remaining_ms = -1;
    lock_take(&queue->lock);
    for (int i = 0; i < queue->n_workers && !found; i++) {
        const struct queue_job *job = queue->running[i];
        found = job && job->row.job_id == job_id;
        if (!found)
            continue;
        out->stage = job->stage;
        out->progress = job->progress;
        out->page = job->page;
        out->n_pages = job->n_pages;
        out->elapsed_ms = time_mono_ms() - job->begun_ms;
        if (job->progress >= 0.05)
            out->remaining_ms = (int64_t)((double)out->elapsed_ms * (1 - job->progress) /
                                          job->progress);
    }
    lock_drop(&queue->lock);
    return found;
}

int queue_running(struct queue *queue) {
    int n = 0;
    lock_take(&queue->lock);
    for (int i = 0; i < queue->n_workers; i++)
        n += queue->running[i] != NULL;
    lock_drop(&queue->lock);
    return n;
}

int64_t queue_waiting(struct queue *queue) {
    return atomic_load(&queue->n_waiting);
}
