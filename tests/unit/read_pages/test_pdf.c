/* PDF: words and where they stand, and files that are wrong in every way. */
#include "tests.h"

#include <zlib.h>

static void read_made(struct fixture *f, struct made_pdf *pdf) {
    fixture_read(f, pdf->out.data, pdf->out.len, "application/pdf");
    buf_fini(&pdf->out);
}

static void expect_failure(struct made_pdf *pdf, enum error_kind kind, const char *code) {
    struct fixture f;
    read_made(&f, pdf);
    assert_false(f.ok);
    assert_int_equal(f.err.kind, kind);
    assert_string_equal(f.err.code, code);
    fixture_fini(&f);
}

static void words_have_places(void **state) {
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_page(&pdf, 600, 800,
              "BT /F1 20 Tf 60 700 Td (Hello big world) Tj ET "
              "BT /F2 10 Tf 60 400 Td (code) Tj ET "
              "BT /F1 20 Tf 60 -300 Td (outside) Tj ET");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_int_equal(f.raw.n_words, 4);
    const struct raw_word *hello = &f.raw.words[0], *code = &f.raw.words[3];
    assert_string_equal(hello->text, "Hello");
    assert_float_equal(hello->box.x0, 60.0 / 600, 0.005);
    /* The baseline is 100 from the top: the word begins above it and ends just below. */
    assert_true(hello->box.y0 < 0.112 && hello->box.y0 > 0.09);
    assert_true(hello->box.y1 > 0.125 && hello->box.y1 < 0.14);
    assert_float_equal(hello->size_pt, 20, 0.01);
    assert_int_equal(hello->style, 0);
    assert_int_equal(hello->line, f.raw.words[2].line);
    assert_string_equal(code->text, "code");
    assert_int_equal(code->style, RAW_BOLD | RAW_MONO);
    assert_true(code->line != hello->line);
    assert_int_equal(f.n_pictures, 1);
    assert_int_equal(f.pictures[0].width, 1250);
    assert_int_equal(f.pictures[0].height, 1667);
    assert_int_equal(f.pictures[0].thumb_width, 320);
    assert_int_equal(f.pictures[0].thumb_height, 427);
    assert_int_equal(f.doc->pages[0].flags, DOC_PAGE_PICTURE);
    assert_string_equal(f.doc->warning, "");
    fixture_fini(&f);
}

