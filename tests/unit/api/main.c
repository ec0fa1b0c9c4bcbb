/* The API over a real corpus; the readers' children are this same program. */
#include "test_api.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture *fixture_new(const char *const *arguments) {
    struct fixture *f = mem_alloc(sizeof(*f));
    struct error err;
    char data[96], uploads[96];
    snprintf(f->folder, sizeof(f->folder), "/tmp/docusearch-api-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(data, sizeof(data), "%s/data", f->folder);
    snprintf(uploads, sizeof(uploads), "%s/uploads", f->folder);
    assert_true(dir_make(uploads, &err));
    char *argv[32] = {"test", "--data-dir",    data, "--uploads-dir", uploads,  "--worker-threads",
                      "2",    "--worker-port", "0",  "--hf-home",     f->folder};
    int argc = 11;
    while (arguments && *arguments)
        argv[argc++] = (char *)*arguments++;
    log_open(LOG_ERROR, false, NULL, &err);
    if (!settings_load(&f->settings, &argc, argv, &err) ||
        !corpus_open(&f->corpus, NULL, &f->settings, &err))
        fail_msg("%s", err.text);
    f->api = api_new(f->corpus);
    if (!corpus_start(f->corpus, &err))
        fail_msg("%s", err.text);
    return f;
}

void fixture_free(struct fixture *f) {
    struct error err;
    http_client_close(f->client);
    api_stop(f->api);
    corpus_stop(f->corpus);
    api_free(f->api);
    corpus_close(f->corpus);
    settings_fini(&f->settings);
    assert_true(dir_remove(f->folder, &err));
    mem_free(f);
}

int set_up(void **state) {
    *state = fixture_new(NULL);
    return 0;
}

int tear_down(void **state) {
    fixture_free(*state);
    return 0;
}

void fixture_serve(struct fixture *f) {
    struct error err;
    if (!api_start(f->api, &err) ||
        !http_client_open(&f->client, api_url(f->api), f->settings.api_key, &err))
        fail_msg("%s", err.text);
    api_set_ready(f->api);
}

void add_text(char doc_id[SHA256_HEX + 1], struct fixture *f, const char *name, const char *text) {
    struct corpus_upload *upload;
    struct added added;
    struct error err;
    if (!corpus_upload_open(&upload, f->corpus, name, "", -1, &err) ||
        !corpus_upload_write(upload, text, strlen(text), &err) ||
        !corpus_upload_finish(&added, upload, &err))
        fail_msg("%s", err.text);
    assert_true(queue_drain(corpus_queue(f->corpus), time_mono_ms() + 60000));
    memcpy(doc_id, added.doc_id, sizeof(added.doc_id));
}

int ask(json_t **out, struct fixture *f, const char *method, const char *target, const char *body) {
    json_t *json = body ? json_loads(body, JSON_DECODE_ANY, NULL) : NULL, *reply = NULL;
    assert_true(!body || json);
    int status = api_dispatch(&reply, f->api, method, target, json);
    json_decref(json);
    if (out)
        *out = reply;
    else
        json_decref(reply);
    return status;
}

const char *text_of(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

json_int_t int_of(const json_t *json, const char *key) {
    const json_t *value = json_object_get(json, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "reader-child") == 0)
        return read_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    return test_calls() + test_documents() + test_embeddings() + test_events() + test_openapi() +
           test_serve();
}
