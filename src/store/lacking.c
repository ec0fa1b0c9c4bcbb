/* What is still to be embedded: documents without vectors, and the jobs that see to it. */
#include "store/lacking.h"
#include "store/internal.h"

#include <assert.h>

#define NO_SPACE (-1)

/* A need is (kind, space): ?1 and ?2, ?3 and ?4. Space 0 has no rows: it lacks every document. */
#define LACKS(kind, space)                                                                         \
    "(" space " >= 0 AND CASE " kind " WHEN 0 THEN d.n_pages ELSE d.n_chunks END > 0"              \
    " AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.doc_no = d.doc_no"                           \
    "  AND v.space_no = " space " AND v.kind = " kind "))"
#define LACKING                                                                                    \
    " FROM documents d WHERE d.state = ?5 AND d.doc_no > ?6 AND d.doc_no <= ?7 AND (" LACKS(       \
        "?1", "?2") " OR " LACKS("?3", "?4") ") AND " DOCUMENT_IS_OWN

static sqlite3_stmt *query(struct conn *conn, const char *sql, const char *types,
                           const struct vector_need *needs, int n_needs, int64_t after,
                           int64_t until, int64_t limit, struct error *err) {
    int64_t kinds[2] = {0}, spaces[2] = {NO_SPACE, NO_SPACE};
    assert(n_needs >= 0 && n_needs <= 2);
    for (int i = 0; i < n_needs; i++) {
        kinds[i] = needs[i].kind;
        spaces[i] = needs[i].space;
    }
    return conn_query(conn, err, sql, types, kinds[0], spaces[0], kinds[1], spaces[1],
                      (int64_t)DOCUMENT_READY, after, until, limit);
}

bool store_list_lacking(struct lacking_row **out, int *n, struct arena *arena, struct store *store,
                        const struct vector_need *needs, int n_needs, int64_t after, int64_t until,
                        int limit, struct error *err) {
    struct conn *conn;
    bool row = false;
    *n = 0;
    *out = arena_alloc(arena, ((size_t)limit + 1) * sizeof **out);
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = query(conn,
                               "SELECT d.doc_no, d.doc_id, d.filename, d.n_pages" LACKING
                               " ORDER BY d.doc_no LIMIT ?8",
                               "iiiiiiii", needs, n_needs, after, until, limit, err);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < limit) {
        struct lacking_row *lacking = &(*out)[(*n)++];
        lacking->doc_no = sqlite3_column_int64(stmt, 0);
        column_id(lacking->doc_id, stmt, 1);
        lacking->filename = column_text(arena, stmt, 2);
        lacking->n_pages = sqlite3_column_int(stmt, 3);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_count_lacking(struct lacking_count *out, struct store *store,
                         const struct vector_need *needs, int n_needs, int64_t after, int64_t until,
                         struct error *err) {
    struct conn *conn;
    bool row = false;
    *out = (struct lacking_count){0};
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = query(conn,
                               "SELECT count(*), coalesce(sum(d.n_pages), 0),"
                               " coalesce(max(d.doc_no), 0)" LACKING,
                               "iiiiiii", needs, n_needs, after, until, 0, err);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        out->documents = sqlite3_column_int64(stmt, 0);
        out->pages = sqlite3_column_int64(stmt, 1);
        out->last = sqlite3_column_int64(stmt, 2);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_drop_vectors(struct store_tx *tx, int64_t *n, int space, const char *doc_id,
                        struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    *n = 0;
    bool ok = conn && conn_run(conn, err,
                               "DELETE FROM vectors WHERE space_no = ? AND kind IN (0, 1)"
                               " AND doc_no ="
                               " (SELECT doc_no FROM documents WHERE doc_id = ?)",
                               "it", (int64_t)space, doc_id);
    if (ok)
        *n = sqlite3_changes(conn->db);
    return tx_done(tx, ok);
}

bool store_count_live_jobs(int64_t *n, struct store *store, const char *kind, struct error *err) {
    struct conn *conn;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(
        n, 0, conn, err, "SELECT count(*) FROM jobs WHERE state IN (0, 1) AND kind = ?", "t", kind);
    reader_drop(conn);
    return ok;
}
