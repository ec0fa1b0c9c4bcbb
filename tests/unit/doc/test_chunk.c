#include "tests.h"

#include <string.h>
#include <time.h>

static struct doc_chunks *chunk(const struct document *doc, int size, int overlap) {
    struct doc_chunks *chunks = NULL;
    struct error err;
    if (!doc_chunk(&chunks, doc, size, overlap, &err))
        fail_msg("%s", err.text);
    return chunks;
}

/* ---- random documents: the words counted again, independently ---------------------------------
 */

/* Every character that is not white space and not in repeated furniture, in order. */
static void solid_text(struct buf *out, const char *text, size_t len) {
    for (size_t pos = 0; pos < len;) {
        size_t from = pos;
        if (!text_is_space(utf8_next(text, len, &pos)))
            buf_append(out, text + from, pos - from);
    }
}

/* White space parts words, CJK characters are words, punctuation after one goes with it. *start is
 * where the word `which` begins (from 0), len where there is none. */
static uint32_t count_words(size_t *start, const char *text, size_t len, uint32_t which) {
    *start = len;
    uint32_t n = 0;
    size_t word_bytes = 0;
    bool cjk = false;
    for (size_t pos = 0; pos < len;) {
        size_t from = pos;
        uint32_t c = utf8_next(text, len, &pos);
        if (text_is_space(c)) {
            word_bytes = 0;
            continue;
        }
        bool starts = word_bytes == 0 || text_is_cjk(c) || (cjk && text_is_word(c)) ||
                      word_bytes + (pos - from) > DOC_MAX_WORD_BYTES;
        if (starts) {
            if (n++ == which)
                *start = from;
            word_bytes = 0;
            cjk = text_is_cjk(c);
        }
        word_bytes += pos - from;
    }
    return n;
}

static void check_words(const struct document *doc, const struct doc_chunk *item) {
    uint32_t min = 0;
    for (uint32_t i = 0; i < item->n_words_placed; i++) {
        const struct doc_word *word = &item->words[i];
        assert_true(word->len > 0 && word->off >= min && word->off + word->len <= item->text_len);
        min = word->off + word->len;
        assert_true(word->page_i >= item->first_page_i && word->page_i <= item->last_page_i);
        bool found = false; /* the same bytes with the same box stand in the document */
        for (uint32_t k = 0; k < doc->n_words && !found; k++) {
            const struct doc_word *source = &doc->words[k];
            if (source->page_i != word->page_i ||
                memcmp(&source->box, &word->box, sizeof word->box) != 0)
                continue;
            for (uint32_t at = 0; at + word->len <= source->len && !found; at++)
                found = memcmp(doc->text + source->off + at, item->text + word->off, word->len) ==
                        0;
        }
        assert_true(found);
    }
}

/* Without white space: the last n words of a chunk. */
static void last_words(struct buf *out, const struct doc_chunk *item, uint32_t n) {
    size_t start;
    count_words(&start, item->text, item->text_len, item->n_words - n);
    solid_text(out, item->text + start, item->text_len - start);
}

