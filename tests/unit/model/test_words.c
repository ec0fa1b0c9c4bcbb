/* Which words of a question its vectors stand for: over the golden checkpoints' tokenizers, where
 * the expected tokens are those that the offsets of the `tokenizers` library 0.22.2 tell, and over
 * made models, where the vectors are counted. */
#include "model/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "made.h"

static struct device *device;
static struct arena *arena;

static int start(void **state) {
    struct error err;
    (void)state;
    arena = arena_new(0);
    return device_open(&device, "cpu", 1, &err) ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    device_close(device);
    arena_free(arena);
    return 0;
}

/* "What[3,2] does[5,1]": a word's text, its first vector and how many. */
static const char *told(const struct model *model, const char *text) {
    struct buf out = {0};
    struct model_word *words;
    int n = model_words(&words, arena, model, text, strlen(text));
    for (int i = 0; i < n; i++) {
        assert_true(words[i].start < words[i].end && words[i].n > 0);
        assert_true(i == 0 || (words[i].start >= words[i - 1].end &&
                               words[i].first >= words[i - 1].first + words[i - 1].n));
        buf_printf(&out, "%s%.*s[%d,%d]", i ? " " : "", (int)(words[i].end - words[i].start),
                   text + words[i].start, words[i].first, words[i].n);
    }
    buf_puts(&out, "");
    const char *kept = arena_strndup(arena, out.data ? out.data : "", out.len);
    buf_fini(&out);
    return kept;
}

/* ---- real tokenizers ------------------------------------------------------------------------ */

static const char *golden(const char *file) {
    return arena_printf(arena, SOURCE_ROOT "/tests/golden/tokenizers/%s", file);
}

static void ask_gemma(struct tokens *out, struct arena *into, const void *self, const char *text,
                      size_t len, bool open) {
    char *whole = arena_printf(into, "<bos>Question:%s%.*s%s", text ? " " : "", (int)len,
                               text ? text : "", open ? "" : "<pad><pad>\n");
    tokenizer_encode(out, into, self, whole, strlen(whole), false, 0);
}

static void ask_bert(struct tokens *out, struct arena *into, const void *self, const char *text,
                     size_t len, bool open) {
    tokenizer_encode(out, into, self, text, len, true, 0);
    out->n -= open; /* [SEP] */
}

/* Tokens of this one: Question ":▁" Wh "at▁" does▁ the▁ w i r in g , ▁ re a ll y▁ c o st ? */
static void test_gemma(void **state) {
    (void)state;
    const struct family family = {.question = ask_gemma};
    struct tokenizer *tokenizer;
    struct error err;
    assert_true(tokenizer_open(&tokenizer, golden("gemma.json"), &err));
    const struct model model = {.family = &family, .self = tokenizer};
    assert_string_equal(told(&model, "What does the wiring, really cost?"),
                        "What[3,2] does[5,1] the[6,1] wiring[7,5] really[14,4] cost[18,3]");
    /* Bytes of Han; "▁e" begins with the blank; the signs around a word are none of it, those
     * within are. */
    assert_string_equal(told(&model, "中国人 e.g. naïve C++ (x)"),
                        "中[3,3] 国[6,3] 人[9,3] e.g[12,3] naïve[16,6] C[22,1] x[27,1]");
    assert_string_equal(told(&model, ""), "");
    assert_string_equal(told(&model, "  ?! … ()"), "");
    assert_string_equal(told(&model, "a"), "a[3,1]");
    tokenizer_close(tokenizer);
}

static void test_bert(void **state) {
    (void)state;
    const struct family family = {.question = ask_bert};
    struct tokenizer *tokenizer;
    struct error err;
    assert_true(tokenizer_open(&tokenizer, golden("bert.json"), &err));
    const struct model model = {.family = &family, .self = tokenizer};
    assert_string_equal(told(&model, "What does the wiring, really cost?"),
                        "What[1,1] does[2,1] the[3,1] wiring[4,4] really[9,5] cost[14,3]");
    assert_string_equal(told(&model, "中国人 e.g. naïve C++ (x)"),
                        "中[1,1] 国[2,1] 人[3,1] e.g[4,3] naïve[8,3] C[11,1] x[15,1]");
    /* Bytes that are no characters, and a soft hyphen, that the normalizer drops. */
    assert_string_equal(told(&model, "the\xff c\xc2\xadost"), "the[1,1] c\xc2\xadost[2,3]");
    tokenizer_close(tokenizer);
}

