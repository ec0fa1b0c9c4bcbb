#include "test_http.h"

#include <string.h>

static int check(const struct http_guard *guard, const char *method, const char *host,
                 const char *origin, const char *auth, bool open) {
    struct http_field fields[4];
    int n = 0;
    if (host)
        fields[n++] = (struct http_field){"Host", host};
    if (origin)
        fields[n++] = (struct http_field){"Origin", origin};
    if (auth)
        fields[n++] = (struct http_field){"Authorization", auth};
    if (strcmp(method, "OPTIONS") == 0)
        fields[n++] = (struct http_field){"Access-Control-Request-Method", "POST"};
    struct http_request request = {
        .method = method, .path = "/", .headers = fields, .n_headers = n};
    struct http_response response = {0};
    bool passed = http_guard_check(guard, &request, open, &response);
    int status = passed ? 0 : response.status;
    http_response_fini(&response);
    return status;
}

static void foreign_hosts_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *host;
        int local, any;
    } cases[] = {
        {"localhost:8002", 0, 0},
        {"127.0.0.1:8002", 0, 0},
        {"127.9.9.9", 0, 0},
        {"[::1]:8002", 0, 0},
        {"LOCALHOST", 0, 0},
        {"evil.example:8002", 403, 403},
        {"localhost.evil.example", 403, 403},
        {"192.168.1.9:8002", 403, 0},
        {"[fe80::1]", 403, 0},
        {"", 403, 403},
        {"127.0.0.1:x", 403, 403},
        {"[::1", 403, 403},
        {"127.0.0.1.evil.example", 403, 403},
    };
    struct http_guard local = {.bound_host = "127.0.0.1"};
    struct http_guard any = {.bound_host = "0.0.0.0"};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        assert_int_equal(check(&local, "GET", cases[i].host, NULL, NULL, false), cases[i].local);
        assert_int_equal(check(&any, "GET", cases[i].host, NULL, NULL, false), cases[i].any);
    }
    struct http_guard named = {.bound_host = "docs.lan"};
    assert_int_equal(check(&named, "GET", "docs.lan:8002", NULL, NULL, false), 0);
    assert_int_equal(check(&named, "GET", "other.lan:8002", NULL, NULL, false), 403);
    assert_int_equal(check(&local, "GET", NULL, NULL, NULL, false), 0);
}

static void foreign_origins_are_refused(void **state) {
    (void)state;
    struct http_guard guard = {.bound_host = "127.0.0.1", .cors_origin = ""};
    assert_int_equal(check(&guard, "POST", "localhost:1", "http://localhost:1", NULL, false), 0);
    assert_int_equal(check(&guard, "POST", "localhost:1", "http://localhost:2", NULL, false), 403);
    assert_int_equal(check(&guard, "GET", "localhost:1", "https://evil.example", NULL, true), 403);
    assert_int_equal(check(&guard, "GET", "localhost:1", "null", NULL, false), 403);
    assert_int_equal(check(&guard, "GET", "localhost:1", "file://localhost:1", NULL, false), 403);
    assert_int_equal(check(&guard, "OPTIONS", "localhost:1", "http://a.example", NULL, false), 403);
    guard.cors_origin = "http://a.example";
    assert_int_equal(check(&guard, "OPTIONS", "localhost:1", "http://a.example", NULL, false), 204);
    assert_int_equal(check(&guard, "POST", "localhost:1", "http://a.example", NULL, false), 0);
    assert_int_equal(check(&guard, "POST", "localhost:1", "http://a.example.b", NULL, false), 403);
}

static void keys_are_asked_for(void **state) {
    (void)state;
    struct http_guard guard = {.bound_host = "127.0.0.1", .api_key = "secret"};
    assert_int_equal(check(&guard, "GET", "localhost", NULL, NULL, false), 401);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, NULL, true), 0);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "Bearer secret", false), 0);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "bearer  secret", false), 0);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "Bearer secre", false), 401);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "Bearer secret2", false), 401);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "Bearer ", false), 401);
    assert_int_equal(check(&guard, "GET", "localhost", NULL, "Basic secret", false), 401);
}

static void loopback_is_known(void **state) {
    (void)state;
    assert_true(http_host_is_loopback("127.0.0.1"));
    assert_true(http_host_is_loopback("::1"));
    assert_true(http_host_is_loopback("localhost"));
    assert_false(http_host_is_loopback("0.0.0.0"));
    assert_false(http_host_is_loopback("::"));
    assert_false(http_host_is_loopback("10.0.0.1"));
    assert_false(http_host_is_loopback(""));
}

int test_guard(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_hosts_are_refused),
        cmocka_unit_test(foreign_origins_are_refused),
        cmocka_unit_test(keys_are_asked_for),
        cmocka_unit_test(loopback_is_known),
    };
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
