/* A corpus brought from one place of vectors to the other: everything of ours into the shared
 * store, looked at row by row; or everything that the store has of others into the index here, so
 * that searches need the store no more. */
#include "corpus/older.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DOWN_MS 2000
#define LONGEST_DOWN_MS 60000
#define BATCH 64

static void note(struct reindex *r, const char *text) {
    lock_take(&r->lock);
    snprintf(r->note, sizeof r->note, "%s", text);
    lock_drop(&r->lock);
}

static void count(struct reindex *r, bool done, int n_pages) {
    lock_take(&r->lock);
    r->n_done += done;
    r->n_failed += !done;
    r->n_pages += done ? n_pages : 0;
    lock_drop(&r->lock);
}

/* A store that does not answer is waited for, a while; *again: it was. False: the run ends, which
 * another does no worse. */
static bool wait_for_store(bool *again, struct reindex *r, const struct error *why,
                           struct error *err) {
    *again = strcmp(why->code, SHARED_DOWN) == 0;
    note(r, *again ? why->text : "");
    r->down_ms = !*again ? 0 : r->down_ms ? r->down_ms : time_mono_ms();
    if (*again && time_mono_ms() - r->down_ms > LONGEST_DOWN_MS) {
        *err = *why;
        return false;
    }
    return corpus_reindex_goes_on(r, *again ? DOWN_MS : 0, err);
}

/* What became of one document is counted; one that cannot be brought is not the run's end. */
static void settle(struct reindex *r, bool ok, const char *doc_id, int n_pages,
                   const struct error *why) {
    count(r, ok, n_pages);
    if (ok)
        return;
    r->last = *why;
    log_warn("%.12s cannot be brought over: %s", doc_id, why->text);
}

/* ---- into the store ------------------------------------------------------------------------- */

static bool give(struct reindex *r, const struct shared_row *row, struct error *err) {
    struct arena *arena = arena_new(0);
    struct document_row document = {0};
    struct error why = {0};
    bool found, again = true, ok = false, given = false;
    while (again && !given) {
        why = (struct error){0};
        given = corpus_share(r->corpus, NULL, row->doc_id, &why);
        ok = wait_for_store(&again, r, &why, err);
        if (!ok)
            break;
    }
    if (ok && (given || strcmp(why.code, "removed") != 0)) {
        if (!store_find_document(&document, &found, arena, r->corpus->store, row->doc_id, &why))
            given = false;
        settle(r, given, row->doc_id, document.n_pages, &why);
    }
    arena_free(arena);
    return ok;
}

