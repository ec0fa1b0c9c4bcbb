/* Tokenizers: what a tokenizer.json may state and may not, and texts at their edges. That ids are
 * the reference's is for the golden test. */
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB                                                                                      \
    "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##aff\":4,\"##able\":5,\"a\":6}"
#define WORDPIECE                                                                                  \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","                                  \
    "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":20," VOCAB "}"
#define BPE_VOCAB                                                                                  \
    "\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"ab\":3,\"abab\":4,\"<0xC3>\":5,\"<0xA9>\":6}"
#define BPE(members, merges)                                                                       \
    "{\"model\":{\"type\":\"BPE\"," members BPE_VOCAB ",\"merges\":" merges "}}"

static struct tokenizer *parse(const char *json) {
    struct tokenizer *tokenizer;
    struct error err;
    if (!tokenizer_parse(&tokenizer, json, strlen(json), "tokenizer.json", &err))
        fail_msg("%s", err.text);
    return tokenizer;
}

/* Ids as "1 2 3". */
static char *encode(struct arena *arena, const struct tokenizer *tokenizer, const char *text,
                    size_t len, bool special, int max) {
    struct tokens tokens;
    struct buf out = {0};
    tokenizer_encode(&tokens, arena, tokenizer, text, len, special, max);
    for (int i = 0; i < tokens.n; i++)
        buf_printf(&out, i ? " %d" : "%d", tokens.ids[i]);
    char *ids = arena_strndup(arena, out.data ? out.data : "", out.len);
    buf_fini(&out);
    return ids;
}

static void expect(const char *json, const char *text, const char *ids) {
    struct tokenizer *tokenizer = parse(json);
    struct arena *arena = arena_new(0);
    assert_string_equal(encode(arena, tokenizer, text, strlen(text), true, 0), ids);
    arena_free(arena);
    tokenizer_close(tokenizer);
}

static void refuse(enum error_kind kind, const char *json, const char *reason) {
    struct tokenizer *tokenizer;
    struct error err = {0};
    if (tokenizer_parse(&tokenizer, json, strlen(json), "m/tokenizer.json", &err))
        fail_msg("taken: %s", json);
    assert_null(tokenizer);
    if (err.kind != kind || !strstr(err.text, "m/tokenizer.json: ") || !strstr(err.text, reason))
        fail_msg("kind %d, '%s', for %s", err.kind, err.text, json);
}

static void words_are_cut_into_the_longest_tokens(void **state) {
    (void)state;
    const char *spaced = WORDPIECE ",\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}}";
    expect(spaced, "unaffable un a", "3 4 5 3 6");
    expect(spaced, "unaffablex unx affable", "0 0 0"); /* one unknown a word, never a part */
    expect(spaced, "aaaaaaaaaaaaaaaaaaaaa", "0");      /* more characters than a word may have */
    expect(spaced, "", "");
    expect(spaced, " \t\n", "");
}

static void merges_go_by_rank_then_from_the_left(void **state) {
    (void)state;
    expect(BPE("", "[[\"a\",\"b\"],[\"ab\",\"ab\"]]"), "abababb", "4 3 2");
    expect(BPE("", "[\"a b\",\"ab ab\"]"), "aabab", "1 4");
    expect(BPE("", "[]"), "ab", "1 2");
    /* Without a token for what is unknown it is left out; with one, neighbours may be one. */
    expect(BPE("", "[]"), "axyb", "1 2");
    expect(BPE("\"unk_token\":\"<unk>\",", "[]"), "axyb", "1 0 0 2");
    expect(BPE("\"unk_token\":\"<unk>\",\"fuse_unk\":true,", "[]"), "axyb", "1 0 2");
    /* Bytes, when all of a character's are there. */
    expect(BPE("\"unk_token\":\"<unk>\",\"byte_fallback\":true,", "[]"), "a\u00e9\u00e8",
           "1 5 6 0");
    expect(BPE("\"ignore_merges\":true,", "[]"), "abab", "4");
}

static void added_tokens_are_found_first(void **state) {
    (void)state;
#define ADDED(id, content, members)                                                                \
    "{\"id\":" id ",\"content\":\"" content "\",\"special\":false," members "}"
#define WITH_ADDED(list, rest)                                                                     \
    "{\"added_tokens\":[" list "]," rest "\"model\":{\"type\":\"BPE\"," BPE_VOCAB ",\"merges\":[]}}"
    /* The longest of those that begin together. */
    expect(WITH_ADDED(ADDED("7", "<x", "\"normalized\":false") "," ADDED("8", "<x>",
                                                                         "\"normalized\":false"), ),
           "a<x><xb", "1 8 7 2");
    expect(WITH_ADDED(ADDED("7", "aa", "\"normalized\":false,\"single_word\":true"), ), "aa baa aa",
           "7 2 1 1 7");
    expect(WITH_ADDED(ADDED("7", "X", "\"normalized\":true"),
                      "\"normalizer\":{\"type\":\"Lowercase\"},"),
           "aXbx", "1 7 2 7");
    expect(WITH_ADDED(ADDED("7", "X", "\"normalized\":false"),
                      "\"normalizer\":{\"type\":\"Lowercase\"},"),
           "aXbx", "1 7 2");
    /* Spaces that it takes would be unknown otherwise. */
    const char *json = WITH_ADDED(ADDED("7", "X", "\"normalized\":false,\"lstrip\":true"),
                                  "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
                                  "\"b\",\"prepend_scheme\":\"never\",\"split\":true},");
    expect(json, "a  X a", "1 7 2 1");
}

