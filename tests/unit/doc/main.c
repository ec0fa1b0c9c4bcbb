/* Tests of doc: what they share, and the run of every group. */
#include "tests.h"

#include <math.h>
#include <string.h>

uint32_t dice_below(struct dice *dice, uint32_t n) {
    dice->state = dice->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((dice->state >> 33) % n);
}

void put_element(struct doc_builder *builder, enum doc_element_kind kind, int level, uint32_t flags,
                 const char *text) {
    doc_begin(builder, kind, level, flags);
    doc_put(builder, "", text, strlen(text), DOC_NO_PAGE, NULL);
    doc_end(builder);
}

struct document *finish(struct doc_builder *builder) {
    struct document *doc = NULL;
    struct error err;
    if (!doc_finish(&doc, builder, &err))
        fail_msg("%s", err.text);
    return doc;
}

static struct doc_box box_random(struct dice *dice) {
    float x = (float)dice_below(dice, 900) / 1000, y = (float)dice_below(dice, 900) / 1000;
    return (struct doc_box){x, y, x + (float)dice_below(dice, 100) / 1000,
                            y + (float)dice_below(dice, 100) / 1000};
}

static void word_random(struct buf *out, struct dice *dice) {
    static const char *const words[] = {
        "the",    "notice",   "Vertrag",     "Größe",    "naïve",
        "e.g.",   "end.",     "Really?",     "a|b",      "*bold*",
        "x_y",    "# no",     "1.",          "-",        "漢字仮名交じり文。",
        "日本語", "русский.", "(end.)",      "\xff\xfe", "😀",
        "한국어", "foo漢bar", "\"quoted.\"",
    };
    uint32_t pick = dice_below(dice, 40);
    if (pick == 39 && dice_below(dice, 4) == 0) {
        for (uint32_t n = dice_below(dice, 5000); n > 0; n--)
            buf_puts(out, dice_below(dice, 3) ? "x" : "é");
    } else {
        buf_puts(out, words[pick % BASE_COUNT(words)]);
    }
}

static void put_random(struct doc_builder *builder, struct dice *dice, uint32_t *page_i,
                       uint32_t n_pages, bool slides) {
    static const char *const separators[] = {" ", " ", " ", " ", "\n", "", "  ", "\xc2\xa0"};
    if (!slides && *page_i + 1 < n_pages && dice_below(dice, 60) == 0)
        ++*page_i;
    struct buf word = {0};
    struct doc_box box = box_random(dice);
    word_random(&word, dice);
    bool placed = dice_below(dice, 5) > 0;
    const char *separator = separators[dice_below(dice, BASE_COUNT(separators))];
    if (dice_below(dice, 200) == 0) { /* long white space */
        for (int i = 0; i < 100; i++)
            doc_put(builder, " ", " ", 1, DOC_NO_PAGE, NULL);
    }
    doc_put(builder, separator, word.data, word.len, placed ? *page_i : DOC_NO_PAGE,
            placed ? &box : NULL);
    buf_fini(&word);
}

static void element_random(struct doc_builder *builder, struct dice *dice, uint32_t *page_i,
                           uint32_t n_pages, bool slides) {
    enum doc_element_kind kind = (enum doc_element_kind)dice_below(dice, DOC_N_ELEMENT_KINDS);
    uint32_t flags = dice_below(dice, 2) ? DOC_ORDERED : 0;
    if (kind >= DOC_PAGE_HEADER && dice_below(dice, 2))
        flags |= DOC_REPEATED;
    doc_begin(builder, kind, (int)dice_below(dice, 8), flags);
    if (kind == DOC_TABLE) {
        uint32_t rows = 1 + dice_below(dice, 5), row = 0;
        for (uint32_t i = 0; i < rows; i++, row += 1 + dice_below(dice, 2))
            for (uint32_t col = dice_below(dice, 2); col < 4; col += 1 + dice_below(dice, 2)) {
                doc_cell(builder, (int)row, (int)col, 1 + (int)dice_below(dice, 2),
                         1 + (int)dice_below(dice, 2), row == 0);
                for (uint32_t k = dice_below(dice, 4); k > 0; k--)
                    put_random(builder, dice, page_i, n_pages, slides);
            }
    } else {
        for (uint32_t k = dice_below(dice, kind <= DOC_HEADING ? 8 : 80); k > 0; k--)
            put_random(builder, dice, page_i, n_pages, slides);
    }
    doc_end(builder);
}

struct document *document_random(uint64_t seed, bool slides) {
    struct dice dice = {seed};
    struct doc_builder *builder = doc_builder_new(slides ? "pptx" : "pdf");
    uint32_t n_pages = 1 + dice_below(&dice, 8), page_i = 0;
    for (uint32_t i = 0; i < n_pages; i++)
        doc_add_page(builder, 595, 842, dice_below(&dice, 8));
    if (slides)
        doc_set_slides(builder);
    doc_set_meta(builder, "title", "Größe \xff und Maß");
    doc_set_meta(builder, "warning", "page 3 damaged");
    for (uint32_t n = dice_below(&dice, 60); n > 0; n--) {
        if (slides && page_i + 1 < n_pages && dice_below(&dice, 5) == 0)
            page_i++;
        element_random(builder, &dice, &page_i, n_pages, slides);
    }
    for (uint32_t n = dice_below(&dice, 4); n > 0; n--)
        doc_add_outline(builder, "Kapitel", dice_below(&dice, 5), dice_below(&dice, 12));
    return finish(builder);
}

/* ---- the full check -------------------------------------------------------------------------- */

