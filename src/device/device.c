/* The public face of every device: names, the choice of one, and the checks of shapes before an
 * operation is handed to the device's table.
 *
 * Devices stand in one list, fastest first; "auto" takes the first that its probe finds there. One
 * without a probe and an opener is not built into this program. */
#include "device/internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const char *const precision_names[] = {
    [PRECISION_AUTO] = "auto", [PRECISION_FP32] = "fp32", [PRECISION_FP16] = "fp16",
    [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8",
};

const char *precision_name(enum precision precision) {
    assert((unsigned)precision < BASE_COUNT(precision_names));
    return precision_names[precision];
}

bool precision_parse(enum precision *out, const char *name, struct error *err) {
    for (size_t i = 0; i < BASE_COUNT(precision_names); i++) {
        if (!strcmp(name, precision_names[i])) {
            *out = (enum precision)i;
            return true;
        }
    }
    return error_set(err, ERROR_INPUT, "precision '%s' is none of auto, fp32, fp16, bf16, int8",
                     name);
}

/* ---- devices ---- */

struct backend {
    const char *name;
    bool (*probe)(char reason[96]); /* NULL, as open is: not built in */
    bool (*open)(struct device **out, int n_threads, struct error *err);
};

static const struct backend backends[] = {
    {"cuda", NULL, NULL},
    {"mps", NULL, NULL},
    {"vulkan", NULL, NULL},
    {"cpu", cpu_device_probe, cpu_device_open},
};

static struct device_kind kind_of(const struct backend *backend) {
    struct device_kind kind = {.name = backend->name, .built = backend->open != NULL};
    if (kind.built)
        kind.present = backend->probe(kind.reason);
    else
        snprintf(kind.reason, sizeof kind.reason, "not built in");
    return kind;
}

bool device_open(struct device **out, const char *asked, int n_threads, struct error *err) {
    *out = NULL;
    assert(n_threads >= 0);
    bool any = !strcmp(asked, "auto");
    for (size_t i = 0; i < BASE_COUNT(backends); i++) {
        if (!any && strcmp(asked, backends[i].name) != 0)
            continue;
        struct device_kind kind = kind_of(&backends[i]);
        if (kind.present)
            return backends[i].open(out, n_threads, err);
        if (any)
            continue;
        if (!kind.built)
            return error_set_code(err, ERROR_DEVICE, "device_not_available",
                                  "device '%s' is not built into this program", asked);
        return error_set_code(err, ERROR_DEVICE, "device_not_available",
                              "device '%s' is not there: %s", asked, kind.reason);
    }
    if (any)
        return error_set_code(err, ERROR_DEVICE, "device_not_available", "no device is there");
    return error_set(err, ERROR_INPUT, "device '%s' is none of auto, mps, cuda, vulkan, cpu",
                     asked);
}

void device_close(struct device *device) {
    if (device)
        device->ops->close(device);
}

void device_info(struct device_info *out, const struct device *device) {
    memset(out, 0, sizeof *out);
    device->ops->info(out, device);
    out->name = device->name;
}

int64_t device_room_bytes(const struct device *device) {
    return device->ops->room_bytes(device);
}

enum precision device_best_precision(const struct device *device) {
    return device->best;
}

bool device_check_precision(const struct device *device, enum precision precision,
                            struct error *err) {
    if (precision == PRECISION_AUTO || (device->precisions >> precision & 1))
        return true;
    char has[64] = "";
    size_t len = 0;
    for (size_t i = PRECISION_FP32; i < BASE_COUNT(precision_names); i++) {
        if (device->precisions >> i & 1)
            len += (size_t)snprintf(has + len, sizeof has - len, "%s%s", len ? ", " : "",
                                    precision_names[i]);
    }
    return error_set(err, ERROR_UNSUPPORTED, "device '%s' has no precision %s, only %s",
                     device->name, precision_name(precision), has);
}

int device_kinds(struct device_kind out[8]) {
    _Static_assert(BASE_COUNT(backends) <= 8, "out holds all of them");
    for (size_t i = 0; i < BASE_COUNT(backends); i++)
        out[i] = kind_of(&backends[i]);
    return BASE_COUNT(backends);
}

void device_run(struct device *device, int n, void (*work)(void *ctx, int i, int thread),
                void *ctx) {
    if (device) {
        device->ops->run(device, n, work, ctx);
        return;
    }
    for (int i = 0; i < n; i++)
        work(ctx, i, 0);
}

/* ---- tensors ---- */

