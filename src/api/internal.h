/* api, inside: what its files share. */
#ifndef DOCUSEARCH_API_INTERNAL_H
#define DOCUSEARCH_API_INTERNAL_H

#include "api/api.h"
#include "http/http.h"

#include <stdatomic.h>

#define API_MAX_JSON_BODY (1 << 20)
#define API_MAX_LARGE_BODY (32 << 20)
#define API_LARGE_CALLS 8 /* with a body past API_MAX_JSON_BODY, at once */
#define API_MAX_LIST 100

struct events;
struct api {
    struct corpus *corpus;
    struct store *store;
    struct queue *queue;
    const struct settings *settings;
    struct http_guard guard;
    struct http_server *server;
    struct events *events;
    atomic_bool ready;
    atomic_int n_large_calls, n_picture_calls; /* under way */
    int64_t started_ms;                        /* wall */
};

/* One request on its way through a handler. */
struct upload;
struct call {
    struct api *api;
    struct http_request *request;
    struct http_response *response;
    struct arena *arena; /* the request's */
    const struct route *route;
    const char *doc_id;    /* {doc_id} of the path; checked */
    int64_t number;        /* {n} or {job_id} of the path */
    const char *file;      /* {file} of the path */
    struct upload *upload; /* POST /documents */
    bool large;            /* counts among the api's large calls */
};

/* ---- routes.c ------------------------------------------------------------------------------- */

typedef void (*api_handler)(struct call *call);
enum route_flags {
    ROUTE_OPEN = 1,   /* asks for no key */
    ROUTE_BODY = 2,   /* takes a JSON body */
    ROUTE_UPLOAD = 4, /* takes a multipart body */
    ROUTE_LARGE = 8,  /* a JSON body of up to API_MAX_LARGE_BODY */
};
struct route {
    const char *method, *path; /* "/documents/{doc_id}/pages/{n}.jpg" */
    unsigned flags;
    api_handler handle;
};
const struct route *routes_list(int *n);
/* Fills route and parameters, or answers 404 or 405 (400 for a parameter that cannot be). */
bool route_find(struct call *call);

/* ---- error.c -------------------------------------------------------------------------------- */

int api_error_status(const struct error *err);
void api_reply_error(struct http_response *response, const struct error *err);
json_t *api_error_json(const char *code, const char *text); /* null for "" */

/* ---- values --------------------------------------------------------------------------------- */

/* From a query parameter; absent gives def. False: answered 400. */
bool call_int(int64_t *out, struct call *call, const char *name, int64_t def, int64_t min,
              int64_t max);
/* The body as a JSON object; false: answered 400. */
bool call_json(json_t **out, struct call *call);
/* Text that may hold anything, as JSON. */
json_t *json_text_of(const char *text);
json_t *json_time(int64_t wall_ms); /* null for 0 */

/* ---- handlers ------------------------------------------------------------------------------- */

void handle_documents(struct call *call);
void handle_document(struct call *call);
void handle_document_delete(struct call *call);
void handle_document_markdown(struct call *call);
void handle_document_json(struct call *call);
void handle_document_original(struct call *call);
void handle_page_picture(struct call *call);
void handle_page_thumb(struct call *call);
void handle_page(struct call *call);
void handle_image(struct call *call);
void handle_heatmap(struct call *call);
void handle_explain(struct call *call);
void handle_upload(struct call *call);
void handle_search(struct call *call);
void handle_search_get(struct call *call);
void handle_jobs(struct call *call);
void handle_job(struct call *call);
void handle_job_cancel(struct call *call);
void handle_job_retry(struct call *call);
void handle_reindex(struct call *call);
void handle_reindex_start(struct call *call);
void handle_reindex_cancel(struct call *call);
void handle_import(struct call *call);
void handle_import_start(struct call *call);
void handle_process(struct call *call);
void handle_delete(struct call *call);
void handle_status(struct call *call);
void handle_status_queue(struct call *call);
void handle_status_document(struct call *call);
void handle_health(struct call *call);
void handle_ready(struct call *call);
void handle_live(struct call *call);
void handle_events(struct call *call);
void handle_formats(struct call *call);
void handle_metrics(struct call *call);
void handle_embeddings(struct call *call);
void handle_models(struct call *call);
void handle_openapi(struct call *call);
void handle_docs(struct call *call);

/* documents.c: a document's status and its fields in a listing. job may be NULL. */
const char *document_status(const struct document_row *row, const struct job_row *job);
/* jobs.c: a job as every call shows it. row may be NULL (the document is gone). */
json_t *job_json(struct api *api, const struct job_row *job, const struct document_row *row);
const char *job_state_name(enum job_state state);
bool job_document(struct document_row *out, bool *found, struct api *api, struct arena *arena,
                  const char *doc_id, struct error *err);

/* ---- base64.c ------------------------------------------------------------------------------- */

void api_base64_put(struct buf *out, const void *data, size_t len);
/* False: text is not padded base64, or (out->failed) out is full. */
bool api_base64_take(struct buf *out, const char *text, size_t len);

/* ---- upload.c ------------------------------------------------------------------------------- */

/* Before the body: answers where it must not come at all, else leaves call->upload. */
void upload_begin(struct call *call);
bool upload_sink(struct http_request *request, const void *data, size_t len,
                 struct http_response *response, struct error *err);
void upload_end(struct upload *upload); /* NULL is fine */

/* ---- events.c ------------------------------------------------------------------------------- */

struct events *events_new(struct api *api);
void events_free(struct events *events);
bool events_start(struct events *events, struct error *err);    /* the thread that writes events */
void events_stop(struct events *events);                        /* ends every stream */
void events_job_changed(struct events *events, int64_t job_id); /* quick; any thread */
void events_document(struct events *events, const char *action, const char *doc_id,
                     const char *filename);

/* ---- page.c --------------------------------------------------------------------------------- */

struct web_file {
    const char *path; /* "/index.html" */
    const char *media_type;
    const char *etag; /* with its quotes */
    const unsigned char *data;
    size_t len;
};
extern const struct web_file web_files[]; /* ends with a NULL path; made by scripts/embed.py */
/* The file that answers path ("/" is "/index.html"), or NULL. */
const struct web_file *web_file_lookup(const char *path);
void handle_web_file(struct call *call, const struct web_file *file);
void security_headers(struct http_response *response, bool page);

#endif
