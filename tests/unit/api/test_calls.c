/* Statuses and shapes of calls, without a socket. */
#include "test_api.h"

#include <stdio.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void statuses_are_as_promised(void **state) {
    struct fixture *f = *state;
    static const struct {
        int status;
        const char *method, *target, *body;
    } cases[] = {
        {404, "GET", "/nowhere", NULL},
        {404, "GET", "/documents/" ID "/nowhere", NULL},
        {405, "PUT", "/documents", NULL},
        {405, "GET", "/process", NULL},
        {400, "GET", "/a/../b", NULL},
        {400, "GET", "/documents/xyz", NULL},
        {400, "GET", "/documents/" ID "/pages/0", NULL},
        {400, "GET", "/documents/" ID "/pages/x.jpg", NULL},
        {404, "GET", "/documents/" ID, NULL},
        {404, "DELETE", "/documents/" ID, NULL},
        {404, "GET", "/documents/" ID "/markdown", NULL},
        {501, "GET", "/documents/" ID "/json", NULL},
        {404, "GET", "/documents/" ID "/original", NULL},
        {404, "GET", "/documents/" ID "/pages/1", NULL},
        {404, "GET", "/documents/" ID "/pages/1.jpg", NULL},
        {404, "GET", "/documents/" ID "/pages/1_thumb.jpg", NULL},
        {404, "GET", "/images/" ID "/page001.png", NULL},
        {400, "GET", "/images/" ID "/../../etc", NULL},
        {400, "GET", "/documents?limit=0", NULL},
        {400, "GET", "/documents?limit=101", NULL},
        {400, "GET", "/documents?offset=-1", NULL},
        {400, "GET", "/documents?sort_by=size", NULL},
        {400, "GET", "/documents?file_type_group=films", NULL},
        {200, "GET", "/documents?limit=100&offset=5&sort_by=name_desc&file_type_group=pdf", NULL},
        {404, "GET", "/jobs/1", NULL},
        {400, "GET", "/jobs/x", NULL},
        {400, "GET", "/jobs?state=lost", NULL},
        {200, "GET", "/jobs?state=queued,failed", NULL},
        {404, "POST", "/jobs/7/cancel", NULL},
        {404, "POST", "/jobs/7/retry", NULL},
        {200, "GET", "/status", NULL},
        {200, "GET", "/status/queue", NULL},
        {404, "GET", "/status/" ID, NULL},
        {200, "GET", "/metrics", NULL},
        {200, "GET", "/config/supported-formats", NULL},
        {200, "GET", "/openapi.json", NULL},
        {200, "GET", "/docs", NULL},
        {200, "GET", "/livez", NULL},
        {503, "GET", "/readyz", NULL},
        {503, "GET", "/health", NULL},
        {200, "GET", "/v1/models", NULL},
        {400, "POST", "/v1/embeddings", "{}"},
        {405, "GET", "/v1/embeddings", NULL},
        {501, "GET", "/events", NULL},
        {501, "POST", "/documents", NULL},
        {400, "POST", "/process", "[]"},
        {400, "POST", "/process", "{}"},
        {400, "POST", "/process", "{\"file_path\":\"/a\"}"},
        {400, "POST", "/process", "{\"file_path\":7,\"filename\":\"a\"}"},
        {403, "POST", "/process", "{\"file_path\":\"/etc/passwd\",\"filename\":\"a.txt\"}"},
        {403, "POST", "/process", "{\"file_path\":\"/nonexistent/x\",\"filename\":\"a.txt\"}"},
        {400, "POST", "/delete", "{\"filename\":\"a\"}"},
        {200, "POST", "/delete", "{\"file_path\":\"/nonexistent/x\",\"filename\":\"a.txt\"}"},
        {200, "POST", "/delete", "{\"file_path\":\"/dev/zero\",\"filename\":\"a.txt\"}"},
        {200, "POST", "/delete", "{\"file_path\":\"/proc/kcore\",\"filename\":\"a.txt\"}"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        json_t *reply;
        int status = ask(&reply, f, cases[i].method, cases[i].target, cases[i].body);
        if (status != cases[i].status)
            fail_msg("%s %s %s: %d, not %d", cases[i].method, cases[i].target,
                     cases[i].body ? cases[i].body : "", status, cases[i].status);
        if (status >= 400 && status != 503) {
            const json_t *error = json_object_get(reply, "error");
            assert_true(text_of(error, "code")[0] != '\0');
            assert_string_equal(text_of(error, "message"), text_of(reply, "detail"));
        }
        json_decref(reply);
    }
}

