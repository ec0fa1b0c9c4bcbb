/* Pooling: vectors of one page or passage that say nearly the same are made one.
 *
 * Ward's method (Ward, 1963) over unit vectors, by the nearest-neighbour chain (Murtagh, 1983) with
 * the update of Lance and Williams (1967): O(n^2), and the same clusters as always joining the
 * closest two. Every row of distances is one cluster's; a merge writes one row and leaves the
 * column to be brought up to date when another row is next read, because a column costs a cache
 * line an element. Products are of int16 in int32, exact, so that the first distances are the same
 * on every processor; ties go to the lower index.
 *
 * The distances of n vectors take n^2: more than MAX_ROWS are pooled in slices of neighbours, as
 * equal as can be, each cut in proportion to its length. */
#include "index/segment.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 4096                  /* of a slice: 64 MiB of distances */
#define MAX_ELEMENTS ((size_t)1 << 25) /* of a slice as int16: 64 MiB */
#define LANES 64
/* Length of a vector as int16: a squared distance, four times its square, fits in 31 bits. */
#define UNIT 16384.0f

/* The inner loops are compiled for several processors, and chosen between as the program starts.
 * Sanitizers are not ready as early as that. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define CLONES
#endif

struct merge {
    float height;
    int order; /* among merges of one height: as they were made */
    int a, b;  /* rows that belong to the two clusters */
};

struct pooling {
    const float *vectors; /* the caller's */
    int n, dim, n_slices;
    float *lengths;         /* of vectors */
    struct merge *merges;   /* slice by slice, the lowest first */
    int *parents, *numbers; /* a cut's own: the way to a row's cluster, the cluster's number */
};

/* Rows [slice_start(s), slice_start(s + 1)) are slice s's; its merges, one fewer than its rows,
 * begin at slice_start(s) - s. */
static int slice_start(const struct pooling *pooling, int slice) {
    return (int)((int64_t)pooling->n * slice / pooling->n_slices);
}

/* ---- distances ---- */

struct work {
    int n;
    size_t stride;     /* elements of a row of distances, a multiple of LANES */
    size_t row_stride; /* elements of a vector as int16, a multiple of 16 */
    int16_t *rows;
    int32_t *squares; /* squared lengths of rows */
    float *distances;
    float *sizes; /* of clusters */
    float *gone;  /* 0, infinite for rows whose cluster is no more: added to distances */
    /* Clusters made by a merge that still are, the oldest first, and when each was made. */
    int *made;
    int n_made;
    int *made_at, *fresh_at; /* a row: its cluster's merge, the last merge that it knows of */
    int *chain;
    bool *in_chain;
};

/* Two rows with four: one load serves several products. */
static inline __attribute__((always_inline)) void dots(int32_t out[2][4], const int16_t *restrict a,
                                                       const int16_t *restrict b, size_t stride,
                                                       size_t n) {
    const int16_t *a1 = a + stride;
    const int16_t *b1 = b + stride, *b2 = b1 + stride, *b3 = b2 + stride;
    int32_t s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
    for (size_t i = 0; i < n; i++) {
        s00 += a[i] * b[i];
        s01 += a[i] * b1[i];
        s02 += a[i] * b2[i];
        s03 += a[i] * b3[i];
        s10 += a1[i] * b[i];
        s11 += a1[i] * b1[i];
        s12 += a1[i] * b2[i];
        s13 += a1[i] * b3[i];
    }
    out[0][0] = s00;
    out[0][1] = s01;
    out[0][2] = s02;
    out[0][3] = s03;
    out[1][0] = s10;
    out[1][1] = s11;
    out[1][2] = s12;
    out[1][3] = s13;
}

/* Squared distances of all rows, both halves; rows behind the last are zeros up to a multiple of
 * four. Blocks of columns stay in the first cache while the rows pass by. */
