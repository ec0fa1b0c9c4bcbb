/* index: vectors by space, and the nearest of them.
 *
 * A space is named by model, weights, dimension and precision (struct model_info's `space`);
 * vectors of two spaces are never compared. An item is one page or passage of a document: one
 * vector, or, in a late-interaction space, many. Its vectors lie, as codes, in a slot of a segment:
 * an append-only, mapped file <data_dir>/vectors/<space number>/<sequence>.seg (segment.h has its
 * bytes). Nothing is trained: adding and removing cost the same at any size.
 *
 * Invariants: an item's bytes are fdatasynced before the store's row with its id commits, and the
 * row is its life: bytes whose row is gone are dead and given back by compaction, which moves items
 * under their ids. A search sees one view: the items of one moment, whole. Every part has a
 * checksum, looked at before its first use after a start; a damaged item leaves the view and is
 * reported. Any thread may call any function. */
#ifndef DOCUSEARCH_INDEX_H
#define DOCUSEARCH_INDEX_H

#include "device/device.h"
#include "store/store.h"

struct index;
/* Codes of segments that are begun from now on; older segments keep theirs. */
struct index_settings {
    int pool_factor;       /* pooled vectors: one for so many, 1..64 */
    int code_bits;         /* of pooled vectors: 1, 2, 4 or 8 */
    bool keep_full;        /* also every vector, as int8: for the last stage, and for places */
    double recall;         /* what searches aim at of the exact best, 0.5..1; 1: score everything */
    struct device *device; /* whose threads score; NULL: the caller alone */
};
/* Registers itself with the store (store_watch_items): one index a store. */
bool index_open(struct index **out, struct store *store, const char *data_dir,
                const struct index_settings *settings, struct error *err);
/* Compaction and the slow check of all bytes, in a thread of their own. */
bool index_start(struct index *index, struct error *err);
void index_close(struct index *index); /* before the store; NULL is fine */

/* ---- spaces --------------------------------------------------------------------------------- */

struct space_info {
    const char *name; /* model_info's space */
    int dim;
    bool late; /* items may have many vectors */
};
/* Finds or makes it; *space numbers it for the calls below. ERROR_CONFLICT when the name is known
 * with another dim. */
bool index_space(int *space, struct index *index, const struct space_info *info, struct error *err);
struct space_facts {
    int space;
    const char *name;
    int dim;
    bool late;
    int64_t n_items, n_vectors;                   /* live */
    int64_t scan_bytes, pooled_bytes, full_bytes; /* of live items, by kind of code */
    int64_t file_bytes, dead_bytes;               /* of the segments, allocated; of which dead */
    int n_segments, n_damaged;                    /* items found damaged since the start */
    int64_t n_checked; /* items whose bytes were all checked since then */
};
bool index_spaces(struct space_facts **out, int *n, struct arena *arena, struct index *index,
                  struct error *err);
/* The space, its rows and its files are no more. */
bool index_drop_space(struct index *index, int space, struct error *err);

/* ---- writing -------------------------------------------------------------------------------- */

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

/* ---- searching ------------------------------------------------------------------------------ */

struct index_query {
    int space;
    enum item_kind kind;
    const float *vectors; /* n_vectors of the space's dim */
    int n_vectors;
    const struct search_filter *filter; /* NULL: none. Acts before scoring */
    int limit;
    bool exact; /* score every item by the best codes there are */
};
struct index_hit {
    char doc_id[SHA256_HEX + 1];
    enum item_kind kind;
    int item;
    double score; /* dot product; late: MaxSim */
};
/* How the answer was found: items that each stage scored (0: it was not there). */
struct index_effort {
    int64_t n_scanned, n_pooled, n_full;
    double scan_ms, pooled_ms, full_ms;
};
/* The best limit items, best first, ties by age. */
bool index_search(struct index_hit **out, int *n, struct index_effort *effort, struct arena *arena,
                  struct index *index, const struct index_query *query, struct error *err);

/* How each question vector fits each of an item's vectors: values[q * n_vectors + v], dot products
 * of the unpooled codes. ERROR_MISSING not_found: no such item; no_patches: it is kept pooled. */
struct index_fit {
    float *values; /* the arena's */
    int n_query, n_vectors;
};
bool index_fit(struct index_fit *out, struct arena *arena, struct index *index, int space,
               const char *doc_id, enum item_kind kind, int item, const float *query, int n_query,
               struct error *err);

/* ---- upkeep --------------------------------------------------------------------------------- */

/* Called on any thread, without locks, when a live item's bytes turn out damaged or missing; by
 * then searches pass the item over. file: NULL when there is none. Items found before this is set
 * are told of at once. */
struct index_damage {
    int space;
    char doc_id[SHA256_HEX + 1];
    enum item_kind kind;
    int item;
    const char *file, *part; /* "000003.seg"; "scan code", "pooled codes", "full codes", "slot" */
};
void index_on_damage(struct index *index, void (*report)(void *ctx, const struct index_damage *),
                     void *ctx);
/* Reads and checks every live byte; *n_damaged counts items found by this call. */
bool index_check(int64_t *n_items, int64_t *n_damaged, struct index *index, struct error *err);
/* Compaction now, of every segment that has anything dead. Tests and benchmarks. */
bool index_compact(struct index *index, struct error *err);

#endif
