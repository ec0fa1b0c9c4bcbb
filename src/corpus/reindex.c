/* Reindexing: documents embedded again in jobs of their own, a window of them in the queue at a
 * time; and the change from one model to another.
 *
 * The run is noted in the store ("reindex") from its first moment to its last, so that the next
 * start goes on with it. What is done is known by the documents' rows, or, where all are embedded
 * again, by the place in their order up to which jobs were queued, which is noted in the
 * transaction that queues them.
 *
 * Invariants:
 *  1. A model takes its role in one transaction, in which no READY document that could be embedded
 *     lacks vectors of it. Its owner stands in the role before the next transaction begins.
 *  2. A space is dropped only when no name in use is its model's, and nobody has taken its owner;
 *     which are to go is noted with the change ("reindex.drop"). */
#include "corpus/owner.h"
#include "store/lacking.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define META "reindex"
#define META_DROP "reindex.drop"
#define SHARED "visual"
#define LOOK_MS 50
#define WINDOW 64 /* jobs of the run in the queue, at most */
#define MAX_PASSES 100
#define IN_A_ROW 20 /* documents that fail one after another end the run */

/* What is asked for: as it is noted. */
struct plan {
    bool all;
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
    int64_t open[WINDOW];
    int n_open, n_failed_row;
    struct error last; /* why a document could not be embedded */
};

/* ---- noted ---------------------------------------------------------------------------------- */

static bool put_plan(struct store_tx *tx, const struct plan *plan, struct error *err) {
    json_t *json = json_pack("{s:b, s:s, s:I, s:I}", "all", plan->all, "model", plan->model,
                             "after", (json_int_t)plan->after, "until", (json_int_t)plan->until);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    bool ok = text ? store_put_meta(tx, META, text, err)
                   : error_set(err, ERROR_INPUT, "the model's name is no UTF-8");
    json_decref(json);
    free(text); /* jansson's */
    return ok;
}

