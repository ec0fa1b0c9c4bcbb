/* Whether what was put into the shared store is still there: somebody may delete rows by hand, and
 * no record changes by that.
 *
 * Every look at all records finds the documents whose record is gone: own ones are put again, and
 * of those of other workers it is said. Rows that are gone while the record stands show in how many
 * a collection has: fewer than the records tell of, or than it had, though nothing was removed.
 * Where that stands, each document is looked at by itself, a few at a time. */
#include "corpus/standing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST 500
#define EACH_MS 1000   /* of each round, for documents by themselves */
#define JUDGE_MS 36000 /* after a look rows have been counted anew */
#define SETTLE_MS 1500 /* a removal's rows go a little before its tombstone is seen */
#define REST_TIMES 10  /* as long as it took no other look at each is begun */
#define FELL_MS 30000  /* between two looks at all records for rows that went */

/* ---- all records ---------------------------------------------------------------------------- */

struct seen {
    uint64_t key; /* the id's first half */
    int64_t doc_no;
    bool met;
};

static uint64_t key_of(const char *doc_id) {
    char half[17];
    snprintf(half, sizeof half, "%.16s", doc_id);
    return strtoull(half, NULL, 16);
}

static int by_key(const void *a, const void *b) {
    const struct seen *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* The Python worker's that were not brought over have no record. */
static bool has_record(const struct shared_row *row) {
    return strcmp(row->origin, OLDER_ORIGIN) != 0 || sha256_is_hex(row->revision);
}

bool corpus_standing_begin(struct standing *out, struct corpus *corpus, int64_t epoch,
                           struct error *err) {
    int64_t after = 0;
    *out = (struct standing){.epoch = epoch};
    for (int n = LIST; n == LIST;) {
        struct arena *arena = arena_new(0);
        struct shared_row *rows;
        bool ok = store_list_seen(&rows, &n, arena, corpus->store, epoch, after, LIST, err);
        struct seen seen;
        for (int i = 0; i < n && ok; i++) {
            after = rows[i].doc_no;
            seen = (struct seen){.key = key_of(rows[i].doc_id), .doc_no = after};
            if (has_record(&rows[i]))
                buf_append(&out->seen, &seen, sizeof seen);
        }
        arena_free(arena);
        if (!ok)
            return false;
    }
    if (out->seen.len > 0)
        qsort(out->seen.data, out->seen.len / sizeof(struct seen), sizeof(struct seen), by_key);
    return true;
}

void corpus_standing_meet(struct standing *standing, const struct chroma_record *record) {
    const struct seen wanted = {.key = key_of(record->document.doc_id)};
    struct seen *seen = NULL;
    if (!record->removed && standing->seen.len > 0)
        seen = bsearch(&wanted, standing->seen.data, standing->seen.len / sizeof wanted,
                       sizeof wanted, by_key);
    if (!seen || seen->met)
        return;
    seen->met = true;
    standing->n_rows[ITEM_PAGE] += record->n_page_rows;
    standing->n_rows[ITEM_CHUNK] += record->n_chunk_rows;
    standing->n_records += 1 + record->document.n_chunks - record->n_chunk_rows;
}

static bool set_unseen(struct corpus *corpus, int64_t epoch, const int64_t *doc_nos, int n,
                       struct error *err) {
    struct store_tx *tx;
    if (n == 0)
        return true;
    if (!store_begin(&tx, corpus->store, err))
        return false;
    if (store_set_unseen(tx, epoch, doc_nos, n, err))
        return store_commit(tx, err);
    store_rollback(tx);
    return false;
}

bool corpus_standing_end(struct standing *standing, struct shared *s, struct error *err) {
    const struct seen *seen = (const struct seen *)standing->seen.data;
    size_t n_seen = standing->seen.len / sizeof *seen;
    int64_t doc_nos[LIST], n_gone = 0;
    int n = 0;
    bool ok = true;
    for (size_t i = 0; i < n_seen && ok; i++) {
        if (seen[i].met)
            continue;
        doc_nos[n++] = seen[i].doc_no;
        n_gone++;
        if (n == LIST) {
            ok = set_unseen(s->corpus, standing->epoch, doc_nos, n, err);
            n = 0;
        }
    }
    ok = ok && set_unseen(s->corpus, standing->epoch, doc_nos, n, err);
    if (ok && n_gone > 0)
        log_warn("ChromaDB has lost %" PRId64
                 " documents: those of this worker are put into it again",
                 n_gone);
    struct rows *rows = &s->rows;
    memcpy(rows->wanted, standing->n_rows, sizeof rows->wanted);
    rows->n_records = standing->n_records;
    rows->judge_ms = time_mono_ms() + JUDGE_MS;
    rows->fell_ms = 0;
    return ok;
}

void corpus_standing_free(struct standing *standing) {
    buf_fini(&standing->seen);
}

/* ---- how many rows -------------------------------------------------------------------------- */

/* What the records say that the collection of this name has at least. */
static int64_t wanted_of(const struct shared *s, const char *name) {
    const struct settings *settings = s->corpus->settings;
    const char *of[] = {settings->visual_collection, settings->text_collection};
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        size_t len = strlen(of[kind]);
        if (strncmp(name, of[kind], len) != 0)
            continue;
        const char *rest = name + len;
        if (strcmp(rest, "-documents") == 0)
            return s->rows.n_records;
        if (!*rest || strcmp(rest, "-vectors") == 0 || strcmp(rest, "-tokens") == 0)
            return s->rows.wanted[kind];
    }
    return 0;
}

