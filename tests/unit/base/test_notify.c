#include "base/notify.h"

#include "tests.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOON_MS 3000

struct watched {
    char *root;
    struct notify *notify;
    struct buf seen; /* "|path|path|" */
};

static void on_change(void *ctx, const char *path) {
    struct watched *w = ctx;
    buf_printf(&w->seen, "%s|", path);
}

static int set_up(void **state) {
    struct watched *w = mem_alloc(sizeof *w);
    struct error err;
    char path[512];
    w->root = temp_dir_make();
    snprintf(path, sizeof path, "%s/sub/deep", w->root);
    assert_true(dir_make(path, &err));
    snprintf(path, sizeof path, "%s/.hist", w->root);
    assert_true(dir_make(path, &err));
    if (!notify_open(&w->notify, w->root, &err))
        fail_msg("%s", err.text);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    struct watched *w = *state;
    notify_close(w->notify);
    buf_fini(&w->seen);
    temp_dir_drop(w->root);
    mem_free(w);
    return 0;
}

static char *at(const struct watched *w, const char *name) {
    return mem_printf("%s/%s", w->root, name);
}

static void write_file(const struct watched *w, const char *name) {
    char *path = at(w, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("text", file);
    fclose(file);
    mem_free(path);
}

static void rename_file(const struct watched *w, const char *from, const char *to) {
    char *old = at(w, from), *new = at(w, to);
    assert_int_equal(rename(old, new), 0);
    mem_free(old);
    mem_free(new);
}

static void make_folder(const struct watched *w, const char *name) {
    char *path = at(w, name);
    assert_int_equal(mkdir(path, 0700), 0);
    mem_free(path);
}

/* Waits until each of the paths was told of. */
static void expect(struct watched *w, const char *const *paths, int n) {
    int64_t deadline_ms = time_mono_ms() + SOON_MS;
    buf_clear(&w->seen);
    buf_putc(&w->seen, '|');
    for (int i = 0; i < n;) {
        char *one = mem_printf("|%s|", paths[i]);
        if (strstr(w->seen.data, one))
            i++;
        else if (time_mono_ms() > deadline_ms)
            fail_msg("%s is not among %s", paths[i], w->seen.data);
        else
            notify_wait(w->notify, deadline_ms, on_change, w);
        mem_free(one);
    }
}
#define EXPECT(w, ...)                                                                             \
    expect(w, (const char *const[]){__VA_ARGS__},                                                  \
           (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

/* Nothing more is told of. */
static void expect_quiet(struct watched *w) {
    while (notify_wait(w->notify, time_mono_ms() + 100, on_change, w) != NOTIFY_QUIET) {
    }
    buf_clear(&w->seen);
    assert_int_equal(notify_wait(w->notify, time_mono_ms() + 100, on_change, w), NOTIFY_QUIET);
    assert_int_equal(w->seen.len, 0);
}

static void test_files(void **state) {
    struct watched *w = *state;
    expect_quiet(w);
    write_file(w, "a.txt");
    EXPECT(w, "a.txt");
    write_file(w, "sub/deep/b.txt");
    EXPECT(w, "sub/deep/b.txt");
    rename_file(w, "a.txt", "sub/c.txt");
    EXPECT(w, "a.txt", "sub/c.txt");
    char *path = at(w, "sub/c.txt");
    assert_int_equal(unlink(path), 0);
    mem_free(path);
    EXPECT(w, "sub/c.txt");
    expect_quiet(w);
}

static void test_hidden_folders(void **state) {
    struct watched *w = *state;
    write_file(w, ".hist/up2k.db");
    expect_quiet(w);
}

/* A folder that comes is watched, with what comes below it, and one that moves under its new name
 * alone. */
static void test_folders(void **state) {
    struct watched *w = *state;
    make_folder(w, "new");
    EXPECT(w, "new");
    make_folder(w, "new/er");
    EXPECT(w, "new/er");
    write_file(w, "new/er/a.txt");
    EXPECT(w, "new/er/a.txt");
    rename_file(w, "new", "sub/moved");
    EXPECT(w, "new", "sub/moved");
    write_file(w, "sub/moved/er/b.txt");
    EXPECT(w, "sub/moved/er/b.txt");
    assert_null(strstr(w->seen.data, "|new/er/b.txt|"));
    make_folder(w, "new");
    EXPECT(w, "new");
    write_file(w, "new/c.txt");
    EXPECT(w, "new/c.txt");
    struct error err;
    char *path = at(w, "sub/moved");
    assert_true(dir_remove(path, &err));
    mem_free(path);
    EXPECT(w, "sub/moved");
    expect_quiet(w);
    assert_int_equal(notify_unwatched(w->notify), 0);
}

static void test_moved_out(void **state) {
    struct watched *w = *state;
    char *outside = temp_dir_make(), *from = at(w, "sub"), *to = mem_printf("%s/sub", outside);
    assert_int_equal(rename(from, to), 0);
    EXPECT(w, "sub");
    char *file = mem_printf("%s/sub/deep/late.txt", outside);
    FILE *late = fopen(file, "w");
    assert_non_null(late);
    fclose(late);
    expect_quiet(w);
    mem_free(file);
    mem_free(to);
    mem_free(from);
    temp_dir_drop(outside);
}

static void expect_lost(struct watched *w) {
    int64_t deadline_ms = time_mono_ms() + SOON_MS;
    while (notify_wait(w->notify, deadline_ms, on_change, w) != NOTIFY_LOST)
        assert_true(time_mono_ms() < deadline_ms);
}

static void test_root_moves(void **state) {
    struct watched *w = *state;
    char *away = mem_printf("%s.away", w->root);
    assert_int_equal(rename(w->root, away), 0);
    expect_lost(w);
    assert_int_equal(rename(away, w->root), 0);
    mem_free(away);
}

static void test_root_goes(void **state) {
    struct watched *w = *state;
    struct error err;
    assert_true(dir_remove(w->root, &err));
    expect_lost(w);
    struct notify *again;
    assert_false(notify_open(&again, w->root, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
}

/* More events than the system keeps: all may have changed, and what came since is watched. */
static void test_overflow(void **state) {
    struct watched *w = *state;
    long max = 16384;
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (!limit || fscanf(limit, "%ld", &max) != 1 || max > 100000) {
        print_message("no limit of events that could be reached\n");
        if (limit)
            fclose(limit);
        skip();
    }
    fclose(limit);
    char *a = at(w, "a"), *b = at(w, "b");
    write_file(w, "a");
    for (long i = 0; i < max / 2 + 10; i++)
        assert_int_equal(rename(i % 2 ? b : a, i % 2 ? a : b), 0);
    make_folder(w, "unseen");
    assert_int_equal(notify_wait(w->notify, time_mono_ms() + SOON_MS, on_change, w), NOTIFY_RESCAN);
    write_file(w, "unseen/file.txt");
    EXPECT(w, "unseen/file.txt");
    mem_free(a);
    mem_free(b);
}

static void wake(void *arg) {
    time_sleep_ms(100);
    notify_wake(arg);
}

static void test_wake(void **state) {
    struct watched *w = *state;
    struct thread *thread;
    struct error err;
    int64_t begun_ms = time_mono_ms();
    assert_true(thread_start(&thread, "wake", wake, w->notify, &err));
    assert_int_equal(notify_wait(w->notify, begun_ms + 20000, on_change, w), NOTIFY_QUIET);
    assert_true(time_mono_ms() - begun_ms < 10000);
    thread_join(thread);
    notify_wake(w->notify); /* before the wait: the next one ends */
    begun_ms = time_mono_ms();
    assert_int_equal(notify_wait(w->notify, begun_ms + 20000, on_change, w), NOTIFY_QUIET);
    assert_true(time_mono_ms() - begun_ms < 10000);
}

int run_notify_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hidden_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_moved_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_root_moves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_root_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overflow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wake, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
