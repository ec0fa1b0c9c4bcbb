/* The store of vectors that workers share, looked after: who is in reach, what is to be told, what
 * others have put and removed.
 *
 * One thread asks the store every few seconds. It tells removals first, then puts own documents
 * that the store has not (as after it was lost, or a collection of it was made anew: then the store
 * is another one, of the next epoch), then takes in what others did. A document's own job puts it
 * sooner; both may, and the store has it once.
 *
 * Invariants:
 *  1. Nothing is put or asked before the store's epoch is known and noted.
 *  2. Own documents and removals are durable here until the store has been seen to have them. */
#include "corpus/standing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS 2000        /* between two looks at the store */
#define FIRST_LOOK_MS 3000  /* that who comes before the first look waits for it */
#define LOADING_MS 200      /* while a model is loading */
#define OVERLAP_MS 300000   /* clocks of workers differ by less */
#define ALL_MS (10 * 60000) /* all records are looked at so often */
#define OLDER_MS 30000      /* the Python worker's collections are looked at so often */
#define REFUSED_MS 60000    /* a document that was refused is put again after so long */
#define BATCH 64
#define META_EPOCH "shared.epoch"

/* ---- spaces --------------------------------------------------------------------------------- */

/* A space as all workers know it: a model that is named by a folder goes by the folder's own name,
 * which is the same on another host; the weights' hash tells it from others. */
static const char *shared_name(struct arena *arena, const char *space) {
    const char *at = strrchr(space, '@'), *name = space;
    for (const char *c = space; *space == '/' && at && c < at; c++)
        name = *c == '/' ? c + 1 : name;
    return arena_strdup(arena, name);
}

/* Of a model that is not loaded: the space that has vectors of it. */
static bool find_space(struct shared_spaces *out, struct arena *arena, struct corpus *corpus,
                       enum item_kind kind, const char *model, struct error *err) {
    struct space_facts *spaces;
    int n, best = -1;
    if (!index_spaces(&spaces, &n, arena, corpus->index, err))
        return false;
    for (int i = 0; i < n; i++) {
        if (spaces[i].n_items > 0 && corpus_space_is_of(spaces[i].name, model) &&
            (best < 0 || spaces[i].n_items > spaces[best].n_items))
            best = i;
    }
    if (best >= 0) {
        out->numbers[kind] = spaces[best].space;
        out->names.of[kind] = (struct chroma_space){shared_name(arena, spaces[best].name),
                                                    spaces[best].dim, spaces[best].late};
    }
    return true;
}

