/* A folder's weights on their way to the device: what is refused, adapters, the copy on disk. */
#include "model/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "made.h"

static struct device *device;

static int start(void **state) {
    struct error err;
    (void)state;
    return device_open(&device, "cpu", 2, &err) ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    device_close(device);
    return 0;
}

static bool open_model(struct model **out, const char *dir, const char *base, const char *packed,
                       struct error *err) {
    const struct model_options options = {.name = "test/made",
                                          .folder = dir,
                                          .base_folder = base,
                                          .packed_dir = packed,
                                          .precision = PRECISION_FP32};
    return model_open(out, device, &options, err);
}

/* The vectors of one text; their number in *n. */
static float *vectors(int *n, struct model *model, struct arena *arena, enum input_kind kind,
                      const char *text) {
    struct embedding out;
    struct error err;
    const struct model_input input = {.kind = kind, .text = text, .len = strlen(text)};
    if (!model_embed(&out, arena, model, &input, 1, NULL, &err))
        fail_msg("%s", err.text);
    *n = out.n * out.dim;
    return out.values;
}

static float *vectors_of(int *n, const char *dir, const char *base, struct arena *arena) {
    struct model *model = NULL;
    struct error err;
    if (!open_model(&model, dir, base, NULL, &err))
        fail_msg("%s", err.text);
    float *values = vectors(n, model, arena, INPUT_PASSAGE, "what a day, and so on");
    model_close(model);
    return values;
}

static void same(const float *a, const float *b, int n, float bound) {
    for (int i = 0; i < n; i++)
        assert_true(fabsf(a[i] - b[i]) <= bound);
}

static void refused(const char *dir, const char *base, enum error_kind kind, const char *word,
                    const char *also) {
    struct model *model = NULL;
    struct error err = {0};
    if (open_model(&model, dir, base, NULL, &err))
        fail_msg("taken, though %s %s", word, also);
    assert_null(model);
    if (err.kind != kind || !strstr(err.text, word) || !strstr(err.text, also))
        fail_msg("%d %s: %s", err.kind, err.code, err.text);
}

/* ---- what is wrong -------------------------------------------------------------------------- */

static void test_tensors_refused(void **state) {
    (void)state;
    static const char key[] = "encoder.layer.1.attention.self.key.weight",
                      gain[] = "embeddings.LayerNorm.weight",
                      words[] = "embeddings.word_embeddings.weight";
    const char *const names[] = {key, gain, words};
    char *dir = made_dir();
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        struct made missing = {.skip = names[i]}, halved = {.halved = names[i]},
                    spoilt = {.spoilt = names[i]};
        made_bert(&missing, dir, "", false);
        refused(dir, NULL, ERROR_INPUT, "model.safetensors", names[i]);
        refused(dir, NULL, ERROR_INPUT, "not there", names[i]);
        made_bert(&halved, dir, "", false);
        refused(dir, NULL, ERROR_INPUT, "its shape is [", names[i]);
        made_bert(&spoilt, dir, "", false);
        refused(dir, NULL, ERROR_INPUT, "no finite number", names[i]);
    }
    struct made extra = {0};
    made_random(&extra, "encoder.layer.2.output.dense.bias", 4, 0, 0, 1);
    made_bert(&extra, dir, "", false);
    refused(dir, NULL, ERROR_INPUT, "no part of such a model", "encoder.layer.2.output.dense.bias");
    struct made twice = {0};
    made_random(&twice, "bert.embeddings.LayerNorm.bias", 32, 0, 0, 1);
    made_bert(&twice, dir, "", false);
    refused(dir, NULL, ERROR_INPUT, "twice", "bert.embeddings.LayerNorm.bias");
    struct made whole = {.skip = "embeddings.LayerNorm.bias"};
    static const int64_t numbers[32];
    made_tensor(&whole, "bert.embeddings.LayerNorm.bias", "I64", (int64_t[]){32}, 1, numbers,
                sizeof numbers);
    made_bert(&whole, dir, "", false);
    refused(dir, NULL, ERROR_INPUT, "whole numbers", "bert.embeddings.LayerNorm.bias");
    made_remove(dir);
}

