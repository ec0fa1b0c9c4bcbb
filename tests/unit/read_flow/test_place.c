/* A flow's words on its pages. */
#include "tests.h"

#include <stdlib.h>

struct pages {
    struct raw_word words[4096];
    struct raw_pages raw;
    uint32_t n_lines;
    struct doc_builder *builder;
};

/* A line of words at height y; every tenth of the width a word. */
static void line(struct pages *pages, uint32_t page_i, float y, const char *text) {
    float x = 0.1f;
    pages->n_lines++;
    while (pages->raw.n_pages <= page_i) {
        doc_add_page(pages->builder, 600, 800, 0);
        pages->raw.n_pages++;
    }
    pages->raw.words = pages->words;
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (len > 0) {
            pages->words[pages->raw.n_words++] = (struct raw_word){
                .text = p,
                .len = (uint32_t)len,
                .page_i = page_i,
                .line = pages->n_lines,
                .block = pages->n_lines,
                .box = {x, y, x + 0.05f, y + 0.02f},
                .size_pt = 10};
            x += 0.06f;
        }
        p += len + (p[len] == ' ');
    }
}

static struct document *place(struct pages *pages, struct flow *flow, enum read_format format) {
    struct read_task task = {
        .arena = flow->arena, .builder = pages->builder, .format = format, .filename = "x"};
    struct document *doc = NULL;
    struct error err;
    flow_place(&task, flow, &pages->raw);
    if (!doc_finish(&doc, pages->builder, &err))
        fail_msg("%s", err.text);
    pages->builder = NULL;
    return doc;
}

/* "page:text@x" of each placed word of an element. */
static char *show(struct arena *arena, const struct document *doc, uint32_t element_i) {
    const struct doc_element *element = &doc->elements[element_i];
    struct buf out = {0};
    for (uint32_t i = 0; i < element->n_words; i++) {
        const struct doc_word *word = &doc->words[element->first_word + i];
        buf_printf(&out, "%s%u:%.*s", i > 0 ? " " : "", word->page_i, (int)word->len,
                   doc->text + word->off);
    }
    char *text = arena_strndup(arena, out.len > 0 ? out.data : "", out.len);
    buf_fini(&out);
    return text;
}

static struct pages *pages_new(void) {
    struct pages *pages = calloc(1, sizeof(*pages));
    pages->builder = doc_builder_new("docx");
    return pages;
}

static const char *text_of(struct arena *arena, const struct document *doc, uint32_t element_i) {
    return arena_strndup(arena, doc->text + doc->elements[element_i].off,
                         doc->elements[element_i].len);
}

