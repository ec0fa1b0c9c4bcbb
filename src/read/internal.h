/* read, inside: what the files that run in the reader child share. */
#ifndef DOCUSEARCH_READ_INTERNAL_H
#define DOCUSEARCH_READ_INTERNAL_H

#include "read/read.h"

/* One document being read, in the child. */
struct read_task {
    const uint8_t *data; /* the original, mapped read-only */
    size_t size;
    const uint8_t *pdf; /* the converter's PDF of it, or NULL */
    size_t pdf_size;
    enum read_format
        format; /* read_child_dispatch replaces a container's guess by what is inside */
    const char *filename;
    int render_dpi, max_pages;
    const char *ocr_languages;
    struct doc_builder *builder;
    struct arena *arena; /* lives as long as the task */
    void *wire;          /* child.c's own */
};
/* From child.c. Both also tell the parent that we are alive. */
void read_task_progress(struct read_task *task, uint32_t pages_done, uint32_t n_pages);
bool read_task_picture(struct read_task *task, uint32_t page_i, const void *jpeg, size_t jpeg_len,
                       const void *thumb, size_t thumb_len, struct error *err);

/* ---- pages.c (MuPDF): geometry and pictures ------------------------------------------------- */

enum raw_style { RAW_BOLD = 1, RAW_ITALIC = 2, RAW_MONO = 4, RAW_OCR = 8, RAW_VERTICAL = 16 };
/* A word as it stands on the page: no white space inside, at least one character. */
struct raw_word {
    const char *text;
    uint32_t len;
    uint32_t page_i;
    uint32_t line;  /* numbered over the document; same line, same number */
    uint32_t block; /* MuPDF's block, numbered over the document */
    struct doc_box box;
    float size_pt;  /* font size */
    uint32_t style; /* raw_style bits */
    bool glued;     /* no white space between this and the word before it (same line) */
};
struct raw_page {
    float width_pt, height_pt;
};
struct raw_pages {
    struct raw_word *words; /* in the order found: paint order, page by page */
    size_t n_words;
    uint32_t n_pages; /* also added to task->builder, with sizes and flags */
    /* For read_layout; each may be missing (NULL, 0). */
    const struct raw_page *pages; /* sizes, n_pages; without them it takes letter paper */
    const struct doc_outline *outline;
    size_t n_outline;
};
/* Opens data as media_type ("application/pdf", "application/epub+zip", "text/html", "image/png",
 * …), adds its pages to task->builder, sends their pictures, fills raw (in task->arena). Pages
 * without a usable text layer are read by OCR. A page that throws is marked DOC_PAGE_BROKEN and
 * named in the warning; a document none of whose pages could be read is ERROR_INPUT corrupt.
 * Metadata and outline go to the builder. */
bool read_pages(struct raw_pages *raw, struct read_task *task, const void *data, size_t size,
                const char *media_type, struct error *err);

/* ---- layout.c: raw words -> elements, where the file has no structure of its own ------------- */

/* Reading order, paragraphs, headings, lists, repeated headers and footers, joined hyphens. */
void read_layout(struct read_task *task, const struct raw_pages *raw);

/* ---- flow: structure without geometry (OOXML, HTML, Markdown, CSV, text) --------------------- */

struct flow_cell {
    uint16_t row, col, row_span, col_span;
    bool header;
    const char *text; /* UTF-8, arena's */
};
struct flow_item {
    enum doc_element_kind kind;
    uint8_t level, flags;
    const char *text;        /* words separated by white space; '\n' is a line break */
    struct flow_cell *cells; /* DOC_TABLE */
    size_t n_cells;
    int page_hint; /* slide or sheet number from 0, or -1 */
};
struct flow {
    struct arena *arena;
    struct flow_item *items;
    size_t n_items, cap;
    const char *title, *author, *created; /* or NULL */
    size_t text_bytes;
    bool full; /* a maximum was passed: the flow is cut short */
};
/* Appends; NULL when a maximum (1,000,000 items, 64 MiB of text) is passed. */
struct flow_item *flow_add(struct flow *flow, enum doc_element_kind kind, int level,
                           const char *text);

bool flow_read_ooxml(struct flow *flow, struct read_task *task, struct error *err);
bool flow_read_html(struct flow *flow, struct read_task *task, struct error *err);
bool flow_read_markdown(struct flow *flow, struct read_task *task, struct error *err);
bool flow_read_text(struct flow *flow, struct read_task *task, struct error *err);
bool flow_read_csv(struct flow *flow, struct read_task *task, struct error *err);
/* The flow as a plain HTML page, without a reference to anything outside, for MuPDF to lay out. */
void flow_write_html(struct buf *out, const struct flow *flow);
/* Gives each word of the flow its place among raw's words (both run in nearly the same order) and
 * writes the flow's elements to task->builder. Words of raw that are in no element (page numbers,
 * headers, text of drawings) follow as elements made by read_layout's rules: none is lost. */
void flow_place(struct read_task *task, const struct flow *flow, const struct raw_pages *raw);

#endif
