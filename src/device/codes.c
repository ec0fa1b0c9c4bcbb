/* Late interaction over codes, on the host: what codes are, a question made ready for the kernels,
 * and the loops over items that all kernels share.
 *
 * A question vector becomes int8 with one scale, its largest element 127, and, apart from that,
 * its signs. One with an element that is not finite counts as zero. Kernels take CODES_BLOCK
 * question vectors at a time and leave 16 lanes a vector, whose largest is summed here, in four
 * parts: so all instruction sets give the same bits. */
#include "device/cpu/codes.h"

#include <assert.h>
#include <math.h>
#include <stdalign.h>
#include <string.h>

#define CACHE_LINE 64
#define LINES_AHEAD 32 /* of the next item: the start of a large one, all of a pooled one */
#define SIGN_ITEMS 32  /* items whose distances are kept at once */
#define SIGN_QUERIES 64

/* ---- codes ---- */

size_t codes_bytes(int n, int dim, int bits) {
    assert(n >= 0 && dim > 0 && dim <= CODES_MAX_DIM);
    return (size_t)CODE_GROUPS((size_t)n) * code_group_bytes(CODE_DIM(dim), bits);
}

size_t code_scales_bytes(int n) {
    assert(n >= 0);
    return (size_t)CODE_GROUPS((size_t)n) * CODE_GROUP * sizeof(uint16_t);
}

const int8_t *codes_levels(int bits) {
    /* Max, "Quantizing for minimum distortion" (1960), table I: 2, 4 and 16 output levels, times
     * 128, 64 and 32, rounded. */
    static const int8_t one[] = {-102, 102};
    static const int8_t two[] = {-97, -29, 29, 97};
    static const int8_t four[] = {-87, -66, -52, -40, -30, -21, -12, -4,
                                  4,   12,  21,  30,  40,  52,  66,  87};
    assert(bits == 1 || bits == 2 || bits == 4 || bits == 8);
    return bits == 1 ? one : bits == 2 ? two : bits == 4 ? four : NULL;
}

/* ---- the question ---- */

static struct cpu_codes kernels_for(unsigned features) {
    struct cpu_codes kernels;
    cpu_codes_plain(&kernels);
#if defined(__x86_64__)
    if (features & CPU_AVX2)
        cpu_codes_avx2(&kernels);
    if (features & CPU_AVX512)
        cpu_codes_avx512(&kernels);
    if (features & CPU_AVX512_VNNI)
        cpu_codes_avx512_vnni(&kernels);
    if (features & CPU_AVX512_POPCNT)
        cpu_codes_avx512_popcnt(&kernels);
    if (features & CPU_AMX_INT8)
        cpu_codes_amx(&kernels);
#elif defined(__aarch64__)
    if (features & CPU_NEON)
        cpu_codes_neon(&kernels);
    if (features & CPU_NEON_DOT)
        cpu_codes_neon_dot(&kernels);
#else
    (void)features;
#endif
    return kernels;
}

static void take_vector(struct maxsim_query *query, int i, const float *vector) {
    int8_t *row = query->rows + (size_t)i * (size_t)query->code_dim;
    uint64_t *signs = query->signs + (size_t)i * (size_t)query->code_dim / 64;
    double peak = 0;
    bool finite = true;
    for (int d = 0; d < query->dim; d++) {
        double size = fabs((double)vector[d]);
        finite = finite && isfinite(size);
        peak = size > peak ? size : peak;
    }
    double factor = finite && peak > 0 ? 127 / peak : 0;
    query->scales[i] = factor > 0 ? (float)(peak / 127) : 0;
    int32_t sum = 0;
    for (int d = 0; d < query->dim; d++) {
        row[d] = factor > 0 ? (int8_t)lrint((double)vector[d] * factor) : 0;
        sum += row[d];
        signs[d / 64] |= (uint64_t)(vector[d] < 0) << (d % 64);
    }
    query->starts[i] = -128 * sum;
}

