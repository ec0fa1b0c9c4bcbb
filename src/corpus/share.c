/* One document into the shared store: its row, passages and codes as they lie here.
 *
 * What its rows are made of has a revision, a hash that is the same on every worker that reads the
 * same bytes with the same settings and models; names are no part of it. */
#include "corpus/older.h"

#include <stdio.h>
#include <string.h>

struct sharing {
    struct corpus *corpus;
    struct queue_job *job; /* NULL: none */
    struct arena *arena;
    struct shared_spaces spaces;
    struct shared_row shared;
    struct chroma_source source;
};

/* ---- what is given -------------------------------------------------------------------------- */

static bool is_absent(const struct error *err) {
    return err->kind == ERROR_MISSING && strcmp(err->code, "not_found") == 0;
}

static bool give_item(void *ctx, struct chroma_item *out, struct arena *arena, enum item_kind kind,
                      int item, struct error *err) {
    struct sharing *s = ctx;
    struct index *index = s->corpus->index;
    const char *doc_id = s->source.record.document.doc_id;
    int space = s->spaces.numbers[kind];
    float *vector;
    bool ok = true;
    *out = (struct chroma_item){0};
    if (space == 0)
        return true;
    if (s->spaces.names.of[kind].late) {
        ok = index_load_codes(&out->codes, arena, index, space, doc_id, kind, item, err);
        out->n = ok ? out->codes.n : 0;
    } else {
        ok = index_load_vector(&vector, arena, index, space, doc_id, kind, item, err);
        out->vector = ok ? vector : NULL;
        out->n = ok;
    }
    return ok || is_absent(err);
}

static bool is_cancelled(void *ctx) {
    struct sharing *s = ctx;
    return s->job ? queue_job_cancelled(s->job) : atomic_load(&s->corpus->shared->stopping);
}

static void tell_progress(void *ctx, int n_done, int n_total) {
    struct sharing *s = ctx;
    int n_pages = s->source.record.document.n_pages;
    double share = n_total > 0 ? (double)n_done / n_total : 1;
    if (s->job)
        queue_job_progress(s->job, "storing", 0.9 + 0.1 * share, (int)(share * n_pages), n_pages);
}

static void add_text(struct sha256 *hash, const char *text) {
    sha256_update(hash, text, strlen(text) + 1);
}

static char *revision_of(struct arena *arena, const struct sharing *s) {
    const struct chroma_record *record = &s->source.record;
    char *out = arena_alloc(arena, SHA256_HEX + 1), number[48];
    struct sha256 *hash = sha256_new();
    add_text(hash, record->visual_space);
    add_text(hash, record->text_space);
    snprintf(number, sizeof number, "%d %d", record->document.n_pages, record->document.n_chunks);
    add_text(hash, number);
    for (int i = 0; i < record->document.n_chunks; i++) {
        const struct chunk_row *chunk = &s->source.chunks[i];
        snprintf(number, sizeof number, "%d %d %d", chunk->ordinal, chunk->first_page,
                 chunk->last_page);
        add_text(hash, number);
        add_text(hash, chunk->text);
    }
    sha256_finish(out, hash);
    return out;
}

/* After its removal a document is of a later generation, be the removal told or not. What cannot be
 * is not believed. */
static int64_t next_generation(int64_t known, int64_t removed) {
    if (removed > 0 && removed < CHROMA_MAX_GENERATION && known <= removed)
        return removed + 1;
    return known > 0 && known <= CHROMA_MAX_GENERATION ? known : 0;
}

/* Of the spaces in use those that the document has vectors in: without them it is another revision.
 */
static bool find_spaces(struct sharing *s, const char *doc_id, struct error *err) {
    if (!corpus_shared_spaces(&s->spaces, s->arena, s->corpus, err))
        return false;
    for (int role = 0; role < CORPUS_ROLES; role++) {
        enum item_kind kind = role == ROLE_VISUAL ? ITEM_PAGE : ITEM_CHUNK;
        struct vector_cover cover = {0};
        int space = s->spaces.numbers[kind];
        if (space != 0 && !store_vector_cover(&cover, s->corpus->store, space,
                                              corpus_vector_kind(role), doc_id, err))
            return false;
        if (cover.n_without > 0) {
            s->spaces.numbers[kind] = 0;
            s->spaces.names.of[kind] = (struct chroma_space){.name = ""};
        }
    }
    return true;
}

