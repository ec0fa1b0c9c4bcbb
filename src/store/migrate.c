/* The schema, as numbered migrations. PRAGMA user_version holds the number of the last one applied;
 * each is one transaction. An older database is copied beside itself first
 * (docusearch.db.version-N); a newer one is refused.
 *
 * Tables:
 *   documents     a row a document; doc_no is its short key. pages: 12 bytes a page, little-endian
 *                 { f32 width_pt, f32 height_pt, u32 flags }. origin '': own, else of the worker
 *                 that has its bytes, and shown_path is where from; shared_*: what the shared store
 *                 has of it; removed_generation: of the removal that it came back from
 *   sources       the paths a document came from; of a document, put_no rises
 *   chunks        passages of READY documents only; full text indexes `text`
 *   chunk_places  doc_places_encode's bytes, apart so that reading texts does not read them
 *   jobs
 *   chunks_fts    FTS5 over chunks.text, which it does not keep a copy of
 *   words         every word ever indexed, folded and not stemmed: what prefixes are looked up in
 *   spaces        vector spaces
 *   vectors       a row a page or chunk of a READY document, under the id of its vectors; no key to
 *                 documents, as that would be looked up by doc_no alone, without an index
 *   removals      documents that are no more, for the shared store to be told
 *   meta          facts of the folder by name
 */
#include "store/internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct migration {
    const char *sql;
    bool (*run)(struct conn *conn, struct error *err); /* after sql; may be NULL */
};

