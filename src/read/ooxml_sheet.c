/* A workbook's sheets as a flow: the sheet's name, then its cells as tables.
 *
 * Rows without any cell part tables; a part of one cell is a paragraph. A table ends at 5,000 rows.
 * Cells are shown as their number formats say. LibreOffice leaves hidden sheets out of the PDF, so
 * their items are marked unseen. One sheet's cells are held at a time. */
#include "read/ooxml.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STRINGS 4000000
#define MAX_FORMATS 65536
#define MAX_CELLS 4000000
#define MAX_MERGES 200000
#define MAX_ROWS 1048576
#define BUFFER_MAX ((size_t)1 << 30)

struct sheet_cell {
    uint32_t row;
    uint16_t col;
    uint16_t row_span, col_span;
    bool is_text;
    const char *text;
};
struct merge {
    uint32_t row, col, end_row, end_col;
};
struct workbook {
    struct ooxml *ooxml;
    const char **strings;
    size_t n_strings, cap_strings;
    const char **formats; /* by style index */
    size_t n_formats;
    bool date_1904;
    struct sheet_cell *cells; /* of the sheet being read */
    size_t n_cells, cap_cells;
    struct merge *merges;
    size_t n_merges, cap_merges;
    size_t text_bytes; /* of shared strings and cells */
    struct ooxml_rels rels;
    int page_hint;
    uint8_t unseen;
    struct buf scratch;
};

static const char *keep(struct workbook *book, const char *text, size_t len) {
    if (len == 0)
        return "";
    if (len > FLOW_MAX_TEXT - book->text_bytes) {
        book->ooxml->flow->full = true;
        return "";
    }
    char *copy = arena_try(book->ooxml->arena, len + 1, 1);
    if (copy == NULL) {
        book->ooxml->flow->full = true;
        return "";
    }
    memcpy(copy, text, len);
    book->text_bytes += len;
    return copy;
}

static void *room(void *items, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return items;
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = mem_try_grow(items, more, size, BUFFER_MAX);
    if (grown != NULL)
        *cap = more;
    return grown;
}

/* ---- strings and formats ------------------------------------------------------------------- */

/* The text of an si or is element: t, or runs of t; phonetic guides are not part of it. */
static void gather_string(struct xml *xml, struct flow_text *text) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "s:rPh") || xml_at(xml, "s:phoneticPr")) {
            xml_skip(xml);
        } else if (xml_at(xml, "s:t")) {
            int inside = xml->depth;
            while (xml_next(xml, inside)) {
                for (const char *p = xml_text(xml); *p != '\0';) {
                    size_t len = strcspn(p, "\n");
                    flow_text_put(text, p, len);
                    if (p[len] == '\n')
                        flow_text_break(text);
                    p += len + (p[len] == '\n');
                }
            }
        }
    }
}

static bool read_strings(struct workbook *book, const char *part, struct error *err) {
    struct xml xml;
    if (part == NULL || !ooxml_zip_has(book->ooxml->zip, part))
        return true;
    if (!xml_open(&xml, book->ooxml->zip, part, err))
        return false;
    struct flow_text text = {0};
    while (xml_next(&xml, -1) && book->n_strings < MAX_STRINGS && !book->ooxml->flow->full) {
        if (!xml_at(&xml, "s:si"))
            continue;
        const char **grown = room(book->strings, book->n_strings, &book->cap_strings,
                                  sizeof(*book->strings));
        if (grown == NULL)
            break;
        book->strings = grown;
        flow_text_clear(&text);
        gather_string(&xml, &text);
        book->strings[book->n_strings++] = keep(book, flow_text_get(&text), text.buf.len);
    }
    flow_text_fini(&text);
    return xml_close(&xml, err);
}

struct named_format {
    long id;
    const char *code;
};

