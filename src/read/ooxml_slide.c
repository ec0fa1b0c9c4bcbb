/* A presentation's slides as a flow, in the order they are shown.
 *
 * page_hint is the slide's place among those shown: LibreOffice leaves hidden slides out of the
 * PDF, so their items have none and are marked unseen, as notes and comments are. */
#include "read/ooxml.h"

#include <string.h>

struct deck {
    struct ooxml *ooxml;
    struct ooxml_rels rels; /* of the part being read */
    int page_hint;
    uint8_t unseen; /* FLOW_UNSEEN on hidden slides */
    bool notes;     /* reading a slide's notes: only the body's text counts */
    struct error err;
    bool failed;
};

/* What a shape says of itself before its text. */
struct shape {
    bool placeholder, title, center_title, furniture, body, no_bullets;
    const char *description; /* of a picture or drawing; arena's */
};

static void fail(struct deck *deck, const struct error *err) {
    if (!deck->failed)
        deck->err = *err;
    deck->failed = true;
}

static void add(struct deck *deck, enum doc_element_kind kind, int level, const char *text,
                uint8_t flags) {
    struct flow_item *item = flow_add(deck->ooxml->flow, kind, level, text);
    if (item == NULL)
        return;
    item->flags = flags | deck->unseen;
    item->page_hint = deck->page_hint;
}

static void read_placeholder(struct xml *xml, struct shape *shape) {
    const char *type = xml_attr(xml, "type");
    shape->placeholder = true;
    if (type == NULL || strcmp(type, "body") == 0 || strcmp(type, "obj") == 0)
        shape->body = true;
    else if (strcmp(type, "title") == 0)
        shape->title = true;
    else if (strcmp(type, "ctrTitle") == 0)
        shape->title = shape->center_title = true;
    else if (strcmp(type, "dt") == 0 || strcmp(type, "ftr") == 0 || strcmp(type, "sldNum") == 0 ||
             strcmp(type, "hdr") == 0)
        shape->furniture = true;
}

/* ---- text ---------------------------------------------------------------------------------- */

struct line {
    struct flow_text text;
    int level;
    bool bullet, ordered, plain; /* what the paragraph says itself */
    bool formula, has_text;
};

static void read_line_properties(struct xml *xml, struct line *line) {
    line->level = (int)xml_attr_int(xml, "lvl", 0);
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "a:buNone"))
            line->plain = true;
        else if (xml_at(xml, "a:buChar") || xml_at(xml, "a:buBlip"))
            line->bullet = true;
        else if (xml_at(xml, "a:buAutoNum"))
            line->bullet = line->ordered = true;
    }
}

static void read_line(struct xml *xml, struct line *line) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "a:pPr")) {
            read_line_properties(xml, line);
        } else if (xml_at(xml, "a:t")) {
            xml_gather(xml, &line->text);
            line->has_text = true;
        } else if (xml_at(xml, "a:br")) {
            flow_text_break(&line->text);
            xml_skip(xml);
        } else if (xml_at(xml, "m:oMath")) {
            ooxml_math(xml, &line->text);
            line->formula = true;
        } else if (xml_at(xml, "e:Fallback")) {
            xml_skip(xml);
        }
    }
}

static void add_line(struct deck *deck, const struct shape *shape, struct line *line) {
    if (line->text.buf.len == 0)
        return;
    const char *text = line->text.buf.data;
    if (deck->notes) {
        if (shape->body)
            add(deck, DOC_NOTE, 0, text, FLOW_UNSEEN);
    } else if (shape->furniture) {
        add(deck, DOC_PAGE_FOOTER, 0, text, 0);
    } else if (line->bullet || (shape->body && !line->plain && !shape->no_bullets)) {
        int level = line->level < 0 ? 1 : line->level > 8 ? 9 : line->level + 1;
        add(deck, DOC_LIST_ITEM, level, text, line->ordered ? DOC_ORDERED : 0);
    } else {
        add(deck, line->formula && !line->has_text ? DOC_FORMULA : DOC_PARAGRAPH, 0, text, 0);
    }
}