/* *found false: there is no such READY document that is ours to put. */
static bool load(struct sharing *s, bool *found, const char *doc_id, struct error *err) {
    struct store *store = s->corpus->store;
    struct chroma_record *record = &s->source.record;
    struct page_row *pages;
    struct chunk_row *chunks;
    bool shared = false;
    int64_t removed = 0;
    int n_pages, n_chunks;
    if (!store_find_document(&record->document, found, s->arena, store, doc_id, err) ||
        !store_find_shared(&s->shared, &shared, s->arena, store, doc_id, err) ||
        !store_find_removal(&removed, store, doc_id, err))
        return false;
    bool older = shared && strcmp(s->shared.origin, OLDER_ORIGIN) == 0; /* brought over */
    *found = *found && shared && record->document.state == DOCUMENT_READY &&
             (older || !*s->shared.origin);
    if (!*found)
        return true;
    if (!find_spaces(s, doc_id, err) ||
        !store_list_pages(&pages, &n_pages, s->arena, store, doc_id, err) ||
        !store_list_chunks(&chunks, &n_chunks, s->arena, store, doc_id, true, err))
        return false;
    record->pages = pages;
    record->document.n_pages = n_pages;
    record->document.n_chunks = n_chunks;
    record->generation = next_generation(s->shared.generation, removed);
    record->worker = older ? OLDER_ORIGIN : s->corpus->shared->worker;
    record->visual_space = s->spaces.names.of[ITEM_PAGE].name;
    record->text_space = s->spaces.names.of[ITEM_CHUNK].name;
    s->source.chunks = chunks;
    record->revision = revision_of(s->arena, s);
    return true;
}

/* ---- what came of it ------------------------------------------------------------------------ */

/* Notes that it is there; what was removed here meanwhile is to be removed there. */
static bool note(struct sharing *s, int64_t generation, int64_t epoch, struct error *err) {
    const struct chroma_record *record = &s->source.record;
    const char *doc_id = record->document.doc_id;
    struct shared_row now;
    struct store_tx *tx;
    bool found = false;
    struct lock *stripe = corpus_stripe(s->corpus, doc_id);
    lock_take(stripe);
    bool begun = store_begin(&tx, s->corpus->store, err);
    bool ok = begun && store_find_shared(&now, &found, s->arena, s->corpus->store, doc_id, err);
    if (ok && found)
        ok = store_set_shared(tx, doc_id, generation, epoch, record->revision, err) &&
             (!s->job || queue_end_in(s->job, tx, record->document.n_pages, err));
    else if (ok)
        ok = store_put_removal(tx, doc_id, generation, time_wall_ms(), false, err);
    if (ok)
        ok = store_commit(tx, err);
    else if (begun)
        store_rollback(tx);
    lock_drop(stripe);
    if (!ok)
        return false;
    fault_point("shared");
    if (found)
        return true;
    corpus_shared_wake(s->corpus);
    return error_set_code(err, ERROR_CONFLICT, "removed", "the document was removed meanwhile");
}

/* Unless the document is another by now than this one (NULL: none). */
static bool note_left(struct corpus *corpus, struct arena *arena, const char *doc_id,
                      const struct document_row *known, int64_t generation, struct error *err) {
    struct document_row row;
    struct store_tx *tx;
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    bool found = true;
    lock_take(stripe);
    bool ok = store_find_document(&row, &found, arena, corpus->store, doc_id, err);
    bool same = ok && (known ? found && row.added_ms == known->added_ms && row.state == known->state
                             : !found);
    if (same) {
        ok = store_begin(&tx, corpus->store, err);
        bool put = ok && store_put_removal(tx, doc_id, generation, time_wall_ms(), false, err);
        if (ok && !put)
            store_rollback(tx);
        ok = put && store_commit(tx, err);
    }
    lock_drop(stripe);
    if (ok && same)
        corpus_shared_wake(corpus);
    return ok;
}

