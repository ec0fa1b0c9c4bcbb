/* A document that has been read, embedded again without being read again: its stored page pictures
 * and passages through the models, its rows of the spaces replaced in one transaction with the
 * job's end. Until then its old vectors answer.
 *
 * Where a page's picture is gone, its original is read again by the same job. */
#include "corpus/shared.h"
#include "corpus/vectors.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_VISUAL 0.3
#define PROGRESS_TEXT 0.6
#define PROGRESS_STORING 0.9
#define LOOK_MS 100

struct again {
    bool lacked; /* there was something to embed */
    struct corpus *corpus;
    struct queue_job *job;
    const struct job_row *row;
    struct arena *arena;
    struct document_row document;
    struct doc_vectors *vectors;
};

/* ---- queued --------------------------------------------------------------------------------- */

bool corpus_put_reembed(int64_t *job_id, bool *put, struct corpus *corpus, struct store_tx *tx,
                        const char *kind, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct document_row row;
    struct job_row job;
    bool found = false, has_job = false;
    *put = false;
    bool ok = store_find_document(&row, &found, arena, corpus->store, doc_id, err) &&
              store_find_document_job(&job, &has_job, arena, corpus->store, doc_id, err);
    if (ok && found && row.state == DOCUMENT_READY) {
        bool waits = has_job && job.state == JOB_QUEUED && !job.cancel_asked &&
                     (strcmp(job.kind, kind) == 0 || strcmp(job.kind, CORPUS_JOB_EMBED) != 0);
        *put = true;
        *job_id = has_job ? job.job_id : 0;
        if (!waits)
            ok = queue_put(job_id, corpus->queue, tx, kind, doc_id, row.filename, 0, err);
    }
    arena_free(arena);
    return ok;
}

bool corpus_embed_later(bool *put, struct corpus *corpus, struct store_tx *tx,
                        const struct doc_vectors *vectors, const struct job_row *row,
                        struct error *err) {
    int64_t job_id;
    *put = !corpus_vectors_current(vectors);
    return !*put || queue_put(&job_id, corpus->queue, tx, CORPUS_JOB_EMBED, row->doc_id,
                              row->filename, 0, err);
}

/* ---- done ----------------------------------------------------------------------------------- */

/* Models that are on their way are waited for: what the document lacks is known only then. */
static bool wait_loaded(const struct vector_targets *targets, struct again *in, struct error *err) {
    for (int i = 0; i < targets->n; i++) {
        enum model_state state;
        while (!corpus_owner_settled(&state, targets->items[i].owner)) {
            if (queue_job_cancelled(in->job))
                return error_set_code(err, ERROR_CONFLICT, "cancelled", "the job was cancelled");
            time_sleep_ms(LOOK_MS);
        }
    }
    return true;
}

/* Who has something to do. */
static bool choose(struct vector_targets *targets, struct again *in, struct error *err) {
    /* An attempt before may have embedded it, and met a store that did not answer. */
    bool all = strcmp(in->row->kind, CORPUS_JOB_REEMBED) == 0 &&
               strcmp(in->row->error_code, SHARED_DOWN) != 0;
    if (!wait_loaded(targets, in, err))
        return false;
    for (int i = 0; i < targets->n; i++) {
        struct vector_target *target = &targets->items[i];
        bool lacks = false;
        enum model_state state;
        if (!corpus_target_lacks(&lacks, target, in->row->doc_id, err))
            return false;
        bool ready = corpus_owner_settled(&state, target->owner) && state == MODEL_READY;
        target->passed_over = !lacks && !(all && ready);
        in->lacked = in->lacked || !target->passed_over;
    }
    return true;
}

static bool has_pictures(const struct again *in) {
    struct arena *arena = arena_new(0);
    bool all = true;
    for (int page = 1; page <= in->document.n_pages && all; page++)
        all = access(store_path(arena, in->corpus->store, in->row->doc_id, STORE_PAGE, page),
                     R_OK) == 0;
    arena_free(arena);
    return all;
}

/* The stored passages, as far as embedding them needs; the arena's. */
static bool load_chunks(struct doc_chunks *out, struct again *in, struct error *err) {
    struct chunk_row *rows;
    int n;
    if (!store_list_chunks(&rows, &n, in->arena, in->corpus->store, in->row->doc_id, false, err))
        return false;
    *out = (struct doc_chunks){.n = (uint32_t)n};
    out->items = arena_alloc(in->arena, ((size_t)n + 1) * sizeof *out->items);
    for (int i = 0; i < n; i++) {
        out->items[i].ordinal = (uint32_t)rows[i].ordinal;
        out->items[i].text = (char *)rows[i].text;
        out->items[i].text_len = (uint32_t)strlen(rows[i].text);
    }
    return true;
}

/* Still the reading that was embedded? In the transaction: nobody commits another meanwhile. */
static bool check_same(struct again *in, struct error *err) {
    struct document_row now;
    bool found;
    if (!store_find_document(&now, &found, in->arena, in->corpus->store, in->row->doc_id, err))
        return false;
    if (found && now.state == DOCUMENT_READY && now.ready_ms == in->document.ready_ms)
        return true;
    return error_set(err, ERROR_BUSY, "the document was read again meanwhile");
}

