/* Numbers as format codes show them. */
#include "tests.h"

#include "read/ooxml.h"

static void test_formats(void **state) {
    static const struct {
        double value;
        const char *format, *shown;
    } cases[] = {
        {0, "General", "0"},
        {1234567, "General", "1234567"},
        {0.1 + 0.2, "General", "0.3"},
        {-2.5, "General", "-2.5"},
        {1e20, "General", "1e+20"},
        {1234.567, "0.00", "1234.57"},
        {1234.567, "#,##0.00", "1,234.57"},
        {-1234567.8, "#,##0", "-1,234,568"},
        {-5, "#,##0;(#,##0)", "(5)"},
        {0.256, "0%", "26%"},
        {0.2567, "0.00%", "25.67%"},
        {0.5, "#.##", ".5"},
        {5, "0.##", "5."},
        {7, "000", "007"},
        {12345, "0.00E+00", "1.23E+04"},
        {1500000, "0.0,,\" M\"", "1.5 M"},
        {42, "[$€-407] #,##0", "€ 42"},
        {42, "[Red]0", "42"},
        {3, "\"item \"0", "item 3"},
        {0, "0;-0;\"none\"", "none"},
        {45566, "yyyy-mm-dd", "2024-10-01"},
        {45566, "m/d/yy", "10/1/24"},
        {45566, "d mmmm yyyy", "1 October 2024"},
        {45566, "ddd", "Tue"},
        {45566.75, "h:mm AM/PM", "6:00 PM"},
        {45566.5, "hh:mm:ss", "12:00:00"},
        {1.5, "[h]:mm", "36:00"},
        {59, "yyyy-mm-dd", "1900-02-28"},
        {61, "yyyy-mm-dd", "1900-03-01"},
        {1, "yyyy-mm-dd", "1900-01-01"},
        {-1, "yyyy-mm-dd", "-1"},
        {0.5, "# ?/?", "0.5"},
    };
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct buf out = {0};
        ooxml_number(&out, cases[i].value, cases[i].format, false);
        if (strcmp(out.data, cases[i].shown) != 0)
            fail_msg("%g as %s: %s, not %s", cases[i].value, cases[i].format, out.data,
                     cases[i].shown);
        buf_fini(&out);
    }
    struct buf out = {0};
    ooxml_number(&out, 0, "yyyy-mm-dd", true);
    assert_string_equal(out.data, "1904-01-01");
    buf_fini(&out);
}

/* Codes come from files: any bytes, and nothing may be read past their end. */
static void test_broken_codes(void **state) {
    static const char *const codes[] = {"",  "\"", "[",    "[$",    "\\", "_",    "*",  ";;;;;",
                                        "y", "[h", "0.",   ".",     ",",  "%%%%", "E+", "AM/P",
                                        "@", "[]", "[$]0", "\"a;0", "0E", "#,",   "a/p"};
    static const double values[] = {0, -1, 1e308, 1e-308, 45566.99999999, 2958465.99999};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(codes); i++) {
        for (size_t k = 0; k < BASE_COUNT(values); k++) {
            struct buf out = {0};
            char *exact = mem_strdup(codes[i]);
            ooxml_number(&out, values[k], exact, k % 2 == 0);
            assert_false(out.failed);
            mem_free(exact);
            buf_fini(&out);
        }
    }
}

int run_number(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats),
                                       cmocka_unit_test(test_broken_codes)};
    return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
