/* A segment's file: made, opened, mapped, appended to, synced, checked, cut and closed.
 *
 * Invariants:
 *  1. A file under its final name has a whole header, and all bytes before its records.
 *  2. An item's record and scan code are written before its slot; a slot's bytes change once, from
 *     empty to whole, but for slots that no row names, as the file is opened.
 *  3. Offsets and ids ascend with slots. */
#include "index/internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "segments are mapped as they lie in the file: little-endian"
#endif

#define MAGIC "DSSEG\0\0\1"
#define HEADER_BYTES 4096
#define MAX_SLOTS 65536
#define MAX_VECTORS (1 << 20) /* of an item */
#define FLAG_LATE 1u
#define FLAG_FULL 2u
#define LEAST_GROWTH ((uint64_t)256 << 10)
#define MOST_GROWTH ((uint64_t)32 << 20)

static_assert(sizeof(struct slot) == 64, "slots are mapped");

struct header {
    char magic[8];
    uint32_t space, sequence, dim, flags, slots, scan_vectors, scan_bits, pool_bits, pool_factor;
    uint32_t zero;
    uint64_t name_hash, scan_offset, data_offset;
    uint8_t zeros[HEADER_BYTES - 80];
    uint64_t hash;
};
static_assert(sizeof(struct header) == HEADER_BYTES, "as the format has it");

int index_segment_slots = 4096;

uint64_t segment_hash(const void *data, size_t len) {
    return XXH3_64bits(data, len);
}

static uint64_t round_up(uint64_t n, uint64_t unit) {
    return (n + unit - 1) / unit * unit;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    return a->dim == b->dim && a->late == b->late && a->keep_full == b->keep_full &&
           a->scan_vectors == b->scan_vectors && a->scan_bits == b->scan_bits &&
           a->pool_bits == b->pool_bits && a->pool_factor == b->pool_factor;
}

size_t segment_record_bytes(const struct shape *shape, int n) {
    return shape_pooled_bytes(shape, n) + shape_full_bytes(shape, n);
}

char *segment_path(const struct segment *segment) {
    return mem_printf("%s/%s%s", segment->space->dir, segment->name,
                      segment->finished ? "" : ".tmp");
}

static bool fail_errno(const struct segment *segment, int number, struct error *err) {
    char *path = segment_path(segment);
    error_set_errno(err, number, "%s", path);
    mem_free(path);
    return false;
}

/* ---- making and opening --------------------------------------------------------------------- */

static struct segment *segment_new(struct index_space *space, int sequence) {
    struct segment *segment = mem_alloc(sizeof *segment);
    segment->space = space;
    segment->sequence = sequence;
    segment->fd = -1;
    segment->map = MAP_FAILED;
    snprintf(segment->name, sizeof segment->name, "%06d.seg", sequence);
    lock_init(&segment->syncing, LOCK_READ);
    return segment;
}

static void lay_out(struct segment *segment, const struct shape *shape, int capacity) {
    segment->shape = *shape;
    segment->capacity = capacity;
    segment->scan_bytes = shape_scan_bytes(shape);
    segment->scan_offset = HEADER_BYTES + (uint64_t)capacity * sizeof(struct slot);
    segment->data_offset = round_up(segment->scan_offset + (uint64_t)capacity * segment->scan_bytes,
                                    HEADER_BYTES);
    segment->end = segment->data_offset;
}

static bool map_file(struct segment *segment, struct error *err) {
    size_t words = ((size_t)segment->capacity + 63) / 64;
    segment->map = mmap(NULL, SEGMENT_SPAN, PROT_READ, MAP_SHARED, segment->fd, 0);
    if (segment->map == MAP_FAILED)
        return fail_errno(segment, errno, err);
    segment->slots = (const struct slot *)(const void *)(segment->map + HEADER_BYTES);
    segment->scan = segment->map + segment->scan_offset;
    segment->ids = mem_alloc((size_t)segment->capacity * sizeof *segment->ids);
    for (size_t i = 0; i < BASE_COUNT(segment->checked); i++)
        segment->checked[i] = mem_alloc(words * sizeof *segment->checked[i]);
    return true;
}

