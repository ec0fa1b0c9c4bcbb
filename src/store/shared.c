/* Documents that several workers share: what the shared store has of them, those of other workers,
 * and removals.
 *
 * Invariants:
 *  1. A document with an origin is READY and has no sources; its path is in shown_path.
 *  2. Of a document that lives, the generation of its last removal is in removed_generation; of one
 *     that does not, in removals. */
#include "store/shared.h"
#include "store/internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert(DOCUMENT_READY == 1, "the index documents_own is over state 1");
#define OWN_READY "state = 1 AND origin = ''"

/* ---- documents ------------------------------------------------------------------------------ */

#define SHARED_COLUMNS                                                                             \
    "d.doc_id, d.origin, d.shared_generation, d.shared_epoch, d.shared_revision, d.doc_no"

static void shared_from(struct shared_row *out, struct arena *arena, sqlite3_stmt *stmt) {
    memset(out, 0, sizeof *out);
    column_id(out->doc_id, stmt, 0);
    out->origin = column_text(arena, stmt, 1);
    out->generation = sqlite3_column_int64(stmt, 2);
    out->epoch = sqlite3_column_int64(stmt, 3);
    out->revision = column_text(arena, stmt, 4);
    out->doc_no = sqlite3_column_int64(stmt, 5);
}