bool corpus_shared_spaces(struct shared_spaces *out, struct arena *arena, struct corpus *corpus,
                          struct error *err) {
    struct owner *owners[CORPUS_ROLES];
    bool ok = true;
    *out = (struct shared_spaces){0};
    corpus_owners_take(owners, corpus);
    for (int role = 0; role < CORPUS_ROLES && ok; role++) {
        enum item_kind kind = role == ROLE_VISUAL ? ITEM_PAGE : ITEM_CHUNK;
        enum model_state state;
        out->names.of[kind].name = "";
        if (corpus_owner_settled(&state, owners[role]) && state == MODEL_READY) {
            const struct model_info *info = model_info(owners[role]->model);
            out->numbers[kind] = owners[role]->space;
            out->names.of[kind] = (struct chroma_space){shared_name(arena, info->space), info->dim,
                                                        info->late};
        } else if (state != MODEL_OFF) {
            ok = find_space(out, arena, corpus, kind, owners[role]->name, err);
        }
    }
    corpus_owners_give(owners);
    return ok;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static bool is_stopping(struct shared *s) {
    return atomic_load(&s->stopping);
}

/* False: the program stops. */
static bool wait(struct shared *s, int64_t ms) {
    int64_t until_ms = time_mono_ms() + ms;
    lock_take(&s->lock);
    while (!s->stopping && !s->woken && time_mono_ms() < until_ms)
        cond_wait(&s->changed, &s->lock, until_ms);
    s->woken = false;
    bool stopping = s->stopping;
    lock_drop(&s->lock);
    return !stopping;
}

void corpus_shared_wake(struct corpus *corpus) {
    struct shared *s = corpus->shared;
    if (!s)
        return;
    lock_take(&s->lock);
    s->woken = true;
    cond_wake_all(&s->changed);
    lock_drop(&s->lock);
}

/* ---- the store as it is --------------------------------------------------------------------- */

static bool put_meta(struct corpus *corpus, const char *key, const char *value, bool forget_told,
                     struct error *err) {
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if ((forget_told && !store_forget_told(tx, err)) || !store_put_meta(tx, key, value, err)) {
        store_rollback(tx);
        return false;
    }
    return store_commit(tx, err);
}

/* The number of the store that this id names: the last one's, or the next. */
static bool number_epoch(int64_t *epoch, struct corpus *corpus, const char *id, struct error *err) {
    struct arena *arena = arena_new(0);
    char *noted;
    *epoch = 0;
    bool ok = store_get_meta(&noted, arena, corpus->store, META_EPOCH, err);
    char *space = ok && noted ? strchr(noted, ' ') : NULL;
    if (space)
        *epoch = strtoll(noted, NULL, 10);
    if (ok && !(space && strcmp(space + 1, id) == 0)) {
        bool first = *epoch == 0;
        *epoch += 1;
        ok = put_meta(corpus, META_EPOCH, arena_printf(arena, "%" PRId64 " %s", *epoch, id), true,
                      err);
        if (ok && !first)
            log_warn("ChromaDB's collections are others than before: this worker's documents are "
                     "put into them again");
    }
    arena_free(arena);
    return ok;
}

/* Do the store's collections have vectors of another space than this? */
static bool has_others(struct arena *arena, struct shared *s, enum item_kind kind,
                       const char *name) {
    const struct settings *settings = s->corpus->settings;
    const char *collection = kind == ITEM_PAGE ? settings->visual_collection
                                               : settings->text_collection;
    struct chroma_facts facts;
    chroma_facts(&facts, arena, s->chroma);
    for (int i = 0; i < facts.n_collections; i++) {
        const struct chroma_collection_facts *one = &facts.collections[i];
        if (strcmp(one->name, collection) == 0)
            return *one->space && strcmp(one->space, name) != 0;
    }
    return false;
}

/* Has the index been through a change of models that the store has not? Only then are its
 * collections made anew: a model that was merely set otherwise changes nothing that others use. */
static bool was_changed(bool *out, struct shared *s, const struct shared_spaces *spaces,
                        enum item_kind kind, const char *noted, struct error *err) {
    const char *name = spaces->names.of[kind].name;
    struct vector_cover cover = {0};
    *out = false;
    if (!noted || strcmp(noted, name) == 0)
        return true;
    if (!store_vector_cover(&cover, s->corpus->store, spaces->numbers[kind],
                            kind == ITEM_PAGE ? VECTORS_PAGE : VECTORS_CHUNK, NULL, err))
        return false;
    *out = cover.any && cover.n_without == 0;
    return true;
}

static bool renew(struct shared *s, const struct shared_spaces *spaces, struct error *err) {
    static const char *const metas[] = {"shared.space.page", "shared.space.chunk"};
    struct arena *arena = arena_new(0);
    bool ok = true;
    for (int i = ITEM_PAGE; i <= ITEM_CHUNK && ok; i++) {
        enum item_kind kind = (enum item_kind)i;
        const char *name = spaces->names.of[kind].name;
        char *noted;
        bool changed = false;
        if (!*name)
            continue;
        bool others = has_others(arena, s, kind, name);
        ok = store_get_meta(&noted, arena, s->corpus->store, metas[kind], err) &&
             (!others || was_changed(&changed, s, spaces, kind, noted, err));
        if (ok && changed) {
            log_info("The %s are embedded by another model now: their collections are made anew",
                     kind == ITEM_PAGE ? "pages" : "passages");
            ok = chroma_renew(s->chroma, kind, err);
        }
        if (ok && (!others || changed) && !(noted && strcmp(noted, name) == 0))
            ok = put_meta(s->corpus, metas[kind], name, false, err);
    }
    arena_free(arena);
    return ok;
}

static bool are_settled(struct corpus *corpus) {
    struct owner *owners[CORPUS_ROLES];
    bool settled = true;
    corpus_owners_take(owners, corpus);
    for (int role = 0; role < CORPUS_ROLES; role++) {
        enum model_state state;
        settled = corpus_owner_settled(&state, owners[role]) && settled;
    }
    corpus_owners_give(owners);
    return settled;
}

/* Checked against the spaces; vectors of another model's are said in *other and no failure. */
static bool ask(struct shared *s, const struct shared_spaces *spaces, struct error *other,
                struct error *err) {
    *other = (struct error){0};
    if (chroma_check(s->chroma, &spaces->names, other))
        return true;
    *err = *other;
    return strcmp(other->code, "other_space") == 0;
}

static bool look(int64_t *epoch, char id[SHA256_HEX + 1], struct shared *s, struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_spaces spaces;
    struct chroma_facts facts;
    struct error other = {0};
    *epoch = 0;
    id[0] = '\0';
    bool ok = corpus_shared_spaces(&spaces, arena, s->corpus, err) &&
              ask(s, &spaces, &other, err) && renew(s, &spaces, err) &&
              (!other.kind || ask(s, &spaces, &other, err));
    if (ok) {
        chroma_facts(&facts, arena, s->chroma);
        snprintf(id, SHA256_HEX + 1, "%s", facts.epoch);
        ok = number_epoch(epoch, s->corpus, id, err);
    }
    lock_take(&s->lock);
    s->spaces = ok ? other : (struct error){0};
    lock_drop(&s->lock);
    arena_free(arena);
    return ok;
}

/* Says when the store comes and goes. *anew: it is another one than at the last look. */
static bool check(struct shared *s, bool *anew) {
    struct error err = {0};
    int64_t epoch;
    char id[SHA256_HEX + 1];
    bool ok = look(&epoch, id, s, &err);
    lock_take(&s->lock);
    bool was = s->epoch > 0, said = s->why.kind != 0;
    *anew = ok && epoch != s->epoch;
    s->epoch = ok ? epoch : 0;
    memcpy(s->epoch_id, id, sizeof id);
    s->looked = true;
    cond_wake_all(&s->changed);
    s->why = ok ? (struct error){0} : err;
    lock_drop(&s->lock);
    if (ok && !was)
        log_info("ChromaDB answers at %s:%d", s->corpus->settings->chroma_host,
                 s->corpus->settings->chroma_port);
    if (!ok && (was || !said))
        log_warn("ChromaDB is not to be used: %s; uploads are taken and wait", err.text);
    return ok;
}

bool corpus_shared_epoch(int64_t *epoch, struct corpus *corpus, struct error *err) {
    struct shared *s = corpus->shared;
    bool anew;
    if (!s->thread && s->epoch == 0) /* a command that starts nothing asks by itself */
        check(s, &anew);
    int64_t until_ms = time_mono_ms() + FIRST_LOOK_MS;
    lock_take(&s->lock);
    while (s->thread && !s->looked && !s->stopping && time_mono_ms() < until_ms)
        cond_wait(&s->changed, &s->lock, until_ms);
    *epoch = s->epoch;
    struct error why = s->why;
    lock_drop(&s->lock);
    if (*epoch > 0)
        return true;
    if (why.kind)
        return error_set_code(err, ERROR_BUSY, SHARED_DOWN, "%.240s", why.text);
    return error_set_code(err, ERROR_BUSY, SHARED_DOWN, "ChromaDB has not answered yet");
}

/* Collections that were made anew are known to the store's module before they are here. */
bool corpus_shared_check_epoch(struct corpus *corpus, int64_t epoch, struct error *err) {
    struct shared *s = corpus->shared;
    struct arena *arena = arena_new(0);
    struct chroma_facts facts;
    chroma_facts(&facts, arena, s->chroma);
    lock_take(&s->lock);
    bool same = s->epoch == epoch && strcmp(s->epoch_id, facts.epoch) == 0;
    lock_drop(&s->lock);
    arena_free(arena);
    if (same)
        return true;
    corpus_shared_wake(corpus);
    return error_set_code(err, ERROR_BUSY, SHARED_DOWN,
                          "ChromaDB's collections are being looked at");
}

/* ---- what is to be told --------------------------------------------------------------------- */

/* Of what was never known to be there nobody knows the generation here; one that cannot be is as
 * little known. */
static bool find_generation(int64_t *generation, struct shared *s, const struct removal_row *row,
                            struct error *err) {
    struct arena *arena = arena_new(0);
    struct chroma_record record;
    bool found = false, ok = true;
    *generation = row->generation;
    if (*generation < 1 || *generation > CHROMA_MAX_GENERATION) {
        ok = chroma_find_document(&record, &found, arena, s->chroma, row->doc_id, err);
        *generation = ok && found ? record.generation : 1;
    }
    arena_free(arena);
    return ok;
}

static bool tell_removal(struct shared *s, const struct removal_row *row, struct error *err) {
    struct store_tx *tx;
    int64_t generation;
    bool superseded, theirs;
    if (!find_generation(&generation, s, row, err) ||
        !chroma_legacy_remove(&theirs, s->older, row->doc_id, err) ||
        !chroma_remove_document(&superseded, s->chroma, row->doc_id, generation, s->worker,
                                row->removed_ms, err) ||
        !store_begin(&tx, s->corpus->store, err))
        return false;
    if (!store_set_removal_told(tx, row, generation, err)) {
        store_rollback(tx);
        return false;
    }
    return store_commit(tx, err);
}

static bool tell_removals(struct shared *s, struct error *err) {
    for (bool more = true; more && !is_stopping(s);) {
        struct arena *arena = arena_new(0);
        struct removal_row *rows;
        int n = 0;
        bool ok = store_list_removals(&rows, &n, arena, s->corpus->store, BATCH, err);
        for (int i = 0; i < n && ok; i++)
            ok = tell_removal(s, &rows[i], err);
        arena_free(arena);
        if (!ok)
            return false;
        more = n == BATCH;
    }
    return true;
}

/* Its own job puts it, which waits or runs; or was cancelled, and nothing is to come of it. */
static bool has_job(bool *out, struct arena *arena, struct corpus *corpus,
                    const struct shared_row *row, struct error *err) {
    struct job_row job;
    bool found;
    if (!store_find_document_job(&job, &found, arena, corpus->store, row->doc_id, err))
        return false;
    *out = found && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING ||
                     (job.state == JOB_CANCELLED && row->epoch == SHARED_HELD));
    return true;
}

