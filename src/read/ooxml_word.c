/* A Word document's body as a flow.
 *
 * What hangs on a paragraph (text boxes, pictures, footnotes, comments) is gathered in its `later`
 * flow and follows it; in a table cell it follows the table. Tracked insertions are read, deletions
 * are not; of markup-compatibility alternatives the first is read. Recursion follows the XML's
 * nesting, which libxml2 ends at 256 levels. */
#include "read/ooxml_word.h"

#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 256
#define MAX_NOTES 100000

struct note {
    long id;
    bool used;
    struct flow flow;
};
struct notes {
    struct note *items;
    size_t n;
};

struct word {
    struct ooxml *ooxml;
    struct word_styles styles;
    struct word_lists lists;
    struct ooxml_rels rels; /* of the part being read */
    struct notes footnotes, endnotes, comments;
    struct ooxml_rels main_rels;
    const char **furniture; /* header and footer parts met, each once */
    size_t n_furniture;
    struct flow headers, footers;
    bool title_seen;
    struct error err; /* of a part read on the way */
    bool failed;
};

/* Where blocks go: items of a flow, or the lines of one cell. */
struct target {
    struct flow *flow;
    struct flow_text *cell; /* or NULL */
    bool forced;            /* every paragraph is of this kind: a note, a header */
    enum doc_element_kind kind;
    uint8_t flags;
};

struct paragraph {
    struct flow_text text;
    struct word_style style;
    long num_id;
    int num_level;
    bool listed, has_math, has_text;
    struct flow later;
};

static void read_blocks(struct word *word, struct xml *xml, struct target *target);
static void read_table(struct word *word, struct xml *xml, struct target *target);

static bool is_left_out(const struct xml *xml) {
    return xml_at(xml, "w:del") || xml_at(xml, "w:moveFrom") || xml_at(xml, "e:Fallback") ||
           xml_at(xml, "w:instrText") || xml_at(xml, "w:delText") || xml_at(xml, "w:rPr") ||
           xml_at(xml, "w:sdtPr") || xml_at(xml, "w:sdtEndPr") || xml_at(xml, "w:rt") ||
           xml_at(xml, "w:tblPr") || xml_at(xml, "w:tblGrid") || xml_at(xml, "w:delInstrText");
}

/* ---- notes, headers, footers --------------------------------------------------------------- */

static void splice_note(struct notes *notes, long id, struct flow *into) {
    for (size_t i = 0; i < notes->n; i++) {
        if (notes->items[i].id == id && !notes->items[i].used) {
            notes->items[i].used = true;
            flow_splice(into, &notes->items[i].flow);
            return;
        }
    }
}

static void fail(struct word *word, const struct error *err) {
    if (!word->failed)
        word->err = *err;
    word->failed = true;
}

/* Footnotes, endnotes or comments: each `element` of the part is one. */
static void read_notes(struct word *word, struct notes *notes, const char *rel, const char *element,
                       enum doc_element_kind kind, uint8_t flags) {
    const char *part = ooxml_rel_of_type(&word->main_rels, rel);
    if (part == NULL || !ooxml_zip_has(word->ooxml->zip, part))
        return;
    struct xml xml;
    struct error err;
    if (!xml_open(&xml, word->ooxml->zip, part, &err)) {
        fail(word, &err);
        return;
    }
    size_t cap = 0;
    struct ooxml_rels outer = word->rels;
    if (!ooxml_rels_read(&word->rels, word->ooxml, part, &err))
        fail(word, &err);
    while (xml_next(&xml, -1) && notes->n < MAX_NOTES) {
        if (!xml_at(&xml, element))
            continue;
        const char *type = xml_attr(&xml, "type");
        if (type != NULL && strcmp(type, "normal") != 0) {
            xml_skip(&xml); /* separators */
            continue;
        }
        if (notes->n == cap) {
            cap = cap == 0 ? 16 : cap * 2;
            struct note *items = arena_alloc(word->ooxml->arena, cap * sizeof(*items));
            if (notes->n > 0)
                memcpy(items, notes->items, notes->n * sizeof(*items));
            notes->items = items;
        }
        struct note *note = &notes->items[notes->n++];
        note->flow.arena = word->ooxml->arena;
        note->id = xml_attr_int(&xml, "id", -1);
        struct target target = {.flow = &note->flow, .forced = true, .kind = kind, .flags = flags};
        read_blocks(word, &xml, &target);
    }
    word->rels = outer;
    if (!xml_close(&xml, &err))
        fail(word, &err);
}

