/* An export taken in. A caller names no folder: what this program may read is for who may write
 * into its data folder to say (corpus/export.h). */
#include "api/internal.h"
#include "corpus/export.h"

static const char *state_name(enum import_state state) {
    switch (state) {
    case IMPORT_IDLE:
        return "idle";
    case IMPORT_RUNNING:
        return "running";
    case IMPORT_DONE:
        return "completed";
    case IMPORT_FAILED:
        return "failed";
    }
    return "failed";
}

static void reply_state(struct call *call, int status) {
    struct import_facts facts;
    corpus_import_facts(&facts, call->api->corpus);
    json_t *out = json_pack("{s:s, s:o, s:I, s:I, s:I, s:I}", "state", state_name(facts.state),
                            "stage", *facts.stage ? json_string(facts.stage) : json_null(),
                            "files_checked", (json_int_t)facts.n_checked, "files_total",
                            (json_int_t)facts.n_files, "documents_done", (json_int_t)facts.n_done,
                            "documents_total", (json_int_t)facts.n_documents);
    json_object_set_new(out, "documents_imported", json_integer(facts.n_imported));
    json_object_set_new(out, "documents_known", json_integer(facts.n_known));
    json_object_set_new(out, "documents_queued", json_integer(facts.n_queued));
    json_object_set_new(out, "documents_without_vectors", json_integer(facts.n_without));
    json_object_set_new(out, "items_with_vectors", json_integer(facts.n_vectors));
    json_object_set_new(out, "started_at", json_time(facts.started_ms));
    json_object_set_new(out, "finished_at", json_time(facts.finished_ms));
    json_object_set_new(out, "error",
                        facts.error.kind ? api_error_json(facts.error.code, facts.error.text)
                                         : json_null());
    http_reply_json(call->response, status, out);
}

void handle_import(struct call *call) {
    reply_state(call, 200);
}

void handle_import_start(struct call *call) {
    struct error err;
    if (corpus_import(call->api->corpus, &err))
        reply_state(call, 202);
    else
        api_reply_error(call->response, &err);
}
