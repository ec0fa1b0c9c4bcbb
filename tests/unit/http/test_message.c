#include "test_http.h"

#include <string.h>

static bool parse(struct http_request *request, struct arena *arena, const char *target,
                  struct error *err) {
    memset(request, 0, sizeof(*request));
    request->arena = arena;
    return http_parse_target(request, target, err);
}

static void targets_are_taken_apart(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct http_request request;
    struct error err;
    assert_true(parse(&request, arena, "/a%20b/c?q=x+y%26z&empty=&flag&q=2#frag", &err));
    assert_string_equal(request.path, "/a b/c");
    assert_int_equal(request.n_query, 4);
    assert_string_equal(http_query(&request, "q"), "x y&z");
    assert_string_equal(http_query(&request, "empty"), "");
    assert_string_equal(http_query(&request, "flag"), "");
    assert_null(http_query(&request, "frag"));
    assert_true(parse(&request, arena, "/", &err));
    assert_string_equal(request.path, "/");
    assert_int_equal(request.n_query, 0);
    assert_true(parse(&request, arena, "/a/", &err));
    assert_true(parse(&request, arena, "/x?&&a=1&", &err));
    assert_int_equal(request.n_query, 1);
    arena_free(arena);
}

static void hostile_targets_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",    "a",    "http://x/", "//etc",  "/a//b", "/..",    "/a/../b", "/a/%2e%2e/b", "/./a",
        "/a%", "/a%4", "/a%zz",     "/a%00b", "/%ff",  "/a?x=%", "/a?x=%0", "/a?%00=1",    "*",
    };
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        struct http_request request;
        struct error err = {0};
        if (parse(&request, arena, bad[i], &err))
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(err.kind, ERROR_INPUT);
    }
    arena_free(arena);
}

static void long_targets_are_refused(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct http_request request;
    struct error err = {0};
    char *target = arena_alloc(arena, HTTP_MAX_TARGET + 2);
    memset(target, 'a', HTTP_MAX_TARGET + 1);
    target[0] = '/';
    assert_false(parse(&request, arena, target, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    target[HTTP_MAX_TARGET] = '\0';
    assert_true(parse(&request, arena, target, &err));
    struct buf many = {0};
    buf_puts(&many, "/?");
    for (int i = 0; i < HTTP_MAX_FIELDS + 1; i++)
        buf_puts(&many, "a&");
    assert_false(parse(&request, arena, many.data, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    buf_fini(&many);
    arena_free(arena);
}

static void escape_is_undone_by_parsing(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    const char *text = "a/b?c&d=e+f %20 ü \"#";
    struct http_request request;
    struct error err;
    char *target = arena_printf(arena, "/x?v=%s", http_escape(arena, text));
    assert_true(parse(&request, arena, target, &err));
    assert_string_equal(http_query(&request, "v"), text);
    arena_free(arena);
}

static void attachment_names_cannot_break_out(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    assert_string_equal(http_attachment(arena, "a.pdf"),
                        "attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf");
    assert_string_equal(http_attachment(arena, "a\"b\r\nX: y;%41.pdf"),
                        "attachment; filename=\"a_b__X: y;_41.pdf\"; "
                        "filename*=UTF-8''a%22b%0D%0AX%3A%20y%3B%2541.pdf");
    assert_string_equal(http_attachment(arena, "na\xc3\xafve\xff.pdf"),
                        "attachment; filename=\"na_ve_.pdf\"; "
                        "filename*=UTF-8''na%C3%AFve%EF%BF%BD.pdf");
    arena_free(arena);
}

static void etags_are_compared(void **state) {
    (void)state;
    static const struct {
        const char *known;
        bool same;
    } cases[] = {{"\"abc\"", true}, {"W/\"abc\"", true}, {"\"x\", \"abc\"", true},
                 {"*", true},       {"\"abcd\"", false}, {"abc", false},
                 {"", false}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct http_field field = {"if-none-match", cases[i].known};
        struct http_request request = {.headers = &field, .n_headers = 1};
        struct http_response response = {0};
        bool same = http_reply_cached(&response, &request, "\"abc\"", "no-cache");
        assert_int_equal(same, cases[i].same);
        assert_int_equal(response.status, same ? 304 : 0);
        http_response_fini(&response);
    }
}

static void errors_are_json_whatever_the_message(void **state) {
    (void)state;
    struct http_response response = {0};
    http_reply_error(&response, 400, "invalid", "bad \xff \"quote\"\n");
    json_t *json = json_loadb(response.data, (size_t)response.len, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "detail")),
                        "bad \xef\xbf\xbd \"quote\"\n");
    json_decref(json);
    http_reply_header(&response, "X-Test", "a\r\nSet-Cookie: b");
    assert_string_equal(response.headers[response.n_headers - 1].value, "a  Set-Cookie: b");
    http_response_fini(&response);
}

int test_message(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_taken_apart),
        cmocka_unit_test(hostile_targets_are_refused),
        cmocka_unit_test(long_targets_are_refused),
        cmocka_unit_test(escape_is_undone_by_parsing),
        cmocka_unit_test(attachment_names_cannot_break_out),
        cmocka_unit_test(etags_are_compared),
        cmocka_unit_test(errors_are_json_whatever_the_message),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
