/* Dead slots given back, and every byte looked at in time: by the keeper, a thread of the index.
 *
 * A run of neighbouring segments that are mostly dead, or small, is copied into one new segment:
 * the same bytes under the same ids. It is written under another name, synced and renamed; then a
 * view with it takes the place of those without, and the old files go when no view has them.
 *
 * Invariants:
 *  1. A segment that is appended to, or has slots of writers under way, is not copied.
 *  2. What leaves a view while it is copied is not live in the copy. */
#include "index/internal.h"

#include <string.h>

#define LEAST_DEAD_BYTES ((int64_t)256 << 10)
#define LEAST_DEAD_TAIL ((int64_t)4 << 20) /* of the segment that is appended to */
#define CHECK_BYTES ((int64_t)8 << 20)     /* at a time */
#define CHECK_EVERY_MS 500
#define LOOK_EVERY_MS 60000
#define REST_MS 600000 /* after a compaction went wrong */

/* ---- which ---------------------------------------------------------------------------------- */

static int64_t live_bytes(const struct view_part *part) {
    return part->own->pooled_bytes + part->own->full_bytes +
           part->own->n_items * ((int64_t)part->segment->scan_bytes + (int64_t)sizeof(struct slot));
}

static int64_t used_bytes(const struct segment *segment) {
    return (int64_t)(segment->end - segment->data_offset) +
           segment->n_used * ((int64_t)segment->scan_bytes + (int64_t)sizeof(struct slot));
}

int64_t segment_dead_bytes(const struct view_part *part) {
    int64_t dead = used_bytes(part->segment) - live_bytes(part);
    return dead > 0 ? dead : 0;
}

/* force: anything dead is reason enough. */
static bool is_wanted(const struct view_part *part, bool is_tail, bool force) {
    int64_t dead = segment_dead_bytes(part);
    if (force)
        return part->own->n_items < part->segment->n_used;
    return (dead > live_bytes(part) || 2 * part->own->n_items < part->segment->n_used) &&
           dead >= (is_tail ? LEAST_DEAD_TAIL : LEAST_DEAD_BYTES);
}

static bool is_small(const struct view_part *part, bool is_tail) {
    return !is_tail && 4 * part->own->n_items <= part->segment->capacity;
}

/* Some parts of a view, one after another. */
struct run {
    int at, n;
};

static bool fits(const struct view *view, const struct run *run, const struct view_part *next) {
    const struct segment *first = view->parts[run->at].segment;
    int64_t items = next->own->n_items, records = next->own->pooled_bytes + next->own->full_bytes;
    for (int i = run->at; i < run->at + run->n; i++) {
        const struct live *live = view->parts[i].own;
        items += live->n_items;
        records += live->pooled_bytes + live->full_bytes;
    }
    if (run->n == 0)
        return true;
    const struct view_part *before = &view->parts[run->at + run->n - 1];
    return shape_equal(&first->shape, &next->segment->shape) && items <= first->capacity &&
           first->data_offset + (uint64_t)records <= SEGMENT_SPAN &&
           before->segment->ids[before->n_slots - 1] < next->segment->ids[0];
}

/* The first run that is worth it. The lock is held. */
static bool find_run(struct run *out, const struct index_space *space, int from, bool force) {
    const struct view *view = space->view;
    for (int at = from; at < view->n_parts; at++) {
        bool any = false;
        *out = (struct run){.at = at};
        for (int i = at; i < view->n_parts; i++) {
            const struct view_part *part = &view->parts[i];
            bool is_tail = part->segment == space->tail;
            bool wanted = is_wanted(part, is_tail, force);
            if (part->segment->n_pending > 0 || part->n_slots == 0 ||
                !(wanted || is_small(part, is_tail)) || !fits(view, out, part))
                break;
            any = any || wanted;
            out->n++;
        }
        if (any || out->n > 1)
            return true;
    }
    return false;
}

/* ---- how ------------------------------------------------------------------------------------ */

