/* corpus, inside: from what the stages of a search hit to results. */
#ifndef DOCUSEARCH_CORPUS_ANSWER_H
#define DOCUSEARCH_CORPUS_ANSWER_H

#include "corpus/internal.h"

enum hit_kind {
    HIT_WORDS,   /* a passage, by its words: chunk_row_id */
    HIT_PASSAGE, /* a passage, by its vectors: doc_id and ordinal */
    HIT_PAGE,    /* a page, by its vectors: doc_id and page */
};
struct hit {
    enum hit_kind kind;
    char doc_id[SHA256_HEX + 1];
    int64_t chunk_row_id;
    int ordinal, page;
    double score;
};

/* A hit seen as an answer. */
struct answer {
    char doc_id[SHA256_HEX + 1];
    double score;
    struct search_part parts[SEARCH_STAGES];
    int n_parts;
    const struct hit *hit; /* not loaded yet, but for doc_id, page and score; else NULL */
    bool has_chunk;        /* else the page has no passage, and chunk's texts are "" */
    struct chunk_row chunk;
    struct text_range *found; /* bytes of the chunk's text */
    int n_found;
    struct doc_word *words; /* placed, of the chunk */
    uint32_t n_words;
    uint32_t begin; /* bytes of the chunk's text: where its preview begins if nothing was found */
    int page;
};
/* Without parts. *found false: removed since, or the words stand on pages that the filter leaves
 * out. */
bool corpus_answer_load(struct answer *out, bool *found, struct arena *arena, struct corpus *corpus,
                        const struct lexical_query *query, const struct hit *hit,
                        const struct search_filter *filter, struct error *err);
/* Does the passage, or what stands on the page, have a word that the question leaves out? */
bool corpus_answer_left_out(bool *out, struct arena *arena, struct corpus *corpus,
                            const struct lexical_query *excluded, const struct answer *answer,
                            struct error *err);
/* A page's answer, to be loaded when it becomes a result. */
void corpus_answer_of_page(struct answer *out, const struct hit *hit);
/* All of a result but its rank. *found false: the document was removed since. */
bool corpus_answer_fill(struct search_result *out, bool *found, struct arena *arena,
                        struct corpus *corpus, const struct lexical_query *query,
                        const struct answer *answer, struct error *err);

/* ---- fuse.c ---- */

/* What one stage ranks, best first: each page once, with that stage's part. */
struct ranking {
    struct answer **answers;
    int n;
};
/* The pages of all rankings by reciprocal rank, best first, with scores from 0 to 1; ties in the
 * order of the rankings. An answer is the first ranking's that has a passage for it, with the fused
 * score and the parts of all. */
void corpus_fuse(struct answer ***out, int *n, struct arena *arena, const struct ranking *rankings,
                 int n_rankings);

#endif
