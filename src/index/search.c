/* Search of a view: the stage that sees every item, and the best that are found.
 *
 * Every slot that is live and allowed is scored: single vectors by their rows, exactly; late items
 * by their signs, after which stages.c goes on, or, where all are to be exact or are few, by their
 * best codes. Slots are taken in runs, so that a kernel has many at a time; what is filtered out or
 * damaged costs nothing but its bit.
 *
 * Invariants:
 * 1. Scores of a question are comparable over all shapes: an item's is that of its best codes.
 * 2. The same view, question and recall give the same answer, whatever the number of threads: work
 * is divided by items, and what adds up over items is added up in their order.
 * 3. Memory is 4 bytes a slot of the view, and what stages.c takes. */
#include "index/search.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_QUERY_BYTES ((size_t)1 << 28)
/* Slots that a thread takes at once, multiples of 64: tens of microseconds of rows and of signs, a
 * millisecond of full codes. */
#define CHUNK_ROWS 1024
#define CHUNK_SIGNS 256
#define CHUNK_CODES 64

double search_now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

bool search_no_memory(struct error *err) {
    return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory to search");
}

/* ---- the best so far ---- */

static bool is_better(const struct scored *a, const struct scored *b) {
    return a->score != b->score ? a->score > b->score : a->id < b->id;
}

static int best_first(const void *a, const void *b) {
    return is_better(a, b) ? -1 : is_better(b, a);
}