static void put_header(struct header *out, const struct segment *segment) {
    const struct shape *shape = &segment->shape;
    memset(out, 0, sizeof *out);
    memcpy(out->magic, MAGIC, sizeof out->magic);
    out->space = (uint32_t)segment->space->number;
    out->sequence = (uint32_t)segment->sequence;
    out->dim = (uint32_t)shape->dim;
    out->flags = (shape->late ? FLAG_LATE : 0) | (shape->keep_full ? FLAG_FULL : 0);
    out->slots = (uint32_t)segment->capacity;
    out->scan_vectors = (uint32_t)shape->scan_vectors;
    out->scan_bits = (uint32_t)shape->scan_bits;
    out->pool_bits = (uint32_t)shape->pool_bits;
    out->pool_factor = (uint32_t)shape->pool_factor;
    out->name_hash = segment->space->name_hash;
    out->scan_offset = segment->scan_offset;
    out->data_offset = segment->data_offset;
    out->hash = segment_hash(out, offsetof(struct header, hash));
}

static bool write_at(struct segment *segment, const void *data, size_t len, uint64_t offset,
                     struct error *err) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = pwrite(segment->fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(segment, n < 0 ? errno : EIO, err);
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

/* posix_fallocate, and where a file system has none of it the length alone, which keeps reads
 * inside the file. */
static int extend(int fd, uint64_t from, uint64_t to) {
#ifdef __APPLE__
    (void)from;
    return ftruncate(fd, (off_t)to) == 0 ? 0 : errno;
#else
    int rc;
    do
        rc = posix_fallocate(fd, (off_t)from, (off_t)(to - from));
    while (rc == EINTR);
    if (rc == EINVAL || rc == EOPNOTSUPP || rc == ENODEV)
        rc = ftruncate(fd, (off_t)to) == 0 ? 0 : errno;
    return rc;
#endif
}

/* The file has room up to `end`. Asked for in steps, so that a sync seldom has a new length to
 * write, and a small corpus stays small. */
static bool allocate(struct segment *segment, uint64_t end, struct error *err) {
    int rc = 0;
    lock_take(&segment->syncing);
    if (end > segment->allocated) {
        uint64_t step = (end - segment->data_offset) / 4;
        step = step < LEAST_GROWTH ? LEAST_GROWTH : step > MOST_GROWTH ? MOST_GROWTH : step;
        uint64_t to = round_up(end + step, HEADER_BYTES);
        if (to > SEGMENT_SPAN)
            to = SEGMENT_SPAN;
        rc = extend(segment->fd, segment->allocated, to);
        if (rc == 0)
            segment->allocated = to;
    }
    lock_drop(&segment->syncing);
    return rc == 0 || fail_errno(segment, rc, err);
}

bool segment_make(struct segment **out, struct index_space *space, int sequence,
                  const struct shape *shape, int capacity, struct error *err) {
    struct segment *segment = segment_new(space, sequence);
    struct header *header = mem_alloc(sizeof *header);
    lay_out(segment, shape, capacity);
    put_header(header, segment);
    char *path = segment_path(segment);
    unlink(path);
    segment->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = segment->fd < 0 ? errno : extend(segment->fd, 0, segment->data_offset);
    bool ok = rc == 0 || error_set_errno(err, rc, "%s", path);
    segment->allocated = segment->data_offset;
    ok = ok && write_at(segment, header, sizeof *header, 0, err) && map_file(segment, err);
    mem_free(path);
    mem_free(header);
    if (!ok) {
        segment->dead = true;
        segment_close(segment);
        return false;
    }
    *out = segment;
    return true;
}

bool segment_finish(struct segment *segment, struct error *err) {
    char *from = segment_path(segment);
    if (fsync(segment->fd) != 0) {
        error_set_errno(err, errno, "%s", from);
        mem_free(from);
        return false;
    }
    segment->finished = true;
    char *to = segment_path(segment);
    bool ok = rename(from, to) == 0;
    if (!ok) {
        segment->finished = false;
        error_set_errno(err, errno, "%s", to);
    }
    mem_free(from);
    mem_free(to);
    return ok && dir_sync(segment->space->dir, err);
}

bool segment_has_shape(const struct shape *shape) {
    bool bits = shape->pool_bits == 1 || shape->pool_bits == 2 || shape->pool_bits == 4 ||
                shape->pool_bits == 8;
    if (shape->dim < 1 || shape->dim > INDEX_MAX_DIM)
        return false;
    if (!shape->late)
        return shape->scan_vectors == 1 && shape->scan_bits == 8 && !shape->keep_full;
    return bits && shape->scan_bits == 1 && shape->scan_vectors >= 8 &&
           shape->scan_vectors <= 4096 && shape->scan_vectors % 8 == 0 && shape->pool_factor >= 1 &&
           shape->pool_factor <= 64;
}

/* What is wrong with the header; "": nothing, and the segment is laid out. */
static const char *read_header(struct segment *segment, const struct header *header) {
    const struct index_space *space = segment->space;
    struct shape shape = {.dim = (int)header->dim,
                          .late = header->flags & FLAG_LATE,
                          .keep_full = header->flags & FLAG_FULL,
                          .scan_vectors = (int)header->scan_vectors,
                          .scan_bits = (int)header->scan_bits,
                          .pool_bits = (int)header->pool_bits,
                          .pool_factor = (int)header->pool_factor};
    if (memcmp(header->magic, MAGIC, sizeof header->magic) != 0)
        return "it does not begin as a segment does";
    if (header->hash != segment_hash(header, offsetof(struct header, hash)))
        return "its header's checksum is wrong";
    if (header->space != (uint32_t)space->number || header->name_hash != space->name_hash ||
        shape.dim != space->dim || shape.late != space->late)
        return "it is of another space";
    if (header->sequence != (uint32_t)segment->sequence)
        return "it was another segment";
    if (!segment_has_shape(&shape) || header->slots < 1 || header->slots > MAX_SLOTS)
        return "its header describes no segment";
    lay_out(segment, &shape, (int)header->slots);
    if (segment->data_offset > SEGMENT_SPAN || header->scan_offset != segment->scan_offset ||
        header->data_offset != segment->data_offset)
        return "its header describes no segment";
    return "";
}

static bool is_slot(const struct segment *segment, const struct slot *slot, uint64_t file_bytes) {
    const struct shape *shape = &segment->shape;
    if (slot->id == 0 || slot->hash != segment_hash(slot, offsetof(struct slot, hash)) ||
        slot->kind > ITEM_CHUNK || slot->n < 1 || slot->n > MAX_VECTORS ||
        (!shape->late && slot->n != 1))
        return false;
    uint64_t bytes = segment_record_bytes(shape, (int)slot->n);
    if (bytes == 0)
        return slot->offset == 0;
    return slot->offset >= segment->data_offset && slot->offset % 64 == 0 &&
           slot->offset <= file_bytes && bytes <= file_bytes - slot->offset &&
           (!shape->late || (int)slot->n_pooled == shape_n_pooled(shape, (int)slot->n));
}

static void read_slots(struct segment *segment, uint64_t file_bytes) {
    static const struct slot empty;
    uint64_t last = 0;
    for (int i = 0; i < segment->capacity; i++) {
        const struct slot *slot = &segment->slots[i];
        segment->ids[i] = last;
        if (memcmp(slot, &empty, sizeof empty) == 0)
            continue;
        segment->n_used = i + 1;
        if (slot->id <= last || !is_slot(segment, slot, file_bytes)) {
            segment->n_unreadable++;
            continue;
        }
        segment->ids[i] = last = slot->id;
        uint64_t bytes = segment_record_bytes(&segment->shape, (int)slot->n);
        if (bytes > 0)
            segment->end = slot->offset + bytes;
    }
}

static bool read_all(bool *whole, struct segment *segment, void *data, size_t len,
                     struct error *err) {
    char *at = data;
    *whole = true;
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(segment->fd, at + done, len - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(segment, errno, err);
        if (n == 0) {
            *whole = false;
            return true;
        }
        done += (size_t)n;
    }
    return true;
}

/* A file that was cut before its records gets back the length that is mapped: what is no longer
 * there shows in its checksums. */
static bool lengthen(struct segment *segment, struct error *err) {
    if (segment->allocated >= segment->data_offset)
        return true;
    log_warn("%s of %s was cut short: it held %" PRIu64 " bytes, and begins with %" PRIu64,
             segment->name, segment->space->name, segment->allocated, segment->data_offset);
    if (ftruncate(segment->fd, (off_t)segment->data_offset) != 0)
        return fail_errno(segment, errno, err);
    segment->allocated = segment->data_offset;
    return true;
}

bool segment_open(struct segment **out, char why[160], struct index_space *space, int sequence,
                  struct error *err) {
    struct segment *segment = segment_new(space, sequence);
    struct header *header = mem_alloc(sizeof *header);
    struct stat info;
    bool whole = false;
    segment->finished = true;
    *out = NULL;
    char *path = segment_path(segment);
    segment->fd = open(path, O_RDWR | O_CLOEXEC);
    bool ok = (segment->fd >= 0 && fstat(segment->fd, &info) == 0) ||
              error_set_errno(err, errno, "%s", path);
    ok = ok && read_all(&whole, segment, header, sizeof *header, err);
    if (ok) {
        const char *problem = whole ? read_header(segment, header) : "it is shorter than a header";
        snprintf(why, 160, "%s", problem);
        segment->allocated = (uint64_t)info.st_size;
        if (!*problem) {
            ok = lengthen(segment, err) && map_file(segment, err);
            if (ok)
                read_slots(segment, segment->allocated);
            *out = ok ? segment : NULL;
        }
    }
    mem_free(path);
    mem_free(header);
    if (!*out) {
        segment->allocated = 0;
        segment_close(segment);
    }
    return ok;
}

bool segment_peek(struct segment **out, char why[160], struct index_space *space, int sequence,
                  int fd, struct error *err) {
    struct segment *segment = segment_new(space, sequence);
    struct header *header = mem_alloc(sizeof *header);
    bool whole = false;
    segment->finished = true;
    segment->fd = fd;
    *out = NULL;
    bool ok = read_all(&whole, segment, header, sizeof *header, err);
    snprintf(why, 160, "%s", whole ? read_header(segment, header) : "it is shorter than a header");
    mem_free(header);
    if (ok && !*why) {
        *out = segment;
    } else {
        segment->fd = -1;
        segment_close(segment);
    }
    return ok;
}

void segment_close(struct segment *segment) {
    if (!segment)
        return;
    if (segment->map != MAP_FAILED)
        munmap((void *)(uintptr_t)segment->map, SEGMENT_SPAN);
    if (segment->dead) {
        char *path = segment_path(segment);
        unlink(path);
        mem_free(path);
    } else if (segment->fd >= 0 && segment->allocated > segment->end &&
               ftruncate(segment->fd, (off_t)segment->end) != 0) {
        log_debug("%s keeps what was allocated: %s", segment->name, strerror(errno));
    }
    if (segment->fd >= 0)
        close(segment->fd);
    for (size_t i = 0; i < BASE_COUNT(segment->checked); i++)
        mem_free(segment->checked[i]);
    mem_free(segment->ids);
    lock_fini(&segment->syncing);
    mem_free(segment);
}

/* ---- writing -------------------------------------------------------------------------------- */

bool segment_write(uint64_t *written, struct segment *segment, int slot_i, struct slot *slot,
                   const void *scan, const void *record, struct error *err) {
    const struct shape *shape = &segment->shape;
    size_t pooled = shape_pooled_bytes(shape, (int)slot->n);
    size_t full = shape_full_bytes(shape, (int)slot->n);
    slot->n_pooled = shape->late ? (uint32_t)shape_n_pooled(shape, (int)slot->n) : 0;
    slot->scan_hash = segment_hash(scan, segment->scan_bytes);
    slot->pooled_hash = pooled ? segment_hash(record, pooled) : 0;
    slot->full_hash = full ? segment_hash((const char *)record + pooled, full) : 0;
    slot->hash = segment_hash(slot, offsetof(struct slot, hash));
    if (pooled + full > 0 && (!allocate(segment, slot->offset + pooled + full, err) ||
                              !write_at(segment, record, pooled + full, slot->offset, err)))
        return false;
    if (!write_at(segment, scan, segment->scan_bytes,
                  segment->scan_offset + (uint64_t)slot_i * segment->scan_bytes, err) ||
        !write_at(segment, slot, sizeof *slot, HEADER_BYTES + (uint64_t)slot_i * sizeof *slot, err))
        return false;
    *written = atomic_fetch_add(&segment->n_written, 1) + 1;
    return true;
}

/* The system tells of a failed sync once, and to one caller; the bytes lost may be another's. So
 * they take turns, and after a failure none is told that its bytes are safe until the files are
 * opened anew. A sync that began after one's last write is one's own. */
bool segment_sync(struct segment *segment, uint64_t written, struct error *err) {
    struct index_space *space = segment->space;
    int failed = 0;
    lock_take(&segment->syncing);
    bool ok = !atomic_load(&space->broken);
    if (ok && segment->n_synced < written) {
        uint64_t n_written = atomic_load(&segment->n_written);
        if (fdatasync(segment->fd) == 0) {
            segment->n_synced = n_written;
        } else {
            failed = errno;
            atomic_store(&space->broken, true);
            ok = false;
        }
    }
    lock_drop(&segment->syncing);
    if (failed)
        log_error("vectors of %s: %s: %s; no more are taken until a restart", space->name,
                  segment->name, strerror(failed));
    return ok || error_set_code(err, ERROR_IO, "storage_error",
                                "a file of vectors had an i/o error; none are taken until a "
                                "restart");
}

bool segment_cut(struct segment *segment, int from, struct error *err) {
    static const struct slot empty[256];
    uint64_t end = segment->data_offset;
    for (int i = from; i < segment->n_used; i += (int)BASE_COUNT(empty)) {
        size_t n = (size_t)(segment->n_used - i);
        n = n < BASE_COUNT(empty) ? n : BASE_COUNT(empty);
        if (!write_at(segment, empty, n * sizeof empty[0],
                      HEADER_BYTES + (uint64_t)i * sizeof empty[0], err))
            return false;
    }
    for (int i = 0; i < from; i++) {
        struct slot slot;
        uint64_t bytes;
        if (segment_slot(&slot, segment, i) &&
            (bytes = segment_record_bytes(&segment->shape, (int)slot.n)) > 0)
            end = slot.offset + bytes;
    }
    for (int i = from; i < segment->n_used; i++)
        segment->ids[i] = from > 0 ? segment->ids[from - 1] : 0;
    segment->n_used = from < segment->n_used ? from : segment->n_used;
    segment->end = end;
    if (segment->allocated <= end)
        return true;
    if (ftruncate(segment->fd, (off_t)end) != 0)
        return fail_errno(segment, errno, err);
    segment->allocated = end;
    return true;
}

/* ---- checking ------------------------------------------------------------------------------- */

bool segment_slot(struct slot *out, const struct segment *segment, int slot_i) {
    memcpy(out, &segment->slots[slot_i], sizeof *out);
    return out->id == segment->ids[slot_i] && is_slot(segment, out, SEGMENT_SPAN);
}

bool segment_verify(enum item_part *bad, struct segment *segment, int slot_i, enum item_part part) {
    struct slot slot;
    *bad = PART_SLOT;
    if (!segment_slot(&slot, segment, slot_i))
        return false;
    *bad = part;
    size_t pooled = shape_pooled_bytes(&segment->shape, (int)slot.n);
    size_t full = shape_full_bytes(&segment->shape, (int)slot.n);
    switch (part) {
    case PART_SCAN:
        return slot.scan_hash == segment_hash(segment->scan + (size_t)slot_i * segment->scan_bytes,
                                              segment->scan_bytes);
    case PART_POOLED:
        return pooled == 0 || slot.pooled_hash == segment_hash(segment->map + slot.offset, pooled);
    case PART_FULL:
        return full == 0 ||
               slot.full_hash == segment_hash(segment->map + slot.offset + pooled, full);
    case PART_SLOT:
        break;
    }
    return true;
}

bool segment_check(struct segment *segment, int slot_i, enum item_part part) {
    _Atomic uint64_t *word = &segment->checked[part][slot_i / 64];
    uint64_t bit = (uint64_t)1 << (slot_i % 64);
    enum item_part bad = part;
    struct slot slot;
    if (atomic_load_explicit(word, memory_order_relaxed) & bit) {
        /* Codes are found by what the slot says: it is looked at each time. */
        if (part == PART_SCAN || segment_slot(&slot, segment, slot_i))
            return true;
        bad = PART_SLOT;
    } else if (segment_verify(&bad, segment, slot_i, part)) {
        atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
        return true;
    }
    index_item_damaged(segment, slot_i, bad);
    return false;
}

bool segment_is_there(const struct segment *segment, uint64_t end, struct error *err) {
    struct stat info;
    if (fstat(segment->fd, &info) != 0)
        return fail_errno(segment, errno, err);
    if ((uint64_t)info.st_size >= end)
        return true;
    char *path = segment_path(segment);
    error_set_code(err, ERROR_IO, "vectors_cut",
                   "%s was cut short: it holds %" PRId64 " bytes, and %" PRIu64 " are in use", path,
                   (int64_t)info.st_size, end);
    mem_free(path);
    return false;
}
