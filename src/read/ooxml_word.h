/* read, inside: what a Word document's paragraphs refer to. */
#ifndef DOCUSEARCH_READ_OOXML_WORD_H
#define DOCUSEARCH_READ_OOXML_WORD_H

#include "read/ooxml.h"

struct word_style {
    const char *id, *based_on;
    enum doc_element_kind kind; /* DOC_PARAGRAPH unless its name says otherwise */
    int level;                  /* heading 1..6, from its name or outline; 0 none, -1 not said */
    int num_id, num_level;      /* -1 not said */
};
struct word_styles {
    struct word_style *items;
    size_t n;
    const char *standard; /* the paragraph style used where none is named */
};
/* Whether a list's levels are numbered; WORD_LEVELS bits a list. */
#define WORD_LEVELS 9
struct word_list {
    long num_id, abstract_id;
    unsigned ordered; /* bit i: level i is numbered */
    const char *style_link;
};
struct word_lists {
    struct word_list *abstracts, *nums;
    size_t n_abstracts, n_nums;
};
bool word_styles_read(struct word_styles *out, struct ooxml *ooxml, const char *part,
                      struct error *err);
/* What a paragraph of this style is; the chain of styles it is based on is followed. */
struct word_style word_style_resolve(const struct word_styles *styles, const char *id);
bool word_lists_read(struct word_lists *out, struct ooxml *ooxml, const char *part,
                     struct error *err);
bool word_list_ordered(const struct word_lists *lists, const struct word_styles *styles,
                       long num_id, int level);

#endif
