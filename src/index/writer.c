/* One document's vectors on their way in. Each item is encoded, gets its slot and is written as it
 * comes, so that documents written at once lie mixed in the segments and none is held in memory;
 * the rows wait for the transaction, and the view for its commit. */
#include "index/internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ITEM_VECTORS (1 << 20)
#define MAX_ITEM_BYTES ((size_t)512 << 20)

static_assert((int)ITEM_PAGE == (int)VECTORS_PAGE && (int)ITEM_CHUNK == (int)VECTORS_CHUNK,
              "one numbering of kinds");

struct item {
    struct place place;
    enum item_kind kind;
    int item;
    bool published; /* under the index's lock while the writer is committing */
};
struct touched {
    struct segment *segment;
    uint64_t written;
};
struct index_writer {
    struct index *index;
    struct index_space *space;
    char doc_id[SHA256_HEX + 1];
    struct buf items;   /* struct item, ascending by id; its memory stays while it is committing */
    struct buf touched; /* struct touched: segments that are to be synced */
    char *codes;        /* of the item at hand */
    size_t max_codes;
    bool committing;
    struct index_writer *next_committing; /* under the index's lock */
};

static struct item *items_of(const struct index_writer *writer, int *n) {
    *n = (int)(writer->items.len / sizeof(struct item));
    return (struct item *)(void *)writer->items.data;
}

bool index_writer_open(struct index_writer **out, struct index *index, int number,
                       const char *doc_id, struct error *err) {
    struct index_space *space = index_space_numbered(index, number);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    struct index_writer *writer = mem_alloc(sizeof *writer);
    writer->index = index;
    writer->space = space;
    snprintf(writer->doc_id, sizeof writer->doc_id, "%s", doc_id);
    *out = writer;
    return true;
}

/* 64-byte aligned room for len bytes, the writer's. */
static char *room_for(struct index_writer *writer, size_t len, struct error *err) {
    if (len + 64 > writer->max_codes) {
        mem_free(writer->codes);
        writer->max_codes = 0;
        writer->codes = mem_try(1, len + 64, MAX_ITEM_BYTES);
        if (!writer->codes) {
            error_set_code(err, ERROR_LIMIT, "out_of_memory",
                           "no memory for the vectors of a page or passage (%zu bytes)", len);
            return NULL;
        }
        writer->max_codes = len + 64;
    }
    return writer->codes + (64 - (uintptr_t)writer->codes % 64) % 64;
}

static void touch(struct index_writer *writer, struct segment *segment, uint64_t written) {
    struct touched *touched = (struct touched *)(void *)writer->touched.data;
    size_t n = writer->touched.len / sizeof *touched;
    if (n > 0 && touched[n - 1].segment == segment) {
        touched[n - 1].written = written;
        return;
    }
    struct touched one = {segment, written};
    buf_append(&writer->touched, &one, sizeof one);
}

/* From here on a commit does not look at its items. */
static void leave_committing(struct index_writer *writer) {
    lock_take(&writer->index->lock);
    for (struct index_writer **at = &writer->index->committing; *at; at = &(*at)->next_committing) {
        if (*at == writer) {
            *at = writer->next_committing;
            break;
        }
    }
    writer->committing = false;
    lock_drop(&writer->index->lock);
}

bool index_writer_put(struct index_writer *writer, const struct place *place, enum item_kind kind,
                      int item, int n, const void *scan, const void *record, struct error *err) {
    struct item added = {.place = *place, .kind = kind, .item = item};
    struct slot slot = {
        .id = place->id, .offset = place->offset, .n = (uint32_t)n, .kind = (uint8_t)kind};
    uint64_t written;
    leave_committing(writer);
    bool ok = segment_write(&written, place->segment, place->slot, &slot, scan, record, err);
    if (ok) {
        touch(writer, place->segment, written);
        buf_append(&writer->items, &added, sizeof added);
        ok = (!writer->items.failed && !writer->touched.failed) ||
             error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many pages and passages");
    }
    if (!ok)
        space_give_back(writer->space, place, 1);
    return ok;
}

bool index_writer_add(struct index_writer *writer, enum item_kind kind, int item,
                      const float *vectors, int n, struct error *err) {
    struct index_space *space = writer->space;
    struct place place;
    struct shape shape;
    if (n < 1 || n > MAX_ITEM_VECTORS || (!space->late && n != 1))
        return error_set(err, ERROR_LIMIT, "%d vectors of one page or passage", n);
    space_shape(&shape, space);
    size_t scan_bytes = shape_scan_bytes(&shape), record_bytes = segment_record_bytes(&shape, n);
    char *scan = room_for(writer, scan_bytes + record_bytes, err);
    char *record = record_bytes > 0 && scan ? scan + scan_bytes : NULL;
    if (!scan || !item_encode(scan, record, &shape, vectors, n, err) ||
        !space_take_place(&place, space, n, err))
        return false;
    return index_writer_put(writer, &place, kind, item, n, scan, record, err);
}

