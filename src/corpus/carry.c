/* Files from one folder to another: linked, or copied. */
#include "corpus/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)256 << 10)

#ifdef __APPLE__
#define MODIFIED(info) (info).st_mtimespec
#else
#define MODIFIED(info) (info).st_mtim
#endif

static bool open_regular(int *fd, struct stat *info, bool *found, const char *path,
                         struct error *err) {
    /* O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *found = *fd >= 0;
    if (*fd < 0 && errno == ELOOP)
        return error_set(err, ERROR_INPUT, "%s is a link, and no file", path);
    if (*fd < 0)
        return errno == ENOENT || error_set_errno(err, errno, "%s", path);
    if (fstat(*fd, info) == 0 && S_ISREG(info->st_mode))
        return true;
    close(*fd);
    return error_set(err, ERROR_INPUT, "%s is not a file", path);
}

bool corpus_carry_look(struct carried *out, bool *found, const char *path, struct error *err) {
    struct stat info;
    *out = (struct carried){0};
    *found = lstat(path, &info) == 0;
    if (!*found)
        return errno == ENOENT || errno == ENOTDIR || error_set_errno(err, errno, "%s", path);
    if (!S_ISREG(info.st_mode))
        return error_set(err, ERROR_INPUT, "%s is not a file", path);
    *out = (struct carried){.size_bytes = info.st_size,
                            .modified_ns = (int64_t)MODIFIED(info).tv_sec * 1000000000 +
                                           MODIFIED(info).tv_nsec,
                            .device = (uint64_t)info.st_dev,
                            .inode = (uint64_t)info.st_ino};
    return true;
}

/* True with n 0 at the end. */
static bool read_block(ssize_t *n, int fd, char *block, const char *path, struct error *err) {
    do
        *n = read(fd, block, BLOCK_BYTES);
    while (*n < 0 && errno == EINTR);
    return *n >= 0 || error_set_errno(err, errno, "%s", path);
}

static bool copy_bytes(int to, int from, const struct stat *info, const char *from_path,
                       const char *to_path, bool sync, struct error *err) {
    char *block = mem_alloc(BLOCK_BYTES);
    ssize_t n = 0;
    bool ok;
    while ((ok = read_block(&n, from, block, from_path, err)) && n > 0) {
        if (!fd_write_all(to, block, (size_t)n, err)) {
            error_prefix(err, "%s: ", to_path);
            ok = false;
            break;
        }
    }
    mem_free(block);
    struct timespec times[2] = {MODIFIED(*info), MODIFIED(*info)};
    if (ok && futimens(to, times) != 0)
        ok = error_set_errno(err, errno, "%s", to_path);
    if (ok && sync && fsync(to) != 0)
        ok = error_set_errno(err, errno, "sync of %s", to_path);
    return ok;
}

static bool copy(bool *found, const char *from, const char *to, bool sync, struct error *err) {
    struct stat info;
    int in, out;
    if (!open_regular(&in, &info, found, from, err))
        return false;
    if (!*found)
        return true;
    char *part = mem_printf("%s.part", to);
    out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = out >= 0 || error_set_errno(err, errno, "%s", part);
    if (ok) {
        ok = copy_bytes(out, in, &info, from, part, sync, err);
        if (close(out) != 0 && ok)
            ok = error_set_errno(err, errno, "%s", part);
        if (ok && rename(part, to) != 0)
            ok = error_set_errno(err, errno, "%s", to);
        if (!ok)
            unlink(part);
    }
    close(in);
    mem_free(part);
    return ok;
}

/* Not another file of the same name, and not a link that names one. */
static bool link_file(const char *from, const char *to) {
    return link(from, to) == 0 || (errno == EEXIST && unlink(to) == 0 && link(from, to) == 0);
}

bool corpus_carry(bool *found, bool *links, const char *from, const char *to, bool sync,
                  struct error *err) {
    struct carried unused;
    *found = true;
    if (*links) {
        if (!corpus_carry_look(&unused, found, from, err))
            return false;
        if (!*found)
            return true;
        if (link_file(from, to))
            return true;
        int number = errno;
        *found = number != ENOENT || access(from, F_OK) == 0;
        if (!*found)
            return true;
        if (number != EXDEV && number != EPERM && number != EACCES && number != EMLINK &&
            number != EOPNOTSUPP && number != ENOSYS)
            return error_set_errno(err, number, "%s", to);
        *links = number == EMLINK;
    }
    return copy(found, from, to, sync, err);
}

bool corpus_carry_hash(char out[SHA256_HEX + 1], const char *path, struct error *err) {
    struct stat info;
    bool found;
    int fd;
    if (!open_regular(&fd, &info, &found, path, err))
        return false;
    if (!found)
        return error_set_errno(err, ENOENT, "%s", path);
    struct sha256 *hash = sha256_new();
    char *block = mem_alloc(BLOCK_BYTES);
    ssize_t n = 0;
    bool ok;
    while ((ok = read_block(&n, fd, block, path, err)) && n > 0)
        sha256_update(hash, block, (size_t)n);
    sha256_finish(out, hash);
    mem_free(block);
    close(fd);
    return ok;
}