static const struct migration migrations[] = {
    {.sql = "CREATE TABLE documents ("
            "  doc_no INTEGER PRIMARY KEY AUTOINCREMENT,"
            "  doc_id TEXT NOT NULL UNIQUE,"
            "  state INTEGER NOT NULL,"
            "  n_pages INTEGER NOT NULL DEFAULT 0,"
            "  n_chunks INTEGER NOT NULL DEFAULT 0,"
            "  first_chunk INTEGER NOT NULL DEFAULT 0," /* row ids of its chunks are one range */
            "  size_bytes INTEGER NOT NULL,"
            "  added_ms INTEGER NOT NULL,"
            "  ready_ms INTEGER NOT NULL DEFAULT 0,"
            "  filename TEXT NOT NULL,"
            "  name_key TEXT NOT NULL,"   /* filename, folded */
            "  search_key TEXT NOT NULL," /* filename, newline, title, folded */
            "  format TEXT NOT NULL,"
            "  format_group TEXT NOT NULL,"
            "  title TEXT NOT NULL DEFAULT '',"
            "  author TEXT NOT NULL DEFAULT '',"
            "  created TEXT NOT NULL DEFAULT '',"
            "  warning TEXT NOT NULL DEFAULT '',"
            "  error_code TEXT NOT NULL DEFAULT '',"
            "  error_text TEXT NOT NULL DEFAULT '',"
            "  pages BLOB NOT NULL DEFAULT x''"
            ") STRICT;"
            "CREATE INDEX documents_by_time ON documents"
            "  (added_ms, doc_id, format_group, search_key);"
            "CREATE INDEX documents_by_name ON documents (name_key, doc_id, format_group);"
            "CREATE INDEX documents_counts ON documents (state, n_pages, n_chunks, warning);"
            "CREATE TABLE sources ("
            "  path TEXT PRIMARY KEY,"
            "  doc_no INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE"
            ") STRICT, WITHOUT ROWID;"
            "CREATE INDEX sources_by_document ON sources (doc_no, path);"
            "CREATE TABLE chunks ("
            "  row_id INTEGER PRIMARY KEY AUTOINCREMENT,"
            "  doc_no INTEGER NOT NULL REFERENCES documents,"
            "  ordinal INTEGER NOT NULL,"
            "  n_words INTEGER NOT NULL,"
            "  first_page INTEGER NOT NULL,"
            "  last_page INTEGER NOT NULL,"
            "  heading_path TEXT NOT NULL,"
            "  text TEXT NOT NULL"
            ") STRICT;"
            "CREATE INDEX chunks_by_document ON chunks (doc_no, ordinal, first_page, last_page);"
            "CREATE TABLE chunk_places ("
            "  row_id INTEGER PRIMARY KEY REFERENCES chunks ON DELETE CASCADE,"
            "  places BLOB NOT NULL"
            ") STRICT;"
            "CREATE TABLE jobs ("
            "  job_id INTEGER PRIMARY KEY AUTOINCREMENT,"
            "  kind TEXT NOT NULL,"
            "  doc_id TEXT NOT NULL,"
            "  filename TEXT NOT NULL,"
            "  state INTEGER NOT NULL,"
            "  attempts INTEGER NOT NULL DEFAULT 0,"
            "  max_attempts INTEGER NOT NULL,"
            "  created_ms INTEGER NOT NULL,"
            "  started_ms INTEGER NOT NULL DEFAULT 0,"
            "  finished_ms INTEGER NOT NULL DEFAULT 0,"
            "  not_before_ms INTEGER NOT NULL DEFAULT 0,"
            "  cancel_asked INTEGER NOT NULL DEFAULT 0,"
            "  n_pages INTEGER NOT NULL DEFAULT 0,"
            "  run_id TEXT NOT NULL DEFAULT '',"
            "  error_code TEXT NOT NULL DEFAULT '',"
            "  error_text TEXT NOT NULL DEFAULT ''"
            ") STRICT;"
            "CREATE INDEX jobs_by_state ON jobs (state, job_id, not_before_ms);"
            "CREATE INDEX jobs_by_document ON jobs (doc_id, job_id);"},
    {.sql =
         "CREATE VIRTUAL TABLE chunks_fts USING fts5("
         "  text, content='chunks', content_rowid='row_id', columnsize=0, tokenize='docusearch');"
         "CREATE TABLE words (word TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;",
     .run = fulltext_rebuild},
    {.sql = "CREATE TABLE spaces ("
            "  space_no INTEGER PRIMARY KEY AUTOINCREMENT,"
            "  name TEXT NOT NULL UNIQUE,"
            "  dim INTEGER NOT NULL,"
            "  late INTEGER NOT NULL,"
            "  generation INTEGER NOT NULL DEFAULT 1,"
            "  n_items INTEGER NOT NULL DEFAULT 0,"
            "  n_vectors INTEGER NOT NULL DEFAULT 0"
            ") STRICT;"
            "CREATE TABLE vectors ("
            "  doc_no INTEGER NOT NULL REFERENCES documents,"
            "  space_no INTEGER NOT NULL REFERENCES spaces,"
            "  kind INTEGER NOT NULL,"
            "  item INTEGER NOT NULL,"
            "  first INTEGER NOT NULL,"
            "  n INTEGER NOT NULL,"
            "  PRIMARY KEY (doc_no, space_no, kind, item)"
            ") STRICT, WITHOUT ROWID;"
            "CREATE INDEX vectors_by_place ON vectors (space_no, kind, first, n, item, doc_no);"
            "CREATE TRIGGER vectors_put AFTER INSERT ON vectors BEGIN"
            "  UPDATE spaces SET n_items = n_items + 1, n_vectors = n_vectors + new.n"
            "  WHERE space_no = new.space_no; END;"
            "CREATE TRIGGER vectors_gone AFTER DELETE ON vectors BEGIN"
            "  UPDATE spaces SET n_items = n_items - 1, n_vectors = n_vectors - old.n"
            "  WHERE space_no = old.space_no; END;"},
    /* Rows of vectors named places in files of another form. */
    {.sql = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
            "DROP TABLE vectors;"
            "ALTER TABLE spaces DROP COLUMN generation;"
            "ALTER TABLE spaces DROP COLUMN n_items;"
            "ALTER TABLE spaces DROP COLUMN n_vectors;"
            "CREATE TABLE vectors ("
            "  id INTEGER PRIMARY KEY,"
            "  doc_no INTEGER NOT NULL,"
            "  space_no INTEGER NOT NULL REFERENCES spaces,"
            "  kind INTEGER NOT NULL,"
            "  item INTEGER NOT NULL,"
            "  UNIQUE (space_no, kind, doc_no, item)"
            ") STRICT;"},
    {.sql =
         "ALTER TABLE documents ADD COLUMN origin TEXT NOT NULL DEFAULT '';"
         "ALTER TABLE documents ADD COLUMN shown_path TEXT NOT NULL DEFAULT '';"
         "ALTER TABLE documents ADD COLUMN shared_generation INTEGER NOT NULL DEFAULT 0;"
         "ALTER TABLE documents ADD COLUMN shared_epoch INTEGER NOT NULL DEFAULT 0;"
         "ALTER TABLE documents ADD COLUMN shared_revision TEXT NOT NULL DEFAULT '';"
         "ALTER TABLE documents ADD COLUMN removed_generation INTEGER NOT NULL DEFAULT 0;"
         "ALTER TABLE sources ADD COLUMN put_no INTEGER NOT NULL DEFAULT 0;"
         "CREATE INDEX documents_own ON documents"
         "  (shared_epoch, doc_no, shared_generation, state, origin)"
         "  WHERE state = 1 AND origin = '';"
         "CREATE INDEX documents_mirrored ON documents (shared_epoch, origin) WHERE origin <> '';"
         "CREATE TABLE removals ("
         "  doc_id TEXT PRIMARY KEY,"
         "  generation INTEGER NOT NULL,"
         "  removed_ms INTEGER NOT NULL,"
         "  told INTEGER NOT NULL"
         ") STRICT, WITHOUT ROWID;"
         "CREATE INDEX removals_untold ON removals (removed_ms, doc_id) WHERE told = 0;"
         "CREATE TABLE superseded ("
         "  doc_id TEXT PRIMARY KEY,"
         "  path TEXT NOT NULL"
         ") STRICT, WITHOUT ROWID;"
         "CREATE INDEX superseded_by_path ON superseded (path, doc_id);"
         "CREATE INDEX documents_shown ON documents (shown_path) WHERE origin <> '';"},
};
static_assert(BASE_COUNT(migrations) == STORE_VERSION, "a migration a version");

