/* The calls of the worker that this program replaces, as its hooks and scripts know them. */
#include "api/internal.h"

#include <string.h>

/* file_path and filename, both required and neither empty. */
static bool read_names(const char **path, const char **filename, struct call *call,
                       const json_t *body) {
    *path = json_string_value(json_object_get(body, "file_path"));
    *filename = json_string_value(json_object_get(body, "filename"));
    if (*path && **path && *filename && **filename)
        return true;
    struct error err;
    error_set(&err, ERROR_INPUT, "file_path and filename are both needed, as strings");
    api_reply_error(call->response, &err);
    return false;
}

void handle_process(struct call *call) {
    json_t *body;
    const char *path, *filename;
    if (!call_json(&body, call))
        return;
    if (!read_names(&path, &filename, call, body)) {
        json_decref(body);
        return;
    }
    struct added added;
    struct error err;
    if (!corpus_add_path(&added, call->api->corpus, path, filename, true, &err)) {
        json_decref(body);
        api_reply_error(call->response, &err);
        return;
    }
    events_job_changed(call->api->events, added.job_id);
    const char *message = arena_printf(call->arena, "Processing queued for %s", filename);
    json_decref(body);
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:s, s:s, s:I, s:b}", "message", json_text_of(message),
                              "status", "queued", "doc_id", added.doc_id, "job_id",
                              (json_int_t)added.job_id, "known", added.status == ADDED_KNOWN));
}

void handle_delete(struct call *call) {
    json_t *body;
    const char *path, *filename;
    if (!call_json(&body, call))
        return;
    if (!read_names(&path, &filename, call, body)) {
        json_decref(body);
        return;
    }
    struct removed removed;
    struct error err = {0};
    const char *moved_to = json_string_value(json_object_get(body, "moved_to"));
    bool ok = corpus_remove_path(&removed, call->api->corpus, path, moved_to, &err);
    const char *name = arena_strdup(call->arena, filename);
    json_decref(body);
    if (!ok) {
        api_reply_error(call->response, &err);
        return;
    }
    if (!removed.found) {
        http_reply_json(
            call->response, 200,
            json_pack("{s:o, s:n, s:s, s:i, s:i}", "message",
                      json_text_of(arena_printf(call->arena, "No document for %s", name)), "doc_id",
                      "status", "not_found", "visual_deleted", 0, "text_deleted", 0));
        return;
    }
    const char *message = removed.kept
                              ? arena_printf(call->arena, "Forgot one source of %s; others keep it",
                                             name)
                              : arena_printf(call->arena, "Deleted %s", name);
    http_reply_json(call->response, 200,
                    json_pack("{s:o, s:s, s:s, s:i, s:i}", "message", json_text_of(message),
                              "doc_id", removed.doc_id, "status", "success", "visual_deleted",
                              removed.n_pages, "text_deleted", removed.n_chunks));
}

void handle_status(struct call *call) {
    struct store_counts counts;
    struct error err;
    if (!store_counts(&counts, call->api->store, &err)) {
        api_reply_error(call->response, &err);
        return;
    }
    int64_t waiting = counts.jobs[JOB_QUEUED], running = counts.jobs[JOB_PROCESSING];
    http_reply_json(
        call->response, 200,
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "status", "healthy", "processing_count",
                  (json_int_t)(waiting + running), "total_processed", (json_int_t)counts.ready,
                  "queued", (json_int_t)waiting, "running", (json_int_t)running, "failed",
                  (json_int_t)counts.failed, "documents", (json_int_t)counts.documents));
}
