/* The web page and its modules, which lie in the program itself; the description of the calls; and
 * the headers that keep what we serve from acting as a page of ours. */
#include "api/internal.h"

#include <string.h>

const struct web_file *web_file_lookup(const char *path) {
    if (strcmp(path, "/") == 0)
        path = "/index.html";
    for (const struct web_file *file = web_files; file->path; file++)
        if (file->path[0] == '/' && strcmp(file->path, path) == 0)
            return file;
    return NULL;
}

void handle_web_file(struct call *call, const struct web_file *file) {
    /* Without a version in their names: kept, but asked after each time. */
    if (!http_reply_cached(call->response, call->request, file->etag, "no-cache"))
        http_reply_borrowed(call->response, 200, file->media_type, (const char *)file->data,
                            file->len);
}

void security_headers(struct http_response *response, bool page) {
    http_reply_header(response, "X-Content-Type-Options", "nosniff");
    http_reply_header(response, "Referrer-Policy", "no-referrer");
    http_reply_header(response, "X-Frame-Options", "DENY");
    http_reply_header(response, "Content-Security-Policy",
                      page ? "default-src 'none'; script-src 'self'; style-src 'self'; "
                             "img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; "
                             "manifest-src 'self'; base-uri 'none'; form-action 'self'; "
                             "frame-ancestors 'none'"
                           : "default-src 'none'; frame-ancestors 'none'; sandbox");
    for (int i = 0; i < response->n_headers; i++)
        if (strcmp(response->headers[i].name, "Cache-Control") == 0)
            return;
    http_reply_header(response, "Cache-Control", "no-store");
}

/* ---- the description ------------------------------------------------------------------------- */

/* Embedded beside the web files under a name that no request can have. */
static const struct web_file *description(void) {
    for (const struct web_file *file = web_files; file->path; file++)
        if (strcmp(file->path, "openapi.json") == 0)
            return file;
    return NULL;
}

void handle_openapi(struct call *call) {
    const struct web_file *file = description();
    if (!http_reply_cached(call->response, call->request, file->etag, "no-cache"))
        http_reply_borrowed(call->response, 200, file->media_type, (const char *)file->data,
                            file->len);
}

static void put_html(struct buf *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '>':
            buf_puts(out, "&gt;");
            break;
        case '&':
            buf_puts(out, "&amp;");
            break;
        default:
            buf_putc(out, *text);
        }
    }
}

/* The same for people: a plain list without scripts. */
void handle_docs(struct call *call) {
    const struct web_file *file = description();
    json_t *json = json_loadb((const char *)file->data, file->len, 0, NULL);
    struct buf out = {0};
    buf_puts(&out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>docusearch: "
                   "calls</title><h1>docusearch: calls</h1><p>In full: "
                   "<a href=\"/openapi.json\">openapi.json</a></p><dl>");
    const char *path, *method;
    json_t *methods, *entry;
    json_object_foreach(json_object_get(json, "paths"), path, methods) {
        json_object_foreach(methods, method, entry) {
            const char *summary = json_string_value(json_object_get(entry, "summary"));
            const char *more = json_string_value(json_object_get(entry, "description"));
            buf_puts(&out, "<dt><code>");
            for (const char *p = method; *p; p++)
                buf_putc(&out, *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p);
            buf_putc(&out, ' ');
            put_html(&out, path);
            buf_puts(&out, "</code><dd>");
            put_html(&out, summary ? summary : "");
            buf_puts(&out, ". ");
            put_html(&out, more ? more : "");
        }
    }
    buf_puts(&out, "</dl></html>\n");
    json_decref(json);
    size_t len = out.len;
    http_reply_owned(call->response, 200, "text/html; charset=utf-8", buf_take(&out), len);
}
