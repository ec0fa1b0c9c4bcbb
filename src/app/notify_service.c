/* What a service manager is told, in systemd's protocol (sd_notify(3)): datagrams of NAME=value
 * lines to the socket that NOTIFY_SOCKET names, "@…" standing for an abstract one. Where the
 * variable is not set nothing is told, and nothing here does anything.
 *
 * The watchdog asks the server itself for /health at half the time the manager gives it
 * (WATCHDOG_USEC) and tells the manager only of an answer. A server that stops answering is thus
 * found, and started again, also where its process is alive. While the server ends on purpose it is
 * told without asking: how long that may take is the manager's other limit. */
#include "app/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LEAST_PERIOD_MS 50
#define RETRY_SHARE 8 /* a period's, after a question without an answer */

struct service {
    int fd;
    struct sockaddr_un to;
    socklen_t to_len;
    bool warned;
    int64_t period_ms; /* 0: no watchdog */
    char *url;
    struct thread *watchdog;
    struct lock lock; /* LOCK_CORPUS, over what follows */
    struct signal_cond changed;
    bool stopping, ended;
};

/* False where the name is none that a socket can have. */
static bool address(struct service *service, const char *name) {
    size_t len = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof service->to.sun_path)
        return false;
    service->to.sun_family = AF_UNIX;
    memcpy(service->to.sun_path, name, len);
    if (name[0] == '@')
        service->to.sun_path[0] = '\0';
    else
        len++;
    service->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

/* Half of what the manager allows; 0 where it does not watch, or watches another process. */
static int64_t watchdog_period_ms(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t value;
    if (pid && (!text_to_int(&value, pid, 1, INT32_MAX, "WATCHDOG_PID", NULL) || value != getpid()))
        return 0;
    if (!usec || !text_to_int(&value, usec, 1, INT64_MAX, "WATCHDOG_USEC", NULL))
        return 0;
    int64_t period_ms = value / 2000;
    return period_ms < LEAST_PERIOD_MS ? LEAST_PERIOD_MS : period_ms;
}

struct service *service_open(void) {
    const char *name = getenv("NOTIFY_SOCKET");
    if (!name || !*name)
        return NULL;
    struct service *service = mem_alloc(sizeof *service);
    if (!address(service, name)) {
        log_warn("NOTIFY_SOCKET %s is no socket's name: the service manager is told nothing", name);
        mem_free(service);
        return NULL;
    }
    service->fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (service->fd < 0) {
        log_warn("NOTIFY_SOCKET: %s", strerror(errno));
        mem_free(service);
        return NULL;
    }
    fcntl(service->fd, F_SETFD, FD_CLOEXEC);
    lock_init(&service->lock, LOCK_CORPUS);
    cond_init(&service->changed);
    service->period_ms = watchdog_period_ms();
    return service;
}

/* One datagram. A manager that cannot be reached is said once. */
static void tell(struct service *service, const char *text) {
    if (sendto(service->fd, text, strlen(text), 0, (struct sockaddr *)&service->to,
               service->to_len) >= 0)
        return;
    int errnum = errno;
    lock_take(&service->lock);
    bool said = service->warned;
    service->warned = true;
    lock_drop(&service->lock);
    if (!said)
        log_warn("the service manager cannot be told (NOTIFY_SOCKET): %s", strerror(errnum));
}

/* `STATUS=` is one line. */
static void tell_status(struct service *service, const char *first, const char *status) {
    struct buf text = {0};
    buf_printf(&text, "%sSTATUS=%s", first, status);
    for (char *c = text.data + strlen(first); *c; c++) {
        if (*c == '\n')
            *c = ' ';
    }
    tell(service, text.data);
    buf_fini(&text);
}

void service_status(struct service *service, const char *status) {
    if (service)
        tell_status(service, "", status);
}

/* Any answer will do: one that says "not ready" is an answer too. */
static bool answers(const char *url) {
    struct http_client *client;
    struct http_reply reply;
    struct error err;
    if (!http_client_open(&client, url, NULL, &err))
        return false;
    bool ok = http_client_call(&reply, client, "GET", "/health", NULL, &err);
    if (ok)
        http_reply_fini(&reply);
    http_client_close(client);
    return ok;
}

static void watch(void *arg) {
    struct service *service = arg;
    bool stopping = false;
    for (;;) {
        bool ok = stopping || answers(service->url);
        if (ok)
            tell(service, "WATCHDOG=1");
        int64_t wait_ms = ok ? service->period_ms : service->period_ms / RETRY_SHARE;
        int64_t deadline_ms = time_mono_ms() + wait_ms;
        lock_take(&service->lock);
        while (!service->ended && service->stopping == stopping &&
               cond_wait(&service->changed, &service->lock, deadline_ms))
            continue;
        stopping = service->stopping;
        bool ended = service->ended;
        lock_drop(&service->lock);
        if (ended)
            return;
    }
}

void service_ready(struct service *service, const char *url) {
    if (!service)
        return;
    char status[128];
    snprintf(status, sizeof status, "Serving on %s", url);
    tell_status(service, "READY=1\n", status);
    service->url = mem_strdup(url);
    struct error err;
    if (service->period_ms && !thread_start(&service->watchdog, "watchdog", watch, service, &err))
        log_warn("no watchdog: %s", err.text);
}

static void set(struct service *service, bool *flag) {
    lock_take(&service->lock);
    *flag = true;
    cond_wake_all(&service->changed);
    lock_drop(&service->lock);
}

void service_stopping(struct service *service) {
    if (!service)
        return;
    tell_status(service, "STOPPING=1\n", "Stopping");
    set(service, &service->stopping);
}

void service_close(struct service *service) {
    if (!service)
        return;
    set(service, &service->ended);
    thread_join(service->watchdog);
    close(service->fd);
    cond_fini(&service->changed);
    lock_fini(&service->lock);
    mem_free(service->url);
    mem_free(service);
}
