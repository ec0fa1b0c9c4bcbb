/* device: tensors and the operations of a transformer encoder, on whatever computes.
 *
 * A model is written once against this face; a device fills in one table (`struct device_ops` in
 * internal.h). A tensor is a matrix of activations, rows × cols, that only its device looks into;
 * its element type is the device's (CPU: fp32, row-major, packed to the weight's precision inside
 * an operation). A weight is a linear layer's matrix in the device's own packed layout, made once
 * and then mapped from disk.
 *
 * Calls of several threads on one device take turns operation by operation. An operation's tensors
 * belong to the device, have the shapes stated, and (unless it says otherwise) out may be in.
 * Operations fail only for want of memory (ERROR_LIMIT "out_of_memory") or a lost device
 * (ERROR_DEVICE); wrong shapes are our own bugs (assert). */
#ifndef DOCUSEARCH_DEVICE_H
#define DOCUSEARCH_DEVICE_H

#include "base/base.h"

enum precision { PRECISION_AUTO, PRECISION_FP32, PRECISION_FP16, PRECISION_BF16, PRECISION_INT8 };
const char *precision_name(enum precision precision); /* "auto", "fp32", … */
bool precision_parse(enum precision *out, const char *name, struct error *err);

struct device;
struct tensor;
struct weight;

/* ---- devices -------------------------------------------------------------------------------- */

/* asked: "auto", "cpu", "mps", "cuda", "vulkan". n_threads 0: one a processor. One that is not
 * built in or not there: ERROR_DEVICE "device_not_available", the text saying which of the two. */
bool device_open(struct device **out, const char *asked, int n_threads, struct error *err);
void device_close(struct device *device); /* after its tensors and weights; NULL is fine */

struct device_info {
    const char *name;   /* "cpu" */
    char kernels[96];   /* "amx bf16 int8, avx512", "avx512 vnni bf16", "avx2", "plain C" */
    char processor[96]; /* as the system names it */
    int n_threads;
    int64_t bytes; /* held by tensors, by copies of weights and, between calls, by operations */
};
void device_info(struct device_info *out, const struct device *device);
/* Bytes of the device's memory that may still be taken, as the system counts at this moment; -1:
 * not known. */
int64_t device_room_bytes(const struct device *device);
/* What MODEL_PRECISION=auto means here: the fastest that the processor has units for. */
enum precision device_best_precision(const struct device *device);
/* ERROR_UNSUPPORTED names the device, the precision and those it has. */
bool device_check_precision(const struct device *device, enum precision precision,
                            struct error *err);
/* One line a device that this program was built with: name, whether it is there, why not. */
struct device_kind {
    const char *name;
    bool built, present;
    char reason[96];
};
int device_kinds(struct device_kind out[8]);
/* work(ctx, i, thread) for each i of 0..n-1, handed out in order, on the device's threads on the
 * host (thread from 0 to n_threads - 1); returns when all are done. Takes its turn like an
 * operation. device NULL: the caller does it alone, as thread 0. */
void device_run(struct device *device, int n, void (*work)(void *ctx, int i, int thread),
                void *ctx);

/* ---- tensors -------------------------------------------------------------------------------- */

/* Contents undefined. */
bool tensor_new(struct tensor **out, struct device *device, int64_t rows, int64_t cols,
                struct error *err);
void tensor_free(struct tensor *tensor); /* NULL is fine */
int64_t tensor_rows(const struct tensor *tensor);
int64_t tensor_cols(const struct tensor *tensor);
/* n whole rows from row on, fp32 row-major on the host's side. */
bool tensor_write(struct tensor *tensor, int64_t row, int64_t n, const float *values,
                  struct error *err);
bool tensor_read(float *values, const struct tensor *tensor, int64_t row, int64_t n,
                 struct error *err);

/* ---- weights -------------------------------------------------------------------------------- */

/* Rows of a matrix [n, k] as a model's file has them: row(ctx, i, out) gives row i as k floats; it
 * is called from several threads at once, each row once. False (with *err) ends the packing. */