/* Each value of the configuration replaced by one that cannot be. */
static void test_configs_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
        enum error_kind kind;
        const char *word;
    } cases[] = {
        {"\"hidden_size\":32", "\"hidden_size\":31", ERROR_INPUT, "no multiple"},
        {"\"hidden_size\":32", "\"hidden_size\":0", ERROR_INPUT, "hidden_size is 0"},
        {"\"hidden_size\":32", "\"hidden_size\":99999999999", ERROR_INPUT, "hidden_size"},
        {"\"hidden_size\":32", "\"hidden_size\":\"32\"", ERROR_INPUT, "whole number"},
        {"\"hidden_size\":32", "\"hidden_size\":32.5", ERROR_INPUT, "whole number"},
        {"\"hidden_size\":32", "\"hidden_size\":64", ERROR_INPUT, "its shape is"},
        {"\"max_position_embeddings\":64", "\"max_position_embeddings\":1", ERROR_INPUT,
         "max_position_embeddings is 1"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":3", ERROR_INPUT, "not there"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":1", ERROR_INPUT, "no part"},
        {"\"hidden_act\":\"gelu\"", "\"hidden_act\":\"relu6\"", ERROR_UNSUPPORTED, "relu6"},
        {"\"model_type\":\"bert\"", "\"model_type\":\"bort\"", ERROR_UNSUPPORTED, "bort"},
        {"\"vocab_size\":62", "\"vocab_size\":61", ERROR_INPUT, "tokenizer.json: token id 61"},
        {"\"type_vocab_size\":2", "\"is_decoder\":true", ERROR_UNSUPPORTED, "is_decoder"},
        {"\"type_vocab_size\":2", "\"type_vocab_size\":2,", ERROR_INPUT, "config.json: line"},
        {"\"type_vocab_size\":2", "\"hidden_size\":2", ERROR_INPUT, "config.json"},
    };
    char *dir = made_dir(), *path = mem_printf("%s/config.json", dir), *text = NULL;
    struct made made = {0};
    size_t len = 0;
    made_bert(&made, dir, "", false);
    assert_true(file_read(&text, &len, path, 1 << 20, NULL));
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        const char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        char *spoilt = mem_printf("%.*s%s%s", (int)(at - text), text, cases[i].to,
                                  at + strlen(cases[i].from));
        made_file(dir, "config.json", spoilt);
        mem_free(spoilt);
        refused(dir, NULL, cases[i].kind, cases[i].word, "");
    }
    unlink(path);
    refused(dir, NULL, ERROR_INPUT, "config.json: not there", "");
    made_file(dir, "config.json", text);
    made_file(dir, "modules.json",
              "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
              "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}]");
    refused(dir, NULL, ERROR_INPUT, "1_Pooling/config.json", "not there");
    made_file(dir, "modules.json",
              "[{\"path\":\"2_Dense\",\"type\":\"sentence_transformers.models.Dense\"}]");
    refused(dir, NULL, ERROR_UNSUPPORTED, "Dense", "modules.json");
    unlink(path);
    mem_free(text);
    mem_free(path);
    made_remove(dir);
}

static bool same_name(char out[WEIGHTS_NAME], const char *name) {
    snprintf(out, WEIGHTS_NAME, "%s", name);
    return true;
}

/* The sums of int8 products have room for so many columns, and no more. */
static void test_too_many_columns(void **state) {
    (void)state;
    static const char *const names[] = {"wide.weight"};
    for (int more = 0; more < 2; more++) {
        struct made made = {0};
        struct model model = {.device = device, .precision = PRECISION_INT8};
        struct weights *weights = NULL;
        struct weight *weight = NULL;
        struct error err = {0};
        char *dir = made_dir();
        int n = 2, k = 65536 + more;
        made_random(&made, names[0], n, k, 0, 1);
        made_save(&made, dir, "model.safetensors");
        assert_true(checkpoint_open(&model.checkpoint, dir, "model", &err));
        assert_true(weights_open(&weights, &model, same_name, &err));
        assert_int_equal(weights_linear(&weight, weights, names, &n, 1, k, WEIGHT_STACK,
                                        PRECISION_INT8, NULL, &err),
                         !more);
        if (more) {
            assert_int_equal(err.kind, ERROR_UNSUPPORTED);
            assert_non_null(strstr(err.text, "model.safetensors: tensor wide.weight"));
        } else {
            assert_true(weights_finish(weights, &err));
        }
        weights_close(weights);
        checkpoint_close(model.checkpoint);
        made_remove(dir);
    }
}

