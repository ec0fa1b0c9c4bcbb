/* Threads, lock order, conditions, metrics, fault points. */
#include "tests.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void take_in_wrong_order(void *arg) {
    (void)arg;
    struct lock store, corpus;
    lock_init(&store, LOCK_STORE);
    lock_init(&corpus, LOCK_CORPUS);
    lock_take(&store);
    lock_take(&corpus);
}

static void take_same_rank_twice(void *arg) {
    (void)arg;
    struct lock one, other;
    lock_init(&one, LOCK_STORE);
    lock_init(&other, LOCK_STORE);
    lock_take(&one);
    lock_take(&other);
}

static void drop_what_is_not_held(void *arg) {
    (void)arg;
    struct lock lock;
    lock_init(&lock, LOCK_STORE);
    lock_drop(&lock);
}

static void take_in_order(void *arg) {
    (void)arg;
    struct lock store, corpus;
    lock_init(&store, LOCK_STORE);
    lock_init(&corpus, LOCK_CORPUS);
    for (int i = 0; i < 20; i++) {
        lock_take(&corpus);
        lock_take(&store);
        log_debug("the log may be written with any lock held");
        lock_drop(&corpus); /* any order out */
        lock_drop(&store);
    }
    lock_take(&corpus);
    lock_drop(&corpus);
    lock_fini(&corpus);
    lock_fini(&store);
}