static size_t up_to(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

struct maxsim_query *cpu_query_new(const float *vectors, int n_query, int dim, unsigned features) {
    assert(n_query >= 0 && n_query <= MAXSIM_MAX_QUERY && dim > 0 && dim <= CODES_MAX_DIM);
    struct maxsim_query *query = mem_alloc(sizeof *query);
    *query = (struct maxsim_query){
        .kernels = kernels_for(features),
        .n = n_query,
        .dim = dim,
        .code_dim = CODE_DIM(dim),
        .n_signs = (int)up_to((size_t)n_query, SIGNS_STEP),
    };
    size_t code_dim = (size_t)query->code_dim, n = (size_t)n_query;
    size_t n_starts = up_to(n, CODES_BLOCK);
    size_t packed = 0;
    if (query->kernels.pack)
        packed = up_to(n, (size_t)query->kernels.pack_step) * code_dim *
                 (size_t)query->kernels.pack_bytes;
    size_t rows = n * code_dim, signs = (size_t)query->n_signs * code_dim / 8;
    size_t all = packed + rows + signs + n_starts * (sizeof *query->starts + sizeof *query->scales);
    query->memory = mem_try(1, all + CACHE_LINE, SIZE_MAX);
    if (!query->memory) {
        maxsim_query_free(query);
        return NULL;
    }
    query->packed = (uint8_t *)up_to((uintptr_t)query->memory, CACHE_LINE);
    query->rows = (int8_t *)query->packed + packed;
    query->signs = (uint64_t *)(query->rows + rows);
    query->starts = (int32_t *)((uint8_t *)query->signs + signs);
    query->scales = (float *)(query->starts + n_starts);
    for (int i = 0; i < n_query; i++)
        take_vector(query, i, vectors + (size_t)i * (size_t)dim);
    size_t sign_words = code_dim / 64;
    for (size_t i = n; i < (size_t)query->n_signs; i++)
        memcpy(query->signs + i * sign_words, query->signs + (n - 1) * sign_words, code_dim / 8);
    if (query->kernels.pack)
        query->kernels.pack(query->packed, query->rows, n_query, query->code_dim);
    return query;
}

struct maxsim_query *maxsim_query_new(const float *vectors, int n_query, int dim) {
    return cpu_query_new(vectors, n_query, dim, cpu_features());
}

void maxsim_query_free(struct maxsim_query *query) {
    if (!query)
        return;
    mem_free(query->memory);
    mem_free(query);
}

/* Sums of products and of table entries, in four parts whatever the instruction set. */
static float sum_of_products(const float *a, const float *b, int n) {
    float first = 0, second = 0, third = 0, fourth = 0;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        first += a[i] * b[i];
        second += a[i + 1] * b[i + 1];
        third += a[i + 2] * b[i + 2];
        fourth += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++)
        first += a[i] * b[i];
    return (first + second) + (third + fourth);
}

/* Bits past dim are zero in the question; an item that has some set is no nearer for it. */
static float value_of(const float *value, uint32_t distance, uint32_t dim) {
    return value[distance < dim ? distance : dim];
}

static float sum_of_values(const float *value, const uint32_t *distances, int n, uint32_t dim) {
    float first = 0, second = 0, third = 0, fourth = 0;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        first += value_of(value, distances[i], dim);
        second += value_of(value, distances[i + 1], dim);
        third += value_of(value, distances[i + 2], dim);
        fourth += value_of(value, distances[i + 3], dim);
    }
    for (; i < n; i++)
        first += value_of(value, distances[i], dim);
    return (first + second) + (third + fourth);
}

/* ---- MaxSim over codes ---- */

static void fetch(const void *from, size_t size_bytes) {
    const char *line = from;
    for (size_t i = 0; i < LINES_AHEAD && i * CACHE_LINE < size_bytes; i++)
        __builtin_prefetch(line + i * CACHE_LINE);
}

static void fetch_item(const struct maxsim_query *query, const struct coded *item) {
    fetch(item->codes, codes_bytes(item->n, query->dim, item->bits));
    fetch(item->scales, code_scales_bytes(item->n));
}

static int8_t *room_new(int8_t *on_stack, const struct maxsim_query *query) {
    if (query->code_dim <= CODES_STACK_DIM)
        return on_stack;
    return mem_alloc(2 * code_group_bytes(query->code_dim, 8));
}

static void room_free(int8_t *room, const int8_t *on_stack) {
    if (room != on_stack)
        mem_free(room);
}

static void lanes_begin(code_lanes *lanes, int n) {
    for (int q = 0; q < n; q++) {
        for (int v = 0; v < CODE_GROUP; v++)
            lanes[q][v] = -INFINITY;
    }
}

/* next: the item after it, or NULL. */
static float score_of(const struct maxsim_query *query, const struct coded *item,
                      const struct coded *next, int8_t *room) {
    const struct cpu_codes *kernels = &query->kernels;
    struct code_groups groups = {
        .codes = item->codes,
        .next = next ? next->codes : NULL,
        .scales = item->scales,
        .n = CODE_GROUPS(item->n),
        .bits = item->bits,
    };
    alignas(CACHE_LINE) code_lanes lanes[CODES_BLOCK];
    alignas(CACHE_LINE) float largest[CODES_BLOCK];
    float sum = 0;
    for (int first = 0; first < query->n; first += CODES_BLOCK) {
        int n = query->n - first < CODES_BLOCK ? query->n - first : CODES_BLOCK;
        int n_whole = (n + CODE_GROUP - 1) / CODE_GROUP * CODE_GROUP;
        lanes_begin(lanes, n_whole);
        kernels->lanes(lanes, query, first, n, &groups, room);
        kernels->largest(largest, (const code_lanes *)lanes, n_whole);
        sum += sum_of_products(largest, query->scales + first, n);
    }
    return sum;
}

