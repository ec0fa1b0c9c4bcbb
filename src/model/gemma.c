/* gemma: the language model of PaliGemma (Gemma, Mesnard et al. 2024, §2), without its causal mask.
 *
 * Each layer is attention with rotary positions and few key heads, then a gated network, each over
 * the row's root mean square and added to it. The table of 257,216 tokens stays in the mapped file:
 * a row is read when a token of it comes. The network's inner rows are the widest thing of a page
 * (16384 numbers), so a large batch goes through it in blocks of rows. */
#include "model/gemma.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    WIDTH_MAX = 16384,
    INNER_MAX = 131072,
    LAYERS_MAX = 256,
    HEADS_WIDTH_MAX = 65536, /* of all heads together */
    VOCAB_MAX = 4 << 20,
    INNER_BYTES = 320 << 20, /* of the network's inner rows at once */
};

struct gemma_layer {
    struct weight *qkv, *out, *gate_up, *down;
    struct weights_norm attention_norm, network_norm;
};
struct gemma {
    struct device *device;
    int width, inner, n_layers, n_heads, n_kv_heads, head_dim, vocab, max_tokens;
    float epsilon, rope_base;
    enum precision precision;
    const struct checkpoint_tensor *words;
    struct weights_norm norm;
    struct gemma_layer *layers;
};

/* ---- opening -------------------------------------------------------------------------------- */

/* rope_theta lies in the configuration itself, or, as newer ones have it, in rope_parameters. */
static bool read_rope(float *base, const struct config *config, struct error *err) {
    const json_t *scaling = json_object_get(config->json, "rope_scaling");
    const struct config inner = {json_object_get(config->json, "rope_parameters"), config->where};
    const char *type = NULL;
    if (!config_float(base, config, "rope_theta", 10000, err) ||
        !config_float(base, &inner, "rope_theta", *base, err) ||
        !config_string(&type, &inner, "rope_type", "default", err))
        return false;
    if (strcmp(type, "default") != 0 || (scaling && !json_is_null(scaling) && !inner.json))
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                              "%s: rotary positions of another kind", config->where);
    return *base > 1 || error_set_code(err, ERROR_INPUT, "bad_model", "%s: rope_theta is %g",
                                       config->where, (double)*base);
}

static bool read_config(struct gemma *gemma, const struct config *config, int vocab,
                        struct error *err) {
    const char *type = NULL;
    enum activation activation;
    bool biased = false;
    if (!config_string(&type, config, "model_type", "gemma", err) ||
        !config_int(&gemma->width, config, "hidden_size", 3072, 1, WIDTH_MAX, err) ||
        !config_int(&gemma->inner, config, "intermediate_size", 24576, 1, INNER_MAX, err) ||
        !config_int(&gemma->n_layers, config, "num_hidden_layers", 28, 1, LAYERS_MAX, err) ||
        !config_int(&gemma->n_heads, config, "num_attention_heads", 16, 1, 1024, err) ||
        !config_int(&gemma->n_kv_heads, config, "num_key_value_heads", 16, 1, 1024, err) ||
        !config_int(&gemma->head_dim, config, "head_dim", 256, 2, 1024, err) ||
        !config_int(&gemma->vocab, config, "vocab_size", vocab ? vocab : 256000, 1, VOCAB_MAX,
                    err) ||
        !config_int(&gemma->max_tokens, config, "max_position_embeddings", 8192, 16, 1 << 24,
                    err) ||
        !config_float(&gemma->epsilon, config, "rms_norm_eps", 1e-6f, err) ||
        !config_bool(&biased, config, "attention_bias", false, err) ||
        !config_activation(&activation, config, "hidden_activation", ACTIVATION_GELU_TANH, err) ||
        !read_rope(&gemma->rope_base, config, err))
        return false;
    if (strcmp(type, "gemma") != 0 || biased || activation != ACTIVATION_GELU_TANH)
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                              "%s: a language model \"%s\"%s%s", config->where, type,
                              biased ? " with attention_bias" : "",
                              activation != ACTIVATION_GELU_TANH ? " with another activation" : "");
    if (gemma->n_heads % gemma->n_kv_heads != 0 || gemma->head_dim % 2 != 0 ||
        gemma->n_heads * gemma->head_dim > HEADS_WIDTH_MAX)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %d heads over %d key heads of %d",
                              config->where, gemma->n_heads, gemma->n_kv_heads, gemma->head_dim);
    return true;
}

