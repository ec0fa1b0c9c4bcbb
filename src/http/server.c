/* libmicrohttpd's side of a request: its callbacks become begin, body, handle, end.
 *
 * An exchange is one request on one connection, used by that connection's thread alone. A request
 * that is refused while its body is still to come is answered straight on the socket and the
 * connection closed: the library can answer only before or after a body. What the client still
 * sends is read away for a while (watch_linger), or the answer would be lost to a reset. */
#include "http/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define STACK_BYTES (2u << 20)
#define STREAM_BLOCK 16384
#define STREAM_STALL_S 30

struct http_server {
    struct http_handler handler;
    struct MHD_Daemon *daemon;
    struct watch *watch;
    int listen_fd, port;
    char *url;
};

/* What the library keeps of ours for a connection. */
struct connection {
    struct watch_conn *watched;
    struct exchange *exchange; /* the one that is not over */
};

struct exchange {
    struct http_server *server;
    struct connection *connection;
    struct watch_conn *conn;
    int fd;
    bool begun, over; /* over: answered before its time; the rest of the body is ignored */
    int status;
    int64_t body_bytes;
    struct http_request request;
    const char *target;
    struct http_plan plan;
    struct buf body;
};

/* ---- requests ------------------------------------------------------------------------------- */

static void end_exchange(struct exchange *exchange) {
    struct http_server *server = exchange->server;
    if (exchange->begun && server->handler.end)
        server->handler.end(server->handler.ctx, &exchange->request);
    char label[32];
    snprintf(label, sizeof(label), "code=\"%d\"", exchange->status);
    metric_add("docusearch_http_requests_total", label,
               "HTTP requests by status; 0: broken off before an answer", 1);
    watch_set(server->watch, exchange->conn, WATCH_HEADER, 0);
    exchange->connection->exchange = NULL;
    arena_free(exchange->request.arena);
    buf_fini(&exchange->body);
    mem_free(exchange);
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *connection) {
    struct exchange *exchange = mem_alloc(sizeof(*exchange));
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->server = cls;
    exchange->connection = info->socket_context;
    exchange->connection->exchange = exchange;
    exchange->conn = exchange->connection->watched;
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    exchange->fd = info->connect_fd;
    exchange->request.arena = arena_new(0);
    exchange->target = arena_strdup(exchange->request.arena, uri);
    exchange->request.body = "";
    exchange->request.content_length = -1;
    return exchange;
}

/* Paths and queries are taken apart by http_parse_target alone. */
static size_t keep_escapes(void *cls, struct MHD_Connection *connection, char *text) {
    (void)cls;
    (void)connection;
    return strlen(text);
}

struct collect {
    struct exchange *exchange;
    struct http_field *fields;
    int n;
};

static enum MHD_Result collect_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                     const char *value) {
    (void)kind;
    struct collect *collect = cls;
    struct arena *arena = collect->exchange->request.arena;
    if (collect->n == HTTP_MAX_FIELDS)
        return MHD_NO;
    collect->fields[collect->n].name = arena_strdup(arena, name);
    collect->fields[collect->n].value = arena_strdup(arena, value ? value : "");
    collect->n++;
    return MHD_YES;
}

static int count_header(const struct http_request *request, const char *name) {
    int n = 0;
    for (int i = 0; i < request->n_headers; i++)
        n += strcasecmp(request->headers[i].name, name) == 0;
    return n;
}

static const char *client_address(struct arena *arena, struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    char text[INET6_ADDRSTRLEN] = "";
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof(text));
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof(text));
    return arena_strdup(arena, text);
}

