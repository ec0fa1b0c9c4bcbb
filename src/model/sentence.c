/* sentence: BERT encoders that give one vector a text, as sentence-transformers runs them.
 *
 * modules.json says which steps follow the encoder: mean or [CLS] pooling, perhaps normalising.
 * Vectors are always brought to length 1, also where the folder does not ask for it: cosines are
 * what they are compared by. Without modules.json the mean is taken, as sentence-transformers does.
 */
#include "model/bert.h"

#include <stdio.h>
#include <string.h>

struct sentence {
    struct model *model;
    struct weights *weights;
    struct bert *bert;
    bool first_token; /* pooled by [CLS], not the mean */
    const char *query_prompt, *passage_prompt;
};

/* ---- opening -------------------------------------------------------------------------------- */

static bool sentence_takes(const struct model *model) {
    return model_is(model, "bert");
}

static bool unknown(struct error *err, const char *file, const char *what, const char *name) {
    return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                          "%s: %s \"%s\" is not one that this program knows", file, what, name);
}

/* "pooling_mode": "mean", or the older "pooling_mode_mean_tokens": true and its like. */
static bool read_pooling(struct sentence *sentence, const json_t *json, const char *file,
                         struct error *err) {
    static const char *const modes[][2] = {{"pooling_mode_cls_token", "cls"},
                                           {"pooling_mode_mean_tokens", "mean"},
                                           {"pooling_mode_max_tokens", "max"},
                                           {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"},
                                           {"pooling_mode_weightedmean_tokens", "weightedmean"},
                                           {"pooling_mode_lasttoken", "lasttoken"}};
    const struct config config = {json, file};
    const char *mode = NULL;
    bool include = true;
    const json_t *listed = json_object_get(json, "pooling_mode");
    if (json_is_array(listed) && json_array_size(listed) == 1)
        mode = json_string_value(json_array_get(listed, 0));
    else if (!config_string(&mode, &config, "pooling_mode", NULL, err))
        return false;
    for (size_t i = 0; i < BASE_COUNT(modes) && !listed; i++) {
        bool on = false;
        if (!config_bool(&on, &config, modes[i][0], false, err))
            return false;
        if (on && mode)
            return unknown(err, file, "pooling by two ways at once, the second", modes[i][1]);
        if (on)
            mode = modes[i][1];
    }
    if (!config_bool(&include, &config, "include_prompt", true, err))
        return false;
    if (!include)
        return unknown(err, file, "pooling without the prompt,", "include_prompt");
    if (mode && strcmp(mode, "cls") != 0 && strcmp(mode, "mean") != 0)
        return unknown(err, file, "pooling by", mode);
    sentence->first_token = mode && strcmp(mode, "cls") == 0;
    return true;
}

static bool read_module(struct sentence *sentence, const json_t *module, struct error *err) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *path = json_string_value(json_object_get(module, "path"));
    const char *dot = type ? strrchr(type, '.') : NULL;
    const char *kind = dot ? dot + 1 : type ? type : "";
    if (!path || strchr(path, '/') || path[0] == '.')
        return unknown(err, "modules.json", "the path", path ? path : "");
    if (strcmp(kind, "Transformer") == 0)
        return path[0] == 0 || unknown(err, "modules.json", "the path of the model", path);
    if (strcmp(kind, "Normalize") == 0)
        return true;
    if (strcmp(kind, "Pooling") != 0)
        return unknown(err, "modules.json", "a step of type", kind);
    char *file = arena_printf(sentence->model->arena, "%s/config.json", path);
    json_t *json = NULL;
    bool ok = config_read(&json, sentence->model->folder, file, true, err) &&
              read_pooling(sentence, json, file, err);
    json_decref(json);
    return ok;
}

static bool read_modules(struct sentence *sentence, struct error *err) {
    json_t *json = NULL;
    if (!config_read(&json, sentence->model->folder, "modules.json", false, err))
        return false;
    bool ok = true;
    for (size_t i = 0; i < json_array_size(json) && ok; i++)
        ok = read_module(sentence, json_array_get(json, i), err);
    json_decref(json);
    return ok;
}

/* What the text is cut to: said by sentence_bert_config.json, else as many tokens as both the
 * tokenizer and the positions allow. */
static bool read_length(int *out, const struct sentence *sentence, struct error *err) {
    int most = bert_max_tokens(sentence->bert);
    const char *folder = sentence->model->folder, *file = "sentence_bert_config.json";
    json_t *json = NULL, *tokenizer = NULL;
    bool ok = config_read(&json, folder, file, false, err);
    const json_t *said = json_object_get(json, "max_seq_length");
    *out = most;
    if (ok && json_is_number(said)) {
        ok = config_int(out, &(struct config){json, file}, "max_seq_length", most, 4, 1 << 20, err);
    } else if (ok && config_read(&tokenizer, sentence->model->tokenizer_folder,
                                 "tokenizer_config.json", false, err)) {
        double n = json_number_value(json_object_get(tokenizer, "model_max_length"));
        if (n >= 4 && n < most)
            *out = (int)n;
    }
    if (*out > most)
        *out = most;
    json_decref(json);
    json_decref(tokenizer);
    return ok;
}

