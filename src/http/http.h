/* http: a server, a client, and what passes between them.
 *
 * The server runs one thread a connection (libmicrohttpd), so a handler may block: on a disk, on a
 * lock, on the next event of a stream. A second thread watches every connection and ends those that
 * dawdle: an absolute deadline for headers, a minimum rate for bodies both ways, an idle limit. A
 * request meets the guard (Host, Origin, key) before a byte of its body is read; its body goes
 * either into memory, up to a stated maximum, or piece by piece into a sink. A handler is a plain
 * function from request to response and needs no socket. libmicrohttpd and libcurl are seen in this
 * module alone. */
#ifndef DOCUSEARCH_HTTP_H
#define DOCUSEARCH_HTTP_H

#include "base/base.h"

#define HTTP_MAX_TARGET 16384     /* bytes of a request's target; past it 414 */
#define HTTP_MAX_HEADER 65536     /* bytes of a request's head; past it 431 */
#define HTTP_MAX_FIELDS 256       /* header fields, and query parameters */
#define HTTP_MAX_PARTS 1000       /* of a multipart body */
#define HTTP_MAX_PART_HEADER 8192 /* bytes of one part's head */

/* ---- requests ------------------------------------------------------------------------------- */

struct http_field {
    const char *name, *value;
};
struct http_request {
    struct arena *arena; /* owns all of this; dies with the request */
    const char *method;  /* "GET"; HEAD arrives as "GET" with head set */
    const char *path;    /* decoded; "/documents/ab…"; valid UTF-8, no "." or ".." part */
    const struct http_field *query; /* decoded, in order */
    int n_query;
    const struct http_field *headers;
    int n_headers;
    const char *body; /* NUL-terminated; "" for none and for bodies that went into a sink */
    size_t body_len;
    int64_t content_length; /* -1: not said (chunked) */
    const char *client;     /* "127.0.0.1" */
    bool head;
    void *user; /* the handler's, from `begin` to `end` */
};

/* Fills path and query from a request's target ("/a%20b?x=1"). ERROR_INPUT for bad escapes, NULs,
 * parts that climb; ERROR_LIMIT past the maxima. */
bool http_parse_target(struct http_request *request, const char *target, struct error *err);
const char *http_header(const struct http_request *request, const char *name); /* or NULL */
const char *http_query(const struct http_request *request, const char *name);  /* or NULL */
/* text with everything but unreserved characters as %XX, for a path's part or a query's value. */
char *http_escape(struct arena *arena, const char *text);

/* ---- responses ------------------------------------------------------------------------------ */

/* Bytes made as they are sent. read blocks until it has some (1..max), gives 0 at the end, and must
 * return within 20 s (a stream that has nothing to say says a comment). close is called once. */
struct http_stream {
    void *ctx;
    size_t (*read)(void *ctx, char *out, size_t max);
    void (*close)(void *ctx);
};
enum http_body_kind {
    HTTP_BODY_NONE,
    HTTP_BODY_OWNED,
    HTTP_BODY_BORROWED,
    HTTP_BODY_FILE,
    HTTP_BODY_STREAM
};
#define HTTP_MAX_REPLY_FIELDS 24
struct http_response {
    int status; /* 0: not answered yet */
    struct http_field headers[HTTP_MAX_REPLY_FIELDS];
    int n_headers;
    enum http_body_kind kind;
    char *data; /* HTTP_BODY_OWNED: freed with the response; HTTP_BODY_BORROWED: lives for ever */
    int64_t len;
    int fd; /* HTTP_BODY_FILE */
    struct http_stream stream;
    bool close; /* end the connection after this */
};
/* name and value are copied; control characters in value become spaces. Past the maximum: ignored.
 */
void http_reply_header(struct http_response *response, const char *name, const char *value);
/* json is taken over. */
void http_reply_json(struct http_response *response, int status, json_t *json);
/* {"error":{"code","message"},"detail":message} */
void http_reply_error(struct http_response *response, int status, const char *code,
                      const char *message);
/* data (mem_free) is taken over. */
void http_reply_owned(struct http_response *response, int status, const char *media_type,
                      char *data, size_t len);
void http_reply_borrowed(struct http_response *response, int status, const char *media_type,
                         const char *data, size_t len);
