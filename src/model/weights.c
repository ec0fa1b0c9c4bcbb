/* weights: from a checkpoint's tensors to what a device computes with.
 *
 * A family names each tensor that it needs and the shape that it must have; nothing is converted
 * before all are known to be there. Then the matrices are found packed on disk, or packed now, the
 * rows of an adapter added on the way: W + scale · B · A (LoRA, Hu et al. 2021, §4.1). Packing
 * reads every value once, and that is where a NaN is found; packed weights on disk were checked so.
 */
#include "model/internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTS_MAX = 4, /* of a linear layer: q, k, v */
    RANK_MAX = 1024,
    INT8_COLUMNS_MAX = 65536,    /* their products' sums still have an int32's room */
    ADAPTER_BYTES_MAX = 1 << 30, /* of one lora_A, as floats */
};

/* A tensor under the family's name for it. */
struct part {
    char name[WEIGHTS_NAME];
    const struct checkpoint_tensor *tensor;    /* NULL: only an adapter names it */
    const struct checkpoint_tensor *down, *up; /* lora_A [r, k], lora_B [n, r]; or NULL */
    bool used;
};

struct linear {
    struct weight **out;
    struct weight_shape shape;
    const float *columns; /* factors; or NULL */
    struct part *parts[PARTS_MAX];
    int n_parts;
};

struct weights {
    struct model *model;
    weights_names names;
    struct part *parts; /* ascending by name; each is asked for once at most */
    int n_parts;
    float adapter_scale; /* alpha / r, or alpha / sqrt(r) */
    const char *file;    /* for messages of what is not there */
    struct linear *linears;
    int n_linears;
    const struct checkpoint_tensor **tables;
    int n_tables;
    struct arena *arena; /* columns */
    /* what was given */
    struct tensor **tensors;
    int n_tensors;
    struct weight **opened;
    int n_opened;
    struct packed *packed;
};

static bool bad(struct error *err, const struct checkpoint_tensor *tensor, const char *what) {
    return error_set_code(err, ERROR_INPUT, "bad_model", "%s: tensor %s: %s", tensor->file,
                          tensor->name, what);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct part *)a)->name, ((const struct part *)b)->name);
}

static struct part *find_part(const struct weights *weights, const char *name) {
    struct part key;
    snprintf(key.name, sizeof key.name, "%s", name);
    return bsearch(&key, weights->parts, (size_t)weights->n_parts, sizeof key, by_name);
}

static bool add_base(struct weights *weights, const struct checkpoint *checkpoint,
                     struct error *err) {
    for (int i = 0; i < checkpoint_count(checkpoint); i++) {
        const struct checkpoint_tensor *tensor = checkpoint_at(checkpoint, i);
        struct part *part = &weights->parts[weights->n_parts];
        if (!weights->names(part->name, tensor->name))
            continue;
        part->tensor = tensor;
        weights->n_parts++;
    }
    qsort(weights->parts, (size_t)weights->n_parts, sizeof *weights->parts, by_name);
    for (int i = 1; i < weights->n_parts; i++) {
        const struct part *part = &weights->parts[i];
        if (strcmp(part[-1].name, part->name) == 0)
            return error_set_code(err, ERROR_INPUT, "bad_model",
                                  "%s: tensor %.64s: it is there twice, as %.64s too",
                                  part->tensor->file, part->tensor->name, part[-1].tensor->name);
    }
    return true;
}

/* The part that a tensor of an adapter is for; a new one (a head that the base has not) goes to the
 * end. */
static struct part *adapted_part(struct weights *weights, const char *name) {
    struct part *part = find_part(weights, name);
    if (part)
        return part;
    part = &weights->parts[weights->n_parts++];
    memset(part, 0, sizeof *part);
    snprintf(part->name, sizeof part->name, "%s", name);
    qsort(weights->parts, (size_t)weights->n_parts, sizeof *weights->parts, by_name);
    return find_part(weights, name);
}

