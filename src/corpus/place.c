/* Where a file of UPLOADS_DIR is seen: a hash over UPLOADS_DIR and over the root of each mount on
 * the way, that is of its file system's number, its inode and its time of birth. A new file system
 * has a new number or at least a new root, and a folder without its mount lacks a part. Devices and
 * mounts are told apart by numbers that change with each mount, so those are only compared, between
 * folders open at the same time; but the device stands for a file system that has no number. */
#include "corpus/place.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FNV_BASIS 14695981039346656037u
#define FNV_PRIME 1099511628211u

/* FNV-1a. */
static uint64_t mixed(uint64_t hash, uint64_t value) {
    for (int i = 0; i < 64; i += 8)
        hash = (hash ^ (value >> i & 0xff)) * FNV_PRIME;
    return hash;
}

static uint64_t nanoseconds(int64_t s, int64_t ns) {
    return (uint64_t)s * 1000000000 + (uint64_t)ns;
}

/* 0: not known. */
static uint64_t birth_ns(int fd, const struct stat *st) {
#if defined(__APPLE__)
    (void)fd;
    return nanoseconds(st->st_birthtimespec.tv_sec, st->st_birthtimespec.tv_nsec);
#elif defined(STATX_BTIME)
    struct statx more;
    (void)st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &more) == 0 && more.stx_mask & STATX_BTIME)
        return nanoseconds(more.stx_btime.tv_sec, more.stx_btime.tv_nsec);
#endif
    return 0;
}

static bool mount_of(uint64_t *mount, int fd) {
    struct stat st;
#ifdef STATX_MNT_ID
    struct statx more;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &more) == 0 && more.stx_mask & STATX_MNT_ID) {
        *mount = more.stx_mnt_id;
        return true;
    }
#endif
    if (fstat(fd, &st) != 0)
        return false;
    *mount = (uint64_t)st.st_dev;
    return true;
}

/* Of what lies on the mount whose root is open as fd. */
static bool place_below(uint64_t *place, uint64_t above, int fd) {
    struct stat st;
    struct statvfs whole;
    if (fstat(fd, &st) != 0 || fstatvfs(fd, &whole) != 0)
        return false;
    *place = mixed(above, (uint64_t)(whole.f_fsid ? whole.f_fsid : st.st_dev));
    *place = mixed(mixed(*place, (uint64_t)st.st_ino), birth_ns(fd, &st));
    if (*place == 0)
        *place = 1;
    return true;
}

/* Takes fd, also where it fails; above NULL: it is the root. */
static bool enter(struct uploads_spot *out, const struct uploads_spot *above, int fd) {
    struct uploads_spot spot = {.fd = fd, .place = above ? above->place : FNV_BASIS};
    if (fd < 0)
        return false;
    if (!mount_of(&spot.mount, fd) ||
        ((!above || spot.mount != above->mount) && !place_below(&spot.place, spot.place, fd))) {
        int why = errno;
        close(fd);
        errno = why;
        return false;
    }
    *out = spot;
    return true;
}

bool uploads_open_root(struct uploads_spot *out, const char *root) {
    return enter(out, NULL, open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool uploads_open_folder(struct uploads_spot *out, const struct uploads_spot *above,
                         const char *name) {
    return enter(out, above,
                 openat(above->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/* Nothing is there, or no folder. */
static bool is_no_folder(int why) {
    return why == ENOENT || why == ENOTDIR || why == ELOOP;
}

bool uploads_open_around(struct uploads_spot *out, bool *arrived, const char *root,
                         const char *path) {
    *arrived = false;
    if (!uploads_open_root(out, root))
        return false;
    char *names = mem_strdup(path), *name = names, *slash;
    bool ok = true;
    *arrived = true;
    while (*arrived && (slash = strchr(name, '/')) != NULL) {
        struct uploads_spot next;
        *slash = '\0';
        if (uploads_open_folder(&next, out, name)) {
            close(out->fd);
            *out = next;
        } else {
            *arrived = false;
            ok = is_no_folder(errno);
        }
        name = slash + 1;
    }
    mem_free(names);
    if (!ok)
        close(out->fd);
    return ok;
}

bool uploads_look(struct uploads_sight *out, const char *root, const char *path) {
    struct uploads_spot spot;
    bool arrived;
    *out = (struct uploads_sight){0};
    if (!uploads_open_around(&spot, &arrived, root, path))
        return false;
    out->place = spot.place;
    bool ok = true;
    if (arrived) {
        out->exists = fstatat(spot.fd, path_name(path), &out->st, AT_SYMLINK_NOFOLLOW) == 0;
        ok = out->exists || is_no_folder(errno);
    }
    close(spot.fd);
    return ok;
}

bool uploads_is_file(const struct uploads_sight *sight) {
    return sight->exists && S_ISREG(sight->st.st_mode);
}