static bool note_plan(struct corpus *corpus, const struct plan *plan, struct error *err) {
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (put_plan(tx, plan, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

/* The run is over; drop: a model whose spaces are to go, or "". */
static bool note_end(struct corpus *corpus, const char *drop, struct error *err) {
    struct store_tx *tx;
    json_t *names = json_pack("[s]", drop);
    char *text = json_dumps(names, JSON_COMPACT);
    json_decref(names);
    bool ok = store_begin(&tx, corpus->store, err);
    if (ok && !(store_put_meta(tx, META, NULL, err) &&
                (!drop[0] || store_put_meta(tx, META_DROP, text, err)))) {
        store_rollback(tx);
        ok = false;
    } else if (ok) {
        ok = store_commit(tx, err);
    }
    free(text); /* jansson's */
    return ok;
}

/* The run that an earlier start left; *found false: none. */
static bool find_plan(struct plan *plan, bool *found, struct corpus *corpus, struct error *err) {
    struct arena *arena = arena_new(0);
    char *text;
    *found = false;
    bool ok = store_get_meta(&text, arena, corpus->store, META, err);
    json_t *json = ok && text ? json_loads(text, 0, NULL) : NULL;
    const char *model = json_string_value(json_object_get(json, "model"));
    if (model) {
        *found = true;
        plan->all = json_is_true(json_object_get(json, "all"));
        plan->model = mem_strdup(model);
        plan->after = json_integer_value(json_object_get(json, "after"));
        plan->until = json_integer_value(json_object_get(json, "until"));
    }
    json_decref(json);
    arena_free(arena);
    return ok;
}

/* ---- the thread's pauses -------------------------------------------------------------------- */

/* False: the program stops, or the run is cancelled. */
static bool goes_on(struct reindex *r, int64_t wait_ms, struct error *err) {
    int64_t until_ms = time_mono_ms() + wait_ms;
    lock_take(&r->lock);
    while (!r->stopping && !r->cancel_asked && wait_ms > 0 && time_mono_ms() < until_ms)
        cond_wait(&r->changed, &r->lock, until_ms);
    bool stopping = r->stopping, cancelled = r->cancel_asked;
    lock_drop(&r->lock);
    if (stopping)
        return error_set_code(err, ERROR_BUSY, "stopping", "the program is stopping");
    if (cancelled)
        return error_set_code(err, ERROR_CONFLICT, "cancelled", "the reindexing was cancelled");
    return true;
}

static bool wait_settled(enum model_state *state, struct reindex *r, struct owner *owner,
                         struct error *err) {
    while (!corpus_owner_settled(state, owner)) {
        if (!goes_on(r, LOOK_MS, err))
            return false;
    }
    return true;
}

static void set_note(struct reindex *r, const char *text) {
    lock_take(&r->lock);
    snprintf(r->note, sizeof r->note, "%s", text);
    lock_drop(&r->lock);
}

/* ---- by the models in use ------------------------------------------------------------------- */

static enum vector_kind kind_of(int role) {
    return role == ROLE_VISUAL ? VECTORS_PAGE : VECTORS_CHUNK;
}

static bool need_in_use(struct reindex *r, struct error *err) {
    struct owner *owners[CORPUS_ROLES];
    enum model_state states[CORPUS_ROLES];
    corpus_owners_take(owners, r->corpus);
    bool ok = true;
    r->n_needs = 0;
    for (int role = 0; role < CORPUS_ROLES && ok; role++) {
        ok = wait_settled(&states[role], r, owners[role], err);
        if (ok && states[role] == MODEL_READY)
            r->needs[r->n_needs++] = (struct vector_need){kind_of(role),
                                                          r->plan.all ? 0 : owners[role]->space};
    }
    if (ok && r->n_needs == 0) {
        int role = states[ROLE_TEXT] == MODEL_OFF ? ROLE_VISUAL : ROLE_TEXT;
        ok = corpus_owner_refuse(owners[role], states[role], err);
    }
    lock_take(&r->lock);
    r->role = r->n_needs == 2                    ? "both"
              : r->n_needs == 0                  ? ""
              : r->needs[0].kind == VECTORS_PAGE ? "visual"
                                                 : "text";
    lock_drop(&r->lock);
    corpus_owners_give(owners);
    return ok;
}

/* ---- by another model ----------------------------------------------------------------------- */

static bool check_role(struct reindex *r, struct error *err) {
    const struct settings *settings = r->corpus->settings;
    for (int role = 0; role < CORPUS_ROLES; role++) {
        const char *variable = role == ROLE_VISUAL ? "MODEL_NAME" : "TEXT_MODEL";
        const char *wanted = role == ROLE_VISUAL ? settings->model_name : settings->text_model;
        if (r->roles >> role & 1 && strcmp(wanted, "none") == 0)
            return error_set_code(err, ERROR_CONFLICT, "switched_off",
                                  "%s is 'none': that role's model is switched off", variable);
    }
    return true;
}

/* Which roles the model takes: what it reads; a visual model takes passages too where the one in
 * use has both. */
static bool choose_roles(struct reindex *r, struct error *err) {
    struct owner *owners[CORPUS_ROLES];
    const struct model_info *info = model_info(r->next->model);
    corpus_owners_take(owners, r->corpus);
    bool shared = owners[ROLE_VISUAL] == owners[ROLE_TEXT];
    bool same = false;
    r->roles = info->takes_images ? 1u << ROLE_VISUAL : 1u << ROLE_TEXT;
    if (r->borrowed || (info->takes_images && info->takes_text && shared))
        r->roles = 1u << ROLE_VISUAL | 1u << ROLE_TEXT;
    for (int role = 0; role < CORPUS_ROLES; role++)
        same = same || (!r->borrowed && owners[role]->state == MODEL_READY &&
                        owners[role]->space == r->next->space);
    corpus_owners_give(owners);
    if (same)
        return error_set_code(err, ERROR_CONFLICT, "in_use", "%s is in use already", r->next->name);
    r->n_needs = 0;
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (r->roles >> role & 1)
            r->needs[r->n_needs++] = (struct vector_need){kind_of(role), r->next->space};
    }
    lock_take(&r->lock);
    r->role = r->n_needs == 2 ? "both" : info->takes_images ? "visual" : "text";
    snprintf(r->space, sizeof r->space, "%s", info->space);
    lock_drop(&r->lock);
    return check_role(r, err);
}

static bool load_next(struct reindex *r, struct error *err) {
    struct corpus *corpus = r->corpus;
    enum model_state state = MODEL_FAILED;
    r->borrowed = strcmp(r->plan.model, SHARED) == 0;
    if (r->borrowed) {
        r->next = corpus_owner_take(corpus, ROLE_VISUAL);
    } else {
        r->next = corpus_owner_open(corpus, "new", r->plan.model, false);
        r->next->either = true;
        if (!corpus_owner_start(r->next, err))
            return false;
    }
    if (!wait_settled(&state, r, r->next, err))
        return false;
    if (state == MODEL_NOT_INSTALLED)
        return error_set_code(err, ERROR_MISSING, "model_not_installed", "%s: %s", r->plan.model,
                              r->next->reason);
    if (state != MODEL_READY)
        return corpus_owner_refuse(r->next, state, err);
    if (!choose_roles(r, err))
        return false;
    corpus_models_offer(corpus, r->next, r->roles);
    fault_point("reindex_loaded");
    return true;
}

/* The run goes on without the model; false: the program ends first, and corpus_models_close closes
 * it. */
static bool leave_next(struct reindex *r) {
    struct owner *next = r->next;
    bool borrowed = r->borrowed;
    r->next = NULL;
    r->borrowed = false;
    if (!next)
        return true;
    corpus_models_offer(r->corpus, NULL, 0);
    if (!borrowed)
        return corpus_owner_retire(next);
    corpus_owner_give(next);
    return true;
}

/* The program ends, and the next start goes on: a model that is offered stays, for
 * corpus_models_close. */
static void stay(struct reindex *r) {
    if (r->next && r->borrowed)
        corpus_owner_give(r->next);
    else if (r->next != r->corpus->next)
        corpus_owner_close(r->next);
    r->next = NULL;
}

/* ---- documents ------------------------------------------------------------------------------ */

/* Takes the jobs that have ended out of the window. */
static bool settle(struct reindex *r, struct error *err) {
    struct arena *arena = arena_new(0);
    const char *why = "";
    bool ok = true;
    int n = 0, n_open = r->n_open;
    for (int i = 0; i < n_open; i++) {
        struct job_row job;
        bool found = false;
        ok = ok && store_find_job(&job, &found, arena, r->corpus->store, r->open[i], err);
        bool live = !ok || (found && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING));
        if (ok && live && job.error_text[0])
            why = job.error_text;
        if (live) {
            r->open[n++] = r->open[i];
            continue;
        }
        bool done = !found || job.state == JOB_COMPLETED;
        r->n_failed_row = done ? 0 : r->n_failed_row + 1;
        if (!done)
            error_set_code(&r->last, ERROR_INTERNAL,
                           job.error_code[0] ? job.error_code : "cancelled", "%s: %s", job.filename,
                           job.error_text[0] ? job.error_text : "cancelled");
        lock_take(&r->lock);
        r->n_done += done;
        r->n_failed += !done;
        r->n_pages += found && done ? job.n_pages : 0;
        lock_drop(&r->lock);
    }
    r->n_open = n;
    set_note(r, why);
    arena_free(arena);
    return ok;
}

static bool put_jobs(struct reindex *r, const struct lacking_row *rows, int n, struct error *err) {
    struct corpus *corpus = r->corpus;
    const char *kind = r->plan.all ? CORPUS_JOB_REEMBED : CORPUS_JOB_EMBED;
    int64_t jobs[WINDOW];
    int n_put = 0;
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        bool put = false;
        ok = corpus_put_reembed(&jobs[n_put], &put, corpus, tx, kind, rows[i].doc_id, err);
        n_put += ok && put;
    }
    r->plan.after = rows[n - 1].doc_no;
    if (!ok || !put_plan(tx, &r->plan, err)) {
        store_rollback(tx);
        return false;
    }
    if (!store_commit(tx, err))
        return false;
    fault_point("reindex_queued");
    r->after = rows[n - 1].doc_no;
    memcpy(r->open + r->n_open, jobs, (size_t)n_put * sizeof jobs[0]);
    r->n_open += n_put;
    queue_wake(corpus->queue);
    return true;
}