static bool give_all(struct reindex *r, struct error *err) {
    int64_t after = 0;
    for (int n = BATCH; n == BATCH;) {
        struct arena *arena = arena_new(0);
        struct shared_row *rows;
        bool ok = store_list_unshared(&rows, &n, &after, arena, r->corpus->store, INT64_MAX, after,
                                      BATCH, err);
        for (int i = 0; i < n && ok; i++)
            ok = give(r, &rows[i], err);
        arena_free(arena);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- into the index ------------------------------------------------------------------------- */

bool corpus_carry_add(struct carrying *carrying, enum item_kind kind, int item,
                      const float *vectors, int n, struct error *err) {
    const int *numbers = carrying->spaces.numbers;
    bool one = numbers[ITEM_PAGE] == numbers[ITEM_CHUNK];
    struct index_writer **writer = &carrying->writers[one ? ITEM_PAGE : kind];
    return (*writer || index_writer_open(writer, carrying->corpus->index, numbers[kind],
                                         carrying->doc_id, err)) &&
           index_writer_add(*writer, kind, item, vectors, n, err);
}

bool corpus_carry_commit(struct carrying *carrying, struct error *err) {
    struct store_tx *tx;
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++)
        ok = !carrying->writers[i] || index_writer_sync(carrying->writers[i], err);
    if (!ok || !store_begin(&tx, carrying->corpus->store, err))
        return false;
    for (int i = 0; i < 2 && ok; i++)
        ok = !carrying->writers[i] || index_writer_commit(carrying->writers[i], tx, err);
    if (ok)
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

void corpus_carry_end(struct carrying *carrying) {
    for (int i = 0; i < 2; i++)
        index_writer_free(carrying->writers[i]);
}

struct fetching {
    struct carrying carrying;
    const struct chroma_record *record;
    struct arena *arena;
};

static bool fetch_item(struct fetching *f, enum item_kind kind, int item, struct error *err) {
    struct arena *arena = arena_new(0);
    struct chroma_item there;
    float *vectors = NULL;
    bool found = false;
    bool ok = chroma_load_item(&there, &found, arena, f->carrying.corpus->shared->chroma,
                               f->carrying.doc_id, kind, item, err);
    if (ok && found) {
        bool late = there.codes.n > 0;
        ok = (!late || index_codes_decode(&vectors, arena, &there.codes, err)) &&
             corpus_carry_add(&f->carrying, kind, item, late ? vectors : there.vector, there.n,
                              err);
    }
    arena_free(arena);
    return ok;
}

/* Vectors of a model that is not in use here would never be asked. */
static bool check_spaces(struct fetching *f, struct error *err) {
    const char *theirs[] = {f->record->visual_space, f->record->text_space};
    const struct shared_spaces *spaces = &f->carrying.spaces;
    if (!corpus_shared_spaces(&f->carrying.spaces, f->arena, f->carrying.corpus, err))
        return false;
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        if (*theirs[kind] && strcmp(theirs[kind], spaces->names.of[kind].name) != 0)
            return error_set_code(err, ERROR_CONFLICT, "other_space",
                                  "its %s are vectors of %.150s, which is not in use here",
                                  kind == ITEM_PAGE ? "pages" : "passages", theirs[kind]);
    }
    return true;
}

static bool fetch_items(struct fetching *f, struct error *err) {
    const struct document_row *document = &f->record->document;
    struct chunk_row *chunks;
    int n_chunks;
    bool ok = check_spaces(f, err) &&
              store_list_chunks(&chunks, &n_chunks, f->arena, f->carrying.corpus->store,
                                document->doc_id, false, err);
    for (int page = 1; ok && *f->record->visual_space && page <= document->n_pages; page++)
        ok = fetch_item(f, ITEM_PAGE, page, err);
    for (int i = 0; ok && *f->record->text_space && i < n_chunks; i++)
        ok = fetch_item(f, ITEM_CHUNK, chunks[i].ordinal, err);
    return ok && corpus_carry_commit(&f->carrying, err);
}

static bool fetch_once(struct reindex *r, const struct chroma_record *record, struct error *err) {
    struct fetching f = {.carrying = {.corpus = r->corpus, .doc_id = record->document.doc_id},
                         .record = record,
                         .arena = arena_new(0)};
    bool ok = fetch_items(&f, err);
    corpus_carry_end(&f.carrying);
    arena_free(f.arena);
    return ok;
}

static bool fetch(void *ctx, const struct chroma_record *record, struct error *err) {
    struct reindex *r = ctx;
    const struct document_row *document = &record->document;
    struct error why = {0};
    bool mirrored, again = true, ok = false, fetched = false;
    if (record->removed)
        return true;
    if (!store_is_mirrored(&mirrored, r->corpus->store, document->doc_id, err))
        return false;
    if (!mirrored) /* what is ours has its vectors here */
        return true;
    while (again && !fetched) {
        why = (struct error){0};
        fetched = fetch_once(r, record, &why);
        ok = wait_for_store(&again, r, &why, err);
        if (!ok)
            return false;
    }
    settle(r, fetched, document->doc_id, document->n_pages, &why);
    return ok;
}

/* ---- the run -------------------------------------------------------------------------------- */

bool corpus_move_run(struct reindex *r, struct error *err) {
    struct shared_counts counts;
    struct corpus *corpus = r->corpus;
    bool to_store = r->plan.move == MOVE_TO_STORE;
    int64_t epoch;
    if (!corpus->shared)
        return error_set(err, ERROR_CONFLICT, "CHROMA_HOST is not set");
    bool again = true;
    r->down_ms = 0;
    while (again) {
        struct error why = {0};
        corpus_shared_epoch(&epoch, corpus, &why);
        if (!wait_for_store(&again, r, &why, err))
            return false;
    }
    int64_t n_older = 0;
    if (!store_count_shared(&counts, corpus->store, epoch, err) ||
        (to_store && !corpus_older_count(&n_older, corpus, err)))
        return false;
    lock_take(&r->lock);
    r->n_total = to_store ? counts.own + n_older : counts.mirrored;
    r->role = "both";
    lock_drop(&r->lock);
    if (!(to_store ? give_all(r, err) && corpus_older_move(r, err)
                   : chroma_list_documents(corpus->shared->chroma, 0, fetch, r, err)))
        return false;
    if (r->n_failed == 0)
        return true;
    *err = r->last;
    error_prefix(err, "%" PRId64 " document%s could not be brought over; the last: ", r->n_failed,
                 r->n_failed == 1 ? "" : "s");
    return false;
}
