/* Files and folders: whole reads with a stated maximum, writes that are on the disk when they
 * return, removal that stays inside its tree.
 *
 * A durable write is: temporary file in the same folder, write, fsync, rename, fsync of the folder.
 * A crash at any point leaves the old file or the new one, and at most a `.tmp-…` beside it. */
#include "base/base.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)
#define MAX_TREE_DEPTH 256

char *path_join(struct arena *arena, const char *dir, const char *name) {
    size_t len = strlen(dir);
    const char *slash = len == 0 || dir[len - 1] == '/' ? "" : "/";
    return arena_printf(arena, "%s%s%s", dir, slash, name);
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The folder path lies in, the caller's. */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".");
    if (slash == path)
        return mem_strdup("/");
    char *dir = mem_strdup(path);
    dir[slash - path] = '\0';
    return dir;
}

static bool make_one(const char *path, struct error *err) {
    if (mkdir(path, 0700) == 0)
        return true;
    int errnum = errno;
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return true;
        return error_set(err, ERROR_CONFLICT, "%s is not a folder", path);
    }
    return error_set_errno(err, errnum, "folder %s", path);
}

bool dir_make(const char *path, struct error *err) {
    char *part = mem_strdup(path);
    bool ok = true;
    for (char *slash = strchr(part + (part[0] == '/'), '/'); ok && slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        ok = make_one(part, err);
        *slash = '/';
    }
    ok = ok && make_one(part, err);
    mem_free(part);
    return ok;
}

bool dir_sync(const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "folder %s", path);
    bool ok = fsync(fd) == 0;
    if (!ok)
        error_set_errno(err, errno, "sync of folder %s", path);
    close(fd);
    return ok;
}

static bool remove_at(int parent_fd, const char *name, int depth, struct error *err);

/* Empties the folder behind fd, which it closes. */
static bool empty_dir(int fd, const char *name, int depth, struct error *err) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        error_set_errno(err, errno, "folder %s", name);
        close(fd);
        return false;
    }
    bool ok = true;
    while (ok) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno != 0)
                ok = error_set_errno(err, errno, "folder %s", name);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = remove_at(dirfd(dir), entry->d_name, depth, err);
    }
    closedir(dir);
    return ok;
}

static bool remove_at(int parent_fd, const char *name, int depth, struct error *err) {
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
        return true;
    int unlink_errno = errno;
    if (depth >= MAX_TREE_DEPTH)
        return error_set(err, ERROR_LIMIT, "%s lies more than %d folders deep", name,
                         MAX_TREE_DEPTH);
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return true;
        bool not_dir = errno == ENOTDIR || errno == ELOOP;
        return error_set_errno(err, not_dir ? unlink_errno : errno, "removal of %s", name);
    }
    if (!empty_dir(fd, name, depth + 1, err))
        return false;
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "removal of folder %s", name);
    return true;
}

bool dir_remove(const char *path, struct error *err) {
    return remove_at(AT_FDCWD, path, 0, err);
}

bool fd_write_all(int fd, const void *data, size_t len, struct error *err) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n >= 0) {
            at += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, -1);
        } else if (errno != EINTR) {
            return error_set_errno(err, errno, "write");
        }
    }
    return true;
}

bool file_write_durable(const char *path, const void *data, size_t len, struct error *err) {
    char *dir = parent_of(path);
    char *temp = mem_printf("%s/.tmp-XXXXXX", dir);
    bool made = false, ok = false;
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(err, errno, "file in %s", dir);
        goto done;
    }
    made = true;
    if (!fd_write_all(fd, data, len, err)) {
        error_prefix(err, "%s: ", path);
        goto done;
    }
    if (fsync(fd) != 0) {
        error_set_errno(err, errno, "sync of %s", path);
        goto done;
    }
    int closed = close(fd);
    fd = -1;
    if (closed != 0 || rename(temp, path) != 0) {
        error_set_errno(err, errno, "file %s", path);
        goto done;
    }
    made = false;
    ok = dir_sync(dir, err);
done:
    if (fd >= 0)
        close(fd);
    if (made)
        unlink(temp);
    mem_free(temp);
    mem_free(dir);
    return ok;
}

/* -1 at an error (err set), 0 at the end. */
static ssize_t read_some(int fd, void *data, size_t len, const char *path, struct error *err) {
    ssize_t n;
    do
        n = read(fd, data, len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        error_set_errno(err, errno, "file %s", path);
    return n;
}

/* Also reads what has no size of its own (pipes, /proc), so the size found is only a hint. */
static bool read_all(struct buf *out, int fd, const char *path, struct error *err) {
    size_t chunk = READ_BYTES;
    char *scratch = mem_alloc(chunk);
    ssize_t n;
    while ((n = read_some(fd, scratch, chunk, path, err)) > 0) {
        buf_append(out, scratch, (size_t)n);
        if (out->failed) {
            error_set(err, ERROR_LIMIT, "%s is larger than %zu bytes", path, out->max);
            n = -1;
            break;
        }
    }
    mem_free(scratch);
    return n == 0;
}

bool file_read(char **data, size_t *len, const char *path, size_t max_bytes, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "file %s", path);
    /* max 0 would mean buf's own default */
    struct buf bytes = {.max = max_bytes ? max_bytes : 1};
    bool ok = read_all(&bytes, fd, path, err);
    close(fd);
    if (ok && bytes.len > max_bytes)
        ok = error_set(err, ERROR_LIMIT, "%s is larger than %zu bytes", path, max_bytes);
    if (!ok) {
        buf_fini(&bytes);
        return false;
    }
    *len = bytes.len;
    *data = buf_take(&bytes);
    return true;
}

bool file_sha256(char out[SHA256_HEX + 1], int64_t *size_bytes, const char *path,
                 struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "file %s", path);
    struct sha256 *hash = sha256_new();
    char *scratch = mem_alloc(READ_BYTES);
    int64_t total = 0;
    ssize_t n;
    while ((n = read_some(fd, scratch, READ_BYTES, path, err)) > 0) {
        sha256_update(hash, scratch, (size_t)n);
        total += n;
    }
    mem_free(scratch);
    close(fd);
    char hex[SHA256_HEX + 1];
    sha256_finish(hex, hash);
    if (n < 0)
        return false;
    memcpy(out, hex, sizeof hex);
    if (size_bytes)
        *size_bytes = total;
    return true;
}

bool disk_free_bytes(int64_t *out, const char *path, struct error *err) {
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return error_set_errno(err, errno, "disk of %s", path);
    *out = (int64_t)info.f_bavail * (int64_t)info.f_frsize;
    return true;
}
