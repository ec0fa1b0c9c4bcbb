/* A document on its way in.
 *
 * Its record is read, and says whether there is anything to do; rows of another revision go; those
 * of this one that are there, from a put that was cut off, are not sent again. Then tokens, codes
 * and passages go as bodies fill; then the record; last the page rows, which were held back. In the
 * end everything is counted back and proved, and the record and the collections' names are read
 * again: where another writer came between, all of it is done once more. */
#include "chroma/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_ATTEMPTS 4

struct putting {
    struct chroma *chroma;
    const struct chroma_set *set;
    struct chroma_source *source;
    struct chroma_record record; /* what is to be there */
    char revision[CHROMA_REVISION + 1];
    struct arena *arena;
    struct chroma_ids have[CHROMA_MAX_COLLECTIONS];   /* rows of this revision */
    int n_rows[CHROMA_MAX_COLLECTIONS];               /* that there must be */
    struct chroma_pile piles[CHROMA_MAX_COLLECTIONS]; /* the last: passages without vectors */
    int n_done, n_total;
};

static const char *space_of(const struct chroma_record *record, enum item_kind kind) {
    const char *space = kind == ITEM_PAGE ? record->visual_space : record->text_space;
    return space ? space : "";
}

/* Is there a collection for rows of this document? */
static bool is_used(const struct putting *put, int i) {
    if (i == CHROMA_DOCUMENTS)
        return true;
    enum item_kind kind = (enum item_kind)(i / 3);
    return space_of(&put->record, kind)[0] && put->set->of[i].uuid[0];
}

/* ---- what is there --------------------------------------------------------------------------- */

static json_t *where_rows(const struct putting *put, int i, enum chroma_rows_of which) {
    const char *doc_id = put->record.document.doc_id;
    return i == CHROMA_DOCUMENTS ? chroma_where_passages(which, doc_id, put->revision)
                                 : chroma_where(which, doc_id, put->revision);
}

/* *stale: there are rows of another revision, or of a kind of vectors that it has no more. */
static bool list_rows(bool *stale, struct putting *put, struct error *err) {
    *stale = false;
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++) {
        const char *uuid = put->set->of[i].uuid;
        if (!uuid[0])
            continue;
        struct chroma_ids all;
        if (!chroma_list_ids(&all, put->arena, put->chroma, uuid,
                             where_rows(put, i, CHROMA_ALL_ROWS), err))
            return false;
        put->have[i] = all;
        if (all.n == 0)
            continue;
        if (!chroma_list_ids(&put->have[i], put->arena, put->chroma, uuid,
                             where_rows(put, i, CHROMA_ROWS_OF_REVISION), err))
            return false;
        *stale = *stale || put->have[i].n != all.n;
    }
    return true;
}

static int count_first_tokens(const struct chroma_ids *ids) {
    int n = 0;
    for (int i = 0; i < ids->n; i++) {
        size_t len = strlen(ids->ids[i]);
        n += len > 4 && strcmp(ids->ids[i] + len - 4, "-t00") == 0;
    }
    return n;
}

/* By what was listed. */
static bool seems_whole(const struct putting *put, const struct chroma_record *there) {
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        int n = kind == ITEM_PAGE ? there->n_page_rows : there->n_chunk_rows;
        const struct chroma_ids *have = &put->have[CHROMA_OF(kind, 0)];
        if (have[CHROMA_VECTORS].n != n)
            return false;
        if (chroma_is_late(put->set, (enum item_kind)kind) &&
            (have[CHROMA_CODES].n != n || count_first_tokens(&have[CHROMA_TOKENS]) != n))
            return false;
    }
    return put->have[CHROMA_DOCUMENTS].n == there->document.n_chunks - there->n_chunk_rows;
}