/* Opens path; ERROR_MISSING when it is not there, and then nothing has been set. */
bool http_reply_file(struct http_response *response, const char *media_type, const char *path,
                     struct error *err);
void http_reply_stream(struct http_response *response, const char *media_type,
                       const struct http_stream *stream);
/* `attachment; filename="…"; filename*=UTF-8''…` (RFC 6266, 5987) for any bytes of a name. */
char *http_attachment(struct arena *arena, const char *filename);
/* Answers 304 and true when If-None-Match names etag (with its quotes); sets ETag either way. */
bool http_reply_cached(struct http_response *response, const struct http_request *request,
                       const char *etag, const char *cache_control);
void http_response_fini(struct http_response *response); /* body, file, stream */

/* ---- multipart ------------------------------------------------------------------------------ */

/* A multipart/form-data body taken apart as it arrives; nothing of a part's content is kept.
 * Strings live during begin. Any callback may end the parsing by returning false with *err. */
struct http_part {
    const char *name;       /* of the form's field; "" when not said */
    const char *filename;   /* as sent (any bytes but NUL); NULL: not a file */
    const char *media_type; /* "" when not said */
};
struct http_part_sink {
    void *ctx;
    bool (*begin)(void *ctx, const struct http_part *part, struct error *err);
    bool (*data)(void *ctx, const void *data, size_t len, struct error *err);
    bool (*end)(void *ctx, struct error *err);
};
struct http_multipart;
/* ERROR_UNSUPPORTED unless content_type is multipart/form-data with a boundary of 1..70 bytes. */
bool http_multipart_open(struct http_multipart **out, const char *content_type,
                         const struct http_part_sink *sink, struct error *err);
bool http_multipart_write(struct http_multipart *multipart, const void *data, size_t len,
                          struct error *err);
/* ERROR_INPUT when the body ended before its last boundary. */
bool http_multipart_finish(struct http_multipart *multipart, struct error *err);
void http_multipart_free(struct http_multipart *multipart); /* NULL is fine */

/* ---- the guard ------------------------------------------------------------------------------ */

struct http_guard {
    const char *bound_host;  /* what the server listens on */
    const char *api_key;     /* NULL: none */
    const char *cors_origin; /* "" or NULL: off */
};
/* Is host ("localhost", "127.0.0.1", "::1", "0.0.0.0") reachable from this machine alone? */
bool http_host_is_loopback(const char *host);
/* False, and the answer set, for a foreign Host or Origin (403), a preflight (204), and, unless
 * open, a missing or wrong key (401). Otherwise sets the headers that a named origin needs. */
bool http_guard_check(const struct http_guard *guard, const struct http_request *request, bool open,
                      struct http_response *response);

/* ---- server --------------------------------------------------------------------------------- */

/* What begin decides about a request's body, before a byte of it is read. */
struct http_plan {
    int64_t max_body_bytes; /* past it 413; 0: no body is expected */
    /* NULL: the body goes into memory. Otherwise it goes here; false ends the request: with the
     * answer in response where that has one, else 400 with err. */
    bool (*sink)(struct http_request *request, const void *data, size_t len,
                 struct http_response *response, struct error *err);
};
struct http_handler {
    void *ctx;
    /* After the headers. An answer set here is sent at once, the body unread. */
    void (*begin)(void *ctx, struct http_request *request, struct http_plan *plan,
                  struct http_response *response);
    /* After the body. Sets an answer. */
    void (*handle)(void *ctx, struct http_request *request, struct http_response *response);
    /* Once for every begin, when the request is over, answered or broken off. */
    void (*end)(void *ctx, struct http_request *request);
};
struct http_server_options {
    const char *host;       /* name or address */
    int port;               /* 0: a free one */
    int max_connections;    /* 0: 512; past it 503 */
    int header_deadline_ms; /* 0: 10 s, from the connection's start to the end of the headers */
    int idle_ms;            /* 0: 30 s; without any byte, and between requests */
    int min_rate;           /* 0: 1,024 bytes/s, over windows of 10 s */
};
struct http_server;
/* Listens and serves. ERROR_CONFLICT address_in_use names the port and --worker-port. */
bool http_server_start(struct http_server **out, const struct http_server_options *options,
                       const struct http_handler *handler, struct error *err);
