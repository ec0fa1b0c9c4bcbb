/* The parent's judgement of frames: what a good child sends passes, each lie is caught. */
#include "tests.h"

#include "read/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xe0, 1, 2};

struct seen {
    int n_pictures, n_progress;
    uint32_t done, n_pages;
    bool refuse;
};
static bool on_picture(void *ctx, uint32_t page_i, const void *data, size_t len, const void *thumb,
                       size_t thumb_len, struct error *err) {
    struct seen *seen = ctx;
    (void)page_i;
    seen->n_pictures++;
    assert_memory_equal(data, jpeg, len);
    assert_memory_equal(thumb, jpeg, thumb_len);
    return seen->refuse ? error_set_code(err, ERROR_IO, "disk_full", "no room") : true;
}
static void on_progress(void *ctx, uint32_t done, uint32_t n_pages) {
    struct seen *seen = ctx;
    seen->n_progress++;
    seen->done = done;
    seen->n_pages = n_pages;
}

static void put32(struct buf *out, uint32_t value) {
    for (int i = 0; i < 4; i++)
        buf_putc(out, (char)(value >> 8 * i));
}
static void put_picture(struct buf *out, uint32_t page_i, uint32_t jpeg_len) {
    buf_clear(out);
    put32(out, page_i);
    put32(out, jpeg_len);
    buf_append(out, jpeg, sizeof jpeg);
    buf_append(out, jpeg, 4);
}
static void put_document(struct buf *out, int n_pages, bool picture) {
    struct doc_builder *builder = doc_builder_new("pdf");
    struct error err;
    struct document *doc;
    for (int i = 0; i < n_pages; i++)
        doc_add_page(builder, 100, 100, picture ? DOC_PAGE_PICTURE : 0);
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    doc_put(builder, "", "word", 4, n_pages ? 0 : DOC_NO_PAGE, NULL);
    doc_end(builder);
    assert_true(doc_finish(&doc, builder, &err));
    buf_clear(out);
    doc_encode(out, doc);
    doc_free(doc);
}

struct fixture {
    struct seen seen;
    struct read_sink sink;
    struct wire_reading reading;
    struct buf payload;
    struct error err;
};
static void begin(struct fixture *f) {
    memset(f, 0, sizeof *f);
    f->sink = (struct read_sink){.ctx = &f->seen, .picture = on_picture, .progress = on_progress};
    wire_reading_init(&f->reading, &f->sink, 10);
}
static void end(struct fixture *f) {
    wire_reading_fini(&f->reading);
    buf_fini(&f->payload);
}
static enum wire_step take(struct fixture *f, uint32_t type) {
    return wire_take(&f->reading, type, (const uint8_t *)f->payload.data, f->payload.len, &f->err);
}
static void expect_lie(struct fixture *f, uint32_t type) {
    assert_int_equal(take(f, type), WIRE_LIES);
    assert_string_equal(f->err.code, "parser_protocol");
    assert_int_equal(f->err.kind, ERROR_INTERNAL);
}

static void test_good_reading(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    put32(&f.payload, 1);
    put32(&f.payload, 2);
    assert_int_equal(take(&f, WIRE_PROGRESS), WIRE_GOES_ON);
    assert_true(f.seen.done == 1 && f.seen.n_pages == 2);
    put_picture(&f.payload, 1, sizeof jpeg);
    assert_int_equal(take(&f, WIRE_PICTURE), WIRE_GOES_ON);
    put_picture(&f.payload, 0, sizeof jpeg);
    assert_int_equal(take(&f, WIRE_PICTURE), WIRE_GOES_ON);
    assert_int_equal(f.seen.n_pictures, 2);
    buf_clear(&f.payload);
    wire_put_format(&f.payload, FORMAT_PPTX);
    assert_int_equal(take(&f, WIRE_NEED_PDF), WIRE_NEEDS_PDF);
    assert_int_equal(f.reading.needs, FORMAT_PPTX);
    put_document(&f.payload, 2, true);
    assert_int_equal(take(&f, WIRE_DOCUMENT), WIRE_DONE);
    assert_int_equal(f.reading.doc->n_pages, 2);
    end(&f);
}

