/* The data folder's lock: flock on <data_dir>/lock, whose bytes are "pid url\n". The kernel lets it
 * go with its process, so a lock file that is left behind holds nobody up. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct store_lock {
    int fd;
    char *path;
};

static bool write_holder(struct store_lock *lock, const char *url, struct error *err) {
    char *line = mem_printf("%ld %s\n", (long)getpid(), url);
    size_t len = strlen(line);
    bool ok = pwrite(lock->fd, line, len, 0) == (ssize_t)len &&
              ftruncate(lock->fd, (off_t)len) == 0;
    if (!ok)
        error_set_errno(err, errno, "lock file %s", lock->path);
    mem_free(line);
    return ok;
}

static bool name_holder(char **holder_url, const struct store_lock *lock, const char *data_dir,
                        struct error *err) {
    char line[512];
    ssize_t n = pread(lock->fd, line, sizeof line - 1, 0);
    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    char *url = strchr(line, ' ');
    if (url)
        *url++ = '\0';
    else
        url = line + strlen(line);
    if (holder_url)
        *holder_url = mem_strdup(url);
    return error_set_code(err, ERROR_BUSY, "data_folder_in_use",
                          "the data folder %s is in use by process %s%s%s", data_dir,
                          line[0] ? line : "(unknown)", url[0] ? " at " : "", url);
}

bool store_lock_take(struct store_lock **out, char **holder_url, const char *data_dir,
                     struct error *err) {
    if (holder_url)
        *holder_url = NULL;
    if (!dir_make(data_dir, err))
        return false;
    struct store_lock *lock = mem_alloc(sizeof *lock);
    lock->path = mem_printf("%s/lock", data_dir);
    lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock->fd < 0) {
        error_set_errno(err, errno, "lock file %s", lock->path);
        goto fail;
    }
    int rc;
    do
        rc = flock(lock->fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        if (errno == EWOULDBLOCK)
            name_holder(holder_url, lock, data_dir, err);
        else
            error_set_errno(err, errno, "lock file %s", lock->path);
        goto fail;
    }
    if (!write_holder(lock, "", err))
        goto fail;
    *out = lock;
    return true;
fail:
    store_lock_release(lock);
    return false;
}

bool store_lock_set_url(struct store_lock *lock, const char *url, struct error *err) {
    return write_holder(lock, url, err);
}

void store_lock_release(struct store_lock *lock) {
    if (!lock)
        return;
    if (lock->fd >= 0)
        close(lock->fd);
    mem_free(lock->path);
    mem_free(lock);
}
