/* Tokens, stems, queries, highlights. */
#include "tests.h"

#include <stdio.h>
#include <string.h>

#include "store/lexical.h"

/* ---- tokens ---- */

static bool describe_token(void *ctx, const struct token *token) {
    struct buf *out = ctx;
    if (out->len > 0)
        buf_putc(out, token->colocated ? '=' : ' ');
    buf_append(out, token->text, token->len);
    return true;
}

/* Tokens separated by blanks; '=' before one at the position of the one before it. */
static void check_tokens(const char *text, const char *expected) {
    struct buf out = {0};
    tokens_visit(text, strlen(text), describe_token, &out);
    assert_string_equal(out.data ? out.data : "", expected);
    buf_fini(&out);
}

static void words_are_folded_and_stemmed(void **state) {
    (void)state;
    check_tokens("", "");
    check_tokens(" .,;!? -- \t\n", "");
    check_tokens("The Boundary-layers were FLOWING.", "the boundari layer were flow");
    check_tokens("Café CAFE\u0301 naïve", "cafe cafe naiv");
    check_tokens("Stra\u00dfe \ufb01sh", "strass fish");
    check_tokens("co\u00adoperate", "cooper");
    check_tokens("AB-1234 foo_bar", "ab 1234 foo bar");
    check_tokens(
        "\u041c\u043e\u0441\u043a\u0432\u0430 \u0451\u043b\u043a\u0430 \u0439\u043e\u0434",
        "\u043c\u043e\u0441\u043a\u0432\u0430 \u0435\u043b\u043a\u0430 \u0439\u043e\u0434");
    check_tokens("\u0643\u0650\u062a\u0627\u0628 \u0623\u062d\u0645\u062f",
                 "\u0643\u062a\u0627\u0628 \u0627\u062d\u0645\u062f");
    check_tokens("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940");
    check_tokens("go \U0001F680\U0001F680!", "go \U0001F680 \U0001F680");
}

static void numbers_have_their_whole(void **state) {
    (void)state;
    check_tokens("1,234.50", "1=1234.50=1234 234 50");
    check_tokens("1.234,50", "1=1234.50=1234 234 50");
    check_tokens("1234.50", "1234=1234.50 50");
    check_tokens("1,234", "1=1234 234");
    check_tokens("3.14", "3=3.14 14");
    check_tokens("1.2.3", "1=1.2.3 2 3");
    check_tokens("12,34,567", "12=12,34,567 34 567");
    check_tokens("1,234,567", "1=1234567 234 567");
    check_tokens("3.5mm", "3 5mm");
    check_tokens("in 2024.", "in 2024");
    check_tokens("1,,2", "1 2");
}

static void cjk_is_pairs_and_singles(void **state) {
    (void)state;
    check_tokens("\u4e2d\u6587\u5b57", "\u4e2d\u6587=\u4e2d \u6587\u5b57=\u6587 \u5b57");
    check_tokens("\u4e2d", "\u4e2d");
    check_tokens("a\u4e2d\u6587b", "a \u4e2d\u6587=\u4e2d \u6587 b");
    check_tokens("\u304c\u304b", "\u304c\u304b=\u304c \u304b");
    check_tokens("\uff76\uff80", "\u30ab\u30bf=\u30ab \u30bf"); /* half width */
}

static void hostile_bytes_give_tokens_within_the_text(void **state) {
    (void)state;
    check_tokens("ab\xff\xfe"
                 "cd",
                 "ab cd");
    check_tokens("\xe4\xb8", "");
    char long_word[1001];
    memset(long_word, 'x', 1000);
    long_word[1000] = '\0';
    char expected[65];
    memset(expected, 'x', 64);
    expected[64] = '\0';
    check_tokens(long_word, expected);
}

static void stems_are_porters(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"caresses", "caress"},
        {"ponies", "poni"},
        {"ties", "ti"},
        {"cats", "cat"},
        {"feed", "feed"},
        {"agreed", "agre"},
        {"plastered", "plaster"},
        {"bled", "bled"},
        {"motoring", "motor"},
        {"sing", "sing"},
        {"conflated", "conflat"},
        {"troubled", "troubl"},
        {"sized", "size"},
        {"hopping", "hop"},
        {"tanned", "tan"},
        {"falling", "fall"},
        {"hissing", "hiss"},
        {"fizzed", "fizz"},
        {"failing", "fail"},
        {"filing", "file"},
        {"happy", "happi"},
        {"sky", "sky"},
        {"relational", "relat"},
        {"conditional", "condit"},
        {"rational", "ration"},
        {"valenci", "valenc"},
        {"digitizer", "digit"},
        {"radically", "radic"},
        {"differently", "differ"},
        {"vietnamization", "vietnam"},
        {"predication", "predic"},
        {"operator", "oper"},
        {"feudalism", "feudal"},
        {"decisiveness", "decis"},
        {"hopefulness", "hope"},
        {"callousness", "callous"},
        {"formality", "formal"},
        {"sensitivity", "sensit"},
        {"triplicate", "triplic"},
        {"formative", "form"},
        {"formalize", "formal"},
        {"electrical", "electr"},
        {"goodness", "good"},
        {"revival", "reviv"},
        {"allowance", "allow"},
        {"inference", "infer"},
        {"airliner", "airlin"},
        {"adjustable", "adjust"},
        {"defensible", "defens"},
        {"irritant", "irrit"},
        {"replacement", "replac"},
        {"adjustment", "adjust"},
        {"dependent", "depend"},
        {"adoption", "adopt"},
        {"homologou", "homolog"},
        {"communism", "commun"},
        {"activate", "activ"},
        {"effective", "effect"},
        {"bowdlerize", "bowdler"},
        {"probate", "probat"},
        {"rate", "rate"},
        {"cease", "ceas"},
        {"controll", "control"},
        {"roll", "roll"},
        {"as", "as"},
        {"yes", "ye"},
        {"aerodynamics", "aerodynam"},
        {"oed", "o"},
    };
    for (size_t i = 0; i < BASE_COUNT(pairs); i++) {
        char word[32];
        snprintf(word, sizeof word, "%s", pairs[i][0]);
        word[stem_english(word, strlen(word))] = '\0';
        assert_string_equal(word, pairs[i][1]);
    }
}

int run_text_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_folded_and_stemmed),
        cmocka_unit_test(numbers_have_their_whole),
        cmocka_unit_test(cjk_is_pairs_and_singles),
        cmocka_unit_test(hostile_bytes_give_tokens_within_the_text),
        cmocka_unit_test(stems_are_porters),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