/* Cuts what PEFT puts into a name; which: 'A', 'B' or 0 for a tensor saved whole. */
static char adapter_name(char *name) {
    static const struct {
        const char *text;
        char which;
    } marks[] = {{".lora_A.", 'A'}, {".lora_B.", 'B'}, {".modules_to_save.", 0}};
    for (size_t i = 0; i < BASE_COUNT(marks); i++) {
        char *mark = strstr(name, marks[i].text), *last = strrchr(name, '.');
        if (mark) { /* x.lora_A.weight, x.lora_A.default.weight → x.weight */
            memmove(mark, last, strlen(last) + 1);
            return marks[i].which;
        }
    }
    return 0;
}

static bool add_adapter(struct weights *weights, const struct checkpoint *checkpoint,
                        struct error *err) {
    for (int i = 0; i < checkpoint_count(checkpoint); i++) {
        const struct checkpoint_tensor *tensor = checkpoint_at(checkpoint, i);
        char name[WEIGHTS_NAME];
        if (strstr(tensor->name, "lora_embedding") || strstr(tensor->name, "lora_magnitude"))
            return error_set_code(err, ERROR_UNSUPPORTED, "unknown_adapter",
                                  "%s: tensor %s: this kind of adapter is not known", tensor->file,
                                  tensor->name);
        if (!weights->names(name, tensor->name))
            continue;
        char which = adapter_name(name);
        struct part *part = adapted_part(weights, name);
        const struct checkpoint_tensor **slot = which == 'A'   ? &part->down
                                                : which == 'B' ? &part->up
                                                               : &part->tensor;
        if (*slot && (which || (*slot)->file == tensor->file))
            return bad(err, tensor, "it is there twice");
        *slot = tensor;
    }
    for (int i = 0; i < weights->n_parts; i++) {
        const struct part *part = &weights->parts[i];
        if (!part->down != !part->up)
            return bad(err, part->down ? part->down : part->up, "the other half of it is missing");
    }
    return true;
}

/* ---- the adapter's configuration ------------------------------------------------------------ */

static bool refuse(struct error *err, const char *key) {
    return error_set_code(err, ERROR_UNSUPPORTED, "unknown_adapter",
                          "adapter_config.json: %s is set, which this program does not do", key);
}

static bool read_adapter(struct weights *weights, struct error *err) {
    static const char *const empty[] = {
        "rank_pattern",           "alpha_pattern",           "layer_replication",
        "megatron_config",        "trainable_token_indices", "eva_config",
        "corda_config",           "target_parameters",       "arrow_config",
        "alora_invocation_tokens"};
    static const char *const unset[] = {"use_dora", "lora_bias", "fan_in_fan_out", "use_qalora"};
    const struct config config = {weights->model->adapter, "adapter_config.json"};
    const char *type = NULL, *bias = NULL;
    float alpha = 0;
    bool on = false, rank_stabilized = false;
    if (!config_string(&type, &config, "peft_type", "LORA", err) ||
        !config_string(&bias, &config, "bias", "none", err) ||
        !config_float(&alpha, &config, "lora_alpha", NAN, err) ||
        !config_bool(&rank_stabilized, &config, "use_rslora", false, err))
        return false;
    if (strcmp(type, "LORA") != 0)
        return error_set_code(err, ERROR_UNSUPPORTED, "unknown_adapter",
                              "adapter_config.json: an adapter of type \"%s\"", type);
    if (strcmp(bias, "none") != 0)
        return refuse(err, "bias");
    for (size_t i = 0; i < BASE_COUNT(empty); i++) {
        const json_t *value = json_object_get(config.json, empty[i]);
        if (value && !json_is_null(value) && json_object_size(value) + json_array_size(value) > 0)
            return refuse(err, empty[i]);
    }
    for (size_t i = 0; i < BASE_COUNT(unset); i++) {
        if (!config_bool(&on, &config, unset[i], false, err))
            return false;
        if (on)
            return refuse(err, unset[i]);
    }
    if (isnan(alpha))
        return error_set_code(err, ERROR_INPUT, "bad_model",
                              "adapter_config.json: lora_alpha is not there");
    int rank = 0;
    if (!config_int(&rank, &config, "r", 0, 1, RANK_MAX, err))
        return false;
    weights->adapter_scale = alpha / (rank_stabilized ? sqrtf((float)rank) : (float)rank);
    for (int i = 0; i < weights->n_parts; i++) {
        const struct checkpoint_tensor *down = weights->parts[i].down, *up = weights->parts[i].up;
        if (down && (down->n_dims != 2 || down->dims[0] != rank))
            return bad(err, down, "its rank is not the r of adapter_config.json");
        if (up && (up->n_dims != 2 || up->dims[1] != rank))
            return bad(err, up, "its rank is not the r of adapter_config.json");
    }
    return true;
}

