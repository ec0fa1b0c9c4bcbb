/* The Markdown writer, read back by md4c, and the JSON of a page. */
#include "tests.h"

#include <md4c.h>
#include <stdlib.h>
#include <string.h>

/* ---- Markdown read back: one line a block, "label|text", '\n' in the text as '/' --------------
 */

struct reading {
    struct buf out, text;
    MD_BLOCKTYPE stack[64];
    int depth, lists, ordered[32];
    unsigned heading;
    bool code, strange; /* strange: raw HTML, entities, emphasis, links: never ours */
};

static const char *label(struct reading *reading, char out[16]) {
    MD_BLOCKTYPE top = reading->depth > 0 ? reading->stack[reading->depth - 1] : MD_BLOCK_DOC;
    bool quoted = false, listed = reading->lists > 0;
    for (int i = 0; i < reading->depth; i++)
        quoted = quoted || reading->stack[i] == MD_BLOCK_QUOTE;
    if (top == MD_BLOCK_H)
        snprintf(out, 16, "h%u", reading->heading);
    else if (top == MD_BLOCK_CODE)
        snprintf(out, 16, "code");
    else if (top == MD_BLOCK_TH || top == MD_BLOCK_TD)
        snprintf(out, 16, "cell");
    else if (listed)
        snprintf(out, 16, "%s%d", reading->ordered[reading->lists] ? "ol" : "ul", reading->lists);
    else
        snprintf(out, 16, "%s", quoted ? "note" : "p");
    return out;
}

static void flush(struct reading *reading, bool also_empty) {
    char name[16];
    if (reading->text.len == 0 && !also_empty)
        return;
    buf_printf(&reading->out, "%s|", label(reading, name));
    for (size_t i = 0; i < reading->text.len; i++)
        buf_putc(&reading->out, reading->text.data[i] == '\n' ? '/' : reading->text.data[i]);
    buf_putc(&reading->out, '\n');
    buf_clear(&reading->text);
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
    struct reading *reading = ctx;
    flush(reading, false);
    assert_true(reading->depth < 64);
    reading->stack[reading->depth++] = type;
    if (type == MD_BLOCK_H)
        reading->heading = ((MD_BLOCK_H_DETAIL *)detail)->level;
    if (type == MD_BLOCK_UL || type == MD_BLOCK_OL)
        reading->ordered[++reading->lists] = type == MD_BLOCK_OL;
    reading->code = type == MD_BLOCK_CODE;
    reading->strange = reading->strange || type == MD_BLOCK_HTML || type == MD_BLOCK_HR;
    return 0;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
    struct reading *reading = ctx;
    (void)detail;
    flush(reading, type == MD_BLOCK_TH || type == MD_BLOCK_TD);
    reading->depth--;
    if (type == MD_BLOCK_UL || type == MD_BLOCK_OL)
        reading->lists--;
    return 0;
}

static int enter_span(MD_SPANTYPE type, void *detail, void *ctx) {
    struct reading *reading = ctx;
    (void)detail;
    if (type == MD_SPAN_IMG)
        buf_puts(&reading->text, "IMG:");
    else
        reading->strange = true;
    return 0;
}

static int leave_span(MD_SPANTYPE type, void *detail, void *ctx) {
    (void)type, (void)detail, (void)ctx;
    return 0;
}

static int read_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *ctx) {
    struct reading *reading = ctx;
    if (type == MD_TEXT_SOFTBR)
        buf_putc(&reading->text, '\n');
    else
        buf_append(&reading->text, text, size);
    reading->strange = reading->strange ||
                       (type != MD_TEXT_SOFTBR && type != MD_TEXT_NORMAL && !reading->code);
    return 0;
}

