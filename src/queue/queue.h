/* queue: durable jobs, and the threads that run them. Knows no job kinds.
 *
 * A job is leased to this run of the program (a data folder has one process at a time, so a lease
 * ends with its process and no clock is asked); the attempt's number is the fencing token that its
 * last transaction checks. Attempts are counted before work begins, so a job that kills the process
 * cannot loop. Retries wait 1 s, 4 s, 16 s … at most 5 minutes, with jitter. */
#ifndef DOCUSEARCH_QUEUE_H
#define DOCUSEARCH_QUEUE_H

#include "store/store.h"

struct queue;
struct queue_job; /* one attempt, in the thread that runs it */

/* Runs on a worker's thread. On success the handler has itself ended the job in its transaction
 * (queue_end_in); on failure it returns false with *err, and the queue records it: ERROR_INTERNAL,
 * ERROR_BUSY, ERROR_IO and ERROR_DEVICE are tried again while attempts are left (2 in all;
 * disk_full and backend_unavailable use up none), others are final. */
typedef bool (*queue_handler)(void *ctx, struct queue_job *job, struct error *err);
/* Told of every change of a job's state or progress; any thread; must be quick. */
typedef void (*queue_listener)(void *ctx, int64_t job_id);

bool queue_open(struct queue **out, struct store *store, int n_workers, queue_handler handler,
                void *ctx, struct error *err); /* recovers jobs of earlier runs; starts no thread */
void queue_set_listener(struct queue *queue, queue_listener listener, void *ctx);
bool queue_start(struct queue *queue, struct error *err);
/* Takes no new job; running ones are cancelled at once and left QUEUED, their attempt given back.
 * Returns when every handler has: queue_job_cancelled tells them. */
void queue_stop(struct queue *queue);
void queue_close(struct queue *queue); /* stops first; NULL is fine */

/* In the caller's transaction; after its commit call queue_wake. ERROR_LIMIT "queue_full" past
 * max_queue waiting jobs (0: none). */
bool queue_put(int64_t *job_id, struct queue *queue, struct store_tx *tx, const char *kind,
               const char *doc_id, const char *filename, int max_queue, struct error *err);
void queue_wake(struct queue *queue);
/* A waiting job is cancelled at once, a running one at its next look; *found false: no such job or
 * ended already. */
bool queue_cancel(struct queue *queue, bool *found, int64_t job_id, struct error *err);
bool queue_retry(struct queue *queue, bool *found, int64_t job_id, struct error *err);
/* After its jobs' rows are gone: tells the attempts that still run. */
void queue_cancel_document(struct queue *queue, const char *doc_id);
/* Waits until no job waits or runs; false when deadline_ms (monotonic, -1 none) passed. */
bool queue_drain(struct queue *queue, int64_t deadline_ms);

/* For handlers. */
const struct job_row *queue_job_row(const struct queue_job *job); /* borrowed */
bool queue_job_cancelled(const struct queue_job *job);
void queue_job_progress(struct queue_job *job, const char *stage, double progress, int page,
                        int n_pages); /* stage: a string constant */
bool queue_end_in(struct queue_job *job, struct store_tx *tx, int n_pages, struct error *err);

/* Live facts of a running job; false when it is not running here. */
struct queue_progress {
    const char *stage; /* "parsing", "storing" */
    double progress;   /* 0..1 */
    int page, n_pages;
    int64_t elapsed_ms, remaining_ms; /* remaining -1: unknown */
};
bool queue_progress(struct queue_progress *out, struct queue *queue, int64_t job_id);
int queue_running(struct queue *queue);
int64_t queue_waiting(struct queue *queue); /* jobs waiting; a counter, costs nothing */
/* Whether the queue would try this attempt's job again after this error. */
bool queue_will_retry(const struct queue_job *job, const struct error *err);

#endif
