/* index, inside: segments, the views of them, and the codes in them.
 *
 * A segment file, little-endian:
 *   offset     bytes        what
 *   0          8            "DSSEG\0\0\1"
 *   8          4            space number
 *   12         4            sequence
 *   16         4            dim
 *   20         4            flags: 1 late, 2 full vectors kept
 *   24         4            slots
 *   28         4            scan vectors a slot (late: a multiple of 8; else 1)
 *   32         4            bits of the scan code (late: 1; else 8)
 *   36         4            bits of the pooled codes (0: none)
 *   40         4            pool factor (0: none)
 *   44         4            zero
 *   48         8            XXH3-64 of the space's name
 *   56         8            where scan codes begin
 *   64         8            where records begin
 *   72         4016         zero
 *   4088       8            XXH3-64 of the bytes before
 *   4096       slots * 64   slots
 *   scan       slots * scan bytes
 *   records    each from a multiple of 64: pooled codes, pooled scales, filled up to 64; full
 *              codes, full scales, filled up to 64
 * Slots are struct slot as it lies in memory.
 *
 * A file is NNNNNN.seg in its space's folder; NNNNNN.seg.tmp until it is whole, NNNNNN.seg.damaged
 * when its header is not to be trusted. A folder is <number>.dropped while its space goes, and
 * <number>.lost when it is of a database that was there before. */
#ifndef DOCUSEARCH_INDEX_SEGMENT_H
#define DOCUSEARCH_INDEX_SEGMENT_H

#include "index/index.h"

#include <stdatomic.h>

#define ITEM_MAX_VECTORS (1 << 20) /* of a late item; of another, 1 */

struct slot {
    uint64_t id;     /* 0: empty */
    uint64_t offset; /* of the record; 0: none */
    uint32_t n, n_pooled;
    uint8_t kind, zero[7];
    uint64_t scan_hash, pooled_hash, full_hash; /* XXH3-64 of the parts; 0: no such part */
    uint64_t hash;                              /* XXH3-64 of the bytes before */
};
/* What a segment's codes are like: from its header. */
struct shape {
    int dim;
    bool late, keep_full;
    int scan_vectors, scan_bits, pool_bits, pool_factor;
};
/* codes.c. Sizes are multiples of 64. */
size_t shape_scan_bytes(const struct shape *shape);
int shape_n_pooled(const struct shape *shape, int n);
size_t shape_pooled_bytes(const struct shape *shape, int n); /* with scales; 0 not late */
size_t shape_full_bytes(const struct shape *shape, int n);   /* with scales; 0 not kept */
/* scan: shape_scan_bytes; record: pooled then full bytes (NULL where both are 0); 64-byte aligned.
 * vectors[n][dim] as the model gave them. */
bool item_encode(void *scan, void *record, const struct shape *shape, const float *vectors, int n,
                 struct error *err);
/* The parts of an item, from its slot and record. */
struct coded slot_pooled(const struct shape *shape, const struct slot *slot, const void *record);
struct coded slot_full(const struct shape *shape, const struct slot *slot, const void *record);
/* Codes that have their scales behind them. */
struct coded item_coded(const void *part, int n, int dim, int bits);
/* values[n][dim] of codes of 8 bits: what was coded, within their precision. */
void item_decode(float *values, const struct coded *coded, int dim);
/* The rotation that all codes are under: out[n][dim] from in[n][dim]; may be the same. Part of the
 * format. */
void rotate_vectors(float *out, const float *in, int n, int dim);
/* Its inverse, to rounding. */
void rotate_vectors_back(float *out, const float *in, int n, int dim);
/* pooling.c: Ward's clustering of n vectors. cut: n_out unit vectors, the clusters' means, in the
 * order of their first members. */
struct pooling;
bool pooling_new(struct pooling **out, const float *vectors, int n, int dim, struct error *err);
void pooling_cut(float *out, const struct pooling *pooling, int n_out); /* 1..n */
void pooling_free(struct pooling *pooling);

/* An open segment. Immutable but for its tail: slots that a view counts never change. */
struct index_space;
struct segment {
    struct shape shape;
    const uint8_t *map; /* SEGMENT_SPAN bytes, of which the written are readable */
    const struct slot *slots;
    const uint8_t *scan; /* slot i's scan code at i * shape_scan_bytes */

    /* The storage's own. */
    struct index_space *space;
    int sequence, fd, capacity; /* capacity: slots */
    char name[24];              /* "000003.seg" */
    uint64_t scan_offset, data_offset;
    size_t scan_bytes;
    uint64_t *ids; /* a slot; of an empty or unreadable one that of the slot before: they ascend */
    _Atomic uint64_t *checked[3]; /* by enum item_part, a bit a slot */
    int n_unreadable;             /* slots, as it was opened */
    bool finished;                /* it has its name */
    struct lock syncing;          /* LOCK_READ, over n_synced, allocated and the calls for them */
    uint64_t n_synced, allocated; /* of n_written; bytes of the file */
    _Atomic uint64_t n_written;
    /* Under the index's lock: */
    int n_used;    /* slots that were given out */
    uint64_t end;  /* of the records that were given out */
    int n_pending; /* slots of writers that have neither committed nor given up */
    int refs;      /* of views */
    bool dead;     /* its file goes with it */
    struct segment *next_grave;
};
/* The bits of a part, which views share until one changes them. */
struct live {
    int refs;
    int n_items;
    int64_t n_vectors, pooled_bytes, full_bytes;
    uint64_t end; /* of the records of those that ever were live */
    uint64_t *bits[2];
};
/* One segment in a view: its first n_slots slots count; live[kind] has a bit a slot. */
struct view_part {
    struct segment *segment;
    int n_slots;
    const uint64_t *live[2];
    struct live *own; /* the storage's own: whose bits they are */
};
struct view {
    int n_parts;
    struct view_part *parts; /* ascending by ids */
    int refs;                /* under the index's lock */
};
/* segment.c: true when the slot's part has been checked since the start, or is found whole now;
 * false: damaged (reported once; the caller passes the item over). Any thread. */
enum item_part { PART_SCAN, PART_POOLED, PART_FULL, PART_SLOT };
bool segment_check(struct segment *segment, int slot, enum item_part part);

/* search.c: the best of a view. allowed: NULL, or for each part of the view a bitmap of slots. */
struct scored {
    int part, slot;
    uint64_t id;
    float score;
};
bool view_search(struct scored **out, int *n, struct index_effort *effort, struct arena *arena,
                 struct device *device, const struct view *view, const uint64_t *const *allowed,
                 enum item_kind kind, const float *query, int n_query, int dim, int limit,
                 bool exact, double recall, struct error *err);

#endif