CLONES static void measure(struct work *work) {
    enum { BLOCK = 64 };
    size_t stride = work->stride, row_stride = work->row_stride;
    for (int first = 0; first < work->n; first += BLOCK) {
        int end = first + BLOCK < work->n ? first + BLOCK : work->n;
        for (int i = 0; i < end; i += 2) {
            for (int j = i > first ? i / 4 * 4 : first; j < end; j += 4) {
                int32_t products[2][4];
                dots(products, work->rows + (size_t)i * row_stride,
                     work->rows + (size_t)j * row_stride, row_stride, row_stride);
                for (int row = i; row < i + 2; row++) {
                    for (int col = j; col < j + 4; col++) {
                        float far = (float)(work->squares[row] + work->squares[col] -
                                            2 * products[row - i][col - j]);
                        work->distances[(size_t)row * stride + (size_t)col] = far;
                        work->distances[(size_t)col * stride + (size_t)row] = far;
                    }
                }
            }
        }
    }
    for (int i = 0; i < work->n; i++)
        work->distances[(size_t)i * stride + (size_t)i] = INFINITY;
}

/* ---- the chain ---- */

static float *distances_of(const struct work *work, int row) {
    return work->distances + (size_t)row * work->stride;
}

/* Distances to clusters made since the row was last read: each of them has the newer row. */
static void freshen(struct work *work, int row) {
    float *distances = distances_of(work, row);
    for (int i = work->n_made - 1; i >= 0; i--) {
        int made = work->made[i];
        if (work->made_at[made] <= work->fresh_at[row])
            break;
        distances[made] = distances_of(work, made)[row];
    }
    work->fresh_at[row] = work->n_made > 0 ? work->made_at[work->made[work->n_made - 1]] : 0;
}

/* The nearest of the clusters that are, the lowest row of several. */
CLONES static int nearest(const struct work *work, int row, float *far) {
    const float *restrict distances = distances_of(work, row), *restrict gone = work->gone;
    size_t n = work->stride;
    float lanes[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        lanes[lane] = INFINITY;
    for (size_t i = 0; i < n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            float sum = distances[i + lane] + gone[i + lane];
            lanes[lane] = sum < lanes[lane] ? sum : lanes[lane];
        }
    }
    *far = INFINITY;
    for (size_t lane = 0; lane < LANES; lane++)
        *far = lanes[lane] < *far ? lanes[lane] : *far;
    size_t best = n;
    for (size_t lane = 0; lane < LANES; lane++) {
        if (lanes[lane] > *far)
            continue;
        size_t i = lane;
        while (distances[i] + gone[i] > *far)
            i += LANES;
        best = i < best ? i : best;
    }
    return (int)best;
}

/* Row b becomes the cluster of both (Lance and Williams, with Ward's coefficients). */
CLONES static void join_rows(float *restrict b, const float *restrict a,
                             const float *restrict sizes, float size_a, float size_b, float far,
                             size_t n) {
    for (size_t i = 0; i < n; i++) {
        float joined = (size_a + sizes[i]) * a[i] + (size_b + sizes[i]) * b[i] - sizes[i] * far;
        joined /= size_a + size_b + sizes[i];
        b[i] = joined > 0 ? joined : 0; /* below only by rounding */
    }
}

static void forget_made(struct work *work, int row) {
    if (work->made_at[row] == 0)
        return;
    int i = work->n_made - 1;
    while (work->made[i] != row)
        i--;
    work->n_made--;
    memmove(work->made + i, work->made + i + 1, (size_t)(work->n_made - i) * sizeof *work->made);
}

static void merge(struct work *work, struct merge *out, int order, int a, int b, float far) {
    *out = (struct merge){.height = far, .order = order, .a = a, .b = b};
    float *row_b = distances_of(work, b);
    join_rows(row_b, distances_of(work, a), work->sizes, work->sizes[a], work->sizes[b], far,
              work->stride);
    row_b[b] = INFINITY;
    work->sizes[b] += work->sizes[a];
    work->gone[a] = INFINITY;
    forget_made(work, a);
    forget_made(work, b);
    work->made[work->n_made++] = b;
    work->made_at[b] = work->fresh_at[b] = order + 1;
}

static int by_height(const void *a, const void *b) {
    const struct merge *x = a, *y = b;
    if (x->height != y->height)
        return x->height < y->height ? -1 : 1;
    return x->order - y->order;
}