static void process_takes_files_of_its_roots(void **state) {
    struct fixture *f = *state;
    struct error err;
    char path[128], body[320], doc_id[SHA256_HEX + 1];
    json_t *reply;
    snprintf(path, sizeof(path), "%s/uploads/note.txt", f->folder);
    snprintf(body, sizeof(body), "{\"file_path\":\"%s\",\"filename\":\"my note.txt\"}", path);
    assert_int_equal(ask(NULL, f, "POST", "/process", body), 404);
    assert_true(file_write_durable(path, "six walruses\n", 13, &err));
    sha256_hex(doc_id, "six walruses\n", 13);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ask(&reply, f, "POST", "/process", body), 200);
        assert_string_equal(text_of(reply, "message"), "Processing queued for my note.txt");
        assert_string_equal(text_of(reply, "status"), "queued");
        assert_string_equal(text_of(reply, "doc_id"), doc_id);
        json_decref(reply);
    }
    assert_true(queue_drain(corpus_queue(f->corpus), time_mono_ms() + 60000));
    assert_int_equal(ask(&reply, f, "GET", "/status", NULL), 200);
    assert_int_equal(int_of(reply, "processing_count"), 0);
    assert_int_equal(int_of(reply, "total_processed"), 1);
    json_decref(reply);
    assert_int_equal(ask(&reply, f, "POST", "/delete", body), 200);
    assert_string_equal(text_of(reply, "status"), "success");
    assert_string_equal(text_of(reply, "doc_id"), doc_id);
    assert_true(int_of(reply, "text_deleted") >= 1);
    json_decref(reply);
    assert_int_equal(ask(&reply, f, "POST", "/delete", body), 200);
    assert_string_equal(text_of(reply, "status"), "not_found");
    json_decref(reply);
    snprintf(path, sizeof(path), "%s/uploads/note.exe", f->folder);
    assert_true(file_write_durable(path, "\0\1\2\3MZ\0\0", 8, &err));
    snprintf(body, sizeof(body), "{\"file_path\":\"%s\",\"filename\":\"note.exe\"}", path);
    assert_int_equal(ask(NULL, f, "POST", "/process", body), 415);
    assert_true(file_write_durable(path, "", 0, &err));
    assert_int_equal(ask(NULL, f, "POST", "/process", body), 400);
}

