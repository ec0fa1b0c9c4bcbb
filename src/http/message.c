/* Requests and responses as values: targets taken apart, fields looked up, bodies set and freed. No
 * socket is seen here, so handlers can be called from anywhere. */
#include "http/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- targets -------------------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* text[0..len) with its escapes undone; NULL for a broken escape or a NUL. */
static char *unescape(struct arena *arena, const char *text, size_t len, bool plus_is_space) {
    char *out = arena_alloc(arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '+' && plus_is_space) {
            c = ' ';
        } else if (c == '%') {
            if (len - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
                return NULL;
            c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return out;
}

/* No empty, "." or ".." part, so that a path names one thing in one way. */
static bool path_is_plain(const char *path) {
    if (path[0] != '/')
        return false;
    const char *part = path + 1;
    while (*part) {
        size_t len = strcspn(part, "/");
        if (len == 0 || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += len;
        if (*part == '/')
            part++;
    }
    return true;
}

static bool parse_query(struct http_request *request, const char *text, struct error *err) {
    int n = *text ? 1 : 0;
    for (const char *p = text; *p; p++)
        n += *p == '&';
    if (n > HTTP_MAX_FIELDS)
        return error_set(err, ERROR_LIMIT, "%d query parameters, at most %d are taken", n,
                         HTTP_MAX_FIELDS);
    struct http_field *fields = arena_alloc(request->arena, (size_t)(n + 1) * sizeof(*fields));
    int n_fields = 0;
    while (*text) {
        size_t len = strcspn(text, "&");
        size_t name_len = 0;
        while (name_len < len && text[name_len] != '=')
            name_len++;
        if (len > 0) {
            const char *value = name_len < len ? text + name_len + 1 : text + len;
            size_t value_len = (size_t)(text + len - value);
            struct http_field *field = &fields[n_fields++];
            char *raw_name = unescape(request->arena, text, name_len, true);
            char *raw_value = unescape(request->arena, value, value_len, true);
            if (!raw_name || !raw_value)
                return error_set(err, ERROR_INPUT, "broken escape in the query");
            field->name = utf8_clean(request->arena, raw_name, strlen(raw_name));
            field->value = utf8_clean(request->arena, raw_value, strlen(raw_value));
        }
        text += len;
        if (*text == '&')
            text++;
    }
    request->query = fields;
    request->n_query = n_fields;
    return true;
}

bool http_parse_target(struct http_request *request, const char *target, struct error *err) {
    if (strlen(target) > HTTP_MAX_TARGET)
        return error_set(err, ERROR_LIMIT, "target longer than %d bytes", HTTP_MAX_TARGET);
    size_t path_len = strcspn(target, "?#");
    char *path = unescape(request->arena, target, path_len, false);
    if (!path)
        return error_set(err, ERROR_INPUT, "broken escape in the path");
    if (!utf8_valid(path, strlen(path)))
        return error_set(err, ERROR_INPUT, "path is not UTF-8");
    if (!path_is_plain(path))
        return error_set(err, ERROR_INPUT, "path with an empty, \".\" or \"..\" part");
    request->path = path;
    const char *query = target[path_len] == '?' ? target + path_len + 1 : "";
    return parse_query(request, arena_strndup(request->arena, query, strcspn(query, "#")), err);
}

const char *http_header(const struct http_request *request, const char *name) {
    for (int i = 0; i < request->n_headers; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

const char *http_query(const struct http_request *request, const char *name) {
    for (int i = 0; i < request->n_query; i++)
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    return NULL;
}

static bool is_unreserved(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

char *http_escape(struct arena *arena, const char *text) {
    static const char digits[] = "0123456789ABCDEF";
    size_t len = strlen(text), n = 0;
    char *out = arena_alloc(arena, len * 3 + 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (is_unreserved(c)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    out[n] = '\0';
    return out;
}

/* ---- responses ------------------------------------------------------------------------------ */

void http_reply_header(struct http_response *response, const char *name, const char *value) {
    if (response->n_headers == HTTP_MAX_REPLY_FIELDS)
        return;
    char *clean = mem_strdup(value);
    for (char *p = clean; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    response->headers[response->n_headers].name = mem_strdup(name);
    response->headers[response->n_headers].value = clean;
    response->n_headers++;
}

static void drop_body(struct http_response *response) {
    switch (response->kind) {
    case HTTP_BODY_NONE:
    case HTTP_BODY_BORROWED:
        break;
    case HTTP_BODY_OWNED:
        mem_free(response->data);
        break;
    case HTTP_BODY_FILE:
        close(response->fd);
        break;
    case HTTP_BODY_STREAM:
        if (response->stream.close)
            response->stream.close(response->stream.ctx);
        break;
    }
    response->kind = HTTP_BODY_NONE;
    response->data = NULL;
    response->len = 0;
}

void http_response_fini(struct http_response *response) {
    drop_body(response);
    for (int i = 0; i < response->n_headers; i++) {
        mem_free((void *)response->headers[i].name);
        mem_free((void *)response->headers[i].value);
    }
    response->n_headers = 0;
    response->status = 0;
}

void http_reply_owned(struct http_response *response, int status, const char *media_type,
                      char *data, size_t len) {
    drop_body(response);
    response->status = status;
    response->kind = HTTP_BODY_OWNED;
    response->data = data;
    response->len = (int64_t)len;
    http_reply_header(response, "Content-Type", media_type);
}

void http_reply_borrowed(struct http_response *response, int status, const char *media_type,
                         const char *data, size_t len) {
    drop_body(response);
    response->status = status;
    response->kind = HTTP_BODY_BORROWED;
    response->data = (char *)data;
    response->len = (int64_t)len;
    http_reply_header(response, "Content-Type", media_type);
}

static int put_text(const char *data, size_t len, void *ctx) {
    struct buf *text = ctx;
    buf_append(text, data, len);
    return text->failed ? -1 : 0;
}

void http_reply_json(struct http_response *response, int status, json_t *json) {
    struct buf text = {0};
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12);
    bool ok = json && json_dump_callback(json, put_text, &text, flags) == 0;
    json_decref(json);
    if (!ok) {
        buf_fini(&text);
        http_reply_error(response, 500, "internal", "the reply could not be written as JSON");
        return;
    }
    size_t len = text.len;
    http_reply_owned(response, status, "application/json", buf_take(&text), len);
}

void http_reply_error(struct http_response *response, int status, const char *code,
                      const char *message) {
    char clean[256 * 3 + 1];
    size_t pos = 0, len = strlen(message), n = 0;
    while (pos < len && n + 4 < sizeof(clean))
        n += utf8_put(clean + n, utf8_next(message, len, &pos));
    clean[n] = '\0';
    http_reply_json(
        response, status,
        json_pack("{s:{s:s, s:s}, s:s}", "error", "code", code, "message", clean, "detail", clean));
}

bool http_reply_file(struct http_response *response, const char *media_type, const char *path,
                     struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path_name(path));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(err, ERROR_MISSING, "%s is no file", path_name(path));
    }
    drop_body(response);
    response->status = 200;
    response->kind = HTTP_BODY_FILE;
    response->fd = fd;
    response->len = st.st_size;
    http_reply_header(response, "Content-Type", media_type);
    return true;
}

void http_reply_stream(struct http_response *response, const char *media_type,
                       const struct http_stream *stream) {
    drop_body(response);
    response->status = 200;
    response->kind = HTTP_BODY_STREAM;
    response->stream = *stream;
    http_reply_header(response, "Content-Type", media_type);
}

char *http_attachment(struct arena *arena, const char *filename) {
    size_t len = strlen(filename), n = 0;
    char *plain = arena_alloc(arena, len + 1);
    for (size_t pos = 0; pos < len;) {
        uint32_t c = utf8_next(filename, len, &pos);
        bool safe = c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '%' && c != '/';
        plain[n++] = safe ? (char)c : '_';
    }
    plain[n] = '\0';
    const char *clean = utf8_clean(arena, filename, len);
    return arena_printf(arena, "attachment; filename=\"%s\"; filename*=UTF-8''%s", plain,
                        http_escape(arena, clean));
}

/* RFC 9110 §13.1.2: a list of tags, or "*"; weak ones compare equal. */
static bool etag_listed(const char *list, const char *etag) {
    size_t len = strlen(etag);
    while (*list) {
        list += strspn(list, " \t,");
        if (list[0] == '*')
            return true;
        if (list[0] == 'W' && list[1] == '/')
            list += 2;
        if (strncmp(list, etag, len) == 0 && strchr(" \t,", list[len]))
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

bool http_reply_cached(struct http_response *response, const struct http_request *request,
                       const char *etag, const char *cache_control) {
    http_reply_header(response, "ETag", etag);
    http_reply_header(response, "Cache-Control", cache_control);
    const char *known = http_header(request, "If-None-Match");
    if (!known || !etag_listed(known, etag))
        return false;
    drop_body(response);
    response->status = 304;
    return true;
}

const char *http_status_text(int status) {
    switch (status) {
    case 400:
        return "Bad Request";
    case 408:
        return "Request Timeout";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}
