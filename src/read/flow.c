/* The flow: a document's structure without geometry, as the readers of OOXML, HTML, Markdown, CSV
 * and text gather it, and its form as one HTML page.
 *
 * Invariants: every text in a flow is valid UTF-8 in the flow's arena; text_bytes counts all of it,
 * plus a little for each item and cell, and never passes FLOW_MAX_TEXT; once an append is refused,
 * `full` stays set. */
#include "read/flow.h"

#include <string.h>

#define ITEM_COST 16 /* so that empty items and cells are bounded too */
/* MuPDF keeps a node for each word it lays out: more text than this makes no pages. */
#define HTML_MAX_TEXT ((size_t)8 << 20)
#define HTML_MAX_COLUMNS 8 /* wider tables are written a paragraph a row */

/* ---- text ---------------------------------------------------------------------------------- */

/* Bytes of the white space at i, no-break space too; 0 where there is none. */
static size_t blank_at(const char *text, size_t len, size_t i) {
    unsigned char c = (unsigned char)text[i];
    if (c == ' ' || (c >= '\t' && c <= '\r'))
        return 1;
    return c == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] == 0xA0 ? 2 : 0;
}

void flow_text_put(struct flow_text *text, const char *utf8, size_t len) {
    if (text->buf.max == 0)
        text->buf.max = FLOW_MAX_TEXT;
    size_t i = 0;
    while (i < len) {
        size_t blank = blank_at(utf8, len, i);
        if (blank > 0) {
            if (text->gap == FLOW_GAP_NONE)
                text->gap = FLOW_GAP_SPACE;
            i += blank;
            continue;
        }
        size_t start = i;
        while (i < len && blank_at(utf8, len, i) == 0)
            i++;
        if (text->buf.len > 0 && text->gap != FLOW_GAP_NONE)
            buf_putc(&text->buf, text->gap == FLOW_GAP_LINE ? '\n' : ' ');
        text->gap = FLOW_GAP_NONE;
        buf_append(&text->buf, utf8 + start, i - start);
    }
}

void flow_text_puts(struct flow_text *text, const char *utf8) {
    flow_text_put(text, utf8, strlen(utf8));
}

void flow_text_break(struct flow_text *text) {
    text->gap = FLOW_GAP_LINE;
}

void flow_text_clear(struct flow_text *text) {
    buf_clear(&text->buf);
    text->gap = FLOW_GAP_NONE;
}

void flow_text_fini(struct flow_text *text) {
    buf_fini(&text->buf);
    text->gap = FLOW_GAP_NONE;
}

const char *flow_text_get(struct flow_text *text) {
    return text->buf.len > 0 ? text->buf.data : "";
}

/* ---- items --------------------------------------------------------------------------------- */

static const char *keep_text(struct flow *flow, const char *text, size_t len) {
    size_t cost = len + ITEM_COST;
    if (flow->full || cost > FLOW_MAX_TEXT - flow->text_bytes) {
        flow->full = true;
        return NULL;
    }
    char *copy;
    if (utf8_valid(text, len) && memchr(text, '\0', len) == NULL) {
        copy = arena_try(flow->arena, len + 1, 1);
        if (copy != NULL)
            memcpy(copy, text, len);
    } else {
        copy = utf8_clean(flow->arena, text, len);
    }
    if (copy == NULL) {
        flow->full = true;
        return NULL;
    }
    flow->text_bytes += cost;
    return copy;
}

static struct flow_item *append_item(struct flow *flow) {
    if (flow->n_items >= FLOW_MAX_ITEMS) {
        flow->full = true;
        return NULL;
    }
    if (flow->n_items == flow->cap) {
        size_t cap = flow->cap == 0 ? 16 : flow->cap * 2;
        struct flow_item *items = arena_try(flow->arena, cap, sizeof(*items));
        if (items == NULL) {
            flow->full = true;
            return NULL;
        }
        if (flow->n_items > 0)
            memcpy(items, flow->items, flow->n_items * sizeof(*items));
        flow->items = items;
        flow->cap = cap;
    }
    struct flow_item *item = &flow->items[flow->n_items++];
    memset(item, 0, sizeof(*item));
    item->page_hint = -1;
    item->text = "";
    return item;
}

struct flow_item *flow_add(struct flow *flow, enum doc_element_kind kind, int level,
                           const char *text) {
    const char *copy = keep_text(flow, text, strlen(text));
    struct flow_item *item = copy == NULL ? NULL : append_item(flow);
    if (item == NULL)
        return NULL;
    item->kind = kind;
    item->level = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
    item->text = copy;
    return item;
}

