/* Documents of other workers, as the shared store has them: their rows and passages here, so that
 * words, lists and filters know them as every worker does; their vectors stay there.
 *
 * Invariants:
 *  1. A document is taken in only when all its rows are there.
 *  2. A removal takes out what is of its generation or an older one, and nothing that came later.
 *  3. An own document stands before another worker's, unless nothing came of it here.
 */
#include "corpus/shared.h"

#include <inttypes.h>
#include <string.h>

struct known {
    struct document_row document;
    struct shared_row shared;
    bool found;
    bool idle;    /* own: it failed or was cancelled, and nothing is to come of it */
    bool running; /* own, and likewise but for a job that runs */
};

/* What became of an own document? */
static bool judge(struct known *known, struct arena *arena, struct corpus *corpus,
                  struct error *err) {
    struct job_row job;
    bool found, ready = known->document.state == DOCUMENT_READY;
    if (ready && known->shared.epoch != SHARED_HELD)
        return true;
    if (!store_find_document_job(&job, &found, arena, corpus->store, known->document.doc_id, err))
        return false;
    bool cancelled = found && job.state == JOB_CANCELLED;
    bool live = found && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING);
    known->idle = ready ? cancelled : !live;
    known->running = found && job.state == JOB_PROCESSING;
    return true;
}

static bool look(struct known *out, struct arena *arena, struct corpus *corpus, const char *doc_id,
                 struct error *err) {
    bool shared = false;
    memset(out, 0, sizeof *out);
    if (!store_find_document(&out->document, &out->found, arena, corpus->store, doc_id, err) ||
        !store_find_shared(&out->shared, &shared, arena, corpus->store, doc_id, err))
        return false;
    out->found = out->found && shared;
    return !out->found || *out->shared.origin || judge(out, arena, corpus, err);
}

static bool same_text(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Is it here as the record has it? */
static bool is_current(const struct known *known, const struct chroma_record *record) {
    const struct document_row *here = &known->document, *there = &record->document;
    return known->shared.generation == record->generation &&
           same_text(known->shared.revision, record->revision) &&
           same_text(known->shared.origin, record->worker) &&
           same_text(here->filename, there->filename) && same_text(here->title, there->title);
}

/* It is here as it is there; and the store is another one than it was last seen in. */
static bool renew(bool *whole, struct corpus *corpus, const struct chroma_record *record,
                  int64_t epoch, struct error *err) {
    return chroma_is_whole(whole, corpus->shared->chroma, record, err) &&
           (!*whole || corpus_share_seen(corpus, record->document.doc_id, record->generation, epoch,
                                         record->revision, err));
}

/* Did this folder remove what the record tells of, and is yet to say so? */
static bool was_removed_here(bool *out, struct corpus *corpus, const struct chroma_record *record,
                             struct error *err) {
    int64_t generation;
    *out = false;
    if (!store_find_removal(&generation, corpus->store, record->document.doc_id, err))
        return false;
    *out = generation > 0 && generation >= record->generation;
    return true;
}

/* Of a document that is another worker's now. */
static void drop_files(struct corpus *corpus, const char *doc_id) {
    struct error err;
    if (!store_drop_files(corpus->store, doc_id, &err))
        log_warn("files of %s stay behind: %s", doc_id, err.text);
}

static bool put(struct arena *arena, struct corpus *corpus, const struct chroma_record *record,
                int64_t epoch, struct error *err) {
    const char *doc_id = record->document.doc_id;
    struct chunk_row *chunks;
    struct store_tx *tx;
    struct shared_row shared = {.origin = record->worker,
                                .generation = record->generation,
                                .epoch = epoch,
                                .revision = record->revision};
    struct known known;
    bool own = false;
    int n;
    memcpy(shared.doc_id, doc_id, sizeof shared.doc_id);
    if (!chroma_load_chunks(&chunks, &n, arena, corpus->shared->chroma, record, err))
        return false;
    struct lock *stripe = corpus_stripe(corpus, doc_id);
    lock_take(stripe);
    bool ok = look(&known, arena, corpus, doc_id, err) && store_begin(&tx, corpus->store, err);
    if (ok && (!known.idle || store_give_up(tx, doc_id, record->worker, err)) &&
        store_put_mirrored(tx, &own, &record->document, &shared, record->pages, chunks, n, err)) {
        ok = store_commit(tx, err);
    } else if (ok) {
        store_rollback(tx);
        ok = false;
    }
    if (ok && known.idle)
        drop_files(corpus, doc_id);
    lock_drop(stripe);
    if (ok && !own) {
        log_info("Found document: %s (%d pages), put by %s", record->document.filename,
                 record->document.n_pages, record->worker);
        corpus_tell(corpus, DOCUMENT_FOUND, doc_id, record->document.filename);
    }
    return ok;
}

bool corpus_mirror(bool *whole, struct corpus *corpus, const struct chroma_record *record,
                   struct error *err) {
    struct arena *arena = arena_new(0);
    struct known known;
    struct removed removed;
    int64_t epoch;
    bool gone = false;
    *whole = true;
    bool ok = corpus_shared_epoch(&epoch, corpus, err) &&
              look(&known, arena, corpus, record->document.doc_id, err);
    if (ok && record->removed) {
        if (known.found && known.shared.generation > 0)
            ok = corpus_take_removal(&removed, corpus, record->document.doc_id, record->generation,
                                     err);
    } else if (ok && known.found && *known.shared.origin && is_current(&known, record)) {
        ok = known.shared.epoch == epoch || renew(whole, corpus, record, epoch, err);
    } else if (ok && known.running) {
        *whole = false; /* what comes of it is to be seen first */
    } else if (ok && (!known.found || *known.shared.origin ||
                      (known.idle && strcmp(record->worker, corpus->shared->worker) != 0))) {
        ok = was_removed_here(&gone, corpus, record, err);
        if (ok && !gone)
            ok = chroma_is_whole(whole, corpus->shared->chroma, record, err) &&
                 (!*whole || put(arena, corpus, record, epoch, err));
    }
    arena_free(arena);
    return ok;
}