/* Two ends that disagree about where a body ends are how one request is smuggled in another. */
static bool framing_is_plain(struct http_request *request, struct http_response *response) {
    const char *coding = http_header(request, "Transfer-Encoding");
    const char *length = http_header(request, "Content-Length");
    const char *wrong = NULL;
    if (count_header(request, "Host") > 1)
        wrong = "more than one Host";
    else if (count_header(request, "Content-Length") > 1)
        wrong = "more than one Content-Length";
    else if (count_header(request, "Transfer-Encoding") > 1)
        wrong = "more than one Transfer-Encoding";
    else if (coding && length)
        wrong = "both Content-Length and Transfer-Encoding";
    else if (coding && strcasecmp(coding, "chunked") != 0)
        wrong = "a Transfer-Encoding other than chunked";
    if (wrong) {
        http_reply_error(response, 400, "invalid", wrong);
        response->close = true;
        return false;
    }
    if (length &&
        !text_to_int(&request->content_length, length, 0, INT64_MAX, "Content-Length", NULL)) {
        http_reply_error(response, 400, "invalid", "Content-Length is no number");
        response->close = true;
        return false;
    }
    if (!coding && !length)
        request->content_length = 0;
    return true;
}

static bool fill_request(struct exchange *exchange, struct MHD_Connection *connection,
                         const char *method, struct http_response *response) {
    struct http_request *request = &exchange->request;
    struct collect collect = {.exchange = exchange};
    collect.fields = arena_alloc(request->arena, HTTP_MAX_FIELDS * sizeof(*collect.fields));
    int n = MHD_get_connection_values(connection, MHD_HEADER_KIND, NULL, NULL);
    MHD_get_connection_values(connection, MHD_HEADER_KIND, collect_field, &collect);
    request->headers = collect.fields;
    request->n_headers = collect.n;
    request->head = strcmp(method, "HEAD") == 0;
    request->method = request->head ? "GET" : arena_strdup(request->arena, method);
    request->client = client_address(request->arena, connection);
    request->path = "/";
    if (n > HTTP_MAX_FIELDS) {
        http_reply_error(response, 431, "too_many_headers", "too many header fields");
        return false;
    }
    if (!framing_is_plain(request, response))
        return false;
    struct error err;
    if (!http_parse_target(request, exchange->target, &err)) {
        http_reply_error(response, err.kind == ERROR_LIMIT ? 414 : 400, err.code, err.text);
        return false;
    }
    return true;
}

static bool body_is_coming(const struct exchange *exchange) {
    const struct http_request *request = &exchange->request;
    return request->content_length != 0 || http_header(request, "Transfer-Encoding") != NULL;
}

/* ---- responses ------------------------------------------------------------------------------ */

static ssize_t stream_read(void *cls, uint64_t pos, char *out, size_t max) {
    (void)pos;
    struct http_stream *stream = cls;
    size_t n = stream->read(stream->ctx, out, max);
    return n > 0 ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void stream_free(void *cls) {
    struct http_stream *stream = cls;
    if (stream->close)
        stream->close(stream->ctx);
    mem_free(stream);
}

/* Moves the response's body into the library's object. */
static struct MHD_Response *library_response(struct http_response *response) {
    struct MHD_Response *out = NULL;
    struct http_stream *stream;
    switch (response->kind) {
    case HTTP_BODY_NONE:
        return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    case HTTP_BODY_OWNED:
        out = MHD_create_response_from_buffer_with_free_callback((size_t)response->len,
                                                                 response->data, mem_free);
        break;
    case HTTP_BODY_BORROWED:
        out = MHD_create_response_from_buffer((size_t)response->len, response->data,
                                              MHD_RESPMEM_PERSISTENT);
        break;
    case HTTP_BODY_FILE:
        out = MHD_create_response_from_fd64((uint64_t)response->len, response->fd);
        break;
    case HTTP_BODY_STREAM:
        stream = mem_alloc(sizeof(*stream));
        *stream = response->stream;
        out = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_read, stream,
                                                stream_free);
        if (!out)
            mem_free(stream);
        break;
    }
    if (out)
        response->kind = HTTP_BODY_NONE;
    return out;
}