/* A copy under way: the new segment and, for each of its slots, where it came from. */
struct copying {
    struct index_space *space;
    struct view *view;
    struct run run;
    struct segment *out; /* NULL: nothing is live */
    struct origin {
        int part, slot;
    } * origins;
};

static bool copy_item(struct copying *copying, int part_i, int slot_i, struct error *err) {
    struct segment *from = copying->view->parts[part_i].segment, *out = copying->out;
    struct slot slot;
    uint64_t written;
    for (int part = PART_SCAN; part <= PART_FULL; part++) {
        enum item_part bad;
        if (!segment_verify(&bad, from, slot_i, (enum item_part)part)) {
            index_item_damaged(from, slot_i, bad);
            return true;
        }
    }
    memcpy(&slot, &from->slots[slot_i], sizeof slot);
    const void *record = slot.offset ? from->map + slot.offset : NULL;
    uint64_t bytes = segment_record_bytes(&from->shape, (int)slot.n);
    slot.offset = bytes ? out->end : 0;
    if (!segment_write(&written, out, out->n_used, &slot,
                       from->scan + (size_t)slot_i * from->scan_bytes, record, err))
        return false;
    out->ids[out->n_used] = slot.id;
    copying->origins[out->n_used++] = (struct origin){part_i, slot_i};
    out->end += bytes;
    return true;
}

static bool copy_all(struct copying *copying, struct error *err) {
    for (int i = copying->run.at; i < copying->run.at + copying->run.n; i++) {
        const struct view_part *part = &copying->view->parts[i];
        if (!segment_is_there(part->segment, part->own->end, err))
            return false;
        for (int slot = 0; slot < part->n_slots; slot++) {
            if ((part_has(part, ITEM_PAGE, slot) || part_has(part, ITEM_CHUNK, slot)) &&
                !copy_item(copying, i, slot, err))
                return false;
        }
    }
    return true;
}

/* The view with the copy instead of the run, of which some may have gone meanwhile. */
static void publish_copy(struct copying *copying) {
    struct index_space *space = copying->space;
    lock_take(&space->index->lock);
    struct view *view = space_edit(space);
    int at = view_part_of(view, copying->view->parts[copying->run.at].segment);
    struct live *live = copying->out ? live_new(copying->out) : NULL;
    for (int i = 0; at >= 0 && copying->out && i < copying->out->n_used; i++) {
        const struct origin *origin = &copying->origins[i];
        const struct view_part *now = &view->parts[at + origin->part - copying->run.at];
        struct slot slot;
        if (!part_has(now, ITEM_PAGE, origin->slot) && !part_has(now, ITEM_CHUNK, origin->slot))
            continue;
        if (segment_slot(&slot, copying->out, i))
            live_put(live, copying->out, i, &slot);
        else
            index_note_damage(space, copying->out->sequence, PART_SLOT,
                              (int64_t)copying->out->ids[i]);
    }
    for (int i = 0; at >= 0 && i < copying->run.n; i++)
        view->parts[at + i].segment->dead = true;
    if (at >= 0) {
        view_replace(space, at, copying->run.n, copying->out, live);
        copying->out = NULL;
    } else { /* the space was dropped */
        mem_free(live);
    }
    space_publish(space);
    lock_drop(&space->index->lock);
}

static bool copy_run(struct copying *copying, int sequence, struct error *err) {
    const struct view_part *first = &copying->view->parts[copying->run.at];
    int64_t n_live = 0, was = 0;
    for (int i = 0; i < copying->run.n; i++) {
        n_live += first[i].own->n_items;
        was += used_bytes(first[i].segment);
    }
    bool ok = true;
    if (n_live > 0) {
        copying->origins = mem_alloc((size_t)n_live * sizeof *copying->origins);
        ok = segment_make(&copying->out, copying->space, sequence, &first->segment->shape,
                          first->segment->capacity, err) &&
             copy_all(copying, err);
        if (ok && copying->out->n_used == 0) { /* nothing was whole */
            copying->out->dead = true;
            segment_close(copying->out);
            copying->out = NULL;
        }
        ok = ok && (!copying->out || segment_finish(copying->out, err));
    }
    int64_t is = copying->out ? used_bytes(copying->out) : 0;
    if (ok) {
        publish_copy(copying);
        log_debug("vectors of %s: %d segments became %d: %lld kB are given back",
                  copying->space->name, copying->run.n, is > 0, (long long)((was - is) >> 10));
    }
    if (copying->out) {
        copying->out->dead = true;
        segment_close(copying->out);
    }
    mem_free(copying->origins);
    return ok;
}

