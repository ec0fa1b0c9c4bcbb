/* A document's pages and passages on their way through the models' owners into the index.
 *
 * Each role of each target has its part: a list of what is to be embedded, of which a window is in
 * an owner's queue at a time; what comes out goes straight into the index's file, and the next goes
 * in. So a document holds neither pictures nor vectors in memory, and several documents share the
 * owners' batches.
 *
 * Invariants:
 *  1. A writer is used by its owner's thread alone until the groups are empty, then by the
 *     document's. Parts of one owner, and so of one space, have one writer: the first's.
 *  2. n_given >= n_put >= n_ended; works that are in flight are not in the free list. */
#include "corpus/vectors.h"

#include "corpus/owner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WINDOW 64       /* passages of a document in a queue at a time */
#define WINDOW_PAGES 16 /* pages */
#define ASK_MS 200
#define MAX_NAMED 10

#define MAX_PARTS (2 * CORPUS_ROLES)

struct part {
    struct doc_vectors *all;
    struct owner *owner;
    enum model_role role;
    enum item_kind kind;
    bool optional;   /* what it meets is not the document's failure */
    bool takes_part; /* the document's thread's */
    struct work_group group;
    struct part *first;          /* of the same owner */
    struct index_writer *writer; /* the first's; NULL: none yet */
    int64_t begun_ms;

    struct lock lock; /* LOCK_READ: an owner's queue is fed under it */
    struct signal_cond changed;
    struct buf pages;                /* int: page numbers as they came */
    const struct doc_chunks *chunks; /* NULL: none yet */
    int n_given, n_put, n_ended;
    struct work works[WINDOW], *idle[WINDOW];
    int items[WINDOW];
    char *paths[WINDOW];
    int n_idle;
    bool left_out; /* the model was refused */
    bool failed;
    struct error failure;
    int n_without, without[MAX_NAMED]; /* items that have no vector */
    struct error why;                  /* of the first */
};
struct doc_vectors {
    struct corpus *corpus;
    struct queue_job *job;
    char doc_id[SHA256_HEX + 1];
    struct vector_targets targets;
    struct part parts[MAX_PARTS];
    int n_parts;
};

/* ---- out of an owner ------------------------------------------------------------------------ */

static bool write_vectors(struct part *part, int item, const struct embedding *out,
                          struct error *err) {
    if (out->n == 0)
        return true; /* no token of it is searched */
    struct corpus *corpus = part->all->corpus;
    struct index_writer **writer = &part->first->writer;
    int64_t bytes = (int64_t)out->n * out->dim * (int64_t)sizeof(float);
    /* The space was set before the model was ready. */
    return (*writer ||
            index_writer_open(writer, corpus->index, part->owner->space, part->all->doc_id, err)) &&
           store_check_space(corpus->store, bytes, err) &&
           index_writer_add(*writer, part->kind, item, out->values, out->n, err);
}

static bool is_refusal(const struct error *err) {
    return strcmp(err->code, "model_failed") == 0 || strcmp(err->code, "model_not_installed") == 0;
}

/* Does it end the attempt? Else it is the one page's or passage's own. */
static bool is_general(const struct error *err) {
    return err->kind == ERROR_DEVICE || err->kind == ERROR_IO || err->kind == ERROR_BUSY ||
           err->kind == ERROR_CONFLICT;
}

/* Another attempt may fare better: the page or passage is left out by the last one alone. */
static bool is_passing(const struct part *part, const struct error *err) {
    static const char *const codes[] = {"out_of_memory", "timeout", "parser_crash"};
    const struct job_row *row = queue_job_row(part->all->job);
    for (size_t i = 0; i < BASE_COUNT(codes); i++) {
        if (strcmp(err->code, codes[i]) == 0)
            return row->attempts < row->max_attempts;
    }
    return false;
}

static void feed(struct part *part);

