/* Documents as they are there: records, whether all of their rows are, what is in them; removal. */
#include "chroma/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PER_CALL 500 /* rows with metadata */
#define MAX_ATTEMPTS 3

bool chroma_is_late(const struct chroma_set *set, enum item_kind kind) {
    return set->of[CHROMA_OF(kind, CHROMA_TOKENS)].uuid[0] != '\0';
}

void chroma_token_id(char out[CHROMA_MAX_ID], const char *item_id, int token) {
    snprintf(out, CHROMA_MAX_ID, "%.80s-t%02d", item_id, token);
}

void chroma_short_revision(char out[CHROMA_REVISION + 1], const char *revision) {
    size_t len = strnlen(revision, CHROMA_REVISION);
    memcpy(out, revision, len);
    out[len] = '\0';
}

json_t *chroma_where_passages(enum chroma_rows_of which, const char *doc_id, const char *revision) {
    json_t *is_passage = json_pack("{s:s}", "type", "passage");
    json_t *rows = chroma_where(which, doc_id, revision);
    json_t *terms = json_object_get(rows, "$and");
    if (terms) {
        json_array_append_new(terms, is_passage);
        return rows;
    }
    return json_pack("{s:[o,o]}", "$and", rows, is_passage);
}

/* ---- rows by their ids -------------------------------------------------------------------------
 */

typedef bool (*on_metadata)(void *ctx, const json_t *metadata, struct error *err);

