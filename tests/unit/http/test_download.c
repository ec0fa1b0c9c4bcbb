/* Downloads from two servers of ours: ranges, refusals, redirects from one to the other. */
#include "test_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY "0123456789abcdefghij"

static struct http_server *near_server, *far_server;
static struct http_client *client;
static bool far_saw_key;

static void begin(void *ctx, struct http_request *request, struct http_plan *plan,
                  struct http_response *response) {
    (void)ctx;
    (void)request;
    (void)plan;
    (void)response;
}

static void send_tail(struct http_response *response, const char *content_range, size_t from) {
    http_reply_borrowed(response, content_range ? 206 : 200, "application/octet-stream",
                        &BODY[from], sizeof BODY - 1 - from);
    if (content_range)
        http_reply_header(response, "Content-Range", content_range);
}

static void handle_near(void *ctx, struct http_request *request, struct http_response *response) {
    (void)ctx;
    const char *range = http_header(request, "Range");
    const char *key = http_header(request, "Authorization");
    assert_non_null(key);
    assert_string_equal(key, "Bearer k1");
    if (strcmp(request->path, "/ranges") == 0 && range) {
        assert_string_equal(range, "bytes=5-");
        send_tail(response, "bytes 5-19/20", 5);
    } else if (strcmp(request->path, "/lies") == 0) {
        send_tail(response, "bytes 4-19/20", 4);
    } else if (strcmp(request->path, "/far") == 0 || strcmp(request->path, "/loop") == 0) {
        char *url = mem_printf("%s/there", http_server_url(far_server));
        http_reply_error(response, 302, "moved", "elsewhere");
        http_reply_header(response, "Location", request->path[1] == 'f' ? url : "/loop");
        mem_free(url);
    } else if (strcmp(request->path, "/secret") == 0) {
        http_reply_error(response, 401, "no", "a key is needed");
        http_reply_header(response, "X-Error-Code", "GatedRepo");
    } else {
        send_tail(response, NULL, 0);
    }
}

static void handle_far(void *ctx, struct http_request *request, struct http_response *response) {
    (void)ctx;
    far_saw_key = http_header(request, "Authorization") != NULL;
    send_tail(response, NULL, 0);
}

static void end(void *ctx, struct http_request *request) {
    (void)ctx;
    (void)request;
}

static int start(void **state) {
    (void)state;
    struct http_server_options options = {.host = "127.0.0.1"};
    struct http_handler near_handler = {NULL, begin, handle_near, end};
    struct http_handler far_handler = {NULL, begin, handle_far, end};
    struct error err;
    bool ok = http_server_start(&near_server, &options, &near_handler, &err) &&
              http_server_start(&far_server, &options, &far_handler, &err) &&
              http_client_open(&client, http_server_url(near_server), "k1", &err);
    return ok ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    http_client_close(client);
    http_server_stop(near_server);
    http_server_stop(far_server);
    return 0;
}

struct got {
    int64_t from_byte, n_bytes;
    int n_begun;
    struct buf body;
    bool refuse, cancel;
};

static bool on_begin(void *ctx, int64_t from_byte, int64_t n_bytes, struct error *err) {
    struct got *got = ctx;
    (void)err;
    got->n_begun++;
    got->from_byte = from_byte;
    got->n_bytes = n_bytes;
    return true;
}

static bool on_data(void *ctx, const void *data, size_t len, struct error *err) {
    struct got *got = ctx;
    buf_append(&got->body, data, len);
    return !got->refuse || error_set(err, ERROR_LIMIT, "enough");
}

static bool on_tick(void *ctx) {
    return !((struct got *)ctx)->cancel;
}

static bool download(struct got *got, struct http_download_reply *reply, const char *target,
                     int64_t from_byte, struct error *err) {
    struct http_download wanted = {.target = target,
                                   .from_byte = from_byte,
                                   .stall_ms = 5000,
                                   .note = "X-Error-Code",
                                   .ctx = got,
                                   .begin = on_begin,
                                   .data = on_data,
                                   .tick = on_tick};
    return http_client_download(reply, client, &wanted, err);
}

static void whole_and_part(void **state) {
    (void)state;
    struct error err;
    struct http_download_reply reply;
    struct got whole = {0}, part = {0}, ignored = {0}, wrong = {0};
    assert_true(download(&whole, &reply, "/whole", 0, &err));
    assert_int_equal(reply.status, 200);
    assert_int_equal(whole.n_begun, 1);
    assert_int_equal(whole.n_bytes, 20);
    assert_string_equal(whole.body.data, BODY);
    assert_true(download(&part, &reply, "/ranges", 5, &err));
    assert_int_equal(reply.status, 206);
    assert_int_equal(part.from_byte, 5);
    assert_string_equal(part.body.data, &BODY[5]);
    assert_true(download(&ignored, &reply, "/whole", 5, &err));
    assert_int_equal(ignored.from_byte, 0);
    assert_string_equal(ignored.body.data, BODY);
    assert_false(download(&wrong, &reply, "/lies", 5, &err));
    assert_int_equal(err.kind, ERROR_IO);
    assert_int_equal(wrong.n_begun, 0);
    buf_fini(&whole.body);
    buf_fini(&part.body);
    buf_fini(&ignored.body);
}

static void the_key_stays_at_home(void **state) {
    (void)state;
    struct error err;
    struct http_download_reply reply;
    struct got got = {0};
    far_saw_key = true;
    assert_true(download(&got, &reply, "/far", 0, &err));
    assert_int_equal(reply.status, 200);
    assert_string_equal(got.body.data, BODY);
    assert_int_equal(got.n_begun, 1);
    assert_false(far_saw_key);
    assert_false(download(&got, &reply, "/loop", 0, &err));
    assert_int_equal(err.kind, ERROR_IO);
    buf_fini(&got.body);
}

static void refusals(void **state) {
    (void)state;
    struct error err;
    struct http_download_reply reply;
    struct got got = {0};
    assert_true(download(&got, &reply, "/secret", 0, &err));
    assert_int_equal(reply.status, 401);
    assert_string_equal(reply.note, "GatedRepo");
    assert_int_equal(got.n_begun, 0);
    got.refuse = true;
    assert_false(download(&got, &reply, "/whole", 0, &err));
    assert_string_equal(err.text, "enough");
    got.cancel = true;
    assert_false(download(&got, &reply, "/whole", 0, &err));
    assert_string_equal(err.code, "cancelled");
    buf_fini(&got.body);
}

int test_download(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_and_part, start, stop),
        cmocka_unit_test_setup_teardown(the_key_stays_at_home, start, stop),
        cmocka_unit_test_setup_teardown(refusals, start, stop),
    };
    return cmocka_run_group_tests_name("download", tests, NULL, NULL);
}