static bool box_sound(const struct doc_box *box) {
    return box->x0 >= 0 && box->x1 <= 1 && box->x0 <= box->x1 && box->y0 >= 0 && box->y1 <= 1 &&
           box->y0 <= box->y1;
}

static bool on_character(const struct document *doc, uint32_t off) {
    return off == doc->text_len || ((unsigned char)doc->text[off] & 0xc0) != 0x80;
}

static const char *table_fault(const struct document *doc, const struct doc_element *element) {
    for (uint32_t i = element->first_cell; i < element->first_cell + element->n_cells; i++) {
        const struct doc_cell *cell = &doc->cells[i];
        bool first = i == element->first_cell;
        if (cell->row_span < 1 || cell->col_span < 1 || cell->row + cell->row_span > 65536 ||
            cell->col + cell->col_span > 65536)
            return "cell span";
        uint32_t expected = first ? element->off : cell[-1].off + cell[-1].len + 1;
        if (cell->off != expected || (uint64_t)cell->off + cell->len > doc->text_len)
            return "cell range";
        if (!on_character(doc, cell->off) || !on_character(doc, cell->off + cell->len))
            return "cell cuts a character";
        if (first)
            continue;
        bool same_row = cell->row == cell[-1].row;
        if (cell->row < cell[-1].row || (same_row && cell->col <= cell[-1].col))
            return "cell order";
        if (doc->text[cell->off - 1] != (same_row ? '\t' : '\n'))
            return "cell separator";
    }
    const struct doc_cell *last = &doc->cells[element->first_cell + element->n_cells - 1];
    return last->off + last->len == element->off + element->len ? NULL : "cells do not fill";
}

static const char *element_fault(const struct document *doc, uint32_t i) {
    const struct doc_element *element = &doc->elements[i], *last = i > 0 ? element - 1 : NULL;
    if (element->kind >= DOC_N_ELEMENT_KINDS || element->flags > 3)
        return "element kind or flags";
    if (element->kind == DOC_HEADING && (element->level < 1 || element->level > 6))
        return "heading level";
    if (element->kind == DOC_LIST_ITEM && (element->level < 1 || element->level > 9))
        return "list level";
    if (element->off != (last ? last->off + last->len + 1 : 0) ||
        (uint64_t)element->off + element->len > doc->text_len)
        return "element range";
    if (last && doc->text[element->off - 1] != '\n')
        return "element separator";
    if (element->first_word != (last ? last->first_word + last->n_words : 0) ||
        element->first_cell != (last ? last->first_cell + last->n_cells : 0) ||
        (uint64_t)element->first_word + element->n_words > doc->n_words ||
        (uint64_t)element->first_cell + element->n_cells > doc->n_cells)
        return "element words or cells";
    if (element->page_i != DOC_NO_PAGE && element->page_i >= doc->n_pages)
        return "element page";
    if (!box_sound(&element->box))
        return "element box";
    if (element->len == 0 && element->kind != DOC_PICTURE)
        return "empty element";
    if ((element->n_cells > 0) != (element->kind == DOC_TABLE))
        return "cells without a table";
    for (uint32_t k = element->first_word; k < element->first_word + element->n_words; k++) {
        const struct doc_word *word = &doc->words[k];
        uint32_t min = k > element->first_word ? word[-1].off + word[-1].len : element->off;
        if (word->off < min || word->len < 1 || word->len > DOC_MAX_WORD_BYTES ||
            word->off + word->len > element->off + element->len)
            return "word range";
        if (word->page_i >= doc->n_pages || !box_sound(&word->box))
            return "word place";
        if (!on_character(doc, word->off) || !on_character(doc, word->off + word->len))
            return "word cuts a character";
    }
    return element->kind == DOC_TABLE ? table_fault(doc, element) : NULL;
}

const char *document_fault(const struct document *doc) {
    if (!doc->text || strlen(doc->text) != doc->text_len || !utf8_valid(doc->text, doc->text_len))
        return "text";
    for (uint32_t i = 0; i < doc->n_pages; i++)
        if (!isfinite(doc->pages[i].width_pt) || !isfinite(doc->pages[i].height_pt) ||
            doc->pages[i].width_pt < 0 || doc->pages[i].height_pt < 0 || doc->pages[i].flags > 7)
            return "page";
    for (uint32_t i = 0; i < doc->n_elements; i++) {
        const char *fault = element_fault(doc, i);
        if (fault)
            return fault;
    }
    const struct doc_element *last = doc->n_elements ? &doc->elements[doc->n_elements - 1] : NULL;
    if (doc->text_len != (last ? last->off + last->len : 0) ||
        doc->n_words != (last ? last->first_word + last->n_words : 0) ||
        doc->n_cells != (last ? last->first_cell + last->n_cells : 0))
        return "totals";
    for (uint32_t i = 0; i < doc->n_outline; i++)
        if (!utf8_valid(doc->outline[i].title, strlen(doc->outline[i].title)) ||
            (doc->outline[i].page_i != DOC_NO_PAGE && doc->outline[i].page_i >= doc->n_pages))
            return "outline";
    const char *const strings[] = {doc->format, doc->title, doc->author, doc->created,
                                   doc->warning};
    for (size_t i = 0; i < BASE_COUNT(strings); i++)
        if (strlen(strings[i]) > 1000 || !utf8_valid(strings[i], strlen(strings[i])))
            return "metadata";
    return NULL;
}

int main(void) {
    int failed = run_builder_tests();
    failed += run_encode_tests();
    failed += run_chunk_tests();
    failed += run_writer_tests();
    return failed != 0;
}
