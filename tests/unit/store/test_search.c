/* Full-text search: who is found, in which order, at which cost; filters; highlights. */
#include "tests.h"

#include "store/lexical.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void finds_words_phrases_prefixes(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "The boundary layer of a wing in a slipstream.");
    put_text(&f, 2, "A layer on the boundary: of the two, neither is a boundary layers' friend.");
    put_text(&f, 3, "Aerodynamics of propellers; the caf\u00e9 invoice 1,234.50 for AB-1234.");
    put_text(&f, 4,
             "\u4e2d\u6587\u5b57\u5178 \u041c\u043e\u0441\u043a\u0432\u0430 \U0001F680 "
             "\u0627\u0644\u0643\u0650\u062a\u0627\u0628");
    put_text(&f, 5, "the of and to in is");
    static const char *const cases[][2] = {
        {"wings", "1"},
        {"WING", "1"},
        {"\"boundary layer\"", "1 2"},
        {"\"layer boundary\"", ""},
        {"\"layer on the boundary\"", "2"},
        {"\u201clayer on the boundary\u201d", "2"},
        {"aerodyn*", "3"},
        {"aerodynamic*", "3"}, /* longer than the stem that is indexed */
        {"AEROdy*", "3"},
        {"CAFE", "3"},
        {"caf\u00e9", "3"},
        {"cafe\u0301", "3"},
        {"1234.50", "3"},
        {"1,234.50", "3"},
        {"1234", "3"},
        {"1234.5", ""},
        {"\"ab 1234\"", "3"},
        {"AB-1234", "3"},
        {"ab", "3"},
        {"\u6587\u5b57", "4"},
        {"\u5178", "4"},
        {"\u6587", "4"},
        {"\"\u4e2d\u6587\u5b57\"", "4"},
        {"\"\u6587\u4e2d\"", ""},
        {"\u041c\u041e\u0421\u041a\u0412\u0410", "4"},
        {"\u0627\u0644\u0643\u062a\u0627\u0628", "4"}, /* without its vowel points */
        {"\U0001F680", "4"},
        {"\U0001F681", ""},
        {"boundary -wing", "2"},
        {"boundary -\"layer of a\"", "2"},
        {"boundary -fri*", "1"},
        {"\u4e2d\u6587 -\u5b57\u5178", ""},
        {"-wing", ""},
        {"zebra", ""},
        {"zebra wing", "1"},
        {"", ""},
        {"?! -- * \"", ""},
        {"NEAR(wing, 5) AND text:wing", "1 5"},
        {"{wing} OR ^wing + \"", "1"},
        {"wi*ng", ""},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        if (strcmp(found_by(&f, cases[i][0]), cases[i][1]) != 0)
            fail_msg("%s found %s, not %s", cases[i][0], found_by(&f, cases[i][0]), cases[i][1]);
    }
    /* A question of function words alone has answers. */
    assert_string_equal(found_by(&f, "and to is"), "5 2");
    fixture_close(&f);
}

static void queries_are_taken_apart(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    static const struct {
        const char *text;
        int n_terms;
    } cases[] = {
        {"", 0},
        {"wing wings WING winged", 1}, /* one stem */
        {"wing \"wing\"", 1},
        {"\"wing of\" \"wing of\" wing", 2},
        {"aero* aero", 2},
        {"a*", 1},
        {"\"unbalanced wing", 2},
        {"\"\" wing", 1},
        {"-wing", 0},
        {"- wing", 1},
        {"--wing", 1},
        {"AB-1234", 3},
        {"1,234.50", 1},
        {"\u4e2d\u6587\u5b57", 2},
        {"\u4e2d", 1},
        {"\xff\xfe\x80", 0},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        int n = lexical_n_terms(lexical_parse(arena, cases[i].text));
        if (n != cases[i].n_terms)
            fail_msg("'%s' has %d terms, not %d", cases[i].text, n, cases[i].n_terms);
    }
    struct buf many = {0};
    for (int i = 0; i < 200; i++)
        buf_printf(&many, "w%d -x%d ", i, i);
    const struct lexical_query *query = lexical_parse(arena, many.data);
    assert_int_equal(query->n_terms + query->n_excluded, 64);
    buf_fini(&many);
    arena_free(arena);
}

