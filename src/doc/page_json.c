/* One page of a document as JSON, for the page that shows where words stand. */
#include "doc/internal.h"

#include <assert.h>
#include <math.h>

const char *doc_element_kind_name(enum doc_element_kind kind) {
    switch (kind) {
    case DOC_TITLE:
        return "title";
    case DOC_HEADING:
        return "heading";
    case DOC_PARAGRAPH:
        return "paragraph";
    case DOC_LIST_ITEM:
        return "list_item";
    case DOC_TABLE:
        return "table";
    case DOC_CAPTION:
        return "caption";
    case DOC_CODE:
        return "code";
    case DOC_FORMULA:
        return "formula";
    case DOC_FOOTNOTE:
        return "footnote";
    case DOC_NOTE:
        return "note";
    case DOC_PICTURE:
        return "picture";
    case DOC_PAGE_HEADER:
        return "page_header";
    case DOC_PAGE_FOOTER:
        return "page_footer";
    case DOC_N_ELEMENT_KINDS:
        break;
    }
    return "unknown";
}

/* A tenth of a pixel on a page 10,000 wide. */
static json_t *unit_json(float value) {
    return json_real(round((double)value * 1e5) / 1e5);
}

static json_t *box_json(const struct doc_box *box) {
    return json_pack("[o,o,o,o]", unit_json(box->x0), unit_json(box->y0), unit_json(box->x1),
                     unit_json(box->y1));
}

/* The part of an element that stands on one page. */
struct part {
    uint32_t off, end;             /* its text */
    uint32_t first_word, end_word; /* among them its words, and perhaps others */
    struct doc_box box;
    bool has_box;
};

static void box_add(struct part *part, const struct doc_box *box) {
    if (!part->has_box)
        part->box = *box;
    part->has_box = true;
    part->box.x0 = fminf(part->box.x0, box->x0);
    part->box.y0 = fminf(part->box.y0, box->y0);
    part->box.x1 = fmaxf(part->box.x1, box->x1);
    part->box.y1 = fmaxf(part->box.y1, box->y1);
}

/* False where the element has nothing on the page. Words are looked at only where the page is
 * between those of the first and the last one. */
static bool element_part(struct part *out, const struct document *doc,
                         const struct doc_element *element, uint32_t page_i) {
    const struct doc_word *words = doc->words + element->first_word;
    uint32_t n = element->n_words;
    bool begins = element->page_i == page_i;
    if (!begins && (n == 0 || page_i < words[0].page_i || page_i > words[n - 1].page_i))
        return false;
    uint32_t first = 0, end = n;
    while (first < n && words[first].page_i != page_i)
        first++;
    while (end > first && words[end - 1].page_i != page_i)
        end--;
    if (first == end && !begins)
        return false;
    *out = (struct part){.off = element->off,
                         .end = element->off + element->len,
                         .first_word = element->first_word + first,
                         .end_word = element->first_word + end};
    if (!begins && first > 0)
        out->off = words[first].off;
    if (first < end && end < n)
        out->end = words[end - 1].off + words[end - 1].len;
    for (uint32_t i = first; i < end; i++)
        if (words[i].page_i == page_i)
            box_add(out, &words[i].box);
    if (!out->has_box && begins)
        out->box = element->box;
    return true;
}

static json_t *words_json(const struct document *doc, const struct part *part, uint32_t page_i) {
    json_t *words = json_array();
    for (uint32_t i = part->first_word; i < part->end_word; i++) {
        const struct doc_word *word = &doc->words[i];
        if (word->page_i == page_i)
            json_array_append_new(words, json_pack("{s:s%,s:o}", "text", doc->text + word->off,
                                                   (size_t)word->len, "box", box_json(&word->box)));
    }
    return words;
}

static json_t *cells_json(const struct document *doc, const struct doc_element *element,
                          const struct part *part) {
    json_t *cells = json_array();
    for (uint32_t i = element->first_cell; i < element->first_cell + element->n_cells; i++) {
        const struct doc_cell *cell = &doc->cells[i];
        if (cell->off < part->off || cell->off > part->end)
            continue;
        json_array_append_new(cells,
                              json_pack("{s:i,s:i,s:i,s:i,s:b,s:s%}", "row", (int)cell->row, "col",
                                        (int)cell->col, "row_span", (int)cell->row_span, "col_span",
                                        (int)cell->col_span, "header", (int)cell->header, "text",
                                        doc->text + cell->off, (size_t)cell->len));
    }
    return cells;
}

static json_t *element_json(const struct document *doc, const struct doc_element *element,
                            const struct part *part, uint32_t page_i) {
    json_t *out = json_pack("{s:s,s:i,s:s%,s:o,s:o}", "kind", doc_element_kind_name(element->kind),
                            "level", (int)element->level, "text", doc->text + part->off,
                            (size_t)(part->end - part->off), "box", box_json(&part->box), "words",
                            words_json(doc, part, page_i));
    if (element->n_cells > 0)
        json_object_set_new(out, "cells", cells_json(doc, element, part));
    return out;
}

json_t *doc_page_json(const struct document *doc, uint32_t page_i) {
    assert(page_i < doc->n_pages);
    const struct doc_page *page = &doc->pages[page_i];
    json_t *elements = json_array();
    for (uint32_t i = 0; i < doc->n_elements; i++) {
        struct part part;
        if (element_part(&part, doc, &doc->elements[i], page_i))
            json_array_append_new(elements, element_json(doc, &doc->elements[i], &part, page_i));
    }
    return json_pack("{s:i,s:f,s:f,s:b,s:b,s:o}", "page", (int)page_i + 1, "width",
                     (double)page->width_pt, "height", (double)page->height_pt, "ocr",
                     (page->flags & DOC_PAGE_OCR) != 0, "broken",
                     (page->flags & DOC_PAGE_BROKEN) != 0, "elements", elements);
}
