/* Bytes in: streamed to tmp/ and hashed, kept under their id, their job committed. */
#include "corpus/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES 4096
#define EXTENSION_MAX_BYTES 16
#define COPY_BYTES (256 * 1024)

struct corpus_upload {
    struct corpus *corpus;
    struct arena *arena; /* owns the strings */
    const char *filename, *source_path;
    char *tmp_path;
    int fd;
    struct sha256 *hash;
    int64_t size_bytes;
    unsigned char head[HEAD_BYTES];
    size_t head_len;
    enum read_format format; /* FORMAT_UNKNOWN until the head is whole */
};

/* To FILENAME_MAX_BYTES, at the stem's end: the extension says what the file is. */
static void cut_filename(char *name) {
    size_t len = strlen(name);
    if (len <= FILENAME_MAX_BYTES)
        return;
    const char *dot = strrchr(name, '.');
    size_t extension = dot && strlen(dot) <= EXTENSION_MAX_BYTES ? strlen(dot) : 0;
    size_t stem = utf8_cut(name, len - extension, FILENAME_MAX_BYTES - extension);
    memmove(name + stem, name + len - extension, extension + 1);
}

/* The last path component, made fit to show and to store. Backslashes separate too: some browsers
 * send whole Windows paths. */
static const char *clean_filename(struct arena *arena, const char *name) {
    const char *last = name;
    for (const char *p = name; *p; p++) {
        if ((*p == '/' || *p == '\\') && p[1])
            last = p + 1;
    }
    char *clean = utf8_clean(arena, last, strlen(last));
    for (char *p = clean; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/')
            *p = '_';
    }
    cut_filename(clean);
    return *clean && strcmp(clean, ".") != 0 && strcmp(clean, "..") != 0 ? clean : "unnamed";
}

static void upload_free(struct corpus_upload *upload) {
    if (upload->fd >= 0)
        close(upload->fd);
    if (upload->tmp_path)
        unlink(upload->tmp_path);
    if (upload->hash) {
        char unused[SHA256_HEX + 1];
        sha256_finish(unused, upload->hash);
    }
    arena_free(upload->arena);
    mem_free(upload);
}

static bool check_size(const struct corpus_upload *upload, int64_t size_bytes, struct error *err) {
    int64_t max = upload->corpus->settings->max_file_bytes;
    if (size_bytes > max)
        return error_set_code(err, ERROR_LIMIT, "too_large", "%s is larger than %lld MB",
                              upload->filename, (long long)(max >> 20));
    return true;
}

/* Judges the type by the first bytes; once. */
static bool check_format(struct corpus_upload *upload, struct error *err) {
    if (upload->format != FORMAT_UNKNOWN)
        return true;
    upload->format = read_detect(upload->head, upload->head_len, upload->filename);
    if (corpus_allows(upload->corpus, upload->format))
        return true;
    if (upload->format == FORMAT_UNKNOWN)
        return error_set_code(err, ERROR_UNSUPPORTED, "unsupported_type",
                              "%s is not of a supported type", upload->filename);
    return error_set_code(err, ERROR_UNSUPPORTED, "unsupported_type",
                          "%s is a %s file, which SUPPORTED_FORMATS leaves out", upload->filename,
                          read_format_lookup(upload->format)->name);
}

bool corpus_upload_open(struct corpus_upload **out, struct corpus *corpus, const char *filename,
                        const char *source_path, int64_t expected_bytes, struct error *err) {
    struct corpus_upload *upload = mem_alloc(sizeof *upload);
    upload->corpus = corpus;
    upload->arena = arena_new(0);
    upload->fd = -1;
    upload->filename = clean_filename(upload->arena, filename);
    upload->source_path = arena_strdup(upload->arena, source_path);
    upload->hash = sha256_new();
    int max_queue = corpus->settings->max_queue;
    if (max_queue > 0 && queue_waiting(corpus->queue) >= max_queue) {
        error_set_code(err, ERROR_BUSY, "queue_full", "%d documents are waiting already",
                       max_queue);
        goto fail;
    }
    if (!check_size(upload, expected_bytes, err) ||
        !store_check_space(corpus->store, expected_bytes > 0 ? expected_bytes : 0, err) ||
        !store_tmp_new(&upload->fd, &upload->tmp_path, upload->arena, corpus->store, err))
        goto fail;
    *out = upload;
    return true;
fail:
    upload_free(upload);
    return false;
}