static void what_is_left_out_is_told_apart(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", ""},
        {" wing  of ", " wing  of "},
        {"wing -tail", "wing"},
        {"-tail wing", "wing"},
        {"wing -tail  of -\"fixed wing\" glider ", "wing  of glider"},
        {"-tail", ""},
        {"-\"a b\" -c", ""},
        {"wing-tail - x --y -", "wing-tail - x --y -"},
        {"\"-wing\" \u201e-a b\u201c -\u201ec d\u201c e", "\"-wing\" \u201e-a b\u201c e"},
        {"-\"open wing", "wing"},
        {"\u00a0-a\u3000b", "b"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        const char *text = cases[i].text, *wanted = lexical_wanted(arena, text);
        size_t last = 0;
        assert_string_equal(wanted, cases[i].wanted);
        for (size_t at = 0; wanted[at]; at++) { /* each byte stands where it came from */
            size_t place = lexical_wanted_place(text, at);
            assert_true(place < strlen(text) && text[place] == wanted[at]);
            assert_true(at == 0 || place > last);
            last = place;
        }
    }
    assert_int_equal(lexical_wanted_place("-heron heron", 0), 7);
    assert_int_equal(lexical_wanted_place("heron -heron", 4), 4);
    assert_int_equal(lexical_wanted_place("a -b c", 9), 6);
    assert_null(lexical_excluded(arena, lexical_parse(arena, "wing \"a-b\" - c")));
    struct lexical_query *excluded = lexical_excluded(
        arena, lexical_parse(arena, "wing -tails -the -\"fixed gear\" -aero*"));
    static const struct {
        const char *text;
        int n;
    } texts[] = {{"a wing", 0}, {"one Tail", 1},    {"the tail", 2},
                 {"fixed", 0},  {"fixed gears", 1}, {"Aeroplane and aerofoil", 2}};
    for (size_t i = 0; i < BASE_COUNT(texts); i++) {
        struct text_range *ranges;
        int n;
        lexical_highlight(&ranges, &n, arena, excluded, texts[i].text, strlen(texts[i].text));
        if (n != texts[i].n)
            fail_msg("'%s' has %d, not %d", texts[i].text, n, texts[i].n);
    }
    arena_free(arena);
}

static void highlighted(struct arena *arena, const char *query, const char *text,
                        const char *expected) {
    struct text_range *ranges;
    int n;
    struct buf out = {0};
    lexical_highlight(&ranges, &n, arena, lexical_parse(arena, query), text, strlen(text));
    buf_puts(&out, "");
    for (int i = 0; i < n; i++) {
        buf_putc(&out, '[');
        buf_append(&out, text + ranges[i].start, ranges[i].end - ranges[i].start);
        buf_putc(&out, ']');
    }
    assert_string_equal(out.data, expected);
    buf_fini(&out);
}

static void highlights_are_what_was_found(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    highlighted(arena, "wing", "Wings, winged; a swing-WING.", "[Wings][winged][WING]");
    highlighted(arena, "\"boundary layer\"", "layer: boundary (layers), boundary",
                "[boundary (layers]");
    highlighted(arena, "\"a b\" b", "a b a c b", "[a b][b]");
    highlighted(arena, "\"a a\"", "a a a b a", "[a a a]");
    highlighted(arena, "aero*", "Aerodynamics, aer", "[Aerodynamics]");
    highlighted(arena, "wing -tail", "wing tail", "[wing]");
    highlighted(arena, "revenue in Asia", "revenue in all of Asia", "[revenue][Asia]");
    highlighted(arena, "to be or not to be", "what is to be is", "[to][be]");
    highlighted(arena, "\u6587\u5b57", "\u4e2d\u6587\u5b57\u5178", "[\u6587\u5b57]");
    highlighted(arena, "\u4e2d\u6587\u5b57", "\u4e2d\u6587\u5b57\u5178", "[\u4e2d\u6587\u5b57]");
    highlighted(arena, "\u6587", "\u4e2d\u6587\u5b57", "[\u6587]");
    highlighted(arena, "\"\u6587\u5b57 ab\"", "\u4e2d\u6587\u5b57 ab", "[\u6587\u5b57 ab]");
    highlighted(arena, "1234.50", "is 1,234.50.", "[1,234.50]");
    highlighted(arena, "234", "is 1,234.50.", "[234]");
    highlighted(arena, "cafe", "le caf\u00e9!", "[caf\u00e9]");
    highlighted(arena, "", "text", "");
    highlighted(arena, "text", "", "");
    arena_free(arena);
}