static void read_furniture(struct word *word, const char *part, bool header) {
    for (size_t i = 0; i < word->n_furniture; i++) {
        if (strcmp(word->furniture[i], part) == 0)
            return;
    }
    if (!ooxml_zip_has(word->ooxml->zip, part) || word->n_furniture >= 256)
        return;
    if (word->furniture == NULL)
        word->furniture = arena_alloc(word->ooxml->arena, 256 * sizeof(*word->furniture));
    word->furniture[word->n_furniture++] = part;
    struct xml xml;
    struct error err;
    if (!xml_open(&xml, word->ooxml->zip, part, &err)) {
        fail(word, &err);
        return;
    }
    struct ooxml_rels outer = word->rels;
    if (!ooxml_rels_read(&word->rels, word->ooxml, part, &err))
        fail(word, &err);
    struct target target = {.flow = header ? &word->headers : &word->footers,
                            .forced = true,
                            .kind = header ? DOC_PAGE_HEADER : DOC_PAGE_FOOTER};
    read_blocks(word, &xml, &target);
    word->rels = outer;
    if (!xml_close(&xml, &err))
        fail(word, &err);
}

/* The headers and footers a section shows; the first page's only where it is set apart. */
static void read_section(struct word *word, struct xml *xml) {
    enum { MAX_REFERENCES = 6 };
    struct {
        const char *part;
        bool header, first;
    } references[MAX_REFERENCES];
    size_t n = 0;
    bool first_apart = false;
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        bool header = xml_at(xml, "w:headerReference");
        if ((header || xml_at(xml, "w:footerReference")) && n < MAX_REFERENCES) {
            const char *part = ooxml_rel_target(&word->rels, xml_attr(xml, "r:id"));
            const char *type = xml_attr(xml, "type");
            if (part == NULL)
                continue;
            references[n].part = part;
            references[n].header = header;
            references[n++].first = type != NULL && strcmp(type, "first") == 0;
        } else if (xml_at(xml, "w:titlePg")) {
            first_apart = xml_attr_true(xml, "val", true);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (!references[i].first || first_apart)
            read_furniture(word, references[i].part, references[i].header);
    }
}

/* ---- paragraphs ---------------------------------------------------------------------------- */

static void read_properties(struct word *word, struct xml *xml, struct paragraph *paragraph) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:pStyle")) {
            paragraph->style = word_style_resolve(&word->styles, xml_attr(xml, "val"));
        } else if (xml_at(xml, "w:numId")) {
            paragraph->num_id = xml_attr_int(xml, "val", 0);
        } else if (xml_at(xml, "w:ilvl")) {
            paragraph->num_level = (int)xml_attr_int(xml, "val", 0);
        } else if (xml_at(xml, "w:outlineLvl")) {
            long outline = xml_attr_int(xml, "val", 9);
            if (paragraph->style.kind == DOC_PARAGRAPH && outline >= 0 && outline <= 8) {
                paragraph->style.kind = DOC_HEADING;
                paragraph->style.level = outline > 5 ? 6 : (int)outline + 1;
            }
        } else if (xml_at(xml, "w:sectPr")) {
            read_section(word, xml);
        } else if (xml_at(xml, "w:rPr") || xml_at(xml, "w:pPrChange")) {
            xml_skip(xml);
        }
    }
    if (paragraph->num_id < 0)
        paragraph->num_id = paragraph->style.num_id;
    if (paragraph->num_level < 0)
        paragraph->num_level = paragraph->style.num_level;
}

