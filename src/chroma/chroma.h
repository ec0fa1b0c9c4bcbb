/* chroma: vectors in a ChromaDB server, which several workers may share.
 *
 * Two roles, pages and passages, each with a collection V of its own name (VISUAL_COLLECTION,
 * TEXT_COLLECTION), cosine, in the layout that readers of the Python worker's collections know: one
 * row a page `<doc_id>-page<NNN>`, or a passage `<doc_id>-chunk<NNNN>`. Where the model is one of
 * late interaction there are two more:
 *
 *   V            <item>          the item's one vector (late: the unit mean of all); metadata by
 *                                the known names; of a passage full_text, heading_path, places too
 *   V-tokens     <item>-t<NN>    32 pooled vectors; metadata doc_id, item
 *   V-vectors    <item>          one constant dimension; metadata doc_id, item, n and codes: base64
 *                                of struct index_codes' bytes
 *   <VISUAL_COLLECTION>-documents    <doc_id>: a row a document, struct chroma_record
 *
 * Invariants:
 *  1. A document's rows are written in the order tokens, vectors, passages, record, pages: the page
 *     rows, all in one call where the limits allow, are its commit. On removal they go first, and
 *     the record becomes a tombstone last.
 *  2. A document is whole when every row that its record counts is there; only whole ones are told
 *     of as there.
 *  3. Rows that are unchanged are never written again (/add skips them; /upsert bloats the index).
 *  4. What a collection's vectors are of stands in its metadata (docusearch_space); vectors of
 *     another space are neither written nor asked.
 *
 * Any thread may call any function. Nothing here is remembered but connections, collections and a
 * bounded cache of codes: what is true stands in the server. Errors: ERROR_BUSY backend_unavailable
 * (nobody answers, or after retries not as it should; calls fail at once while it is known to be
 * down), ERROR_CONFLICT other_space, ERROR_LIMIT, ERROR_INPUT (settings). */
#ifndef DOCUSEARCH_CHROMA_H
#define DOCUSEARCH_CHROMA_H

#include "index/portable.h"

struct chroma;
struct chroma_settings {
    const char *host;
    int port;
    bool ssl;
    const char *tenant, *database, *token; /* token NULL: none; as x-chroma-token and Bearer */
    const char *visual_collection, *text_collection;
};
bool chroma_open(struct chroma **out, const struct chroma_settings *settings, struct error *err);
void chroma_close(struct chroma *chroma); /* NULL is fine */

/* ---- the server ----------------------------------------------------------------------------- */

/* What is to be written and asked: the spaces of the models in use; "" none. */
struct chroma_space {
    const char *name; /* model_info's space */
    int dim;
    bool late;
};
struct chroma_spaces {
    struct chroma_space of[2]; /* by enum item_kind */
};
/* Heartbeat, limits, collections found or made; after a time of silence also whether each
 * collection can be touched. A collection whose touch ends the server twice is damaged: it is put
 * aside (renamed by its UUID) and made anew. The owner calls it every few seconds, and after
 * backend_unavailable. ERROR_CONFLICT other_space: a collection has vectors of another model, whose
 * name the text gives; what is of the other role goes on. */
bool chroma_check(struct chroma *chroma, const struct chroma_spaces *spaces, struct error *err);
/* Makes V and its fellows of this role anew, for the space, the old ones put aside: the model
 * changed. */
bool chroma_renew(struct chroma *chroma, enum item_kind kind, struct error *err);
/* What was put aside goes for good. Called when all has been written again. */
bool chroma_drop_aside(struct chroma *chroma, struct error *err);

#define CHROMA_MAX_COLLECTIONS 7
struct chroma_collection_facts {
    const char *name, *uuid, *space; /* space "" where it has none */
    int64_t n_rows;                  /* -1 not known */
    bool foreign;                    /* not made by docusearch */
};
struct chroma_facts {
    bool reachable;
    const char *url, *why; /* why "" when reachable */
    const char *note;      /* "" or what a person should know: recovered, foreign layout */
    const char *epoch;     /* names this set of collections: another one was filled by nobody yet;
                            * "" while not known */
    int64_t since_ms;      /* wall: of this state */
    int max_batch;         /* rows a call, as the server says */
    int n_recovered;       /* collections put aside as damaged since the start */
    int n_collections;
    struct chroma_collection_facts collections[CHROMA_MAX_COLLECTIONS];
};
/* As last seen; asks nobody. Strings are the arena's. */
void chroma_facts(struct chroma_facts *out, struct arena *arena, struct chroma *chroma);

/* ---- documents ------------------------------------------------------------------------------ */

#define CHROMA_MAX_GENERATION INT32_MAX /* a record of a later one is not believed */

