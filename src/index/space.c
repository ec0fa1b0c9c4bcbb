/* A space: what is appended to, and its opening, the rows of the store against the slots of its
 * segments.
 *
 * Invariants:
 *  1. A slot is live when a row has its id, its segment is the newest that has it, and nothing of
 * it was found damaged. Live slots are whole and synced.
 *  2. Every segment that is open for appending is in the newest view. */
#include "index/internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- appending ------------------------------------------------------------------------------ */

void space_shape(struct shape *out, const struct index_space *space) {
    const struct index_settings *settings = &space->index->settings;
    *out = (struct shape){.dim = space->dim, .scan_vectors = 1, .scan_bits = 8};
    if (!space->late)
        return;
    *out = (struct shape){.dim = space->dim,
                          .late = true,
                          .keep_full = settings->keep_full,
                          .scan_vectors = INDEX_SCAN_VECTORS,
                          .scan_bits = 1,
                          .pool_bits = settings->code_bits,
                          .pool_factor = settings->pool_factor};
}

/* The next slot of the tail, if it has room. The lock is held. */
static bool take_next(struct place *out, struct index_space *space, uint64_t bytes) {
    struct segment *tail = space->tail;
    if (!tail || tail->n_used == tail->capacity || bytes > SEGMENT_SPAN - tail->end)
        return false;
    *out = (struct place){.segment = tail,
                          .slot = tail->n_used++,
                          .id = space->index->next_id++,
                          .offset = bytes ? tail->end : 0};
    tail->ids[out->slot] = out->id;
    tail->end += bytes;
    tail->n_pending++;
    return true;
}

/* A dropping that was broken off, or failed, has renamed the folder before it asked the store. */
static bool take_back(const struct index_space *space, struct error *err) {
    char *away = mem_printf("%s.dropped", space->dir);
    bool ok = rename(away, space->dir) == 0 || errno == ENOENT ||
              error_set_errno(err, errno, "%s", away);
    mem_free(away);
    return ok;
}

/* A new tail, unless another thread has made one since. */
static bool begin_segment(struct index_space *space, const struct segment *full,
                          struct error *err) {
    struct index *index = space->index;
    struct segment *segment;
    struct shape shape;
    lock_take(&index->making);
    lock_take(&index->lock);
    bool ok = true, begun = space->tail != full;
    int sequence = begun ? 0 : space->next_sequence++;
    lock_drop(&index->lock);
    if (!begun) {
        space_shape(&shape, space);
        ok = take_back(space, err) &&
             segment_make(&segment, space, sequence, &shape, index_segment_slots, err);
        if (ok && !segment_finish(segment, err)) {
            segment->dead = true;
            segment_close(segment);
            ok = false;
        }
    }
    if (ok && !begun) {
        lock_take(&index->lock);
        space->tail = segment;
        view_replace(space, space->view->n_parts, 0, segment, live_new(segment));
        space_publish(space);
        lock_drop(&index->lock);
    }
    lock_drop(&index->making);
    return ok;
}

bool space_take_place(struct place *out, struct index_space *space, int n, struct error *err) {
    struct index *index = space->index;
    struct shape shape;
    space_shape(&shape, space);
    uint64_t bytes = segment_record_bytes(&shape, n);
    for (;;) {
        if (atomic_load(&space->dropped))
            return error_set(err, ERROR_MISSING, "the vector space %s is no more", space->name);
        lock_take(&index->lock);
        struct segment *tail = space->tail;
        bool ok = take_next(out, space, bytes);
        lock_drop(&index->lock);
        if (ok)
            return true;
        if (!begin_segment(space, tail, err))
            return false;
    }
}

void space_give_back(struct index_space *space, const struct place *places, int n) {
    struct index *index = space->index;
    lock_take(&index->lock);
    for (int i = n - 1; i >= 0; i--) {
        struct segment *segment = places[i].segment;
        segment->n_pending--;
        /* The last of a segment is given out again: a full disk does not use slots up. */
        if (places[i].slot == segment->n_used - 1) {
            segment->n_used--;
            segment->end = places[i].offset ? places[i].offset : segment->end;
        }
        segment_bury(index, segment);
    }
    lock_drop(&index->lock);
    index_bury(index);
}

/* ---- opening -------------------------------------------------------------------------------- */

/* A space as it is put together. */
struct opening {
    struct index_space *space;
    struct segment **segments; /* by sequence, later by first ids */
    int n_segments;
    struct view view; /* of them all */
    int kind, part, slot;
    int64_t n_lost;
};

static int by_number(const void *a, const void *b) {
    return *(const int *)a < *(const int *)b ? -1 : 1;
}