bool weights_open(struct weights **out, struct model *model, weights_names names,
                  struct error *err) {
    struct weights *weights = mem_alloc(sizeof *weights);
    struct checkpoint_file file = {0};
    size_t n = (size_t)checkpoint_count(model->checkpoint);
    *out = NULL;
    weights->model = model;
    weights->names = names;
    weights->arena = arena_new(0);
    if (model->adapter_checkpoint)
        n += (size_t)checkpoint_count(model->adapter_checkpoint);
    checkpoint_file_at(&file, model->checkpoint, 0);
    weights->file = file.name;
    weights->parts = mem_try(n, sizeof *weights->parts, (size_t)1 << 30);
    weights->linears = mem_try(n, sizeof *weights->linears, (size_t)1 << 30);
    weights->tables = mem_alloc(n * sizeof *weights->tables);
    weights->tensors = mem_alloc(n * sizeof *weights->tensors);
    bool ok = weights->parts && weights->linears;
    if (!ok)
        error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for %zu tensors", n);
    ok = ok && add_base(weights, model->checkpoint, err);
    if (ok && model->adapter_checkpoint)
        ok = add_adapter(weights, model->adapter_checkpoint, err) && read_adapter(weights, err);
    if (!ok) {
        weights_close(weights);
        return false;
    }
    *out = weights;
    return true;
}

void weights_close(struct weights *weights) {
    if (!weights)
        return;
    for (int i = 0; i < weights->n_tensors; i++)
        tensor_free(weights->tensors[i]);
    for (int i = 0; i < weights->n_opened; i++)
        weight_close(weights->opened[i]);
    packed_close(weights->packed);
    mem_free(weights->tensors);
    mem_free(weights->opened);
    mem_free(weights->tables);
    mem_free(weights->linears);
    mem_free(weights->parts);
    arena_free(weights->arena);
    mem_free(weights);
}

const struct checkpoint_tensor *weights_lookup(const struct weights *weights, const char *name) {
    const struct part *part = find_part(weights, name);
    return part ? part->tensor : NULL;
}

/* ---- asking --------------------------------------------------------------------------------- */

/* The named part, whose tensor has rows × cols elements, rows of them the first dimension; cols 0:
 * a vector. */
static bool ask(struct part **out, struct weights *weights, const char *name, int rows, int cols,
                struct error *err) {
    struct part *part = find_part(weights, name);
    if (!part || !part->tensor)
        return error_set_code(err, ERROR_INPUT, "bad_model", "%s: tensor %s: not there",
                              weights->file, name);
    const struct checkpoint_tensor *tensor = part->tensor;
    int64_t want[2] = {rows, cols};
    bool fits = tensor->n_dims >= 1 && tensor->dims[0] == rows;
    if (cols == 0)
        fits = fits && tensor->n_dims == 1;
    else
        fits = fits && tensor->n_dims >= 2 && tensor->n == (int64_t)rows * cols &&
               (tensor->n_dims > 2 || tensor->dims[1] == cols);
    if (!fits) {
        char have_text[96], want_text[96], what[224];
        snprintf(what, sizeof what, "its shape is %s, not %s",
                 checkpoint_dims(have_text, tensor->dims, tensor->n_dims),
                 checkpoint_dims(want_text, want, cols ? 2 : 1));
        return bad(err, tensor, what);
    }
    if (tensor->dtype == DTYPE_I64)
        return bad(err, tensor, "it holds whole numbers");
    if (part->down && (cols == 0 || part->down->dims[1] != cols || part->up->dims[0] != rows))
        return bad(err, part->down, "its shape does not fit what it is added to");
    assert(!part->used); /* and so the lists below are as long as that of the parts */
    part->used = true;
    weights->model->info.n_parameters += tensor->n;
    *out = part;
    return true;
}

