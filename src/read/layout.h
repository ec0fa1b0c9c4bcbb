/* read, layout: what the files of layout.c share, and the direction of text, which pages_text.c
 * needs too.
 *
 * All lengths are points in the page's reading frame: the page turned so that most of its text runs
 * from left to right, y downwards. A run is what stands together on a line, a line is the runs of
 * one column at one height, a paragraph is lines that follow each other. */
#ifndef DOCUSEARCH_READ_LAYOUT_H
#define DOCUSEARCH_READ_LAYOUT_H

#include "read/pages.h"

bool layout_is_rtl(uint32_t code_point); /* Hebrew, Arabic and their kin */
/* Whether most words (words[order[i]], or words[i] where order is NULL) read from the right. */
bool layout_words_rtl(const struct raw_word *words, const uint32_t *order, size_t n);
/* Puts the words of one right-to-left line in logical order: from the right, with runs of Latin
 * words kept from the left. */
void layout_order_rtl(const struct raw_word *words, uint32_t *order, size_t n);

struct span {
    float x0, y0, x1, y1;
};

enum run_role { RUN_BODY, RUN_HEADER, RUN_FOOTER };
struct run {
    uint32_t first, n; /* words first .. first + n - 1 */
    struct span box;
    float size;
    uint8_t role;      /* run_role */
    bool repeated;     /* the same text stood there on an earlier page */
    bool rtl, upright; /* upright: a line of its own, across the frame */
};

struct line {
    uint32_t first, n; /* layout->order[first …] are its words, in reading order */
    uint32_t page_i, leaf;
    struct span box;
    float size, left, right; /* of the leaf it stands in */
    bool bold, italic, mono, rtl, ocr;
    bool row;    /* has a gap inside as wide as between the cells of a table, or dot leaders */
    bool raised; /* begins with a number set small, as notes do */
    bool note, repeated;
    uint8_t role;
    uint8_t marker; /* words of the list marker it begins with; 0: none */
    bool ordered;   /* that marker counts */
};

struct para {
    uint32_t first, n; /* layout->lines */
    uint32_t next; /* the paragraph that continues this one (on the next column or page), or 0 */
    enum doc_element_kind kind;
    uint8_t level, flags;
    bool continued; /* has been taken into an earlier one */
    float size;
    bool bold, italic, mono, row;
};

struct page_frame {
    uint32_t first_run, n_runs;
    float width, height; /* of the frame */
    float em;            /* the page's usual type size */
    int turn;            /* how the text lies: 0, 90, 180, 270 degrees clockwise */
    bool rtl;
};

struct layout {
    const struct raw_pages *raw;
    struct arena *arena;       /* scratch: gone when read_layout returns */
    struct page_frame *frames; /* a page */
    struct run *runs;
    uint32_t n_runs;
    uint32_t *order; /* words in reading order */
    uint32_t n_order;
    struct line *lines;
    uint32_t n_lines;
    struct para *paras;
    uint32_t n_paras;
    uint32_t n_leaves;
    float body_size;           /* the document's usual type size */
    bool bold_body, mono_body; /* most of it is so: it says nothing */
};

/* layout_lines.c: raw words -> frames and runs. False: no memory. */
bool layout_find_runs(struct layout *layout);
/* Appends the lines of runs[order[0..n)], a leaf of the cut, to the layout. */
void layout_add_leaf(struct layout *layout, uint32_t page_i, uint32_t *runs, size_t n);
/* Lines of runs that take no part in the cut, one line a height. */
void layout_sort_runs(const struct layout *layout, uint32_t *runs, size_t n);

/* layout_repeat.c: gives runs that repeat from page to page their role. */
void layout_find_repeats(struct layout *layout);

/* layout_cut.c: reading order of one page's body. */
void layout_cut_page(struct layout *layout, uint32_t page_i, uint32_t *runs, size_t n);

/* layout_blocks.c: lines -> paragraphs. False: no memory. */
bool layout_find_paras(struct layout *layout);
float layout_lead(const struct line *line);  /* from the column's edge to where reading begins */
float layout_trail(const struct line *line); /* from where it ends to the column's other edge */
bool layout_ends_sentence(const struct layout *layout, const struct line *line);
bool layout_is_upper(uint32_t code_point);
bool layout_is_lower(uint32_t code_point);
uint32_t layout_first_char(const struct raw_word *word);
uint32_t layout_last_char(const struct raw_word *word);

/* layout_kinds.c: what each paragraph is, and which one continues which. */
void layout_find_kinds(struct layout *layout);

/* layout_write.c: paragraphs -> elements. */
void layout_write(struct layout *layout, struct read_task *task);

static inline const struct raw_word *layout_word(const struct layout *layout,
                                                 const struct line *line, uint32_t i) {
    return &layout->raw->words[layout->order[line->first + i]];
}

#endif