/* A tokenizer that writes a token over the blank between two words: they are told as one. */
static void ask_pairs(struct tokens *out, struct arena *into, const void *self, const char *text,
                      size_t len, bool open) {
    (void)self;
    (void)open;
    *out = (struct tokens){.ids = arena_alloc(into, (len + 1) * sizeof(int))};
    for (size_t i = 0; i < len; i++) {
        bool pair = len - i >= 3 && memcmp(text + i, "b c", 3) == 0;
        out->ids[out->n++] = pair ? 1000 : (unsigned char)text[i];
        i += pair ? 2 : 0;
    }
}

static void test_shared_token(void **state) {
    (void)state;
    const struct family family = {.question = ask_pairs}, silent = {.question = NULL};
    const struct model model = {.family = &family};
    assert_string_equal(told(&model, "ab cd ef"), "ab cd[0,3] ef[4,2]");
    assert_string_equal(told(&model, "b c"), "b c[0,1]");
    const struct model other = {.family = &silent};
    assert_string_equal(told(&other, "b c"), "");
}

static void test_many(void **state) {
    (void)state;
    const struct family family = {.question = ask_pairs};
    const struct model model = {.family = &family};
    struct model_word *words;
    char text[2 * MODEL_WORDS_MAX + 20];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 ? ' ' : 'a';
    assert_int_equal(model_words(&words, arena, &model, text, sizeof text), MODEL_WORDS_MAX);
    assert_int_equal(words[MODEL_WORDS_MAX - 1].start, 2 * MODEL_WORDS_MAX - 2);
}

/* ---- made models ---------------------------------------------------------------------------- */

static struct model *opened(const char *dir, const char *prompt) {
    const struct model_options options = {
        .name = "test/made", .folder = dir, .precision = PRECISION_FP32, .query_prompt = prompt};
    struct model *model = NULL;
    struct error err;
    if (!model_open(&model, device, &options, &err))
        fail_msg("%s", err.text);
    return model;
}

static int vectors_of(struct model *model, const char *text) {
    const struct model_input input = {.kind = INPUT_QUERY, .text = text, .len = strlen(text)};
    struct embedding out;
    struct error err;
    if (!model_embed(&out, arena, model, &input, 1, NULL, &err))
        fail_msg("%s", err.text);
    return out.n;
}

/* Bytes are tokens here. <bos>, then "Question: ". */
static void test_colpali(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_colpali(&made, dir, MADE_TODAY);
    struct model *model = opened(dir, "question");
    assert_int_equal(model_info(model)->grid_width, 2);
    assert_int_equal(model_info(model)->grid_height, 2);
    assert_string_equal(told(model, "a fox"), "a[11,1] fox[13,3]");
    assert_int_equal(vectors_of(model, "a fox"), 11 + 5 + 10 + 1);
    model_close(model);
    model = opened(dir, "none");
    assert_string_equal(told(model, "a fox"), "a[1,1] fox[3,3]");
    /* What is too long for the model: its last words have no vectors. */
    int max = model_info(model)->max_tokens;
    char *text = arena_alloc(arena, (size_t)max + 20);
    memset(text, 'a', (size_t)max + 10);
    for (int i = 5; i < max + 10; i += 6)
        text[i] = ' ';
    struct model_word *words;
    int n = model_words(&words, arena, model, text, strlen(text));
    assert_int_equal(vectors_of(model, text), max);
    assert_int_equal(n,
                     (max - 1 - 10) / 6 < MODEL_WORDS_MAX ? (max - 1 - 10) / 6 : MODEL_WORDS_MAX);
    assert_int_equal(words[n - 1].first, 1 + 6 * (n - 1));
    assert_int_equal(words[n - 1].n, 5);
    model_close(model);
    made_remove(dir);
}

/* Letters are words' tokens here. [CLS] and the marker stand before them. */
static void test_colbert(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_bert(&made, dir, "bert.", true);
    struct model *model = opened(dir, NULL);
    assert_int_equal(model_info(model)->grid_width, 0);
    assert_string_equal(told(model, "a fox."), "a[2,1] fox[3,3]");
    int n_vectors = vectors_of(model, "a fox.");
    struct model_word *words;
    char text[200];
    memset(text, 'a', sizeof text);
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = ' ';
    int n = model_words(&words, arena, model, text, sizeof text);
    assert_int_equal(n, n_vectors - 3); /* as many as have room beside [CLS], marker and [SEP] */
    assert_int_equal(words[n - 1].first, n_vectors - 2);
    model_close(model);
    made_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemma),        cmocka_unit_test(test_bert),
        cmocka_unit_test(test_shared_token), cmocka_unit_test(test_many),
        cmocka_unit_test(test_colpali),      cmocka_unit_test(test_colbert),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
