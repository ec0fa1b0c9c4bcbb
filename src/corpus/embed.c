/* An owner at work: batches out of its queue, questions first; pictures decoded ahead by its
 * helper.
 *
 * Invariants:
 *  1. A work is in one list, or running, or done; works in lists have groups that are not
 * withdrawn.
 *  2. done is called once for every work put, but for those of a withdrawn group, and before n_open
 *     of its group falls.
 *  3. At most a batch runs ahead of it decoded pictures of two batches, or of AHEAD_BYTES. */
#include "corpus/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_BATCH 256
#define MAX_QUESTIONS 512 /* waiting; past it the asker is told to come again */
#define QUESTION_BATCH 8
#define AHEAD_BYTES ((int64_t)256 << 20)

/* ---- lists ---------------------------------------------------------------------------------- */

static void append(struct work_list *list, struct work *work) {
    work->next = NULL;
    *list->last = work;
    list->last = &work->next;
    list->n++;
}

/* Takes out the work that *at points to. */
static struct work *take_at(struct work_list *list, struct work **at) {
    struct work *work = *at;
    *at = work->next;
    if (list->last == &work->next)
        list->last = at;
    list->n--;
    work->next = NULL;
    return work;
}

static void drop_pixels(struct owner *owner, struct work *work) {
    if (work->pixels) {
        owner->n_decoded--;
        owner->decoded_bytes -= (int64_t)work->input.picture.width * work->input.picture.height * 3;
    }
    mem_free(work->pixels);
    work->pixels = NULL;
}

static int batch_max(const struct owner *owner, enum input_kind kind) {
    switch (kind) {
    case INPUT_QUERY:
        return QUESTION_BATCH;
    case INPUT_PASSAGE:
        return owner->corpus->settings->batch_text;
    case INPUT_IMAGE:
        return owner->corpus->settings->batch_visual;
    }
    return 1;
}

/* The first work that can be embedded, and those behind it of the same kind. */
static int take_batch(struct work **batch, struct owner *owner, struct work_list *list) {
    int n = 0;
    for (struct work **at = &list->first;
         *at && (n == 0 || n < batch_max(owner, batch[0]->input.kind));) {
        struct work *work = *at;
        if (work->state != WORK_READY || (n > 0 && work->input.kind != batch[0]->input.kind)) {
            at = &work->next;
            continue;
        }
        batch[n++] = take_at(list, at);
        work->state = WORK_RUNNING;
    }
    owner->n_running += n;
    return n;
}

/* ---- clients -------------------------------------------------------------------------------- */

bool corpus_owner_put(struct owner *owner, struct work *work, struct error *err) {
    bool question = work->input.kind == INPUT_QUERY;
    lock_take(&owner->lock);
    enum model_state state = owner->state;
    bool stopping = owner->stopping;
    bool there = (state == MODEL_READY || state == MODEL_LOADING) && !stopping;
    bool full = question && owner->questions.n >= MAX_QUESTIONS;
    if (there && !full) {
        work->state = work->picture_path ? WORK_WAITING : WORK_READY;
        work->pixels = NULL;
        work->undecodable = false;
        work->group->n_open++;
        append(question ? &owner->questions : &owner->others, work);
        cond_wake_all(&owner->changed);
    }
    lock_drop(&owner->lock);
    if (!there)
        return corpus_owner_refuse(owner, stopping ? MODEL_READY : state, err);
    if (full)
        return error_set_code(err, ERROR_BUSY, "model_busy", "%d questions wait already",
                              MAX_QUESTIONS);
    return true;
}

bool corpus_owner_wait(struct owner *owner, struct work_group *group, int64_t deadline_ms) {
    bool in_time = true;
    lock_take(&owner->lock);
    while (group->n_open > 0 && in_time)
        in_time = cond_wait(&owner->changed, &owner->lock, deadline_ms);
    bool done = group->n_open == 0;
    lock_drop(&owner->lock);
    return done;
}

