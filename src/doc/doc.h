/* doc: the document, whatever it was read from: pages, elements, tables, words and their boxes.
 *
 * All text is one UTF-8 buffer. An element owns a contiguous range of it; elements stand in reading
 * order and their ranges ascend, one '\n' between two. A word places a range of bytes on a page: a
 * word broken over two lines is two `doc_word`s with adjoining ranges. Text without a known place
 * has no word. A document is immutable once built; then any thread may read it.
 *
 * Encoded form (doc_encode), little-endian, in this order; doc_decode accepts nothing else:
 *   the byte table stands in encode.c's opening comment. */
#ifndef DOCUSEARCH_DOC_H
#define DOCUSEARCH_DOC_H

#include "base/base.h"

/* 0..1 of the page, from the top left; x0 <= x1, y0 <= y1; all finite. */
struct doc_box {
    float x0, y0, x1, y1;
};

struct doc_word {
    uint32_t off, len; /* bytes of the document's text; never across an element's end */
    uint32_t page_i;
    struct doc_box box;
};

enum doc_element_kind {
    DOC_TITLE,
    DOC_HEADING, /* level 1..6 */
    DOC_PARAGRAPH,
    DOC_LIST_ITEM, /* level 1..9 is its depth; the text is without its marker */
    DOC_TABLE,     /* text: cells in row order, '\t' between cells, '\n' between rows */
    DOC_CAPTION,
    DOC_CODE,
    DOC_FORMULA,
    DOC_FOOTNOTE,
    DOC_NOTE,    /* speaker note or comment */
    DOC_PICTURE, /* text: its description, often empty */
    DOC_PAGE_HEADER,
    DOC_PAGE_FOOTER,
    DOC_N_ELEMENT_KINDS
};

enum doc_element_flags {
    DOC_ORDERED = 1,  /* list item of a numbered list */
    DOC_REPEATED = 2, /* a page header or footer seen on an earlier page: left out of chunks and
                         Markdown; its first appearance is kept, so no word is lost */
    DOC_ELEMENT_FLAGS = 3,
};

struct doc_element {
    enum doc_element_kind kind;
    uint8_t level, flags;
    uint32_t page_i;    /* where it begins; DOC_NO_PAGE where unknown */
    struct doc_box box; /* of its part on page_i; all 0 where unknown */
    uint32_t off, len;  /* its text */
    uint32_t first_word, n_words;
    uint32_t first_cell, n_cells; /* tables: cells in row order */
};
#define DOC_NO_PAGE UINT32_MAX

struct doc_cell {
    uint16_t row, col, row_span, col_span; /* spans >= 1 */
    bool header;
    uint32_t off, len;
};

enum doc_page_flags {
    DOC_PAGE_OCR = 1,     /* its words were recognised from the picture */
    DOC_PAGE_BROKEN = 2,  /* could not be read whole */
    DOC_PAGE_PICTURE = 4, /* a picture of it was made */
    DOC_PAGE_FLAGS = 7,
};
struct doc_page {
    float width_pt, height_pt;
    uint32_t flags;
};

struct doc_outline {
    char *title; /* the document's bookmarks */
    uint32_t level, page_i;
};

struct document {
    struct arena *arena; /* owns everything below */
    char *text;          /* NUL-terminated, may be "" */
    uint32_t text_len;
    struct doc_page *pages;
    uint32_t n_pages;
    struct doc_element *elements;
    uint32_t n_elements;
    struct doc_word *words; /* ascending by off */
    uint32_t n_words;
    struct doc_cell *cells;
    uint32_t n_cells;
    struct doc_outline *outline;
    uint32_t n_outline;
    char *format;                   /* "pdf", "docx", … */
    char *title, *author, *created; /* "" where unknown */
    char *warning; /* "" or one line: why this document is partial ("pages 3, 9 damaged") */
    bool slides;   /* pages are slides or sheets: no chunk crosses a page */
};

/* Maxima; a builder or decoder that would pass one fails with ERROR_LIMIT. */
#define DOC_MAX_PAGES 100000
#define DOC_MAX_TEXT (256u << 20)
#define DOC_MAX_WORDS (16u << 20)
#define DOC_MAX_ELEMENTS (4u << 20)
#define DOC_MAX_CELLS (4u << 20)
#define DOC_MAX_OUTLINE 100000u /* further bookmarks are left out */
#define DOC_MAX_WORD_BYTES 2000 /* a longer word is several, in the document and in chunks */

/* ---- building: pages first or as they come, then elements in reading order ------------------ */

