/* read, inside: the words of a flow and of its pages, and which are which. */
#ifndef DOCUSEARCH_READ_FLOW_PLACE_H
#define DOCUSEARCH_READ_FLOW_PLACE_H

#include "read/align.h"
#include "read/flow.h"

#define PLACE_MAX_BYTES ((size_t)1 << 30)
#define PLACE_MAX_FURNITURE 64
#define PLACE_EDGE_WORDS 120 /* looked at at a page's edge */

/* One word of a flow's item or cell. */
struct word {
    const char *text;
    uint32_t len;
    uint32_t item;
    uint32_t text_id; /* the item or cell, counted over the flow */
    uint32_t token, n_tokens;
};
/* A header or footer on a page after its first: its raw tokens (UINT32_MAX: none). */
struct copy {
    enum doc_element_kind kind;
    uint32_t n;
    uint32_t hits[PLACE_EDGE_WORDS];
};
struct copies {
    struct copy **items;
    size_t n, cap;
};

struct place {
    struct read_task *task;
    const struct flow *flow;
    const struct raw_pages *raw;
    struct align align;
    struct word *words;
    size_t n_words, cap_words;
    uint32_t n_texts;
    uint32_t *item_words; /* an item: its first word; one more at the end */
    uint32_t *raw_tokens; /* a raw word: its first token; one more at the end */
    uint8_t *claimed;     /* raw words that are in an element */
    struct copies copies;
    struct part *parts; /* flow_place.c's scratch: of one word */
    size_t cap_parts;
    uint32_t furniture[PLACE_MAX_FURNITURE]; /* items that are headers or footers */
    size_t n_furniture;
    int64_t budget; /* steps left of the search at pages' edges */
    size_t at;      /* the next word to write */
    bool failed;
};

/* flow_match.c. False: no memory; then nothing is matched. */
bool place_prepare(struct place *place);
void place_match(struct place *place);
size_t place_pass_space(const char *text, size_t len, size_t pos); /* to the next word's start */
size_t place_pass_word(const char *text, size_t len, size_t pos);  /* to its end */

#endif
