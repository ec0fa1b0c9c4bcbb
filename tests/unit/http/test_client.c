/* The client against our server: calls, an upload with its progress, a stream of events. */
#include "test_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t n_received;
static char received_name[64];

static bool on_begin(void *ctx, const struct http_part *part, struct error *err) {
    (void)ctx;
    (void)err;
    snprintf(received_name, sizeof(received_name), "%s:%s", part->name,
             part->filename ? part->filename : "");
    return true;
}

static bool on_data(void *ctx, const void *data, size_t len, struct error *err) {
    (void)ctx;
    (void)data;
    (void)err;
    n_received += len;
    return true;
}

static bool on_end(void *ctx, struct error *err) {
    (void)ctx;
    (void)err;
    return true;
}

static bool sink(struct http_request *request, const void *data, size_t len,
                 struct http_response *response, struct error *err) {
    (void)response;
    return http_multipart_write(request->user, data, len, err);
}

static void begin(void *ctx, struct http_request *request, struct http_plan *plan,
                  struct http_response *response) {
    (void)ctx;
    (void)response;
    plan->max_body_bytes = 16 << 20;
    if (strcmp(request->path, "/upload") == 0) {
        struct http_part_sink parts = {NULL, on_begin, on_data, on_end};
        struct http_multipart *multipart;
        struct error err;
        n_received = 0;
        assert_true(
            http_multipart_open(&multipart, http_header(request, "Content-Type"), &parts, &err));
        request->user = multipart;
        plan->sink = sink;
    }
}

static size_t tick(void *ctx, char *out, size_t max) {
    int *n = ctx;
    ++*n;
    if (*n > 3)
        time_sleep_ms(100);
    return (size_t)snprintf(
        out, max, *n > 3 ? ": ping %d\n\n" : "id: %d\nevent: tick\ndata: a\ndata: b\n\n", *n);
}

static void handle(void *ctx, struct http_request *request, struct http_response *response) {
    (void)ctx;
    if (strcmp(request->path, "/events") == 0) {
        struct http_stream stream = {mem_alloc(sizeof(int)), tick, mem_free};
        http_reply_stream(response, "text/event-stream", &stream);
        return;
    }
    const char *auth = http_header(request, "Authorization");
    http_reply_json(response, strcmp(request->path, "/gone") == 0 ? 404 : 200,
                    json_pack("{s:s, s:s, s:s}", "method", request->method, "auth",
                              auth ? auth : "", "body", request->body));
}

static void end(void *ctx, struct http_request *request) {
    (void)ctx;
    http_multipart_free(request->user);
}

static struct http_server *server;
static struct http_client *client;

static int start(void **state) {
    (void)state;
    struct http_server_options options = {.host = "127.0.0.1"};
    struct http_handler handler = {NULL, begin, handle, end};
    struct error err;
    return http_server_start(&server, &options, &handler, &err) &&
                   http_client_open(&client, http_server_url(server), "k1", &err)
               ? 0
               : -1;
}

static int stop(void **state) {
    (void)state;
    http_client_close(client);
    http_server_stop(server);
    return 0;
}

static const char *text_of(const struct http_reply *reply, const char *key) {
    return json_string_value(json_object_get(reply->json, key));
}

static void calls_carry_key_and_body(void **state) {
    (void)state;
    struct http_reply reply;
    struct error err;
    assert_true(http_client_call(&reply, client, "GET", "/a", NULL, &err));
    assert_int_equal(reply.status, 200);
    assert_string_equal(text_of(&reply, "auth"), "Bearer k1");
    assert_string_equal(text_of(&reply, "method"), "GET");
    http_reply_fini(&reply);
    json_t *body = json_pack("{s:i}", "n", 7);
    assert_true(http_client_call(&reply, client, "POST", "/gone", body, &err));
    assert_int_equal(reply.status, 404);
    assert_string_equal(text_of(&reply, "body"), "{\"n\":7}");
    http_reply_fini(&reply);
    json_decref(body);
    assert_true(http_client_call(&reply, client, "DELETE", "/a", NULL, &err));
    assert_string_equal(text_of(&reply, "method"), "DELETE");
    http_reply_fini(&reply);
}

static bool on_progress(void *ctx, int64_t sent, int64_t size) {
    int64_t *seen = ctx;
    if (size > 0 && sent > *seen)
        *seen = sent;
    return true;
}

static bool refuse_progress(void *ctx, int64_t sent, int64_t size) {
    (void)ctx;
    (void)size;
    return sent < 100000;
}

static void files_are_uploaded(void **state) {
    (void)state;
    char path[] = "/tmp/test-http-XXXXXX";
    int fd = mkstemp(path);
    struct error err;
    size_t len = 3000000;
    char *bytes = mem_alloc(len);
    assert_true(fd_write_all(fd, bytes, len, &err));
    close(fd);
    struct http_reply reply;
    int64_t seen = 0;
    assert_true(http_client_upload(&reply, client, "/upload", path, "a \"b\".pdf", on_progress,
                                   &seen, &err));
    assert_int_equal(reply.status, 200);
    assert_int_equal(n_received, len);
    assert_string_equal(received_name, "file:a \"b\".pdf");
    assert_true(seen > (int64_t)len);
    http_reply_fini(&reply);
    assert_false(
        http_client_upload(&reply, client, "/upload", path, "a", refuse_progress, NULL, &err));
    assert_string_equal(err.code, "cancelled");
    assert_false(
        http_client_upload(&reply, client, "/upload", "/nonexistent", "a", NULL, NULL, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    unlink(path);
    mem_free(bytes);
}

static bool on_event(void *ctx, const char *event, const char *id, const char *data) {
    int *n = ctx;
    if (!event)
        return true;
    assert_string_equal(event, "tick");
    assert_string_equal(data, "a\nb");
    ++*n;
    assert_int_equal(id[0] - '0', *n);
    return *n < 3;
}

static void events_are_heard(void **state) {
    (void)state;
    struct error err;
    int n = 0;
    assert_true(http_client_events(client, "/events", NULL, -1, on_event, &n, &err));
    assert_int_equal(n, 3);
    int64_t before = time_mono_ms();
    n = 0;
    assert_true(http_client_events(client, "/events", "5", before + 300, on_event, &n, &err));
    assert_true(time_mono_ms() - before < 2500);
}

static void nobody_there_is_said(void **state) {
    (void)state;
    struct http_client *lost;
    struct http_reply reply;
    struct error err;
    assert_true(http_client_open(&lost, "http://127.0.0.1:1/", NULL, &err));
    assert_false(http_client_call(&reply, lost, "GET", "/", NULL, &err));
    assert_int_equal(err.kind, ERROR_IO);
    assert_string_equal(err.code, "connect_failed");
    http_client_close(lost);
}

int test_client(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(calls_carry_key_and_body, start, stop),
        cmocka_unit_test_setup_teardown(files_are_uploaded, start, stop),
        cmocka_unit_test_setup_teardown(events_are_heard, start, stop),
        cmocka_unit_test(nobody_there_is_said),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