/* ---- order ---- */

static void better_matches_come_first(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "common filler filler filler filler filler filler filler filler filler");
    put_text(&f, 2, "common rare filler filler filler filler filler filler filler filler");
    put_text(&f, 3, "rare rare rare filler filler filler filler filler filler filler");
    put_text(&f, 4, "common rare");
    put_text(&f, 5, "common rare"); /* the same: by row */
    put_text(&f, 6, "common");
    assert_string_equal(found_by(&f, "rare"), "4 5 3 2");
    assert_string_equal(found_by(&f, "common rare"), "4 5 3 2 6 1");
    assert_string_equal(found_by(&f, "rare common"), "4 5 3 2 6 1");
    fixture_close(&f);
}

/* BM25 by the book, over a collection that every budget holds. */
static void scores_are_bm25(void **state) {
    (void)state;
    struct fixture f;
    struct lexical_hit *hits;
    int n;
    fixture_open(&f);
    put_text(&f, 1, "alpha beta beta gamma");
    put_text(&f, 2, "alpha delta");
    put_text(&f, 3, "epsilon zeta eta");
    must(lexical_search(&hits, &n, f.arena, f.store, lexical_parse(f.arena, "alpha beta"), NULL, 10,
                        &err));
    assert_int_equal(n, 2);
    double average = 9.0 / 3, k1 = 1.2, b = 0.75;
    double idf_alpha = log(1 + (3 - 2 + 0.5) / (2 + 0.5)), idf_beta = log(1 + 2.5 / 1.5);
    double k = k1 * (1 - b + b * 4 / average);
    double expected = idf_alpha * (k1 + 1) / (1 + k) + idf_beta * 2 * (k1 + 1) / (2 + k);
    assert_true(fabs(hits[0].score - expected) < 1e-9);
    assert_int_equal(strtol(hits[0].doc_id, NULL, 16), 1);
    assert_int_equal(hits[0].first_page, 1);
    k = k1 * (1 - b + b * 2 / average);
    assert_true(fabs(hits[1].score - idf_alpha * (k1 + 1) / (1 + k)) < 1e-9);
    fixture_close(&f);
}

/* With hardly any budget the answers still hold the rare word and are in exact order. */
static void a_small_budget_refines_with_common_words(void **state) {
    (void)state;
    struct fixture f;
    struct lexical_tuning before = lexical_tuning;
    fixture_open(&f);
    for (int i = 1; i <= 60; i++) {
        bool rare = i == 17 || i == 43;
        put_text(&f, i,
                 i == 43 ? "rare common common common"
                 : rare  ? "rare other words here"
                         : "common words every where");
    }
    lexical_tuning = (struct lexical_tuning){
        .probe = 5, .budget = 10, .longest = 20, .n_refine = 2};
    struct lexical_hit *hits;
    int n;
    must(lexical_search(&hits, &n, f.arena, f.store, lexical_parse(f.arena, "common rare"), NULL, 1,
                        &err));
    assert_int_equal(n, 1);
    assert_int_equal(strtol(hits[0].doc_id, NULL, 16), 43);
    /* More are wanted than the rare word gives: the common one is taken too. */
    must(lexical_search(&hits, &n, f.arena, f.store, lexical_parse(f.arena, "common rare"), NULL, 5,
                        &err));
    assert_int_equal(n, 5);
    assert_int_equal(strtol(hits[0].doc_id, NULL, 16), 43);
    assert_int_equal(strtol(hits[1].doc_id, NULL, 16), 17);
    /* A word alone is always taken. */
    assert_true(strlen(found_by(&f, "common")) > 0);
    /* What is left out may fill a whole block of candidates. */
    assert_true(strstr(found_by(&f, "rare words -common"), "17") != NULL);
    assert_true(strstr(found_by(&f, "rare words -common"), "43") == NULL);
    lexical_tuning = before;
    fixture_close(&f);
}

static void answers_repeat(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    for (int i = 1; i <= 200; i++)
        put_text(&f, i, arena_printf(f.arena, "word%d common text number %d", i % 7, i % 11));
    char *first = arena_strdup(f.arena, found_by(&f, "common word3 number 5 text"));
    assert_string_equal(found_by(&f, "common word3 number 5 text"), first);
    fixture_reopen(&f);
    assert_string_equal(found_by(&f, "common word3 number 5 text"), first);
    fixture_close(&f);
}

