/* chroma's second face: collections made by the Python worker, read where they stand.
 *
 * Two of them, by default named as ours are, of Chroma's l2 space: pages `<id>-page<NNN>` (from 1)
 * and passages `<id>-chunk<NNNN>` (from 0), <id> being a uuid4 of theirs. A row's vector is the
 * first of the item's; all lie in its metadata, which have
 *
 *   doc_id, page, type ("visual", "text"), filename, source_path, title, author, created, format,
 *   num_pages, timestamp; of a passage text_preview (200 characters), word_count; in later ones
 *   full_text, section_path, parent_heading, page_nums
 *   embedding_shape   "(n, dim)"
 *   full_embeddings   base64 of gzip of n * dim little-endian float32
 *
 * Rows of docusearch may stand in the same collections. Their ids begin with 64 hex digits, and are
 * passed over here.
 *
 * Ids of documents here are ours: the SHA-256 of the text "python-worker:" and their id. An item's
 * vectors are as they were stored, but for what their batches were filled up with, all zeros, which
 * is dropped, and for those that are not of length 1 within 0.001, which are made so. Scores are
 * exact MaxSim over them.
 *
 * Nothing here writes but chroma_legacy_remove. Any thread may call any function. Which rows there
 * are is asked again when that was seconds ago; a bounded number of items is kept decoded. Errors:
 * ERROR_BUSY backend_unavailable, ERROR_INPUT (a row's vectors are not what they should be),
 * ERROR_LIMIT. */
#ifndef DOCUSEARCH_CHROMA_LEGACY_H
#define DOCUSEARCH_CHROMA_LEGACY_H

#include "chroma/chroma.h"

/* ColPali's. Where its model could not be loaded the Python worker stored random numbers, of 768
 * dimensions: those documents have no vectors here. */
enum { CHROMA_LEGACY_DIM = 128 };

struct chroma_legacy;
/* visual, text: the collections' names; NULL: those of chroma's settings. Asks nobody. */
bool chroma_legacy_open(struct chroma_legacy **out, struct chroma *chroma, const char *visual,
                        const char *text, struct error *err);
void chroma_legacy_close(struct chroma_legacy *legacy); /* before chroma; NULL is fine */
void chroma_legacy_id(char out[SHA256_HEX + 1], const char *their_id);

/* What there is, by the rows' ids: none where no such collection is. */
struct chroma_legacy_facts {
    int n_documents, n_pages, n_chunks;
};
bool chroma_legacy_facts(struct chroma_legacy_facts *out, struct chroma_legacy *legacy,
                         struct error *err);

/* ---- documents ------------------------------------------------------------------------------ */

struct chroma_legacy_document {
    /* doc_id (ours), filename, source_path, format (as they had it, or the filename's extension),
     * title, author, created, added_ms; n_pages: as they had it, at least that of its last page;
     * n_chunks: passages that are there. group is "". */
    struct document_row document;
    const char *their_id;
    int n_page_rows, n_chunk_rows;
    int dim;  /* of its vectors: CHROMA_LEGACY_DIM, or there are none to be had */
    bool cut; /* its passages have no more than their first 200 characters */
};
/* All of them, by their ids, with one row of each read; one that cannot be read is passed over.
 * False from visit ends it with its error. */
typedef bool (*chroma_legacy_visitor)(void *ctx, const struct chroma_legacy_document *document,
                                      struct error *err);
bool chroma_legacy_list(struct chroma_legacy *legacy, chroma_legacy_visitor visit, void *ctx,
                        struct error *err);
/* Strings are the arena's. *found false: there is none, or it is of another make. */
bool chroma_legacy_find(struct chroma_legacy_document *out, bool *found, struct arena *arena,
                        struct chroma_legacy *legacy, const char *doc_id, struct error *err);
/* Its passages, ascending; ordinals are theirs and may have gaps; heading_path has " > " between
 * headings; without places. */
bool chroma_legacy_load_chunks(struct chunk_row **out, int *n, struct arena *arena,
                               struct chroma_legacy *legacy, const char *doc_id, struct error *err);
bool chroma_legacy_find_chunk(struct chunk_row *out, bool *found, struct arena *arena,
                              struct chroma_legacy *legacy, const char *doc_id, int ordinal,
                              struct error *err);
/* The items of a document that have a row: pages, or passages' ordinals, ascending. */
bool chroma_legacy_items(int **out, int *n, struct arena *arena, struct chroma_legacy *legacy,
                         const char *doc_id, enum item_kind kind, struct error *err);
/* vectors[n][CHROMA_LEGACY_DIM], the arena's. *found false: no such row, or no vectors in it. */
bool chroma_legacy_load_item(float **vectors, int *n, bool *found, struct arena *arena,
                             struct chroma_legacy *legacy, const char *doc_id, enum item_kind kind,
                             int item, struct error *err);

/* Their rows of the document go; *found false: there were none. */
bool chroma_legacy_remove(bool *found, struct chroma_legacy *legacy, const char *doc_id,
                          struct error *err);

/* ---- searching ------------------------------------------------------------------------------ */

/* chroma_search, of these; doc_ids and hits have ids of ours, and vectors are of CHROMA_LEGACY_DIM.
 * Some hundred items are all scored, and with `exact` any number is; of more, those whose rows'
 * vectors are nearest to the question's, which the first vector of an item tells badly. Items that
 * cannot be read are passed over, and told of in the log once. Best first, ties by document and
 * item. effort: n_scanned items, n_full scored. */
bool chroma_legacy_search(struct index_hit **out, int *n, struct index_effort *effort,
                          struct arena *arena, struct chroma_legacy *legacy,
                          const struct chroma_query *query, struct error *err);

#endif