void maxsim_codes(float *scores, const struct maxsim_query *query, const struct coded *items,
                  int n_items) {
    const struct cpu_codes *kernels = &query->kernels;
    alignas(CACHE_LINE) int8_t on_stack[2 * CODE_GROUP * CODES_STACK_DIM];
    int8_t *room = room_new(on_stack, query);
    if (kernels->begin)
        kernels->begin();
    for (int i = 0; i < n_items; i++) {
        const struct coded *next = i + 1 < n_items ? &items[i + 1] : NULL;
        if (next)
            fetch_item(query, next);
        assert(items[i].n >= 0);
        scores[i] = items[i].n > 0 ? score_of(query, &items[i], next, room) : 0;
    }
    if (kernels->end)
        kernels->end();
    room_free(room, on_stack);
}

/* A group's lanes, from nothing, are its products. */
static void group_matrix(float *out, const struct maxsim_query *query, const struct coded *item,
                         int group, int8_t *room) {
    const struct cpu_codes *kernels = &query->kernels;
    struct code_groups groups = {
        .codes = (const uint8_t *)item->codes +
                 (size_t)group * code_group_bytes(query->code_dim, item->bits),
        .scales = item->scales + (size_t)group * CODE_GROUP,
        .n = 1,
        .bits = item->bits,
    };
    int first_v = group * CODE_GROUP;
    int n_v = item->n - first_v < CODE_GROUP ? item->n - first_v : CODE_GROUP;
    alignas(CACHE_LINE) code_lanes lanes[CODES_BLOCK];
    for (int first = 0; first < query->n; first += CODES_BLOCK) {
        int n = query->n - first < CODES_BLOCK ? query->n - first : CODES_BLOCK;
        lanes_begin(lanes, CODES_BLOCK);
        kernels->lanes(lanes, query, first, n, &groups, room);
        for (int q = 0; q < n; q++) {
            float *row = out + (size_t)(first + q) * (size_t)item->n + first_v;
            for (int v = 0; v < n_v; v++)
                row[v] = lanes[q][v] * query->scales[first + q];
        }
    }
}

void maxsim_matrix(float *out, const struct maxsim_query *query, const struct coded *item) {
    const struct cpu_codes *kernels = &query->kernels;
    alignas(CACHE_LINE) int8_t on_stack[2 * CODE_GROUP * CODES_STACK_DIM];
    int8_t *room = room_new(on_stack, query);
    if (kernels->begin)
        kernels->begin();
    for (int group = 0; group < CODE_GROUPS(item->n); group++)
        group_matrix(out, query, item, group, room);
    if (kernels->end)
        kernels->end();
    room_free(room, on_stack);
}

/* ---- MaxSim over signs ---- */

size_t signs_bytes(int n_vectors, int dim) {
    assert(n_vectors >= 0 && n_vectors % 8 == 0 && dim > 0 && dim <= CODES_MAX_DIM);
    return (size_t)n_vectors * (size_t)CODE_DIM(dim) / 8;
}

void maxsim_signs(float *scores, const struct maxsim_query *query, const uint64_t *signs,
                  int n_vectors, int64_t n_items, const float *value) {
    const int n_words = query->code_dim / 64;
    const uint32_t dim = (uint32_t)query->dim;
    const size_t item_words = signs_bytes(n_vectors, query->dim) / sizeof *signs;
    alignas(CACHE_LINE) uint32_t distances[SIGN_ITEMS * SIGN_QUERIES];
    for (int64_t item = 0; item < n_items; item += SIGN_ITEMS) {
        int n_now = n_items - item < SIGN_ITEMS ? (int)(n_items - item) : SIGN_ITEMS;
        for (int i = 0; i < n_now; i++)
            scores[item + i] = 0;
        if (n_vectors == 0)
            continue;
        for (int first = 0; first < query->n; first += SIGN_QUERIES) {
            int n = query->n - first < SIGN_QUERIES ? query->n - first : SIGN_QUERIES;
            int stride = (int)up_to((size_t)n, SIGNS_STEP);
            query->kernels.nearest(distances, query->signs + (size_t)first * (size_t)n_words,
                                   stride, n_words, signs + (size_t)item * item_words,
                                   n_vectors / 8, n_now);
            for (int i = 0; i < n_now; i++)
                scores[item + i] += sum_of_values(value, distances + i * stride, n, dim);
        }
    }
}

/* ---- rows ---- */

void dot_rows(float *scores, const struct maxsim_query *query, const void *rows, size_t stride,
              int64_t n_rows) {
    assert(query->n > 0 && stride >= (size_t)query->code_dim + sizeof(float));
    query->kernels.dot_rows(scores, query, rows, stride, n_rows);
}
