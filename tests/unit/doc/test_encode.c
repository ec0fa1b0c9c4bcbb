#include "tests.h"

#include <string.h>

static struct document *decode(const struct buf *bytes) {
    struct document *doc = NULL;
    struct error err = {0};
    if (!doc_decode(&doc, bytes->data, bytes->len, &err))
        fail_msg("%s", err.text);
    return doc;
}

static void assert_same(const struct document *a, const struct document *b) {
    assert_int_equal(a->text_len, b->text_len);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->n_pages, b->n_pages);
    assert_int_equal(a->n_elements, b->n_elements);
    assert_int_equal(a->n_words, b->n_words);
    assert_int_equal(a->n_cells, b->n_cells);
    assert_int_equal(a->n_outline, b->n_outline);
    for (uint32_t i = 0; i < a->n_pages; i++)
        assert_memory_equal(&a->pages[i], &b->pages[i], sizeof a->pages[i]);
    for (uint32_t i = 0; i < a->n_elements; i++) {
        const struct doc_element *x = &a->elements[i], *y = &b->elements[i];
        assert_true(x->kind == y->kind && x->level == y->level && x->flags == y->flags);
        assert_true(x->page_i == y->page_i && x->off == y->off && x->len == y->len);
        assert_memory_equal(&x->box, &y->box, sizeof x->box);
        assert_true(x->first_word == y->first_word && x->n_words == y->n_words);
        assert_true(x->first_cell == y->first_cell && x->n_cells == y->n_cells);
    }
    for (uint32_t i = 0; i < a->n_words; i++)
        assert_memory_equal(&a->words[i], &b->words[i], sizeof a->words[i]);
    for (uint32_t i = 0; i < a->n_cells; i++) {
        const struct doc_cell *x = &a->cells[i], *y = &b->cells[i];
        assert_true(x->row == y->row && x->col == y->col && x->row_span == y->row_span &&
                    x->col_span == y->col_span && x->header == y->header && x->off == y->off &&
                    x->len == y->len);
    }
    for (uint32_t i = 0; i < a->n_outline; i++) {
        assert_string_equal(a->outline[i].title, b->outline[i].title);
        assert_int_equal(a->outline[i].level, b->outline[i].level);
        assert_int_equal(a->outline[i].page_i, b->outline[i].page_i);
    }
    assert_string_equal(a->format, b->format);
    assert_string_equal(a->title, b->title);
    assert_string_equal(a->author, b->author);
    assert_string_equal(a->created, b->created);
    assert_string_equal(a->warning, b->warning);
    assert_int_equal(a->slides, b->slides);
}

static void test_decode_gives_what_was_encoded(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct document *doc = document_random(seed, seed % 2);
        struct buf bytes = {0}, again = {0};
        doc_encode(&bytes, doc);
        struct document *decoded = decode(&bytes);
        assert_same(doc, decoded);
        assert_null(document_fault(decoded));
        doc_encode(&again, decoded);
        assert_int_equal(bytes.len, again.len);
        assert_memory_equal(bytes.data, again.data, bytes.len);
        doc_free(decoded);
        doc_free(doc);
        buf_fini(&bytes);
        buf_fini(&again);
    }
}

static void test_an_empty_document(void **state) {
    (void)state;
    struct document *doc = finish(doc_builder_new("pdf"));
    struct buf bytes = {0};
    doc_encode(&bytes, doc);
    struct document *decoded = decode(&bytes);
    assert_same(doc, decoded);
    assert_string_equal(decoded->text, "");
    doc_free(doc);
    doc_free(decoded);
    buf_fini(&bytes);
}

/* A block of exactly the right size, so that the sanitizer sees one byte read past its end. */
static bool try_decode(const char *data, size_t len) {
    char *exact = mem_alloc(len ? len : 1);
    memcpy(exact, data, len);
    struct document *doc = NULL;
    struct error err = {0};
    bool ok = doc_decode(&doc, exact, len, &err);
    mem_free(exact);
    if (ok) {
        const char *fault = document_fault(doc);
        if (fault)
            fail_msg("accepted with a bad %s", fault);
        doc_free(doc);
    } else {
        assert_true(err.kind == ERROR_LIMIT || strcmp(err.code, "parser_protocol") == 0);
        assert_true(err.text[0] != 0);
    }
    return ok;
}