static void check_chunks(const struct document *doc, int size, int overlap) {
    struct doc_chunks *chunks = chunk(doc, size, overlap);
    struct buf expected = {0}, got = {0};
    for (uint32_t i = 0; i < doc->n_elements; i++)
        if (!(doc->elements[i].flags & DOC_REPEATED))
            solid_text(&expected, doc->text + doc->elements[i].off, doc->elements[i].len);
    for (uint32_t i = 0; i < chunks->n; i++) {
        const struct doc_chunk *item = &chunks->items[i];
        assert_int_equal(item->ordinal, i);
        assert_int_equal(strlen(item->text), item->text_len);
        assert_true(utf8_valid(item->text, item->text_len));
        assert_true(item->n_words >= 1 && item->n_words <= (uint32_t)size);
        assert_true(item->text_len <= (uint32_t)size * (DOC_MAX_WORD_BYTES + 64));
        size_t start;
        assert_int_equal(item->n_words, count_words(&start, item->text, item->text_len, 0));
        if (doc->slides && item->first_page_i != DOC_NO_PAGE)
            assert_int_equal(item->first_page_i, item->last_page_i);
        check_words(doc, item);
        struct buf solid = {0}, repeated = {0};
        solid_text(&solid, item->text, item->text_len);
        bool new_slide = i > 0 && doc->slides && item->first_page_i != item[-1].first_page_i;
        if (i > 0 && overlap > 0 && !new_slide)
            last_words(&repeated, item - 1, (uint32_t)overlap);
        size_t skip = repeated.len;
        assert_true(skip < solid.len);
        if (skip > 0)
            assert_memory_equal(solid.data, repeated.data, skip);
        buf_append(&got, solid.data + skip, solid.len - skip);
        buf_fini(&repeated);
        buf_fini(&solid);
    }
    assert_int_equal(expected.len, got.len);
    if (got.len > 0)
        assert_memory_equal(expected.data, got.data, got.len);
    buf_fini(&expected);
    buf_fini(&got);
    doc_chunks_free(chunks);
}

static void test_no_word_is_lost(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 0}, {2, 1}, {7, 3}, {20, 0}, {50, 10}, {250, 50}, {5, 4}};
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct document *doc = document_random(seed, seed % 3 == 0);
        const int *pair = sizes[seed % BASE_COUNT(sizes)];
        check_chunks(doc, pair[0], pair[1]);
        doc_free(doc);
    }
}

/* ---- rules one by one -------------------------------------------------------------------------
 */

static void put_words(struct doc_builder *builder, int from, int to, uint32_t page_i) {
    for (int i = from; i < to; i++) {
        char word[32];
        struct doc_box box = {0.1f, 0.1f, 0.2f, 0.2f};
        int len = snprintf(word, sizeof word, "w%d", i);
        doc_put(builder, " ", word, (size_t)len, page_i, &box);
    }
}

static void test_windows_and_overlap(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("txt");
    doc_add_page(builder, 1, 1, 0);
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    put_words(builder, 0, 25, 0);
    doc_end(builder);
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 10, 2);
    assert_int_equal(chunks->n, 3);
    assert_string_equal(chunks->items[0].text, "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9");
    assert_string_equal(chunks->items[1].text, "w8 w9 w10 w11 w12 w13 w14 w15 w16 w17");
    assert_string_equal(chunks->items[2].text, "w16 w17 w18 w19 w20 w21 w22 w23 w24");
    assert_int_equal(chunks->items[2].n_words_placed, 9);
    assert_int_equal(chunks->items[2].words[1].off, 4);
    doc_chunks_free(chunks);
    chunks = chunk(doc, 25, 5); /* fits exactly: no chunk of mere overlap after it */
    assert_int_equal(chunks->n, 1);
    doc_chunks_free(chunks);
    doc_free(doc);
}

static void test_ends_at_sentence_or_element(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("txt");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "a b c d e f g h i. j k l m n o p q r s t");
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 10, 0);
    assert_string_equal(chunks->items[0].text, "a b c d e f g h i.");
    doc_chunks_free(chunks);
    doc_free(doc);

    /* An element's end goes before a later sentence's, and a heading stays with what follows. */
    builder = doc_builder_new("txt");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "a b c d e f g h");
    put_element(builder, DOC_HEADING, 2, 0, "Head");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "i. j k l");
    doc = finish(builder);
    chunks = chunk(doc, 10, 0);
    assert_int_equal(chunks->n, 2);
    assert_string_equal(chunks->items[0].text, "a b c d e f g h");
    assert_string_equal(chunks->items[1].text, "Head\ni. j k l");
    assert_string_equal(chunks->items[0].headings[0].path, "");
    assert_string_equal(chunks->items[1].headings[0].path, "Head");
    doc_chunks_free(chunks);
    doc_free(doc);
}

