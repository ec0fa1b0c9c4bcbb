/* The client: libcurl's easy interface, one handle kept so that connections are reused. Replies are
 * held in memory up to a maximum; downloads go into their sink as they arrive; event streams are
 * taken apart line by line and never held. */
#include "http/internal.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_REPLY ((size_t)256 << 20)
#define MAX_EVENT ((size_t)1 << 20)

struct http_client {
    CURL *curl;
    char *base_url;
    char *auth;  /* "Authorization: Bearer …" or NULL */
    char *extra; /* a further header line, or NULL */
    int connect_ms, silence_ms;
    bool connected; /* once at least */
    char reason[CURL_ERROR_SIZE];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_library(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool http_client_open(struct http_client **out, const char *base_url, const char *api_key,
                      struct error *err) {
    pthread_once(&once, init_library);
    struct http_client *client = mem_alloc(sizeof(*client));
    client->curl = curl_easy_init();
    if (!client->curl) {
        mem_free(client);
        return error_set(err, ERROR_INTERNAL, "libcurl does not start");
    }
    client->base_url = mem_strdup(base_url);
    size_t len = strlen(client->base_url);
    while (len > 0 && client->base_url[len - 1] == '/')
        client->base_url[--len] = '\0';
    if (api_key)
        client->auth = mem_printf("Authorization: Bearer %s", api_key);
    http_client_set_patience(client, 5000, 120000);
    *out = client;
    return true;
}

void http_client_close(struct http_client *client) {
    if (!client)
        return;
    if (client->curl)
        curl_easy_cleanup(client->curl);
    mem_free(client->base_url);
    mem_free(client->auth);
    mem_free(client->extra);
    mem_free(client);
}

void http_client_set_patience(struct http_client *client, int connect_ms, int silence_ms) {
    client->connect_ms = connect_ms;
    client->silence_ms = silence_ms;
}

void http_client_set_header(struct http_client *client, const char *name, const char *value) {
    mem_free(client->extra);
    client->extra = mem_printf("%s: %s", name, value);
}

void http_reply_fini(struct http_reply *reply) {
    json_decref(reply->json);
    mem_free(reply->body);
    memset(reply, 0, sizeof(*reply));
}

/* What every request has in common. Redirects are not followed: the key would travel with them. */
static char *prepare(struct http_client *client, const char *target) {
    char *url = mem_printf("%s%s", client->base_url, target);
    curl_easy_reset(client->curl);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(client->curl, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1,0.0.0.0");
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_ms);
    curl_easy_setopt(client->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(client->curl, CURLOPT_USERAGENT, "docusearch/" DOCUSEARCH_VERSION);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->reason);
    client->reason[0] = '\0';
    return url;
}

static bool explain(struct http_client *client, CURLcode rc, struct error *err) {
    const char *why = client->reason[0] ? client->reason : curl_easy_strerror(rc);
    long proxy_status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
    bool unreached = rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
                     rc == CURLE_COULDNT_RESOLVE_PROXY || proxy_status >= 300;
    bool astray = rc == CURLE_TOO_MANY_REDIRECTS || rc == CURLE_UNSUPPORTED_PROTOCOL;
    const char *code = unreached                              ? "connect_failed"
                       : astray                               ? "bad_redirect"
                       : rc == CURLE_PEER_FAILED_VERIFICATION ? "bad_certificate"
                                                              : "io_error";
    return error_set_code(err, ERROR_IO, code, "%s: %s", client->base_url, why);
}

static size_t keep_bytes(char *data, size_t size, size_t n, void *ctx) {
    struct buf *buf = ctx;
    buf_append(buf, data, size * n);
    return buf->failed ? 0 : size * n;
}

static void parse_body(struct http_reply *reply) {
    reply->json = json_loadb(reply->body, reply->len, JSON_DECODE_ANY, NULL);
}

static bool perform(struct http_reply *out, struct http_client *client, struct curl_slist *headers,
                    struct error *err) {
    struct buf body = {.max = MAX_REPLY};
    if (client->auth)
        headers = curl_slist_append(headers, client->auth);
    if (client->extra)
        headers = curl_slist_append(headers, client->extra);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, keep_bytes);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, (long)(client->silence_ms + 999) / 1000);
    CURLcode rc = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (rc != CURLE_OK) {
        bool too_large = body.failed;
        buf_fini(&body);
        if (rc == CURLE_ABORTED_BY_CALLBACK)
            return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled");
        if (too_large)
            return error_set(err, ERROR_LIMIT, "%s: reply larger than %zu bytes", client->base_url,
                             MAX_REPLY);
        return explain(client, rc, err);
    }
    long status = 0, n_connects = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(client->curl, CURLINFO_NUM_CONNECTS, &n_connects);
    memset(out, 0, sizeof(*out));
    out->status = (int)status;
    out->reconnected = client->connected && n_connects > 0;
    client->connected = true;
    out->len = body.len;
    out->body = body.len ? buf_take(&body) : mem_strdup("");
    buf_fini(&body);
    return true;
}