static void read_back(struct buf *out, const char *markdown, size_t len) {
    struct reading reading = {0};
    const MD_PARSER parser = {
        .flags = MD_DIALECT_COMMONMARK | MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS,
        .enter_block = enter_block,
        .leave_block = leave_block,
        .enter_span = enter_span,
        .leave_span = leave_span,
        .text = read_text,
    };
    assert_int_equal(md_parse(markdown, (MD_SIZE)len, &parser, &reading), 0);
    if (reading.strange)
        fail_msg("markup in the text of:\n%.*s", (int)len, markdown);
    *out = reading.out;
    buf_fini(&reading.text);
}

static void assert_markdown(const struct document *doc, const char *expected) {
    struct buf out = {0};
    doc_write_markdown(&out, doc);
    assert_string_equal(out.data, expected);
    buf_fini(&out);
}

static void put_cell(struct doc_builder *builder, int row, int col, int row_span, int col_span,
                     const char *text) {
    doc_cell(builder, row, col, row_span, col_span, row == 0);
    doc_put(builder, "", text, strlen(text), DOC_NO_PAGE, NULL);
}

static void test_every_kind(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("docx");
    put_element(builder, DOC_TITLE, 0, 0, "Lease #");
    put_element(builder, DOC_PAGE_HEADER, 0, 0, "Nordlicht");
    put_element(builder, DOC_HEADING, 1, 0, "1. Term\nand notice");
    put_element(builder, DOC_PAGE_HEADER, 0, DOC_REPEATED, "Nordlicht");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "snake_case and *stars*\n\n  1. no list\n- nor here");
    put_element(builder, DOC_LIST_ITEM, 1, DOC_ORDERED, "one");
    put_element(builder, DOC_LIST_ITEM, 2, 0, "under\none");
    put_element(builder, DOC_LIST_ITEM, 4, 0, "deep");
    put_element(builder, DOC_LIST_ITEM, 1, DOC_ORDERED, "two");
    put_element(builder, DOC_CODE, 0, 0, "a ```` b\n  <c>\n");
    put_element(builder, DOC_NOTE, 0, 0, "say\nthis");
    doc_begin(builder, DOC_PICTURE, 0, 0);
    doc_end(builder);
    put_element(builder, DOC_PICTURE, 0, 0, "a [chart]");
    doc_begin(builder, DOC_TABLE, 0, 0);
    put_cell(builder, 0, 0, 1, 2, "both | wide");
    put_cell(builder, 0, 2, 2, 1, "tall");
    put_cell(builder, 1, 0, 1, 1, "a");
    put_cell(builder, 2, 2, 1, 1, "c");
    doc_end(builder);
    struct document *doc = finish(builder);
    assert_markdown(doc, "# Lease \\#\n"
                         "\n"
                         "Nordlicht\n"
                         "\n"
                         "## 1\\. Term and notice\n"
                         "\n"
                         "snake_case and \\*stars\\*\n"
                         "1\\. no list\n"
                         "\\- nor here\n"
                         "\n"
                         "1. one\n"
                         "   - under\n"
                         "     one\n"
                         "     - deep\n"
                         "2. two\n"
                         "\n"
                         "`````\n"
                         "a ```` b\n"
                         "  <c>\n"
                         "`````\n"
                         "\n"
                         "> say\n"
                         "> this\n"
                         "\n"
                         "![a \\[chart\\]]()\n"
                         "\n"
                         "| both \\| wide |  | tall |\n"
                         "| --- | --- | --- |\n"
                         "| a |\n"
                         "|  |  | c |\n");
    struct buf out = {0}, read = {0};
    doc_write_markdown(&out, doc);
    read_back(&read, out.data, out.len);
    assert_string_equal(read.data, "h1|Lease #\n"
                                   "p|Nordlicht\n"
                                   "h2|1. Term and notice\n"
                                   "p|snake_case and *stars*/1. no list/- nor here\n"
                                   "ol1|one\n"
                                   "ul2|under/one\n"
                                   "ul3|deep\n"
                                   "ol1|two\n"
                                   "code|a ```` b/  <c>/\n"
                                   "note|say/this\n"
                                   "p|IMG:a [chart]\n"
                                   "cell|both | wide\ncell|\ncell|tall\n"
                                   "cell|a\ncell|\ncell|\n"
                                   "cell|\ncell|\ncell|c\n");
    buf_fini(&out);
    buf_fini(&read);
    doc_free(doc);
}

