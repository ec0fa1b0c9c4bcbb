/* Views: what a search sees of a space, and how the next one is made.
 *
 * Invariant: a view is never changed once it is a space's newest; what changes is copied. Views
 * share segments and bits, both counted under the index's lock. */
#include "index/internal.h"

#include <string.h>

#define WORDS(slots) (((size_t)(slots) + 63) / 64)

struct live *live_new(const struct segment *segment) {
    size_t words = WORDS(segment->capacity);
    struct live *live = mem_alloc(sizeof *live + 2 * words * sizeof(uint64_t));
    live->refs = 1;
    live->end = segment->data_offset;
    live->bits[0] = (uint64_t *)(void *)(live + 1);
    live->bits[1] = live->bits[0] + words;
    return live;
}

static struct live *live_copy(const struct live *from, const struct segment *segment) {
    struct live *live = live_new(segment);
    size_t bytes = WORDS(segment->capacity) * sizeof(uint64_t);
    live->n_items = from->n_items;
    live->n_vectors = from->n_vectors;
    live->pooled_bytes = from->pooled_bytes;
    live->full_bytes = from->full_bytes;
    live->end = from->end;
    for (int kind = 0; kind < 2; kind++)
        memcpy(live->bits[kind], from->bits[kind], bytes);
    return live;
}

void live_put(struct live *live, const struct segment *segment, int slot,
              const struct slot *facts) {
    size_t pooled = shape_pooled_bytes(&segment->shape, (int)facts->n);
    size_t full = shape_full_bytes(&segment->shape, (int)facts->n);
    live->bits[facts->kind][slot / 64] |= (uint64_t)1 << (slot % 64);
    live->n_items++;
    live->n_vectors += facts->n;
    live->pooled_bytes += (int64_t)pooled;
    live->full_bytes += (int64_t)full;
    if (pooled + full > 0 && facts->offset + pooled + full > live->end)
        live->end = facts->offset + pooled + full;
}

void live_take(struct live *live, const struct segment *segment, int slot) {
    struct slot facts;
    for (int kind = 0; kind < 2; kind++)
        live->bits[kind][slot / 64] &= ~((uint64_t)1 << (slot % 64));
    live->n_items--;
    /* Of a slot that has since been damaged the sums keep its share. */
    if (!segment_slot(&facts, segment, slot))
        return;
    live->n_vectors -= facts.n;
    live->pooled_bytes -= (int64_t)shape_pooled_bytes(&segment->shape, (int)facts.n);
    live->full_bytes -= (int64_t)shape_full_bytes(&segment->shape, (int)facts.n);
}

bool part_has(const struct view_part *part, int kind, int slot) {
    return part->live[kind][slot / 64] >> (slot % 64) & 1;
}

void part_set(struct view_part *part, struct live *live) {
    part->own = live;
    part->live[0] = live->bits[0];
    part->live[1] = live->bits[1];
}

struct view *view_new(int n_parts) {
    struct view *view = mem_alloc(sizeof *view);
    view->refs = 1;
    view->n_parts = n_parts;
    view->parts = mem_alloc(((size_t)n_parts + 1) * sizeof *view->parts);
    return view;
}

/* Its segments that nobody holds any more go into their grave. The lock is held. */
void view_unref(struct index *index, struct view *view) {
    if (--view->refs > 0)
        return;
    for (int i = 0; i < view->n_parts; i++) {
        struct view_part *part = &view->parts[i];
        if (--part->own->refs == 0)
            mem_free(part->own);
        if (--part->segment->refs == 0)
            segment_bury(index, part->segment);
    }
    mem_free(view->parts);
    mem_free(view);
}

void segment_bury(struct index *index, struct segment *segment) {
    if (segment->refs > 0 || segment->n_pending > 0)
        return;
    segment->next_grave = index->graves;
    index->graves = segment;
}

