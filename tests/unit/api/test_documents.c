/* Documents and answers as calls show them. */
#include "test_api.h"

#include <stdio.h>
#include <string.h>

static void documents_are_listed_and_shown(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1], other[SHA256_HEX + 1], target[160];
    json_t *reply;
    add_text(id, f, "a report.md", "# Annual report\n\n## Europe\n\nThe walrus moved north.\n");
    add_text(other, f, "b.txt", "Nothing about sea animals here.\n");
    assert_int_equal(ask(&reply, f, "GET", "/documents?sort_by=name_asc", NULL), 200);
    assert_int_equal(int_of(reply, "total"), 2);
    json_t *first = json_array_get(json_object_get(reply, "documents"), 0);
    assert_string_equal(text_of(first, "doc_id"), id);
    assert_string_equal(text_of(first, "filename"), "a report.md");
    assert_string_equal(text_of(first, "status"), "completed");
    assert_string_equal(text_of(first, "file_type_group"), "text");
    assert_true(int_of(first, "chunk_count") >= 1);
    assert_true(json_is_null(json_object_get(first, "error")));
    json_decref(reply);
    assert_int_equal(ask(&reply, f, "GET", "/documents?search=REPORT&limit=1", NULL), 200);
    assert_int_equal(int_of(reply, "total"), 1);
    json_decref(reply);
    snprintf(target, sizeof(target), "/documents/%s", id);
    assert_int_equal(ask(&reply, f, "GET", target, NULL), 200);
    json_t *chunk = json_array_get(json_object_get(reply, "chunks"), 0);
    char chunk_id[96];
    snprintf(chunk_id, sizeof(chunk_id), "%s-chunk0000", id);
    assert_string_equal(text_of(chunk, "chunk_id"), chunk_id);
    assert_non_null(strstr(text_of(chunk, "text_content"), "walrus"));
    assert_string_equal(text_of(json_object_get(reply, "job"), "state"), "completed");
    assert_true(json_number_value(json_object_get(json_object_get(reply, "job"), "progress")) == 1);
    json_decref(reply);
    snprintf(target, sizeof(target), "/status/%s", id);
    assert_int_equal(ask(&reply, f, "GET", target, NULL), 200);
    assert_string_equal(text_of(reply, "status"), "completed");
    json_decref(reply);
    assert_int_equal(ask(&reply, f, "GET", "/status/queue", NULL), 200);
    assert_int_equal(int_of(reply, "total"), 2);
    json_decref(reply);
    snprintf(target, sizeof(target), "/documents/%s/markdown", id);
    assert_int_equal(ask(NULL, f, "GET", target, NULL), 200);
}

static void deleted_documents_are_gone(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1], target[160];
    json_t *reply;
    add_text(id, f, "a.txt", "A zebra crossed the road.\n");
    snprintf(target, sizeof(target), "/documents/%s", id);
    assert_int_equal(ask(&reply, f, "DELETE", target, NULL), 200);
    assert_string_equal(text_of(reply, "filename"), "a.txt");
    assert_true(int_of(json_object_get(reply, "deleted"), "chunks") >= 1);
    json_decref(reply);
    assert_int_equal(ask(NULL, f, "DELETE", target, NULL), 404);
    assert_int_equal(ask(NULL, f, "GET", target, NULL), 404);
    assert_int_equal(ask(&reply, f, "GET", "/search?q=zebra", NULL), 200);
    assert_int_equal(int_of(reply, "total_results"), 0);
    json_decref(reply);
}

/* The characters [from, to) of text. */
static void cut(char *out, const char *text, json_int_t from, json_int_t to) {
    size_t len = strlen(text), pos = 0, start = 0;
    for (json_int_t n = 0; n < to; n++) {
        if (n == from)
            start = pos;
        utf8_next(text, len, &pos);
    }
    memcpy(out, text + start, pos - start);
    out[pos - start] = '\0';
}