static bool read_formats(struct workbook *book, const char *part, struct error *err) {
    struct xml xml;
    if (part == NULL || !ooxml_zip_has(book->ooxml->zip, part))
        return true;
    if (!xml_open(&xml, book->ooxml->zip, part, err))
        return false;
    struct named_format *custom = NULL;
    size_t n_custom = 0, cap_custom = 0, cap_formats = 0;
    bool in_cells = false;
    while (xml_next(&xml, -1)) {
        if (xml_at(&xml, "s:numFmt") && n_custom < MAX_FORMATS) {
            const char *code = xml_attr(&xml, "formatCode");
            struct named_format *grown = code == NULL
                                             ? NULL
                                             : room(custom, n_custom, &cap_custom, sizeof(*custom));
            if (grown == NULL)
                continue;
            custom = grown;
            custom[n_custom].id = xml_attr_int(&xml, "numFmtId", 0);
            custom[n_custom++].code = arena_strdup(book->ooxml->arena, code);
        } else if (xml_at(&xml, "s:cellXfs")) {
            in_cells = true;
        } else if (xml_at(&xml, "s:xf") && in_cells && xml.depth == 2 &&
                   book->n_formats < MAX_FORMATS) {
            const char **grown = room(book->formats, book->n_formats, &cap_formats,
                                      sizeof(*book->formats));
            if (grown == NULL)
                continue;
            book->formats = grown;
            long id = xml_attr_int(&xml, "numFmtId", 0);
            const char *code = NULL;
            for (size_t i = 0; i < n_custom && code == NULL; i++)
                code = custom[i].id == id ? custom[i].code : NULL;
            book->formats[book->n_formats++] = code != NULL ? code : ooxml_number_builtin(id);
        } else if (xml.name != NULL && xml.depth == 1) {
            in_cells = false;
        }
    }
    mem_free(custom);
    return xml_close(&xml, err);
}

/* ---- cells --------------------------------------------------------------------------------- */

/* "AB12" to zero-based numbers; false where it is no reference. */
static bool parse_reference(uint32_t *row, uint32_t *col, const char *text, const char **end) {
    uint32_t c = 0, r = 0;
    const char *p = text;
    for (; (*p >= 'A' && *p <= 'Z') || *p == '$'; p++) {
        if (*p != '$')
            c = c * 26 + (uint32_t)(*p - 'A' + 1);
        if (c > FLOW_TABLE_COLS)
            return false;
    }
    for (; (*p >= '0' && *p <= '9') || *p == '$'; p++) {
        if (*p != '$')
            r = r * 10 + (uint32_t)(*p - '0');
        if (r > MAX_ROWS)
            return false;
    }
    if (c == 0 || r == 0)
        return false;
    *row = r - 1;
    *col = c - 1;
    if (end != NULL)
        *end = p;
    return true;
}

static void add_cell(struct workbook *book, uint32_t row, uint32_t col, bool is_text,
                     const char *text) {
    if (text[0] == '\0' || col >= FLOW_TABLE_COLS || row >= MAX_ROWS)
        return;
    struct sheet_cell *grown = book->n_cells >= MAX_CELLS
                                   ? NULL
                                   : room(book->cells, book->n_cells, &book->cap_cells,
                                          sizeof(*book->cells));
    if (grown == NULL) {
        book->ooxml->flow->full = true;
        return;
    }
    book->cells = grown;
    book->cells[book->n_cells++] = (struct sheet_cell){.row = row,
                                                       .col = (uint16_t)col,
                                                       .row_span = 1,
                                                       .col_span = 1,
                                                       .is_text = is_text,
                                                       .text = text};
}

