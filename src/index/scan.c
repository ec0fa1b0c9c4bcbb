/* The nearest by looking at all of them: every row that the filter lets through is scored where its
 * vectors lie in the mapped file, and a heap keeps the best.
 *
 * A scan holds one of the store's few readers from its first row to its last, so that only
 * MAX_SCANS run at a time and others wait. */
#include "index/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LANES 16
#define MAX_SCANS 2
#define LOOK_ROWS 256 /* between two looks at the file's length */

struct scan {
    const struct index *index;
    const struct index_space *space;
    const struct index_map *map;
    int64_t n_there; /* vectors that the file holds */
    int n_unlooked;  /* rows since it was asked */
    struct error *err;
    bool failed;
    int64_t vector_bytes, end; /* end: vectors that the map holds */
    enum item_kind kind;
    int dim, n_query;
    bool late;
    const float *query;
    struct index_hit *best; /* a heap, the worst at its root */
    int n_best, limit;
    int64_t n_scored;
};

/* Lanes of partial sums: one order of additions wherever it is compiled for. */
static double dot(const float *a, const float *b, int n) {
    float sums[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += a[i + lane] * b[i + lane];
    }
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += (double)sums[lane];
    for (; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static bool is_better(const struct index_hit *a, const struct index_hit *b) {
    if (a->score != b->score)
        return a->score > b->score;
    int order = strcmp(a->doc_id, b->doc_id);
    return order != 0 ? order < 0 : a->item < b->item;
}

static int best_first(const void *a, const void *b) {
    return is_better(a, b) ? -1 : is_better(b, a);
}

static void sift_down(struct index_hit *heap, int n) {
    struct index_hit moved = heap[0];
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

static void offer(struct scan *scan, const struct index_hit *hit) {
    struct index_hit *heap = scan->best;
    if (scan->n_best == scan->limit) {
        if (is_better(hit, &heap[0])) {
            heap[0] = *hit;
            sift_down(heap, scan->n_best);
        }
        return;
    }
    int i = scan->n_best++;
    while (i > 0 && is_better(&heap[(i - 1) / 2], hit)) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = *hit;
}

static bool look_at_file(struct scan *scan) {
    struct stat info;
    scan->n_unlooked = 0;
    scan->failed = fstat(scan->space->fd, &info) != 0;
    if (scan->failed)
        return error_set_errno(scan->err, errno, "the vectors of %s", scan->space->name);
    scan->n_there = (info.st_size - INDEX_HEADER_BYTES) / scan->vector_bytes;
    return true;
}

/* Bytes past a file's end are mapped, and kill who touches them: a file that others cut short is
 * found out first. */
static bool check_there(struct scan *scan, int64_t end) {
    if ((++scan->n_unlooked > LOOK_ROWS || end > scan->n_there) && !look_at_file(scan))
        return false;
    scan->failed = end > scan->n_there;
    if (!scan->failed)
        return true;
    char *path = index_file_name(scan->index, scan->space->number, scan->space->generation);
    error_set_code(scan->err, ERROR_IO, "vectors_cut",
                   "%s was cut short: it holds %" PRId64 " vectors, and more are in use", path,
                   scan->n_there);
    mem_free(path);
    return false;
}

static bool score_row(void *ctx, const char *doc_id, const struct vector_row *row) {
    struct scan *scan = ctx;
    /* A row that the file does not bear out: of a damaged database. */
    if (row->n < 1 || row->first < 0 || row->first > scan->end - row->n || !*doc_id)
        return true;
    if (!check_there(scan, row->first + row->n))
        return false;
    const float *vectors = (const float *)(const void *)(scan->map->base + INDEX_HEADER_BYTES +
                                                         row->first * scan->vector_bytes);
    struct index_hit hit = {.kind = scan->kind, .item = row->item};
    hit.score = scan->late
                    ? maxsim_f32(scan->query, scan->n_query, vectors, row->n, scan->dim, NULL)
                    : dot(scan->query, vectors, scan->dim);
    scan->n_scored++;
    if (scan->n_best < scan->limit || hit.score >= scan->best[0].score) {
        memcpy(hit.doc_id, doc_id, sizeof hit.doc_id);
        offer(scan, &hit);
    }
    return true;
}

static void begin_scan(struct index *index) {
    lock_take(&index->lock);
    while (index->n_scans >= MAX_SCANS)
        cond_wait(&index->scan_ended, &index->lock, -1);
    index->n_scans++;
    lock_drop(&index->lock);
}

static void end_scan(struct index *index) {
    lock_take(&index->lock);
    index->n_scans--;
    cond_wake_all(&index->scan_ended);
    lock_drop(&index->lock);
}

bool index_search(struct index_hit **out, int *n, int64_t *n_scored, struct arena *arena,
                  struct index *index, int number, enum item_kind kind, const float *query,
                  int n_query, const struct search_filter *filter, int limit, struct error *err) {
    *out = NULL;
    *n = 0;
    *n_scored = 0;
    struct index_space *space = index_space_numbered(index, number);
    if (!space)
        return error_set(err, ERROR_MISSING, "there is no vector space %d", number);
    if (limit < 1 || n_query < 1)
        return true;
    /* Rows that commit after this are of no concern; those before it lie below this end, but for
     * one that commits in between and is passed over. */
    lock_take(&index->lock);
    int64_t end = space->end;
    lock_drop(&index->lock);
    struct index_map *map = NULL;
    if (end == 0)
        return true;
    if (!index_map(&map, index, space, end, err))
        return false;
    struct scan scan = {.index = index,
                        .space = space,
                        .map = map,
                        .err = err,
                        .vector_bytes = index_vector_bytes(space),
                        .end = end,
                        .kind = kind,
                        .dim = space->dim,
                        .n_query = n_query,
                        .late = space->late,
                        .query = query,
                        .limit = limit};
    scan.best = arena_alloc(arena, (size_t)limit * sizeof *scan.best);
    begin_scan(index);
    bool ok = store_visit_vectors(index->store, space->number, (enum vector_kind)kind, filter,
                                  score_row, &scan, err) &&
              !scan.failed;
    end_scan(index);
    index_unmap(index, map);
    if (!ok)
        return false;
    qsort(scan.best, (size_t)scan.n_best, sizeof *scan.best, best_first);
    *out = scan.best;
    *n = scan.n_best;
    *n_scored = scan.n_scored;
    return true;
}
