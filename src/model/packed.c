/* packed: a model's weights in the device's own layout, in memory as in the file that keeps them.
 *
 * The first start packs into memory and is ready; a thread of low priority then writes that memory
 * out. Where there is no room in memory, it packs into the file that is to be, mapped. Every later
 * start maps the file. Invariants of the file, whose layout is in internal.h:
 *
 *  1. <key>.weights is whole: it was synced before it got its name;
 *  2. what it holds is a function of its key, so it is never changed, only made or removed;
 *  3. one process at a time writes <key>.weights.part: it holds flock on it;
 *  4. its time of change is that of its last use, and what was not used for a month is removed. */
#include "model/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    PAGE = 4096,
    ENTRIES_AT = 96,
    ENTRY_BYTES = 24,
    WRITE_BYTES = 8 << 20,
    SYNC_BYTES = 64 << 20, /* so little that one that is to end soon does */
    CLOSE_WAIT_MS = 3000,  /* for a copy on disk that is nearly done */
    WEIGHTS_MAX = 100000,
    UNUSED_SECONDS = 30 * 24 * 3600,
};
static const size_t bytes_max = (size_t)1 << 42;
static const int64_t spare_bytes = 256 << 20;  /* of memory and disk, that are left to others */
static const size_t ask_from_bytes = 16 << 20; /* of memory: less is not asked after */

struct packed {
    char *base;
    size_t total;
    int n;
    size_t *offsets, *sizes;
    int part_fd; /* base is this part, mapped; -1: it is memory, or a file that has its name */
    /* the writer's */
    struct thread *writer;
    char *dir, *from;
    char key[SHA256_HEX + 1];
    atomic_llong stop_ms; /* of time_mono_ms; 0: goes on */
};