struct weight_source {
    int n, k;
    bool (*row)(void *ctx, int i, float *out, struct error *err);
    void *ctx;
};
enum weight_join {
    WEIGHT_STACK, /* rows of all sources one after another: q, k, v as one matrix */
    WEIGHT_GATED, /* two sources of one shape, gate and up, for device_gated */
};
enum { WEIGHT_MAX_N = 1 << 20, WEIGHT_MAX_K = 65536 };
struct weight_shape {
    int n, k; /* out features (of all sources), in features; both at least 1 */
    enum weight_join join;
    enum precision precision; /* FP32, BF16 or INT8 */
};
/* A name for the packed layout, part of the key under which packed weights are kept: changes when
 * the bytes would. */
const char *weight_layout(const struct device *device, enum precision precision);
/* Bytes of the packed form: a multiple of 64; 0 for a shape above WEIGHT_MAX_N or WEIGHT_MAX_K, to
 * which weight_pack and weight_open answer ERROR_UNSUPPORTED with the number. */
size_t weight_bytes(const struct device *device, const struct weight_shape *shape);
/* Packs into out (weight_bytes of them, 64-byte aligned). INT8: one scale an output channel;
 * inputs are quantised a token at a time inside device_linear; a row whose scale would not be
 * finite is ERROR_INPUT. */
bool weight_pack(void *out, struct device *device, const struct weight_shape *shape,
                 const struct weight_source *sources, int n_sources, struct error *err);
/* A weight over packed bytes that stay where they are and must outlive it (a mapped file), or, on
 * devices with memory of their own, are copied there. */
bool weight_open(struct weight **out, struct device *device, const struct weight_shape *shape,
                 const void *packed, struct error *err);
void weight_close(struct weight *weight); /* NULL is fine */

/* ---- operations ----------------------------------------------------------------------------- */

enum activation { ACTIVATION_NONE, ACTIVATION_GELU_ERF, ACTIVATION_GELU_TANH };

/* out[r, n] = activation(in[r, k] · weightᵀ + bias[1, n]) + residual[r, n]. bias and residual may
 * be NULL; residual may be out; out is not in. */
bool device_linear(struct tensor *out, const struct tensor *in, const struct weight *weight,
                   const struct tensor *bias, enum activation activation,
                   const struct tensor *residual, struct error *err);
/* out[r, n/2] = activation(in · gateᵀ) * (in · upᵀ), weight joined as WEIGHT_GATED. */
bool device_gated(struct tensor *out, const struct tensor *in, const struct weight *weight,
                  enum activation activation, struct error *err);
/* Rows to mean 0 and variance 1 (biased), then * gain[1, c] + bias[1, c]. */
bool device_layer_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                       const struct tensor *bias, float epsilon, struct error *err);
/* Rows over their root mean square, * gain[1, c] (Gemma's 1 + w is in gain already). */
bool device_rms_norm(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                     float epsilon, struct error *err);
/* out += in, or, where in has fewer rows, in again and again (positions). */
bool device_add(struct tensor *out, const struct tensor *in, struct error *err);
bool device_scale(struct tensor *out, float factor, struct error *err);
/* Rows [from, from + n) of in to rows [to, to + n) of out. */
bool device_copy_rows(struct tensor *out, int64_t to, const struct tensor *in, int64_t from,
                      int64_t n, struct error *err);

/* Sequences packed one after another: sequence i has rows starts[i] to starts[i + 1]. */
struct sequences {
    int n;
    const int *starts; /* n + 1 of them */
};
struct attention_shape {
    int n_heads, n_kv_heads, head_dim; /* n_heads a multiple of n_kv_heads */
    float scale;
    enum precision precision; /* of the products; sums and softmax are fp32 */
};
/* Rotary positions (RoFormer §3.4.2 in the half-split form: pairs are i and i + head_dim / 2) on
 * the q and k columns of qkv[r, (n_heads + 2 * n_kv_heads) * head_dim], positions from 0 within
 * each sequence. */
bool device_rope(struct tensor *qkv, const struct attention_shape *shape,
                 const struct sequences *sequences, float base, struct error *err);
