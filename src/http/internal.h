/* What http's own files share. */
#ifndef DOCUSEARCH_HTTP_INTERNAL_H
#define DOCUSEARCH_HTTP_INTERNAL_H

#include "http/http.h"

const char *http_status_text(int status);

/* A listening, non-blocking socket and its port. */
bool http_listen(int *out_fd, int *out_port, const char *host, int port, struct error *err);

/* ---- watch.c: every connection's clock ------------------------------------------------------- */

enum watch_state {
    WATCH_HEADER, /* waiting for a request, or in the middle of its headers */
    WATCH_BODY,   /* reading a body: bytes must keep coming */
    WATCH_WORK,   /* ours: no clock runs */
    WATCH_REPLY,  /* sending a reply of known size, by a deadline */
    WATCH_STREAM, /* sending a stream: only the idle limit holds */
};
struct watch;
struct watch_conn;

bool watch_open(struct watch **out, const struct http_server_options *options, struct error *err);
void watch_close(struct watch *watch); /* after the last connection has left */
/* Takes note of a new connection. Past the maximum it is sent a 503 and shut down. */
struct watch_conn *watch_enter(struct watch *watch, int fd);
void watch_leave(struct watch *watch, struct watch_conn *conn); /* before fd is closed */
void watch_set(struct watch *watch, struct watch_conn *conn, enum watch_state state,
               int64_t reply_bytes);
void watch_body_bytes(struct watch *watch, struct watch_conn *conn, size_t len);
/* The connection will be closed with bytes of the client's unread: keep reading them a while after
 * that, so that the answer is not lost to a reset. */
void watch_linger(struct watch *watch, struct watch_conn *conn);
int watch_count(struct watch *watch);

#endif
