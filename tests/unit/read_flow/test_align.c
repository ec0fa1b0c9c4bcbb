/* Which words are which. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>

#include "read/align.h"

static void add_all(struct align *align, struct align_side *side, const char *text) {
    uint32_t number = 0;
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (len > 0)
            align_add_word(align, side, number++, p, len);
        p += len + (p[len] == ' ');
    }
}

/* The raw tokens of each flow token, "-" for none: "0 1 1+2 -". */
static char *match(struct arena *arena, const char *flow, const char *raw) {
    struct align align = {0};
    add_all(&align, &align.flow, flow);
    add_all(&align, &align.raw, raw);
    assert_true(align_begin(&align));
    uint32_t f[1000], r[1000];
    for (uint32_t i = 0; i < 1000; i++)
        f[i] = r[i] = i;
    align_match(&align, f, align.flow.n, r, align.raw.n, false);
    struct buf out = {0};
    for (size_t i = 0; i < align.flow.n; i++) {
        int32_t number = align.flow.match[i];
        buf_puts(&out, i > 0 ? " " : "");
        if (number < 0)
            buf_putc(&out, '-');
        for (uint32_t k = 0; number >= 0 && k < align.spans[number].n_raw; k++)
            buf_printf(&out, k > 0 ? "+%u" : "%u", align.spans[number].raw + k);
    }
    char *text = arena_strndup(arena, out.data, out.len);
    buf_fini(&out);
    align_fini(&align);
    return text;
}

static void test_small(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    assert_string_equal(match(arena, "a b c", "a b c"), "0 1 2");
    assert_string_equal(match(arena, "a b c", "x a c y"), "1 - 2");
    assert_string_equal(match(arena, "one international two", "one inter- national two"),
                        "0 1+2 3");
    assert_string_equal(match(arena, "well-known fact", "well- known fact"), "0+1 2");
    assert_string_equal(match(arena, "run together now", "runtogether now"), "0 0 1");
    assert_string_equal(match(arena, "noted here", "noted12 here"), "0 1");
    assert_string_equal(match(arena, "TITLE of \xE2\x80\x9Cx\xE2\x80\x9D", "Title of \"x\""),
                        "0 1 2");
    assert_string_equal(match(arena, "office",
                              "o\xEF\xAC\x83"
                              "ce"),
                        "0");
    assert_string_equal(match(arena, "日本語です", "日 本語 です"), "0 1 2 3 4");
    assert_string_equal(match(arena, "soft\xC2\xADhyphen", "softhyphen"), "0");
    arena_free(arena);
}

/* Long texts with insertions and losses on both sides: every word that both have in order is found,
 * in little time. */
static void test_long(void **state) {
    enum { N = 200000 };
    (void)state;
    struct align align = {0};
    uint32_t *f = calloc(2 * N, sizeof(*f)), *r = calloc(2 * N, sizeof(*r));
    uint64_t dice = 1;
    uint32_t n_both = 0;
    for (uint32_t i = 0; i < N; i++) {
        char word[16];
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        uint32_t pick = (uint32_t)(dice >> 33);
        int len = snprintf(word, sizeof(word), "w%u", pick % 3000);
        bool in_flow = pick % 97 != 0, in_raw = pick % 89 != 0;
        if (in_flow)
            align_add_word(&align, &align.flow, i, word, (size_t)len);
        if (in_raw)
            align_add_word(&align, &align.raw, i, word, (size_t)len);
        n_both += in_flow && in_raw;
        if (pick % 5000 == 0) /* a page's header among the raw words */
            for (int k = 0; k < 4; k++)
                align_add_word(&align, &align.raw, N, "header", 6);
    }
    assert_true(align_begin(&align));
    for (uint32_t i = 0; i < 2 * N; i++)
        f[i] = r[i] = i;
    int64_t start = time_mono_ms();
    align_match(&align, f, align.flow.n, r, align.raw.n, false);
    int64_t took = time_mono_ms() - start;
    uint32_t n_right = 0;
    for (size_t i = 0; i < align.flow.n; i++) {
        int32_t number = align.flow.match[i];
        n_right += number >= 0 &&
                   align.raw.tokens[align.spans[number].raw].word == align.flow.tokens[i].word;
    }
    print_message("long: %u of %u right, %lld ms\n", n_right, n_both, (long long)took);
    assert_true(n_right >= n_both - n_both / 200);
    assert_true(took < 20000); /* a sanitizer's build is slow */
    align_fini(&align);
    free(f);
    free(r);
}

/* Nothing unique, nothing equal, one side empty: bounded time, no match where there is none. */
static void test_hard(void **state) {
    enum { N = 60000 };
    (void)state;
    uint32_t *f = calloc(N, sizeof(*f));
    for (uint32_t i = 0; i < N; i++)
        f[i] = i;
    for (int kind = 0; kind < 3; kind++) {
        struct align align = {0};
        for (uint32_t i = 0; i < N; i++) {
            align_add_word(&align, &align.flow, i, i % 2 ? "a" : "b", 1);
            align_add_word(&align, &align.raw, i, kind == 0 ? "c" : i % 3 ? "a" : "b", 1);
        }
        assert_true(align_begin(&align));
        int64_t start = time_mono_ms();
        size_t n = align_match(&align, f, N, f, kind == 2 ? 0 : N, false);
        print_message("hard %d: %zu, %lld ms\n", kind, n, (long long)(time_mono_ms() - start));
        assert_true(kind == 1 ? n > N / 2 : n == 0);
        assert_true(time_mono_ms() - start < 60000);
        align_fini(&align);
    }
    free(f);
}

int run_align(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_long),
                                       cmocka_unit_test(test_hard)};
    return cmocka_run_group_tests_name("align", tests, NULL, NULL);
}
