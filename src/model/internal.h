/* model, inside: what its files share. */
#ifndef DOCUSEARCH_MODEL_INTERNAL_H
#define DOCUSEARCH_MODEL_INTERNAL_H

#include "model/model.h"

/* ---- safetensors.c -------------------------------------------------------------------------- */

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I64 };
struct checkpoint_tensor {
    const char *name, *file; /* file: the shard's name, for messages */
    enum dtype dtype;
    int n_dims;
    int64_t dims[5];
    int64_t n;        /* elements */
    const void *data; /* mapped; not aligned */
};
/* A folder's weights, mapped: <stem>.safetensors, or the shards that <stem>.safetensors.index.json
 * names. Everything a header says is checked against the file before anything is believed: what is
 * wrong is ERROR_INPUT bad_model, naming file and tensor. stem: "model", "adapter_model". */
struct checkpoint;
bool checkpoint_open(struct checkpoint **out, const char *folder, const char *stem,
                     struct error *err);
/* One file's bytes, which must outlive it (tests, fuzzing); file is for messages. */
bool checkpoint_parse(struct checkpoint **out, const void *data, size_t len, const char *file,
                      struct error *err);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL is fine */
/* The i-th file's name, path (both the checkpoint's) and bytes; false past the last. */
struct checkpoint_file {
    const char *name, *path;
    const void *data;
    size_t size;
    char state[128]; /* size, times and inode when it was mapped: another file differs */
};
bool checkpoint_file_at(struct checkpoint_file *out, const struct checkpoint *checkpoint, int i);
int checkpoint_count(const struct checkpoint *checkpoint);
const struct checkpoint_tensor *checkpoint_at(const struct checkpoint *checkpoint, int i);
const struct checkpoint_tensor *checkpoint_lookup(const struct checkpoint *checkpoint,
                                                  const char *name); /* NULL: none */
int checkpoint_dtype_bytes(enum dtype dtype);                        /* of an element */
/* values.c: elements [from, from + n) as floats; false (naming file, tensor and place) on NaN or
 * infinity. */
bool checkpoint_floats(float *out, const struct checkpoint_tensor *tensor, int64_t from, int64_t n,
                       struct error *err);
/* The tensor was read and will not be soon: its pages need not stay in this process. */
void checkpoint_release(const struct checkpoint_tensor *tensor);
/* "[3, 4]" of n_dims sizes, for messages. */
const char *checkpoint_dims(char out[96], const int64_t *dims, int n_dims);

/* ---- tokenizer.c ---------------------------------------------------------------------------- */

/* What tokenizer.json states: WordPiece (BERT) and BPE with byte fallback (Gemma, Llama), added
 * tokens, normalizers, pre-tokenizers, the template around a text. A kind of step that is not known
 * is ERROR_UNSUPPORTED at open, naming it; ids are those of the `tokenizers` library. */
struct tokenizer;
struct tokens {
    int *ids;
    int n;
    bool cut; /* the text has more */
};
bool tokenizer_open(struct tokenizer **out, const char *path, struct error *err);
/* From bytes in memory (tests, fuzzing); path is for messages. */
bool tokenizer_parse(struct tokenizer **out, const char *json, size_t len, const char *path,
                     struct error *err);
void tokenizer_close(struct tokenizer *tokenizer);                      /* NULL is fine */
int tokenizer_n_ids(const struct tokenizer *tokenizer);                 /* the largest id + 1 */
int tokenizer_id(const struct tokenizer *tokenizer, const char *token); /* -1: none */
/* ids are the arena's. special: with the template's tokens ([CLS] … [SEP], <bos>). max 0: all; else
 * at most max ids, the template's kept and the text's last ones dropped. Never fails: invalid UTF-8
 * is read as U+FFFD. Padding and truncation settings of the file are not applied. */
void tokenizer_encode(struct tokens *out, struct arena *arena, const struct tokenizer *tokenizer,
                      const char *text, size_t len, bool special, int max);

/* ---- image.c -------------------------------------------------------------------------------- */

/* Resized to width × height as Pillow's Image.resize(…, BICUBIC) does for RGB: antialiased, a =
 * -0.5, horizontally then vertically, 8 bits between and after. rgb: width * height * 3 bytes. */
bool image_resize(uint8_t *rgb, int width, int height, const struct picture *in, struct error *err);
/* (v / 255 - mean) / std for each channel, cut into patches of size × size: row p of out is patch p
 * (row-major over the grid) as channel-major c, y, x floats: the layout of a convolution's weight
 * [n, 3, size, size]. */
