/* corpus, inside: an export's file of blocks (index/backup.h). */
#ifndef DOCUSEARCH_CORPUS_BLOCKS_H
#define DOCUSEARCH_CORPUS_BLOCKS_H

#include "index/backup.h"

struct block_place {
    int64_t id;
    uint64_t offset;
    size_t len;
};
struct blocks {
    int fd;                     /* -1: there is no such file, and so no block */
    struct block_place *places; /* ascending by id */
    size_t n, cap;
};
/* Reads where each block lies. ERROR_INPUT damaged_export. */
bool corpus_blocks_open(struct blocks *out, const char *path, struct error *err);
void corpus_blocks_close(struct blocks *blocks); /* half opened is fine */
const struct block_place *corpus_blocks_find(const struct blocks *blocks, int64_t id); /* or NULL */
/* Replaces what out holds by the block's bytes. */
bool corpus_blocks_load(struct buf *out, const struct blocks *blocks,
                        const struct block_place *place, struct error *err);

#endif
