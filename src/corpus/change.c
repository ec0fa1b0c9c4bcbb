/* The change from one model to another: the new one loaded beside the old, its space filled, the
 * role given to it at once, the old space dropped.
 *
 * Invariants:
 *  1. A model takes its role in one transaction, in which no READY document that could be embedded
 *     lacks vectors of it. Its owner stands in the role before the next transaction begins.
 *  2. A space is dropped only when no name in use is its model's, and nobody has taken its owner;
 *     which are to go is noted with the change ("reindex.drop"). */
#include "corpus/reindex.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    for (int role = 0; role < CORPUS_ROLES; role++) {
        enum model_state state;
        bool ready = corpus_owner_settled(&state, owners[role]) && state == MODEL_READY;
        same = same || (!r->borrowed && ready && owners[role]->space == r->next->space);
    }
    corpus_owners_give(owners);
    if (same)
        return error_set_code(err, ERROR_CONFLICT, "in_use", "%s is in use already", r->next->name);
    r->n_needs = 0;
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (r->roles >> role & 1)
            r->needs[r->n_needs++] = (struct vector_need){corpus_vector_kind((enum model_role)role),
                                                          r->next->space};
    }
    lock_take(&r->lock);
    r->role = r->n_needs == 2 ? "both" : info->takes_images ? "visual" : "text";
    snprintf(r->space, sizeof r->space, "%s", info->space);
    lock_drop(&r->lock);
    return check_role(r, err);
}

bool corpus_change_load(struct reindex *r, struct error *err) {
    struct corpus *corpus = r->corpus;
    enum model_state state = MODEL_FAILED;
    r->borrowed = strcmp(r->plan.model, REINDEX_SHARED) == 0;
    if (r->borrowed) {
        r->next = corpus_owner_take(corpus, ROLE_VISUAL);
    } else {
        r->next = corpus_owner_open(corpus, "new", r->plan.model, false);
        r->next->either = true;
        if (!corpus_owner_start(r->next, err))
            return false;
    }
    if (!corpus_reindex_settled(&state, r, r->next, err))
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
bool corpus_change_leave(struct reindex *r) {
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
void corpus_change_stay(struct reindex *r) {
    if (r->next && r->borrowed)
        corpus_owner_give(r->next);
    else if (r->next != r->corpus->next)
        corpus_owner_close(r->next);
    r->next = NULL;
}

/* ---- the change ----------------------------------------------------------------------------- */

/* In tx: nobody commits a document meanwhile. *complete false: others came. */
static bool switch_in(struct owner *old[CORPUS_ROLES], bool *complete, struct reindex *r,
                      struct store_tx *tx, int64_t n_tolerated, struct error *err) {
    struct lacking_count lacking;
    json_t *drop = json_array();
    if (!corpus_pass_count(&lacking, r, 0, INT64_MAX, err)) {
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
        (!store_put_meta(tx, REINDEX_META, NULL, err) ||
         !store_put_meta(tx, REINDEX_META_DROP, text, err))) {
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

bool corpus_change_make(struct owner *old[CORPUS_ROLES], struct reindex *r, struct error *err) {
    bool complete = false;
    while (!complete) {
        int64_t n_left;
        r->after = 0;
        if (!corpus_pass_documents(&n_left, r, err) || !check_any(r, n_left, err) ||
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

/* The owner that no role has any more: one at most, as two give way only together. */
bool corpus_change_retire(struct owner *const old[CORPUS_ROLES], struct corpus *corpus) {
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
void corpus_change_drop(struct corpus *corpus) {
    struct arena *arena = arena_new(0);
    struct store_tx *tx;
    struct error err;
    char *text;
    size_t i;
    json_t *name;
    bool ok = store_get_meta(&text, arena, corpus->store, REINDEX_META_DROP, &err);
    json_t *names = ok && text ? json_loads(text, 0, NULL) : NULL;
    json_array_foreach(names, i, name) {
        ok = ok && drop_spaces_of(arena, corpus, json_string_value(name), &err);
    }
    if (ok && text) {
        fault_point("reindex_dropped");
        ok = store_begin(&tx, corpus->store, &err);
        if (ok && store_put_meta(tx, REINDEX_META_DROP, NULL, &err)) {
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