static const char *show_value(struct workbook *book, char type, const char *value, long style) {
    if (type == 'b')
        return strcmp(value, "1") == 0 || strcmp(value, "true") == 0 ? "TRUE" : "FALSE";
    if (type == 's') {
        char *end;
        unsigned long i = strtoul(value, &end, 10);
        return end != value && i < book->n_strings ? book->strings[i] : "";
    }
    if (type != 'n')
        return keep(book, value, strlen(value));
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0')
        return keep(book, value, strlen(value));
    const char *format = style >= 0 && (size_t)style < book->n_formats ? book->formats[style]
                                                                       : "General";
    buf_clear(&book->scratch);
    ooxml_number(&book->scratch, number, format, book->date_1904);
    size_t from = 0, to = book->scratch.len;
    while (to > 0 && book->scratch.data[to - 1] == ' ')
        to--;
    while (from < to && book->scratch.data[from] == ' ')
        from++;
    return to == from ? "" : keep(book, book->scratch.data + from, to - from);
}

static void read_cell(struct workbook *book, struct xml *xml, uint32_t row, uint32_t *col,
                      struct flow_text *text) {
    const char *reference = xml_attr(xml, "r"), *named = xml_attr(xml, "t");
    long style = xml_attr_int(xml, "s", 0);
    uint32_t ref_row, ref_col;
    if (reference != NULL && parse_reference(&ref_row, &ref_col, reference, NULL))
        *col = ref_col;
    char type = 'n';
    if (named != NULL)
        type = strcmp(named, "s") == 0   ? 's'
               : strcmp(named, "b") == 0 ? 'b'
               : strcmp(named, "n") == 0 ? 'n'
                                         : 't'; /* text: inlineStr, str, e, d */
    flow_text_clear(text);
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "s:v"))
            xml_gather(xml, text);
        else if (xml_at(xml, "s:is"))
            gather_string(xml, text);
        else if (xml->name != NULL)
            xml_skip(xml); /* formulas */
    }
    if (text->buf.len > 0)
        add_cell(book, row, *col, type == 's' || type == 't',
                 show_value(book, type, text->buf.data, style));
    (*col)++;
}

static void read_rows(struct workbook *book, struct xml *xml) {
    struct flow_text text = {0};
    uint32_t row = 0, col = 0;
    bool any = false;
    int depth = xml->depth;
    while (xml_next(xml, depth) && !book->ooxml->flow->full) {
        if (xml_at(xml, "s:row")) {
            long number = xml_attr_int(xml, "r", any ? (long)row + 2 : 1);
            row = number < 1 ? 0 : number > MAX_ROWS ? MAX_ROWS : (uint32_t)number - 1;
            col = 0;
            any = true;
        } else if (xml_at(xml, "s:c")) {
            read_cell(book, xml, row, &col, &text);
        }
    }
    flow_text_fini(&text);
}

static void read_merge(struct workbook *book, struct xml *xml) {
    const char *range = xml_attr(xml, "ref"), *next;
    struct merge merge;
    if (range == NULL || book->n_merges >= MAX_MERGES ||
        !parse_reference(&merge.row, &merge.col, range, &next) || *next != ':' ||
        !parse_reference(&merge.end_row, &merge.end_col, next + 1, NULL) ||
        merge.end_row < merge.row || merge.end_col < merge.col)
        return;
    struct merge *grown = room(book->merges, book->n_merges, &book->cap_merges, sizeof(merge));
    if (grown == NULL)
        return;
    book->merges = grown;
    book->merges[book->n_merges++] = merge;
}

/* ---- a sheet's cells to tables ------------------------------------------------------------- */

static int compare_cells(const void *a, const void *b) {
    const struct sheet_cell *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x->col < y->col ? -1 : x->col > y->col;
}

static void spread_merges(struct workbook *book) {
    for (size_t i = 0; i < book->n_merges; i++) {
        const struct merge *merge = &book->merges[i];
        struct sheet_cell key = {.row = merge->row, .col = (uint16_t)merge->col};
        struct sheet_cell *cell = book->n_cells == 0 ? NULL
                                                     : bsearch(&key, book->cells, book->n_cells,
                                                               sizeof(key), compare_cells);
        if (cell == NULL)
            continue;
        uint32_t rows = merge->end_row - merge->row + 1;
        cell->row_span = (uint16_t)(rows > UINT16_MAX ? UINT16_MAX : rows);
        cell->col_span = (uint16_t)(merge->end_col - merge->col + 1);
    }
}

