/* Reindexing: documents embedded again in jobs of their own, a window of them in the queue at a
 * time; and the change from one model to another.
 *
 * The run is noted in the store ("reindex") from its first moment to its last, so that the next
 * start goes on with it. What is done is known by the documents' rows, or, where all are embedded
 * again, by the place in their order up to which jobs were queued, which is noted in the
 * transaction that queues them. */
#include "corpus/reindex.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- noted ---------------------------------------------------------------------------------- */

bool corpus_reindex_put_plan(struct store_tx *tx, const struct plan *plan, struct error *err) {
    json_t *json = json_pack("{s:b, s:i, s:s, s:I, s:I}", "all", plan->all, "move", (int)plan->move,
                             "model", plan->model, "after", (json_int_t)plan->after, "until",
                             (json_int_t)plan->until);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    bool ok = text ? store_put_meta(tx, REINDEX_META, text, err)
                   : error_set(err, ERROR_INPUT, "the model's name is no UTF-8");
    json_decref(json);
    free(text); /* jansson's */
    return ok;
}

static bool note_plan(struct corpus *corpus, const struct plan *plan, struct error *err) {
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (corpus_reindex_put_plan(tx, plan, err))
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
    if (ok && !(store_put_meta(tx, REINDEX_META, NULL, err) &&
                (!drop[0] || store_put_meta(tx, REINDEX_META_DROP, text, err)))) {
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
    bool ok = store_get_meta(&text, arena, corpus->store, REINDEX_META, err);
    json_t *json = ok && text ? json_loads(text, 0, NULL) : NULL;
    const char *model = json_string_value(json_object_get(json, "model"));
    if (model) {
        *found = true;
        plan->all = json_is_true(json_object_get(json, "all"));
        plan->move = (enum move)json_integer_value(json_object_get(json, "move"));
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
bool corpus_reindex_goes_on(struct reindex *r, int64_t wait_ms, struct error *err) {
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

bool corpus_reindex_settled(enum model_state *state, struct reindex *r, struct owner *owner,
                            struct error *err) {
    while (!corpus_owner_settled(state, owner)) {
        if (!corpus_reindex_goes_on(r, REINDEX_LOOK_MS, err))
            return false;
    }
    return true;
}

/* ---- by the models in use ------------------------------------------------------------------- */

static bool need_in_use(struct reindex *r, struct error *err) {
    struct owner *owners[CORPUS_ROLES];
    enum model_state states[CORPUS_ROLES];
    corpus_owners_take(owners, r->corpus);
    bool ok = true;
    r->n_needs = 0;
    for (int role = 0; role < CORPUS_ROLES && ok; role++) {
        ok = corpus_reindex_settled(&states[role], r, owners[role], err);
        if (ok && states[role] == MODEL_READY)
            r->needs[r->n_needs++] = (struct vector_need){corpus_vector_kind((enum model_role)role),
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

/* ---- a run ---------------------------------------------------------------------------------- */

static bool run(struct owner *old[CORPUS_ROLES], struct reindex *r, struct error *err) {
    int64_t n_left;
    if (r->plan.move != MOVE_NONE)
        return corpus_move_run(r, err);
    if (!(r->plan.model[0] ? corpus_change_load(r, err) : need_in_use(r, err)) ||
        !corpus_pass_total(r, err))
        return false;
    return r->plan.model[0] ? corpus_change_make(old, r, err)
                            : corpus_pass_documents(&n_left, r, err);
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
        corpus_change_stay(r);
        return;
    }
    if (!ok)
        corpus_pass_cancel(r);
    bool left = corpus_change_leave(r);
    end(r, ok, &err);
    if (left && (!old[0] || corpus_change_retire(old, r->corpus)))
        corpus_change_drop(r->corpus);
}

static void work(void *arg) {
    struct reindex *r = arg;
    corpus_change_drop(r->corpus);
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
    bool shared = strcmp(model, REINDEX_SHARED) == 0, used = false;
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
static bool reserve(bool *known, struct reindex *r, const struct plan *plan, struct error *err) {
    lock_take(&r->lock);
    bool running = r->state == REINDEX_RUNNING;
    *known = running && r->plan.all == plan->all && r->plan.move == plan->move &&
             strcmp(r->plan.model, plan->model) == 0;
    if (!running) {
        mem_free(r->plan.model);
        r->plan = *plan;
        r->plan.model = mem_strdup(plan->model);
        begin(r);
    }
    lock_drop(&r->lock);
    return !running || *known ||
           error_set_code(err, ERROR_CONFLICT, "reindex_running",
                          "another reindexing is under way: wait for it, or cancel it");
}

static bool make_plan(struct plan *out, const struct corpus *corpus, enum reindex_mode mode,
                      const char *model, struct error *err) {
    out->model = (char *)model; /* borrowed; reserve keeps a copy */
    out->all = mode == REINDEX_ALL;
    out->move = mode == REINDEX_TO_STORE   ? MOVE_TO_STORE
                : mode == REINDEX_TO_INDEX ? MOVE_TO_INDEX
                                           : MOVE_NONE;
    if (model[0] && mode != REINDEX_MISSING)
        return error_set(err, ERROR_INPUT,
                         "another model embeds every document: the mode is of those in use");
    if (out->move != MOVE_NONE && !corpus->shared)
        return error_set_code(err, ERROR_CONFLICT, "not_shared",
                              "CHROMA_HOST is not set: there is no store to bring vectors into or "
                              "from");
    return true;
}

bool corpus_reindex(struct corpus *corpus, enum reindex_mode mode, const char *model,
                    struct error *err) {
    struct reindex *r = corpus->reindex;
    struct plan plan = {0};
    bool known;
    if (!r->thread)
        return error_set(err, ERROR_CONFLICT, "documents are embedded by a running corpus");
    if (!make_plan(&plan, corpus, mode, model, err) ||
        (model[0] && !check_model(corpus, model, err)) || !reserve(&known, r, &plan, err))
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

static const char *mode_name(const struct plan *plan) {
    switch (plan->move) {
    case MOVE_TO_STORE:
        return "store";
    case MOVE_TO_INDEX:
        return "index";
    case MOVE_NONE:
        break;
    }
    return plan->all ? "all" : "missing";
}

void corpus_reindex_facts(struct reindex_facts *out, struct arena *arena, struct corpus *corpus) {
    struct reindex *r = corpus->reindex;
    *out = (struct reindex_facts){.remaining_ms = -1};
    lock_take(&r->lock);
    bool running = r->state == REINDEX_RUNNING, any = r->plan.model != NULL;
    int64_t took_ms = running ? time_mono_ms() - r->begun_ms : r->took_ms;
    int64_t n_now = r->n_done - r->n_done_before;
    out->state = r->state;
    out->mode = !any ? "" : mode_name(&r->plan);
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