bool flow_table_add(struct flow_table *table, struct flow *flow, size_t row, size_t col,
                    size_t row_span, size_t col_span, bool header, const char *text, size_t len) {
    if (row >= UINT16_MAX || col >= FLOW_TABLE_COLS)
        return true;
    if (table->n == table->cap) {
        size_t cap = table->cap == 0 ? 64 : table->cap * 2;
        struct flow_cell *cells = mem_try_grow(table->cells, cap, sizeof(*cells),
                                               (size_t)512 << 20);
        if (cells == NULL) {
            flow->full = true;
            return false;
        }
        table->cells = cells;
        table->cap = cap;
    }
    const char *copy = keep_text(flow, text, len);
    if (copy == NULL)
        return false;
    size_t max_rows = UINT16_MAX - row, max_cols = FLOW_TABLE_COLS - col;
    struct flow_cell *cell = &table->cells[table->n++];
    cell->row = (uint16_t)row;
    cell->col = (uint16_t)col;
    cell->row_span = (uint16_t)(row_span < 1 ? 1 : row_span > max_rows ? max_rows : row_span);
    cell->col_span = (uint16_t)(col_span < 1 ? 1 : col_span > max_cols ? max_cols : col_span);
    cell->header = header;
    cell->text = copy;
    table->text_bytes += len;
    return true;
}

struct flow_item *flow_add_table(struct flow *flow, struct flow_table *table) {
    struct flow_item *item = NULL;
    if (table->n > 0 && table->text_bytes > 0) {
        struct flow_cell *cells = arena_try(flow->arena, table->n, sizeof(*cells));
        if (cells == NULL)
            flow->full = true;
        else
            item = append_item(flow);
        if (item != NULL) {
            memcpy(cells, table->cells, table->n * sizeof(*cells));
            item->kind = DOC_TABLE;
            item->cells = cells;
            item->n_cells = table->n;
        }
    }
    table->n = 0;
    table->text_bytes = 0;
    return item;
}

void flow_table_fini(struct flow_table *table) {
    mem_free(table->cells);
    memset(table, 0, sizeof(*table));
}

void flow_splice(struct flow *dst, struct flow *src) {
    for (size_t i = 0; i < src->n_items; i++) {
        struct flow_item *item = append_item(dst);
        if (item == NULL)
            break;
        *item = src->items[i];
    }
    if (src->text_bytes > FLOW_MAX_TEXT - dst->text_bytes) {
        dst->text_bytes = FLOW_MAX_TEXT;
        dst->full = true;
    } else {
        dst->text_bytes += src->text_bytes;
    }
    dst->full = dst->full || src->full;
    src->n_items = 0;
    src->text_bytes = 0;
}

/* ---- as HTML ------------------------------------------------------------------------------- */

static const char style[] =
    "@page{size:595pt 842pt;margin:50pt}"
    "body{font-family:sans-serif;font-size:10pt;line-height:1.35}"
    "h1{font-size:18pt}h2{font-size:15pt}h3{font-size:13pt}h4,h5,h6{font-size:11pt}"
    "p{margin:0 0 6pt 0}"
    "pre{font-family:monospace;font-size:8pt;background-color:#f2f2f2;margin:0 0 6pt 0}"
    "p.c{font-style:italic}p.n{font-size:8.5pt}"
    "p.r{margin:0;border-bottom:0.5pt solid #cccccc;font-size:8.5pt}"
    "p.e{margin:0 0 8pt 0}"
    "table{margin:0 0 8pt 0}"
    "td,th{border:0.5pt solid #999999;padding:2pt;font-size:8.5pt;text-align:left}";

/* Escaped; what MuPDF's parser or fonts cannot use (controls) is left out. */
static void put_escaped(struct buf *out, const char *text, bool breaks) {
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '<')
            buf_puts(out, "&lt;");
        else if (c == '>')
            buf_puts(out, "&gt;");
        else if (c == '&')
            buf_puts(out, "&amp;");
        else if (c == '"')
            buf_puts(out, "&quot;");
        else if (c == '\n' && breaks)
            buf_puts(out, "<br/>");
        else if (c >= 0x20 || c == '\n' || c == '\t')
            buf_putc(out, *p);
    }
}

static size_t count_columns(const struct flow_item *item) {
    size_t n = 0;
    for (size_t i = 0; i < item->n_cells; i++) {
        size_t end = (size_t)item->cells[i].col + item->cells[i].col_span;
        n = end > n ? end : n;
    }
    return n;
}

