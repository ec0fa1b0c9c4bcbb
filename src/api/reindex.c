/* Documents embedded again: begun, looked at, cancelled. */
#include "api/internal.h"

#include <string.h>

static const char *state_name(enum reindex_state state) {
    switch (state) {
    case REINDEX_IDLE:
        return "idle";
    case REINDEX_RUNNING:
        return "running";
    case REINDEX_FAILED:
        return "failed";
    }
    return "failed";
}

static json_t *text_or_null(const char *text) {
    return *text ? json_text_of(text) : json_null();
}

static void reply_state(struct call *call, int status) {
    struct reindex_facts facts;
    corpus_reindex_facts(&facts, call->arena, call->api->corpus);
    json_t *out = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "state", state_name(facts.state),
                            "mode", text_or_null(facts.mode), "model", text_or_null(facts.model),
                            "role", text_or_null(facts.role), "space", text_or_null(facts.space),
                            "outcome", text_or_null(facts.outcome));
    json_object_set_new(out, "documents_done", json_integer(facts.n_done));
    json_object_set_new(out, "documents_total", json_integer(facts.n_total));
    json_object_set_new(out, "documents_failed", json_integer(facts.n_failed));
    json_object_set_new(out, "pages_done", json_integer(facts.n_pages));
    json_object_set_new(out, "pages_per_second", json_real(facts.pages_per_second));
    json_object_set_new(out, "estimated_remaining",
                        facts.remaining_ms < 0 ? json_null()
                                               : json_real((double)facts.remaining_ms / 1000));
    json_object_set_new(out, "started_at", json_time(facts.started_ms));
    json_object_set_new(out, "finished_at", json_time(facts.finished_ms));
    json_object_set_new(out, "error", api_error_json(facts.error_code, facts.error_text));
    json_object_set_new(out, "note", text_or_null(facts.note));
    http_reply_json(call->response, status, out);
}

void handle_reindex(struct call *call) {
    reply_state(call, 200);
}

static bool begin(struct call *call, const json_t *body, struct error *err) {
    const json_t *mode = json_object_get(body, "mode"), *model = json_object_get(body, "model");
    static const char *const words[] = {"missing", "all", "store", "index"};
    static const enum reindex_mode modes[] = {REINDEX_MISSING, REINDEX_ALL, REINDEX_TO_STORE,
                                              REINDEX_TO_INDEX};
    const char *word = mode ? json_string_value(mode) : words[0];
    size_t i = 0;
    while (word && i < BASE_COUNT(words) && strcmp(word, words[i]) != 0)
        i++;
    if (!word || i == BASE_COUNT(words))
        return error_set(err, ERROR_INPUT,
                         "mode is none of \"missing\", \"all\", \"store\", \"index\"");
    if (model && !json_is_null(model) && !(json_is_string(model) && json_string_length(model) > 0))
        return error_set(err, ERROR_INPUT, "model is no name");
    return corpus_reindex(call->api->corpus, modes[i],
                          json_is_string(model) ? json_string_value(model) : "", err);
}

void handle_reindex_start(struct call *call) {
    json_t *body;
    struct error err;
    if (!call_json(&body, call))
        return;
    if (begin(call, body, &err))
        reply_state(call, 202);
    else
        api_reply_error(call->response, &err);
    json_decref(body);
}

void handle_reindex_cancel(struct call *call) {
    struct error err;
    if (corpus_reindex_cancel(call->api->corpus)) {
        reply_state(call, 200);
        return;
    }
    error_set(&err, ERROR_CONFLICT, "no reindexing is under way");
    api_reply_error(call->response, &err);
}