static void put_u32(unsigned char *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

static void put_u64(unsigned char *out, uint64_t value) {
    put_u32(out, (uint32_t)value);
    put_u32(out + 4, (uint32_t)(value >> 32));
}

static size_t header_bytes(int n) {
    return ENTRIES_AT + (size_t)n * ENTRY_BYTES + 32;
}

static size_t page_up(size_t n) {
    return (n + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* The struct with every place worked out, over no bytes yet. */
static struct packed *lay_out(const size_t *sizes, int n) {
    struct packed *packed = mem_alloc(sizeof *packed);
    if (n > WEIGHTS_MAX)
        n = WEIGHTS_MAX;
    packed->n = n;
    packed->part_fd = -1;
    packed->offsets = mem_alloc((size_t)n * sizeof *packed->offsets);
    packed->sizes = mem_alloc((size_t)n * sizeof *packed->sizes);
    packed->total = page_up(header_bytes(n));
    for (int i = 0; i < n; i++) {
        packed->offsets[i] = packed->total;
        packed->sizes[i] = sizes[i];
        if (sizes[i] > bytes_max - packed->total)
            packed->total = bytes_max;
        else
            packed->total += page_up(sizes[i]);
    }
    return packed;
}

static void hex_bytes(unsigned char *out, const char *hex, int n) {
    for (int i = 0; i < n; i++) {
        unsigned int byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (unsigned char)byte;
    }
}

static void checksum(unsigned char out[8], const char *data, size_t size) {
    char hex[SHA256_HEX + 1];
    size_t pages = size / PAGE;
    struct sha256 *hash = sha256_new();
    if (pages <= PACKED_SAMPLES) {
        sha256_update(hash, data, size);
    } else {
        for (size_t i = 0; i < PACKED_SAMPLES; i++)
            sha256_update(hash, data + (pages - 1) * i / (PACKED_SAMPLES - 1) * PAGE, PAGE);
    }
    sha256_finish(hex, hash);
    hex_bytes(out, hex, 8);
}

/* The header that the bytes at base should have. */
static void write_header(unsigned char *out, const struct packed *packed,
                         const char key[SHA256_HEX + 1], const char *base) {
    char hex[SHA256_HEX + 1];
    size_t len = header_bytes(packed->n);
    memset(out, 0, len);
    memcpy(out, "DSWEIGHT", 8);
    put_u32(out + 8, VERSION);
    put_u32(out + 12, (uint32_t)packed->n);
    put_u64(out + 16, packed->total);
    memcpy(out + 32, key, SHA256_HEX);
    for (int i = 0; i < packed->n; i++) {
        unsigned char *entry = out + ENTRIES_AT + (size_t)i * ENTRY_BYTES;
        put_u64(entry, packed->offsets[i]);
        put_u64(entry + 8, packed->sizes[i]);
        checksum(entry + 16, base + packed->offsets[i], packed->sizes[i]);
    }
    sha256_hex(hex, out, len - 32);
    hex_bytes(out + len - 32, hex, 32);
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool is_whole(const struct packed *packed, const char key[SHA256_HEX + 1],
                     const char *base) {
    size_t len = header_bytes(packed->n);
    unsigned char *want = mem_alloc(len);
    /* The fixed part first: the samples are only read where all else is right. */
    bool same = memcmp(base, "DSWEIGHT", 8) == 0 && memcmp(base + 32, key, SHA256_HEX) == 0;
    if (same) {
        write_header(want, packed, key, base);
        same = memcmp(base, want, len) == 0;
    }
    mem_free(want);
    return same;
}

static bool map_packed(struct packed *packed, int fd, const char key[SHA256_HEX + 1]) {
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
        (uint64_t)info.st_size != (uint64_t)packed->total)
        return false;
    void *base = mmap(NULL, packed->total, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return false;
    packed->base = base;
#ifdef MADV_HUGEPAGE
    madvise(base, packed->total, MADV_HUGEPAGE);
#endif
    madvise(base, packed->total, MADV_WILLNEED);
    return is_whole(packed, key, base);
}

void packed_open(struct packed **out, const char *dir, const char key[SHA256_HEX + 1],
                 const size_t *sizes, int n) {
    struct packed *packed = lay_out(sizes, n);
    char *path = mem_printf("%s/%s.weights", dir, key);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out = NULL;
    if (fd >= 0 && map_packed(packed, fd, key)) {
        char *from = mem_printf("%s/%s.from", dir, key);
        *out = packed;
        futimens(fd, NULL);
        utimensat(AT_FDCWD, from, NULL, 0);
        mem_free(from);
    } else if (fd >= 0) {
        log_warn("%s is damaged or of another version: the weights are packed again", path);
    }
    if (fd >= 0)
        close(fd);
    if (!*out)
        packed_close(packed);
    mem_free(path);
}

/* The part may be gone, or another's, once it is ours: its last holder gave it its name. */
static bool is_still_there(int fd, const char *path) {
    struct stat ours, theirs;
    return fstat(fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
           ours.st_dev == theirs.st_dev;
}

/* An empty <key>.weights.part that nobody else writes; *fd -1 where another process does. */
static bool open_part(int *fd, const struct packed *packed, struct error *err) {
    int64_t left = 0;
    *fd = -1;
    if (!dir_make(packed->dir, err) || !disk_free_bytes(&left, packed->dir, err))
        return false;
    if (left < (int64_t)packed->total + spare_bytes)
        return error_set_code(err, ERROR_IO, "disk_full", "%s has %lld MB left, %zu MB are needed",
                              packed->dir, (long long)(left >> 20), packed->total >> 20);
    char *part = mem_printf("%s/%s.weights.part", packed->dir, packed->key);
    int got = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool ok = got >= 0 || error_set_errno(err, errno, "%s", part);
    bool ours = ok && flock(got, LOCK_EX | LOCK_NB) == 0 && is_still_there(got, part);
    if (ours && ftruncate(got, 0) != 0)
        ok = error_set_errno(err, errno, "%s", part);
    mem_free(part);
    if (ok && ours)
        *fd = got;
    else if (got >= 0)
        close(got);
    return ok;
}

static void drop_part(const struct packed *packed, int fd) {
    char *part = mem_printf("%s/%s.weights.part", packed->dir, packed->key);
    unlink(part); /* before the lock goes with the descriptor */
    close(fd);
    mem_free(part);
}

static void map_memory(struct packed *packed) {
    void *base = mmap(NULL, packed->total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (base == MAP_FAILED)
        return;
    packed->base = base;
#ifdef MADV_HUGEPAGE
    madvise(base, packed->total, MADV_HUGEPAGE);
#endif
}

/* Every byte of the part is given its place on the disk first: a mapped file that meets a full disk
 * later ends the process. */
static void map_part(struct packed *packed) {
    struct error err;
    int fd = -1;
    if (!open_part(&fd, packed, &err)) {
        log_warn("packed weights find no room on the disk either: %s", err.text);
        return;
    }
    void *base = MAP_FAILED;
    if (fd >= 0 && posix_fallocate(fd, 0, (off_t)packed->total) == 0)
        base = mmap(NULL, packed->total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base != MAP_FAILED) {
        packed->base = base;
        packed->part_fd = fd;
    } else if (fd >= 0) {
        drop_part(packed, fd);
    }
}

bool packed_new(struct packed **out, const char *dir, const char key[SHA256_HEX + 1],
                const size_t *sizes, int n, int64_t room_bytes, struct error *err) {
    struct packed *packed = lay_out(sizes, n);
    *out = NULL;
    memcpy(packed->key, key, sizeof packed->key);
    packed->dir = dir ? mem_strdup(dir) : NULL;
    bool possible = packed->total < bytes_max && packed->n == n;
    bool fits = room_bytes < 0 || packed->total < ask_from_bytes ||
                (int64_t)packed->total + spare_bytes <= room_bytes;
    if (possible && fits)
        map_memory(packed);
    else if (possible && dir)
        map_part(packed);
    if (!packed->base) {
        error_set_code(err, ERROR_LIMIT, "out_of_memory",
                       "its weights need %zu MB of memory, and %lld MB are left",
                       packed->total >> 20, (long long)(room_bytes < 0 ? 0 : room_bytes >> 20));
        packed_close(packed);
        return false;
    }
    *out = packed;
    return true;
}

void *packed_at(const struct packed *packed, int i) {
    return packed->base + packed->offsets[i];
}

/* ---- writing -------------------------------------------------------------------------------- */

static bool stopped(struct packed *packed, struct error *err) {
    long long stop_ms = atomic_load(&packed->stop_ms);
    return stop_ms && time_mono_ms() > stop_ms &&
           !error_set(err, ERROR_CONFLICT, "the model was closed meanwhile");
}

static void put_header(struct packed *packed) {
    size_t len = header_bytes(packed->n);
    unsigned char *header = mem_alloc(len);
    write_header(header, packed, packed->key, packed->base);
    memcpy(packed->base, header, len); /* the first page is nobody's weight */
    mem_free(header);
}

static bool write_all(struct packed *packed, int fd, struct error *err) {
    size_t at, synced = 0;
    for (at = 0; at < packed->total; at += WRITE_BYTES) {
        size_t left = packed->total - at;
        if (stopped(packed, err) ||
            !fd_write_all(fd, packed->base + at, left < WRITE_BYTES ? left : WRITE_BYTES, err))
            return false;
        if (at - synced >= SYNC_BYTES && fdatasync(fd) != 0)
            return error_set_errno(err, errno, "packed weights");
        if (at - synced >= SYNC_BYTES)
            synced = at;
    }
    return fsync(fd) == 0 || error_set_errno(err, errno, "packed weights");
}

/* The same of weights that were packed into the part itself. */
static bool sync_all(struct packed *packed, int fd, struct error *err) {
    for (size_t at = 0; at < packed->total; at += SYNC_BYTES) {
        size_t left = packed->total - at;
        if (stopped(packed, err))
            return false;
        if (msync(packed->base + at, left < SYNC_BYTES ? left : SYNC_BYTES, MS_SYNC) != 0)
            return error_set_errno(err, errno, "packed weights");
    }
    return fsync(fd) == 0 || error_set_errno(err, errno, "packed weights");
}

static bool give_name(const struct packed *packed, struct error *err) {
    char *path = mem_printf("%s/%s.weights", packed->dir, packed->key);
    char *part = mem_printf("%s.part", path);
    bool ok = rename(part, path) == 0 || error_set_errno(err, errno, "%s", path);
    mem_free(part);
    mem_free(path);
    return ok && dir_sync(packed->dir, err);
}

static bool keep(struct packed *packed, struct error *err) {
    int fd = packed->part_fd;
    bool mapped = fd >= 0;
    if (!mapped && !open_part(&fd, packed, err))
        return false;
    if (fd < 0)
        return true; /* another process writes, or just wrote, the same bytes */
    put_header(packed);
    packed->part_fd = -1;
    if ((mapped ? sync_all : write_all)(packed, fd, err) && give_name(packed, err)) {
        close(fd);
        return true;
    }
    drop_part(packed, fd);
    return false;
}

static bool is_ours(const char *name) {
    static const char *const ends[] = {".weights", ".from", ".hash", ".weights.part"};
    for (size_t i = 0; i < BASE_COUNT(ends); i++) {
        if (strspn(name, "0123456789abcdef") == SHA256_HEX && !strcmp(name + SHA256_HEX, ends[i]))
            return true;
    }
    return false;
}

/* Of models that are gone, of other versions' layouts, of writers that were killed. A file that is
 * mapped somewhere goes when it is no more. */
static void remove_unused(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    struct stat info;
    int64_t since = time_wall_ms() / 1000 - UNUSED_SECONDS;
    while (dir && (entry = readdir(dir))) {
        if (is_ours(entry->d_name) && fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 &&
            S_ISREG(info.st_mode) && (int64_t)info.st_mtime < since)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        closedir(dir);
}

void packed_forget(const char *path, const char *from) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char *text = NULL, *file = mem_printf("%s/%s", path, entry->d_name);
        size_t len = 0;
        if (is_ours(entry->d_name) && text_has_suffix(entry->d_name, ".from") &&
            file_read(&text, &len, file, PATH_MAX, NULL) && strcmp(text, from) == 0) {
            char *weights = mem_printf("%s/%.*s.weights", path, SHA256_HEX, entry->d_name);
            unlink(weights);
            unlink(file);
            mem_free(weights);
        }
        mem_free(text);
        mem_free(file);
    }
    if (dir)
        closedir(dir);
}

/* Whose they are, for packed_forget: without it they go when they are old. */
static void note_owner(const struct packed *packed) {
    char *path = mem_printf("%s/%s.from", packed->dir, packed->key);
    struct error err;
    if (!file_write_durable(path, packed->from, strlen(packed->from), &err))
        log_warn("%s", err.text);
    mem_free(path);
}

static void run_writer(void *arg) {
    struct packed *packed = arg;
    struct error err;
#ifdef __linux__
    setpriority(PRIO_PROCESS, 0, 10); /* there, of this thread alone */
#endif
    if (keep(packed, &err)) {
        note_owner(packed);
        remove_unused(packed->dir);
    } else {
        log_warn("packed weights are not kept on disk: %s", err.text);
    }
}

void packed_keep(struct packed *packed, const char *from) {
    struct error err;
    packed->from = mem_strdup(from);
    if (!thread_start(&packed->writer, "packed weights", run_writer, packed, &err))
        log_warn("packed weights are not kept on disk: %s", err.text);
}

void packed_close(struct packed *packed) {
    if (!packed)
        return;
    atomic_store(&packed->stop_ms, time_mono_ms() + CLOSE_WAIT_MS);
    thread_join(packed->writer);
    if (packed->part_fd >= 0)
        drop_part(packed, packed->part_fd);
    if (packed->base)
        munmap(packed->base, packed->total);
    mem_free(packed->offsets);
    mem_free(packed->sizes);
    mem_free(packed->dir);
    mem_free(packed->from);
    mem_free(packed);
}
