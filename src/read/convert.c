/* The converters' side of the pool: an Office file goes in, the PDF that LibreOffice made of it
 * comes back as an open descriptor.
 *
 * A converter's private folder lies in the scratch folder. Under root the converter runs as nobody,
 * who must be able to reach it: where a folder above forbids that, the private folder is made in
 * /tmp, and a symbolic link in the scratch folder remembers it, so that one left by a killed server
 * is found again. */
#include "read/pool.h"

#include "read/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "converter-"
#define OUTSIDE "/tmp/docusearch-converter-"
#define MAX_PDF ((off_t)1 << 30)

/* Whether a stranger may walk down to path. */
static bool reachable(const char *path) {
    char part[4096];
    size_t len = strlen(path);
    if (len >= sizeof part)
        return false;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        struct stat st;
        if (stat(part, &st) != 0 || !(st.st_mode & S_IXOTH))
            return false;
    }
    return true;
}

bool pool_make_dir(struct read_slot *slot, struct read_pool *pool, struct error *err) {
    char path[4096];
    bool inside = geteuid() != 0 || reachable(pool->scratch_dir);
    snprintf(path, sizeof path, inside ? "%s/" NAME "XXXXXX" : OUTSIDE "XXXXXX", pool->scratch_dir);
    if (!mkdtemp(path))
        return error_set_errno(err, errno, "%s", path);
    slot->dir = mem_strdup(path);
    if (!inside) {
        slot->link = mem_printf("%s/" NAME "%s", pool->scratch_dir, path + sizeof OUTSIDE - 1);
        if (symlink(path, slot->link) != 0)
            log_warn("%s: %s", slot->link, strerror(errno));
    }
    return true;
}

void pool_clean_scratch(struct read_pool *pool) {
    DIR *dir = opendir(pool->scratch_dir);
    if (!dir)
        return;
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (strncmp(entry->d_name, NAME, sizeof NAME - 1) != 0)
            continue;
        char *path = mem_printf("%s/%s", pool->scratch_dir, entry->d_name);
        char target[256];
        ssize_t n = readlink(path, target, sizeof target - 1);
        struct error err = {0};
        if (n > 0) {
            target[n] = '\0';
            bool ours = strncmp(target, OUTSIDE, sizeof OUTSIDE - 1) == 0 &&
                        !strchr(target + sizeof OUTSIDE - 1, '/');
            if (ours && !dir_remove(target, &err))
                log_warn("removing %s: %s", target, err.text);
            unlink(path);
        } else if (!dir_remove(path, &err)) {
            log_warn("removing %s: %s", path, err.text);
        }
        mem_free(path);
    }
    closedir(dir);
}

static bool missing(struct error *err) {
    return error_set_code(err, ERROR_MISSING, "converter_missing", "LibreOffice is not installed");
}

static bool start_one(struct read_pool *pool, struct read_slot *slot, bool soffice,
                      const struct read_sink *sink, struct error *err) {
    if (!pool_make_dir(slot, pool, err))
        return false;
    struct arena *arena = arena_new(0);
    const char *args[] = {"reader-child", "converter", slot->dir, soffice ? "soffice" : "kit",
                          NULL};
    const char *env[] = {
        arena_printf(arena, "HOME=%s/tmp", slot->dir),
        arena_printf(arena, "TMPDIR=%s/tmp", slot->dir),
        "SAL_USE_VCLPLUGIN=svp",
        "OOO_DISABLE_RECOVERY=1",
        NULL,
    };
    struct sandbox_spawn spawn = {.args = args, .env = env};
    bool fine = pool_start(slot, &spawn, sink, err);
    if (!fine)
        pool_end(slot);
    arena_free(arena);
    return fine;
}