static void on_done(void *ctx, struct work *work, const struct embedding *out,
                    const struct error *reason) {
    struct part *part = ctx;
    struct error err = {0};
    int slot = (int)(work - part->works);
    bool written = out && write_vectors(part, part->items[slot], out, &err);
    if (!out)
        err = *reason;
    bool ends = !written && (out || is_general(&err) || is_passing(part, &err));
    lock_take(&part->lock);
    if (!written && (is_refusal(&err) || (part->optional && ends))) {
        part->left_out = true;
    } else if (!written && ends) {
        if (!out && !is_general(&err))
            err.kind = ERROR_BUSY; /* the attempt's, not the document's: it is tried again */
        if (!part->failed)
            part->failure = err;
        part->failed = true;
    } else if (!written) {
        if (part->n_without == 0)
            part->why = err;
        if (part->n_without < MAX_NAMED)
            part->without[part->n_without] = part->items[slot];
        part->n_without++;
    }
    mem_free(part->paths[slot]);
    part->paths[slot] = NULL;
    part->idle[part->n_idle++] = work;
    part->n_ended++;
    feed(part);
    cond_wake_all(&part->changed);
    lock_drop(&part->lock);
}

/* ---- into an owner -------------------------------------------------------------------------- */

static char *picture_path(const struct doc_vectors *all, int page_no) {
    struct arena *arena = arena_new(0);
    char *path = mem_strdup(
        store_path(arena, all->corpus->store, all->doc_id, STORE_PAGE, page_no));
    arena_free(arena);
    return path;
}

static void fill_work(struct part *part, struct work *work, int i) {
    int slot = (int)(work - part->works);
    memset(work, 0, sizeof *work);
    work->done = on_done;
    work->ctx = part;
    work->group = &part->group;
    if (part->kind == ITEM_PAGE) {
        memcpy(&part->items[slot], part->pages.data + (size_t)i * sizeof(int), sizeof(int));
        part->paths[slot] = picture_path(part->all, part->items[slot]);
        work->input.kind = INPUT_IMAGE;
        work->picture_path = part->paths[slot];
        return;
    }
    const struct doc_chunk *chunk = &part->chunks->items[i];
    part->items[slot] = (int)chunk->ordinal;
    work->input.kind = INPUT_PASSAGE;
    work->input.text = chunk->text;
    work->input.len = chunk->text_len;
}

/* Puts what the window has room for into the queue. The part's lock is held. */
static void feed(struct part *part) {
    while (part->n_put < part->n_given && part->n_idle > 0 && !part->failed && !part->left_out) {
        struct work *work = part->idle[--part->n_idle];
        struct error err;
        fill_work(part, work, part->n_put);
        if (corpus_owner_put(part->owner, work, &err)) {
            part->n_put++;
            continue;
        }
        int slot = (int)(work - part->works);
        mem_free(part->paths[slot]);
        part->paths[slot] = NULL;
        part->idle[part->n_idle++] = work;
        part->left_out = is_refusal(&err) || part->optional;
        part->failed = !part->left_out;
        part->failure = err;
    }
}

/* ---- a document ----------------------------------------------------------------------------- */

static void open_part(struct doc_vectors *all, const struct vector_target *target,
                      enum model_role role, bool optional) {
    struct part *part = &all->parts[all->n_parts++];
    part->all = all;
    part->owner = target->owner;
    part->role = role;
    part->kind = role == ROLE_VISUAL ? ITEM_PAGE : ITEM_CHUNK;
    part->optional = optional;
    part->takes_part = corpus_owner_takes_part(part->owner);
    part->first = all->parts;
    while (part->first->owner != part->owner)
        part->first++;
    lock_init(&part->lock, LOCK_READ);
    cond_init(&part->changed);
    while (part->n_idle < (role == ROLE_VISUAL ? WINDOW_PAGES : WINDOW)) {
        part->idle[part->n_idle] = &part->works[part->n_idle];
        part->n_idle++;
    }
}

