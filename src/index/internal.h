/* index, inside: a space's file. */
#ifndef DOCUSEARCH_INDEX_INTERNAL_H
#define DOCUSEARCH_INDEX_INTERNAL_H

#include "index/index.h"

#define INDEX_HEADER_BYTES 16
#define INDEX_MAX_DIM 65536

/* A file, mapped to some length. Counted: searches hold it while they read. */
struct index_map {
    const char *base;
    size_t len;
    int refs;
};

struct index_space {
    int number, generation, dim;
    bool late;
    char *name;
    int fd;
    struct lock syncing;   /* LOCK_READ, over broken and the sync itself */
    bool broken;           /* a sync failed: what it did not bring to the disk is not known */
    int64_t end;           /* vectors that have a place; under the index's lock */
    struct index_map *map; /* the newest; NULL: none yet. Under the index's lock */
    struct index_space *next;
};

struct index {
    struct store *store;
    char *dir;
    struct lock making; /* LOCK_READ: one space is made at a time */
    struct lock lock; /* LOCK_STORE: the list, ends and maps; the store is never called under it */
    struct index_space *spaces;
    int n_scans; /* under the lock */
    struct signal_cond scan_ended;
};

struct index_space *index_space_numbered(struct index *index, int number);
int64_t index_vector_bytes(const struct index_space *space);
/* The file's bytes that hold vectors 0 to end, mapped; index_unmap gives it back. */
bool index_map(struct index_map **out, struct index *index, struct index_space *space, int64_t end,
               struct error *err);
void index_unmap(struct index *index, struct index_map *map);

/* ---- space.c ---- */

char *index_file_name(const struct index *index, int number, int generation);
/* The row's file, checked against its rows: torn tails are cut, rows without bytes dropped, and it
 * is rewritten when most of it is dead. */
bool index_space_open(struct index_space **out, struct index *index, const struct space_row *row,
                      struct error *err);
/* Renames path to path.why, path.why-2, …; *aside: which, the caller's. */
bool index_set_aside(char **aside, const struct index *index, const char *path, const char *why,
                     struct error *err);
void index_space_close(struct index_space *space); /* NULL is fine */
/* pwrite until all of it is written. what: for messages. */
bool index_write_at(int fd, const void *data, size_t len, int64_t offset, const char *what,
                    struct error *err);

/* Of rewriting: tests lower it. */
extern int64_t index_rewrite_bytes;

#endif
