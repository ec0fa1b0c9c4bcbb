/* Vector spaces, and where the vectors of pages and chunks lie in their files. */
#include "store/lexical.h"

#include <string.h>

/* Each kind's last row by place is the end of the index: no scan. */
#define SPACE_COLUMNS                                                                              \
    "s.space_no, s.name, s.dim, s.late, s.generation, s.n_items, s.n_vectors,"                     \
    " max(coalesce((SELECT first + n FROM vectors v WHERE v.space_no = s.space_no AND v.kind = 0"  \
    "               ORDER BY v.first DESC LIMIT 1), 0),"                                           \
    "     coalesce((SELECT first + n FROM vectors v WHERE v.space_no = s.space_no AND v.kind = 1"  \
    "               ORDER BY v.first DESC LIMIT 1), 0))"

static void space_from(struct space_row *out, struct arena *arena, sqlite3_stmt *stmt) {
    out->space = sqlite3_column_int(stmt, 0);
    out->name = arena ? column_text(arena, stmt, 1) : NULL;
    out->dim = sqlite3_column_int(stmt, 2);
    out->late = sqlite3_column_int(stmt, 3) != 0;
    out->generation = sqlite3_column_int(stmt, 4);
    out->n_items = sqlite3_column_int64(stmt, 5);
    out->n_vectors = sqlite3_column_int64(stmt, 6);
    out->end = sqlite3_column_int64(stmt, 7);
}

bool store_list_spaces(struct space_row **out, int *n, struct arena *arena, struct store *store,
                       struct error *err) {
    struct conn *conn;
    int64_t most = 0;
    bool row = false;
    *out = NULL;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = NULL;
    bool ok = conn_number(&most, 0, conn, err, "SELECT count(*) FROM spaces", "");
    if (ok) {
        *out = arena_alloc(arena, ((size_t)most + 1) * sizeof **out);
        stmt = conn_query(conn, err, "SELECT " SPACE_COLUMNS " FROM spaces s ORDER BY s.space_no",
                          "");
        ok = stmt != NULL;
    }
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        space_from(&(*out)[(*n)++], arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_put_space(struct store_tx *tx, struct space_row *out, const char *name, int dim,
                     bool late, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool row = false;
    memset(out, 0, sizeof *out);
    if (!conn || !conn_run(conn, err,
                           "INSERT INTO spaces (name, dim, late) VALUES (?,?,?)"
                           " ON CONFLICT (name) DO NOTHING",
                           "tii", name, (int64_t)dim, (int64_t)late))
        return tx_done(tx, false);
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT " SPACE_COLUMNS " FROM spaces s WHERE s.name = ?", "t", name);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok)
        space_from(out, NULL, stmt);
    conn_finish(stmt);
    out->name = name;
    if (ok && (out->dim != dim || out->late != late))
        ok = error_set(err, ERROR_CONFLICT,
                       "the vector space %s is known with %d dimensions%s, not %d%s", name,
                       out->dim, out->late ? " a token" : "", dim, late ? " a token" : "");
    return tx_done(tx, ok);
}

bool store_put_vectors(struct store_tx *tx, int space, const char *doc_id,
                       const struct vector_row *rows, int n, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    if (!conn || !conn_number(&doc_no, 0, conn, err,
                              "SELECT doc_no FROM documents WHERE doc_id = ? AND state = ?", "ti",
                              doc_id, (int64_t)DOCUMENT_READY))
        return tx_done(tx, false);
    if (doc_no == 0) {
        error_set(err, ERROR_MISSING, "there is no document %s that has been read", doc_id);
        return tx_done(tx, false);
    }
    bool ok = conn_run(conn, err, "DELETE FROM vectors WHERE doc_no = ? AND space_no = ?", "ii",
                       doc_no, (int64_t)space);
    for (int i = 0; i < n && ok; i++)
        ok = conn_run(conn, err,
                      "INSERT INTO vectors (doc_no, space_no, kind, item, first, n)"
                      " VALUES (?,?,?,?,?,?)",
                      "iiiiii", doc_no, (int64_t)space, (int64_t)rows[i].kind,
                      (int64_t)rows[i].item, rows[i].first, (int64_t)rows[i].n);
    return tx_done(tx, ok);
}

/* Rows of one document mostly lie together: its id is looked up when it changes. */
static bool id_of(char doc_id[SHA256_HEX + 1], struct conn *conn, int64_t doc_no,
                  struct error *err) {
    bool row = false;
    doc_id[0] = '\0';
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT doc_id FROM documents WHERE doc_no = ?", "i",
                                    doc_no);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row)
        column_id(doc_id, stmt, 0);
    conn_finish(stmt);
    return ok;
}

