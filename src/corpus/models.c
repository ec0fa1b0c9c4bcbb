/* The models: which of them each role has in use, who holds their owners, what of the documents
 * they cover.
 *
 * The setting says which model is wanted. In use is the one that the documents were embedded by
 * (noted in the store, "model.visual" and "model.text"), so that they stay findable until a reindex
 * has embedded them by the other.
 *
 * Invariants:
 *  1. An owner that somebody has taken is not closed; its space is not dropped.
 *  2. Owners change under the lock of owners, and inside the transaction that notes it: a reading
 *     that commits later sees them. */
#include "corpus/owner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COVER_MS 1000
#define OFF "none"
#define SHARED "visual" /* TEXT_MODEL: the visual model's text tower */

static const struct {
    const char *variable, *meta, *meta_setting, *items;
} roles[CORPUS_ROLES] = {
    [ROLE_VISUAL] = {"MODEL_NAME", "model.visual", "model.visual.setting", "pages"},
    [ROLE_TEXT] = {"TEXT_MODEL", "model.text", "model.text.setting", "passages"},
};

static const char *wanted_name(const struct settings *settings, enum model_role role) {
    return role == ROLE_VISUAL ? settings->model_name : settings->text_model;
}

/* ---- taken and given back ------------------------------------------------------------------- */

struct owner *corpus_owner_take(struct corpus *corpus, enum model_role role) {
    lock_take(&corpus->owners_lock);
    struct owner *owner = corpus->owners[role];
    owner->n_refs++;
    lock_drop(&corpus->owners_lock);
    return owner;
}

void corpus_owner_ref(struct owner *owner) {
    lock_take(&owner->corpus->owners_lock);
    owner->n_refs++;
    lock_drop(&owner->corpus->owners_lock);
}

void corpus_owner_give(struct owner *owner) {
    if (!owner)
        return;
    struct corpus *corpus = owner->corpus;
    lock_take(&corpus->owners_lock);
    if (--owner->n_refs == 0)
        cond_wake_all(&corpus->owners_changed);
    lock_drop(&corpus->owners_lock);
}

void corpus_owners_take(struct owner *out[CORPUS_ROLES], struct corpus *corpus) {
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        out[role] = corpus->owners[role];
        out[role]->n_refs++;
    }
    lock_drop(&corpus->owners_lock);
}

void corpus_owners_give(struct owner *const owners[CORPUS_ROLES]) {
    for (int role = 0; role < CORPUS_ROLES; role++)
        corpus_owner_give(owners[role]);
}

bool corpus_owner_retire(struct owner *owner) {
    struct corpus *corpus = owner->corpus;
    lock_take(&corpus->owners_lock);
    corpus->retired = owner;
    while (owner->n_refs > 0 && !corpus->stopping)
        cond_wait(&corpus->owners_changed, &corpus->owners_lock, -1);
    bool free = owner->n_refs == 0;
    if (free)
        corpus->retired = NULL;
    lock_drop(&corpus->owners_lock);
    if (free)
        corpus_owner_close(owner);
    return free;
}

static void add_target(struct vector_targets *out, struct owner *owner, unsigned bits, bool next) {
    for (int i = 0; i < out->n; i++) {
        if (out->items[i].owner == owner) {
            out->items[i].roles |= bits;
            return;
        }
    }
    owner->n_refs++;
    out->items[out->n++] = (struct vector_target){.owner = owner, .roles = bits, .next = next};
}

void corpus_targets_take(struct vector_targets *out, struct corpus *corpus) {
    *out = (struct vector_targets){0};
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++)
        add_target(out, corpus->owners[role], 1u << role, false);
    if (corpus->next)
        add_target(out, corpus->next, corpus->next_roles, true);
    lock_drop(&corpus->owners_lock);
}

void corpus_targets_give(struct vector_targets *targets) {
    for (int i = 0; i < targets->n; i++)
        corpus_owner_give(targets->items[i].owner);
    targets->n = 0;
}

