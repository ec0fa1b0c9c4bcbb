/* Items out of a data folder's segments and into another's.
 *
 * Reading is beside the process that holds the folder: nothing is mapped, and nothing is believed
 * that a checksum does not cover. A slot that a row names never changes, and a file that is open
 * stays, so what the holder appends, compacts or removes meanwhile does no harm.
 *
 * Invariant of writing: a segment of other codes than the index's settings make is never the
 * space's tail, and counts one pending slot as long as blocks may come, so that compaction leaves
 * it alone. */
#include "index/backup.h"
#include "index/internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "DSITEM\0\1"
#define FLAG_LATE 1u
#define FLAG_FULL 2u
#define MAX_VECTORS (1 << 20)
#define SLOTS_OFFSET 4096
#define MAX_SEGMENTS 100000

struct block_head {
    char magic[8];
    uint64_t id;
    uint32_t kind, n, dim, flags, scan_vectors, scan_bits, pool_bits, pool_factor;
    uint64_t len, hash;
};
static_assert(sizeof(struct block_head) == INDEX_BLOCK_HEAD, "as the format has it");

/* ---- segments ------------------------------------------------------------------------------- */

/* A segment's file, by what it is and not by its name: a name may come again. */
struct source_file {
    int space, sequence, fd;
    ino_t inode;
};
struct source_slot {
    uint64_t id;
    int segment, slot;
};
struct index_source {
    char *dir;
    struct source_file *files;
    int n_files, max_files;
    struct index_space space; /* that is looked up in; its number 0: none */
    struct segment **segments;
    int n_segments;
    struct source_slot *slots; /* ascending by id */
    size_t n_slots, max_slots;
};

struct index_source *index_source_new(const char *data_dir) {
    struct index_source *source = mem_alloc(sizeof *source);
    source->dir = mem_printf("%s/vectors", data_dir);
    return source;
}

static void forget_space(struct index_source *source) {
    for (int i = 0; i < source->n_segments; i++) {
        source->segments[i]->fd = -1; /* the file's own */
        segment_close(source->segments[i]);
    }
    mem_free(source->segments);
    mem_free(source->slots);
    mem_free(source->space.name);
    mem_free(source->space.dir);
    source->segments = NULL;
    source->slots = NULL;
    source->n_segments = 0;
    source->n_slots = source->max_slots = 0;
    source->space = (struct index_space){0};
}

void index_source_free(struct index_source *source) {
    if (!source)
        return;
    forget_space(source);
    for (int i = 0; i < source->n_files; i++)
        close(source->files[i].fd);
    mem_free(source->files);
    mem_free(source->dir);
    mem_free(source);
}

static bool is_known(const struct index_source *source, int space, ino_t inode) {
    for (int i = 0; i < source->n_files; i++) {
        if (source->files[i].space == space && source->files[i].inode == inode)
            return true;
    }
    return false;
}

/* A file that has gone since it was listed is of no more use. */
static bool open_file(struct index_source *source, int space, int sequence, const char *path,
                      struct error *err) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || error_set_errno(err, errno, "%s", path);
    if (fstat(fd, &info) != 0 || is_known(source, space, info.st_ino)) {
        close(fd);
        return true;
    }
    if (source->n_files == MAX_SEGMENTS) {
        close(fd);
        return error_set(err, ERROR_LIMIT, "%s has more than %d segments", source->dir,
                         MAX_SEGMENTS);
    }
    if (source->n_files == source->max_files) {
        source->max_files = source->max_files ? 2 * source->max_files : 64;
        source->files = mem_grow(source->files, (size_t)source->max_files, sizeof *source->files);
    }
    source->files[source->n_files++] = (struct source_file){space, sequence, fd, info.st_ino};
    return true;
}

static bool look_into(struct index_source *source, int space, const char *dir, struct error *err) {
    DIR *open_dir = opendir(dir);
    bool ok = true;
    if (!open_dir)
        return errno == ENOENT || errno == ENOTDIR || error_set_errno(err, errno, "%s", dir);
    for (struct dirent *entry = readdir(open_dir); entry && ok; entry = readdir(open_dir)) {
        int sequence;
        char end[16] = "";
        if (sscanf(entry->d_name, "%d%15s", &sequence, end) != 2 || sequence < 1 ||
            strcmp(end, ".seg") != 0)
            continue;
        char *path = mem_printf("%s/%s", dir, entry->d_name);
        ok = open_file(source, space, sequence, path, err);
        mem_free(path);
    }
    closedir(open_dir);
    return ok;
}

