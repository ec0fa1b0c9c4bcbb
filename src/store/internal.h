/* store, inside: connections and their statements, shared by the module's files. */
#ifndef DOCUSEARCH_STORE_INTERNAL_H
#define DOCUSEARCH_STORE_INTERNAL_H

#include "store/store.h"

#include <sqlite3.h>
#include <stdatomic.h>

#define STORE_READERS 8              /* connections that read, at most */
#define CONN_STATEMENTS 96           /* prepared statements a connection keeps */
#define STORE_VERSION 5              /* what PRAGMA user_version says of this schema */
#define STORE_APPLICATION 0x446F6353 /* PRAGMA application_id: "DocS" */

/* A connection with its prepared statements. One thread at a time. */
struct conn {
    sqlite3 *db;
    struct store *store;
    struct fulltext *fulltext; /* freed by SQLite with db */
    struct {
        const char *sql; /* a string constant: the key is its address */
        sqlite3_stmt *stmt;
    } cache[CONN_STATEMENTS];
    int n_cached;
};

/* Ids of rows of vectors that the transaction under way has put and removed. */
struct item_changes {
    item_watcher watcher; /* NULL: none */
    void *ctx;
    struct id_list {
        int64_t *ids;
        int n, cap;
    } added, removed;
};

struct store {
    char *data_dir, *db_path, *documents_dir, *tmp_dir;
    struct conn *writer;
    atomic_bool broken;          /* latched by an I/O error of the writer */
    atomic_uint tmp_count;       /* names in tmp/ */
    struct item_changes changes; /* the writer's */
    struct word_filter *words;   /* words known to be in the vocabulary; the writer's */

    struct lock lock; /* LOCK_STORE, over what follows */
    struct signal_cond freed;
    bool writing;
    struct conn *idle[STORE_READERS];
    int n_idle, n_readers;
};

struct store_tx {
    struct store *store;
    struct conn *conn;
    bool failed; /* a statement failed: only rollback is left */
};

/* ---- conn.c ---- */

bool conn_open(struct conn **out, struct store *store, bool writer, struct error *err);
void conn_close(struct conn *conn); /* NULL is fine */
/* From SQLite's result code: SQLITE_FULL is disk_full, I/O errors storage_error (and latch the
 * store when the writer had them). Returns false. */
bool conn_fail(struct conn *conn, int rc, struct error *err);
/* A statement of this connection, reset, its parameters bound: types has one letter each, i
 * int64_t, t const char *, b const void * and size_t. They must live until the statement is
 * finished. NULL with err set. sql is a string constant. */
sqlite3_stmt *conn_query(struct conn *conn, struct error *err, const char *sql, const char *types,
                         ...);
/* The next row; *row false at the end. */
bool conn_step(bool *row, struct conn *conn, sqlite3_stmt *stmt, struct error *err);
void conn_finish(sqlite3_stmt *stmt); /* NULL is fine */
/* Query, step to the end, finish. */
bool conn_run(struct conn *conn, struct error *err, const char *sql, const char *types, ...);
/* Several statements without parameters. */
bool conn_exec(struct conn *conn, const char *sql, struct error *err);
/* The first column of the first row; `none` where there is no row. */
bool conn_number(int64_t *out, int64_t none, struct conn *conn, struct error *err, const char *sql,
                 const char *types, ...);
/* A column as the arena's string, never NULL. */
const char *column_text(struct arena *arena, sqlite3_stmt *stmt, int column);
/* A column of 64 hex digits; "" where it is not that. */
void column_id(char out[SHA256_HEX + 1], sqlite3_stmt *stmt, int column);

/* ---- store.c ---- */

/* A reading connection inside a read transaction: all its statements see one state. */
bool reader_take(struct conn **out, struct store *store, struct error *err);
void reader_drop(struct conn *conn); /* NULL is fine */
/* tx's connection for a write, or NULL with err when an earlier write of tx failed. */
struct conn *tx_conn(struct store_tx *tx, struct error *err);
/* Remembers a failure: `return tx_done(tx, ok)`. */
bool tx_done(struct store_tx *tx, bool ok);

/* ---- migrate.c ---- */

/* Brings the writer's database to `version` (STORE_VERSION, but for tests). */
bool store_migrate(struct conn *conn, int version, struct error *err);

/* ---- rows.c ---- */

/* A term for documents d: not mirrored. Read off an index, where d's row is not needed else. */
#define DOCUMENT_IS_OWN "d.doc_no NOT IN (SELECT doc_no FROM documents WHERE origin <> '')"