bool store_find_shared(struct shared_row *out, bool *found, struct arena *arena,
                       struct store *store, const char *doc_id, struct error *err) {
    struct conn *conn;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT " SHARED_COLUMNS " FROM documents d WHERE d.doc_id = ?", "t", doc_id);
    bool ok = stmt && conn_step(found, conn, stmt, err);
    if (ok && *found)
        shared_from(out, arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_is_mirrored(bool *out, struct store *store, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool found;
    bool ok = store_find_shared(&shared, &found, arena, store, doc_id, err);
    *out = ok && found && *shared.origin;
    arena_free(arena);
    return ok;
}

static bool set_shared(struct conn *conn, int64_t doc_no, int64_t generation, int64_t epoch,
                       const char *revision, struct error *err) {
    return conn_run(conn, err,
                    "UPDATE documents SET shared_generation = ?, shared_epoch = ?,"
                    " shared_revision = ? WHERE doc_no = ?",
                    "iiti", generation, epoch, revision ? revision : "", doc_no);
}

bool store_set_shared(struct store_tx *tx, const char *doc_id, int64_t generation, int64_t epoch,
                      const char *revision, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    if (!conn || !document_find_no(&doc_no, conn, doc_id, err))
        return tx_done(tx, false);
    if (doc_no == 0)
        return document_missing(doc_id, err);
    return tx_done(tx, set_shared(conn, doc_no, generation, epoch, revision, err));
}

bool document_find_origin(int64_t *doc_no, bool *mirrored, struct conn *conn, const char *doc_id,
                          struct error *err) {
    bool row = false;
    *doc_no = 0;
    *mirrored = false;
    sqlite3_stmt *stmt = conn_query(
        conn, err, "SELECT doc_no, origin <> '' FROM documents WHERE doc_id = ?", "t", doc_id);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        *doc_no = sqlite3_column_int64(stmt, 0);
        *mirrored = sqlite3_column_int(stmt, 1) != 0;
    }
    conn_finish(stmt);
    return ok;
}

static bool put_mirrored(struct conn *conn, int64_t doc_no, const struct document_row *row,
                         const struct shared_row *shared, const struct page_row *pages,
                         const struct chunk_row *chunks, int n_chunks, struct error *err) {
    int64_t removed = 0;
    if (!conn_number(&removed, 0, conn, err, "SELECT generation FROM removals WHERE doc_id = ?",
                     "t", row->doc_id))
        return false;
    if (removed > 0 && removed >= shared->generation)
        return true;
    return (doc_no == 0 || document_drop_reading(conn, doc_no, err)) &&
           document_put_row(&doc_no, conn, row, shared->origin, err) &&
           document_put_reading(conn, row, pages, chunks, n_chunks, err) &&
           set_shared(conn, doc_no, shared->generation, shared->epoch, shared->revision, err);
}

bool store_put_mirrored(struct store_tx *tx, bool *own, const struct document_row *row,
                        const struct shared_row *shared, const struct page_row *pages,
                        const struct chunk_row *chunks, int n_chunks, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    bool mirrored;
    *own = false;
    if (!conn || !document_find_origin(&doc_no, &mirrored, conn, row->doc_id, err))
        return tx_done(tx, false);
    if (!shared->origin || !shared->origin[0])
        return error_set(err, ERROR_INPUT, "document %s of another worker does not name it",
                         row->doc_id);
    *own = doc_no != 0 && !mirrored;
    return tx_done(tx,
                   *own || put_mirrored(conn, doc_no, row, shared, pages, chunks, n_chunks, err));
}

bool store_give_up(struct store_tx *tx, const char *doc_id, const char *origin, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    int64_t doc_no;
    if (!conn || !document_find_no(&doc_no, conn, doc_id, err))
        return tx_done(tx, false);
    if (doc_no == 0)
        return document_missing(doc_id, err);
    return tx_done(tx, conn_run(conn, err, "DELETE FROM sources WHERE doc_no = ?", "i", doc_no) &&
                           conn_run(conn, err, "UPDATE documents SET origin = ? WHERE doc_no = ?",
                                    "ti", origin, doc_no));
}

/* A range of the index for each epoch that documents have, which are few; of each as many as may be
 * asked for. */
#define EPOCHS                                                                                     \
    "WITH RECURSIVE epochs (epoch) AS ("                                                           \
    " SELECT min(shared_epoch) FROM documents INDEXED BY documents_own WHERE " OWN_READY           \
    " UNION ALL SELECT (SELECT min(o.shared_epoch) FROM documents o INDEXED BY documents_own"      \
    "  WHERE o.state = 1 AND o.origin = '' AND o.shared_epoch > epochs.epoch)"                     \
    " FROM epochs WHERE epochs.epoch IS NOT NULL) "

bool store_list_unshared(struct shared_row **out, int *n, int64_t *last, struct arena *arena,
                         struct store *store, int64_t epoch, int64_t after, int limit,
                         struct error *err) {
    struct conn *conn;
    bool row = false;
    *n = 0;
    *last = after;
    if (limit < 0)
        limit = 0;
    *out = arena_alloc(arena, ((size_t)limit + 1) * sizeof **out);
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        EPOCHS "SELECT " SHARED_COLUMNS " FROM epochs CROSS JOIN documents d"
               " ON d.doc_no IN (SELECT o.doc_no FROM documents o WHERE o.state = 1"
               "  AND o.origin = '' AND o.shared_epoch = epochs.epoch AND o.doc_no > ?2"
               "  ORDER BY o.doc_no LIMIT ?3)"
               " WHERE epochs.epoch <> ?1 ORDER BY d.doc_no LIMIT ?3",
        "iii", epoch, after, (int64_t)limit);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < limit) {
        shared_from(&(*out)[(*n)++], arena, stmt);
        *last = sqlite3_column_int64(stmt, 5);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_list_seen(struct shared_row **out, int *n, struct arena *arena, struct store *store,
                     int64_t epoch, int64_t after, int limit, struct error *err) {
    struct conn *conn;
    bool row = false;
    *n = 0;
    if (limit < 0)
        limit = 0;
    *out = arena_alloc(arena, ((size_t)limit + 1) * sizeof **out);
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT " SHARED_COLUMNS " FROM documents d"
                                    " WHERE d.doc_no > ? AND d.shared_epoch = ? AND d.state = 1"
                                    " ORDER BY d.doc_no LIMIT ?",
                                    "iii", after, epoch, (int64_t)limit);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < limit)
        shared_from(&(*out)[(*n)++], arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_set_unseen(struct store_tx *tx, int64_t epoch, const int64_t *doc_nos, int n,
                      struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    bool ok = conn != NULL;
    for (int i = 0; i < n && ok; i++)
        ok = conn_run(conn, err,
                      "UPDATE documents SET shared_epoch = 0 WHERE doc_no = ? AND shared_epoch = ?",
                      "ii", doc_nos[i], epoch);
    return tx_done(tx, ok);
}

bool store_count_shared(struct shared_counts *out, struct store *store, int64_t epoch,
                        struct error *err) {
    struct conn *conn;
    bool row = false;
    memset(out, 0, sizeof *out);
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(
        conn, err,
        "SELECT count(*), coalesce(sum(shared_epoch <> ?1), 0),"
        " coalesce(sum(shared_epoch <> ?1 AND shared_generation = 0), 0)"
        " FROM documents INDEXED BY documents_own WHERE " OWN_READY,
        "i", epoch);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        out->own = sqlite3_column_int64(stmt, 0);
        out->unshared = sqlite3_column_int64(stmt, 1);
        out->never_shared = sqlite3_column_int64(stmt, 2);
    }
    conn_finish(stmt);
    ok = ok && conn_number(&out->cancelled, 0, conn, err,
                           "SELECT count(*) FROM documents o INDEXED BY documents_own"
                           " WHERE o.state = 1 AND o.origin = '' AND o.shared_epoch = ?"
                           " AND (SELECT j.state FROM jobs j WHERE j.doc_id = o.doc_id"
                           "  ORDER BY j.job_id DESC LIMIT 1) = ?",
                           "ii", (int64_t)SHARED_HELD, (int64_t)JOB_CANCELLED);
    out->unshared -= out->cancelled;
    out->never_shared -= out->cancelled;
    ok = ok &&
         conn_number(&out->mirrored, 0, conn, err,
                     "SELECT count(*) FROM documents WHERE origin <> ''", "") &&
         conn_number(&out->unseen, 0, conn, err,
                     "SELECT count(*) FROM documents INDEXED BY documents_mirrored"
                     " WHERE origin <> '' AND shared_epoch <> ?",
                     "i", epoch) &&
         conn_number(&out->removals, 0, conn, err, "SELECT count(*) FROM removals", "") &&
         conn_number(&out->untold, 0, conn, err, "SELECT count(*) FROM removals WHERE told = 0",
                     "");
    reader_drop(conn);
    return ok;
}

