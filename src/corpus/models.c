/* The models: one owner a loaded model, found when the corpus opens, loaded on its own thread when
 * it starts.
 *
 * Invariants:
 *  1. state leaves LOADING once, to READY or FAILED; model and space are set before it is READY and
 *     stay.
 *  2. An owner's threads end before its model is closed. */
#include "corpus/owner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COVER_MS 1000
#define OFF "none"
#define SHARED "visual" /* TEXT_MODEL: the visual model's text tower */

const char *model_state_name(enum model_state state) {
    switch (state) {
    case MODEL_READY:
        return "ready";
    case MODEL_LOADING:
        return "loading";
    case MODEL_NOT_INSTALLED:
        return "not_installed";
    case MODEL_FAILED:
        return "failed";
    case MODEL_OFF:
        return "off";
    }
    return "failed";
}

/* ---- loading -------------------------------------------------------------------------------- */

static void set_state(struct owner *owner, enum model_state state, const char *reason) {
    lock_take(&owner->lock);
    owner->state = state;
    snprintf(owner->reason, sizeof owner->reason, "%s", reason);
    cond_wake_all(&owner->changed);
    lock_drop(&owner->lock);
}

static bool check_takes(const struct owner *owner, const struct model_info *info,
                        struct error *err) {
    if (owner->wants_images ? info->takes_images : info->takes_text)
        return true;
    return error_set_code(err, ERROR_UNSUPPORTED, "wrong_model", "%s (%s) does not read %s",
                          owner->name, info->family, owner->wants_images ? "pictures" : "text");
}

static bool is_stopping(void *ctx) {
    struct owner *owner = ctx;
    lock_take(&owner->lock);
    bool stopping = owner->stopping;
    lock_drop(&owner->lock);
    return stopping;
}

static bool open_model(struct model **out, int *space, struct owner *owner, struct error *err) {
    struct corpus *corpus = owner->corpus;
    const struct settings *settings = corpus->settings;
    char *packed_dir = mem_printf("%s/packed", settings->models_dir);
    struct model_options options = {.name = owner->name,
                                    .folder = owner->folder,
                                    .packed_dir = packed_dir,
                                    .query_prompt = settings->query_prompt,
                                    .settings = settings,
                                    .stop = is_stopping,
                                    .stop_ctx = owner};
    *out = NULL;
    bool ok = precision_parse(&options.precision, settings->model_precision, err) &&
              model_open(out, corpus->device, &options, err);
    if (ok) {
        const struct model_info *info = model_info(*out);
        struct space_info named = {.name = info->space, .dim = info->dim, .late = info->late};
        ok = check_takes(owner, info, err) && index_space(space, corpus->index, &named, err);
    }
    if (!ok) {
        model_close(*out);
        *out = NULL;
    }
    mem_free(packed_dir);
    return ok;
}

static void say_ready(const struct owner *owner, const struct model_info *info) {
    struct device_info device;
    char label[48];
    device_info(&device, owner->corpus->device);
    log_info("The %s model is ready: %s, %s on %s, %.1f s%s", owner->what, info->name,
             precision_name(info->precision), device.name, info->load_seconds,
             info->packed_from_disk ? " (weights were packed before)" : "");
    snprintf(label, sizeof label, "model=\"%s\"", owner->what);
    metric_set("docusearch_model_load_seconds", label, "Time a model took to load.",
               info->load_seconds);
}

static enum vector_kind kind_of(enum model_role role) {
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
    struct owner *owner = corpus->owners[role];
    int64_t now_ms = time_mono_ms();
    int space;
    *out = (struct vector_cover){0};
    if (!ready_space(&space, owner))
        return true;
    lock_take(&owner->lock);
    int64_t looked_ms = corpus->covers[role].looked_ms;
    *out = corpus->covers[role].cover;
    lock_drop(&owner->lock);
    if (looked_ms > 0 && now_ms - looked_ms < COVER_MS)
        return true;
    if (!store_vector_cover(out, corpus->store, space, kind_of(role), NULL, err))
        return false;
    lock_take(&owner->lock);
    corpus->covers[role].cover = *out;
    corpus->covers[role].looked_ms = now_ms;
    lock_drop(&owner->lock);
    return true;
}

