/* siglip: the vision tower of PaliGemma (SigLIP So400m, Zhai et al. 2023): a picture is cut into
 * patches, each projected and given its place; the layers normalise before attention and network;
 * after the last comes one more norm, and no pooling head. */
#include "model/gemma.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    WIDTH_MAX = 16384,
    INNER_MAX = 131072,
    LAYERS_MAX = 256,
    IMAGE_MAX = 4096,
    PATCHES_MAX = 65536, /* of a picture: those of a whole batch still have an int's places */
};

struct siglip_layer {
    struct weight *qkv, *out, *up, *down;
    struct tensor *qkv_bias, *out_bias, *up_bias, *down_bias;
    struct weights_norm attention_norm, network_norm;
};
struct siglip {
    struct device *device;
    int width, inner, n_layers, n_heads, image_size, patch_size;
    float epsilon;
    enum activation activation;
    enum precision precision, edge_precision; /* edge: of the patches, whose values are few */
    struct weight *patches;
    struct tensor *patches_bias, *places;
    struct weights_norm norm;
    struct siglip_layer *layers;
};

/* ---- opening -------------------------------------------------------------------------------- */

static bool read_config(struct siglip *siglip, const struct config *config, struct error *err) {
    int channels = 0;
    const char *type = NULL;
    if (!config_string(&type, config, "model_type", "siglip_vision_model", err) ||
        !config_int(&siglip->width, config, "hidden_size", 768, 1, WIDTH_MAX, err) ||
        !config_int(&siglip->inner, config, "intermediate_size", 3072, 1, INNER_MAX, err) ||
        !config_int(&siglip->n_layers, config, "num_hidden_layers", 12, 1, LAYERS_MAX, err) ||
        !config_int(&siglip->n_heads, config, "num_attention_heads", 12, 1, 1024, err) ||
        !config_int(&siglip->image_size, config, "image_size", 224, 1, IMAGE_MAX, err) ||
        !config_int(&siglip->patch_size, config, "patch_size", 16, 1, IMAGE_MAX, err) ||
        !config_int(&channels, config, "num_channels", 3, 3, 3, err) ||
        !config_float(&siglip->epsilon, config, "layer_norm_eps", 1e-6f, err) ||
        !config_activation(&siglip->activation, config, "hidden_act", ACTIVATION_GELU_TANH, err))
        return false;
    if (strcmp(type, "siglip_vision_model") != 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                              "%s: a vision model \"%s\"", config->where, type);
    if (siglip->width % siglip->n_heads != 0 || siglip->image_size < siglip->patch_size)
        return error_set_code(
            err, ERROR_INPUT, "bad_model", "%s: width %d over %d heads, patches of %d in %d pixels",
            config->where, siglip->width, siglip->n_heads, siglip->patch_size, siglip->image_size);
    if (siglip_n_patches(siglip) > PATCHES_MAX)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: %d patches a picture, past %d",
                              config->where, siglip_n_patches(siglip), PATCHES_MAX);
    return true;
}

#define TOWER "vision_tower."