struct doc_builder;
struct doc_builder *doc_builder_new(const char *format);
void doc_builder_free(struct doc_builder *builder); /* NULL is fine */
uint32_t doc_add_page(struct doc_builder *builder, float width_pt, float height_pt, uint32_t flags);
void doc_page_set_flags(struct doc_builder *builder, uint32_t page_i, uint32_t flags); /* ORs */
void doc_set_slides(struct doc_builder *builder);
/* name: "title", "author", "created", "warning"; a second warning is joined with "; ". Cleaned
 * UTF-8, cut at 1,000 bytes. */
void doc_set_meta(struct doc_builder *builder, const char *name, const char *value);
void doc_add_outline(struct doc_builder *builder, const char *title, uint32_t level,
                     uint32_t page_i);
void doc_begin(struct doc_builder *builder, enum doc_element_kind kind, int level, uint32_t flags);
/* Appends to the open element: bytes of separator ("" joins, " ", "\n"), then the word. page_i
 * DOC_NO_PAGE or box NULL: a word without a place. Invalid UTF-8 is replaced; boxes are clamped to
 * 0..1, non-finite ones dropped. The separator is left out at the start of an element or cell. With
 * len 0 it only places the element (a picture) on the page. */
void doc_put(struct doc_builder *builder, const char *separator, const char *text, size_t len,
             uint32_t page_i, const struct doc_box *box);
/* In an open DOC_TABLE only; doc_put after it goes to this cell. Rows and columns ascend; a table
 * of more than 65,536 rows goes on in a further element. */
void doc_cell(struct doc_builder *builder, int row, int col, int row_span, int col_span,
              bool header);
void doc_end(struct doc_builder *builder); /* an element without text (but a picture) is dropped */
/* The document, now the caller's, or false with the first limit passed on the way. Frees builder.
 */
bool doc_finish(struct document **out, struct doc_builder *builder, struct error *err);
void doc_free(struct document *doc); /* NULL is fine */

/* ---- wire and disk form --------------------------------------------------------------------- */

void doc_encode(struct buf *out, const struct document *doc);
/* Trusts nothing: every count, range, index, box and byte of UTF-8 is checked. ERROR_INPUT
 * "parser_protocol". */
bool doc_decode(struct document **out, const void *data, size_t len, struct error *err);

/* ---- chunks --------------------------------------------------------------------------------- */

/* From byte off of a chunk's text on. */
struct doc_heading {
    uint32_t off;
    char *path; /* "Annual report > Results > Europe", or "" */
};
struct doc_chunk {
    uint32_t ordinal; /* from 0 */
    char *text;       /* elements' text, '\n' between elements */
    uint32_t text_len, n_words;
    uint32_t first_page_i, last_page_i; /* DOC_NO_PAGE where unknown */
    struct doc_heading *headings;       /* in force, by off ascending; the first has off 0 */
    uint32_t n_headings;                /* 1 or more */
    struct doc_word *words;             /* off: bytes of this chunk's text */
    uint32_t n_words_placed;
};
struct doc_chunks {
    struct arena *arena;
    struct doc_chunk *items;
    uint32_t n;
};
/* Windows of at most size_words words (separated by white space; a CJK character counts as a word),
 * each beginning overlap_words before the last one's end. Ends at an element's or a sentence's end
 * where there is one in its last fifth. Repeated furniture is left out; every other word of the
 * document is in a chunk, and each chunk of its own text in order. Sizes: 1 <= size, overlap <
 * size. */
bool doc_chunk(struct doc_chunks **out, const struct document *doc, int size_words,
               int overlap_words, struct error *err);
void doc_chunks_free(struct doc_chunks *chunks);

/* Placed words of a chunk as bytes for the store: u32 n, then n of
 * { u32 off, u16 len, u32 page_i, u16 x0, y0, x1, y1 (65535 = 1.0) }, little-endian. */
void doc_places_encode(struct buf *out, const struct doc_word *words, uint32_t n);
bool doc_places_decode(struct doc_word **out, uint32_t *n, struct arena *arena, const void *data,
                       size_t len, struct error *err);

/* ---- writers -------------------------------------------------------------------------------- */

/* CommonMark with pipe tables; text is escaped so that it reads back as itself. */
void doc_write_markdown(struct buf *out, const struct document *doc);
/* One page: {"page","width","height","ocr","broken","elements":[{"kind","level","text","box",
 * "words":[{"text","box"}],"cells":[…]}]}; new reference. page_i < n_pages. */
json_t *doc_page_json(const struct document *doc, uint32_t page_i);
const char *doc_element_kind_name(enum doc_element_kind kind); /* "heading", … */

#endif