/* Fills the window; *n counts the documents that were taken up. */
static bool fill(int *n, struct reindex *r, struct error *err) {
    int n_workers = r->corpus->settings->n_workers;
    int room = (n_workers * 4 < WINDOW ? n_workers * 4 : WINDOW) - r->n_open;
    struct lacking_row *rows;
    *n = 0;
    if (room <= 0)
        return true;
    struct arena *arena = arena_new(0);
    bool ok = store_list_lacking(&rows, n, arena, r->corpus->store, r->needs, r->n_needs, r->after,
                                 r->plan.until, room, err) &&
              (*n == 0 || put_jobs(r, rows, *n, err));
    arena_free(arena);
    return ok;
}

/* Every document in its order. A full disk is waited for. */
static bool pass(struct reindex *r, struct error *err) {
    for (;;) {
        int n = 0;
        if (!goes_on(r, 0, err))
            return false;
        bool ok = settle(r, err) && fill(&n, r, err);
        if (!ok && strcmp(err->code, "disk_full") != 0)
            return false;
        if (!ok)
            set_note(r, err->text);
        if (r->n_failed_row >= IN_A_ROW) {
            *err = r->last;
            return false;
        }
        if (ok && n == 0 && r->n_open == 0)
            return true;
        if (n == 0 && !goes_on(r, LOOK_MS, err))
            return false;
    }
}

