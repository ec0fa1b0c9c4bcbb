/* A worker: claims the oldest due job, runs it, and records what came of it.
 *
 * Invariants:
 *  1. A job that left PROCESSING under this run did so once, by the handler's own transaction
 *     (queue_end_in) or by record() here.
 *  2. What cannot be written (disk full, i/o error) is tried again until it is written or the queue
 *     stops; in the latter case the job is found PROCESSING at the next start and recovered. */
#include "queue/internal.h"

#include <stdlib.h>
#include <string.h>

#define IDLE_MS 30000      /* looks at least so often, whatever was missed */
#define FIRST_WAIT_MS 1000 /* before the second attempt; four times as much before each next */
#define LONGEST_WAIT_MS 300000
#define DISK_FULL_WAIT_MS 15000
#define BACKEND_WAIT_MS 4000
#define RECORD_WAIT_MS 500

/* What is none of the job's doing and uses up no attempt: how long until it is looked at again; 0:
 * it is another failure. */
static int64_t outside_wait_ms(const struct error *err) {
    if (err->kind == ERROR_IO && strcmp(err->code, "disk_full") == 0)
        return DISK_FULL_WAIT_MS;
    if (err->kind == ERROR_BUSY && strcmp(err->code, "backend_unavailable") == 0)
        return BACKEND_WAIT_MS;
    return 0;
}

bool queue_is_retried(const struct job_row *row, const struct error *err) {
    switch (err->kind) {
    case ERROR_INTERNAL:
    case ERROR_BUSY:
    case ERROR_IO:
    case ERROR_DEVICE:
        return outside_wait_ms(err) > 0 || row->attempts < row->max_attempts;
    case ERROR_INPUT:
    case ERROR_MISSING:
    case ERROR_CONFLICT:
    case ERROR_LIMIT:
    case ERROR_UNSUPPORTED:
        return false;
    }
    return false;
}

/* Less up to a quarter, so that jobs that failed together do not come back together. */
static int64_t with_jitter(int64_t wait_ms, const struct job_row *row) {
    uint64_t mixed = ((uint64_t)row->job_id * 0x9E3779B97F4A7C15u + (uint64_t)row->attempts) *
                     0xBF58476D1CE4E5B9u;
    return wait_ms - (int64_t)((mixed >> 33) % (uint64_t)(wait_ms / 4));
}

/* 1 s, 4 s, 16 s … at most 5 minutes. */
static int64_t retry_wait_ms(const struct job_row *row) {
    int64_t wait_ms = FIRST_WAIT_MS;
    for (int i = 1; i < row->attempts && wait_ms < LONGEST_WAIT_MS; i++)
        wait_ms *= 4;
    if (wait_ms > LONGEST_WAIT_MS)
        wait_ms = LONGEST_WAIT_MS;
    return with_jitter(wait_ms, row);
}

static bool record_in(struct queue_job *job, struct store_tx *tx, const struct error *failure,
                      struct error *err) {
    struct queue *queue = job->queue;
    const struct job_row *row = &job->row;
    if (atomic_load(&job->cancelled))
        return store_end_job(tx, row->job_id, queue->run_id, row->attempts, JOB_CANCELLED, "", "",
                             0, 0, err);
    if (atomic_load(&queue->stopping))
        return store_return_job(tx, row->job_id, queue->run_id, row->attempts, "", "", 0, err);
    int64_t wait_ms = outside_wait_ms(failure);
    if (wait_ms > 0)
        return store_return_job(tx, row->job_id, queue->run_id, row->attempts, failure->code,
                                failure->text, time_wall_ms() + with_jitter(wait_ms, row), err);
    bool again = queue_is_retried(row, failure);
    return store_end_job(tx, row->job_id, queue->run_id, row->attempts,
                         again ? JOB_QUEUED : JOB_FAILED, failure->code, failure->text,
                         again ? time_wall_ms() + retry_wait_ms(row) : 0, 0, err);
}

/* A cancel that the store knows of and the attempt does not: asked for before set_running, or while
 * the attempt failed of itself (store_end_job refuses what is not CANCELLED, so the second try is
 * told). A job whose document was removed is gone. */
static void look_for_cancel(struct queue_job *job) {
    struct arena *arena = arena_new(0);
    struct job_row row;
    struct error ignored;
    bool found;
    if (store_find_job(&row, &found, arena, job->queue->store, job->row.job_id, &ignored) &&
        (!found || row.cancel_asked))
        atomic_store(&job->cancelled, true);
    arena_free(arena);
}