bool weights_table(const struct checkpoint_tensor **out, struct weights *weights, const char *name,
                   int n, int k, struct error *err) {
    struct part *part = NULL;
    if (!ask(&part, weights, name, n, k, err))
        return false;
    if (part->down)
        return bad(err, part->down, "an adapter of an embedding is not known");
    weights->tables[weights->n_tables++] = *out = part->tensor;
    return true;
}

/* A row of n values on the device. */
static bool give_vector(struct tensor **out, struct weights *weights, const float *values, int n,
                        struct error *err) {
    struct tensor *tensor = NULL;
    *out = NULL;
    if (!tensor_new(&tensor, weights->model->device, 1, n, err))
        return false;
    weights->tensors[weights->n_tensors++] = *out = tensor;
    weights->model->info.weight_bytes += (int64_t)n * (int64_t)sizeof *values;
    return tensor_write(tensor, 0, 1, values, err);
}

static bool read_vector(float *out, struct weights *weights, const char *name, int n, float add,
                        struct error *err) {
    struct part *part = NULL;
    if (!ask(&part, weights, name, n, 0, err) || !checkpoint_floats(out, part->tensor, 0, n, err))
        return false;
    for (int i = 0; i < n; i++)
        out[i] += add;
    return true;
}

bool weights_vector(struct tensor **out, struct weights *weights, const char *const *names,
                    const int *n, int n_parts, struct error *err) {
    int total = 0, at = 0;
    for (int i = 0; i < n_parts; i++)
        total += n[i];
    float *values = mem_alloc((size_t)total * sizeof *values);
    bool ok = true;
    for (int i = 0; i < n_parts && ok; i++) {
        ok = read_vector(values + at, weights, names[i], n[i], 0, err);
        at += n[i];
    }
    ok = ok && give_vector(out, weights, values, total, err);
    mem_free(values);
    return ok;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* A token's int8 values share one scale, which a channel fifty times as loud as the rest takes for
 * itself. Half of its loudness (as a factor) goes over to the columns of the weights, as
 * SmoothQuant does (Xiao et al. 2023, §4), here told by the norm's gain and bias alone; NULL where
 * no channel is LOUD times the median. */
static float *find_columns(struct weights *weights, const float *gain, const float *bias, int n) {
    enum { LOUD = 4 };
    float *sizes = mem_alloc(2 * (size_t)n * sizeof *sizes), *sorted = sizes + n, *columns = NULL;
    for (int i = 0; i < n; i++)
        sorted[i] = sizes[i] = hypotf(gain[i], bias ? bias[i] : 0);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    float median = sorted[n / 2];
    if (median > 0 && sorted[n - 1] > LOUD * median) {
        columns = arena_alloc(weights->arena, (size_t)n * sizeof *columns);
        for (int i = 0; i < n; i++)
            columns[i] = sizes[i] > LOUD * median ? sqrtf(sizes[i] / median) : 1;
    }
    mem_free(sizes);
    return columns;
}

bool weights_norm(struct weights_norm *out, struct weights *weights, const char *prefix, int n,
                  float add, bool has_bias, bool before_linear, struct error *err) {
    float *gain = mem_alloc(2 * (size_t)n * sizeof *gain), *bias = has_bias ? gain + n : NULL;
    char name[WEIGHTS_NAME];
    *out = (struct weights_norm){0};
    snprintf(name, sizeof name, "%s.weight", prefix);
    bool ok = read_vector(gain, weights, name, n, add, err);
    snprintf(name, sizeof name, "%s.bias", prefix);
    ok = ok && (!bias || read_vector(bias, weights, name, n, 0, err));
    if (ok && before_linear && weights->model->precision == PRECISION_INT8)
        out->columns = find_columns(weights, gain, bias, n);
    for (int i = 0; out->columns && i < n; i++) {
        gain[i] /= out->columns[i];
        if (bias)
            bias[i] /= out->columns[i];
    }
    ok = ok && give_vector(&out->gain, weights, gain, n, err) &&
         (!bias || give_vector(&out->bias, weights, bias, n, err));
    mem_free(gain);
    return ok;
}

bool weights_linear(struct weight **out, struct weights *weights, const char *const *names,
                    const int *n, int n_parts, int k, enum weight_join join,
                    enum precision precision, const float *columns, struct error *err) {
    struct linear linear = {.out = out, .n_parts = n_parts, .columns = columns};
    linear.shape = (struct weight_shape){.k = k, .join = join, .precision = precision};
    for (int i = 0; i < n_parts; i++) {
        if (!ask(&linear.parts[i], weights, names[i], n[i], k, err))
            return false;
        linear.shape.n += n[i];
    }
    if (precision == PRECISION_INT8 && k > INT8_COLUMNS_MAX) {
        const struct checkpoint_tensor *tensor = linear.parts[0]->tensor;
        return error_set_code(err, ERROR_UNSUPPORTED, "unsupported",
                              "%s: tensor %.128s: %d columns are too many for int8, at most %d",
                              tensor->file, tensor->name, k, INT8_COLUMNS_MAX);
    }
    weights->linears[weights->n_linears++] = linear;
    return true;
}

bool weights_layer(struct weight **out, struct tensor **bias, struct weights *weights,
                   const char *layer, const char *const *parts, const int *n, int n_parts, int k,
                   enum weight_join join, enum precision precision, const float *columns,
                   struct error *err) {
    char text[2][3][WEIGHTS_NAME];
    const char *names[2][3];
    assert(n_parts <= 3);
    for (int i = 0; i < n_parts; i++) {
        snprintf(text[0][i], WEIGHTS_NAME, "%s.%s.weight", layer, parts[i]);
        snprintf(text[1][i], WEIGHTS_NAME, "%s.%s.bias", layer, parts[i]);
        names[0][i] = text[0][i];
        names[1][i] = text[1][i];
    }
    return weights_linear(out, weights, names[0], n, n_parts, k, join, precision, columns, err) &&
           (!bias || weights_vector(bias, weights, names[1], n, n_parts, err));
}

/* ---- packing -------------------------------------------------------------------------------- */

struct rows {
    const struct part *part;
    int k, rank;
    float scale;
    float *down; /* lora_A as floats */
    const float *columns;
};

static bool add_adapted(float *out, const struct rows *rows, int i, struct error *err) {
    float up[RANK_MAX];
    if (!checkpoint_floats(up, rows->part->up, (int64_t)i * rows->rank, rows->rank, err))
        return false;
    for (int r = 0; r < rows->rank; r++) {
        const float *down = rows->down + (size_t)r * (size_t)rows->k;
        float factor = rows->scale * up[r];
        for (int c = 0; c < rows->k; c++)
            out[c] += factor * down[c];
    }
    return true;
}

static bool give_row(void *ctx, int i, float *out, struct error *err) {
    const struct rows *rows = ctx;
    if (!checkpoint_floats(out, rows->part->tensor, (int64_t)i * rows->k, rows->k, err) ||
        (rows->down && !add_adapted(out, rows, i, err)))
        return false;
    for (int c = 0; rows->columns && c < rows->k; c++)
        out[c] *= rows->columns[c];
    return true;
}

static bool open_rows(struct rows *rows, const struct weights *weights, const struct part *part,
                      int k, struct error *err) {
    *rows = (struct rows){.part = part, .k = k, .scale = weights->adapter_scale};
    if (!part->down)
        return true;
    rows->rank = (int)part->down->dims[0];
    rows->down = mem_try((size_t)part->down->n, sizeof *rows->down, ADAPTER_BYTES_MAX);
    if (!rows->down)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "no memory for an adapter");
    return checkpoint_floats(rows->down, part->down, 0, part->down->n, err);
}

