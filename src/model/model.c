/* model: the engine's face. Finds the family that a folder's config.json describes, resolves
 * precision and the adapter's base, opens the tokenizer, lets the family load its weights, and
 * holds every vector that comes out to the promise of model.h: finite, of length 1 or all zero. */
#include "model/internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct family *const families[] = {&family_colpali, &family_colbert, &family_bert};

/* ---- opening -------------------------------------------------------------------------------- */

/* Where the base of an adapter lies: as the caller says, else where its name is found. */
static bool find_base(struct model *model, const struct model_options *options, struct error *err) {
    const struct config config = {model->adapter, "adapter_config.json"};
    const char *name = NULL;
    if (options->base_folder) {
        model->base_folder = arena_strdup(model->arena, options->base_folder);
        return true;
    }
    if (!config_string(&name, &config, "base_model_name_or_path", NULL, err))
        return false;
    if (!name)
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "adapter_config.json: base_model_name_or_path is not there");
    if (!options->settings)
        return error_set_code(err, ERROR_MISSING, "no_base_model",
                              "the adapter's base model %s is not given", name);
    struct model_place place = {0};
    model_locate(&place, model->arena, options->settings, name);
    if (!place.installed)
        return error_set_code(err, ERROR_MISSING, "no_base_model",
                              "the adapter's base model %s: %s", name, place.problem);
    model->base_folder = place.folder;
    return true;
}

static bool read_configs(struct model *model, const struct model_options *options,
                         struct error *err) {
    if (config_exists(model->folder, "adapter_config.json") &&
        (config_exists(model->folder, "adapter_model.safetensors") ||
         !config_exists(model->folder, "config.json"))) {
        if (!config_read(&model->adapter, model->folder, "adapter_config.json", true, err) ||
            !find_base(model, options, err))
            return false;
    }
    const char *folder = model->base_folder ? model->base_folder : model->folder;
    model->tokenizer_folder = config_exists(model->folder, "tokenizer.json") ? model->folder
                                                                             : folder;
    return config_read(&model->config, folder, "config.json", true, err);
}

static bool open_checkpoints(struct model *model, struct error *err) {
    const char *folder = model->base_folder ? model->base_folder : model->folder;
    return (!model->adapter ||
            checkpoint_open(&model->adapter_checkpoint, model->folder, "adapter_model", err)) &&
           checkpoint_open(&model->checkpoint, folder, "model", err);
}

bool model_is(const struct model *model, const char *word) {
    const char *type = json_string_value(json_object_get(model->config, "model_type"));
    const json_t *classes = json_object_get(model->config, "architectures");
    if (type && strcmp(type, word) == 0)
        return true;
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const char *class = json_string_value(json_array_get(classes, i));
        if (class && strcmp(class, word) == 0)
            return true;
    }
    return false;
}

static bool find_family(struct model *model, struct error *err) {
    for (size_t i = 0; i < BASE_COUNT(families) && !model->family; i++) {
        if (families[i]->takes(model))
            model->family = families[i];
    }
    if (model->family)
        return true;
    const char *type = json_string_value(json_object_get(model->config, "model_type"));
    const char *class = json_string_value(
        json_array_get(json_object_get(model->config, "architectures"), 0));
    return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                          "config.json: model type \"%s\" of class \"%s\" is not one that this "
                          "program knows",
                          type ? type : "", class ? class : "");
}

static bool open_tokenizer(struct model *model, struct error *err) {
    char *path = path_join(model->arena, model->tokenizer_folder, "tokenizer.json");
    return tokenizer_open(&model->tokenizer, path, err);
}

static void name_space(struct model *model) {
    struct model_info *info = &model->info;
    snprintf(info->space, sizeof info->space, "%.180s@%.12s/%d/%s", info->name, info->weights_hash,
             info->dim, precision_name(info->precision));
}

static bool open_all(struct model *model, const struct model_options *options, struct error *err) {
    model->precision = options->precision;
    if (model->precision == PRECISION_AUTO)
        model->precision = device_best_precision(model->device);
    if (!device_check_precision(model->device, model->precision, err) ||
        !read_configs(model, options, err) || !find_family(model, err) ||
        !open_tokenizer(model, err) || !open_checkpoints(model, err) || !model_hash(model, err))
        return false;
    model->info.family = model->family->name;
    model->info.precision = model->precision;
    return model->family->open(&model->self, model, err);
}

bool model_goes_on(const struct model *model, struct error *err) {
    if (!model->stop || !model->stop(model->stop_ctx))
        return true;
    return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled while it was opened");
}