static void read_text_body(struct deck *deck, struct xml *xml, struct shape *shape) {
    int depth = xml->depth;
    struct flow_text title = {0};
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "a:lstStyle")) {
            int inside = xml->depth;
            bool first_level = false;
            while (xml_next(xml, inside)) {
                if (xml->depth == inside + 1)
                    first_level = xml_at(xml, "a:lvl1pPr");
                if (first_level && xml_at(xml, "a:buNone"))
                    shape->no_bullets = true;
            }
        } else if (xml_at(xml, "a:p")) {
            struct line line = {0};
            read_line(xml, &line);
            if (shape->title && !deck->notes) {
                flow_text_put(&title, " ", 1);
                flow_text_puts(&title, flow_text_get(&line.text));
            } else {
                add_line(deck, shape, &line);
            }
            flow_text_fini(&line.text);
        }
    }
    if (title.buf.len > 0) {
        bool first = shape->center_title && deck->page_hint == 0;
        add(deck, first ? DOC_TITLE : DOC_HEADING, first ? 0 : 1, title.buf.data, 0);
    }
    flow_text_fini(&title);
}

/* ---- tables -------------------------------------------------------------------------------- */

static void read_table(struct deck *deck, struct xml *xml) {
    struct flow_table table = {0};
    struct flow_text text = {0};
    size_t row = 0, col = 0;
    bool first_row = false;
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "a:tblPr")) {
            first_row = xml_attr_true(xml, "firstRow", false);
        } else if (xml_at(xml, "a:tr")) {
            col = 0;
            row++;
        } else if (xml_at(xml, "a:tc") && row > 0) {
            long col_span = xml_attr_int(xml, "gridSpan", 1);
            long row_span = xml_attr_int(xml, "rowSpan", 1);
            bool covered = xml_attr_true(xml, "hMerge", false) ||
                           xml_attr_true(xml, "vMerge", false);
            flow_text_clear(&text);
            ooxml_drawing_text(xml, &text);
            if (!covered)
                flow_table_add(&table, deck->ooxml->flow, row - 1, col,
                               row_span < 1 ? 1 : (size_t)row_span,
                               col_span < 1 ? 1 : (size_t)col_span, first_row && row == 1,
                               flow_text_get(&text), text.buf.len);
            col++;
        }
    }
    struct flow_item *item = flow_add_table(deck->ooxml->flow, &table);
    if (item != NULL) {
        item->flags = deck->unseen;
        item->page_hint = deck->page_hint;
    }
    flow_table_fini(&table);
    flow_text_fini(&text);
}

/* ---- shapes -------------------------------------------------------------------------------- */

static void read_description(struct deck *deck, struct xml *xml, struct shape *shape) {
    const char *text = xml_attr(xml, "descr");
    if (text == NULL || text[0] == '\0')
        text = xml_attr(xml, "title");
    if (text != NULL && text[0] != '\0')
        shape->description = arena_strdup(deck->ooxml->arena, text);
}

/* A chart's or diagram's words: seen on the page, told as a picture's text. */
static void read_foreign(struct deck *deck, const char *part, bool chart) {
    struct flow_text text = {0};
    struct error err;
    if (part != NULL && !(chart ? ooxml_chart_text(&text, deck->ooxml, part, &err)
                                : ooxml_diagram_text(&text, deck->ooxml, part, &err)))
        fail(deck, &err);
    if (text.buf.len > 0)
        add(deck, DOC_PICTURE, 0, text.buf.data, 0);
    flow_text_fini(&text);
}

/* p:sp, p:pic, p:graphicFrame. Groups are walked through. */
static void read_shape(struct deck *deck, struct xml *xml) {
    struct shape shape = {0};
    bool picture = xml_at(xml, "p:pic");
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "p:cNvPr"))
            read_description(deck, xml, &shape);
        else if (xml_at(xml, "p:ph"))
            read_placeholder(xml, &shape);
        else if (xml_at(xml, "p:txBody"))
            read_text_body(deck, xml, &shape);
        else if (xml_at(xml, "a:tbl"))
            read_table(deck, xml);
        else if (xml_at(xml, "c:chart"))
            read_foreign(deck, ooxml_rel_target(&deck->rels, xml_attr(xml, "r:id")), true);
        else if (xml_at(xml, "g:relIds"))
            read_foreign(deck, ooxml_rel_target(&deck->rels, xml_attr(xml, "r:dm")), false);
        else if (xml_at(xml, "e:Fallback"))
            xml_skip(xml);
    }
    if (!deck->notes && (picture || shape.description != NULL))
        add(deck, DOC_PICTURE, 0, shape.description == NULL ? "" : shape.description, FLOW_UNSEEN);
}

