/* One document's vectors on their way in. Each item's bytes get their place when they come, so that
 * documents written at once lie mixed in the file and none is held in memory; the rows wait for the
 * transaction. */
#include "index/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_ITEM_VECTORS (1 << 20)

static_assert((int)ITEM_PAGE == (int)VECTORS_PAGE && (int)ITEM_CHUNK == (int)VECTORS_CHUNK,
              "one numbering of kinds");

struct index_writer {
    struct index *index;
    struct index_space *space;
    char doc_id[SHA256_HEX + 1];
    struct buf rows; /* struct vector_row */
    bool unsynced;
};

bool index_writer_open(struct index_writer **out, struct index *index, int number,
                       const char *doc_id, struct error *err) {
    struct index_space *space = index_space_numbered(index, number);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    struct index_writer *writer = mem_alloc(sizeof *writer);
    writer->index = index;
    writer->space = space;
    snprintf(writer->doc_id, sizeof writer->doc_id, "%s", doc_id);
    *out = writer;
    return true;
}

bool index_writer_add(struct index_writer *writer, enum item_kind kind, int item,
                      const float *vectors, int n, struct error *err) {
    struct index_space *space = writer->space;
    if (n < 1 || n > MAX_ITEM_VECTORS)
        return error_set(err, ERROR_LIMIT, "%d vectors of one page or passage", n);
    lock_take(&writer->index->lock);
    int64_t first = space->end;
    space->end += n;
    lock_drop(&writer->index->lock);
    int64_t bytes = index_vector_bytes(space);
    writer->unsynced = true;
    if (!index_write_at(space->fd, vectors, (size_t)(n * bytes), INDEX_HEADER_BYTES + first * bytes,
                        "a file of vectors", err))
        return false;
    struct vector_row row = {.kind = (enum vector_kind)kind, .item = item, .first = first, .n = n};
    buf_append(&writer->rows, &row, sizeof row);
    return !writer->rows.failed ||
           error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many pages and passages");
}

int64_t index_writer_count(const struct index_writer *writer) {
    return (int64_t)(writer->rows.len / sizeof(struct vector_row));
}

/* The system tells of a failed sync once, and to one caller; the bytes lost may be another's. So
 * they take turns, and after a failure none is told that its bytes are safe until the file is
 * opened anew. */
static bool sync_space(struct index_space *space, struct error *err) {
    int failed = 0;
    lock_take(&space->syncing);
    bool ok = !space->broken;
    if (ok && fdatasync(space->fd) != 0) {
        failed = errno;
        space->broken = true;
        ok = false;
    }
    lock_drop(&space->syncing);
    if (failed)
        log_error("vectors of %s: %s; no more are taken until a restart", space->name,
                  strerror(failed));
    return ok || error_set_code(err, ERROR_IO, "storage_error",
                                "the file of vectors had an i/o error; none are taken until a "
                                "restart");
}

bool index_writer_sync(struct index_writer *writer, struct error *err) {
    if (!writer->unsynced)
        return true;
    if (!sync_space(writer->space, err))
        return false;
    writer->unsynced = false;
    fault_point("embedded");
    return true;
}

bool index_writer_commit(struct index_writer *writer, struct store_tx *tx, struct error *err) {
    return index_writer_sync(writer, err) &&
           store_put_vectors(tx, writer->space->number, writer->doc_id,
                             (const struct vector_row *)writer->rows.data,
                             (int)index_writer_count(writer), err);
}

void index_writer_free(struct index_writer *writer) {
    if (!writer)
        return;
    buf_fini(&writer->rows);
    mem_free(writer);
}
