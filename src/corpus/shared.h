/* corpus, inside: documents shared with other workers through a store of vectors (chroma.h). */
#ifndef DOCUSEARCH_CORPUS_SHARED_H
#define DOCUSEARCH_CORPUS_SHARED_H

#include "chroma/legacy.h"
#include "corpus/owner.h"
#include "corpus/sharing.h"
#include "store/shared.h"

#define SHARED_DOWN "backend_unavailable"
#define SHARED_PENDING 256 /* documents of others that are not whole yet, at most */

/* How many rows there are, and whether they are enough. */
struct rows {
    struct {
        char uuid[40];
        int64_t most; /* since a document was removed last */
    } of[CHROMA_MAX_COLLECTIONS];
    int64_t wanted[2], n_records; /* by the last look at all records */
    int64_t judge_ms, fell_ms;    /* monotonic; 0: nothing to be judged, nothing fell */
    int n_short;                  /* looks that found fewer */
    bool each;                    /* every document is being looked at, by number */
    int64_t after, begun_ms;
    int64_t rest_ms; /* monotonic: not again before */
};

struct shared {
    struct corpus *corpus;
    struct chroma *chroma;
    struct chroma_legacy *older; /* older.h */
    char *worker;                /* "host:folder" */
    struct thread *thread;

    struct lock lock; /* LOCK_READ, over what follows; nothing is called under it */
    struct signal_cond changed;
    atomic_bool stopping;
    bool woken, looked; /* looked: the store was asked once at least */
    int64_t epoch;      /* of the store as it is now; 0: it does not answer, or never did yet */
    char epoch_id[SHA256_HEX + 1]; /* the store's own name for it */
    struct error why;              /* it does not, and why; kind 0: it does */
    struct error spaces;           /* a model's vectors are not to be shared, and why; or kind 0 */
    int64_t n_older;               /* documents of the Python worker that were not brought over */
    int64_t n_refused;             /* documents that it did not take, in the last pass */
    struct error refused;

    /* The thread's own. */
    int64_t since_ms;   /* changes of others are known up to here, by their clocks */
    int64_t looked_ms;  /* monotonic: when all records were looked at last */
    int64_t older_ms;   /* monotonic: when the Python worker's collections were looked at last */
    int64_t refused_ms; /* monotonic: when documents were refused last */
    char pending[SHARED_PENDING][SHA256_HEX + 1];
    int n_pending;
    int64_t newest_ms; /* of the changes that are known, by their clocks */
    struct rows rows;
};

/* The spaces of the models in use; of one that is not loaded that which has its vectors. */
struct shared_spaces {
    struct chroma_spaces names;
    int numbers[2]; /* of the index, by enum item_kind; 0: none */
};
bool corpus_shared_spaces(struct shared_spaces *out, struct arena *arena, struct corpus *corpus,
                          struct error *err);

/* ---- shared.c ---- */

bool corpus_shared_open(struct corpus *corpus, struct error *err); /* nothing where it is not set */
bool corpus_shared_start(struct corpus *corpus, struct error *err); /* its thread */
void corpus_shared_stop(struct corpus *corpus);
void corpus_shared_close(struct corpus *corpus); /* half opened is fine */
void corpus_shared_wake(struct corpus *corpus);  /* something is to be told */
/* The number of the store as it is now. ERROR_BUSY backend_unavailable: it does not answer. */
bool corpus_shared_epoch(int64_t *epoch, struct corpus *corpus, struct error *err);

/* Is the store still that of this epoch? Else ERROR_BUSY backend_unavailable. */
bool corpus_shared_check_epoch(struct corpus *corpus, int64_t epoch, struct error *err);

/* ---- share.c ---- */

/* Puts an own READY document into the store and notes that; job: is ended in the same transaction,
 * or NULL. ERROR_CONFLICT removed: another worker removed it meanwhile, and it is gone here. */
bool corpus_share(struct corpus *corpus, struct queue_job *job, const char *doc_id,
                  struct error *err);
/* An own document as the store has it now: put again where what is there is of an older generation,
 * or lost rows; of a later one noted to be. What a put from here left behind of a document that was
 * removed here is to be removed too. */
bool corpus_share_meet(struct corpus *corpus, const struct chroma_record *record,
                       struct error *err);
/* Notes, in a transaction of its own, that the store of this epoch has the document as this. */
bool corpus_share_seen(struct corpus *corpus, const char *doc_id, int64_t generation, int64_t epoch,
                       const char *revision, struct error *err);
/* In the transaction that makes a document READY: searches do not show it before it is shared,
 * unless it was so before. */
bool corpus_share_hold(struct corpus *corpus, struct store_tx *tx, const char *doc_id,
                       struct error *err);
/* Is it read, and held until it is shared? */
bool corpus_share_is_held(bool *out, struct corpus *corpus, const char *doc_id, struct error *err);
/* Was the document read, and held, by this job before? Then it needs but sharing. */
bool corpus_share_is_left(bool *out, struct corpus *corpus, const struct job_row *job,
                          struct error *err);
/* May searches show it? */
bool corpus_share_shows(bool *out, struct corpus *corpus, const char *doc_id, struct error *err);

/* ---- mirror.c ---- */

/* One document of the store as it is there now: taken in, renewed, or removed here. *whole false:
 * not all of it is there yet. */
bool corpus_mirror(bool *whole, struct corpus *corpus, const struct chroma_record *record,
                   struct error *err);

/* ---- move.c ---- */

/* A document's vectors from elsewhere on their way into the index here; zeros but for the first
 * three. */
struct carrying {
    struct corpus *corpus;
    const char *doc_id;
    struct shared_spaces spaces;     /* of the models in use here */
    struct index_writer *writers[2]; /* by enum item_kind; of one space the first */
};
bool corpus_carry_add(struct carrying *carrying, enum item_kind kind, int item,
                      const float *vectors, int n, struct error *err);
bool corpus_carry_commit(struct carrying *carrying, struct error *err);
void corpus_carry_end(struct carrying *carrying); /* what is not committed is dropped */

/* ---- shared_search.c ---- */

/* Documents that may be missing from an answer. */
struct shared_gaps {
    int64_t n_unshared; /* that the store was not seen to have, counted before it was asked */
    int64_t n_older;    /* of the Python worker, whose vectors are of another model than this */
};
/* As index_search, of the store's vectors. */
bool corpus_shared_search(struct index_hit **out, int *n, struct shared_gaps *gaps,
                          struct index_effort *effort, struct arena *arena, struct corpus *corpus,
                          const struct index_query *query, struct error *err);
/* As index_fit, of an item that the index here does not have. */
bool corpus_shared_fit(struct index_fit *out, struct arena *arena, struct corpus *corpus,
                       const char *doc_id, enum item_kind kind, int item, const float *query,
                       int n_query, struct error *err);

#endif