static void sift_down(struct scored *heap, int n) {
    struct scored moved = heap[0];
    int i = 0;
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_better(&heap[child], &heap[child + 1]))
            child++;
        if (!is_better(&moved, &heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

void search_keep(struct scored *heap, int *n, int most, const struct scored *scored) {
    if (*n == most) {
        if (is_better(scored, &heap[0])) {
            heap[0] = *scored;
            sift_down(heap, *n);
        }
        return;
    }
    int i = (*n)++;
    while (i > 0 && is_better(&heap[(i - 1) / 2], scored)) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = *scored;
}

int search_part_of(const struct search *search, uint32_t item) {
    int low = 0, high = search->view->n_parts;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (search->starts[middle] <= item)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void search_offer(struct search *search, uint32_t item, float score) {
    if (search->n_best == search->limit && score < search->best[0].score)
        return;
    int part = search_part_of(search, item), slot = (int)(item - search->starts[part]);
    struct scored scored = {.part = part, .slot = slot, .score = score};
    scored.id = search->view->parts[part].segment->ids[slot];
    search_keep(search->best, &search->n_best, search->limit, &scored);
}

/* ---- items ---- */

bool search_codes(struct coded *out, const struct search *search, uint32_t item,
                  enum item_part what) {
    int part = search_part_of(search, item), slot = (int)(item - search->starts[part]);
    struct segment *segment = search->view->parts[part].segment;
    if (!segment_check(segment, slot, what))
        return false;
    const void *record = segment->map + segment->slots[slot].offset;
    *out = what == PART_FULL ? slot_full(&segment->shape, &segment->slots[slot], record)
                             : slot_pooled(&segment->shape, &segment->slots[slot], record);
    return true;
}

/* Which slots of 64 may be found. */
static uint64_t mask_of(const struct search *search, int part, int word) {
    const struct view_part *parts = search->view->parts;
    int n_left = parts[part].n_slots - word * 64;
    uint64_t mask = parts[part].live[search->kind] ? parts[part].live[search->kind][word] : 0;
    if (search->allowed)
        mask &= search->allowed[part] ? search->allowed[part][word] : 0;
    return n_left < 64 ? mask & ((UINT64_C(1) << n_left) - 1) : mask;
}

static int64_t count_items(const struct search *search) {
    int64_t n = 0;
    for (int part = 0; part < search->view->n_parts; part++) {
        for (int word = 0; word * 64 < search->view->parts[part].n_slots; word++)
            n += __builtin_popcountll(mask_of(search, part, word));
    }
    return n;
}

/* ---- the stage that sees every item ---- */

struct pass {
    struct search *search;
    bool exact;          /* late items by their best codes */
    int chunk;           /* slots */
    const float *values; /* of Hamming distances */
    uint32_t *starts;    /* parts + 1: each part's first chunk */
};

static bool is_set(const uint64_t *mask, int i) {
    return mask[i / 64] >> i % 64 & 1;
}

static void score_run(const struct pass *pass, const struct segment *segment, int first, int n,
                      float *scores) {
    size_t stride = shape_scan_bytes(&segment->shape);
    const void *codes = segment->scan + (size_t)first * stride;
    if (segment->shape.late)
        maxsim_signs(scores, pass->search->query, codes, segment->shape.scan_vectors, n,
                     pass->values);
    else
        dot_rows(scores, pass->search->query, codes, stride, n);
}

/* Late items by their best codes, as many at once as there are. */
static void score_exactly(const struct search *search, const struct segment *segment,
                          uint32_t first, const uint64_t *mask, int n, float *scores) {
    struct coded codes[CHUNK_CODES];
    float of_codes[CHUNK_CODES];
    int slots[CHUNK_CODES], n_codes = 0;
    enum item_part best = segment->shape.keep_full ? PART_FULL : PART_POOLED;
    for (int i = 0; i < n; i++) {
        if (is_set(mask, i) && search_codes(&codes[n_codes], search, first + (uint32_t)i, best))
            slots[n_codes++] = i;
    }
    if (n_codes > 0)
        maxsim_codes(of_codes, search->query, codes, n_codes);
    for (int i = 0; i < n_codes; i++)
        scores[slots[i]] = of_codes[i];
}

static void score_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const struct pass *pass = ctx;
    const struct search *search = pass->search;
    int part = 0;
    while (pass->starts[part + 1] <= (uint32_t)chunk)
        part++;
    const struct view_part *view_part = &search->view->parts[part];
    int first = (chunk - (int)pass->starts[part]) * pass->chunk;
    int n = view_part->n_slots - first < pass->chunk ? view_part->n_slots - first : pass->chunk;
    float *scores = search->scores + search->starts[part] + first;
    uint64_t mask[CHUNK_ROWS / 64] = {0};
    for (int word = 0; word * 64 < n; word++)
        mask[word] = mask_of(search, part, first / 64 + word);
    for (int i = 0; i < n; i++)
        scores[i] = -INFINITY;
    if (pass->exact && view_part->segment->shape.late) {
        score_exactly(search, view_part->segment, search->starts[part] + (uint32_t)first, mask, n,
                      scores);
        return;
    }
    for (int begin = 0, end; begin < n; begin = end + 1) {
        end = begin;
        while (end < n && is_set(mask, end) &&
               segment_check(view_part->segment, first + end, PART_SCAN))
            end++;
        if (end > begin)
            score_run(pass, view_part->segment, first + begin, end - begin, scores + begin);
    }
}

static bool score_all(struct search *search, bool exact, struct error *err) {
    const struct view *view = search->view;
    bool late = view->parts[0].segment->shape.late;
    struct pass pass = {.search = search,
                        .exact = exact,
                        .chunk = !late   ? CHUNK_ROWS
                                 : exact ? CHUNK_CODES
                                         : CHUNK_SIGNS};
    float *values = mem_try((size_t)search->dim + 1, sizeof *values, SIZE_MAX);
    pass.starts = mem_try((size_t)view->n_parts + 1, sizeof *pass.starts, SIZE_MAX);
    bool ok = values && pass.starts;
    for (int distance = 0; ok && distance <= search->dim; distance++)
        values[distance] = (float)-distance;
    pass.values = values;
    for (int part = 0; ok && part < view->n_parts; part++)
        pass.starts[part + 1] = pass.starts[part] +
                                (uint32_t)((view->parts[part].n_slots + pass.chunk - 1) /
                                           pass.chunk);
    if (ok)
        device_run(search->device, (int)pass.starts[view->n_parts], score_chunk, &pass);
    mem_free(values);
    mem_free(pass.starts);
    return ok || search_no_memory(err);
}

/* ---- the ways to an answer ---- */

/* All items, by rows or by their best codes. */
static bool search_exactly(struct search *search, struct error *err) {
    struct index_effort *effort = search->effort;
    double began = search_now_ms();
    if (!score_all(search, true, err))
        return false;
    int64_t n_full = 0, n_pooled = 0;
    bool late = true;
    for (int part = 0; part < search->view->n_parts; part++) {
        const struct shape *shape = &search->view->parts[part].segment->shape;
        late = shape->late;
        for (uint32_t item = search->starts[part]; item < search->starts[part + 1]; item++) {
            if (search->scores[item] == -INFINITY)
                continue;
            search_offer(search, item, search->scores[item]);
            n_full += shape->keep_full;
            n_pooled += !shape->keep_full;
        }
    }
    double ms = search_now_ms() - began;
    if (!late)
        *effort = (struct index_effort){.n_scanned = n_full + n_pooled, .scan_ms = ms};
    else
        *effort = (struct index_effort){.n_pooled = n_pooled,
                                        .n_full = n_full,
                                        .pooled_ms = n_full > 0 ? 0 : ms,
                                        .full_ms = n_full > 0 ? ms : 0};
    return true;
}

static bool scan(struct search *search, struct error *err) {
    double began = search_now_ms();
    bool ok = score_all(search, false, err);
    search->effort->scan_ms = search_now_ms() - began;
    return ok;
}

/* A question of zero vectors: every score is 0, and the first items are the best. */
static void take_first(struct search *search) {
    const struct view *view = search->view;
    for (int part = 0; part < view->n_parts && search->n_best < search->limit; part++) {
        for (int slot = 0; slot < view->parts[part].n_slots; slot++) {
            if (mask_of(search, part, slot / 64) >> slot % 64 & 1 &&
                segment_check(view->parts[part].segment, slot, PART_SCAN))
                search_offer(search, search->starts[part] + (uint32_t)slot, 0);
            if (search->n_best == search->limit)
                break;
        }
    }
}

/* ---- the question ---- */

bool search_take_query(struct maxsim_query **out, int *n, const float *query, int n_query, int dim,
                       struct error *err) {
    *out = NULL;
    *n = 0;
    if (n_query < 1 || n_query > MAXSIM_MAX_QUERY)
        return error_set(err, ERROR_INPUT, "a question of %d vectors; there may be 1 to %d",
                         n_query, MAXSIM_MAX_QUERY);
    for (size_t i = 0; i < (size_t)n_query * (size_t)dim; i++) {
        if (!(fabsf(query[i]) <= 1e30f)) /* as item_encode: far from the range of sums */
            return error_set(err, ERROR_INPUT,
                             "vector %zu of the question has an element that is %g",
                             i / (size_t)dim, (double)query[i]);
    }
    size_t row_bytes = (size_t)dim * sizeof *query;
    float *rotated = mem_try((size_t)n_query, row_bytes, MAX_QUERY_BYTES);
    if (!rotated)
        return search_no_memory(err);
    for (int q = 0; q < n_query; q++) {
        const float *row = query + (size_t)q * (size_t)dim;
        bool zero = true;
        for (int d = 0; d < dim; d++)
            zero = zero && row[d] == 0;
        if (!zero)
            memcpy(rotated + (size_t)(*n)++ * (size_t)dim, row, row_bytes);
    }
    rotate_vectors(rotated, rotated, *n, dim);
    if (*n > 0)
        *out = maxsim_query_new(rotated, *n, dim);
    mem_free(rotated);
    return *out || *n == 0 || search_no_memory(err);
}

static bool answer(struct search *search, bool exact, int64_t n_items, struct error *err) {
    const struct view *view = search->view;
    if (search->n_query == 0) {
        take_first(search);
        return true;
    }
    search->scores = mem_try(search->starts[view->n_parts], sizeof *search->scores, SIZE_MAX);
    if (!search->scores)
        return search_no_memory(err);
    bool few = n_items <= search->limit || n_items <= STAGES_FEWEST;
    if (exact || few || search->recall >= 1 || !view->parts[0].segment->shape.late)
        return search_exactly(search, err);
    return scan(search, err) && search_stages(search, err);
}

bool view_search(struct scored **out, int *n, struct index_effort *effort, struct arena *arena,
                 struct device *device, const struct view *view, const uint64_t *const *allowed,
                 enum item_kind kind, const float *query, int n_query, int dim, int limit,
                 bool exact, double recall, struct error *err) {
    *out = NULL;
    *n = 0;
    *effort = (struct index_effort){0};
    struct maxsim_query *prepared;
    struct search search = {.view = view,
                            .allowed = allowed,
                            .kind = kind,
                            .device = device,
                            .dim = dim,
                            .recall = recall,
                            .effort = effort};
    if (!search_take_query(&prepared, &search.n_query, query, n_query, dim, err))
        return false;
    search.query = prepared;
    search.starts = arena_alloc(arena, ((size_t)view->n_parts + 1) * sizeof *search.starts);
    for (int part = 0; part < view->n_parts; part++) {
        assert(view->parts[part].segment->shape.dim == dim);
        search.starts[part + 1] = search.starts[part] + (uint32_t)view->parts[part].n_slots;
    }
    int64_t n_items = count_items(&search);
    search.limit = limit < n_items ? limit : (int)n_items;
    bool ok = true;
    if (search.limit > 0) {
        search.best = arena_try(arena, (size_t)search.limit, sizeof *search.best);
        ok = search.best ? answer(&search, exact, n_items, err) : search_no_memory(err);
    }
    mem_free(search.scores);
    maxsim_query_free(prepared);
    if (!ok)
        return false;
    if (search.n_best > 0)
        qsort(search.best, (size_t)search.n_best, sizeof *search.best, best_first);
    *out = search.best;
    *n = search.n_best;
    return true;
}
