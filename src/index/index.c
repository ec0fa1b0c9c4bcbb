/* The spaces of a data folder, and their files as they are mapped for searches.
 *
 * Invariants:
 *  1. A space in the list is never taken out or changed but for its end and map, so that a pointer
 * to it lives as long as the index.
 *  2. A map covers whole vectors that were written before a row named them; files only grow while
 * the index is open. */
#include "index/internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vectors are mapped as they lie in the file: little-endian"
#endif

#define MAP_SPARE ((size_t)16 << 20)

static struct index_space *find_named(struct index *index, const char *name) {
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    while (space && strcmp(space->name, name) != 0)
        space = space->next;
    lock_drop(&index->lock);
    return space;
}

struct index_space *index_space_numbered(struct index *index, int number) {
    lock_take(&index->lock);
    struct index_space *space = index->spaces;
    while (space && space->number != number)
        space = space->next;
    lock_drop(&index->lock);
    return space;
}

int64_t index_vector_bytes(const struct index_space *space) {
    return (int64_t)space->dim * (int64_t)sizeof(float);
}

static void add_space(struct index *index, struct index_space *space) {
    lock_take(&index->lock);
    struct index_space **at = &index->spaces;
    while (*at)
        at = &(*at)->next;
    *at = space;
    lock_drop(&index->lock);
}

/* A file's space and generation, by its name. */
static bool parse_name(int *number, int *generation, const char *name) {
    char end[8] = "";
    return sscanf(name, "%d-%d%7s", number, generation, end) == 3 && strcmp(end, ".f32") == 0;
}

/* Files of known spaces that no row names: of a rewriting that was broken off. Those of spaces that
 * are not known may belong to a database that was lost, and stay. */
static void drop_unnamed(struct index *index) {
    DIR *dir = index->spaces ? opendir(index->dir) : NULL;
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        int number, generation;
        const struct index_space *space;
        if (!parse_name(&number, &generation, entry->d_name) ||
            !(space = index_space_numbered(index, number)) || space->generation == generation)
            continue;
        char *path = mem_printf("%s/%s", index->dir, entry->d_name);
        unlink(path);
        mem_free(path);
    }
    if (dir)
        closedir(dir);
}

/* Files under the number of a space that the database has not had before are of a database that
 * was lost. They are kept under other names. */
static bool set_lost_aside(struct index *index, int number, struct error *err) {
    DIR *dir = opendir(index->dir);
    bool ok = dir || error_set_errno(err, errno, "%s", index->dir);
    for (struct dirent *entry = ok ? readdir(dir) : NULL; entry && ok; entry = readdir(dir)) {
        int its_number, generation;
        if (!parse_name(&its_number, &generation, entry->d_name) || its_number != number)
            continue;
        char *aside, *path = mem_printf("%s/%s", index->dir, entry->d_name);
        ok = index_set_aside(&aside, index, path, "lost", err);
        if (ok)
            log_warn("%s holds vectors that this database does not know; it is kept as %s", path,
                     path_name(aside));
        mem_free(path);
        if (ok)
            mem_free(aside);
    }
    if (dir)
        closedir(dir);
    return ok;
}

bool index_open(struct index **out, struct store *store, const char *data_dir, struct error *err) {
    struct index *index = mem_alloc(sizeof *index);
    struct arena *arena = arena_new(0);
    struct space_row *rows;
    int n = 0;
    index->store = store;
    index->dir = mem_printf("%s/vectors", data_dir);
    lock_init(&index->making, LOCK_READ);
    lock_init(&index->lock, LOCK_STORE);
    cond_init(&index->scan_ended);
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
    drop_unnamed(index);
    *out = index;
    return true;
}

void index_close(struct index *index) {
    if (!index)
        return;
    while (index->spaces) {
        struct index_space *space = index->spaces;
        index->spaces = space->next;
        if (space->map) {
            assert(space->map->refs == 1);
            index_unmap(index, space->map);
        }
        index_space_close(space);
    }
    cond_fini(&index->scan_ended);
    lock_fini(&index->making);
    lock_fini(&index->lock);
    mem_free(index->dir);
    mem_free(index);
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

bool index_spaces(struct space_facts **out, int *n, struct arena *arena, struct index *index,
                  struct error *err) {
    struct space_row *rows;
    if (!store_list_spaces(&rows, n, arena, index->store, err))
        return false;
    *out = arena_alloc(arena, ((size_t)*n + 1) * sizeof **out);
    for (int i = 0; i < *n; i++) {
        struct space_facts *facts = &(*out)[i];
        const struct index_space *space = index_space_numbered(index, rows[i].space);
        int64_t bytes = (int64_t)rows[i].dim * (int64_t)sizeof(float), end = rows[i].end;
        if (space) {
            lock_take(&index->lock);
            end = space->end;
            lock_drop(&index->lock);
        }
        *facts = (struct space_facts){.name = rows[i].name,
                                      .dim = rows[i].dim,
                                      .late = rows[i].late,
                                      .n_items = rows[i].n_items,
                                      .n_vectors = rows[i].n_vectors,
                                      .bytes = INDEX_HEADER_BYTES + end * bytes,
                                      .dead_bytes = (end - rows[i].n_vectors) * bytes};
        if (facts->dead_bytes < 0) /* written since */
            facts->dead_bytes = 0;
    }
    return true;
}

/* ---- maps ---- */

bool index_map(struct index_map **out, struct index *index, struct index_space *space, int64_t end,
               struct error *err) {
    size_t wanted = (size_t)(INDEX_HEADER_BYTES + end * index_vector_bytes(space));
    /* Room to grow: what lies past the file's end is mapped but not touched. */
    size_t len = wanted + wanted / 4 + MAP_SPARE;
    lock_take(&index->lock);
    struct index_map *map = space->map, *old = NULL;
    if (!map || map->len < wanted) {
        void *base = mmap(NULL, len, PROT_READ, MAP_SHARED, space->fd, 0);
        if (base == MAP_FAILED) {
            int failed = errno;
            lock_drop(&index->lock);
            return error_set_errno(err, failed, "mapping the vectors of %s", space->name);
        }
        old = map;
        map = mem_alloc(sizeof *map);
        map->base = base;
        map->len = len;
        map->refs = 1;
        space->map = map;
    }
    map->refs++;
    lock_drop(&index->lock);
    if (old)
        index_unmap(index, old);
    *out = map;
    return true;
}

void index_unmap(struct index *index, struct index_map *map) {
    lock_take(&index->lock);
    bool last = --map->refs == 0;
    lock_drop(&index->lock);
    if (!last)
        return;
    munmap((void *)(uintptr_t)map->base, map->len);
    mem_free(map);
}
