/* bert: the encoder of BERT (Devlin et al. 2019, §3) as transformers' BertModel computes it.
 *
 * Word, position and type embeddings are summed on the host and normalised; each layer is attention
 * and a two-layer network, each added to its input and normalised after (post-LN). Sequences are
 * ragged: there is no padding, and so nothing to mask but the rows that only watch (bert.h). */
#include "model/bert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH_MAX = 8192, LAYERS_MAX = 256, POSITIONS_MAX = 32768, VOCAB_MAX = 4 << 20 };

struct bert_layer {
    struct weight *qkv, *out, *up, *down;
    struct tensor *qkv_bias, *out_bias, *up_bias, *down_bias;
    struct weights_norm attention_norm, output_norm;
};
struct bert {
    struct device *device;
    int width, n_layers, n_heads, inner, vocab, positions;
    float epsilon;
    enum activation activation;
    enum precision precision;
    const struct checkpoint_tensor *words;
    float *places; /* positions × width: position and type 0, summed */
    struct weights_norm norm;
    struct bert_layer *layers;
};

/* ---- opening -------------------------------------------------------------------------------- */

static bool read_config(struct bert *bert, const struct model *model, struct error *err) {
    const struct config config = {model->config, "config.json"};
    const char *positions = NULL;
    bool decoder = false;
    if (!config_int(&bert->width, &config, "hidden_size", 768, 1, WIDTH_MAX, err) ||
        !config_int(&bert->n_layers, &config, "num_hidden_layers", 12, 1, LAYERS_MAX, err) ||
        !config_int(&bert->n_heads, &config, "num_attention_heads", 12, 1, WIDTH_MAX, err) ||
        !config_int(&bert->inner, &config, "intermediate_size", 3072, 1, 8 * WIDTH_MAX, err) ||
        !config_int(&bert->vocab, &config, "vocab_size", 30522, 1, VOCAB_MAX, err) ||
        !config_int(&bert->positions, &config, "max_position_embeddings", 512, BERT_TOKENS_MIN,
                    POSITIONS_MAX, err) ||
        !config_float(&bert->epsilon, &config, "layer_norm_eps", 1e-12f, err) ||
        !config_activation(&bert->activation, &config, "hidden_act", ACTIVATION_GELU_ERF, err) ||
        !config_string(&positions, &config, "position_embedding_type", "absolute", err) ||
        !config_bool(&decoder, &config, "is_decoder", false, err))
        return false;
    if (strcmp(positions, "absolute") != 0 || decoder)
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_architecture",
                              "config.json: a BERT with %s",
                              decoder ? "is_decoder set" : "positions that are not absolute");
    if (bert->width % bert->n_heads != 0)
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "config.json: hidden_size %d is no multiple of %d heads", bert->width,
                              bert->n_heads);
    return true;
}

/* Word, position and type tables; positions and type 0 as floats. */
static bool open_tables(struct bert *bert, const struct model *model, struct weights *weights,
                        struct error *err) {
    const struct config config = {model->config, "config.json"};
    const struct checkpoint_tensor *places = NULL, *types = NULL;
    size_t width = (size_t)bert->width, n = (size_t)bert->positions * width;
    int n_types = 0;
    if (!config_int(&n_types, &config, "type_vocab_size", 2, 1, 1024, err) ||
        !weights_table(&bert->words, weights, "embeddings.word_embeddings.weight", bert->vocab,
                       bert->width, err) ||
        !weights_table(&places, weights, "embeddings.position_embeddings.weight", bert->positions,
                       bert->width, err) ||
        !weights_table(&types, weights, "embeddings.token_type_embeddings.weight", n_types,
                       bert->width, err))
        return false;
    float *type = mem_alloc(width * sizeof *type);
    bert->places = mem_try(n, sizeof *bert->places, (size_t)2 << 30);
    bool ok = bert->places != NULL;
    if (!ok)
        error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d positions",
                       bert->positions);
    ok = ok && checkpoint_floats(bert->places, places, 0, (int64_t)n, err) &&
         checkpoint_floats(type, types, 0, bert->width, err);
    for (size_t i = 0; i < n && ok; i++)
        bert->places[i] += type[i % width];
    mem_free(type);
    return ok;
}

