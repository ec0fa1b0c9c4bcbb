/* Opening and closing the data folder, the one writer, the pool of readers.
 *
 * Invariants:
 *  1. `writing` is true exactly while a store_tx lives; the lock itself is held only to change it,
 * so a transaction's owner may read, and take other locks, meanwhile.
 *  2. n_readers counts open reading connections, idle or in use; an idle one has no transaction. */
#include "store/internal.h"

#include <assert.h>
#include <string.h>

bool store_open(struct store **out, const char *data_dir, struct error *err) {
    struct store *store = mem_alloc(sizeof *store);
    lock_init(&store->lock, LOCK_STORE);
    cond_init(&store->freed);
    store->data_dir = mem_strdup(data_dir);
    store->db_path = mem_printf("%s/docusearch.db", data_dir);
    store->documents_dir = mem_printf("%s/documents", data_dir);
    store->tmp_dir = mem_printf("%s/tmp", data_dir);
    store->words = word_filter_new();
    if (!dir_make(data_dir, err) || !dir_make(store->documents_dir, err) ||
        !dir_make(store->tmp_dir, err) || !dir_sync(data_dir, err))
        goto fail;
    if (!conn_open(&store->writer, store, true, err) ||
        !store_migrate(store->writer, STORE_VERSION, err) || !dir_sync(data_dir, err))
        goto fail;
    *out = store;
    return true;
fail:
    store_close(store);
    return false;
}

void store_close(struct store *store) {
    if (!store)
        return;
    assert(!store->writing && store->n_idle == store->n_readers);
    for (int i = 0; i < store->n_idle; i++)
        conn_close(store->idle[i]);
    /* Last, so that it is the writer that checkpoints. */
    conn_close(store->writer);
    cond_fini(&store->freed);
    lock_fini(&store->lock);
    mem_free(store->words);
    changes_forget(&store->changes);
    mem_free(store->data_dir);
    mem_free(store->db_path);
    mem_free(store->documents_dir);
    mem_free(store->tmp_dir);
    mem_free(store);
}

/* ---- the writer ---- */

static bool refuse_broken(struct store *store, struct error *err) {
    return !atomic_load(&store->broken) ||
           error_set_code(err, ERROR_IO, "storage_error",
                          "the database had an i/o error; nothing is written until a restart");
}

static void writer_free(struct store *store) {
    lock_take(&store->lock);
    store->writing = false;
    cond_wake_all(&store->freed);
    lock_drop(&store->lock);
}

bool store_begin(struct store_tx **out, struct store *store, struct error *err) {
    if (!refuse_broken(store, err))
        return false;
    lock_take(&store->lock);
    while (store->writing)
        cond_wait(&store->freed, &store->lock, -1);
    store->writing = true;
    lock_drop(&store->lock);
    if (!refuse_broken(store, err) || !conn_run(store->writer, err, "BEGIN IMMEDIATE", "")) {
        writer_free(store);
        return false;
    }
    struct store_tx *tx = mem_alloc(sizeof *tx);
    tx->store = store;
    tx->conn = store->writer;
    *out = tx;
    return true;
}

static void roll_back(struct store *store) {
    struct error ignored;
    /* A failed statement may have rolled back by itself. */
    if (!sqlite3_get_autocommit(store->writer->db))
        conn_run(store->writer, &ignored, "ROLLBACK", "");
    word_filter_clear(store->words);
    changes_forget(&store->changes);
}

bool store_commit(struct store_tx *tx, struct error *err) {
    struct store *store = tx->store;
    bool ok = tx_conn(tx, err) && conn_run(store->writer, err, "COMMIT", "");
    if (ok)
        changes_tell(&store->changes);
    else
        roll_back(store);
    mem_free(tx);
    writer_free(store);
    return ok;
}

void store_rollback(struct store_tx *tx) {
    struct store *store = tx->store;
    roll_back(store);
    mem_free(tx);
    writer_free(store);
}

struct conn *tx_conn(struct store_tx *tx, struct error *err) {
    if (!tx->failed)
        return tx->conn;
    error_set(err, ERROR_INTERNAL, "an earlier write of this transaction went wrong");
    return NULL;
}

bool tx_done(struct store_tx *tx, bool ok) {
    if (!ok)
        tx->failed = true;
    return ok;
}

/* ---- readers ---- */

bool reader_take(struct conn **out, struct store *store, struct error *err) {
    struct conn *conn = NULL;
    *out = NULL;
    lock_take(&store->lock);
    while (store->n_idle == 0 && store->n_readers == STORE_READERS)
        cond_wait(&store->freed, &store->lock, -1);
    if (store->n_idle > 0)
        conn = store->idle[--store->n_idle];
    else
        store->n_readers++;
    lock_drop(&store->lock);
    if (!conn && !conn_open(&conn, store, false, err)) {
        lock_take(&store->lock);
        store->n_readers--;
        cond_wake_all(&store->freed);
        lock_drop(&store->lock);
        return false;
    }
    if (!conn_run(conn, err, "BEGIN", "")) {
        reader_drop(conn);
        return false;
    }
    *out = conn;
    return true;
}

void reader_drop(struct conn *conn) {
    if (!conn)
        return;
    struct store *store = conn->store;
    struct error ignored;
    if (!sqlite3_get_autocommit(conn->db))
        conn_run(conn, &ignored, "COMMIT", "");
    lock_take(&store->lock);
    store->idle[store->n_idle++] = conn;
    cond_wake_all(&store->freed);
    lock_drop(&store->lock);
}

const char *store_tmp_dir(const struct store *store) {
    return store->tmp_dir;
}
