/* Every connection's clock. libmicrohttpd knows one timeout, restarted by any byte; a client that
 * sends one byte a second would hold a thread for ever. This thread looks at all connections four
 * times a second and shuts down those past their deadline; the connection's own thread then sees
 * its end.
 *
 * Invariants: 1. a watch_conn's fd is open from watch_enter to watch_leave; both, and every use of
 * the fd here, hold the lock, so no descriptor is used after its close. 2. Lingering descriptors
 * are duplicates and belong to the watching thread. */
#include "http/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_MS 250
#define RATE_WINDOW_MS 10000
#define MIN_REPLY_RATE 16384 /* bytes a second */
#define REPLY_GRACE_MS 60000
#define LINGER_MS 5000
#define LINGER_SHUT_MS 1000
#define MAX_LINGER 64

struct watch_conn {
    int fd;
    enum watch_state state;
    bool first; /* no request has been answered on it */
    bool in_body;
    bool shut, lingers; /* no more to do; a duplicate is (to be) kept */
    int64_t since_ms;   /* of the state */
    int64_t deadline_ms;
    int64_t window_ms, window_bytes;
    struct watch_conn *next, *prev;
};

struct lingering {
    int fd;
    bool shut; /* reading was shut down too: it always looks readable, so it is not polled */
    int64_t deadline_ms;
};

struct watch {
    struct lock lock;
    struct thread *thread;
    bool stopping;
    int wake[2]; /* a byte in here ends a tick early */
    int max_connections, header_deadline_ms, idle_ms, min_rate;
    struct watch_conn *conns;
    int n_conns;
    struct lingering lingers[MAX_LINGER];
    int n_lingers;
};

static void wake(struct watch *watch) {
    char byte = 0;
    if (write(watch->wake[1], &byte, 1) < 0)
        return; /* full: it is awake already */
}