void image_patches(float *out, const uint8_t *rgb, int width, int height, int size,
                   const float mean[3], const float std[3]);

/* ---- config.c ------------------------------------------------------------------------------- */

/* A JSON file of a model's folder, or an object within one; where ("config.json: text_config") is
 * for messages. Every getter refuses what is not of its kind or out of range with ERROR_INPUT
 * bad_model; an absent or null key is the fallback. */
struct config {
    const json_t *json;
    const char *where;
};
/* An object or array, all of its numbers real. Not there: *out NULL and true, unless required
 * (ERROR_INPUT bad_model). */
bool config_read(json_t **out, const char *folder, const char *file, bool required,
                 struct error *err);
bool config_exists(const char *folder, const char *file);
bool config_int(int *out, const struct config *config, const char *key, int fallback, int min,
                int max, struct error *err);
bool config_float(float *out, const struct config *config, const char *key, float fallback,
                  struct error *err);
bool config_bool(bool *out, const struct config *config, const char *key, bool fallback,
                 struct error *err);
/* Borrowed; the fallback may be NULL. */
bool config_string(const char **out, const struct config *config, const char *key,
                   const char *fallback, struct error *err);
/* "gelu", "gelu_pytorch_tanh", …; others are ERROR_UNSUPPORTED unknown_architecture. */
bool config_activation(enum activation *out, const struct config *config, const char *key,
                       enum activation fallback, struct error *err);

/* ---- hash.c --------------------------------------------------------------------------------- */

/* model->info.weights_hash: SHA-256 over a line "<hash> <name>\n" for each file of weights,
 * configuration and tokenizer. A small file's hash is its SHA-256; a weight file's is SHA-256 over
 * the SHA-256s (hex) of its pieces of 64 MiB, so that all processors take part. Those of weight
 * files are kept as <packed_dir>/<SHA-256 of the path>.hash, a line "1 <state> <hash>", and
 * believed as long as the state (size, times, inode) stands. */
bool model_hash(struct model *model, struct error *err);

/* ---- weights.c ------------------------------------------------------------------------------ */

/* Named parts of a checkpoint on their way to a device. A family asks for each tensor with its
 * shape, then calls weights_finish: every tensor of the checkpoint must have been asked for, or be
 * one that its names function says is not needed. All that is given belongs to the weights. */
struct weights;
enum { WEIGHTS_NAME = 256 };
/* The family's own name, in out, of a checkpoint's tensor. False: not one that we need. */
typedef bool (*weights_names)(char out[WEIGHTS_NAME], const char *name);
bool weights_open(struct weights **out, struct model *model, weights_names names,
                  struct error *err);
void weights_close(struct weights *weights); /* NULL is fine */
/* What is under a name, for its shape; NULL: nothing. */
const struct checkpoint_tensor *weights_lookup(const struct weights *weights, const char *name);
/* A tensor n × k whose rows are read from the mapped file. */
bool weights_table(const struct checkpoint_tensor **out, struct weights *weights, const char *name,
                   int n, int k, struct error *err);
/* n_parts tensors of n[i] elements one after another as a row. */
bool weights_vector(struct tensor **out, struct weights *weights, const char *const *names,
                    const int *n, int n_parts, struct error *err);
/* <prefix>.weight (add added to it) and, if has_bias, <prefix>.bias of a layer norm of n channels.
 * Where only linear layers read what it gives, and at int8, its loud channels are made quieter and
 * their columns in those layers as much louder: columns (the weights'; NULL: none) is for
 * weights_linear. */
struct weights_norm {
    struct tensor *gain, *bias;
    const float *columns;
};
bool weights_norm(struct weights_norm *out, struct weights *weights, const char *prefix, int n,
                  float add, bool has_bias, bool before_linear, struct error *err);
/* A linear layer's matrix out of n_parts tensors n[i] × k (any shape of so many elements whose
 * first dimension is n[i]: a convolution's), columns times those given. *out is set by
 * weights_finish and must last till then. */
bool weights_linear(struct weight **out, struct weights *weights, const char *const *names,
                    const int *n, int n_parts, int k, enum weight_join join,
                    enum precision precision, const float *columns, struct error *err);
/* The same of <layer>.<part>.weight for each of at most 3 parts, with, where bias is not NULL,
 * their biases in a row. */