static enum MHD_Result send_response(struct exchange *exchange, struct MHD_Connection *connection,
                                     struct http_response *response) {
    bool streams = response->kind == HTTP_BODY_STREAM;
    int64_t len = response->kind == HTTP_BODY_NONE ? 0 : response->len;
    unsigned status = (unsigned)response->status;
    struct MHD_Response *out = library_response(response);
    if (!out) {
        http_response_fini(response);
        return MHD_NO;
    }
    for (int i = 0; i < response->n_headers; i++)
        MHD_add_response_header(out, response->headers[i].name, response->headers[i].value);
    if (response->close)
        MHD_add_response_header(out, "Connection", "close");
    http_response_fini(response);
    exchange->status = (int)status;
    /* The library's own timeout serves streams alone; turning it on restarts its clock. */
    if (streams)
        MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                  (unsigned)STREAM_STALL_S);
    watch_set(exchange->server->watch, exchange->conn, streams ? WATCH_STREAM : WATCH_REPLY, len);
    enum MHD_Result ok = MHD_queue_response(connection, status, out);
    MHD_destroy_response(out);
    return ok;
}

/* Answers on the socket itself and has the connection closed. */
static enum MHD_Result break_off(struct exchange *exchange, struct http_response *response) {
    struct buf out = {0};
    buf_printf(&out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %lld\r\n",
               response->status, http_status_text(response->status), (long long)response->len);
    for (int i = 0; i < response->n_headers; i++)
        buf_printf(&out, "%s: %s\r\n", response->headers[i].name, response->headers[i].value);
    buf_puts(&out, "\r\n");
    if (response->kind == HTTP_BODY_OWNED || response->kind == HTTP_BODY_BORROWED)
        buf_append(&out, response->data, (size_t)response->len);
    exchange->over = true;
    exchange->status = response->status;
    if (!out.failed && send(exchange->fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        watch_linger(exchange->server->watch, exchange->conn);
    buf_fini(&out);
    http_response_fini(response);
    return MHD_NO;
}

/* ---- the three calls ------------------------------------------------------------------------ */

static enum MHD_Result first_call(struct exchange *exchange, struct MHD_Connection *connection,
                                  const char *method) {
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->request;
    struct http_response response = {0};
    watch_set(server->watch, exchange->conn, WATCH_WORK, 0);
    if (fill_request(exchange, connection, method, &response)) {
        exchange->begun = true;
        server->handler.begin(server->handler.ctx, request, &exchange->plan, &response);
        if (!response.status && request->content_length > exchange->plan.max_body_bytes) {
            char text[96];
            snprintf(text, sizeof(text), "a body of %lld bytes, at most %lld are taken",
                     (long long)request->content_length, (long long)exchange->plan.max_body_bytes);
            http_reply_error(&response, 413, "too_large", text);
        }
    }
    if (response.status)
        return body_is_coming(exchange) ? break_off(exchange, &response)
                                        : send_response(exchange, connection, &response);
    http_response_fini(&response);
    exchange->body.max = exchange->plan.sink ? 1 : (size_t)exchange->plan.max_body_bytes + 1;
    if (body_is_coming(exchange))
        watch_set(server->watch, exchange->conn, WATCH_BODY, 0);
    return MHD_YES;
}

static enum MHD_Result body_call(struct exchange *exchange, const char *data, size_t len) {
    struct http_server *server = exchange->server;
    struct http_response response = {0};
    struct error err = {0};
    if (exchange->over)
        return MHD_NO;
    watch_body_bytes(server->watch, exchange->conn, len);
    watch_set(server->watch, exchange->conn, WATCH_WORK, 0);
    exchange->body_bytes += (int64_t)len;
    if (exchange->body_bytes > exchange->plan.max_body_bytes) {
        http_reply_error(&response, 413, "too_large", "the body is larger than is taken here");
        return break_off(exchange, &response);
    }
    bool ok = true;
    if (exchange->plan.sink)
        ok = exchange->plan.sink(&exchange->request, data, len, &response, &err);
    else
        buf_append(&exchange->body, data, len);
    if (exchange->body.failed) {
        http_reply_error(&response, 503, "out_of_memory", "no memory for the body");
        return break_off(exchange, &response);
    }
    if (!ok) {
        if (!response.status)
            http_reply_error(&response, 400, err.code, err.text);
        return break_off(exchange, &response);
    }
    http_response_fini(&response);
    watch_set(server->watch, exchange->conn, WATCH_BODY, 0);
    return MHD_YES;
}

static enum MHD_Result last_call(struct exchange *exchange, struct MHD_Connection *connection) {
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->request;
    struct http_response response = {0};
    watch_set(server->watch, exchange->conn, WATCH_WORK, 0);
    if (exchange->body.len > 0) {
        request->body = exchange->body.data;
        request->body_len = exchange->body.len;
    }
    server->handler.handle(server->handler.ctx, request, &response);
    if (!response.status)
        http_reply_error(&response, 500, "internal", "the call was not answered");
    return send_response(exchange, connection, &response);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **request_cls) {
    (void)cls;
    (void)url;
    (void)version;
    struct exchange *exchange = *request_cls;
    if (!exchange->request.method)
        return first_call(exchange, connection, method);
    if (*len > 0) {
        enum MHD_Result ok = body_call(exchange, data, *len);
        *len = 0;
        return ok;
    }
    return last_call(exchange, connection);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **request_cls,
                         enum MHD_RequestTerminationCode code) {
    (void)cls;
    (void)code;
    struct exchange *exchange = *request_cls;
    if (!exchange)
        return;
    *request_cls = NULL;
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    end_exchange(exchange);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_cls,
                          enum MHD_ConnectionNotificationCode code) {
    struct http_server *server = cls;
    struct connection *ours = *socket_cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
            connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        ours = mem_alloc(sizeof(*ours));
        ours->watched = watch_enter(server->watch, info->connect_fd);
        *socket_cls = ours;
    } else if (ours) {
        /* The library forgets to complete a request whose query outgrew its memory. */
        if (ours->exchange)
            end_exchange(ours->exchange);
        watch_leave(server->watch, ours->watched);
        mem_free(ours);
        *socket_cls = NULL;
    }
}

static void on_log(void *cls, const char *format, va_list args) {
    (void)cls;
    char text[512];
    vsnprintf(text, sizeof(text), format, args);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    log_debug("http: %s", text);
}

/* ---- the server ----------------------------------------------------------------------------- */

static bool start_daemon(struct http_server *server, const struct http_server_options *options,
                         struct error *err) {
    server->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG,
        (uint16_t)server->port, NULL, NULL, on_access, server, //
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,              //
        MHD_OPTION_LISTEN_SOCKET, server->listen_fd,           //
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,           //
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,      //
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,   //
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,     //
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->max_connections + 64,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MAX_HEADER, //
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,           //
        MHD_OPTION_STRICT_FOR_CLIENT, 1,                             //
        MHD_OPTION_END);
    server->listen_fd = -1; /* the library's, also when it could not start */
    if (!server->daemon)
        return error_set_errno(err, errno, "start of the HTTP server");
    return true;
}