/* Can all that are searched by their vectors be found? A row without its vector is deleted. */
static bool prove(bool *proved, struct putting *put, struct error *err) {
    *proved = true;
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK && *proved; kind++) {
        bool late = chroma_is_late(put->set, (enum item_kind)kind);
        int i = CHROMA_OF(kind, late ? CHROMA_TOKENS : CHROMA_VECTORS);
        if (!is_used(put, i) || put->have[i].n == 0)
            continue;
        const char *uuid = put->set->of[i].uuid;
        int dim = put->set->spaces[kind].dim;
        struct error why = {0};
        bool asked = chroma_prove(proved, put->chroma, uuid, dim, &put->have[i], &why);
        if (!asked && !chroma_link_probe(put->chroma->link, NULL)) {
            if (err)
                *err = why;
            return false;
        }
        *proved = asked && *proved;
        if (!*proved && !chroma_delete_ids(put->chroma, uuid, &put->have[i], err))
            return false;
    }
    return true;
}

/* ---- items ----------------------------------------------------------------------------------- */

static bool is_finite(const float *values, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* The unit mean; of vectors that cancel out, the first. */
static void mean_of(float *out, const float *vectors, int n, int dim) {
    double length = 0;
    for (int d = 0; d < dim; d++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += vectors[(size_t)i * (size_t)dim + (size_t)d];
        out[d] = (float)(sum / n);
        length += (double)out[d] * out[d];
    }
    length = sqrt(length);
    for (int d = 0; d < dim; d++)
        out[d] = length > 1e-9 ? (float)(out[d] / length) : vectors[d];
}

static json_t *item_metadata(const struct putting *put, const char *item_id) {
    return json_pack("{s:s,s:s,s:s}", "doc_id", put->record.document.doc_id, "item", item_id,
                     "revision", put->revision);
}

static bool put_late(float *mean, struct putting *put, struct arena *arena, enum item_kind kind,
                     const char *id, const struct chroma_item *item, struct error *err) {
    int dim = put->set->spaces[kind].dim, n = item->codes.n;
    int tokens = CHROMA_OF(kind, CHROMA_TOKENS), codes = CHROMA_OF(kind, CHROMA_CODES);
    int n_pooled = n < CHROMA_N_TOKENS ? n : CHROMA_N_TOKENS;
    float *vectors, *pooled = arena_alloc(arena, (size_t)n_pooled * (size_t)dim * sizeof *pooled);
    if (!index_codes_decode(&vectors, arena, &item->codes, err))
        return false;
    mean_of(mean, vectors, n, dim);
    if (!index_pool(pooled, n_pooled, vectors, n, dim, err))
        return false;
    for (int t = 0; t < n_pooled; t++) {
        char token[CHROMA_MAX_ID];
        chroma_token_id(token, id, t);
        if (!chroma_has_id(&put->have[tokens], token) &&
            !chroma_pile_add(&put->piles[tokens], token, pooled + (size_t)t * (size_t)dim, dim,
                             item_metadata(put, id), NULL, 0, err))
            return false;
    }
    put->n_rows[tokens] += n_pooled;
    put->n_rows[codes]++;
    if (chroma_has_id(&put->have[codes], id))
        return true;
    static const float constant = 1;
    json_t *metadata = item_metadata(put, id);
    json_object_set_new(metadata, "n", json_integer(n));
    json_object_set_new(metadata, "dim", json_integer(dim));
    return chroma_pile_add(&put->piles[codes], id, &constant, 1, metadata, item->codes.data,
                           item->codes.len, err);
}

static bool put_item(struct putting *put, struct arena *arena, enum item_kind kind, int number,
                     const struct chunk_row *chunk, struct error *err) {
    struct chroma_source *source = put->source;
    struct chroma_item item = {0};
    char id[CHROMA_MAX_ID];
    chroma_item_id(id, put->record.document.doc_id, kind, number);
    if (space_of(&put->record, kind)[0] &&
        !source->item(source->ctx, &item, arena, kind, number, err))
        return false;
    json_t *metadata = NULL;
    int i = item.n > 0 ? CHROMA_OF(kind, CHROMA_VECTORS) : CHROMA_DOCUMENTS;
    static const float constant = 1;
    const float *vector = &constant;
    int dim = item.n > 0 ? put->set->spaces[kind].dim : 1;
    if (item.n == 0 && kind == ITEM_PAGE)
        return true;
    if (item.n > 0 && chroma_is_late(put->set, kind)) {
        if (item.codes.dim != dim || item.codes.n < 1)
            return error_set(err, ERROR_INPUT, "%s: vectors of %d dimensions, not of %d", id,
                             item.codes.dim, dim);
        float *mean = arena_alloc(arena, (size_t)dim * sizeof *mean);
        if (!put_late(mean, put, arena, kind, id, &item, err))
            return false;
        vector = mean;
    } else if (item.n > 0) {
        vector = item.vector;
    }
    if (!is_finite(vector, dim))
        return error_set(err, ERROR_INPUT, "%s: a vector has a value that is no number", id);
    put->n_rows[i]++;
    if (chroma_has_id(&put->have[i], id))
        return true;
    metadata = chunk ? chroma_chunk_put(&put->record, chunk)
                     : chroma_page_put(&put->record, number);
    if (i == CHROMA_DOCUMENTS)
        json_object_set_new(metadata, "type", json_string("passage"));
    return chroma_pile_add(&put->piles[i], id, vector, dim, metadata, NULL, 0, err);
}

static bool put_items(struct putting *put, enum item_kind kind, struct error *err) {
    struct chroma_source *source = put->source;
    const struct document_row *row = &put->record.document;
    int n = kind == ITEM_CHUNK                     ? row->n_chunks
            : space_of(&put->record, ITEM_PAGE)[0] ? row->n_pages
                                                   : 0;
    for (int i = 0; i < n; i++) {
        if (source->cancelled && source->cancelled(source->ctx))
            return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled");
        const struct chunk_row *chunk = kind == ITEM_CHUNK ? &source->chunks[i] : NULL;
        struct arena *arena = arena_new(0);
        bool ok = put_item(put, arena, kind, chunk ? chunk->ordinal : i + 1, chunk, err);
        arena_free(arena);
        if (!ok)
            return false;
        put->n_done++;
        if (source->progress)
            source->progress(source->ctx, put->n_done, put->n_total);
    }
    return true;
}

/* ---- the record ------------------------------------------------------------------------------ */

/* Over an older record or tombstone, never over a later one: /add leaves one that came meanwhile.
 */
static bool write_record(struct putting *put, struct error *err) {
    const char *doc_id = put->record.document.doc_id;
    const char *uuid = put->set->of[CHROMA_DOCUMENTS].uuid;
    if (!chroma_delete_record(put->chroma, put->set, doc_id, put->record.generation, err))
        return false;
    struct chroma_pile pile;
    static const float constant = 1;
    chroma_pile_init(&pile, put->chroma, uuid, false);
    put->record.n_page_rows = put->n_rows[CHROMA_OF(ITEM_PAGE, CHROMA_VECTORS)];
    put->record.n_chunk_rows = put->n_rows[CHROMA_OF(ITEM_CHUNK, CHROMA_VECTORS)];
    put->record.changed_ms = time_wall_ms();
    bool ok = chroma_pile_add(&pile, doc_id, &constant, 1, chroma_record_put(&put->record), NULL, 0,
                              err) &&
              chroma_pile_send(&pile, err);
    chroma_pile_fini(&pile);
    return ok;
}

static bool update_metadata(struct chroma *chroma, const char *uuid, const struct chroma_ids *ids,
                            const json_t *metadata, struct error *err) {
    enum { PER_CALL = 1000 };
    for (int from = 0; from < ids->n; from += PER_CALL) {
        json_t *some = json_array(), *metadatas = json_array();
        for (int i = from; i < ids->n && i < from + PER_CALL; i++) {
            json_array_append_new(some, chroma_text(ids->ids[i]));
            json_array_append_new(metadatas, json_deep_copy(metadata));
        }
        json_t *reply;
        if (!chroma_ask(&reply, chroma, uuid, "update",
                        json_pack("{s:o,s:o}", "ids", some, "metadatas", metadatas), err))
            return false;
        json_decref(reply);
    }
    return true;
}

/* Same rows, other names: only they change, the record's first. */
static bool rename_rows(struct putting *put, const struct chroma_record *there, struct error *err) {
    put->record.n_page_rows = there->n_page_rows;
    put->record.n_chunk_rows = there->n_chunk_rows;
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        int i = CHROMA_OF(kind, CHROMA_VECTORS);
        json_t *names = chroma_names_put(&put->record);
        bool ok = update_metadata(put->chroma, put->set->of[i].uuid, &put->have[i], names, err);
        json_decref(names);
        if (!ok)
            return false;
    }
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++)
        put->n_rows[CHROMA_OF(kind, CHROMA_VECTORS)] = kind == ITEM_PAGE ? there->n_page_rows
                                                                         : there->n_chunk_rows;
    return write_record(put, err);
}

