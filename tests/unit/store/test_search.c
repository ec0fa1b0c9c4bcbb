/* Full-text search: who is found, in which order. */
#include "tests.h"

#include <stdio.h>
#include <string.h>

static void finds_words_phrases_prefixes(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "The boundary layer of a wing in a slipstream.");
    put_text(&f, 2, "A layer on the boundary: of the two, neither is a boundary layers' friend.");
    put_text(&f, 3, "Aerodynamics of propellers; the café invoice 1,234.50 for AB-1234.");
    put_text(&f, 4, "\u4e2d\u6587\u5b57\u5178 \u041c\u043e\u0441\u043a\u0432\u0430 \U0001F680");
    put_text(&f, 5, "the of and to in is");
    assert_string_equal(found_by(&f, "wings"), "1");
    assert_string_equal(found_by(&f, "\"boundary layer\""), "1 2");
    assert_string_equal(found_by(&f, "\"layer boundary\""), "");
    assert_string_equal(found_by(&f, "\"layer on the boundary\""), "2");
    assert_string_equal(found_by(&f, "aerodyn*"), "3");
    assert_string_equal(found_by(&f, "aerodynamic*"), "3");
    assert_string_equal(found_by(&f, "CAFE"), "3");
    assert_string_equal(found_by(&f, "1234.5"), "");
    assert_string_equal(found_by(&f, "1234.50"), "3");
    assert_string_equal(found_by(&f, "1,234.50"), "3");
    assert_string_equal(found_by(&f, "1234"), "3");
    assert_string_equal(found_by(&f, "\"ab 1234\""), "3");
    assert_string_equal(found_by(&f, "AB-1234"), "3");
    assert_string_equal(found_by(&f, "\u6587\u5b57"), "4");
    assert_string_equal(found_by(&f, "\u5178"), "4");
    assert_string_equal(found_by(&f, "\u6587"), "4");
    assert_string_equal(found_by(&f, "\"\u4e2d\u6587\u5b57\""), "4");
    assert_string_equal(found_by(&f, "\u041c\u041e\u0421\u041a\u0412\u0410"), "4");
    assert_string_equal(found_by(&f, "\U0001F680"), "4");
    assert_string_equal(found_by(&f, "boundary -wing"), "2");
    assert_string_equal(found_by(&f, "-wing"), "");
    assert_true(strstr(found_by(&f, "the of and"), "5") != NULL);
    assert_string_equal(found_by(&f, "zebra"), "");
    fixture_close(&f);
}

int run_search_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_words_phrases_prefixes),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
