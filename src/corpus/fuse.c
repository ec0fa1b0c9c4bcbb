/* Reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
 * Condorcet and individual rank learning methods", SIGIR 2009): a page's score is the sum, over the
 * stages that found it, of 1 / (60 + its rank there), here as a share of the most that there can
 * be: 1 is a page that every stage has first. Ranks of stages compare where scores do not. */
#include "corpus/answer.h"

#include <stdlib.h>
#include <string.h>

#define K 60

struct fused {
    struct answer *answer;
    double score;
    int order; /* in which it was met first */
};

static int by_page(const void *a, const void *b) {
    const struct fused *x = a, *y = b;
    int order = strcmp(x->answer->doc_id, y->answer->doc_id);
    if (order != 0)
        return order;
    if (x->answer->page != y->answer->page)
        return x->answer->page < y->answer->page ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int best_first(const void *a, const void *b) {
    const struct fused *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static bool is_same_page(const struct answer *a, const struct answer *b) {
    return a->page == b->page && strcmp(a->doc_id, b->doc_id) == 0;
}

/* Those of one page, neighbours in order of meeting, become one. */
static int join(struct fused *all, int n) {
    int n_joined = 0;
    for (int i = 0; i < n; i++) {
        struct fused *last = n_joined > 0 ? &all[n_joined - 1] : NULL;
        if (last && is_same_page(last->answer, all[i].answer)) {
            last->score += all[i].score;
            if (!last->answer->has_chunk && all[i].answer->has_chunk)
                last->answer = all[i].answer;
        } else {
            all[n_joined++] = all[i];
        }
    }
    return n_joined;
}

void corpus_fuse(struct answer ***out, int *n, struct arena *arena, const struct ranking *rankings,
                 int n_rankings) {
    int n_all = 0;
    for (int r = 0; r < n_rankings; r++)
        n_all += rankings[r].n;
    struct fused *all = arena_alloc(arena, ((size_t)n_all + 1) * sizeof *all);
    for (int r = 0, order = 0; r < n_rankings; r++) {
        for (int i = 0; i < rankings[r].n; i++, order++)
            all[order] = (struct fused){rankings[r].answers[i], 1.0 / (K + i + 1), order};
    }
    qsort(all, (size_t)n_all, sizeof *all, by_page);
    *n = join(all, n_all);
    qsort(all, (size_t)*n, sizeof *all, best_first);
    *out = arena_alloc(arena, ((size_t)*n + 1) * sizeof **out);
    for (int i = 0; i < *n; i++) {
        (*out)[i] = all[i].answer;
        (*out)[i]->score = all[i].score * (K + 1) / n_rankings;
    }
}
