/* An item's vectors outside any segment: taken out of one, wrapped from a store of vectors, made
 * floats again, scored.
 *
 * Codes travel as they lie in a record: no loss, no work, and a score of them is the bits that the
 * index's last stage gives, since both prepare the question alike and run the same kernels. What
 * comes from another server is checked whole before anything computes with it. */
#include "index/portable.h"
#include "index/internal.h"
#include "index/search.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ALIGNMENT 64
/* Scales past this do not come from vectors, and could leave the range of sums. */
#define MAX_SCALE 1e20f
#define MAX_QUERY_BYTES ((size_t)1 << 28)
#define ITEMS_AT_ONCE 64

static struct coded coded_of(const struct index_codes *codes) {
    return item_coded(codes->data, codes->n, codes->dim, 8);
}

size_t index_codes_bytes(int n, int dim) {
    return codes_bytes(n, dim, 8) + code_scales_bytes(n);
}

static bool no_memory(int n, int dim, struct error *err) {
    return error_set_code(err, ERROR_LIMIT, "out_of_memory",
                          "no memory for %d vectors of %d dimensions", n, dim);
}

static bool copy(struct index_codes *out, struct arena *arena, const void *data, int n, int dim,
                 struct error *err) {
    size_t len = index_codes_bytes(n, dim);
    uint8_t *room = arena_try(arena, len + ALIGNMENT, 1);
    if (!room)
        return no_memory(n, dim, err);
    room += (ALIGNMENT - (uintptr_t)room % ALIGNMENT) % ALIGNMENT;
    memcpy(room, data, len);
    *out = (struct index_codes){.data = room, .len = len, .n = n, .dim = dim};
    return true;
}

/* ---- out of the index ---- */

bool index_load_codes(struct index_codes *out, struct arena *arena, struct index *index, int space,
                      const char *doc_id, enum item_kind kind, int item, struct error *err) {
    struct found_item found;
    *out = (struct index_codes){0};
    if (!index_take_item(&found, index, space, doc_id, kind, item, err))
        return false;
    const struct shape *shape = &found.segment->shape;
    bool ok = shape->late || error_set_code(err, ERROR_MISSING, "no_patches",
                                            "items of vector space %d have one vector", space);
    if (ok) {
        struct coded coded = slot_full(shape, &found.slot, found.segment->map + found.slot.offset);
        ok = copy(out, arena, coded.codes, coded.n, shape->dim, err);
    }
    index_drop_item(index, &found);
    return ok;
}

static float *decode_row(struct arena *arena, const struct found_item *item) {
    const struct segment *segment = item->segment;
    size_t dim = (size_t)segment->shape.dim;
    const int8_t *row = (const int8_t *)segment->scan + (size_t)item->slot_i * segment->scan_bytes;
    float *values = arena_try(arena, dim, sizeof *values), scale;
    if (!values)
        return NULL;
    memcpy(&scale, row + CODE_DIM(dim), sizeof scale);
    for (size_t d = 0; d < dim; d++)
        values[d] = (float)row[d] * scale;
    rotate_vectors_back(values, values, 1, (int)dim);
    return values;
}

bool index_load_vector(float **values, struct arena *arena, struct index *index, int space,
                       const char *doc_id, enum item_kind kind, int item, struct error *err) {
    struct found_item found;
    *values = NULL;
    if (!index_take_item(&found, index, space, doc_id, kind, item, err))
        return false;
    bool late = found.segment->shape.late;
    int dim = found.segment->shape.dim;
    if (!late)
        *values = decode_row(arena, &found);
    index_drop_item(index, &found);
    if (late)
        return error_set(err, ERROR_MISSING, "items of vector space %d have many vectors", space);
    return *values || no_memory(1, dim, err);
}

/* ---- from elsewhere ---- */

static bool check_scales(const struct coded *coded, struct error *err) {
    for (int v = 0; v < CODE_GROUPS(coded->n) * CODE_GROUP; v++) {
        uint32_t bits = (uint32_t)coded->scales[v] << 16;
        float scale;
        memcpy(&scale, &bits, sizeof scale);
        if (!(scale >= 0 && scale <= MAX_SCALE))
            return error_set(err, ERROR_INPUT, "vector %d has a scale of %g", v, (double)scale);
    }
    return true;
}

