#include "tests.h"

#include <math.h>
#include <string.h>

static const struct doc_box NEAR = {0.1f, 0.1f, 0.2f, 0.2f}, FAR = {0.5f, 0.6f, 0.9f, 0.7f};

static void test_text_words_and_boxes(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pdf");
    doc_add_page(builder, 595, 842, 0);
    doc_add_page(builder, 595, 842, DOC_PAGE_OCR);
    doc_page_set_flags(builder, 1, DOC_PAGE_PICTURE);
    put_element(builder, DOC_TITLE, 0, 0, "Lease");
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    doc_put(builder, " ", "Three", 5, 0, &NEAR);
    doc_put(builder, " ", "ware", 4, 0, &FAR);
    doc_put(builder, "", "house", 5, 1, &NEAR); /* broken over the page */
    doc_put(builder, " ", "unplaced", 8, DOC_NO_PAGE, NULL);
    doc_end(builder);
    struct document *doc = finish(builder);

    assert_null(document_fault(doc));
    assert_string_equal(doc->text, "Lease\nThree warehouse unplaced");
    assert_int_equal(doc->n_elements, 2);
    assert_int_equal(doc->n_words, 3);
    assert_int_equal(doc->words[1].off, 12);
    assert_int_equal(doc->words[1].off + doc->words[1].len, doc->words[2].off);
    assert_int_equal(doc->words[2].page_i, 1);
    assert_int_equal(doc->pages[1].flags, DOC_PAGE_OCR | DOC_PAGE_PICTURE);
    const struct doc_element *element = &doc->elements[1];
    assert_int_equal(element->page_i, 0);
    /* The box holds the words on the first page only. */
    assert_true(element->box.x0 == NEAR.x0 && element->box.y0 == NEAR.y0 &&
                element->box.x1 == FAR.x1 && element->box.y1 == FAR.y1);
    assert_int_equal(doc->elements[0].page_i, DOC_NO_PAGE);
    doc_free(doc);
}

static void test_bad_input_is_cleaned(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pdf");
    doc_add_page(builder, NAN, -5, 0xffff);
    struct doc_box wild = {1.5f, -1, 0.25f, 7}, lost = {NAN, 0, 1, 1};
    doc_begin(builder, DOC_PARAGRAPH, 0, 0xff);
    doc_put(builder, "",
            "a\xff"
            "b\0c",
            5, 0, &wild);
    doc_put(builder, " ", "nan", 3, 0, &lost);
    doc_end(builder);
    doc_set_meta(builder, "title", "  Two\n lines \xc3 ");
    doc_set_meta(builder, "warning", "page 1 damaged");
    doc_set_meta(builder, "warning", "page 7 damaged");
    struct buf longer = {0};
    for (int i = 0; i < 999; i++)
        buf_putc(&longer, 'x');
    buf_puts(&longer, "é and on");
    doc_set_meta(builder, "author", longer.data);
    struct document *doc = finish(builder);

    assert_null(document_fault(doc));
    assert_string_equal(doc->text, "a\xef\xbf\xbd"
                                   "b\xef\xbf\xbd"
                                   "c nan");
    assert_int_equal(doc->n_words, 1);
    assert_true(doc->words[0].box.x0 == 0.25f && doc->words[0].box.x1 == 1.0f);
    assert_true(doc->words[0].box.y0 == 0.0f && doc->words[0].box.y1 == 1.0f);
    assert_true(doc->pages[0].width_pt == 0 && doc->pages[0].height_pt == 0);
    assert_string_equal(doc->title, "Two lines \xef\xbf\xbd");
    assert_string_equal(doc->warning, "page 1 damaged; page 7 damaged");
    assert_int_equal(strlen(doc->author), 999);
    buf_fini(&longer);
    doc_free(doc);
}

static void test_empty_elements_are_dropped(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("html");
    doc_add_page(builder, 100, 100, 0);
    put_element(builder, DOC_PARAGRAPH, 0, 0, "");
    put_element(builder, DOC_PARAGRAPH, 0, 0, " \n");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "one");
    doc_begin(builder, DOC_TABLE, 0, 0);
    doc_cell(builder, 0, 0, 1, 1, true);
    doc_cell(builder, 0, 1, 1, 1, true);
    doc_end(builder);
    doc_begin(builder, DOC_PICTURE, 0, 0);
    doc_put(builder, "", "", 0, 0, &FAR);
    doc_end(builder);
    put_element(builder, DOC_PARAGRAPH, 0, 0, "two");
    struct document *doc = finish(builder);
    assert_null(document_fault(doc));
    assert_string_equal(doc->text, "one\n\ntwo");
    assert_int_equal(doc->n_elements, 3);
    assert_int_equal(doc->elements[1].kind, DOC_PICTURE);
    assert_int_equal(doc->elements[1].page_i, 0);
    assert_true(doc->elements[1].box.x1 == FAR.x1);
    assert_int_equal(doc->n_cells, 0);
    doc_free(doc);
}