static void add_unseen(struct flow *flow, enum doc_element_kind kind, const char *text,
                       uint8_t flags) {
    struct flow_item *item = flow_add(flow, kind, 0, text);
    if (item != NULL)
        item->flags = flags;
}

/* A drawing: its description, the text of its shapes, its chart or diagram. */
static void read_drawing(struct word *word, struct xml *xml, struct flow *later) {
    int depth = xml->depth;
    struct flow_text description = {0}, words = {0};
    bool picture = false;
    struct error err = {0};
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "e:Fallback")) {
            xml_skip(xml);
        } else if (strcmp(xml->name == NULL ? "" : xml->name, "docPr") == 0) {
            const char *text = xml_attr(xml, "descr");
            if (text == NULL || text[0] == '\0')
                text = xml_attr(xml, "title");
            if (text != NULL)
                flow_text_puts(&description, text);
        } else if (xml_at(xml, "w:txbxContent")) {
            struct target target = {.flow = later};
            read_blocks(word, xml, &target);
        } else if (xml_at(xml, "a:blip")) {
            picture = true;
        } else if (xml_at(xml, "c:chart")) {
            const char *part = ooxml_rel_target(&word->rels, xml_attr(xml, "r:id"));
            if (part != NULL && !ooxml_chart_text(&words, word->ooxml, part, &err))
                fail(word, &err);
        } else if (xml_at(xml, "g:relIds")) {
            const char *part = ooxml_rel_target(&word->rels, xml_attr(xml, "r:dm"));
            if (part != NULL && !ooxml_diagram_text(&words, word->ooxml, part, &err))
                fail(word, &err);
        }
    }
    if (words.buf.len > 0)
        add_unseen(later, DOC_PICTURE, flow_text_get(&words), 0);
    if (description.buf.len > 0 || (picture && words.buf.len == 0))
        add_unseen(later, DOC_PICTURE, flow_text_get(&description), FLOW_UNSEEN);
    flow_text_fini(&description);
    flow_text_fini(&words);
}

/* VML, as older files have it: shapes with alt text, pictures, text boxes. */
static void read_vml(struct word *word, struct xml *xml, struct flow *later) {
    int depth = xml->depth;
    struct flow_text description = {0};
    bool picture = false;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:txbxContent")) {
            struct target target = {.flow = later};
            read_blocks(word, xml, &target);
        } else if (xml_at(xml, "v:imagedata")) {
            picture = true;
        } else if (xml->name != NULL && xml->ns == 'v') {
            const char *alt = xml_attr(xml, "alt");
            if (alt != NULL)
                flow_text_puts(&description, alt);
            if (xml_at(xml, "v:textpath") && xml_attr(xml, "string") != NULL)
                add_unseen(later, DOC_PARAGRAPH, xml_attr(xml, "string"), 0);
        }
    }
    if (picture || description.buf.len > 0)
        add_unseen(later, DOC_PICTURE, flow_text_get(&description), FLOW_UNSEEN);
    flow_text_fini(&description);
}

/* What may stand inside a run that is not text. True where it was taken. */
static bool read_hanging(struct word *word, struct xml *xml, struct paragraph *paragraph) {
    if (xml_at(xml, "w:drawing"))
        read_drawing(word, xml, &paragraph->later);
    else if (xml_at(xml, "w:pict") || xml_at(xml, "w:object"))
        read_vml(word, xml, &paragraph->later);
    else if (xml_at(xml, "w:footnoteReference"))
        splice_note(&word->footnotes, xml_attr_int(xml, "id", -1), &paragraph->later);
    else if (xml_at(xml, "w:endnoteReference"))
        splice_note(&word->endnotes, xml_attr_int(xml, "id", -1), &paragraph->later);
    else if (xml_at(xml, "w:commentReference"))
        splice_note(&word->comments, xml_attr_int(xml, "id", -1), &paragraph->later);
    else
        return false;
    return true;
}

