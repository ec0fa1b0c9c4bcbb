/* store: documents that several workers share through a store of vectors. The third part of its
 * face.
 *
 * A document here is own (origin "": its bytes are in this folder) or mirrored (origin: the name of
 * the worker that has them; here are its rows, passages and full text alone). What the shared store
 * holds of a document has a generation: a document that is taken in again after its removal is one
 * generation later, so that a removal is never mistaken for one of what came after it.
 *
 * Invariants: a mirrored document has no files, counts in nothing that is to be read or embedded,
 * and is READY; a row of a removal goes only when its document is taken in again. What lacks
 * vectors (lacking.h, store_vector_cover) is never mirrored; store_counts counts both. */
#ifndef DOCUSEARCH_STORE_SHARED_H
#define DOCUSEARCH_STORE_SHARED_H

#include "store/store.h"

#define SHARED_HELD (-1) /* epoch of a reading that is not to be found before it is shared */
struct shared_row {
    char doc_id[SHA256_HEX + 1];
    const char *origin;   /* "": own */
    int64_t generation;   /* 0: the shared store was never seen to have it */
    int64_t epoch;        /* of the shared store that was last seen to have all of it */
    const char *revision; /* that it had then; "" none */
    int64_t doc_no;       /* of the row; what is put names none */
};
bool store_find_shared(struct shared_row *out, bool *found, struct arena *arena,
                       struct store *store, const char *doc_id, struct error *err);
/* Is there such a document, and another worker's? */
bool store_is_mirrored(bool *out, struct store *store, const char *doc_id, struct error *err);
/* The document is in the shared store as this; ERROR_MISSING: it is gone. Another reading
 * (store_put_reading) was not seen there: its epoch is 0 and its revision "", the generation stays.
 */
bool store_set_shared(struct store_tx *tx, const char *doc_id, int64_t generation, int64_t epoch,
                      const char *revision, struct error *err);
/* Puts or replaces a mirrored document: row, reading and passages, READY at once; its source path
 * is shown, and a folder filter knows it, but it is no source. Vectors of the old one go. An own
 * document of that id is left as it is and *own set. One whose removal here is of its generation or
 * a later one is not put: store_find_shared says so. */
bool store_put_mirrored(struct store_tx *tx, bool *own, const struct document_row *row,
                        const struct shared_row *shared, const struct page_row *pages,
                        const struct chunk_row *chunks, int n_chunks, struct error *err);
/* The own document's sources go, and it is this worker's from now on; before store_put_mirrored, in
 * the same transaction. Its files are the caller's to drop, after the commit. */
bool store_give_up(struct store_tx *tx, const char *doc_id, const char *origin, struct error *err);
/* store_put_document on a mirrored id makes it this folder's, as new (*existed false): WAITING to
 * be read, its passages and vectors gone, name and all else the row's; of what the shared store has
 * of it the generation stays. */

/* Own READY documents that the shared store of this epoch was not seen to have, by number after
 * `after`; *doc_no of the last one given. */
bool store_list_unshared(struct shared_row **out, int *n, int64_t *last, struct arena *arena,
                         struct store *store, int64_t epoch, int64_t after, int limit,
                         struct error *err);
/* Own and mirrored ones that the shared store of this epoch was seen to have, likewise. */
bool store_list_seen(struct shared_row **out, int *n, struct arena *arena, struct store *store,
                     int64_t epoch, int64_t after, int limit, struct error *err);
/* Those of these numbers that it was seen to have it has no more: their epoch is 0. */
bool store_set_unseen(struct store_tx *tx, int64_t epoch, const int64_t *doc_nos, int n,
                      struct error *err);
struct shared_counts {
    int64_t own, mirrored;    /* READY documents */
    int64_t unshared;         /* own ones not in the shared store of the epoch, less: */
    int64_t cancelled;        /* held ones whose newest job was cancelled: nothing comes of them */
    int64_t never_shared;     /* of those: never in any */
    int64_t removals, untold; /* rows of removals; of which not told yet */
    int64_t unseen;           /* mirrored ones that the store of the epoch was not seen to have */
};
bool store_count_shared(struct shared_counts *out, struct store *store, int64_t epoch,
                        struct error *err);

/* The mirrored document of this origin that is shown to come from path. */
bool store_find_mirrored(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                         const char *origin, const char *path, struct error *err);
/* All of an origin. */
bool store_list_mirrored(struct shared_row **out, int *n, struct arena *arena, struct store *store,
                         const char *origin, struct error *err);

/* ---- superseded ----------------------------------------------------------------------------- */

/* A mirrored document whose file was read anew is no document here any more, only its id and the
 * path that it is of: what is removed with that path, the last of its document, is removed with it,
 * as of generation 1, and where the document goes on under another path that is its path then. */
bool store_put_superseded(struct store_tx *tx, const char *doc_id, const char *path,
                          struct error *err);
/* It may be put again. */
bool store_drop_superseded(struct store_tx *tx, const char *doc_id, struct error *err);
/* *path NULL: it is not superseded; the arena's. */
bool store_find_superseded(const char **path, struct arena *arena, struct store *store,
                           const char *doc_id, struct error *err);
/* A READY document from this path: an own one, or a mirrored one of an origin that is not `but`. */
bool store_find_ready(char doc_id[SHA256_HEX + 1], bool *found, struct store *store,
                      const char *path, const char *but, struct error *err);
/* Where a mirrored document is shown to come from; nothing happens where it is none. */
bool store_set_shown_path(struct store_tx *tx, const char *doc_id, const char *path,
                          struct error *err);

/* ---- removals ------------------------------------------------------------------------------- */

struct removal_row {
    char doc_id[SHA256_HEX + 1];
    int64_t generation, removed_ms; /* wall */
};
/* In the transaction that deletes the document. told: the shared store has it already, which says
 * nothing of one of a later generation; one that is not told is to be told at the later of both
 * generations, with another removed_ms than before. */
bool store_put_removal(struct store_tx *tx, const char *doc_id, int64_t generation,
                       int64_t removed_ms, bool told, struct error *err);
/* As this, of this generation in the shared store: one that was put in meanwhile is not. */
bool store_set_removal_told(struct store_tx *tx, const struct removal_row *row, int64_t generation,
                            struct error *err);
/* All are to be told again: the shared store is another one. */
bool store_forget_told(struct store_tx *tx, struct error *err);
/* Those not told, oldest first. */
bool store_list_removals(struct removal_row **out, int *n, struct arena *arena, struct store *store,
                         int limit, struct error *err);
/* *generation 0: none. store_put_document and store_put_mirrored drop it but remember its
 * generation for this call as long as the document lives; store_delete_document puts it again, not
 * told. */
bool store_find_removal(int64_t *generation, struct store *store, const char *doc_id,
                        struct error *err);

/* ---- filters -------------------------------------------------------------------------------- */

/* Which of these ids are READY documents that the filter (NULL: none; its pages aside) lets
 * through, all of one state. */
bool store_filter_documents(bool *allowed, struct store *store, const char *const *doc_ids, int n,
                            const struct search_filter *filter, struct error *err);
/* The READY documents that it lets through, in no order, when they are at most limit; else *n is
 * -1. */
bool store_list_filtered(char (**doc_ids)[SHA256_HEX + 1], int *n, struct arena *arena,
                         struct store *store, const struct search_filter *filter, int limit,
                         struct error *err);

#endif