bool corpus_targets_current(const struct vector_targets *targets, struct corpus *corpus) {
    bool all = true;
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        bool found = false;
        for (int i = 0; i < targets->n && !found; i++)
            found = targets->items[i].owner == corpus->owners[role] &&
                    targets->items[i].roles >> role & 1;
        all = all && found;
    }
    lock_drop(&corpus->owners_lock);
    return all;
}

/* ---- what is covered ------------------------------------------------------------------------ */

enum vector_kind corpus_vector_kind(enum model_role role) {
    return role == ROLE_VISUAL ? VECTORS_PAGE : VECTORS_CHUNK;
}

/* Its space, once the model is ready. */
static bool ready_space(int *space, struct owner *owner) {
    lock_take(&owner->lock);
    bool ready = owner->state == MODEL_READY;
    *space = owner->space;
    lock_drop(&owner->lock);
    return ready;
}

bool corpus_cover(struct vector_cover *out, struct corpus *corpus, enum model_role role,
                  struct error *err) {
    struct owner *owner = corpus_owner_take(corpus, role);
    int64_t now_ms = time_mono_ms();
    int space;
    *out = (struct vector_cover){0};
    bool ready = ready_space(&space, owner), ok = true;
    corpus_owner_give(owner);
    if (!ready)
        return true;
    lock_take(&corpus->owners_lock);
    bool known = corpus->covers[role].looked_ms > 0 && corpus->covers[role].space == space &&
                 now_ms - corpus->covers[role].looked_ms < COVER_MS;
    *out = corpus->covers[role].cover;
    lock_drop(&corpus->owners_lock);
    if (known)
        return true;
    ok = store_vector_cover(out, corpus->store, space, corpus_vector_kind(role), NULL, err);
    lock_take(&corpus->owners_lock);
    corpus->covers[role].cover = *out;
    corpus->covers[role].space = space;
    corpus->covers[role].looked_ms = ok ? now_ms : 0;
    lock_drop(&corpus->owners_lock);
    return ok;
}

void corpus_cover_forget(struct corpus *corpus) {
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++)
        corpus->covers[role].looked_ms = 0;
    lock_drop(&corpus->owners_lock);
}

int64_t corpus_without_vectors(struct corpus *corpus, enum model_role role) {
    struct vector_cover cover;
    struct error unused;
    return corpus_cover(&cover, corpus, role, &unused) ? cover.n_without : -1;
}

bool corpus_target_lacks(bool *out, const struct vector_target *target, const char *doc_id,
                         struct error *err) {
    struct owner *owner = target->owner;
    int space;
    *out = false;
    if (!ready_space(&space, owner))
        return true;
    for (int role = 0; role < CORPUS_ROLES && !*out; role++) {
        struct vector_cover cover;
        if (!(target->roles >> role & 1))
            continue;
        if (!store_vector_cover(&cover, owner->corpus->store, space,
                                corpus_vector_kind((enum model_role)role), doc_id, err))
            return false;
        *out = cover.n_without > 0;
    }
    return true;
}

bool corpus_lacks_vectors(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    struct vector_targets targets;
    bool ok = true;
    *out = false;
    corpus_targets_take(&targets, corpus);
    for (int i = 0; i < targets.n && ok && !*out; i++) {
        if (!targets.items[i].next)
            ok = corpus_target_lacks(out, &targets.items[i], doc_id, err);
    }
    corpus_targets_give(&targets);
    return ok;
}

/* ---- which model a role has in use ---------------------------------------------------------- */

bool corpus_space_is_of(const char *space, const char *name) {
    size_t n = strnlen(name, 180); /* a space's name keeps so much of it */
    return strncmp(space, name, n) == 0 && space[n] == '@';
}

static bool has_vectors(bool *out, struct arena *arena, struct corpus *corpus, const char *name,
                        struct error *err) {
    struct space_facts *spaces;
    int n;
    *out = false;
    if (!index_spaces(&spaces, &n, arena, corpus->index, err))
        return false;
    for (int i = 0; i < n; i++)
        *out = *out || (spaces[i].n_items > 0 && corpus_space_is_of(spaces[i].name, name));
    return true;
}