bool index_source_look(struct index_source *source, struct error *err) {
    DIR *open_dir = opendir(source->dir);
    bool ok = true;
    if (!open_dir)
        return errno == ENOENT || error_set_errno(err, errno, "%s", source->dir);
    for (struct dirent *entry = readdir(open_dir); entry && ok; entry = readdir(open_dir)) {
        char end = 0;
        int space;
        if (sscanf(entry->d_name, "%d%c", &space, &end) != 1 || space < 1)
            continue;
        char *dir = mem_printf("%s/%s", source->dir, entry->d_name);
        ok = look_into(source, space, dir, err);
        mem_free(dir);
    }
    closedir(open_dir);
    return ok;
}

/* ---- slots ---------------------------------------------------------------------------------- */

/* *whole false: the file ends before. */
static bool read_at(bool *whole, int fd, void *data, size_t len, uint64_t offset,
                    struct error *err) {
    char *at = data;
    *whole = true;
    while (len > 0) {
        ssize_t n = pread(fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "a segment of vectors");
        if (n == 0) {
            *whole = false;
            return true;
        }
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

static void note_slot(struct index_source *source, uint64_t id, int segment, int slot) {
    if (source->n_slots == source->max_slots) {
        source->max_slots = source->max_slots ? 2 * source->max_slots : 4096;
        source->slots = mem_grow(source->slots, source->max_slots, sizeof *source->slots);
    }
    source->slots[source->n_slots++] = (struct source_slot){id, segment, slot};
}

static bool note_slots(struct index_source *source, int segment_i, struct error *err) {
    const struct segment *segment = source->segments[segment_i];
    size_t len = (size_t)segment->capacity * sizeof(struct slot);
    struct slot *slots = mem_alloc(len);
    bool whole, ok = read_at(&whole, segment->fd, slots, len, SLOTS_OFFSET, err);
    for (int i = 0; i < segment->capacity && ok && whole; i++) {
        if (slots[i].id != 0)
            note_slot(source, slots[i].id, segment_i, i);
    }
    mem_free(slots);
    return ok;
}

/* Of an id that two segments have, as one is a copy of the other, either will do. */
static int by_id(const void *a, const void *b) {
    const struct source_slot *one = a, *other = b;
    if (one->id != other->id)
        return one->id < other->id ? -1 : 1;
    return one->segment < other->segment ? -1 : one->segment > other->segment;
}

bool index_source_space(struct index_source *source, const struct space_row *row,
                        struct error *err) {
    char why[160];
    forget_space(source);
    if (row->dim < 1 || row->dim > INDEX_MAX_DIM)
        return error_set(err, ERROR_INPUT, "a vector space of %d dimensions", row->dim);
    source->space.number = row->space;
    source->space.dim = row->dim;
    source->space.late = row->late;
    source->space.name = mem_strdup(row->name);
    source->space.dir = mem_printf("%s/%d", source->dir, row->space);
    source->space.name_hash = segment_hash(row->name, strlen(row->name));
    source->segments = mem_alloc(((size_t)source->n_files + 1) * sizeof(struct segment *));
    for (int i = 0; i < source->n_files; i++) {
        const struct source_file *file = &source->files[i];
        struct segment *segment;
        if (file->space != row->space)
            continue;
        if (!segment_peek(&segment, why, &source->space, file->sequence, file->fd, err))
            return false;
        if (!segment) {
            log_warn("a segment of %s is passed over: %s", row->name, why);
            continue;
        }
        source->segments[source->n_segments++] = segment;
        if (!note_slots(source, source->n_segments - 1, err))
            return false;
    }
    if (source->n_slots > 0)
        qsort(source->slots, source->n_slots, sizeof *source->slots, by_id);
    return true;
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* Of a block's head and what follows it. */
static uint64_t block_hash(const struct block_head *head, const void *rest, size_t len) {
    uint64_t parts[2] = {segment_hash(head, offsetof(struct block_head, hash)),
                         segment_hash(rest, len)};
    return segment_hash(parts, sizeof parts);
}

static void put_head(struct block_head *out, const struct shape *shape, const struct slot *slot,
                     const void *rest, size_t len) {
    *out = (struct block_head){.id = slot->id,
                               .kind = slot->kind,
                               .n = slot->n,
                               .dim = (uint32_t)shape->dim,
                               .flags = (shape->late ? FLAG_LATE : 0) |
                                        (shape->keep_full ? FLAG_FULL : 0),
                               .scan_vectors = (uint32_t)shape->scan_vectors,
                               .scan_bits = (uint32_t)shape->scan_bits,
                               .pool_bits = (uint32_t)shape->pool_bits,
                               .pool_factor = (uint32_t)shape->pool_factor,
                               .len = INDEX_BLOCK_HEAD + len};
    memcpy(out->magic, MAGIC, sizeof out->magic);
    out->hash = block_hash(out, rest, len);
}

static bool is_sound(const struct slot *slot, const struct shape *shape) {
    return slot->hash == segment_hash(slot, offsetof(struct slot, hash)) &&
           slot->kind <= ITEM_CHUNK && slot->n >= 1 && slot->n <= MAX_VECTORS &&
           (shape->late || slot->n == 1);
}

/* One slot's item, its parts compared with their checksums. */
static bool load_slot(struct buf *out, bool *found, const struct segment *segment, int slot_i,
                      struct error *err) {
    const struct shape *shape = &segment->shape;
    struct slot slot;
    bool whole;
    *found = false;
    if (!read_at(&whole, segment->fd, &slot, sizeof slot,
                 SLOTS_OFFSET + (uint64_t)slot_i * sizeof slot, err))
        return false;
    if (!whole || !is_sound(&slot, shape))
        return true;
    size_t pooled = shape_pooled_bytes(shape, (int)slot.n);
    size_t full = shape_full_bytes(shape, (int)slot.n);
    size_t len = segment->scan_bytes + pooled + full;
    buf_clear(out);
    char *block = len <= INDEX_BLOCK_MAX - INDEX_BLOCK_HEAD
                      ? mem_try(1, INDEX_BLOCK_HEAD + len, INDEX_BLOCK_MAX)
                      : NULL;
    if (!block)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "no memory for the vectors of a page or passage");
    char *scan = block + INDEX_BLOCK_HEAD, *record = scan + segment->scan_bytes;
    bool record_whole = true;
    bool ok = read_at(&whole, segment->fd, scan, segment->scan_bytes,
                      segment->scan_offset + (uint64_t)slot_i * segment->scan_bytes, err) &&
              (pooled + full == 0 ||
               read_at(&record_whole, segment->fd, record, pooled + full, slot.offset, err));
    *found = ok && whole && record_whole &&
             slot.scan_hash == segment_hash(scan, segment->scan_bytes) &&
             (!pooled || slot.pooled_hash == segment_hash(record, pooled)) &&
             (!full || slot.full_hash == segment_hash(record + pooled, full));
    if (*found) {
        struct block_head head;
        put_head(&head, shape, &slot, scan, len);
        memcpy(block, &head, sizeof head);
        buf_append(out, block, INDEX_BLOCK_HEAD + len);
        ok = !out->failed || error_set_code(err, ERROR_LIMIT, "out_of_memory",
                                            "no memory for the vectors of a page or passage");
    }
    mem_free(block);
    return ok;
}

bool index_source_load(struct buf *out, bool *found, const struct index_source *source, int64_t id,
                       struct error *err) {
    size_t low = 0, high = source->n_slots;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (source->slots[middle].id < (uint64_t)id)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < source->n_slots && source->slots[low].id == (uint64_t)id && !*found; low++) {
        const struct source_slot *at = &source->slots[low];
        if (!load_slot(out, found, source->segments[at->segment], at->slot, err))
            return false;
    }
    return true;
}

/* ---- blocks in ------------------------------------------------------------------------------ */

/* What the head describes, if a segment could hold it and it is as long as it says. */
static bool read_head(struct shape *shape, const struct block_head *head, struct error *err) {
    *shape = (struct shape){.dim = (int)head->dim,
                            .late = head->flags & FLAG_LATE,
                            .keep_full = head->flags & FLAG_FULL,
                            .scan_vectors = (int)head->scan_vectors,
                            .scan_bits = (int)head->scan_bits,
                            .pool_bits = (int)head->pool_bits,
                            .pool_factor = (int)head->pool_factor};
    bool ok = memcmp(head->magic, MAGIC, sizeof head->magic) == 0 && head->id > 0 &&
              head->id <= INT64_MAX && head->kind <= ITEM_CHUNK && head->n >= 1 &&
              head->n <= MAX_VECTORS && head->flags <= (FLAG_LATE | FLAG_FULL) &&
              segment_has_shape(shape) && (shape->late || head->n == 1) &&
              head->len >= INDEX_BLOCK_HEAD && head->len <= INDEX_BLOCK_MAX &&
              (uint64_t)shape->dim * head->n <= INDEX_BLOCK_MAX;
    ok = ok && head->len == INDEX_BLOCK_HEAD + shape_scan_bytes(shape) +
                                segment_record_bytes(shape, (int)head->n);
    return ok || error_set(err, ERROR_INPUT, "no block of vectors");
}

bool index_block_head(struct index_block *out, const void *data, struct error *err) {
    struct block_head head;
    struct shape shape;
    memset(out, 0, sizeof *out);
    memcpy(&head, data, sizeof head);
    if (!read_head(&shape, &head, err))
        return false;
    *out = (struct index_block){.id = (int64_t)head.id,
                                .kind = (enum item_kind)head.kind,
                                .n = (int)head.n,
                                .dim = shape.dim,
                                .late = shape.late,
                                .len = head.len};
    return true;
}

struct index_restore {
    struct index *index;
    struct index_space *space;
    struct segment *segment; /* of other codes than the settings'; NULL: none */
};

bool index_restore_open(struct index_restore **out, struct index *index, int number,
                        struct error *err) {
    struct index_space *space = index_space_numbered(index, number);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    struct index_restore *restore = mem_alloc(sizeof *restore);
    restore->index = index;
    restore->space = space;
    *out = restore;
    return true;
}

static void let_go(struct index_restore *restore) {
    if (!restore->segment)
        return;
    lock_take(&restore->index->lock);
    restore->segment->n_pending--;
    segment_bury(restore->index, restore->segment);
    index_wake(restore->index);
    lock_drop(&restore->index->lock);
    restore->segment = NULL;
    index_bury(restore->index);
}

void index_restore_close(struct index_restore *restore) {
    if (!restore)
        return;
    let_go(restore);
    mem_free(restore);
}

/* A segment of its own, which is no tail. */
static bool begin_segment(struct index_restore *restore, const struct shape *shape,
                          struct error *err) {
    struct index_space *space = restore->space;
    struct index *index = restore->index;
    struct segment *segment = NULL;
    let_go(restore);
    lock_take(&index->making);
    lock_take(&index->lock);
    int sequence = space->next_sequence++;
    lock_drop(&index->lock);
    bool ok = segment_make(&segment, space, sequence, shape, index_segment_slots, err);
    if (ok && !segment_finish(segment, err)) {
        segment->dead = true;
        segment_close(segment);
        ok = false;
    }
    if (ok) {
        lock_take(&index->lock);
        segment->n_pending = 1;
        view_replace(space, space->view->n_parts, 0, segment, live_new(segment));
        space_publish(space);
        lock_drop(&index->lock);
        restore->segment = segment;
    }
    lock_drop(&index->making);
    return ok;
}

static bool take_place(struct place *out, struct index_restore *restore, const struct shape *shape,
                       int n, struct error *err) {
    struct index *index = restore->index;
    struct shape usual;
    uint64_t bytes = segment_record_bytes(shape, n);
    space_shape(&usual, restore->space);
    if (shape_equal(shape, &usual))
        return space_take_place(out, restore->space, n, err);
    for (;;) {
        struct segment *segment = restore->segment;
        if (atomic_load(&restore->space->dropped))
            return error_set(err, ERROR_MISSING, "the vector space %s is no more",
                             restore->space->name);
        if (segment && shape_equal(&segment->shape, shape)) {
            lock_take(&index->lock);
            bool room = segment->n_used < segment->capacity && bytes <= SEGMENT_SPAN - segment->end;
            if (room) {
                *out = (struct place){.segment = segment,
                                      .slot = segment->n_used++,
                                      .id = index->next_id++,
                                      .offset = bytes ? segment->end : 0};
                segment->ids[out->slot] = out->id;
                segment->end += bytes;
                segment->n_pending++;
            }
            lock_drop(&index->lock);
            if (room)
                return true;
        }
        if (!begin_segment(restore, shape, err))
            return false;
    }
}

bool index_restore_add(struct index_restore *restore, struct index_writer *writer, int item,
                       const void *block, size_t len, struct error *err) {
    struct index_space *space = restore->space;
    struct block_head head;
    struct shape shape;
    struct place place;
    if (len < sizeof head)
        return error_set(err, ERROR_INPUT, "a block of vectors is cut short");
    memcpy(&head, block, sizeof head);
    if (!read_head(&shape, &head, err))
        return false;
    const char *scan = (const char *)block + INDEX_BLOCK_HEAD;
    if (head.len != len || head.hash != block_hash(&head, scan, len - INDEX_BLOCK_HEAD))
        return error_set(err, ERROR_INPUT, "a block of vectors is damaged");
    if (shape.dim != space->dim || shape.late != space->late)
        return error_set(err, ERROR_INPUT, "a block of vectors is of another space than %s",
                         space->name);
    if (!take_place(&place, restore, &shape, (int)head.n, err))
        return false;
    return index_writer_put(writer, &place, (enum item_kind)head.kind, item, (int)head.n, scan,
                            scan + shape_scan_bytes(&shape), err);
}