static void read_symbol(struct xml *xml, struct flow_text *text) {
    const char *code = xml_attr(xml, "char");
    unsigned long c = code == NULL ? 0 : strtoul(code, NULL, 16);
    if (c < 0x20 || c >= 0xE000) /* a symbol font's private place says nothing */
        return;
    char utf8[4];
    flow_text_put(text, utf8, utf8_put(utf8, (uint32_t)c));
}

/* Runs and what wraps them (links, fields, insertions, content controls). */
static void read_runs(struct word *word, struct xml *xml, struct paragraph *paragraph) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml->name == NULL)
            continue;
        if (xml_at(xml, "w:t")) {
            int inside = xml->depth;
            while (xml_next(xml, inside))
                flow_text_puts(&paragraph->text, xml_text(xml));
            paragraph->has_text = true;
        } else if (xml_at(xml, "w:pPr")) {
            read_properties(word, xml, paragraph);
        } else if (xml_at(xml, "w:tab") || xml_at(xml, "w:ptab")) {
            flow_text_put(&paragraph->text, " ", 1);
        } else if (xml_at(xml, "w:br") || xml_at(xml, "w:cr")) {
            flow_text_break(&paragraph->text);
        } else if (xml_at(xml, "w:noBreakHyphen")) {
            flow_text_put(&paragraph->text, "-", 1);
        } else if (xml_at(xml, "w:sym")) {
            read_symbol(xml, &paragraph->text);
        } else if (xml_at(xml, "m:oMath")) {
            ooxml_math(xml, &paragraph->text);
            paragraph->has_math = true;
        } else if (is_left_out(xml)) {
            xml_skip(xml);
        } else {
            read_hanging(word, xml, paragraph);
        }
    }
}

static void add_paragraph(struct word *word, struct paragraph *paragraph, struct target *target) {
    struct flow_text *text = &paragraph->text;
    if (text->buf.len == 0)
        return;
    if (target->cell != NULL) {
        flow_text_break(target->cell);
        for (char *line = text->buf.data; line != NULL;) {
            char *end = strchr(line, '\n');
            flow_text_put(target->cell, line, end == NULL ? strlen(line) : (size_t)(end - line));
            if (end != NULL)
                flow_text_break(target->cell);
            line = end == NULL ? NULL : end + 1;
        }
        return;
    }
    enum doc_element_kind kind = paragraph->style.kind;
    int level = kind == DOC_HEADING ? paragraph->style.level : 0;
    uint8_t flags = target->flags;
    if (target->forced) {
        kind = target->kind;
        level = 0;
    } else if (kind == DOC_TITLE && word->title_seen) {
        kind = DOC_HEADING;
        level = 1;
    } else if (kind == DOC_PARAGRAPH && paragraph->num_id > 0) {
        int depth = paragraph->num_level < 0 ? 0 : paragraph->num_level;
        kind = DOC_LIST_ITEM;
        level = depth >= WORD_LEVELS ? WORD_LEVELS : depth + 1;
        if (word_list_ordered(&word->lists, &word->styles, paragraph->num_id, depth))
            flags |= DOC_ORDERED;
    } else if (kind == DOC_PARAGRAPH && paragraph->has_math && !paragraph->has_text) {
        kind = DOC_FORMULA;
    }
    word->title_seen = word->title_seen || kind == DOC_TITLE;
    struct flow_item *item = flow_add(target->flow, kind, level, text->buf.data);
    if (item != NULL)
        item->flags = flags;
}

static void read_paragraph(struct word *word, struct xml *xml, struct target *target) {
    struct paragraph paragraph = {
        .style = word_style_resolve(&word->styles, NULL), .num_id = -1, .num_level = -1};
    paragraph.later.arena = word->ooxml->arena;
    read_runs(word, xml, &paragraph);
    if (paragraph.num_id < 0)
        paragraph.num_id = paragraph.style.num_id;
    add_paragraph(word, &paragraph, target);
    flow_splice(target->flow, &paragraph.later);
    flow_text_fini(&paragraph.text);
}

