/* colpali: pages and questions as a vector a token (ColPali, Faysse et al. 2024, §4).
 *
 * A page is the patches of its picture, then a fixed prompt; both go through the language model,
 * whose last states are projected and brought to length 1. A question is its text within one of
 * three prompts that were in use, and ten pads, which are read and count.
 *
 * The same weights were published in three forms, with names that differ by the library that saved
 * them: a part is known by what follows vision_tower, multi_modal_projector or language_model, and
 * the head by either of its names. PaliGemma divides the projected patches by sqrt(width), and
 * Gemma multiplies all embeddings by it: here neither is done to patches. */
#include "model/gemma.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT_TOKENS_MAX = 2048, /* of a passage: past it the words' vectors are no use to anybody */
    PADS = 10,
};
static const char page_prompt[] = "Describe the image.";

struct prompt {
    const char *name, *prefix, *suffix;
};
static const struct prompt prompts[] = {
    {"question", "Question: ", "\n"}, {"query", "Query: ", "\n"}, {"none", "", ""}};

struct colpali {
    struct model *model;
    struct weights *weights;
    struct siglip *siglip;
    struct gemma *gemma;
    struct weight *projector, *head;
    struct tensor *projector_bias, *head_bias;
    const struct prompt *prompt;
    const char *bos, *pad; /* as text, for the tokenizer to find */
    struct tokens page;    /* what follows the patches */
    float mean[3], std[3];
    struct arena *arena;
};

/* ---- opening -------------------------------------------------------------------------------- */

static bool colpali_takes(const struct model *model) {
    return model_is(model, "colpali") || model_is(model, "ColPaliForRetrieval") ||
           model_is(model, "ColPali") || model_is(model, "paligemma");
}

static bool colpali_names(char out[WEIGHTS_NAME], const char *name) {
    static const char *const parts[][2] = {
        /* the longer of two that begin alike comes first */
        {"vision_tower.vision_model.", "vision_tower."},
        {"vision_tower.", "vision_tower."},
        {"multi_modal_projector.", "multi_modal_projector."},
        {"language_model.model.", "language_model."},
        {"language_model.", "language_model."},
        {"custom_text_proj.", "custom_text_proj."},
        {"embedding_proj_layer.", "custom_text_proj."},
    };
    if (strstr(name, "lm_head.") || strstr(name, "vision_tower.vision_model.head.") ||
        strstr(name, "vision_tower.head.") || text_has_suffix(name, ".position_ids") ||
        text_has_suffix(name, ".rotary_emb.inv_freq"))
        return false; /* of the models that it is made from; not used */
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        const char *part = strstr(name, parts[i][0]);
        if (part) {
            snprintf(out, WEIGHTS_NAME, "%s%s", parts[i][1], part + strlen(parts[i][0]));
            return true;
        }
    }
    snprintf(out, WEIGHTS_NAME, "%s", name);
    return true;
}

static bool find_prompt(struct colpali *colpali, struct error *err) {
    for (size_t i = 0; i < BASE_COUNT(prompts); i++) {
        if (strcmp(colpali->model->query_prompt, prompts[i].name) == 0)
            colpali->prompt = &prompts[i];
    }
    return colpali->prompt ||
           error_set(err, ERROR_INPUT, "the query prompt \"%s\" is none of question, query, none",
                     colpali->model->query_prompt);
}

/* A special token's text: "bos_token": "<bos>" or {"content": "<bos>"}. */
static const char *special_token(struct colpali *colpali, const json_t *json, const char *key,
                                 const char *fallback) {
    const json_t *value = json_object_get(json, key);
    const char *text = json_string_value(value);
    if (!text)
        text = json_string_value(json_object_get(value, "content"));
    return arena_strdup(colpali->arena, text ? text : fallback);
}

static bool read_tokens(struct colpali *colpali, struct error *err) {
    const struct model *model = colpali->model;
    json_t *json = NULL;
    int id = 0;
    if (!config_read(&json, model->tokenizer_folder, "tokenizer_config.json", false, err))
        return false;
    colpali->bos = special_token(colpali, json, "bos_token", "<bos>");
    colpali->pad = special_token(colpali, json, "pad_token", "<pad>");
    json_decref(json);
    if (!model_token(&id, model, colpali->bos, err) || !model_token(&id, model, colpali->pad, err))
        return false;
    char *text = arena_printf(colpali->arena, "%s%s\n", colpali->bos, page_prompt);
    tokenizer_encode(&colpali->page, colpali->arena, model->tokenizer, text, strlen(text), false,
                     0);
    return true;
}