static bool open_layer(struct bert *bert, struct weights *weights, int i, struct error *err) {
    static const char *const qkv[] = {"attention.self.query", "attention.self.key",
                                      "attention.self.value"};
    static const char *const out[] = {"attention.output.dense"},
                             *const up[] = {"intermediate.dense"}, *const down[] = {"output.dense"};
    struct bert_layer *layer = &bert->layers[i];
    int width = bert->width, inner = bert->inner;
    const int widths[] = {width, width, width};
    char name[64], norm[2][WEIGHTS_NAME];
    snprintf(name, sizeof name, "encoder.layer.%d", i);
    snprintf(norm[0], sizeof norm[0], "%s.attention.output.LayerNorm", name);
    snprintf(norm[1], sizeof norm[1], "%s.output.LayerNorm", name);
    return weights_layer(&layer->qkv, &layer->qkv_bias, weights, name, qkv, widths, 3, width,
                         WEIGHT_STACK, bert->precision, NULL, err) &&
           weights_layer(&layer->out, &layer->out_bias, weights, name, out, widths, 1, width,
                         WEIGHT_STACK, bert->precision, NULL, err) &&
           weights_layer(&layer->up, &layer->up_bias, weights, name, up, &inner, 1, width,
                         WEIGHT_STACK, bert->precision, NULL, err) &&
           weights_layer(&layer->down, &layer->down_bias, weights, name, down, widths, 1, inner,
                         WEIGHT_STACK, bert->precision, NULL, err) &&
           weights_norm(&layer->attention_norm, weights, norm[0], width, 0, true, false, err) &&
           weights_norm(&layer->output_norm, weights, norm[1], width, 0, true, false, err);
}

bool bert_open(struct bert **out, struct model *model, struct weights *weights, struct error *err) {
    struct bert *bert = mem_alloc(sizeof *bert);
    bool ok = read_config(bert, model, err);
    *out = NULL;
    bert->device = model->device;
    bert->precision = model->precision;
    if (ok && tokenizer_n_ids(model->tokenizer) > bert->vocab)
        ok = error_set_code(err, ERROR_INPUT, "bad_model",
                            "tokenizer.json: token id %d, but the model has %d",
                            tokenizer_n_ids(model->tokenizer) - 1, bert->vocab);
    ok = ok && open_tables(bert, model, weights, err) &&
         weights_norm(&bert->norm, weights, "embeddings.LayerNorm", bert->width, 0, true, false,
                      err);
    if (ok)
        bert->layers = mem_alloc((size_t)bert->n_layers * sizeof *bert->layers);
    for (int i = 0; i < bert->n_layers && ok; i++)
        ok = open_layer(bert, weights, i, err);
    if (!ok) {
        bert_close(bert);
        return false;
    }
    *out = bert;
    return true;
}

void bert_close(struct bert *bert) {
    if (!bert)
        return;
    mem_free(bert->layers);
    mem_free(bert->places);
    mem_free(bert);
}

int bert_width(const struct bert *bert) {
    return bert->width;
}

int bert_max_tokens(const struct bert *bert) {
    return bert->positions;
}

bool bert_names(char out[WEIGHTS_NAME], const char *name) {
    static const char *const prefixes[] = {"base_model.model.", "model.", "bert."};
    for (size_t i = 0; i < BASE_COUNT(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], n) == 0)
            name += n;
    }
    if (strncmp(name, "pooler.", 7) == 0 || strncmp(name, "cls.", 4) == 0 ||
        strcmp(name, "embeddings.position_ids") == 0)
        return false;
    snprintf(out, WEIGHTS_NAME, "%s", name);
    /* As the first checkpoints, made by TensorFlow, call them. */
    static const char *const old[][2] = {{".LayerNorm.gamma", ".LayerNorm.weight"},
                                         {".LayerNorm.beta", ".LayerNorm.bias"}};
    for (size_t i = 0; i < BASE_COUNT(old); i++) {
        char *end = strstr(out, old[i][0]);
        if (end && strlen(old[i][1]) < WEIGHTS_NAME - (size_t)(end - out))
            memcpy(end, old[i][1], strlen(old[i][1]) + 1);
    }
    return true;
}

