/* Mirrored documents whose files were read anew here: ids and paths. */
#include "store/internal.h"
#include "store/shared.h"

bool store_put_superseded(struct store_tx *tx, const char *doc_id, const char *path,
                          struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no = 0;
    bool mirrored = false;
    bool ok = conn && document_find_origin(&doc_no, &mirrored, conn, doc_id, err);
    if (ok && mirrored)
        ok = document_drop_reading(conn, doc_no, err) &&
             conn_run(conn, err, "DELETE FROM documents WHERE doc_no = ?", "i", doc_no);
    ok = ok && conn_run(conn, err,
                        "INSERT INTO superseded (doc_id, path) VALUES (?, ?)"
                        " ON CONFLICT (doc_id) DO UPDATE SET path = excluded.path",
                        "tt", doc_id, path);
    return tx_done(tx, ok);
}

bool store_drop_superseded(struct store_tx *tx, const char *doc_id, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(
        tx, conn && conn_run(conn, err, "DELETE FROM superseded WHERE doc_id = ?", "t", doc_id));
}

bool store_find_superseded(const char **path, struct arena *arena, struct store *store,
                           const char *doc_id, struct error *err) {
    struct conn *conn;
    bool row = false;
    *path = NULL;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT path FROM superseded WHERE doc_id = ?", "t",
                                    doc_id);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row)
        *path = column_text(arena, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_find_ready(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                      const char *path, const char *but, struct error *err) {
    struct conn *conn;
    *found = false;
    doc_id[0] = '\0';
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        "SELECT doc_id FROM sources JOIN documents USING (doc_no) WHERE path = ?1 AND state = ?2"
        " UNION ALL SELECT doc_id FROM documents INDEXED BY documents_shown"
        " WHERE origin <> '' AND shown_path = ?1 AND origin <> ?3 AND state = ?2 LIMIT 1",
        "tit", path, (int64_t)DOCUMENT_READY, but);
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        column_id(doc_id, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_set_shown_path(struct store_tx *tx, const char *doc_id, const char *path,
                          struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx, conn && conn_run(conn, err,
                                        "UPDATE documents SET shown_path = ?"
                                        " WHERE doc_id = ? AND origin <> ''",
                                        "tt", path, doc_id));
}

bool superseded_follow(struct conn *conn, int64_t doc_no, const char *path, struct error *err) {
    return conn_run(conn, err,
                    "UPDATE superseded SET path = (SELECT s.path FROM sources s WHERE s.doc_no = ?1"
                    "  ORDER BY s.put_no DESC, s.path LIMIT 1)"
                    " WHERE path = ?2",
                    "it", doc_no, path);
}

#define OF_PATHS " WHERE path IN (SELECT path FROM sources WHERE doc_no = ? UNION ALL SELECT ?)"

bool superseded_remove(struct conn *conn, int64_t doc_no, const char *path, struct error *err) {
    return conn_run(conn, err,
                    "INSERT INTO removals (doc_id, generation, removed_ms, told)"
                    " SELECT doc_id, 1, ?, 0 FROM superseded" OF_PATHS
                    " ON CONFLICT (doc_id) DO NOTHING",
                    "iit", time_wall_ms(), doc_no, path) &&
           conn_run(conn, err, "DELETE FROM superseded" OF_PATHS, "it", doc_no, path);
}