/* A prefix, and tensors that are not needed, change nothing. */
static void test_names(void **state) {
    (void)state;
    char *plain = made_dir(), *prefixed = made_dir();
    struct arena *arena = arena_new(0);
    struct made a = {.seed = 7}, b = {.seed = 7};
    static const int64_t ids[64];
    int n = 0, m = 0;
    made_bert(&a, plain, "", false);
    made_tensor(&b, "bert.embeddings.position_ids", "I64", (int64_t[]){1, 64}, 2, ids, sizeof ids);
    made_bert(&b, prefixed, "bert.", false);
    float *x = vectors_of(&n, plain, NULL, arena), *y = vectors_of(&m, prefixed, NULL, arena);
    assert_int_equal(n, 32);
    assert_int_equal(m, 32);
    same(x, y, n, 0);
    arena_free(arena);
    made_remove(plain);
    made_remove(prefixed);
}

/* ---- adapters ------------------------------------------------------------------------------- */

enum { RANK = 2 };
static const char adapted[] = "encoder.layer.0.attention.self.value";

static void write_adapter(const char *dir, const char *more, const char *skip, int rank) {
    struct made made = {.seed = 3, .skip = skip};
    char text[256];
    made_file(dir, "adapter_config.json", more);
    snprintf(text, sizeof text, "base_model.model.%s.lora_A.weight", adapted);
    made_random(&made, text, rank, 32, 0, 0.5f);
    snprintf(text, sizeof text, "base_model.model.%s.lora_B.weight", adapted);
    made_random(&made, text, 32, rank, 0, 0.5f);
    made_random(&made, "base_model.model.embeddings.LayerNorm.bias", 32, 0, 0.1f, 0.1f);
    made_save(&made, dir, "adapter_model.safetensors");
}

/* The base's file with scale · B · A added by hand, and the layer norm's bias replaced. */
static void merge(const char *dir, const char *base, const char *adapter, float scale) {
    struct checkpoint *from = NULL, *with = NULL;
    struct error err;
    struct made made = {0};
    char text[256];
    assert_true(checkpoint_open(&from, base, "model", &err));
    assert_true(checkpoint_open(&with, adapter, "adapter_model", &err));
    snprintf(text, sizeof text, "base_model.model.%s.lora_A.weight", adapted);
    const float *a = checkpoint_lookup(with, text)->data;
    snprintf(text, sizeof text, "base_model.model.%s.lora_B.weight", adapted);
    const float *b = checkpoint_lookup(with, text)->data;
    snprintf(text, sizeof text, "%s.weight", adapted);
    for (int i = 0; i < checkpoint_count(from); i++) {
        const struct checkpoint_tensor *tensor = checkpoint_at(from, i);
        float *values = mem_alloc((size_t)tensor->n * sizeof *values);
        memcpy(values, tensor->data, (size_t)tensor->n * sizeof *values);
        if (strcmp(tensor->name, text) == 0) {
            for (int j = 0; j < 32 * 32; j++) {
                for (int r = 0; r < RANK; r++) {
                    float up, down;
                    memcpy(&up, b + j / 32 * RANK + r, sizeof up);
                    memcpy(&down, a + r * 32 + j % 32, sizeof down);
                    values[j] += scale * up * down;
                }
            }
        }
        if (strcmp(tensor->name, "embeddings.LayerNorm.bias") == 0)
            memcpy(values,
                   checkpoint_lookup(with, "base_model.model.embeddings.LayerNorm.bias")->data,
                   32 * sizeof *values);
        made_tensor(&made, tensor->name, "F32", tensor->dims, tensor->n_dims, values,
                    (size_t)tensor->n * sizeof *values);
        mem_free(values);
    }
    checkpoint_close(from);
    checkpoint_close(with);
    made_save(&made, dir, "model.safetensors");
}

static void test_adapter(void **state) {
    (void)state;
    char *base = made_dir(), *adapter = made_dir(), *merged = made_dir();
    struct arena *arena = arena_new(0);
    struct made a = {.seed = 7}, b = {.seed = 7};
    int n = 0;
    made_bert(&a, base, "", false);
    made_bert(&b, merged, "", false);
    static const struct {
        const char *config;
        float scale;
    } cases[] = {
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"bias\":\"none\","
         "\"use_dora\":false,\"rank_pattern\":{},\"modules_to_save\":null}",
         3},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6,\"use_rslora\":true}", 4.2426407f}};
    float *plain = vectors_of(&n, base, NULL, arena);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        write_adapter(adapter, cases[i].config, NULL, RANK);
        merge(merged, base, adapter, cases[i].scale);
        float *by_adapter = vectors_of(&n, adapter, base, arena);
        same(by_adapter, vectors_of(&n, merged, NULL, arena), n, 1e-5f);
        float apart = 0;
        for (int k = 0; k < n; k++)
            apart = fmaxf(apart, fabsf(plain[k] - by_adapter[k]));
        assert_true(apart > 1e-2f);
    }
    arena_free(arena);
    made_remove(base);
    made_remove(adapter);
    made_remove(merged);
}

