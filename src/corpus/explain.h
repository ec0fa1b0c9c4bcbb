/* corpus, inside: where on a page a question is answered, patch by patch. */
#ifndef DOCUSEARCH_CORPUS_EXPLAIN_H
#define DOCUSEARCH_CORPUS_EXPLAIN_H

#include "corpus/owner.h"

/* ---- patches.c ---- */

/* The best places of a map of width × height patches, as boxes of 0..1, best first, at most `most`:
 * of the patches that lie above the map's median by PATCH_SHARE of what its largest does or more,
 * those that touch, also at a corner, are one place, and its box holds them all. A flat map has no
 * places. The boxes are the arena's. */
#define PATCH_SHARE 0.6F
void corpus_patch_boxes(struct doc_box **out, int *n, struct arena *arena, const float *map,
                        int width, int height, int most);

/* ---- question.c ---- */

/* The questions asked last, by any model, with their vectors: a search, its next page and the maps
 * of its results embed the question once. */
struct questions;
struct questions *corpus_questions_new(void);
void corpus_questions_free(struct questions *questions); /* NULL is fine */
struct question {
    struct embedding vectors;
    struct model_word *words; /* which of them stand for which words of the text */
    int n_words;
    int grid_width, grid_height; /* of the model's pictures; 0: it has no patches */
    int space;                   /* that the vectors are of */
};
bool corpus_check_question(const char *text, struct error *err); /* 1 to 1000 characters */
/* By the owner, which the caller has taken, or as it answered lately; errors are those of
 * corpus_embed. Values are the arena's. */
bool corpus_ask(struct question *out, struct arena *arena, struct owner *owner, const char *text,
                struct error *err);

/* ---- explain.c ---- */

/* Gives a result of the visual stage that has no boxes those of its page's best patches, where the
 * index keeps them. */
bool corpus_explain_result(struct search_result *result, struct arena *arena, struct corpus *corpus,
                           const struct question *question, struct error *err);

#endif
