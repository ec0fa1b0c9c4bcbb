/* What only a server shows: uploads, keys, headers, files. */
#include "test_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int upload(json_t **out, struct fixture *f, const char *name, const char *text) {
    char path[128];
    struct error err;
    struct http_reply reply;
    snprintf(path, sizeof(path), "%s/file", f->folder);
    assert_true(file_write_durable(path, text, strlen(text), &err));
    if (!http_client_upload(&reply, f->client, "/documents", path, name, NULL, NULL, &err))
        fail_msg("%s", err.text);
    int status = reply.status;
    *out = json_incref(reply.json);
    http_reply_fini(&reply);
    return status;
}

static int call(struct http_reply *reply, struct fixture *f, const char *method,
                const char *target) {
    struct error err;
    if (!http_client_call(reply, f->client, method, target, NULL, &err))
        fail_msg("%s", err.text);
    return reply->status;
}

static json_t *first_document(json_t *json) {
    return json_array_get(json_object_get(json, "documents"), 0);
}

static void uploads_are_taken_once(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1];
    json_t *json;
    fixture_serve(f);
    sha256_hex(id, "alpha beta\n", 11);
    assert_int_equal(upload(&json, f, "../a\"b.txt", "alpha beta\n"), 202);
    assert_string_equal(text_of(first_document(json), "doc_id"), id);
    assert_string_equal(text_of(first_document(json), "filename"), "a\"b.txt");
    assert_string_equal(text_of(first_document(json), "status"), "queued");
    assert_true(int_of(first_document(json), "job_id") > 0);
    json_decref(json);
    assert_true(queue_drain(corpus_queue(f->corpus), time_mono_ms() + 60000));
    assert_int_equal(upload(&json, f, "other.txt", "alpha beta\n"), 200);
    assert_string_equal(text_of(first_document(json), "doc_id"), id);
    assert_string_equal(text_of(first_document(json), "status"), "completed");
    json_decref(json);
}

static void refused_uploads_say_why(void **state) {
    (void)state;
    const char *const small[] = {"--max-file-size-mb", "1", NULL};
    struct fixture *f = fixture_new(small);
    struct http_reply reply;
    json_t *json;
    fixture_serve(f);
    assert_int_equal(upload(&json, f, "a.txt", ""), 400);
    assert_string_equal(text_of(json_object_get(json, "error"), "code"), "empty_file");
    json_decref(json);
    assert_int_equal(upload(&json, f, "a.exe", "MZ\1\2\3"), 415);
    assert_string_equal(text_of(json_object_get(json, "error"), "code"), "unsupported_type");
    json_decref(json);
    for (int mb = 1; mb <= 40; mb += 39) { /* read to its end, and not */
        size_t len = ((size_t)mb << 20) + 1;
        char *large = mem_alloc(len + 1);
        memset(large, 'a', len);
        int status = upload(&json, f, "large.txt", large);
        assert_int_equal(status, 413);
        json_decref(json);
        mem_free(large);
    }
    assert_int_equal(call(&reply, f, "POST", "/documents"), 415);
    http_reply_fini(&reply);
    assert_int_equal(call(&reply, f, "GET", "/documents"), 200);
    assert_int_equal(int_of(reply.json, "total"), 0);
    http_reply_fini(&reply);
    fixture_free(f);
}

static void full_queues_are_said_before_the_body(void **state) {
    (void)state;
    const char *const one[] = {"--max-queue", "1", NULL};
    struct fixture *f = fixture_new(one);
    json_t *json;
    corpus_stop(f->corpus);
    fixture_serve(f);
    assert_int_equal(upload(&json, f, "a.txt", "first"), 202);
    json_decref(json);
    assert_int_equal(upload(&json, f, "b.txt", "second"), 429);
    assert_string_equal(text_of(json_object_get(json, "error"), "code"), "queue_full");
    json_decref(json);
    fixture_free(f);
}

static void keys_guard_all_but_a_few(void **state) {
    (void)state;
    setenv("API_KEY", "k-123", 1);
    struct fixture *f = fixture_new(NULL);
    unsetenv("API_KEY");
    struct http_client *stranger;
    struct http_reply reply;
    struct error err;
    fixture_serve(f);
    assert_int_equal(call(&reply, f, "GET", "/documents"), 200);
    http_reply_fini(&reply);
    assert_true(http_client_open(&stranger, api_url(f->api), NULL, &err));
    static const struct {
        const char *target;
        int status;
    } cases[] = {{"/health", 200},  {"/livez", 200},  {"/readyz", 200},   {"/openapi.json", 200},
                 {"/", 200},        {"/jobs", 401},   {"/metrics", 401},  {"/events", 401},
                 {"/nowhere", 401}, {"/search", 401}, {"/documents", 401}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        assert_true(http_client_call(&reply, stranger, "GET", cases[i].target, NULL, &err));
        if (reply.status != cases[i].status)
            fail_msg("%s: %d", cases[i].target, reply.status);
        http_reply_fini(&reply);
    }
    http_client_close(stranger);
    fixture_free(f);
}

static void open_hosts_need_a_key(void **state) {
    (void)state;
    const char *const open[] = {"--worker-host", "0.0.0.0", NULL};
    const char *const insecure[] = {"--worker-host", "0.0.0.0", "--insecure", NULL};
    struct error err = {0};
    struct fixture *f = fixture_new(open);
    assert_false(api_start(f->api, &err));
    assert_string_equal(err.code, "key_required");
    assert_non_null(strstr(err.text, "--insecure"));
    fixture_free(f);
    f = fixture_new(insecure);
    assert_true(api_start(f->api, &err));
    fixture_free(f);
}

static void ports_in_use_are_named(void **state) {
    struct fixture *f = *state;
    struct error err = {0};
    fixture_serve(f);
    char port[16];
    snprintf(port, sizeof(port), "%s", strrchr(api_url(f->api), ':') + 1);
    const char *const same[] = {"--worker-port", port, NULL};
    struct fixture *other = fixture_new(same);
    assert_false(api_start(other->api, &err));
    assert_string_equal(err.code, "address_in_use");
    assert_non_null(strstr(err.text, port));
    fixture_free(other);
}

static void markdown_and_originals_are_served(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1], target[128];
    struct http_reply reply;
    static const char html[] = "<html><body><h1>Hi</h1><script>alert(1)</script></body></html>";
    fixture_serve(f);
    add_text(id, f, "page.html", html);
    snprintf(target, sizeof(target), "/documents/%s/original", id);
    assert_int_equal(call(&reply, f, "GET", target), 200);
    assert_string_equal(reply.body, html);
    http_reply_fini(&reply);
    snprintf(target, sizeof(target), "/documents/%s/markdown", id);
    assert_int_equal(call(&reply, f, "GET", target), 200);
    assert_non_null(strstr(reply.body, "# Hi"));
    assert_null(strstr(reply.body, "alert"));
    http_reply_fini(&reply);
}

int test_serve(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(uploads_are_taken_once, set_up, tear_down),
        cmocka_unit_test(refused_uploads_say_why),
        cmocka_unit_test(full_queues_are_said_before_the_body),
        cmocka_unit_test(keys_guard_all_but_a_few),
        cmocka_unit_test(open_hosts_need_a_key),
        cmocka_unit_test_setup_teardown(ports_in_use_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(markdown_and_originals_are_served, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