static bool read_triple(float out[3], const json_t *json, const char *key, const char *file,
                        struct error *err) {
    const json_t *values = json_object_get(json, key);
    for (size_t i = 0; i < 3; i++) {
        out[i] = 0.5f;
        if (!values || json_is_null(values))
            continue;
        out[i] = (float)json_number_value(json_array_get(values, i));
        if (json_array_size(values) != 3 || !isfinite(out[i]) ||
            (strcmp(key, "image_std") == 0 && out[i] <= 0))
            return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %s is no three numbers", file,
                                  key);
    }
    return true;
}

/* How pictures are prepared: preprocessor_config.json, or within processor_config.json. */
static bool read_pictures(struct colpali *colpali, struct error *err) {
    const char *folder = colpali->model->folder, *file = "preprocessor_config.json";
    if (!config_exists(folder, file) && config_exists(folder, "processor_config.json"))
        file = "processor_config.json";
    json_t *json = NULL;
    if (!config_read(&json, folder, file, false, err))
        return false;
    const json_t *inner = json_object_get(json, "image_processor");
    const json_t *pictures = inner ? inner : json;
    const struct config size = {json_object_get(pictures, "size"), file};
    int side = siglip_image_size(colpali->siglip), height = side, width = side;
    bool ok = read_triple(colpali->mean, pictures, "image_mean", file, err) &&
              read_triple(colpali->std, pictures, "image_std", file, err) &&
              config_int(&height, &size, "height", side, 1, 1 << 16, err) &&
              config_int(&width, &size, "width", side, 1, 1 << 16, err);
    if (ok && (height != side || width != side))
        ok = error_set_code(err, ERROR_INPUT, "bad_model",
                            "%s: pictures of %d × %d, but the model sees %d × %d", file, width,
                            height, side, side);
    json_decref(json);
    return ok;
}

static bool open_head(struct colpali *colpali, struct error *err) {
    struct model *model = colpali->model;
    static const char projector[] = "multi_modal_projector.linear.weight",
                      projector_bias[] = "multi_modal_projector.linear.bias",
                      head[] = "custom_text_proj.weight", head_bias[] = "custom_text_proj.bias";
    const char *const names[] = {projector, projector_bias, head, head_bias};
    const struct checkpoint_tensor *tensor = weights_lookup(colpali->weights, head);
    const struct config config = {model->config, "config.json"};
    int width = gemma_width(colpali->gemma), dim = 0;
    if (tensor && tensor->n_dims == 2 && tensor->dims[0] <= 8192)
        dim = (int)tensor->dims[0];
    if (!config_int(&dim, &config, "embedding_dim", dim ? dim : 128, 1, 8192, err))
        return false;
    model->info.dim = dim;
    return weights_linear(&colpali->projector, colpali->weights, &names[0], &width, 1,
                          siglip_width(colpali->siglip), WEIGHT_STACK, model_edge_precision(model),
                          NULL, err) &&
           weights_vector(&colpali->projector_bias, colpali->weights, &names[1], &width, 1, err) &&
           weights_linear(&colpali->head, colpali->weights, &names[2], &dim, 1, width, WEIGHT_STACK,
                          model_edge_precision(model), NULL, err) &&
           weights_vector(&colpali->head_bias, colpali->weights, &names[3], &dim, 1, err);
}

static bool open_models(struct colpali *colpali, struct error *err) {
    struct model *model = colpali->model;
    const json_t *inner = json_object_get(model->config, "vlm_config");
    const struct config vlm = {inner ? inner : model->config,
                               inner ? "config.json: vlm_config" : "config.json"};
    const struct config vision = {json_object_get(vlm.json, "vision_config"),
                                  "config.json: vision_config"};
    const struct config text = {json_object_get(vlm.json, "text_config"),
                                "config.json: text_config"};
    int vocab = 0;
    if (!json_is_object(vision.json) || !json_is_object(text.json))
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "%s: vision_config or text_config is not there", vlm.where);
    if (!config_int(&vocab, &vlm, "vocab_size", 0, 0, 4 << 20, err) ||
        !weights_open(&colpali->weights, model, colpali_names, err) ||
        !siglip_open(&colpali->siglip, model, colpali->weights, &vision, err) ||
        !gemma_open(&colpali->gemma, model, colpali->weights, &text, vocab, err))
        return false;
    if (tokenizer_n_ids(model->tokenizer) > gemma_vocab(colpali->gemma))
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "tokenizer.json: token id %d, but the model has %d",
                              tokenizer_n_ids(model->tokenizer) - 1, gemma_vocab(colpali->gemma));
    return open_head(colpali, err);
}