static bool count(struct lacking_count *out, struct reindex *r, int64_t after, int64_t until,
                  struct error *err) {
    return store_count_lacking(out, r->corpus->store, r->needs, r->n_needs, after, until, err);
}

/* Jobs that an earlier start queued and that have not ended. */
static bool adopt(struct reindex *r, struct error *err) {
    struct arena *arena = arena_new(0);
    struct job_row *jobs;
    int n;
    int64_t total;
    bool ok = store_list_jobs(&jobs, &n, &total, arena, r->corpus->store,
                              1u << JOB_QUEUED | 1u << JOB_PROCESSING, 1000, 0, err);
    for (int i = 0; ok && i < n && r->n_open < WINDOW; i++) {
        if (strcmp(jobs[i].kind, CORPUS_JOB_REEMBED) == 0)
            r->open[r->n_open++] = jobs[i].job_id;
    }
    arena_free(arena);
    return ok;
}

/* How much there is to do, and what an earlier start has done of it. */
static bool set_total(struct reindex *r, struct error *err) {
    struct lacking_count lacking, every;
    struct vector_need kinds[CORPUS_ROLES];
    for (int i = 0; i < r->n_needs; i++)
        kinds[i] = (struct vector_need){r->needs[i].kind, 0};
    if (r->plan.all && r->plan.until == 0) {
        if (!count(&every, r, 0, INT64_MAX, err))
            return false;
        r->plan.until = every.last;
    } else if (!r->plan.all) {
        r->plan.until = INT64_MAX;
        r->plan.after = 0;
    }
    r->after = r->plan.after;
    if (!count(&lacking, r, r->after, r->plan.until, err) ||
        !store_count_lacking(&every, r->corpus->store, kinds, r->n_needs, 0, r->plan.until, err))
        return false;
    if (r->plan.after > 0 && !adopt(r, err))
        return false;
    bool whole = r->plan.all || r->plan.model[0];
    lock_take(&r->lock);
    r->n_total = whole ? every.documents : lacking.documents;
    r->n_done = r->n_total - lacking.documents - r->n_open;
    r->n_done_before = r->n_done;
    r->begun_ms = time_mono_ms();
    lock_drop(&r->lock);
    return true;
}

/* Until no pass leaves fewer documents lacking than the one before; *n_left counts them. */
static bool embed_documents(int64_t *n_left, struct reindex *r, struct error *err) {
    struct lacking_count lacking;
    *n_left = INT64_MAX;
    for (int i = 0; i < MAX_PASSES; i++) {
        int64_t before = *n_left;
        if (!pass(r, err))
            return false;
        if (r->plan.all)
            break;
        if (!count(&lacking, r, 0, INT64_MAX, err))
            return false;
        *n_left = lacking.documents;
        if (*n_left == 0 || *n_left >= before)
            break;
        r->after = 0;
    }
    lock_take(&r->lock);
    int64_t n_failed = r->n_failed;
    lock_drop(&r->lock);
    if (n_failed == 0 || *n_left == 0)
        return true;
    *err = r->last;
    error_prefix(err, "%" PRId64 " documents could not be embedded; the last: ", n_failed);
    return false;
}

