/* store: metadata, full text and files, in one data folder.
 *
 *   <data_dir>/docusearch.db             SQLite: WAL, synchronous=FULL, one writer
 *   <data_dir>/documents/ab/abcd…/       a document's files, by its id:
 *       original                         its bytes
 *       document.bin                     doc_encode's bytes
 *       page-00001.jpg, page-00001-thumb.jpg
 *   <data_dir>/tmp/                      emptied at start
 *
 * Invariants: an id's `original` is complete and synced before a row names it; a document's rows,
 * chunks and full text appear, and go, in one transaction; the write connection alone writes and
 * checkpoints. Any thread may call any function; writers wait for each other (LOCK_STORE). After an
 * I/O error on commit the store is latched read-only: writes give ERROR_IO "storage_error". */
#ifndef DOCUSEARCH_STORE_H
#define DOCUSEARCH_STORE_H

#include "base/base.h"

struct store;
/* Makes the folder and the schema where they are not, migrates older ones (after copying the
 * database beside itself), refuses newer ones (ERROR_UNSUPPORTED). The caller holds the folder's
 * lock. */
bool store_open(struct store **out, const char *data_dir, struct error *err);
void store_close(struct store *store); /* NULL is fine */

/* One process a data folder. Takes <data_dir>/lock (flock) and writes "pid url" into it, or fails
 * with ERROR_BUSY "data_folder_in_use", the text naming pid and url of the holder; then *holder_url
 * (may be NULL; the caller's, mem_free) is the holder's url, "" while it is starting. */
struct store_lock;
bool store_lock_take(struct store_lock **out, char **holder_url, const char *data_dir,
                     struct error *err);
bool store_lock_set_url(struct store_lock *lock, const char *url, struct error *err);
void store_lock_release(struct store_lock *lock);

/* ---- files ---------------------------------------------------------------------------------- */

enum store_file { STORE_ORIGINAL, STORE_DOCUMENT, STORE_PAGE, STORE_THUMB };
/* page_no from 1, for the last two. */
char *store_path(struct arena *arena, const struct store *store, const char *doc_id,
                 enum store_file file, int page_no);
const char *store_tmp_dir(const struct store *store);
/* A new empty file in tmp/, open for writing; path is the arena's. */
bool store_tmp_new(int *fd, char **path, struct arena *arena, struct store *store,
                   struct error *err);
/* fsync, rename to the id's original, fsync of the folders. The same id again keeps the old file.
 * tmp_path is gone afterwards, also on failure. Fault points "received" and "renamed". */
bool store_keep_original(struct store *store, const char *doc_id, const char *tmp_path,
                         struct error *err);
/* Removes a document's folder; the rows must be gone. Missing is fine. */
bool store_drop_files(struct store *store, const char *doc_id, struct error *err);
/* Removes what was made of a document that is not READY; its original stays. */
bool store_drop_reading(struct store *store, const char *doc_id, struct error *err);
/* ERROR_IO disk_full when fewer than size + 256 MiB reserve are free. */
bool store_check_space(struct store *store, int64_t size_bytes, struct error *err);

/* ---- rows ----------------------------------------------------------------------------------- */

enum document_state { DOCUMENT_WAITING, DOCUMENT_READY, DOCUMENT_FAILED };
struct document_row {
    char doc_id[SHA256_HEX + 1];
    const char *filename;       /* the first name it came under that it still has */
    const char *source_path;    /* one path it was ingested from, or "" */
    const char *format, *group; /* "docx", "office" */
    int64_t size_bytes;
    enum document_state state;
    int n_pages, n_chunks;
    const char *title, *author, *created; /* "" where unknown */
    const char *warning;                  /* "" or why it is partial */
    const char *error_code, *error_text;  /* of the last failure, or "" */
    int64_t added_ms, ready_ms;           /* wall; 0: not yet */
};
struct page_row {
    float width_pt, height_pt;
    uint32_t flags; /* enum doc_page_flags' bits */
};
struct chunk_row {
    int64_t row_id;
    char doc_id[SHA256_HEX + 1];
    int ordinal, n_words;
    int first_page, last_page; /* from 1; 0 unknown */
    const char *text;
    const char *heading_path; /* the caller's; not searched */
    const void *places;       /* doc_places_encode's bytes */
    size_t places_len;
};
enum job_state { JOB_QUEUED, JOB_PROCESSING, JOB_COMPLETED, JOB_FAILED, JOB_CANCELLED };
struct job_row {
    int64_t job_id;
    const char *kind;
    char doc_id[SHA256_HEX + 1];
    const char *filename;
    enum job_state state;
    int attempts, max_attempts; /* an attempt is counted when it begins */
    int64_t created_ms, started_ms, finished_ms, not_before_ms; /* wall */
    const char *error_code, *error_text;                        /* of the last attempt, or "" */
    bool cancel_asked;
    int n_pages;
};

