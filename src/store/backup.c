/* The online copy, and documents out of it. A copy is opened like any store, and so migrated by
 * the same steps where it is older. */
#include "store/backup.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 30000
#define BUSY_WAIT_MS 20

/* ---- the copy ------------------------------------------------------------------------------- */

static bool fail(const char *path, sqlite3 *db, int rc, struct error *err) {
    if ((rc & 0xff) == SQLITE_FULL)
        return error_set_code(err, ERROR_IO, "disk_full", "no space left for a copy of %s", path);
    return error_set_code(err, ERROR_IO, "storage_error", "copy of %s: %s", path,
                          db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

static bool pragma(int64_t *out, sqlite3 *db, const char *sql, const char *path,
                   struct error *err) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || fail(path, db, rc, err);
}

static bool check_kind(sqlite3 *db, const char *path, struct error *err) {
    int64_t version, application;
    if (!pragma(&application, db, "PRAGMA application_id", path, err) ||
        !pragma(&version, db, "PRAGMA user_version", path, err))
        return false;
    if (application != STORE_APPLICATION)
        return error_set(err, ERROR_UNSUPPORTED, "%s is another program's database", path);
    if (version > STORE_VERSION)
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s was written by a newer version (schema %" PRId64
                         "; this program knows %d)",
                         path, version, STORE_VERSION);
    return true;
}

/* All pages in one step: one read transaction, so one moment. */
static bool copy_pages(sqlite3 *to, sqlite3 *from, const char *path, struct error *err) {
    int64_t until_ms = time_mono_ms() + BUSY_TIMEOUT_MS;
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (!backup)
        return fail(path, to, sqlite3_errcode(to), err);
    int rc;
    do {
        rc = sqlite3_backup_step(backup, -1);
        if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
            time_sleep_ms(BUSY_WAIT_MS);
    } while ((rc == SQLITE_BUSY || rc == SQLITE_LOCKED) && time_mono_ms() < until_ms);
    int finished = sqlite3_backup_finish(backup);
    return rc == SQLITE_DONE ? finished == SQLITE_OK || fail(path, NULL, finished, err)
                             : fail(path, NULL, rc, err);
}

bool store_backup(const char *path, const char *data_dir, struct error *err) {
    sqlite3 *from = NULL, *to = NULL;
    char *source = mem_printf("%s/docusearch.db", data_dir);
    bool ok = access(source, F_OK) == 0 || error_set_errno(err, errno, "%s", source);
    int rc = SQLITE_OK;
    if (ok && unlink(path) != 0 && errno != ENOENT)
        ok = error_set_errno(err, errno, "%s", path);
    if (ok) {
        rc = sqlite3_open_v2(source, &from, SQLITE_OPEN_READONLY | SQLITE_OPEN_EXRESCODE, NULL);
        ok = rc == SQLITE_OK || fail(source, from, rc, err);
    }
    if (ok) {
        sqlite3_busy_timeout(from, BUSY_TIMEOUT_MS);
        ok = check_kind(from, source, err);
    }
    if (ok) {
        /* SQLite makes files that others may read. */
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        ok = fd >= 0 || error_set_errno(err, errno, "%s", path);
        if (fd >= 0)
            close(fd);
    }
    if (ok) {
        rc = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL);
        ok = (rc == SQLITE_OK || fail(path, to, rc, err)) && copy_pages(to, from, source, err);
    }
    sqlite3_close(to);
    sqlite3_close(from);
    mem_free(source);
    return ok;
}

bool store_strip(struct store_tx *tx, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx, conn && conn_run(conn, err, "DELETE FROM jobs", "") &&
                           conn_run(conn, err, "DELETE FROM meta", ""));
}

/* ---- read ----------------------------------------------------------------------------------- */

#define PAGE_OF_IDS 1000