bool store_visit_vectors(struct store *store, int space, enum vector_kind kind,
                         const struct search_filter *filter, vector_visitor visit, void *ctx,
                         struct error *err) {
    struct conn *conn;
    if (!reader_take(&conn, store, err))
        return false;
    struct arena *arena = arena_new(0);
    sqlite3_stmt *stmt = filter_vectors(arena, conn, space, kind, filter, err);
    int64_t doc_no = 0;
    char doc_id[SHA256_HEX + 1] = "";
    bool more = false, ok = stmt != NULL, go_on = true;
    while (ok && go_on && (ok = conn_step(&more, conn, stmt, err)) && more) {
        if (sqlite3_column_int64(stmt, 0) != doc_no) {
            doc_no = sqlite3_column_int64(stmt, 0);
            ok = id_of(doc_id, conn, doc_no, err);
        }
        struct vector_row row = {.kind = kind,
                                 .item = sqlite3_column_int(stmt, 1),
                                 .first = sqlite3_column_int64(stmt, 2),
                                 .n = sqlite3_column_int(stmt, 3)};
        go_on = ok && visit(ctx, doc_id, &row);
    }
    conn_finish(stmt);
    arena_free(arena);
    reader_drop(conn);
    return ok;
}

bool store_vector_cover(struct vector_cover *out, struct store *store, int space,
                        enum vector_kind kind, const char *doc_id, struct error *err) {
    struct conn *conn;
    int64_t any = 0;
    *out = (struct vector_cover){0};
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&any, 0, conn, err,
                          "SELECT EXISTS (SELECT 1 FROM vectors WHERE space_no = ? AND kind = ?)",
                          "ii", (int64_t)space, (int64_t)kind) &&
              conn_number(&out->n_without, 0, conn, err,
                          "SELECT count(*) FROM documents d WHERE d.state = ?1"
                          " AND (?2 IS NULL OR d.doc_id = ?2)"
                          " AND CASE ?4 WHEN 0 THEN d.n_pages ELSE d.n_chunks END > 0"
                          " AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.doc_no = d.doc_no"
                          "  AND v.space_no = ?3 AND v.kind = ?4)",
                          "itii", (int64_t)DOCUMENT_READY, doc_id, (int64_t)space, (int64_t)kind);
    out->any = any != 0;
    reader_drop(conn);
    return ok;
}

bool store_drop_vectors_past(struct store_tx *tx, char (**doc_ids)[SHA256_HEX + 1], int *n,
                             struct arena *arena, int space, int64_t end, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t most = 0;
    *n = 0;
    *doc_ids = NULL;
    if (!conn || !conn_number(&most, 0, conn, err,
                              "SELECT count(DISTINCT doc_no) FROM vectors"
                              " WHERE space_no = ? AND first + n > ?",
                              "ii", (int64_t)space, end))
        return tx_done(tx, false);
    *doc_ids = arena_alloc(arena, ((size_t)most + 1) * sizeof **doc_ids);
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT doc_id FROM documents WHERE doc_no IN"
                                    " (SELECT doc_no FROM vectors"
                                    "  WHERE space_no = ? AND first + n > ?)"
                                    " ORDER BY doc_no",
                                    "ii", (int64_t)space, end);
    bool row = false, ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < most)
        column_id((*doc_ids)[(*n)++], stmt, 0);
    conn_finish(stmt);
    ok = ok && conn_run(conn, err,
                        "DELETE FROM vectors WHERE space_no = ?1 AND doc_no IN"
                        " (SELECT doc_no FROM vectors WHERE space_no = ?1 AND first + n > ?2)",
                        "ii", (int64_t)space, end);
    return tx_done(tx, ok);
}

bool store_pack_vectors(struct store_tx *tx, int space, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ok =
        conn &&
        conn_run(conn, err,
                 "UPDATE vectors SET first = packed.first FROM"
                 " (SELECT doc_no, kind, item, sum(n) OVER (ORDER BY kind, first) - n AS first"
                 "  FROM vectors WHERE space_no = ?1) AS packed"
                 " WHERE vectors.space_no = ?1 AND vectors.doc_no = packed.doc_no"
                 " AND vectors.kind = packed.kind AND vectors.item = packed.item",
                 "i", (int64_t)space) &&
        conn_run(conn, err, "UPDATE spaces SET generation = generation + 1 WHERE space_no = ?", "i",
                 (int64_t)space);
    return tx_done(tx, ok);
}
