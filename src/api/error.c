/* Errors as HTTP: the one place where kinds and codes become statuses. */
#include "api/internal.h"

#include <string.h>

static int status_of_kind(enum error_kind kind) {
    switch (kind) {
    case ERROR_INPUT:
        return 400;
    case ERROR_MISSING:
        return 404;
    case ERROR_CONFLICT:
        return 409;
    case ERROR_LIMIT:
        return 413;
    case ERROR_UNSUPPORTED:
        return 415;
    case ERROR_BUSY:
    case ERROR_IO:
    case ERROR_DEVICE:
        return 503;
    case ERROR_INTERNAL:
        return 500;
    }
    return 500;
}

int api_error_status(const struct error *err) {
    static const struct {
        const char *code;
        int status;
    } codes[] = {
        {"path_forbidden", 403},     {"queue_full", 429},    {"disk_full", 507},
        {"not_implemented", 501},    {"storage_error", 503}, {"too_many_parts", 400},
        {"data_folder_in_use", 503},
    };
    for (size_t i = 0; i < BASE_COUNT(codes); i++)
        if (strcmp(err->code, codes[i].code) == 0)
            return codes[i].status;
    return status_of_kind(err->kind);
}

void api_reply_error(struct http_response *response, const struct error *err) {
    int status = api_error_status(err);
    if (status == 429)
        http_reply_header(response, "Retry-After", "10");
    /* That the shared store does not answer is said when it begins. */
    bool known = strcmp(err->code, "backend_unavailable") == 0;
    if (status >= 500 && status != 501 && !known)
        log_warn("answered %d: %s", status, err->text);
    http_reply_error(response, status, err->code, err->text);
}

json_t *json_text_of(const char *text) {
    json_t *json = json_string(text);
    if (json)
        return json;
    struct arena *arena = arena_new(0);
    json = json_string(utf8_clean(arena, text, strlen(text)));
    arena_free(arena);
    return json;
}

json_t *api_error_json(const char *code, const char *text) {
    if (!code[0] && !text[0])
        return json_null();
    return json_pack("{s:s, s:o}", "code", code, "message", json_text_of(text));
}

json_t *json_time(int64_t wall_ms) {
    char text[TIME_ISO];
    if (wall_ms <= 0)
        return json_null();
    time_iso(text, wall_ms);
    return json_string(text);
}

bool call_int(int64_t *out, struct call *call, const char *name, int64_t def, int64_t min,
              int64_t max) {
    const char *text = http_query(call->request, name);
    struct error err;
    *out = def;
    if (!text || text_to_int(out, text, min, max, name, &err))
        return true;
    api_reply_error(call->response, &err);
    return false;
}

bool call_json(json_t **out, struct call *call) {
    json_error_t where;
    *out = json_loadb(call->request->body, call->request->body_len, JSON_REJECT_DUPLICATES, &where);
    if (*out && json_is_object(*out))
        return true;
    struct error err;
    if (*out)
        error_set(&err, ERROR_INPUT, "the body must be a JSON object");
    else
        error_set(&err, ERROR_INPUT, "the body is not JSON: line %d: %s", where.line, where.text);
    json_decref(*out);
    *out = NULL;
    api_reply_error(call->response, &err);
    return false;
}
