/* queue, inside. */
#ifndef DOCUSEARCH_QUEUE_INTERNAL_H
#define DOCUSEARCH_QUEUE_INTERNAL_H

#include "queue/queue.h"

#include <stdatomic.h>

#define QUEUE_MAX_WORKERS 64
#define QUEUE_RUN_ID 33

struct queue_job {
    struct queue *queue;
    struct job_row row; /* strings in arena */
    struct arena *arena;
    atomic_bool cancelled; /* by someone who asked */
    bool ended;            /* queue_end_in was called; the worker's own */
    int64_t begun_ms;

    /* Under the queue's lock. */
    const char *stage;
    double progress;
    int page, n_pages;
};

struct queue {
    struct store *store;
    queue_handler handler;
    void *ctx;
    queue_listener listener;
    void *listener_ctx;
    char run_id[QUEUE_RUN_ID];
    int n_workers;
    atomic_bool stopping;

    /* Rank LOCK_STORE: store is never called under it, so that anyone who holds an earlier lock, a
     * transaction included, may call the queue. */
    struct lock lock;
    struct signal_cond changed;
    uint64_t wakes; /* counts queue_wake, so that none is slept through */
    struct thread *threads[QUEUE_MAX_WORKERS];
    struct queue_job *running[QUEUE_MAX_WORKERS]; /* by worker; NULL: idle */
    int n_started;
    atomic_llong n_waiting;
};

struct queue_worker {
    struct queue *queue;
    int worker_i;
};

/* worker.c: a worker's thread, until the queue stops. arg: struct queue_worker, mem_alloc'ed. */
void queue_work(void *arg);
void queue_tell(struct queue *queue, int64_t job_id); /* the listener, if there is one */
bool queue_is_retried(const struct job_row *row, const struct error *err);
/* The number of waiting jobs, read again from the store. */
void queue_recount(struct queue *queue);

#endif
