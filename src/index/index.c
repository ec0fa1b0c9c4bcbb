/* Opening and closing; spaces; a search from its filter to its hits.
 *
 * Invariants:
 *  1. A space in the list is never taken out, so that a pointer to it lives as long as the index.
 *  2. A search works on one view. Hits whose rows have gone since are found out as they are
 * resolved in one state of the store; then it begins again. */
#include "index/internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TRIES 3

/* ---- spaces --------------------------------------------------------------------------------- */

struct index_space *index_space_numbered(struct index *index, int number) {
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    while (space && (space->number != number || atomic_load(&space->dropped)))
        space = space->next;
    lock_drop(&index->lock);
    return space;
}

static struct index_space *find_named(struct index *index, const char *name) {
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    while (space && (strcmp(space->name, name) != 0 || atomic_load(&space->dropped)))
        space = space->next;
    lock_drop(&index->lock);
    return space;
}

static void add_space(struct index *index, struct index_space *space) {
    lock_take(&index->lock);
    struct index_space **at = &index->spaces;
    while (*at)
        at = &(*at)->next;
    *at = space;
    lock_drop(&index->lock);
}

bool index_set_aside(char **aside, const char *dir, const char *path, const char *why,
                     struct error *err) {
    char *name = mem_printf("%s.%s", path, why);
    for (int n = 2; access(name, F_OK) == 0; n++) {
        mem_free(name);
        name = mem_printf("%s.%s-%d", path, why, n);
    }
    bool ok = (rename(path, name) == 0 || error_set_errno(err, errno, "%s", path)) &&
              dir_sync(dir, err);
    *aside = ok ? name : NULL;
    if (!ok)
        mem_free(name);
    return ok;
}

/* A folder under the number of a space that the database has not had before is of a database that
 * was lost. It is kept under another name. */
static bool set_lost_aside(struct index *index, int number, struct error *err) {
    char *aside, *path = mem_printf("%s/%d", index->dir, number);
    bool ok = true;
    if (access(path, F_OK) == 0 && (ok = index_set_aside(&aside, index->dir, path, "lost", err))) {
        log_warn("%s holds vectors that this database does not know; it is kept as %s", path,
                 path_name(aside));
        mem_free(aside);
    }
    mem_free(path);
    return ok;
}

static bool make_space(struct index_space **out, struct index *index, const struct space_info *info,
                       struct error *err) {
    struct store_tx *tx;
    struct space_row row;
    if (info->dim < 1 || info->dim > INDEX_MAX_DIM)
        return error_set(err, ERROR_INPUT, "a vector space of %d dimensions", info->dim);
    if (!store_begin(&tx, index->store, err))
        return false;
    if (!store_put_space(tx, &row, info->name, info->dim, info->late, err) ||
        !set_lost_aside(index, row.space, err)) {
        store_rollback(tx);
        return false;
    }
    if (!store_commit(tx, err) || !index_space_open(out, index, &row, err))
        return false;
    add_space(index, *out);
    return true;
}

bool index_space(int *number, struct index *index, const struct space_info *info,
                 struct error *err) {
    bool ok = true;
    lock_take(&index->making);
    struct index_space *space = find_named(index, info->name);
    if (!space)
        ok = make_space(&space, index, info, err);
    else if (space->dim != info->dim || space->late != info->late)
        ok = error_set(err, ERROR_CONFLICT, "the vector space %s is known with %d dimensions%s",
                       info->name, space->dim, space->late ? " a token" : "");
    lock_drop(&index->making);
    if (ok)
        *number = space->number;
    return ok;
}

static void add_facts(struct space_facts *facts, const struct view *view) {
    for (int i = 0; i < view->n_parts; i++) {
        const struct view_part *part = &view->parts[i];
        const struct segment *segment = part->segment;
        struct stat info;
        facts->n_items += part->own->n_items;
        facts->n_vectors += part->own->n_vectors;
        facts->scan_bytes += part->own->n_items * (int64_t)segment->scan_bytes;
        facts->pooled_bytes += part->own->pooled_bytes;
        facts->full_bytes += part->own->full_bytes;
        facts->n_checked += part->own->n_items - part_n_unchecked(part);
        if (fstat(segment->fd, &info) == 0)
            facts->file_bytes += (int64_t)info.st_blocks * 512;
    }
}