/* out[r, n_heads * head_dim] = softmax(scale * q kᵀ) v for each head, every row seeing all rows of
 * its own sequence and no others. */
bool device_attention(struct tensor *out, const struct tensor *qkv,
                      const struct attention_shape *shape, const struct sequences *sequences,
                      struct error *err);
/* out[i, c] = mean of sequence i's rows. */
bool device_mean_pool(struct tensor *out, const struct tensor *in,
                      const struct sequences *sequences, struct error *err);
/* Rows to length 1; a row shorter than 1e-12 becomes zero. */
bool device_normalize(struct tensor *out, const struct tensor *in, struct error *err);

/* ---- codes, and MaxSim over them, on the host ------------------------------------------------ */

/* Vectors as codes lie in groups of 16: element d of vector v of a group is its element number
 * d / 4 * 64 + v * 4 + d % 4, so that products go 4 dimensions at a time for 16 vectors at once.
 * Elements have 8, 4, 2 or 1 bits, lowest first. dim is filled up with zeros to CODE_DIM(dim); a
 * last group that n does not fill repeats the last vector. A vector's value is its scale times the
 * levels of its codes; scales are the upper halves of fp32 (bf16), one a vector of every group. */
enum { CODE_GROUP = 16, CODES_MAX_DIM = 65536, MAXSIM_MAX_QUERY = 4096 };
#define CODE_DIM(dim) (((dim) + 63) / 64 * 64)
#define CODE_GROUPS(n) (((n) + CODE_GROUP - 1) / CODE_GROUP)
size_t codes_bytes(int n, int dim, int bits); /* of the codes of n vectors, without scales */
size_t code_scales_bytes(int n);              /* 2 a vector of whole groups */
/* 1 << bits levels, ascending, symmetric: the Lloyd-Max quantiser of a normal variable (Max, 1960,
 * table I), times a power of two, as int8. NULL for 8 bits: there a code is the int8 itself. */
const int8_t *codes_levels(int bits);
/* The parts of one page or passage that a score needs. */
struct coded {
    const void *codes;      /* 64-byte aligned */
    const uint16_t *scales; /* CODE_GROUPS(n) * 16 */
    int n, bits;
};

/* A question's vectors, prepared once: as int8 with a scale each, and as signs. One that has an
 * element which is not finite counts as zero. */
struct maxsim_query;
/* vectors[n_query][dim], fp32; within the limits above. NULL only for want of memory. */
struct maxsim_query *maxsim_query_new(const float *vectors, int n_query, int dim);
void maxsim_query_free(struct maxsim_query *query); /* NULL is fine */
/* scores[i]: MaxSim (ColBERT, Khattab & Zaharia 2020, section 3.2) of item i: the sum over the
 * question's vectors of the largest dot product with any of the item's; 0 of an item without
 * vectors. Any thread; the products are exact in int32. */
void maxsim_codes(float *scores, const struct maxsim_query *query, const struct coded *items,
                  int n_items);
/* out[q * item->n + v]: each question vector's dot product with each of the item's. */
void maxsim_matrix(float *out, const struct maxsim_query *query, const struct coded *item);

/* Signs: n_vectors (a multiple of 8) of CODE_DIM(dim) bits an item, a set bit for a negative
 * element, in groups of 8: 64-bit word w of vector v of group g is word (g * words + w) * 8 + v,
 * words being CODE_DIM(dim) / 64. */
size_t signs_bytes(int n_vectors, int dim);
/* scores[i]: the sum over the question's vectors of value[h], h being the smallest Hamming distance
 * to any vector of item i; items lie one after another. value: dim + 1 of them, falling. */
void maxsim_signs(float *scores, const struct maxsim_query *query, const uint64_t *signs,
                  int n_vectors, int64_t n_items, const float *value);

/* scores[i]: the dot product of the question's first vector with row i: CODE_DIM(dim) int8 and,
 * after them, an fp32 scale; rows are stride bytes (a multiple of 64) apart. */
void dot_rows(float *scores, const struct maxsim_query *query, const void *rows, size_t stride,
              int64_t n_rows);

#endif
