/* corpus: what the watch of UPLOADS_DIR knows of the files there, and how it keeps that.
 *
 *   <data_dir>/uploads.seen    replaced as a whole, so it is old or new
 *       "docusearch uploads 2" LF
 *       place LF                     of files directly in the folder, decimal
 *       its real path NUL
 *       then a file, until the end:
 *       state SP size SP mtime SP inode SP place SP path NUL
 *           state   t taken, r refused, s a document's source that was not looked at, or not yet
 *           mtime   nanoseconds; size, mtime and inode as they were when it was taken or refused,
 *                   0 of a source
 *           place   where it was seen (place.h), 0 not known
 *           path    below the folder
 *
 * Without the file, or with one that is of another folder's path, all is looked at anew: documents
 * are their bytes, so nothing is taken twice. */
#ifndef DOCUSEARCH_CORPUS_UPLOADS_H
#define DOCUSEARCH_CORPUS_UPLOADS_H

#include "corpus/internal.h"
#include "corpus/place.h"

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
    uint64_t place; /* where the file was seen that its document came from; 0 not known */
    enum upload_state state;
    bool said;          /* that it cannot be taken */
    int64_t since_ms;   /* monotonic: it has stood still since */
    int64_t not_before; /* monotonic: when a NEW one may be tried again; 0 any time */
    int64_t missing_ms; /* monotonic: since when it is not there; 0: it is */
    unsigned round;     /* of the last look at the whole folder that met it */
};
struct uploads_table {
    struct upload_file **buckets;
    size_t n_buckets, n;
    uint64_t place; /* of files directly in the folder, at the last look; 0 not known */
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

/* root: the folder's real path. NEW ones come back as SOURCE. A file that is not there, or is of
 * another root, loads nothing. */
bool uploads_load(struct uploads_table *table, const char *path, const char *root,
                  struct error *err);
bool uploads_save(struct uploads_table *table, const char *path, const char *root,
                  struct error *err);

#endif