/* ---- any text reads back as itself ------------------------------------------------------------
 */

static void text_random(struct buf *out, struct dice *dice) {
    static const char *const pieces[] = {
        "\\", "`",  "*",  "_",      "[",          "]",  "(",   ")",     "<b>",   "<!--",  ">",
        "#",  "-",  "+",  "=",      ".",          "!",  "|",   "&amp;", "&#35;", "~",     ":",
        "1",  "9",  "a",  "B",      "é",          "漢", " ",   " ",     " ",     "\n",    "\t",
        "--", "==", "**", "[a]: b", "http://x.y", "$$", "{x}", "~~~",   "```",   "a@b.c", "[ ] ",
    };
    for (uint32_t n = 1 + dice_below(dice, 12); n > 0; n--)
        buf_puts(out, pieces[dice_below(dice, BASE_COUNT(pieces))]);
}

/* What the text is once the white space that Markdown cannot say is gone. */
static void text_plain(struct buf *out, const char *text, char joint) {
    size_t start = out->len;
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n"), from = 0, to = len;
        while (from < to && (line[from] == ' ' || line[from] == '\t'))
            from++;
        while (to > from && (line[to - 1] == ' ' || line[to - 1] == '\t'))
            to--;
        if (to > from && out->len > start)
            buf_putc(out, joint);
        for (size_t i = from; i < to; i++)
            buf_putc(out, line[i] == '\t' ? ' ' : line[i]);
        line += len + (line[len] == '\n');
    }
}

static void test_any_text_reads_back(void **state) {
    (void)state;
    static const enum doc_element_kind kinds[] = {DOC_PARAGRAPH, DOC_HEADING, DOC_LIST_ITEM,
                                                  DOC_NOTE, DOC_TABLE};
    struct dice dice = {7};
    for (int round = 0; round < 10000; round++) {
        struct doc_builder *builder = doc_builder_new("txt");
        struct buf expected = {0}, out = {0}, read = {0};
        for (int i = 0; i < 3; i++) {
            enum doc_element_kind kind = kinds[dice_below(&dice, BASE_COUNT(kinds))];
            struct buf text = {0}, plain = {0};
            text_random(&text, &dice);
            for (size_t k = 0; kind == DOC_TABLE && k < text.len; k++)
                text.data[k] = text.data[k] == '\n' ? ' ' : text.data[k];
            bool flat = kind == DOC_HEADING || kind == DOC_TABLE;
            text_plain(&plain, text.data, flat ? ' ' : '/');
            if (plain.len > 0) {
                static const char *const labels[DOC_N_ELEMENT_KINDS] = {[DOC_PARAGRAPH] = "p",
                                                                        [DOC_HEADING] = "h2",
                                                                        [DOC_LIST_ITEM] = "ul1",
                                                                        [DOC_NOTE] = "note",
                                                                        [DOC_TABLE] = "cell"};
                put_element(builder, kind, kind == DOC_HEADING ? 2 : 1, 0, text.data);
                buf_printf(&expected, "%s|%s\n", labels[kind], plain.data);
            }
            buf_fini(&text);
            buf_fini(&plain);
        }
        struct document *doc = finish(builder);
        doc_write_markdown(&out, doc);
        if (out.len > 0) {
            read_back(&read, out.data, out.len);
            if (strcmp(read.data, expected.data) != 0)
                fail_msg("round %d:\n%s\nreads as\n%s\nnot\n%s", round, out.data, read.data,
                         expected.data);
        }
        doc_free(doc);
        buf_fini(&expected);
        buf_fini(&out);
        buf_fini(&read);
    }
}