/* A chunk that runs over several headings says where each begins. */
static void test_headings_inside(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("txt");
    static const struct {
        enum doc_element_kind kind;
        int level;
        const char *text;
    } elements[] = {
        {DOC_HEADING, 1, "Lease"},  {DOC_PARAGRAPH, 0, "between two"},
        {DOC_HEADING, 2, "Notice"}, {DOC_PARAGRAPH, 0, "nine months"},
        {DOC_HEADING, 1, "Annex"},  {DOC_PARAGRAPH, 0, "plans"},
    };
    for (size_t i = 0; i < BASE_COUNT(elements); i++) {
        doc_begin(builder, elements[i].kind, elements[i].level, 0);
        doc_put(builder, "", elements[i].text, strlen(elements[i].text), DOC_NO_PAGE, NULL);
        doc_end(builder);
    }
    struct document *doc;
    struct doc_chunks *chunks;
    struct error err;
    assert_true(doc_finish(&doc, builder, &err));
    assert_true(doc_chunk(&chunks, doc, 100, 0, &err));
    assert_int_equal(chunks->n, 1);
    const struct doc_chunk *chunk = &chunks->items[0];
    static const char *const paths[] = {"Lease", "Lease > Notice", "Annex"};
    static const char *const begins[] = {"Lease", "Notice", "Annex"};
    assert_int_equal(chunk->n_headings, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_string_equal(chunk->headings[i].path, paths[i]);
        assert_memory_equal(chunk->text + chunk->headings[i].off, begins[i], strlen(begins[i]));
    }
    doc_chunks_free(chunks);
    doc_free(doc);
}

static void test_heading_path(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("docx");
    put_element(builder, DOC_TITLE, 0, 0, "Annual\n  report");
    put_element(builder, DOC_HEADING, 1, 0, "Results");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "a b");
    put_element(builder, DOC_HEADING, 2, 0, "Europe");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "c d");
    put_element(builder, DOC_HEADING, 1, 0, "Outlook");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "e f");
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 1, 0);
    static const char *const paths[] = {
        "Annual report",
        "Annual report",
        "Annual report > Results",
        "Annual report > Results",
        "Annual report > Results",
        "Annual report > Results > Europe",
        "Annual report > Results > Europe",
        "Annual report > Results > Europe",
        "Annual report > Outlook",
        "Annual report > Outlook",
        "Annual report > Outlook",
    };
    assert_int_equal(chunks->n, BASE_COUNT(paths));
    for (uint32_t i = 0; i < chunks->n; i++)
        assert_string_equal(chunks->items[i].headings[0].path, paths[i]);
    doc_chunks_free(chunks);
    doc_free(doc);
}

static void test_slides_are_not_crossed(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pptx");
    for (int i = 0; i < 3; i++)
        doc_add_page(builder, 1, 1, 0);
    doc_set_slides(builder);
    for (uint32_t page_i = 0; page_i < 3; page_i++) {
        doc_begin(builder, DOC_PARAGRAPH, 0, 0);
        put_words(builder, (int)page_i * 10, (int)page_i * 10 + 4, page_i);
        doc_end(builder);
        put_element(builder, DOC_NOTE, 0, 0, "said aloud");
    }
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 250, 50);
    assert_int_equal(chunks->n, 3);
    assert_string_equal(chunks->items[1].text, "w10 w11 w12 w13\nsaid aloud");
    assert_int_equal(chunks->items[1].first_page_i, 1);
    assert_int_equal(chunks->items[1].last_page_i, 1);
    doc_chunks_free(chunks);
    doc_free(doc);
}

static void test_repeated_furniture_is_left_out(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("pdf");
    doc_add_page(builder, 1, 1, 0);
    doc_add_page(builder, 1, 1, 0);
    struct doc_box box = {0.1f, 0.1f, 0.2f, 0.2f};
    put_element(builder, DOC_PAGE_HEADER, 0, 0, "ACME");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "first");
    put_element(builder, DOC_PAGE_HEADER, 0, DOC_REPEATED, "ACME");
    doc_begin(builder, DOC_PARAGRAPH, 0, 0);
    doc_put(builder, "", "second", 6, 1, &box);
    doc_end(builder);
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 250, 50);
    assert_int_equal(chunks->n, 1);
    assert_string_equal(chunks->items[0].text, "ACME\nfirst\nsecond");
    assert_int_equal(chunks->items[0].words[0].off, 11);
    assert_int_equal(chunks->items[0].last_page_i, 1);
    doc_chunks_free(chunks);
    doc_free(doc);
}

