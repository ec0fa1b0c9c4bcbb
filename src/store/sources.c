/* The paths that documents came from. A document goes by the name it first came under for as long
 * as that is one it has: when the path of that name goes, the newest of the others names it. */
#include "store/sources.h"
#include "store/internal.h"

#include <stdio.h>
#include <string.h>

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* After `gone` was taken from the document's sources. */
static bool follow_sources(struct conn *conn, int64_t doc_no, const char *gone, struct error *err) {
    struct arena *arena = arena_new(0);
    const char *name = NULL, *title = NULL;
    bool row = false;
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT s.path, d.title FROM documents d"
                                    " JOIN sources s USING (doc_no)"
                                    " WHERE d.doc_no = ? AND d.filename = ?"
                                    " AND s.path <> 'upload:' || d.doc_id"
                                    " ORDER BY s.put_no DESC, s.path LIMIT 1",
                                    "it", doc_no, last_part(gone));
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        name = last_part(column_text(arena, stmt, 0));
        title = column_text(arena, stmt, 1);
    }
    conn_finish(stmt);
    if (ok && name && name[0] && strcmp(name, last_part(gone)) != 0)
        ok = conn_run(conn, err,
                      "UPDATE documents SET filename = ?, name_key = ?, search_key = ?"
                      " WHERE doc_no = ?",
                      "ttti", name, fold_text(arena, name), document_search_key(arena, name, title),
                      doc_no);
    arena_free(arena);
    return ok;
}

bool document_put_source(struct conn *conn, int64_t doc_no, const struct document_row *row,
                         struct error *err) {
    /* An upload is a source too: what came from a path as well outlives that path. */
    char upload[sizeof "upload:" + SHA256_HEX];
    snprintf(upload, sizeof upload, "upload:%s", row->doc_id);
    const char *path = row->source_path && row->source_path[0] ? row->source_path : upload;
    int64_t before;
    return conn_number(&before, 0, conn, err, "SELECT doc_no FROM sources WHERE path = ?", "t",
                       path) &&
           (before == doc_no ||
            conn_run(conn, err,
                     "INSERT INTO sources (path, doc_no, put_no) VALUES (?1, ?2,"
                     " (SELECT coalesce(max(put_no), 0) + 1 FROM sources WHERE doc_no = ?2))"
                     " ON CONFLICT (path) DO UPDATE SET doc_no = excluded.doc_no,"
                     " put_no = excluded.put_no",
                     "ti", path, doc_no)) &&
           (before == 0 || before == doc_no || follow_sources(conn, before, path, err));
}

bool store_drop_source(struct store_tx *tx, int *n_left, const char *doc_id, const char *path,
                       struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no = 0, n = 0;
    *n_left = 0;
    bool ok = conn && document_find_no(&doc_no, conn, doc_id, err) &&
              conn_run(conn, err, "DELETE FROM sources WHERE path = ? AND doc_no = ?", "ti", path,
                       doc_no);
    bool dropped = ok && sqlite3_changes(conn->db) > 0;
    if (dropped)
        ok = follow_sources(conn, doc_no, path, err);
    ok = ok && conn_number(&n, 0, conn, err, "SELECT count(*) FROM sources WHERE doc_no = ?", "i",
                           doc_no);
    if (ok && dropped)
        ok = n > 0 ? superseded_follow(conn, doc_no, path, err)
                   : superseded_remove(conn, doc_no, path, err);
    *n_left = (int)n;
    return tx_done(tx, ok);
}

bool store_find_source(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                       const char *path, struct error *err) {
    struct conn *conn;
    *found = false;
    doc_id[0] = '\0';
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT doc_id FROM sources JOIN documents USING (doc_no) WHERE path = ?", "t",
        path);
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        column_id(doc_id, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_list_sources(const char *const **out, int *n, struct arena *arena, struct store *store,
                        const char *folder, const char *after, int limit, struct error *err) {
    struct conn *conn;
    bool row = false;
    const char **paths = arena_alloc(arena, ((size_t)limit + 1) * sizeof *paths);
    const char *first = arena_printf(arena, "%s/", folder);
    *out = paths;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    /* '0' is the byte after '/'. */
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT path FROM sources WHERE path > ? AND path < ? ORDER BY path LIMIT ?",
        "tti", strcmp(after, first) > 0 ? after : first, arena_printf(arena, "%s0", folder),
        (int64_t)limit);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < limit)
        paths[(*n)++] = column_text(arena, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}
