/* The corpus: no word is lost on any page, and what single files must give. */
#include "tests.h"

#include <stdlib.h>

static const char *const pdfs[] = {"pdf/2305.03393v1-pg9.pdf",    "pdf/GeoTopo-komprimiert.pdf",
                                   "pdf/amt_handbook_sample.pdf", "pdf/annotated_pdf.pdf",
                                   "pdf/code_and_formula.pdf",    "pdf/google-doc-document.pdf",
                                   "pdf/grayscale-image.pdf",     "pdf/habibi.pdf",
                                   "pdf/libre-office-link.pdf",   "pdf/libreoffice-form.pdf",
                                   "pdf/multi_page.pdf",          "pdf/multicolumn.pdf",
                                   "pdf/normal_4pages.pdf",       "pdf/pdflatex-image.pdf",
                                   "pdf/pdflatex-outline.pdf",    "pdf/redp5110_sampled.pdf",
                                   "pdf/right_to_left_01.pdf",    "pdf/with-attachment.pdf"};

static int by_place(const void *a, const void *b) {
    return memcmp(a, b, sizeof(float) * 5);
}

/* Every raw word is one word of the document, but for the markers of list items. */
static void expect_every_word(struct fixture *f) {
    size_t n_items = 0, n_missing = 0, at = 0;
    struct place {
        float page, x0, y0, x1, y1;
    } *want = mem_try(f->raw.n_words + 1, sizeof(*want), SIZE_MAX),
      *got = mem_try(f->doc->n_words + 1u, sizeof(*got), SIZE_MAX);
    for (size_t i = 0; i < f->raw.n_words; i++) {
        struct doc_box box = f->raw.words[i].box;
        want[i] = (struct place){(float)f->raw.words[i].page_i, box.x0, box.y0, box.x1, box.y1};
    }
    for (uint32_t i = 0; i < f->doc->n_words; i++) {
        struct doc_box box = f->doc->words[i].box;
        got[i] = (struct place){(float)f->doc->words[i].page_i, box.x0, box.y0, box.x1, box.y1};
    }
    qsort(want, f->raw.n_words, sizeof(*want), by_place);
    qsort(got, f->doc->n_words, sizeof(*got), by_place);
    for (size_t i = 0; i < f->raw.n_words; i++) {
        if (at < f->doc->n_words && by_place(&want[i], &got[at]) == 0)
            at++;
        else
            n_missing++;
    }
    for (uint32_t i = 0; i < f->doc->n_elements; i++)
        n_items += f->doc->elements[i].kind == DOC_LIST_ITEM;
    if (at < f->doc->n_words)
        fail_msg("page %.0f: a word at %.9g,%.9g,%.9g,%.9g is none of the raw words",
                 got[at].page + 1, got[at].x0, got[at].y0, got[at].x1, got[at].y1);
    assert_int_equal(n_missing, n_items);
    mem_free(want);
    mem_free(got);
}

static void no_word_is_lost(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(pdfs); i++) {
        struct fixture f;
        size_t size;
        char *data = corpus_file(pdfs[i], &size);
        if (!data)
            skip();
        fixture_read(&f, data, size, "application/pdf");
        if (!f.ok)
            fail_msg("%s: %s", pdfs[i], f.err.text);
        assert_int_equal(f.n_pictures, f.doc->n_pages);
        assert_true(f.n_progress >= f.doc->n_pages);
        expect_every_word(&f);
        fixture_fini(&f);
        mem_free(data);
    }
}

static void read_corpus(struct fixture *f, const char *name) {
    size_t size;
    char *data = corpus_file(name, &size);
    if (!data)
        skip();
    const char *type = text_has_suffix(name, ".jpg") ? "image/jpeg" : "application/pdf";
    fixture_read(f, data, size, type);
    mem_free(data);
}

static void expect_text(struct fixture *f, const char *text) {
    if (!f->ok)
        fail_msg("%s", f->err.text);
    if (!strstr(fixture_show(f), text))
        fail_msg("no \"%s\" in:\n%s", text, fixture_show(f));
}