static bool open_layer(struct gemma *gemma, struct weights *weights, int i, struct error *err) {
    static const char *const qkv[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                             *const out[] = {"self_attn.o_proj"},
                             *const gate_up[] = {"mlp.gate_proj", "mlp.up_proj"},
                             *const down[] = {"mlp.down_proj"};
    struct gemma_layer *layer = &gemma->layers[i];
    int heads = gemma->n_heads * gemma->head_dim, kv = gemma->n_kv_heads * gemma->head_dim;
    int qkv_n[] = {heads, kv, kv}, inner_n[] = {gemma->inner, gemma->inner};
    char name[64], norm[2][WEIGHTS_NAME];
    snprintf(name, sizeof name, "language_model.layers.%d", i);
    snprintf(norm[0], sizeof norm[0], "%s.input_layernorm", name);
    snprintf(norm[1], sizeof norm[1], "%s.post_attention_layernorm", name);
    return weights_norm(&layer->attention_norm, weights, norm[0], gemma->width, 1, false, true,
                        err) &&
           weights_norm(&layer->network_norm, weights, norm[1], gemma->width, 1, false, true,
                        err) &&
           weights_layer(&layer->qkv, NULL, weights, name, qkv, qkv_n, 3, gemma->width,
                         WEIGHT_STACK, gemma->precision, layer->attention_norm.columns, err) &&
           weights_layer(&layer->out, NULL, weights, name, out, &gemma->width, 1, heads,
                         WEIGHT_STACK, gemma->precision, NULL, err) &&
           weights_layer(&layer->gate_up, NULL, weights, name, gate_up, inner_n, 2, gemma->width,
                         WEIGHT_GATED, gemma->precision, layer->network_norm.columns, err) &&
           weights_layer(&layer->down, NULL, weights, name, down, &gemma->width, 1, gemma->inner,
                         WEIGHT_STACK, gemma->precision, NULL, err);
}

bool gemma_open(struct gemma **out, struct model *model, struct weights *weights,
                const struct config *config, int vocab, struct error *err) {
    struct gemma *gemma = mem_alloc(sizeof *gemma);
    bool ok = read_config(gemma, config, vocab, err);
    *out = NULL;
    gemma->device = model->device;
    gemma->precision = model->precision;
    ok = ok &&
         weights_table(&gemma->words, weights, "language_model.embed_tokens.weight", gemma->vocab,
                       gemma->width, err) &&
         weights_norm(&gemma->norm, weights, "language_model.norm", gemma->width, 1, false, false,
                      err);
    if (ok)
        gemma->layers = mem_alloc((size_t)gemma->n_layers * sizeof *gemma->layers);
    for (int i = 0; i < gemma->n_layers && ok; i++)
        ok = open_layer(gemma, weights, i, err);
    if (!ok) {
        gemma_close(gemma);
        return false;
    }
    *out = gemma;
    return true;
}

void gemma_close(struct gemma *gemma) {
    if (!gemma)
        return;
    mem_free(gemma->layers);
    mem_free(gemma);
}

int gemma_width(const struct gemma *gemma) {
    return gemma->width;
}

int gemma_vocab(const struct gemma *gemma) {
    return gemma->vocab;
}

int gemma_max_tokens(const struct gemma *gemma) {
    return gemma->max_tokens;
}

/* ---- forward -------------------------------------------------------------------------------- */

bool gemma_tokens(struct tensor *out, int64_t at, const struct gemma *gemma, const int *ids, int n,
                  struct error *err) {
    size_t width = (size_t)gemma->width;
    float *values = mem_try((size_t)n, width * sizeof *values, SIZE_MAX),
          factor = sqrtf((float)width);
    bool ok = values ||
              error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d tokens", n);
    for (int i = 0; i < n && ok; i++) {
        float *row = values + (size_t)i * width;
        ok = checkpoint_floats(row, gemma->words, (int64_t)ids[i] * gemma->width, gemma->width,
                               err);
        for (size_t c = 0; c < width && ok; c++)
            row[c] *= factor;
    }
    ok = ok && tensor_write(out, at, n, values, err);
    mem_free(values);
    return ok;
}

/* What the layers write into. With more rows than a block has, part_in and part_out carry a block's
 * rows to and from the network. */
struct space {
    struct tensor *normed, *qkv, *attended, *inner, *part_in, *part_out;
    int64_t block;
};

static void free_space(struct space *space) {
    tensor_free(space->normed);
    tensor_free(space->qkv);
    tensor_free(space->attended);
    tensor_free(space->inner);
    tensor_free(space->part_in);
    tensor_free(space->part_out);
}

static bool make_space(struct space *space, const struct gemma *gemma, int64_t n_rows,
                       struct error *err) {
    int64_t heads = (int64_t)gemma->n_heads * gemma->head_dim;
    int64_t kv = (int64_t)gemma->n_kv_heads * gemma->head_dim;
    int64_t most = INNER_BYTES / (gemma->inner * (int64_t)sizeof(float));
    int64_t n_blocks = (n_rows + most - 1) / most;
    space->block = (n_rows + n_blocks - 1) / n_blocks;
    if (!tensor_new(&space->normed, gemma->device, n_rows, gemma->width, err) ||
        !tensor_new(&space->qkv, gemma->device, n_rows, heads + 2 * kv, err) ||
        !tensor_new(&space->attended, gemma->device, n_rows, heads, err))
        return false;
    if (n_blocks == 1)
        return tensor_new(&space->inner, gemma->device, n_rows, gemma->inner, err);
    return tensor_new(&space->part_in, gemma->device, space->block, gemma->width, err) &&
           tensor_new(&space->part_out, gemma->device, space->block, gemma->width, err) &&
           tensor_new(&space->inner, gemma->device, space->block, gemma->inner, err);
}

static bool run_network(struct tensor *x, struct space *space, const struct gemma_layer *layer,
                        struct error *err) {
    int64_t n_rows = tensor_rows(x);
    if (!space->part_in)
        return device_gated(space->inner, space->normed, layer->gate_up, ACTIVATION_GELU_TANH,
                            err) &&
               device_linear(x, space->inner, layer->down, NULL, ACTIVATION_NONE, x, err);
    for (int64_t at = 0; at < n_rows; at += space->block) {
        int64_t n = n_rows - at < space->block ? n_rows - at : space->block;
        /* The last block may be short: the rows of the one before stay in it, unused. */
        if (!device_copy_rows(space->part_in, 0, space->normed, at, n, err) ||
            !device_copy_rows(space->part_out, 0, x, at, n, err) ||
            !device_gated(space->inner, space->part_in, layer->gate_up, ACTIVATION_GELU_TANH,
                          err) ||
            !device_linear(space->part_out, space->inner, layer->down, NULL, ACTIVATION_NONE,
                           space->part_out, err) ||
            !device_copy_rows(x, at, space->part_out, 0, n, err))
            return false;
    }
    return true;
}

static bool run_layer(struct tensor *x, struct space *space, const struct gemma *gemma,
                      const struct gemma_layer *layer, const struct sequences *sequences,
                      struct error *err) {
    const struct attention_shape shape = {
        .n_heads = gemma->n_heads,
        .n_kv_heads = gemma->n_kv_heads,
        .head_dim = gemma->head_dim,
        .scale = 1 / sqrtf((float)gemma->head_dim),
        .precision = gemma->precision,
    };
    return device_rms_norm(space->normed, x, layer->attention_norm.gain, gemma->epsilon, err) &&
           device_linear(space->qkv, space->normed, layer->qkv, NULL, ACTIVATION_NONE, NULL, err) &&
           device_rope(space->qkv, &shape, sequences, gemma->rope_base, err) &&
           device_attention(space->attended, space->qkv, &shape, sequences, err) &&
           device_linear(x, space->attended, layer->out, NULL, ACTIVATION_NONE, x, err) &&
           device_rms_norm(space->normed, x, layer->network_norm.gain, gemma->epsilon, err) &&
           run_network(x, space, layer, err);
}

bool gemma_forward(struct tensor *x, const struct gemma *gemma, const struct sequences *sequences,
                   const struct model_between *between, struct error *err) {
    struct space space = {0};
    bool ok = make_space(&space, gemma, tensor_rows(x), err);
    for (int i = 0; i < gemma->n_layers && ok; i++)
        ok = run_layer(x, &space, gemma, &gemma->layers[i], sequences, err) &&
             model_pause(between, err);
    free_space(&space);
    return ok && device_rms_norm(x, x, gemma->norm.gain, gemma->epsilon, err);
}