bool weights_layer(struct weight **out, struct tensor **bias, struct weights *weights,
                   const char *layer, const char *const *parts, const int *n, int n_parts, int k,
                   enum weight_join join, enum precision precision, const float *columns,
                   struct error *err);
/* Finds the packed weights on disk, or packs them. */
bool weights_finish(struct weights *weights, struct error *err);

/* packed.c: <packed_dir>/<key>.weights, all packed weights of a model, mapped at every later start.
 * key is SHA-256 over the weights hash and, of each weight, its shape, precision and layout.
 *
 *  offset size
 *       0    8  "DSWEIGHT"
 *       8    4  version, 1
 *      12    4  n, weights in the file
 *      16    8  length of the file
 *      24    8  zero
 *      32   64  key, hex
 *      96 24*n  for each weight: offset (a multiple of 4096), size, checksum (each 8 bytes)
 *  then     32  SHA-256 of all bytes before
 *
 * Little-endian. The checksum is the first 8 bytes of SHA-256 over up to PACKED_SAMPLES pages of
 * 4,096 bytes, evenly spread over the weight from its first to its last: a file cut, zeroed or
 * mixed up is noticed without reading it whole. Written beside as <key>.weights.part under flock,
 * synced, renamed. */
struct packed;
enum { PACKED_SAMPLES = 4 };
/* NULL in *out and true when there is none that can be used. */
void packed_open(struct packed **out, const char *dir, const char key[SHA256_HEX + 1],
                 const size_t *sizes, int n);
/* To be filled: in memory, or, where room_bytes (-1: not known) are too few, in the part file of
 * dir. dir NULL: in memory only. ERROR_LIMIT out_of_memory, the text saying how much it needs. */
bool packed_new(struct packed **out, const char *dir, const char key[SHA256_HEX + 1],
                const size_t *sizes, int n, int64_t room_bytes, struct error *err);
void *packed_at(const struct packed *packed, int i);
/* Of one that was filled, with a dir: begins to write it to disk, in a thread of low priority; what
 * hinders it is only logged. from: the model's folder, noted in <key>.from beside it. */
void packed_keep(struct packed *packed, const char *from);
/* Removes what was packed from the model of that folder. */
void packed_forget(const char *dir, const char *from);
void packed_close(struct packed *packed); /* after the writing has ended; NULL is fine */

/* ---- families ------------------------------------------------------------------------------- */

/* One a file (sentence.c, colbert.c, colpali.c). */
struct family {
    const char *name;
    /* Does its config.json (model_type, architectures) describe one of ours? */
    bool (*takes)(const struct model *model);
    /* Fills in what model->info says of the family. */
    bool (*open)(void **out, struct model *model, struct error *err);
    void (*close)(void *self);
    bool (*embed)(struct embedding *out, struct arena *arena, void *self,
                  const struct model_input *inputs, int n, const struct model_between *between,
                  struct error *err);
    /* The ids of a question, of which each has a vector, in this order; open: only those of the
     * text and of what stands before it (without the blank that this may end with where text is
     * NULL). NULL: the family's questions have one vector. */
    void (*question)(struct tokens *out, struct arena *arena, const void *self, const char *text,
                     size_t len, bool open);
};
extern const struct family family_bert, family_colbert, family_colpali;

struct model {
    struct arena *arena; /* strings of this struct */
    struct device *device;
    const char *folder;           /* as asked */
    const char *base_folder;      /* of an adapter's base; else NULL */
    const char *tokenizer_folder; /* one of the two */
    const char *packed_dir, *query_prompt;
    json_t *config, *adapter; /* adapter: adapter_config.json, or NULL */
    struct checkpoint *checkpoint, *adapter_checkpoint;
    struct tokenizer *tokenizer;
    enum precision precision;
    bool (*stop)(void *ctx); /* of the opening; or NULL */
    void *stop_ctx;
    struct model_info info;
    const struct family *family;
    void *self;
};
/* model_type, or one of architectures, is this word. */
bool model_is(const struct model *model, const char *word);
/* Of the few linear layers where a model begins and ends: never int8, as errors there cannot be
 * averaged out, and little is computed. */
enum precision model_edge_precision(const struct model *model);
/* While opening, between two pieces of work: false, with "cancelled", when it is to end. */
bool model_goes_on(const struct model *model, struct error *err);
/* Between layers: calls it, if any. */
bool model_pause(const struct model_between *between, struct error *err);
/* A token that must be in the tokenizer: ERROR_INPUT bad_model. */
bool model_token(int *out, const struct model *model, const char *token, struct error *err);

#endif
