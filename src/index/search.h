/* A search of a view, inside: what search.c and stages.c share. */
#ifndef DOCUSEARCH_INDEX_SEARCH_H
#define DOCUSEARCH_INDEX_SEARCH_H

#include "index/segment.h"

/* Slots of all parts are numbered one after another: an item is such a number. */
struct search {
    const struct view *view;
    const uint64_t *const *allowed;
    enum item_kind kind;
    struct device *device;
    const struct maxsim_query *query; /* rotated, without zero vectors */
    int n_query, dim, limit;
    double recall;
    uint32_t *starts;    /* parts + 1: each part's first item */
    float *scores;       /* an item's in the stage that sees all; -INFINITY: passed over */
    struct scored *best; /* a heap of limit, the worst at its root */
    int n_best;
    struct index_effort *effort;
};
double search_now_ms(void);
int search_part_of(const struct search *search, uint32_t item);
/* An item's codes; false when they are damaged. */
bool search_codes(struct coded *out, const struct search *search, uint32_t item,
                  enum item_part part);
/* Keeps the best of those offered, most of them, in a heap whose root is the worst. */
void search_keep(struct scored *heap, int *n, int most, const struct scored *scored);
void search_offer(struct search *search, uint32_t item, float score);
bool search_no_memory(struct error *err); /* returns false */
/* A question as the kernels take it: rotated, and without vectors of zeros, which add nothing to a
 * score; *n and *out are 0 and NULL when all are. ERROR_INPUT: there are none or too many, or an
 * element is far from the range of sums. */
bool search_take_query(struct maxsim_query **out, int *n, const float *query, int n_query, int dim,
                       struct error *err);
/* stages.c: from the scan's scores, sums of Hamming distances below zero, to the best. Of fewer
 * items than this all would be scored anyway. */
enum { STAGES_FEWEST = 64 };
bool search_stages(struct search *search, struct error *err);

#endif