static void test_adapters_refused(void **state) {
    (void)state;
    static const struct {
        const char *config;
        enum error_kind kind;
        const char *word;
    } cases[] = {
        {"{\"r\":2,\"lora_alpha\":6,\"use_dora\":true}", ERROR_UNSUPPORTED, "use_dora"},
        {"{\"r\":2,\"lora_alpha\":6,\"bias\":\"all\"}", ERROR_UNSUPPORTED, "bias"},
        {"{\"r\":2,\"lora_alpha\":6,\"lora_bias\":true}", ERROR_UNSUPPORTED, "lora_bias"},
        {"{\"r\":2,\"lora_alpha\":6,\"rank_pattern\":{\"q\":4}}", ERROR_UNSUPPORTED,
         "rank_pattern"},
        {"{\"r\":2,\"lora_alpha\":6,\"peft_type\":\"IA3\"}", ERROR_UNSUPPORTED, "IA3"},
        {"{\"r\":2}", ERROR_INPUT, "lora_alpha"},
        {"{\"lora_alpha\":2}", ERROR_INPUT, "r is not there"},
        {"{\"r\":3,\"lora_alpha\":6}", ERROR_INPUT, "its rank"},
    };
    char *base = made_dir(), *adapter = made_dir();
    struct made made = {0};
    made_bert(&made, base, "", false);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        write_adapter(adapter, cases[i].config, NULL, RANK);
        refused(adapter, base, cases[i].kind, cases[i].word, "");
    }
    write_adapter(adapter, "{\"r\":2,\"lora_alpha\":6}",
                  "base_model.model.encoder.layer.0.attention.self.value.lora_B.weight", RANK);
    refused(adapter, base, ERROR_INPUT, "other half", "value.lora_A.weight");
    made_random(&made, "base_model.model.encoder.layer.5.output.dense.lora_A.weight", 2, 48, 0, 1);
    made_random(&made, "base_model.model.encoder.layer.5.output.dense.lora_B.weight", 32, 2, 0, 1);
    made_save(&made, adapter, "adapter_model.safetensors");
    refused(adapter, base, ERROR_INPUT, "no part of such a model", "layer.5");
    made_random(&made, "base_model.model.encoder.layer.1.output.dense.lora_A.weight", 2, 32, 0, 1);
    made_random(&made, "base_model.model.encoder.layer.1.output.dense.lora_B.weight", 32, 2, 0, 1);
    made_save(&made, adapter, "adapter_model.safetensors");
    refused(adapter, base, ERROR_INPUT, "does not fit", "layer.1");
    refused(adapter, NULL, ERROR_INPUT, "base_model_name_or_path", "");
    made_file(adapter, "adapter_config.json", "{\"base_model_name_or_path\":\"x/y\"}");
    refused(adapter, NULL, ERROR_MISSING, "x/y", "");
    made_remove(base);
    made_remove(adapter);
}

/* ---- loud channels -------------------------------------------------------------------------- */

enum { WIDE = 512, OUT = 64, ROWS = 24, LOUD_AT = 77 };

static bool as_it_is(char out[WEIGHTS_NAME], const char *name) {
    snprintf(out, WEIGHTS_NAME, "%s", name);
    return true;
}

static void fill(float *out, int n, unsigned seed) {
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
}

/* A norm and a linear layer on the host, in double. */
static void reference(double *out, const float *in, const struct checkpoint *checkpoint) {
    const struct checkpoint_tensor *matrix = checkpoint_lookup(checkpoint, "l.weight");
    float gain[WIDE], bias[WIDE], row[WIDE];
    struct error err;
    assert_true(checkpoint_floats(gain, checkpoint_lookup(checkpoint, "n.weight"), 0, WIDE, &err));
    assert_true(checkpoint_floats(bias, checkpoint_lookup(checkpoint, "n.bias"), 0, WIDE, &err));
    double mean = 0, square = 0;
    for (int c = 0; c < WIDE; c++) {
        mean += (double)in[c] / WIDE;
        square += (double)in[c] * (double)in[c] / WIDE;
    }
    double by = 1 / sqrt(square - mean * mean + 1e-6);
    for (int i = 0; i < OUT; i++) {
        assert_true(checkpoint_floats(row, matrix, (int64_t)i * WIDE, WIDE, &err));
        out[i] = 0;
        for (int c = 0; c < WIDE; c++)
            out[i] += (double)row[c] *
                      (((double)in[c] - mean) * by * (double)gain[c] + (double)bias[c]);
    }
}

