/* Search of the Python worker's collections where they stand.
 *
 * Invariants:
 *  1. Scores are exact: MaxSim of all question vectors over all of an item's. What is not exact is
 *     which items are scored, and that only of more than ALL_SCORED.
 *  2. Items that may not be found cost nothing: they are left out before any is read.
 *  3. Vectors are kept, at most KEPT_BYTES of them, by the collection's UUID and the row's id:
 * their worker wrote a row once, under an id that it never used again. */
#include "chroma/legacy_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ALL_SCORED 400     /* items: not more than are kept; reading one takes some 10 ms */
#define NEAREST_SCORED 200 /* of more */
#define FIRST_NEAREST 200  /* rows that are asked for a question vector, at first */
#define MOST_NEAREST 20000
#define ROWS_AT_ONCE 4096 /* that are judged */
#define KEPT_BYTES ((size_t)256 << 20)
#define MAX_ELEMENT 1e30f

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

/* ---- items that are kept decoded ------------------------------------------------------------- */

/* n 0: its vectors cannot be had. */
struct legacy_kept {
    char uuid[40];
    char *id;
    float *vectors;
    int n, n_refs;
    bool listed;
    struct legacy_kept *newer, *older;
};

static size_t kept_size(const struct legacy_kept *kept) {
    return sizeof *kept + strlen(kept->id) +
           (size_t)kept->n * CHROMA_LEGACY_DIM * sizeof *kept->vectors;
}

static void kept_free(struct legacy_kept *kept) {
    mem_free(kept->vectors);
    mem_free(kept->id);
    mem_free(kept);
}

/* Under the lock. */
static void take_out(struct chroma_legacy *legacy, struct legacy_kept *kept) {
    *(kept->newer ? &kept->newer->older : &legacy->newest) = kept->older;
    *(kept->older ? &kept->older->newer : &legacy->oldest) = kept->newer;
    kept->newer = kept->older = NULL;
    kept->listed = false;
    legacy->kept_bytes -= kept_size(kept);
}

static void put_first(struct chroma_legacy *legacy, struct legacy_kept *kept) {
    kept->older = legacy->newest;
    kept->newer = NULL;
    *(legacy->newest ? &legacy->newest->newer : &legacy->oldest) = kept;
    legacy->newest = kept;
    kept->listed = true;
    legacy->kept_bytes += kept_size(kept);
}

static void kept_unref(struct chroma_legacy *legacy, struct legacy_kept *kept) {
    lock_take(&legacy->lock);
    bool last = --kept->n_refs == 0 && !kept->listed;
    lock_drop(&legacy->lock);
    if (last)
        kept_free(kept);
}

/* A reference, or NULL. Some hundred are kept: they are looked through. */
static struct legacy_kept *kept_find(struct chroma_legacy *legacy, const char *uuid,
                                     const char *id) {
    lock_take(&legacy->lock);
    struct legacy_kept *kept = legacy->newest;
    while (kept && (strcmp(kept->id, id) != 0 || strcmp(kept->uuid, uuid) != 0))
        kept = kept->older;
    if (kept) {
        kept->n_refs++;
        take_out(legacy, kept);
        put_first(legacy, kept);
    }
    lock_drop(&legacy->lock);
    return kept;
}

/* Takes the vectors over; a reference. */
static struct legacy_kept *keep(struct chroma_legacy *legacy, const char *uuid, const char *id,
                                float *vectors, int n) {
    struct legacy_kept *kept = mem_alloc(sizeof *kept), *gone = NULL;
    snprintf(kept->uuid, sizeof kept->uuid, "%s", uuid);
    kept->id = mem_strdup(id);
    kept->vectors = vectors;
    kept->n = n;
    kept->n_refs = 1;
    lock_take(&legacy->lock);
    put_first(legacy, kept);
    while (legacy->kept_bytes > KEPT_BYTES && legacy->oldest != kept) {
        struct legacy_kept *oldest = legacy->oldest;
        take_out(legacy, oldest);
        if (oldest->n_refs > 0)
            continue; /* who has it frees it */
        oldest->older = gone;
        gone = oldest;
    }
    lock_drop(&legacy->lock);
    while (gone) {
        struct legacy_kept *next = gone->older;
        kept_free(gone);
        gone = next;
    }
    return kept;
}