bool tensor_new(struct tensor **out, struct device *device, int64_t rows, int64_t cols,
                struct error *err) {
    *out = NULL;
    assert(rows >= 0 && cols > 0);
    struct tensor *tensor = mem_alloc(sizeof *tensor);
    *tensor = (struct tensor){.device = device, .rows = rows, .cols = cols};
    if (!device->ops->tensor_open(tensor, err)) {
        mem_free(tensor);
        return false;
    }
    *out = tensor;
    return true;
}

void tensor_free(struct tensor *tensor) {
    if (!tensor)
        return;
    tensor->device->ops->tensor_close(tensor);
    mem_free(tensor);
}

int64_t tensor_rows(const struct tensor *tensor) {
    return tensor->rows;
}

int64_t tensor_cols(const struct tensor *tensor) {
    return tensor->cols;
}

static bool rows_within(const struct tensor *tensor, int64_t row, int64_t n) {
    return row >= 0 && n >= 0 && row <= tensor->rows && n <= tensor->rows - row;
}

bool tensor_write(struct tensor *tensor, int64_t row, int64_t n, const float *values,
                  struct error *err) {
    assert(rows_within(tensor, row, n));
    return n == 0 || tensor->device->ops->tensor_write(tensor, row, n, values, err);
}

bool tensor_read(float *values, const struct tensor *tensor, int64_t row, int64_t n,
                 struct error *err) {
    assert(rows_within(tensor, row, n));
    return n == 0 || tensor->device->ops->tensor_read(values, tensor, row, n, err);
}

/* ---- weights ---- */

/* Sizes come from files, unlike the rest of a shape. */
static bool is_within_limits(const struct weight_shape *shape, struct error *err) {
    if (shape->k > WEIGHT_MAX_K)
        return error_set(err, ERROR_UNSUPPORTED,
                         "a weight of %d in features: there may be %d at most", shape->k,
                         WEIGHT_MAX_K);
    if (shape->n > WEIGHT_MAX_N)
        return error_set(err, ERROR_UNSUPPORTED,
                         "a weight of %d out features: there may be %d at most", shape->n,
                         WEIGHT_MAX_N);
    return true;
}

static bool is_weight_shape(const struct device *device, const struct weight_shape *shape) {
    return shape->n > 0 && shape->k > 0 && (shape->join == WEIGHT_STACK || shape->n % 2 == 0) &&
           shape->precision != PRECISION_AUTO && (device->precisions >> shape->precision & 1);
}

const char *weight_layout(const struct device *device, enum precision precision) {
    return device->ops->weight_layout(device, precision);
}

size_t weight_bytes(const struct device *device, const struct weight_shape *shape) {
    assert(is_weight_shape(device, shape));
    return is_within_limits(shape, NULL) ? device->ops->weight_bytes(device, shape) : 0;
}

bool weight_pack(void *out, struct device *device, const struct weight_shape *shape,
                 const struct weight_source *sources, int n_sources, struct error *err) {
    assert(is_weight_shape(device, shape) && (uintptr_t)out % 64 == 0);
    if (!is_within_limits(shape, err))
        return false;
    int64_t n = 0;
    for (int i = 0; i < n_sources; i++) {
        assert(sources[i].k == shape->k && sources[i].n > 0);
        n += sources[i].n;
    }
    assert(n == shape->n);
    assert(shape->join == WEIGHT_STACK || (n_sources == 2 && sources[0].n == sources[1].n));
    return device->ops->weight_pack(out, device, shape, sources, n_sources, err);
}

bool weight_open(struct weight **out, struct device *device, const struct weight_shape *shape,
                 const void *packed, struct error *err) {
    *out = NULL;
    assert(is_weight_shape(device, shape) && (uintptr_t)packed % 64 == 0);
    if (!is_within_limits(shape, err))
        return false;
    struct weight *weight = mem_alloc(sizeof *weight);
    *weight = (struct weight){.device = device, .shape = *shape, .packed = packed};
    if (!device->ops->weight_open(weight, err)) {
        mem_free(weight);
        return false;
    }
    *out = weight;
    return true;
}

void weight_close(struct weight *weight) {
    if (!weight)
        return;
    weight->device->ops->weight_close(weight);
    mem_free(weight);
}

/* ---- operations ---- */

static bool same_shape(const struct tensor *a, const struct tensor *b) {
    return a->device == b->device && a->rows == b->rows && a->cols == b->cols;
}

/* A vector of as many columns as `like` has, for each of its rows. */
static bool is_vector_of(const struct tensor *vector, const struct tensor *like) {
    return vector->device == like->device && vector->rows == 1 && vector->cols == like->cols;
}

static bool is_product(const struct tensor *out, const struct tensor *in,
                       const struct weight *weight, int n) {
    return out->device == in->device && in->device == weight->device && out != in &&
           in->cols == weight->shape.k && out->cols == n && out->rows == in->rows;
}