/* A write transaction: one at a time, others wait. Commit or roll back ends it and frees tx. */
struct store_tx;
bool store_begin(struct store_tx **out, struct store *store, struct error *err);
bool store_commit(struct store_tx *tx, struct error *err);
void store_rollback(struct store_tx *tx);

/* A new document in state WAITING; an existing id is left as it is and *existed set. The source
 * path ("": it was uploaded) is remembered as one of its sources, and leaves any other document. */
bool store_put_document(struct store_tx *tx, bool *existed, const struct document_row *row,
                        struct error *err);
/* A document that is no longer READY loses its chunks, their full text and its vectors with it. */
bool store_set_document_state(struct store_tx *tx, const char *doc_id, enum document_state state,
                              const char *error_code, const char *error_text, struct error *err);
/* Replaces the document's reading: row's format, group, n_pages, n_chunks, title, author, created,
 * warning; its pages (row->n_pages of them: one blob of 12 bytes a page in the document's row); all
 * its chunks and their full text; state READY, errors cleared. Vectors of the old one go. */
bool store_put_reading(struct store_tx *tx, const struct document_row *row,
                       const struct page_row *pages, const struct chunk_row *chunks, int n_chunks,
                       struct error *err);
/* Row, chunks, full text, vectors, sources and jobs. *found false when there is none. */
bool store_delete_document(struct store_tx *tx, bool *found, int *n_pages, int *n_chunks,
                           const char *doc_id, struct error *err);
/* Forgets that the document came from path; *n_left counts the sources it still has, the newest of
 * which names it where path did. */
bool store_drop_source(struct store_tx *tx, int *n_left, const char *doc_id, const char *path,
                       struct error *err);

/* Reads: rows and strings are the arena's. *found false is not an error. */
bool store_find_document(struct document_row *out, bool *found, struct arena *arena,
                         struct store *store, const char *doc_id, struct error *err);
bool store_find_source(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                       const char *path, struct error *err);
enum store_sort { SORT_NEWEST, SORT_OLDEST, SORT_NAME_ASC, SORT_NAME_DESC };
struct store_list_query {
    const char *search;   /* part of the filename or title, case folded; NULL or "" all */
    const char *group;    /* "pdf", "office", "text", "images"; NULL or "all" all */
    enum store_sort sort; /* ties by id: stable */
    int limit, offset;
};
bool store_list_documents(struct document_row **out, int *n, int64_t *total, struct arena *arena,
                          struct store *store, const struct store_list_query *query,
                          struct error *err);
bool store_list_pages(struct page_row **out, int *n, struct arena *arena, struct store *store,
                      const char *doc_id, struct error *err);
bool store_list_chunks(struct chunk_row **out, int *n, struct arena *arena, struct store *store,
                       const char *doc_id, bool with_places, struct error *err);
/* Those that stand on a page (from 1), with places. */
bool store_list_page_chunks(struct chunk_row **out, int *n, struct arena *arena,
                            struct store *store, const char *doc_id, int page, struct error *err);
bool store_find_chunk(struct chunk_row *out, bool *found, struct arena *arena, struct store *store,
                      int64_t row_id, struct error *err);
bool store_find_chunk_at(struct chunk_row *out, bool *found, struct arena *arena,
                         struct store *store, const char *doc_id, int ordinal, struct error *err);
