/* Where a query's terms stand in a text, as ranges to mark. */
#include "store/lexical.h"

#include <stdlib.h>
#include <string.h>

struct marking {
    struct buf ranges; /* of struct text_range */
    const struct lexical_query *query;
    bool common_too; /* there is nothing but function words to mark */
};

static void mark(void *ctx, int term_i, uint32_t start, uint32_t end) {
    struct marking *marking = ctx;
    struct text_range range = {start, end};
    const struct lexical_query *query = marking->query;
    if (term_i < query->n_terms && (marking->common_too || !query->terms[term_i].common))
        buf_append(&marking->ranges, &range, sizeof range);
}

static int by_start(const void *a, const void *b) {
    const struct text_range *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

void lexical_highlight(struct text_range **out, int *n, struct arena *arena,
                       const struct lexical_query *query, const char *text, size_t len) {
    struct marking marking = {.query = query, .common_too = true};
    for (int i = 0; i < query->n_terms; i++)
        marking.common_too = marking.common_too && query->terms[i].common;
    uint32_t tf[LEXICAL_MAX_TERMS], n_positions;
    *out = NULL;
    *n = 0;
    if (query->n_terms == 0 || len > UINT32_MAX)
        return;
    matcher_run(matcher_new(arena, query), tf, &n_positions, text, len, mark, &marking);
    size_t n_marks = marking.ranges.len / sizeof **out;
    if (n_marks > 0) {
        struct text_range *ranges = arena_alloc(arena, n_marks * sizeof *ranges);
        memcpy(ranges, marking.ranges.data, n_marks * sizeof *ranges);
        qsort(ranges, n_marks, sizeof *ranges, by_start);
        size_t last = 0;
        for (size_t i = 1; i < n_marks; i++) {
            if (ranges[i].start >= ranges[last].end)
                ranges[++last] = ranges[i];
            else if (ranges[i].end > ranges[last].end)
                ranges[last].end = ranges[i].end;
        }
        *out = ranges;
        *n = (int)last + 1;
    }
    buf_fini(&marking.ranges);
}