/* *any: a run was found, from part `from` on, and given to copy. */
static bool compact_one(bool *any, struct index_space *space, bool force, struct error *err) {
    struct index *index = space->index;
    struct copying copying = {.space = space};
    lock_take(&index->lock);
    *any = !atomic_load(&space->dropped) && find_run(&copying.run, space, 0, force);
    int sequence = *any ? space->next_sequence++ : 0;
    if (*any) {
        copying.view = space->view;
        copying.view->refs++;
        for (int i = copying.run.at; i < copying.run.at + copying.run.n; i++) {
            if (copying.view->parts[i].segment == space->tail)
                space->tail = NULL;
        }
    }
    lock_drop(&index->lock);
    if (!*any)
        return true;
    bool ok = copy_run(&copying, sequence, err);
    view_drop(index, copying.view);
    return ok;
}

static bool compact_all(struct index *index, bool force, struct error *err) {
    bool ok = true;
    lock_take(&index->lock);
    while (index->compacting)
        cond_wait(&index->changed, &index->lock, -1);
    index->compacting = true;
    struct index_space *space = index->spaces;
    lock_drop(&index->lock);
    for (; space && ok; space = space->next) {
        bool any = true, stopping = false;
        while (ok && any && !stopping) {
            ok = compact_one(&any, space, force, err);
            lock_take(&index->lock);
            stopping = index->stopping;
            lock_drop(&index->lock);
        }
    }
    lock_take(&index->lock);
    index->compacting = false;
    cond_wake_all(&index->changed);
    lock_drop(&index->lock);
    return ok;
}

bool index_compact(struct index *index, struct error *err) {
    bool ok = compact_all(index, true, err);
    index_tell(index);
    return ok;
}

/* ---- checking ------------------------------------------------------------------------------- */

static int64_t item_bytes(const struct segment *segment, int slot_i) {
    struct slot slot;
    return (int64_t)segment->scan_bytes +
           (segment_slot(&slot, segment, slot_i)
                ? (int64_t)segment_record_bytes(&segment->shape, (int)slot.n)
                : 0);
}

static uint64_t unchecked(const struct view_part *part, int word) {
    uint64_t checked = ~(uint64_t)0;
    for (int i = 0; i < 3; i++)
        checked &= atomic_load_explicit(&part->segment->checked[i][word], memory_order_relaxed);
    return (part->live[0][word] | part->live[1][word]) & ~checked;
}

int part_n_unchecked(const struct view_part *part) {
    int n = 0;
    for (int word = 0; word < (part->n_slots + 63) / 64; word++)
        n += __builtin_popcountll(unchecked(part, word));
    return n;
}

/* Checks live items of a part that were not yet looked at, until left_bytes are used up. */
static void check_part(struct view_part *part, int64_t *left_bytes) {
    for (int word = 0; word < (part->n_slots + 63) / 64 && *left_bytes > 0; word++) {
        for (uint64_t bits = unchecked(part, word); bits && *left_bytes > 0; bits &= bits - 1) {
            int slot = word * 64 + __builtin_ctzll(bits);
            *left_bytes -= item_bytes(part->segment, slot);
            if (segment_check(part->segment, slot, PART_SCAN) &&
                segment_check(part->segment, slot, PART_POOLED))
                segment_check(part->segment, slot, PART_FULL);
        }
    }
}