struct store_counts {
    int64_t documents, ready, failed, partial, pages, chunks;
    int64_t jobs[5]; /* by enum job_state */
    int64_t database_bytes;
};
bool store_counts(struct store_counts *out, struct store *store, struct error *err);

/* Jobs, for the queue. A document that is not READY follows its newest job, in the same
 * transaction: put or retried -> WAITING; ended FAILED (also by store_recover_jobs) -> FAILED with
 * the job's error_code and text. One whose job was cancelled stays WAITING: the job says it. */
bool store_put_job(struct store_tx *tx, int64_t *job_id, const char *kind, const char *doc_id,
                   const char *filename, int max_attempts, struct error *err);
/* The oldest due job: counts the attempt, sets PROCESSING under run_id, commits at once. */
bool store_claim_job(struct job_row *out, bool *found, struct arena *arena, struct store *store,
                     const char *run_id, int64_t now_ms, struct error *err);
/* ERROR_CONFLICT when the job is no longer held by run_id with this attempt, or was asked to be
 * cancelled and is to end otherwise: the caller then rolls back all it did. */
bool store_end_job(struct store_tx *tx, int64_t job_id, const char *run_id, int attempt,
                   enum job_state state, const char *error_code, const char *error_text,
                   int64_t not_before_ms, int n_pages, struct error *err);
/* Back to QUEUED with its attempt given back; ERROR_CONFLICT as above. */
bool store_return_job(struct store_tx *tx, int64_t job_id, const char *run_id, int attempt,
                      const char *error_code, const char *error_text, int64_t not_before_ms,
                      struct error *err);
/* When the next QUEUED job may start (wall; 0 at once); *found false: none waits. */
bool store_next_due(int64_t *not_before_ms, bool *found, struct store *store, struct error *err);
/* states: bits 1 << enum job_state. */
bool store_count_jobs(int64_t *n, struct store *store, unsigned states, struct error *err);
bool store_cancel_job(struct store_tx *tx, bool *found, int64_t job_id, struct error *err);
bool store_retry_job(struct store_tx *tx, bool *found, int64_t job_id, struct error *err);
/* PROCESSING jobs of other runs become QUEUED (or FAILED parser_crash when their attempts are used
 * up). Called once at start. */
bool store_recover_jobs(struct store *store, int *n, const char *run_id, struct error *err);
bool store_find_job(struct job_row *out, bool *found, struct arena *arena, struct store *store,
                    int64_t job_id, struct error *err);
/* The newest job of a document. */
bool store_find_document_job(struct job_row *out, bool *found, struct arena *arena,
                             struct store *store, const char *doc_id, struct error *err);
/* states: bits 1 << enum job_state; newest first. */
bool store_list_jobs(struct job_row **out, int *n, int64_t *total, struct arena *arena,
                     struct store *store, unsigned states, int limit, int offset,
                     struct error *err);

/* ---- full text ------------------------------------------------------------------------------ */

/* What a person typed, taken apart. Words, "phrases", prefix*; -word leaves out; everything else is
 * a word or nothing. Never fails: any bytes give a query, if need be one without terms. */
struct lexical_query;
struct lexical_query *lexical_parse(struct arena *arena, const char *text);
int lexical_n_terms(const struct lexical_query *query);
/* What the query leaves out, as a query that finds it; NULL: nothing. Strings are the query's. */
struct lexical_query *lexical_excluded(struct arena *arena, const struct lexical_query *query);
/* The text as typed, without -words, -"phrases" and the blanks before: what models are asked. */
char *lexical_wanted(struct arena *arena, const char *text);
size_t lexical_wanted_place(const char *text, size_t at); /* of a byte of that: where in text */

struct search_filter {
    const char *const *doc_ids; /* NULL: any */
    int n_doc_ids;
    const char *const *formats; /* names or groups; NULL: any */
    int n_formats;
    const char *folder;                 /* prefix of a source path; NULL: any */
    int64_t added_from_ms, added_to_ms; /* 0: open */
    int page_from, page_to;             /* from 1; 0: open */
};
struct lexical_hit {
    int64_t chunk_row_id;
    char doc_id[SHA256_HEX + 1];
    int ordinal, first_page, last_page;
    double score; /* BM25, larger is better; descending, ties by row id */
};
/* BM25 (k1 1.2, b 0.75) over READY documents. Terms are taken rarest first up to a budget of
 * postings; commoner ones only refine the order of what was found, English function words at half
 * weight. Filters act before scoring. */