static void withdraw_from(struct owner *owner, struct work_list *list,
                          const struct work_group *group) {
    for (struct work **at = &list->first; *at;) {
        struct work *work = *at;
        if (work->group != group || work->state == WORK_DECODING) {
            at = &work->next;
            continue;
        }
        take_at(list, at);
        drop_pixels(owner, work);
        work->group->n_open--;
    }
}

void corpus_owner_withdraw(struct owner *owner, struct work_group *group) {
    lock_take(&owner->lock);
    group->withdrawn = true;
    withdraw_from(owner, &owner->questions, group);
    withdraw_from(owner, &owner->others, group);
    cond_wake_all(&owner->changed);
    while (group->n_open > 0)
        cond_wait(&owner->changed, &owner->lock, -1);
    lock_drop(&owner->lock);
}

/* ---- the owner's thread --------------------------------------------------------------------- */

/* From done on the work is the client's again, who may put it once more. */
static void finish(struct owner *owner, struct work *work, const struct embedding *out,
                   const struct error *err) {
    struct work_group *group = work->group;
    bool counts = out && work->input.kind != INPUT_QUERY;
    bool page = work->input.kind == INPUT_IMAGE;
    lock_take(&owner->lock);
    bool withdrawn = group->withdrawn;
    drop_pixels(owner, work);
    lock_drop(&owner->lock);
    if (!withdrawn)
        work->done(work->ctx, work, out, err);
    lock_take(&owner->lock);
    owner->n_running--;
    owner->done[page].n_embedded += counts;
    group->n_open--;
    cond_wake_all(&owner->changed);
    lock_drop(&owner->lock);
}

struct pause {
    struct owner *owner;
    struct work *const *batch;
    int n;
};

static void embed_batch(struct owner *owner, struct work **batch, int n);

/* Between two layers: questions do not wait for the batch's end; a batch that nobody wants ends. */
static bool between_layers(void *ctx) {
    const struct pause *pause = ctx;
    struct owner *owner = pause->owner;
    struct work *questions[QUESTION_BATCH];
    lock_take(&owner->lock);
    int n = take_batch(questions, owner, &owner->questions);
    lock_drop(&owner->lock);
    if (n > 0)
        embed_batch(owner, questions, n);
    lock_take(&owner->lock);
    bool wanted = false;
    for (int i = 0; i < pause->n; i++)
        wanted = wanted || !pause->batch[i]->group->withdrawn;
    wanted = wanted && !owner->stopping;
    lock_drop(&owner->lock);
    return wanted;
}

static void count_rate(struct owner *owner, const struct work *first, int n, double seconds) {
    if (first->input.kind == INPUT_QUERY)
        return;
    bool pages = first->input.kind == INPUT_IMAGE;
    struct owner_work *done = &owner->done[pages];
    lock_take(&owner->lock);
    done->rates[done->rate_i].n = n;
    done->rates[done->rate_i].seconds = seconds;
    done->rate_i = (done->rate_i + 1) % OWNER_RATES;
    lock_drop(&owner->lock);
    log_debug("%d %s embedded in %.3f s, %.2f %s/s", n, pages ? "pages" : "passages", seconds,
              seconds > 0 ? n / seconds : 0, pages ? "pages" : "passages");
}

/* Could fewer inputs fare better than all of them? */
static bool is_divisible(const struct error *err) {
    return err->kind != ERROR_DEVICE && err->kind != ERROR_CONFLICT && err->kind != ERROR_IO;
}

/* Embeds the batch; where it does not go as a whole, its halves: for want of memory, or to find the
 * one that is at fault. */