static bool colpali_open(void **out, struct model *model, struct error *err) {
    struct colpali *colpali = mem_alloc(sizeof *colpali);
    struct model_info *info = &model->info;
    *out = colpali;
    colpali->model = model;
    colpali->arena = model->arena;
    if (!find_prompt(colpali, err) || !open_models(colpali, err) || !read_tokens(colpali, err) ||
        !read_pictures(colpali, err))
        return false;
    info->late = info->takes_text = info->takes_images = true;
    info->grid_width = info->grid_height = siglip_grid_side(colpali->siglip);
    info->max_tokens = gemma_max_tokens(colpali->gemma);
    int page_tokens = siglip_n_patches(colpali->siglip) + colpali->page.n;
    if (page_tokens > info->max_tokens)
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "config.json: a page is %d tokens, but there are %d positions",
                              page_tokens, info->max_tokens);
    if (info->max_tokens > TEXT_TOKENS_MAX)
        info->max_tokens = TEXT_TOKENS_MAX;
    return weights_finish(colpali->weights, err);
}

static void colpali_close(void *self) {
    struct colpali *colpali = self;
    if (!colpali)
        return;
    siglip_close(colpali->siglip);
    gemma_close(colpali->gemma);
    weights_close(colpali->weights);
    mem_free(colpali);
}

/* ---- tokens --------------------------------------------------------------------------------- */

/* One string, as the processors build it, so that the tokenizer splits it at the same places. What
 * is too long loses its text's last words: pads and suffix stay. open: without pads and suffix. */
static void colpali_question(struct tokens *out, struct arena *arena, const void *self,
                             const char *words, size_t len, bool open) {
    const struct colpali *colpali = self;
    const struct tokenizer *tokenizer = colpali->model->tokenizer;
    struct buf text = {0}, tail = {0};
    struct tokens tail_tokens;
    for (int i = 0; i < PADS && !open; i++)
        buf_puts(&tail, colpali->pad);
    if (!open)
        buf_puts(&tail, colpali->prompt->suffix);
    buf_puts(&text, colpali->bos);
    buf_puts(&text, colpali->prompt->prefix);
    if (open && !words && text_has_suffix(colpali->prompt->prefix, " "))
        text.len--;
    buf_append(&text, words, len);
    buf_append(&text, tail.data, tail.len);
    tokenizer_encode(out, arena, tokenizer, text.data, text.len, false, 0);
    int max = colpali->model->info.max_tokens;
    if (out->n > max) {
        tokenizer_encode(&tail_tokens, arena, tokenizer, tail.data, tail.len, false, 0);
        int n = tail_tokens.n < max ? tail_tokens.n : max;
        memmove(out->ids + max - n, out->ids + out->n - n, (size_t)n * sizeof *out->ids);
        out->n = max;
        out->cut = true;
    }
    buf_fini(&text);
    buf_fini(&tail);
}

/* A passage is read as colpali-engine's process_texts does: <bos> and the text alone. */
static void encode_passage(struct tokens *out, struct arena *arena, const struct colpali *colpali,
                           const struct model_input *input) {
    struct buf text = {0};
    buf_puts(&text, colpali->bos);
    buf_append(&text, input->text, input->len);
    tokenizer_encode(out, arena, colpali->model->tokenizer, text.data, text.len, false, 0);
    out->cut = out->n > colpali->model->info.max_tokens;
    if (out->cut)
        out->n = colpali->model->info.max_tokens;
    buf_fini(&text);
}

/* ---- embedding ------------------------------------------------------------------------------ */

static bool no_memory(struct error *err, const char *what) {
    return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %s", what);
}

/* The language model and the head over x; values: starts[n] rows of dim, the arena's. */
static bool run(float **values, struct arena *arena, const struct colpali *colpali,
                struct tensor *x, const struct sequences *sequences,
                const struct model_between *between, struct error *err) {
    int64_t n_rows = tensor_rows(x), dim = colpali->model->info.dim;
    struct tensor *projected = NULL;
    *values = arena_try(arena, (size_t)n_rows, (size_t)dim * sizeof **values);
    bool ok = *values ? true : no_memory(err, "vectors");
    ok = ok && gemma_forward(x, colpali->gemma, sequences, between, err) &&
         tensor_new(&projected, colpali->model->device, n_rows, dim, err) &&
         device_linear(projected, x, colpali->head, colpali->head_bias, ACTIVATION_NONE, NULL,
                       err) &&
         device_normalize(projected, projected, err) &&
         tensor_read(*values, projected, 0, n_rows, err);
    tensor_free(projected);
    return ok;
}

static void hand_out(struct embedding *out, const struct sequences *sequences, int dim,
                     float *values) {
    for (int i = 0; i < sequences->n; i++) {
        int from = sequences->starts[i], n = sequences->starts[i + 1] - from;
        out[i] = (struct embedding){n, dim, values + (size_t)from * (size_t)dim, n, false};
    }
}