/* A copy of the database as it is, whole or not there at all. */
static bool copy_beside(struct conn *conn, int64_t version, struct error *err) {
    bool ok = false;
    sqlite3 *copy = NULL;
    char *path = mem_printf("%s.version-%" PRId64, conn->store->db_path, version);
    char *partial = mem_printf("%s.partial", path);
    unlink(partial);
    int rc = sqlite3_open_v2(partial, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_backup *backup = sqlite3_backup_init(copy, "main", conn->db, "main");
        if (backup)
            sqlite3_backup_step(backup, -1);
        rc = backup ? sqlite3_backup_finish(backup) : sqlite3_errcode(copy);
    }
    sqlite3_close(copy);
    if (rc != SQLITE_OK)
        error_set_code(err, ERROR_IO, (rc & 0xff) == SQLITE_FULL ? "disk_full" : "storage_error",
                       "copy of the database before its migration: %s", sqlite3_errstr(rc));
    else if (rename(partial, path) != 0)
        error_set_errno(err, errno, "copy of the database %s", path);
    else
        ok = dir_sync(conn->store->data_dir, err);
    if (!ok)
        unlink(partial);
    mem_free(path);
    mem_free(partial);
    return ok;
}

static bool apply(struct conn *conn, int to, struct error *err) {
    const struct migration *migration = &migrations[to - 1];
    char number[64];
    snprintf(number, sizeof number, "PRAGMA user_version=%d", to);
    bool ok = conn_exec(conn, "BEGIN IMMEDIATE", err) && conn_exec(conn, migration->sql, err) &&
              (!migration->run || migration->run(conn, err)) && conn_exec(conn, number, err) &&
              conn_exec(conn, "COMMIT", err);
    if (!ok && !sqlite3_get_autocommit(conn->db)) {
        struct error ignored;
        conn_exec(conn, "ROLLBACK", &ignored);
    }
    return ok;
}

bool store_migrate(struct conn *conn, int version, struct error *err) {
    int64_t found, application, n_tables;
    if (!conn_number(&found, 0, conn, err, "PRAGMA user_version", "") ||
        !conn_number(&application, 0, conn, err, "PRAGMA application_id", "") ||
        !conn_number(&n_tables, 0, conn, err, "SELECT count(*) FROM sqlite_schema", ""))
        return false;
    const char *path = conn->store->db_path;
    if (n_tables > 0 && application != STORE_APPLICATION)
        return error_set(err, ERROR_UNSUPPORTED, "%s is another program's database", path);
    if (found > version)
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s was written by a newer version (schema %" PRId64
                         "; this program knows %d)",
                         path, found, version);
    if (n_tables == 0) {
        char number[64];
        snprintf(number, sizeof number, "PRAGMA application_id=%d", STORE_APPLICATION);
        if (!conn_exec(conn, number, err))
            return false;
    } else if (found < version && !copy_beside(conn, found, err)) {
        return false;
    }
    for (int to = (int)found + 1; to <= version; to++) {
        if (!apply(conn, to, err))
            return false;
    }
    return true;
}
