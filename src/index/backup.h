/* index: items as they lie in a data folder, read beside the process that holds it, and put into
 * another folder's index. What export and import are made of; a further part of its face.
 *
 * A block is one item with its codes, little-endian, a multiple of 64 bytes long:
 *   0    8   "DSITEM\0\1"
 *   8    8   id in its folder: ascending with age
 *   16   4   enum item_kind
 *   20   4   vectors
 *   24   4   dim
 *   28   4   flags: 1 late, 2 full vectors kept
 *   32   4   scan vectors a slot    36   4   bits of the scan code
 *   40   4   bits of the pooled codes    44   4   pool factor
 *   48   8   bytes of the block
 *   56   8   XXH3-64 of two: those of the bytes before, and of the bytes from 64 on
 *   64       the scan code, then the record, as in a segment (segment.h) */
#ifndef DOCUSEARCH_INDEX_BACKUP_H
#define DOCUSEARCH_INDEX_BACKUP_H

#include "index/index.h"

/* ---- read ----------------------------------------------------------------------------------- */

/* The segments of a data folder, open to read. What was open stays readable whatever its holder
 * does. One thread. */
struct index_source;
struct index_source *index_source_new(const char *data_dir);
void index_source_free(struct index_source *source); /* NULL is fine */
/* Opens what came since. Called before and after the database is copied, it has every item that the
 * copy names. */
bool index_source_look(struct index_source *source, struct error *err);
/* Has its items looked up from now on; the space as the copy's row has it. */
bool index_source_space(struct index_source *source, const struct space_row *space,
                        struct error *err);
/* The item as a block in out, which is emptied first. *found false: it is not there, or damaged. */
bool index_source_load(struct buf *out, bool *found, const struct index_source *source, int64_t id,
                       struct error *err);

/* ---- put ------------------------------------------------------------------------------------ */

#define INDEX_BLOCK_HEAD 64
#define INDEX_BLOCK_MAX ((size_t)512 << 20)
struct index_block {
    int64_t id;
    enum item_kind kind;
    int n, dim;
    bool late;
    size_t len;
};
/* From a block's first INDEX_BLOCK_HEAD bytes. ERROR_INPUT: they begin none. */
bool index_block_head(struct index_block *out, const void *head, struct error *err);

/* Blocks on their way into one space; codes of other settings than the index's get segments of
 * their own. One thread. */
struct index_restore;
bool index_restore_open(struct index_restore **out, struct index *index, int space,
                        struct error *err);
void index_restore_close(struct index_restore *restore); /* NULL is fine */
/* As index_writer_add, of a block; it is checked whole first (ERROR_INPUT). Its writer is of the
 * same space. Items get new ids in the order of the calls. */
bool index_restore_add(struct index_restore *restore, struct index_writer *writer, int item,
                       const void *block, size_t len, struct error *err);

#endif