static void place_item(struct workbook *book, struct flow_item *item) {
    if (item == NULL)
        return;
    item->flags = book->unseen;
    item->page_hint = book->page_hint;
}

/* Cells [from, to): rows without a gap, at most 5,000 of them. */
static void add_region(struct workbook *book, size_t from, size_t to) {
    struct flow *flow = book->ooxml->flow;
    if (to - from == 1) {
        place_item(book, flow_add(flow, DOC_PARAGRAPH, 0, book->cells[from].text));
        return;
    }
    uint32_t first = book->cells[from].row, last = book->cells[to - 1].row;
    uint16_t left = UINT16_MAX;
    bool header = last > first;
    for (size_t i = from; i < to; i++) {
        const struct sheet_cell *cell = &book->cells[i];
        left = cell->col < left ? cell->col : left;
        header = header && (cell->row != first || cell->is_text);
    }
    struct flow_table table = {0};
    for (size_t i = from; i < to; i++) {
        const struct sheet_cell *cell = &book->cells[i];
        uint32_t below = last - cell->row + 1;
        if (!flow_table_add(&table, flow, cell->row - first, (size_t)cell->col - left,
                            cell->row_span < below ? cell->row_span : below, cell->col_span,
                            header && cell->row == first, cell->text, strlen(cell->text)))
            break;
    }
    place_item(book, flow_add_table(flow, &table));
    flow_table_fini(&table);
}

static void add_cells(struct workbook *book) {
    if (book->n_cells == 0)
        return;
    qsort(book->cells, book->n_cells, sizeof(*book->cells), compare_cells);
    spread_merges(book);
    size_t from = 0;
    uint32_t reach = 0; /* the last row a merged cell of this part covers */
    for (size_t i = 0; i < book->n_cells; i++) {
        const struct sheet_cell *cell = &book->cells[i];
        uint32_t end = cell->row + cell->row_span - 1;
        if (i > from &&
            (cell->row > reach + 1 || cell->row - book->cells[from].row >= FLOW_TABLE_ROWS)) {
            add_region(book, from, i);
            from = i;
        }
        reach = i == from || end > reach ? end : reach;
    }
    if (book->n_cells > from)
        add_region(book, from, book->n_cells);
}

/* ---- sheets -------------------------------------------------------------------------------- */

static void add_text(struct workbook *book, enum doc_element_kind kind, const char *text,
                     uint8_t flags) {
    struct flow_item *item = flow_add(book->ooxml->flow, kind, 0, text);
    place_item(book, item);
    if (item != NULL)
        item->flags |= flags;
}

/* Text boxes, pictures and charts that lie on a sheet. */
static bool read_drawing(struct workbook *book, const char *part, struct error *err) {
    struct ooxml_rels rels;
    struct xml xml;
    if (!ooxml_zip_has(book->ooxml->zip, part))
        return true;
    if (!ooxml_rels_read(&rels, book->ooxml, part, err) ||
        !xml_open(&xml, book->ooxml->zip, part, err))
        return false;
    struct flow_text text = {0};
    bool ok = true;
    while (ok && xml_next(&xml, -1)) {
        const char *name = xml.name == NULL ? "" : xml.name;
        flow_text_clear(&text);
        if (xml_at(&xml, "e:Fallback")) {
            xml_skip(&xml);
        } else if (strcmp(name, "txBody") == 0) {
            ooxml_drawing_text(&xml, &text);
            if (text.buf.len > 0)
                add_text(book, DOC_PARAGRAPH, text.buf.data, 0);
        } else if (strcmp(name, "cNvPr") == 0) {
            const char *description = xml_attr(&xml, "descr");
            if (description != NULL && description[0] != '\0')
                add_text(book, DOC_PICTURE, description, FLOW_UNSEEN);
        } else if (xml_at(&xml, "c:chart")) {
            const char *chart = ooxml_rel_target(&rels, xml_attr(&xml, "r:id"));
            ok = chart == NULL || ooxml_chart_text(&text, book->ooxml, chart, err);
            if (text.buf.len > 0)
                add_text(book, DOC_PICTURE, text.buf.data, 0);
        }
    }
    flow_text_fini(&text);
    return xml_close(&xml, ok ? err : NULL) && ok;
}