/* The model that a name stands for: SHARED is the visual one's. */
static const char *resolved(const struct corpus *corpus, const char *name) {
    return strcmp(name, SHARED) == 0 ? corpus->owners[ROLE_VISUAL]->name : name;
}

static bool is_installed(struct arena *arena, const struct corpus *corpus, const char *name) {
    struct model_place place;
    model_locate(&place, arena, corpus->settings, resolved(corpus, name));
    return place.installed;
}

/* The name whose model the role has in use; the arena's. */
static bool choose(const char **name, struct arena *arena, struct corpus *corpus,
                   enum model_role role, struct error *err) {
    const char *wanted = wanted_name(corpus->settings, role);
    char *used, *seen;
    bool has;
    *name = wanted;
    if (strcmp(wanted, OFF) == 0)
        return true;
    if (!store_get_meta(&used, arena, corpus->store, roles[role].meta, err) ||
        !store_get_meta(&seen, arena, corpus->store, roles[role].meta_setting, err))
        return false;
    if (!used || strcmp(used, wanted) == 0 || (role == ROLE_VISUAL && strcmp(used, SHARED) == 0))
        return true;
    if (!has_vectors(&has, arena, corpus, resolved(corpus, used), err))
        return false;
    if (!has || (!is_installed(arena, corpus, used) && is_installed(arena, corpus, wanted)))
        return true;
    *name = used;
    if (seen && strcmp(seen, wanted) == 0)
        return true; /* chosen by a reindex, and the setting is as it was then */
    corpus->warnings[role] = mem_printf(
        "%s asks for %s; documents are embedded by %s: run docusearch reindex --model %s",
        roles[role].variable, wanted, used, wanted);
    log_warn("%s", corpus->warnings[role]);
    return true;
}

static bool note(struct store_tx *tx, enum model_role role, const char *name, const char *setting,
                 struct error *err) {
    return store_put_meta(tx, roles[role].meta, name, err) &&
           store_put_meta(tx, roles[role].meta_setting, setting, err);
}

/* The roles that the owner serves now, and under which names. */
static unsigned roles_of(struct owner *owner) {
    struct corpus *corpus = owner->corpus;
    unsigned bits = 0;
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++)
        bits |= (unsigned)(corpus->owners[role] == owner) << role;
    lock_drop(&corpus->owners_lock);
    return bits;
}

static const char *name_in(const struct owner *owner, unsigned bits, int role) {
    return role == ROLE_TEXT && bits >> ROLE_VISUAL & 1 ? SHARED : owner->name;
}

static bool note_in_use(struct owner *owner, unsigned bits, struct error *err) {
    struct corpus *corpus = owner->corpus;
    struct arena *arena = arena_new(0);
    bool ok = true;
    for (int role = 0; role < CORPUS_ROLES && ok; role++) {
        const char *name = name_in(owner, bits, role);
        char *noted;
        struct store_tx *tx;
        if (!(bits >> role & 1))
            continue;
        ok = store_get_meta(&noted, arena, corpus->store, roles[role].meta, err);
        if (!ok || (noted && strcmp(noted, name) == 0))
            continue;
        ok = store_begin(&tx, corpus->store, err);
        if (ok && !note(tx, (enum model_role)role, name, name, err)) {
            store_rollback(tx);
            ok = false;
        } else if (ok) {
            ok = store_commit(tx, err);
        }
    }
    arena_free(arena);
    return ok;
}

void corpus_models_loaded(struct owner *owner) {
    unsigned bits = roles_of(owner);
    struct error err;
    if (bits && !note_in_use(owner, bits, &err))
        log_warn("that %s is in use is not noted: %s", owner->name, err.text);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        int64_t n = bits >> role & 1 ? corpus_without_vectors(owner->corpus, (enum model_role)role)
                                     : 0;
        if (n > 0)
            log_warn("Documents without vectors of their %s by %s: %" PRId64
                     "; searches by it pass them over until docusearch reindex has embedded them",
                     roles[role].items, owner->name, n);
    }
}