/* MuPDF gives all columns the same width and knows no spans: covered places are empty cells. */
static void put_grid(struct buf *out, const struct flow_item *item, size_t n_columns) {
    buf_puts(out, "<table>");
    for (size_t i = 0; i < item->n_cells;) {
        uint16_t row = item->cells[i].row;
        size_t col = 0;
        buf_puts(out, "<tr>");
        for (; i < item->n_cells && item->cells[i].row == row; i++) {
            const struct flow_cell *cell = &item->cells[i];
            for (; col < cell->col; col++)
                buf_puts(out, "<td></td>");
            buf_puts(out, cell->header ? "<th>" : "<td>");
            put_escaped(out, cell->text, true);
            buf_puts(out, cell->header ? "</th>" : "</td>");
            col++;
        }
        for (; col < n_columns; col++)
            buf_puts(out, "<td></td>");
        buf_puts(out, "</tr>\n");
    }
    buf_puts(out, "</table>\n");
}

static void put_rows(struct buf *out, const struct flow_item *item) {
    for (size_t i = 0; i < item->n_cells;) {
        uint16_t row = item->cells[i].row;
        bool first = true;
        buf_puts(out, "<p class=\"r\">");
        for (; i < item->n_cells && item->cells[i].row == row; i++) {
            const struct flow_cell *cell = &item->cells[i];
            if (cell->text[0] == '\0')
                continue;
            if (!first)
                buf_puts(out, " &#8195;&#8195; ");
            first = false;
            buf_puts(out, cell->header ? "<b>" : "");
            put_escaped(out, cell->text, false);
            buf_puts(out, cell->header ? "</b>" : "");
        }
        buf_puts(out, "</p>\n");
    }
    buf_puts(out, "<p class=\"e\"></p>\n");
}

static size_t item_size(const struct flow_item *item) {
    size_t size = strlen(item->text) + ITEM_COST;
    for (size_t i = 0; i < item->n_cells; i++)
        size += strlen(item->cells[i].text) + ITEM_COST;
    return size;
}

static void put_block(struct buf *out, const struct flow_item *item) {
    switch (item->kind) {
    case DOC_TITLE:
        buf_puts(out, "<h1>");
        put_escaped(out, item->text, true);
        buf_puts(out, "</h1>\n");
        break;
    case DOC_HEADING: {
        int level = item->level < 1 ? 1 : item->level > 6 ? 6 : item->level;
        buf_printf(out, "<h%d>", level);
        put_escaped(out, item->text, true);
        buf_printf(out, "</h%d>\n", level);
        break;
    }
    case DOC_LIST_ITEM: {
        int depth = item->level < 1 ? 1 : item->level > 8 ? 8 : item->level;
        buf_printf(out, "<p style=\"margin-left:%dpt\">", depth * 14);
        buf_puts(out, (item->flags & DOC_ORDERED) != 0 ? "" : "&#8226; ");
        put_escaped(out, item->text, true);
        buf_puts(out, "</p>\n");
        break;
    }
    case DOC_TABLE: {
        size_t n_columns = count_columns(item);
        if (n_columns <= HTML_MAX_COLUMNS)
            put_grid(out, item, n_columns);
        else
            put_rows(out, item);
        break;
    }
    case DOC_CODE:
        buf_puts(out, "<pre>");
        put_escaped(out, item->text, false);
        buf_puts(out, "</pre>\n");
        break;
    case DOC_CAPTION:
    case DOC_PICTURE:
        buf_puts(out, "<p class=\"c\">");
        put_escaped(out, item->text, true);
        buf_puts(out, "</p>\n");
        break;
    case DOC_FOOTNOTE:
    case DOC_NOTE:
    case DOC_PAGE_HEADER:
    case DOC_PAGE_FOOTER:
        buf_puts(out, "<p class=\"n\">");
        put_escaped(out, item->text, true);
        buf_puts(out, "</p>\n");
        break;
    case DOC_PARAGRAPH:
    case DOC_FORMULA:
        buf_puts(out, "<p>");
        put_escaped(out, item->text, true);
        buf_puts(out, "</p>\n");
        break;
    case DOC_N_ELEMENT_KINDS:
        break;
    }
}

void flow_write_html(struct buf *out, const struct flow *flow) {
    buf_puts(out, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"/><title>");
    put_escaped(out, flow->title == NULL ? "" : flow->title, false);
    buf_printf(out, "</title><style>%s</style></head><body>\n", style);
    size_t size = 0;
    int page = 0;
    for (size_t i = 0; i < flow->n_items; i++) {
        const struct flow_item *item = &flow->items[i];
        if ((item->flags & FLOW_UNSEEN) != 0 || (item->text[0] == '\0' && item->n_cells == 0))
            continue;
        size += item_size(item);
        if (size > HTML_MAX_TEXT)
            break;
        if (item->page_hint > page) {
            page = item->page_hint;
            buf_puts(out, "<div style=\"page-break-before:always\"></div>\n");
        }
        put_block(out, item);
    }
    buf_puts(out, "</body></html>\n");
}
