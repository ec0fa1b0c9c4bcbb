/* corpus, inside: an export's list of files. */
#ifndef DOCUSEARCH_CORPUS_SUMS_H
#define DOCUSEARCH_CORPUS_SUMS_H

#include "base/base.h"

#define EXPORT_HEAD "export.json"
#define EXPORT_SUMS "SHA256SUMS"
#define EXPORT_DATABASE "docusearch.db"

/* Zero-initialise. */
struct sums {
    struct buf text; /* lines "<64 hex digits>  <path>", each ended by a NUL */
    size_t *lines;   /* where they begin */
    size_t n, cap;
};
void corpus_sums_fini(struct sums *sums);
bool corpus_sums_add(struct sums *sums, const char hash[SHA256_HEX + 1], const char *path,
                     struct error *err);
void corpus_sums_sort(struct sums *sums); /* by path; before find, from and write */
const char *corpus_sums_path(const struct sums *sums, size_t i);
const char *corpus_sums_hash(const struct sums *sums, size_t i); /* 64 digits, and no end */
/* The first line whose path is not before this one; n: none. */
size_t corpus_sums_from(const struct sums *sums, const char *path);
bool corpus_sums_find(size_t *i, const struct sums *sums, const char *path);
/* SHA256SUMS and then export.json, each durable. */
bool corpus_sums_write(const struct sums *sums, const char *folder, int64_t n_documents,
                       struct error *err);
/* Both, compared with each other. Every path is one that an export has: nothing leads out of the
 * folder. ERROR_INPUT damaged_export, ERROR_UNSUPPORTED. */
bool corpus_sums_read(struct sums *sums, int64_t *n_documents, const char *folder,
                      struct error *err);
/* Splits documents/ab/<doc_id>/<name>; false: another file. */
bool corpus_sums_document(char doc_id[SHA256_HEX + 1], const char **name, const char *path);
/* N of vectors/N.items; false: another file. */
bool corpus_sums_space(int *space, const char *path);

/* ---- carry.c -------------------------------------------------------------------------------- */

/* A regular file, of which no link is followed; *found false: there is none. */
struct carried {
    int64_t size_bytes, modified_ns;
    uint64_t device, inode;
};
bool corpus_carry_look(struct carried *out, bool *found, const char *path, struct error *err);
/* to is from, by hard link where *links says so (cleared when the file system has none), else a
 * copy with its times; synced only where `sync` says so. What lies at to is replaced. *found false:
 * from is not there. */
bool corpus_carry(bool *found, bool *links, const char *from, const char *to, bool sync,
                  struct error *err);
bool corpus_carry_hash(char out[SHA256_HEX + 1], const char *path, struct error *err);

#endif
