/* A tree of folders watched by kqueue, one open folder each: it tells which folder changed, not
 * what in it, and nothing of files that are written to. */
#include "base/notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/event.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef O_EVTONLY
#define O_EVTONLY O_RDONLY
#endif

#define MAX_DEPTH 64
#define EVENTS 64
#define WAKE 1
#define GOING (NOTE_DELETE | NOTE_RENAME | NOTE_REVOKE)
#define WATCHED (NOTE_WRITE | GOING)

struct folder {
    int fd;     /* -1: this place is free */
    char *path; /* below root; "" root itself */
};
struct notify {
    char *root;
    int queue;
    struct folder *folders; /* an event's udata is the place; root's is 0 */
    size_t n, cap;
    int n_unwatched;
};

static bool is_watched(const struct notify *notify, const char *path) {
    for (size_t i = 0; i < notify->n; i++) {
        if (notify->folders[i].fd >= 0 && strcmp(notify->folders[i].path, path) == 0)
            return true;
    }
    return false;
}

static void forget_at(struct notify *notify, size_t at) {
    close(notify->folders[at].fd); /* its events go with it */
    mem_free(notify->folders[at].path);
    notify->folders[at] = (struct folder){.fd = -1};
}

static size_t free_place(struct notify *notify) {
    for (size_t i = 0; i < notify->n; i++) {
        if (notify->folders[i].fd < 0)
            return i;
    }
    if (notify->n == notify->cap) {
        notify->cap = notify->cap ? notify->cap * 2 : 32;
        notify->folders = mem_grow(notify->folders, notify->cap, sizeof *notify->folders);
    }
    return notify->n++;
}

static bool watch_one(struct notify *notify, const char *whole, const char *path) {
    struct kevent change;
    int fd = open(whole, O_EVTONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t at = free_place(notify);
    notify->folders[at] = (struct folder){fd, mem_strdup(path)};
    EV_SET(&change, (uintptr_t)fd, EVFILT_VNODE, EV_ADD | EV_CLEAR, WATCHED, 0, (void *)at);
    if (kevent(notify->queue, &change, 1, NULL, 0, NULL) == 0)
        return true;
    forget_at(notify, at);
    return false;
}

/* The folder and those below it that are not watched yet. */
static bool watch_tree(struct notify *notify, const char *path, int depth) {
    char *whole = mem_printf("%s%s%s", notify->root, *path ? "/" : "", path);
    bool ok = is_watched(notify, path) || watch_one(notify, whole, path);
    if (!ok && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        notify->n_unwatched++;
    DIR *dir = ok && depth < MAX_DEPTH ? opendir(whole) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        struct stat st;
        if (entry->d_name[0] == '.' ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(st.st_mode))
            continue;
        char *below = mem_printf("%s%s%s", path, *path ? "/" : "", entry->d_name);
        watch_tree(notify, below, depth + 1);
        mem_free(below);
    }
    if (dir)
        closedir(dir);
    mem_free(whole);
    return ok;
}

bool notify_open(struct notify **out, const char *root, struct error *err) {
    struct notify *notify = mem_alloc(sizeof *notify);
    struct kevent change;
    notify->root = mem_strdup(root);
    notify->queue = kqueue();
    EV_SET(&change, WAKE, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    if (notify->queue < 0 || kevent(notify->queue, &change, 1, NULL, 0, NULL) != 0) {
        error_set(err, ERROR_UNSUPPORTED, "kqueue: %s", strerror(errno));
        goto fail;
    }
    if (!watch_tree(notify, "", 0)) {
        error_set(err, ERROR_MISSING, "%s: %s", root, strerror(errno));
        goto fail;
    }
    *out = notify;
    return true;
fail:
    notify_close(notify);
    return false;
}

void notify_close(struct notify *notify) {
    if (!notify)
        return;
    for (size_t i = 0; i < notify->n; i++) {
        if (notify->folders[i].fd >= 0)
            forget_at(notify, i);
    }
    if (notify->queue >= 0)
        close(notify->queue);
    mem_free(notify->folders);
    mem_free(notify->root);
    mem_free(notify);
}

static void forget_tree(struct notify *notify, const char *path) {
    size_t len = strlen(path);
    for (size_t i = 0; i < notify->n; i++) {
        const char *at = notify->folders[i].fd >= 0 ? notify->folders[i].path : NULL;
        if (at && strncmp(at, path, len) == 0 && (at[len] == '/' || at[len] == '\0'))
            forget_at(notify, i);
    }
}

static enum notify_result take_event(struct notify *notify, const struct kevent *event,
                                     notify_visitor visit, void *ctx) {
    size_t at = (size_t)event->udata;
    if (event->filter != EVFILT_VNODE || at >= notify->n ||
        notify->folders[at].fd != (int)event->ident)
        return NOTIFY_QUIET;
    char *path = mem_strdup(notify->folders[at].path);
    bool going = event->fflags & GOING;
    if (going && !*path) {
        mem_free(path);
        return NOTIFY_LOST;
    }
    if (going)
        forget_tree(notify, path);
    else
        watch_tree(notify, path, 0);
    visit(ctx, path);
    mem_free(path);
    return NOTIFY_SOME;
}

enum notify_result notify_wait(struct notify *notify, int64_t deadline_ms, notify_visitor visit,
                               void *ctx) {
    struct kevent events[EVENTS];
    enum notify_result result = NOTIFY_QUIET;
    int64_t left_ms = deadline_ms - time_mono_ms();
    left_ms = left_ms < 0 ? 0 : left_ms;
    struct timespec left = {.tv_sec = (time_t)(left_ms / 1000),
                            .tv_nsec = (long)(left_ms % 1000) * 1000000};
    int n = kevent(notify->queue, NULL, 0, events, EVENTS, &left);
    for (int i = 0; i < n && result != NOTIFY_LOST; i++) {
        enum notify_result one = take_event(notify, &events[i], visit, ctx);
        result = one > result ? one : result;
    }
    return result;
}

int notify_unwatched(const struct notify *notify) {
    return notify->n_unwatched;
}

void notify_wake(struct notify *notify) {
    struct kevent change;
    EV_SET(&change, WAKE, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    kevent(notify->queue, &change, 1, NULL, 0, NULL);
}