struct doc_vectors *corpus_vectors_new(struct corpus *corpus, struct queue_job *job,
                                       struct vector_targets *targets, bool next_optional) {
    struct doc_vectors *all = mem_alloc(sizeof *all);
    all->corpus = corpus;
    all->job = job;
    memcpy(all->doc_id, queue_job_row(job)->doc_id, sizeof all->doc_id);
    all->targets = *targets;
    targets->n = 0;
    for (int i = 0; i < all->targets.n; i++) {
        const struct vector_target *target = &all->targets.items[i];
        for (int role = 0; role < CORPUS_ROLES; role++) {
            if (!target->passed_over && target->roles >> role & 1)
                open_part(all, target, (enum model_role)role, target->next && next_optional);
        }
    }
    return all;
}

void corpus_vectors_free(struct doc_vectors *all) {
    if (!all)
        return;
    for (int i = 0; i < all->n_parts; i++)
        corpus_owner_withdraw(all->parts[i].owner, &all->parts[i].group);
    for (int k = 0; k < all->n_parts; k++) {
        struct part *part = &all->parts[k];
        index_writer_free(part->writer);
        for (int i = 0; i < WINDOW; i++)
            mem_free(part->paths[i]);
        buf_fini(&part->pages);
        cond_fini(&part->changed);
        lock_fini(&part->lock);
    }
    corpus_targets_give(&all->targets);
    mem_free(all);
}

bool corpus_vectors_has(const struct doc_vectors *all, enum model_role role) {
    bool has = false;
    for (int i = 0; i < all->n_parts; i++)
        has = has || (all->parts[i].role == role && all->parts[i].takes_part);
    return has;
}

bool corpus_vectors_current(const struct doc_vectors *all) {
    return corpus_targets_current(&all->targets, all->corpus);
}

void corpus_vectors_page(struct doc_vectors *all, int page_no) {
    for (int i = 0; i < all->n_parts; i++) {
        struct part *part = &all->parts[i];
        if (!part->takes_part || part->role != ROLE_VISUAL)
            continue;
        lock_take(&part->lock);
        if (part->n_given == 0)
            part->begun_ms = time_mono_ms();
        buf_append(&part->pages, &page_no, sizeof page_no);
        part->n_given = (int)(part->pages.len / sizeof page_no);
        feed(part);
        lock_drop(&part->lock);
    }
}

void corpus_vectors_chunks(struct doc_vectors *all, const struct doc_chunks *chunks) {
    for (int i = 0; i < all->n_parts; i++) {
        struct part *part = &all->parts[i];
        if (!part->takes_part || part->role != ROLE_TEXT)
            continue;
        lock_take(&part->lock);
        part->begun_ms = time_mono_ms();
        part->chunks = chunks;
        part->n_given = (int)chunks->n;
        feed(part);
        lock_drop(&part->lock);
    }
}

/* How far the parts of a role are, together. */
struct standing {
    int n_ended, n_given;
    struct part *open; /* one that has not ended; NULL: none */
    bool failed;
};

static bool has_ended(const struct part *part) {
    return part->failed || part->left_out || part->n_ended == part->n_given;
}

static struct standing look(struct doc_vectors *all, enum model_role role, struct error *err) {
    struct standing now = {0};
    for (int i = 0; i < all->n_parts; i++) {
        struct part *part = &all->parts[i];
        if (!part->takes_part || part->role != role)
            continue;
        lock_take(&part->lock);
        if (!has_ended(part))
            now.open = part;
        if (part->failed && !now.failed)
            *err = part->failure;
        now.failed = now.failed || part->failed;
        now.n_ended += part->left_out ? part->n_given : part->n_ended;
        now.n_given += part->n_given;
        lock_drop(&part->lock);
    }
    return now;
}

static void tell_progress(struct doc_vectors *all, enum model_role role, struct standing now,
                          int n_pages, double from, double to) {
    double share = now.n_given > 0 ? (double)now.n_ended / now.n_given : 1;
    queue_job_progress(all->job, role == ROLE_VISUAL ? "embedding_visual" : "embedding_text",
                       from + share * (to - from), (int)(share * n_pages), n_pages);
}