static bool open_layer(struct siglip *siglip, struct weights *weights, int i, struct error *err) {
    static const char *const qkv[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                             *const out[] = {"self_attn.out_proj"}, *const up[] = {"mlp.fc1"},
                             *const down[] = {"mlp.fc2"};
    struct siglip_layer *layer = &siglip->layers[i];
    int width = siglip->width, inner = siglip->inner;
    const float *before_attention, *before_network;
    const int widths[] = {width, width, width};
    char name[64], norm[2][WEIGHTS_NAME];
    snprintf(name, sizeof name, TOWER "encoder.layers.%d", i);
    snprintf(norm[0], sizeof norm[0], "%s.layer_norm1", name);
    snprintf(norm[1], sizeof norm[1], "%s.layer_norm2", name);
    if (!weights_norm(&layer->attention_norm, weights, norm[0], width, 0, true, true, err) ||
        !weights_norm(&layer->network_norm, weights, norm[1], width, 0, true, true, err))
        return false;
    before_attention = layer->attention_norm.columns;
    before_network = layer->network_norm.columns;
    return weights_layer(&layer->qkv, &layer->qkv_bias, weights, name, qkv, widths, 3, width,
                         WEIGHT_STACK, siglip->precision, before_attention, err) &&
           weights_layer(&layer->out, &layer->out_bias, weights, name, out, widths, 1, width,
                         WEIGHT_STACK, siglip->precision, NULL, err) &&
           weights_layer(&layer->up, &layer->up_bias, weights, name, up, &inner, 1, width,
                         WEIGHT_STACK, siglip->precision, before_network, err) &&
           weights_layer(&layer->down, &layer->down_bias, weights, name, down, widths, 1, inner,
                         WEIGHT_STACK, siglip->precision, NULL, err);
}

/* The table of places, as a tensor. */
static bool open_places(struct siglip *siglip, struct weights *weights, struct error *err) {
    const struct checkpoint_tensor *table = NULL;
    int n = siglip_n_patches(siglip);
    if (!weights_table(&table, weights, TOWER "embeddings.position_embedding.weight", n,
                       siglip->width, err))
        return false;
    float *values = mem_try((size_t)table->n, sizeof *values, (size_t)4 << 30);
    bool ok = values ||
              error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d places", n);
    ok = ok && checkpoint_floats(values, table, 0, table->n, err) &&
         tensor_new(&siglip->places, siglip->device, n, siglip->width, err) &&
         tensor_write(siglip->places, 0, n, values, err);
    mem_free(values);
    return ok;
}

static bool check_patches(const struct checkpoint_tensor *tensor, int size, struct error *err) {
    char have[96];
    if (!tensor || (tensor->n_dims == 4 && tensor->dims[2] == size && tensor->dims[3] == size))
        return true;
    return error_set_code(err, ERROR_INPUT, "bad_model",
                          "%s: tensor %.100s: its shape is %s, but patches are %d × %d",
                          tensor->file, tensor->name,
                          checkpoint_dims(have, tensor->dims, tensor->n_dims), size, size);
}

static bool open_edges(struct siglip *siglip, struct weights *weights, struct error *err) {
    const char *weight = TOWER "embeddings.patch_embedding.weight";
    const char *bias = TOWER "embeddings.patch_embedding.bias";
    return check_patches(weights_lookup(weights, weight), siglip->patch_size, err) &&
           weights_linear(&siglip->patches, weights, &weight, &siglip->width, 1,
                          3 * siglip->patch_size * siglip->patch_size, WEIGHT_STACK,
                          siglip->edge_precision, NULL, err) &&
           weights_vector(&siglip->patches_bias, weights, &bias, &siglip->width, 1, err) &&
           open_places(siglip, weights, err) &&
           weights_norm(&siglip->norm, weights, TOWER "post_layernorm", siglip->width, 0, true,
                        false, err);
}

bool siglip_open(struct siglip **out, struct model *model, struct weights *weights,
                 const struct config *config, struct error *err) {
    struct siglip *siglip = mem_alloc(sizeof *siglip);
    siglip->device = model->device;
    siglip->precision = model->precision;
    siglip->edge_precision = model_edge_precision(model);
    bool ok = read_config(siglip, config, err) && open_edges(siglip, weights, err);
    *out = NULL;
    if (ok)
        siglip->layers = mem_alloc((size_t)siglip->n_layers * sizeof *siglip->layers);
    for (int i = 0; i < siglip->n_layers && ok; i++)
        ok = open_layer(siglip, weights, i, err);
    if (!ok) {
        siglip_close(siglip);
        return false;
    }
    *out = siglip;
    return true;
}

void siglip_close(struct siglip *siglip) {
    if (!siglip)
        return;
    tensor_free(siglip->places);
    mem_free(siglip->layers);
    mem_free(siglip);
}

int siglip_width(const struct siglip *siglip) {
    return siglip->width;
}

int siglip_image_size(const struct siglip *siglip) {
    return siglip->image_size;
}

int siglip_grid_side(const struct siglip *siglip) {
    return siglip->image_size / siglip->patch_size;
}

int siglip_n_patches(const struct siglip *siglip) {
    int side = siglip_grid_side(siglip);
    return side * side;
}

/* ---- forward -------------------------------------------------------------------------------- */

struct space {
    struct tensor *normed, *qkv, *attended, *inner;
};

static void free_space(struct space *space) {
    tensor_free(space->normed);
    tensor_free(space->qkv);
    tensor_free(space->attended);
    tensor_free(space->inner);
}

static bool make_space(struct space *space, const struct siglip *siglip, int64_t n_rows,
                       struct error *err) {
    int64_t width = siglip->width;
    return tensor_new(&space->normed, siglip->device, n_rows, width, err) &&
           tensor_new(&space->qkv, siglip->device, n_rows, 3 * width, err) &&
           tensor_new(&space->attended, siglip->device, n_rows, width, err) &&
           tensor_new(&space->inner, siglip->device, n_rows, siglip->inner, err);
}

/* The patches of all pictures, projected, with their places. */
static bool embed_patches(struct tensor *x, const struct siglip *siglip,
                          const struct siglip_pixels *pixels, int n, struct error *err) {
    int n_patches = siglip_n_patches(siglip), side = siglip->image_size;
    size_t per_patch = 3 * (size_t)siglip->patch_size * (size_t)siglip->patch_size;
    size_t picture = 3 * (size_t)side * (size_t)side, rows = (size_t)n_patches;
    struct tensor *patches = NULL;
    float *values = mem_try(rows, per_patch * sizeof *values, (size_t)1 << 30);
    bool ok = values || error_set_code(err, ERROR_LIMIT, "out_of_memory",
                                       "no memory for %d patches", n_patches);
    ok = ok && tensor_new(&patches, siglip->device, n * n_patches, (int64_t)per_patch, err);
    for (int i = 0; i < n && ok; i++) {
        image_patches(values, pixels->rgb + (size_t)i * picture, side, side, siglip->patch_size,
                      pixels->mean, pixels->std);
        ok = tensor_write(patches, (int64_t)i * n_patches, n_patches, values, err);
    }
    ok = ok &&
         device_linear(x, patches, siglip->patches, siglip->patches_bias, ACTIVATION_NONE, NULL,
                       err) &&
         device_add(x, siglip->places, err);
    tensor_free(patches);
    mem_free(values);
    return ok;
}

static bool run_layer(struct tensor *x, struct space *space, const struct siglip *siglip,
                      const struct siglip_layer *layer, const struct sequences *sequences,
                      struct error *err) {
    int head_dim = siglip->width / siglip->n_heads;
    const struct attention_shape shape = {
        .n_heads = siglip->n_heads,
        .n_kv_heads = siglip->n_heads,
        .head_dim = head_dim,
        .scale = 1 / sqrtf((float)head_dim),
        .precision = siglip->precision,
    };
    return device_layer_norm(space->normed, x, layer->attention_norm.gain,
                             layer->attention_norm.bias, siglip->epsilon, err) &&
           device_linear(space->qkv, space->normed, layer->qkv, layer->qkv_bias, ACTIVATION_NONE,
                         NULL, err) &&
           device_attention(space->attended, space->qkv, &shape, sequences, err) &&
           device_linear(x, space->attended, layer->out, layer->out_bias, ACTIVATION_NONE, x,
                         err) &&
           device_layer_norm(space->normed, x, layer->network_norm.gain, layer->network_norm.bias,
                             siglip->epsilon, err) &&
           device_linear(space->inner, space->normed, layer->up, layer->up_bias, siglip->activation,
                         NULL, err) &&
           device_linear(x, space->inner, layer->down, layer->down_bias, ACTIVATION_NONE, x, err);
}

bool siglip_forward(struct tensor **out, const struct siglip *siglip,
                    const struct siglip_pixels *pixels, int n, const struct model_between *between,
                    struct error *err) {
    int n_patches = siglip_n_patches(siglip);
    int64_t n_rows = (int64_t)n * n_patches;
    int *starts = mem_alloc((size_t)(n + 1) * sizeof *starts);
    const struct sequences sequences = {n, starts};
    struct space space = {0};
    struct tensor *x = NULL;
    for (int i = 0; i <= n; i++)
        starts[i] = i * n_patches;
    bool ok = tensor_new(&x, siglip->device, n_rows, siglip->width, err) &&
              embed_patches(x, siglip, pixels, n, err) && make_space(&space, siglip, n_rows, err);
    for (int i = 0; i < siglip->n_layers && ok; i++)
        ok = run_layer(x, &space, siglip, &siglip->layers[i], &sequences, err) &&
             model_pause(between, err);
    ok = ok && device_layer_norm(x, x, siglip->norm.gain, siglip->norm.bias, siglip->epsilon, err);
    free_space(&space);
    mem_free(starts);
    if (!ok) {
        tensor_free(x);
        x = NULL;
    }
    *out = x;
    return ok;
}