int64_t corpus_without_vectors(struct corpus *corpus, enum model_role role) {
    struct vector_cover cover;
    struct error unused;
    return corpus_cover(&cover, corpus, role, &unused) ? cover.n_without : -1;
}

bool corpus_lacks_vectors(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    *out = false;
    for (int role = 0; role < CORPUS_ROLES && !*out; role++) {
        struct vector_cover cover;
        int space;
        if (!ready_space(&space, corpus->owners[role]))
            continue;
        if (!store_vector_cover(&cover, corpus->store, space, kind_of((enum model_role)role),
                                doc_id, err))
            return false;
        *out = cover.n_without > 0;
    }
    return true;
}

static void say_without(struct owner *owner) {
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (owner->corpus->owners[role] != owner)
            continue;
        int64_t n = corpus_without_vectors(owner->corpus, (enum model_role)role);
        if (n > 0)
            log_warn("Documents without vectors of their %s by %s: %" PRId64
                     "; searches by it pass them over until they are added again",
                     role == ROLE_VISUAL ? "pages" : "passages", owner->name, n);
    }
}

static bool load(struct owner *owner, struct error *err) {
    struct model *model;
    int space = 0;
    if (!open_model(&model, &space, owner, err))
        return false;
    lock_take(&owner->lock);
    owner->model = model;
    owner->space = space;
    lock_drop(&owner->lock);
    say_ready(owner, model_info(model));
    set_state(owner, MODEL_READY, "");
    say_without(owner);
    return true;
}

static void own(void *arg) {
    struct owner *owner = arg;
    struct error err;
    if (load(owner, &err)) {
        corpus_owner_work(owner);
        return;
    }
    if (is_stopping(owner)) { /* what became of the loading is of no concern */
        corpus_owner_refuse(owner, MODEL_READY, &err);
    } else {
        log_error("the %s model %s cannot be used: %s", owner->what, owner->name, err.text);
        set_state(owner, MODEL_FAILED, err.text);
        corpus_owner_refuse(owner, MODEL_FAILED, &err);
    }
    corpus_owner_end_all(owner, &err);
}

/* ---- an owner's life ------------------------------------------------------------------------ */

struct owner *corpus_owner_open(struct corpus *corpus, const char *what, const char *name,
                                bool wants_images) {
    struct owner *owner = mem_alloc(sizeof *owner);
    struct arena *arena = arena_new(0);
    owner->corpus = corpus;
    owner->what = what;
    owner->name = name;
    owner->wants_images = wants_images;
    owner->questions.last = &owner->questions.first;
    owner->others.last = &owner->others.first;
    lock_init(&owner->lock, LOCK_STORE);
    cond_init(&owner->changed);
    struct model_place place = {.folder = "", .problem = ""};
    if (strcmp(name, OFF) == 0) {
        owner->state = MODEL_OFF;
        snprintf(owner->reason, sizeof owner->reason, "switched off");
    } else {
        model_locate(&place, arena, corpus->settings, name);
        owner->state = place.installed   ? MODEL_LOADING
                       : place.origin[0] ? MODEL_FAILED /* there, but not whole */
                                         : MODEL_NOT_INSTALLED;
        snprintf(owner->reason, sizeof owner->reason, "%s",
                 place.installed ? "loading" : place.problem);
    }
    owner->folder = mem_strdup(place.installed ? place.folder : "");
    arena_free(arena);
    return owner;
}

bool corpus_owner_start(struct owner *owner, struct error *err) {
    bool ok = true;
    /* Two who start it at once: the second finds the thread. */
    lock_take(&owner->lock);
    if (owner->state == MODEL_LOADING && !owner->thread && !owner->stopping) {
        char name[16];
        snprintf(name, sizeof name, "model-%s", owner->what);
        ok = thread_start(&owner->thread, name, own, owner, err);
        if (ok && owner->wants_images)
            ok = thread_start(&owner->helper, "pictures", corpus_owner_decode, owner, err);
    }
    lock_drop(&owner->lock);
    return ok;
}

