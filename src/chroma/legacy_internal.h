/* For the files about the Python worker's collections. */
#ifndef DOCUSEARCH_CHROMA_LEGACY_INTERNAL_H
#define DOCUSEARCH_CHROMA_LEGACY_INTERNAL_H

#include "chroma/internal.h"
#include "chroma/legacy.h"

/* ---- legacy.c: which rows there are -----------------------------------------------------------
 */

struct legacy_row {
    const char *id;
    int document, item;
};
struct legacy_document {
    const char *their_id;
    char doc_id[SHA256_HEX + 1];
    int first[2], n[2]; /* its rows, by enum item_kind */
};
/* Counted, never changed. Documents by their ids; rows by document and item. */
struct legacy_listing {
    int n_refs;
    int64_t listed_ms; /* mono */
    struct arena *arena;
    char uuids[2][40]; /* "": there is no such collection */
    int dims[2];       /* of its rows' vectors; 0: it has none */
    struct legacy_document *documents;
    int n_documents;
    int *by_id; /* documents, by doc_id */
    struct legacy_row *rows[2];
    int n_rows[2];
};
struct chroma_legacy {
    struct chroma *chroma;
    char *names[2];
    struct lock lock; /* of what follows */
    struct legacy_listing *listing;
    struct legacy_kept *newest, *oldest;
    size_t kept_bytes;
};
/* A reference to what is there now, or was seconds ago. */
bool legacy_list(struct legacy_listing **out, struct chroma_legacy *legacy, struct error *err);
void legacy_unref(struct chroma_legacy *legacy, struct legacy_listing *listing);
/* NULL: none. */
const struct legacy_document *legacy_lookup(const struct legacy_listing *listing,
                                            const char *doc_id);
const struct legacy_row *legacy_lookup_row(const struct legacy_listing *listing,
                                           const struct legacy_document *document,
                                           enum item_kind kind, int item);
/* POST to the collection. request is taken over. One that is there no more is ERROR_BUSY, and makes
 * the next call look for it. */
bool legacy_ask(struct http_reply *out, struct chroma_legacy *legacy,
                const struct legacy_listing *listing, enum item_kind kind, const char *verb,
                json_t *request, struct error *err);

/* ---- legacy_rows.c: what stands in them -------------------------------------------------------
 */

enum { LEGACY_BATCH = 16 }; /* rows of a call: some MiB */
struct legacy_rows {
    struct http_reply reply;
    json_t *json;
    struct buf rest;    /* the reply without vectors */
    const char **texts; /* vectors as they came, borrowed from the reply */
    size_t *lens;
    int n;
};
/* Rows by id, with metadata. */
bool legacy_fetch(struct legacy_rows *out, struct chroma_legacy *legacy,
                  const struct legacy_listing *listing, enum item_kind kind, const char *const *ids,
                  int n, struct error *err);
void legacy_rows_fini(struct legacy_rows *rows);
/* Borrowed; NULL: no such row came, or it is none of theirs. */
const json_t *legacy_metadata(const struct legacy_rows *rows, const char *id);
/* embedding_shape. False: it is none. */
bool legacy_shape(int *n, int *dim, const json_t *metadata);
/* *vectors NULL and *n 0: they are of another dimension. ERROR_INPUT: they are not what they should
 * be. The caller's (mem_free). */
bool legacy_vectors(float **vectors, int *n, const struct legacy_rows *rows, const json_t *metadata,
                    struct error *err);

/* ---- legacy_search.c --------------------------------------------------------------------------
 */

void legacy_forget(struct chroma_legacy *legacy); /* items that are kept decoded */

#endif