static void a_template_stands_around_and_is_kept(void **state) {
    (void)state;
    const char *json = WORDPIECE
        ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{"
        "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","
        "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{"
        "\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"[CLS]\":{"
        "\"id\":\"[CLS]\",\"ids\":[1],\"tokens\":[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\","
        "\"ids\":[9],\"tokens\":[\"[SEP]\"]}}}}";
    struct tokenizer *tokenizer = parse(json);
    struct arena *arena = arena_new(0);
    assert_string_equal(encode(arena, tokenizer, "a a a a", 7, true, 0), "1 6 6 6 6 9");
    assert_string_equal(encode(arena, tokenizer, "a a a a", 7, true, 4), "1 6 6 9");
    assert_string_equal(encode(arena, tokenizer, "a a a a", 7, true, 2), "1 9");
    assert_string_equal(encode(arena, tokenizer, "a a a a", 7, true, 1), "1");
    assert_string_equal(encode(arena, tokenizer, "a a a a", 7, false, 3), "6 6 6");
    assert_string_equal(encode(arena, tokenizer, NULL, 0, true, 0), "1 9");
    assert_int_equal(tokenizer_n_ids(tokenizer), 10);
    assert_int_equal(tokenizer_id(tokenizer, "##able"), 5);
    assert_int_equal(tokenizer_id(tokenizer, "able"), -1);
    arena_free(arena);
    tokenizer_close(tokenizer);
}

static void invalid_bytes_are_read_as_replacements(void **state) {
    (void)state;
    struct tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\ufffd\":1,\"\\u0000\":2},"
        "\"merges\":[]}}");
    struct arena *arena = arena_new(0);
    assert_string_equal(encode(arena, tokenizer, "a\xff\xe2\x82\0a", 6, true, 0), "0 1 1 1 2 0");
    assert_string_equal(encode(arena, tokenizer, "\xf0\x9f\x98", 3, true, 0), "1 1 1");
    arena_free(arena);
    tokenizer_close(tokenizer);
}

static void long_texts_take_their_share(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    size_t n = 600000;
    char *text = arena_alloc(arena, n + 1);
    struct tokenizer *pairs = parse(BPE("", "[[\"a\",\"b\"],[\"ab\",\"ab\"]]"));
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? 'b' : 'a';
    struct tokens tokens;
    int64_t start = time_mono_ms();
    tokenizer_encode(&tokens, arena, pairs, text, n, true, 0);
    assert_int_equal(tokens.n, n / 4);
    tokenizer_close(pairs);
    struct tokenizer *words = parse(WORDPIECE ",\"normalizer\":{\"type\":\"NFD\"}}");
    /* Marks of two classes in turn: to be put in order, all in one run. */
    for (size_t i = 0; i + 1 < n; i += 2)
        memcpy(text + i, i % 4 ? "\xcc\x81" : "\xcc\xa3", 2);
    tokenizer_encode(&tokens, arena, words, text, n, true, 0);
    assert_int_equal(tokens.n, 1);
    tokenizer_close(words);
    /* What grows with the square of such lengths takes minutes. */
    assert_true(time_mono_ms() - start < 20000);
    arena_free(arena);
}