int http_server_port(const struct http_server *server);
const char *http_server_url(const struct http_server *server); /* "http://127.0.0.1:8002" */
int http_server_connections(struct http_server *server);
/* Ends every connection and joins every thread; streams must end within their 20 s, so their owner
 * tells them first. NULL is fine. */
void http_server_stop(struct http_server *server);

/* ---- client --------------------------------------------------------------------------------- */

/* One thread at a time. */
struct http_client;
bool http_client_open(struct http_client **out, const char *base_url, const char *api_key,
                      struct error *err);           /* api_key NULL: none */
void http_client_close(struct http_client *client); /* NULL is fine */
/* How long a call waits for a connection, and for a byte (whole seconds); at first 5 and 120 s.
 * Downloads and events have their own. */
void http_client_set_patience(struct http_client *client, int connect_ms, int silence_ms);
/* One more header of every call and upload. */
void http_client_set_header(struct http_client *client, const char *name, const char *value);

struct http_reply {
    int status;
    json_t *json; /* NULL when the body is not JSON */
    char *body;   /* NUL-terminated */
    size_t len;
    bool reconnected; /* the connection of the client's calls before had ended */
};
void http_reply_fini(struct http_reply *reply);
/* Any status is a success of the call; false is ERROR_IO: nobody answers, or the answer broke off
 * ("connect_failed" when there was no connection). body may be NULL; it stays the caller's. Replies
 * hold at most 256 MiB. */
bool http_client_call(struct http_reply *out, struct http_client *client, const char *method,
                      const char *target, const json_t *body, struct error *err);
/* The same of a body that is JSON's text already (NULL: none); the reply is not parsed. */
bool http_client_send(struct http_reply *out, struct http_client *client, const char *method,
                      const char *target, const char *body, size_t len, struct error *err);
/* POST of one file as the multipart field `file`. progress may be NULL; false from it gives
 * ERROR_CONFLICT cancelled. */
typedef bool (*http_progress)(void *ctx, int64_t sent_bytes, int64_t size_bytes);
bool http_client_upload(struct http_reply *out, struct http_client *client, const char *target,
                        const char *path, const char *filename, http_progress progress, void *ctx,
                        struct error *err);
/* A GET whose body goes into a sink as it arrives. */
struct http_download {
    const char *target;
    int64_t from_byte; /* asks for what follows this; 0: for all of it */
    int stall_ms;      /* without a byte for so long: ERROR_IO stalled */
    const char *note;  /* a header of the reply to keep, or NULL */
    void *ctx;
    /* Before the body of a 2xx: it starts at from_byte of the whole (0 where the server gives no
     * ranges) and has n_bytes (-1: not said). */
    bool (*begin)(void *ctx, int64_t from_byte, int64_t n_bytes, struct error *err);
    bool (*data)(void *ctx, const void *data, size_t len, struct error *err);
    bool (*tick)(void *ctx); /* at least once a second; false: ERROR_CONFLICT cancelled. Or NULL */
};
struct http_download_reply {
    int status;     /* bodies of other than 2xx are dropped */
    char note[128]; /* "" where there was no such header */
};
/* Follows redirects (10 at most, never from https to http); the key goes to the host of base_url
 * alone. Certificates are verified, and the environment's proxies are used but for a base_url of
 * this machine. False: the sink's error, cancelled, ERROR_IO stalled, connect_failed, bad_redirect,
 * bad_certificate, io_error (it broke off). */
bool http_client_download(struct http_download_reply *out, struct http_client *client,
                          const struct http_download *download, struct error *err);
/* Reads server-sent events until on_event gives false (then true is returned), or deadline_ms
 * (time_mono_ms; -1 none) passes (true too), or the connection ends (ERROR_IO). on_event is also
 * called at least once a second with event NULL. last_id NULL: from now on. */
typedef bool (*http_on_event)(void *ctx, const char *event, const char *id, const char *data);
bool http_client_events(struct http_client *client, const char *target, const char *last_id,
                        int64_t deadline_ms, http_on_event on_event, void *ctx, struct error *err);

#endif
