/* index, inside: spaces, their views, and who keeps them in order. */
#ifndef DOCUSEARCH_INDEX_INTERNAL_H
#define DOCUSEARCH_INDEX_INTERNAL_H

#include "index/segment.h"

#define INDEX_MAX_DIM 65536
#define SEGMENT_SPAN ((uint64_t)1 << 30)
#define INDEX_SCAN_VECTORS 32 /* of a late item in the scan */

struct index_space {
    struct index *index;
    int number, dim;
    bool late;
    char *name, *dir;
    uint64_t name_hash;
    atomic_bool broken;  /* a sync failed: what it did not bring to the disk is not known */
    atomic_bool dropped; /* no more is written or searched */
    /* Under the index's lock: */
    struct view *view;    /* the newest, never NULL */
    struct view *edit;    /* the next, while it is made under one hold of the lock */
    struct segment *tail; /* what is appended to; NULL: the next item begins one */
    int next_sequence;
    int64_t n_damaged;
    struct index_space *next;
};

/* An item that was found damaged or missing, until it is told of. */
struct damage {
    int space, sequence; /* 0: no file */
    enum item_part part;
    int64_t id;
};

struct index {
    struct store *store;
    char *dir;
    struct index_settings settings;
    struct lock making; /* LOCK_READ: one space, or segment to append to, is made at a time */
    struct lock lock;   /* LOCK_STORE, over what follows; no I/O is done under it */
    struct index_space *spaces; /* one that is in it stays */
    uint64_t next_id;
    struct index_writer *committing;
    struct segment *graves; /* to be closed */
    struct damage *damages;
    int n_damages, max_damages;
    void (*report)(void *ctx, const struct index_damage *);
    void *report_ctx;
    struct thread *keeper;
    bool stopping, woken, compacting;
    struct signal_cond changed;
};

/* Tests lower it. */
extern int index_segment_slots;

/* ---- segment.c ---- */

uint64_t segment_hash(const void *data, size_t len);
/* A new, empty segment in a file with another name until segment_finish: synced, renamed. */
bool segment_make(struct segment **out, struct index_space *space, int sequence,
                  const struct shape *shape, int capacity, struct error *err);
bool segment_finish(struct segment *segment, struct error *err);
/* *why "": it is open; else it is not to be used, and why. False: the disk does not say. */
bool segment_open(struct segment **out, char why[160], struct index_space *space, int sequence,
                  struct error *err);
/* Gives back what was allocated past its end, or, when it is dead, all of it. NULL is fine. */
void segment_close(struct segment *segment);
/* Its layout alone, of a file that another process may hold: only pread. The fd stays the caller's:
 * it is taken out before segment_close. *out NULL: *why. */
bool segment_peek(struct segment **out, char why[160], struct index_space *space, int sequence,
                  int fd, struct error *err);
bool segment_has_shape(const struct shape *shape); /* could a segment be of it? */
char *segment_path(const struct segment *segment); /* the caller's */
size_t segment_record_bytes(const struct shape *shape, int n);
bool shape_equal(const struct shape *a, const struct shape *b);
/* Writes an item into a slot that the caller was given: slot has id, offset, n and kind. *written
 * is for segment_sync. */
bool segment_write(uint64_t *written, struct segment *segment, int slot_i, struct slot *slot,
                   const void *scan, const void *record, struct error *err);
bool segment_sync(struct segment *segment, uint64_t written, struct error *err);
/* Slots from `from` on become empty. */
bool segment_cut(struct segment *segment, int from, struct error *err);
/* The slot, if its checksum is right. */
bool segment_slot(struct slot *out, const struct segment *segment, int slot_i);
/* Reads and compares; does not report. *bad: which part. */
bool segment_verify(enum item_part *bad, struct segment *segment, int slot_i, enum item_part part);
/* ERROR_IO vectors_cut: the file is shorter than end. A byte of a mapping that its file no longer
 * has kills who touches it. */
bool segment_is_there(const struct segment *segment, uint64_t end, struct error *err);

/* ---- space.c ---- */

struct index_space *index_space_numbered(struct index *index, int number); /* not a dropped one */
bool index_space_open(struct index_space **out, struct index *index, const struct space_row *row,
                      struct error *err);
