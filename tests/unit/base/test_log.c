/* The log's two forms, its levels, escapes and rotation. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    char *dir, *path;
};

static int set_up(void **state) {
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture->dir = temp_dir_make();
    fixture->path = mem_printf("%s/log", fixture->dir);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    log_open(LOG_INFO, false, NULL, NULL);
    temp_dir_drop(fixture->dir);
    mem_free(fixture->path);
    mem_free(fixture);
    return 0;
}

static char *text_of(const char *path) {
    struct error err;
    char *data;
    size_t len;
    if (!file_read(&data, &len, path, 1 << 20, &err))
        fail_msg("%s", err.text);
    return data;
}

static void text_lines_have_time_level_message(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_INFO, false, fixture->path, &err));
    log_debug("not there");
    log_info("Using device: %s", "cpu");
    log_warn("second");
    log_error("third");
    char *text = text_of(fixture->path);
    /* 2026-11-22T04:41:43.123Z INFO message */
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_memory_equal(text + 24, " INFO Using device: cpu\n", 24);
    assert_non_null(strstr(text, " WARN second\n"));
    assert_non_null(strstr(text, " ERROR third\n"));
    assert_null(strstr(text, "not there"));
    mem_free(text);
}

static void one_message_is_one_line(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_DEBUG, false, fixture->path, &err));
    log_debug("%s", "a\nb\tc\x1b[31m\x7F\r\xFF\xC2\x85\xC3\xA9");
    char *text = text_of(fixture->path);
    assert_non_null(strstr(text, " DEBUG a\\nb\\tc\\x1b[31m\\x7f\\x0d\xEF\xBF\xBD\\x85\xC3\xA9\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    mem_free(text);
}

static void json_lines_are_objects(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_INFO, true, fixture->path, &err));
    log_warn("a \"quoted\"\nname \xFF");
    char *text = text_of(fixture->path);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    assert_int_equal(json_object_size(object), 3);
    assert_string_equal(json_string_value(json_object_get(object, "level")), "WARN");
    assert_string_equal(json_string_value(json_object_get(object, "message")),
                        "a \"quoted\"\nname \xEF\xBF\xBD");
    assert_int_equal(strlen(json_string_value(json_object_get(object, "time"))), 24);
    json_decref(object);
    mem_free(text);
}

static void long_messages_are_cut(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_INFO, true, fixture->path, &err));
    char *message = mem_alloc(100001);
    for (int i = 0; i < 100000; i += 2)
        memcpy(message + i, "\xC3\xA9", 2);
    log_info("%s", message);
    char *text = text_of(fixture->path);
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    const char *logged = json_string_value(json_object_get(object, "message"));
    assert_in_range(strlen(logged), 8000, 8192);
    assert_memory_equal(logged + strlen(logged) - 2, "\xC3\xA9", 2);
    json_decref(object);
    mem_free(text);
    mem_free(message);
}

static void moved_file_is_opened_anew(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_INFO, false, fixture->path, &err));
    log_info("before");
    char *old = mem_printf("%s.1", fixture->path);
    assert_int_equal(rename(fixture->path, old), 0);
    time_sleep_ms(1100);
    log_info("after");
    char *old_text = text_of(old), *new_text = text_of(fixture->path);
    assert_non_null(strstr(old_text, "before\n"));
    assert_null(strstr(old_text, "after"));
    assert_non_null(strstr(new_text, "after\n"));
    mem_free(old_text);
    mem_free(new_text);
    mem_free(old);
}

static void asked_for_it_is_opened_anew_at_once(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_reopen(&err)); /* standard error: nothing to do */
    assert_true(log_open(LOG_INFO, false, fixture->path, &err));
    log_info("before");
    char *old = mem_printf("%s.1", fixture->path);
    assert_int_equal(rename(fixture->path, old), 0);
    log_info("between");
    assert_true(log_reopen(&err));
    log_info("after");
    char *old_text = text_of(old), *new_text = text_of(fixture->path);
    assert_non_null(strstr(old_text, "before\n"));
    assert_non_null(strstr(old_text, "between\n"));
    assert_null(strstr(old_text, "after"));
    assert_null(strstr(new_text, "between"));
    assert_non_null(strstr(new_text, "after\n"));
    mem_free(old_text);
    mem_free(new_text);
    mem_free(old);
}

static void a_file_that_cannot_be_opened_anew_leaves_the_old(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_true(log_open(LOG_INFO, false, fixture->path, &err));
    char *old = mem_printf("%s.1", fixture->path);
    assert_int_equal(rename(fixture->path, old), 0);
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    assert_false(log_reopen(&err));
    assert_non_null(strstr(err.text, fixture->path));
    log_info("after");
    assert_int_equal(rmdir(fixture->path), 0);
    char *text = text_of(old);
    assert_non_null(strstr(text, "after\n"));
    mem_free(text);
    mem_free(old);
}

static void unusable_file_is_an_error(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    assert_false(log_open(LOG_INFO, false, "/nowhere/log", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_false(log_open(LOG_INFO, false, fixture->dir, &err));
    assert_int_equal(err.kind, ERROR_IO);
}

static void write_many(void *arg) {
    for (int i = 0; i < 500; i++)
        log_info("%s %d", (const char *)arg, i);
}

static void lines_of_threads_do_not_mix(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    static char names[4][16] = {"alpha", "beta", "gamma", "delta"};
    struct thread *threads[4];
    assert_true(log_open(LOG_INFO, true, fixture->path, &err));
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        assert_true(thread_start(&threads[i], names[i], write_many, names[i], &err));
    for (size_t i = 0; i < BASE_COUNT(threads); i++)
        thread_join(threads[i]);
    char *text = text_of(fixture->path);
    int n_lines = 0;
    for (char *line = text, *next; *line; line = next, n_lines++) {
        next = strchr(line, '\n') + 1;
        next[-1] = '\0';
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        json_decref(object);
    }
    assert_int_equal(n_lines, 2000);
    mem_free(text);
}

int run_log_tests(void) {
#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILE(text_lines_have_time_level_message),
        WITH_FILE(one_message_is_one_line),
        WITH_FILE(json_lines_are_objects),
        WITH_FILE(long_messages_are_cut),
        WITH_FILE(moved_file_is_opened_anew),
        WITH_FILE(asked_for_it_is_opened_anew_at_once),
        WITH_FILE(a_file_that_cannot_be_opened_anew_leaves_the_old),
        WITH_FILE(unusable_file_is_an_error),
        WITH_FILE(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
