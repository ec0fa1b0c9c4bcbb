/* From inputs to vectors: what every family keeps to, whatever comes in. */
#include "model/internal.h"

#include <math.h>
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
    return device_open(&device, "cpu", 2, &err) ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    device_close(device);
    arena_free(arena);
    return 0;
}

static struct model *opened(const char *dir, const char *prompt) {
    const struct model_options options = {
        .name = "test/made", .folder = dir, .precision = PRECISION_FP32, .query_prompt = prompt};
    struct model *model = NULL;
    struct error err;
    if (!model_open(&model, device, &options, &err))
        fail_msg("%s", err.text);
    return model;
}

static struct model_input text(enum input_kind kind, const char *words) {
    return (struct model_input){.kind = kind, .text = words, .len = strlen(words)};
}

static void embed(struct embedding *out, struct model *model, const struct model_input *inputs,
                  int n) {
    struct error err;
    if (!model_embed(out, arena, model, inputs, n, NULL, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        assert_true(out[i].n > 0 && out[i].dim == model_info(model)->dim);
        for (int j = 0; j < out[i].n; j++) {
            double sum = 0;
            for (int c = 0; c < out[i].dim; c++)
                sum += (double)out[i].values[j * out[i].dim + c] *
                       (double)out[i].values[j * out[i].dim + c];
            assert_true(fabs(sum - 1) < 1e-5);
        }
    }
}

static float apart(const struct embedding *a, const struct embedding *b) {
    float most = 0;
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->dim, b->dim);
    for (int i = 0; i < a->n * a->dim; i++)
        most = fmaxf(most, fabsf(a->values[i] - b->values[i]));
    return most;
}

static char *long_text(void) {
    struct buf words = {0};
    for (int i = 0; i < 100000; i++)
        buf_printf(&words, "word%d ", i % 97);
    return buf_take(&words);
}

/* Texts of every length and none, together and alone: the same vectors. */
static void check_texts(struct model *model, enum input_kind kind) {
    char *words = long_text();
    const struct model_input inputs[] = {
        text(kind, ""),
        text(kind, "a"),
        {.kind = kind, .text = words, .len = strlen(words)},
        text(kind, "\xff\xfe\x80 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x92\xa9"),
        text(kind, "the quick brown fox, over it."),
        {.kind = kind, .text = NULL, .len = 0},
        {.kind = kind, .text = "a\0b", .len = 3},
    };
    enum { N = BASE_COUNT(inputs) };
    struct embedding all[N], one;
    embed(all, model, inputs, N);
    for (int i = 0; i < N; i++) {
        embed(&one, model, &inputs[i], 1);
        assert_true(apart(&all[i], &one) < 1e-5f);
        assert_true(one.n_tokens <= model_info(model)->max_tokens);
    }
    assert_true(apart(&all[0], &all[5]) < 1e-6f);
    mem_free(words);
}