void index_space_close(struct index_space *space); /* NULL is fine */
/* The shape of segments begun now. */
void space_shape(struct shape *out, const struct index_space *space);

/* A slot with room for n vectors in the space's tail, and an id. Given back by space_give_back, or
 * when its row is published. */
struct place {
    struct segment *segment;
    int slot;
    uint64_t id, offset;
};
bool space_take_place(struct place *out, struct index_space *space, int n, struct error *err);
void space_give_back(struct index_space *space, const struct place *places, int n);

/* ---- view.c ---- */

/* Bits without any, and one item more or less; facts: its slot. */
struct live *live_new(const struct segment *segment);
void live_put(struct live *live, const struct segment *segment, int slot, const struct slot *facts);
void live_take(struct live *live, const struct segment *segment, int slot);
bool part_has(const struct view_part *part, int kind, int slot);
void part_set(struct view_part *part, struct live *live); /* its bits */
bool part_find(const struct view_part *part, uint64_t id, int *slot);
/* Where an id lies; *part and *slot are where the last one was: runs are found at once. */
bool view_find(const struct view *view, uint64_t id, int *part, int *slot);
int view_part_of(const struct view *view, const struct segment *segment); /* -1: none */
uint64_t segment_first_id(const struct segment *segment);                 /* UINT64_MAX: none yet */

struct view *view_new(int n_parts); /* one reference, the caller's */
struct view *view_take(struct index_space *space);
void view_drop(struct index *index, struct view *view);
/* Closes what no view holds any more; the keeper does where there is one. Without the lock. */
void index_bury(struct index *index);

/* Under the lock: the view that will be the newest; space_publish makes it so. */
struct view *space_edit(struct index_space *space);
struct live *view_edit_part(struct view *view, int part);
/* n parts from `at` on give way to one (NULL: to none), whose bits become the view's. */
void view_replace(struct index_space *space, int at, int n, struct segment *segment,
                  struct live *live);
void space_publish(struct index_space *space);
void view_unref(struct index *index, struct view *view);
/* Into its grave, when neither a view nor a writer has it. */
void segment_bury(struct index *index, struct segment *segment);

/* ---- index.c ---- */

/* Renames path to path.why, path.why-2, …; *aside: which, the caller's. dir: its folder. */
bool index_set_aside(char **aside, const char *dir, const char *path, const char *why,
                     struct error *err);
/* An item where the newest view has it, its best part checked: of a late space its full codes, else
 * its row of the scan. Errors are index_fit's. */
struct found_item {
    struct view *view; /* until index_drop_item */
    struct segment *segment;
    int slot_i;
    struct slot slot;
};
bool index_take_item(struct found_item *out, struct index *index, int space, const char *doc_id,
                     enum item_kind kind, int item, struct error *err);
void index_drop_item(struct index *index, struct found_item *item);

/* ---- portable.c ---- */

/* index_fit of codes of dim dimensions. */
bool index_coded_fit(struct index_fit *out, struct arena *arena, const struct coded *coded, int dim,
                     const float *query, int n_query, struct error *err);

/* ---- writer.c ---- */

/* An encoded item into a place that was taken for it; given back on failure. */
bool index_writer_put(struct index_writer *writer, const struct place *place, enum item_kind kind,
                      int item, int n, const void *scan, const void *record, struct error *err);
/* The store's watcher. */
void index_items_changed(void *ctx, const int64_t *added, int n_added, const int64_t *removed,
                         int n_removed);

/* ---- damage.c ---- */

/* The item leaves the view and will be told of. Any thread, without locks. */
void index_item_damaged(struct segment *segment, int slot, enum item_part part);
/* Will be told of. Under the lock. */
void index_note_damage(struct index_space *space, int sequence, enum item_part part, int64_t id);
void index_item_lost(struct index_space *space, int sequence, int64_t id);
/* Tells of what was found since. Without locks. */
void index_tell(struct index *index);

/* ---- compact.c ---- */

int64_t segment_dead_bytes(const struct view_part *part);
int part_n_unchecked(const struct view_part *part); /* live items not wholly looked at */
void index_stop(struct index *index);
void index_wake(struct index *index); /* the keeper has something to look at; under the lock */

#endif