/* ---- the change ----------------------------------------------------------------------------- */

/* In tx: nobody commits a document meanwhile. *complete false: others came. */
static bool switch_in(struct owner *old[CORPUS_ROLES], bool *complete, struct reindex *r,
                      struct store_tx *tx, int64_t n_tolerated, struct error *err) {
    struct lacking_count lacking;
    json_t *drop = json_array();
    if (!count(&lacking, r, 0, INT64_MAX, err)) {
        json_decref(drop);
        return false;
    }
    *complete = lacking.documents <= n_tolerated;
    bool ok = !*complete || corpus_models_switch(old, tx, r->corpus, err);
    for (int role = 0; role < CORPUS_ROLES && *complete && ok; role++) {
        if (r->roles >> role & 1)
            json_array_append_new(drop, json_string(old[role]->name));
    }
    char *text = json_dumps(drop, JSON_COMPACT);
    json_decref(drop);
    if (*complete && ok &&
        (!store_put_meta(tx, META, NULL, err) || !store_put_meta(tx, META_DROP, text, err))) {
        corpus_models_switched(r->corpus, old);
        ok = false;
    }
    free(text); /* jansson's */
    return ok;
}

static bool switch_models(struct owner *old[CORPUS_ROLES], bool *complete, struct reindex *r,
                          int64_t n_tolerated, struct error *err) {
    struct store_tx *tx;
    *complete = false;
    if (!store_begin(&tx, r->corpus->store, err))
        return false;
    bool ok = switch_in(old, complete, r, tx, n_tolerated, err);
    if (!ok || !*complete) {
        store_rollback(tx);
        return ok;
    }
    fault_point("reindex_switching");
    ok = store_commit(tx, err);
    corpus_models_switched(r->corpus, ok ? NULL : old);
    if (ok)
        fault_point("reindex_switched");
    return ok;
}

/* A model of which nothing came takes no role. */
static bool check_any(struct reindex *r, int64_t n_left, struct error *err) {
    for (int i = 0; i < r->n_needs && n_left > 0; i++) {
        struct vector_cover cover;
        if (!store_vector_cover(&cover, r->corpus->store, r->needs[i].space, r->needs[i].kind, NULL,
                                err))
            return false;
        if (!cover.any && cover.n_without > 0)
            return error_set_code(err, ERROR_UNSUPPORTED, "nothing_embedded",
                                  "%s gave no vectors of any document", r->next->name);
    }
    return true;
}

static bool change_model(struct owner *old[CORPUS_ROLES], struct reindex *r, struct error *err) {
    bool complete = false;
    while (!complete) {
        int64_t n_left;
        r->after = 0;
        if (!embed_documents(&n_left, r, err) || !check_any(r, n_left, err) ||
            !switch_models(old, &complete, r, n_left, err))
            return false;
    }
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (r->roles >> role & 1)
            log_info("The %s model in use is %s; it was %s",
                     role == ROLE_VISUAL ? "visual" : "text", r->next->name, old[role]->name);
    }
    if (r->borrowed)
        corpus_owner_give(r->next);
    r->next = NULL;
    r->borrowed = false;
    return true;
}

/* Owners that no role has any more. Invariant 2's first half. */
static bool retire(struct owner *const old[CORPUS_ROLES], struct corpus *corpus) {
    bool all = true;
    for (int role = 0; role < CORPUS_ROLES; role++) {
        bool used = role > 0 && old[role] == old[0]; /* seen already */
        lock_take(&corpus->owners_lock);
        for (int i = 0; i < CORPUS_ROLES; i++)
            used = used || corpus->owners[i] == old[role];
        lock_drop(&corpus->owners_lock);
        all = all && (used || corpus_owner_retire(old[role]));
    }
    return all;
}