static bool each_metadata(struct chroma *chroma, const char *uuid, const char *const *ids, int n,
                          on_metadata visit, void *ctx, struct error *err) {
    for (int from = 0; from < n; from += PER_CALL) {
        json_t *some = json_array();
        for (int i = from; i < n && i < from + PER_CALL; i++)
            json_array_append_new(some, chroma_text(ids[i]));
        json_t *reply;
        if (!chroma_ask(&reply, chroma, uuid, "get",
                        json_pack("{s:o,s:[s]}", "ids", some, "include", "metadatas"), err))
            return false;
        bool ok = true;
        size_t i;
        const json_t *metadata;
        json_array_foreach(json_object_get(reply, "metadatas"), i, metadata) {
            ok = ok && visit(ctx, metadata, err);
        }
        json_decref(reply);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- records --------------------------------------------------------------------------------- */

struct finding {
    struct chroma_record *out;
    bool found;
    struct arena *arena;
};

static bool take_found(void *ctx, const json_t *metadata, struct error *err) {
    struct finding *finding = ctx;
    (void)err;
    finding->found = chroma_record_take(finding->out, finding->arena, metadata);
    return true;
}

bool chroma_find_record(struct chroma_record *out, bool *found, struct arena *arena,
                        struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                        struct error *err) {
    struct finding finding = {.out = out, .arena = arena};
    bool ok = each_metadata(chroma, set->of[CHROMA_DOCUMENTS].uuid, &doc_id, 1, take_found,
                            &finding, err);
    *found = ok && finding.found;
    return ok;
}

bool chroma_find_document(struct chroma_record *out, bool *found, struct arena *arena,
                          struct chroma *chroma, const char *doc_id, struct error *err) {
    struct chroma_set set;
    *found = false;
    return chroma_current(&set, chroma, err) &&
           chroma_find_record(out, found, arena, chroma, &set, doc_id, err);
}

struct listing {
    struct chroma *chroma;
    chroma_visitor visit;
    void *ctx;
};

static bool visit_record(void *ctx, const json_t *metadata, struct error *err) {
    struct listing *listing = ctx;
    struct arena *arena = arena_new(0);
    struct chroma_record record;
    bool ok = true;
    if (chroma_record_take(&record, arena, metadata)) {
        chroma_cache_drop(listing->chroma->cache, record.document.doc_id, record.revision);
        ok = listing->visit(listing->ctx, &record, err);
    }
    arena_free(arena);
    return ok;
}

/* By ids, which are listed first: rows that change meanwhile would shift pages by offset. */
bool chroma_list_documents(struct chroma *chroma, int64_t since_ms, chroma_visitor visit, void *ctx,
                           struct error *err) {
    struct chroma_set set;
    if (!chroma_current(&set, chroma, err))
        return false;
    json_t *where = json_pack("{s:s}", "type", "document");
    if (since_ms > 0)
        where = json_pack("{s:[o,{s:{s:I}}]}", "$and", where, "changed_ms", "$gte",
                          (json_int_t)since_ms);
    struct arena *arena = arena_new(0);
    struct chroma_ids ids;
    const char *uuid = set.of[CHROMA_DOCUMENTS].uuid;
    struct listing listing = {.chroma = chroma, .visit = visit, .ctx = ctx};
    bool ok = chroma_list_ids(&ids, arena, chroma, uuid, where, err) &&
              each_metadata(chroma, uuid, ids.ids, ids.n, visit_record, &listing, err);
    arena_free(arena);
    return ok;
}

/* ---- whole ----------------------------------------------------------------------------------- */

static bool count_of(int *n, struct arena *arena, struct chroma *chroma,
                     const struct chroma_one *one, const struct chroma_record *record,
                     struct error *err) {
    char revision[CHROMA_REVISION + 1];
    chroma_short_revision(revision, record->revision);
    struct chroma_ids ids;
    *n = 0;
    if (!one->uuid[0])
        return true;
    if (!chroma_list_ids(&ids, arena, chroma, one->uuid,
                         chroma_where(CHROMA_ROWS_OF_REVISION, record->document.doc_id, revision),
                         err))
        return false;
    *n = ids.n;
    return true;
}

/* An item's tokens go in one or two calls before its row of V: where the first is, all are, unless
 * the collection was lost. */
static bool has_tokens(bool *out, struct arena *arena, struct chroma *chroma,
                       const struct chroma_set *set, const struct chroma_record *record,
                       enum item_kind kind, struct error *err) {
    const struct chroma_one *codes = &set->of[CHROMA_OF(kind, CHROMA_CODES)];
    int wanted = kind == ITEM_PAGE ? record->n_page_rows : record->n_chunk_rows;
    char revision[CHROMA_REVISION + 1];
    chroma_short_revision(revision, record->revision);
    struct chroma_ids items;
    *out = false;
    if (!codes->uuid[0])
        return true;
    if (!chroma_list_ids(&items, arena, chroma, codes->uuid,
                         chroma_where(CHROMA_ROWS_OF_REVISION, record->document.doc_id, revision),
                         err))
        return false;
    if (items.n != wanted)
        return true;
    for (int i = 0; i < items.n; i++) {
        char id[CHROMA_MAX_ID];
        chroma_token_id(id, items.ids[i], 0);
        items.ids[i] = arena_strdup(arena, id);
    }
    int there = 0;
    if (!chroma_count_ids(&there, chroma, set->of[CHROMA_OF(kind, CHROMA_TOKENS)].uuid, items.ids,
                          items.n, err))
        return false;
    *out = there == wanted;
    return true;
}

static bool is_whole(bool *out, struct arena *arena, struct chroma *chroma,
                     const struct chroma_set *set, const struct chroma_record *record,
                     struct error *err) {
    *out = !record->removed;
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK && *out; kind++) {
        int n, wanted = kind == ITEM_PAGE ? record->n_page_rows : record->n_chunk_rows;
        if (wanted == 0)
            continue;
        if (!count_of(&n, arena, chroma, &set->of[CHROMA_OF(kind, CHROMA_VECTORS)], record, err))
            return false;
        *out = n == wanted;
        if (*out && chroma_is_late(set, (enum item_kind)kind) &&
            !has_tokens(out, arena, chroma, set, record, (enum item_kind)kind, err))
            return false;
    }
    int n_bare = record->document.n_chunks - record->n_chunk_rows;
    if (!*out || n_bare <= 0)
        return true;
    char revision[CHROMA_REVISION + 1];
    chroma_short_revision(revision, record->revision);
    struct chroma_ids bare;
    if (!chroma_list_ids(
            &bare, arena, chroma, set->of[CHROMA_DOCUMENTS].uuid,
            chroma_where_passages(CHROMA_ROWS_OF_REVISION, record->document.doc_id, revision), err))
        return false;
    *out = bare.n == n_bare;
    return true;
}

bool chroma_is_whole(bool *out, struct chroma *chroma, const struct chroma_record *record,
                     struct error *err) {
    struct chroma_set set;
    *out = false;
    if (!chroma_current(&set, chroma, err))
        return false;
    struct arena *arena = arena_new(0);
    bool ok = is_whole(out, arena, chroma, &set, record, err);
    arena_free(arena);
    return ok;
}

/* ---- what is in it --------------------------------------------------------------------------- */

struct loading {
    struct arena *arena;
    struct chunk_row *rows;
    int n, max;
};

static bool take_chunk(void *ctx, const json_t *metadata, struct error *err) {
    struct loading *loading = ctx;
    if (loading->n == loading->max ||
        !chroma_chunk_take(&loading->rows[loading->n], loading->arena, metadata))
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "a passage's row is not as it should be");
    loading->n++;
    return true;
}

