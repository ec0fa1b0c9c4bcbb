/* read, page text: MuPDF's structured text -> raw words. Between pages.c and its helpers. */
#ifndef DOCUSEARCH_READ_PAGES_TEXT_H
#define DOCUSEARCH_READ_PAGES_TEXT_H

#include "read/pages.h"

#include <mupdf/fitz.h>

#define RAW_MAX_WORDS ((size_t)4 << 20)
#define RAW_MAX_WORD_BYTES 800 /* a longer word is cut in glued pieces */

/* Words of the document as they are found. Zero-initialise but for the arena. */
struct raw_list {
    struct arena *arena;
    struct raw_word *words; /* own memory; raw_list_take moves them to the arena */
    size_t n, cap;
    uint32_t n_lines, n_blocks; /* numbers given so far */
    bool failed;                /* past RAW_MAX_WORDS, or no memory: later words are not here */
    char *pool;                 /* where word texts go, in the arena */
    size_t pool_left;
    struct glyph *glyphs; /* of the line being read */
    size_t n_glyphs, glyphs_cap;
    uint32_t *order; /* of the words of the line being read */
    size_t order_cap;
};
/* What was seen of a page's text, to judge whether it can be used. */
struct text_tally {
    size_t n_words, n_chars;
    size_t n_unmapped;  /* characters without a Unicode value */
    double image_share; /* of the page's area under images, at most 1 */
};

/* Copies text; word->text is set. */
void raw_list_add(struct raw_list *list, const struct raw_word *word, const char *text, size_t len);
/* False: no memory. */
bool raw_list_take(struct raw_pages *raw, struct raw_list *list);
void raw_list_fini(struct raw_list *list);

/* Appends the words of a structured-text page. bounds: the page in the same units. */
void pages_text_read(struct raw_list *list, struct text_tally *tally, const fz_stext_page *text,
                     fz_context *ctx, fz_rect bounds, uint32_t page_i);
/* Splits plain UTF-8 at white space into words that share one box (an annotation's contents). */
void pages_text_plain(struct raw_list *list, const char *text, uint32_t page_i, struct doc_box box,
                      uint32_t style);
bool pages_text_is_unmapped(uint32_t code_point); /* stands for a glyph, not for a character */
struct doc_box pages_text_box(fz_rect rect, fz_rect bounds);

#endif