/* ---- in order -------------------------------------------------------------------------------- */

static bool write_all(struct putting *put, struct error *err) {
    static const int before_record[] = {
        CHROMA_OF(ITEM_CHUNK, CHROMA_TOKENS),  CHROMA_OF(ITEM_CHUNK, CHROMA_CODES),
        CHROMA_OF(ITEM_CHUNK, CHROMA_VECTORS), CHROMA_DOCUMENTS,
        CHROMA_OF(ITEM_PAGE, CHROMA_TOKENS),   CHROMA_OF(ITEM_PAGE, CHROMA_CODES)};
    int pages = CHROMA_OF(ITEM_PAGE, CHROMA_VECTORS);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        chroma_pile_init(&put->piles[i], put->chroma, put->set->of[i].uuid, i == pages);
    const struct document_row *row = &put->record.document;
    put->n_total = row->n_chunks + (space_of(&put->record, ITEM_PAGE)[0] ? row->n_pages : 0);
    bool ok = put_items(put, ITEM_CHUNK, err) && put_items(put, ITEM_PAGE, err);
    for (size_t i = 0; ok && i < BASE_COUNT(before_record); i++)
        ok = chroma_pile_send(&put->piles[before_record[i]], err);
    ok = ok && write_record(put, err) && chroma_pile_send(&put->piles[pages], err);
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS; i++)
        chroma_pile_fini(&put->piles[i]);
    return ok;
}