/* LibreOfficeKit first; where it does not start, soffice from then on. */
static bool start_converter(struct read_pool *pool, struct read_slot *slot,
                            const struct read_sink *sink, struct error *err) {
    if (!office_program_dir())
        return missing(err);
    lock_take(&pool->lock);
    bool kit_broken = pool->kit_broken;
    lock_drop(&pool->lock);
    if (!kit_broken) {
        if (start_one(pool, slot, false, sink, err))
            return true;
        if (err->kind == ERROR_CONFLICT || err->kind == ERROR_IO)
            return false;
        log_warn("LibreOfficeKit: %s; soffice is used instead", err->text);
    }
    if (!start_one(pool, slot, true, sink, err))
        return false;
    lock_take(&pool->lock);
    pool->kit_broken = true;
    lock_drop(&pool->lock);
    return true;
}

/* The converter is foreign: no link is followed on the way to what it made. */
static bool open_pdf(int *pdf_fd, const struct read_slot *slot, struct error *err) {
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW, dir = -1, job = -1, fd = -1;
    struct stat st;
    bool fine = false;
    dir = open(slot->dir, flags | O_DIRECTORY);
    if (dir >= 0)
        job = openat(dir, "job", flags | O_DIRECTORY);
    if (job >= 0)
        fd = openat(job, "output.pdf", flags | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
        st.st_size > 0 && st.st_size <= MAX_PDF)
        fine = true;
    else
        error_set_code(err, ERROR_INTERNAL, "parser_protocol", "LibreOffice left no PDF");
    if (job >= 0)
        unlinkat(job, "output.pdf", 0);
    if (!fine && fd >= 0)
        close(fd);
    if (job >= 0)
        close(job);
    if (dir >= 0)
        close(dir);
    if (fine)
        *pdf_fd = fd;
    return fine;
}

/* One try with a running converter. False with its child lost, or refused and well. */
static bool convert_with(int *pdf_fd, struct read_pool *pool, struct read_slot *slot,
                         enum read_format format, int fd, const struct read_sink *sink,
                         struct error *err) {
    struct sandbox_frame frame;
    struct buf payload = {0};
    wire_put_format(&payload, format);
    bool sent = sandbox_send(slot->child, WIRE_CONVERT, payload.data, payload.len, fd, err);
    buf_fini(&payload);
    if (!sent) {
        pool_end(slot);
        return false;
    }
    int64_t deadline_ms = time_mono_ms() + pool->convert_ms;
    if (!pool_await(&frame, slot, sink, pool->convert_ms, deadline_ms, err))
        return false;
    if (frame.type == WIRE_CONVERTED)
        return open_pdf(pdf_fd, slot, err);
    if (frame.type != WIRE_FAILED || !wire_get_failed(err, frame.data, frame.len)) {
        error_set_code(err, ERROR_INTERNAL, "parser_protocol", "LibreOffice sent frame %u",
                       (unsigned)frame.type);
        pool_end(slot);
    }
    return false;
}

bool pool_convert(int *pdf_fd, struct read_pool *pool, enum read_format format, int fd,
                  const struct read_sink *sink, struct error *err) {
    if (!office_program_dir())
        return missing(err);
    struct read_slot *slot = pool_lend(pool, pool->converters, pool->n_converters, sink, err);
    if (!slot)
        return false;
    bool fine = (slot->child || start_converter(pool, slot, sink, err)) &&
                convert_with(pdf_fd, pool, slot, format, fd, sink, err);
    /* After a refusal LibreOffice may hold on to the file, or have lost its footing: a new one. */
    if (slot->child && (!fine || ++slot->n_documents >= CONVERTER_DOCUMENTS))
        pool_end(slot);
    pool_give(pool, slot);
    return fine;
}

void pool_office_name(char *out, size_t size, struct read_pool *pool) {
    struct error err = {0};
    out[0] = '\0';
    if (!office_program_dir())
        return;
    struct read_slot *slot = pool_lend(pool, pool->converters, pool->n_converters, NULL, &err);
    bool ran = slot->child != NULL;
    if (ran || start_converter(pool, slot, NULL, &err))
        snprintf(out, size, "%s", slot->ready.engine);
    else
        log_warn("LibreOffice: %s", err.text);
    if (!ran && slot->child)
        pool_end(slot); /* it was only asked its name */
    pool_give(pool, slot);
}