static bool embed_texts(struct embedding *out, struct arena *arena, const struct colpali *colpali,
                        const struct model_input *inputs, int n,
                        const struct model_between *between, struct error *err) {
    struct arena *scratch = arena_new(0);
    int *starts = arena_alloc(scratch, (size_t)(n + 1) * sizeof *starts);
    struct tokens *texts = arena_alloc(scratch, (size_t)n * sizeof *texts);
    const struct sequences sequences = {n, starts};
    struct tensor *x = NULL;
    float *values = NULL;
    for (int i = 0; i < n; i++) {
        if (inputs[i].kind == INPUT_QUERY)
            colpali_question(&texts[i], scratch, colpali, inputs[i].text, inputs[i].len, false);
        else
            encode_passage(&texts[i], scratch, colpali, &inputs[i]);
        starts[i + 1] = starts[i] + texts[i].n;
    }
    bool ok = tensor_new(&x, colpali->model->device, starts[n], gemma_width(colpali->gemma), err);
    for (int i = 0; i < n && ok; i++)
        ok = gemma_tokens(x, starts[i], colpali->gemma, texts[i].ids, texts[i].n, err);
    ok = ok && run(&values, arena, colpali, x, &sequences, between, err);
    if (ok)
        hand_out(out, &sequences, colpali->model->info.dim, values);
    for (int i = 0; i < n && ok; i++)
        out[i].cut = texts[i].cut;
    tensor_free(x);
    arena_free(scratch);
    return ok;
}

/* The patches of all pictures as the language model's embeddings; the caller's (tensor_free). */
static bool see(struct tensor **out, const struct colpali *colpali,
                const struct model_input *inputs, int n, const struct model_between *between,
                struct error *err) {
    int side = siglip_image_size(colpali->siglip);
    size_t picture = 3 * (size_t)side * (size_t)side;
    uint8_t *rgb = mem_try((size_t)n, picture, (size_t)1 << 32);
    struct siglip_pixels pixels = {.rgb = rgb};
    struct tensor *seen = NULL;
    bool ok = rgb ? true : no_memory(err, "pictures");
    memcpy(pixels.mean, colpali->mean, sizeof pixels.mean);
    memcpy(pixels.std, colpali->std, sizeof pixels.std);
    for (int i = 0; i < n && ok; i++)
        ok = image_resize(rgb + (size_t)i * picture, side, side, &inputs[i].picture, err);
    ok = ok && siglip_forward(&seen, colpali->siglip, &pixels, n, between, err) &&
         tensor_new(out, colpali->model->device, tensor_rows(seen), gemma_width(colpali->gemma),
                    err) &&
         device_linear(*out, seen, colpali->projector, colpali->projector_bias, ACTIVATION_NONE,
                       NULL, err);
    tensor_free(seen);
    mem_free(rgb);
    return ok;
}

static bool embed_pages(struct embedding *out, struct arena *arena, const struct colpali *colpali,
                        const struct model_input *inputs, int n,
                        const struct model_between *between, struct error *err) {
    int n_patches = siglip_n_patches(colpali->siglip), page = n_patches + colpali->page.n;
    int *starts = mem_alloc((size_t)(n + 1) * sizeof *starts);
    const struct sequences sequences = {n, starts};
    struct tensor *seen = NULL, *x = NULL;
    float *values = NULL;
    for (int i = 0; i <= n; i++)
        starts[i] = i * page;
    bool ok = see(&seen, colpali, inputs, n, between, err) &&
              tensor_new(&x, colpali->model->device, starts[n], gemma_width(colpali->gemma), err);
    for (int i = 0; i < n && ok; i++)
        ok = device_copy_rows(x, starts[i], seen, (int64_t)i * n_patches, n_patches, err) &&
             gemma_tokens(x, starts[i] + n_patches, colpali->gemma, colpali->page.ids,
                          colpali->page.n, err);
    tensor_free(seen);
    ok = ok && run(&values, arena, colpali, x, &sequences, between, err);
    if (ok)
        hand_out(out, &sequences, colpali->model->info.dim, values);
    tensor_free(x);
    mem_free(starts);
    return ok;
}

static bool colpali_embed(struct embedding *out, struct arena *arena, void *self,
                          const struct model_input *inputs, int n,
                          const struct model_between *between, struct error *err) {
    return (inputs[0].kind == INPUT_IMAGE ? embed_pages : embed_texts)(out, arena, self, inputs, n,
                                                                       between, err);
}

const struct family family_colpali = {
    .name = "colpali",
    .takes = colpali_takes,
    .open = colpali_open,
    .close = colpali_close,
    .embed = colpali_embed,
    .question = colpali_question,
};