static void metadata_and_outline(void **state) {
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R/Outlines 4 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[3 0 R]/Count 1>>");
    made_object(&pdf, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>");
    made_object(&pdf, "<</Type/Outlines/First 5 0 R/Last 5 0 R>>");
    made_object(&pdf, "<</Title(Part)/Parent 4 0 R/Dest[3 0 R/Fit]/First 6 0 R/Last 6 0 R>>");
    made_object(&pdf, "<</Title(Chapter)/Parent 5 0 R/Dest[3 0 R/Fit]>>");
    made_object(&pdf, "<</Title(The title)/Author(A. Nother)"
                      "/CreationDate(D:20190315120000+01'30')>>");
    made_end(&pdf, "/Info 7 0 R");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_string_equal(f.doc->title, "The title");
    assert_string_equal(f.doc->author, "A. Nother");
    assert_string_equal(f.doc->created, "2019-03-15T12:00:00+01:30");
    assert_int_equal(f.doc->n_outline, 2);
    assert_string_equal(f.doc->outline[1].title, "Chapter");
    assert_int_equal(f.doc->outline[1].level, 2);
    assert_int_equal(f.doc->outline[1].page_i, 0);
    fixture_fini(&f);
}

static void comments_are_notes(void **state) {
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[3 0 R]/Count 1>>");
    made_object(&pdf, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Annots[4 0 R 5 0 R]>>");
    made_object(&pdf, "<</Type/Annot/Subtype/Text/Rect[60 700 80 720]/Contents(Please check)>>");
    made_object(&pdf, "<</Type/Annot/Subtype/Highlight/Rect[60 600 80 620]/Contents(Wrong)>>");
    made_end(&pdf, "");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_string_equal(fixture_show(&f), "note Please check\nnote Wrong\n");
    fixture_fini(&f);
}

static void lies_about_pages(void **state) {
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[3 0 R]/Count 2000000000>>");
    made_object(&pdf, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>");
    made_end(&pdf, "");
    expect_failure(&pdf, ERROR_LIMIT, "too_many_pages");

    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[]/Count 0>>");
    made_end(&pdf, "");
    expect_failure(&pdf, ERROR_INPUT, "no_pages");

    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[3 0 R]/Count 1000>>");
    made_object(&pdf, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>");
    made_end(&pdf, "");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_int_equal(f.doc->n_pages, 1000);
    assert_string_equal(f.doc->warning, "pages 2-1000 damaged");
    assert_int_equal(f.doc->pages[0].flags & DOC_PAGE_BROKEN, 0);
    assert_int_equal(f.doc->pages[999].flags, DOC_PAGE_BROKEN);
    fixture_fini(&f);
}

static void damaged_page_among_good_ones(void **state) {
    static const char text[] = "BT /F1 20 Tf 60 700 Td (good) Tj ET";
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_begin(&pdf);
    made_object(&pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(&pdf, "<</Type/Pages/Kids[5 0 R 6 0 R 7 0 R]/Count 3>>");
    made_stream(&pdf, "", text, strlen(text));
    made_stream(&pdf, "/Filter/LZWDecode/DecodeParms<</Predictor 99/Columns -5>>", "\1\2\3", 3);
    for (int i = 0; i < 3; i++)
        made_object(&pdf,
                    "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents %d 0 R/Resources"
                    "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>",
                    i == 1 ? 4 : 3);
    made_end(&pdf, "");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_int_equal(f.raw.n_words, 2);
    assert_string_equal(f.doc->warning, "page 2 damaged");
    assert_int_equal(f.doc->pages[1].flags & DOC_PAGE_BROKEN, DOC_PAGE_BROKEN);
    assert_int_equal(f.doc->pages[2].flags & DOC_PAGE_BROKEN, 0);
    fixture_fini(&f);
}

static void huge_page(void **state) {
    struct made_pdf pdf;
    struct fixture f;
    (void)state;
    made_page(&pdf, 1e9, 1e9, "BT /F1 50000000 Tf 100000000 500000000 Td (far) Tj ET");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_int_equal(f.raw.n_words, 1);
    assert_true(f.pictures[0].width <= 8192 && f.pictures[0].width > 1000);
    assert_float_equal(f.raw.words[0].box.x0, 0.1, 0.01);
    fixture_fini(&f);
    made_page(&pdf, 100000, 3, "0 0 50000 3 re f");
    read_made(&f, &pdf);
    assert_true(f.ok);
    assert_int_equal(f.pictures[0].width, 8192);
    assert_int_equal(f.pictures[0].height, 1);
    fixture_fini(&f);
}

/* data compressed n times over, one filter a time. */
static void made_bomb(struct made_pdf *pdf, const char *unit, size_t n_units, int n_times) {
    struct buf filters = {0};
    size_t len = strlen(unit) * n_units;
    unsigned char *data = mem_try(len, 1, len);
    for (size_t i = 0; i < n_units; i++)
        memcpy(data + i * strlen(unit), unit, strlen(unit));
    buf_puts(&filters, "/Filter[");
    for (int i = 0; i < n_times; i++) {
        uLongf packed_len = compressBound(len);
        unsigned char *packed = mem_try(packed_len, 1, packed_len);
        assert_int_equal(compress2(packed, &packed_len, data, len, 9), Z_OK);
        mem_free(data);
        data = packed;
        len = packed_len;
        buf_puts(&filters, "/FlateDecode");
    }
    buf_puts(&filters, "]");
    made_begin(pdf);
    made_object(pdf, "<</Type/Catalog/Pages 2 0 R>>");
    made_object(pdf, "<</Type/Pages/Kids[3 0 R]/Count 1>>");
    made_object(pdf, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>");
    made_stream(pdf, filters.data, data, len);
    made_end(pdf, "");
    buf_fini(&filters);
    mem_free(data);
}

static void bombs(void **state) {
    struct made_pdf pdf;
    (void)state;
    made_bomb(&pdf, "0 -9 m 1 -9 l S ", 20000000, 3);
    expect_failure(&pdf, ERROR_LIMIT, "timeout");
    made_bomb(&pdf, "q ", 30000000, 1);
    expect_failure(&pdf, ERROR_INTERNAL, "out_of_memory");
    /* And the next document is read as if nothing had been. */
    words_have_places(state);
}

static void no_pdf_at_all(void **state) {
    struct fixture f;
    char noise[4096];
    (void)state;
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)(i * 7919 >> 3);
    fixture_read(&f, noise, sizeof(noise), "application/pdf");
    assert_false(f.ok);
    assert_string_equal(f.err.code, "corrupt");
    fixture_fini(&f);
    fixture_read(&f, "", 0, "application/pdf");
    assert_false(f.ok);
    assert_string_equal(f.err.code, "empty_file");
    fixture_fini(&f);
}

/* Every way to cut a file short ends in a document or in one of two codes. */
static void truncated(void **state) {
    struct made_pdf pdf;
    (void)state;
    made_page(&pdf, 600, 800, "BT /F1 20 Tf 60 700 Td (Hello big world) Tj ET");
    for (size_t len = 1; len < pdf.out.len; len += 7) {
        struct fixture f;
        fixture_read(&f, pdf.out.data, len, "application/pdf");
        if (!f.ok)
            assert_true(strcmp(f.err.code, "corrupt") == 0 || strcmp(f.err.code, "no_pages") == 0);
        fixture_fini(&f);
    }
    buf_fini(&pdf.out);
}

const struct CMUnitTest pdf_tests[] = {
    cmocka_unit_test(words_have_places),
    cmocka_unit_test(metadata_and_outline),
    cmocka_unit_test(comments_are_notes),
    cmocka_unit_test(lies_about_pages),
    cmocka_unit_test(damaged_page_among_good_ones),
    cmocka_unit_test(huge_page),
    cmocka_unit_test(bombs),
    cmocka_unit_test(no_pdf_at_all),
    cmocka_unit_test(truncated),
};
const size_t n_pdf_tests = BASE_COUNT(pdf_tests);