static void questions_are_judged(void **state) {
    struct fixture *f = *state;
    static const struct {
        int status;
        const char *body;
    } cases[] = {
        {400, "{}"},
        {400, "{\"query\":\"\"}"},
        {400, "{\"query\":7}"},
        {400, "{\"query\":\"a\",\"n_results\":0}"},
        {400, "{\"query\":\"a\",\"n_results\":101}"},
        {400, "{\"query\":\"a\",\"n_results\":\"10\"}"},
        {400, "{\"query\":\"a\",\"search_mode\":\"magic\"}"},
        {400, "{\"query\":\"a\",\"min_score\":\"high\"}"},
        {400, "{\"query\":\"a\",\"filters\":[]}"},
        {400, "{\"query\":\"a\",\"filters\":{\"colour\":\"red\"}}"},
        {400, "{\"query\":\"a\",\"filters\":{\"format\":[1]}}"},
        {400, "{\"query\":\"a\",\"filters\":{\"format\":\"pdf\",\"group\":\"office\"}}"},
        {400, "{\"query\":\"a\",\"filters\":{\"page_from\":0}}"},
        {400, "{\"query\":\"a\",\"filters\":{\"added_from\":\"yesterday\"}}"},
        {400, "{\"query\":\"a\",\"filters\":{\"added_from\":\"2026-13-01\"}}"},
        {503, "{\"query\":\"a\",\"search_mode\":\"visual\"}"},
        {200, "{\"query\":\"a\",\"n_results\":100,\"min_score\":0.5,\"filters\":null}"},
        {200, "{\"query\":\"\\\"unbalanced AND ( NOT * ^ : -- 日本 \\u0007\"}"},
        {200, "{\"query\":\"a\",\"search_mode\":\"lexical\",\"filters\":{\"doc_id\":[\"x\"],"
              "\"format\":\"pdf\",\"folder\":\"/a\",\"added_from\":\"2026-01-01\","
              "\"added_to\":\"2026-02-01T10:00:00.5Z\",\"page_from\":1,\"page_to\":9}}"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        int status = ask(NULL, f, "POST", "/search", cases[i].body);
        if (status != cases[i].status)
            fail_msg("%s: %d, not %d", cases[i].body, status, cases[i].status);
    }
    char body[2100];
    memset(body, 0, sizeof(body));
    for (int n = 1000; n <= 1001; n++) { /* characters, not bytes */
        size_t at = (size_t)snprintf(body, sizeof(body), "{\"query\":\"");
        for (int i = 0; i < n; i++) {
            memcpy(body + at, "\xc3\xa9", 2);
            at += 2;
        }
        snprintf(body + at, sizeof(body) - at, "\"}");
        assert_int_equal(ask(NULL, f, "POST", "/search", body), n == 1000 ? 200 : 400);
    }
    assert_int_equal(ask(NULL, f, "GET", "/search?q=a&n=3&mode=lexical&format=pdf", NULL), 200);
    assert_int_equal(ask(NULL, f, "GET", "/search?query=a&n_results=x", NULL), 400);
    assert_int_equal(ask(NULL, f, "GET", "/search", NULL), 400);
}

static void health_says_what_there_is(void **state) {
    struct fixture *f = *state;
    json_t *reply;
    assert_int_equal(ask(&reply, f, "GET", "/health", NULL), 503);
    assert_string_equal(text_of(reply, "status"), "starting");
    assert_null(json_object_get(reply, "sandbox")); /* not known yet: not waited for */
    json_decref(reply);
    api_set_ready(f->api);
    assert_int_equal(ask(&reply, f, "GET", "/health", NULL), 200);
    assert_string_equal(text_of(reply, "status"), "healthy");
    assert_string_equal(text_of(reply, "version"), DOCUSEARCH_VERSION);
    assert_string_equal(text_of(json_object_get(reply, "device"), "used"), "cpu");
    assert_true(json_is_true(json_object_get(json_object_get(reply, "store"), "reachable")));
    assert_int_equal(json_array_size(json_object_get(reply, "models")), 2);
    assert_true(int_of(reply, "disk_free_bytes") > 0);
    assert_non_null(json_object_get(json_object_get(reply, "sandbox"), "level"));
    json_decref(reply);
    assert_int_equal(ask(NULL, f, "GET", "/readyz", NULL), 200);
}

static void formats_follow_the_settings(void **state) {
    (void)state;
    const char *const only[] = {"--supported-formats", "pdf,png", NULL};
    struct fixture *f = fixture_new(only);
    json_t *reply;
    assert_int_equal(ask(&reply, f, "GET", "/config/supported-formats", NULL), 200);
    json_t *extensions = json_object_get(reply, "extensions");
    assert_int_equal(json_array_size(extensions), 2);
    assert_string_equal(json_string_value(json_array_get(extensions, 0)), ".pdf");
    assert_int_equal(json_array_size(json_object_get(reply, "groups")), 2);
    json_decref(reply);
    fixture_free(f);
}

int test_calls(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(statuses_are_as_promised, set_up, tear_down),
        cmocka_unit_test_setup_teardown(process_takes_files_of_its_roots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(questions_are_judged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(health_says_what_there_is, set_up, tear_down),
        cmocka_unit_test(formats_follow_the_settings),
    };
    return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