static void put_cell(struct doc_builder *builder, int row, int col, const char *text) {
    doc_cell(builder, row, col, 1, 1, row == 0);
    doc_put(builder, "", text, strlen(text), DOC_NO_PAGE, NULL);
}

static void test_tables(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("xlsx");
    doc_begin(builder, DOC_TABLE, 0, 0);
    put_cell(builder, 0, 0, "Region");
    put_cell(builder, 0, 1, "Revenue");
    put_cell(builder, 1, 0, "Asia");
    doc_put(builder, "\n", "and\tmore", 8, DOC_NO_PAGE, NULL);
    put_cell(builder, 1, 1, "");
    put_cell(builder, 0, 0, "late");          /* behind: moved to the next column */
    put_cell(builder, 70000, 3, "far below"); /* past 16 bits: another element */
    put_cell(builder, 70001, 0, "last");
    doc_end(builder);
    struct document *doc = finish(builder);
    assert_null(document_fault(doc));
    assert_string_equal(doc->text, "Region\tRevenue\nAsia and more\t\tlate\nfar below\nlast");
    assert_int_equal(doc->n_elements, 2);
    assert_int_equal(doc->elements[0].n_cells, 5);
    assert_int_equal(doc->cells[4].row, 1);
    assert_int_equal(doc->cells[4].col, 2);
    assert_int_equal(doc->cells[5].row, 0);
    assert_int_equal(doc->cells[5].col, 3);
    assert_int_equal(doc->cells[6].row, 1);
    assert_true(doc->cells[0].header && !doc->cells[2].header);
    doc_free(doc);
}

static void test_long_words_are_several(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("txt");
    doc_add_page(builder, 100, 100, 0);
    struct buf word = {0};
    for (int i = 0; i < 4000; i++)
        buf_puts(&word, "é");
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    doc_put(builder, "", word.data, word.len, 0, &NEAR);
    doc_end(builder);
    struct document *doc = finish(builder);
    assert_null(document_fault(doc));
    assert_int_equal(doc->n_words, 4);
    buf_fini(&word);
    doc_free(doc);
}

static void test_limits(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pdf");
    for (int i = 0; i < DOC_MAX_PAGES; i++)
        doc_add_page(builder, 1, 1, 0);
    put_element(builder, DOC_PARAGRAPH, 0, 0, "fits");
    doc_add_page(builder, 1, 1, 0);
    put_element(builder, DOC_PARAGRAPH, 0, 0, "ignored");
    struct document *doc = NULL;
    struct error err = {0};
    assert_false(doc_finish(&doc, builder, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_non_null(strstr(err.text, "100000 pages"));

    /* Text: 256 MiB, in pieces of 1 MiB. */
    builder = doc_builder_new("txt");
    char *piece = mem_alloc(1u << 20);
    memset(piece, 'x', 1u << 20);
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    for (int i = 0; i < 257; i++)
        doc_put(builder, " ", piece, 1u << 20, DOC_NO_PAGE, NULL);
    doc_end(builder);
    mem_free(piece);
    assert_false(doc_finish(&doc, builder, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);

    builder = doc_builder_new("pdf");
    for (uint32_t i = 0; i < DOC_MAX_OUTLINE + 5; i++)
        doc_add_outline(builder, "x", 0, 7);
    doc = finish(builder);
    assert_int_equal(doc->n_outline, DOC_MAX_OUTLINE);
    assert_int_equal(doc->outline[0].page_i, DOC_NO_PAGE);
    doc_free(doc);
    doc_free(NULL);
    doc_builder_free(NULL);
}

static void test_random_documents_are_sound(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct document *doc = document_random(seed, seed % 2);
        const char *fault = document_fault(doc);
        if (fault)
            fail_msg("seed %d: %s", (int)seed, fault);
        doc_free(doc);
    }
}

int run_builder_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_words_and_boxes),
        cmocka_unit_test(test_bad_input_is_cleaned),
        cmocka_unit_test(test_empty_elements_are_dropped),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_long_words_are_several),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_random_documents_are_sound),
    };
    return cmocka_run_group_tests_name("builder", tests, NULL, NULL);
}