bool store_find_mirrored(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                         const char *origin, const char *path, struct error *err) {
    struct conn *conn;
    bool row = false;
    *found = false;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT doc_id FROM documents INDEXED BY documents_shown"
                                    " WHERE origin <> '' AND origin = ? AND shown_path = ?",
                                    "tt", origin, path);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row) {
        snprintf(doc_id, SHA256_HEX + 1, "%s", (const char *)sqlite3_column_text(stmt, 0));
        *found = true;
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_list_mirrored(struct shared_row **out, int *n, struct arena *arena, struct store *store,
                         const char *origin, struct error *err) {
    struct conn *conn;
    bool row = false;
    int64_t n_all = 0;
    *n = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(&n_all, 0, conn, err,
                          "SELECT count(*) FROM documents INDEXED BY documents_mirrored"
                          " WHERE origin <> '' AND origin = ?",
                          "t", origin);
    *out = arena_alloc(arena, ((size_t)n_all + 1) * sizeof **out);
    sqlite3_stmt *stmt = !ok ? NULL
                             : conn_query(conn, err,
                                          "SELECT " SHARED_COLUMNS " FROM documents d"
                                          " WHERE d.origin <> '' AND d.origin = ?",
                                          "t", origin);
    ok = stmt != NULL;
    while (ok && *n < n_all && (ok = conn_step(&row, conn, stmt, err)) && row)
        shared_from(&(*out)[(*n)++], arena, stmt);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

/* ---- removals ------------------------------------------------------------------------------- */

bool store_put_removal(struct store_tx *tx, const char *doc_id, int64_t generation,
                       int64_t removed_ms, bool told, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx, conn && conn_run(conn, err,
                                        "INSERT INTO removals (doc_id, generation, removed_ms,"
                                        " told) VALUES (?,?,?,?)"
                                        " ON CONFLICT (doc_id) DO UPDATE SET"
                                        " removed_ms = CASE WHEN excluded.generation > generation"
                                        "  THEN excluded.removed_ms WHEN excluded.told"
                                        "  THEN removed_ms"
                                        "  ELSE max(excluded.removed_ms, removed_ms + 1) END,"
                                        " told = excluded.told,"
                                        " generation = max(generation, excluded.generation)"
                                        " WHERE excluded.generation >= generation"
                                        " OR NOT excluded.told",
                                        "tiii", doc_id, generation, removed_ms, (int64_t)told));
}

bool document_drop_removal(struct conn *conn, const char *doc_id, struct error *err) {
    return conn_run(conn, err,
                    "UPDATE documents SET removed_generation ="
                    " (SELECT generation FROM removals r WHERE r.doc_id = ?1)"
                    " WHERE doc_id = ?1 AND EXISTS (SELECT 1 FROM removals r WHERE r.doc_id = ?1)",
                    "t", doc_id) &&
           conn_run(conn, err, "DELETE FROM removals WHERE doc_id = ?", "t", doc_id);
}

bool document_put_removal(struct conn *conn, int64_t doc_no, struct error *err) {
    return conn_run(conn, err,
                    "INSERT INTO removals (doc_id, generation, removed_ms, told)"
                    " SELECT doc_id, removed_generation, ?, 0 FROM documents"
                    " WHERE doc_no = ? AND removed_generation > 0 ON CONFLICT (doc_id) DO NOTHING",
                    "ii", time_wall_ms(), doc_no);
}

bool store_set_removal_told(struct store_tx *tx, const struct removal_row *row, int64_t generation,
                            struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx, conn && conn_run(conn, err,
                                        "UPDATE removals SET told = 1, generation = max(generation,"
                                        " ?) WHERE doc_id = ? AND generation = ?"
                                        " AND removed_ms = ?",
                                        "itii", generation, row->doc_id, row->generation,
                                        row->removed_ms));
}