/* The rows that a put left behind which was broken off for a removal: they are to be taken away. */
static void note_broken_off(struct sharing *s, int64_t generation) {
    struct error err;
    const char *doc_id = s->source.record.document.doc_id;
    if (generation > 0 && !note_left(s->corpus, s->arena, doc_id, NULL, generation, &err))
        log_warn("what was put of a removed document may stay in ChromaDB: %s", err.text);
}

/* Another worker removed what was put from here; what was taken in anew since stays. */
static bool take_removal(struct sharing *s, int64_t generation, struct error *err) {
    const struct document_row *ours = &s->source.record.document;
    struct store *store = s->corpus->store;
    struct document_row row;
    struct shared_row shared;
    struct removed removed;
    struct store_tx *tx;
    bool found = false, known = false;
    struct lock *stripe = corpus_stripe(s->corpus, ours->doc_id);
    lock_take(stripe);
    bool ok = store_find_document(&row, &found, s->arena, store, ours->doc_id, err) &&
              store_find_shared(&shared, &known, s->arena, store, ours->doc_id, err);
    /* It was there, if never seen to be. */
    if (ok && found && known && shared.generation == 0 && row.added_ms == ours->added_ms) {
        ok = store_begin(&tx, store, err);
        bool set = ok && store_set_shared(tx, ours->doc_id, generation, shared.epoch,
                                          shared.revision, err);
        if (ok && !set)
            store_rollback(tx);
        ok = set && store_commit(tx, err);
    }
    lock_drop(stripe);
    return ok && corpus_take_removal(&removed, s->corpus, ours->doc_id, generation, err);
}

static bool put(struct sharing *s, struct error *err) {
    enum chroma_put outcome;
    int64_t generation = s->source.record.generation, epoch;
    if (!corpus_shared_epoch(&epoch, s->corpus, err))
        return false;
    if (!chroma_put_document(&outcome, &generation, s->corpus->shared->chroma, &s->source, err)) {
        note_broken_off(s, generation);
        return false;
    }
    fault_point("put");
    if (outcome != CHROMA_REMOVED)
        return note(s, generation, epoch, err);
    if (!take_removal(s, generation, err))
        return false;
    return error_set_code(err, ERROR_CONFLICT, "removed", "another worker removed the document");
}

bool corpus_share(struct corpus *corpus, struct queue_job *job, const char *doc_id,
                  struct error *err) {
    struct sharing s = {.corpus = corpus, .job = job, .arena = arena_new(0)};
    int64_t begun_ms = time_mono_ms();
    bool found;
    s.source.ctx = &s;
    s.source.item = give_item;
    s.source.cancelled = is_cancelled;
    s.source.progress = tell_progress;
    bool ok = load(&s, &found, doc_id, err);
    if (ok && !found)
        ok = error_set_code(err, ERROR_CONFLICT, "removed", "there is no reading to share");
    ok = ok && put(&s, err) &&
         corpus_older_supersede(corpus, s.source.record.document.source_path, err);
    if (ok)
        metric_observe("docusearch_stage_seconds", "stage=\"share\"", "Time a stage of a job took.",
                       (double)(time_mono_ms() - begun_ms) / 1000);
    arena_free(s.arena);
    return ok;
}