bool index_spaces(struct space_facts **out, int *n, struct arena *arena, struct index *index,
                  struct error *err) {
    (void)err;
    int most = 0;
    lock_take(&index->lock);
    for (struct index_space *space = index->spaces; space; space = space->next)
        most++;
    struct index_space *space = index->spaces;
    lock_drop(&index->lock);
    *out = arena_alloc(arena, ((size_t)most + 1) * sizeof **out);
    *n = 0;
    for (int i = 0; i < most; i++, space = space->next) {
        if (atomic_load(&space->dropped))
            continue;
        struct space_facts *facts = &(*out)[(*n)++];
        *facts = (struct space_facts){.space = space->number,
                                      .name = arena_strdup(arena, space->name),
                                      .dim = space->dim,
                                      .late = space->late};
        lock_take(&index->lock);
        struct view *view = space->view;
        view->refs++;
        facts->n_damaged = (int)space->n_damaged;
        facts->n_segments = view->n_parts;
        for (int part = 0; part < view->n_parts; part++)
            facts->dead_bytes += segment_dead_bytes(&view->parts[part]);
        lock_drop(&index->lock);
        add_facts(facts, view);
        view_drop(index, view);
    }
    return true;
}

/* The folder gets another name first: after a crash the rows say whether it was to go. */
static bool drop_space(struct index *index, struct index_space *space, struct error *err) {
    struct store_tx *tx;
    char *away = mem_printf("%s.dropped", space->dir);
    bool ok = rename(space->dir, away) == 0 || (errno == ENOENT && access(away, F_OK) == 0) ||
              error_set_errno(err, errno, "%s", space->dir);
    ok = ok && dir_sync(index->dir, err) && store_begin(&tx, index->store, err);
    if (ok && !store_drop_space(tx, space->number, err)) {
        store_rollback(tx);
        ok = false;
    } else if (ok) {
        ok = store_commit(tx, err);
    }
    if (!ok && rename(away, space->dir) != 0 && errno != ENOENT)
        log_error("%s: %s", away, strerror(errno));
    if (ok) {
        lock_take(&index->lock);
        view_replace(space, 0, space->view->n_parts, NULL, NULL);
        space->tail = NULL;
        space_publish(space);
        lock_drop(&index->lock);
        index_bury(index);
        struct error ignored;
        dir_remove(away, &ignored); /* what is left goes at the next start */
    }
    mem_free(away);
    return ok;
}

bool index_drop_space(struct index *index, int number, struct error *err) {
    struct index_space *space = index_space_numbered(index, number);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    lock_take(&index->making);
    bool ok = !atomic_exchange(&space->dropped, true) ||
              error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    if (ok && !(ok = drop_space(index, space, err)))
        atomic_store(&space->dropped, false);
    lock_drop(&index->making);
    return ok;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Files of the form before, and folders of spaces that were dropped. Other folders that no space
 * has may belong to a database that was lost, and stay. */
static void drop_old(struct index *index) {
    int n_old = 0;
    DIR *dir = opendir(index->dir);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        int number, generation;
        char end[16] = "";
        struct error err;
        char *path = mem_printf("%s/%s", index->dir, entry->d_name);
        if (sscanf(entry->d_name, "%d-%d%15s", &number, &generation, end) == 3 &&
            strcmp(end, ".f32") == 0)
            n_old += unlink(path) == 0;
        else if (sscanf(entry->d_name, "%d%15s", &number, end) == 2 &&
                 strcmp(end, ".dropped") == 0 && !dir_remove(path, &err))
            log_warn("%s", err.text);
        mem_free(path);
    }
    if (dir)
        closedir(dir);
    if (n_old > 0)
        log_warn("vectors were kept in an older form, which is dropped: documents are to be "
                 "embedded again with `docusearch reindex --missing`");
}

bool index_open(struct index **out, struct store *store, const char *data_dir,
                const struct index_settings *settings, struct error *err) {
    struct index *index = mem_alloc(sizeof *index);
    struct arena *arena = arena_new(0);
    struct space_row *rows;
    int n = 0;
    index->store = store;
    index->settings = *settings;
    index->next_id = 1;
    index->dir = mem_printf("%s/vectors", data_dir);
    lock_init(&index->making, LOCK_READ);
    lock_init(&index->lock, LOCK_STORE);
    cond_init(&index->changed);
    bool ok = dir_make(index->dir, err) && dir_sync(data_dir, err) &&
              store_list_spaces(&rows, &n, arena, store, err);
    for (int i = 0; i < n && ok; i++) {
        struct index_space *space;
        ok = index_space_open(&space, index, &rows[i], err);
        if (ok)
            add_space(index, space);
    }
    arena_free(arena);
    if (!ok) {
        index_close(index);
        return false;
    }
    drop_old(index);
    store_watch_items(store, index_items_changed, index);
    *out = index;
    return true;
}

