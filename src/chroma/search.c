/* Searching.
 *
 * Late interaction: one /query with all of the question's vectors over the pooled ones gives, for
 * each, its nearest. Items are ranked by the sum of their best similarities, those without a row
 * among a vector's nearest getting less than the least that was returned for it (XTR gives them the
 * least: Lee et al. 2023, section 3.2); the best are scored in full, from codes that are kept in a
 * cache, and further ones while that brings any to the top. Other spaces: /query over V. Where
 * allow leaves out so many that too few are left, the same is asked again for more.
 *
 * Replies give ids and distances alone: metadata would cost several times the search itself. */
#include "chroma/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIN_RERANKED 100
#define MAX_RERANKED 400
#define RERANKED_STEP 50 /* as long as such a step brings one among the best */
#define MIN_RESULTS 300  /* a question vector's nearest rows */
#define ABSENT 0.4 /* below the least returned, of its distance to the best: measured, bench */
#define MAX_RESULTS 200000 /* of a call, over all of the question's vectors */
#define MAX_DOC_IDS 10000
#define CODES_A_CALL 100
#define ALL_AT_ONCE 200 /* items of a narrow filter that are scored in full without a query */

struct candidate {
    struct index_hit hit;
    int seen; /* the question's vector that counted it last, plus 1 */
    bool allowed;
};
struct candidates {
    struct candidate *of;
    int n, cap;
    int *slots; /* open addressing, index + 1 */
    int n_slots;
};

struct searching {
    struct chroma *chroma;
    const struct chroma_set *set;
    const struct chroma_query *query;
    struct arena *arena;
    struct candidates found;
    struct index_effort *effort;
    bool more; /* the server may have more than it gave */
};

/* ---- candidates ------------------------------------------------------------------------------ */

static void candidates_fini(struct candidates *found) {
    mem_free(found->of);
    mem_free(found->slots);
    memset(found, 0, sizeof *found);
}

static size_t slot_of(const struct candidates *found, const char *doc_id, int item) {
    uint64_t hash = 0;
    memcpy(&hash, doc_id, sizeof hash); /* hex of a hash */
    hash = (hash ^ (uint64_t)item * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
    size_t at = (hash >> 32) % (size_t)found->n_slots;
    for (; found->slots[at]; at = (at + 1) % (size_t)found->n_slots) {
        const struct index_hit *hit = &found->of[found->slots[at] - 1].hit;
        if (hit->item == item && strcmp(hit->doc_id, doc_id) == 0)
            break;
    }
    return at;
}

static void grow(struct candidates *found) {
    found->cap = found->cap ? found->cap * 2 : 1024;
    found->of = mem_grow(found->of, (size_t)found->cap, sizeof *found->of);
    mem_free(found->slots);
    found->n_slots = found->cap * 2;
    found->slots = mem_alloc((size_t)found->n_slots * sizeof *found->slots);
    for (int i = 0; i < found->n; i++)
        found->slots[slot_of(found, found->of[i].hit.doc_id, found->of[i].hit.item)] = i + 1;
}

static struct candidate *candidate_of(struct candidates *found, enum item_kind kind,
                                      const char *id) {
    char doc_id[SHA256_HEX + 1];
    int item;
    if (!chroma_parse_id(doc_id, &item, kind, id))
        return NULL; /* another program's row */
    if (found->n == found->cap)
        grow(found);
    size_t slot = slot_of(found, doc_id, item);
    if (!found->slots[slot]) {
        struct candidate *made = &found->of[found->n++];
        memset(made, 0, sizeof *made);
        memcpy(made->hit.doc_id, doc_id, sizeof doc_id);
        made->hit.kind = kind;
        made->hit.item = item;
        found->slots[slot] = found->n;
    }
    return &found->of[found->slots[slot] - 1];
}

static int by_score(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->hit.score != y->hit.score)
        return x->hit.score > y->hit.score ? -1 : 1;
    int by_document = strcmp(x->hit.doc_id, y->hit.doc_id);
    return by_document ? by_document : (x->hit.item > y->hit.item) - (x->hit.item < y->hit.item);
}