/* Ids after a place in the order, which is (first_chunk or the largest number, doc_no). */
static bool list_after(char (*ids)[SHA256_HEX + 1], int *n, int64_t *chunk, int64_t *number,
                       struct store *store, struct error *err) {
    struct conn *conn;
    bool row = false;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        "SELECT doc_id, CASE first_chunk WHEN 0 THEN 9223372036854775807 ELSE first_chunk END AS f,"
        " doc_no FROM documents WHERE (f, doc_no) > (?, ?) ORDER BY f, doc_no LIMIT ?",
        "iii", *chunk, *number, (int64_t)PAGE_OF_IDS);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row) {
        column_id(ids[(*n)++], stmt, 0);
        *chunk = sqlite3_column_int64(stmt, 1);
        *number = sqlite3_column_int64(stmt, 2);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_visit_documents(struct store *store, document_visitor visit, void *ctx,
                           struct error *err) {
    char(*ids)[SHA256_HEX + 1] = mem_alloc(PAGE_OF_IDS * sizeof *ids);
    int64_t chunk = -1, number = -1;
    int n;
    bool ok;
    do {
        ok = list_after(ids, &n, &chunk, &number, store, err);
        for (int i = 0; i < n && ok; i++) {
            struct arena *arena = arena_new(0);
            struct document_row row;
            bool found;
            ok = store_find_document(&row, &found, arena, store, ids[i], err) &&
                 (!found || visit(ctx, &row, err));
            arena_free(arena);
        }
    } while (ok && n == PAGE_OF_IDS);
    mem_free(ids);
    return ok;
}

bool store_list_items(struct item_row **out, int *n, struct arena *arena, struct store *store,
                      const char *doc_id, struct error *err) {
    struct conn *conn;
    int64_t most = 0, doc_no = 0;
    bool row = false;
    *out = NULL;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = NULL;
    bool ok = conn_number(&doc_no, 0, conn, err, "SELECT doc_no FROM documents WHERE doc_id = ?",
                          "t", doc_id) &&
              conn_number(&most, 0, conn, err,
                          "SELECT count(*) FROM vectors v, spaces s"
                          " WHERE v.space_no = s.space_no AND v.kind IN (0, 1) AND v.doc_no = ?",
                          "i", doc_no);
    if (ok) {
        *out = arena_alloc(arena, ((size_t)most + 1) * sizeof **out);
        /* The index is (space_no, kind, doc_no, item). */
        stmt = conn_query(conn, err,
                          "SELECT v.id, v.space_no, v.kind, v.item FROM spaces s, vectors v"
                          " WHERE v.space_no = s.space_no AND v.kind IN (0, 1) AND v.doc_no = ?"
                          " ORDER BY v.id",
                          "i", doc_no);
        ok = stmt != NULL;
    }
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        (*out)[(*n)++] = (struct item_row){.id = sqlite3_column_int64(stmt, 0),
                                           .space = sqlite3_column_int(stmt, 1),
                                           .kind = (enum vector_kind)sqlite3_column_int(stmt, 2),
                                           .item = sqlite3_column_int(stmt, 3)};
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

/* ---- put ------------------------------------------------------------------------------------ */

static bool list_sources(const char ***out, int *n, struct arena *arena, struct store *store,
                         const char *doc_id, struct error *err) {
    struct conn *conn;
    int64_t most = 0;
    bool row = false;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = NULL;
    bool ok = conn_number(&most, 0, conn, err,
                          "SELECT count(*) FROM sources JOIN documents USING (doc_no)"
                          " WHERE doc_id = ?",
                          "t", doc_id);
    if (ok) {
        *out = arena_alloc(arena, ((size_t)most + 1) * sizeof **out);
        stmt = conn_query(conn, err,
                          "SELECT path FROM sources JOIN documents USING (doc_no)"
                          " WHERE doc_id = ? ORDER BY path",
                          "t", doc_id);
        ok = stmt != NULL;
    }
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        (*out)[(*n)++] = column_text(arena, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

/* The row with those of its sources that nobody has here; without any it counts as uploaded. */
static bool put_row(struct store_tx *tx, struct document_row *row, const char *const *sources,
                    int n_sources, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool existed, put = false;
    for (int i = 0; i < n_sources && conn; i++) {
        int64_t n_here;
        bool upload = strncmp(sources[i], "upload:", 7) == 0;
        if (!conn_number(&n_here, 0, conn, err, "SELECT count(*) FROM sources WHERE path = ?", "t",
                         sources[i]))
            return tx_done(tx, false);
        if (n_here > 0 && !upload)
            continue;
        row->source_path = upload ? "" : sources[i];
        if (!store_put_document(tx, &existed, row, err))
            return false;
        put = true;
    }
    row->source_path = "";
    return conn && (put || store_put_document(tx, &existed, row, err));
}

static bool put_reading(struct store_tx *tx, const struct document_row *row, struct arena *arena,
                        struct store *from, struct error *err) {
    struct page_row *pages;
    struct chunk_row *chunks;
    int n_pages, n_chunks;
    struct document_row read = *row;
    if (!store_list_pages(&pages, &n_pages, arena, from, row->doc_id, err) ||
        !store_list_chunks(&chunks, &n_chunks, arena, from, row->doc_id, true, err))
        return false;
    if (n_pages != row->n_pages)
        pages = NULL;
    return store_put_reading(tx, &read, pages, chunks, n_chunks, err);
}

bool store_copy_document(struct store_tx *tx, struct store *from, const char *doc_id,
                         struct error *err) {
    struct arena *arena = arena_new(0);
    struct document_row row;
    const char **sources;
    int n_sources;
    bool found = false;
    bool ok = store_find_document(&row, &found, arena, from, doc_id, err) &&
              (found || error_set(err, ERROR_MISSING, "there is no document %s", doc_id)) &&
              list_sources(&sources, &n_sources, arena, from, doc_id, err) &&
              put_row(tx, &row, sources, n_sources, err);
    if (ok && row.state == DOCUMENT_READY)
        ok = put_reading(tx, &row, arena, from, err);
    else if (ok && row.state == DOCUMENT_FAILED)
        ok = store_set_document_state(tx, doc_id, DOCUMENT_FAILED, row.error_code, row.error_text,
                                      err);
    arena_free(arena);
    return ok;
}
