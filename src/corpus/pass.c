/* A run's documents: a window of them in the queue at a time, each in a job of its own. */
#include "corpus/reindex.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DISK_FULL_MS 1000
#define MAX_PASSES 100
#define IN_A_ROW 20 /* documents that fail one after another end the run */

static void set_note(struct reindex *r, const char *text) {
    lock_take(&r->lock);
    snprintf(r->note, sizeof r->note, "%s", text);
    lock_drop(&r->lock);
}

/* ---- documents ------------------------------------------------------------------------------ */

/* Takes the jobs that have ended out of the window. */
static bool settle(struct reindex *r, struct error *err) {
    struct arena *arena = arena_new(0);
    const char *why = "";
    bool ok = true;
    int n = 0, n_open = r->n_open;
    for (int i = 0; i < n_open; i++) {
        struct job_row job;
        bool found = false;
        ok = ok && store_find_job(&job, &found, arena, r->corpus->store, r->open[i], err);
        bool live = !ok || (found && (job.state == JOB_QUEUED || job.state == JOB_PROCESSING));
        if (ok && live && job.error_text[0])
            why = job.error_text;
        if (live) {
            r->open[n++] = r->open[i];
            continue;
        }
        bool done = !found || job.state == JOB_COMPLETED;
        r->n_failed_row = done ? 0 : r->n_failed_row + 1;
        r->n_failed_pass += !done;
        if (!done)
            error_set_code(&r->last, ERROR_INTERNAL,
                           job.error_code[0] ? job.error_code : "cancelled", "%s: %s", job.filename,
                           job.error_text[0] ? job.error_text : "cancelled");
        lock_take(&r->lock);
        r->n_done += done;
        r->n_failed += !done;
        r->n_pages += found && done ? job.n_pages : 0;
        lock_drop(&r->lock);
    }
    r->n_open = n;
    set_note(r, why);
    arena_free(arena);
    return ok;
}

static bool put_jobs(struct reindex *r, const struct lacking_row *rows, int n, struct error *err) {
    struct corpus *corpus = r->corpus;
    const char *kind = r->plan.all ? CORPUS_JOB_REEMBED : CORPUS_JOB_EMBED;
    int64_t jobs[REINDEX_WINDOW];
    int n_put = 0;
    struct store_tx *tx;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        bool put = false;
        ok = corpus_put_reembed(&jobs[n_put], &put, corpus, tx, kind, rows[i].doc_id, err);
        n_put += ok && put;
    }
    r->plan.after = rows[n - 1].doc_no;
    if (!ok || !corpus_reindex_put_plan(tx, &r->plan, err)) {
        store_rollback(tx);
        return false;
    }
    if (!store_commit(tx, err))
        return false;
    fault_point("reindex_queued");
    r->after = rows[n - 1].doc_no;
    memcpy(r->open + r->n_open, jobs, (size_t)n_put * sizeof jobs[0]);
    r->n_open += n_put;
    queue_wake(corpus->queue);
    return true;
}

/* Fills the window; *n counts the documents that were taken up. */
static bool fill(int *n, struct reindex *r, struct error *err) {
    int n_workers = r->corpus->settings->n_workers;
    int room = (n_workers * 4 < REINDEX_WINDOW ? n_workers * 4 : REINDEX_WINDOW) - r->n_open;
    struct lacking_row *rows;
    *n = 0;
    if (room <= 0)
        return true;
    struct arena *arena = arena_new(0);
    bool ok = store_list_lacking(&rows, n, arena, r->corpus->store, r->needs, r->n_needs, r->after,
                                 r->plan.until, room, err) &&
              (*n == 0 || put_jobs(r, rows, *n, err));
    arena_free(arena);
    return ok;
}