/* ---- the change from one model to another --------------------------------------------------- */

void corpus_models_offer(struct corpus *corpus, struct owner *next, unsigned bits) {
    lock_take(&corpus->owners_lock);
    corpus->next = next;
    corpus->next_roles = bits;
    lock_drop(&corpus->owners_lock);
}

bool corpus_models_switch(struct owner *old[CORPUS_ROLES], struct store_tx *tx,
                          struct corpus *corpus, struct error *err) {
    for (int role = 0; role < CORPUS_ROLES; role++) {
        const char *name = name_in(corpus->next, corpus->next_roles, role);
        if (corpus->next_roles >> role & 1 &&
            !note(tx, (enum model_role)role, name,
                  wanted_name(corpus->settings, (enum model_role)role), err))
            return false;
    }
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        old[role] = corpus->owners[role];
        if (corpus->next_roles >> role & 1)
            corpus->owners[role] = corpus->next;
    }
    lock_drop(&corpus->owners_lock);
    return true;
}

void corpus_models_switched(struct corpus *corpus, struct owner *const back[CORPUS_ROLES]) {
    lock_take(&corpus->owners_lock);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (back) {
            corpus->owners[role] = back[role];
        } else if (corpus->next_roles >> role & 1) {
            mem_free(corpus->warnings[role]);
            corpus->warnings[role] = NULL;
        }
    }
    corpus->next = back ? corpus->next : NULL;
    lock_drop(&corpus->owners_lock);
}

/* ---- all of them ---------------------------------------------------------------------------- */

bool corpus_device_open(struct corpus *corpus, struct error *err) {
    const struct settings *settings = corpus->settings;
    struct error why;
    if (device_open(&corpus->device, settings->device, 0, &why))
        return true;
    if (settings->device_strict || strcmp(why.code, "device_not_available") != 0) {
        *err = why;
        return false;
    }
    log_debug("%s; the processor computes", why.text);
    return device_open(&corpus->device, "cpu", 0, err);
}

bool corpus_models_open(struct corpus *corpus, struct error *err) {
    const char *name;
    struct arena *arena = arena_new(0);
    bool ok = choose(&name, arena, corpus, ROLE_VISUAL, err);
    if (ok) {
        corpus->owners[ROLE_VISUAL] = corpus_owner_open(corpus, "visual", name, true);
        ok = choose(&name, arena, corpus, ROLE_TEXT, err);
    }
    if (ok)
        corpus->owners[ROLE_TEXT] = strcmp(name, SHARED) == 0
                                        ? corpus->owners[ROLE_VISUAL]
                                        : corpus_owner_open(corpus, "text", name, false);
    arena_free(arena);
    return ok;
}

/* What is missing is said once, here. */
static void say_missing(const struct owner *owner) {
    if (owner->state == MODEL_NOT_INSTALLED)
        log_info("The %s model %s is not there (%s): %s", owner->what, owner->name, owner->reason,
                 owner->wants_images ? "pages are not searched by their pictures"
                                     : "passages are searched by their words alone");
    else if (owner->state == MODEL_FAILED)
        log_error("The %s model %s cannot be used: %s", owner->what, owner->name, owner->reason);
}

bool corpus_models_start(struct corpus *corpus, struct error *err) {
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (role > 0 && corpus->owners[role] == corpus->owners[0])
            continue;
        say_missing(corpus->owners[role]);
        if (!corpus_owner_start(corpus->owners[role], err))
            return false;
    }
    return true;
}

