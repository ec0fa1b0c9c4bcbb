/* corpus: where a file of UPLOADS_DIR is seen, as one number.
 *
 * A place is made of UPLOADS_DIR and of what is mounted on the way from there to the file: another
 * disk, another folder, and a folder that something was mounted over are other places. It outlives
 * restarts; where a file system has no number of its own, a mount or a restart may change it. */
#ifndef DOCUSEARCH_CORPUS_PLACE_H
#define DOCUSEARCH_CORPUS_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* An open folder; fd is the caller's to close. */
struct uploads_spot {
    int fd;
    uint64_t place; /* of what lies directly in it; never 0 */
    uint64_t mount; /* differs from that of the folder above where something is mounted on it */
};
/* False: errno says why. */
bool uploads_open_root(struct uploads_spot *out, const char *root);
bool uploads_open_folder(struct uploads_spot *out, const struct uploads_spot *above,
                         const char *name); /* no link */
/* The folder that path (below root) lies in or, *arrived false, the nearest above it that is there.
 * Links are not followed. False: one cannot be read, and nobody can tell. */
bool uploads_open_around(struct uploads_spot *out, bool *arrived, const char *root,
                         const char *path);

/* What is at a path now. */
struct uploads_sight {
    uint64_t place; /* in which path is, or would be */
    bool exists;
    struct stat st;
};
/* False: nobody can tell. */
bool uploads_look(struct uploads_sight *out, const char *root, const char *path);
bool uploads_is_file(const struct uploads_sight *sight);

#endif