static void find_merges(struct merge *merges, struct work *work) {
    int n_merges = 0, n_chain = 0, first = 0;
    while (n_merges < work->n - 1) {
        if (n_chain == 0) {
            while (work->gone[first] > 0)
                first++;
            work->chain[n_chain++] = first;
            work->in_chain[first] = true;
        }
        int top = work->chain[n_chain - 1];
        freshen(work, top);
        float far;
        int next = nearest(work, top, &far);
        int before = n_chain > 1 ? work->chain[n_chain - 2] : -1;
        float back = before < 0 ? INFINITY : distances_of(work, top)[before];
        /* Two that are nearest to each other. The one before wins a tie; another of the chain can
         * be nearer only by rounding. */
        if (before >= 0 && (back <= far || work->in_chain[next])) {
            freshen(work, before);
            n_chain -= 2;
            work->in_chain[top] = work->in_chain[before] = false;
            int a = top < before ? before : top, b = top < before ? top : before;
            merge(work, merges + n_merges, n_merges, a, b, back);
            n_merges++;
        } else {
            work->chain[n_chain++] = next;
            work->in_chain[next] = true;
        }
    }
    qsort(merges, (size_t)n_merges, sizeof *merges, by_height);
}

/* ---- one slice after another ---- */

static void work_free(struct work *work) {
    mem_free(work->rows);
    mem_free(work->squares);
    mem_free(work->distances);
    mem_free(work->sizes);
    mem_free(work->gone);
    mem_free(work->made);
    mem_free(work->made_at);
    mem_free(work->fresh_at);
    mem_free(work->chain);
    mem_free(work->in_chain);
}

/* Room for slices of up to n rows. */
static bool work_init(struct work *work, int n, int dim) {
    *work = (struct work){.stride = ((size_t)n + LANES - 1) / LANES * LANES,
                          .row_stride = ((size_t)dim + 15) / 16 * 16};
    size_t stride = work->stride, most = (size_t)1 << 28;
    work->rows = mem_try(stride, work->row_stride * sizeof *work->rows, most);
    work->squares = mem_try(stride, sizeof *work->squares, most);
    work->distances = mem_try(stride, stride * sizeof *work->distances, most);
    work->sizes = mem_try(stride, sizeof *work->sizes, most);
    work->gone = mem_try(stride, sizeof *work->gone, most);
    work->made = mem_try(stride, sizeof *work->made, most);
    work->made_at = mem_try(stride, sizeof *work->made_at, most);
    work->fresh_at = mem_try(stride, sizeof *work->fresh_at, most);
    work->chain = mem_try(stride, sizeof *work->chain, most);
    work->in_chain = mem_try(stride, sizeof *work->in_chain, most);
    return work->rows && work->squares && work->distances && work->sizes && work->gone &&
           work->made && work->made_at && work->fresh_at && work->chain && work->in_chain;
}

/* To length UNIT; a vector without length stays one. */
static int32_t round_row(int16_t *out, const float *vector, int dim, float length) {
    float factor = length > 0 ? UNIT / length : 0;
    int32_t square = 0;
    for (int d = 0; d < dim; d++) {
        out[d] = (int16_t)lrintf(vector[d] * factor);
        square += out[d] * out[d];
    }
    return square;
}

static void pool_slice(struct pooling *pooling, struct work *work, int slice) {
    int first = slice_start(pooling, slice), dim = pooling->dim;
    work->n = slice_start(pooling, slice + 1) - first;
    work->n_made = 0;
    size_t n_rows = ((size_t)work->n + LANES - 1) / LANES * LANES;
    work->stride = n_rows;
    memset(work->rows, 0, n_rows * work->row_stride * sizeof *work->rows);
    for (int i = 0; i < (int)n_rows; i++) {
        bool there = i < work->n;
        work->squares[i] = there ? round_row(work->rows + (size_t)i * work->row_stride,
                                             pooling->vectors + (size_t)(first + i) * (size_t)dim,
                                             dim, pooling->lengths[first + i])
                                 : 0;
        work->sizes[i] = there;
        work->gone[i] = there ? 0 : INFINITY;
        work->made_at[i] = work->fresh_at[i] = 0;
        work->in_chain[i] = false;
    }
    measure(work);
    struct merge *merges = pooling->merges + first - slice;
    find_merges(merges, work);
    for (int i = 0; i < work->n - 1; i++) {
        merges[i].a += first;
        merges[i].b += first;
    }
}

/* In double: the squares of floats can pass their range. */
static float length_of(const float *vector, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (double)vector[d] * (double)vector[d];
    return (float)sqrt(sum);
}

void pooling_free(struct pooling *pooling) {
    if (!pooling)
        return;
    mem_free(pooling->lengths);
    mem_free(pooling->merges);
    mem_free(pooling->parents);
    mem_free(pooling->numbers);
    mem_free(pooling);
}