/* Until another item has ended, or a moment has passed. */
static void wait_part(struct part *part) {
    lock_take(&part->lock);
    if (!has_ended(part))
        cond_wait(&part->changed, &part->lock, time_mono_ms() + ASK_MS);
    lock_drop(&part->lock);
}

/* on_done's last steps: only then is the writer ours. */
static void end_part(struct part *part) {
    part->takes_part = !part->left_out;
    if (!part->takes_part)
        return;
    corpus_owner_wait(part->owner, &part->group, -1);
    if (part->n_given > 0)
        metric_observe(
            "docusearch_stage_seconds",
            part->role == ROLE_VISUAL ? "stage=\"embed_visual\"" : "stage=\"embed_text\"",
            "Time a stage of a job took.", (double)(time_mono_ms() - part->begun_ms) / 1000);
}

bool corpus_vectors_wait(struct doc_vectors *all, enum model_role role, int n_pages, double from,
                         double to, struct error *err) {
    int told = -1;
    if (!corpus_vectors_has(all, role))
        return true;
    for (;;) {
        struct standing now = look(all, role, err);
        if (queue_job_cancelled(all->job))
            return error_set_code(err, ERROR_CONFLICT, "cancelled", "the reading was cancelled");
        if (now.failed)
            return false;
        if (now.n_ended != told)
            tell_progress(all, role, now, n_pages, from, to);
        told = now.n_ended;
        if (!now.open)
            break;
        wait_part(now.open);
    }
    for (int i = 0; i < all->n_parts; i++) {
        if (all->parts[i].takes_part && all->parts[i].role == role)
            end_part(&all->parts[i]);
    }
    return true;
}

char *corpus_vectors_warning(struct arena *arena, struct doc_vectors *all) {
    struct buf text = {0};
    for (int k = 0; k < all->n_parts; k++) {
        const struct part *part = &all->parts[k];
        if (!part->takes_part || part->n_without == 0 || part->optional)
            continue;
        const char *what = part->kind == ITEM_PAGE ? "page" : "passage";
        buf_printf(&text, "%s%s%s", text.len > 0 ? "; " : "", what, part->n_without > 1 ? "s" : "");
        int n = part->n_without < MAX_NAMED ? part->n_without : MAX_NAMED;
        for (int i = 0; i < n; i++)
            buf_printf(&text, "%s %d", i > 0 ? "," : "",
                       part->without[i] + (part->kind == ITEM_CHUNK));
        if (part->n_without > n)
            buf_printf(&text, " and %d more", part->n_without - n);
        buf_printf(&text, " could not be embedded: %s", part->why.text);
    }
    char *copy = arena_strndup(arena, text.data ? text.data : "", text.len);
    buf_fini(&text);
    return copy;
}

/* Has the writer of this part all that the document gives its space? A model that was left out in
 * one part has nothing to say in the other. */
static bool is_whole(const struct doc_vectors *all, const struct part *first) {
    bool whole = first->writer != NULL;
    for (int i = 0; i < all->n_parts; i++)
        whole = whole && (all->parts[i].first != first || all->parts[i].takes_part);
    return whole;
}

bool corpus_vectors_sync(struct doc_vectors *all, struct error *err) {
    for (int i = 0; i < all->n_parts; i++) {
        struct part *part = &all->parts[i];
        if (is_whole(all, part) && !index_writer_sync(part->writer, err))
            return false;
    }
    return true;
}

bool corpus_vectors_commit(struct doc_vectors *all, struct store_tx *tx, struct error *err) {
    for (int i = 0; i < all->n_parts; i++) {
        struct part *part = &all->parts[i];
        if (is_whole(all, part) && !index_writer_commit(part->writer, tx, err))
            return false;
    }
    return true;
}
