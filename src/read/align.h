/* read, inside: which words of one text are which words of another.
 *
 * Two token sequences run in nearly the same order: a document's own words (the flow) and the words
 * found on its pages. Tokens are words, folded in case and punctuation; a character of a script
 * without spaces is a token of its own. */
#ifndef DOCUSEARCH_READ_ALIGN_H
#define DOCUSEARCH_READ_ALIGN_H

#include "base/base.h"

struct align_token {
    uint32_t hash;     /* of the folded text */
    uint32_t word;     /* the word it is in, by the caller's count */
    uint32_t off, len; /* its bytes in that word */
    uint32_t fold_off; /* its folded bytes in the side's pool */
    uint32_t fold_len;
};
struct align_side {
    struct align_token *tokens;
    size_t n, cap;
    struct buf folded;
    int32_t *match; /* a token: the span it is in, or -1; made by align_begin */
};
/* n_flow tokens are the same text as n_raw tokens; adjoining on both sides. */
struct align_span {
    uint32_t flow, raw;
    uint16_t n_flow, n_raw;
};
struct align {
    struct align_side flow, raw;
    struct align_span *spans;
    size_t n_spans, cap_spans;
    int32_t *scores; /* scratch of the small comparisons */
    bool failed;     /* no memory: what is matched so far stands */
};

/* Appends a word's tokens (none for a word of nothing but marks that are not compared). */
void align_add_word(struct align *align, struct align_side *side, uint32_t word, const char *text,
                    size_t len);
/* One code point as it is compared: as it is searched, with quotes and dashes made plain; none for
 * those passed over. */
size_t align_fold(uint32_t out[TEXT_FOLD_MAX], uint32_t code_point);
bool align_begin(struct align *align); /* after the last word */
/* Matches unmatched tokens flow[f[0..nf)] with raw[r[0..nr)], both ascending. strict keeps only
 * runs long enough not to be chance. Returns how many flow tokens found a place. Time is about n
 * log n; memory is bounded. */
size_t align_match(struct align *align, const uint32_t *f, size_t nf, const uint32_t *r, size_t nr,
                   bool strict);
/* Matches one token with one, both unmatched. */
void align_pair(struct align *align, uint32_t flow, uint32_t raw);
void align_fini(struct align *align);

#endif