static void embed_batch(struct owner *owner, struct work **batch, int n) {
    struct model_input inputs[MAX_BATCH];
    struct embedding out[MAX_BATCH];
    struct error err = {0};
    struct pause pause = {owner, batch, n};
    struct model_between between = {&pause, between_layers};
    bool question = batch[0]->input.kind == INPUT_QUERY;
    for (int i = 0; i < n; i++)
        inputs[i] = batch[i]->input;
    struct arena *arena = arena_new(0);
    int64_t begun_ms = time_mono_ms();
    bool ok = model_embed(out, arena, owner->model, inputs, n, question ? NULL : &between, &err);
    if (ok) {
        count_rate(owner, batch[0], n, (double)(time_mono_ms() - begun_ms) / 1000);
        for (int i = 0; i < n; i++)
            finish(owner, batch[i], &out[i], NULL);
    }
    arena_free(arena);
    if (ok)
        return;
    if (n > 1 && is_divisible(&err)) {
        log_debug("a batch of %d is halved: %s", n, err.text);
        embed_batch(owner, batch, n / 2);
        embed_batch(owner, batch + n / 2, n - n / 2);
        return;
    }
    if (err.kind == ERROR_CONFLICT) /* broken off, and for those who still want it by our end */
        corpus_owner_refuse(owner, MODEL_READY, &err);
    for (int i = 0; i < n; i++)
        finish(owner, batch[i], NULL, &err);
}

/* Pictures that could not be decoded have their end without the model. */
static int end_undecodable(struct owner *owner, struct work **batch, int n) {
    int n_left = 0;
    for (int i = 0; i < n; i++) {
        struct error why = batch[i]->why;
        if (batch[i]->undecodable)
            finish(owner, batch[i], NULL, &why);
        else
            batch[n_left++] = batch[i];
    }
    return n_left;
}

void corpus_owner_work(struct owner *owner) {
    struct work *batch[MAX_BATCH];
    for (;;) {
        int n = 0;
        lock_take(&owner->lock);
        while (!owner->stopping) {
            n = take_batch(batch, owner, &owner->questions);
            if (n == 0)
                n = take_batch(batch, owner, &owner->others);
            if (n > 0)
                break;
            cond_wait(&owner->changed, &owner->lock, -1);
        }
        cond_wake_all(&owner->changed); /* the helper: there is room for more */
        lock_drop(&owner->lock);
        if (n == 0)
            break;
        n = end_undecodable(owner, batch, n);
        if (n > 0)
            embed_batch(owner, batch, n);
    }
    struct error why;
    corpus_owner_refuse(owner, MODEL_READY, &why);
    corpus_owner_end_all(owner, &why);
}

void corpus_owner_end_all(struct owner *owner, const struct error *why) {
    struct work_list *lists[] = {&owner->questions, &owner->others};
    for (size_t i = 0; i < BASE_COUNT(lists);) {
        lock_take(&owner->lock);
        struct work **at = &lists[i]->first;
        while (*at && (*at)->state == WORK_DECODING)
            at = &(*at)->next;
        struct work *work = *at;
        if (work) {
            take_at(lists[i], at);
            owner->n_running++;
        } else if (lists[i]->first) {
            cond_wait(&owner->changed, &owner->lock, -1); /* the helper has it */
        } else {
            i++;
        }
        lock_drop(&owner->lock);
        if (work)
            finish(owner, work, NULL, why);
    }
}

/* ---- the helper's thread -------------------------------------------------------------------- */

static bool decode(struct work *work, struct owner *owner, struct error *err) {
    struct picture *picture = &work->input.picture;
    int fd = open(work->picture_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path_name(work->picture_path));
    bool ok = read_pixels(&work->pixels, &picture->width, &picture->height, owner->corpus->readers,
                          fd, path_name(work->picture_path), err);
    close(fd);
    picture->rgb = work->pixels;
    return ok;
}

static struct work *next_picture(struct owner *owner) {
    if (owner->n_decoded >= 2 * owner->corpus->settings->batch_visual ||
        (owner->n_decoded > 0 && owner->decoded_bytes >= AHEAD_BYTES))
        return NULL;
    for (struct work *work = owner->others.first; work; work = work->next) {
        if (work->state == WORK_WAITING)
            return work;
    }
    return NULL;
}