static void test_words(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct pages *pages = pages_new();
    flow_add(&flow, DOC_HEADING, 1, "Scope");
    flow_add(&flow, DOC_PARAGRAPH, 0, "An international treaty of NATIONS");
    struct flow_item *item = flow_add(&flow, DOC_LIST_ITEM, 1, "the first");
    item->flags = DOC_ORDERED;
    flow_add(&flow, DOC_FOOTNOTE, 0, "a note at the foot");
    flow_add(&flow, DOC_PARAGRAPH, 0, "after the note");
    flow_add(&flow, DOC_PICTURE, 0, "treaty")->flags = FLOW_UNSEEN;
    line(pages, 0, 0.3f, "1.1 Scope");
    line(pages, 0, 0.4f, "An inter-");
    line(pages, 0, 0.43f, "national treaty of Nations");
    line(pages, 0, 0.5f, "1. the first");
    line(pages, 0, 0.6f, "after the note");
    line(pages, 0, 0.7f, "a note at the foot");
    line(pages, 0, 0.75f, "drawn text");
    struct document *doc = place(pages, &flow, FORMAT_DOCX);
    assert_string_equal(show(arena, doc, 0), "0:1.1 0:Scope");
    assert_string_equal(show(arena, doc, 1), "0:An 0:inter 0:national 0:treaty 0:of 0:NATIONS");
    assert_string_equal(text_of(arena, doc, 1), "An international treaty of NATIONS");
    assert_string_equal(show(arena, doc, 2), "0:the 0:first");
    assert_string_equal(show(arena, doc, 3), "0:a 0:note 0:at 0:the 0:foot");
    assert_string_equal(show(arena, doc, 4), "0:after 0:the 0:note");
    assert_string_equal(show(arena, doc, 5), ""); /* a description is on no page */
    assert_non_null(strstr(doc->text, "drawn text"));
    assert_null(strstr(doc->text, "drawn text after")); /* each word once */
    assert_true(doc->elements[3].box.y0 > 0.69f && doc->elements[3].box.y1 < 0.73f);
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

static void test_furniture(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct pages *pages = pages_new();
    flow_add(&flow, DOC_PAGE_HEADER, 0, "ACME report");
    flow_add(&flow, DOC_PARAGRAPH, 0, "ACME report of the year begins here and goes on");
    flow_add(&flow, DOC_PAGE_FOOTER, 0, "Page 1 of 9");
    line(pages, 0, 0.05f, "ACME report");
    line(pages, 0, 0.2f, "ACME report of the year");
    line(pages, 0, 0.95f, "Page 1 of 2");
    line(pages, 1, 0.05f, "ACME report");
    line(pages, 1, 0.2f, "begins here and goes on");
    line(pages, 1, 0.95f, "Page 2 of 2");
    struct document *doc = place(pages, &flow, FORMAT_DOCX);
    assert_string_equal(show(arena, doc, 0), "0:ACME 0:report");
    assert_true(doc->elements[0].box.y0 < 0.1f);
    assert_string_equal(show(arena, doc, 1),
                        "0:ACME 0:report 0:of 0:the 0:year 1:begins 1:here 1:and 1:goes 1:on");
    assert_int_equal(doc->elements[2].kind, DOC_PAGE_FOOTER);
    assert_int_equal(doc->elements[2].page_i, 0);
    uint32_t n_repeated = 0;
    for (uint32_t i = 3; i < doc->n_elements; i++) {
        assert_int_equal(doc->elements[i].flags, DOC_REPEATED);
        assert_int_equal(doc->elements[i].page_i, 1);
        n_repeated++;
    }
    assert_int_equal(n_repeated, 2);
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

/* A wide sheet's columns are printed page by page, its rows read across. */
static void test_wide_sheet(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct flow_table table = {0};
    struct pages *pages = pages_new();
    char *lines[2][30];
    for (int row = 0; row < 30; row++) {
        for (int half = 0; half < 2; half++) {
            lines[half][row] = arena_printf(arena, "r%dc%da r%dc%db %d", row, half, row, half,
                                            row % 3);
            const char *text = lines[half][row];
            flow_table_add(&table, &flow, (size_t)row, (size_t)half, 1, 1, false, text,
                           strlen(text));
        }
    }
    flow_add_table(&flow, &table);
    flow_table_fini(&table);
    for (uint32_t half = 0; half < 2; half++)
        for (int row = 0; row < 30; row++)
            line(pages, half, 0.1f + 0.025f * (float)row, lines[half][row]);
    struct document *doc = place(pages, &flow, FORMAT_XLSX);
    assert_true(doc->slides);
    assert_int_equal(doc->n_elements, 1);
    assert_int_equal(doc->n_words, 180);
    for (uint32_t i = 0; i < doc->n_words; i++) {
        const char *word = doc->text + doc->words[i].off;
        if (word[0] == 'r')
            assert_int_equal(doc->words[i].page_i, strchr(word, 'c')[1] - '0');
    }
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

/* The same words on every slide: the hint keeps them apart. */
static void test_slides(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct pages *pages = pages_new();
    for (int i = 0; i < 5; i++) {
        flow_add(&flow, DOC_HEADING, 1, "Status")->page_hint = i;
        if (i != 2)
            flow_add(&flow, DOC_LIST_ITEM, 1, "all is well")->page_hint = i;
        line(pages, (uint32_t)i, 0.1f, "Status");
        if (i != 1)
            line(pages, (uint32_t)i, 0.3f, "all is well");
    }
    struct document *doc = place(pages, &flow, FORMAT_PPTX);
    assert_string_equal(show(arena, doc, 0), "0:Status");
    assert_string_equal(show(arena, doc, 3), ""); /* slide 1 does not show it */
    assert_string_equal(show(arena, doc, 4), "2:Status");
    assert_string_equal(show(arena, doc, 8), "4:all 4:is 4:well");
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

static void test_cjk(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct pages *pages = pages_new();
    flow_add(&flow, DOC_PARAGRAPH, 0, "漢字仮名交じりの文章です");
    line(pages, 0, 0.3f, "漢字仮名交じ");
    line(pages, 0, 0.35f, "りの文章です");
    struct document *doc = place(pages, &flow, FORMAT_DOCX);
    assert_string_equal(show(arena, doc, 0), "0:漢字仮名交じ 0:りの文章です");
    assert_string_equal(text_of(arena, doc, 0), "漢字仮名交じりの文章です");
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

/* No pages at all: everything is written, nothing placed. */
static void test_no_pages(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct pages *pages = pages_new();
    flow_add(&flow, DOC_CODE, 0, "  if x:\n      y");
    flow_add(&flow, DOC_PARAGRAPH, 0, "two  words");
    struct document *doc = place(pages, &flow, FORMAT_TEXT);
    assert_string_equal(doc->text, "if x:\n      y\ntwo words");
    assert_int_equal(doc->n_words, 0);
    doc_free(doc);
    arena_free(arena);
    free(pages);
}

int run_place(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),      cmocka_unit_test(test_furniture),
        cmocka_unit_test(test_wide_sheet), cmocka_unit_test(test_slides),
        cmocka_unit_test(test_cjk),        cmocka_unit_test(test_no_pages)};
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
