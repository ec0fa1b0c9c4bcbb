/* corpus, inside: the owner of a loaded model, and what it is given to embed. */
#ifndef DOCUSEARCH_CORPUS_OWNER_H
#define DOCUSEARCH_CORPUS_OWNER_H

#include "corpus/internal.h"

#include <stdatomic.h>

/* Works of one client, which waits for them, or takes them back, together. Zero-initialise. */
struct work_group {
    int n_open; /* put and not yet done */
    bool withdrawn;
};
enum work_state {
    WORK_WAITING,  /* for its picture to be decoded */
    WORK_DECODING, /* by the owner's helper */
    WORK_READY,
    WORK_RUNNING,
};
/* One input on its way through an owner, the client's storage; from done on it may be put again. */
struct work {
    struct model_input input; /* borrowed text or picture */
    const char *picture_path; /* of a picture to decode, borrowed; else NULL */
    /* out NULL: it cannot be embedded, err says why; out lives during the call. On the owner's
     * thread, without locks. Not called once the group was withdrawn. */
    void (*done)(void *ctx, struct work *work, const struct embedding *out,
                 const struct error *err);
    void *ctx;
    struct work_group *group;

    /* The owner's. */
    enum work_state state;
    uint8_t *pixels; /* decoded */
    bool undecodable;
    struct error why;
    struct work *next;
};
struct work_list {
    struct work *first, **last;
    int n;
};

#define OWNER_RATES 8

/* What was embedded of a kind. */
struct owner_work {
    struct {
        int n;
        double seconds;
    } rates[OWNER_RATES]; /* of the last batches, a ring */
    int rate_i;
    int64_t n_embedded;
};

struct owner {
    struct corpus *corpus;
    const char *what; /* "visual", "text" */
    char *name;       /* as the setting has it */
    char *folder;     /* "" where it is not installed */
    bool wants_images;
    bool either; /* set before it is started: what, wants_images follow from the model */
    int n_refs;  /* under the corpus' lock of owners */

    struct lock lock; /* LOCK_STORE, over what follows; nothing is called under it */
    struct signal_cond changed;
    enum model_state state;
    char reason[320];
    struct model *model; /* set once, with state READY; the owner's thread alone embeds with it */
    int space;
    bool stopping;
    struct thread *thread, *helper; /* NULL: not started */
    struct work_list questions, others;
    int n_running, n_decoded;
    int64_t decoded_bytes;
    struct owner_work done[2]; /* passages, pages */
};

/* ---- owner.c ---- */

/* Locates the model; starts nothing. Never fails: what is wrong is its state. */
struct owner *corpus_owner_open(struct corpus *corpus, const char *what, const char *name,
                                bool wants_images);
/* Its threads, unless there is nothing to own or they run already. */
bool corpus_owner_start(struct owner *owner, struct error *err);
void corpus_owner_stop(struct owner *owner);
void corpus_owner_close(struct owner *owner); /* stops first; NULL is fine */
/* Installed, and not refused: loaded or on its way. */
bool corpus_owner_takes_part(struct owner *owner);
/* Why it cannot embed, of a state that is not READY; returns false. */
bool corpus_owner_refuse(struct owner *owner, enum model_state state, struct error *err);

/* Is the owner's model neither loading nor waiting for its owner to start? */
bool corpus_owner_settled(enum model_state *state, struct owner *owner);

/* ---- models.c ---- */

/* The owner of the role's model in use. It, its model and its space stay until it is given back,
 * also when another model takes the role meanwhile. */
struct owner *corpus_owner_take(struct corpus *corpus, enum model_role role);
void corpus_owner_ref(struct owner *owner);  /* of one that is taken: once more */
void corpus_owner_give(struct owner *owner); /* NULL is fine */
/* Those of all roles, as they are at one moment. */
void corpus_owners_take(struct owner *out[CORPUS_ROLES], struct corpus *corpus);
void corpus_owners_give(struct owner *const owners[CORPUS_ROLES]);
/* Closes it once nobody has it taken; false: the corpus stops first, and it stays open. */
bool corpus_owner_retire(struct owner *owner);
/* The owner's thread, when its model is ready: notes that it is in use, says what lacks vectors. */
void corpus_models_loaded(struct owner *owner);

/* Whom a document is embedded by: the owners in use, and the one that is to be. */
struct vector_target {
    struct owner *owner; /* taken */
    unsigned roles;      /* bits 1 << enum model_role: what it embeds of the document */
    bool next;           /* it is to be in use */
    bool passed_over;    /* it has nothing to do for this document */
};
struct vector_targets {
    struct vector_target items[CORPUS_ROLES + 1];
    int n;
};
void corpus_targets_take(struct vector_targets *out, struct corpus *corpus);
void corpus_targets_give(struct vector_targets *targets);
/* Does each role's model in use stand among them? */
bool corpus_targets_current(const struct vector_targets *targets, struct corpus *corpus);
/* Does the READY document lack vectors of the target, whose model is ready? */
bool corpus_target_lacks(bool *out, const struct vector_target *target, const char *doc_id,
                         struct error *err);

/* ---- embed.c ---- */

/* As corpus_embed, by an owner that the caller has taken. */
bool corpus_owner_embed(struct embedding *out, struct arena *arena, struct owner *owner,
                        const struct model_input *inputs, int n, struct error *err);

/* In the queue, or refused: the model is not there, or the owner stops. Any thread. */
bool corpus_owner_put(struct owner *owner, struct work *work, struct error *err);
/* Until all works of the group are done or deadline_ms (monotonic) has passed: false. */
bool corpus_owner_wait(struct owner *owner, struct work_group *group, int64_t deadline_ms);
/* Takes back what has not begun, and waits for the rest, at most a batch. */
void corpus_owner_withdraw(struct owner *owner, struct work_group *group);
/* The owner's thread, once the model is loaded, until it is told to stop. */
void corpus_owner_work(struct owner *owner);
/* The helper's thread: decodes pictures ahead of the owner. arg: the owner. */
void corpus_owner_decode(void *arg);
/* Gives every work that waits its end. */
void corpus_owner_end_all(struct owner *owner, const struct error *why);

#endif