/* A model that is still loading, or was refused, needs no pictures yet. */
static bool goes_on(const struct owner *owner) {
    return !owner->stopping && (owner->state == MODEL_LOADING || owner->state == MODEL_READY);
}

void corpus_owner_decode(void *arg) {
    struct owner *owner = arg;
    lock_take(&owner->lock);
    while (goes_on(owner)) {
        struct work *work = owner->state == MODEL_READY ? next_picture(owner) : NULL;
        if (!work) {
            cond_wait(&owner->changed, &owner->lock, -1);
            continue;
        }
        work->state = WORK_DECODING;
        lock_drop(&owner->lock);
        bool ok = decode(work, owner, &work->why);
        lock_take(&owner->lock);
        work->state = WORK_READY;
        work->undecodable = !ok;
        if (ok) {
            owner->n_decoded++;
            owner->decoded_bytes += (int64_t)work->input.picture.width *
                                    work->input.picture.height * 3;
        }
        if (work->group->withdrawn)
            withdraw_from(owner, &owner->others, work->group);
        cond_wake_all(&owner->changed);
    }
    lock_drop(&owner->lock);
}

/* ---- for others ----------------------------------------------------------------------------- */

struct asked {
    struct work work;
    struct arena *arena; /* the caller's, who waits */
    struct embedding *out;
    struct error *err; /* of the first failure */
    bool *failed;
};

static void take_answer(void *ctx, struct work *work, const struct embedding *out,
                        const struct error *err) {
    struct asked *asked = ctx;
    (void)work;
    if (out) {
        *asked->out = *out;
        size_t n = (size_t)out->n * (size_t)out->dim;
        asked->out->values = arena_alloc(asked->arena, n * sizeof(float) + 1);
        memcpy(asked->out->values, out->values, n * sizeof(float));
    } else if (!*asked->failed) {
        *asked->failed = true;
        *asked->err = *err;
    }
}

/* Commands have no running corpus: the model they ask is loaded then, and waited for. */
static bool is_there(struct owner *owner, struct error *err) {
    if (!owner->corpus->started && !corpus_owner_start(owner, err))
        return false;
    lock_take(&owner->lock);
    while (!owner->corpus->started && owner->state == MODEL_LOADING && !owner->stopping)
        cond_wait(&owner->changed, &owner->lock, -1);
    enum model_state state = owner->state;
    bool stopping = owner->stopping;
    lock_drop(&owner->lock);
    return (state == MODEL_READY && !stopping) ||
           corpus_owner_refuse(owner, stopping ? MODEL_READY : state, err);
}

bool corpus_owner_embed(struct embedding *out, struct arena *arena, struct owner *owner,
                        const struct model_input *inputs, int n, struct error *err) {
    struct work_group group = {0};
    struct error why = {0};
    bool failed = false;
    if (!is_there(owner, err))
        return false;
    struct asked *asked = mem_try((size_t)n, sizeof *asked, (size_t)64 << 20);
    if (!asked)
        return error_set(err, ERROR_LIMIT, "%d inputs at once are too many", n);
    for (int i = 0; i < n; i++) {
        asked[i] = (struct asked){.arena = arena, .out = &out[i], .err = &why, .failed = &failed};
        asked[i].work = (struct work){
            .input = inputs[i], .done = take_answer, .ctx = &asked[i], .group = &group};
        struct error refused;
        if (!corpus_owner_put(owner, &asked[i].work, &refused)) {
            corpus_owner_withdraw(owner, &group);
            mem_free(asked);
            *err = refused;
            return false;
        }
    }
    corpus_owner_wait(owner, &group, -1);
    mem_free(asked);
    if (failed)
        *err = why;
    return !failed;
}
