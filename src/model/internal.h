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
/* A folder's weights, mapped: model.safetensors, the shards that model.safetensors.index.json
 * names, or adapter_model.safetensors. Everything a header says is checked against the file before
 * anything is believed. */
struct checkpoint;
bool checkpoint_open(struct checkpoint **out, const char *folder, struct error *err);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL is fine */
int checkpoint_count(const struct checkpoint *checkpoint);
const struct checkpoint_tensor *checkpoint_at(const struct checkpoint *checkpoint, int i);
const struct checkpoint_tensor *checkpoint_lookup(const struct checkpoint *checkpoint,
                                                  const char *name); /* NULL: none */
/* Elements [from, from + n) as floats; false (naming file, tensor and place) on NaN or infinity. */
bool checkpoint_floats(float *out, const struct checkpoint_tensor *tensor, int64_t from, int64_t n,
                       struct error *err);

/* ---- tokenizer.c ---------------------------------------------------------------------------- */

/* What tokenizer.json states: WordPiece (BERT) and BPE with byte fallback (Gemma, Llama), added
 * tokens, normalizers, pre-tokenizers, the template around a text. A kind of step that is not known
 * is ERROR_UNSUPPORTED at open, naming it; ids are those of the `tokenizers` library. */
struct tokenizer;
struct tokens {
    int *ids;
    int n;
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

/* ---- weights.c ------------------------------------------------------------------------------ */

/* Named parts of a checkpoint on their way to a device, each asked for with its shape; at the end
 * every tensor of the checkpoint must have been asked for or be in the family's list of what may be
 * left over. Packed weights are found in, or written to, <packed_dir>/<key>.weights, where the key
 * is SHA-256 over weights hash, precision and the device's layout name. */
struct weights;

/* ---- families ------------------------------------------------------------------------------- */

/* One a file (bert.c, colpali.c). */
struct family {
    const char *name;
    /* Does this config.json (its model_type, architectures) describe one of ours? */
    bool (*takes)(const json_t *config);
    bool (*open)(void **out, struct model *model, struct error *err);
    void (*close)(void *self);
    bool (*embed)(struct embedding *out, struct arena *arena, void *self,
                  const struct model_input *inputs, int n, const struct model_between *between,
                  struct error *err);
};
extern const struct family family_bert, family_colpali;

#endif
