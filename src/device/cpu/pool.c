/* Threads that wait for work, and the memory that one operation after another borrows.
 *
 * The parts of a run are taken from one atomic word, its ticket: the run's number above, the parts
 * that are left below. The caller works too and returns when all parts are done, whether or not
 * every thread has woken for them. Operations of a model follow each other within microseconds, so
 * a thread that finds nothing to do looks for a short while before it sleeps, and so does the
 * caller for the last part.
 *
 * Invariants:
 * 1. work, ctx and n are written only by the caller that holds `turn`, while no part is left and
 * none is being worked on; a thread reads them only between taking a part and counting it done.
 * 2. Nothing else is locked while `mutex` is held; `lent` is taken before `turn`, `turn` before
 * `mutex`. */
#include "device/cpu/cpu.h"
#include "device/cpu/memory.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

/* Looks before sleeping: some tens of microseconds. */
#define N_LOOKS 2000
#define HUGE_PAGE ((size_t)2 << 20)
#define MAX_SCRATCH ((size_t)4 << 30)

struct worker {
    struct cpu_pool *pool;
    struct thread *thread;
    int i; /* its thread number */
};

struct cpu_pool {
    pthread_mutex_t turn; /* one run at a time */
    pthread_mutex_t lent; /* one borrower of scratch at a time */
    void *scratch;
    atomic_size_t scratch_bytes; /* written by the borrower */

    pthread_mutex_t mutex;
    pthread_cond_t published, finished;
    bool closing;
    int n_sleeping;

    _Atomic uint64_t ticket;
    atomic_int n_done;
    void (*work)(void *ctx, int i, int thread);
    void *ctx;
    int n;

    int n_threads; /* with the caller */
    struct worker *workers;
};

static void look_again(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t parts_left(uint64_t ticket) {
    return (uint32_t)ticket;
}

static bool take_part(struct cpu_pool *pool, int thread) {
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
    do {
        if (parts_left(ticket) == 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket - 1,
                                                    memory_order_acquire, memory_order_relaxed));
    int n = pool->n;
    pool->work(pool->ctx, n - (int)parts_left(ticket), thread);
    if (atomic_fetch_add_explicit(&pool->n_done, 1, memory_order_acq_rel) == n - 1 && thread > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->finished);
        pthread_mutex_unlock(&pool->mutex);
    }
    return true;
}

/* False when the pool closes. */
static bool await_run(struct cpu_pool *pool) {
    for (int looks = 0; looks < N_LOOKS; looks++) {
        if (parts_left(atomic_load_explicit(&pool->ticket, memory_order_relaxed)) > 0)
            return true;
        look_again();
    }
    pthread_mutex_lock(&pool->mutex);
    pool->n_sleeping++;
    while (!pool->closing && parts_left(atomic_load(&pool->ticket)) == 0)
        pthread_cond_wait(&pool->published, &pool->mutex);
    pool->n_sleeping--;
    bool closing = pool->closing;
    pthread_mutex_unlock(&pool->mutex);
    return !closing;
}

static void worker_run(void *arg) {
    struct worker *worker = arg;
    while (await_run(worker->pool)) {
        while (take_part(worker->pool, worker->i))
            continue;
    }
}

bool cpu_pool_open(struct cpu_pool **out, int n_threads, struct error *err) {
    assert(n_threads >= 1);
    struct cpu_pool *pool = mem_alloc(sizeof *pool);
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->lent, NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->published, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->workers = mem_alloc((size_t)n_threads * sizeof *pool->workers);
    pool->n_threads = 1;
    for (int i = 1; i < n_threads; i++) {
        struct worker *worker = pool->workers + i;
        *worker = (struct worker){.pool = pool, .i = i};
        char name[24];
        snprintf(name, sizeof name, "compute-%d", i);
        if (!thread_start(&worker->thread, name, worker_run, worker, err)) {
            cpu_pool_close(pool);
            return false;
        }
        pool->n_threads++;
    }
    *out = pool;
    return true;
}

void cpu_pool_close(struct cpu_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->published);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i < pool->n_threads; i++)
        thread_join(pool->workers[i].thread);
    if (pool->scratch)
        munmap(pool->scratch, pool->scratch_bytes);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->published);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->lent);
    pthread_mutex_destroy(&pool->turn);
    mem_free(pool->workers);
    mem_free(pool);
}

int cpu_pool_threads(const struct cpu_pool *pool) {
    return pool->n_threads;
}

size_t cpu_pool_scratch_bytes(const struct cpu_pool *pool) {
    return pool->scratch_bytes;
}

static void publish(struct cpu_pool *pool, int n) {
    atomic_store_explicit(&pool->n_done, 0, memory_order_relaxed);
    uint64_t run = atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 32;
    pthread_mutex_lock(&pool->mutex);
    atomic_store_explicit(&pool->ticket, (run + 1) << 32 | (uint32_t)n, memory_order_release);
    if (pool->n_sleeping > 0)
        pthread_cond_broadcast(&pool->published);
    pthread_mutex_unlock(&pool->mutex);
}

static void await_parts(struct cpu_pool *pool, int n) {
    for (int looks = 0; looks < N_LOOKS; looks++) {
        if (atomic_load_explicit(&pool->n_done, memory_order_acquire) == n)
            return;
        look_again();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->n_done, memory_order_acquire) < n)
        pthread_cond_wait(&pool->finished, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

void cpu_pool_run(struct cpu_pool *pool, int n, void (*work)(void *ctx, int i, int thread),
                  void *ctx) {
    if (n <= 0)
        return;
    pthread_mutex_lock(&pool->turn);
    pool->work = work;
    pool->ctx = ctx;
    pool->n = n;
    if (n == 1 || pool->n_threads == 1) {
        for (int i = 0; i < n; i++)
            work(ctx, i, 0);
    } else {
        publish(pool, n);
        while (take_part(pool, 0))
            continue;
        await_parts(pool, n);
    }
    pthread_mutex_unlock(&pool->turn);
}

void *cpu_pool_borrow(struct cpu_pool *pool, size_t size_bytes) {
    pthread_mutex_lock(&pool->lent);
    if (size_bytes <= pool->scratch_bytes && pool->scratch)
        return pool->scratch;
    size_t rounded = (size_bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (pool->scratch)
        munmap(pool->scratch, pool->scratch_bytes);
    pool->scratch_bytes = 0;
    pool->scratch = rounded <= MAX_SCRATCH ? cpu_memory_map(rounded) : NULL;
    if (!pool->scratch) {
        pthread_mutex_unlock(&pool->lent);
        return NULL;
    }
    pool->scratch_bytes = rounded;
    return pool->scratch;
}

void cpu_pool_give_back(struct cpu_pool *pool) {
    pthread_mutex_unlock(&pool->lent);
}
