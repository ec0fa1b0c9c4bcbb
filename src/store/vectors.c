/* Vector spaces, the rows of items that have vectors in them, and who is told of their coming and
 * going.
 *
 * Invariants:
 *  1. Rows of vectors are deleted by statements with a WHERE and never replaced: SQLite's update
 *     hook tells of neither otherwise.
 *  2. What the hook told is kept until the transaction ends: after COMMIT the watcher gets it,
 * after ROLLBACK nobody does. */
#include "store/lexical.h"

#include <string.h>

#define VISIT_IDS 1024

/* ---- spaces --------------------------------------------------------------------------------- */

#define SPACE_COLUMNS "SELECT space_no, name, dim, late FROM spaces"

static void space_from(struct space_row *out, struct arena *arena, sqlite3_stmt *stmt) {
    out->space = sqlite3_column_int(stmt, 0);
    out->name = arena ? column_text(arena, stmt, 1) : NULL;
    out->dim = sqlite3_column_int(stmt, 2);
    out->late = sqlite3_column_int(stmt, 3) != 0;
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
        stmt = conn_query(conn, err, SPACE_COLUMNS " ORDER BY space_no", "");
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
    sqlite3_stmt *stmt = conn_query(conn, err, SPACE_COLUMNS " WHERE name = ?", "t", name);
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

bool store_drop_space(struct store_tx *tx, int space, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ok = conn &&
              conn_run(conn, err, "DELETE FROM vectors WHERE space_no = ?", "i", (int64_t)space) &&
              conn_run(conn, err, "DELETE FROM spaces WHERE space_no = ?", "i", (int64_t)space);
    return tx_done(tx, ok);
}

/* ---- rows ----------------------------------------------------------------------------------- */

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
    bool ok = conn_run(conn, err,
                       "DELETE FROM vectors WHERE space_no = ? AND kind IN (0, 1) AND doc_no = ?",
                       "ii", (int64_t)space, doc_no);
    for (int i = 0; i < n && ok; i++)
        ok = conn_run(conn, err,
                      "INSERT INTO vectors (id, doc_no, space_no, kind, item) VALUES (?,?,?,?,?)",
                      "iiiii", rows[i].id, doc_no, (int64_t)space, (int64_t)rows[i].kind,
                      (int64_t)rows[i].item);
    return tx_done(tx, ok);
}

bool store_visit_vectors(struct store *store, int space, enum vector_kind kind,
                         const struct search_filter *filter, vector_visitor visit, void *ctx,
                         struct error *err) {
    struct conn *conn;
    int64_t ids[VISIT_IDS];
    int n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    struct arena *arena = arena_new(0);
    sqlite3_stmt *stmt = filter_vectors(arena, conn, space, kind, filter, err);
    bool more = false, ok = stmt != NULL, go_on = true;
    while (ok && go_on && (ok = conn_step(&more, conn, stmt, err)) && more) {
        ids[n++] = sqlite3_column_int64(stmt, 0);
        if (n == VISIT_IDS) {
            go_on = visit(ctx, ids, n);
            n = 0;
        }
    }
    if (ok && go_on && n > 0)
        visit(ctx, ids, n);
    conn_finish(stmt);
    arena_free(arena);
    reader_drop(conn);
    return ok;
}

static bool find_vector(struct vector_place *out, struct conn *conn, int64_t id,
                        struct error *err) {
    bool row = false;
    memset(out, 0, sizeof *out);
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT d.doc_id, v.space_no, v.kind, v.item FROM vectors v"
                                    " JOIN documents d ON d.doc_no = v.doc_no WHERE v.id = ?",
                                    "i", id);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        column_id(out->doc_id, stmt, 0);
        out->space = sqlite3_column_int(stmt, 1);
        out->kind = (enum vector_kind)sqlite3_column_int(stmt, 2);
        out->item = sqlite3_column_int(stmt, 3);
    }
    conn_finish(stmt);
    return ok;
}

bool store_find_vectors(struct vector_place *out, struct store *store, const int64_t *ids, int n,
                        struct error *err) {
    struct conn *conn;
    bool ok = reader_take(&conn, store, err);
    for (int i = 0; i < n && ok; i++)
        ok = find_vector(&out[i], conn, ids[i], err);
    reader_drop(conn);
    return ok;
}

bool store_find_item(int64_t *id, bool *found, struct store *store, int space, const char *doc_id,
                     enum vector_kind kind, int item, struct error *err) {
    struct conn *conn;
    *found = false;
    bool ok = reader_take(&conn, store, err) &&
              conn_number(id, 0, conn, err,
                          "SELECT v.id FROM documents d JOIN vectors v ON v.doc_no = d.doc_no"
                          " WHERE d.doc_id = ? AND v.space_no = ? AND v.kind = ? AND v.item = ?",
                          "tiii", doc_id, (int64_t)space, (int64_t)kind, (int64_t)item);
    reader_drop(conn);
    *found = ok && *id != 0;
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
                          "  AND v.space_no = ?3 AND v.kind = ?4) AND " DOCUMENT_IS_OWN,
                          "itii", (int64_t)DOCUMENT_READY, doc_id, (int64_t)space, (int64_t)kind);
    out->any = any != 0;
    reader_drop(conn);
    return ok;
}

/* ---- who is told ---------------------------------------------------------------------------- */

static void note_change(void *ctx, int operation, const char *database, const char *table,
                        sqlite3_int64 row_id) {
    struct item_changes *changes = ctx;
    (void)database;
    if (strcmp(table, "vectors") != 0 || operation == SQLITE_UPDATE)
        return;
    struct id_list *list = operation == SQLITE_INSERT ? &changes->added : &changes->removed;
    if (list->n == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 64;
        list->ids = mem_grow(list->ids, (size_t)list->cap, sizeof *list->ids);
    }
    list->ids[list->n++] = row_id;
}

void store_watch_items(struct store *store, item_watcher watcher, void *ctx) {
    store->changes.watcher = watcher;
    store->changes.ctx = ctx;
    sqlite3_update_hook(store->writer->db, watcher ? note_change : NULL, &store->changes);
    changes_forget(&store->changes);
}

void changes_tell(struct item_changes *changes) {
    if (changes->watcher && changes->added.n + changes->removed.n > 0)
        changes->watcher(changes->ctx, changes->added.ids, changes->added.n, changes->removed.ids,
                         changes->removed.n);
    changes_forget(changes);
}

void changes_forget(struct item_changes *changes) {
    struct id_list *lists[] = {&changes->added, &changes->removed};
    for (size_t i = 0; i < BASE_COUNT(lists); i++) {
        mem_free(lists[i]->ids);
        *lists[i] = (struct id_list){0};
    }
}