static bool is_in_use(struct corpus *corpus, const char *name) {
    bool used = false;
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++)
        used = used || strcmp(corpus->owners[role]->name, name) == 0;
    lock_drop(&corpus->owners_lock);
    return used;
}

static bool drop_spaces_of(struct arena *arena, struct corpus *corpus, const char *name,
                           struct error *err) {
    struct space_facts *spaces;
    int n;
    if (is_in_use(corpus, name))
        return true;
    if (!index_spaces(&spaces, &n, arena, corpus->index, err))
        return false;
    for (int i = 0; i < n; i++) {
        if (!corpus_space_is_of(spaces[i].name, name))
            continue;
        if (!index_drop_space(corpus->index, spaces[i].space, err))
            return false;
        log_info("The vectors of %s are gone: %" PRId64 " items", spaces[i].name,
                 spaces[i].n_items);
    }
    return true;
}

/* What a change of models left behind, of this run or of one before. */
static void drop_spaces(struct corpus *corpus) {
    struct arena *arena = arena_new(0);
    struct store_tx *tx;
    struct error err;
    char *text;
    size_t i;
    json_t *name;
    bool ok = store_get_meta(&text, arena, corpus->store, META_DROP, &err);
    json_t *names = ok && text ? json_loads(text, 0, NULL) : NULL;
    json_array_foreach(names, i, name) {
        ok = ok && drop_spaces_of(arena, corpus, json_string_value(name), &err);
    }
    if (ok && text) {
        fault_point("reindex_dropped");
        ok = store_begin(&tx, corpus->store, &err);
        if (ok && store_put_meta(tx, META_DROP, NULL, &err)) {
            ok = store_commit(tx, &err);
        } else if (ok) {
            store_rollback(tx);
            ok = false;
        }
    }
    if (!ok)
        log_warn("Vectors of a model that is not in use stay behind: %s", err.text);
    json_decref(names);
    arena_free(arena);
}

/* ---- a run ---------------------------------------------------------------------------------- */

static void cancel_jobs(struct reindex *r) {
    for (int i = 0; i < r->n_open; i++) {
        bool found;
        struct error err;
        if (!queue_cancel(r->corpus->queue, &found, r->open[i], &err))
            log_warn("a job of the reindexing goes on: %s", err.text);
    }
    r->n_open = 0;
}

static bool run(struct owner *old[CORPUS_ROLES], struct reindex *r, struct error *err) {
    int64_t n_left;
    if (!(r->plan.model[0] ? load_next(r, err) : need_in_use(r, err)) || !set_total(r, err))
        return false;
    return r->plan.model[0] ? change_model(old, r, err) : embed_documents(&n_left, r, err);
}

static void end(struct reindex *r, bool ok, const struct error *why) {
    bool cancelled = !ok && strcmp(why->code, "cancelled") == 0;
    bool model = r->plan.model[0] != '\0';
    struct error err;
    if (!(ok && model) && !note_end(r->corpus, cancelled ? r->plan.model : "", &err))
        log_warn("the end of the reindexing is not noted: %s", err.text);
    if (!ok && !cancelled)
        log_error("The reindexing ended: %s", why->text);
    else
        log_info("Reindexing %s: %" PRId64 " documents", ok ? "is complete" : "was cancelled",
                 r->n_done - r->n_done_before);
    corpus_cover_forget(r->corpus);
    lock_take(&r->lock);
    r->state = ok || cancelled ? REINDEX_IDLE : REINDEX_FAILED;
    r->outcome = ok ? "completed" : cancelled ? "cancelled" : "failed";
    if (!ok && !cancelled)
        r->error = *why;
    r->finished_ms = time_wall_ms();
    r->took_ms = time_mono_ms() - r->begun_ms;
    r->wanted = r->cancel_asked = false;
    r->note[0] = '\0';
    lock_drop(&r->lock);
}

static void run_once(struct reindex *r) {
    struct owner *old[CORPUS_ROLES] = {NULL};
    struct error err = {0};
    r->n_open = r->n_failed_row = 0;
    bool ok = run(old, r, &err);
    if (!ok && strcmp(err.code, "stopping") == 0) {
        stay(r);
        return;
    }
    if (!ok)
        cancel_jobs(r);
    bool left = leave_next(r);
    end(r, ok, &err);
    if (left && (!old[0] || retire(old, r->corpus)))
        drop_spaces(r->corpus);
}