void index_bury(struct index *index) {
    lock_take(&index->lock);
    struct segment *graves = index->graves;
    bool mine = graves && (!index->keeper || index->stopping);
    if (mine)
        index->graves = NULL;
    else if (graves)
        index_wake(index);
    lock_drop(&index->lock);
    while (mine && graves) {
        struct segment *segment = graves;
        graves = segment->next_grave;
        segment_close(segment);
    }
}

struct view *view_take(struct index_space *space) {
    lock_take(&space->index->lock);
    struct view *view = space->view;
    view->refs++;
    lock_drop(&space->index->lock);
    return view;
}

void view_drop(struct index *index, struct view *view) {
    lock_take(&index->lock);
    view_unref(index, view);
    bool any = index->graves != NULL;
    lock_drop(&index->lock);
    if (any)
        index_bury(index);
}

/* ---- changes, under the lock ---- */

struct view *space_edit(struct index_space *space) {
    if (space->edit)
        return space->edit;
    const struct view *from = space->view;
    struct view *view = view_new(from->n_parts);
    for (int i = 0; i < from->n_parts; i++) {
        view->parts[i] = from->parts[i];
        from->parts[i].own->refs++;
        from->parts[i].segment->refs++;
    }
    space->edit = view;
    return view;
}

struct live *view_edit_part(struct view *view, int i) {
    struct view_part *part = &view->parts[i];
    if (part->own->refs > 1) {
        struct live *live = live_copy(part->own, part->segment);
        part->own->refs--;
        part_set(part, live);
    }
    return part->own;
}

void space_publish(struct index_space *space) {
    struct view *old = space->view;
    if (!space->edit)
        return;
    space->view = space->edit;
    space->edit = NULL;
    view_unref(space->index, old);
}

int view_part_of(const struct view *view, const struct segment *segment) {
    for (int i = view->n_parts - 1; i >= 0; i--) {
        if (view->parts[i].segment == segment)
            return i;
    }
    return -1;
}

uint64_t segment_first_id(const struct segment *segment) {
    for (int i = 0; i < segment->n_used; i++) {
        if (segment->ids[i] > 0)
            return segment->ids[i];
    }
    return UINT64_MAX; /* nothing yet: what comes is newer than all there is */
}

void view_replace(struct index_space *space, int at, int n, struct segment *segment,
                  struct live *live) {
    struct view *view = space_edit(space);
    struct view_part *parts = mem_alloc(((size_t)(view->n_parts - n) + 2) * sizeof *parts);
    int n_parts = 0;
    for (int i = 0; i <= view->n_parts; i++) {
        if (i == at && segment) {
            parts[n_parts] = (struct view_part){.segment = segment, .n_slots = segment->n_used};
            segment->refs++;
            part_set(&parts[n_parts++], live);
        }
        if (i < view->n_parts && i >= at && i < at + n) {
            if (--view->parts[i].own->refs == 0)
                mem_free(view->parts[i].own);
            view->parts[i].segment->refs--; /* the view that is replaced holds it still */
        } else if (i < view->n_parts) {
            parts[n_parts++] = view->parts[i];
        }
    }
    mem_free(view->parts);
    view->parts = parts;
    view->n_parts = n_parts;
}

/* ---- finding ---- */

bool part_find(const struct view_part *part, uint64_t id, int *slot) {
    const uint64_t *ids = part->segment->ids;
    int low = 0, high = part->n_slots;
    if (high == 0 || id > ids[high - 1])
        return false;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    *slot = low;
    return ids[low] == id;
}

bool view_find(const struct view *view, uint64_t id, int *part, int *slot) {
    if (*part < view->n_parts) {
        const struct view_part *here = &view->parts[*part];
        if (*slot + 1 < here->n_slots && here->segment->ids[*slot + 1] == id &&
            here->segment->ids[*slot] < id) {
            ++*slot;
            return true;
        }
        if (part_find(here, id, slot))
            return true;
    }
    for (int i = 0; i < view->n_parts; i++) {
        if (part_find(&view->parts[i], id, slot)) {
            *part = i;
            return true;
        }
    }
    return false;
}