static void record(struct queue_job *job, const struct error *failure) {
    struct queue *queue = job->queue;
    for (int tries = 0;; tries++) {
        struct store_tx *tx;
        struct error err;
        bool ok = store_begin(&tx, queue->store, &err);
        if (ok) {
            ok = record_in(job, tx, failure, &err);
            if (ok)
                ok = store_commit(tx, &err);
            else
                store_rollback(tx);
        }
        if (ok)
            return;
        if (err.kind == ERROR_CONFLICT) {
            bool known = atomic_load(&job->cancelled);
            look_for_cancel(job);
            if (known || !atomic_load(&job->cancelled))
                return; /* removed, or no longer ours */
            continue;
        }
        if (tries == 0)
            log_error("job %lld: its end cannot be recorded: %s", (long long)job->row.job_id,
                      err.text);
        if (atomic_load(&queue->stopping))
            return;
        time_sleep_ms(RECORD_WAIT_MS);
    }
}

void queue_tell(struct queue *queue, int64_t job_id) {
    if (queue->listener)
        queue->listener(queue->listener_ctx, job_id);
}

static void set_running(struct queue *queue, int worker_i, struct queue_job *job) {
    lock_take(&queue->lock);
    queue->running[worker_i] = job;
    cond_wake_all(&queue->changed);
    lock_drop(&queue->lock);
}

static void run(struct queue *queue, int worker_i, struct queue_job *job) {
    struct error failure = {.kind = ERROR_INTERNAL};
    error_set(&failure, ERROR_INTERNAL, "the attempt gave no reason");
    queue_tell(queue, job->row.job_id);
    bool ok = queue->handler(queue->ctx, job, &failure);
    if (!ok) {
        record(job, &failure);
    } else if (!job->ended) {
        error_set(&failure, ERROR_INTERNAL, "the attempt did not end its job");
        record(job, &failure);
    }
    queue_recount(queue);
    set_running(queue, worker_i, NULL);
    queue_tell(queue, job->row.job_id);
}

/* When to look again if nobody wakes us; monotonic. */
static int64_t next_look_ms(struct queue *queue) {
    int64_t now_ms = time_mono_ms(), due_ms;
    struct error err;
    bool found;
    if (!store_next_due(&due_ms, &found, queue->store, &err))
        return now_ms + RECORD_WAIT_MS;
    int64_t wait_ms = found ? due_ms - time_wall_ms() : IDLE_MS;
    if (wait_ms < 1)
        wait_ms = 1;
    return now_ms + (wait_ms < IDLE_MS ? wait_ms : IDLE_MS);
}

static void sleep_until_woken(struct queue *queue, uint64_t wakes_seen, int64_t until_ms) {
    lock_take(&queue->lock);
    while (queue->wakes == wakes_seen && !atomic_load(&queue->stopping)) {
        if (!cond_wait(&queue->changed, &queue->lock, until_ms))
            break;
    }
    lock_drop(&queue->lock);
}

static uint64_t wakes_so_far(struct queue *queue) {
    lock_take(&queue->lock);
    uint64_t wakes = queue->wakes;
    lock_drop(&queue->lock);
    return wakes;
}

void queue_work(void *arg) {
    struct queue_worker worker = *(struct queue_worker *)arg;
    struct queue *queue = worker.queue;
    mem_free(arg);
    while (!atomic_load(&queue->stopping)) {
        uint64_t wakes = wakes_so_far(queue);
        struct queue_job job = {.queue = queue, .arena = arena_new(0), .stage = ""};
        struct error err;
        bool found = false;
        bool ok = store_claim_job(&job.row, &found, job.arena, queue->store, queue->run_id,
                                  time_wall_ms(), &err);
        if (found) {
            job.begun_ms = time_mono_ms();
            set_running(queue, worker.worker_i, &job);
            look_for_cancel(&job);
            queue_recount(queue);
            run(queue, worker.worker_i, &job);
        } else {
            if (!ok)
                log_warn("the queue cannot be read: %s", err.text);
            sleep_until_woken(queue, wakes,
                              ok ? next_look_ms(queue) : time_mono_ms() + RECORD_WAIT_MS);
        }
        arena_free(job.arena);
    }
}