static bool read_comments(struct workbook *book, const char *part, struct error *err) {
    struct xml xml;
    if (!ooxml_zip_has(book->ooxml->zip, part))
        return true;
    if (!xml_open(&xml, book->ooxml->zip, part, err))
        return false;
    struct flow_text text = {0};
    while (xml_next(&xml, -1)) {
        if (!xml_at(&xml, "s:text"))
            continue;
        flow_text_clear(&text);
        gather_string(&xml, &text);
        if (text.buf.len > 0)
            add_text(book, DOC_NOTE, text.buf.data, FLOW_UNSEEN);
    }
    flow_text_fini(&text);
    return xml_close(&xml, err);
}

static bool read_sheet(struct workbook *book, const char *name, const char *part,
                       struct error *err) {
    struct ooxml_rels rels;
    struct xml xml;
    struct flow_item *heading = flow_add(book->ooxml->flow, DOC_HEADING, 1, name);
    place_item(book, heading);
    if (part == NULL || !ooxml_zip_has(book->ooxml->zip, part))
        return true;
    if (!ooxml_rels_read(&rels, book->ooxml, part, err) ||
        !xml_open(&xml, book->ooxml->zip, part, err))
        return false;
    book->n_cells = 0;
    book->n_merges = 0;
    while (xml_next(&xml, -1)) {
        if (xml_at(&xml, "s:sheetData"))
            read_rows(book, &xml);
        else if (xml_at(&xml, "s:mergeCell"))
            read_merge(book, &xml);
    }
    if (!xml_close(&xml, err))
        return false;
    add_cells(book);
    const char *drawing = ooxml_rel_of_type(&rels, "drawing");
    const char *comments = ooxml_rel_of_type(&rels, "comments");
    return (drawing == NULL || read_drawing(book, drawing, err)) &&
           (comments == NULL || read_comments(book, comments, err));
}

static bool read_workbook(struct workbook *book, struct xml *xml, struct error *err) {
    int n_shown = 0;
    while (xml_next(xml, -1)) {
        if (xml_at(xml, "s:workbookPr")) {
            book->date_1904 = xml_attr_true(xml, "date1904", false);
        } else if (xml_at(xml, "s:sheet")) {
            const char *state = xml_attr(xml, "state"), *name = xml_attr(xml, "name");
            const char *part = ooxml_rel_target(&book->rels, xml_attr(xml, "r:id"));
            bool shown = state == NULL || strcmp(state, "visible") == 0;
            book->unseen = shown ? 0 : FLOW_UNSEEN;
            book->page_hint = shown ? n_shown++ : -1;
            if (!read_sheet(book, name == NULL ? "" : name, part, err))
                return false;
        }
    }
    return true;
}

bool ooxml_sheets(struct ooxml *ooxml, const char *part, struct error *err) {
    struct workbook book = {.ooxml = ooxml, .scratch = {.max = 65536}};
    struct xml xml;
    bool ok = ooxml_rels_read(&book.rels, ooxml, part, err) &&
              read_strings(&book, ooxml_rel_of_type(&book.rels, "sharedStrings"), err) &&
              read_formats(&book, ooxml_rel_of_type(&book.rels, "styles"), err);
    if (ok && xml_open(&xml, ooxml->zip, part, err)) {
        ok = read_workbook(&book, &xml, err);
        ok = xml_close(&xml, ok ? err : NULL) && ok;
    } else {
        ok = false;
    }
    mem_free(book.strings);
    mem_free(book.formats);
    mem_free(book.cells);
    mem_free(book.merges);
    buf_fini(&book.scratch);
    return ok;
}