static void read_shapes(struct deck *deck, struct xml *xml) {
    while (xml_next(xml, -1)) {
        if (xml_at(xml, "p:sp") || xml_at(xml, "p:pic") || xml_at(xml, "p:graphicFrame") ||
            xml_at(xml, "p:cxnSp"))
            read_shape(deck, xml);
        else if (xml_at(xml, "e:Fallback"))
            xml_skip(xml);
    }
}

/* ---- slides -------------------------------------------------------------------------------- */

static bool read_notes(struct deck *deck, const char *part, struct error *err) {
    if (!ooxml_zip_has(deck->ooxml->zip, part))
        return true;
    struct xml xml;
    if (!xml_open(&xml, deck->ooxml->zip, part, err))
        return false;
    deck->notes = true;
    read_shapes(deck, &xml);
    deck->notes = false;
    return xml_close(&xml, err);
}

static bool read_comments(struct deck *deck, const char *part, struct error *err) {
    if (!ooxml_zip_has(deck->ooxml->zip, part))
        return true;
    struct xml xml;
    if (!xml_open(&xml, deck->ooxml->zip, part, err))
        return false;
    struct flow_text text = {0};
    while (xml_next(&xml, -1)) {
        if (!xml_at(&xml, "p:text"))
            continue;
        flow_text_clear(&text);
        xml_gather(&xml, &text);
        if (text.buf.len > 0)
            add(deck, DOC_NOTE, 0, text.buf.data, FLOW_UNSEEN);
    }
    flow_text_fini(&text);
    return xml_close(&xml, err);
}

static bool read_slide(struct deck *deck, const char *part, int *n_shown, struct error *err) {
    struct xml xml;
    if (!ooxml_zip_has(deck->ooxml->zip, part))
        return true;
    if (!ooxml_rels_read(&deck->rels, deck->ooxml, part, err) ||
        !xml_open(&xml, deck->ooxml->zip, part, err))
        return false;
    bool shown = true;
    if (xml_next(&xml, -1) && xml_at(&xml, "p:sld"))
        shown = xml_attr_true(&xml, "show", true);
    deck->unseen = shown ? 0 : FLOW_UNSEEN;
    deck->page_hint = shown ? (*n_shown)++ : -1;
    read_shapes(deck, &xml);
    if (!xml_close(&xml, err))
        return false;
    if (deck->failed) {
        *err = deck->err;
        return false;
    }
    const char *notes = ooxml_rel_of_type(&deck->rels, "notesSlide");
    const char *comments = ooxml_rel_of_type(&deck->rels, "comments");
    return (notes == NULL || read_notes(deck, notes, err)) &&
           (comments == NULL || read_comments(deck, comments, err));
}

/* The same footer on every slide is furniture from its second time on. */
static void mark_repeated(struct flow *flow) {
    enum { MAX_KNOWN = 64 };
    const char *known[MAX_KNOWN];
    size_t n = 0;
    for (size_t i = 0; i < flow->n_items; i++) {
        struct flow_item *item = &flow->items[i];
        if (item->kind != DOC_PAGE_FOOTER)
            continue;
        size_t k = 0;
        while (k < n && strcmp(known[k], item->text) != 0)
            k++;
        if (k < n)
            item->flags |= DOC_REPEATED;
        else if (n < MAX_KNOWN)
            known[n++] = item->text;
    }
}

bool ooxml_slides(struct ooxml *ooxml, const char *part, struct error *err) {
    struct ooxml_rels rels;
    struct xml xml;
    if (!ooxml_rels_read(&rels, ooxml, part, err) || !xml_open(&xml, ooxml->zip, part, err))
        return false;
    struct deck deck = {.ooxml = ooxml};
    int n_shown = 0;
    bool ok = true;
    while (ok && xml_next(&xml, -1)) {
        if (!xml_at(&xml, "p:sldId"))
            continue;
        const char *slide = ooxml_rel_target(&rels, xml_attr(&xml, "r:id"));
        if (slide != NULL)
            ok = read_slide(&deck, slide, &n_shown, err);
    }
    mark_repeated(ooxml->flow);
    return xml_close(&xml, ok ? err : NULL) && ok;
}