static void linger_locked(struct watch *watch, struct watch_conn *conn, bool shut) {
    if (conn->lingers || watch->n_lingers == MAX_LINGER)
        return;
    int fd = fcntl(conn->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return;
    conn->lingers = true;
    watch->lingers[watch->n_lingers++] = (struct lingering){
        .fd = fd,
        .shut = shut,
        .deadline_ms = time_mono_ms() + (shut ? LINGER_SHUT_MS : LINGER_MS)};
    wake(watch);
}

/* Says why, if nothing of a reply can be under way, and ends the connection. */
static void refuse_locked(struct watch *watch, struct watch_conn *conn, int status,
                          const char *code, const char *message) {
    char reply[512];
    int body_len = snprintf(reply, sizeof(reply),
                            "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"},\"detail\":\"%s\"}",
                            code, message, message);
    char head[768];
    int len = snprintf(head, sizeof(head),
                       "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                       "Connection: close\r\n%s\r\n%s",
                       status, http_status_text(status), body_len,
                       status == 503 ? "Retry-After: 1\r\n" : "", reply);
    if (send(conn->fd, head, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len)
        linger_locked(watch, conn, true);
    shutdown(conn->fd, SHUT_RDWR);
    conn->shut = true;
}

struct watch_conn *watch_enter(struct watch *watch, int fd) {
    struct watch_conn *conn = mem_alloc(sizeof(*conn));
    lock_take(&watch->lock);
    conn->fd = fd;
    conn->first = true;
    conn->state = WATCH_HEADER;
    conn->since_ms = time_mono_ms();
    conn->next = watch->conns;
    if (conn->next)
        conn->next->prev = conn;
    watch->conns = conn;
    if (++watch->n_conns > watch->max_connections)
        refuse_locked(watch, conn, 503, "busy", "too many connections");
    lock_drop(&watch->lock);
    return conn;
}

void watch_leave(struct watch *watch, struct watch_conn *conn) {
    lock_take(&watch->lock);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        watch->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    watch->n_conns--;
    lock_drop(&watch->lock);
    mem_free(conn);
}

void watch_set(struct watch *watch, struct watch_conn *conn, enum watch_state state,
               int64_t reply_bytes) {
    int64_t now = time_mono_ms();
    lock_take(&watch->lock);
    if (conn->state == WATCH_REPLY || conn->state == WATCH_STREAM)
        conn->first = false;
    if (state == WATCH_BODY && !conn->in_body) {
        conn->in_body = true;
        conn->window_ms = now;
        conn->window_bytes = 0;
    } else if (state == WATCH_BODY && conn->state == WATCH_WORK) {
        conn->window_ms += now - conn->since_ms; /* our own time is not the client's */
    } else if (state != WATCH_BODY && state != WATCH_WORK) {
        conn->in_body = false;
    }
    conn->state = state;
    conn->since_ms = now;
    conn->deadline_ms = now + REPLY_GRACE_MS + reply_bytes * 1000 / MIN_REPLY_RATE;
    lock_drop(&watch->lock);
}

void watch_body_bytes(struct watch *watch, struct watch_conn *conn, size_t len) {
    lock_take(&watch->lock);
    conn->window_bytes += (int64_t)len;
    lock_drop(&watch->lock);
}

void watch_linger(struct watch *watch, struct watch_conn *conn) {
    lock_take(&watch->lock);
    linger_locked(watch, conn, false);
    lock_drop(&watch->lock);
}

int watch_count(struct watch *watch) {
    lock_take(&watch->lock);
    int n = watch->n_conns;
    lock_drop(&watch->lock);
    return n;
}

static void look_at(struct watch *watch, struct watch_conn *conn, int64_t now) {
    if (conn->shut)
        return;
    switch (conn->state) {
    case WATCH_HEADER:
        if (conn->first && now - conn->since_ms > watch->header_deadline_ms)
            refuse_locked(watch, conn, 408, "timeout", "the request's head did not arrive in time");
        else if (!conn->first && now - conn->since_ms > watch->idle_ms)
            refuse_locked(watch, conn, 408, "timeout", "no request on this connection");
        break;
    case WATCH_BODY:
        if (now - conn->window_ms < RATE_WINDOW_MS)
            break;
        if (conn->window_bytes * 1000 < (int64_t)watch->min_rate * (now - conn->window_ms))
            refuse_locked(watch, conn, 408, "timeout", "the request's body arrives too slowly");
        conn->window_ms = now;
        conn->window_bytes = 0;
        break;
    case WATCH_REPLY:
        if (now > conn->deadline_ms) {
            shutdown(conn->fd, SHUT_RDWR);
            conn->shut = true;
        }
        break;
    case WATCH_WORK:
    case WATCH_STREAM:
        break;
    }
}

/* Reads away what a client still sends after its answer; false at its end or its time's. */
static bool drain(struct lingering *linger, int64_t now) {
    char waste[16384];
    for (int i = 0; i < 64; i++) {
        ssize_t n = recv(linger->fd, waste, sizeof(waste), MSG_DONTWAIT);
        if ((n == 0 && !linger->shut) || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n <= 0)
            break;
    }
    return now < linger->deadline_ms;
}

static void run(void *arg) {
    struct watch *watch = arg;
    int64_t next_look = 0;
    for (;;) {
        struct pollfd fds[MAX_LINGER + 1];
        int n_fds = 1;
        lock_take(&watch->lock);
        bool stopping = watch->stopping;
        fds[0] = (struct pollfd){.fd = watch->wake[0], .events = POLLIN};
        for (int i = 0; i < watch->n_lingers; i++)
            if (!watch->lingers[i].shut)
                fds[n_fds++] = (struct pollfd){.fd = watch->lingers[i].fd, .events = POLLIN};
        lock_drop(&watch->lock);
        if (stopping)
            return;
        poll(fds, (nfds_t)n_fds, TICK_MS);
        char bytes[64];
        while (read(watch->wake[0], bytes, sizeof(bytes)) > 0)
            ;
        int64_t now = time_mono_ms();
        lock_take(&watch->lock);
        for (int i = 0; i < watch->n_lingers;) {
            if (drain(&watch->lingers[i], now)) {
                i++;
            } else {
                close(watch->lingers[i].fd);
                watch->lingers[i] = watch->lingers[--watch->n_lingers];
            }
        }
        if (now >= next_look) {
            for (struct watch_conn *conn = watch->conns; conn; conn = conn->next)
                look_at(watch, conn, now);
            next_look = now + TICK_MS;
        }
        lock_drop(&watch->lock);
    }
}

bool watch_open(struct watch **out, const struct http_server_options *options, struct error *err) {
    struct watch *watch = mem_alloc(sizeof(*watch));
    lock_init(&watch->lock, LOCK_HTTP);
    watch->max_connections = options->max_connections;
    watch->header_deadline_ms = options->header_deadline_ms;
    watch->idle_ms = options->idle_ms;
    watch->min_rate = options->min_rate;
    watch->wake[0] = watch->wake[1] = -1;
    if (pipe2(watch->wake, O_CLOEXEC | O_NONBLOCK) != 0) {
        error_set_errno(err, errno, "pipe");
        goto fail;
    }
    if (!thread_start(&watch->thread, "http-watch", run, watch, err))
        goto fail;
    *out = watch;
    return true;
fail:
    watch_close(watch);
    return false;
}

void watch_close(struct watch *watch) {
    if (!watch)
        return;
    lock_take(&watch->lock);
    watch->stopping = true;
    lock_drop(&watch->lock);
    if (watch->thread) {
        wake(watch);
        thread_join(watch->thread);
    }
    for (int i = 0; i < watch->n_lingers; i++)
        close(watch->lingers[i].fd);
    for (int i = 0; i < 2; i++)
        if (watch->wake[i] >= 0)
            close(watch->wake[i]);
    lock_fini(&watch->lock);
    mem_free(watch);
}