bool pooling_new(struct pooling **out, const float *vectors, int n, int dim, struct error *err) {
    assert(n >= 1 && n <= 1 << 20 && dim >= 1 && dim <= 65536);
    struct pooling *pooling = mem_alloc(sizeof *pooling);
    size_t most = MAX_ELEMENTS / (size_t)dim;
    most = most > MAX_ROWS ? MAX_ROWS : most;
    *pooling = (struct pooling){
        .vectors = vectors, .n = n, .dim = dim, .n_slices = (int)(((size_t)n + most - 1) / most)};
    pooling->lengths = mem_try((size_t)n, sizeof *pooling->lengths, SIZE_MAX);
    pooling->merges = mem_try((size_t)n, sizeof *pooling->merges, SIZE_MAX);
    pooling->parents = mem_try((size_t)n, sizeof *pooling->parents, SIZE_MAX);
    pooling->numbers = mem_try((size_t)n, sizeof *pooling->numbers, SIZE_MAX);
    struct work work;
    bool ok = work_init(&work, (n + pooling->n_slices - 1) / pooling->n_slices, dim) &&
              pooling->lengths && pooling->merges && pooling->parents && pooling->numbers;
    for (int i = 0; ok && i < n; i++)
        pooling->lengths[i] = length_of(vectors + (size_t)i * (size_t)dim, dim);
    for (int slice = 0; ok && slice < pooling->n_slices; slice++)
        pool_slice(pooling, &work, slice);
    work_free(&work);
    if (!ok) {
        pooling_free(pooling);
        return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                              "no memory to pool %d vectors of %d dimensions", n, dim);
    }
    *out = pooling;
    return true;
}

/* ---- a cut ---- */

static int cluster_of(int *parents, int row) {
    while (parents[row] != row)
        row = parents[row] = parents[parents[row]];
    return row;
}

/* The lower row stands for both. */
static void join(int *parents, int a, int b) {
    a = cluster_of(parents, a);
    b = cluster_of(parents, b);
    parents[a < b ? b : a] = a < b ? a : b;
}

/* Slices' shares of n_out are as their lengths are, and at least 1: where there are fewer clusters
 * than slices, a slice is one cluster, and neighbouring slices are joined. */
static void join_clusters(const struct pooling *pooling, int n_out) {
    int *parents = pooling->parents, n_slices = pooling->n_slices, n_left = n_out;
    for (int i = 0; i < pooling->n; i++)
        parents[i] = i;
    for (int slice = 0; slice < n_slices; slice++) {
        int first = slice_start(pooling, slice), end = slice_start(pooling, slice + 1);
        int share = 1;
        if (n_out >= n_slices)
            share = (int)((int64_t)n_left * (end - first) / (pooling->n - first));
        share = share < 1 ? 1 : share;
        n_left -= share;
        const struct merge *merges = pooling->merges + first - slice;
        for (int i = 0; i < end - first - share; i++)
            join(parents, merges[i].a, merges[i].b);
        if (n_out < n_slices && slice > 0 &&
            (int64_t)slice * n_out / n_slices == (int64_t)(slice - 1) * n_out / n_slices)
            join(parents, first, first - 1);
    }
}

void pooling_cut(float *out, const struct pooling *pooling, int n_out) {
    int n = pooling->n, dim = pooling->dim, n_clusters = 0;
    assert(n_out >= 1 && n_out <= n);
    join_clusters(pooling, n_out);
    for (int i = 0; i < n; i++) {
        int row = cluster_of(pooling->parents, i);
        pooling->numbers[i] = row == i ? n_clusters++ : pooling->numbers[row];
    }
    assert(n_clusters == n_out);
    memset(out, 0, (size_t)n_out * (size_t)dim * sizeof *out);
    for (int i = 0; i < n; i++) {
        const float *vector = pooling->vectors + (size_t)i * (size_t)dim;
        float *sum = out + (size_t)pooling->numbers[i] * (size_t)dim;
        float factor = pooling->lengths[i] > 0 ? 1 / pooling->lengths[i] : 0;
        for (int d = 0; d < dim; d++)
            sum[d] += vector[d] * factor;
    }
    for (int i = 0; i < n_out; i++) {
        float *mean = out + (size_t)i * (size_t)dim, length = length_of(mean, dim);
        for (int d = 0; length > 0 && d < dim; d++)
            mean[d] /= length;
    }
}