/* Each owner that there is, once. */
static int all_owners(struct owner *out[CORPUS_ROLES + 2], struct corpus *corpus) {
    struct owner *listed[] = {corpus->owners[ROLE_VISUAL], corpus->owners[ROLE_TEXT], corpus->next,
                              corpus->retired};
    int n = 0;
    for (size_t i = 0; i < BASE_COUNT(listed); i++) {
        bool known = !listed[i];
        for (int k = 0; k < n; k++)
            known = known || out[k] == listed[i];
        if (!known)
            out[n++] = listed[i];
    }
    return n;
}

void corpus_models_stop(struct corpus *corpus) {
    struct owner *owners[CORPUS_ROLES + 2];
    lock_take(&corpus->owners_lock);
    int n = all_owners(owners, corpus);
    lock_drop(&corpus->owners_lock);
    for (int i = 0; i < n; i++)
        corpus_owner_stop(owners[i]);
}

void corpus_models_close(struct corpus *corpus) {
    struct owner *owners[CORPUS_ROLES + 2];
    int n = all_owners(owners, corpus);
    for (int i = 0; i < n; i++)
        corpus_owner_close(owners[i]);
    for (int role = 0; role < CORPUS_ROLES; role++)
        mem_free(corpus->warnings[role]);
    device_close(corpus->device);
}

/* Is it still the model that the caller has been told of? */
static bool check_space(struct owner *owner, const char *space, struct error *err) {
    enum model_state state;
    if (!space || !corpus_owner_settled(&state, owner) || state != MODEL_READY ||
        strcmp(model_info(owner->model)->space, space) == 0)
        return true;
    return error_set_code(err, ERROR_BUSY, "model_changed", "the %s model in use is now %.150s",
                          owner->what, owner->name);
}

bool corpus_embed(struct embedding *out, struct arena *arena, struct corpus *corpus,
                  enum model_role role, const char *space, const struct model_input *inputs, int n,
                  struct error *err) {
    struct owner *owner = corpus_owner_take(corpus, role);
    bool ok = check_space(owner, space, err) &&
              corpus_owner_embed(out, arena, owner, inputs, n, err);
    corpus_owner_give(owner);
    return ok;
}

static void tell_facts(struct model_facts *out, struct arena *arena, struct owner *owner,
                       enum model_role role) {
    double seconds = 0, n = 0;
    *out = (struct model_facts){.precision = "", .device = "", .space = ""};
    lock_take(&owner->lock);
    out->state = owner->state;
    out->reason = arena_strdup(arena, owner->reason);
    const struct owner_work *done = &owner->done[role == ROLE_VISUAL];
    out->n_embedded = done->n_embedded;
    out->n_waiting = owner->questions.n + owner->others.n + owner->n_running;
    for (int i = 0; i < OWNER_RATES; i++) {
        seconds += done->rates[i].seconds;
        n += done->rates[i].n;
    }
    const struct model *model = owner->state == MODEL_READY ? owner->model : NULL;
    lock_drop(&owner->lock);
    out->name = arena_strdup(arena, owner->name);
    out->items_per_second = seconds > 0 ? n / seconds : 0;
    if (!model)
        return;
    const struct model_info *info = model_info(model);
    struct device_info device;
    device_info(&device, owner->corpus->device);
    out->precision = precision_name(info->precision);
    out->device = arena_strdup(arena, device.name);
    out->space = arena_strdup(arena, info->space);
    out->dim = info->dim;
    out->late = info->late;
    out->load_seconds = info->load_seconds;
}

void corpus_model(struct model_facts *out, struct arena *arena, struct corpus *corpus,
                  enum model_role role) {
    struct owner *owner = corpus_owner_take(corpus, role);
    tell_facts(out, arena, owner, role);
    lock_take(&corpus->owners_lock);
    const char *warning = corpus->warnings[role];
    out->warning = arena_strdup(arena, warning ? warning : "");
    lock_drop(&corpus->owners_lock);
    corpus_owner_give(owner);
}

void corpus_device(struct device_info *out, struct corpus *corpus) {
    device_info(out, corpus->device);
}

struct index *corpus_index(struct corpus *corpus) {
    return corpus->index;
}