/* The root of the error's share of the whole, with the norm told that only linear layers follow or
 * not. */
static double loud_error(struct checkpoint *checkpoint, bool before_linear) {
    struct model model = {.device = device, .checkpoint = checkpoint, .precision = PRECISION_INT8};
    static const char *const names[] = {"l.weight"};
    const int n = OUT;
    struct weights *weights = NULL;
    struct weights_norm norm;
    struct weight *linear = NULL;
    struct tensor *x = NULL, *y = NULL;
    struct error err;
    float in[ROWS * WIDE], out[ROWS * OUT];
    double wrong = 0, whole = 0, want[OUT];
    fill(in, ROWS * WIDE, 3);
    assert_true(weights_open(&weights, &model, as_it_is, &err));
    assert_true(weights_norm(&norm, weights, "n", WIDE, 0, true, before_linear, &err));
    assert_int_equal(norm.columns != NULL, before_linear);
    assert_true(weights_linear(&linear, weights, names, &n, 1, WIDE, WEIGHT_STACK, PRECISION_INT8,
                               norm.columns, &err));
    assert_true(weights_finish(weights, &err));
    assert_true(tensor_new(&x, device, ROWS, WIDE, &err) &&
                tensor_new(&y, device, ROWS, OUT, &err));
    assert_true(tensor_write(x, 0, ROWS, in, &err));
    assert_true(device_layer_norm(x, x, norm.gain, norm.bias, 1e-6f, &err));
    assert_true(device_linear(y, x, linear, NULL, ACTIVATION_NONE, NULL, &err));
    assert_true(tensor_read(out, y, 0, ROWS, &err));
    for (int i = 0; i < ROWS; i++) {
        reference(want, in + i * WIDE, checkpoint);
        for (int c = 0; c < OUT; c++) {
            double apart = (double)out[i * OUT + c] - want[c];
            wrong += apart * apart;
            whole += want[c] * want[c];
        }
    }
    tensor_free(x);
    tensor_free(y);
    weights_close(weights);
    return sqrt(wrong / whole);
}

static void test_loud_channels(void **state) {
    (void)state;
    char *dir = made_dir();
    struct made made = {.seed = 7};
    struct checkpoint *checkpoint = NULL;
    struct error err;
    float gain[WIDE], bias[WIDE], matrix[OUT * WIDE];
    fill(gain, WIDE, 1);
    fill(bias, WIDE, 2);
    fill(matrix, OUT * WIDE, 4);
    for (int c = 0; c < WIDE; c++) {
        gain[c] = (1 + 0.2f * gain[c]) * (c % 170 == LOUD_AT ? 50 : 1);
        bias[c] *= 0.1f;
    }
    made_tensor(&made, "n.weight", "F32", (int64_t[]){WIDE}, 1, gain, sizeof gain);
    made_tensor(&made, "n.bias", "F32", (int64_t[]){WIDE}, 1, bias, sizeof bias);
    made_tensor(&made, "l.weight", "F32", (int64_t[]){OUT, WIDE}, 2, matrix, sizeof matrix);
    made_save(&made, dir, "model.safetensors");
    assert_true(checkpoint_open(&checkpoint, dir, "model", &err));
    double with = loud_error(checkpoint, true), without = loud_error(checkpoint, false);
    print_message("error of a linear layer behind loud channels: %.4f, shared %.4f\n", without,
                  with);
    assert_true(with < 0.01);
    assert_true(with < without / 2);
    checkpoint_close(checkpoint);
    made_remove(dir);
}

/* ---- the copy on disk ----------------------------------------------------------------------- */

/* The name of the one file of `dir` that ends so. */
static char *only(const char *dir, const char *suffix) {
    DIR *folder = opendir(dir);
    char *found = NULL;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (!text_has_suffix(entry->d_name, suffix))
            continue;
        assert_null(found);
        found = mem_printf("%s/%s", dir, entry->d_name);
    }
    if (folder)
        closedir(folder);
    return found;
}

