/* A session answers API calls: by the server that holds the data folder, or, when nobody does, by
 * the same handlers in this process. */
#include "app/internal.h"

#include <stdio.h>
#include <string.h>

#define STARTING_WAIT_MS 10000
#define ID_PREFIX_MIN 8
#define PAGE_SIZE 100

/* Opens the folder, or gives its holder's url. A holder that is still starting is waited for. */
static bool open_folder(struct session *session, struct error *err) {
    int64_t deadline_ms = time_mono_ms() + STARTING_WAIT_MS;
    for (;;) {
        char *url = NULL;
        if (corpus_open(&session->corpus, &url, session->settings, err)) {
            const char *device;
            return choose_device(&device, session->settings, err);
        }
        if (!url || strcmp(err->code, "data_folder_in_use") != 0) {
            mem_free(url);
            return false;
        }
        if (*url) {
            session->url = url;
            return true;
        }
        mem_free(url);
        if (time_mono_ms() > deadline_ms)
            return false;
        time_sleep_ms(100);
    }
}

bool session_open(struct session *session, const struct settings *settings, struct error *err) {
    memset(session, 0, sizeof *session);
    session->settings = settings;
    if (!open_folder(session, err))
        return false;
    if (session->corpus) {
        session->api = api_new(session->corpus);
        api_set_ready(session->api);
        return true;
    }
    return http_client_open(&session->client, session->url, settings->api_key, err);
}

void session_close(struct session *session) {
    if (session->corpus)
        corpus_stop(session->corpus);
    api_free(session->api);
    corpus_close(session->corpus);
    http_client_close(session->client);
    mem_free(session->url);
}

/* An error reply's own words. */
static bool reply_error(struct error *err, int status, const json_t *json) {
    const json_t *error = json_object_get(json, "error");
    const char *message = json_text(error, "message");
    enum error_kind kind = status == 404 ? ERROR_MISSING : ERROR_INPUT;
    if (status == 401)
        return error_set_code(err, ERROR_INPUT, "unauthorized",
                              "the server wants a key: set API_KEY or API_KEY_FILE");
    if (!*message)
        return error_set(err, kind, "the server answered %d", status);
    return error_set_code(err, kind, json_text(error, "code"), "%s", message);
}

bool session_call(json_t **out, struct session *session, const char *method, const char *target,
                  const json_t *body, struct error *err) {
    int status;
    *out = NULL;
    if (session->api) {
        status = api_dispatch(out, session->api, method, target, body);
    } else {
        struct http_reply reply;
        if (!http_client_call(&reply, session->client, method, target, body, err))
            return false;
        status = reply.status;
        *out = json_incref(reply.json);
        http_reply_fini(&reply);
    }
    if (status < 400 && *out)
        return true;
    reply_error(err, status, *out);
    json_decref(*out);
    *out = NULL;
    return false;
}

/* Looks through one page of the listing; *more tells whether there is another. */
static bool match_page(int *n_matches, char match[SHA256_HEX + 1], bool *more,
                       struct session *session, const char *prefix, int offset, struct error *err) {
    char target[80];
    snprintf(target, sizeof target, "/documents?limit=%d&offset=%d&sort_by=oldest_first", PAGE_SIZE,
             offset);
    json_t *list;
    if (!session_call(&list, session, "GET", target, NULL, err))
        return false;
    json_t *documents = json_object_get(list, "documents");
    size_t i;
    json_t *document;
    json_array_foreach(documents, i, document) {
        const char *doc_id = json_text(document, "doc_id");
        if (strncmp(doc_id, prefix, strlen(prefix)) == 0) {
            snprintf(match, SHA256_HEX + 1, "%s", doc_id);
            ++*n_matches;
        }
    }
    *more = json_array_size(documents) == PAGE_SIZE;
    json_decref(list);
    return true;
}

bool session_find_id(char doc_id[SHA256_HEX + 1], struct session *session, const char *prefix,
                     struct error *err) {
    size_t n = strlen(prefix);
    if (n < ID_PREFIX_MIN || n > SHA256_HEX || strspn(prefix, "0123456789abcdef") != n)
        return error_set(err, ERROR_INPUT, "'%.80s' is not a document id: 8 to 64 hex digits",
                         prefix);
    if (n == SHA256_HEX) {
        memcpy(doc_id, prefix, n + 1);
        return true;
    }
    int n_matches = 0;
    bool more = true;
    for (int offset = 0; more && n_matches < 2; offset += PAGE_SIZE) {
        if (!match_page(&n_matches, doc_id, &more, session, prefix, offset, err))
            return false;
    }
    if (n_matches == 0)
        return error_set(err, ERROR_MISSING, "no document %s…", prefix);
    if (n_matches > 1)
        return error_set(err, ERROR_CONFLICT, "several documents begin with %s", prefix);
    return true;
}