/* ---- filters ---- */

static const char *filtered(struct fixture *f, const char *query,
                            const struct search_filter *filter) {
    struct lexical_hit *hits;
    int n;
    must(lexical_search(&hits, &n, f->arena, f->store, lexical_parse(f->arena, query), filter, 100,
                        &err));
    char *out = arena_strdup(f->arena, "");
    for (int i = 0; i < n; i++)
        out = arena_printf(f->arena, "%s%s%ld.%d", out, i ? " " : "",
                           strtol(hits[i].doc_id, NULL, 16), hits[i].ordinal);
    return out;
}

static void check_filters(struct fixture *f) {
    const char *ids[] = {test_id(f->arena, 2), "nonsense", "' OR 1=1"};
    const char *pdf[] = {"pdf"}, *office[] = {"office", "txt"}, *none[] = {"no such"};
    const struct {
        struct search_filter filter;
        const char *found;
    } cases[] = {
        {{0}, "1.0 1.1 2.0 2.1 3.0 3.1"},
        {{.doc_ids = ids, .n_doc_ids = 3}, "2.0 2.1"},
        {{.doc_ids = ids, .n_doc_ids = 0}, ""},
        {{.formats = pdf, .n_formats = 1}, "1.0 1.1"},
        {{.formats = office, .n_formats = 2}, "2.0 2.1 3.0 3.1"},
        {{.formats = none, .n_formats = 1}, ""},
        {{.folder = "/in/a/"}, "1.0 1.1 2.0 2.1"},
        {{.folder = "/in/a/2"}, "2.0 2.1"},
        {{.folder = "/in/%"}, ""},
        {{.added_from_ms = 2000}, "2.0 2.1 3.0 3.1"},
        {{.added_from_ms = 2000, .added_to_ms = 2000}, "2.0 2.1"},
        {{.page_from = 2}, "1.1 2.1 3.1"},
        {{.page_to = 1}, "1.0 2.0 3.0"},
        {{.page_from = 2, .page_to = 2, .folder = "/in/a/"}, "1.1 2.1"},
        {{.page_from = 9}, ""},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        const char *found = filtered(f, "needle", &cases[i].filter);
        if (strcmp(found, cases[i].found) != 0)
            fail_msg("filter %zu found %s, not %s", i, found, cases[i].found);
    }
}

static void filters_choose_before_the_score(void **state) {
    (void)state;
    struct fixture f;
    struct lexical_tuning before = lexical_tuning;
    fixture_open(&f);
    static const char *const formats[][2] = {{"pdf", "pdf"}, {"docx", "office"}, {"txt", "text"}};
    for (int n = 1; n <= 3; n++) {
        struct store_tx *tx;
        bool existed;
        struct document_row row = {
            .filename = "f",
            .format = formats[n - 1][0],
            .group = formats[n - 1][1],
            .added_ms = 1000 * n,
            .source_path = arena_printf(f.arena, "/in/%s/%d", n < 3 ? "a" : "b", n)};
        struct chunk_row chunks[2] = {
            {.text = "needle in hay", .first_page = 1, .last_page = 1},
            {.ordinal = 1, .text = "needle in hay", .first_page = 2, .last_page = 3}};
        snprintf(row.doc_id, sizeof row.doc_id, "%s", test_id(f.arena, n));
        must(store_begin(&tx, f.store, &err));
        must(store_put_document(tx, &existed, &row, &err));
        must(store_put_reading(tx, &row, NULL, chunks, 2, &err));
        must(store_commit(tx, &err));
    }
    check_filters(&f);
    lexical_tuning.n_whole = 0; /* by postings, not by texts */
    check_filters(&f);
    lexical_tuning.probe = 1;
    check_filters(&f);
    lexical_tuning = before;
    fixture_close(&f);
}

int run_search_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_words_phrases_prefixes),
        cmocka_unit_test(queries_are_taken_apart),
        cmocka_unit_test(what_is_left_out_is_told_apart),
        cmocka_unit_test(highlights_are_what_was_found),
        cmocka_unit_test(better_matches_come_first),
        cmocka_unit_test(scores_are_bm25),
        cmocka_unit_test(a_small_budget_refines_with_common_words),
        cmocka_unit_test(answers_repeat),
        cmocka_unit_test(filters_choose_before_the_score),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