static const char *prompt_of(const struct sentence *sentence, const json_t *json,
                             const char *const *names) {
    const json_t *prompts = json_object_get(json, "prompts");
    const char *by_default = json_string_value(json_object_get(json, "default_prompt_name"));
    const char *text = NULL;
    for (; *names && !json_object_get(prompts, *names); names++)
        continue;
    if (*names)
        text = json_string_value(json_object_get(prompts, *names));
    else if (by_default)
        text = json_string_value(json_object_get(prompts, by_default));
    return arena_strdup(sentence->model->arena, text ? text : "");
}

static bool read_prompts(struct sentence *sentence, struct error *err) {
    static const char *const query[] = {"query", NULL}, *const passage[] = {"document", "passage",
                                                                            "corpus", NULL};
    json_t *json = NULL;
    if (!config_read(&json, sentence->model->folder, "config_sentence_transformers.json", false,
                     err))
        return false;
    sentence->query_prompt = prompt_of(sentence, json, query);
    sentence->passage_prompt = prompt_of(sentence, json, passage);
    json_decref(json);
    return true;
}

/* A text without words still needs a vector, so the template must give it tokens. */
static bool check_template(const struct model *model, struct error *err) {
    struct arena *arena = arena_new(0);
    struct tokens tokens;
    tokenizer_encode(&tokens, arena, model->tokenizer, "", 0, true, 0);
    int n = tokens.n;
    arena_free(arena);
    return n > 0 || error_set_code(err, ERROR_INPUT, "bad_model",
                                   "tokenizer.json: it puts no [CLS] and [SEP] around a text");
}

static void sentence_close(void *self) {
    struct sentence *sentence = self;
    if (!sentence)
        return;
    bert_close(sentence->bert);
    weights_close(sentence->weights);
    mem_free(sentence);
}

static bool sentence_open(void **out, struct model *model, struct error *err) {
    struct sentence *sentence = mem_alloc(sizeof *sentence);
    struct model_info *info = &model->info;
    *out = sentence;
    sentence->model = model;
    if (!check_template(model, err) || !read_modules(sentence, err) ||
        !read_prompts(sentence, err) || !weights_open(&sentence->weights, model, bert_names, err) ||
        !bert_open(&sentence->bert, model, sentence->weights, err) ||
        !read_length(&info->max_tokens, sentence, err))
        return false;
    info->takes_text = true;
    info->dim = bert_width(sentence->bert);
    return weights_finish(sentence->weights, err);
}

/* ---- embedding ------------------------------------------------------------------------------ */

static void encode(struct tokens *out, struct arena *arena, const struct sentence *sentence,
                   const struct model_input *input) {
    const char *prompt = input->kind == INPUT_QUERY ? sentence->query_prompt
                                                    : sentence->passage_prompt;
    const char *text = input->text;
    size_t len = input->len, n = strlen(prompt);
    if (n > 0) {
        char *joined = arena_alloc(arena, n + len + 1);
        memcpy(joined, prompt, n);
        if (len > 0)
            memcpy(joined + n, text, len);
        text = joined;
        len += n;
    }
    tokenizer_encode(out, arena, sentence->model->tokenizer, text, len, true,
                     sentence->model->info.max_tokens);
}

static bool pool(struct tensor **out, const struct sentence *sentence, const struct tensor *x,
                 const struct sequences *sequences, struct error *err) {
    if (!tensor_new(out, sentence->model->device, sequences->n, sentence->model->info.dim, err))
        return false;
    if (!sentence->first_token)
        return device_mean_pool(*out, x, sequences, err);
    for (int i = 0; i < sequences->n; i++) {
        if (!device_copy_rows(*out, i, x, sequences->starts[i], 1, err))
            return false;
    }
    return true;
}

static bool sentence_embed(struct embedding *out, struct arena *arena, void *self,
                           const struct model_input *inputs, int n,
                           const struct model_between *between, struct error *err) {
    struct sentence *sentence = self;
    struct bert_batch batch;
    struct tensor *x = NULL, *pooled = NULL;
    size_t dim = (size_t)sentence->model->info.dim;
    struct arena *scratch = arena_new(0);
    struct tokens *texts = arena_alloc(scratch, (size_t)n * sizeof *texts);
    float *values = arena_try(arena, (size_t)n, dim * sizeof *values);
    for (int i = 0; i < n; i++)
        encode(&texts[i], scratch, sentence, &inputs[i]);
    bert_gather(&batch, scratch, texts, n);
    bool ok = values ? true
                     : error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d vectors",
                                      n);
    ok = ok && bert_forward(&x, sentence->bert, &batch, between, err) &&
         pool(&pooled, sentence, x, &batch.sequences, err) &&
         device_normalize(pooled, pooled, err) && tensor_read(values, pooled, 0, n, err);
    for (int i = 0; i < n && ok; i++)
        out[i] = (struct embedding){1, (int)dim, values + (size_t)i * dim, texts[i].n,
                                    texts[i].cut};
    tensor_free(x);
    tensor_free(pooled);
    arena_free(scratch);
    return ok;
}

const struct family family_bert = {
    .name = "bert",
    .takes = sentence_takes,
    .open = sentence_open,
    .close = sentence_close,
    .embed = sentence_embed,
};
