/* What was found damaged or missing: out of the view at once, told of when no lock is held.
 *
 * Invariant: an item is in the list once: it is put there as it leaves the view, or as its space is
 * opened. */
#include "index/internal.h"

#include <stdio.h>
#include <string.h>

#define TELL_AT_ONCE 64

static const char *part_name(enum item_part part) {
    switch (part) {
    case PART_SCAN:
        return "scan code";
    case PART_POOLED:
        return "pooled codes";
    case PART_FULL:
        return "full codes";
    case PART_SLOT:
        return "slot";
    }
    return "slot";
}

void index_note_damage(struct index_space *space, int sequence, enum item_part part, int64_t id) {
    struct index *index = space->index;
    if (index->n_damages == index->max_damages) {
        index->max_damages = index->max_damages ? 2 * index->max_damages : 16;
        index->damages = mem_grow(index->damages, (size_t)index->max_damages,
                                  sizeof *index->damages);
    }
    index->damages[index->n_damages++] = (struct damage){
        .space = space->number, .sequence = sequence, .part = part, .id = id};
    space->n_damaged++;
    index_wake(index);
}

void index_item_damaged(struct segment *segment, int slot, enum item_part part) {
    struct index_space *space = segment->space;
    struct index *index = space->index;
    lock_take(&index->lock);
    int i = view_part_of(space->view, segment);
    const struct view_part *here = i < 0 ? NULL : &space->view->parts[i];
    if (here && slot < here->n_slots &&
        (part_has(here, ITEM_PAGE, slot) || part_has(here, ITEM_CHUNK, slot))) {
        live_take(view_edit_part(space_edit(space), i), segment, slot);
        space_publish(space);
        index_note_damage(space, segment->sequence, part, (int64_t)segment->ids[slot]);
    }
    lock_drop(&index->lock);
}

void index_item_lost(struct index_space *space, int sequence, int64_t id) {
    lock_take(&space->index->lock);
    index_note_damage(space, sequence, PART_SLOT, id);
    lock_drop(&space->index->lock);
}

static void tell(struct index *index, const struct damage *damage,
                 const struct vector_place *place) {
    char name[24] = "";
    struct index_damage out = {.space = damage->space,
                               .kind = (enum item_kind)place->kind,
                               .item = place->item,
                               .part = part_name(damage->part)};
    if (damage->sequence > 0)
        snprintf(name, sizeof name, "%06d.seg", damage->sequence);
    out.file = name[0] ? name : NULL;
    memcpy(out.doc_id, place->doc_id, sizeof out.doc_id);
    log_warn("vectors of space %d: the %s of %s %d of document %s is %s%s%s", out.space, out.part,
             out.kind == ITEM_PAGE ? "page" : "passage", out.item + (out.kind == ITEM_CHUNK),
             out.doc_id, out.file ? "damaged in " : "missing", out.file ? out.file : "",
             damage->part == PART_SLOT && out.file ? " or was lost with it" : "");
    index->report(index->report_ctx, &out);
}

void index_tell(struct index *index) {
    for (;;) {
        struct damage damages[TELL_AT_ONCE];
        struct vector_place places[TELL_AT_ONCE];
        int64_t ids[TELL_AT_ONCE];
        struct error err;
        int n = 0;
        lock_take(&index->lock);
        while (index->report && n < TELL_AT_ONCE && n < index->n_damages) {
            damages[n] = index->damages[n];
            ids[n] = damages[n].id;
            n++;
        }
        if (n > 0)
            memmove(index->damages, index->damages + n,
                    (size_t)(index->n_damages -= n) * sizeof *index->damages);
        lock_drop(&index->lock);
        if (n == 0)
            return;
        if (!store_find_vectors(places, index->store, ids, n, &err)) {
            log_warn("%d damaged vectors could not be told of before the next start: %s", n,
                     err.text);
            continue;
        }
        for (int i = 0; i < n; i++) {
            if (places[i].doc_id[0]) /* its row has gone since: there is nothing to mend */
                tell(index, &damages[i], &places[i]);
        }
    }
}

void index_on_damage(struct index *index, void (*report)(void *ctx, const struct index_damage *),
                     void *ctx) {
    lock_take(&index->lock);
    index->report = report;
    index->report_ctx = ctx;
    lock_drop(&index->lock);
    index_tell(index);
}