static int by_ordinal(const void *a, const void *b) {
    const struct chunk_row *x = a, *y = b;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

bool chroma_load_chunks(struct chunk_row **out, int *n, struct arena *arena, struct chroma *chroma,
                        const struct chroma_record *record, struct error *err) {
    struct chroma_set set;
    *out = NULL;
    *n = 0;
    if (!chroma_current(&set, chroma, err))
        return false;
    const char *doc_id = record->document.doc_id;
    char revision[CHROMA_REVISION + 1];
    chroma_short_revision(revision, record->revision);
    struct loading loading = {.arena = arena, .max = record->document.n_chunks};
    loading.rows = arena_try(arena, (size_t)loading.max + 1, sizeof *loading.rows);
    if (!loading.rows)
        return error_set(err, ERROR_LIMIT, "%d passages are too many for this request's memory",
                         loading.max);
    const char *with = set.of[CHROMA_OF(ITEM_CHUNK, CHROMA_VECTORS)].uuid;
    const char *without = set.of[CHROMA_DOCUMENTS].uuid;
    struct arena *ids_arena = arena_new(0);
    struct chroma_ids ids = {0};
    bool ok = true;
    if (record->n_chunk_rows > 0 && with[0])
        ok = chroma_list_ids(&ids, ids_arena, chroma, with,
                             chroma_where(CHROMA_ROWS_OF_REVISION, doc_id, revision), err) &&
             each_metadata(chroma, with, ids.ids, ids.n, take_chunk, &loading, err);
    if (ok && record->n_chunk_rows < record->document.n_chunks)
        ok = chroma_list_ids(&ids, ids_arena, chroma, without,
                             chroma_where_passages(CHROMA_ROWS_OF_REVISION, doc_id, revision),
                             err) &&
             each_metadata(chroma, without, ids.ids, ids.n, take_chunk, &loading, err);
    arena_free(ids_arena);
    if (!ok)
        return false;
    if (loading.n != loading.max)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "%d of %d passages of %.12s are there", loading.n, loading.max,
                              doc_id);
    qsort(loading.rows, (size_t)loading.n, sizeof *loading.rows, by_ordinal);
    *out = loading.rows;
    *n = loading.n;
    return true;
}

static bool load_vector(struct chroma_item *out, bool *found, struct arena *arena,
                        struct chroma *chroma, const struct chroma_set *set, enum item_kind kind,
                        const char *id, struct error *err) {
    json_t *reply;
    if (!chroma_ask(&reply, chroma, set->of[CHROMA_OF(kind, CHROMA_VECTORS)].uuid, "get",
                    json_pack("{s:[s],s:[s]}", "ids", id, "include", "embeddings"), err))
        return false;
    const json_t *values = json_array_get(json_object_get(reply, "embeddings"), 0);
    size_t dim = json_array_size(values);
    float *vector = dim > 0 ? arena_try(arena, dim, sizeof *vector) : NULL;
    for (size_t i = 0; vector && i < dim; i++)
        vector[i] = (float)json_number_value(json_array_get(values, i));
    json_decref(reply);
    *found = vector != NULL;
    *out = (struct chroma_item){.n = vector ? 1 : 0, .vector = vector};
    return true;
}

bool chroma_load_item(struct chroma_item *out, bool *found, struct arena *arena,
                      struct chroma *chroma, const char *doc_id, enum item_kind kind, int item,
                      struct error *err) {
    struct chroma_set set;
    memset(out, 0, sizeof *out);
    *found = false;
    if (!chroma_current(&set, chroma, err))
        return false;
    char id[CHROMA_MAX_ID];
    chroma_item_id(id, doc_id, kind, item);
    if (!set.of[CHROMA_OF(kind, CHROMA_VECTORS)].uuid[0])
        return true;
    if (!chroma_is_late(&set, kind))
        return load_vector(out, found, arena, chroma, &set, kind, id, err);
    const char *ids[] = {id}, *uuid = set.of[CHROMA_OF(kind, CHROMA_CODES)].uuid;
    struct chroma_coded *coded = NULL;
    if (!uuid[0])
        return true;
    if (!chroma_fetch_codes(&coded, chroma, uuid, ids, 1, err))
        return false;
    if (!coded)
        return true;
    const struct index_codes *codes = &coded->codes;
    bool ok = index_codes_wrap(&out->codes, arena, codes->data, codes->len, codes->n, codes->dim,
                               err);
    out->n = codes->n;
    *found = ok;
    chroma_coded_unref(chroma->cache, coded);
    return ok;
}

/* ---- removal --------------------------------------------------------------------------------- */

