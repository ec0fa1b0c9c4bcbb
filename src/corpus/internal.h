/* corpus, inside: what its files share. */
#ifndef DOCUSEARCH_CORPUS_INTERNAL_H
#define DOCUSEARCH_CORPUS_INTERNAL_H

#include "corpus/corpus.h"

#include <limits.h>
#include <stdatomic.h>

#define CORPUS_STRIPES 64
#define CORPUS_JOB_INGEST "ingest"
#define FILENAME_MAX_BYTES 255
#define CORPUS_ROLES 2

struct corpus {
    const struct settings *settings;
    struct store_lock *lock;
    struct store *store;
    struct read_pool *readers;
    struct queue *queue;
    struct device *device;
    struct index *index;
    struct owner *owners[CORPUS_ROLES]; /* by enum model_role; one may stand twice */
    struct {
        struct vector_cover cover;
        int64_t looked_ms;  /* monotonic; 0: never */
    } covers[CORPUS_ROLES]; /* under the owner's lock */
    atomic_bool started;
    /* One is held while a document's files and rows change together, so that a removal and an
     * upload of the same bytes never interleave. Chosen by the id; a thread holds at most one. */
    struct lock stripes[CORPUS_STRIPES];
};

struct lock *corpus_stripe(struct corpus *corpus, const char *doc_id);
/* Is this format allowed by SUPPORTED_FORMATS? */
bool corpus_allows(const struct corpus *corpus, enum read_format format);
/* The real path; of a file that is not there, its folder's real path and its name. False: neither.
 */
bool corpus_real_path(char out[PATH_MAX], const char *path);
/* Does the path, made real by corpus_real_path, lie under one of the ingest roots? */
bool corpus_path_allowed(const char *path, const struct settings *settings);
/* Takes a source from a document; the document goes, as by corpus_remove, when that was the last.
 * out->kept: it was not. */
bool corpus_drop_source(struct removed *out, struct corpus *corpus, const char *doc_id,
                        const char *path, struct error *err);
/* Files that no row names, left by what went wrong. The caller holds the id's stripe. */
void corpus_drop_unnamed(struct corpus *corpus, const char *doc_id);

/* models.c: the device and the owners of the models. */
bool corpus_models_open(struct corpus *corpus, struct error *err);
bool corpus_models_start(struct corpus *corpus, struct error *err);
void corpus_models_stop(struct corpus *corpus);
/* How the space of the role's model covers the documents, a second old at most; nothing at all
 * unless the model is ready. */
bool corpus_cover(struct vector_cover *out, struct corpus *corpus, enum model_role role,
                  struct error *err);
/* Does the READY document lack the vectors of a model that is ready? */
bool corpus_lacks_vectors(bool *out, struct corpus *corpus, const char *doc_id, struct error *err);
void corpus_models_close(struct corpus *corpus); /* half opened is fine */

/* The queue's handler: one document from original to searchable. */
bool corpus_ingest(void *ctx, struct queue_job *job, struct error *err);

#endif