static bool commit(struct again *in, struct error *err) {
    struct store_tx *tx;
    bool later = false;
    int n_pages = in->document.n_pages;
    queue_job_progress(in->job, "storing", PROGRESS_STORING, n_pages, n_pages);
    if (!store_begin(&tx, in->corpus->store, err))
        return false;
    bool shared = in->corpus->shared != NULL; /* then the job ends once they are there too */
    if ((!shared && !queue_end_in(in->job, tx, n_pages, err)) || !check_same(in, err) ||
        (in->vectors && (!corpus_vectors_commit(in->vectors, tx, err) ||
                         !corpus_embed_later(&later, in->corpus, tx, in->vectors, in->row, err)))) {
        store_rollback(tx);
        return false;
    }
    bool ok = store_commit(tx, err);
    if (ok && shared)
        ok = corpus_share(in->corpus, in->job, in->row->doc_id, err);
    if (ok && in->lacked)
        fault_point("reembedded");
    if (ok && later)
        queue_wake(in->corpus->queue);
    return ok;
}

static bool embed(struct again *in, struct error *err) {
    struct doc_chunks chunks;
    int n_pages = in->document.n_pages;
    bool text = corpus_vectors_has(in->vectors, ROLE_TEXT);
    if (!load_chunks(&chunks, in, err))
        return false;
    for (int page = 1; page <= n_pages; page++)
        corpus_vectors_page(in->vectors, page);
    corpus_vectors_chunks(in->vectors, &chunks);
    bool ok = corpus_vectors_wait(in->vectors, ROLE_VISUAL, n_pages, PROGRESS_VISUAL,
                                  text ? PROGRESS_TEXT : PROGRESS_STORING, err) &&
              corpus_vectors_wait(in->vectors, ROLE_TEXT, n_pages, PROGRESS_TEXT, PROGRESS_STORING,
                                  err) &&
              corpus_vectors_sync(in->vectors, err) && commit(in, err);
    const char *without = ok ? corpus_vectors_warning(in->arena, in->vectors) : "";
    if (*without)
        log_warn("%s: %s", in->row->filename, without);
    corpus_vectors_free(in->vectors); /* before the chunks that they are of */
    in->vectors = NULL;
    return ok;
}

static bool find(struct again *in, struct error *err) {
    bool found;
    if (!store_find_document(&in->document, &found, in->arena, in->corpus->store, in->row->doc_id,
                             err))
        return false;
    if (!found || in->document.state != DOCUMENT_READY)
        return error_set(err, ERROR_CONFLICT, "there is no reading to embed");
    return true;
}

/* *read: the original has to be read instead. */
static bool embed_stored(bool *read, struct again *in, struct error *err) {
    struct vector_targets targets;
    *read = false;
    if (!find(in, err))
        return false;
    corpus_targets_take(&targets, in->corpus);
    if (!choose(&targets, in, err)) {
        corpus_targets_give(&targets);
        return false;
    }
    if (!in->lacked) {
        corpus_targets_give(&targets);
        return commit(in, err);
    }
    in->vectors = corpus_vectors_new(in->corpus, in->job, &targets, false);
    if (corpus_vectors_has(in->vectors, ROLE_VISUAL) && !has_pictures(in)) {
        log_info("Page pictures of %s are gone: its original is read again", in->row->filename);
        corpus_vectors_free(in->vectors);
        in->vectors = NULL;
        *read = true;
        return true;
    }
    return embed(in, err);
}

bool corpus_reembed(struct corpus *corpus, struct queue_job *job, struct error *err) {
    struct again in = {
        .corpus = corpus, .job = job, .row = queue_job_row(job), .arena = arena_new(0)};
    int64_t begun_ms = time_mono_ms();
    bool read;
    bool ok = embed_stored(&read, &in, err);
    double seconds = (double)(time_mono_ms() - begun_ms) / 1000;
    if (!ok && queue_job_cancelled(job))
        error_set_code(err, ERROR_CONFLICT, "cancelled", "the job was cancelled");
    if (ok && !in.lacked)
        log_debug("Nothing of %s lacks vectors", in.row->filename);
    else if (ok && !read)
        log_info("Embedded again: %s (%d pages, %.1fs, %.1f pages/s)", in.row->filename,
                 in.document.n_pages, seconds, seconds > 0 ? in.document.n_pages / seconds : 0);
    else if (!ok && err->kind == ERROR_CONFLICT)
        log_info("Stopped embedding %s again: %s", in.row->filename, err->text);
    else if (!ok)
        log_warn("Failed to embed %s again: %s%s", in.row->filename, err->text,
                 queue_will_retry(job, err) ? " (will be tried again)" : "");
    arena_free(in.arena);
    return read ? corpus_ingest(corpus, job, err) : ok;
}

bool corpus_work(void *ctx, struct queue_job *job, struct error *err) {
    const char *kind = queue_job_row(job)->kind;
    if (strcmp(kind, CORPUS_JOB_INGEST) == 0)
        return corpus_ingest(ctx, job, err);
    if (strcmp(kind, CORPUS_JOB_EMBED) == 0 || strcmp(kind, CORPUS_JOB_REEMBED) == 0)
        return corpus_reembed(ctx, job, err);
    return error_set(err, ERROR_UNSUPPORTED, "no job of kind '%s' is known", kind);
}