void index_close(struct index *index) {
    if (!index)
        return;
    store_watch_items(index->store, NULL, NULL);
    index_stop(index);
    assert(!index->committing);
    while (index->spaces) {
        struct index_space *space = index->spaces;
        index->spaces = space->next;
        index_space_close(space);
    }
    cond_fini(&index->changed);
    lock_fini(&index->making);
    lock_fini(&index->lock);
    mem_free(index->damages);
    mem_free(index->dir);
    mem_free(index);
}

/* ---- searching ------------------------------------------------------------------------------ */

/* The slots of a view that the filter lets through. */
struct allowing {
    const struct view *view;
    uint64_t **bits;
    int part, slot;
};

static bool allow(void *ctx, const int64_t *ids, int n) {
    struct allowing *allowing = ctx;
    for (int i = 0; i < n; i++) {
        if (view_find(allowing->view, (uint64_t)ids[i], &allowing->part, &allowing->slot))
            allowing->bits[allowing->part][allowing->slot / 64] |= (uint64_t)1
                                                                   << (allowing->slot % 64);
    }
    return true;
}

/* *out NULL: everything. */
static bool allowed_slots(const uint64_t *const **out, struct arena *arena, struct index *index,
                          const struct view *view, const struct index_query *query,
                          struct error *err) {
    struct allowing allowing = {.view = view};
    *out = NULL;
    if (store_filter_is_open(query->filter))
        return true;
    allowing.bits = arena_alloc(arena, ((size_t)view->n_parts + 1) * sizeof *allowing.bits);
    for (int i = 0; i < view->n_parts; i++) {
        size_t words = ((size_t)view->parts[i].segment->capacity + 63) / 64;
        allowing.bits[i] = arena_alloc(arena, words * sizeof **allowing.bits);
    }
    *out = (const uint64_t *const *)allowing.bits;
    return store_visit_vectors(index->store, query->space, (enum vector_kind)query->kind,
                               query->filter, allow, &allowing, err);
}

static bool all_there(const struct view *view, struct error *err) {
    for (int i = 0; i < view->n_parts; i++) {
        if (view->parts[i].own->n_items > 0 &&
            !segment_is_there(view->parts[i].segment, view->parts[i].own->end, err))
            return false;
    }
    return true;
}

/* The best of one view, as items. *n_gone: so many had lost their rows, and are left out. */
static bool search_view(struct index_hit **out, int *n, int *n_gone, struct index_effort *effort,
                        struct arena *arena, struct index *index, const struct index_space *space,
                        const struct view *view, const struct index_query *query,
                        struct error *err) {
    const uint64_t *const *allowed;
    struct scored *scored;
    int n_scored;
    if (!all_there(view, err) || !allowed_slots(&allowed, arena, index, view, query, err) ||
        !view_search(&scored, &n_scored, effort, arena, index->settings.device, view, allowed,
                     query->kind, query->vectors, query->n_vectors, space->dim, query->limit,
                     query->exact, index->settings.recall, err))
        return false;
    int64_t *ids = arena_alloc(arena, ((size_t)n_scored + 1) * sizeof *ids);
    struct vector_place *places = arena_alloc(arena, ((size_t)n_scored + 1) * sizeof *places);
    for (int i = 0; i < n_scored; i++)
        ids[i] = (int64_t)scored[i].id;
    if (!store_find_vectors(places, index->store, ids, n_scored, err))
        return false;
    *out = arena_alloc(arena, ((size_t)n_scored + 1) * sizeof **out);
    *n = *n_gone = 0;
    for (int i = 0; i < n_scored; i++) {
        if (!places[i].doc_id[0] || places[i].space != space->number) {
            ++*n_gone;
            continue;
        }
        struct index_hit *hit = &(*out)[(*n)++];
        memcpy(hit->doc_id, places[i].doc_id, sizeof hit->doc_id);
        hit->kind = (enum item_kind)places[i].kind;
        hit->item = places[i].item;
        hit->score = (double)scored[i].score;
    }
    return true;
}

bool index_search(struct index_hit **out, int *n, struct index_effort *effort, struct arena *arena,
                  struct index *index, const struct index_query *query, struct error *err) {
    *out = NULL;
    *n = 0;
    memset(effort, 0, sizeof *effort);
    struct index_space *space = index_space_numbered(index, query->space);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", query->space);
    if (query->limit < 1 || query->n_vectors < 1)
        return true;
    bool ok = true;
    int n_gone = 1;
    for (int tries = 0; ok && n_gone > 0 && tries < MAX_TRIES; tries++) {
        if (tries > 0)
            time_sleep_ms(1); /* between a commit and its view */
        struct view *view = view_take(space);
        ok = search_view(out, n, &n_gone, effort, arena, index, space, view, query, err);
        view_drop(index, view);
    }
    index_tell(index);
    return ok;
}

