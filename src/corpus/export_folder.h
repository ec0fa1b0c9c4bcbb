/* corpus, inside: the folder that an export is made in, and its taking the place of the one before.
 */
#ifndef DOCUSEARCH_CORPUS_EXPORT_FOLDER_H
#define DOCUSEARCH_CORPUS_EXPORT_FOLDER_H

#include "corpus/sums.h"

struct export_folder {
    const char *path;
    char *partial, *old;  /* old NULL: there was no export */
    struct sums old_sums; /* of old */
    int mark;             /* the lock of partial */
};
/* An export that was cut off between its two renamings is there again; what else was left in
 * partial is gone. ERROR_CONFLICT not_empty, ERROR_BUSY. */
bool corpus_export_open(struct export_folder *out, const char *path, struct error *err);
/* Half opened is fine. drop: partial goes, if it is ours. */
void corpus_export_close(struct export_folder *folder, bool drop);
/* Can files of the data folder be linked, and is there room for what cannot? ERROR_IO disk_full. */
bool corpus_export_room(bool *links, const struct export_folder *folder, const char *data_dir,
                        struct error *err);
/* All that was written in partial is on the disk. */
bool corpus_export_sync(const struct export_folder *folder, struct error *err);
/* partial takes the place of what was there. */
bool corpus_export_swap(const struct export_folder *folder, struct error *err);

#endif