bool http_server_start(struct http_server **out, const struct http_server_options *options,
                       const struct http_handler *handler, struct error *err) {
    struct http_server_options full = *options;
    if (full.max_connections <= 0)
        full.max_connections = 512;
    if (full.header_deadline_ms <= 0)
        full.header_deadline_ms = 10000;
    if (full.idle_ms <= 0)
        full.idle_ms = 30000;
    if (full.min_rate <= 0)
        full.min_rate = 1024;
    struct http_server *server = mem_alloc(sizeof(*server));
    server->handler = *handler;
    server->listen_fd = -1;
    if (!http_listen(&server->listen_fd, &server->port, full.host, full.port, err))
        goto fail;
    server->url = mem_printf(strchr(full.host, ':') ? "http://[%s]:%d" : "http://%s:%d", full.host,
                             server->port);
    if (!watch_open(&server->watch, &full, err))
        goto fail;
    if (!start_daemon(server, &full, err))
        goto fail;
    *out = server;
    return true;
fail:
    http_server_stop(server);
    return false;
}

int http_server_port(const struct http_server *server) {
    return server->port;
}

const char *http_server_url(const struct http_server *server) {
    return server->url;
}

int http_server_connections(struct http_server *server) {
    return watch_count(server->watch);
}

void http_server_stop(struct http_server *server) {
    if (!server)
        return;
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    watch_close(server->watch);
    mem_free(server->url);
    mem_free(server);
}