bool http_client_send(struct http_reply *out, struct http_client *client, const char *method,
                      const char *target, const char *body, size_t len, struct error *err) {
    char *url = prepare(client, target);
    struct curl_slist *headers = NULL;
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    if (body || strcmp(method, "POST") == 0) {
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, body ? body : "");
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(body ? len : 0));
        headers = curl_slist_append(headers, "Content-Type: application/json");
        headers = curl_slist_append(headers, "Expect:"); /* large bodies go at once */
    }
    bool ok = perform(out, client, headers, err);
    mem_free(url);
    return ok;
}

bool http_client_call(struct http_reply *out, struct http_client *client, const char *method,
                      const char *target, const json_t *body, struct error *err) {
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    bool ok = http_client_send(out, client, method, target, text, text ? strlen(text) : 0, err);
    free(text); /* jansson's */
    if (ok)
        parse_body(out);
    return ok;
}

/* ---- uploads -------------------------------------------------------------------------------- */

struct upload {
    http_progress progress;
    void *ctx;
};

static int on_transfer(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    struct upload *upload = ctx;
    (void)down_total;
    (void)down;
    if (upload->progress && !upload->progress(upload->ctx, up, up_total))
        return 1;
    return 0;
}

bool http_client_upload(struct http_reply *out, struct http_client *client, const char *target,
                        const char *path, const char *filename, http_progress progress, void *ctx,
                        struct error *err) {
    char *url = prepare(client, target);
    struct upload upload = {progress, ctx};
    curl_mime *mime = curl_mime_init(client->curl);
    curl_mimepart *part = curl_mime_addpart(mime);
    curl_mime_name(part, "file");
    bool ok = curl_mime_filedata(part, path) == CURLE_OK;
    if (ok) {
        curl_mime_filename(part, filename);
        curl_mime_type(part, "application/octet-stream");
        curl_easy_setopt(client->curl, CURLOPT_MIMEPOST, mime);
        curl_easy_setopt(client->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(client->curl, CURLOPT_XFERINFOFUNCTION, on_transfer);
        curl_easy_setopt(client->curl, CURLOPT_XFERINFODATA, &upload);
        ok = perform(out, client, NULL, err);
        if (ok)
            parse_body(out);
    } else {
        error_set_code(err, ERROR_MISSING, "not_found", "%s: cannot be read", path);
    }
    curl_mime_free(mime);
    mem_free(url);
    return ok;
}

/* ---- downloads ------------------------------------------------------------------------------ */

#define MAX_REDIRECTS 10L
#define MAX_ERROR_BODY ((size_t)1 << 20)

struct transfer {
    const struct http_download *download;
    CURL *curl;
    int64_t heard_ms; /* when a byte came last */
    curl_off_t heard_bytes;
    size_t dropped;
    bool begun, refused, stalled, cancelled;
    struct error *err; /* written when refused */
};

/* NULL: none. */
static const char *reply_header(CURL *curl, const char *name) {
    struct curl_header *header;
    bool there = curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK;
    return there ? header->value : NULL;
}

/* Where the body starts: RFC 9110, "bytes 200-999/1000". */
static bool body_start(int64_t *from_byte, const struct transfer *t, long status) {
    *from_byte = 0;
    if (status != 206)
        return true;
    const char *range = reply_header(t->curl, "Content-Range");
    char first[24];
    size_t n = range && strncasecmp(range, "bytes ", 6) == 0 ? strcspn(range + 6, "-") : 0;
    if (n == 0 || n >= sizeof first)
        return false;
    memcpy(first, range + 6, n);
    first[n] = '\0';
    return text_to_int(from_byte, first, 0, INT64_MAX, "range", NULL) &&
           *from_byte == t->download->from_byte;
}

static bool begin_body(struct transfer *t, long status) {
    if (t->begun)
        return true;
    t->begun = true;
    int64_t from_byte;
    curl_off_t n_bytes = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n_bytes);
    if (!body_start(&from_byte, t, status))
        return error_set(t->err, ERROR_IO, "%s: another range than the one asked for",
                         t->download->target);
    return t->download->begin(t->download->ctx, from_byte, n_bytes, t->err);
}