static void locks_keep_their_order(void **state) {
    (void)state;
    int status = run_forked(take_in_wrong_order, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = run_forked(take_same_rank_twice, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = run_forked(drop_what_is_not_held, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_int_equal(run_forked(take_in_order, NULL), 0);
}

struct shared {
    struct lock lock;
    struct signal_cond cond;
    int n;
    bool signals_blocked;
};

static void count_up(void *arg) {
    struct shared *shared = arg;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int i = 0; i < 1000; i++) {
        lock_take(&shared->lock);
        shared->n++;
        shared->signals_blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT);
        lock_drop(&shared->lock);
    }
    lock_take(&shared->lock);
    cond_wake_all(&shared->cond);
    lock_drop(&shared->lock);
}

static void threads_count_together(void **state) {
    (void)state;
    struct shared shared = {0};
    struct thread *threads[4];
    struct error err;
    lock_init(&shared.lock, LOCK_CORPUS);
    cond_init(&shared.cond);
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        assert_true(
            thread_start(&threads[i], "a-name-longer-than-fifteen", count_up, &shared, &err));
    int64_t deadline = time_mono_ms() + 10000;
    lock_take(&shared.lock);
    while (shared.n < 4000)
        assert_true(cond_wait(&shared.cond, &shared.lock, deadline));
    assert_true(shared.signals_blocked);
    lock_drop(&shared.lock);
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        thread_join(threads[i]);
    thread_join(NULL);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_false(sigismember(&mask, SIGTERM)); /* the caller's own mask is as before */
    cond_fini(&shared.cond);
    lock_fini(&shared.lock);
}

static void wait_ends_at_its_deadline(void **state) {
    (void)state;
    struct lock lock;
    struct signal_cond cond;
    lock_init(&lock, LOCK_HTTP);
    cond_init(&cond);
    lock_take(&lock);
    int64_t start = time_mono_ms();
    while (cond_wait(&cond, &lock, start + 30))
        continue;
    assert_true(time_mono_ms() - start >= 30);
    assert_false(cond_wait(&cond, &lock, 0)); /* long past */
    lock_drop(&lock);
    cond_fini(&cond);
    lock_fini(&lock);
}

static void cpu_count_is_sane(void **state) {
    (void)state;
    assert_in_range(cpu_count(), 1, sysconf(_SC_NPROCESSORS_ONLN));
}

static void assert_has_line(const struct buf *text, const char *line) {
    char *bounded = mem_printf("\n%s\n", line);
    if (!strstr(text->data, bounded))
        fail_msg("no line '%s' in:\n%s", line, text->data);
    mem_free(bounded);
}

static void metrics_in_prometheus_text(void **state) {
    (void)state;
    metric_add("t_jobs_total", "state=\"done\"", "Jobs.", 2);
    metric_add("t_jobs_total", "state=\"done\"", "Jobs.", 3);
    metric_add("t_jobs_total", "state=\"failed\"", "Jobs.", 1);
    metric_set("t_bytes", NULL, "Bytes.", 5368709120.0);
    metric_set("t_bytes", NULL, "Bytes.", 12345678901234.0);
    metric_observe("t_seconds", "stage=\"read\"", "Time.", 0.0005);
    metric_observe("t_seconds", "stage=\"read\"", "Time.", 0.005);
    metric_observe("t_seconds", "stage=\"read\"", "Time.", 100);
    struct buf out = {0};
    metric_write(&out);
    assert_has_line(&out, "# TYPE t_jobs_total counter");
    assert_has_line(&out, "t_jobs_total{state=\"done\"} 5");
    assert_has_line(&out, "t_jobs_total{state=\"failed\"} 1");
    assert_has_line(&out, "# HELP t_bytes Bytes.");
    assert_has_line(&out, "t_bytes 12345678901234");
    assert_has_line(&out, "# TYPE t_seconds histogram");
    assert_has_line(&out, "t_seconds_bucket{stage=\"read\",le=\"0.001\"} 1");
    assert_has_line(&out, "t_seconds_bucket{stage=\"read\",le=\"0.0025\"} 1");
    assert_has_line(&out, "t_seconds_bucket{stage=\"read\",le=\"0.005\"} 2");
    assert_has_line(&out, "t_seconds_bucket{stage=\"read\",le=\"60\"} 2");
    assert_has_line(&out, "t_seconds_bucket{stage=\"read\",le=\"+Inf\"} 3");
    assert_has_line(&out, "t_seconds_sum{stage=\"read\"} 100.0055");
    assert_has_line(&out, "t_seconds_count{stage=\"read\"} 3");
    buf_clear(&out);

    metric_forget("t_bytes");
    metric_forget("t_unheard_of");
    metric_set("t_bytes", "space=\"a\"", "Bytes.", 7);
    metric_write(&out);
    assert_null(strstr(out.data, "t_bytes 12345678901234"));
    assert_has_line(&out, "t_bytes{space=\"a\"} 7");
    buf_fini(&out);
}

static void families_are_bounded(void **state) {
    (void)state;
    struct error err;
    assert_true(log_open(LOG_ERROR, false, NULL, &err)); /* the warning is expected */
    for (int i = 0; i < 70; i++) {
        char *labels = mem_printf("n=\"%d\"", i);
        metric_add("t_many_total", labels, "Many.", 1);
        mem_free(labels);
    }
    assert_true(log_open(LOG_INFO, false, NULL, &err));
    struct buf out = {0};
    metric_write(&out);
    assert_has_line(&out, "t_many_total{n=\"63\"} 1");
    assert_null(strstr(out.data, "t_many_total{n=\"64\"}"));
    buf_fini(&out);
}

static void observe_at_once(void *arg) {
    (void)arg;
    for (int i = 0; i < 1000; i++)
        metric_add("t_threads_total", NULL, "Threads.", 1);
}

static void metrics_from_many_threads(void **state) {
    (void)state;
    struct thread *threads[4];
    struct error err;
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        assert_true(thread_start(&threads[i], "metric", observe_at_once, NULL, &err));
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        thread_join(threads[i]);
    struct buf out = {0};
    metric_write(&out);
    assert_has_line(&out, "t_threads_total 4000");
    buf_fini(&out);
}

#ifdef FAULT_POINTS
static void reach_fault(void *arg) {
    setenv("DOCUSEARCH_FAULT", arg, 1);
    fault_point("queued");
}

static void fault_points_kill(void **state) {
    (void)state;
    int status = run_forked(reach_fault, (char[]){"queued:kill"});
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(run_forked(reach_fault, (char[]){"parsed:kill"}), 0);
    assert_int_equal(run_forked(reach_fault, (char[]){"queue:kill"}), 0);
    assert_int_equal(run_forked(reach_fault, (char[]){"queued"}), 0);
    assert_int_equal(run_forked(reach_fault, (char[]){"queued:dance"}), 0);
}
#else
static void fault_points_kill(void **state) {
    (void)state;
    print_message("skipped: built without fault points\n");
    skip();
}
#endif

int run_thread_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locks_keep_their_order),     cmocka_unit_test(threads_count_together),
        cmocka_unit_test(wait_ends_at_its_deadline),  cmocka_unit_test(cpu_count_is_sane),
        cmocka_unit_test(metrics_in_prometheus_text), cmocka_unit_test(families_are_bounded),
        cmocka_unit_test(metrics_from_many_threads),  cmocka_unit_test(fault_points_kill),
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
