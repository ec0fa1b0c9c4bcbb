/* Threads, locks in one order, conditions on the monotonic clock.
 *
 * Each thread keeps the ranks it holds, ascending. Invariant: a lock is taken only when its rank is
 * above every rank held, so no two threads can wait for each other. */
#include "base/base.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_HELD 8

static _Thread_local enum lock_rank held[MAX_HELD];
static _Thread_local int n_held;

void lock_init(struct lock *lock, enum lock_rank rank) {
    int rc = pthread_mutex_init(&lock->mutex, NULL);
    assert(rc == 0);
    (void)rc;
    lock->rank = rank;
}

void lock_fini(struct lock *lock) {
    pthread_mutex_destroy(&lock->mutex);
}

void lock_take(struct lock *lock) {
    assert(n_held == 0 || held[n_held - 1] < lock->rank);
    assert(n_held < MAX_HELD);
    int rc = pthread_mutex_lock(&lock->mutex);
    assert(rc == 0);
    (void)rc;
    held[n_held++] = lock->rank;
}

void lock_drop(struct lock *lock) {
    int i = n_held - 1;
    while (i >= 0 && held[i] != lock->rank)
        i--;
    assert(i >= 0);
    memmove(held + i, held + i + 1, (size_t)(n_held - i - 1) * sizeof held[0]);
    n_held--;
    pthread_mutex_unlock(&lock->mutex);
}

void cond_init(struct signal_cond *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
#ifndef __APPLE__ /* there every wait below is relative */
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    int rc = pthread_cond_init(&cond->cond, &attr);
    assert(rc == 0);
    (void)rc;
    pthread_condattr_destroy(&attr);
}

void cond_fini(struct signal_cond *cond) {
    pthread_cond_destroy(&cond->cond);
}

bool cond_wait(struct signal_cond *cond, struct lock *lock, int64_t deadline_ms) {
    assert(n_held > 0 && held[n_held - 1] == lock->rank);
    if (deadline_ms < 0) {
        pthread_cond_wait(&cond->cond, &lock->mutex);
        return true;
    }
#ifdef __APPLE__
    int64_t left_ms = deadline_ms - time_mono_ms();
    if (left_ms <= 0)
        return false;
    struct timespec left = {.tv_sec = (time_t)(left_ms / 1000),
                            .tv_nsec = left_ms % 1000 * 1000000};
    int rc = pthread_cond_timedwait_relative_np(&cond->cond, &lock->mutex, &left);
#else
    struct timespec at = {.tv_sec = (time_t)(deadline_ms / 1000),
                          .tv_nsec = deadline_ms % 1000 * 1000000};
    int rc = pthread_cond_timedwait(&cond->cond, &lock->mutex, &at);
#endif
    assert(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void cond_wake_all(struct signal_cond *cond) {
    pthread_cond_broadcast(&cond->cond);
}

struct thread {
    pthread_t id;
    char name[16]; /* what Linux keeps of a thread's name */
    void (*run)(void *);
    void *arg;
};

static void *enter(void *arg) {
    struct thread *thread = arg;
#ifdef __APPLE__
    pthread_setname_np(thread->name);
#else
    pthread_setname_np(pthread_self(), thread->name);
#endif
    thread->run(thread->arg);
    assert(n_held == 0);
    return NULL;
}

bool thread_start(struct thread **out, const char *name, void (*run)(void *), void *arg,
                  struct error *err) {
    struct thread *thread = mem_alloc(sizeof *thread);
    thread->run = run;
    thread->arg = arg;
    snprintf(thread->name, sizeof thread->name, "%s", name);

    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread->id, NULL, enter, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        mem_free(thread);
        return error_set(err, ERROR_BUSY, "cannot start thread %s: error %d", name, rc);
    }
    *out = thread;
    return true;
}

void thread_join(struct thread *thread) {
    if (!thread)
        return;
    pthread_join(thread->id, NULL);
    mem_free(thread);
}

/* The cgroup's share, rounded up, 0 when there is none: a container with two processors' worth of
 * time on a 64-way machine should not start 64 threads. */
static int cgroup_cpus(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file)
        return 0;
    char line[64] = "";
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    char *end;
    long long quota = got ? strtoll(line, &end, 10) : 0; /* "max 100000" gives 0 */
    if (quota <= 0)
        return 0;
    long long period = strtoll(end, NULL, 10);
    return period > 0 && quota / period < 4096 ? (int)((quota + period - 1) / period) : 0;
}

int cpu_count(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
#endif
    int quota = cgroup_cpus();
    if (quota > 0 && quota < count)
        count = quota;
    return count < 1 ? 1 : (int)count;
}