bool corpus_share_seen(struct corpus *corpus, const char *doc_id, int64_t generation, int64_t epoch,
                       const char *revision, struct error *err) {
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (store_set_shared(tx, doc_id, generation, epoch, revision, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

/* ---- what is there of own documents --------------------------------------------------------- */

static bool note_met(struct corpus *corpus, const char *doc_id, const struct shared_row *row,
                     const struct chroma_record *record, struct error *err) {
    bool later = !record->removed && record->generation > row->generation;
    bool stays = later && !record->lost_rows;
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (store_set_shared(tx, doc_id, later ? record->generation : row->generation,
                         stays ? row->epoch : 0, row->revision, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

/* Of a document that is not here, or never shared since it was taken in: a put from here that
 * nobody saw to its end, as the program was killed or the job cancelled, and a removal that was not
 * told, as it was taken in again. The document is there if it was read and all of it came there,
 * however late the cancelling; if it was removed, or is not to be read, what is there is to go. */
static bool meet_left(struct corpus *corpus, struct arena *arena,
                      const struct chroma_record *record, bool known, bool ours,
                      struct error *err) {
    const char *doc_id = record->document.doc_id;
    struct document_row row = {.state = DOCUMENT_WAITING};
    struct job_row job = {.state = JOB_CANCELLED};
    bool found = false, has_job = false, whole = false;
    int64_t removed, epoch;
    if (!store_find_removal(&removed, corpus->store, doc_id, err) ||
        (known && (!store_find_document(&row, &found, arena, corpus->store, doc_id, err) ||
                   !store_find_document_job(&job, &has_job, arena, corpus->store, doc_id, err))))
        return false;
    bool ready = row.state == DOCUMENT_READY, later = record->generation > removed;
    bool busy = has_job && job.state != JOB_CANCELLED && job.state != JOB_FAILED;
    if (!known)
        return removed == 0 || !later ||
               note_left(corpus, arena, doc_id, NULL, record->generation, err);
    if (!found || busy || (ready && !(has_job && job.state == JOB_CANCELLED)))
        return true;
    if (!later || (ours && !ready))
        return note_left(corpus, arena, doc_id, &row, later ? record->generation : removed, err);
    return !ours || (corpus_shared_epoch(&epoch, corpus, err) &&
                     chroma_is_whole(&whole, corpus->shared->chroma, record, err) &&
                     (!whole || corpus_share_seen(corpus, doc_id, record->generation, epoch,
                                                  record->revision, err)));
}

bool corpus_share_meet(struct corpus *corpus, const struct chroma_record *record,
                       struct error *err) {
    const char *doc_id = record->document.doc_id;
    struct arena *arena = arena_new(0);
    struct shared_row row;
    bool found;
    bool ours = strcmp(record->worker, corpus->shared->worker) == 0;
    bool ok = store_find_shared(&row, &found, arena, corpus->store, doc_id, err);
    if (ok && !record->removed && (found ? !*row.origin && row.generation == 0 : ours)) {
        ok = meet_left(corpus, arena, record, found, ours, err);
    } else if (ok && found && !*row.origin && row.generation > 0 && row.epoch > 0) {
        bool older = record->generation < row.generation;
        bool later = record->generation > row.generation;
        if (older || (!record->removed && (later || record->lost_rows)))
            ok = note_met(corpus, doc_id, &row, record, err);
    }
    arena_free(arena);
    return ok;
}

/* ---- held until then ------------------------------------------------------------------------ */

bool corpus_share_hold(struct corpus *corpus, struct store_tx *tx, const char *doc_id,
                       struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool found;
    bool ok = store_find_shared(&shared, &found, arena, corpus->store, doc_id, err);
    bool known = ok && found && shared.generation > 0;
    arena_free(arena);
    return ok && (known || store_set_shared(tx, doc_id, 0, SHARED_HELD, "", err));
}

bool corpus_share_is_held(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool found = false;
    *out = false;
    bool ok = !corpus->shared ||
              store_find_shared(&shared, &found, arena, corpus->store, doc_id, err);
    *out = ok && found && shared.epoch == SHARED_HELD;
    arena_free(arena);
    return ok;
}

bool corpus_share_is_left(bool *out, struct corpus *corpus, const struct job_row *job,
                          struct error *err) {
    struct arena *arena = arena_new(0);
    struct document_row row;
    struct shared_row shared;
    bool found, known = false, lacks = true;
    *out = false;
    bool ok = store_find_document(&row, &found, arena, corpus->store, job->doc_id, err);
    if (ok && found && row.state == DOCUMENT_READY && row.ready_ms >= job->created_ms)
        ok = store_find_shared(&shared, &known, arena, corpus->store, job->doc_id, err) &&
             corpus_lacks_vectors(&lacks, corpus, job->doc_id, err);
    *out = ok && known && !*shared.origin && !lacks;
    arena_free(arena);
    return ok;
}

bool corpus_share_shows(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool found;
    bool ok = store_find_shared(&shared, &found, arena, corpus->store, doc_id, err);
    *out = ok && found && shared.epoch != SHARED_HELD;
    arena_free(arena);
    return ok;
}
