/* corpus, inside: a reindexing: the run, its passes over documents, the change of models. */
#ifndef DOCUSEARCH_CORPUS_REINDEX_H
#define DOCUSEARCH_CORPUS_REINDEX_H

#include "corpus/owner.h"
#include "store/lacking.h"

#define REINDEX_META "reindex"
#define REINDEX_META_DROP "reindex.drop"
#define REINDEX_SHARED "visual" /* as a model's name: passages by the visual one's text tower */
#define REINDEX_LOOK_MS 50
#define REINDEX_WINDOW 64 /* jobs of the run in the queue, at most */

/* What is asked for: as it is noted. */
enum move { MOVE_NONE, MOVE_TO_STORE, MOVE_TO_INDEX };
struct plan {
    bool all;
    enum move move;
    char *model; /* "": those in use */
    int64_t after, until;
};

struct reindex {
    struct corpus *corpus;
    struct thread *thread;

    struct lock lock; /* LOCK_READ, over what follows; nothing is called under it */
    struct signal_cond changed;
    bool stopping, wanted, cancel_asked;
    enum reindex_state state;
    struct plan plan; /* changed by the thread alone while the state is RUNNING */
    const char *role, *outcome;
    char space[256], note[256];
    struct error error; /* of the last run, or kind 0 */
    int64_t n_done, n_total, n_failed, n_pages;
    int64_t n_done_before;     /* by an earlier run of the program */
    int64_t begun_ms, took_ms; /* monotonic */
    int64_t started_ms, finished_ms;

    /* The thread's own. */
    struct owner *next; /* NULL: none */
    bool borrowed;      /* next is in use by another role */
    unsigned roles;
    struct vector_need needs[CORPUS_ROLES];
    int n_needs;
    int64_t after; /* documents up to here have their job */
    int64_t open[REINDEX_WINDOW];
    int n_open, n_failed_row; /* failed one after another */
    int64_t down_ms; /* monotonic: since when the shared store does not answer; 0: it does */
    int64_t n_failed_pass;
    struct error last; /* why a document could not be embedded */
};

/* ---- reindex.c ---- */

/* After at most wait_ms. False: the program stops (ERROR_BUSY stopping), or the run is cancelled.
 */
bool corpus_reindex_goes_on(struct reindex *r, int64_t wait_ms, struct error *err);
/* Until the owner's model is loaded or refused. False as above. */
bool corpus_reindex_settled(enum model_state *state, struct reindex *r, struct owner *owner,
                            struct error *err);
bool corpus_reindex_put_plan(struct store_tx *tx, const struct plan *plan, struct error *err);

/* ---- pass.c ---- */

/* How much there is to do by r's needs, and what an earlier start has done of it. */
bool corpus_pass_total(struct reindex *r, struct error *err);
/* Every document that lacks what is needed, until no pass leaves fewer lacking than the one before;
 * *n_left counts them. */
bool corpus_pass_documents(int64_t *n_left, struct reindex *r, struct error *err);
bool corpus_pass_count(struct lacking_count *out, struct reindex *r, int64_t after, int64_t until,
                       struct error *err);
void corpus_pass_cancel(struct reindex *r); /* the jobs that have not ended */

/* ---- move.c ---- */

/* Own documents into the shared store, or those of others into the index. */
bool corpus_move_run(struct reindex *r, struct error *err);

/* ---- change.c ---- */

/* Loads the model of the plan and offers it: documents that are read from now on are embedded by it
 * too. Sets next, roles and needs. */
bool corpus_change_load(struct reindex *r, struct error *err);
/* Embeds what lacks vectors of next and puts it into its roles; *old are the owners before. */
bool corpus_change_make(struct owner *old[CORPUS_ROLES], struct reindex *r, struct error *err);
/* The run goes on without next; false: the program ends first, and corpus_models_close closes it.
 */
bool corpus_change_leave(struct reindex *r);
/* The program ends, and the next start goes on: a model that is offered stays, for
 * corpus_models_close. */
void corpus_change_stay(struct reindex *r);
/* Closes the owner that no role has any more: one at most, as two give way only together. False:
 * the program ends first. */
bool corpus_change_retire(struct owner *const old[CORPUS_ROLES], struct corpus *corpus);
/* The spaces of models that a change left behind, of this run or of one before. */
void corpus_change_drop(struct corpus *corpus);

#endif