bool corpus_upload_write(struct corpus_upload *upload, const void *data, size_t len,
                         struct error *err) {
    if (len == 0)
        return true;
    if (!check_size(upload, upload->size_bytes + (int64_t)len, err))
        return false;
    if (upload->head_len < HEAD_BYTES) {
        size_t n = HEAD_BYTES - upload->head_len;
        if (n > len)
            n = len;
        memcpy(upload->head + upload->head_len, data, n);
        upload->head_len += n;
        if (upload->head_len == HEAD_BYTES && !check_format(upload, err))
            return false;
    }
    /* The space is looked at again every 64 MiB: others write to this disk too. */
    int64_t step = (int64_t)64 << 20;
    if (upload->size_bytes / step != (upload->size_bytes + (int64_t)len) / step &&
        !store_check_space(upload->corpus->store, 0, err))
        return false;
    sha256_update(upload->hash, data, len);
    upload->size_bytes += (int64_t)len;
    return fd_write_all(upload->fd, data, len, err);
}

/* The document's newest job, if it has one that waits or runs to its end. */
static bool live_job(int64_t *job_id, bool *live, struct corpus *corpus, const char *doc_id,
                     struct arena *arena, struct error *err) {
    struct job_row job;
    bool found;
    if (!store_find_document_job(&job, &found, arena, corpus->store, doc_id, err))
        return false;
    *job_id = found ? job.job_id : 0;
    *live = found && !job.cancel_asked && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING);
    return true;
}

/* Is there nothing to be done for a READY document without a live job? One that was read before a
 * model was there lacks vectors; one whose job was cancelled before it was shared is not shown. */
static bool is_done(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    bool lacks = true, held = true;
    if (!corpus_lacks_vectors(&lacks, corpus, doc_id, err) ||
        (!lacks && !corpus_share_is_held(&held, corpus, doc_id, err)))
        return false;
    *out = !lacks && !held;
    return true;
}

/* Rows and job, in one transaction. A document that is here, or on its way, is left as it is; one
 * that failed, or is_done tells is not, is queued again. */
static bool commit_document(struct added *out, struct corpus *corpus,
                            const struct document_row *row, struct arena *arena,
                            struct error *err) {
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    bool existed, live = false;
    if (!store_put_document(tx, &existed, row, err))
        goto fail;
    out->status = ADDED_QUEUED;
    if (existed) {
        struct document_row old;
        bool found;
        if (!store_find_document(&old, &found, arena, corpus->store, row->doc_id, err) ||
            !live_job(&out->job_id, &live, corpus, row->doc_id, arena, err))
            goto fail;
        bool done = live;
        if (!live && found && old.state == DOCUMENT_READY &&
            !is_done(&done, corpus, row->doc_id, err))
            goto fail;
        if (done)
            out->status = ADDED_KNOWN;
    }
    if (out->status == ADDED_QUEUED &&
        !queue_put(&out->job_id, corpus->queue, tx, CORPUS_JOB_INGEST, row->doc_id, row->filename,
                   corpus->settings->max_queue, err))
        goto fail;
    return store_commit(tx, err);
fail:
    store_rollback(tx);
    return false;
}

bool corpus_upload_finish(struct added *out, struct corpus_upload *upload, struct error *err) {
    struct corpus *corpus = upload->corpus;
    bool ok = false;
    memset(out, 0, sizeof *out);
    if (upload->size_bytes == 0) {
        error_set_code(err, ERROR_INPUT, "empty_file", "%s is empty", upload->filename);
        goto end;
    }
    if (!check_format(upload, err))
        goto end;
    sha256_finish(out->doc_id, upload->hash);
    upload->hash = NULL;
    int fd = upload->fd;
    upload->fd = -1;
    if (close(fd) != 0) {
        error_set_errno(err, errno, "%s", upload->filename);
        goto end;
    }
    const struct read_format_info *info = read_format_lookup(upload->format);
    struct document_row row = {
        .filename = upload->filename,
        .source_path = upload->source_path,
        .format = info->name,
        .group = info->group,
        .size_bytes = upload->size_bytes,
        .title = "",
        .author = "",
        .created = "",
        .warning = "",
        .error_code = "",
        .error_text = "",
        .added_ms = time_wall_ms(),
    };
    memcpy(row.doc_id, out->doc_id, sizeof row.doc_id);
    struct lock *stripe = corpus_stripe(corpus, out->doc_id);
    lock_take(stripe);
    ok = store_keep_original(corpus->store, out->doc_id, upload->tmp_path, err);
    upload->tmp_path = NULL;
    if (ok) {
        ok = commit_document(out, corpus, &row, upload->arena, err);
        /* After an i/o error the commit may be found whole at the next start. */
        if (!ok && strcmp(err->code, "storage_error") != 0)
            corpus_drop_unnamed(corpus, out->doc_id);
    }
    lock_drop(stripe);
    if (ok) {
        fault_point("queued");
        if (out->status == ADDED_QUEUED)
            queue_wake(corpus->queue);
    }
end:
    upload_free(upload);
    return ok;
}

