/* UTF-8, character classes, numbers, SHA-256. */
#include "tests.h"

#include <string.h>

static void every_code_point_round_trips(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        size_t n = utf8_put(bytes, c);
        size_t pos = 0;
        uint32_t back = utf8_next(bytes, n, &pos);
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        if (pos != n || back != (surrogate ? 0xFFFD : c))
            fail_msg("U+%04X gives U+%04X from %zu bytes", c, back, n);
    }
    char bytes[4];
    assert_int_equal(utf8_put(bytes, 0x110000), 3);
    assert_memory_equal(bytes, "\xEF\xBF\xBD", 3);
}

static void invalid_bytes_move_by_one(void **state) {
    (void)state;
    static const char *const invalid[] = {
        "\x80",             /* continuation without a lead */
        "\xC0\x80",         /* overlong NUL */
        "\xC1\xBF",         /* overlong */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* surrogate */
        "\xF4\x90\x80\x80", /* past U+10FFFF */
        "\xF5\x80\x80\x80",
        "\xFF",
        "\xFE",
        "\xC3",         /* cut off */
        "\xE2\x82",     /* cut off */
        "\xF0\x9F\x98", /* cut off */
        "\xC3(",        /* lead, then something else */
        "\xE2\x82(",
    };
    for (size_t i = 0; i < BASE_COUNT(invalid); i++) {
        size_t len = strlen(invalid[i]), pos = 0;
        assert_false(utf8_valid(invalid[i], len));
        assert_int_equal(utf8_next(invalid[i], len, &pos), 0xFFFD);
        assert_int_equal(pos, 1);
    }
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", 10));
    size_t end = 2;
    assert_int_equal(utf8_next("ab", 2, &end), 0xFFFD);
    assert_int_equal(end, 2);
}

static void clean_replaces_each_invalid_byte(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    char *out = utf8_clean(arena, "a\0b\xFF\xC3\xA9\xE2\x82", 8);
    assert_string_equal(out, "a\xEF\xBF\xBD"
                             "b\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_string_equal(utf8_clean(arena, NULL, 0), "");
    arena_free(arena);
}

static void cut_keeps_characters_whole(void **state) {
    (void)state;
    const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* lengths 1 2 3 4 1 */
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t max = 0; max < BASE_COUNT(expected); max++)
        assert_int_equal(utf8_cut(text, 11, max), expected[max]);
    assert_int_equal(utf8_cut("\x80\x80\x80\x80\x80\x80", 6, 5), 5);
    assert_int_equal(utf8_cut("\xC3zz", 3, 1), 1); /* an invalid lead holds nothing together */
}