static void work(void *arg) {
    struct reindex *r = arg;
    drop_spaces(r->corpus);
    for (;;) {
        lock_take(&r->lock);
        while (!r->stopping && !r->wanted)
            cond_wait(&r->changed, &r->lock, -1);
        bool stopping = r->stopping;
        lock_drop(&r->lock);
        if (stopping)
            break;
        run_once(r);
    }
}

/* ---- its life ------------------------------------------------------------------------------- */

static void begin(struct reindex *r) {
    r->state = REINDEX_RUNNING;
    r->role = r->outcome = "";
    r->space[0] = r->note[0] = '\0';
    r->error = (struct error){0};
    r->n_done = r->n_total = r->n_failed = r->n_pages = r->n_done_before = 0;
    r->begun_ms = time_mono_ms();
    r->started_ms = time_wall_ms();
    r->finished_ms = 0;
}

bool corpus_reindex_open(struct corpus *corpus, struct error *err) {
    struct reindex *r = mem_alloc(sizeof *r);
    corpus->reindex = r;
    r->corpus = corpus;
    r->role = r->outcome = "";
    lock_init(&r->lock, LOCK_READ);
    cond_init(&r->changed);
    if (!find_plan(&r->plan, &r->wanted, corpus, err))
        return false;
    if (r->wanted)
        begin(r);
    return true;
}

bool corpus_reindex_start(struct corpus *corpus, struct error *err) {
    struct reindex *r = corpus->reindex;
    if (r->wanted)
        log_info("The reindexing of an earlier run goes on%s%s", r->plan.model[0] ? ": by " : "",
                 r->plan.model);
    return r->thread || thread_start(&r->thread, "reindex", work, r, err);
}

void corpus_reindex_stop(struct corpus *corpus) {
    struct reindex *r = corpus->reindex;
    if (!r)
        return;
    lock_take(&r->lock);
    r->stopping = true;
    cond_wake_all(&r->changed);
    lock_drop(&r->lock);
    lock_take(&corpus->owners_lock);
    corpus->stopping = true;
    cond_wake_all(&corpus->owners_changed);
    lock_drop(&corpus->owners_lock);
    thread_join(r->thread);
    r->thread = NULL;
}

void corpus_reindex_close(struct corpus *corpus) {
    struct reindex *r = corpus->reindex;
    if (!r)
        return;
    corpus_reindex_stop(corpus);
    cond_fini(&r->changed);
    lock_fini(&r->lock);
    mem_free(r->plan.model);
    mem_free(r);
    corpus->reindex = NULL;
}

/* ---- asked for ------------------------------------------------------------------------------ */

static bool check_model(struct corpus *corpus, const char *model, struct error *err) {
    struct owner *owners[CORPUS_ROLES];
    struct arena *arena = arena_new(0);
    struct model_place place;
    bool shared = strcmp(model, SHARED) == 0, used = false;
    corpus_owners_take(owners, corpus);
    for (int role = 0; role < CORPUS_ROLES; role++)
        used = used || strcmp(owners[role]->name, model) == 0;
    used = used || (shared && owners[ROLE_TEXT] == owners[ROLE_VISUAL]);
    model_locate(&place, arena, corpus->settings, shared ? owners[ROLE_VISUAL]->name : model);
    corpus_owners_give(owners);
    bool ok = true;
    if (strcmp(model, "none") == 0)
        ok = error_set(err, ERROR_INPUT, "'none' is no model");
    else if (used)
        ok = error_set_code(err, ERROR_CONFLICT, "in_use", "%.100s is in use already", model);
    else if (!place.installed)
        ok = error_set_code(err, ERROR_MISSING, "model_not_installed", "%.100s: %.120s", model,
                            place.problem);
    arena_free(arena);
    return ok;
}

/* *known: such a run is under way. Else the next run is ours: the state is RUNNING, and nobody
 * begins it. */