/* A document that is refused is passed over; a store that does not answer ends the pass. */
static bool put_one(struct shared *s, struct arena *arena, const struct shared_row *row,
                    int64_t *n_refused, struct error *err) {
    bool busy;
    if (!has_job(&busy, arena, s->corpus, row, err))
        return false;
    if (busy || corpus_share(s->corpus, NULL, row->doc_id, err))
        return true;
    if (strcmp(err->code, SHARED_DOWN) == 0 || err->kind == ERROR_IO)
        return false;
    if (err->kind == ERROR_CONFLICT &&
        (strcmp(err->code, "removed") == 0 || strcmp(err->code, "cancelled") == 0))
        return true;
    *n_refused += 1;
    lock_take(&s->lock);
    s->refused = *err;
    lock_drop(&s->lock);
    return true;
}

static bool put_unshared(struct shared *s, bool *all, struct error *err) {
    int64_t after = 0, n_refused = 0, epoch;
    *all = false;
    if (s->refused_ms > 0 && time_mono_ms() - s->refused_ms < REFUSED_MS)
        return true;
    if (!corpus_shared_epoch(&epoch, s->corpus, err))
        return false;
    for (int n = BATCH; n == BATCH;) {
        struct arena *arena = arena_new(0);
        struct shared_row *rows;
        bool ok = store_list_unshared(&rows, &n, &after, arena, s->corpus->store, epoch, after,
                                      BATCH, err);
        for (int i = 0; i < n && ok && !is_stopping(s); i++)
            ok = put_one(s, arena, &rows[i], &n_refused, err);
        arena_free(arena);
        if (!ok)
            return false;
        if (is_stopping(s))
            return true;
    }
    s->refused_ms = n_refused > 0 ? time_mono_ms() : 0;
    lock_take(&s->lock);
    if (n_refused > 0 && s->n_refused == 0)
        log_warn("ChromaDB did not take %" PRId64 " documents; the last: %s", n_refused,
                 s->refused.text);
    s->n_refused = n_refused;
    lock_drop(&s->lock);
    *all = n_refused == 0;
    return true;
}