static void test_sentence(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_bert(&made, dir, "", false);
    struct model *model = opened(dir, NULL);
    const struct model_info *info = model_info(model);
    assert_string_equal(info->family, "bert");
    assert_false(info->late || info->takes_images);
    assert_int_equal(info->max_tokens, 64);
    check_texts(model, INPUT_QUERY);
    check_texts(model, INPUT_PASSAGE);
    struct model_input picture = {.kind = INPUT_IMAGE, .picture = {(const uint8_t *)"abc", 1, 1}};
    struct embedding out;
    struct error err = {0};
    assert_false(model_embed(&out, arena, model, &picture, 1, NULL, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    char space[256];
    snprintf(space, sizeof space, "test/made@%.12s/32/fp32", info->weights_hash);
    assert_string_equal(info->space, space);
    model_close(model);
    made_remove(dir);
}

/* What the folder says beside config.json: prompts, length, pooling. */
static void test_sentence_folder(void **state) {
    (void)state;
    char *dir = made_dir(), *pooling = mem_printf("%s/how_it_pools", dir);
    char hash[SHA256_HEX + 1];
    struct made made = {.seed = 5};
    struct embedding out[4], cls;
    struct model_input inputs[2] = {text(INPUT_QUERY, "a fox"), text(INPUT_QUERY, "say: a fox")};
    made_bert(&made, dir, "", false);
    struct model *model = opened(dir, NULL);
    embed(&out[1], model, &inputs[1], 1); /* without prompts: the prompt written out */
    embed(&out[2], model, &inputs[0], 1);
    model_close(model);

    made_file(dir, "config_sentence_transformers.json",
              "{\"prompts\":{\"query\":\"say: \",\"passage\":\"\"},\"default_prompt_name\":null}");
    made_file(dir, "sentence_bert_config.json", "{\"max_seq_length\":12,\"do_lower_case\":false}");
    model = opened(dir, NULL);
    assert_int_equal(model_info(model)->max_tokens, 12);
    embed(&out[0], model, &inputs[0], 1);
    assert_true(apart(&out[0], &out[1]) < 1e-6f);
    inputs[0].kind = INPUT_PASSAGE;
    embed(&out[3], model, &inputs[0], 1);
    assert_true(apart(&out[3], &out[2]) < 1e-6f);
    inputs[0] = text(INPUT_PASSAGE, "a b c d e f g h i j k l m n");
    embed(&out[0], model, &inputs[0], 1);
    assert_int_equal(out[0].n_tokens, 12);
    assert_true(out[0].cut);
    inputs[0] = text(INPUT_PASSAGE, "a b c d e f g h i j"); /* with [CLS] and [SEP] as many as go */
    embed(&out[0], model, &inputs[0], 1);
    assert_int_equal(out[0].n_tokens, 12);
    assert_false(out[0].cut);
    model_close(model);

    assert_true(dir_make(pooling, NULL));
    made_file(dir, "modules.json",
              "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
              "{\"path\":\"how_it_pools\",\"type\":\"sentence_transformers.models.Pooling\"},"
              "{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]");
    made_file(pooling, "config.json",
              "{\"word_embedding_dimension\":32,\"pooling_mode_cls_token\":true,"
              "\"pooling_mode_mean_tokens\":false}");
    model = opened(dir, NULL);
    embed(&cls, model, &inputs[0], 1);
    assert_true(apart(&cls, &out[0]) > 1e-3f);
    memcpy(hash, model_info(model)->weights_hash, sizeof hash);
    model_close(model);
    made_file(pooling, "config.json", "{\"pooling_mode\":\"mean\"}");
    model = opened(dir, NULL);
    embed(&cls, model, &inputs[0], 1);
    assert_true(apart(&cls, &out[0]) < 1e-6f);
    assert_string_not_equal(hash, model_info(model)->weights_hash);
    model_close(model);
    made_file(pooling, "config.json", "{\"pooling_mode_max_tokens\":true}");
    const struct model_options options = {.name = "n", .folder = dir, .precision = PRECISION_FP32};
    struct error err = {0};
    assert_false(model_open(&model, device, &options, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "max"));
    mem_free(pooling);
    made_remove(dir);
}

static void test_colbert(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_bert(&made, dir, "bert.", true);
    struct model *model = opened(dir, NULL);
    struct embedding out[2];
    assert_string_equal(model_info(model)->family, "colbert");
    assert_true(model_info(model)->late);
    assert_int_equal(model_info(model)->dim, 12);
    check_texts(model, INPUT_PASSAGE);
    check_texts(model, INPUT_QUERY);
    /* Masks are not seen: the words' vectors are those of a query without any. */
    struct model_input inputs[] = {text(INPUT_QUERY, "a b"), text(INPUT_QUERY, "a b")};
    embed(out, model, inputs, 2);
    assert_int_equal(out[0].n, 16);
    /* [CLS] [D] a . b [SEP], without the stop. */
    inputs[0] = text(INPUT_PASSAGE, "a . b");
    embed(out, model, inputs, 1);
    assert_int_equal(out[0].n_tokens, 6);
    assert_int_equal(out[0].n, 5);
    inputs[0] = text(INPUT_PASSAGE, ". . .");
    embed(out, model, inputs, 1);
    assert_int_equal(out[0].n, 3);
    assert_false(out[0].cut);
    inputs[0] = text(INPUT_QUERY, "a b c d e f g h i j k l m"); /* 16 with [CLS], [Q] and [SEP] */
    embed(out, model, inputs, 1);
    assert_false(out[0].cut);
    inputs[0] = text(INPUT_QUERY, "a b c d e f g h i j k l m n");
    embed(out, model, inputs, 1);
    assert_true(out[0].cut);
    model_close(model);
    made_remove(dir);
}

static struct model_input picture(uint8_t **rgb, int width, int height, int step) {
    size_t n = 3 * (size_t)width * (size_t)height;
    *rgb = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        (*rgb)[i] = (uint8_t)(200 + i * (size_t)step * 31);
    return (struct model_input){.kind = INPUT_IMAGE, .picture = {*rgb, width, height}};
}

static void test_colpali(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_colpali(&made, dir, MADE_TODAY);
    struct model *model = opened(dir, "question");
    const struct model_info *info = model_info(model);
    assert_string_equal(info->family, "colpali");
    assert_true(info->late && info->takes_images && info->takes_text);
    assert_int_equal(info->dim, 8);
    uint8_t *rgb[5];
    const struct model_input pages[] = {picture(&rgb[0], 60, 40, 1), picture(&rgb[1], 1, 1, 0),
                                        picture(&rgb[2], 20000, 10, 1),
                                        picture(&rgb[3], 30, 900, 0), picture(&rgb[4], 28, 28, 1)};
    struct embedding all[5], one;
    embed(all, model, pages, 5);
    for (int i = 0; i < 5; i++) {
        embed(&one, model, &pages[i], 1);
        assert_true(apart(&all[i], &one) < 1e-5f);
        /* four patches, <bos>, 18 letters' bytes and the spaces of the prompt, the line's end */
        assert_int_equal(one.n, 4 + 1 + 19 + 1);
        mem_free(rgb[i]);
    }
    assert_true(apart(&all[1], &all[3]) < 1e-5f); /* both of one grey */
    check_texts(model, INPUT_QUERY);
    check_texts(model, INPUT_PASSAGE);
    model_close(model);
    made_remove(dir);
}

/* The names of libraries old and new, and of the merged form, are the same model. */
static void test_colpali_names(void **state) {
    (void)state;
    struct embedding out[3];
    for (int i = 0; i < 3; i++) {
        char *dir = made_dir();
        struct made made = {.seed = 5};
        made_colpali(&made, dir, (enum made_names)i);
        struct model *model = opened(dir, "query");
        uint8_t *rgb;
        const struct model_input page = picture(&rgb, 60, 40, 1);
        embed(&out[i], model, &page, 1);
        assert_true(apart(&out[i], &out[0]) < 1e-6f);
        mem_free(rgb);
        model_close(model);
        made_remove(dir);
    }
}

static void test_colpali_prompts(void **state) {
    (void)state;
    static const char *const prompts[] = {"question", "query", "none"};
    static const int tokens[] = {1 + 10 + 5 + 10 + 1, 1 + 7 + 5 + 10 + 1, 1 + 5 + 10};
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_colpali(&made, dir, MADE_TODAY);
    for (int i = 0; i < 3; i++) {
        struct model *model = opened(dir, prompts[i]);
        const struct model_input input = text(INPUT_QUERY, "a fox");
        struct embedding out;
        embed(&out, model, &input, 1);
        assert_int_equal(out.n, tokens[i]);
        assert_true(text_has_suffix(model_info(model)->space, "/fp32")); /* pages know no prompt */
        model_close(model);
    }
    const struct model_options options = {
        .name = "n", .folder = dir, .precision = PRECISION_FP32, .query_prompt = "other"};
    struct model *model = NULL;
    struct error err = {0};
    assert_false(model_open(&model, device, &options, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_non_null(strstr(err.text, "other"));
    made_remove(dir);
}

/* ---- between two layers --------------------------------------------------------------------- */

struct pauses {
    struct model *model;
    int n, stop_at;
    struct embedding inner;
};

static bool pause_here(void *ctx) {
    struct pauses *pauses = ctx;
    const struct model_input question = text(INPUT_QUERY, "a fox");
    if (pauses->n == 1)
        embed(&pauses->inner, pauses->model, &question, 1);
    return ++pauses->n != pauses->stop_at;
}

static void test_between(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    made_colpali(&made, dir, MADE_TODAY);
    struct model *model = opened(dir, "question");
    uint8_t *rgb;
    const struct model_input page = picture(&rgb, 60, 40, 1), question = text(INPUT_QUERY, "a fox");
    struct embedding alone, asked, paused;
    struct pauses pauses = {.model = model};
    const struct model_between between = {&pauses, pause_here};
    struct error err = {0};
    embed(&alone, model, &page, 1);
    embed(&asked, model, &question, 1);
    assert_true(model_embed(&paused, arena, model, &page, 1, &between, &err));
    assert_int_equal(pauses.n, 4);
    assert_true(apart(&alone, &paused) == 0);
    assert_true(apart(&asked, &pauses.inner) == 0);
    for (int i = 1; i <= 4; i++) {
        pauses = (struct pauses){.model = model, .stop_at = i, .n = 0};
        assert_false(model_embed(&paused, arena, model, &page, 1, &between, &err));
        assert_int_equal(err.kind, ERROR_CONFLICT);
        assert_string_equal(err.code, "cancelled");
        assert_int_equal(pauses.n, i);
    }
    mem_free(rgb);
    model_close(model);
    made_remove(dir);
}

/* Weights so large that nothing finite comes out: said, not returned. */
static void test_not_finite(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5, .skip = "linear.weight"};
    made_random(&made, "bert.linear.weight", 12, 32, 3e38f, 1e37f);
    made_bert(&made, dir, "bert.", true);
    struct model *model = opened(dir, NULL);
    const struct model_input input = text(INPUT_PASSAGE, "a fox");
    struct embedding out;
    struct error err = {0};
    assert_false(model_embed(&out, arena, model, &input, 1, NULL, &err));
    assert_int_equal(err.kind, ERROR_INTERNAL);
    assert_string_equal(err.code, "not_finite");
    model_close(model);
    made_remove(dir);
}

/* A text is read so far and no further, and time goes by that. */
static void test_long_texts(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 5};
    struct model_input inputs[5];
    struct embedding out[5];
    size_t n = (size_t)40 << 20, most = MODEL_TEXT_BYTES_LEAST, n_vector;
    char *words = malloc(n), *late = malloc(n), *cut = malloc(n);
    made_bert(&made, dir, "", false);
    struct model *model = opened(dir, NULL);
    assert_true((size_t)model_info(model)->max_tokens * MODEL_TEXT_BYTES_TOKEN < most);
    for (size_t i = 0; i < n; i++)
        words[i] = i % 3 == 2 ? ' ' : (char)('a' + i * i % 23);
    /* 50 tokens far apart: the last of them as the last that is read, or behind it. */
    memset(late, ' ', n);
    for (size_t i = 0; i < 50; i++)
        late[i * 1057] = 'a';
    memcpy(cut, late, n);
    cut[most - 1] = 'b';
    late[most] = 'b';
    const struct model_input texts[] = {{.text = words, .len = n},
                                        {.text = words, .len = most / 2},
                                        {.text = cut, .len = n},
                                        {.text = late, .len = n},
                                        {.text = late, .len = most}};
    memcpy(inputs, texts, sizeof inputs);
    int64_t start_ms = time_mono_ms();
    for (int i = 0; i < 5; i++)
        inputs[i].kind = INPUT_PASSAGE;
    embed(out, model, inputs, 5);
    assert_true(time_mono_ms() - start_ms < 2000);
    n_vector = (size_t)out[0].dim * sizeof *out[0].values;
    assert_int_equal(out[0].n_tokens, 64);
    assert_memory_equal(out[0].values, out[1].values, n_vector);
    assert_int_equal(out[2].n_tokens, out[3].n_tokens + 1);
    assert_memory_equal(out[3].values, out[4].values, n_vector);
    free(words);
    free(late);
    free(cut);
    model_close(model);
    made_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentence),      cmocka_unit_test(test_sentence_folder),
        cmocka_unit_test(test_colbert),       cmocka_unit_test(test_colpali),
        cmocka_unit_test(test_colpali_names), cmocka_unit_test(test_colpali_prompts),
        cmocka_unit_test(test_long_texts),    cmocka_unit_test(test_between),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
