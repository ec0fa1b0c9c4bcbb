/* What a stranger's request is taken apart by. The first byte chooses: a target, a multipart body
 * in pieces, header fields before the guard, or a whole call (method, target, body) over a corpus
 * of its own, which holds one waiting document. */
#include "api/api.h"
#include "http/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok) {
    if (!ok)
        abort();
}

/* ---- targets -------------------------------------------------------------------------------- */

static void fuzz_target(const char *text) {
    struct http_request request = {.arena = arena_new(0)};
    struct error err;
    if (http_parse_target(&request, text, &err)) {
        check(request.path[0] == '/' && utf8_valid(request.path, strlen(request.path)));
        check(!strstr(request.path, "/../") && !strstr(request.path, "//"));
        check(request.n_query <= HTTP_MAX_FIELDS);
        for (int i = 0; i < request.n_query; i++)
            check(utf8_valid(request.query[i].value, strlen(request.query[i].value)));
        /* What was understood, written again, is understood the same. */
        struct http_request again = {.arena = request.arena};
        if (request.n_query > 0) {
            const char *value = request.query[0].value;
            const char *target = arena_printf(request.arena, "/?v=%s",
                                              http_escape(request.arena, value));
            if (strlen(target) <= HTTP_MAX_TARGET) {
                check(http_parse_target(&again, target, &err));
                check(strcmp(http_query(&again, "v"), value) == 0);
            }
        }
    }
    arena_free(request.arena);
}

/* ---- multipart ------------------------------------------------------------------------------ */

struct parts {
    bool open;
    size_t n_bytes;
    unsigned hash;
};

static bool on_begin(void *ctx, const struct http_part *part, struct error *err) {
    struct parts *parts = ctx;
    (void)err;
    check(!parts->open && part->name && part->media_type);
    parts->open = true;
    parts->hash = parts->hash * 31 + (unsigned)strlen(part->name) +
                  (part->filename ? 7 * (unsigned)strlen(part->filename) : 3);
    return true;
}

static bool on_data(void *ctx, const void *data, size_t len, struct error *err) {
    struct parts *parts = ctx;
    (void)err;
    check(parts->open && len > 0);
    parts->n_bytes += len;
    for (size_t i = 0; i < len; i++)
        parts->hash = parts->hash * 31 + ((const unsigned char *)data)[i];
    return true;
}

static bool on_end(void *ctx, struct error *err) {
    struct parts *parts = ctx;
    (void)err;
    check(parts->open);
    parts->open = false;
    parts->hash = parts->hash * 31 + 1;
    return true;
}

static bool parse_parts(struct parts *parts, const char *type, const uint8_t *data, size_t len,
                        size_t piece) {
    struct http_part_sink sink = {parts, on_begin, on_data, on_end};
    struct http_multipart *multipart = NULL;
    struct error err;
    bool ok = http_multipart_open(&multipart, type, &sink, &err);
    for (size_t at = 0; ok && at < len; at += piece)
        ok = http_multipart_write(multipart, data + at, len - at < piece ? len - at : piece, &err);
    ok = ok && http_multipart_finish(multipart, &err);
    http_multipart_free(multipart);
    return ok;
}

/* The same body means the same, however it is cut. */
static void fuzz_multipart(const char *type, const uint8_t *data, size_t len) {
    struct parts whole = {0}, cut = {0};
    bool ok = parse_parts(&whole, type, data, len, len ? len : 1);
    bool again = parse_parts(&cut, type, data, len, 3);
    check(ok == again);
    check(!ok || (whole.hash == cut.hash && whole.n_bytes == cut.n_bytes && !whole.open));
    check(whole.n_bytes <= len);
}

/* ---- the guard ------------------------------------------------------------------------------ */

static void fuzz_guard(const char *host, const char *origin) {
    struct http_field fields[] = {
        {"Host", host}, {"Origin", origin}, {"Authorization", origin}, {"If-None-Match", host}};
    struct http_request request = {
        .arena = arena_new(0), .method = "GET", .path = "/", .headers = fields, .n_headers = 4};
    struct http_guard guard = {"0.0.0.0", "key", "http://named.example"};
    struct http_response response = {0};
    http_guard_check(&guard, &request, false, &response);
    http_reply_header(&response, "Content-Disposition", http_attachment(request.arena, host));
    for (int i = 0; i < response.n_headers; i++)
        check(!strpbrk(response.headers[i].value, "\r\n"));
    http_reply_cached(&response, &request, "\"a\"", "no-cache");
    http_response_fini(&response);
    arena_free(request.arena);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static struct {
    char folder[64];
    struct settings settings;
    struct corpus *corpus;
    struct api *api;
} world;

static void close_world(void) {
    struct error err;
    api_free(world.api);
    corpus_close(world.corpus);
    settings_fini(&world.settings);
    dir_remove(world.folder, &err);
}

static void open_world(void) {
    struct error err;
    struct corpus_upload *upload;
    struct added added;
    snprintf(world.folder, sizeof world.folder, "/tmp/docusearch-fuzz-XXXXXX");
    check(mkdtemp(world.folder) != NULL);
    char *argv[] = {"fuzz", "--data-dir", world.folder, NULL};
    int argc = 3;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    check(settings_load(&world.settings, &argc, argv, &err));
    check(corpus_open(&world.corpus, NULL, &world.settings, &err));
    check(corpus_upload_open(&upload, world.corpus, "a.txt", "", -1, &err) &&
          corpus_upload_write(upload, "one text", 8, &err) &&
          corpus_upload_finish(&added, upload, &err));
    world.api = api_new(world.corpus);
    atexit(close_world);
}

/* "POST /search\n{…}" */
static void fuzz_call(char *text) {
    if (!world.api)
        open_world();
    char *target = strchr(text, ' ');
    if (!target)
        return;
    *target++ = '\0';
    char *body = strchr(target, '\n');
    if (body)
        *body++ = '\0';
    /* A path here is one of this machine. */
    if (strstr(target, "delete") || strstr(target, "process"))
        return;
    json_t *json = body ? json_loads(body, JSON_DECODE_ANY, NULL) : NULL, *reply = NULL;
    int status = api_dispatch(&reply, world.api, text, target, json);
    check(status >= 200 && status < 600 && status != 500);
    if (status >= 400)
        check(json_is_object(json_object_get(reply, "error")) || status == 503);
    json_decref(json);
    json_decref(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 2 || len > 1 << 16)
        return 0;
    char *text = mem_alloc(len);
    memcpy(text, data + 1, len - 1);
    char *second = memchr(text, '\n', len - 1);
    size_t rest = second ? (size_t)(second + 1 - text) : len - 1;
    switch (data[0] % 4) {
    case 0:
        fuzz_target(text);
        break;
    case 1:
        if (second)
            *second = '\0';
        fuzz_multipart(text, data + 1 + rest, len - 1 - rest);
        break;
    case 2:
        if (second)
            *second = '\0';
        fuzz_guard(text, text + (second ? rest : 0));
        break;
    default:
        fuzz_call(text);
    }
    mem_free(text);
    return 0;
}