bool lexical_search(struct lexical_hit **out, int *n, struct arena *arena, struct store *store,
                    const struct lexical_query *query, const struct search_filter *filter,
                    int limit, struct error *err);
/* Byte ranges of text that match the query's terms, ascending, not overlapping. English function
 * words are marked only where the query has nothing else. */
struct text_range {
    uint32_t start, end;
};
void lexical_highlight(struct text_range **out, int *n, struct arena *arena,
                       const struct lexical_query *query, const char *text, size_t len);

/* ---- vectors -------------------------------------------------------------------------------- */

/* A row an item, a page or chunk of a READY document with vectors in a space, by index's id. */
struct space_row {
    int space, dim; /* lists: ascending */
    const char *name;
    bool late;
};
bool store_list_spaces(struct space_row **out, int *n, struct arena *arena, struct store *store,
                       struct error *err);
/* Finds it by name or makes it with this dim; ERROR_CONFLICT: known with another. */
bool store_put_space(struct store_tx *tx, struct space_row *out, const char *name, int dim,
                     bool late, struct error *err);
bool store_drop_space(struct store_tx *tx, int space, struct error *err); /* and its rows */
enum vector_kind { VECTORS_PAGE, VECTORS_CHUNK };
struct vector_row {
    int64_t id;
    enum vector_kind kind;
    int item; /* page from 1, or a chunk's ordinal */
};
/* Replaces the READY document's rows in this space. */
bool store_put_vectors(struct store_tx *tx, int space, const char *doc_id,
                       const struct vector_row *rows, int n, struct error *err);
/* Called by the thread that commits, after each commit that changed rows of vectors and before
 * another may write; an id in both lists was added and removed. One a store; NULL: none. */
typedef void (*item_watcher)(void *ctx, const int64_t *added, int n_added, const int64_t *removed,
                             int n_removed);
void store_watch_items(struct store *store, item_watcher watcher, void *ctx);
/* Ids that the filter (NULL: none) lets through, of one state, many at a time; false ends it. */
typedef bool (*vector_visitor)(void *ctx, const int64_t *ids, int n);
bool store_visit_vectors(struct store *store, int space, enum vector_kind kind,
                         const struct search_filter *filter, vector_visitor visit, void *ctx,
                         struct error *err);
bool store_filter_is_open(const struct search_filter *filter); /* it lets everything through */
struct vector_place {
    char doc_id[SHA256_HEX + 1]; /* "": there is no such row */
    enum vector_kind kind;
    int space, item;
};
bool store_find_vectors(struct vector_place *out, struct store *store, const int64_t *ids, int n,
                        struct error *err); /* out[i] of ids[i], all of one state */
bool store_find_item(int64_t *id, bool *found, struct store *store, int space, const char *doc_id,
                     enum vector_kind kind, int item, struct error *err);
/* How far a space covers the READY documents that have what it is of: pages, or chunks. */
struct vector_cover {
    bool any;          /* rows of the kind */
    int64_t n_without; /* documents without one */
};
bool store_vector_cover(struct vector_cover *out, struct store *store, int space,
                        enum vector_kind kind, const char *doc_id /* NULL: all documents */,
                        struct error *err);

/* ---- upkeep --------------------------------------------------------------------------------- */

/* At start: SQLite's quick_check, tmp/ emptied, folders without a row removed (but by a database
 * that never had one), own rows without an original counted and marked FAILED "original_missing" */
bool store_check(struct store *store, int *n_lost, struct error *err);
/* Facts of the folder. *out is the arena's (NULL: no such key); value NULL: the key goes. */
bool store_get_meta(char **out, struct arena *arena, struct store *store, const char *key,
                    struct error *err);
bool store_put_meta(struct store_tx *tx, const char *key, const char *value, struct error *err);

#endif