/* ---- what others did ------------------------------------------------------------------------ */

static void await(struct shared *s, const char *doc_id) {
    for (int i = 0; i < s->n_pending; i++) {
        if (strcmp(s->pending[i], doc_id) == 0)
            return;
    }
    if (s->n_pending < SHARED_PENDING)
        memcpy(s->pending[s->n_pending++], doc_id, SHA256_HEX + 1);
    else
        s->looked_ms = 0; /* the look at all records finds it */
}

struct listing {
    struct shared *shared;
    struct standing *standing; /* of a look at all records; else NULL */
    int64_t newest_ms;
};

static bool on_record(void *ctx, const struct chroma_record *record, struct error *err) {
    struct listing *listing = ctx;
    struct shared *s = listing->shared;
    bool whole;
    if (is_stopping(s))
        return error_set_code(err, ERROR_BUSY, "stopping", "the program is stopping");
    if (!corpus_share_meet(s->corpus, record, err) ||
        !corpus_mirror(&whole, s->corpus, record, err))
        return false;
    if (!whole)
        await(s, record->document.doc_id);
    if (listing->standing)
        corpus_standing_meet(listing->standing, record);
    if (record->removed && record->changed_ms > s->newest_ms)
        corpus_rows_forget(s);
    if (record->changed_ms > listing->newest_ms)
        listing->newest_ms = record->changed_ms;
    return true;
}