void bert_gather(struct bert_batch *out, struct arena *arena, const struct tokens *texts, int n) {
    int *starts = arena_alloc(arena, (size_t)(n + 1) * sizeof *starts);
    for (int i = 0; i < n; i++)
        starts[i + 1] = starts[i] + texts[i].n;
    int *ids = arena_alloc(arena, (size_t)starts[n] * sizeof *ids);
    int *positions = arena_alloc(arena, (size_t)starts[n] * sizeof *positions);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < texts[i].n; j++) {
            ids[starts[i] + j] = texts[i].ids[j];
            positions[starts[i] + j] = j;
        }
    }
    *out = (struct bert_batch){ids, positions, starts[n], {n, starts}, NULL};
}

/* ---- forward -------------------------------------------------------------------------------- */

static bool no_memory(struct error *err, int n_rows) {
    return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %d tokens", n_rows);
}

static bool embed_tokens(struct tensor *out, const struct bert *bert,
                         const struct bert_batch *batch, struct error *err) {
    size_t width = (size_t)bert->width;
    float *values = mem_try((size_t)batch->n_rows, width * sizeof *values, SIZE_MAX);
    bool ok = values ? true : no_memory(err, batch->n_rows);
    for (int i = 0; i < batch->n_rows && ok; i++) {
        float *row = values + (size_t)i * width;
        const float *place = bert->places + (size_t)batch->positions[i] * width;
        ok = checkpoint_floats(row, bert->words, (int64_t)batch->ids[i] * bert->width, bert->width,
                               err);
        for (size_t c = 0; c < width && ok; c++)
            row[c] += place[c];
    }
    ok = ok && tensor_write(out, 0, batch->n_rows, values, err);
    mem_free(values);
    return ok && device_layer_norm(out, out, bert->norm.gain, bert->norm.bias, bert->epsilon, err);
}

/* One head of one watching row: out = softmax(scale * q kᵀ) v over rows [from, to) of qkv. */
static void watch(float *out, float *scores, const float *q, const float *qkv, int from, int to,
                  const struct bert *bert, int head) {
    int size = bert->width / bert->n_heads;
    size_t stride = 3 * (size_t)bert->width;
    const float *k = qkv + bert->width + head * size, *v = k + bert->width;
    float scale = 1 / sqrtf((float)size), top = -INFINITY, sum = 0;
    for (int i = from; i < to; i++) {
        float dot = 0;
        for (int c = 0; c < size; c++)
            dot += q[c] * k[(size_t)i * stride + (size_t)c];
        scores[i - from] = dot * scale;
        top = fmaxf(top, dot * scale);
    }
    memset(out, 0, (size_t)size * sizeof *out);
    for (int i = from; i < to; i++) {
        float share = expf(scores[i - from] - top);
        sum += share;
        for (int c = 0; c < size; c++)
            out[c] += share * v[(size_t)i * stride + (size_t)c];
    }
    for (int c = 0; c < size; c++)
        out[c] /= sum;
}

/* The rows after the sequences, on the host: there are at most a few tens a query. */
static bool attend_watching(struct tensor *out, const struct tensor *qkv, const struct bert *bert,
                            const struct bert_batch *batch, struct error *err) {
    const int *starts = batch->sequences.starts;
    int n_seen = starts[batch->sequences.n], size = bert->width / bert->n_heads;
    size_t width = (size_t)bert->width, n_rows = (size_t)batch->n_rows;
    float *values = mem_try(n_rows, 5 * width * sizeof *values, SIZE_MAX);
    if (!values)
        return no_memory(err, batch->n_rows);
    float *results = values + n_rows * 3 * width, *scores = results + n_rows * width;
    bool ok = tensor_read(values, qkv, 0, batch->n_rows, err);
    for (int i = n_seen; i < batch->n_rows && ok; i++) {
        int sequence = batch->watching[i - n_seen];
        for (int head = 0; head < bert->n_heads; head++) {
            size_t column = (size_t)head * (size_t)size;
            watch(results + (size_t)(i - n_seen) * width + column, scores,
                  values + (size_t)i * 3 * width + column, values, starts[sequence],
                  starts[sequence + 1], bert, head);
        }
    }
    ok = ok && tensor_write(out, n_seen, batch->n_rows - n_seen, results, err);
    mem_free(values);
    return ok;
}

