/* Where the blocks of a file lie, and their bytes. What they say is checked by the index. */
#include "corpus/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_at(int fd, void *data, size_t len, uint64_t offset, struct error *err) {
    char *at = data;
    while (len > 0) {
        ssize_t n = pread(fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "a file of vectors");
        if (n == 0)
            return error_set_code(err, ERROR_INPUT, "damaged_export",
                                  "a file of vectors ends too soon");
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

static void note(struct blocks *blocks, const struct block_place *place) {
    if (blocks->n == blocks->cap) {
        blocks->cap = blocks->cap ? 2 * blocks->cap : 1024;
        blocks->places = mem_grow(blocks->places, blocks->cap, sizeof *blocks->places);
    }
    blocks->places[blocks->n++] = *place;
}

bool corpus_blocks_open(struct blocks *out, const char *path, struct error *err) {
    struct stat info;
    *out = (struct blocks){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (out->fd < 0)
        return errno == ENOENT || error_set_errno(err, errno, "%s", path);
    if (fstat(out->fd, &info) != 0)
        return error_set_errno(err, errno, "%s", path);
    uint64_t size = (uint64_t)info.st_size;
    int64_t last = 0;
    for (uint64_t at = 0; at < size;) {
        char head[INDEX_BLOCK_HEAD];
        struct index_block block;
        if (!read_at(out->fd, head, sizeof head, at, err) || !index_block_head(&block, head, err)) {
            error_prefix(err, "%s: ", path);
            return false;
        }
        if (block.id <= last || block.len > size - at)
            return error_set_code(err, ERROR_INPUT, "damaged_export",
                                  "%s: a block of vectors is out of its place", path);
        note(out, &(struct block_place){block.id, at, block.len});
        last = block.id;
        at += block.len;
    }
    return true;
}

void corpus_blocks_close(struct blocks *blocks) {
    if (blocks->fd >= 0)
        close(blocks->fd);
    mem_free(blocks->places);
    *blocks = (struct blocks){.fd = -1};
}

const struct block_place *corpus_blocks_find(const struct blocks *blocks, int64_t id) {
    size_t low = 0, high = blocks->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (blocks->places[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < blocks->n && blocks->places[low].id == id ? &blocks->places[low] : NULL;
}

bool corpus_blocks_load(struct buf *out, const struct blocks *blocks,
                        const struct block_place *place, struct error *err) {
    if (out->cap <= place->len) {
        buf_fini(out);
        out->data = mem_try(1, place->len + 1, INDEX_BLOCK_MAX + 1);
        out->cap = out->data ? place->len + 1 : 0;
    }
    if (!out->data)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for vectors");
    out->len = place->len;
    return read_at(blocks->fd, out->data, place->len, place->offset, err);
}