void corpus_owner_stop(struct owner *owner) {
    lock_take(&owner->lock);
    owner->stopping = true;
    cond_wake_all(&owner->changed);
    lock_drop(&owner->lock);
    thread_join(owner->helper);
    thread_join(owner->thread);
    owner->helper = owner->thread = NULL;
}

void corpus_owner_close(struct owner *owner) {
    if (!owner)
        return;
    corpus_owner_stop(owner);
    model_close(owner->model);
    cond_fini(&owner->changed);
    lock_fini(&owner->lock);
    mem_free(owner->folder);
    mem_free(owner);
}

bool corpus_owner_takes_part(struct owner *owner) {
    lock_take(&owner->lock);
    enum model_state state = owner->state;
    lock_drop(&owner->lock);
    return state == MODEL_READY || state == MODEL_LOADING;
}

bool corpus_refuse(enum model_state state, const char *what, const char *reason,
                   struct error *err) {
    switch (state) {
    case MODEL_READY:
        return error_set_code(err, ERROR_BUSY, "stopping", "the program is stopping");
    case MODEL_LOADING:
        return error_set_code(err, ERROR_BUSY, "model_loading", "the %s model is loading", what);
    case MODEL_NOT_INSTALLED:
        return error_set_code(err, ERROR_DEVICE, "model_not_installed", "no %s model is installed",
                              what);
    case MODEL_FAILED:
        return error_set_code(err, ERROR_DEVICE, "model_failed",
                              "the %s model could not be loaded: %.180s", what, reason);
    case MODEL_OFF:
        return error_set_code(err, ERROR_DEVICE, "model_not_installed",
                              "the %s model is switched off", what);
    }
    return false;
}

bool corpus_owner_refuse(struct owner *owner, enum model_state state, struct error *err) {
    return corpus_refuse(state, owner->what, owner->reason, err);
}

/* ---- all of them ---------------------------------------------------------------------------- */

bool corpus_models_open(struct corpus *corpus, struct error *err) {
    const struct settings *settings = corpus->settings;
    struct error why;
    if (!device_open(&corpus->device, settings->device, 0, &why)) {
        if (settings->device_strict || strcmp(why.code, "device_not_available") != 0) {
            *err = why;
            return false;
        }
        log_debug("%s; the processor computes", why.text);
        if (!device_open(&corpus->device, "cpu", 0, err))
            return false;
    }
    corpus->owners[ROLE_VISUAL] = corpus_owner_open(corpus, "visual", settings->model_name, true);
    corpus->owners[ROLE_TEXT] = strcmp(settings->text_model, SHARED) == 0
                                    ? corpus->owners[ROLE_VISUAL]
                                    : corpus_owner_open(corpus, "text", settings->text_model,
                                                        false);
    return true;
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

void corpus_models_stop(struct corpus *corpus) {
    for (int role = 0; role < CORPUS_ROLES; role++) {
        if (corpus->owners[role])
            corpus_owner_stop(corpus->owners[role]);
    }
}

void corpus_models_close(struct corpus *corpus) {
    if (corpus->owners[ROLE_TEXT] != corpus->owners[ROLE_VISUAL])
        corpus_owner_close(corpus->owners[ROLE_TEXT]);
    corpus_owner_close(corpus->owners[ROLE_VISUAL]);
    device_close(corpus->device);
}

void corpus_model(struct model_facts *out, struct arena *arena, struct corpus *corpus,
                  enum model_role role) {
    struct owner *owner = corpus->owners[role];
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
    device_info(&device, corpus->device);
    out->precision = precision_name(info->precision);
    out->device = arena_strdup(arena, device.name);
    out->space = arena_strdup(arena, info->space);
    out->dim = info->dim;
    out->late = info->late;
    out->load_seconds = info->load_seconds;
}

void corpus_device(struct device_info *out, struct corpus *corpus) {
    device_info(out, corpus->device);
}

struct index *corpus_index(struct corpus *corpus) {
    return corpus->index;
}
