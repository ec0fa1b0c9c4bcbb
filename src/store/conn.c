/* Connections to SQLite: opening, prepared statements kept by the address of their text, result
 * codes turned into errors.
 *
 * Invariants:
 *  1. Only the writer has a writable handle, and only it checkpoints.
 *  2. A statement leaves here reset and without bindings of earlier use.
 *  3. An I/O error of the writer latches the store: SQLite would take the next commit, and with it
 *     lose what the failed sync did not bring to the disk. */
#include "store/internal.h"

#include <assert.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 10000

static bool set_up(struct conn *conn, bool writer, struct error *err) {
    sqlite3_busy_timeout(conn->db, BUSY_TIMEOUT_MS);
    sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(conn->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (!fulltext_register(conn, err))
        return false;
    if (!writer)
        return conn_exec(conn,
                         "PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0;"
                         "PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;",
                         err);
    return conn_exec(conn,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                     "PRAGMA wal_autocheckpoint=2000; PRAGMA journal_size_limit=67108864;"
                     "PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;",
                     err);
}

bool conn_open(struct conn **out, struct store *store, bool writer, struct error *err) {
    struct conn *conn = mem_alloc(sizeof *conn);
    conn->store = store;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
    int rc = sqlite3_open_v2(store->db_path, &conn->db, flags, NULL);
    if (rc != SQLITE_OK) {
        conn_fail(conn, rc, err);
        goto fail;
    }
    if (!set_up(conn, writer, err))
        goto fail;
    *out = conn;
    return true;
fail:
    conn_close(conn);
    return false;
}

void conn_close(struct conn *conn) {
    if (!conn)
        return;
    for (int i = 0; i < conn->n_cached; i++)
        sqlite3_finalize(conn->cache[i].stmt);
    int rc = sqlite3_close(conn->db);
    assert(rc == SQLITE_OK);
    (void)rc;
    mem_free(conn);
}

bool conn_fail(struct conn *conn, int rc, struct error *err) {
    struct store *store = conn->store;
    const char *text = conn->db ? sqlite3_errmsg(conn->db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return error_set_code(err, ERROR_IO, "disk_full", "no space left for the database");
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (conn == store->writer && (rc & 0xff) == SQLITE_IOERR &&
            !atomic_exchange(&store->broken, true))
            log_error("database: %s (%d); no more is written until a restart", text, rc);
        return error_set_code(err, ERROR_IO, "storage_error", "database: %s (%d)", text, rc);
    case SQLITE_READONLY:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set_code(err, ERROR_IO, "storage_error", "database: %s (%d)", text, rc);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ERROR_BUSY, "database: %s", text);
    case SQLITE_NOMEM:
        return error_set_code(err, ERROR_IO, "out_of_memory", "database: no memory left");
    default:
        return error_set(err, ERROR_INTERNAL, "database: %s (%d)", text, rc);
    }
}

static sqlite3_stmt *prepared(struct conn *conn, const char *sql, struct error *err) {
    for (int i = 0; i < conn->n_cached; i++) {
        if (conn->cache[i].sql == sql)
            return conn->cache[i].stmt;
    }
    assert(conn->n_cached < CONN_STATEMENTS);
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
    if (rc != SQLITE_OK) {
        conn_fail(conn, rc, err);
        return NULL;
    }
    conn->cache[conn->n_cached].sql = sql;
    conn->cache[conn->n_cached++].stmt = stmt;
    return stmt;
}

static sqlite3_stmt *query(struct conn *conn, struct error *err, const char *sql, const char *types,
                           va_list args) {
    sqlite3_stmt *stmt = prepared(conn, sql, err);
    if (!stmt)
        return NULL;
    int rc = SQLITE_OK;
    for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
        if (types[i] == 'i') {
            rc = sqlite3_bind_int64(stmt, i + 1, va_arg(args, int64_t));
        } else if (types[i] == 't') {
            rc = sqlite3_bind_text(stmt, i + 1, va_arg(args, const char *), -1, SQLITE_STATIC);
        } else {
            assert(types[i] == 'b');
            const void *data = va_arg(args, const void *);
            size_t len = va_arg(args, size_t);
            rc = sqlite3_bind_blob64(stmt, i + 1, len ? data : "", len, SQLITE_STATIC);
        }
    }
    if (rc == SQLITE_OK)
        return stmt;
    conn_fail(conn, rc, err);
    conn_finish(stmt);
    return NULL;
}

sqlite3_stmt *conn_query(struct conn *conn, struct error *err, const char *sql, const char *types,
                         ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = query(conn, err, sql, types, args);
    va_end(args);
    return stmt;
}

bool conn_step(bool *row, struct conn *conn, sqlite3_stmt *stmt, struct error *err) {
    int rc = sqlite3_step(stmt);
    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE || conn_fail(conn, rc, err);
}

void conn_finish(sqlite3_stmt *stmt) {
    if (!stmt)
        return;
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

static bool finish_all(struct conn *conn, sqlite3_stmt *stmt, struct error *err) {
    if (!stmt)
        return false;
    bool row, ok;
    do
        ok = conn_step(&row, conn, stmt, err);
    while (ok && row);
    conn_finish(stmt);
    return ok;
}

bool conn_run(struct conn *conn, struct error *err, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = query(conn, err, sql, types, args);
    va_end(args);
    return finish_all(conn, stmt, err);
}

bool conn_exec(struct conn *conn, const char *sql, struct error *err) {
    int rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || conn_fail(conn, rc, err);
}

bool conn_number(int64_t *out, int64_t none, struct conn *conn, struct error *err, const char *sql,
                 const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = query(conn, err, sql, types, args);
    va_end(args);
    bool row = false;
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok)
        *out = row ? sqlite3_column_int64(stmt, 0) : none;
    conn_finish(stmt);
    return ok;
}

const char *column_text(struct arena *arena, sqlite3_stmt *stmt, int column) {
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return text ? arena_strndup(arena, text, (size_t)sqlite3_column_bytes(stmt, column)) : "";
}

void column_id(char out[SHA256_HEX + 1], sqlite3_stmt *stmt, int column) {
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    out[0] = '\0';
    if (text && sqlite3_column_bytes(stmt, column) == SHA256_HEX)
        memcpy(out, text, SHA256_HEX + 1);
}
