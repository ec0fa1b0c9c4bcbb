/* Vectors that the index found damaged or missing: the document's rows of that space go, and a job
 * embeds it again from what is stored of it. */
#include "corpus/internal.h"
#include "store/lacking.h"

#include <inttypes.h>

static bool give_up(int64_t *n, struct corpus *corpus, const struct index_damage *damage,
                    struct error *err) {
    struct store_tx *tx;
    int64_t job_id;
    bool put = false;
    *n = 0;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    bool ok = store_drop_vectors(tx, n, damage->space, damage->doc_id, err) &&
              (*n == 0 || corpus_put_reembed(&job_id, &put, corpus, tx, CORPUS_JOB_EMBED,
                                             damage->doc_id, err));
    if (!ok || *n == 0) {
        store_rollback(tx);
        return ok;
    }
    if (!store_commit(tx, err))
        return false;
    fault_point("damaged");
    if (put)
        queue_wake(corpus->queue);
    return true;
}

/* Each document once: of its other items there are no rows any more. */
static void on_damage(void *ctx, const struct index_damage *damage) {
    struct corpus *corpus = ctx;
    struct arena *arena = arena_new(0);
    struct document_row row;
    struct error err;
    bool found = false;
    int64_t n;
    bool ok = store_find_document(&row, &found, arena, corpus->store, damage->doc_id, &err) &&
              give_up(&n, corpus, damage, &err);
    const char *name = found ? row.filename : "a document that is gone";
    const char *what = damage->kind == ITEM_PAGE ? "page" : "passage";
    int item = damage->item + (damage->kind == ITEM_CHUNK);
    if (!ok)
        log_error("Vectors of %s (%s) are damaged and cannot be taken out: %s", name,
                  damage->doc_id, err.text);
    else if (n > 0 && damage->file)
        log_warn("Vectors of %s (%s) are damaged: %s, %s of %s %d; it is embedded again if its "
                 "model is there",
                 name, damage->doc_id, damage->file, damage->part, what, item);
    else if (n > 0)
        log_warn("Vectors of %s (%s) are lost: %s of %s %d; it is embedded again if its model is "
                 "there",
                 name, damage->doc_id, damage->part, what, item);
    metric_add("docusearch_vectors_damaged", NULL, "Documents whose vectors were damaged.",
               ok && n > 0);
    arena_free(arena);
}

void corpus_watch_damage(struct corpus *corpus) {
    index_on_damage(corpus->index, on_damage, corpus);
}
