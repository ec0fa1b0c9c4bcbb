/* Requests in: guard, route, body, handler; and the same without a socket. */
#include "api/internal.h"

#include <stdlib.h>
#include <string.h>

/* Files of one request may come to this many times the size of one. */
#define UPLOAD_FILES 16
#define UPLOAD_SLACK (1 << 20)

static void on_job_changed(void *ctx, int64_t job_id) {
    struct api *api = ctx;
    events_job_changed(api->events, job_id);
}

static void on_document_changed(void *ctx, enum document_change change, const char *doc_id,
                                const char *filename) {
    struct api *api = ctx;
    events_document(api->events, change == DOCUMENT_REMOVED ? "removed" : "found", doc_id,
                    filename);
}

struct api *api_new(struct corpus *corpus) {
    struct api *api = mem_alloc(sizeof(*api));
    api->corpus = corpus;
    api->store = corpus_store(corpus);
    api->queue = corpus_queue(corpus);
    api->settings = corpus_settings(corpus);
    api->started_ms = time_wall_ms();
    api->guard.bound_host = api->settings->worker_host;
    api->guard.api_key = api->settings->api_key;
    api->guard.cors_origin = api->settings->cors_origin;
    api->events = events_new(api);
    queue_set_listener(api->queue, on_job_changed, api);
    corpus_set_listener(corpus, on_document_changed, api);
    return api;
}

void api_free(struct api *api) {
    if (!api)
        return;
    api_stop(api);
    queue_set_listener(api->queue, NULL, NULL);
    corpus_set_listener(api->corpus, NULL, NULL);
    events_free(api->events);
    mem_free(api);
}

/* ---- the server's three calls --------------------------------------------------------------- */

static struct call *call_new(struct api *api, struct http_request *request,
                             struct http_response *response) {
    struct call *call = arena_alloc(request->arena, sizeof(*call));
    call->api = api;
    call->request = request;
    call->response = response;
    call->arena = request->arena;
    return call;
}

static const struct web_file *page_file(const struct http_request *request) {
    return strcmp(request->method, "GET") == 0 ? web_file_lookup(request->path) : NULL;
}

/* Few large bodies are held in memory at a time; one whose size is not said is not large. */
static void plan_large(struct call *call, struct http_plan *plan) {
    struct api *api = call->api;
    if (call->request->content_length <= API_MAX_JSON_BODY)
        return;
    plan->max_body_bytes = API_MAX_LARGE_BODY;
    if (call->request->content_length > plan->max_body_bytes)
        return; /* refused by its size */
    call->large = true;
    if (atomic_fetch_add(&api->n_large_calls, 1) < API_LARGE_CALLS)
        return;
    http_reply_header(call->response, "Retry-After", "5");
    http_reply_error(call->response, 503, "busy", "too many large requests are under way");
}

static void plan_body(struct call *call, struct http_plan *plan) {
    /* A body nobody asked for is read and left, so that the connection can go on. */
    plan->max_body_bytes = call->route->flags & ROUTE_BODY ? API_MAX_JSON_BODY : 4096;
    if (call->route->flags & ROUTE_LARGE)
        plan_large(call, plan);
    if (!(call->route->flags & ROUTE_UPLOAD))
        return;
    plan->max_body_bytes = call->api->settings->max_file_bytes * UPLOAD_FILES + UPLOAD_SLACK;
    plan->sink = upload_sink;
    if (call->request->content_length <= plan->max_body_bytes)
        upload_begin(call);
}