static void test_cjk_and_giant_words(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("txt");
    put_element(builder, DOC_PARAGRAPH, 0, 0, "漢字、仮名。abc漢");
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 2, 0);
    assert_int_equal(chunks->n, 3);
    assert_string_equal(chunks->items[0].text, "漢字、");
    assert_string_equal(chunks->items[1].text, "仮名。");
    assert_string_equal(chunks->items[2].text, "abc漢");
    doc_chunks_free(chunks);
    doc_free(doc);

    struct buf giant = {0};
    while (giant.len < 10u << 20)
        buf_puts(&giant, "aé");
    builder = doc_builder_new("txt");
    put_element(builder, DOC_PARAGRAPH, 0, 0, giant.data);
    doc = finish(builder);
    chunks = chunk(doc, 250, 50);
    size_t total = 0;
    for (uint32_t i = 0; i < chunks->n; i++) {
        assert_true(chunks->items[i].text_len <= 250 * DOC_MAX_WORD_BYTES);
        assert_true(utf8_valid(chunks->items[i].text, chunks->items[i].text_len));
        total += chunks->items[i].text_len;
    }
    assert_true(total >= giant.len && total < giant.len * 13 / 10);
    doc_chunks_free(chunks);
    doc_free(doc);
    buf_fini(&giant);
}

/* Eight times the document takes about eight times as long, whatever its shape; 24 leaves room for
 * noise. */
static double chunk_time_ms(int n_words, bool one_element) {
    struct doc_builder *builder = doc_builder_new("txt");
    doc_add_page(builder, 1, 1, 0);
    for (int i = 0; i < n_words; i += one_element ? n_words : 10) {
        put_element(builder, DOC_PAGE_HEADER, 0, DOC_REPEATED, "header");
        doc_begin(builder, DOC_PARAGRAPH, 0, 0);
        put_words(builder, i, i + (one_element ? n_words : 10), 0);
        doc_end(builder);
    }
    struct document *doc = finish(builder);
    clock_t start = clock(); /* ours alone, whatever else the machine does */
    doc_chunks_free(chunk(doc, 250, 50));
    double took = 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC;
    doc_free(doc);
    return took;
}

static void test_time_is_linear(void **state) {
    (void)state;
    for (int one_element = 0; one_element < 2; one_element++) {
        double once = chunk_time_ms(50000, one_element), eight = chunk_time_ms(400000, one_element);
        assert_true(eight < 24 * (once + 10));
    }
}

static void test_nothing_to_chunk(void **state) {
    (void)state;
    struct doc_builder *builder = doc_builder_new("png");
    doc_add_page(builder, 1, 1, 0);
    doc_begin(builder, DOC_PICTURE, 0, 0);
    doc_end(builder);
    struct document *doc = finish(builder);
    struct doc_chunks *chunks = chunk(doc, 250, 50);
    assert_int_equal(chunks->n, 0);
    doc_chunks_free(chunks);
    doc_chunks_free(NULL);
    doc_free(doc);
}

int run_chunk_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_word_is_lost),
        cmocka_unit_test(test_windows_and_overlap),
        cmocka_unit_test(test_ends_at_sentence_or_element),
        cmocka_unit_test(test_heading_path),
        cmocka_unit_test(test_headings_inside),
        cmocka_unit_test(test_slides_are_not_crossed),
        cmocka_unit_test(test_repeated_furniture_is_left_out),
        cmocka_unit_test(test_cjk_and_giant_words),
        cmocka_unit_test(test_time_is_linear),
        cmocka_unit_test(test_nothing_to_chunk),
    };
    return cmocka_run_group_tests_name("chunk", tests, NULL, NULL);
}