static bool count_back(bool *all, struct putting *put, struct error *err) {
    *all = true;
    for (int i = 0; i < CHROMA_MAX_COLLECTIONS && *all; i++) {
        if (!is_used(put, i) || (put->n_rows[i] == 0 && put->have[i].n == 0))
            continue;
        if (!chroma_list_ids(&put->have[i], put->arena, put->chroma, put->set->of[i].uuid,
                             where_rows(put, i, CHROMA_ROWS_OF_REVISION), err))
            return false;
        *all = put->have[i].n == put->n_rows[i];
    }
    return true;
}

/* *tombstone: its generation, where one stands that is as late as this document; else 0. */
static bool meet_record(int64_t *tombstone, struct chroma_record *there, bool *found,
                        struct putting *put, struct error *err) {
    *tombstone = 0;
    if (!chroma_find_record(there, found, put->arena, put->chroma, put->set,
                            put->record.document.doc_id, err))
        return false;
    if (*found && there->removed && put->record.generation > 0 &&
        there->generation >= put->record.generation)
        *tombstone = there->generation;
    return true;
}

/* A tombstone stands, and what was written below it goes. */
static bool give_way(struct putting *put, struct error *err) {
    struct chroma_record there;
    bool found;
    const char *doc_id = put->record.document.doc_id;
    return chroma_delete_rows(put->chroma, put->set, CHROMA_ALL_ROWS, doc_id, "", err) &&
           chroma_find_record(&there, &found, put->arena, put->chroma, put->set, doc_id, err) &&
           (!found || there.removed || chroma_mark_lost(put->chroma, put->set, &there, err));
}