bool model_open(struct model **out, struct device *device, const struct model_options *options,
                struct error *err) {
    int64_t started_ms = time_mono_ms();
    struct model *model = mem_alloc(sizeof *model);
    *out = NULL;
    model->arena = arena_new(0);
    model->device = device;
    model->stop = options->stop;
    model->stop_ctx = options->stop_ctx;
    model->folder = arena_strdup(model->arena, options->folder);
    model->info.name = arena_strdup(model->arena, options->name);
    if (options->packed_dir)
        model->packed_dir = arena_strdup(model->arena, options->packed_dir);
    model->query_prompt = arena_strdup(model->arena,
                                       options->query_prompt ? options->query_prompt : "question");
    if (!open_all(model, options, err)) {
        model_close(model);
        return false;
    }
    name_space(model);
    model->info.load_seconds = (double)(time_mono_ms() - started_ms) / 1000;
    *out = model;
    return true;
}

void model_close(struct model *model) {
    if (!model)
        return;
    if (model->self)
        model->family->close(model->self);
    tokenizer_close(model->tokenizer);
    checkpoint_close(model->checkpoint);
    checkpoint_close(model->adapter_checkpoint);
    json_decref(model->config);
    json_decref(model->adapter);
    arena_free(model->arena);
    mem_free(model);
}

const struct model_info *model_info(const struct model *model) {
    return &model->info;
}

/* ---- embedding ------------------------------------------------------------------------------ */

enum precision model_edge_precision(const struct model *model) {
    if (model->precision != PRECISION_INT8)
        return model->precision;
    return device_check_precision(model->device, PRECISION_BF16, NULL) ? PRECISION_BF16
                                                                       : PRECISION_FP32;
}

bool model_pause(const struct model_between *between, struct error *err) {
    if (!between || !between->call || between->call(between->ctx))
        return true;
    return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled between two layers");
}

bool model_token(int *out, const struct model *model, const char *token, struct error *err) {
    *out = tokenizer_id(model->tokenizer, token);
    if (*out >= 0)
        return true;
    return error_set_code(err, ERROR_INPUT, "bad_model",
                          "tokenizer.json: the token %s that the model needs is not there", token);
}

static bool check_vectors(const struct embedding *embedding, int input_i, struct error *err) {
    for (int i = 0; i < embedding->n; i++) {
        const float *row = embedding->values + (size_t)i * (size_t)embedding->dim;
        double sum = 0;
        for (int c = 0; c < embedding->dim; c++)
            sum += (double)row[c] * (double)row[c];
        if (!isfinite(sum))
            return error_set_code(err, ERROR_INTERNAL, "not_finite",
                                  "vector %d of input %d came out as no finite number", i, input_i);
    }
    return true;
}

/* The inputs with their texts no longer than is read, so that memory and time go by max_tokens,
 * whatever a text's length. */
static struct model_input *cut_texts(const struct model *model, const struct model_input *inputs,
                                     int n) {
    size_t most = (size_t)model->info.max_tokens * MODEL_TEXT_BYTES_TOKEN;
    struct model_input *cut = mem_alloc((size_t)n * sizeof *cut);
    if (most < MODEL_TEXT_BYTES_LEAST)
        most = MODEL_TEXT_BYTES_LEAST;
    for (int i = 0; i < n; i++) {
        cut[i] = inputs[i];
        if (cut[i].kind != INPUT_IMAGE && cut[i].len > most)
            cut[i].len = utf8_cut(cut[i].text, cut[i].len, most);
    }
    return cut;
}

bool model_embed(struct embedding *out, struct arena *arena, struct model *model,
                 const struct model_input *inputs, int n, const struct model_between *between,
                 struct error *err) {
    if (n > MODEL_INPUTS_MAX)
        return error_set(err, ERROR_LIMIT, "%d inputs at once, past %d", n, MODEL_INPUTS_MAX);
    memset(out, 0, (size_t)n * sizeof *out);
    for (int i = 0; i < n; i++) {
        assert(inputs[i].kind == inputs[0].kind);
        bool image = inputs[i].kind == INPUT_IMAGE;
        if (image ? !model->info.takes_images : !model->info.takes_text)
            return error_set_code(err, ERROR_UNSUPPORTED, "wrong_input", "%s takes no %s",
                                  model->info.name, image ? "pictures" : "text");
        if (image && (inputs[i].picture.width < 1 || inputs[i].picture.height < 1))
            return error_set(err, ERROR_INPUT, "a picture of %d × %d pixels",
                             inputs[i].picture.width, inputs[i].picture.height);
    }
    if (n == 0)
        return true;
    struct model_input *cut = cut_texts(model, inputs, n);
    bool ok = model->family->embed(out, arena, model->self, cut, n, between, err);
    mem_free(cut);
    for (int i = 0; i < n && ok; i++) {
        if (!check_vectors(&out[i], i, err))
            return false;
    }
    return ok;
}