static void single_files(void **state) {
    struct fixture f;
    (void)state;
    read_corpus(&f, "pdf/libreoffice-writer-password.pdf");
    assert_false(f.ok);
    assert_string_equal(f.err.code, "password_required");
    fixture_fini(&f);
    read_corpus(&f, "pdf/right_to_left_01.pdf");
    expect_text(&f, "heading1 تحسين الإنتاجية وحل المشكلات من خلال البرمجة بلغة R و Python\n");
    fixture_fini(&f);
    read_corpus(&f, "pdf/annotated_pdf.pdf");
    expect_text(&f, "note Highlight comment\n");
    fixture_fini(&f);
    read_corpus(&f, "pdf/libreoffice-form.pdf");
    expect_text(&f, "title Example for a Form\n");
    fixture_fini(&f);
    read_corpus(&f, "pdf/pdflatex-outline.pdf");
    assert_true(f.doc->n_outline == 9);
    fixture_fini(&f);
    read_corpus(&f, "pdf/amt_handbook_sample.pdf");
    expect_text(&f, "caption Figure 7-26. Self-locking nuts.\n");
    expect_text(&f, "The wing type that is the most common ranges in size");
    fixture_fini(&f);
}

static void ocr(void **state) {
    static const char *const files[] = {"ocr/ocr_test.pdf", "ocr/ocr_test_rotated_90.pdf"};
    (void)state;
    if (ocr_describe()[0] == '\0') {
        printf("skipped: no Tesseract data for English\n");
        skip();
    }
    for (size_t i = 0; i < BASE_COUNT(files); i++) {
        struct fixture f;
        read_corpus(&f, files[i]);
        expect_text(&f,
                    "Docling bundles PDF document conversion to JSON and Markdown in an easy self "
                    "contained package");
        assert_true(f.doc->pages[0].flags & DOC_PAGE_OCR);
        const struct doc_box *box = &f.doc->words[1].box;
        bool tall = (box->y1 - box->y0) * f.doc->pages[0].height_pt >
                    (box->x1 - box->x0) * f.doc->pages[0].width_pt;
        assert_int_equal(tall, i == 1);
        expect_every_word(&f);
        fixture_fini(&f);
    }
    struct fixture f;
    read_corpus(&f, "ocr/qr_bill_example.jpg");
    expect_text(&f, "Robert Schneider AG");
    fixture_fini(&f);
    read_corpus(&f, "ocr/sample_with_rotation_mismatch.pdf");
    expect_text(&f, "Permit me to introduce you to the facility of facsimile transmission.");
    fixture_fini(&f);
}

/* Noise is not text, and a page that takes too long is given up. */
static void ocr_refuses(void **state) {
    const int width = 1200, height = 900;
    uint8_t *grey = mem_try((size_t)width * (size_t)height, 1, SIZE_MAX);
    struct arena *arena = arena_new(0);
    struct ocr_result found;
    uint32_t random = 1;
    (void)state;
    if (ocr_describe()[0] == '\0')
        skip();
    for (int i = 0; i < width * height; i++) {
        random = random * 1664525 + 1013904223;
        grey[i] = random >> 31 ? 255 : 0;
    }
    struct ocr_request request = {
        .grey = grey, .width = width, .height = height, .dpi = 300, .timeout_ms = 20000};
    enum ocr_outcome outcome = ocr_read(&found, arena, &request);
    assert_true(outcome == OCR_TIMEOUT || found.n_words == 0);
    arena_free(arena);
    mem_free(grey);
}

const struct CMUnitTest corpus_tests[] = {
    cmocka_unit_test(no_word_is_lost),
    cmocka_unit_test(single_files),
    cmocka_unit_test(ocr),
    cmocka_unit_test(ocr_refuses),
};
const size_t n_corpus_tests = BASE_COUNT(corpus_tests);