bool chroma_delete_rows(struct chroma *chroma, const struct chroma_set *set,
                        enum chroma_rows_of which, const char *doc_id, const char *revision,
                        struct error *err) {
    static const int order[] = {CHROMA_VECTORS, CHROMA_TOKENS, CHROMA_CODES};
    chroma_cache_drop(chroma->cache, doc_id, which == CHROMA_ROWS_OF_OTHERS ? revision : "");
    for (size_t i = 0; i < BASE_COUNT(order); i++)
        for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
            const struct chroma_one *one = &set->of[CHROMA_OF(kind, order[i])];
            if (one->uuid[0] &&
                !chroma_delete_where(chroma, one->uuid, chroma_where(which, doc_id, revision), err))
                return false;
        }
    return chroma_delete_where(chroma, set->of[CHROMA_DOCUMENTS].uuid,
                               chroma_where_passages(which, doc_id, revision), err);
}

bool chroma_delete_record(struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                          int64_t below, struct error *err) {
    json_t *live = json_pack("{s:[{s:b},{s:{s:I}}]}", "$and", "removed", 0, "generation", "$lte",
                             (json_int_t)below);
    json_t *where = json_pack("{s:[{s:{s:I}},{s:{s:I}},o]}", "$or", "generation", "$lt",
                              (json_int_t)below, "generation", "$gt",
                              (json_int_t)CHROMA_MAX_GENERATION, live);
    json_t *reply;
    if (!chroma_ask(&reply, chroma, set->of[CHROMA_DOCUMENTS].uuid, "delete",
                    json_pack("{s:[s],s:o}", "ids", doc_id, "where", where), err))
        return false;
    json_decref(reply);
    return true;
}

bool chroma_drop_unbelieved(struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                            struct error *err) {
    struct chroma_ids ids = {.ids = &doc_id, .n = 1};
    return chroma_delete_ids(chroma, set->of[CHROMA_DOCUMENTS].uuid, &ids, err);
}

bool chroma_mark_lost(struct chroma *chroma, const struct chroma_set *set,
                      const struct chroma_record *record, struct error *err) {
    struct arena *arena = arena_new(0);
    bool whole = true;
    bool ok = is_whole(&whole, arena, chroma, set, record, err);
    arena_free(arena);
    if (!ok || whole || record->removed || record->lost_rows)
        return ok;
    json_t *reply;
    if (!chroma_ask(&reply, chroma, set->of[CHROMA_DOCUMENTS].uuid, "update",
                    json_pack("{s:[s],s:[{s:b,s:I}]}", "ids", record->document.doc_id, "metadatas",
                              "lost_rows", 1, "changed_ms", (json_int_t)time_wall_ms()),
                    err))
        return false;
    json_decref(reply);
    return true;
}

/* /add, so that a later record that came meanwhile stands. */
static bool put_tombstone(struct chroma *chroma, const struct chroma_set *set, const char *doc_id,
                          int64_t generation, const char *worker, int64_t removed_ms,
                          struct error *err) {
    if (!chroma_delete_record(chroma, set, doc_id, generation, err))
        return false;
    json_t *reply;
    if (!chroma_ask(
            &reply, chroma, set->of[CHROMA_DOCUMENTS].uuid, "add",
            json_pack("{s:[s],s:[[f]],s:[o]}", "ids", doc_id, "embeddings", 1.0, "metadatas",
                      chroma_tombstone_put(doc_id, generation, worker, removed_ms, time_wall_ms())),
            err))
        return false;
    json_decref(reply);
    return true;
}

bool chroma_remove_document(bool *superseded, struct chroma *chroma, const char *doc_id,
                            int64_t generation, const char *worker, int64_t removed_ms,
                            struct error *err) {
    *superseded = false;
    struct chroma_set set;
    if (generation < 1)
        generation = 1;
    if (generation > CHROMA_MAX_GENERATION)
        generation = CHROMA_MAX_GENERATION;
    struct arena *arena = arena_new(0);
    struct chroma_record record = {0};
    bool ok = true, stands = false;
    for (int i = 0; ok && i < MAX_ATTEMPTS; i++) {
        bool found;
        ok = chroma_current(&set, chroma, err) &&
             chroma_find_record(&record, &found, arena, chroma, &set, doc_id, err);
        if (!ok)
            break;
        *superseded = found && record.generation > generation;
        stands = found && record.removed && record.generation == generation;
        if (*superseded || (stands && i > 0))
            break;
        ok = chroma_delete_rows(chroma, &set, CHROMA_ALL_ROWS, doc_id, "", err) &&
             (found || i == 0 || chroma_drop_unbelieved(chroma, &set, doc_id, err)) &&
             (stands || put_tombstone(chroma, &set, doc_id, generation, worker, removed_ms, err));
    }
    ok = ok && (!*superseded || chroma_mark_lost(chroma, &set, &record, err));
    arena_free(arena);
    if (ok && !stands && !*superseded)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "%.12s is being put again by another worker", doc_id);
    return ok;
}