static bool pack_one(const struct weights *weights, const struct linear *linear, void *out,
                     struct error *err) {
    struct rows rows[PARTS_MAX] = {0};
    struct weight_source sources[PARTS_MAX];
    bool ok = true;
    for (int i = 0; i < linear->n_parts && ok; i++) {
        ok = open_rows(&rows[i], weights, linear->parts[i], linear->shape.k, err);
        rows[i].columns = linear->columns;
        sources[i] = (struct weight_source){.n = (int)linear->parts[i]->tensor->dims[0],
                                            .k = linear->shape.k,
                                            .row = give_row,
                                            .ctx = &rows[i]};
    }
    ok = ok &&
         weight_pack(out, weights->model->device, &linear->shape, sources, linear->n_parts, err);
    for (int i = 0; i < linear->n_parts; i++) {
        mem_free(rows[i].down);
        checkpoint_release(linear->parts[i]->tensor);
    }
    return ok;
}

/* Tables are read row by row later: what they hold is checked here, once. */
static bool check_table(const struct checkpoint_tensor *tensor, struct error *err) {
    enum { AT_ONCE = 1 << 16, RELEASED = 64 * AT_ONCE };
    float *values = mem_alloc(AT_ONCE * sizeof *values);
    bool ok = true;
    for (int64_t i = 0; i < tensor->n && ok; i += AT_ONCE) {
        ok = checkpoint_floats(values, tensor, i, tensor->n - i < AT_ONCE ? tensor->n - i : AT_ONCE,
                               err);
        if (i % RELEASED == 0)
            checkpoint_release(tensor);
    }
    mem_free(values);
    checkpoint_release(tensor);
    return ok;
}