/* ---- tables -------------------------------------------------------------------------------- */

struct table {
    struct flow_table cells;
    struct flow later;          /* what hangs on its cells, and tables in them */
    int owner[MAX_COLUMNS + 1]; /* the cell that reaches down through this column, or -1 */
    size_t row, col;
    bool header_row, deleted_row;
};

struct cell_properties {
    size_t col_span;
    bool continues, starts; /* a vertical merge */
};

static void read_cell_properties(struct xml *xml, struct cell_properties *out) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:gridSpan")) {
            long span = xml_attr_int(xml, "val", 1);
            out->col_span = span < 1 ? 1 : span > MAX_COLUMNS ? MAX_COLUMNS : (size_t)span;
        } else if (xml_at(xml, "w:vMerge")) {
            const char *value = xml_attr(xml, "val");
            out->starts = value != NULL && strcmp(value, "restart") == 0;
            out->continues = !out->starts;
        } else if (xml_at(xml, "w:tcPrChange")) {
            xml_skip(xml);
        }
    }
}

static void add_cell(struct word *word, struct table *table, const struct cell_properties *cell,
                     struct flow_text *text) {
    struct flow_cell *cells = table->cells.cells;
    size_t end = table->col + cell->col_span;
    end = end > MAX_COLUMNS ? MAX_COLUMNS : end;
    int owner = table->col < MAX_COLUMNS ? table->owner[table->col] : -1;
    if (cell->continues && owner >= 0 && text->buf.len == 0 &&
        cells[owner].row_span < UINT16_MAX - cells[owner].row) {
        cells[owner].row_span = (uint16_t)(table->row - cells[owner].row + 1);
    } else if (!table->deleted_row && table->col < MAX_COLUMNS) {
        flow_table_add(&table->cells, word->ooxml->flow, table->row, table->col, 1,
                       end - table->col, table->header_row, flow_text_get(text), text->buf.len);
        owner = (int)table->cells.n - 1;
        if (!cell->starts && !cell->continues)
            owner = -1;
    }
    for (; table->col < end; table->col++)
        table->owner[table->col] = owner;
}

static void read_cell(struct word *word, struct xml *xml, struct table *table) {
    struct cell_properties cell = {.col_span = 1};
    struct flow_text text = {0};
    struct target target = {.flow = &table->later, .cell = &text};
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:tcPr"))
            read_cell_properties(xml, &cell);
        else if (xml_at(xml, "w:p"))
            read_paragraph(word, xml, &target);
        else if (xml_at(xml, "w:tbl"))
            read_table(word, xml, &target);
        else if (is_left_out(xml))
            xml_skip(xml);
    }
    add_cell(word, table, &cell, &text);
    flow_text_fini(&text);
}

static void read_row(struct word *word, struct xml *xml, struct table *table) {
    int depth = xml->depth;
    table->col = 0;
    table->header_row = false;
    table->deleted_row = false;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:tblHeader")) {
            table->header_row = xml_attr_true(xml, "val", true);
        } else if (xml_at(xml, "w:gridBefore")) {
            long before = xml_attr_int(xml, "val", 0);
            table->col = before < 0 ? 0 : before > MAX_COLUMNS ? MAX_COLUMNS : (size_t)before;
        } else if (xml_at(xml, "w:tc")) {
            read_cell(word, xml, table);
        } else if (xml_at(xml, "w:trPr")) {
            continue; /* its children are met one by one */
        } else if (xml_at(xml, "w:del")) {
            table->deleted_row = true;
        } else if (is_left_out(xml) || xml_at(xml, "w:tblPrEx")) {
            xml_skip(xml);
        }
    }
    table->row++;
}