static size_t pass_bytes(char *data, size_t size, size_t n, void *ctx) {
    struct transfer *t = ctx;
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status >= 300) {
        t->dropped += size * n;
        return t->dropped > MAX_ERROR_BODY ? 0 : size * n;
    }
    if (!begin_body(t, status) || !t->download->data(t->download->ctx, data, size * n, t->err)) {
        t->refused = true;
        return 0;
    }
    return size * n;
}

static int on_pass(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                   curl_off_t up) {
    struct transfer *t = ctx;
    (void)down_total;
    (void)up_total;
    (void)up;
    int64_t now = time_mono_ms();
    if (down != t->heard_bytes) {
        t->heard_bytes = down;
        t->heard_ms = now;
    }
    t->stalled = now - t->heard_ms >= t->download->stall_ms;
    t->cancelled = t->download->tick && !t->download->tick(t->download->ctx);
    return t->stalled || t->cancelled;
}

/* What the transfer came to. A status that is no success is an answer even where its body was not
 * read to the end. */
static bool conclude(struct http_download_reply *out, struct http_client *client,
                     struct transfer *t, CURLcode rc) {
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (t->refused)
        return false;
    if (t->cancelled)
        return error_set_code(t->err, ERROR_CONFLICT, "cancelled", "cancelled");
    if (t->stalled)
        return error_set_code(t->err, ERROR_IO, "stalled", "%s: nothing came for %d seconds",
                              client->base_url, t->download->stall_ms / 1000);
    if (rc != CURLE_OK && t->dropped <= MAX_ERROR_BODY)
        return explain(client, rc, t->err);
    if (status >= 200 && status < 300 && !begin_body(t, status))
        return false;
    memset(out, 0, sizeof *out);
    out->status = (int)status;
    const char *note = t->download->note ? reply_header(t->curl, t->download->note) : NULL;
    if (note)
        memcpy(out->note, note, utf8_cut(note, strlen(note), sizeof out->note - 1));
    return true;
}

/* Of scheme://[user@]host[:port]/…: is the host this machine? */
static bool is_local(const char *base_url) {
    bool local = false;
    CURLU *url = curl_url();
    char *host = NULL;
    if (url && curl_url_set(url, CURLUPART_URL, base_url, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        local = http_host_is_loopback(host);
    curl_free(host);
    curl_url_cleanup(url);
    return local;
}

bool http_client_download(struct http_download_reply *out, struct http_client *client,
                          const struct http_download *download, struct error *err) {
    char *url = prepare(client, download->target);
    CURL *curl = client->curl;
    struct transfer t = {
        .download = download, .curl = curl, .heard_ms = time_mono_ms(), .err = err};
    if (!is_local(client->base_url))
        curl_easy_setopt(curl, CURLOPT_NOPROXY, NULL);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
    bool secure = strncasecmp(client->base_url, "https:", 6) == 0;
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    struct curl_slist *headers = client->auth ? curl_slist_append(NULL, client->auth) : NULL;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    char range[32];
    snprintf(range, sizeof range, "%lld-", (long long)download->from_byte);
    if (download->from_byte > 0)
        curl_easy_setopt(curl, CURLOPT_RANGE, range);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, pass_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_pass);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &t);
    CURLcode rc = curl_easy_perform(curl);
    bool ok = conclude(out, client, &t, rc);
    curl_slist_free_all(headers);
    mem_free(url);
    return ok;
}

