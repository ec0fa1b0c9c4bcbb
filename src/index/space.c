/* A space's file: made, checked against the rows that name its bytes, rewritten without its dead.
 *
 * Invariants:
 *  1. A file under its final name has a whole header.
 *  2. The rows decide which generation is the file: a rewriting writes the next generation beside,
 *     syncs it, and moves the rows and the number in one transaction. What no row names goes. */
#include "index/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "DSVEC\0\0\1"
#define MAX_NAMED 10
#define COPY_BYTES ((size_t)1 << 20)

int64_t index_rewrite_bytes = INT64_C(64) << 20;

char *index_file_name(const struct index *index, int number, int generation) {
    return mem_printf("%s/%d-%d.f32", index->dir, number, generation);
}

bool index_write_at(int fd, const void *data, size_t len, int64_t offset, const char *what,
                    struct error *err) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, at, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno(err, n < 0 ? errno : EIO, "%s", what);
        at += n;
        len -= (size_t)n;
        offset += n;
    }
    return true;
}

static bool read_at(int fd, void *data, size_t len, int64_t offset, struct error *err) {
    char *at = data;
    while (len > 0) {
        ssize_t n = pread(fd, at, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno(err, n < 0 ? errno : EIO, "a file of vectors");
        at += n;
        len -= (size_t)n;
        offset += n;
    }
    return true;
}

static void put_header(unsigned char out[INDEX_HEADER_BYTES], int dim) {
    memset(out, 0, INDEX_HEADER_BYTES);
    memcpy(out, MAGIC, sizeof MAGIC - 1);
    for (int i = 0; i < 4; i++)
        out[8 + i] = (unsigned char)((unsigned)dim >> (8 * i));
}

/* A new file that holds its header, and nothing else, whatever lay there. */
static bool make_file(int *fd, const struct index *index, const char *path, int dim,
                      struct error *err) {
    unsigned char header[INDEX_HEADER_BYTES];
    put_header(header, dim);
    if (!file_write_durable(path, header, sizeof header, err) || !dir_sync(index->dir, err))
        return false;
    *fd = open(path, O_RDWR | O_CLOEXEC);
    return *fd >= 0 || error_set_errno(err, errno, "%s", path);
}

/* *fine false: another header, or no whole one. False: the disk does not say. */
static bool check_header(bool *fine, int fd, int dim, const char *path, int64_t size,
                         struct error *err) {
    unsigned char header[INDEX_HEADER_BYTES], wanted[INDEX_HEADER_BYTES];
    *fine = false;
    if (size < INDEX_HEADER_BYTES)
        return true;
    put_header(wanted, dim);
    if (!read_at(fd, header, sizeof header, 0, err)) {
        error_prefix(err, "%s: ", path);
        return false;
    }
    *fine = memcmp(header, wanted, sizeof header) == 0;
    return true;
}

bool index_set_aside(char **aside, const struct index *index, const char *path, const char *why,
                     struct error *err) {
    char *name = mem_printf("%s.%s", path, why);
    for (int n = 2; access(name, F_OK) == 0; n++) {
        mem_free(name);
        name = mem_printf("%s.%s-%d", path, why, n);
    }
    bool ok = (rename(path, name) == 0 || error_set_errno(err, errno, "%s", path)) &&
              dir_sync(index->dir, err);
    *aside = ok ? name : NULL;
    if (!ok)
        mem_free(name);
    return ok;
}

static bool file_bytes(int64_t *out, int fd, const char *path, struct error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return error_set_errno(err, errno, "%s", path);
    *out = info.st_size;
    return true;
}

/* ---- rows without bytes ---- */

static void name_dropped(struct store *store, struct arena *arena, const char *space,
                         char (*doc_ids)[SHA256_HEX + 1], int n) {
    log_warn("%d documents have lost their vectors in %s: the file of vectors is shorter than its "
             "rows say; searches by this model pass them over until they are added again",
             n, space);
    for (int i = 0; i < n && i < MAX_NAMED; i++) {
        struct document_row row;
        struct error ignored;
        bool found;
        if (store_find_document(&row, &found, arena, store, doc_ids[i], &ignored) && found)
            log_warn("vectors lost: %s (%s)", row.filename, row.doc_id);
    }
    if (n > MAX_NAMED)
        log_warn("vectors lost: and %d more documents", n - MAX_NAMED);
}

/* The documents with rows past `end` lose their rows in this space. */
static bool drop_past(struct index *index, const struct space_row *row, int64_t end,
                      struct error *err) {
    struct store_tx *tx;
    struct arena *arena = arena_new(0);
    char(*doc_ids)[SHA256_HEX + 1];
    int n = 0;
    bool ok = store_begin(&tx, index->store, err);
    if (ok) {
        ok = store_drop_vectors_past(tx, &doc_ids, &n, arena, row->space, end, err);
        if (ok)
            ok = store_commit(tx, err);
        else
            store_rollback(tx);
    }
    if (ok && n > 0)
        name_dropped(index->store, arena, row->name, doc_ids, n);
    arena_free(arena);
    return ok;
}

/* ---- rewriting ---- */

/* Runs of rows that lie one after another are copied as one. */
struct copying {
    int from, to;
    int64_t bytes; /* a vector */
    int64_t run_first, run_n;
    int64_t n_written;
    char *block;
    struct error *err;
    bool ok;
};

static bool copy_run(struct copying *copying) {
    int64_t offset = INDEX_HEADER_BYTES + copying->run_first * copying->bytes;
    int64_t left = copying->run_n * copying->bytes;
    int64_t to = INDEX_HEADER_BYTES + copying->n_written * copying->bytes;
    while (left > 0 && copying->ok) {
        size_t n = left < (int64_t)COPY_BYTES ? (size_t)left : COPY_BYTES;
        copying->ok = read_at(copying->from, copying->block, n, offset, copying->err) &&
                      index_write_at(copying->to, copying->block, n, to, "a file of vectors",
                                     copying->err);
        offset += (int64_t)n;
        to += (int64_t)n;
        left -= (int64_t)n;
    }
    copying->n_written += copying->run_n;
    copying->run_n = 0;
    return copying->ok;
}

static bool copy_row(void *ctx, const char *doc_id, const struct vector_row *row) {
    struct copying *copying = ctx;
    (void)doc_id;
    if (copying->run_n > 0 && copying->run_first + copying->run_n == row->first) {
        copying->run_n += row->n;
        return true;
    }
    if (!copy_run(copying))
        return false;
    copying->run_first = row->first;
    copying->run_n = row->n;
    return true;
}

static bool copy_live(struct index *index, const struct space_row *row, int from, int to,
                      struct error *err) {
    struct copying copying = {.from = from,
                              .to = to,
                              .bytes = (int64_t)row->dim * (int64_t)sizeof(float),
                              .block = mem_alloc(COPY_BYTES),
                              .err = err,
                              .ok = true};
    bool ok = true;
    for (int kind = VECTORS_PAGE; kind <= VECTORS_CHUNK && ok; kind++)
        ok = store_visit_vectors(index->store, row->space, (enum vector_kind)kind, NULL, copy_row,
                                 &copying, err) &&
             copying.ok && copy_run(&copying);
    mem_free(copying.block);
    if (ok && copying.n_written != row->n_vectors)
        ok = error_set(err, ERROR_INTERNAL, "%" PRId64 " vectors of %s were copied, not %" PRId64,
                       copying.n_written, row->name, row->n_vectors);
    return ok;
}

/* The live vectors alone, in the next generation's file; *fd becomes that. *in_doubt: whether the
 * rows name this file or that one is not known. */
static bool rewrite(int *fd, bool *in_doubt, struct index *index, struct space_row *row,
                    struct error *err) {
    struct store_tx *tx;
    int new_fd = -1;
    char *old_path = index_file_name(index, row->space, row->generation);
    char *path = index_file_name(index, row->space, row->generation + 1);
    bool ok = make_file(&new_fd, index, path, row->dim, err) &&
              copy_live(index, row, *fd, new_fd, err);
    if (ok && fdatasync(new_fd) != 0)
        ok = error_set_errno(err, errno, "%s", path);
    if (ok && (ok = store_begin(&tx, index->store, err))) {
        ok = store_pack_vectors(tx, row->space, err);
        if (ok)
            *in_doubt = !(ok = store_commit(tx, err));
        else
            store_rollback(tx);
    }
    if (ok) {
        log_info("vectors of %s: %" PRId64 " MB that were no longer used are given back", row->name,
                 (row->end - row->n_vectors) * row->dim * (int64_t)sizeof(float) >> 20);
        close(*fd);
        unlink(old_path);
        *fd = new_fd;
        row->generation++;
        row->end = row->n_vectors;
    } else if (new_fd >= 0) {
        close(new_fd); /* the file goes at the next start, when rows say whether they named it */
    }
    mem_free(old_path);
    mem_free(path);
    return ok;
}

static bool is_mostly_dead(const struct space_row *row) {
    int64_t dead = row->end - row->n_vectors;
    return dead > row->n_vectors && dead * row->dim * (int64_t)sizeof(float) > index_rewrite_bytes;
}

/* ---- opening ---- */

/* The row as it is now, after rows were dropped. */
static bool look_again(struct space_row *row, struct index *index, struct error *err) {
    struct arena *arena = arena_new(0);
    struct space_row *rows;
    int n;
    bool ok = store_list_spaces(&rows, &n, arena, index->store, err);
    for (int i = 0; i < n && ok; i++) {
        if (rows[i].space != row->space)
            continue;
        rows[i].name = row->name;
        *row = rows[i];
    }
    arena_free(arena);
    return ok;
}

/* Opens the file and makes rows and bytes agree: no row past its end, no bytes past the last row.
 */
static bool open_file(int *fd, struct index *index, struct space_row *row, const char *path,
                      struct error *err) {
    int64_t bytes = (int64_t)row->dim * (int64_t)sizeof(float), size = 0;
    bool fine = true;
    *fd = open(path, O_RDWR | O_CLOEXEC);
    if (*fd < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "%s", path);
    if (*fd >= 0 && (!file_bytes(&size, *fd, path, err) ||
                     !check_header(&fine, *fd, row->dim, path, size, err)))
        return false;
    if (!fine) {
        char *aside;
        close(*fd);
        *fd = -1;
        if (!index_set_aside(&aside, index, path, "damaged", err))
            return false;
        log_warn("%s is not a file of vectors of %d dimensions; it is kept as %s, and another is "
                 "begun",
                 path, row->dim, path_name(aside));
        mem_free(aside);
    }
    if (*fd < 0 && !make_file(fd, index, path, row->dim, err))
        return false;
    if (!file_bytes(&size, *fd, path, err))
        return false;
    int64_t n_there = (size - INDEX_HEADER_BYTES) / bytes;
    if (row->end > n_there &&
        (!drop_past(index, row, n_there, err) || !look_again(row, index, err)))
        return false;
    int64_t wanted = INDEX_HEADER_BYTES + row->end * bytes;
    if (size > wanted && ftruncate(*fd, wanted) != 0)
        return error_set_errno(err, errno, "%s", path);
    return true;
}

bool index_space_open(struct index_space **out, struct index *index, const struct space_row *given,
                      struct error *err) {
    struct space_row row = *given;
    int fd = -1;
    if (row.dim < 1 || row.dim > INDEX_MAX_DIM)
        return error_set(err, ERROR_INPUT, "a vector space of %d dimensions", row.dim);
    char *path = index_file_name(index, row.space, row.generation);
    bool ok = open_file(&fd, index, &row, path, err);
    if (ok && is_mostly_dead(&row)) {
        struct error why;
        bool in_doubt = false;
        ok = rewrite(&fd, &in_doubt, index, &row, &why) || !in_doubt;
        if (!ok)
            *err = why;
        else if (row.generation == given->generation)
            log_warn("vectors of %s could not be rewritten: %s", row.name, why.text);
    }
    mem_free(path);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct index_space *space = mem_alloc(sizeof *space);
    space->number = row.space;
    space->generation = row.generation;
    space->dim = row.dim;
    space->late = row.late;
    space->name = mem_strdup(row.name);
    space->fd = fd;
    lock_init(&space->syncing, LOCK_READ);
    space->end = row.end;
    *out = space;
    return true;
}

void index_space_close(struct index_space *space) {
    if (!space)
        return;
    if (space->fd >= 0)
        close(space->fd);
    lock_fini(&space->syncing);
    mem_free(space->name);
    mem_free(space);
}