static bool look_again(struct shared *s, struct error *err) {
    int n = 0, n_before = s->n_pending;
    bool ok = true;
    for (int i = 0; i < n_before; i++) {
        struct arena *arena = arena_new(0);
        struct chroma_record record;
        bool found = false, whole = false;
        ok = ok && chroma_find_document(&record, &found, arena, s->chroma, s->pending[i], err) &&
             (!found || corpus_mirror(&whole, s->corpus, &record, err));
        if (!ok || (found && !whole))
            memmove(s->pending[n++], s->pending[i], SHA256_HEX + 1);
        arena_free(arena);
    }
    s->n_pending = n;
    return ok;
}

/* *newest_ms: of the changes that were seen. */
static bool look_at_all(int64_t *newest_ms, struct shared *s, struct error *err) {
    struct standing standing;
    struct listing listing = {.shared = s, .standing = &standing};
    int64_t now_ms = time_mono_ms(), epoch;
    if (!corpus_shared_epoch(&epoch, s->corpus, err))
        return false;
    bool ok = corpus_standing_begin(&standing, s->corpus, epoch, err) &&
              chroma_list_documents(s->chroma, 0, on_record, &listing, err);
    if (ok)
        s->looked_ms = now_ms;
    ok = ok && corpus_standing_end(&standing, s, err);
    corpus_standing_free(&standing);
    *newest_ms = listing.newest_ms;
    return ok;
}

static bool look_at_changes(int64_t *newest_ms, struct shared *s, struct error *err) {
    struct listing listing = {.shared = s};
    bool ok = chroma_list_documents(s->chroma, s->since_ms, on_record, &listing, err);
    *newest_ms = listing.newest_ms;
    return ok;
}