int64_t index_writer_count(const struct index_writer *writer) {
    int n;
    items_of(writer, &n);
    return n;
}

bool index_writer_sync(struct index_writer *writer, struct error *err) {
    const struct touched *touched = (const struct touched *)(const void *)writer->touched.data;
    size_t n = writer->touched.len / sizeof *touched;
    for (size_t i = 0; i < n; i++) {
        if (!segment_sync(touched[i].segment, touched[i].written, err))
            return false;
    }
    buf_clear(&writer->touched);
    if (n > 0)
        fault_point("embedded");
    return true;
}

bool index_writer_commit(struct index_writer *writer, struct store_tx *tx, struct error *err) {
    struct index *index = writer->index;
    int n;
    const struct item *items = items_of(writer, &n);
    if (!index_writer_sync(writer, err))
        return false;
    if (atomic_load(&writer->space->dropped))
        return error_set(err, ERROR_CONFLICT, "the vector space %s is no more",
                         writer->space->name);
    struct vector_row *rows = mem_alloc(((size_t)n + 1) * sizeof *rows);
    for (int i = 0; i < n; i++)
        rows[i] = (struct vector_row){.id = (int64_t)items[i].place.id,
                                      .kind = (enum vector_kind)items[i].kind,
                                      .item = items[i].item};
    bool ok = store_put_vectors(tx, writer->space->number, writer->doc_id, rows, n, err);
    mem_free(rows);
    lock_take(&index->lock);
    if (ok && !writer->committing) {
        writer->committing = true;
        writer->next_committing = index->committing;
        index->committing = writer;
    }
    lock_drop(&index->lock);
    return ok;
}

void index_writer_free(struct index_writer *writer) {
    if (!writer)
        return;
    int n;
    const struct item *items = items_of(writer, &n);
    struct place *places = mem_alloc(((size_t)n + 1) * sizeof *places);
    int n_places = 0;
    leave_committing(writer);
    for (int i = 0; i < n; i++) {
        if (!items[i].published)
            places[n_places++] = items[i].place;
    }
    space_give_back(writer->space, places, n_places);
    mem_free(places);
    buf_fini(&writer->items);
    buf_fini(&writer->touched);
    mem_free(writer->codes);
    mem_free(writer);
}

/* ---- commits -------------------------------------------------------------------------------- */

static struct item *item_with(const struct index_writer *writer, uint64_t id) {
    int n;
    struct item *items = items_of(writer, &n);
    int low = 0, high = n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (items[middle].place.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && items[low].place.id == id ? &items[low] : NULL;
}

static void publish(struct index_writer *writer, struct item *item) {
    struct view *view = space_edit(writer->space);
    struct segment *segment = item->place.segment;
    int i = view_part_of(view, segment);
    struct slot slot;
    item->published = true;
    segment->n_pending--;
    if (i < 0) /* the space was dropped */
        return;
    if (!segment_slot(&slot, segment, item->place.slot)) {
        index_note_damage(writer->space, segment->sequence, PART_SLOT, (int64_t)item->place.id);
        return;
    }
    if (view->parts[i].n_slots <= item->place.slot)
        view->parts[i].n_slots = item->place.slot + 1;
    live_put(view_edit_part(view, i), segment, item->place.slot, &slot);
}

static bool unpublish(struct index_space *space, int *part, int *slot, uint64_t id) {
    struct view *view = space->edit ? space->edit : space->view;
    if (!view_find(view, id, part, slot))
        return false;
    const struct view_part *here = &view->parts[*part];
    struct segment *segment = here->segment;
    if (part_has(here, ITEM_PAGE, *slot) || part_has(here, ITEM_CHUNK, *slot))
        live_take(view_edit_part(space_edit(space), *part), segment, *slot);
    return true;
}

static void unpublish_all(struct index *index, const int64_t *ids, int n) {
    struct index_space *space = NULL;
    for (int i = 0, part = 0, slot = 0; i < n; i++) {
        if (space && unpublish(space, &part, &slot, (uint64_t)ids[i]))
            continue;
        space = index->spaces;
        while (space && !unpublish(space, &part, &slot, (uint64_t)ids[i]))
            space = space->next;
    }
}

void index_items_changed(void *ctx, const int64_t *added, int n_added, const int64_t *removed,
                         int n_removed) {
    struct index *index = ctx;
    struct index_writer *writer = NULL;
    struct item *item;
    lock_take(&index->lock);
    for (int i = 0; i < n_added; i++) {
        item = writer ? item_with(writer, (uint64_t)added[i]) : NULL;
        for (writer = item ? writer : index->committing; writer && !item;) {
            item = item_with(writer, (uint64_t)added[i]);
            writer = item ? writer : writer->next_committing;
        }
        if (item && !item->published)
            publish(writer, item);
    }
    unpublish_all(index, removed, n_removed);
    for (struct index_space *space = index->spaces; space; space = space->next)
        space_publish(space);
    index_wake(index);
    lock_drop(&index->lock);
    index_bury(index);
}