/* Opens with the packed folder; the vectors must be `want`. */
static void opened(const char *dir, const char *packed, bool from_disk, const float *want,
                   struct arena *arena) {
    struct model *model = NULL;
    struct error err;
    int n = 0;
    if (!open_model(&model, dir, NULL, packed, &err))
        fail_msg("%s", err.text);
    assert_int_equal(model_info(model)->packed_from_disk, from_disk);
    same(vectors(&n, model, arena, INPUT_PASSAGE, "what a day, and so on"), want, 32, 0);
    model_close(model);
}

static void patch(const char *path, long at, const void *bytes, size_t len) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_packed(void **state) {
    (void)state;
    char *dir = made_dir(), *top = made_dir(), *packed = mem_printf("%s/made/by/it", top);
    struct arena *arena = arena_new(0);
    struct made made = {.seed = 7};
    int n = 0;
    made_bert(&made, dir, "", false);
    float *want = vectors_of(&n, dir, NULL, arena);
    opened(dir, packed, false, want, arena);
    opened(dir, packed, true, want, arena);
    char *file = only(packed, ".weights");
    assert_non_null(file);
    assert_null(only(packed, ".part"));
    struct stat info;
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(info.st_size % 4096, 0);
    /* Damaged in the header, in a weight, cut, grown, emptied: packed again each time. */
    for (long at = 0; at < 200; at += 13) {
        char byte = (char)0xa5;
        patch(file, at, &byte, 1);
        opened(dir, packed, false, want, arena);
        opened(dir, packed, true, want, arena);
    }
    static const char zeros[4096];
    patch(file, 4096, zeros, sizeof zeros);
    opened(dir, packed, false, want, arena);
    assert_int_equal(truncate(file, info.st_size - 4096), 0);
    opened(dir, packed, false, want, arena);
    assert_int_equal(truncate(file, info.st_size + 1), 0);
    opened(dir, packed, false, want, arena);
    assert_int_equal(truncate(file, 0), 0);
    opened(dir, packed, false, want, arena);
    /* A part that a killed process left is written over. */
    assert_int_equal(unlink(file), 0);
    char *part = mem_printf("%s.part", file);
    made_file(packed, path_name(part), "left behind");
    opened(dir, packed, false, want, arena);
    opened(dir, packed, true, want, arena);
    assert_int_not_equal(access(part, F_OK), 0);
    mem_free(part);
    mem_free(file);
    arena_free(arena);
    mem_free(packed);
    made_remove(top);
    made_remove(dir);
}

static void set_age(const char *path, int days) {
    struct timespec times[2] = {{.tv_sec = time_wall_ms() / 1000 - days * 86400}};
    times[1] = times[0];
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* What was not used for a month goes when something new comes; nothing of others' goes. */
static void test_unused(void **state) {
    (void)state;
    static const char *const ends[] = {".weights", ".hash", ".weights.part", ".txt"};
    char *dir = made_dir(), *packed = made_dir(), key[SHA256_HEX + 1], *paths[2][4];
    struct arena *arena = arena_new(0);
    struct made made = {.seed = 7}, other = {.seed = 8};
    int n = 0;
    made_bert(&made, dir, "", false);
    float *want = vectors_of(&n, dir, NULL, arena);
    opened(dir, packed, false, want, arena);
    char *used = only(packed, ".weights"), *record = only(packed, ".hash");
    set_age(used, 31);
    set_age(record, 31);
    opened(dir, packed, true, want, arena); /* used: young again */
    for (int i = 0; i < 2; i++) {
        sha256_hex(key, i ? "b" : "a", 1);
        for (int j = 0; j < 4; j++) {
            char *name = mem_printf("%s%s", key, ends[j]);
            made_file(packed, name, "old");
            paths[i][j] = mem_printf("%s/%s", packed, name);
            set_age(paths[i][j], i ? 31 : 29);
            mem_free(name);
        }
    }
    made_bert(&other, dir, "", false);
    opened(dir, packed, false, vectors_of(&n, dir, NULL, arena), arena);
    assert_int_equal(access(used, F_OK), 0);
    assert_int_equal(access(record, F_OK), 0);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) {
            assert_int_equal(access(paths[i][j], F_OK) == 0, i == 0 || j == 3);
            mem_free(paths[i][j]);
        }
    }
    mem_free(used);
    mem_free(record);
    arena_free(arena);
    made_remove(packed);
    made_remove(dir);
}

