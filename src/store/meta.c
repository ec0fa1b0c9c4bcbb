/* Facts about the data folder as a whole, by name. */
#include "store/internal.h"

bool store_get_meta(char **out, struct arena *arena, struct store *store, const char *key,
                    struct error *err) {
    struct conn *conn;
    bool row = false;
    *out = NULL;
    if (!reader_take(&conn, store, err))
        return false;
    sqlite3_stmt *stmt = conn_query(conn, err, "SELECT value FROM meta WHERE key = ?", "t", key);
    bool ok = stmt && conn_step(&row, conn, stmt, err);
    if (ok && row)
        *out = (char *)(uintptr_t)column_text(arena, stmt, 0);
    conn_finish(stmt);
    reader_drop(conn);
    return ok;
}

bool store_put_meta(struct store_tx *tx, const char *key, const char *value, struct error *err) {
    struct conn *conn = tx_conn(tx, err);
    if (!conn)
        return false;
    bool ok = value ? conn_run(conn, err,
                               "INSERT INTO meta (key, value) VALUES (?,?)"
                               " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                               "tt", key, value)
                    : conn_run(conn, err, "DELETE FROM meta WHERE key = ?", "t", key);
    return tx_done(tx, ok);
}