/* ---- one item ------------------------------------------------------------------------------ */

/* The item's row, and where the newest view has it. *found false: there is no such row. A view
 * without an id that has a row was changed in between, or has the item no more: looked at twice. */
static bool locate(bool *found, struct view **view, int *part, int *slot, struct index_space *space,
                   const char *doc_id, enum item_kind kind, int item, struct error *err) {
    struct index *index = space->index;
    *view = NULL;
    for (int tries = 0; tries < 2; tries++) {
        int64_t id;
        if (!store_find_item(&id, found, index->store, space->number, doc_id,
                             (enum vector_kind)kind, item, err))
            return false;
        if (!*found)
            return true;
        *view = view_take(space);
        *part = *slot = 0;
        *found = view_find(*view, (uint64_t)id, part, slot) &&
                 part_has(&(*view)->parts[*part], (int)kind, *slot);
        if (*found)
            return true;
        view_drop(index, *view);
        *view = NULL;
    }
    return true;
}

static bool check_item(struct found_item *item, uint64_t end, struct error *err) {
    const struct shape *shape = &item->segment->shape;
    if (!segment_is_there(item->segment, end, err))
        return false;
    if (shape->late && !shape->keep_full)
        return error_set_code(err, ERROR_MISSING, "no_patches",
                              "only pooled vectors of this item are kept");
    return (segment_check(item->segment, item->slot_i, shape->late ? PART_FULL : PART_SCAN) &&
            segment_slot(&item->slot, item->segment, item->slot_i)) ||
           error_set(err, ERROR_MISSING, "the vectors of this item are damaged");
}

bool index_take_item(struct found_item *out, struct index *index, int number, const char *doc_id,
                     enum item_kind kind, int item, struct error *err) {
    struct index_space *space = index_space_numbered(index, number);
    bool found;
    int part;
    *out = (struct found_item){0};
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    if (!locate(&found, &out->view, &part, &out->slot_i, space, doc_id, kind, item, err))
        return false;
    if (!found)
        return error_set(err, ERROR_MISSING, "%s %d of document %s has no vectors in this space",
                         kind == ITEM_PAGE ? "page" : "passage", item, doc_id);
    out->segment = out->view->parts[part].segment;
    if (check_item(out, out->view->parts[part].own->end, err))
        return true;
    index_drop_item(index, out);
    return false;
}

void index_drop_item(struct index *index, struct found_item *item) {
    view_drop(index, item->view);
    index_tell(index);
}

/* ---- fit ------------------------------------------------------------------------------------ */

/* A single vector is its own code in the scan. */
static bool fit_row(struct index_fit *out, struct arena *arena, const struct found_item *item,
                    const float *query, int n_query, struct error *err) {
    const struct segment *segment = item->segment;
    size_t stride = segment->scan_bytes, dim = (size_t)segment->shape.dim;
    float *rotated = mem_try((size_t)n_query * dim, sizeof *rotated, (size_t)1 << 30);
    out->n_query = n_query;
    out->n_vectors = 1;
    out->values = arena_try(arena, (size_t)n_query, sizeof *out->values);
    bool ok = out->values && rotated;
    if (ok)
        rotate_vectors(rotated, query, n_query, (int)dim);
    for (int q = 0; ok && q < n_query; q++) {
        struct maxsim_query *one = maxsim_query_new(rotated + (size_t)q * dim, 1, (int)dim);
        if ((ok = one != NULL))
            dot_rows(out->values + q, one, segment->scan + (size_t)item->slot_i * stride, stride,
                     1);
        maxsim_query_free(one);
    }
    mem_free(rotated);
    return ok || error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for a comparison");
}

bool index_fit(struct index_fit *out, struct arena *arena, struct index *index, int space,
               const char *doc_id, enum item_kind kind, int item, const float *query, int n_query,
               struct error *err) {
    struct found_item found;
    *out = (struct index_fit){0};
    if (!index_take_item(&found, index, space, doc_id, kind, item, err))
        return false;
    const struct shape *shape = &found.segment->shape;
    bool ok;
    if (shape->late) {
        struct coded coded = slot_full(shape, &found.slot, found.segment->map + found.slot.offset);
        ok = index_coded_fit(out, arena, &coded, shape->dim, query, n_query, err);
    } else {
        ok = fit_row(out, arena, &found, query, n_query, err);
    }
    index_drop_item(index, &found);
    return ok;
}