bool store_forget_told(struct store_tx *tx, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    return tx_done(tx,
                   conn && conn_run(conn, err, "UPDATE removals SET told = 0 WHERE told <> 0", ""));
}

bool store_list_removals(struct removal_row **out, int *n, struct arena *arena, struct store *store,
                         int limit, struct error *err) {
    struct conn *conn;
    bool row = false;
    *n = 0;
    if (limit < 0)
        limit = 0;
    *out = arena_alloc(arena, ((size_t)limit + 1) * sizeof **out);
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err,
                                    "SELECT doc_id, generation, removed_ms FROM removals"
                                    " WHERE told = 0 ORDER BY removed_ms, doc_id LIMIT ?",
                                    "i", (int64_t)limit);
    bool ok = stmt != NULL;
    while (ok && (ok = conn_step(&row, conn, stmt, err)) && row && *n < limit) {
        struct removal_row *removal = &(*out)[(*n)++];
        column_id(removal->doc_id, stmt, 0);
        removal->generation = sqlite3_column_int64(stmt, 1);
        removal->removed_ms = sqlite3_column_int64(stmt, 2);
    }
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_find_removal(int64_t *generation, struct store *store, const char *doc_id,
                        struct error *err) {
    struct conn *conn;
    *generation = 0;
    if (!reader_take(&conn, store, err))
        return false;
    bool ok = conn_number(generation, 0, conn, err,
                          "SELECT max(coalesce((SELECT generation FROM removals WHERE doc_id = ?1),"
                          "  0), coalesce((SELECT removed_generation FROM documents"
                          "  WHERE doc_id = ?1), 0))",
                          "t", doc_id);
    reader_drop(conn);
    return ok;
}