/* The last group is filled up with its last vector: another one would count in a score. */
static bool check_filling(const struct coded *coded, int dim, struct error *err) {
    int n_last = (coded->n - 1) % CODE_GROUP + 1;
    size_t group_bytes = codes_bytes(1, dim, 8);
    size_t group = (size_t)CODE_GROUPS(coded->n) - 1;
    const uint8_t *codes = (const uint8_t *)coded->codes + group * group_bytes;
    const uint16_t *scales = coded->scales + group * CODE_GROUP;
    for (int v = n_last; v < CODE_GROUP; v++) {
        bool same = scales[v] == scales[n_last - 1];
        for (size_t at = 0; same && at < group_bytes; at += 4 * CODE_GROUP)
            same = memcmp(codes + at + v * 4, codes + at + (n_last - 1) * 4, 4) == 0;
        if (!same)
            return error_set(err, ERROR_INPUT, "the last group of %d vectors is not filled up",
                             coded->n);
    }
    return true;
}

bool index_codes_wrap(struct index_codes *out, struct arena *arena, const void *data, size_t len,
                      int n, int dim, struct error *err) {
    *out = (struct index_codes){0};
    if (n < 1 || n > ITEM_MAX_VECTORS || dim < 1 || dim > INDEX_MAX_DIM)
        return error_set(err, ERROR_INPUT,
                         "codes of %d vectors of %d dimensions; there may be 1 to %d of 1 to %d", n,
                         dim, ITEM_MAX_VECTORS, INDEX_MAX_DIM);
    if (len != index_codes_bytes(n, dim))
        return error_set(err, ERROR_INPUT,
                         "%zu bytes of codes; %d vectors of %d dimensions take %zu", len, n, dim,
                         index_codes_bytes(n, dim));
    struct index_codes codes;
    if (!copy(&codes, arena, data, n, dim, err))
        return false;
    struct coded coded = coded_of(&codes);
    if (!check_scales(&coded, err) || !check_filling(&coded, dim, err))
        return false;
    *out = codes;
    return true;
}

/* ---- codes to floats ---- */

bool index_codes_decode(float **vectors, struct arena *arena, const struct index_codes *codes,
                        struct error *err) {
    struct coded coded = coded_of(codes);
    *vectors = arena_try(arena, (size_t)codes->n, (size_t)codes->dim * sizeof **vectors);
    if (!*vectors)
        return no_memory(codes->n, codes->dim, err);
    item_decode(*vectors, &coded, codes->dim);
    return true;
}

bool index_pool(float *out, int n_out, const float *vectors, int n, int dim, struct error *err) {
    struct pooling *pooling;
    assert(n_out >= 1 && n_out <= n);
    if (!pooling_new(&pooling, vectors, n, dim, err))
        return false;
    pooling_cut(out, pooling, n_out);
    pooling_free(pooling);
    return true;
}

/* ---- scores ---- */

bool index_codes_score(float *scores, const struct index_codes *items, int n_items,
                       const float *query, int n_query, struct error *err) {
    struct maxsim_query *prepared;
    if (n_items == 0)
        return true;
    if (!search_take_query(&prepared, &n_query, query, n_query, items[0].dim, err))
        return false;
    memset(scores, 0, (size_t)n_items * sizeof *scores);
    for (int first = 0; prepared && first < n_items; first += ITEMS_AT_ONCE) {
        struct coded coded[ITEMS_AT_ONCE];
        int n = 0;
        for (; n < ITEMS_AT_ONCE && first + n < n_items; n++) {
            assert(items[first + n].dim == items[0].dim);
            coded[n] = coded_of(&items[first + n]);
        }
        maxsim_codes(scores + first, prepared, coded, n);
    }
    maxsim_query_free(prepared);
    return true;
}

bool index_coded_fit(struct index_fit *out, struct arena *arena, const struct coded *coded, int dim,
                     const float *query, int n_query, struct error *err) {
    *out = (struct index_fit){.n_query = n_query, .n_vectors = coded->n};
    if (n_query < 1 || n_query > MAXSIM_MAX_QUERY)
        return error_set(err, ERROR_INPUT, "a question of %d vectors; there may be 1 to %d",
                         n_query, MAXSIM_MAX_QUERY);
    struct maxsim_query *prepared = NULL;
    out->values = arena_try(arena, (size_t)n_query * (size_t)coded->n, sizeof *out->values);
    float *rotated = mem_try((size_t)n_query, (size_t)dim * sizeof *rotated, MAX_QUERY_BYTES);
    if (out->values && rotated) {
        rotate_vectors(rotated, query, n_query, dim);
        prepared = maxsim_query_new(rotated, n_query, dim);
    }
    if (prepared)
        maxsim_matrix(out->values, prepared, coded);
    bool ok = prepared != NULL;
    maxsim_query_free(prepared);
    mem_free(rotated);
    return ok || error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for a comparison");
}

bool index_codes_fit(struct index_fit *out, struct arena *arena, const struct index_codes *codes,
                     const float *query, int n_query, struct error *err) {
    struct coded coded = coded_of(codes);
    return index_coded_fit(out, arena, &coded, codes->dim, query, n_query, err);
}