/* Without room in memory the part on disk takes the weights; without either they are refused. */
static void test_no_room(void **state) {
    (void)state;
    enum { BIG = 20 << 20, LAST = 1000 };
    static const size_t sizes[] = {BIG, LAST};
    const int64_t room = 1 << 20;
    char *dir = made_dir(), key[SHA256_HEX + 1];
    struct packed *packed = NULL;
    struct error err = {0};
    sha256_hex(key, "a key", 5);
    assert_false(packed_new(&packed, NULL, key, sizes, 2, room, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_string_equal(err.code, "out_of_memory");
    assert_non_null(strstr(err.text, "20 MB"));
    /* One that was never filled leaves nothing. */
    assert_true(packed_new(&packed, dir, key, sizes, 2, room, &err));
    packed_close(packed);
    assert_null(only(dir, ".part"));
    for (int in_memory = 0; in_memory < 2; in_memory++) {
        assert_true(packed_new(&packed, dir, key, sizes, 2, in_memory ? -1 : room, &err));
        char *part = only(dir, ".part");
        assert_int_equal(part != NULL, !in_memory);
        mem_free(part);
        memset(packed_at(packed, 0), 'x', BIG);
        memset(packed_at(packed, 1), 'y', LAST);
        packed_keep(packed, "/a");
        packed_close(packed);
        assert_null(only(dir, ".part"));
        packed_open(&packed, dir, key, sizes, 2);
        assert_non_null(packed);
        assert_int_equal(((const char *)packed_at(packed, 0))[BIG - 1], 'x');
        assert_int_equal(((const char *)packed_at(packed, 1))[LAST - 1], 'y');
        packed_close(packed);
        packed_forget(dir, "/another");
        char *file = only(dir, ".weights");
        assert_non_null(file);
        mem_free(file);
        packed_forget(dir, "/a");
        assert_null(only(dir, ".weights"));
        assert_null(only(dir, ".from"));
    }
    made_remove(dir);
}

/* Other weights under the same name, though as long and as old, are never taken for those packed.
 */
static void test_changed(void **state) {
    (void)state;
    char *dir = made_dir(), *packed = made_dir();
    char *path = mem_printf("%s/model.safetensors", dir);
    struct arena *arena = arena_new(0);
    struct made first = {.seed = 7}, second = {.seed = 8};
    struct stat info;
    int n = 0;
    made_bert(&first, dir, "", false);
    float *before = vectors_of(&n, dir, NULL, arena);
    opened(dir, packed, false, before, arena);
    assert_int_equal(stat(path, &info), 0);
    made_bert(&second, dir, "", false);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    float *after = vectors_of(&n, dir, NULL, arena);
    assert_memory_not_equal(before, after, 32 * sizeof *after);
    opened(dir, packed, false, after, arena);
    opened(dir, packed, true, after, arena);
    /* A hash that was tampered with is no hash. */
    char *record = only(packed, ".hash");
    assert_non_null(record);
    patch(record, -3, "!", 1);
    opened(dir, packed, true, after, arena);
    mem_free(record);
    arena_free(arena);
    mem_free(path);
    made_remove(packed);
    made_remove(dir);
}

/* A folder that cannot be written to: the model works all the same. */
static void test_not_kept(void **state) {
    (void)state;
    char *dir = made_dir();
    char *packed = mem_printf("%s/config.json/below-a-file", dir);
    struct arena *arena = arena_new(0);
    struct made made = {.seed = 7};
    int n = 0;
    made_bert(&made, dir, "", false);
    float *want = vectors_of(&n, dir, NULL, arena);
    opened(dir, packed, false, want, arena);
    opened(dir, packed, false, want, arena);
    arena_free(arena);
    mem_free(packed);
    made_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_refused),  cmocka_unit_test(test_configs_refused),
        cmocka_unit_test(test_too_many_columns), cmocka_unit_test(test_names),
        cmocka_unit_test(test_adapter),          cmocka_unit_test(test_adapters_refused),
        cmocka_unit_test(test_loud_channels),    cmocka_unit_test(test_packed),
        cmocka_unit_test(test_no_room),          cmocka_unit_test(test_unused),
        cmocka_unit_test(test_changed),          cmocka_unit_test(test_not_kept),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