/* The sequences of the space's segments, ascending; what was never finished goes. */
static bool list_segments(struct buf *out, const struct index_space *space, struct error *err) {
    DIR *dir = opendir(space->dir);
    if (!dir && errno == ENOENT)
        return true;
    if (!dir)
        return error_set_errno(err, errno, "%s", space->dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        int sequence;
        char end[16] = "";
        if (sscanf(entry->d_name, "%d%15s", &sequence, end) != 2 || sequence < 1)
            continue;
        if (strcmp(end, ".seg") == 0)
            buf_append(out, &sequence, sizeof sequence);
        if (strcmp(end, ".seg.tmp") == 0) {
            char *path = mem_printf("%s/%s", space->dir, entry->d_name);
            unlink(path);
            mem_free(path);
        }
    }
    closedir(dir);
    if (out->len > 0)
        qsort(out->data, out->len / sizeof(int), sizeof(int), by_number);
    return true;
}

static bool set_aside(const struct index_space *space, int sequence, const char *why,
                      struct error *err) {
    char *path = mem_printf("%s/%06d.seg", space->dir, sequence);
    char *aside;
    bool ok = index_set_aside(&aside, space->dir, path, "damaged", err);
    if (ok)
        log_warn("%s is no segment of %s: %s; it is kept as %s", path, space->name, why,
                 path_name(aside));
    mem_free(path);
    if (ok)
        mem_free(aside);
    return ok;
}

static bool open_segments(struct opening *opening, const int *sequences, int n, struct error *err) {
    struct index_space *space = opening->space;
    char why[160];
    opening->segments = mem_alloc(((size_t)n + 1) * sizeof(struct segment *));
    for (int i = 0; i < n; i++) {
        struct segment *segment;
        if (!segment_open(&segment, why, space, sequences[i], err) ||
            (!segment && !set_aside(space, sequences[i], why, err)))
            return false;
        if (segment)
            opening->segments[opening->n_segments++] = segment;
        if (sequences[i] >= space->next_sequence)
            space->next_sequence = sequences[i] + 1;
    }
    return true;
}

static int by_first_id(const void *a, const void *b) {
    const struct segment *one = *(struct segment *const *)a, *other = *(struct segment *const *)b;
    uint64_t id = segment_first_id(one), other_id = segment_first_id(other);
    if (id != other_id)
        return id < other_id ? -1 : 1;
    return one->sequence - other->sequence;
}

static void note_lost(struct opening *opening, uint64_t id) {
    int sequence = 0;
    /* Named is the segment among whose ids it would lie, if something there cannot be read. */
    for (int i = 0; i < opening->n_segments; i++) {
        const struct segment *segment = opening->segments[i];
        if (segment->n_unreadable > 0 && (segment_first_id(segment) < id || sequence == 0))
            sequence = segment->sequence;
    }
    opening->n_lost++;
    index_item_lost(opening->space, sequence, (int64_t)id);
}

static bool open_rows(void *ctx, const int64_t *ids, int n) {
    struct opening *opening = ctx;
    struct index *index = opening->space->index;
    for (int i = 0; i < n; i++) {
        struct slot slot;
        uint64_t id = (uint64_t)ids[i];
        if (id >= index->next_id)
            index->next_id = id + 1;
        bool found = view_find(&opening->view, id, &opening->part, &opening->slot);
        struct view_part *part = found ? &opening->view.parts[opening->part] : NULL;
        if (!found || !segment_slot(&slot, part->segment, opening->slot) ||
            slot.kind != opening->kind || part_has(part, opening->kind, opening->slot))
            note_lost(opening, id);
        else
            live_put(part->own, part->segment, opening->slot, &slot);
    }
    return true;
}

/* Slots and bytes past the last that a row names go; a segment without any goes whole. */
static bool trim(struct opening *opening, struct error *err) {
    int n_kept = 0;
    bool ok = true;
    for (int i = 0; i < opening->n_segments; i++) {
        struct view_part part = opening->view.parts[i];
        int last = part.n_slots - 1;
        while (last >= 0 && !part_has(&part, ITEM_PAGE, last) && !part_has(&part, ITEM_CHUNK, last))
            last--;
        if (last < 0) {
            part.segment->dead = true;
            segment_close(part.segment);
            mem_free(part.own);
            continue;
        }
        ok = ok && segment_cut(part.segment, last + 1, err);
        part.n_slots = part.segment->n_used;
        opening->segments[n_kept] = part.segment;
        opening->view.parts[n_kept++] = part;
    }
    opening->n_segments = opening->view.n_parts = n_kept;
    return ok;
}

