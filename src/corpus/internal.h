/* corpus, inside: what its files share. */
#ifndef DOCUSEARCH_CORPUS_INTERNAL_H
#define DOCUSEARCH_CORPUS_INTERNAL_H

#include "corpus/corpus.h"

#include <limits.h>
#include <stdatomic.h>

#define CORPUS_STRIPES 64
#define CORPUS_JOB_INGEST "ingest"
#define CORPUS_JOB_EMBED "embed"     /* by the models that the document lacks vectors of */
#define CORPUS_JOB_REEMBED "reembed" /* by all */
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
    struct questions *questions; /* explain.h */
    struct lock owners_lock;     /* LOCK_READ, over what follows and the owners' n_refs */
    struct signal_cond owners_changed;
    struct owner *owners[CORPUS_ROLES]; /* by enum model_role; one may stand twice */
    struct owner *next;                 /* is to be in use, ready; NULL: none */
    unsigned next_roles;                /* bits 1 << enum model_role */
    struct owner *retired;              /* waits to be given back by all; NULL: none */
    char *warnings[CORPUS_ROLES];       /* why another model is in use than was asked for */
    struct {
        struct vector_cover cover;
        int space;
        int64_t looked_ms; /* monotonic; 0: never */
    } covers[CORPUS_ROLES];

    struct reindex *reindex;
    struct uploads *uploads;  /* watch.c; NULL until corpus_start */
    struct import *import;    /* export.h */
    struct shared *shared;    /* shared.h; NULL: CHROMA_HOST is not set */
    corpus_listener listener; /* NULL: none */
    void *listener_ctx;
    atomic_bool started, stopping;
    /* One is held while a document's files and rows change together, so that a removal and an
     * upload of the same bytes never interleave. Chosen by the id; a thread holds at most one. */
    struct lock stripes[CORPUS_STRIPES];
};

void corpus_tell(struct corpus *corpus, enum document_change change, const char *doc_id,
                 const char *filename);
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
/* What another worker removed: goes, unless it is of a later generation; out->found: it went. */
bool corpus_take_removal(struct removed *out, struct corpus *corpus, const char *doc_id,
                         int64_t generation, struct error *err);
/* Files that no row names, left by what went wrong. The caller holds the id's stripe. */
void corpus_drop_unnamed(struct corpus *corpus, const char *doc_id);

/* models.c: the device and the owners of the models. */
bool corpus_device_open(struct corpus *corpus, struct error *err);
bool corpus_models_open(struct corpus *corpus, struct error *err); /* after device and index */
bool corpus_models_start(struct corpus *corpus, struct error *err);
void corpus_models_stop(struct corpus *corpus);
enum vector_kind corpus_vector_kind(enum model_role role); /* what its vectors are of */
/* How the space of the role's model covers the documents, a second old at most; nothing at all
 * unless the model is ready. */
bool corpus_cover(struct vector_cover *out, struct corpus *corpus, enum model_role role,
                  struct error *err);
void corpus_cover_forget(struct corpus *corpus); /* the next looks again */
/* Does the READY document lack the vectors of a model in use that is ready? */
bool corpus_lacks_vectors(bool *out, struct corpus *corpus, const char *doc_id, struct error *err);
void corpus_models_close(struct corpus *corpus); /* half opened is fine */
/* Does the space belong to the model of this name: "<name>@<hash>/…"? */
bool corpus_space_is_of(const char *space, const char *name);
/* Documents that are read from now on are embedded by next too; NULL: by those in use alone. */
void corpus_models_offer(struct corpus *corpus, struct owner *next, unsigned roles);
/* In tx: its roles have next in use, and *old what they had. Then, tx committed: back NULL; or not:
 * back what it was. */
bool corpus_models_switch(struct owner *old[CORPUS_ROLES], struct store_tx *tx,
                          struct corpus *corpus, struct error *err);
void corpus_models_switched(struct corpus *corpus, struct owner *const back[CORPUS_ROLES]);

/* The queue's handler, by the job's kind. */
bool corpus_work(void *ctx, struct queue_job *job, struct error *err);
/* One document from original to searchable. */
bool corpus_ingest(struct corpus *corpus, struct queue_job *job, struct error *err);

/* ---- reindex.c ---- */

bool corpus_reindex_open(struct corpus *corpus, struct error *err);
bool corpus_reindex_start(struct corpus *corpus, struct error *err); /* its thread */
void corpus_reindex_stop(struct corpus *corpus);
void corpus_reindex_close(struct corpus *corpus); /* half opened is fine */

/* ---- import.c ---- */

void corpus_import_open(struct corpus *corpus);
void corpus_import_stop(struct corpus *corpus);
void corpus_import_close(struct corpus *corpus); /* half opened is fine */

/* ---- watch.c ---- */

bool corpus_uploads_start(struct corpus *corpus, struct error *err); /* its thread */
void corpus_uploads_stop(struct corpus *corpus);
void corpus_uploads_close(struct corpus *corpus); /* never started is fine */
/* The file at the real path was taken with this state; any thread. */
struct stat;
void corpus_uploads_taken(struct corpus *corpus, const char *path, const struct stat *st);

/* ---- damage.c ---- */

/* What the index found damaged, and finds from now on, is taken out and embedded again. A command
 * that starts nothing leaves it to the next that does. */
void corpus_watch_damage(struct corpus *corpus);

/* ---- reembed.c ---- */

/* One READY document embedded again from what is stored of it: by the models that it lacks vectors
 * of, or (job "reembed") by all. Where its pictures are gone its original is read again. */
bool corpus_reembed(struct corpus *corpus, struct queue_job *job, struct error *err);
/* Queues that in tx, unless such a job waits already; *job_id is the one that does it. After the
 * commit call queue_wake. *put false: the document is not READY, or not there. */
bool corpus_put_reembed(int64_t *job_id, bool *put, struct corpus *corpus, struct store_tx *tx,
                        const char *kind, const char *doc_id, struct error *err);

#endif