static bool is_attention_shape(const struct attention_shape *shape) {
    return shape->n_heads > 0 && shape->n_kv_heads > 0 && shape->head_dim > 0 &&
           shape->n_heads % shape->n_kv_heads == 0;
}

static int64_t qkv_cols(const struct attention_shape *shape) {
    return ((int64_t)shape->n_heads + 2 * (int64_t)shape->n_kv_heads) * shape->head_dim;
}

/* They lie one after another and are the tensor's rows, all of them. */
static bool are_sequences(const struct sequences *sequences, int64_t rows) {
    if (sequences->n < 0 || sequences->starts[0] != 0 || sequences->starts[sequences->n] != rows)
        return false;
    for (int i = 0; i < sequences->n; i++) {
        if (sequences->starts[i] > sequences->starts[i + 1])
            return false;
    }
    return true;
}

bool device_linear(struct tensor *out, const struct tensor *in, const struct weight *weight,
                   const struct tensor *bias, enum activation activation,
                   const struct tensor *residual, struct error *err) {
    assert(weight->shape.join == WEIGHT_STACK && is_product(out, in, weight, weight->shape.n));
    assert(!bias || is_vector_of(bias, out));
    assert(!residual || same_shape(residual, out));
    return out->rows == 0 ||
           out->device->ops->linear(out, in, weight, bias, activation, residual, err);
}

bool device_gated(struct tensor *out, const struct tensor *in, const struct weight *weight,
                  enum activation activation, struct error *err) {
    assert(weight->shape.join == WEIGHT_GATED && is_product(out, in, weight, weight->shape.n / 2));
    return out->rows == 0 || out->device->ops->gated(out, in, weight, activation, err);
}

bool device_layer_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                       const struct tensor *bias, float epsilon, struct error *err) {
    assert(same_shape(out, in) && is_vector_of(gain, in) && is_vector_of(bias, in));
    return out->rows == 0 || out->device->ops->layer_norm(out, in, gain, bias, epsilon, err);
}

bool device_rms_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                     float epsilon, struct error *err) {
    assert(same_shape(out, in) && is_vector_of(gain, in));
    return out->rows == 0 || out->device->ops->rms_norm(out, in, gain, epsilon, err);
}

bool device_add(struct tensor *out, const struct tensor *in, struct error *err) {
    assert(out->device == in->device && out->cols == in->cols);
    assert(in->rows <= out->rows && (in->rows > 0 || out->rows == 0));
    return out->rows == 0 || out->device->ops->add(out, in, err);
}

bool device_scale(struct tensor *out, float factor, struct error *err) {
    return out->rows == 0 || out->device->ops->scale(out, factor, err);
}

bool device_copy_rows(struct tensor *out, int64_t to, const struct tensor *in, int64_t from,
                      int64_t n, struct error *err) {
    assert(out->device == in->device && out->cols == in->cols);
    assert(rows_within(out, to, n) && rows_within(in, from, n));
    return n == 0 || out->device->ops->copy_rows(out, to, in, from, n, err);
}

bool device_rope(struct tensor *qkv, const struct attention_shape *shape,
                 const struct sequences *sequences, float base, struct error *err) {
    assert(is_attention_shape(shape) && shape->head_dim % 2 == 0 && base > 0);
    assert(qkv->cols == qkv_cols(shape) && are_sequences(sequences, qkv->rows));
    return qkv->rows == 0 || qkv->device->ops->rope(qkv, shape, sequences, base, err);
}

bool device_attention(struct tensor *out, const struct tensor *qkv,
                      const struct attention_shape *shape, const struct sequences *sequences,
                      struct error *err) {
    assert(is_attention_shape(shape) && out->device == qkv->device && out != qkv);
    assert(qkv->cols == qkv_cols(shape) && are_sequences(sequences, qkv->rows));
    assert(out->rows == qkv->rows && out->cols == (int64_t)shape->n_heads * shape->head_dim);
    return out->rows == 0 || out->device->ops->attention(out, qkv, shape, sequences, err);
}

bool device_mean_pool(struct tensor *out, const struct tensor *in,
                      const struct sequences *sequences, struct error *err) {
    assert(out->device == in->device && out != in && out->cols == in->cols);
    assert(out->rows == sequences->n && are_sequences(sequences, in->rows));
    return out->rows == 0 || out->device->ops->mean_pool(out, in, sequences, err);
}

bool device_normalize(struct tensor *out, const struct tensor *in, struct error *err) {
    assert(same_shape(out, in));
    return out->rows == 0 || out->device->ops->normalize(out, in, err);
}