static bool take_changes(struct shared *s, struct error *err) {
    int64_t now_ms = time_mono_ms(), newest_ms = 0;
    corpus_rows_look(s);
    bool all = s->looked_ms == 0 || now_ms - s->looked_ms > ALL_MS;
    if (!look_again(s, err) ||
        !(all ? look_at_all(&newest_ms, s, err) : look_at_changes(&newest_ms, s, err)))
        return false;
    if (newest_ms > s->newest_ms)
        s->newest_ms = newest_ms;
    if ((all || now_ms - s->older_ms > OLDER_MS) && !corpus_older_look(s, err))
        return false;
    s->older_ms = all || now_ms - s->older_ms > OLDER_MS ? now_ms : s->older_ms;
    if (newest_ms - OVERLAP_MS > s->since_ms)
        s->since_ms = newest_ms - OVERLAP_MS;
    return corpus_rows_judge(s, err);
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void round_of(struct shared *s) {
    struct error err = {0};
    bool anew, all = false;
    if (!check(s, &anew))
        return;
    if (anew) {
        s->looked_ms = s->refused_ms = 0;
        s->since_ms = 0;
        corpus_rows_forget(s);
    }
    bool ok = tell_removals(s, &err) && take_changes(s, &err) && put_unshared(s, &all, &err);
    if (ok && all && !is_stopping(s))
        ok = chroma_drop_aside(s->chroma, &err);
    if (!ok && strcmp(err.code, "stopping") != 0)
        log_debug("the shared store was not seen through: %s", err.text);
}

static void work(void *arg) {
    struct shared *s = arg;
    int64_t ms = 0;
    while (wait(s, ms)) {
        bool settled = are_settled(s->corpus);
        if (settled)
            round_of(s);
        ms = settled ? LOOK_MS : LOADING_MS;
    }
}

/* ---- its life ------------------------------------------------------------------------------- */

/* By the host, and, as it may have several, by the folder. */
static char *name_worker(const struct settings *settings) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    return mem_printf("%s:%s", *host ? host : "localhost", settings->data_dir);
}

bool corpus_shared_open(struct corpus *corpus, struct error *err) {
    const struct settings *settings = corpus->settings;
    if (!*settings->chroma_host)
        return true;
    struct shared *s = mem_alloc(sizeof *s);
    corpus->shared = s;
    s->corpus = corpus;
    lock_init(&s->lock, LOCK_READ);
    cond_init(&s->changed);
    const struct chroma_settings how = {.host = settings->chroma_host,
                                        .port = settings->chroma_port,
                                        .ssl = settings->chroma_ssl,
                                        .tenant = settings->chroma_tenant,
                                        .database = settings->chroma_database,
                                        .token = settings->chroma_token,
                                        .visual_collection = settings->visual_collection,
                                        .text_collection = settings->text_collection};
    s->worker = name_worker(settings);
    return chroma_open(&s->chroma, &how, err) &&
           chroma_legacy_open(&s->older, s->chroma, NULL, NULL, err);
}

bool corpus_shared_start(struct corpus *corpus, struct error *err) {
    struct shared *s = corpus->shared;
    return !s || s->thread || thread_start(&s->thread, "shared", work, s, err);
}

void corpus_shared_stop(struct corpus *corpus) {
    struct shared *s = corpus->shared;
    if (!s)
        return;
    lock_take(&s->lock);
    atomic_store(&s->stopping, true);
    cond_wake_all(&s->changed);
    lock_drop(&s->lock);
    thread_join(s->thread);
    s->thread = NULL;
}

void corpus_shared_close(struct corpus *corpus) {
    struct shared *s = corpus->shared;
    if (!s)
        return;
    corpus_shared_stop(corpus);
    chroma_legacy_close(s->older);
    chroma_close(s->chroma);
    cond_fini(&s->changed);
    lock_fini(&s->lock);
    mem_free(s->worker);
    mem_free(s);
    corpus->shared = NULL;
}

void corpus_shared_facts(struct shared_facts *out, struct arena *arena, struct corpus *corpus) {
    struct shared *s = corpus->shared;
    struct shared_counts counts = {0};
    struct error unused;
    *out = (struct shared_facts){.used = s != NULL};
    if (!s)
        return;
    chroma_facts(&out->store, arena, s->chroma);
    lock_take(&s->lock);
    int64_t epoch = s->epoch;
    struct error why = s->why.kind ? s->why : s->spaces;
    out->reachable = epoch > 0;
    out->n_refused = s->n_refused;
    out->refused = arena_strdup(arena, s->n_refused > 0 ? s->refused.text : "");
    lock_drop(&s->lock);
    out->why = arena_strdup(arena, why.kind ? why.text : "");
    out->worker = arena_strdup(arena, s->worker);
    if (store_count_shared(&counts, corpus->store, epoch, &unused)) {
        out->own = counts.own;
        out->mirrored = counts.mirrored;
        out->unshared = epoch > 0 ? counts.unshared : counts.never_shared;
        out->untold = counts.untold;
        out->missing = epoch > 0 ? counts.unseen : 0;
    }
}