/* Some of what has not been looked at since the start; false: all was. */
static bool check_some(struct index *index) {
    int64_t left_bytes = CHECK_BYTES;
    struct error err;
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    lock_drop(&index->lock);
    for (; space && left_bytes > 0; space = space->next) {
        struct view *view = view_take(space);
        for (int i = 0; i < view->n_parts && left_bytes > 0; i++) {
            struct view_part *part = &view->parts[i];
            if (part->own->n_items == 0 || part_n_unchecked(part) == 0)
                continue;
            if (segment_is_there(part->segment, part->own->end, &err))
                check_part(part, &left_bytes);
            else
                log_error("%s", err.text);
        }
        view_drop(index, view);
    }
    return left_bytes <= 0;
}

static bool check_view(int64_t *n_items, int64_t *n_damaged, const struct view *view,
                       struct error *err) {
    for (int i = 0; i < view->n_parts; i++) {
        const struct view_part *part = &view->parts[i];
        if (!segment_is_there(part->segment, part->own->end, err))
            return false;
        for (int slot = 0; slot < part->n_slots; slot++) {
            enum item_part bad;
            if (!part_has(part, ITEM_PAGE, slot) && !part_has(part, ITEM_CHUNK, slot))
                continue;
            ++*n_items;
            bool whole = true;
            for (int of = PART_SCAN; of <= PART_FULL && whole; of++) {
                whole = segment_verify(&bad, part->segment, slot, (enum item_part)of);
                if (whole)
                    segment_check(part->segment, slot, (enum item_part)of);
            }
            if (!whole) {
                index_item_damaged(part->segment, slot, bad);
                ++*n_damaged;
            }
        }
    }
    return true;
}

bool index_check(int64_t *n_items, int64_t *n_damaged, struct index *index, struct error *err) {
    bool ok = true;
    *n_items = *n_damaged = 0;
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    lock_drop(&index->lock);
    for (; space && ok; space = space->next) {
        struct view *view = view_take(space);
        ok = check_view(n_items, n_damaged, view, err);
        view_drop(index, view);
    }
    index_tell(index);
    return ok;
}

/* ---- the keeper ----------------------------------------------------------------------------- */

static void close_graves(struct index *index) {
    lock_take(&index->lock);
    struct segment *graves = index->graves;
    index->graves = NULL;
    lock_drop(&index->lock);
    while (graves) {
        struct segment *segment = graves;
        graves = segment->next_grave;
        segment_close(segment);
    }
}

static void keep(void *arg) {
    struct index *index = arg;
    int64_t rest_until_ms = 0, check_at_ms = 0;
    for (;;) {
        struct error err;
        lock_take(&index->lock);
        while (!index->stopping && !index->woken &&
               cond_wait(&index->changed, &index->lock, check_at_ms))
            continue;
        bool stopping = index->stopping;
        int64_t soon_ms = time_mono_ms() + CHECK_EVERY_MS;
        if (index->woken && check_at_ms > soon_ms) /* there may be new bytes */
            check_at_ms = soon_ms;
        index->woken = false;
        lock_drop(&index->lock);
        if (stopping)
            return;
        close_graves(index);
        index_tell(index);
        if (time_mono_ms() >= check_at_ms)
            check_at_ms = time_mono_ms() + (check_some(index) ? CHECK_EVERY_MS : LOOK_EVERY_MS);
        if (time_mono_ms() >= rest_until_ms && !compact_all(index, false, &err)) {
            log_warn("vectors could not be compacted: %s", err.text);
            rest_until_ms = time_mono_ms() + REST_MS;
        }
        close_graves(index);
    }
}

void index_wake(struct index *index) {
    index->woken = true;
    cond_wake_all(&index->changed);
}

bool index_start(struct index *index, struct error *err) {
    struct thread *keeper;
    if (!thread_start(&keeper, "index", keep, index, err))
        return false;
    lock_take(&index->lock);
    index->keeper = keeper;
    lock_drop(&index->lock);
    return true;
}

void index_stop(struct index *index) {
    lock_take(&index->lock);
    index->stopping = true;
    cond_wake_all(&index->changed);
    struct thread *keeper = index->keeper;
    lock_drop(&index->lock);
    thread_join(keeper);
    lock_take(&index->lock);
    index->keeper = NULL;
    lock_drop(&index->lock);
    close_graves(index);
}