static bool pack_all(struct weights *weights, const char key[SHA256_HEX + 1], const size_t *sizes,
                     struct error *err) {
    const struct model *model = weights->model;
    if (!packed_new(&weights->packed, model->packed_dir, key, sizes, weights->n_linears,
                    device_room_bytes(model->device), err))
        return false;
    for (int i = 0; i < weights->n_linears; i++) {
        if (!model_goes_on(weights->model, err) ||
            !pack_one(weights, &weights->linears[i], packed_at(weights->packed, i), err))
            return false;
    }
    for (int i = 0; i < weights->n_tables; i++) {
        if (!model_goes_on(weights->model, err) || !check_table(weights->tables[i], err))
            return false;
    }
    return true;
}

static void key_of(char out[SHA256_HEX + 1], const struct weights *weights) {
    struct buf text = {0};
    /* The number stands for what this file does to weights on their way: to be raised with it. */
    buf_printf(&text, "1 %s\n", weights->model->info.weights_hash);
    for (int i = 0; i < weights->n_linears; i++) {
        const struct weight_shape *shape = &weights->linears[i].shape;
        buf_printf(&text, "%d %d %d %s %s\n", shape->n, shape->k, (int)shape->join,
                   precision_name(shape->precision),
                   weight_layout(weights->model->device, shape->precision));
    }
    sha256_hex(out, text.data, text.len);
    buf_fini(&text);
}

static bool check_all_used(const struct weights *weights, struct error *err) {
    for (int i = 0; i < weights->n_parts; i++) {
        const struct part *part = &weights->parts[i];
        if (!part->used)
            return bad(err, part->tensor ? part->tensor : part->down,
                       "it is no part of such a model");
    }
    return true;
}

static bool open_weights(struct weights *weights, struct error *err) {
    weights->opened = mem_alloc((size_t)weights->n_linears * sizeof(struct weight *));
    for (int i = 0; i < weights->n_linears; i++) {
        const struct linear *linear = &weights->linears[i];
        if (!weight_open(linear->out, weights->model->device, &linear->shape,
                         packed_at(weights->packed, i), err))
            return false;
        weights->opened[weights->n_opened++] = *linear->out;
    }
    return true;
}

bool weights_finish(struct weights *weights, struct error *err) {
    struct model *model = weights->model;
    if (!check_all_used(weights, err))
        return false;
    size_t *sizes = mem_alloc((size_t)weights->n_linears * sizeof *sizes);
    char key[SHA256_HEX + 1];
    for (int i = 0; i < weights->n_linears; i++) {
        sizes[i] = weight_bytes(model->device, &weights->linears[i].shape);
        model->info.weight_bytes += (int64_t)sizes[i];
    }
    key_of(key, weights);
    if (model->packed_dir)
        packed_open(&weights->packed, model->packed_dir, key, sizes, weights->n_linears);
    model->info.packed_from_disk = weights->packed != NULL;
    bool ok = weights->packed || pack_all(weights, key, sizes, err);
    if (ok && model->packed_dir && !model->info.packed_from_disk)
        packed_keep(weights->packed, model->folder);
    mem_free(sizes);
    return ok && open_weights(weights, err);
}
