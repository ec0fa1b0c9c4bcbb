/* A tree of folders watched by inotify, one watch a folder.
 *
 * A folder that comes is watched before it is told of, and told of as a whole: what came into it
 * before the watch stood is found by whoever looks. Watches follow a folder that is moved, so one
 * that leaves its place gives its watch back, and gets a new one where it turns up. */
#include "base/notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 64
#define EVENT_BYTES (64 * 1024)
/* Not IN_MODIFY: a file that grows would be told of with every write. */
#define WATCHED                                                                                    \
    (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF |       \
     IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK)

struct folder {
    int wd;
    char *path; /* below root; "" root itself */
};
struct notify {
    char *root;
    int fd, wake_fd;
    struct folder *folders; /* ascending by wd */
    size_t n, cap;
    int n_unwatched;
    char *events;
};

/* Where wd stands, or would. */
static size_t place_of(const struct notify *notify, int wd) {
    size_t from = 0, to = notify->n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (notify->folders[middle].wd < wd)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct folder *lookup(struct notify *notify, int wd) {
    size_t at = place_of(notify, wd);
    return at < notify->n && notify->folders[at].wd == wd ? &notify->folders[at] : NULL;
}

static void forget_at(struct notify *notify, size_t at) {
    mem_free(notify->folders[at].path);
    memmove(notify->folders + at, notify->folders + at + 1,
            (notify->n - at - 1) * sizeof *notify->folders);
    notify->n--;
}

/* The same folder keeps its number: only its path may be another. */
static void remember(struct notify *notify, int wd, const char *path) {
    struct folder *known = lookup(notify, wd);
    if (known) {
        mem_free(known->path);
        known->path = mem_strdup(path);
        return;
    }
    if (notify->n == notify->cap) {
        notify->cap = notify->cap ? notify->cap * 2 : 32;
        notify->folders = mem_grow(notify->folders, notify->cap, sizeof *notify->folders);
    }
    size_t at = place_of(notify, wd);
    memmove(notify->folders + at + 1, notify->folders + at,
            (notify->n - at) * sizeof *notify->folders);
    notify->folders[at] = (struct folder){wd, mem_strdup(path)};
    notify->n++;
}

static char *join(const char *folder, const char *name) {
    return mem_printf("%s%s%s", folder, *folder && *name ? "/" : "", name);
}

/* The folder and those below it; what is gone meanwhile is passed over. */
static bool watch_tree(struct notify *notify, const char *path, int depth) {
    char *whole = mem_printf("%s%s%s", notify->root, *path ? "/" : "", path);
    int wd = inotify_add_watch(notify->fd, whole, WATCHED);
    bool ok = wd >= 0;
    if (ok)
        remember(notify, wd, path);
    else if (errno == ENOSPC || errno == ENOMEM)
        notify->n_unwatched++;
    DIR *dir = ok && depth < MAX_DEPTH ? opendir(whole) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        struct stat st;
        bool folder = entry->d_type == DT_DIR ||
                      (entry->d_type == DT_UNKNOWN &&
                       fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                       S_ISDIR(st.st_mode));
        if (!folder || entry->d_name[0] == '.')
            continue;
        char *below = join(path, entry->d_name);
        watch_tree(notify, below, depth + 1);
        mem_free(below);
    }
    if (dir)
        closedir(dir);
    mem_free(whole);
    return ok;
}

static void unwatch_tree(struct notify *notify, const char *path) {
    size_t len = strlen(path);
    for (size_t i = notify->n; i-- > 0;) {
        const char *at = notify->folders[i].path;
        if (strncmp(at, path, len) == 0 && (at[len] == '/' || at[len] == '\0')) {
            inotify_rm_watch(notify->fd, notify->folders[i].wd);
            forget_at(notify, i);
        }
    }
}