static void classes_of_characters(void **state) {
    (void)state;
    assert_true(text_is_cjk(0x6F22));  /* Han */
    assert_true(text_is_cjk(0x3042));  /* hiragana */
    assert_true(text_is_cjk(0x30A2));  /* katakana */
    assert_true(text_is_cjk(0xD55C));  /* hangul */
    assert_true(text_is_cjk(0x20000)); /* Han extension B */
    assert_false(text_is_cjk('a'));
    assert_false(text_is_cjk(0x3002)); /* ideographic full stop */
    assert_false(text_is_cjk(0x30FB)); /* katakana middle dot */
    assert_false(text_is_cjk(0x0E01)); /* Thai */
    for (uint32_t c = 0; c < 0x3001; c++) {
        bool expected = (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
                        (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
                        c == 0x205F || c == 0x3000;
        if (text_is_space(c) != expected)
            fail_msg("U+%04X", c);
    }
    static const uint32_t words[] = {'a',    'Z',    '0',    0xE9,   0x0301, 0x0416, 0x05D0,
                                     0x0661, 0x0915, 0x093E, 0x6F22, 0xBD,   0x2160, 0x1D400};
    for (size_t i = 0; i < BASE_COUNT(words); i++)
        assert_true(text_is_word(words[i]));
    static const uint32_t others[] = {' ',    '-',     '_',      '\'',   0xA0,
                                      0xA9,   0x2019,  0x3002,   0x20AC, 0x200D,
                                      0xFFFD, 0x1F600, 0x110000, 0x7F,   0};
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        assert_false(text_is_word(others[i]));
}

static void letters_fold_to_what_is_typed(void **state) {
    (void)state;
    static const struct {
        uint32_t from;
        int n;
        uint32_t to[3];
    } cases[] = {
        {'A', 1, {'a'}},       {'z', 1, {'z'}},           {0xC9, 1, {'e'}},
        {0x0301, 0, {0}},      {0xFB01, 2, {'f', 'i'}},   {0xDF, 2, {'s', 's'}},
        {0x0416, 1, {0x0436}}, {0x0419, 1, {0x0439}},     {0xFF21, 1, {'a'}},
        {0x304C, 1, {0x304C}}, {0xD55C, 1, {0xD55C}},     {0x6F22, 1, {0x6F22}},
        {0x093E, 1, {0x093E}}, {0x110000, 1, {0x110000}}, {0xFF76, 1, {0x30AB}},
        {0x2460, 1, {'1'}},    {0x037A, 1, {0x03B9}},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        uint32_t out[TEXT_FOLD_MAX];
        int n = text_fold(out, cases[i].from);
        if (n != cases[i].n || memcmp(out, cases[i].to, (size_t)n * sizeof *out) != 0)
            fail_msg("U+%04X folds to %d, first U+%04X", cases[i].from, n, n ? out[0] : 0);
    }
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        uint32_t out[TEXT_FOLD_MAX];
        assert_in_range(text_fold(out, c), 0, TEXT_FOLD_MAX);
    }
}

static void suffix_folds_ascii_only(void **state) {
    (void)state;
    assert_true(text_has_suffix("Report.PDF", ".pdf"));
    assert_true(text_has_suffix("x", ""));
    assert_false(text_has_suffix("pdf", ".pdf"));
    assert_false(text_has_suffix("a.pdf.exe", ".pdf"));
    assert_false(text_has_suffix("\xC3\x89", "\xC3\xA9"));
}

static void numbers_are_whole_strings_in_range(void **state) {
    (void)state;
    struct error err;
    int64_t value = -1;
    assert_true(text_to_int(&value, "0", 0, 9, "N", &err));
    assert_int_equal(value, 0);
    assert_true(text_to_int(&value, "-12", -12, 9, "N", &err));
    assert_int_equal(value, -12);
    assert_true(text_to_int(&value, "9223372036854775807", 0, INT64_MAX, "N", &err));
    assert_true(value == INT64_MAX);
    static const char *const wrong[] = {"",
                                        "-",
                                        " 1",
                                        "1 ",
                                        "+1",
                                        "1x",
                                        "0x10",
                                        "1.0",
                                        "10",
                                        "-13",
                                        "1e3",
                                        "--1",
                                        "9223372036854775808",
                                        "99999999999999999999999"};
    for (size_t i = 0; i < BASE_COUNT(wrong); i++) {
        value = 77;
        assert_false(text_to_int(&value, wrong[i], -12, 9, "N", &err));
        assert_int_equal(value, 77);
        assert_int_equal(err.kind, ERROR_INPUT);
    }
    text_to_int(&value, "abc", 0, 65535, "WORKER_PORT", &err);
    assert_string_equal(err.text, "WORKER_PORT is a whole number from 0 to 65535, not 'abc'");
}

static void sha256_of_known_inputs(void **state) {
    (void)state;
    /* FIPS 180-2, appendix B */
    char hex[SHA256_HEX + 1];
    sha256_hex(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex(hex, "", 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct sha256 *hash = sha256_new();
    char thousand[1000];
    memset(thousand, 'a', sizeof thousand);
    for (int i = 0; i < 1000; i++)
        sha256_update(hash, thousand, sizeof thousand);
    sha256_finish(hex, hash);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

    assert_true(sha256_is_hex(hex));
    hex[63] = '\0';
    assert_false(sha256_is_hex(hex));
    assert_false(sha256_is_hex(""));
    assert_false(sha256_is_hex("CDC76E5C9914FB9281A1C7E284D73E67F1809A48A497200E046D39CCC7112CD0"));
    assert_false(
        sha256_is_hex("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd00"));
}

static void text_is_normalized(void **state) {
    (void)state;
    static const struct {
        enum text_form form;
        const char *text, *normal;
    } cases[] = {
        {TEXT_NFC, "plain", "plain"},
        {TEXT_NFC, "e\u0301", "\u00e9"},
        {TEXT_NFD, "\u00e9", "e\u0301"},
        {TEXT_NFD, "\ud55c", "\u1112\u1161\u11ab"},
        {TEXT_NFC, "\u1112\u1161\u11ab", "\ud55c"},
        {TEXT_NFC, "\ufb01", "\ufb01"},
        {TEXT_NFKC, "\ufb01\u00b2", "fi2"},
        {TEXT_NFKD, "\u1e9b\u0323", "s\u0323\u0307"},
        {TEXT_NFC, "\u1e9b\u0323", "\u1e9b\u0323"},
        {TEXT_NFC, "\u0958", "\u0915\u093c"}, /* never composed */
        {TEXT_NFD, "a\u0301\u0323", "a\u0323\u0301"},
        {TEXT_NFC, "a\xff", "a\ufffd"},
    };
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        size_t len = 0;
        const char *text = cases[i].text;
        const char *normal = text_normalize(&len, arena, cases[i].form, text, strlen(text));
        assert_string_equal(normal, cases[i].normal);
        assert_int_equal(len, strlen(cases[i].normal));
    }
    /* A long run of marks: those of one class keep their order. */
    struct buf marks = {0}, ordered = {0};
    size_t len = 0;
    buf_puts(&marks, "a");
    buf_puts(&ordered, "a");
    for (int i = 0; i < 100; i++) {
        buf_puts(&marks, i % 2 ? "\u0316" : i % 4 ? "\u0300" : "\u0302");
        if (i % 2)
            buf_puts(&ordered, "\u0316");
    }
    for (int i = 0; i < 100; i += 2)
        buf_puts(&ordered, i % 4 ? "\u0300" : "\u0302");
    assert_string_equal(text_normalize(&len, arena, TEXT_NFD, marks.data, marks.len), ordered.data);
    assert_string_equal(text_category('a'), "Ll");
    assert_string_equal(text_category(0x0378), "Cn");
    assert_string_equal(text_category(UINT32_MAX), "Cn");
    assert_int_equal(text_lower(0x0416), 0x0436);
    buf_fini(&marks);
    buf_fini(&ordered);
    arena_free(arena);
}

int run_text_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_round_trips),
        cmocka_unit_test(invalid_bytes_move_by_one),
        cmocka_unit_test(clean_replaces_each_invalid_byte),
        cmocka_unit_test(cut_keeps_characters_whole),
        cmocka_unit_test(classes_of_characters),
        cmocka_unit_test(letters_fold_to_what_is_typed),
        cmocka_unit_test(text_is_normalized),
        cmocka_unit_test(suffix_folds_ascii_only),
        cmocka_unit_test(numbers_are_whole_strings_in_range),
        cmocka_unit_test(sha256_of_known_inputs),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
