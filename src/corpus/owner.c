/* An owner: a loaded model, or one on its way, on a thread of its own.
 *
 * Invariants:
 *  1. state leaves LOADING once, to READY or FAILED; model and space are set before it is READY and
 *     stay.
 *  2. An owner's threads end before its model is closed. */
#include "corpus/owner.h"

#include <stdio.h>
#include <string.h>

#define OFF "none"

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

/* A model that may be of either kind is what it reads. */
static void choose_work(struct owner *owner, const struct model_info *info) {
    lock_take(&owner->lock);
    owner->wants_images = info->takes_images;
    owner->what = info->takes_images ? "visual" : "text";
    lock_drop(&owner->lock);
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
        if (owner->either)
            choose_work(owner, info);
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
    corpus_models_loaded(owner);
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
    owner->name = mem_strdup(name);
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
        if (ok && (owner->wants_images || owner->either))
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
    mem_free(owner->name);
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

bool corpus_owner_settled(enum model_state *state, struct owner *owner) {
    lock_take(&owner->lock);
    *state = owner->state;
    lock_drop(&owner->lock);
    return *state != MODEL_LOADING;
}