bool notify_open(struct notify **out, const char *root, struct error *err) {
    struct notify *notify = mem_alloc(sizeof *notify);
    notify->root = mem_strdup(root);
    notify->events = mem_alloc(EVENT_BYTES);
    notify->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    notify->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (notify->fd < 0 || notify->wake_fd < 0) {
        error_set(err, ERROR_UNSUPPORTED, "inotify: %s", strerror(errno));
        goto fail;
    }
    if (!watch_tree(notify, "", 0)) {
        error_set(err, errno == ENOSPC ? ERROR_UNSUPPORTED : ERROR_MISSING, "%s: %s", root,
                  strerror(errno));
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
    if (notify->fd >= 0)
        close(notify->fd);
    if (notify->wake_fd >= 0)
        close(notify->wake_fd);
    for (size_t i = 0; i < notify->n; i++)
        mem_free(notify->folders[i].path);
    mem_free(notify->folders);
    mem_free(notify->events);
    mem_free(notify->root);
    mem_free(notify);
}

static enum notify_result worse(enum notify_result a, enum notify_result b) {
    return a > b ? a : b;
}

static enum notify_result take_event(struct notify *notify, const struct inotify_event *event,
                                     notify_visitor visit, void *ctx) {
    if (event->mask & IN_Q_OVERFLOW)
        return NOTIFY_RESCAN;
    struct folder *folder = lookup(notify, event->wd);
    if (!folder)
        return NOTIFY_QUIET; /* of a watch that was given back */
    bool root = folder->path[0] == '\0';
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) {
        if (root)
            return NOTIFY_LOST;
        /* Its own folder tells of a move; here nothing else is told of its going. */
        if (event->mask & (IN_IGNORED | IN_UNMOUNT)) {
            visit(ctx, folder->path);
            forget_at(notify, (size_t)(folder - notify->folders));
            return NOTIFY_SOME;
        }
        return NOTIFY_QUIET;
    }
    if (event->len == 0)
        return NOTIFY_QUIET;
    char *path = join(folder->path, event->name);
    if (event->mask & IN_ISDIR && event->name[0] != '.') {
        if (event->mask & IN_MOVED_FROM)
            unwatch_tree(notify, path);
        if (event->mask & (IN_CREATE | IN_MOVED_TO))
            watch_tree(notify, path, 0);
    }
    visit(ctx, path);
    mem_free(path);
    return NOTIFY_SOME;
}

static enum notify_result take_events(struct notify *notify, notify_visitor visit, void *ctx) {
    enum notify_result result = NOTIFY_QUIET;
    ssize_t len;
    while (result != NOTIFY_LOST && (len = read(notify->fd, notify->events, EVENT_BYTES)) > 0) {
        for (ssize_t at = 0; at < len;) {
            struct inotify_event head;
            memcpy(&head, notify->events + at, sizeof head);
            const struct inotify_event *event = (const void *)(notify->events + at);
            result = worse(result, take_event(notify, event, visit, ctx));
            at += (ssize_t)(sizeof head + head.len);
        }
    }
    /* Folders that came while events were lost have no watch yet. */
    if (result == NOTIFY_RESCAN)
        watch_tree(notify, "", 0);
    return result;
}

enum notify_result notify_wait(struct notify *notify, int64_t deadline_ms, notify_visitor visit,
                               void *ctx) {
    struct pollfd fds[] = {{.fd = notify->fd, .events = POLLIN},
                           {.fd = notify->wake_fd, .events = POLLIN}};
    int64_t left_ms = deadline_ms - time_mono_ms();
    left_ms = left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : left_ms;
    if (poll(fds, 2, (int)left_ms) <= 0)
        return NOTIFY_QUIET;
    uint64_t count;
    if (fds[1].revents && read(notify->wake_fd, &count, sizeof count) < 0)
        return NOTIFY_QUIET;
    return fds[0].revents ? take_events(notify, visit, ctx) : NOTIFY_QUIET;
}

int notify_unwatched(const struct notify *notify) {
    return notify->n_unwatched;
}

void notify_wake(struct notify *notify) {
    uint64_t one = 1;
    ssize_t n = write(notify->wake_fd, &one, sizeof one); /* full: it is awake already */
    (void)n;
}