/* What the store has of a document as a whole, or of one that was removed. */
struct chroma_record {
    struct document_row document; /* doc_id, filename, source_path, format, group, size_bytes,
                                   * n_pages, n_chunks, title, author, created, warning, added_ms */
    const struct page_row *pages; /* document.n_pages */
    bool removed;                 /* a tombstone: doc_id, generation and changed_ms alone */
    bool lost_rows;               /* to a removal of an older generation: to be put again */
    int64_t generation;           /* store/shared.h; 1 to CHROMA_MAX_GENERATION */
    const char *revision;         /* hash of what its rows are made of */
    const char *worker;           /* who put it: "host:folder" */
    const char *visual_space, *text_space; /* "": it has no vectors of that kind */
    int n_page_rows, n_chunk_rows;         /* with vectors */
    int64_t changed_ms;                    /* wall, of the writer's clock */
};
/* One item's vectors on their way in. n 0: it has none. */
struct chroma_item {
    int n;
    const float *vector;      /* of a space that is not late: [dim] */
    struct index_codes codes; /* of a late one */
};
/* A document on its way in; items are asked for one by one, each once, and may die with the next.
 */
struct chroma_source {
    struct chroma_record record;    /* generation: the last known, 0 none; counts and changed_ms are
                                     * filled in by the call */
    const struct chunk_row *chunks; /* document.n_chunks, with places */
    void *ctx;
    bool (*item)(void *ctx, struct chroma_item *out, struct arena *arena, enum item_kind kind,
                 int item, struct error *err);
    bool (*cancelled)(void *ctx); /* NULL: never. Then ERROR_CONFLICT cancelled */
    void (*progress)(void *ctx, int n_done, int n_total); /* items; NULL: not told */
};
enum chroma_put {
    CHROMA_PUT,     /* its rows are there now, counted back and their vectors found */
    CHROMA_THERE,   /* they were already */
    CHROMA_REMOVED, /* a tombstone of this or a later generation stands: nothing was written */
};
/* *generation: of the document as it is there now, or of the tombstone; where the call fails, that
 * of which it may have left rows, or as it was. Generation 0 in the record begins the next one.
 * Rows of another revision give way; where names alone differ, metadata is updated in place. A
 * document that was cut off is gone on with. */
bool chroma_put_document(enum chroma_put *out, int64_t *generation, struct chroma *chroma,
                         struct chroma_source *source, struct error *err);
/* Rows go, pages first; a tombstone stays. *superseded: a later generation is there and stays; if
 * rows of it were met, its record says so (lost_rows). Idempotent. */
bool chroma_remove_document(bool *superseded, struct chroma *chroma, const char *doc_id,
                            int64_t generation, const char *worker, int64_t removed_ms,
                            struct error *err);
/* Every record changed since (wall; 0: all), in no order, a page of them in memory at a time; false
 * from visit ends it with its error. */
typedef bool (*chroma_visitor)(void *ctx, const struct chroma_record *record, struct error *err);
bool chroma_list_documents(struct chroma *chroma, int64_t since_ms, chroma_visitor visit, void *ctx,
                           struct error *err);
bool chroma_find_document(struct chroma_record *out, bool *found, struct arena *arena,
                          struct chroma *chroma, const char *doc_id, struct error *err);
/* Are all rows there that the record counts? */
bool chroma_is_whole(bool *out, struct chroma *chroma, const struct chroma_record *record,
                     struct error *err);
/* A document's passages, with texts and places, ascending. */
bool chroma_load_chunks(struct chunk_row **out, int *n, struct arena *arena, struct chroma *chroma,
                        const struct chroma_record *record, struct error *err);
/* One item's vectors. *found false: it has none. */
bool chroma_load_item(struct chroma_item *out, bool *found, struct arena *arena,
                      struct chroma *chroma, const char *doc_id, enum item_kind kind, int item,
                      struct error *err);

/* ---- searching ------------------------------------------------------------------------------ */

struct chroma_query {
    enum item_kind kind; /* of the space that chroma_check was last told */
    const float *vectors;
    int n_vectors;
    const char *const *doc_ids; /* NULL: any; else asked of the server: for narrow filters */
    int n_doc_ids;
    /* Candidates that may be found; NULL: all. Called with many at a time. */
    bool (*allow)(void *ctx, bool *allowed, const struct index_hit *hits, int n, struct error *err);
    void *ctx;
    int limit;
    bool exact; /* every item is scored in full */
};
/* The best limit items. Not late: by the server's own search. Late: all question vectors in one
 * call over the pooled vectors; items ranked by the sum of their best similarities (for one without
 * a row among a vector's nearest, the least that was returned); the best of them by MaxSim over all
 * their vectors, which are kept in a bounded cache. Where allow leaves out so many that too few are
 * left, more are asked for. */
bool chroma_search(struct index_hit **out, int *n, struct index_effort *effort, struct arena *arena,
                   struct chroma *chroma, const struct chroma_query *query, struct error *err);

#endif
