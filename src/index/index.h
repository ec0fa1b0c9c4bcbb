/* index: vectors by space, and the nearest of them.
 *
 * A space is named by model, weights, dimension and precision (struct model_info's `space`);
 * vectors of two spaces are never compared. The plain form: one append-only file a space under
 * <data_dir>/vectors/, and a row in the store for each page or passage: where its vectors lie.
 * Search is exact: every row of the space that the filter lets through is scored.
 *
 *   <data_dir>/vectors/<space number>-<generation>.f32   (generation: how often it was rewritten)
 *   offset  bytes  what
 *   0       8      "DSVEC\0\0\1"
 *   8       4      dim, little-endian
 *   12      4      zero
 *   16             vectors: dim little-endian IEEE floats each, in the order they were appended
 *
 * Invariants: vectors are fdatasynced before the row that names them commits; bytes that no row
 * names are dead, cut off (at the tail) or reclaimed (when they are more than half and 64 MB) as
 * the index is opened. Rows that name bytes that are not there are dropped then, all of their
 * document and space, with a warning. A file without its header is kept as ….f32.damaged, one that
 * a new space finds under its number as ….f32.lost. Several documents may be written at once. */
#ifndef DOCUSEARCH_INDEX_H
#define DOCUSEARCH_INDEX_H

#include "device/device.h"
#include "store/store.h"

struct index;
bool index_open(struct index **out, struct store *store, const char *data_dir, struct error *err);
void index_close(struct index *index); /* NULL is fine */

struct space_info {
    const char *name; /* model_info's space */
    int dim;
    bool late; /* items may have many vectors */
};
/* Finds or makes it; *space numbers it for the calls below. ERROR_CONFLICT when the name is known
 * with another dim. */
bool index_space(int *space, struct index *index, const struct space_info *info, struct error *err);
struct space_facts {
    const char *name;
    int dim;
    bool late;
    int64_t n_items, n_vectors, bytes, dead_bytes;
};
bool index_spaces(struct space_facts **out, int *n, struct arena *arena, struct index *index,
                  struct error *err);

enum item_kind { ITEM_PAGE, ITEM_CHUNK };
/* One document's vectors of one space on their way in. One thread. */
struct index_writer;
bool index_writer_open(struct index_writer **out, struct index *index, int space,
                       const char *doc_id, struct error *err);
/* item: page from 1, or chunk ordinal from 0. n vectors of the space's dim. */
bool index_writer_add(struct index_writer *writer, enum item_kind kind, int item,
                      const float *vectors, int n, struct error *err);
int64_t index_writer_count(const struct index_writer *writer); /* items added */
/* Syncs what was added; fault point "embedded". Called before the transaction, so that others need
 * not wait for the disk; commit syncs what was not. */
bool index_writer_sync(struct index_writer *writer, struct error *err);
/* Syncs the vectors, then puts the rows into tx, replacing the document's older ones in this
 * space. After store_put_reading, which drops vectors with the old reading. */
bool index_writer_commit(struct index_writer *writer, struct store_tx *tx, struct error *err);
void index_writer_free(struct index_writer *writer); /* uncommitted vectors are dead bytes */

/* How an answer was found: items that each stage scored (0: it was not there). */
struct index_effort {
    int64_t n_scanned, n_pooled, n_full;
    double scan_ms, pooled_ms, full_ms;
};
struct index_hit {
    char doc_id[SHA256_HEX + 1];
    enum item_kind kind;
    int item;
    double score; /* dot product; late: MaxSim */
};
/* The best limit items of the kind, best first, ties by doc_id and item. query: n_query vectors of
 * the space's dim. *n_scored: how many were looked at. ERROR_IO vectors_cut: the file lost its end
 * under the open index. Any thread; waits while two others search. */
bool index_search(struct index_hit **out, int *n, int64_t *n_scored, struct arena *arena,
                  struct index *index, int space, enum item_kind kind, const float *query,
                  int n_query, const struct search_filter *filter, int limit, struct error *err);

#endif