static void what_is_not_known_is_refused_by_name(void **state) {
    (void)state;
    enum error_kind kind = ERROR_UNSUPPORTED;
    refuse(kind, "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "'Unigram'");
    refuse(kind, WORDPIECE ",\"normalizer\":{\"type\":\"Precompiled\"}}", "'Precompiled'");
    refuse(kind, WORDPIECE ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", "UnicodeScripts");
    refuse(kind,
           WORDPIECE ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\d+\"},"
                     "\"behavior\":\"Isolated\",\"invert\":false}}",
           "\\d+");
    refuse(kind, WORDPIECE ",\"post_processor\":{\"type\":\"Pairs\"}}", "'Pairs'");
    refuse(kind, BPE("\"dropout\":0.1,", "[]"), "dropout");
    refuse(kind,
           WORDPIECE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
                     "{\"type\":\"Nmt\"}]}}",
           "'Nmt'");
}

static void what_is_wrong_is_refused_with_its_place(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "malformed"},
        {"[]", "malformed"},
        {"{}", "no model"},
        {"{\"model\":{\"type\":\"BPE\"}}", "no vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "no merges"},
        {"{\"model\":{\"vocab\":{}}}", "type"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", "have id 1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]}}", "comes twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1152921504606846976},\"merges\":[]}}",
         "1152921504606846976"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "-1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e3},\"merges\":[]}}", "whole number"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999999999999999},\"merges\":[]}}",
         "whole number"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xff\":1},\"merges\":[]}}", "UTF-8"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":1},\"merges\":[]}}", "malformed"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[]}} x",
         "more than one value"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"merges\":[]}}", "malformed"},
        {"{\"model\":{},\"model\":{}}", "comes twice"},
        {BPE("", "[\"a c\"]"), "merge 0"},
        {BPE("", "[\"a b\",\"b a\"]"), "merge 1"},
        {BPE("", "[\"a\"]"), "two tokens"},
        {BPE("", "[[\"a\",\"b\",\"a\"]]"), "3 tokens"},
        {BPE("", "[[\"a\",1]]"), "malformed"},
        {BPE("\"unk_token\":\"none\",", "[]"), "'none'"},
        {BPE("\"fuse_unk\":1,", "[]"), "fuse_unk"},
        {WORDPIECE ",\"added_tokens\":[{\"id\":9,\"content\":\"<x>\"}]}", "its id is not 7"},
        {WORDPIECE ",\"added_tokens\":[{\"id\":7,\"content\":\"\"}]}", "0 bytes"},
        {WORDPIECE ",\"added_tokens\":[{\"id\":6,\"content\":\"a\"},{\"id\":6,\"content\":\"a\"}]}",
         "comes twice"},
        {WORDPIECE ",\"added_tokens\":[{\"id\":7,\"content\":\"\\u0301\",\"normalized\":true}],"
                   "\"normalizer\":{\"type\":\"StripAccents\"}}",
         "nothing once normalized"},
        {WORDPIECE ",\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\",-3],"
                   "\"cls\":[\"y\",1]}}",
         "id that is none"},
        {WORDPIECE ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},"
                   "\"content\":\"x\"}}",
         "Replace of nothing"},
        {WORDPIECE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":7}}", "no list"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        refuse(ERROR_INPUT, cases[i][0], cases[i][1]);
}

static void depth_and_length_have_their_bounds(void **state) {
    (void)state;
    struct buf json = {0};
    for (int i = 0; i < 100000; i++)
        buf_putc(&json, '[');
    refuse(ERROR_INPUT, json.data, "malformed");
    buf_clear(&json);
    buf_puts(&json, "{\"decoder\":");
    for (int i = 0; i < 100000; i++)
        buf_puts(&json, "{\"a\":[");
    refuse(ERROR_INPUT, json.data, "levels deep");
    buf_clear(&json);
    buf_puts(&json, "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"");
    for (int i = 0; i < 2000000; i++)
        buf_putc(&json, 'x');
    buf_puts(&json, "\":1}}}");
    refuse(ERROR_INPUT, json.data, "a string of more than 1048576 bytes");
    buf_clear(&json);
    buf_puts(&json, WORDPIECE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 70; i++)
        buf_puts(&json, i ? ",{\"type\":\"NFC\"}" : "{\"type\":\"NFC\"}");
    buf_puts(&json, "]}}");
    refuse(ERROR_INPUT, json.data, "more than 64 normalizers");
    buf_fini(&json);
}

static void a_cut_file_is_refused_wherever_it_ends(void **state) {
    (void)state;
    const char *whole =
        "{\"added_tokens\":[{\"id\":7,\"content\":\"<x>\"}],\"normalizer\":{\"type\":\"NFC\"},"
        "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"a\":[true,-1.5e3,\"\\n\"]},"
        "\"model\":{\"type\":\"BPE\",\"dropout\":null," BPE_VOCAB ",\"merges\":[[\"a\",\"b\"]]}}";
    struct tokenizer *tokenizer;
    struct error err;
    tokenizer_close(parse(whole));
    for (size_t len = 0; len < strlen(whole); len++) {
        /* From a block of its own, so that a byte read too far is seen. */
        char *copy = malloc(len + 1);
        memcpy(copy, whole, len);
        char *exact = realloc(copy, len ? len : 1);
        assert_false(tokenizer_parse(&tokenizer, exact, len, "t", &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        free(exact);
    }
}

static void a_file_that_is_not_there_is_said(void **state) {
    (void)state;
    struct tokenizer *tokenizer;
    struct error err;
    assert_false(tokenizer_open(&tokenizer, "/nowhere/tokenizer.json", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_null(tokenizer);
    tokenizer_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_into_the_longest_tokens),
        cmocka_unit_test(merges_go_by_rank_then_from_the_left),
        cmocka_unit_test(added_tokens_are_found_first),
        cmocka_unit_test(a_template_stands_around_and_is_kept),
        cmocka_unit_test(invalid_bytes_are_read_as_replacements),
        cmocka_unit_test(long_texts_take_their_share),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_place),
        cmocka_unit_test(depth_and_length_have_their_bounds),
        cmocka_unit_test(a_cut_file_is_refused_wherever_it_ends),
        cmocka_unit_test(a_file_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests_name("model: tokenizers", tests, NULL, NULL);
}
