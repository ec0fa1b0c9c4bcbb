/* POST /documents: the parts of a multipart body, each streamed into the corpus as it arrives. A
 * part that is refused does not harm the others, unless going on makes no sense. */
#include "api/internal.h"

#include <string.h>

/* What may still come after a part that was too large, to be read away for the others' sake. */
#define MAX_WASTE (8 << 20)

struct upload {
    struct api *api;
    struct http_multipart *multipart;
    struct corpus_upload *part; /* NULL: what comes is left out */
    char *filename;             /* of the part; NULL: no file */
    json_t *documents;
    int n_queued, n_known, n_failed;
    struct error first_error;
    bool stop; /* first_error ends the request */
    int64_t received;
};

static void add_error(struct upload *upload, const struct error *err) {
    if (upload->n_failed++ == 0)
        upload->first_error = *err;
    json_array_append_new(upload->documents,
                          json_pack("{s:n, s:o, s:s, s:n, s:o}", "doc_id", "filename",
                                    json_text_of(upload->filename), "status", "failed", "job_id",
                                    "error", api_error_json(err->code, err->text)));
}

/* Nothing that follows can fare better. */
static bool ends_all(const struct error *err) {
    return strcmp(err->code, "queue_full") == 0 || strcmp(err->code, "disk_full") == 0 ||
           strcmp(err->code, "storage_error") == 0;
}

static bool fail_part(struct upload *upload, const struct error *err, struct error *out) {
    corpus_upload_abort(upload->part);
    upload->part = NULL;
    add_error(upload, err);
    if (ends_all(err) && upload->n_queued == 0 && upload->n_known == 0) {
        upload->stop = true;
        *out = *err;
        return false;
    }
    return true;
}

static bool on_part_begin(void *ctx, const struct http_part *part, struct error *err) {
    struct upload *upload = ctx;
    struct error part_err;
    mem_free(upload->filename);
    upload->filename = NULL;
    if (!part->filename || !*part->filename)
        return true; /* a field of the form, or an empty choice */
    upload->filename = mem_strdup(part->filename);
    if (corpus_upload_open(&upload->part, upload->api->corpus, part->filename, "", -1, &part_err))
        return true;
    upload->part = NULL;
    return fail_part(upload, &part_err, err);
}

static bool on_part_data(void *ctx, const void *data, size_t len, struct error *err) {
    struct upload *upload = ctx;
    struct error part_err;
    if (!upload->part || corpus_upload_write(upload->part, data, len, &part_err))
        return true;
    return fail_part(upload, &part_err, err);
}

static void add_document(struct upload *upload, const struct added *added) {
    struct api *api = upload->api;
    const char *status = "queued";
    struct arena *arena = arena_new(0);
    struct document_row row;
    struct job_row job;
    bool has_row = false, has_job = false;
    struct error err;
    if (added->status == ADDED_KNOWN &&
        store_find_document(&row, &has_row, arena, api->store, added->doc_id, &err) && has_row &&
        store_find_document_job(&job, &has_job, arena, api->store, added->doc_id, &err))
        status = document_status(&row, has_job ? &job : NULL);
    json_array_append_new(upload->documents,
                          json_pack("{s:s, s:o, s:s, s:I, s:b}", "doc_id", added->doc_id,
                                    "filename", json_text_of(path_name(upload->filename)), "status",
                                    status, "job_id", (json_int_t)added->job_id, "known",
                                    added->status == ADDED_KNOWN));
    arena_free(arena);
}

static bool on_part_end(void *ctx, struct error *err) {
    struct upload *upload = ctx;
    struct corpus_upload *part = upload->part;
    struct added added;
    struct error part_err;
    upload->part = NULL;
    if (!part)
        return true;
    if (!corpus_upload_finish(&added, part, &part_err))
        return fail_part(upload, &part_err, err);
    if (added.status == ADDED_QUEUED)
        upload->n_queued++;
    else
        upload->n_known++;
    add_document(upload, &added);
    events_job_changed(upload->api->events, added.job_id);
    return true;
}

/* ---- the request ---------------------------------------------------------------------------- */

void upload_begin(struct call *call) {
    struct api *api = call->api;
    struct error err;
    int max_queue = api->settings->max_queue;
    if (max_queue > 0 && queue_waiting(api->queue) >= max_queue) {
        error_set_code(&err, ERROR_BUSY, "queue_full", "%d documents are waiting already",
                       max_queue);
        api_reply_error(call->response, &err);
        return;
    }
    struct upload *upload = mem_alloc(sizeof(*upload));
    struct http_part_sink sink = {upload, on_part_begin, on_part_data, on_part_end};
    upload->api = api;
    upload->documents = json_array();
    call->upload = upload;
    if (!http_multipart_open(&upload->multipart, http_header(call->request, "Content-Type"), &sink,
                             &err))
        api_reply_error(call->response, &err);
}

static void reply_error_with_documents(struct http_response *response, struct upload *upload) {
    const struct error *err = &upload->first_error;
    int status = api_error_status(err);
    if (status == 429)
        http_reply_header(response, "Retry-After", "10");
    json_t *text = json_text_of(err->text);
    http_reply_json(response, status,
                    json_pack("{s:{s:s, s:O}, s:o, s:O}", "error", "code", err->code, "message",
                              text, "detail", text, "documents", upload->documents));
}

bool upload_sink(struct http_request *request, const void *data, size_t len,
                 struct http_response *response, struct error *err) {
    struct call *call = request->user;
    struct upload *upload = call->upload;
    upload->received += (int64_t)len;
    if (!http_multipart_write(upload->multipart, data, len, err)) {
        if (upload->stop)
            reply_error_with_documents(response, upload);
        return false;
    }
    /* The only file so far was refused and much of it is still to come. */
    bool useless = upload->n_failed > 0 && upload->n_queued + upload->n_known == 0 &&
                   !upload->part && upload->filename;
    if (useless &&
        (request->content_length < 0 ? upload->received > MAX_WASTE
                                     : request->content_length - upload->received > MAX_WASTE)) {
        *err = upload->first_error;
        reply_error_with_documents(response, upload);
        return false;
    }
    return true;
}

void handle_upload(struct call *call) {
    struct upload *upload = call->upload;
    struct error err;
    if (!http_multipart_finish(upload->multipart, &err)) {
        if (!upload->filename)
            upload->filename = mem_strdup("");
        fail_part(upload, &err, &err);
    } else if (json_array_size(upload->documents) == 0) {
        error_set(&err, ERROR_INPUT, "no file in the body: send it as the part 'file'");
        api_reply_error(call->response, &err);
        return;
    }
    if (upload->n_queued == 0 && upload->n_failed > 0)
        reply_error_with_documents(call->response, upload);
    else
        http_reply_json(call->response, upload->n_queued > 0 ? 202 : 200,
                        json_pack("{s:O}", "documents", upload->documents));
}

void upload_end(struct upload *upload) {
    if (!upload)
        return;
    corpus_upload_abort(upload->part); /* the client left in the middle of it */
    http_multipart_free(upload->multipart);
    json_decref(upload->documents);
    mem_free(upload->filename);
    mem_free(upload);
}
