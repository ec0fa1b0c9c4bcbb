/* Reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
 * Condorcet and individual rank learning methods", SIGIR 2009): a page's score is the sum, over the
 * stages that found it, of 1 / (60 + its rank there), here as a share of the most that there can
 * be: 1 is a page that every stage has first. Ranks of stages compare where scores do not.
 *
 * What was measured (bench/quality.py: 1,398 abstracts and 225 judged questions, words and a
 * sentence model of 22 M parameters; nDCG@10 of words alone 0.386, of vectors alone 0.397): 60
 * gives 0.432, and 10 to 200 give 0.432 to 0.434. Lists of 10 candidates a stage give 0.425, of 20
 * 0.430, of 50 and of 100 0.432. Sums of scores, standardised, scaled to their best or to their
 * range, with words at 0.5 to 1 of the vectors' weight, give 0.417 to 0.435, none of them more than
 * 60 on both halves of the questions. So the paper's constant stays, and lists have 50 candidates
 * or more. */
#include "corpus/answer.h"

#include <stdlib.h>
#include <string.h>

#define K 60

struct fused {
    struct answer *answer;
    struct search_part parts[SEARCH_STAGES];
    int n_parts;
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
            last->parts[last->n_parts++] = all[i].parts[0];
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
        for (int i = 0; i < rankings[r].n; i++, order++) {
            double share = (double)(K + 1) / (K + i + 1) / n_rankings;
            all[order] = (struct fused){rankings[r].answers[i], .n_parts = 1, .score = share,
                                        .order = order};
            all[order].parts[0] = rankings[r].answers[i]->parts[0];
            all[order].parts[0].contribution = share;
        }
    }
    qsort(all, (size_t)n_all, sizeof *all, by_page);
    *n = join(all, n_all);
    qsort(all, (size_t)*n, sizeof *all, best_first);
    *out = arena_alloc(arena, ((size_t)*n + 1) * sizeof **out);
    for (int i = 0; i < *n; i++) {
        struct answer *answer = (*out)[i] = all[i].answer;
        answer->score = all[i].score;
        answer->n_parts = all[i].n_parts;
        memcpy(answer->parts, all[i].parts, sizeof answer->parts);
    }
}