/* ---- server-sent events (HTML, "Server-sent events") ----------------------------------------- */

struct events {
    http_on_event on_event;
    void *ctx;
    int64_t deadline_ms, told_ms;
    bool ended; /* by on_event or the deadline */
    struct buf line, data;
    char event[64], id[64];
};

static void tell(struct events *events, bool event) {
    events->told_ms = time_mono_ms();
    bool more = event ? events->on_event(events->ctx, events->event[0] ? events->event : "message",
                                         events->id, events->data.data)
                      : events->on_event(events->ctx, NULL, events->id, NULL);
    if (!more)
        events->ended = true;
}

static void copy_field(char out[64], const char *value) {
    size_t len = utf8_cut(value, strlen(value), 63);
    memcpy(out, value, len);
    out[len] = '\0';
}

static void take_line(struct events *events, char *line) {
    if (line[0] == '\0') {
        if (events->data.len > 0)
            tell(events, true);
        buf_clear(&events->data);
        events->event[0] = '\0';
        return;
    }
    char *value = strchr(line, ':');
    if (value == line)
        return; /* a comment */
    if (value) {
        *value++ = '\0';
        if (*value == ' ')
            value++;
    } else {
        value = line + strlen(line);
    }
    if (strcmp(line, "event") == 0) {
        copy_field(events->event, value);
    } else if (strcmp(line, "id") == 0) {
        copy_field(events->id, value);
    } else if (strcmp(line, "data") == 0) {
        if (events->data.len > 0)
            buf_putc(&events->data, '\n');
        buf_puts(&events->data, value);
    }
}

static size_t take_bytes(char *data, size_t size, size_t n, void *ctx) {
    struct events *events = ctx;
    for (size_t i = 0; i < size * n && !events->ended; i++) {
        if (data[i] == '\n') {
            take_line(events, events->line.data ? events->line.data : (char[]){'\0'});
            buf_clear(&events->line);
        } else if (data[i] != '\r') {
            buf_putc(&events->line, data[i]);
        }
    }
    return events->ended || events->line.failed || events->data.failed ? 0 : size * n;
}

static int on_tick(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                   curl_off_t up) {
    struct events *events = ctx;
    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    int64_t now = time_mono_ms();
    if (events->deadline_ms >= 0 && now >= events->deadline_ms)
        events->ended = true;
    else if (now - events->told_ms >= 900)
        tell(events, false);
    return events->ended;
}

bool http_client_events(struct http_client *client, const char *target, const char *last_id,
                        int64_t deadline_ms, http_on_event on_event, void *ctx, struct error *err) {
    struct events events = {.on_event = on_event,
                            .ctx = ctx,
                            .deadline_ms = deadline_ms,
                            .told_ms = time_mono_ms(),
                            .line = {.max = MAX_EVENT},
                            .data = {.max = MAX_EVENT}};
    char *url = prepare(client, target);
    char *last = last_id ? mem_printf("Last-Event-ID: %s", last_id) : NULL;
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: text/event-stream");
    if (last)
        headers = curl_slist_append(headers, last);
    if (client->auth)
        headers = curl_slist_append(headers, client->auth);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &events);
    curl_easy_setopt(client->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(client->curl, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(client->curl, CURLOPT_XFERINFODATA, &events);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, 60L); /* pings come every 15 s */
    CURLcode rc = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    mem_free(last);
    mem_free(url);
    buf_fini(&events.line);
    buf_fini(&events.data);
    if (events.ended)
        return true;
    if (rc == CURLE_OK)
        return error_set(err, ERROR_IO, "%s: the event stream ended", client->base_url);
    return explain(client, rc, err);
}