static void highlights_count_characters(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1], found[64];
    json_t *reply;
    add_text(id, f, "a.txt",
             "Čeština, naïve 日本語 \xf0\x9f\xa6\xad and then a walrus; a Walrus.\n");
    assert_int_equal(ask(&reply, f, "POST", "/search", "{\"query\":\"walrus\"}"), 200);
    assert_int_equal(int_of(reply, "total_results"), 1);
    json_t *result = json_array_get(json_object_get(reply, "results"), 0);
    json_t *highlights = json_object_get(result, "highlights");
    assert_int_equal(int_of(result, "rank"), 1);
    assert_string_equal(text_of(result, "doc_id"), id);
    assert_int_equal(json_array_size(highlights), 2);
    for (size_t i = 0; i < 2; i++) {
        json_t *range = json_array_get(highlights, i);
        cut(found, text_of(result, "text_preview"), json_integer_value(json_array_get(range, 0)),
            json_integer_value(json_array_get(range, 1)));
        assert_string_equal(found, i ? "Walrus" : "walrus");
    }
    json_t *stages = json_object_get(reply, "stages");
    assert_non_null(json_object_get(stages, "lexical"));
    assert_true(text_of(json_object_get(stages, "dense"), "unavailable")[0] != '\0');
    json_decref(reply);
}

static void filters_act(void **state) {
    struct fixture *f = *state;
    char a[SHA256_HEX + 1], b[SHA256_HEX + 1], target[200];
    json_t *reply;
    add_text(a, f, "a.txt", "The heron waits.\n");
    add_text(b, f, "b.md", "The heron flies.\n");
    static const struct {
        const char *more;
        int n;
    } cases[] = {{"", 2},
                 {"&format=markdown", 1},
                 {"&format=pdf", 0},
                 {"&file_type_group=text", 2},
                 {"&added_to=2001-01-01", 0},
                 {"&added_from=2001-01-01", 2},
                 {"&n=1", 1},
                 {"&min_score=1000000", 0}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        snprintf(target, sizeof(target), "/search?q=heron%s", cases[i].more);
        assert_int_equal(ask(&reply, f, "GET", target, NULL), 200);
        if (int_of(reply, "total_results") != cases[i].n)
            fail_msg("%s: %d results", target, (int)int_of(reply, "total_results"));
        json_decref(reply);
    }
    snprintf(target, sizeof(target), "/search?q=heron&doc_id=%s", b);
    assert_int_equal(ask(&reply, f, "GET", target, NULL), 200);
    assert_int_equal(int_of(reply, "total_results"), 1);
    json_decref(reply);
}

static void failures_say_why(void **state) {
    struct fixture *f = *state;
    char id[SHA256_HEX + 1], target[160];
    json_t *reply;
    add_text(id, f, "broken.pdf", "%PDF-1.4 and then nothing that is one");
    snprintf(target, sizeof(target), "/documents/%s", id);
    assert_int_equal(ask(&reply, f, "GET", target, NULL), 200);
    assert_string_equal(text_of(reply, "status"), "failed");
    assert_true(text_of(json_object_get(reply, "error"), "code")[0] != '\0');
    json_t *job = json_object_get(reply, "job");
    assert_string_equal(text_of(job, "state"), "failed");
    long long job_id = int_of(job, "job_id");
    json_decref(reply);
    snprintf(target, sizeof(target), "/documents/%s/markdown", id);
    assert_int_equal(ask(NULL, f, "GET", target, NULL), 409);
    snprintf(target, sizeof(target), "/jobs/%lld/cancel", job_id);
    assert_int_equal(ask(NULL, f, "POST", target, NULL), 409);
    snprintf(target, sizeof(target), "/jobs/%lld/retry", job_id);
    assert_int_equal(ask(&reply, f, "POST", target, NULL), 200);
    assert_int_equal(int_of(reply, "job_id"), job_id);
    json_decref(reply);
    assert_true(queue_drain(corpus_queue(f->corpus), time_mono_ms() + 60000));
    assert_int_equal(ask(&reply, f, "GET", "/jobs?state=failed", NULL), 200);
    assert_int_equal(int_of(reply, "total"), 1);
    json_decref(reply);
}

int test_documents(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(documents_are_listed_and_shown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleted_documents_are_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(highlights_count_characters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(filters_act, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_say_why, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("documents", tests, NULL, NULL);
}