static void test_every_truncation_fails(void **state) {
    (void)state;
    for (uint64_t seed = 2; seed < 6; seed++) {
        struct document *doc = document_random(seed, false);
        struct buf bytes = {0};
        doc_encode(&bytes, doc);
        size_t step = bytes.len / 3000 + 1;
        for (size_t len = 0; len < bytes.len; len += step)
            assert_false(try_decode(bytes.data, len));
        buf_putc(&bytes, 0);
        assert_false(try_decode(bytes.data, bytes.len));
        doc_free(doc);
        buf_fini(&bytes);
    }
}

static void test_every_flipped_byte_is_safe(void **state) {
    (void)state;
    uint32_t accepted = 0, refused = 0;
    for (uint64_t seed = 10; seed < 16; seed++) {
        struct document *doc = document_random(seed, false);
        struct buf bytes = {0};
        doc_encode(&bytes, doc);
        struct dice dice = {seed};
        size_t step = bytes.len / 2000 + 1;
        for (size_t i = 0; i < bytes.len; i += i < 64 ? 1 : step) {
            char kept = bytes.data[i];
            const char values[] = {(char)(kept ^ 1), (char)(kept ^ 0x80), 0, (char)0xff,
                                   (char)dice_below(&dice, 256)};
            for (size_t k = 0; k < sizeof values; k++) {
                bytes.data[i] = values[k];
                if (try_decode(bytes.data, bytes.len))
                    accepted++;
                else
                    refused++;
            }
            bytes.data[i] = kept;
        }
        doc_free(doc);
        buf_fini(&bytes);
    }
    /* Flips in the text are mostly another text; flips in the records mostly nonsense. */
    assert_true(accepted > 1000 && refused > 1000);
}

static void test_lying_counts_allocate_nothing(void **state) {
    (void)state;
    uint8_t header[32] = {'D', 'O', 'C', '1'};
    struct document *doc = NULL;
    struct error err;
    for (int field = 4; field < 28; field += 4) {
        memset(header + 4, 0, 28);
        header[field + 2] = 1; /* 65,536 of them, in no bytes */
        assert_false(doc_decode(&doc, header, sizeof header, &err));
        assert_string_equal(err.code, "parser_protocol");
        memset(header + field, 0xff, 4);
        assert_false(doc_decode(&doc, header, sizeof header, &err));
        assert_int_equal(err.kind, ERROR_LIMIT);
    }
    assert_false(doc_decode(&doc, NULL, 0, &err));
}

static void test_places(void **state) {
    (void)state;
    const struct doc_word words[] = {
        {0, 5, 3, {0.0f, 0.25f, 0.5f, 1.0f}},
        {6, 65535, 99999, {0.123f, 0.456f, 0.789f, 0.999f}},
    };
    struct buf bytes = {0};
    struct arena *arena = arena_new(0);
    struct doc_word *out;
    uint32_t n;
    struct error err;
    doc_places_encode(&bytes, words, 2);
    assert_int_equal(bytes.len, 4 + 2 * 18);
    assert_true(doc_places_decode(&out, &n, arena, bytes.data, bytes.len, &err));
    assert_int_equal(n, 2);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(out[i].off, words[i].off);
        assert_int_equal(out[i].len, words[i].len);
        assert_int_equal(out[i].page_i, words[i].page_i);
        assert_float_equal(out[i].box.x0, words[i].box.x0, 1e-5);
        assert_float_equal(out[i].box.y0, words[i].box.y0, 1e-5);
        assert_float_equal(out[i].box.x1, words[i].box.x1, 1e-5);
        assert_float_equal(out[i].box.y1, words[i].box.y1, 1e-5);
    }
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(doc_places_decode(&out, &n, arena, bytes.data, len, &err));
    bytes.data[0] = 3; /* one more than there are */
    assert_false(doc_places_decode(&out, &n, arena, bytes.data, bytes.len, &err));
    bytes.data[0] = 2;
    bytes.data[22] = 4; /* the second begins inside the first */
    assert_false(doc_places_decode(&out, &n, arena, bytes.data, bytes.len, &err));
    buf_clear(&bytes);
    doc_places_encode(&bytes, NULL, 0);
    assert_true(doc_places_decode(&out, &n, arena, bytes.data, bytes.len, &err));
    assert_int_equal(n, 0);
    buf_fini(&bytes);
    arena_free(arena);
}

int run_encode_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_gives_what_was_encoded),
        cmocka_unit_test(test_an_empty_document),
        cmocka_unit_test(test_every_truncation_fails),
        cmocka_unit_test(test_every_flipped_byte_is_safe),
        cmocka_unit_test(test_lying_counts_allocate_nothing),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests_name("encode", tests, NULL, NULL);
}
