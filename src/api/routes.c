/* The table of calls, and the matching of a path against it. */
#include "api/internal.h"

#include <string.h>

/* Where two patterns fit, the earlier wins. */
static const struct route routes[] = {
    {"GET", "/health", ROUTE_OPEN, handle_health},
    {"GET", "/healthz", ROUTE_OPEN, handle_health},
    {"GET", "/livez", ROUTE_OPEN, handle_live},
    {"GET", "/readyz", ROUTE_OPEN, handle_ready},
    {"GET", "/openapi.json", ROUTE_OPEN, handle_openapi},
    {"GET", "/docs", ROUTE_OPEN, handle_docs},
    {"POST", "/process", ROUTE_BODY, handle_process},
    {"POST", "/delete", ROUTE_BODY, handle_delete},
    {"GET", "/status", 0, handle_status},
    {"GET", "/status/queue", 0, handle_status_queue},
    {"GET", "/status/{doc_id}", 0, handle_status_document},
    {"GET", "/documents", 0, handle_documents},
    {"POST", "/documents", ROUTE_UPLOAD, handle_upload},
    {"GET", "/documents/{doc_id}", 0, handle_document},
    {"DELETE", "/documents/{doc_id}", 0, handle_document_delete},
    {"GET", "/documents/{doc_id}/markdown", 0, handle_document_markdown},
    {"GET", "/documents/{doc_id}/json", 0, handle_document_json},
    {"GET", "/documents/{doc_id}/original", 0, handle_document_original},
    {"GET", "/documents/{doc_id}/pages/{n}_thumb.jpg", 0, handle_page_thumb},
    {"GET", "/documents/{doc_id}/pages/{n}.jpg", 0, handle_page_picture},
    {"GET", "/documents/{doc_id}/pages/{n}", 0, handle_page},
    {"GET", "/documents/{doc_id}/pages/{n}/heatmap.png", 0, handle_heatmap},
    {"GET", "/documents/{doc_id}/pages/{n}/explain", 0, handle_explain},
    {"GET", "/images/{doc_id}/{file}", 0, handle_image},
    {"POST", "/search", ROUTE_BODY, handle_search},
    {"GET", "/search", 0, handle_search_get},
    {"GET", "/jobs", 0, handle_jobs},
    {"GET", "/jobs/{job_id}", 0, handle_job},
    {"POST", "/jobs/{job_id}/cancel", ROUTE_BODY, handle_job_cancel},
    {"POST", "/jobs/{job_id}/retry", ROUTE_BODY, handle_job_retry},
    {"GET", "/reindex", 0, handle_reindex},
    {"POST", "/reindex", ROUTE_BODY, handle_reindex_start},
    {"POST", "/reindex/cancel", ROUTE_BODY, handle_reindex_cancel},
    {"GET", "/import", 0, handle_import},
    {"POST", "/import", ROUTE_BODY, handle_import_start},
    {"GET", "/events", 0, handle_events},
    {"GET", "/config/supported-formats", 0, handle_formats},
    {"GET", "/metrics", 0, handle_metrics},
    {"POST", "/v1/embeddings", ROUTE_BODY | ROUTE_LARGE, handle_embeddings},
    {"GET", "/v1/models", 0, handle_models},
};

const struct route *routes_list(int *n) {
    *n = (int)BASE_COUNT(routes);
    return routes;
}

/* Does the part of a path fit the part of a pattern, which may be "{name}" and a fixed end? The
 * parameter is copied to value, "" when there is none. */
static bool part_fits(char *value, size_t size, const char *pattern, size_t pattern_len,
                      const char *part, size_t part_len) {
    value[0] = '\0';
    if (pattern_len == 0 || pattern[0] != '{')
        return pattern_len == part_len && memcmp(pattern, part, part_len) == 0;
    const char *close = memchr(pattern, '}', pattern_len);
    const char *end = close + 1;
    size_t end_len = (size_t)(pattern + pattern_len - end);
    if (part_len <= end_len || memcmp(part + part_len - end_len, end, end_len) != 0)
        return false;
    size_t len = part_len - end_len;
    if (len >= size)
        len = size - 1;
    memcpy(value, part, len);
    value[len] = '\0';
    return true;
}

#define VALUE_BYTES 512

/* doc_id, number or file, or none of them; false where the text cannot be one. */
static bool take_value(struct call *call, const char *pattern, const char *value,
                       struct error *err) {
    if (strncmp(pattern, "{doc_id}", 8) == 0) {
        if (!sha256_is_hex(value))
            return error_set_code(err, ERROR_INPUT, "invalid_doc_id",
                                  "'%.80s' is no document id: 64 lower-case hex digits", value);
        call->doc_id = arena_strdup(call->arena, value);
    } else if (strncmp(pattern, "{file}", 6) == 0) {
        call->file = arena_strdup(call->arena, value);
    } else if (pattern[0] == '{') {
        bool page = strncmp(pattern, "{n}", 3) == 0;
        return text_to_int(&call->number, value, 1, page ? INT32_MAX : INT64_MAX,
                           page ? "page" : "job id", err);
    }
    return true;
}

static bool fits(struct call *call, const struct route *route, struct error *err) {
    const char *pattern = route->path, *path = call->request->path;
    char value[VALUE_BYTES];
    call->doc_id = NULL;
    call->file = NULL;
    call->number = 0;
    err->kind = 0;
    for (;;) {
        pattern++;
        path++;
        size_t pattern_len = strcspn(pattern, "/"), len = strcspn(path, "/");
        if (!part_fits(value, sizeof(value), pattern, pattern_len, path, len))
            return false;
        struct error wrong;
        if (!err->kind && !take_value(call, pattern, value, &wrong))
            *err = wrong;
        pattern += pattern_len;
        path += len;
        if (!*pattern || !*path)
            return *pattern == *path;
    }
}

bool route_find(struct call *call) {
    struct buf allowed = {0};
    for (size_t i = 0; i < BASE_COUNT(routes); i++) {
        struct error err;
        if (!fits(call, &routes[i], &err))
            continue;
        if (strcmp(routes[i].method, call->request->method) != 0) {
            if (!allowed.len || !strstr(allowed.data, routes[i].method))
                buf_printf(&allowed, "%s%s", allowed.len ? ", " : "", routes[i].method);
            continue;
        }
        buf_fini(&allowed);
        call->route = &routes[i];
        if (!err.kind)
            return true;
        api_reply_error(call->response, &err);
        return false;
    }
    if (allowed.len) {
        http_reply_header(call->response, "Allow", allowed.data);
        http_reply_error(call->response, 405, "method_not_allowed",
                         "this path does not take that method");
    } else {
        http_reply_error(call->response, 404, "not_found", "there is nothing at this path");
    }
    buf_fini(&allowed);
    return false;
}