/* Every document in its order. A full disk is waited for. */
static bool pass(struct reindex *r, struct error *err) {
    for (;;) {
        int n = 0;
        if (!corpus_reindex_goes_on(r, 0, err))
            return false;
        bool ok = settle(r, err) && fill(&n, r, err);
        if (!ok && strcmp(err->code, "disk_full") != 0)
            return false;
        if (!ok)
            set_note(r, err->text);
        if (r->n_failed_row >= IN_A_ROW) {
            *err = r->last;
            return false;
        }
        if (ok && n == 0 && r->n_open == 0)
            return true;
        if ((!ok || n == 0) && !corpus_reindex_goes_on(r, ok ? REINDEX_LOOK_MS : DISK_FULL_MS, err))
            return false;
    }
}

bool corpus_pass_count(struct lacking_count *out, struct reindex *r, int64_t after, int64_t until,
                       struct error *err) {
    return store_count_lacking(out, r->corpus->store, r->needs, r->n_needs, after, until, err);
}

/* Jobs that an earlier start queued and that have not ended. */
static bool adopt(struct reindex *r, struct error *err) {
    struct arena *arena = arena_new(0);
    struct job_row *jobs;
    int n;
    int64_t total;
    bool ok = store_list_jobs(&jobs, &n, &total, arena, r->corpus->store,
                              1u << JOB_QUEUED | 1u << JOB_PROCESSING, 1000, 0, err);
    for (int i = 0; ok && i < n && r->n_open < REINDEX_WINDOW; i++) {
        if (strcmp(jobs[i].kind, CORPUS_JOB_REEMBED) == 0)
            r->open[r->n_open++] = jobs[i].job_id;
    }
    arena_free(arena);
    return ok;
}

/* How much there is to do, and what an earlier start has done of it. */
bool corpus_pass_total(struct reindex *r, struct error *err) {
    struct lacking_count lacking, every;
    struct vector_need kinds[CORPUS_ROLES];
    for (int i = 0; i < r->n_needs; i++)
        kinds[i] = (struct vector_need){r->needs[i].kind, 0};
    if (r->plan.all && r->plan.until == 0) {
        if (!corpus_pass_count(&every, r, 0, INT64_MAX, err))
            return false;
        r->plan.until = every.last;
    } else if (!r->plan.all) {
        r->plan.until = INT64_MAX;
        r->plan.after = 0;
    }
    r->after = r->plan.after;
    if (!corpus_pass_count(&lacking, r, r->after, r->plan.until, err) ||
        !store_count_lacking(&every, r->corpus->store, kinds, r->n_needs, 0, r->plan.until, err))
        return false;
    if (r->plan.after > 0 && !adopt(r, err))
        return false;
    bool whole = r->plan.all || r->plan.model[0];
    lock_take(&r->lock);
    r->n_total = whole ? every.documents : lacking.documents;
    r->n_done = r->n_total - lacking.documents - r->n_open;
    r->n_done_before = r->n_done;
    r->begun_ms = time_mono_ms();
    lock_drop(&r->lock);
    return true;
}

/* Until no pass leaves fewer documents lacking than the one before; *n_left counts them. */
bool corpus_pass_documents(int64_t *n_left, struct reindex *r, struct error *err) {
    struct lacking_count lacking;
    *n_left = INT64_MAX;
    for (int i = 0; i < MAX_PASSES; i++) {
        int64_t before = *n_left;
        r->n_failed_pass = 0;
        if (!pass(r, err))
            return false;
        if (r->plan.all)
            break;
        if (!corpus_pass_count(&lacking, r, 0, INT64_MAX, err))
            return false;
        *n_left = lacking.documents;
        if (*n_left == 0 || *n_left >= before)
            break;
        r->after = 0;
    }
    if (r->n_failed_pass == 0 || *n_left == 0)
        return true;
    *err = r->last;
    error_prefix(err, "%" PRId64 " document%s could not be embedded; the last: ", r->n_failed_pass,
                 r->n_failed_pass == 1 ? "" : "s");
    return false;
}

void corpus_pass_cancel(struct reindex *r) {
    for (int i = 0; i < r->n_open; i++) {
        bool found;
        struct error err;
        if (!queue_cancel(r->corpus->queue, &found, r->open[i], &err))
            log_warn("a job of the reindexing goes on: %s", err.text);
    }
    r->n_open = 0;
}