void corpus_upload_abort(struct corpus_upload *upload) {
    if (upload)
        upload_free(upload);
}

/* ---- from a path ---------------------------------------------------------------------------- */

bool corpus_real_path(char out[PATH_MAX], const char *path) {
    if (realpath(path, out))
        return true;
    const char *name = path_name(path);
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    char folder[PATH_MAX];
    int n = snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
    if (n < 0 || (size_t)n >= sizeof folder || !realpath(n > 0 ? folder : ".", out))
        return false;
    size_t len = strlen(out);
    return snprintf(out + len, PATH_MAX - len, "%s%s", len > 1 ? "/" : "", name) <
           (int)(PATH_MAX - len);
}

static bool path_under(const char *path, const char *root) {
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/')
        n--;
    return strncmp(path, root, n) == 0 && (path[n] == '/' || n == 1);
}

bool corpus_path_allowed(const char *path, const struct settings *settings) {
    for (int i = 0; i < settings->n_ingest_roots; i++) {
        char root[PATH_MAX];
        if (realpath(settings->ingest_roots[i], root) && path_under(path, root))
            return true;
    }
    return false;
}

static bool open_regular(int *fd, struct stat *st, const char *path, struct error *err) {
    /* O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return error_set_errno(err, errno, "%s", path);
    if (fstat(*fd, st) != 0 || !S_ISREG(st->st_mode)) {
        close(*fd);
        return error_set(err, ERROR_INPUT, "%s is not a file", path);
    }
    return true;
}

static bool copy_in(struct corpus_upload *upload, int fd, const char *path, struct error *err) {
    char *block = mem_alloc(COPY_BYTES);
    ssize_t n;
    bool ok = true;
    while (ok && (n = read(fd, block, COPY_BYTES)) != 0) {
        if (n > 0)
            ok = corpus_upload_write(upload, block, (size_t)n, err);
        else if (errno != EINTR)
            ok = error_set_errno(err, errno, "%s", path);
    }
    mem_free(block);
    return ok;
}

bool corpus_add_path(struct added *out, struct corpus *corpus, const char *path,
                     const char *filename, bool confined, struct error *err) {
    char real[PATH_MAX];
    char old_id[SHA256_HEX + 1];
    bool had_old;
    int fd = -1;
    struct stat st;
    /* Outside the roots nobody learns whether a path is there. */
    bool resolved = corpus_real_path(real, path);
    if (confined && (!resolved || !corpus_path_allowed(real, corpus->settings)))
        return error_set_code(err, ERROR_CONFLICT, "path_forbidden",
                              "%s is outside the folders that INGEST_ROOTS allows", path);
    if (!resolved)
        return error_set_errno(err, ENOENT, "%s", path);
    if (!store_find_source(old_id, &had_old, corpus->store, real, err) ||
        !open_regular(&fd, &st, real, err))
        return false;
    struct corpus_upload *upload;
    bool ok = corpus_upload_open(&upload, corpus, filename ? filename : path_name(path), real,
                                 st.st_size, err);
    if (ok) {
        ok = copy_in(upload, fd, real, err);
        if (ok)
            ok = corpus_upload_finish(out, upload, err);
        else
            corpus_upload_abort(upload);
    }
    close(fd);
    /* The path has a new content: what it held before goes, unless it has another source. */
    struct removed removed;
    if (ok && had_old && strcmp(old_id, out->doc_id) != 0)
        ok = corpus_drop_source(&removed, corpus, old_id, real, err);
    if (ok)
        corpus_uploads_taken(corpus, real, &st);
    return ok;
}