/* *fell: a collection has fewer rows than it had; *missing: or than the records tell of. */
static void count(bool *fell, bool *missing, struct shared *s) {
    struct arena *arena = arena_new(0);
    struct chroma_facts facts;
    struct rows *rows = &s->rows;
    *fell = *missing = false;
    chroma_facts(&facts, arena, s->chroma);
    for (int i = 0; i < facts.n_collections; i++) {
        const struct chroma_collection_facts *one = &facts.collections[i];
        bool same = strncmp(rows->of[i].uuid, one->uuid, sizeof rows->of[i].uuid - 1) == 0;
        if (one->n_rows < 0 || one->foreign)
            continue;
        if (!same || one->n_rows > rows->of[i].most) {
            snprintf(rows->of[i].uuid, sizeof rows->of[i].uuid, "%s", one->uuid);
            rows->of[i].most = one->n_rows;
        }
        *fell = *fell || one->n_rows < rows->of[i].most;
        *missing = *missing || one->n_rows < wanted_of(s, one->name);
    }
    arena_free(arena);
}

void corpus_rows_forget(struct shared *s) {
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        s->rows.of[i].uuid[0] = '\0';
    s->rows.fell_ms = s->rows.judge_ms = 0;
    s->rows.n_short = 0;
}

void corpus_rows_look(struct shared *s) {
    bool fell, missing;
    struct rows *rows = &s->rows;
    int64_t now_ms = time_mono_ms();
    count(&fell, &missing, s);
    if (!fell || rows->each || rows->n_short > 0)
        return;
    if (rows->fell_ms == 0)
        rows->fell_ms = now_ms;
    if (now_ms - rows->fell_ms < SETTLE_MS || now_ms - s->looked_ms < FELL_MS)
        return;
    rows->n_short = 1;
    s->looked_ms = 0;
}

/* ---- each by itself ------------------------------------------------------------------------- */

static bool is_there(bool *out, struct shared *s, const struct shared_row *row, struct error *err) {
    struct arena *arena = arena_new(0);
    struct chroma_record record;
    bool found = false;
    *out = !has_record(row);
    bool ok = *out || (chroma_find_document(&record, &found, arena, s->chroma, row->doc_id, err) &&
                       (!found || chroma_is_whole(out, s->chroma, &record, err)));
    arena_free(arena);
    return ok;
}

/* As `reindex --store chroma` looks at it; another worker's can but be told of. What is not taken
 * is put again with all that wait. */
static bool look_at(struct shared *s, const struct shared_row *row, int64_t epoch,
                    struct error *err) {
    bool there;
    if (*row->origin && !is_there(&there, s, row, err))
        return false;
    if (!*row->origin)
        there = corpus_share(s->corpus, NULL, row->doc_id, err);
    if (!there && !*row->origin && (err->kind == ERROR_IO || strcmp(err->code, SHARED_DOWN) == 0))
        return false;
    return there || set_unseen(s->corpus, epoch, &row->doc_no, 1, err);
}

static void end_each(struct shared *s) {
    int64_t now_ms = time_mono_ms();
    s->rows.each = false;
    s->rows.rest_ms = now_ms + REST_TIMES * (now_ms - s->rows.begun_ms);
    s->looked_ms = 0;
    corpus_rows_forget(s);
}

static bool look_at_each(struct shared *s, int64_t epoch, struct error *err) {
    struct rows *rows = &s->rows;
    int64_t until_ms = time_mono_ms() + EACH_MS;
    while (rows->each && time_mono_ms() < until_ms && !atomic_load(&s->stopping)) {
        struct arena *arena = arena_new(0);
        struct shared_row *row;
        int n;
        bool ok = store_list_seen(&row, &n, arena, s->corpus->store, epoch, rows->after, 1, err) &&
                  (n == 0 || look_at(s, row, epoch, err));
        if (ok && n > 0)
            rows->after = row->doc_no;
        else if (ok)
            end_each(s);
        arena_free(arena);
        if (!ok)
            return false;
    }
    return true;
}

bool corpus_rows_judge(struct shared *s, struct error *err) {
    struct rows *rows = &s->rows;
    int64_t epoch;
    bool fell, missing;
    if (!corpus_shared_epoch(&epoch, s->corpus, err))
        return false;
    if (rows->each)
        return look_at_each(s, epoch, err);
    if (rows->judge_ms == 0 || time_mono_ms() < rows->judge_ms)
        return true;
    rows->judge_ms = 0;
    count(&fell, &missing, s);
    if (!missing && !(fell && rows->n_short > 0)) {
        rows->n_short = 0;
        return true;
    }
    if (time_mono_ms() < rows->rest_ms)
        return true;
    rows->n_short++;
    if (rows->n_short < 2) {
        s->looked_ms = 0;
        return true;
    }
    log_warn("Rows are missing in ChromaDB: every document is looked at");
    rows->n_short = 0;
    rows->after = 0;
    rows->begun_ms = time_mono_ms();
    rows->each = true;
    return true;
}