static bool reserve(bool *known, struct reindex *r, bool all, const char *model,
                    struct error *err) {
    lock_take(&r->lock);
    bool running = r->state == REINDEX_RUNNING;
    *known = running && r->plan.all == all && strcmp(r->plan.model, model) == 0;
    if (!running) {
        mem_free(r->plan.model);
        r->plan = (struct plan){.all = all, .model = mem_strdup(model)};
        begin(r);
    }
    lock_drop(&r->lock);
    return !running || *known ||
           error_set_code(err, ERROR_CONFLICT, "reindex_running",
                          "another reindexing is under way: wait for it, or cancel it");
}

bool corpus_reindex(struct corpus *corpus, bool all, const char *model, struct error *err) {
    struct reindex *r = corpus->reindex;
    bool known;
    if (!r->thread)
        return error_set(err, ERROR_CONFLICT, "documents are embedded by a running corpus");
    if (all && model[0])
        return error_set(err, ERROR_INPUT,
                         "another model embeds every document: 'all' is of those in use");
    if (model[0] && !check_model(corpus, model, err))
        return false;
    if (!reserve(&known, r, all, model, err))
        return false;
    if (known)
        return true;
    bool ok = note_plan(corpus, &r->plan, err);
    if (ok)
        fault_point("reindex_noted");
    lock_take(&r->lock);
    r->wanted = ok;
    r->state = ok ? REINDEX_RUNNING : REINDEX_FAILED;
    if (!ok)
        r->error = *err;
    cond_wake_all(&r->changed);
    lock_drop(&r->lock);
    return ok;
}

bool corpus_reindex_cancel(struct corpus *corpus) {
    struct reindex *r = corpus->reindex;
    lock_take(&r->lock);
    bool found = r->state == REINDEX_RUNNING;
    r->cancel_asked = found;
    cond_wake_all(&r->changed);
    lock_drop(&r->lock);
    return found;
}

/* Which model is asked for and not in use: only a run that names it changes that. */
static const char *warning_of(struct arena *arena, struct corpus *corpus) {
    const char *warning = NULL;
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES && !warning; role++)
        warning = corpus->warnings[role];
    const char *copy = arena_strdup(arena, warning ? warning : "");
    lock_drop(&corpus->owners_lock);
    return copy;
}

void corpus_reindex_facts(struct reindex_facts *out, struct arena *arena, struct corpus *corpus) {
    struct reindex *r = corpus->reindex;
    *out = (struct reindex_facts){.remaining_ms = -1};
    lock_take(&r->lock);
    bool running = r->state == REINDEX_RUNNING, any = r->plan.model != NULL;
    int64_t took_ms = running ? time_mono_ms() - r->begun_ms : r->took_ms;
    int64_t n_now = r->n_done - r->n_done_before;
    out->state = r->state;
    out->mode = !any ? "" : r->plan.all ? "all" : "missing";
    out->model = arena_strdup(arena, any ? r->plan.model : "");
    out->role = r->role;
    out->space = arena_strdup(arena, r->space);
    out->outcome = r->outcome;
    out->error_code = arena_strdup(arena, r->error.kind ? r->error.code : "");
    out->error_text = arena_strdup(arena, r->error.kind ? r->error.text : "");
    out->note = arena_strdup(arena, r->note);
    out->n_done = r->n_done;
    out->n_total = r->n_total > r->n_done ? r->n_total : r->n_done;
    out->n_failed = r->n_failed;
    out->n_pages = r->n_pages;
    out->started_ms = r->started_ms;
    out->finished_ms = r->finished_ms;
    lock_drop(&r->lock);
    if (!out->note[0] && !out->model[0])
        out->note = warning_of(arena, corpus);
    if (took_ms > 0)
        out->pages_per_second = 1000.0 * (double)out->n_pages / (double)took_ms;
    if (running && n_now > 0)
        out->remaining_ms = (int64_t)((double)(out->n_total - out->n_done) * (double)took_ms /
                                      (double)n_now);
}

int64_t corpus_embedding_again(struct corpus *corpus) {
    int64_t n = 0, n_all = 0;
    struct error unused;
    if (!store_count_live_jobs(&n, corpus->store, CORPUS_JOB_EMBED, &unused) ||
        !store_count_live_jobs(&n_all, corpus->store, CORPUS_JOB_REEMBED, &unused))
        return -1;
    return n + n_all;
}