/* The segment with the newest ids is appended to, unless the settings have changed. */
static void choose_tail(struct index_space *space, const struct view *view) {
    struct shape shape;
    space_shape(&shape, space);
    for (int i = 0; i < view->n_parts; i++)
        view->parts[i].segment->refs++;
    struct segment *last = view->n_parts ? view->parts[view->n_parts - 1].segment : NULL;
    if (last && shape_equal(&last->shape, &shape))
        space->tail = last;
}

/* Of an id that two segments have, since a compaction was broken off, the newer one's counts. */
static void drop_copies(const struct segment *newer, struct segment *older) {
    const struct view_part part = {.segment = (struct segment *)(uintptr_t)newer,
                                   .n_slots = newer->n_used};
    if (older->n_used == 0 || newer->n_used == 0 ||
        segment_first_id(newer) > older->ids[older->n_used - 1] ||
        segment_first_id(older) > newer->ids[newer->n_used - 1])
        return;
    for (int i = 0; i < older->n_used; i++) {
        int slot;
        if (part_find(&part, older->ids[i], &slot))
            older->ids[i] = i > 0 ? older->ids[i - 1] : 0;
    }
}

static bool match_rows(struct opening *opening, struct error *err) {
    struct index_space *space = opening->space;
    struct view *view = &opening->view;
    for (int i = 0; i < opening->n_segments; i++) {
        for (int older = 0; older < i; older++)
            drop_copies(opening->segments[i], opening->segments[older]);
    }
    qsort(opening->segments, (size_t)opening->n_segments, sizeof *opening->segments, by_first_id);
    view->n_parts = opening->n_segments;
    view->parts = mem_alloc(((size_t)view->n_parts + 1) * sizeof *view->parts);
    for (int i = 0; i < view->n_parts; i++) {
        struct segment *segment = opening->segments[i];
        view->parts[i] = (struct view_part){.segment = segment, .n_slots = segment->n_used};
        part_set(&view->parts[i], live_new(segment));
        uint64_t last = segment->n_used > 0 ? segment->ids[segment->n_used - 1] : 0;
        if (last >= space->index->next_id)
            space->index->next_id = last + 1;
    }
    for (int kind = 0; kind < 2; kind++) {
        opening->kind = kind;
        if (!store_visit_vectors(space->index->store, space->number, (enum vector_kind)kind, NULL,
                                 open_rows, opening, err))
            return false;
    }
    return trim(opening, err);
}

bool index_space_open(struct index_space **out, struct index *index, const struct space_row *row,
                      struct error *err) {
    if (row->dim < 1 || row->dim > INDEX_MAX_DIM)
        return error_set(err, ERROR_INPUT, "a vector space of %d dimensions", row->dim);
    struct index_space *space = mem_alloc(sizeof *space);
    struct opening opening = {.space = space};
    struct buf sequences = {0};
    space->index = index;
    space->number = row->space;
    space->dim = row->dim;
    space->late = row->late;
    space->name = mem_strdup(row->name);
    space->name_hash = segment_hash(row->name, strlen(row->name));
    space->dir = mem_printf("%s/%d", index->dir, row->space);
    space->next_sequence = 1;
    bool ok = take_back(space, err) && dir_make(space->dir, err) && dir_sync(index->dir, err) &&
              list_segments(&sequences, space, err) &&
              open_segments(&opening, (const int *)(const void *)sequences.data,
                            (int)(sequences.len / sizeof(int)), err) &&
              match_rows(&opening, err);
    buf_fini(&sequences);
    space->view = view_new(0);
    mem_free(space->view->parts);
    space->view->parts = opening.view.parts;
    space->view->n_parts = opening.view.n_parts;
    if (opening.n_lost > 0)
        log_warn("%" PRId64 " pages and passages have lost their vectors in %s: they are not in "
                 "its files; searches by this model pass them over until they are embedded again",
                 opening.n_lost, space->name);
    if (ok) {
        choose_tail(space, space->view);
    } else {
        for (int i = 0; i < opening.view.n_parts; i++)
            mem_free(opening.view.parts[i].own);
        space->view->n_parts = 0;
        for (int i = 0; i < opening.n_segments; i++)
            segment_close(opening.segments[i]);
        index_space_close(space);
    }
    mem_free(opening.segments);
    if (ok)
        *out = space;
    return ok;
}

void index_space_close(struct index_space *space) {
    if (!space)
        return;
    if (space->view) {
        lock_take(&space->index->lock);
        view_unref(space->index, space->view);
        lock_drop(&space->index->lock);
        index_bury(space->index);
    }
    mem_free(space->name);
    mem_free(space->dir);
    mem_free(space);
}
