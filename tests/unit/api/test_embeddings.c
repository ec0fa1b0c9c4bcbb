/* /v1 without a model: what is judged before one is asked, and base64. */
#include "test_api.h"

#include <stdio.h>
#include <string.h>

static const char *ask_embeddings(char code[64], int *status, struct fixture *f, const char *body) {
    json_t *reply;
    *status = ask(&reply, f, "POST", "/v1/embeddings", body);
    const json_t *error = json_object_get(reply, "error");
    snprintf(code, 64, "%s", text_of(error, "code"));
    assert_true(text_of(error, "message")[0] != '\0');
    assert_true(text_of(error, "type")[0] != '\0');
    assert_string_equal(text_of(error, "message"), text_of(reply, "detail"));
    json_decref(reply);
    return code;
}

static void requests_are_judged(void **state) {
    struct fixture *f = *state;
    static const struct {
        int status;
        const char *code, *body;
    } cases[] = {
        {400, "invalid", "[]"},
        {400, "invalid", "{}"},
        {400, "invalid", "{\"input\":null}"},
        {400, "invalid", "{\"input\":[]}"},
        {400, "invalid", "{\"input\":{}}"},
        {400, "invalid", "{\"input\":true}"},
        {400, "invalid", "{\"input\":[\"a\",null]}"},
        {400, "invalid", "{\"input\":[\"a\",1.5]}"},
        {400, "token_arrays", "{\"input\":[1,2,3]}"},
        {400, "token_arrays", "{\"input\":[[1,2],[3]]}"},
        {400, "invalid", "{\"input\":\"a\",\"model\":7}"},
        {400, "invalid", "{\"input\":\"a\",\"multi_vector\":\"yes\"}"},
        {400, "invalid", "{\"input\":\"a\",\"encoding_format\":\"hex\"}"},
        {400, "invalid", "{\"input\":\"a\",\"encoding_format\":1}"},
        {400, "invalid", "{\"input\":\"a\",\"input_type\":\"document\"}"},
        {400, "invalid", "{\"input\":\"a\",\"dimensions\":\"all\"}"},
        {400, "invalid", "{\"input\":{\"image\":\"http://127.0.0.1/a.png\"}}"},
        {400, "invalid", "{\"input\":{\"image\":\"data:image/png,AAAA\"}}"},
        {400, "invalid", "{\"input\":{\"image\":\"data:;base64,AAAA\",\"text\":\"a\"}}"},
        {400, "invalid", "{\"input\":{\"image\":7}}"},
        {404, "model_not_found", "{\"input\":\"a\",\"model\":\"text-embedding-3-small\"}"},
        {404, "model_not_found", "{\"input\":\"a\",\"model\":\"none\"}"},
        {503, "model_not_installed", "{\"input\":\"a\"}"},
        {503, "model_not_installed", "{\"input\":[\"a\",\"b\"],\"user\":\"me\",\"model\":null}"},
        {503, "model_not_installed",
         "{\"input\":\"a\",\"model\":\"sentence-transformers/all-MiniLM-L6-v2\"}"},
        {503, "model_not_installed", "{\"input\":\"a\",\"model\":\"vidore/colpali-v1.2\"}"},
    };
    api_set_ready(f->api);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        char code[64];
        int status;
        ask_embeddings(code, &status, f, cases[i].body);
        if (status != cases[i].status || strcmp(code, cases[i].code) != 0)
            fail_msg("%s: %d %s, not %d %s", cases[i].body, status, code, cases[i].status,
                     cases[i].code);
    }
}

static void inputs_are_counted(void **state) {
    struct fixture *f = *state;
    api_set_ready(f->api);
    for (int n = 256; n <= 257; n++) {
        struct buf body = {0};
        char code[64];
        int status;
        buf_puts(&body, "{\"input\":[\"a\"");
        for (int i = 1; i < n; i++)
            buf_puts(&body, ",\"a\"");
        buf_puts(&body, "]}");
        ask_embeddings(code, &status, f, body.data);
        assert_string_equal(code, n == 256 ? "model_not_installed" : "too_many_inputs");
        assert_int_equal(status, n == 256 ? 503 : 400);
        buf_fini(&body);
    }
}

static void a_model_switched_off_is_not_there(void **state) {
    (void)state;
    const char *const off[] = {"--model-name", "none", "--text-model", "none", NULL};
    struct fixture *f = fixture_new(off);
    char code[64];
    int status;
    json_t *health;
    api_set_ready(f->api);
    assert_string_equal(ask_embeddings(code, &status, f, "{\"input\":\"a\"}"),
                        "model_not_installed");
    assert_int_equal(status, 503);
    assert_int_equal(ask(&health, f, "GET", "/health", NULL), 200);
    assert_string_equal(text_of(health, "status"), "healthy");
    const json_t *model = json_array_get(json_object_get(health, "models"), 1);
    assert_string_equal(text_of(model, "state"), "off");
    json_decref(health);
    fixture_free(f);
}

static void no_model_is_an_empty_list(void **state) {
    struct fixture *f = *state;
    json_t *reply;
    assert_int_equal(ask(&reply, f, "GET", "/v1/models", NULL), 200);
    assert_string_equal(text_of(reply, "object"), "list");
    assert_true(json_is_array(json_object_get(reply, "data")));
    assert_int_equal(json_array_size(json_object_get(reply, "data")), 0);
    json_decref(reply);
}

/* RFC 4648, section 10, and every byte. */
static void base64_goes_both_ways(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < BASE_COUNT(pairs); i++) {
        struct buf coded = {0}, plain = {0};
        api_base64_put(&coded, pairs[i][0], strlen(pairs[i][0]));
        assert_int_equal(coded.len, strlen(pairs[i][1]));
        assert_memory_equal(coded.len ? coded.data : "", pairs[i][1], coded.len);
        assert_true(api_base64_take(&plain, pairs[i][1], strlen(pairs[i][1])));
        assert_int_equal(plain.len, strlen(pairs[i][0]));
        assert_memory_equal(plain.len ? plain.data : "", pairs[i][0], plain.len);
        buf_fini(&coded);
        buf_fini(&plain);
    }
    unsigned char all[256];
    struct buf coded = {0}, plain = {0};
    for (int i = 0; i < 256; i++)
        all[i] = (unsigned char)(i * 167 + 13);
    api_base64_put(&coded, all, sizeof all);
    assert_true(api_base64_take(&plain, coded.data, coded.len));
    assert_int_equal(plain.len, sizeof all);
    assert_memory_equal(plain.data, all, sizeof all);
    buf_fini(&coded);
    buf_fini(&plain);
    static const char *const broken[] = {
        "A", "AB", "ABC", "A===", "====", "AB=C", "AB==AB==", "AB C", "AB-_", "AB\xc3\xa9"};
    for (size_t i = 0; i < BASE_COUNT(broken); i++) {
        struct buf out = {0};
        if (api_base64_take(&out, broken[i], strlen(broken[i])))
            fail_msg("'%s' was taken", broken[i]);
        buf_fini(&out);
    }
    struct buf small = {.max = 4};
    assert_false(api_base64_take(&small, "Zm9vYmFy", 8));
    assert_true(small.failed);
    buf_fini(&small);
}

int test_embeddings(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_are_judged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inputs_are_counted, set_up, tear_down),
        cmocka_unit_test(a_model_switched_off_is_not_there),
        cmocka_unit_test_setup_teardown(no_model_is_an_empty_list, set_up, tear_down),
        cmocka_unit_test(base64_goes_both_ways),
    };
    return cmocka_run_group_tests_name("embeddings", tests, NULL, NULL);
}