void legacy_forget(struct chroma_legacy *legacy) {
    while (legacy->newest) {
        struct legacy_kept *kept = legacy->newest;
        take_out(legacy, kept);
        kept_free(kept);
    }
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* In lanes, so that a compiler makes vectors of them without changing what is added up. */
static float dot(const float *a, const float *b) {
    enum { LANES = 16 };
    float lanes[LANES] = {0};
    for (int d = 0; d < CHROMA_LEGACY_DIM; d += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += a[d + lane] * b[d + lane];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}

static double maxsim(const float *query, int n_query, const float *vectors, int n) {
    double sum = 0;
    for (int q = 0; q < n_query; q++) {
        float best = -INFINITY;
        for (int v = 0; v < n; v++) {
            float product = dot(query + (size_t)q * CHROMA_LEGACY_DIM,
                                vectors + (size_t)v * CHROMA_LEGACY_DIM);
            best = product > best ? product : best;
        }
        sum += (double)best;
    }
    return sum;
}

/* ---- which items are scored ------------------------------------------------------------------ */

struct search {
    struct chroma_legacy *legacy;
    const struct legacy_listing *listing;
    const struct chroma_query *query;
    struct arena *arena;
    int *rows; /* of the listing, that may be found and, later, that are scored; ascending */
    int n_rows;
    struct index_hit *hits;
};

static struct index_hit hit_of(const struct search *search, int row) {
    enum item_kind kind = search->query->kind;
    const struct legacy_row *of = &search->listing->rows[kind][row];
    struct index_hit hit = {.kind = kind, .item = of->item};
    memcpy(hit.doc_id, search->listing->documents[of->document].doc_id, sizeof hit.doc_id);
    return hit;
}

/* Rows of the documents that are asked for, or all. */
static void take_rows(struct search *search) {
    const struct legacy_listing *listing = search->listing;
    const struct chroma_query *query = search->query;
    bool *wanted = arena_alloc(search->arena, (size_t)listing->n_documents + 1);
    for (int i = 0; query->doc_ids && i < query->n_doc_ids; i++) {
        const struct legacy_document *document = legacy_lookup(listing, query->doc_ids[i]);
        if (document)
            wanted[document - listing->documents] = true;
    }
    search->n_rows = 0;
    for (int row = 0; row < listing->n_rows[query->kind]; row++)
        if (!query->doc_ids || wanted[listing->rows[query->kind][row].document])
            search->rows[search->n_rows++] = row;
}

static bool judge_rows(struct search *search, struct error *err) {
    const struct chroma_query *query = search->query;
    int n_left = 0;
    if (!query->allow)
        return true;
    struct index_hit *hits = mem_alloc(ROWS_AT_ONCE * sizeof *hits);
    bool *allowed = mem_alloc(ROWS_AT_ONCE * sizeof *allowed), ok = true;
    for (int from = 0; ok && from < search->n_rows; from += ROWS_AT_ONCE) {
        int n = search->n_rows - from < ROWS_AT_ONCE ? search->n_rows - from : ROWS_AT_ONCE;
        for (int i = 0; i < n; i++) {
            hits[i] = hit_of(search, search->rows[from + i]);
            allowed[i] = false;
        }
        ok = query->allow(query->ctx, allowed, hits, n, err);
        for (int i = 0; ok && i < n; i++)
            if (allowed[i])
                search->rows[n_left++] = search->rows[from + i];
    }
    mem_free(hits);
    mem_free(allowed);
    search->n_rows = n_left;
    return ok;
}

static int by_id(const void *a, const void *b, void *ctx) {
    const struct legacy_row *rows = ctx;
    return strcmp(rows[*(const int *)a].id, rows[*(const int *)b].id);
}

/* Of search->rows, sorted by id: the position of an id's, or -1. */
static int find_row(const struct search *search, const int *sorted, const char *id) {
    const struct legacy_row *rows = search->listing->rows[search->query->kind];
    int low = 0, high = search->n_rows;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(rows[sorted[middle]].id, id);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static bool ask_nearest(json_t **reply, const struct search *search, int n_nearest,
                        struct error *err) {
    const struct chroma_query *query = search->query;
    json_t *vectors = json_array();
    for (int q = 0; q < query->n_vectors; q++) {
        json_t *vector = json_array();
        for (int d = 0; d < CHROMA_LEGACY_DIM; d++)
            json_array_append_new(vector,
                                  json_real((double)query->vectors[q * CHROMA_LEGACY_DIM + d]));
        json_array_append_new(vectors, vector);
    }
    struct http_reply got;
    if (!legacy_ask(&got, search->legacy, search->listing, query->kind, "query",
                    json_pack("{s:o,s:i,s:[s]}", "query_embeddings", vectors, "n_results",
                              n_nearest, "include", "distances"),
                    err))
        return false;
    *reply = json_loadb(got.body, got.len, 0, NULL);
    http_reply_fini(&got);
    return *reply || error_set_code(err, ERROR_BUSY, "backend_unavailable",
                                    "ChromaDB at %s: an answer that is no JSON",
                                    chroma_link_url(search->legacy->chroma->link));
}

/* What a row is worth: the sum over question vectors of how near it is, and where it is not among
 * the nearest, of how near the last of them is. *n_found: rows with any worth of their own;
 * *n_told: the most that a vector was told of. */
static void add_worths(double *worths, bool *near, int *n_found, size_t *n_told,
                       const struct search *search, const int *sorted, const json_t *reply) {
    const json_t *ids = json_object_get(reply, "ids"),
                 *distances = json_object_get(reply, "distances");
    double *own = mem_alloc(((size_t)search->n_rows + 1) * sizeof *own);
    memset(worths, 0, (size_t)search->n_rows * sizeof *worths);
    memset(near, 0, (size_t)search->n_rows * sizeof *near);
    *n_found = 0;
    *n_told = 0;
    for (size_t q = 0; q < json_array_size(ids); q++) {
        const json_t *of = json_array_get(ids, q), *far = json_array_get(distances, q);
        double farthest = 0;
        *n_told = json_array_size(of) > *n_told ? json_array_size(of) : *n_told;
        for (size_t i = 0; i < json_array_size(far); i++) {
            double distance = json_number_value(json_array_get(far, i));
            farthest = i == 0 || distance > farthest ? distance : farthest;
        }
        for (int i = 0; i < search->n_rows; i++)
            own[i] = farthest;
        for (size_t i = 0; i < json_array_size(of); i++) {
            const char *id = json_string_value(json_array_get(of, i));
            int row = id ? find_row(search, sorted, id) : -1;
            if (row < 0)
                continue;
            own[row] = json_number_value(json_array_get(far, i));
            *n_found += !near[row];
            near[row] = true;
        }
        for (int i = 0; i < search->n_rows; i++)
            worths[i] -= own[i];
    }
    mem_free(own);
}

static int by_worth(const void *a, const void *b, void *ctx) {
    const double *worths = ctx;
    double one = worths[*(const int *)a], other = worths[*(const int *)b];
    if (one != other)
        return one > other ? -1 : 1;
    return *(const int *)a - *(const int *)b;
}

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Leaves the rows that are nearest: more are asked for until enough of them may be found. */
static bool choose_nearest(struct search *search, int most, struct error *err) {
    const struct legacy_row *rows = search->listing->rows[search->query->kind];
    size_t n = (size_t)search->n_rows;
    int *sorted = mem_alloc((n + 1) * sizeof *sorted), *order = mem_alloc((n + 1) * sizeof *order);
    double *worths = mem_alloc((n + 1) * sizeof *worths);
    bool *near = mem_alloc(n + 1), ok = true;
    memcpy(sorted, search->rows, n * sizeof *sorted);
    qsort_r(sorted, n, sizeof *sorted, by_id, (void *)rows);
    int n_found = 0, n_chosen = 0;
    for (int n_nearest = FIRST_NEAREST;; n_nearest *= 4) {
        json_t *reply;
        if (!(ok = ask_nearest(&reply, search, n_nearest, err)))
            break;
        size_t n_told;
        add_worths(worths, near, &n_found, &n_told, search, sorted, reply);
        json_decref(reply);
        if (n_found >= most || n_told < (size_t)n_nearest || n_nearest >= MOST_NEAREST)
            break;
    }
    for (int i = 0; ok && i < search->n_rows; i++)
        if (near[i])
            order[n_chosen++] = i;
    qsort_r(order, (size_t)n_chosen, sizeof *order, by_worth, worths);
    search->n_rows = ok && n_chosen > most ? most : n_chosen;
    for (int i = 0; i < search->n_rows; i++)
        search->rows[i] = sorted[order[i]];
    qsort(search->rows, (size_t)search->n_rows, sizeof *search->rows, ascending);
    mem_free(sorted);
    mem_free(order);
    mem_free(worths);
    mem_free(near);
    return ok;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void score(struct search *search, int *n_hits, int row, const struct legacy_kept *kept) {
    if (kept->n == 0)
        return;
    struct index_hit *hit = &search->hits[(*n_hits)++];
    *hit = hit_of(search, row);
    hit->score = maxsim(search->query->vectors, search->query->n_vectors, kept->vectors, kept->n);
}

/* Reads rows, at most LEGACY_BATCH, and scores them. */
static bool read_and_score(struct search *search, int *n_hits, const int *rows, int n,
                           struct error *err) {
    enum item_kind kind = search->query->kind;
    const struct legacy_listing *listing = search->listing;
    const char *ids[LEGACY_BATCH];
    struct legacy_rows fetched;
    for (int i = 0; i < n; i++)
        ids[i] = listing->rows[kind][rows[i]].id;
    if (!legacy_fetch(&fetched, search->legacy, listing, kind, ids, n, err))
        return false;
    for (int i = 0; i < n; i++) {
        const json_t *metadata = legacy_metadata(&fetched, ids[i]);
        float *vectors = NULL;
        int n_vectors = 0;
        struct error why;
        if (metadata && !legacy_vectors(&vectors, &n_vectors, &fetched, metadata, &why))
            log_warn("%s: %s: %s; it is not searched", search->legacy->names[kind], ids[i],
                     why.text);
        struct legacy_kept *kept = keep(search->legacy, listing->uuids[kind], ids[i], vectors,
                                        n_vectors);
        score(search, n_hits, rows[i], kept);
        kept_unref(search->legacy, kept);
    }
    legacy_rows_fini(&fetched);
    return true;
}

static bool score_rows(struct search *search, int *n_hits, struct error *err) {
    enum item_kind kind = search->query->kind;
    int unread[LEGACY_BATCH], n_unread = 0;
    *n_hits = 0;
    for (int i = 0; i < search->n_rows; i++) {
        int row = search->rows[i];
        struct legacy_kept *kept = kept_find(search->legacy, search->listing->uuids[kind],
                                             search->listing->rows[kind][row].id);
        if (kept) {
            score(search, n_hits, row, kept);
            kept_unref(search->legacy, kept);
        } else {
            unread[n_unread++] = row;
        }
        bool last = i + 1 == search->n_rows;
        if (n_unread == LEGACY_BATCH || (last && n_unread > 0)) {
            if (!read_and_score(search, n_hits, unread, n_unread, err))
                return false;
            n_unread = 0;
        }
    }
    return true;
}

static int best_first(const void *a, const void *b) {
    const struct index_hit *one = a, *other = b;
    if (one->score != other->score)
        return one->score > other->score ? -1 : 1;
    int order = strcmp(one->doc_id, other->doc_id);
    return order != 0 ? order : one->item - other->item;
}

static bool check_question(const struct chroma_query *query, struct error *err) {
    if (query->n_vectors < 1 || query->n_vectors > MAXSIM_MAX_QUERY)
        return error_set(err, ERROR_INPUT, "a question of %d vectors; there may be 1 to %d",
                         query->n_vectors, MAXSIM_MAX_QUERY);
    for (int i = 0; i < query->n_vectors * CHROMA_LEGACY_DIM; i++)
        if (!(fabsf(query->vectors[i]) <= MAX_ELEMENT))
            return error_set(err, ERROR_INPUT,
                             "vector %d of the question has an element that is %g",
                             i / CHROMA_LEGACY_DIM, (double)query->vectors[i]);
    return true;
}

static bool answer(struct search *search, int *n, struct index_effort *effort, struct error *err) {
    const struct chroma_query *query = search->query;
    size_t n_all = (size_t)search->listing->n_rows[query->kind];
    double began = now_ms();
    int limit = query->limit < (int)n_all ? query->limit : (int)n_all;
    int most = limit > NEAREST_SCORED / 2 ? 2 * limit : NEAREST_SCORED;
    search->rows = arena_try(search->arena, n_all + 1, sizeof *search->rows);
    if (!search->rows)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory to search");
    take_rows(search);
    if (!judge_rows(search, err))
        return false;
    effort->n_scanned = search->n_rows;
    bool few = search->n_rows <= ALL_SCORED || search->n_rows <= most;
    if (!query->exact && !few && !choose_nearest(search, most, err))
        return false;
    effort->scan_ms = now_ms() - began;
    began = now_ms();
    search->hits = arena_try(search->arena, (size_t)search->n_rows + 1, sizeof *search->hits);
    if (!search->hits)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory to search");
    int n_hits;
    if (!score_rows(search, &n_hits, err))
        return false;
    qsort(search->hits, (size_t)n_hits, sizeof *search->hits, best_first);
    *n = n_hits < query->limit ? n_hits : query->limit;
    effort->n_full = n_hits;
    effort->full_ms = now_ms() - began;
    return true;
}

bool chroma_legacy_search(struct index_hit **out, int *n, struct index_effort *effort,
                          struct arena *arena, struct chroma_legacy *legacy,
                          const struct chroma_query *query, struct error *err) {
    struct legacy_listing *listing;
    *out = NULL;
    *n = 0;
    *effort = (struct index_effort){0};
    if (!check_question(query, err))
        return false;
    if (query->limit < 1)
        return true;
    if (!legacy_list(&listing, legacy, err))
        return false;
    struct search search = {.legacy = legacy, .listing = listing, .query = query, .arena = arena};
    bool fits = listing->n_rows[query->kind] > 0 && listing->dims[query->kind] == CHROMA_LEGACY_DIM;
    bool ok = !fits || answer(&search, n, effort, err);
    *out = search.hits;
    legacy_unref(legacy, listing);
    return ok;
}
