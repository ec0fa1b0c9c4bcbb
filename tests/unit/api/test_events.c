/* The event stream over a real server. */
#include "test_api.h"

#include <stdio.h>
#include <string.h>

struct heard {
    int n_progress, n_reset, n_removed;
    bool completed;
    char last_id[64], first_id[64];
    char doc_id[SHA256_HEX + 1];
};

static bool until_completed(void *ctx, const char *event, const char *id, const char *data) {
    struct heard *heard = ctx;
    if (!event)
        return true;
    snprintf(heard->last_id, sizeof(heard->last_id), "%s", id);
    if (!heard->first_id[0])
        snprintf(heard->first_id, sizeof(heard->first_id), "%s", id);
    json_t *json = json_loads(data, 0, NULL);
    assert_non_null(json);
    if (strcmp(event, "reset") == 0)
        heard->n_reset++;
    if (strcmp(event, "document") == 0 && strcmp(text_of(json, "action"), "removed") == 0)
        heard->n_removed++;
    if (strcmp(event, "progress") == 0) {
        heard->n_progress++;
        snprintf(heard->doc_id, sizeof(heard->doc_id), "%s", text_of(json, "doc_id"));
        heard->completed = strcmp(text_of(json, "status"), "completed") == 0;
    }
    json_decref(json);
    return !heard->completed && !heard->n_removed && !heard->n_reset;
}

static void listen_from(struct heard *heard, struct fixture *f, const char *last_id) {
    struct error err;
    memset(heard, 0, sizeof(*heard));
    if (!http_client_events(f->client, "/events", last_id, time_mono_ms() + 20000, until_completed,
                            heard, &err))
        fail_msg("%s", err.text);
}

static void changes_are_told_and_told_again(void **state) {
    struct fixture *f = *state;
    struct heard heard, again;
    char before[64], id[SHA256_HEX + 1], target[160];
    fixture_serve(f);
    listen_from(&heard, f, "1"); /* a reset carries the id that is reached */
    assert_int_equal(heard.n_reset, 1);
    snprintf(before, sizeof(before), "%s", heard.last_id);
    add_text(id, f, "a.txt", "Told as it happens.\n");
    listen_from(&heard, f, before);
    assert_true(heard.completed);
    assert_string_equal(heard.doc_id, id);
    /* Everything after an id comes again, in the same order. */
    listen_from(&again, f, before);
    assert_string_equal(again.first_id, heard.first_id);
    snprintf(target, sizeof(target), "/documents/%s", id);
    assert_int_equal(ask(NULL, f, "DELETE", target, NULL), 200);
    listen_from(&again, f, heard.last_id);
    assert_int_equal(again.n_removed, 1);
}

static void lost_readers_are_told_to_reload(void **state) {
    struct fixture *f = *state;
    struct heard heard;
    fixture_serve(f);
    static const char *const lost[] = {"1", "99999999999999", "x"};
    for (size_t i = 0; i < BASE_COUNT(lost); i++) {
        listen_from(&heard, f, lost[i]);
        assert_int_equal(heard.n_reset, 1);
    }
    for (int i = 0; i < 1500; i++)
        events_document(f->api->events, "added", "x", "y");
    char start[32];
    snprintf(start, sizeof(start), "%lld", (long long)f->api->started_ms + 5);
    listen_from(&heard, f, start);
    assert_int_equal(heard.n_reset, 1);
}

static bool never(void *ctx, const char *event, const char *id, const char *data) {
    (void)event;
    (void)id;
    (void)data;
    ++*(int *)ctx;
    return true;
}

static void stop_later(void *arg) {
    time_sleep_ms(300);
    api_stop(arg);
}

static void stop_ends_streams(void **state) {
    struct fixture *f = *state;
    struct thread *thread;
    struct error err;
    int n = 0;
    fixture_serve(f);
    assert_true(thread_start(&thread, "stop", stop_later, f->api, &err));
    int64_t before = time_mono_ms();
    assert_false(http_client_events(f->client, "/events", NULL, -1, never, &n, &err));
    assert_true(time_mono_ms() - before < 3000);
    thread_join(thread);
}

int test_events(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_are_told_and_told_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_readers_are_told_to_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_ends_streams, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