/* Best first; those that are not allowed are dropped. Slots are void from here on. */
static bool rank(struct searching *s, struct error *err) {
    struct candidates *found = &s->found;
    if (found->n == 0)
        return true;
    qsort(found->of, (size_t)found->n, sizeof *found->of, by_score);
    if (!s->query->allow)
        return true;
    struct index_hit *hits = mem_try((size_t)found->n, sizeof *hits, (size_t)1 << 30);
    bool *allowed = mem_try((size_t)found->n, sizeof *allowed, (size_t)1 << 30);
    bool ok = hits && allowed;
    if (!ok)
        error_set(err, ERROR_LIMIT, "%d candidates are too many for the memory", found->n);
    for (int i = 0; ok && i < found->n; i++)
        hits[i] = found->of[i].hit;
    ok = ok && s->query->allow(s->query->ctx, allowed, hits, found->n, err);
    int n = 0;
    for (int i = 0; ok && i < found->n; i++)
        if (allowed[i])
            found->of[n++] = found->of[i];
    found->n = ok ? n : 0;
    mem_free(hits);
    mem_free(allowed);
    return ok;
}

static bool give(struct index_hit **out, int *n, struct searching *s, struct error *err) {
    int some = s->found.n < s->query->limit ? s->found.n : s->query->limit;
    *out = arena_try(s->arena, (size_t)some + 1, sizeof **out);
    if (!*out)
        return error_set(err, ERROR_LIMIT, "%d hits are too many for the memory", some);
    for (int i = 0; i < some; i++)
        (*out)[i] = s->found.of[i].hit;
    *n = some;
    return true;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* {"doc_id":{"$in":[…]}} */
static json_t *where_documents(const struct chroma_query *query) {
    json_t *ids = json_array();
    for (int i = 0; i < query->n_doc_ids; i++)
        json_array_append_new(ids, chroma_text(query->doc_ids[i]));
    return json_pack("{s:{s:o}}", "doc_id", "$in", ids);
}

static bool ask_nearest(json_t **reply, struct searching *s, const char *uuid, int n_results,
                        struct error *err) {
    const struct chroma_query *query = s->query;
    int dim = s->set->spaces[query->kind].dim;
    struct buf body = {0};
    *reply = NULL;
    buf_printf(&body, "{\"n_results\":%d,\"include\":[\"distances\"],", n_results);
    if (query->doc_ids) {
        json_t *where = where_documents(query);
        buf_puts(&body, "\"where\":");
        chroma_put_json(&body, where);
        buf_putc(&body, ',');
        json_decref(where);
    }
    buf_puts(&body, "\"query_embeddings\":[");
    for (int q = 0; q < query->n_vectors; q++) {
        for (int d = 0; d < dim; d++) {
            float value = query->vectors[(size_t)q * (size_t)dim + (size_t)d];
            buf_printf(&body, "%s%.8g", d ? "," : q ? ",[" : "[", isfinite(value) ? value : 0);
        }
        buf_putc(&body, ']');
    }
    buf_puts(&body, "]}");
    struct http_reply got;
    bool ok = body.failed ? error_set(err, ERROR_LIMIT, "a question of too many vectors")
                          : chroma_post(&got, s->chroma, uuid, "query", body.data, body.len,
                                        CHROMA_READS, err);
    buf_fini(&body);
    if (!ok)
        return false;
    *reply = json_loadb(got.body, got.len, JSON_DECODE_ANY, NULL);
    http_reply_fini(&got);
    return *reply || error_set_code(err, ERROR_BUSY, "backend_unavailable",
                                    "ChromaDB at %s: an answer that is no JSON",
                                    chroma_link_url(s->chroma->link));
}

/* Adds what each vector's nearest come to; an item gains what it has above an absent one. */
static void gather(struct searching *s, const json_t *reply, int n_results) {
    const json_t *all_ids = json_object_get(reply, "ids");
    const json_t *all_distances = json_object_get(reply, "distances");
    double floor_sum = 0;
    s->more = false;
    for (int q = 0; q < s->query->n_vectors; q++) {
        const json_t *ids = json_array_get(all_ids, (size_t)q);
        const json_t *distances = json_array_get(all_distances, (size_t)q);
        size_t n = json_array_size(ids);
        s->effort->n_scanned += (int64_t)n;
        s->more = s->more || n >= (size_t)n_results;
        if (n == 0)
            continue;
        double nearest = json_number_value(json_array_get(distances, 0));
        double farthest = json_number_value(json_array_get(distances, n - 1));
        double floor = 1 - farthest - ABSENT * (farthest - nearest);
        floor_sum += floor;
        for (size_t i = 0; i < n; i++) {
            const char *id = json_string_value(json_array_get(ids, i));
            struct candidate *one = id ? candidate_of(&s->found, s->query->kind, id) : NULL;
            if (!one || one->seen == q + 1)
                continue;
            one->seen = q + 1;
            one->hit.score += 1 - json_number_value(json_array_get(distances, i)) - floor;
        }
    }
    for (int i = 0; i < s->found.n; i++)
        s->found.of[i].hit.score += floor_sum;
}

/* Candidates, best first and allowed: at least n_wanted where there are so many. */
static bool find_candidates(struct searching *s, int which, int n_wanted, int n_results,
                            struct error *err) {
    const char *uuid = s->set->of[CHROMA_OF(s->query->kind, which)].uuid;
    int most = MAX_RESULTS / s->query->n_vectors, n_before = 0;
    for (;; n_results *= 4) {
        if (n_results > most)
            n_results = most > 0 ? most : 1;
        json_t *reply;
        int64_t began_ms = time_mono_ms();
        if (!ask_nearest(&reply, s, uuid, n_results, err))
            return false;
        s->effort->scan_ms += (double)(time_mono_ms() - began_ms);
        began_ms = time_mono_ms();
        candidates_fini(&s->found);
        gather(s, reply, n_results);
        json_decref(reply);
        s->effort->n_pooled += s->found.n;
        int n_near = s->found.n;
        bool ok = rank(s, err);
        s->effort->pooled_ms += (double)(time_mono_ms() - began_ms);
        bool all_allowed = s->found.n == n_near && n_near >= s->query->limit;
        bool all_seen = n_near == n_before; /* four times as many rows are of the same items */
        if (!ok || s->found.n >= n_wanted || all_allowed || all_seen || !s->more ||
            n_results >= most)
            return ok;
        n_before = n_near;
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

static bool take_codes(struct chroma_coded **out, struct chroma *chroma, const char *uuid,
                       const char *id, const json_t *metadata, const struct chroma_lifted *lifted,
                       struct error *err) {
    const json_t *codes = json_object_get(metadata, "codes");
    int64_t number = json_integer_value(codes), n = chroma_get_int(metadata, "n");
    int64_t dim = chroma_get_int(metadata, "dim");
    *out = NULL;
    if (!json_is_integer(codes) || number < 0 || number >= lifted->n || n < 1 || n > INT32_MAX ||
        dim < 1 || dim > INT32_MAX)
        return true;
    struct arena *scratch = arena_new(0), *arena = arena_new(0);
    size_t len;
    const void *bytes = chroma_base64_take(&len, scratch, lifted->texts[number],
                                           lifted->lens[number]);
    struct index_codes wrapped;
    struct error why = {0};
    bool ok = bytes && index_codes_wrap(&wrapped, arena, bytes, len, (int)n, (int)dim, &why);
    arena_free(scratch);
    if (!ok) {
        arena_free(arena);
        if (why.kind && why.kind != ERROR_INPUT) {
            if (err)
                *err = why;
            return false;
        }
        log_warn("chromadb: the vectors of %s are not as they should be", id);
        return true;
    }
    *out = chroma_cache_put(chroma->cache, uuid, id, chroma_get_text(metadata, "revision"),
                            &wrapped, arena);
    return true;
}

static bool fetch_some(struct chroma_coded **found, struct chroma *chroma, const char *uuid,
                       const char *const *ids, const int *missing, int n, struct error *err) {
    struct buf body = {0};
    buf_puts(&body, "{\"include\":[\"metadatas\"],\"ids\":[");
    for (int i = 0; i < n; i++)
        buf_printf(&body, "%s\"%s\"", i ? "," : "", ids[missing[i]]);
    buf_puts(&body, "]}");
    struct http_reply reply;
    bool ok = chroma_post(&reply, chroma, uuid, "get", body.data, body.len, CHROMA_READS, err);
    buf_fini(&body);
    if (!ok)
        return false;
    struct chroma_lifted lifted;
    if (!chroma_lift(&lifted, reply.body, reply.len)) {
        http_reply_fini(&reply);
        return error_set_code(err, ERROR_BUSY, "backend_unavailable",
                              "ChromaDB at %s: an answer that is no JSON",
                              chroma_link_url(chroma->link));
    }
    const json_t *got = json_object_get(lifted.json, "ids");
    const json_t *metadatas = json_object_get(lifted.json, "metadatas");
    for (size_t k = 0; ok && k < json_array_size(got); k++) { /* in no order */
        const char *id = json_string_value(json_array_get(got, k));
        for (int i = 0; id && i < n; i++)
            if (!found[missing[i]] && strcmp(ids[missing[i]], id) == 0) {
                ok = take_codes(&found[missing[i]], chroma, uuid, id, json_array_get(metadatas, k),
                                &lifted, err);
                break;
            }
    }
    chroma_lifted_fini(&lifted);
    http_reply_fini(&reply);
    return ok;
}

bool chroma_fetch_codes(struct chroma_coded **found, struct chroma *chroma, const char *uuid,
                        const char *const *ids, int n, struct error *err) {
    int missing[CODES_A_CALL], n_missing = 0;
    bool ok = true;
    for (int i = 0; i < n; i++)
        found[i] = NULL;
    for (int i = 0; ok && i < n; i++) {
        found[i] = chroma_cache_find(chroma->cache, uuid, ids[i]);
        if (!found[i])
            missing[n_missing++] = i;
        if (n_missing == CODES_A_CALL || (i == n - 1 && n_missing > 0)) {
            ok = fetch_some(found, chroma, uuid, ids, missing, n_missing, err);
            n_missing = 0;
        }
    }
    for (int i = 0; !ok && i < n; i++) {
        chroma_coded_unref(chroma->cache, found[i]);
        found[i] = NULL;
    }
    return ok;
}

/* The first n candidates by all their vectors; those that have none there are dropped. */
static bool score_some(struct searching *s, int from, int n, struct error *err) {
    struct arena *arena = arena_new(0);
    struct candidate *of = s->found.of + from;
    const char **ids = arena_alloc(arena, (size_t)n * sizeof *ids);
    struct chroma_coded **coded = arena_alloc(arena, (size_t)n * sizeof *coded);
    struct index_codes *codes = arena_alloc(arena, (size_t)n * sizeof *codes);
    float *scores = arena_alloc(arena, (size_t)n * sizeof *scores);
    for (int i = 0; i < n; i++) {
        char id[CHROMA_MAX_ID];
        chroma_item_id(id, of[i].hit.doc_id, of[i].hit.kind, of[i].hit.item);
        ids[i] = arena_strdup(arena, id);
    }
    const char *uuid = s->set->of[CHROMA_OF(s->query->kind, CHROMA_CODES)].uuid;
    bool ok = chroma_fetch_codes(coded, s->chroma, uuid, ids, n, err);
    int dim = s->set->spaces[s->query->kind].dim, n_coded = 0;
    for (int i = 0; ok && i < n; i++)
        if (coded[i] && coded[i]->codes.dim == dim)
            codes[n_coded++] = coded[i]->codes;
    ok = ok && (n_coded == 0 || index_codes_score(scores, codes, n_coded, s->query->vectors,
                                                  s->query->n_vectors, err));
    for (int i = 0, k = 0; ok && i < n; i++) {
        bool there = coded[i] && coded[i]->codes.dim == dim;
        of[i].hit.score = there ? scores[k++] : 0;
        of[i].allowed = there;
    }
    for (int i = 0; ok && i < n; i++)
        chroma_coded_unref(s->chroma->cache, coded[i]);
    arena_free(arena);
    s->effort->n_full += n_coded;
    return ok;
}

/* The first n_first candidates, then more, up to n_most, while a step of them brings one among the
 * best that are asked for. */
static bool score_in_full(struct searching *s, int n_first, int n_most, struct error *err) {
    int64_t began_ms = time_mono_ms();
    int n_found = n_most < s->found.n ? n_most : s->found.n, limit = s->query->limit, kept = 0;
    struct candidate *of = s->found.of;
    bool ok = true, better = true;
    for (int from = 0, n; ok && better && from < n_found; from += n) {
        n = from >= n_first                 ? RERANKED_STEP
            : n_first - from < CODES_A_CALL ? n_first - from
                                            : CODES_A_CALL;
        n = n_found - from < n ? n_found - from : n;
        double least = kept >= limit ? of[limit - 1].hit.score : -INFINITY;
        ok = score_some(s, from, n, err);
        better = from + n < n_first;
        for (int i = from; ok && i < from + n; i++) {
            if (!of[i].allowed)
                continue;
            better = better || of[i].hit.score > least;
            of[kept++] = of[i];
        }
        if (kept > 0 && (from + n >= n_first || from + n == n_found))
            qsort(of, (size_t)kept, sizeof *of, by_score);
    }
    s->found.n = ok ? kept : 0;
    s->effort->full_ms = (double)(time_mono_ms() - began_ms);
    return ok;
}

/* ---- the ways -------------------------------------------------------------------------------- */

/* Every item that may be found, unscored, if there are at most so many; else *n is -1. */
static bool list_items(int *n, struct searching *s, int which, int most, struct error *err) {
    struct arena *arena = arena_new(0);
    struct chroma_ids ids;
    bool ok = chroma_list_ids(&ids, arena, s->chroma,
                              s->set->of[CHROMA_OF(s->query->kind, which)].uuid,
                              s->query->doc_ids ? where_documents(s->query) : NULL, err);
    for (int i = 0; ok && ids.n <= most && i < ids.n; i++)
        candidate_of(&s->found, s->query->kind, ids.ids[i]);
    *n = ok && ids.n <= most ? ids.n : -1;
    arena_free(arena);
    return ok && (*n < 0 || rank(s, err));
}

static bool search_late(struct searching *s, struct error *err) {
    int limit = s->query->limit, n;
    if (s->query->exact)
        return list_items(&n, s, CHROMA_CODES, INT32_MAX, err) &&
               score_in_full(s, s->found.n, s->found.n, err);
    if (s->query->doc_ids && s->query->n_doc_ids <= ALL_AT_ONCE) {
        if (!list_items(&n, s, CHROMA_CODES, ALL_AT_ONCE, err))
            return false;
        if (n >= 0)
            return score_in_full(s, s->found.n, s->found.n, err);
    }
    int n_reranked = limit < MIN_RERANKED / 10   ? MIN_RERANKED
                     : limit > MAX_RERANKED / 10 ? MAX_RERANKED
                                                 : limit * 10;
    n_reranked = n_reranked < limit ? limit : n_reranked;
    int n_results = n_reranked * 2 < MIN_RESULTS ? MIN_RESULTS : n_reranked * 2;
    return find_candidates(s, CHROMA_TOKENS, n_reranked, n_results, err) &&
           score_in_full(s, n_reranked, n_reranked > MAX_RERANKED ? n_reranked : MAX_RERANKED, err);
}

/* Vectors as the server has them: /get with embeddings, which are unit length in our collections.
 */
static bool score_all_vectors(struct searching *s, struct error *err) {
    enum { PER_CALL = 500 };
    const char *uuid = s->set->of[CHROMA_OF(s->query->kind, CHROMA_VECTORS)].uuid;
    int dim = s->set->spaces[s->query->kind].dim;
    for (int from = 0; from < s->found.n; from += PER_CALL) {
        json_t *ids = json_array();
        for (int i = from; i < s->found.n && i < from + PER_CALL; i++) {
            char id[CHROMA_MAX_ID];
            chroma_item_id(id, s->found.of[i].hit.doc_id, s->query->kind, s->found.of[i].hit.item);
            json_array_append_new(ids, json_string(id));
        }
        json_t *reply;
        if (!chroma_ask(&reply, s->chroma, uuid, "get",
                        json_pack("{s:o,s:[s]}", "ids", ids, "include", "embeddings"), err))
            return false;
        size_t k;
        const json_t *id;
        json_array_foreach(json_object_get(reply, "ids"), k, id) {
            const json_t *values = json_array_get(json_object_get(reply, "embeddings"), k);
            double sum = 0;
            for (int d = 0; d < dim; d++)
                sum += (double)s->query->vectors[d] *
                       json_number_value(json_array_get(values, (size_t)d));
            char doc_id[SHA256_HEX + 1];
            int item;
            if (!chroma_parse_id(doc_id, &item, s->query->kind, json_string_value(id)))
                continue;
            for (int i = from; i < s->found.n && i < from + PER_CALL; i++)
                if (s->found.of[i].hit.item == item &&
                    strcmp(s->found.of[i].hit.doc_id, doc_id) == 0)
                    s->found.of[i].hit.score = sum;
        }
        json_decref(reply);
    }
    if (s->found.n > 0)
        qsort(s->found.of, (size_t)s->found.n, sizeof *s->found.of, by_score);
    s->effort->n_full = s->found.n;
    return true;
}

static bool search_single(struct searching *s, struct error *err) {
    int n;
    if (s->query->exact)
        return list_items(&n, s, CHROMA_VECTORS, INT32_MAX, err) && score_all_vectors(s, err);
    int n_results = s->query->limit * 2 < 100 ? 100 : s->query->limit * 2;
    return find_candidates(s, CHROMA_VECTORS, s->query->limit, n_results, err);
}

bool chroma_search(struct index_hit **out, int *n, struct index_effort *effort, struct arena *arena,
                   struct chroma *chroma, const struct chroma_query *query, struct error *err) {
    struct chroma_set *set = mem_alloc(sizeof *set);
    struct index_effort spent = {0};
    struct searching s = {
        .chroma = chroma, .set = set, .query = query, .arena = arena, .effort = &spent};
    *out = NULL;
    *n = 0;
    bool ok = chroma_current(set, chroma, err) &&
              chroma_check_space(set, query->kind, set->spaces[query->kind].name, err);
    if (ok && (query->n_vectors < 1 || query->limit < 1 || (query->doc_ids && !query->n_doc_ids)))
        ok = give(out, n, &s, err);
    else if (ok && query->doc_ids && query->n_doc_ids > MAX_DOC_IDS)
        ok = error_set(err, ERROR_LIMIT, "a filter of %d documents, of at most %d",
                       query->n_doc_ids, MAX_DOC_IDS);
    else if (ok && set->spaces[query->kind].late)
        ok = search_late(&s, err) &&
             chroma_prove_reads(chroma, set, CHROMA_OF(query->kind, CHROMA_TOKENS), err) &&
             give(out, n, &s, err);
    else if (ok)
        ok = search_single(&s, err) &&
             chroma_prove_reads(chroma, set, CHROMA_OF(query->kind, CHROMA_VECTORS), err) &&
             give(out, n, &s, err);
    if (effort)
        *effort = spent;
    candidates_fini(&s.found);
    mem_free(set);
    return ok;
}