static void on_begin(void *ctx, struct http_request *request, struct http_plan *plan,
                     struct http_response *response) {
    struct api *api = ctx;
    struct call *call = call_new(api, request, response);
    request->user = call;
    const struct web_file *file = page_file(request);
    if (file) {
        if (http_guard_check(&api->guard, request, true, response)) {
            plan->max_body_bytes = 4096;
            return;
        }
    } else {
        /* The key is asked for before anything is told of which paths there are. */
        struct http_response unrouted = {0};
        call->response = &unrouted;
        bool routed = route_find(call);
        call->response = response;
        bool open = routed && call->route->flags & ROUTE_OPEN;
        if (http_guard_check(&api->guard, request, open, response)) {
            if (routed)
                plan_body(call, plan);
            else
                route_find(call);
        }
        http_response_fini(&unrouted);
    }
    if (response->status)
        security_headers(response, false);
}

/* What begin gave before a body came (a named origin's headers) belongs to the last answer too. */
static void on_handle(void *ctx, struct http_request *request, struct http_response *response) {
    struct api *api = ctx;
    struct call *call = request->user;
    call->response = response;
    const struct web_file *file = call->route ? NULL : page_file(request);
    bool open = file || (call->route && call->route->flags & ROUTE_OPEN);
    if (!http_guard_check(&api->guard, request, open, response)) {
        security_headers(response, false);
        return;
    }
    if (file)
        handle_web_file(call, file);
    else
        call->route->handle(call);
    security_headers(response, file != NULL);
}

static void on_end(void *ctx, struct http_request *request) {
    struct api *api = ctx;
    struct call *call = request->user;
    if (!call)
        return;
    upload_end(call->upload);
    if (call->large)
        atomic_fetch_sub(&api->n_large_calls, 1);
}

/* ---- start and stop ------------------------------------------------------------------------- */

bool api_start(struct api *api, struct error *err) {
    const struct settings *settings = api->settings;
    if (!http_host_is_loopback(settings->worker_host) && !settings->api_key && !settings->insecure)
        return error_set_code(err, ERROR_CONFLICT, "key_required",
                              "%s can be reached by others: set API_KEY or API_KEY_FILE, or pass "
                              "--insecure to serve without a key",
                              settings->worker_host);
    struct http_server_options options = {.host = settings->worker_host,
                                          .port = settings->worker_port};
    struct http_handler handler = {api, on_begin, on_handle, on_end};
    if (!events_start(api->events, err))
        return false;
    if (!http_server_start(&api->server, &options, &handler, err))
        return false;
    log_info("Starting worker on %s", http_server_url(api->server));
    return true;
}

void api_set_ready(struct api *api) {
    atomic_store(&api->ready, true);
}

const char *api_url(const struct api *api) {
    return api->server ? http_server_url(api->server) : "";
}

void api_refuse(struct api *api) {
    atomic_store(&api->ready, false);
}

void api_stop(struct api *api) {
    api_refuse(api);
    events_stop(api->events);
    http_server_stop(api->server);
    api->server = NULL;
}

/* ---- without a socket ----------------------------------------------------------------------- */

static void dispatch(struct http_response *response, struct api *api,
                     struct http_request *request) {
    struct call *call = call_new(api, request, response);
    if (!route_find(call))
        return;
    if (call->route->flags & ROUTE_UPLOAD || call->route->handle == handle_events)
        http_reply_error(response, 501, "not_implemented", "this call needs the server");
    else
        call->route->handle(call);
}

int api_dispatch(json_t **out, struct api *api, const char *method, const char *target,
                 const json_t *body) {
    struct http_request request = {.arena = arena_new(0), .method = method, .body = ""};
    struct http_response response = {0};
    struct error err;
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (text) {
        request.body = text;
        request.body_len = strlen(text);
    }
    if (http_parse_target(&request, target, &err))
        dispatch(&response, api, &request);
    else
        http_reply_error(&response, err.kind == ERROR_LIMIT ? 414 : 400, err.code, err.text);
    int status = response.status;
    *out = NULL;
    if (response.kind == HTTP_BODY_OWNED || response.kind == HTTP_BODY_BORROWED)
        *out = json_loadb(response.data, (size_t)response.len, 0, NULL);
    http_response_fini(&response);
    arena_free(request.arena);
    free(text); /* jansson's */
    return status;
}