/* After all was written: is it as it was written? */
static bool confirm(enum chroma_put *out, int64_t *generation, bool *again, struct putting *put,
                    struct error *err) {
    bool all, proved = true, found = false, same = false;
    int64_t tombstone;
    struct chroma_record there = {.revision = ""};
    if (!count_back(&all, put, err) || (all && !prove(&proved, put, err)) ||
        !meet_record(&tombstone, &there, &found, put, err))
        return false;
    if (tombstone > 0) {
        *out = CHROMA_REMOVED;
        *generation = tombstone;
        return give_way(put, err);
    }
    if (!chroma_still(&same, put->chroma, put->set, err))
        return false;
    bool stands = found && !there.removed && there.generation >= put->record.generation &&
                  strcmp(there.revision, put->record.revision) == 0;
    *again = !all || !proved || !same || !stands || there.lost_rows;
    *out = CHROMA_PUT;
    if (stands)
        *generation = there.generation;
    return true;
}

/* *generation is set once rows of it are written. */
static bool put_once(enum chroma_put *out, int64_t *generation, bool *again, struct putting *put,
                     bool written, struct error *err) {
    struct chroma_record there = {.revision = ""};
    bool found = false, stale = false, proved = false;
    int64_t tombstone;
    const char *doc_id = put->record.document.doc_id;
    for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
        const char *space = space_of(&put->record, (enum item_kind)kind);
        if (space[0] && !chroma_check_space(put->set, (enum item_kind)kind, space, err))
            return false;
    }
    if (!meet_record(&tombstone, &there, &found, put, err))
        return false;
    if (tombstone > 0) {
        *out = CHROMA_REMOVED;
        *generation = tombstone;
        return !written || give_way(put, err);
    }
    int64_t next = !found ? 1 : there.removed ? there.generation + 1 : there.generation;
    if (put->record.generation < next)
        put->record.generation = next;
    if ((written && !found && !chroma_drop_unbelieved(put->chroma, put->set, doc_id, err)) ||
        !list_rows(&stale, put, err))
        return false;
    bool same = found && !there.removed && strcmp(there.revision, put->record.revision) == 0;
    if (same && !stale && there.generation == put->record.generation && seems_whole(put, &there)) {
        if (!prove(&proved, put, err))
            return false;
        *again = !proved;
        *out = CHROMA_THERE;
        *generation = there.generation;
        return !proved || (chroma_same_names(&there, &put->record) && !there.lost_rows) ||
               rename_rows(put, &there, err);
    }
    *generation = put->record.generation;
    if (stale && !chroma_delete_rows(put->chroma, put->set, CHROMA_ROWS_OF_OTHERS, doc_id,
                                     put->revision, err))
        return false;
    return write_all(put, err) && confirm(out, generation, again, put, err);
}

bool chroma_put_document(enum chroma_put *out, int64_t *generation, struct chroma *chroma,
                         struct chroma_source *source, struct error *err) {
    struct chroma_set *set = mem_alloc(sizeof *set);
    bool ok = true, again = true;
    int64_t known = source->record.generation;
    for (int i = 0; ok && again && i < MAX_ATTEMPTS; i++) {
        again = false;
        struct putting put = {
            .chroma = chroma, .set = set, .source = source, .record = source->record};
        put.arena = arena_new(0);
        put.record.generation = known;
        chroma_short_revision(put.revision, source->record.revision);
        ok = chroma_current(set, chroma, err) &&
             put_once(out, generation, &again, &put, i > 0, err);
        known = put.record.generation; /* a tombstone of what was written is no older one */
        arena_free(put.arena);
        if (ok && again)
            time_sleep_ms(50 << i);
    }
    mem_free(set);
    if (ok && again)
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "%.12s: its rows do not stay as they are put",
                              source->record.document.doc_id);
    return ok;
}