/* What a forward pass writes into; seen_*: the rows of the sequences alone, where some watch. */
struct space {
    struct tensor *qkv, *attended, *inner, *seen_qkv, *seen_attended;
};

static void free_space(struct space *space) {
    tensor_free(space->qkv);
    tensor_free(space->attended);
    tensor_free(space->inner);
    tensor_free(space->seen_qkv);
    tensor_free(space->seen_attended);
}

static bool make_space(struct space *space, const struct bert *bert, const struct bert_batch *batch,
                       struct error *err) {
    int n_seen = batch->sequences.starts[batch->sequences.n];
    int64_t width = bert->width;
    if (!tensor_new(&space->qkv, bert->device, batch->n_rows, 3 * width, err) ||
        !tensor_new(&space->attended, bert->device, batch->n_rows, width, err) ||
        !tensor_new(&space->inner, bert->device, batch->n_rows, bert->inner, err))
        return false;
    return n_seen == batch->n_rows ||
           (tensor_new(&space->seen_qkv, bert->device, n_seen, 3 * width, err) &&
            tensor_new(&space->seen_attended, bert->device, n_seen, width, err));
}

static bool attend(struct space *space, const struct bert *bert, const struct bert_batch *batch,
                   struct error *err) {
    const struct attention_shape shape = {
        .n_heads = bert->n_heads,
        .n_kv_heads = bert->n_heads,
        .head_dim = bert->width / bert->n_heads,
        .scale = 1 / sqrtf((float)(bert->width / bert->n_heads)),
        .precision = bert->precision,
    };
    if (!space->seen_qkv)
        return device_attention(space->attended, space->qkv, &shape, &batch->sequences, err);
    int n_seen = batch->sequences.starts[batch->sequences.n];
    return device_copy_rows(space->seen_qkv, 0, space->qkv, 0, n_seen, err) &&
           device_attention(space->seen_attended, space->seen_qkv, &shape, &batch->sequences,
                            err) &&
           device_copy_rows(space->attended, 0, space->seen_attended, 0, n_seen, err) &&
           attend_watching(space->attended, space->qkv, bert, batch, err);
}

static bool run_layer(struct tensor *x, struct space *space, const struct bert *bert,
                      const struct bert_layer *layer, const struct bert_batch *batch,
                      struct error *err) {
    return device_linear(space->qkv, x, layer->qkv, layer->qkv_bias, ACTIVATION_NONE, NULL, err) &&
           attend(space, bert, batch, err) &&
           device_linear(x, space->attended, layer->out, layer->out_bias, ACTIVATION_NONE, x,
                         err) &&
           device_layer_norm(x, x, layer->attention_norm.gain, layer->attention_norm.bias,
                             bert->epsilon, err) &&
           device_linear(space->inner, x, layer->up, layer->up_bias, bert->activation, NULL, err) &&
           device_linear(x, space->inner, layer->down, layer->down_bias, ACTIVATION_NONE, x, err) &&
           device_layer_norm(x, x, layer->output_norm.gain, layer->output_norm.bias, bert->epsilon,
                             err);
}

bool bert_forward(struct tensor **out, const struct bert *bert, const struct bert_batch *batch,
                  const struct model_between *between, struct error *err) {
    struct space space = {0};
    struct tensor *x = NULL;
    bool ok = tensor_new(&x, bert->device, batch->n_rows, bert->width, err) &&
              make_space(&space, bert, batch, err) && embed_tokens(x, bert, batch, err);
    for (int i = 0; i < bert->n_layers && ok; i++)
        ok = run_layer(x, &space, bert, &bert->layers[i], batch, err) && model_pause(between, err);
    free_space(&space);
    if (!ok) {
        tensor_free(x);
        x = NULL;
    }
    *out = x;
    return ok;
}
