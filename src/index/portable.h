/* index: an item's vectors on their own, outside any segment. The second part of its face. */
#ifndef DOCUSEARCH_INDEX_PORTABLE_H
#define DOCUSEARCH_INDEX_PORTABLE_H

#include "index/index.h"

/* The unpooled codes of a late item as its segment has them, and as a store of vectors keeps them:
 * codes_bytes(n, dim, 8) of codes in groups of 16 vectors (device.h), then code_scales_bytes(n) of
 * scales, under the rotation that all codes are under (rotate_vectors). They score as the index's
 * last stage does, to the bit. */
struct index_codes {
    const void *data; /* 64-byte aligned */
    size_t len;
    int n, dim;
};
size_t index_codes_bytes(int n, int dim); /* what len must be */
/* Copies them into the arena. ERROR_MISSING not_found: no such item, or it is damaged; no_patches:
 * it is kept pooled, or its space is not late. */
bool index_load_codes(struct index_codes *out, struct arena *arena, struct index *index, int space,
                      const char *doc_id, enum item_kind kind, int item, struct error *err);
/* Bytes from elsewhere: a copy in the arena, aligned. ERROR_INPUT: len is not what n and dim make,
 * a maximum is passed, a scale is below 0, past 1e20 or no number, or the last group is not filled
 * up with its last vector. */
bool index_codes_wrap(struct index_codes *out, struct arena *arena, const void *data, size_t len,
                      int n, int dim, struct error *err);
/* What was coded, within the codes' precision: vectors[n][dim], the arena's. */
bool index_codes_decode(float **vectors, struct arena *arena, const struct index_codes *codes,
                        struct error *err);
/* MaxSim of a question's n_query vectors against each of n_items, all of one dim. */
bool index_codes_score(float *scores, const struct index_codes *items, int n_items,
                       const float *query, int n_query, struct error *err);
/* As index_fit, of codes. */
bool index_codes_fit(struct index_fit *out, struct arena *arena, const struct index_codes *codes,
                     const float *query, int n_query, struct error *err);
/* The one vector of an item of a space that is not late: values[dim], the arena's, within its
 * code's precision. ERROR_MISSING: as above, or the space is late. */
bool index_load_vector(float **values, struct arena *arena, struct index *index, int space,
                       const char *doc_id, enum item_kind kind, int item, struct error *err);
/* n unit vectors as n_out (1..n) by Ward's clustering: the clusters' means, unit again, in the
 * order of their first members. out[n_out][dim]. */
bool index_pool(float *out, int n_out, const float *vectors, int n, int dim, struct error *err);

#endif