static void test_lies(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    put32(&f.payload, 1); /* short */
    expect_lie(&f, WIRE_PROGRESS);
    put32(&f.payload, UINT32_MAX); /* pages past the maximum */
    expect_lie(&f, WIRE_PROGRESS);
    buf_clear(&f.payload);
    put32(&f.payload, 3);
    put32(&f.payload, 2); /* more done than there are */
    expect_lie(&f, WIRE_PROGRESS);
    put_picture(&f.payload, 10, sizeof jpeg); /* page past the maximum */
    expect_lie(&f, WIRE_PICTURE);
    put_picture(&f.payload, 0, 100); /* longer than the frame */
    expect_lie(&f, WIRE_PICTURE);
    put_picture(&f.payload, 0, UINT32_MAX);
    expect_lie(&f, WIRE_PICTURE);
    put_picture(&f.payload, 0, sizeof jpeg + 2); /* the thumbnail begins amid itself */
    expect_lie(&f, WIRE_PICTURE);
    put_picture(&f.payload, 0, sizeof jpeg);
    f.payload.data[8] = 'G'; /* no JPEG */
    expect_lie(&f, WIRE_PICTURE);
    f.payload.len = 6;
    expect_lie(&f, WIRE_PICTURE);
    put_picture(&f.payload, 3, sizeof jpeg);
    assert_int_equal(take(&f, WIRE_PICTURE), WIRE_GOES_ON);
    expect_lie(&f, WIRE_PICTURE);       /* twice */
    put_document(&f.payload, 2, false); /* page 4 had a picture: there is no page 4 */
    expect_lie(&f, WIRE_DOCUMENT);
    put_document(&f.payload, 11, false); /* past the maximum */
    expect_lie(&f, WIRE_DOCUMENT);
    put_document(&f.payload, 5, true); /* pictures that never came */
    expect_lie(&f, WIRE_DOCUMENT);
    f.payload.len--;
    expect_lie(&f, WIRE_DOCUMENT);
    buf_clear(&f.payload);
    expect_lie(&f, WIRE_DOCUMENT);
    expect_lie(&f, WIRE_NEED_PDF);
    put32(&f.payload, FORMAT_N);
    expect_lie(&f, WIRE_NEED_PDF);
    expect_lie(&f, WIRE_READY); /* out of place */
    expect_lie(&f, WIRE_CONVERTED);
    expect_lie(&f, WIRE_READ);
    expect_lie(&f, 12345);
    buf_clear(&f.payload);
    wire_put_format(&f.payload, FORMAT_DOCX);
    assert_int_equal(take(&f, WIRE_NEED_PDF), WIRE_NEEDS_PDF);
    expect_lie(&f, WIRE_NEED_PDF); /* twice */
    assert_int_equal(f.seen.n_pictures, 1);
    end(&f);
}

static void test_endless(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    put32(&f.payload, 0);
    put32(&f.payload, 1);
    enum wire_step step = WIRE_GOES_ON;
    for (int i = 0; i < 2000000 && step == WIRE_GOES_ON; i++)
        step = take(&f, WIRE_PROGRESS);
    assert_int_equal(step, WIRE_LIES);
    end(&f);
}

static void test_sink_stops(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    f.seen.refuse = true;
    put_picture(&f.payload, 1, sizeof jpeg);
    assert_int_equal(take(&f, WIRE_PICTURE), WIRE_STOPPED);
    assert_string_equal(f.err.code, "disk_full");
    end(&f);
}

static void failed_round(enum error_kind kind, const char *code, const char *text,
                         enum error_kind kind_back, const char *code_back) {
    struct fixture f;
    begin(&f);
    struct error failure = {.kind = kind};
    strcpy(failure.code, code);
    strcpy(failure.text, text);
    wire_put_failed(&f.payload, &failure);
    assert_int_equal(take(&f, WIRE_FAILED), WIRE_REFUSED);
    assert_int_equal(f.err.kind, kind_back);
    assert_string_equal(f.err.code, code_back);
    end(&f);
}

static void test_failures(void **state) {
    (void)state;
    failed_round(ERROR_INPUT, "password_required", "x", ERROR_INPUT, "password_required");
    failed_round(ERROR_INTERNAL, "timeout", "x", ERROR_LIMIT, "timeout"); /* the code decides */
    failed_round(ERROR_INPUT, "invalid", "x", ERROR_INPUT, "corrupt");
    failed_round(ERROR_IO, "storage_error", "x", ERROR_INTERNAL, "parser_crash");
    failed_round(ERROR_LIMIT, "limit", "x", ERROR_LIMIT, "limit");

    struct fixture f;
    begin(&f);
    struct error failure = {.kind = ERROR_INPUT, .code = "corrupt", .text = "a\nb\x1b[2J\xff"};
    wire_put_failed(&f.payload, &failure);
    assert_int_equal(take(&f, WIRE_FAILED), WIRE_REFUSED);
    assert_null(strpbrk(f.err.text, "\n\x1b"));
    assert_true(utf8_valid(f.err.text, strlen(f.err.text)));
    f.payload.data[3] = 'X'; /* a code that is none */
    expect_lie(&f, WIRE_FAILED);
    f.payload.len = 2;
    expect_lie(&f, WIRE_FAILED);
    end(&f);
}

static void test_round_trips(void **state) {
    (void)state;
    struct buf out = {0};
    struct wire_request request = {FORMAT_ODP, 150, 5000, "na\xff\nme.odp"}, back;
    wire_put_request(&out, &request);
    assert_true(wire_get_request(&back, out.data, out.len));
    assert_int_equal(back.format, FORMAT_ODP);
    assert_int_equal(back.render_dpi, 150);
    assert_int_equal(back.max_pages, 5000);
    assert_string_equal(back.filename, request.filename); /* byte-exact */
    mem_free((void *)back.filename);
    for (size_t len = 0; len < out.len; len++)
        assert_false(wire_get_request(&back, out.data, len));

    buf_clear(&out);
    wire_put_pdf(&out, true, "why");
    bool there;
    char *warning;
    assert_true(wire_get_pdf(&there, &warning, out.data, out.len));
    assert_true(there);
    assert_string_equal(warning, "why");
    mem_free(warning);

    buf_clear(&out);
    struct wire_ready ready = {"seccomp", "", "1.21.1", "Tesseract"}, ready_back;
    wire_put_ready(&out, &ready);
    assert_true(wire_get_ready(&ready_back, out.data, out.len));
    assert_string_equal(ready_back.ocr, "Tesseract");
    assert_false(wire_get_ready(&ready_back, out.data, out.len - 1));
    buf_fini(&out);
}

int run_wire_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_reading), cmocka_unit_test(test_lies),
        cmocka_unit_test(test_endless),      cmocka_unit_test(test_sink_stops),
        cmocka_unit_test(test_failures),     cmocka_unit_test(test_round_trips),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