static void test_hostile_tables_stay_small(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("xlsx");
    doc_begin(builder, DOC_TABLE, 0, 0);
    for (int i = 0; i < 20000; i++)
        put_cell(builder, i, i, 1, 1, "x");
    doc_end(builder);
    struct document *doc = finish(builder);
    struct buf out = {0};
    doc_write_markdown(&out, doc);
    assert_true(!out.failed && out.len < 200000);
    buf_fini(&out);
    doc_free(doc);
}

static void test_random_documents_are_written(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct document *doc = document_random(seed, seed % 2);
        struct buf out = {0};
        doc_write_markdown(&out, doc);
        assert_true(!out.failed && (out.len == 0 || utf8_valid(out.data, out.len)));
        buf_fini(&out);
        uint32_t n_words = 0;
        for (uint32_t i = 0; i < doc->n_pages; i++) {
            json_t *page = doc_page_json(doc, i), *element;
            size_t k;
            assert_non_null(page);
            json_array_foreach(json_object_get(page, "elements"), k, element) {
                assert_int_equal(json_array_size(json_object_get(element, "box")), 4);
                n_words += (uint32_t)json_array_size(json_object_get(element, "words"));
            }
            json_decref(page);
        }
        assert_int_equal(n_words, doc->n_words); /* every word on exactly one page */
        doc_free(doc);
    }
}

static void test_page_json(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pdf");
    doc_add_page(builder, 595, 842, DOC_PAGE_OCR);
    doc_add_page(builder, 300, 400.5f, 0);
    struct doc_box a = {0.1f, 0.2f, 0.3f, 0.25f}, b = {0.4f, 0.2f, 0.5f, 0.26f};
    doc_begin(builder, DOC_HEADING, 2, 0);
    doc_put(builder, "", "Notice", 6, 0, &a);
    doc_put(builder, " ", "period", 6, 0, &b);
    doc_put(builder, " ", "on", 2, 1, &a);
    doc_end(builder);
    doc_begin(builder, DOC_TABLE, 0, 0);
    doc_cell(builder, 0, 0, 1, 2, true);
    doc_put(builder, "", "Region", 6, 1, &b);
    doc_end(builder);
    struct document *doc = finish(builder);
    json_t *page = doc_page_json(doc, 0);
    char *text = json_dumps(page, JSON_COMPACT | JSON_REAL_PRECISION(6) | JSON_SORT_KEYS);
    assert_string_equal(
        text, "{\"broken\":false,\"elements\":[{\"box\":[0.1,0.2,0.5,0.26],\"kind\":\"heading\","
              "\"level\":2,\"text\":\"Notice period\",\"words\":[{\"box\":[0.1,0.2,0.3,0.25],"
              "\"text\":\"Notice\"},{\"box\":[0.4,0.2,0.5,0.26],\"text\":\"period\"}]}],"
              "\"height\":842.0,\"ocr\":true,\"page\":1,\"width\":595.0}");
    free(text);
    json_decref(page);
    page = doc_page_json(doc, 1);
    json_t *elements = json_object_get(page, "elements");
    assert_int_equal(json_array_size(elements), 2);
    json_t *heading = json_array_get(elements, 0);
    assert_string_equal(json_string_value(json_object_get(heading, "text")), "on");
    json_t *cell = json_array_get(json_object_get(json_array_get(elements, 1), "cells"), 0);
    assert_string_equal(json_string_value(json_object_get(cell, "text")), "Region");
    assert_int_equal(json_integer_value(json_object_get(cell, "col_span")), 2);
    assert_true(json_is_true(json_object_get(cell, "header")));
    json_decref(page);
    doc_free(doc);
}

int run_writer_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_any_text_reads_back),
        cmocka_unit_test(test_hostile_tables_stay_small),
        cmocka_unit_test(test_random_documents_are_written),
        cmocka_unit_test(test_page_json),
    };
    return cmocka_run_group_tests_name("writers", tests, NULL, NULL);
}