/* Rows past the limit of one table begin another. */
static void end_table(struct word *word, struct table *table, struct target *target) {
    (void)word;
    bool any_header = false;
    size_t n_rows = table->row;
    for (size_t i = 0; i < table->cells.n; i++)
        any_header = any_header || table->cells.cells[i].header;
    for (size_t i = 0; !any_header && n_rows > 1 && i < table->cells.n; i++)
        table->cells.cells[i].header = table->cells.cells[i].row == 0;
    flow_add_table(target->flow, &table->cells);
    table->row = 0;
    for (size_t i = 0; i <= MAX_COLUMNS; i++)
        table->owner[i] = -1;
}

static void read_table(struct word *word, struct xml *xml, struct target *target) {
    struct table *table = mem_alloc(sizeof(*table));
    table->later.arena = word->ooxml->arena;
    for (size_t i = 0; i <= MAX_COLUMNS; i++)
        table->owner[i] = -1;
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:tr")) {
            if (table->row >= FLOW_TABLE_ROWS)
                end_table(word, table, target);
            read_row(word, xml, table);
        } else if (is_left_out(xml)) {
            xml_skip(xml);
        }
    }
    end_table(word, table, target);
    flow_splice(target->flow, &table->later);
    flow_table_fini(&table->cells);
    mem_free(table);
}

/* ---- the document -------------------------------------------------------------------------- */

static void read_blocks(struct word *word, struct xml *xml, struct target *target) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "w:p")) {
            read_paragraph(word, xml, target);
        } else if (xml_at(xml, "w:tbl")) {
            read_table(word, xml, target);
        } else if (xml_at(xml, "w:sectPr")) {
            read_section(word, xml);
        } else if (xml_at(xml, "m:oMathPara")) {
            struct flow_text text = {0};
            ooxml_math(xml, &text);
            if (text.buf.len > 0)
                flow_add(target->flow, DOC_FORMULA, 0, text.buf.data);
            flow_text_fini(&text);
        } else if (is_left_out(xml)) {
            xml_skip(xml);
        }
    }
}

static void add_unused(struct notes *notes, struct flow *flow) {
    for (size_t i = 0; i < notes->n; i++) {
        if (!notes->items[i].used)
            flow_splice(flow, &notes->items[i].flow);
    }
}

bool ooxml_word(struct ooxml *ooxml, const char *part, struct error *err) {
    struct word word = {.ooxml = ooxml};
    word.headers.arena = word.footers.arena = ooxml->arena;
    struct flow body = {.arena = ooxml->arena};
    if (!ooxml_rels_read(&word.main_rels, ooxml, part, err) ||
        !word_styles_read(&word.styles, ooxml, ooxml_rel_of_type(&word.main_rels, "styles"), err) ||
        !word_lists_read(&word.lists, ooxml, ooxml_rel_of_type(&word.main_rels, "numbering"), err))
        return false;
    read_notes(&word, &word.footnotes, "footnotes", "w:footnote", DOC_FOOTNOTE, 0);
    read_notes(&word, &word.endnotes, "endnotes", "w:endnote", DOC_FOOTNOTE, 0);
    read_notes(&word, &word.comments, "comments", "w:comment", DOC_NOTE, FLOW_UNSEEN);
    word.rels = word.main_rels;

    struct xml xml;
    if (!xml_open(&xml, ooxml->zip, part, err))
        return false;
    struct target target = {.flow = &body};
    bool has_body = false;
    while (xml_next(&xml, -1)) {
        if (xml_at(&xml, "w:body")) {
            has_body = true;
            read_blocks(&word, &xml, &target);
        }
    }
    if (!xml_close(&xml, err))
        return false;
    if (word.failed) {
        *err = word.err;
        return false;
    }
    if (!has_body)
        return error_set_code(err, ERROR_INPUT, "corrupt", "%s has no body", part);
    add_unused(&word.footnotes, &body);
    add_unused(&word.endnotes, &body);
    add_unused(&word.comments, &body);
    flow_splice(ooxml->flow, &word.headers);
    flow_splice(ooxml->flow, &body);
    flow_splice(ooxml->flow, &word.footers);
    return true;
}
