/* corpus: what the watch of UPLOADS_DIR knows of the files there, and how it keeps that.
 *
 *   <data_dir>/uploads.seen    replaced as a whole, so it is old or new
 *       "docusearch uploads 1" LF
 *       device SP inode LF                of the folder, decimal
 *       its real path NUL
 *       then a file, until the end:
 *       state kept SP size SP mtime SP inode SP device SP path NUL
 *           state   t taken, r refused, s a document's source that was not looked at
 *           kept    k missing, but to be forgiven; - otherwise
 *           mtime   nanoseconds; size, mtime and inode as they were when it was taken or refused
 *           device  of the folder it lies in
 *           path    below the folder
 *
 * Without the file, or with one that is of another folder's path, all is looked at anew: documents
 * are their bytes, so nothing is taken twice. */
#ifndef DOCUSEARCH_CORPUS_UPLOADS_H
#define DOCUSEARCH_CORPUS_UPLOADS_H

#include "corpus/internal.h"

#include <sys/stat.h>

#define UPLOADS_MAX_FILES 100000

/* What tells one content of a path from another without reading it. */
struct upload_mark {
    int64_t size_bytes, mtime_ns;
    uint64_t inode;
};
enum upload_state {
    UPLOAD_NEW,   /* to be taken when it stands still */
    UPLOAD_TAKEN, /* with this mark */
    UPLOAD_REFUSED /* with this mark, and not to be tried again */,
    UPLOAD_SOURCE /* a document says that it came from here */
};
struct upload_file {
    struct upload_file *next; /* in its bucket */
    char *path;               /* below the folder */
    struct upload_mark mark;
    uint64_t device; /* of the folder it lies in: a disk may be mounted there; 0 not known */
    enum upload_state state;
    bool kept;          /* missing since the folder was another: not to be removed */
    bool said;          /* that it cannot be taken */
    int64_t since_ms;   /* monotonic: it has stood still since */
    int64_t not_before; /* monotonic: when a NEW one may be tried again; 0 any time */
    int64_t missing_ms; /* monotonic: since when it is not there; 0: it is */
    unsigned round;     /* of the last look at the whole folder that met it */
};
/* Which folder it is: an empty one, where a disk is not mounted, is another. */
struct upload_folder {
    bool known;
    uint64_t device, inode;
};
struct uploads_table {
    struct upload_file **buckets;
    size_t n_buckets, n;
    struct upload_folder folder;
};

struct upload_mark upload_mark_of(const struct stat *st);
bool upload_mark_same(const struct upload_mark *a, const struct upload_mark *b);

void uploads_table_init(struct uploads_table *table);
void uploads_table_fini(struct uploads_table *table);
struct upload_file *uploads_lookup(const struct uploads_table *table, const char *path);
/* A new one, NEW; NULL past UPLOADS_MAX_FILES. */
struct upload_file *uploads_put(struct uploads_table *table, const char *path);
void uploads_forget(struct uploads_table *table, struct upload_file *file);
/* Each file once; visit may forget the one it is given, and put none. */
typedef void (*uploads_visitor)(void *ctx, struct upload_file *file);
void uploads_each(struct uploads_table *table, uploads_visitor visit, void *ctx);

/* root: the folder's real path. A file that is not there, or is of another root, loads nothing. */
bool uploads_load(struct uploads_table *table, const char *path, const char *root,
                  struct error *err);
bool uploads_save(struct uploads_table *table, const char *path, const char *root,
                  struct error *err);

#endif