/* doc_no 0: there is none. */
bool document_find_no(int64_t *doc_no, struct conn *conn, const char *doc_id, struct error *err);
bool document_missing(const char *doc_id, struct error *err); /* sets err; false */
/* A row without a reading, WAITING; what it had of one must be gone. Origin: store/shared.h. */
bool document_put_row(int64_t *doc_no, struct conn *conn, const struct document_row *row,
                      const char *origin, struct error *err);
/* store_put_reading. */
bool document_put_reading(struct conn *conn, const struct document_row *row,
                          const struct page_row *pages, const struct chunk_row *chunks,
                          int n_chunks, struct error *err);
/* Filename and title, folded. The arena's. */
char *document_search_key(struct arena *arena, const char *filename, const char *title);
/* The chunks of a document and their full text, in the caller's transaction. */
bool chunks_drop(struct conn *conn, int64_t doc_no, struct error *err);
/* The same, and its vectors' rows: what a reading left. */
bool document_drop_reading(struct conn *conn, int64_t doc_no, struct error *err);
/* A document that waits (again) or has failed for good; a READY one is left as it is. */
bool document_follow_job(struct conn *conn, const char *doc_id, enum document_state state,
                         const char *error_code, const char *error_text, struct error *err);
/* Case and accents folded. The arena's. */
char *fold_text(struct arena *arena, const char *text);

/* ---- sources.c ---- */

/* Row's source_path, or that it was uploaded; it leaves any other document. */
bool document_put_source(struct conn *conn, int64_t doc_no, const struct document_row *row,
                         struct error *err);

/* ---- superseded.c: in the transaction that drops a path from its document ---- */

/* What is superseded by the document under this path, which was dropped from it, goes by another
 * that the document has. */
bool superseded_follow(struct conn *conn, int64_t doc_no, const char *path, struct error *err);
/* What is superseded by the document under the paths that it has, and under this one ("": none), is
 * to be told of as removed. */
bool superseded_remove(struct conn *conn, int64_t doc_no, const char *path, struct error *err);

/* ---- shared.c ---- */

/* doc_no 0: there is none. */
bool document_find_origin(int64_t *doc_no, bool *mirrored, struct conn *conn, const char *doc_id,
                          struct error *err);
/* A document was taken in: its removal is remembered in its row alone. */
bool document_drop_removal(struct conn *conn, const char *doc_id, struct error *err);
/* A document goes: the removal that its row remembers is one again. */
bool document_put_removal(struct conn *conn, int64_t doc_no, struct error *err);

/* ---- vectors.c ---- */

void changes_tell(struct item_changes *changes);
void changes_forget(struct item_changes *changes);

/* ---- tokenizer.c ---- */

/* One token: its folded and stemmed form, and the word it was made from. */
struct token {
    const char *text; /* what is indexed; valid until the next token */
    size_t len;
    const char *word; /* folded, not stemmed; NULL where the token is no word of letters */
    size_t word_len;
    uint32_t start, end; /* bytes of the source */
    uint32_t position;   /* from 0 */
    bool colocated;      /* another form of the token before, at the same position */
};
/* Calls back for each token in order; false from the callback ends it. Returns the number of
 * positions. */
typedef bool (*token_visitor)(void *ctx, const struct token *token);
uint32_t tokens_visit(const char *text, size_t len, token_visitor visit, void *ctx);
/* The beginnings of the tokens somebody looks for. Zero-initialise. */
struct token_sieve {
    uint32_t pairs[26]; /* a..z: the letters a..z that follow, a bit each */
};
void token_sieve_add(struct token_sieve *sieve, const char *token, size_t len);
/* As tokens_visit, for a reader who looks for few words: those of a..z whose first two letters the
 * sieve does not hold are counted but neither stemmed nor shown. */
uint32_t tokens_visit_some(const char *text, size_t len, const struct token_sieve *sieve,
                           token_visitor visit, void *ctx);
/* What a word of the vocabulary is in the index. The arena's. */
char *token_of_word(struct arena *arena, const char *word);

/* ---- stem.c ---- */

/* Porter's stemmer, in place, over a word of a..z; returns the new length. */
size_t stem_english(char *word, size_t len);

/* ---- fulltext.c ---- */

/* Registers the tokenizer and the scoring function with a connection. */
bool fulltext_register(struct conn *conn, struct error *err);
bool fulltext_add(struct conn *conn, int64_t row_id, const char *text, struct error *err);
bool fulltext_remove(struct conn *conn, int64_t row_id, const char *text, struct error *err);
/* For databases that had chunks before they had full text. */
bool fulltext_rebuild(struct conn *conn, struct error *err);

struct word_filter *word_filter_new(void);
void word_filter_clear(struct word_filter *filter); /* after a rollback */

#endif
